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

// Bytes by which what comes next is fetched before it is needed: into the second cache for several vectors, for one into the
// first (INT4), or not at all, since the processor foresees it better by itself (INT8). On a Zen 4, one vector in INT8
// took 1.4 times as long with it, in INT4 1.15 times without or into the second cache.
#define AHEAD_OF_STRIP 8192
#define AHEAD_OF_ONE_IN_4 6144
#define SLICES (STRIP / LANES) // registers that hold a sum for each row

// Whether several vectors are multiplied by twos (i8mm): sums of two rows by two vectors.
#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD) && defined(__ARM_FEATURE_MATMUL_INT8)
#define BY_TWOS 1
#else
#define BY_TWOS 0
#endif

INLINE int64_t strip_bytes(int64_t inputs, int64_t type) { return STRIP * inputs / (type == INT4 ? 2 : 1); }

typedef int32_t __attribute__((may_alias)) four_bytes;

// `spread`: four numbers of a vector, the same for each row. `rows_8`, `rows_4`: as many of each of LANES rows. Their
// products are added to `sums`, which begin with what the products will have too much (pack.h); `finished`: LANES ints.
#if defined(UNSIGNED_BY_SIGNED)
typedef ints sums, spread_8, spread_4, rows_8, rows_4;

INLINE ints spread_of(const char *four) { return *(const four_bytes *)four - (ints){0}; }
INLINE ints spread_8_of(const char *four) { return spread_of(four); }
INLINE ints load_8(const char *from) {
    ints value;
    memcpy(&value, from, sizeof value);
    return value ^ (int32_t)0x80808080;
}
// In assembler, because gcc copies the sums to and fro around its intrinsic.
INLINE void add_4(ints *sum, ints rows, ints four) {
#if defined(__AVX512VNNI__)
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(rows), "v"(four));
#else
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(*sum) : "x"(rows), "x"(four));
#endif
}
INLINE void add_8(ints *sum, ints rows, ints four) { add_4(sum, rows, four); }
INLINE sums begun_8(const char *begin) { return spread_of(begin); }
INLINE sums begun_4(const char *begin) { return spread_of(begin); }
INLINE ints finished_4(sums sum) { return sum; }

#elif defined(__AVX2__)
// Sums of products of eight bits by eight have to be widened, which costs a product: so both are widened before, the rows
// once for all vectors, and one product of 16 bits gives the sum of two.
typedef __m256i sums, spread_4, rows_4;
typedef struct {
    __m256i even, odd;
} rows_8, spread_8;

INLINE __m256i spread_of(const char *four) { return _mm256_set1_epi32(*(const four_bytes *)four); }
INLINE spread_8 spread_8_of(const char *four) { return (spread_8){spread_of(four), spread_of(four + 4)}; }
INLINE rows_8 load_8(const char *from) {
    __m256i both = _mm256_loadu_si256((const __m256i *)from);
    return (rows_8){_mm256_srai_epi16(_mm256_slli_epi16(both, 8), 8), _mm256_srai_epi16(both, 8)};
}
INLINE void add_8(sums *sum, rows_8 rows, spread_8 four) {
    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(rows.even, four.even));
    KEEP(*sum);
    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(rows.odd, four.odd));
    KEEP(*sum);
}
// Of four bits by eight the sums of a whole group fit into 16, with what they begin with: 16 * 15 * 127 < 2^15.
INLINE void add_4(sums *sum, rows_4 rows, spread_4 four) {
    *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(rows, four));
    KEEP(*sum);
}
INLINE sums begun_8(const char *begin) { return _mm256_setzero_si256(); }
INLINE sums begun_4(const char *begin) { return spread_of(begin); }
INLINE ints finished_4(sums sum) { return (ints)_mm256_madd_epi16(sum, _mm256_set1_epi16(1)); }

#elif defined(__ARM_FEATURE_DOTPROD)
typedef int32x4_t sums;
typedef int8x16_t spread_8, spread_4, rows_8, rows_4;

INLINE int8x16_t spread_of(const char *four) { return vreinterpretq_s8_s32(vld1q_dup_s32((const int32_t *)four)); }
INLINE int8x16_t spread_8_of(const char *four) { return spread_of(four); }
INLINE int8x16_t load_8(const char *from) { return vld1q_s8((const int8_t *)from); }
INLINE void add_4(sums *sum, int8x16_t rows, int8x16_t four) { *sum = vdotq_s32(*sum, rows, four); }
INLINE void add_8(sums *sum, int8x16_t rows, int8x16_t four) { add_4(sum, rows, four); }
INLINE sums begun_8(const char *begin) { return vdupq_n_s32(0); }
INLINE sums begun_4(const char *begin) { return vld1q_dup_s32((const int32_t *)begin); }
INLINE ints finished_4(sums sum) { return (ints)sum; }

#else
typedef ints sums, rows_8, rows_4;
typedef const char *spread_8, *spread_4;

