// Products of a matrix (outputs, inputs), row by row as torch keeps it, with one or several vectors at once.
//
// The vectors are packed first (pack.h), once for all rows. Each row of the matrix is read from memory once for up to
// PER_BLOCK vectors.
#ifndef PRODUCTS_H
#define PRODUCTS_H

#include "pack.h"
#include "vectors.h"

#define PER_BLOCK 8
#define AHEAD 16384       // bytes by which what comes next is fetched before it is needed, for several vectors
#define AHEAD_OF_ONE 3072 // and for one, of FLOAT32: a tenth faster on a Zen 4. The narrower types gain nothing

typedef struct {
    const char *rows;
    const float *scales; // one a row, of INT8
    int64_t type, outputs, inputs;
} matrix;

INLINE void sum_up(part sums[2][PER_BLOCK], int R, int M, float *results) {
#if WIDTH == 16
    if (R * M == LANES) {
        sums_of(sums[0], results);
        return;
    }
#endif
#pragma GCC unroll 2
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) results[r * PER_BLOCK + m] = sum_of_part(sums[r][m]);
}

// Each of these gives results[r * PER_BLOCK + m] = row r . vector m, for constant R and M; `vectors` lie `apart` bytes from
// each other. One vector: one stream through memory, which the processor foresees nearly by itself, in several sums that do
// not wait for each other. More: two rows share each load of a vector, and what comes next is fetched into the second cache.
INLINE void dots_float(const char *rows, int64_t inputs, const char *vectors, int64_t apart, int R, int M, float *results) {
    part sums[2][PER_BLOCK] = {0};
    if (M == 1) {
        for (int64_t i = 0; i < inputs; i += 4 * WIDTH)
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++) {
                const char *weights = rows + (i + k * WIDTH) * 4;
                __builtin_prefetch(weights + AHEAD_OF_ONE, 0, 2);
                sums[0][k] += load_part(weights) * load_part(vectors + (i + k * WIDTH) * 4);
            }
        results[0] = sum_of_part((sums[0][0] + sums[0][1]) + (sums[0][2] + sums[0][3]));
        return;
    }
    for (int64_t i = 0; i < inputs; i += WIDTH) {
        part weights[2];
#pragma GCC unroll 2
        for (int r = 0; r < R; r++) {
            __builtin_prefetch(rows + (i * R + r * WIDTH) * 4 + AHEAD, 0, 2);
            weights[r] = load_part(rows + (r * inputs + i) * 4);
        }
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) {
            part vector = load_part(vectors + m * apart + i * 4);
            KEEP_LOADED(vector);
#pragma GCC unroll 2
            for (int r = 0; r < R; r++) sums[r][m] += weights[r] * vector;
        }
    }
    sum_up(sums, R, M, results);
}

#if defined(__AVX512BF16__)
// sum += halves . other halves, by twos. In assembler, because gcc copies the sums to and fro around its intrinsic.
INLINE void add_pairs(floats *sum, floats halves, floats other) {
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(*sum) : "v"(halves), "v"(other));
}

