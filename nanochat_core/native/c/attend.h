// Attention of one new token's heads over the cached keys and values of its row.
#ifndef ATTEND_H
#define ATTEND_H

#include "vectors.h"

// Bytes by which what comes next is fetched before it is needed, and how much at most where another tensor begins: the
// processor foresees neither the order in which keys are read, nor where values and the next head's keys lie. On a Zen 4
// three times as fast with bf16, nearly twice with fp32.
#define NEXT_KEYS 4096
#define NEXT_TENSOR 32768

INLINE void fetch(const char *from, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(from + at, 0, 2);
}

// y (size) = softmax(q . keys) values over `count` positions, for q already scaled. `scores` has room for count + 16.
// `next`: the keys that will be read after these, or null.
INLINE void attend_as(const float *q, const char *keys, const char *values, const char *next, int64_t count, int64_t size, float *scores, float *y, int64_t type) {
    int64_t scored = 0, bytes = size * size_of(type), early = NEXT_TENSOR / bytes; // of a position; positions
    for (; scored + LANES <= count; scored += LANES) {
        floats sums[LANES] = {0};
        fetch(keys + scored * bytes + NEXT_KEYS, LANES * bytes);
        if (scored < early) fetch(values + scored * bytes, LANES * bytes);
        for (int64_t d = 0; d < size; d += LANES) {
            floats part = load(q + d);
#pragma GCC unroll 16
            for (int j = 0; j < LANES; j++) sums[j] += part * load_as(keys, (scored + j) * size + d, type);
        }
        sums_of(sums, scores + scored);
    }
    if (scored < early) fetch(values + scored * bytes, (count - scored) * bytes);
    for (; scored < count; scored++) {
        floats sum = {0};
        for (int64_t d = 0; d < size; d += LANES) sum += load(q + d) * load_as(keys, scored * size + d, type);
        scores[scored] = sum_of(sum);
    }
    for (int64_t j = count; j < count + LANES; j++) scores[j] = -INFINITY; // whole vectors are read below: these weigh 0
    floats most = load(scores);
    for (int64_t j = LANES; j < count; j += LANES) most = choose(load(scores + j) > most, load(scores + j), most);
    float largest = most[0]; // taken off all scores, so that no exponential overflows; the quotient is the same
    for (int lane = 1; lane < LANES; lane++) largest = most[lane] > largest ? most[lane] : largest;
    floats total = {0};
    for (int64_t j = 0; j < count; j += LANES) {
        floats weights = exp_of(load(scores + j) - largest);
        store(scores + j, weights);
        total += weights;
    }
    float inverse = 1.0f / sum_of(total);
    int64_t d = 0; // the numbers of a head, 64 at a time: each weight is read once for four sums, which wait for no other
    for (; d + 4 * LANES <= size; d += 4 * LANES) {
        floats sums[4] = {0};
        for (int64_t j = 0; j < count; j++) {
            if (next && d == 0 && j < early) fetch(next + j * bytes, bytes);
#pragma GCC unroll 4
            for (int part = 0; part < 4; part++) sums[part] += scores[j] * load_as(values, j * size + d + part * LANES, type);
        }
#pragma GCC unroll 4
        for (int part = 0; part < 4; part++) store(y + d + part * LANES, sums[part] * inverse);
    }
    for (; d < size; d += LANES) {
        floats sum = {0};
        for (int64_t j = 0; j < count; j++) sum += scores[j] * load_as(values, j * size + d, type);
        store(y + d, sum * inverse);
    }
}

static void attend(const float *q, const char *keys, const char *values, const char *next, int64_t count, int64_t size, float *scores, float *y, int64_t type) {
    if (type == FLOAT32) attend_as(q, keys, values, next, count, size, scores, y, FLOAT32);
    else attend_as(q, keys, values, next, count, size, scores, y, BFLOAT16);
}

#endif