INLINE const char *spread_of(const char *four) { return four; }
INLINE const char *spread_8_of(const char *four) { return four; }
INLINE ints load_8(const char *from) {
    ints value;
    memcpy(&value, from, sizeof value);
    return value;
}
INLINE void add_4(ints *sum, ints rows, const char *four) {
#pragma GCC unroll 4
    for (int byte = 0; byte < 4; byte++) *sum += ((ints)((words)rows << (24 - 8 * byte)) >> 24) * (int32_t)(int8_t)four[byte];
}
INLINE void add_8(ints *sum, ints rows, const char *four) { add_4(sum, rows, four); }
INLINE sums begun_8(const char *begin) { return (sums){0}; }
INLINE sums begun_4(const char *begin) { return *(const four_bytes *)begin - (ints){0}; }
INLINE ints finished_4(sums sum) { return sum; }
#endif

// Rows' four bytes of two times four inputs.
INLINE void load_4(const char *from, rows_4 *low, rows_4 *high) {
    words both;
    memcpy(&both, from, sizeof both);
    *low = (rows_4)(both & 0x0f0f0f0fu);
    *high = (rows_4)(both >> 4 & 0x0f0f0f0fu);
}

// Adds a group's products of S times LANES rows with M vectors.
INLINE void add_group_8(sums found[SLICES][8], const char *strip, const char *vectors, int64_t apart, int S, int M) {
#pragma GCC unroll 8
    for (int part = 0; part < 8; part++, strip += 4 * STRIP, vectors += 4 * BYTES_8) {
        rows_8 rows[SLICES];
#pragma GCC unroll 4
        for (int s = 0; s < S; s++) {
            if (M > 1 && s == 0) __builtin_prefetch(strip + AHEAD_OF_STRIP, 0, 2);
            rows[s] = load_8(strip + s * LANES * 4);
        }
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) {
            spread_8 four = spread_8_of(vectors + m * apart);
#pragma GCC unroll 4
            for (int s = 0; s < S; s++) add_8(&found[s][m], rows[s], four);
        }
    }
}

INLINE void add_group_4(sums found[SLICES][8], const char *strip, const char *vectors, int64_t apart, int S, int M) {
#pragma GCC unroll 4
    for (int part = 0; part < 4; part++, strip += 4 * STRIP, vectors += 4) {
        rows_4 rows[2][SLICES];
#pragma GCC unroll 4
        for (int s = 0; s < S; s++) {
            if (M > 1 && s == 0) __builtin_prefetch(strip + AHEAD_OF_STRIP, 0, 2);
            if (M == 1 && s == 0) __builtin_prefetch(strip + AHEAD_OF_ONE_IN_4, 0, 3);
            load_4(strip + s * LANES * 4, &rows[0][s], &rows[1][s]);
        }
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++)
#pragma GCC unroll 8
            for (int m = 0; m < M; m++) {
                spread_4 four = spread_of(vectors + m * apart + half * (GROUP / 2));
#pragma GCC unroll 4
                for (int s = 0; s < S; s++) add_4(&found[s][m], rows[half][s], four);
            }
    }
}

#if BY_TWOS
// Of LANES rows eight of a group's inputs, two rows a register: the first or the second eight of its `half`. Four bits are
// taken out of their bytes last, since both halves' rows are then put together as one.
INLINE void load_eight(const char *strip, int half, int eight, int64_t type, int8x16_t rows[2]) {
    const char *from = strip + ((type == INT8 ? half * 4 : 0) + eight * 2) * 4 * STRIP;
    int32x4_t four = vreinterpretq_s32_s8(load_8(from)), next = vreinterpretq_s32_s8(load_8(from + 4 * STRIP));
    uint8x16_t two[2] = {vreinterpretq_u8_s32(vzip1q_s32(four, next)), vreinterpretq_u8_s32(vzip2q_s32(four, next))};
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        if (type == INT4) two[i] = half ? vshrq_n_u8(two[i], 4) : vandq_u8(two[i], vdupq_n_u8(15));
        rows[i] = vreinterpretq_s8_u8(two[i]);
    }
}

// Adds a group's products, two rows' eight inputs with two vectors' in an instruction: 32 products, where add_4 has 16.
// Meanwhile found[s][m] of an even m holds the sums of the slice's first two rows, each with vectors m and m + 1, and
// found[s][m + 1] those of its other two.
INLINE void add_group_by_twos(sums found[SLICES][8], const char *strip, const char *vectors, int64_t apart, int S, int M, int64_t type) {
#pragma GCC unroll 8
    for (int at = 0; at < strip_bytes(GROUP, type); at += 4 * STRIP) __builtin_prefetch(strip + at + AHEAD_OF_STRIP, 0, 2);
#pragma GCC unroll 4
    for (int m = 0; m < M; m += 2)
#pragma GCC unroll 4
        for (int s = 0; s < S; s++) found[s][m] = found[s][m + 1] = vzip1q_s32(found[s][m], found[s][m + 1]); // all rows begin alike
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++)
#pragma GCC unroll 4
        for (int m = 0; m < M; m += 2) {
            const char *from = vectors + m * apart + half * (GROUP / 2);
            int64x2_t one = vreinterpretq_s64_s8(load_8(from)), other = vreinterpretq_s64_s8(load_8(from + apart));
            int8x16_t both[2] = {vreinterpretq_s8_s64(vzip1q_s64(one, other)), vreinterpretq_s8_s64(vzip2q_s64(one, other))};
#pragma GCC unroll 2
            for (int eight = 0; eight < 2; eight++)
#pragma GCC unroll 4
                for (int s = 0; s < S; s++) {
                    int8x16_t rows[2]; // the compiler keeps them for the other vectors, where the registers hold them
                    load_eight(strip + s * LANES * 4, half, eight, type, rows);
                    found[s][m] = vmmlaq_s32(found[s][m], rows[0], both[eight]);
                    found[s][m + 1] = vmmlaq_s32(found[s][m + 1], rows[1], both[eight]);
                }
        }
