// Products of a matrix (outputs, inputs), row by row as torch keeps it, with one or several vectors at once.
//
// The vectors are packed first, once for all rows, in the form that suits the matrix's type. Each row of the matrix is
// read from memory once for up to PER_BLOCK vectors. The order of additions in a result does not depend on how many
// vectors or threads there are, so a conversation gets the same logits alone and among others.
#ifndef PRODUCTS_H
#define PRODUCTS_H

#include "vectors.h"
#if defined(__AVX512VNNI__)
#include <immintrin.h>
#endif

#define PER_BLOCK 8
#define AHEAD 1024 // bytes that are fetched before they are needed
#define EXTRA 64   // bytes after a packed vector: its scale, and the sums of its two halves

typedef struct {
    const char *rows;
    const float *scales; // one a row, of INT8
    int64_t type, outputs, inputs;
} matrix;

INLINE int64_t packed_bytes(int64_t inputs) { return inputs * 4 + EXTRA; }

// FLOAT32: as it is. BFLOAT16: even and odd elements of 32 apart, as they come out of the two halves of a word.
// INT8: 16 bits, as two planes of 8, and their scale: finer than the weights by far.
static void pack(const float *from, char *to, int64_t inputs, int64_t type) {
    float *plain = (float *)to;
    if (type == BFLOAT16) {
        for (int64_t i = 0; i < inputs; i += 32)
            for (int64_t j = 0; j < 16; j++) {
                plain[i + j] = from[i + 2 * j];
                plain[i + 16 + j] = from[i + 2 * j + 1];
            }
        return;
    }
#if defined(__AVX512VNNI__)
    if (type == INT8) {
        __m512 largest = _mm512_set1_ps(1e-30f);
        for (int64_t i = 0; i < inputs; i += 16) largest = _mm512_max_ps(largest, _mm512_abs_ps(_mm512_loadu_ps(from + i)));
        float scale = _mm512_reduce_max_ps(largest) / 32512.0f; // 127 * 256: the high byte stays within its range
        __m512 inverse = _mm512_set1_ps(1.0f / scale);
        __m512i high_sum = _mm512_setzero_si512(), low_sum = high_sum;
        for (int64_t i = 0; i < inputs; i += 16) {
            __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(from + i), inverse));
            __m512i high = _mm512_srai_epi32(_mm512_add_epi32(whole, _mm512_set1_epi32(128)), 8);
            __m512i low = _mm512_sub_epi32(whole, _mm512_slli_epi32(high, 8));
            _mm_storeu_si128((__m128i *)(to + i), _mm512_cvtepi32_epi8(high));
            _mm_storeu_si128((__m128i *)(to + inputs + i), _mm512_cvtepi32_epi8(low));
            high_sum = _mm512_add_epi32(high_sum, high);
            low_sum = _mm512_add_epi32(low_sum, low);
        }
        float extra[3] = {scale, (float)_mm512_reduce_add_epi32(high_sum), (float)_mm512_reduce_add_epi32(low_sum)};
        memcpy(to + inputs * 4, extra, sizeof extra);
        return;
    }
#endif
    memcpy(plain, from, inputs * 4);
}

// results[r * PER_BLOCK + m] = row r . vector m; `vectors` lie `apart` bytes from each other. R and M are constants.
INLINE void dots_float(const char *rows, int64_t inputs, const char *vectors, int64_t apart, int R, int M, float *results) {
    floats sums[4][PER_BLOCK] = {0};
    for (int64_t i = 0; i < inputs; i += LANES)
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            const char *row = rows + (r * inputs + i) * 4;
            if (M == 1) __builtin_prefetch(row + AHEAD);
            floats weights = load((const float *)row);
#pragma GCC unroll 8
            for (int m = 0; m < M; m++) sums[r][m] += weights * load((const float *)(vectors + m * apart) + i);
        }
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) results[r * PER_BLOCK + m] = sum_of(sums[r][m]);
}

INLINE void dots_half(const char *rows, int64_t inputs, const char *vectors, int64_t apart, int R, int M, float *results) {
    floats sums[4][PER_BLOCK] = {0};
    for (int64_t i = 0; i < inputs; i += 2 * LANES)
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            const char *row = rows + (r * inputs + i) * 2;
            if (M == 1) __builtin_prefetch(row + AHEAD);
            words pairs = (words)load((const float *)row);
            floats even = (floats)(pairs << 16), odd = (floats)(pairs & 0xffff0000u);
#pragma GCC unroll 8
            for (int m = 0; m < M; m++) {
                const float *vector = (const float *)(vectors + m * apart) + i;
                sums[r][m] += even * load(vector);
                sums[r][m] += odd * load(vector + LANES);
            }
        }
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) results[r * PER_BLOCK + m] = sum_of(sums[r][m]);
}

