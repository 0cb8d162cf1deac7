// Products of a matrix (outputs, inputs) with one or several vectors at once.
//
// The vectors are packed first (pack.h), once for all rows. Matrices of floats lie row by row as torch keeps them, those of
// whole numbers in strips (strips.h). What is read of the matrix serves all vectors while it is in the first cache.
#ifndef PRODUCTS_H
#define PRODUCTS_H

#include "compact.h"
#include "pack.h"
#include "strips.h"
#include "vectors.h"

#define AHEAD 16384       // bytes by which what comes next is fetched before it is needed, for several vectors
#define AHEAD_OF_ONE 3072 // and for one, of FLOAT32
#define AT_ONCE 64        // vectors that stay in the second cache while rows go by

#if LANES == 16
#define KEEP_LOADED(value) KEEP(value)
#else
#define KEEP_LOADED(value)
#endif

// Rows and vectors whose sums the registers hold, beside what they are the sums of.
#define SOME_ROWS 3
#if LANES == 16 || defined(__aarch64__)
#define SOME_VECTORS 8
#else
#define SOME_VECTORS 4
#endif
#define ROWS 12 // a multiple of SOME_ROWS
#define MOST 8

typedef struct {
    const char *rows;
    const char *scales; // of INT8 fp32, one a row; of INT4 bf16, one for each group of a row; of COMPACT its notes
    int64_t type, outputs, inputs;
} matrix;

INLINE int is_in_strips(int64_t type) { return type == INT8 || type == INT4; }

INLINE int64_t row_bytes(const matrix *a) {
    if (a->type == COMPACT) return compact_bytes(a->inputs);
    return is_in_strips(a->type) ? strip_bytes(a->inputs, a->type) / STRIP : a->inputs * size_of(a->type);
}

INLINE void sum_up(floats sums[SOME_ROWS][MOST], int R, int M, float *out, int64_t out_apart) {
#pragma GCC unroll 4
    for (int begin = 0; begin < R * M; begin += LANES) {
        floats some[LANES];
        float found[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) some[i] = begin + i < R * M ? sums[(begin + i) % R][(begin + i) / R] : (floats){0};
        sums_of(some, found);
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            if (begin + i < R * M) out[(begin + i) / R * out_apart + (begin + i) % R] = found[i];
    }
}

// Adds some numbers of R rows times those of M vectors, which the rows share each load of.
INLINE void add_products(floats sums[SOME_ROWS][MOST], const floats *weights, const char *vectors, int64_t apart, int R, int M) {
#pragma GCC unroll 8
    for (int m = 0; m < M; m++) {
        floats vector = load((const float *)(vectors + m * apart));
        KEEP_LOADED(vector);
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) sums[r][m] += weights[r] * vector;
    }
}

#include "compact_products.h"

// A row . the vector: one stream through memory, in several sums that do not wait for each other.
INLINE float dot_float(const char *row, int64_t inputs, const char *vector) {
    floats sums[4] = {0};
    for (int64_t i = 0; i < inputs; i += 4 * LANES)
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
            const char *weights = row + (i + k * LANES) * 4;
            if (k * LANES % 16 == 0) __builtin_prefetch(weights + AHEAD_OF_ONE, 0, 2); // once a cache line
            sums[k] += load((const float *)weights) * load((const float *)vector + i + k * LANES);
        }
    return sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// Each of these gives out[m * out_apart + r] = row r . vector m, for constant R and M; `vectors` lie `apart` bytes from each
// other. The rows share each load of a vector, and what comes next is fetched into the second cache.
INLINE void dots_float(const char *rows, int64_t inputs, const char *vectors, int64_t apart, int R, int M, float *out, int64_t out_apart) {
    floats sums[SOME_ROWS][MOST] = {0};
    for (int64_t i = 0; i < inputs; i += LANES) {
        floats weights[SOME_ROWS];
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) weights[r] = load((const float *)rows + r * inputs + i);
        for (int byte = 0; byte < R * LANES * 4; byte += 64) __builtin_prefetch(rows + i * R * 4 + byte + AHEAD, 0, 2);
        add_products(sums, weights, vectors + i * 4, apart, R, M);
    }
    sum_up(sums, R, M, out, out_apart);
}

