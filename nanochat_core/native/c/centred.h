// Products of symmetric matrices, each as the mean of its diagonal and a rest: half of a product is computed, and mirrored.
//
// What Newton-Schulz multiplies is near to multiples of the identity, at first because singular values are small, later
// because they are about 1. So the rest is small, and so is what bf16 loses of it where it is multiplied; where it is added
// it is exact.
#ifndef CENTRED_H
#define CENTRED_H

#include "panels.h"
#include "team.h"

#define MOST_PHASES 64 // five steps in one pass take 38

typedef struct {
    int64_t size; // of the matrices without the zeros that fill them up, over which their means are taken
    int threads;
    atomic_llong taken[MOST_PHASES];
    float mean;
} job;

// Where a thread is in the job: all go through the same phases, which share out pieces of work.
typedef struct {
    job *job;
    int phase;
} place;

typedef struct {
    float mean;
    panels rest;  // (size, size)
    float *exact; // the rest, in blocks down each column to the diagonal
} centred;

static int64_t take_one(place *place) { return take(&place->job->taken[place->phase], 1); }

static void next_phase(place *place) {
    meet(place->job->threads);
    place->phase++;
}

INLINE float *exact_block(const centred *m, int64_t row, int64_t column) {
    return m->exact + (column * (column + 1) / 2 + row) * PANEL * PANEL;
}

// Takes the mean of the diagonal off it, and writes the blocks on it again.
static float centre(centred *m, int64_t size) {
    double sum = 0;
    for (int64_t i = 0; i < size; i++) sum += exact_block(m, i / PANEL, i / PANEL)[i % PANEL * (PANEL + 1)];
    float mean = (float)(sum / size);
    for (int64_t i = 0; i < m->rest.depth; i++) {
        __m512 rows[PANEL];
        for (int row = 0; row < PANEL; row++) {
            float *exact = exact_block(m, i, i) + row * PANEL;
            exact[row] -= mean;
            rows[row] = _mm512_load_ps(exact);
        }
        write_upright(rows, block_of(m->rest, i, i));
    }
    return mean;
}

// One of the numbers that are added to a product: weight * the rest of a matrix, or nothing where that is null.
typedef struct {
    const centred *matrix;
    float weight;
} addend;

INLINE void fetch(addend added, int64_t row, int64_t column) {
    if (!added.matrix) return;
    for (int i = 0; i < PANEL; i++) __builtin_prefetch(exact_block(added.matrix, row, column) + i * PANEL);
}

INLINE void add(addend added, int64_t row, int64_t column, __m512 *sums) {
    if (!added.matrix) return;
    const float *exact = exact_block(added.matrix, row, column);
#pragma GCC unroll 16
    for (int i = 0; i < PANEL; i++)
        sums[i] = _mm512_fmadd_ps(_mm512_load_ps(exact + i * PANEL), _mm512_set1_ps(added.weight), sums[i]);
}

// out = mean + alpha * a' b + one + other, which is symmetric.
static void multiply(place *place, panels a, panels b, float mean, float alpha, addend one, addend other, centred *out) {
    int64_t size = out->rest.depth;
    for (int64_t i; (i = take_one(place)) < size;) {
        int64_t column = size - 1 - i; // the longest first
        for (int64_t row = 0; row <= column; row++) {
            __m512 sums[PANEL];
            fetch(one, row, column);
            fetch(other, row, column);
            multiply_panels(block_of(a, 0, row), block_of(b, 0, column), a.depth, sums);
#pragma GCC unroll 16
            for (int k = 0; k < PANEL; k++) sums[k] = _mm512_mul_ps(sums[k], _mm512_set1_ps(alpha));
            add(one, row, column, sums);
            add(other, row, column, sums);
            float *exact = exact_block(out, row, column);
#pragma GCC unroll 16
            for (int k = 0; k < PANEL; k++) _mm512_store_ps(exact + k * PANEL, sums[k]);
            write_upright(sums, block_of(out->rest, row, column));
            write_turned(sums, block_of(out->rest, column, row));
        }
    }
    next_phase(place);
    if (take_one(place) == 0) place->job->mean = centre(out, place->job->size);
    next_phase(place);
    out->mean = mean + place->job->mean;
}

#define NOTHING ((addend){0})

// x' x.
static void gram(place *place, panels x, centred *out) { multiply(place, x, x, 0, 1, NOTHING, NOTHING, out); }

// a + bm + cm^2, for m = mean + rest: (a + b mean + c mean^2) + (b + 2c mean) rest + c rest^2. The first two in fp32.
static void polynomial(place *place, const centred *m, const double *coefficients, centred *out) {
    float a = (float)coefficients[0], b = (float)coefficients[1], c = (float)coefficients[2];
    multiply(place, m->rest, m->rest, a + (b + c * m->mean) * m->mean, c, (addend){m, b + 2 * c * m->mean}, NOTHING, out);
}

// a b, for a and b that commute: their means' product, each rest times the other's mean, in fp32, and the rests'.
static void commuting(place *place, const centred *a, const centred *b, centred *out) {
    multiply(place, a->rest, b->rest, a->mean * b->mean, 1, (addend){a, b->mean}, (addend){b, a->mean}, out);
}

#endif
