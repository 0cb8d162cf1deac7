// Sixteen floats at a time, in the vector extensions of gcc and clang: one text for AVX-512, AVX2 and NEON.
#ifndef VECTORS_H
#define VECTORS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LANES 16
#define INLINE static inline __attribute__((always_inline))

typedef float floats __attribute__((vector_size(64)));
typedef float floats8 __attribute__((vector_size(32)));
typedef float floats4 __attribute__((vector_size(16)));
typedef int32_t ints __attribute__((vector_size(64)));
typedef uint32_t words __attribute__((vector_size(64)));
typedef uint16_t halves __attribute__((vector_size(32)));
typedef int8_t bytes16 __attribute__((vector_size(16)));

enum type { FLOAT32 = 0, BFLOAT16 = 1, INT8 = 2 };

INLINE int64_t size_of(int64_t type) { return type == FLOAT32 ? 4 : type == BFLOAT16 ? 2 : 1; }

INLINE floats all(float value) { return value - (floats){0}; }

INLINE floats load(const float *from) {
    floats value;
    memcpy(&value, from, sizeof value);
    return value;
}

INLINE void store(float *to, floats value) { memcpy(to, &value, sizeof value); }

// Sixteen values of a tensor of `type` from element `index` on.
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

// Rounded to nearest, ties to even, as torch does.
INLINE void store_as(void *to, int64_t index, floats value, int64_t type) {
    if (type == FLOAT32) {
        store((float *)to + index, value);
        return;
    }
    words bits = (words)value;
    halves half = __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, halves);
    memcpy((uint16_t *)to + index, &half, sizeof half);
}

INLINE float sum_of(floats value) {
    union { floats whole; floats8 part[2]; } eight = {value};
    union { floats8 whole; floats4 part[2]; } four = {eight.part[0] + eight.part[1]};
    floats4 sum = four.part[0] + four.part[1];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

INLINE floats choose(ints condition, floats yes, floats no) {
    return (floats)((condition & (ints)yes) | (~condition & (ints)no));
}

// e^x to 2 units in the last place; x below -87 gives about 1e-38.
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
    return (floats)((ints)sum + (((ints)shifted - 0x4b400000) << 23));
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
