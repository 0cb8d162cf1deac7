// Products of matrices in eight and four bits with packed vectors (pack.h): bytes by bytes, summed in whole numbers.
//
// A matrix lies in strips of 16 rows, in the order in which it is read: for every four inputs the 16 rows' four bytes (INT8).
// In INT4, for every GROUP of inputs, 16 rows' four bytes of inputs 0 to 3 (low halves) and 16 to 19 (high halves), then of
// 4 and 20 on, 8 and 24, 12 and 28. So each lane of a register is a row: no sum goes across a register, and a vector's four
// bytes are the same for all. Rows beyond the last one, and inputs beyond a whole group, are zeros.
#ifndef STRIPS_H
#define STRIPS_H

#include "pack.h"
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#endif

#define STRIP 16
#define AHEAD_OF_STRIP 8192 // bytes by which what comes next is fetched before it is needed
#define SLICES (STRIP / LANES) // registers that hold a sum for each row

INLINE int64_t strip_bytes(int64_t inputs, int64_t type) { return STRIP * inputs / (type == INT4 ? 2 : 1); }

typedef int32_t __attribute__((may_alias)) four_bytes;

// Four bytes of a vector by four of each of LANES rows are added to a sum; `finished` makes LANES ints of it.
#if defined(UNSIGNED_BY_SIGNED)
typedef ints sums, bytes;

// In assembler, because gcc copies the sums to and fro around its intrinsic.
INLINE ints dots_4(ints sum, ints weights, const char *four) {
#if defined(__AVX512VNNI__)
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(weights), "m"(*(const four_bytes *)four));
#else
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(weights), "x"(_mm256_set1_epi32(*(const four_bytes *)four)));
#endif
    return sum;
}
INLINE ints dots_8(ints sum, ints weights, const char *four) { return dots_4(sum, weights, four); }
INLINE ints load_8(const char *from) {
    ints value;
    memcpy(&value, from, sizeof value);
    return value ^ (int32_t)0x80808080;
}
INLINE ints finished_8(ints sum, int32_t too_much) { return sum - too_much; }
INLINE ints finished_4(ints sum, int32_t too_much) { return sum - too_much; }

#elif defined(__AVX2__)
typedef __m256i sums, bytes;

// A sum of two products of bytes fills 16 bits, so that it is widened at once, by a product with one.
INLINE sums dots_8(sums sum, bytes weights, const char *four) {
    __m256i vector = _mm256_sign_epi8(_mm256_set1_epi32(*(const four_bytes *)four), weights);
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), vector);
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    KEEP(sum);
    return sum;
}
// Of four bits by eight the sums of a whole group fit into 16: 16 * 15 * 127 < 2^15.
INLINE sums dots_4(sums sum, bytes weights, const char *four) {
    sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(weights, _mm256_set1_epi32(*(const four_bytes *)four)));
    KEEP(sum);
    return sum;
}
INLINE bytes load_8(const char *from) { return _mm256_loadu_si256((const __m256i *)from); }
INLINE ints finished_8(sums sum, int32_t too_much) { return (ints)sum; }
INLINE ints finished_4(sums sum, int32_t too_much) {
    return (ints)_mm256_madd_epi16(sum, _mm256_set1_epi16(1)) - too_much;
}

#elif defined(__ARM_FEATURE_DOTPROD)
typedef int32x4_t sums;
typedef int8x16_t bytes;

INLINE sums dots_8(sums sum, bytes weights, const char *four) {
    return vdotq_s32(sum, weights, vreinterpretq_s8_s32(vld1q_dup_s32((const int32_t *)four)));
}
INLINE sums dots_4(sums sum, bytes weights, const char *four) { return dots_8(sum, weights, four); }
INLINE bytes load_8(const char *from) { return vld1q_s8((const int8_t *)from); }
INLINE ints finished_8(sums sum, int32_t too_much) { return (ints)sum; }
INLINE ints finished_4(sums sum, int32_t too_much) { return (ints)sum - too_much; }

#else
typedef ints sums, bytes;

INLINE ints dots_8(ints sum, ints weights, const char *four) {
#pragma GCC unroll 4
    for (int byte = 0; byte < 4; byte++) sum += ((ints)((words)weights << (24 - 8 * byte)) >> 24) * (int32_t)(int8_t)four[byte];
    return sum;
}
INLINE ints dots_4(ints sum, ints weights, const char *four) { return dots_8(sum, weights, four); }
INLINE ints load_8(const char *from) {
    ints value;
    memcpy(&value, from, sizeof value);
    return value;
}
INLINE ints finished_8(ints sum, int32_t too_much) { return sum; }
INLINE ints finished_4(ints sum, int32_t too_much) { return sum - too_much; }
#endif

// Rows' four bytes of two times four inputs.
INLINE void load_4(const char *from, bytes *low, bytes *high) {
    words both;
    memcpy(&both, from, sizeof both);
    *low = (bytes)(both & 0x0f0f0f0fu);
    *high = (bytes)(both >> 4 & 0x0f0f0f0fu);
}

