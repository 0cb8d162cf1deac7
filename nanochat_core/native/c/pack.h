// A vector in the form that suits the type of the matrix it is multiplied with (products.h, strips.h).
#ifndef PACK_H
#define PACK_H

#include "vectors.h"
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#define GROUP 32 // inputs that share a scale, in a packed vector and in a row of INT4

// Sums of bytes are of unsigned ones by signed ones where the processor has nothing else: to a weight 128 is added there.
#if defined(__AVX512VNNI__) || (defined(__AVXVNNI__) && !defined(__AVX512F__))
#define UNSIGNED_BY_SIGNED
#define MIDDLE_8 128
#else
#define MIDDLE_8 0
#endif
#define MIDDLE_4 8 // and four bits are always 0 to 15

// Bytes of a packed vector; whole cache lines.
INLINE int64_t packed_bytes(int64_t inputs, int64_t type) {
    int64_t bytes = type == FLOAT32 || type == BFLOAT16 ? inputs * 4 : inputs + inputs / GROUP * 8;
    return (bytes + 63) / 64 * 64;
}

INLINE int32_t bits_of(float value) {
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

INLINE float of_bits(int32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

typedef int8_t few __attribute__((vector_size(LANES)));

// Eight bits for each number: bytes; then for each GROUP its scale (the largest number is 127 of it), then what the products
// will have too much, because of the middle of the weights.
static void pack_whole(const float *from, char *to, int64_t inputs, int32_t middle) {
    float *scales = (float *)(to + inputs);
    int32_t *too_much = (int32_t *)(scales + inputs / GROUP);
    for (int64_t group = 0; group < inputs / GROUP; group++, from += GROUP, to += GROUP) {
        // By their bits, which without the sign are in the order of the numbers, and a NaN's above all: it is the scale then.
        ints most = {0}, sums = {0};
        for (int i = 0; i < GROUP; i += LANES) {
            ints size = (ints)load(from + i) & 0x7fffffff;
            most = (ints)choose(size > most, (floats)size, (floats)most);
        }
        int32_t largest = bits_of(1e-30f), sum = 0;
        for (int lane = 0; lane < LANES; lane++) largest = most[lane] > largest ? most[lane] : largest;
        float inverse = 127.0f / of_bits(largest);
        for (int i = 0; i < GROUP; i += LANES) {
            floats number = load(from + i) * inverse;
            KEEP(number); // rounded before the sum, as torch has it
            ints bits = (ints)(number + 12582912.0f); // 1.5 * 2^23: the sum's lowest bits are the rounded number
            few whole = __builtin_convertvector(bits, few);
            memcpy(to + i, &whole, sizeof whole);
            sums += (ints)((words)bits << 24) >> 24;
        }
        for (int lane = 0; lane < LANES; lane++) sum += sums[lane];
        scales[group] = of_bits(largest) / 127.0f;
        too_much[group] = middle * sum;
    }
}

// FLOAT32: as it is. BFLOAT16: rounded to it where the processor multiplies such pairs, which is twice as fast; elsewhere
// as it is, even and odd elements apart, as weights come out of the two halves of a word. INT8 and INT4: in eight bits.
static void pack(const float *from, char *to, int64_t inputs, int64_t type) {
    if (type == INT8) {
        pack_whole(from, to, inputs, MIDDLE_8);
    } else if (type == INT4) {
        pack_whole(from, to, inputs, MIDDLE_4);
    } else if (type == FLOAT32) {
        memcpy(to, from, inputs * 4);
    } else {
#if defined(__AVX512BF16__)
        for (int64_t i = 0; i < inputs; i += 32) {
            __m512bh rounded = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + i + 16), _mm512_loadu_ps(from + i));
            memcpy(to + i * 2, &rounded, sizeof rounded);
        }
#else
        float *plain = (float *)to;
        for (int64_t i = 0; i < inputs; i += 2 * LANES)
            for (int64_t j = 0; j < LANES; j++) {
                plain[i + j] = from[i + 2 * j];
                plain[i + LANES + j] = from[i + 2 * j + 1];
            }
#endif
    }
}

#endif