#if defined(__AVX512VNNI__)
INLINE void dots_byte(const char *rows, int64_t inputs, const char *vectors, int64_t apart, int R, int M, float *results) {
    __m512i highs[4][PER_BLOCK], lows[4][PER_BLOCK];
    const __m512i middle = _mm512_set1_epi8((char)0x80); // the instruction takes one side unsigned: weights + 128
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) highs[r][m] = lows[r][m] = _mm512_setzero_si512();
    for (int64_t i = 0; i < inputs; i += 64)
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            const char *row = rows + r * inputs + i;
            if (M == 1) __builtin_prefetch(row + AHEAD);
            __m512i weights = _mm512_xor_si512(_mm512_loadu_si512(row), middle);
#pragma GCC unroll 8
            for (int m = 0; m < M; m++) {
                const char *vector = vectors + m * apart + i;
                highs[r][m] = _mm512_dpbusd_epi32(highs[r][m], weights, _mm512_loadu_si512(vector));
                lows[r][m] = _mm512_dpbusd_epi32(lows[r][m], weights, _mm512_loadu_si512(vector + inputs));
            }
        }
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) {
            float extra[3];
            memcpy(extra, vectors + m * apart + inputs * 4, sizeof extra);
            float high = (float)_mm512_reduce_add_epi32(highs[r][m]) - 128.0f * extra[1];
            float low = (float)_mm512_reduce_add_epi32(lows[r][m]) - 128.0f * extra[2];
            results[r * PER_BLOCK + m] = extra[0] * (256.0f * high + low);
        }
}
#else
INLINE void dots_byte(const char *rows, int64_t inputs, const char *vectors, int64_t apart, int R, int M, float *results) {
    floats sums[4][PER_BLOCK] = {0};
    for (int64_t i = 0; i < inputs; i += LANES)
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            bytes16 bytes;
            memcpy(&bytes, rows + r * inputs + i, sizeof bytes);
            floats weights = __builtin_convertvector(bytes, floats);
#pragma GCC unroll 8
            for (int m = 0; m < M; m++) sums[r][m] += weights * load((const float *)(vectors + m * apart) + i);
        }
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) results[r * PER_BLOCK + m] = sum_of(sums[r][m]);
}
#endif

#define DOTS(R, M)                                                                                  \
    static void dots_##R##_##M(const matrix *a, int64_t row, const char *vectors, float *results) { \
        const char *rows = a->rows + row * a->inputs * size_of(a->type);                            \
        int64_t apart = packed_bytes(a->inputs);                                                    \
        if (a->type == FLOAT32) dots_float(rows, a->inputs, vectors, apart, R, M, results);         \
        else if (a->type == BFLOAT16) dots_half(rows, a->inputs, vectors, apart, R, M, results);    \
        else dots_byte(rows, a->inputs, vectors, apart, R, M, results);                             \
    }
DOTS(4, 1) DOTS(4, 2) DOTS(4, 4) DOTS(2, 8) DOTS(1, 1) DOTS(1, 2) DOTS(1, 4) DOTS(1, 8)
#undef DOTS

typedef void (*dots)(const matrix *, int64_t row, const char *vectors, float *results);

static void product_of_block(const matrix *a, int64_t from, int64_t to, const char *vectors, int count, float *out, int64_t out_apart) {
    dots many = count == 8 ? dots_2_8 : count == 4 ? dots_4_4 : count == 2 ? dots_4_2 : dots_4_1;
    dots single = count == 8 ? dots_1_8 : count == 4 ? dots_1_4 : count == 2 ? dots_1_2 : dots_1_1;
    int width = count == 8 ? 2 : 4;
    float results[4 * PER_BLOCK];
    for (int64_t row = from; row < to;) {
        int rows = row + width <= to ? width : 1;
        (rows == width ? many : single)(a, row, vectors, results);
        for (int r = 0; r < rows; r++)
            for (int m = 0; m < count; m++)
                out[m * out_apart + row - from + r] = results[r * PER_BLOCK + m] * (a->type == INT8 ? a->scales[row + r] : 1.0f);
        row += rows;
    }
}

// Rows `from` to `to` of the product with `count` packed vectors: out[m * out_apart + row - from].
static void product(const matrix *a, int64_t from, int64_t to, const char *vectors, int64_t count, float *out, int64_t out_apart) {
    for (int64_t begin = 0; begin < count;) {
        int64_t left = count - begin;
        int block = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
        product_of_block(a, from, to, vectors + begin * packed_bytes(a->inputs), block, out + begin * out_apart, out_apart);
        begin += block;
    }
}

#endif
