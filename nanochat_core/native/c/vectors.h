// As many floats at a time as one register holds, in the vector extensions of gcc and clang: one text for AVX-512, AVX2 and NEON.
//
// No wider than a register: gcc keeps wider vectors in memory, where each sum would go and come back with every product. For
// AVX2 gcc 12's products of one vector took 5 times as long so.
#ifndef VECTORS_H
#define VECTORS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512VNNI__) // without its products of bytes, AVX2 has all that is needed
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#define INLINE static inline __attribute__((always_inline))

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));
typedef float floats8 __attribute__((vector_size(32)));
typedef float floats4 __attribute__((vector_size(16)));

// Keeps a value in its register: gcc prefers to load it again for each use, and loads are what there is least of; or it computes
// all addends of a sum first, for which there are not registers enough.
#if LANES == 16
#define KEEP(value) __asm__("" : "+v"(value))
#elif defined(__AVX__)
#define KEEP(value) __asm__("" : "+x"(value))
#elif defined(__aarch64__)
#define KEEP(value) __asm__("" : "+w"(value))
#else
#define KEEP(value)
#endif

enum type { FLOAT32 = 0, BFLOAT16 = 1, INT8 = 2, INT4 = 3, COMPACT = 4 }; // COMPACT: fp32 in 28 bits (compact.h)

INLINE int64_t size_of(int64_t type) { return type == FLOAT32 ? 4 : 2; } // of FLOAT32 and BFLOAT16

INLINE floats all(float value) { return value - (floats){0}; }

INLINE floats load(const float *from) {
    floats value;
    memcpy(&value, from, sizeof value);
    return value;
}

INLINE void store(float *to, floats value) { memcpy(to, &value, sizeof value); }

INLINE floats choose(ints condition, floats yes, floats no) {
    return (floats)((condition & (ints)yes) | (~condition & (ints)no));
}

// Some values of a tensor of `type` from element `index` on.
INLINE floats load_as(const void *from, int64_t index, int64_t type) {
    if (type == FLOAT32) return load((const float *)from + index);
    halves half;
    memcpy(&half, (const uint16_t *)from + index, sizeof half);
    return (floats)(__builtin_convertvector(half, words) << 16);
}

INLINE float value_of(const void *from, int64_t index, int64_t type) {
    if (type == FLOAT32) return ((const float *)from)[index];
    uint32_t word = (uint32_t)((const uint16_t *)from)[index] << 16;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

// Rounded to nearest, ties to even, as torch does. Added to a NaN's bits, that could make a number of it.
INLINE void store_as(void *to, int64_t index, floats value, int64_t type) {
    if (type == FLOAT32) {
        store((float *)to + index, value);
        return;
    }
    words bits = (words)value;
    bits = (words)choose(value == value, (floats)(bits + 0x7fff + ((bits >> 16) & 1)), all(NAN));
    halves half = __builtin_convertvector(bits >> 16, halves);
    memcpy((uint16_t *)to + index, &half, sizeof half);
}

INLINE float sum_of(floats value) {
#if LANES == 16
    union { floats whole; floats8 part[2]; } eight = {value};
    union { floats8 whole; floats4 part[2]; } four = {eight.part[0] + eight.part[1]};
    floats4 sum = four.part[0] + four.part[1];
#elif LANES == 8
    union { floats whole; floats4 part[2]; } four = {value};
    floats4 sum = four.part[0] + four.part[1];
#else
    floats4 sum = value;
#endif
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// The sums of LANES vectors, in order: folded together pair by pair, which is a third of the work of one by one.
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define FOLDS
#if LANES == 16
#define FOLD_8(a, b)                                                        \
    (__builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) + \
     __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31))
#define FOLD_4(a, b)                                                        \
    (__builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) + \
     __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31))
#define FOLD_2(a, b)                                                        \
    (__builtin_shufflevector(a, b, 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29) + \
     __builtin_shufflevector(a, b, 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31))
#define FOLD_1(a, b)                                                        \
    (__builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) + \
     __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31))
#elif LANES == 8
#define FOLD_4(a, b) \
    (__builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11) + __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15))
#define FOLD_2(a, b) \
    (__builtin_shufflevector(a, b, 0, 1, 4, 5, 8, 9, 12, 13) + __builtin_shufflevector(a, b, 2, 3, 6, 7, 10, 11, 14, 15))
#define FOLD_1(a, b) \
    (__builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14) + __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15))
#else
#define FOLD_2(a, b) (__builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7))
#define FOLD_1(a, b) (__builtin_shufflevector(a, b, 0, 2, 4, 6) + __builtin_shufflevector(a, b, 1, 3, 5, 7))
#endif
#endif
#endif

INLINE void sums_of(const floats *vectors, float *sums) {
#ifdef FOLDS
    floats v[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) v[i] = vectors[i];
#if LANES == 16
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) v[i] = FOLD_8(v[2 * i], v[2 * i + 1]);
#endif
#if LANES >= 8
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) v[i] = FOLD_4(v[2 * i], v[2 * i + 1]);
#endif
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) v[i] = FOLD_2(v[2 * i], v[2 * i + 1]);
    store(sums, FOLD_1(v[0], v[1]));
#else
    for (int i = 0; i < LANES; i++) sums[i] = sum_of(vectors[i]);
#endif
}

INLINE int any_of(ints conditions) {
    int64_t parts[LANES / 2], any = 0;
    memcpy(parts, &conditions, sizeof parts);
#pragma GCC unroll 8
    for (int i = 0; i < LANES / 2; i++) any |= parts[i];
    return any != 0;
}

// e^x to 2 units in the last place; x below -87 gives about 1e-38. The power of two is a factor, not added to the
// exponent's bits: a NaN stays one.
INLINE floats exp_of(floats x) {
    x = choose(x < -87.0f, all(-87.0f), choose(x > 88.0f, all(88.0f), x));
    floats shifted = x * 1.44269504f + 12582912.0f; // 1.5 * 2^23: the sum's lowest bits are the rounded number
    floats whole = shifted - 12582912.0f;
    floats rest = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    floats sum = rest * 1.9875691e-4f + 1.3981999e-3f; // minimax coefficients of e^x on half an octave (Cephes)
    sum = sum * rest + 8.3334519e-3f;
    sum = sum * rest + 4.1665796e-2f;
    sum = sum * rest + 1.6666665e-1f;
    sum = sum * rest + 0.5f;
    sum = sum * rest * rest + rest + 1.0f;
    return sum * (floats)(((words)shifted + 127) << 23); // of shifted's bits only those of the number are left
}

// Near zero by its series, where 1 - 2 / (e^2x + 1) would lose digits.
INLINE floats tanh_of(floats x) {
    floats square = x * x;
    floats series = square * (62.0f / 2835) - 17.0f / 315;
    series = series * square + 2.0f / 15;
    series = series * square - 1.0f / 3;
    series = series * square * x + x;
    return choose(square < 0.0625f, series, 1.0f - 2.0f / (exp_of(x * 2.0f) + 1.0f));
}

INLINE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

#endif