INLINE void dots_half(const char *rows, int64_t inputs, const char *vectors, int64_t apart, int R, int M, float *results) {
    floats sums[2][PER_BLOCK] = {0};
    if (M == 1) {
        for (int64_t i = 0; i < inputs; i += 2 * 2 * LANES)
#pragma GCC unroll 2
            for (int part = 0; part < 2; part++) {
                int64_t at = (i + part * 2 * LANES) * 2;
                add_pairs(&sums[0][part], load((const float *)(rows + at)), load((const float *)(vectors + at)));
            }
        results[0] = sum_of(sums[0][0] + sums[0][1]);
        return;
    }
    for (int64_t i = 0; i < inputs; i += 2 * LANES) {
        floats weights[2];
#pragma GCC unroll 2
        for (int r = 0; r < R; r++) {
            __builtin_prefetch(rows + (i * R + r * 2 * LANES) * 2 + AHEAD, 0, 2);
            weights[r] = load((const float *)(rows + (r * inputs + i) * 2));
        }
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) {
            floats vector = load((const float *)(vectors + m * apart + i * 2));
            KEEP_LOADED(vector);
#pragma GCC unroll 2
            for (int r = 0; r < R; r++) add_pairs(&sums[r][m], weights[r], vector);
        }
    }
    sum_up(sums, R, M, results);
}
#else
INLINE void dots_half(const char *rows, int64_t inputs, const char *vectors, int64_t apart, int R, int M, float *results) {
    part sums[2][PER_BLOCK] = {0};
    if (M == 1) {
        for (int64_t i = 0; i < inputs; i += 4 * LANES)
#pragma GCC unroll 8
            for (int k = 0; k < 2 * LANES; k += WIDTH) {
                const char *vector = vectors + (i + k + k / LANES * LANES) * 4;
                part_words pairs = (part_words)load_part(rows + i * 2 + k * 4);
                sums[0][2 * (k / WIDTH % 2)] += (part)(pairs << 16) * load_part(vector);
                sums[0][2 * (k / WIDTH % 2) + 1] += (part)(pairs & 0xffff0000u) * load_part(vector + LANES * 4);
            }
        results[0] = sum_of_part((sums[0][0] + sums[0][1]) + (sums[0][2] + sums[0][3]));
        return;
    }
    for (int64_t i = 0; i < inputs; i += 2 * LANES)
#pragma GCC unroll 4
        for (int k = 0; k < LANES; k += WIDTH) {
            part_words pairs[2];
#pragma GCC unroll 2
            for (int r = 0; r < R; r++) {
                __builtin_prefetch(rows + (i * R + r * 2 * LANES) * 2 + k * 4 + AHEAD, 0, 2);
                pairs[r] = (part_words)load_part(rows + (r * inputs + i) * 2 + k * 4);
            }
#pragma GCC unroll 8
            for (int m = 0; m < M; m++) {
                part vector = load_part(vectors + m * apart + (i + k) * 4);
                KEEP_LOADED(vector);
#pragma GCC unroll 2
                for (int r = 0; r < R; r++) sums[r][m] += (part)(pairs[r] << 16) * vector;
            }
#pragma GCC unroll 8
            for (int m = 0; m < M; m++) {
                part vector = load_part(vectors + m * apart + (i + k + LANES) * 4);
                KEEP_LOADED(vector);
#pragma GCC unroll 2
                for (int r = 0; r < R; r++) sums[r][m] += (part)(pairs[r] & 0xffff0000u) * vector;
            }
        }
    sum_up(sums, R, M, results);
}

#endif

#if defined(__AVX512VNNI__)
// sum += bytes . signed bytes, by fours. In assembler, because gcc copies the sums to and fro around its intrinsic.
INLINE void add_dots(__m512i *sum, __m512i bytes, __m512i signed_bytes) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(bytes), "v"(signed_bytes));
}

INLINE void dots_byte(const char *rows, int64_t inputs, const char *vectors, int64_t apart, int R, int M, float *results) {
    __m512i highs[2][4], lows[2][4];
    const __m512i middle = _mm512_set1_epi8((char)0x80); // the instruction takes one side unsigned: weights + 128
#pragma GCC unroll 2
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int m = 0; m < M; m++) highs[r][m] = lows[r][m] = _mm512_setzero_si512();
    for (int64_t i = 0; i < inputs; i += 64) {
        __m512i weights[2];
#pragma GCC unroll 2
        for (int r = 0; r < R; r++) {
            if (M > 1) __builtin_prefetch(rows + i * R + r * 64 + AHEAD, 0, 2);
            weights[r] = _mm512_xor_si512(_mm512_loadu_si512(rows + r * inputs + i), middle);
        }
#pragma GCC unroll 4
        for (int m = 0; m < M; m++) {
            const char *vector = vectors + m * apart + i;
            __m512i high = _mm512_loadu_si512(vector), low = _mm512_loadu_si512(vector + inputs);
            KEEP_LOADED(high);
            KEEP_LOADED(low);
#pragma GCC unroll 2
            for (int r = 0; r < R; r++) {
                add_dots(&highs[r][m], weights[r], high);
                add_dots(&lows[r][m], weights[r], low);
            }
        }
    }
    floats sums[2][PER_BLOCK] = {0};
#pragma GCC unroll 2
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int m = 0; m < M; m++)
            sums[r][m] = (floats)_mm512_cvtepi32_ps(highs[r][m]) * 256.0f + (floats)_mm512_cvtepi32_ps(lows[r][m]);
    if (R * M == 1) results[0] = sum_of(sums[0][0]);
    else sums_of(sums[0], results);
