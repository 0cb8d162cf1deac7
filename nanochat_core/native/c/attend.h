// Attention of new tokens' heads over the cached keys and values of their row.
#ifndef ATTEND_H
#define ATTEND_H

#include "vectors.h"

#define QUERIES 4 // that share each load of keys and values

// Bytes by which what comes next is fetched before it is needed, and how much at most where another tensor begins: the
// processor foresees neither the order in which keys are read, nor where values and the next head's keys lie. On a Zen 4
// three times as fast with bf16, nearly twice with fp32.
#define NEXT_KEYS 4096
#define NEXT_TENSOR 32768

typedef struct {
    const float *q;     // (size), scaled
    float *y;           // (size): softmax(q . keys) values over the positions from `first` to before `end`
    int64_t first, end; // the next query's are no smaller
} query;

INLINE void fetch(const char *from, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(from + at, 0, 2);
}

// scores[q * apart + j] = query q . key j, for j below `count`, `P` of them at a time.
INLINE void score(const query *queries, int Q, const char *keys, const char *values, int64_t count, int64_t size, float *scores, int64_t apart, int64_t type) {
    enum { MOST = LANES };
    const int P = LANES / Q;
    int64_t scored = 0, bytes = size * size_of(type), early = NEXT_TENSOR / bytes; // of a position; positions
    for (; scored + P <= count; scored += P) {
        floats sums[MOST] = {0};
        float found[MOST];
        if (Q == 1) fetch(keys + scored * bytes + NEXT_KEYS, P * bytes);
        if (Q == 1 && scored < early) fetch(values + scored * bytes, P * bytes);
        for (int64_t d = 0; d < size; d += LANES) {
            floats part[QUERIES];
#pragma GCC unroll 4
            for (int q = 0; q < Q; q++) part[q] = load(queries[q].q + d);
#pragma GCC unroll 16
            for (int j = 0; j < P; j++) {
                floats key = load_as(keys, (scored + j) * size + d, type);
#pragma GCC unroll 4
                for (int q = 0; q < Q; q++) sums[q * P + j] += part[q] * key;
            }
        }
        sums_of(sums, found);
#pragma GCC unroll 4
        for (int q = 0; q < Q; q++) memcpy(scores + q * apart + scored, found + q * P, P * 4);
    }
    for (; scored < count; scored++)
        for (int q = 0; q < Q; q++) {
            floats sum = {0};
            for (int64_t d = 0; d < size; d += LANES) sum += load(queries[q].q + d) * load_as(keys, scored * size + d, type);
            scores[q * apart + scored] = sum_of(sum);
        }
}

// Scores of the positions from `first` to before `end` to weights, which are not yet divided by their sum; the others, below
// `count` and a whole vector beyond, weigh nothing. The sum's inverse.
INLINE float weigh(float *scores, int64_t first, int64_t end, int64_t count) {
    for (int64_t j = 0; j < first; j++) scores[j] = -INFINITY;
    for (int64_t j = end; j < count + LANES; j++) scores[j] = -INFINITY;
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
    for (int64_t j = 0; j < first; j++) scores[j] = 0; // the exponential of what weighs nothing is not quite 0
    for (int64_t j = end; j < count; j++) scores[j] = 0;
    return 1.0f / sum_of(total);
}

// y of each query, `C` registers of its numbers at a time: each weight and value is read once for many sums.
INLINE int64_t mix_by(const query *queries, int Q, int C, int64_t d, const char *values, const char *next, int64_t count, int64_t size, const float *scores, int64_t apart, const float *inverse, int64_t type) {
    int64_t bytes = size * size_of(type), early = NEXT_TENSOR / bytes;
    for (; d + C * LANES <= size; d += C * LANES) {
        floats sums[QUERIES][8] = {0};
        for (int64_t j = 0; j < count; j++) {
            if (Q == 1 && next && d == 0 && j < early) fetch(next + j * bytes, bytes);
            floats part[8];
#pragma GCC unroll 8
            for (int c = 0; c < C; c++) part[c] = load_as(values, j * size + d + c * LANES, type);
#pragma GCC unroll 4
            for (int q = 0; q < Q; q++)
#pragma GCC unroll 8
                for (int c = 0; c < C; c++) sums[q][c] += scores[q * apart + j] * part[c];
        }
#pragma GCC unroll 4
        for (int q = 0; q < Q; q++)
#pragma GCC unroll 8
            for (int c = 0; c < C; c++) store(queries[q].y + d + c * LANES, sums[q][c] * inverse[q]);
    }
    return d;
}

INLINE void attend_as(const query *queries, int Q, const char *keys, const char *values, const char *next, int64_t size, float *scores, int64_t type) {
    int64_t begin = queries[0].first, count = queries[Q - 1].end - begin, apart = (count + 2 * LANES - 1) / LANES * LANES;
    int64_t at = begin * size * size_of(type);
    float inverse[QUERIES];
    score(queries, Q, keys + at, values + at, count, size, scores, apart, type);
    for (int q = 0; q < Q; q++)
        inverse[q] = weigh(scores + q * apart, queries[q].first - begin, queries[q].end - begin, count);
    int64_t d = mix_by(queries, Q, Q == 1 ? 4 : 2, 0, values + at, next, count, size, scores, apart, inverse, type);
    mix_by(queries, Q, 1, d, values + at, next, count, size, scores, apart, inverse, type);
}

// For one query or QUERIES of them. `next`: the keys that will be read after these, or null. `scores` has room for QUERIES
// times the positions and a vector more.
static void attend(const query *queries, int count, const char *keys, const char *values, const char *next, int64_t size, float *scores, int64_t type) {
    if (count == 1 && type == FLOAT32) attend_as(queries, 1, keys, values, next, size, scores, FLOAT32);
    else if (count == 1) attend_as(queries, 1, keys, values, next, size, scores, BFLOAT16);
    else if (type == FLOAT32) attend_as(queries, QUERIES, keys, values, next, size, scores, FLOAT32);
    else attend_as(queries, QUERIES, keys, values, next, size, scores, BFLOAT16);
}

#endif
