// Attention of one new token's heads over the cached keys and values of its row.
#ifndef ATTEND_H
#define ATTEND_H

#include "vectors.h"

// y (size) = softmax(q . keys) values over `count` positions, for q already scaled. `scores` has room for count + 16.
INLINE void attend_as(const float *q, const char *keys, const char *values, int64_t count, int64_t size, float *scores, float *y, int64_t type) {
    int64_t scored = 0;
    for (; scored + LANES <= count; scored += LANES) {
        floats sums[LANES] = {0};
        for (int64_t d = 0; d < size; d += LANES) {
            floats part = load(q + d);
#pragma GCC unroll 16
            for (int j = 0; j < LANES; j++) sums[j] += part * load_as(keys, (scored + j) * size + d, type);
        }
        sums_of(sums, scores + scored);
    }
    for (; scored < count; scored++) {
        floats sum = {0};
        for (int64_t d = 0; d < size; d += LANES) sum += load(q + d) * load_as(keys, scored * size + d, type);
        scores[scored] = sum_of(sum);
    }
    for (int64_t j = count; j < count + LANES; j++) scores[j] = -INFINITY;
    floats most = load(scores);
    for (int64_t j = LANES; j < count; j += LANES) most = choose(load(scores + j) > most, load(scores + j), most);
    float largest = most[0];
    for (int lane = 1; lane < LANES; lane++) largest = most[lane] > largest ? most[lane] : largest;
    floats total = {0};
    for (int64_t j = 0; j < count; j += LANES) {
        floats weights = exp_of(load(scores + j) - largest);
        store(scores + j, weights);
        total += weights;
    }
    float inverse = 1.0f / sum_of(total);
    int64_t d = 0;
    for (; d + 4 * LANES <= size; d += 4 * LANES) {
        floats sums[4] = {0};
        for (int64_t j = 0; j < count; j++)
#pragma GCC unroll 4
            for (int part = 0; part < 4; part++) sums[part] += scores[j] * load_as(values, j * size + d + part * LANES, type);
#pragma GCC unroll 4
        for (int part = 0; part < 4; part++) store(y + d + part * LANES, sums[part] * inverse);
    }
    for (; d < size; d += LANES) {
        floats sum = {0};
        for (int64_t j = 0; j < count; j++) sum += scores[j] * load_as(values, j * size + d, type);
        store(y + d, sum * inverse);
    }
}

static void attend(const float *q, const char *keys, const char *values, int64_t count, int64_t size, float *scores, float *y, int64_t type) {
    if (type == FLOAT32) attend_as(q, keys, values, count, size, scores, y, FLOAT32);
    else attend_as(q, keys, values, count, size, scores, y, BFLOAT16);
}

#endif