#if defined(__AVX512BF16__)
// sum += halves . other halves, by twos. In assembler, because gcc copies the sums to and fro around its intrinsic.
INLINE void add_pairs(floats *sum, floats halves, floats other) {
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(*sum) : "v"(halves), "v"(other));
}

INLINE float dot_half(const char *row, int64_t inputs, const char *vector) {
    floats sums[2] = {0};
    for (int64_t i = 0; i < inputs; i += 2 * 2 * LANES)
#pragma GCC unroll 2
        for (int part = 0; part < 2; part++) {
            int64_t at = (i + part * 2 * LANES) * 2;
            add_pairs(&sums[part], load((const float *)(row + at)), load((const float *)(vector + at)));
        }
    return sum_of(sums[0] + sums[1]);
}

INLINE void dots_half(const char *rows, int64_t inputs, const char *vectors, int64_t apart, int R, int M, float *out, int64_t out_apart) {
    floats sums[SOME_ROWS][MOST] = {0};
    for (int64_t i = 0; i < inputs; i += 2 * LANES) {
        floats weights[SOME_ROWS];
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            __builtin_prefetch(rows + (i * R + r * 2 * LANES) * 2 + AHEAD, 0, 2);
            weights[r] = load((const float *)(rows + (r * inputs + i) * 2));
        }
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) {
            floats vector = load((const float *)(vectors + m * apart + i * 2));
            KEEP_LOADED(vector);
#pragma GCC unroll 4
            for (int r = 0; r < R; r++) add_pairs(&sums[r][m], weights[r], vector);
        }
    }
    sum_up(sums, R, M, out, out_apart);
}
#else
// The odd ones of pairs. For AVX2 in assembler: the mask stays in memory, because the registers are full.
INLINE floats upper(words pairs) {
#if defined(__AVX2__) && LANES == 8
    static const words mask = {0xffff0000u, 0xffff0000u, 0xffff0000u, 0xffff0000u, 0xffff0000u, 0xffff0000u, 0xffff0000u, 0xffff0000u};
    __asm__("vpand %1, %0, %0" : "+x"(pairs) : "m"(mask));
    return (floats)pairs;
#else
    return (floats)(pairs & 0xffff0000u);
#endif
}

INLINE float dot_half(const char *row, int64_t inputs, const char *vector) {
    floats sums[4] = {0};
    for (int64_t i = 0; i < inputs; i += 4 * LANES)
#pragma GCC unroll 2
        for (int k = 0; k < 2; k++) {
            words pairs = (words)load((const float *)(row + (i + k * 2 * LANES) * 2));
            const float *numbers = (const float *)vector + i + k * 2 * LANES;
            sums[2 * k] += (floats)(pairs << 16) * load(numbers);
            sums[2 * k + 1] += upper(pairs) * load(numbers + LANES);
        }
    return sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

INLINE void dots_half(const char *rows, int64_t inputs, const char *vectors, int64_t apart, int R, int M, float *out, int64_t out_apart) {
    floats sums[SOME_ROWS][MOST] = {0};
    for (int64_t i = 0; i < inputs; i += 2 * LANES)
#pragma GCC unroll 2
        for (int odd = 0; odd < 2; odd++) {
            floats weights[SOME_ROWS];
#pragma GCC unroll 4
            for (int r = 0; r < R; r++) {
                words pairs = (words)load((const float *)(rows + (r * inputs + i) * 2));
                weights[r] = odd ? upper(pairs) : (floats)(pairs << 16);
                if (!odd) __builtin_prefetch(rows + (i * R + r * 2 * LANES) * 2 + AHEAD, 0, 2);
            }
            add_products(sums, weights, vectors + (i + odd * LANES) * 4, apart, R, M);
        }
    sum_up(sums, R, M, out, out_apart);
}
#endif

typedef void (*block)(const char *rows, int64_t inputs, const char *vectors, int64_t apart, float *out, int64_t out_apart);

#define BLOCK(type, R, M)                                                                                                        \
    static void type##_##R##_##M(const char *rows, int64_t inputs, const char *v, int64_t apart, float *out, int64_t out_apart) { \
        dots_##type(rows, inputs, v, apart, R, M, out, out_apart);                                                               \
    }