#pragma GCC unroll 4
    for (int m = 0; m < M; m++) {
        float extra[2]; // scale, and what the 128 added
        memcpy(extra, vectors + m * apart + inputs * 4, sizeof extra);
#pragma GCC unroll 2
        for (int r = 0; r < R; r++) results[r * PER_BLOCK + m] = extra[0] * (results[r * PER_BLOCK + m] - extra[1]);
    }
}
#else
INLINE void dots_byte(const char *rows, int64_t inputs, const char *vectors, int64_t apart, int R, int M, float *results) {
    part sums[2][PER_BLOCK] = {0};
    for (int64_t i = 0; i < inputs; i += 4 * LANES)
#pragma GCC unroll 4
        for (int k = 0; k < LANES; k += WIDTH) {
            part_words fours[2];
#pragma GCC unroll 2
            for (int r = 0; r < R; r++) fours[r] = (part_words)load_part(rows + r * inputs + i + k * 4);
#pragma GCC unroll 4
            for (int byte = 0; byte < 4; byte++) {
                part weights[2];
#pragma GCC unroll 2
                for (int r = 0; r < R; r++) weights[r] = __builtin_convertvector((part_ints)(fours[r] << (24 - 8 * byte)) >> 24, part);
#pragma GCC unroll 8
                for (int m = 0; m < M; m++) {
                    part vector = load_part(vectors + m * apart + (i + byte * LANES + k) * 4);
                    KEEP_LOADED(vector);
#pragma GCC unroll 2
                    for (int r = 0; r < R; r++) sums[r][M == 1 ? byte : m] += weights[r] * vector;
                }
            }
        }
    if (M == 1) results[0] = sum_of_part((sums[0][0] + sums[0][1]) + (sums[0][2] + sums[0][3]));
    else sum_up(sums, R, M, results);
}
#endif

// Rows `from` to `to` of the product with M packed vectors: out[m * out_apart + row - from].
INLINE void product_of_block(const matrix *a, int64_t from, int64_t to, const char *vectors, int M, int64_t type, float *out, int64_t out_apart) {
    int64_t inputs = a->inputs, apart = packed_bytes(inputs);
    float results[2 * PER_BLOCK];
    for (int64_t row = from; row < to;) {
        const char *rows = a->rows + row * inputs * size_of(type);
        int count = M > 1 && row + 2 <= to ? 2 : 1;
        if (type == FLOAT32 && count == 2) dots_float(rows, inputs, vectors, apart, 2, M, results);
        else if (type == FLOAT32) dots_float(rows, inputs, vectors, apart, 1, M, results);
        else if (type == BFLOAT16 && count == 2) dots_half(rows, inputs, vectors, apart, 2, M, results);
        else if (type == BFLOAT16) dots_half(rows, inputs, vectors, apart, 1, M, results);
        else if (count == 2) dots_byte(rows, inputs, vectors, apart, 2, M, results);
        else dots_byte(rows, inputs, vectors, apart, 1, M, results);
        for (int r = 0; r < count; r++, row++)
            for (int m = 0; m < M; m++)
                out[m * out_apart + row - from] = results[r * PER_BLOCK + m] * (type == INT8 ? a->scales[row] : 1.0f);
    }
}

#define BLOCK(M, TYPE)                                                                                                  \
    static void block_##M##_##TYPE(const matrix *a, int64_t from, int64_t to, const char *v, float *out, int64_t apart) { \
        product_of_block(a, from, to, v, M, TYPE, out, apart);                                                          \
    }
BLOCK(1, FLOAT32) BLOCK(2, FLOAT32) BLOCK(4, FLOAT32) BLOCK(8, FLOAT32)
BLOCK(1, BFLOAT16) BLOCK(2, BFLOAT16) BLOCK(4, BFLOAT16) BLOCK(8, BFLOAT16)
BLOCK(1, INT8) BLOCK(2, INT8) BLOCK(4, INT8)
#undef BLOCK

typedef void (*block)(const matrix *, int64_t from, int64_t to, const char *vectors, float *out, int64_t out_apart);
static const block blocks[3][4] = {
    {block_1_FLOAT32, block_2_FLOAT32, block_4_FLOAT32, block_8_FLOAT32},
    {block_1_BFLOAT16, block_2_BFLOAT16, block_4_BFLOAT16, block_8_BFLOAT16},
    {block_1_INT8, block_2_INT8, block_4_INT8, block_4_INT8}, // it needs twice the sums
};

// Rows `from` to `to` of the product with `count` packed vectors: out[m * out_apart + row - from].
static void product(const matrix *a, int64_t from, int64_t to, const char *vectors, int64_t count, float *out, int64_t out_apart) {
    for (int64_t begin = 0; begin < count;) {
        int64_t left = count - begin;
        int power = left >= 8 && a->type != INT8 ? 3 : left >= 4 ? 2 : left >= 2 ? 1 : 0;
        blocks[a->type][power](a, from, to, vectors + begin * packed_bytes(a->inputs), out + begin * out_apart, out_apart);
        begin += 1 << power;
    }
}

#endif