#pragma GCC unroll 4
    for (int m = 0; m < M; m += 2)
#pragma GCC unroll 4
        for (int s = 0; s < S; s++) {
            sums first = found[s][m], second = found[s][m + 1];
            found[s][m] = vuzp1q_s32(first, second);
            found[s][m + 1] = vuzp2q_s32(first, second);
        }
}
#endif

// S times LANES rows of a strip, from `strip` on, by M vectors that lie `apart` bytes from each other; the rows' sums to
// out[m * out_apart + row]. `scales`: of INT8 one a row; of INT4 bf16, for each group one of each row of the strip.
INLINE void strip_by(const char *strip, const char *scales, int64_t inputs, const char *vectors, int64_t apart, int S, int M, int64_t type, float *out, int64_t out_apart) {
    floats totals[SLICES][8] = {0};
    for (int64_t group = 0; group < inputs / GROUP; group++, vectors += group_bytes(type)) {
        sums found[SLICES][8];
        const char *extra = vectors + group_bytes(type) - 8;
#pragma GCC unroll 8
        for (int m = 0; m < M; m++)
#pragma GCC unroll 4
            for (int s = 0; s < S; s++) found[s][m] = type == INT8 ? begun_8(extra + m * apart + 4) : begun_4(extra + m * apart + 4);
#if BY_TWOS
        if (M > 1) add_group_by_twos(found, strip, vectors, apart, S, M, type);
        else
#endif
        if (type == INT8) add_group_8(found, strip, vectors, apart, S, M);
        else add_group_4(found, strip, vectors, apart, S, M);
        strip += GROUP * STRIP / (type == INT4 ? 2 : 1);
#pragma GCC unroll 4
        for (int s = 0; s < S; s++) {
            floats scale;
            if (type == INT4) scale = load_as(scales, group * STRIP + s * LANES, BFLOAT16);
#pragma GCC unroll 8
            for (int m = 0; m < M; m++) {
                float vector_scale;
                memcpy(&vector_scale, extra + m * apart, 4);
                if (type == INT4) totals[s][m] += __builtin_convertvector(finished_4(found[s][m]), floats) * (scale * vector_scale);
                else totals[s][m] += __builtin_convertvector((ints)found[s][m], floats) * vector_scale;
            }
        }
    }
#pragma GCC unroll 4
    for (int s = 0; s < S; s++)
#pragma GCC unroll 8
        for (int m = 0; m < M; m++)
            store(out + m * out_apart + s * LANES, type == INT4 ? totals[s][m] : totals[s][m] * load((const float *)scales + s * LANES));
}

// A whole strip by M vectors. Where the registers do not hold M sums for each row, the slices come one after the other; by
// twos as many at once as make eight sums, so that each row and each vector that was put together serves several products.
#define WHOLE_STRIP(M, TYPE)                                                                                            \
    static void strip_##M##_##TYPE(const char *strip, const char *scales, int64_t inputs, const char *vectors, int64_t apart, float *out, int64_t out_apart) { \
        int S = M * SLICES <= 8 ? SLICES : BY_TWOS ? 8 / M : 1;                                                         \
        for (int s = 0; s < SLICES; s += S)                                                                             \
            strip_by(strip + s * LANES * 4, scales + s * LANES * (TYPE == INT4 ? 2 : 4), inputs, vectors, apart, S, M, TYPE, out + s * LANES, out_apart); \
    }
WHOLE_STRIP(1, INT8) WHOLE_STRIP(2, INT8) WHOLE_STRIP(4, INT8) WHOLE_STRIP(8, INT8)
WHOLE_STRIP(1, INT4) WHOLE_STRIP(2, INT4) WHOLE_STRIP(4, INT4) WHOLE_STRIP(8, INT4)

typedef void (*whole_strip)(const char *, const char *, int64_t, const char *, int64_t, float *, int64_t);
static const whole_strip whole_strips[2][4] = {
    {strip_1_INT8, strip_2_INT8, strip_4_INT8, strip_8_INT8},
    {strip_1_INT4, strip_2_INT4, strip_4_INT4, strip_8_INT4},
};
#define MOST_AT_ONCE (LANES == 16 || BY_TWOS ? 3 : 2) // powers of two of vectors whose sums the registers hold

#endif
