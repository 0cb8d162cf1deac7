// Choosing the next token of each row from its logits, as sampling.py says it.
#ifndef CHOOSE_H
#define CHOOSE_H

#include <float.h>

#include "vectors.h"

#define MOST_CHOICES 256
#define NOT_A_NUMBER (-1)
#define ROUNDING 1e-6 // of fp32 logits: a sum that is so near to top_p has reached it

int64_t most_choices(void) { return MOST_CHOICES; }

typedef struct {
    float *values; // the largest first, the first among equals
    int64_t *places, count, found;
} list;

static void insert(list *l, float value, int64_t at) {
    if (l->found == l->count && !(value > l->values[l->count - 1])) return;
    int64_t place = l->found < l->count ? l->found++ : l->count - 1;
    for (; place > 0 && l->values[place - 1] < value; place--) {
        l->values[place] = l->values[place - 1];
        l->places[place] = l->places[place - 1];
    }
    l->values[place] = value;
    l->places[place] = at;
}

// The `count` largest of `size` logits and where they are. False for a NaN.
static int largest(const float *logits, int64_t size, int64_t count, float *values, int64_t *places) {
    list l = {values, places, count, 0};
    ints odd = {0};
    int64_t at = 0;
    for (; at + LANES <= size; at += LANES) {
        floats part = load(logits + at);
        odd |= part != part;
        if (l.found == count && !any_of(part > values[count - 1])) continue; // nearly always
        for (int64_t lane = 0; lane < LANES; lane++) insert(&l, logits[at + lane], at + lane);
    }
    int faultless = !any_of(odd);
    for (; at < size; at++) {
        faultless = faultless && logits[at] == logits[at];
        insert(&l, logits[at], at);
    }
    return faultless;
}

// Infinite logits count as the largest numbers, so that their differences are numbers.
static double bounded(float value) { return value > FLT_MAX ? FLT_MAX : value < -FLT_MAX ? -FLT_MAX : value; }

// ids (rows): one of the `count` (up to most_choices()) likeliest logits of each row, drawn with uniform[row], 0 to 1; the
// first one when count is 1. Only the likeliest that together have the probability top_p are drawn from. NOT_A_NUMBER for a
// row that holds a NaN. logits (rows, size).
void choose_tokens(const float *logits, int64_t rows, int64_t size, int64_t count, double temperature, double top_p, const double *uniform, int64_t *ids) {
    float values[MOST_CHOICES];
    int64_t places[MOST_CHOICES];
    for (int64_t row = 0; row < rows; row++) {
        if (!largest(logits + row * size, size, count, values, places)) {
            ids[row] = NOT_A_NUMBER;
            continue;
        }
        double weights[MOST_CHOICES], total = 0, kept = 0;
        int64_t choices = 0, choice = 0;
        for (int64_t i = 0; i < count; i++) total += weights[i] = exp((bounded(values[i]) - bounded(values[0])) / temperature);
        double enough = top_p < 1 ? top_p * total * (1 - ROUNDING) : INFINITY;
        while (choices < count && (choices == 0 || kept < enough)) kept += weights[choices++];
        for (double sum = weights[0]; choice + 1 < choices && sum <= uniform[row] * kept; sum += weights[choice]) choice++;
        ids[row] = places[choice];
    }
}

#endif