#define BLOCKS(M) BLOCK(float, 1, M) BLOCK(float, 3, M) BLOCK(half, 1, M) BLOCK(half, 3, M)
BLOCKS(2) BLOCKS(3) BLOCKS(4) BLOCKS(5) BLOCKS(6) BLOCKS(7) BLOCKS(8)
#define ALL_BLOCKS(type, R) {0, 0, type##_##R##_2, type##_##R##_3, type##_##R##_4, type##_##R##_5, type##_##R##_6, type##_##R##_7, type##_##R##_8}
static const block blocks[2][2][MOST + 1] = {
    {ALL_BLOCKS(float, 1), ALL_BLOCKS(float, 3)},
    {ALL_BLOCKS(half, 1), ALL_BLOCKS(half, 3)},
};

static void product_of_floats(const matrix *a, int64_t from, int64_t to, const char *vectors, int64_t count, float *out, int64_t out_apart) {
    int64_t apart = packed_bytes(a->inputs, a->type), size = row_bytes(a);
    if (count == 1) {
        for (int64_t row = from; a->type == FLOAT32 && row < to; row++) out[row - from] = dot_float(a->rows + row * size, a->inputs, vectors);
        for (int64_t row = from; a->type != FLOAT32 && row < to; row++) out[row - from] = dot_half(a->rows + row * size, a->inputs, vectors);
        return;
    }
    for (int64_t row = from; row < to;) {
        int all = to - row >= SOME_ROWS;
        for (int64_t m = 0; m < count;) {
            int64_t some = count - m < SOME_VECTORS ? count - m : SOME_VECTORS;
            if (some == 1) m--, some = 2; // once more the one before
            blocks[a->type][all][some](a->rows + row * size, a->inputs, vectors + m * apart, apart, out + m * out_apart + row - from, out_apart);
            m += some;
        }
        row += all ? SOME_ROWS : 1;
    }
}

static void product_of_strips(const matrix *a, int64_t from, int64_t to, const char *vectors, int64_t count, float *out, int64_t out_apart) {
    int64_t apart = packed_bytes(a->inputs, a->type);
    for (int64_t row = from; row < to; row += STRIP) {
        const char *strip = a->rows + row * row_bytes(a);
        const char *scales = a->scales + (a->type == INT4 ? row * (a->inputs / GROUP) * 2 : row * 4);
        for (int64_t m = 0; m < count;) {
            int64_t left = count - m;
            int power = left >= 8 ? 3 : left >= 4 ? 2 : left >= 2 ? 1 : 0;
            if (power > MOST_AT_ONCE) power = MOST_AT_ONCE;
            whole_strip by = whole_strips[a->type - INT8][power];
            float *to_here = out + m * out_apart + row - from, sums[8 * STRIP];
            if (to - row >= STRIP) by(strip, scales, a->inputs, vectors + m * apart, apart, to_here, out_apart);
            else { // the last one's rows beyond the matrix are nobody's
                by(strip, scales, a->inputs, vectors + m * apart, apart, sums, STRIP);
                for (int k = 0; k < 1 << power; k++) memcpy(to_here + k * out_apart, sums + k * STRIP, (to - row) * 4);
            }
            m += 1 << power;
        }
    }
}

// Rows `from` to `to` of the product with `count` packed vectors: out[m * out_apart + row - from]. `from` begins a strip.
static void product(const matrix *a, int64_t from, int64_t to, const char *vectors, int64_t count, float *out, int64_t out_apart) {
    int64_t apart = packed_bytes(a->inputs, a->type);
    for (int64_t begin = 0; begin < count; begin += AT_ONCE) {
        int64_t some = count - begin < AT_ONCE ? count - begin : AT_ONCE;
        if (a->type == COMPACT) product_of_compact(&(compact){a->rows, (const int64_t *)a->scales, a->inputs}, from, to, vectors + begin * apart, apart, some, out + begin * out_apart, out_apart);
        else (is_in_strips(a->type) ? product_of_strips : product_of_floats)(a, from, to, vectors + begin * apart, some, out + begin * out_apart, out_apart);
    }
}

#endif