// S times LANES rows of a strip, from `strip` on, by M vectors that lie `apart` bytes from each other; the rows' sums to
// out[m * out_apart + row]. `scales`: of INT8 one a row; of INT4 bf16, for each group one of each row of the strip.
INLINE void strip_by(const char *strip, const char *scales, int64_t inputs, const char *vectors, int64_t apart, int S, int M, int64_t type, float *out, int64_t out_apart) {
    int64_t groups = inputs / GROUP;
    floats totals[SLICES][8] = {0};
    for (int64_t group = 0; group < groups; group++) {
        sums found[SLICES][8];
        const char *begin = vectors + group * GROUP;
#pragma GCC unroll 8
        for (int m = 0; m < M; m++)
#pragma GCC unroll 4
            for (int s = 0; s < S; s++) found[s][m] = (sums){0};
#pragma GCC unroll 4
        for (int part = 0; type == INT4 && part < 4; part++) {
            bytes low[SLICES], high[SLICES];
            __builtin_prefetch(strip + part * 64 + AHEAD_OF_STRIP, 0, 2);
#pragma GCC unroll 4
            for (int s = 0; s < S; s++) load_4(strip + part * 64 + s * LANES * 4, &low[s], &high[s]);
#pragma GCC unroll 8
            for (int m = 0; m < M; m++)
#pragma GCC unroll 4
                for (int s = 0; s < S; s++) found[s][m] = dots_4(found[s][m], low[s], begin + m * apart + part * 4);
#pragma GCC unroll 8
            for (int m = 0; m < M; m++)
#pragma GCC unroll 4
                for (int s = 0; s < S; s++) found[s][m] = dots_4(found[s][m], high[s], begin + m * apart + part * 4 + GROUP / 2);
        }
#pragma GCC unroll 8
        for (int part = 0; type == INT8 && part < 8; part++) {
            bytes weights[SLICES];
            __builtin_prefetch(strip + part * 64 + AHEAD_OF_STRIP, 0, 2);
#pragma GCC unroll 4
            for (int s = 0; s < S; s++) weights[s] = load_8(strip + part * 64 + s * LANES * 4);
#pragma GCC unroll 8
            for (int m = 0; m < M; m++)
#pragma GCC unroll 4
                for (int s = 0; s < S; s++) found[s][m] = dots_8(found[s][m], weights[s], begin + m * apart + part * 4);
        }
        strip += GROUP * STRIP / (type == INT4 ? 2 : 1);
#pragma GCC unroll 4
        for (int s = 0; s < S; s++) {
            floats scale;
            if (type == INT4) scale = load_as(scales, group * STRIP + s * LANES, BFLOAT16);
#pragma GCC unroll 8
            for (int m = 0; m < M; m++) {
                const char *extra = vectors + m * apart + inputs + group * 4;
                float vector_scale;
                int32_t too_much;
                memcpy(&vector_scale, extra, 4);
                memcpy(&too_much, extra + groups * 4, 4);
                if (type == INT4) totals[s][m] += __builtin_convertvector(finished_4(found[s][m], too_much), floats) * (scale * vector_scale);
                else totals[s][m] += __builtin_convertvector(finished_8(found[s][m], too_much), floats) * vector_scale;
            }
        }
    }
#pragma GCC unroll 4
    for (int s = 0; s < S; s++)
#pragma GCC unroll 8
        for (int m = 0; m < M; m++)
            store(out + m * out_apart + s * LANES, type == INT4 ? totals[s][m] : totals[s][m] * load((const float *)scales + s * LANES));
}

// A whole strip by M vectors. Where the registers do not hold M sums for each row, the slices come one after the other.
#define WHOLE_STRIP(M, TYPE)                                                                                            \
    static void strip_##M##_##TYPE(const char *strip, const char *scales, int64_t inputs, const char *vectors, int64_t apart, float *out, int64_t out_apart) { \
        if (M * SLICES <= 8) {                                                                  \
            strip_by(strip, scales, inputs, vectors, apart, SLICES, M, TYPE, out, out_apart);                           \
            return;                                                                                                     \
        }                                                                                                               \
        for (int s = 0; s < SLICES; s++)                                                                                \
            strip_by(strip + s * LANES * 4, scales + s * LANES * (TYPE == INT4 ? 2 : 4), inputs, vectors, apart, 1, M, TYPE, out + s * LANES, out_apart); \
    }
WHOLE_STRIP(1, INT8) WHOLE_STRIP(2, INT8) WHOLE_STRIP(4, INT8) WHOLE_STRIP(8, INT8)
WHOLE_STRIP(1, INT4) WHOLE_STRIP(2, INT4) WHOLE_STRIP(4, INT4) WHOLE_STRIP(8, INT4)

typedef void (*whole_strip)(const char *, const char *, int64_t, const char *, int64_t, float *, int64_t);
static const whole_strip whole_strips[2][4] = {
    {strip_1_INT8, strip_2_INT8, strip_4_INT8, strip_8_INT8},
    {strip_1_INT4, strip_2_INT4, strip_4_INT4, strip_8_INT4},
};
#define MOST_AT_ONCE (LANES == 16 ? 3 : 2) // powers of two of vectors whose sums the registers hold

#endif
