// A vector in the form that suits the type of the matrix it is multiplied with (products.h, strips.h).
#ifndef PACK_H
#define PACK_H

#include "vectors.h"
#if defined(__x86_64__)
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
#if defined(__AVX2__) && !defined(UNSIGNED_BY_SIGNED)
#define BYTES_8 2 // of a number, for INT8
#define BY_PAIRS  // sums are of two parts, of 16 bits each, for INT4
#else
#define BYTES_8 1
#endif

// Of a GROUP of whole numbers: they themselves, their scale and what a sum of their products begins with, so that one
// address is enough for all three.
INLINE int64_t group_bytes(int64_t type) { return GROUP * (type == INT8 ? BYTES_8 : 1) + 8; }

// Bytes of a packed vector: whole cache lines, and so many that those of several vectors spread over a cache. At distances of
// powers of two they would push each other out of a few places: eight vectors of 2048 took 1.8 times as long.
INLINE int64_t packed_bytes(int64_t inputs, int64_t type) {
    int64_t bytes = type == INT8 || type == INT4 ? inputs / GROUP * group_bytes(type) : inputs * 4, lines = (bytes + 63) / 64 | 1;
    return (lines > 64 && lines % 64 < 9 ? lines + 8 : lines) * 64;
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
typedef int32_t ints4 __attribute__((vector_size(16)));

// A GROUP of whole numbers of eight bits: bytes; or as BYTES_8 has them, of each four the first and third, then the others,
// as the weights come out of words of 16 bits.
INLINE void put_whole(const ints *whole, char *to, int64_t bytes) {
#if BYTES_8 == 2
    __m256i halves[2];
    for (int i = 0; i < 2; i++) halves[i] = _mm256_permute4x64_epi64(_mm256_packs_epi32((__m256i)whole[2 * i], (__m256i)whole[2 * i + 1]), 0xd8);
    __m256i order = _mm256_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15, 0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15);
    if (bytes == 1) _mm256_storeu_si256((__m256i *)to, _mm256_permute4x64_epi64(_mm256_packs_epi16(halves[0], halves[1]), 0xd8));
    else
        for (int i = 0; i < 2; i++) _mm256_storeu_si256((__m256i *)to + i, _mm256_shuffle_epi8(halves[i], order));
#else
    for (int i = 0; i < GROUP / LANES; i++) {
        few bytes = __builtin_convertvector(whole[i], few);
        memcpy(to + i * LANES, &bytes, sizeof bytes);
    }
#endif
}

// Of each GROUP the scale is such that the largest number is 127 of it.
INLINE void pack_whole(const float *from, char *to, int64_t inputs, int64_t bytes, int32_t middle) {
    for (int64_t group = 0; group < inputs / GROUP; group++, from += GROUP) {
        // By their bits, which without the sign are in the order of the numbers, and a NaN's above all: it is the scale then.
        ints most = {0}, sums = {0}, whole[GROUP / LANES];
        for (int i = 0; i < GROUP / LANES; i++) {
            ints size = (ints)load(from + i * LANES) & 0x7fffffff;
            most = (ints)choose(size > most, (floats)size, (floats)most);
        }
        ints4 parts[LANES / 4];
        memcpy(parts, &most, sizeof most);
        for (int i = 1; i < LANES / 4; i++) parts[0] = ((parts[i] > parts[0]) & parts[i]) | (~(parts[i] > parts[0]) & parts[0]);
        int32_t largest = bits_of(1e-30f);
        for (int lane = 0; lane < 4; lane++) largest = parts[0][lane] > largest ? parts[0][lane] : largest;
        float inverse = 127.0f / of_bits(largest);
        for (int i = 0; i < GROUP / LANES; i++) {
            floats number = load(from + i * LANES) * inverse;
            KEEP(number); // rounded before the sum, as torch has it
            words bits = (words)(number + 12582912.0f); // 1.5 * 2^23: the sum's lowest bits are the rounded number
            whole[i] = (ints)(bits << 24) >> 24;
            sums += whole[i];
        }
        put_whole(whole, to, bytes);
        memcpy(parts, &sums, sizeof sums);
        for (int i = 1; i < LANES / 4; i++) parts[0] += parts[i];
        int32_t begin = -middle * (parts[0][0] + parts[0][1] + parts[0][2] + parts[0][3]);
        float scale = of_bits(largest) / 127.0f;
#if defined(BY_PAIRS) // half of it for each
        begin = (begin / 2 & 0xffff) | (int32_t)((uint32_t)(begin / 2) << 16);
#endif
        to += GROUP * bytes;
        memcpy(to, &scale, 4);
        memcpy(to + 4, &begin, 4);
        to += 8;
    }
}

// FLOAT32 and COMPACT: as it is. BFLOAT16: rounded to it where the processor multiplies such pairs, which is twice as fast; elsewhere
// as it is, even and odd elements apart, as weights come out of the two halves of a word. INT8 and INT4: in eight bits.
static void pack(const float *from, char *to, int64_t inputs, int64_t type) {
    if (type == INT8) {
        pack_whole(from, to, inputs, BYTES_8, MIDDLE_8);
    } else if (type == INT4) {
        pack_whole(from, to, inputs, 1, MIDDLE_4);
    } else if (type != BFLOAT16) {
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
