// A vector in the form that suits the type of the matrix it is multiplied with (products.h).
#ifndef PACK_H
#define PACK_H

#include "vectors.h"
#if defined(__AVX512VNNI__) || defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#define EXTRA 64 // bytes after a packed vector: its scale, and 128 times its sum

INLINE int64_t packed_bytes(int64_t inputs) { return inputs * 4 + EXTRA; }

// FLOAT32: as it is. BFLOAT16: rounded to it where the processor multiplies such pairs, which is twice as fast; elsewhere
// as it is, even and odd elements of 32 apart, as weights come out of the two halves of a word.
// INT8: 16 bits, as two planes of 8, and their scale: finer than the weights by far. Where the processor does not multiply
// bytes, as it is, every fourth element of 64 together, as weights come out of the four bytes of a word.
static void pack(const float *from, char *to, int64_t inputs, int64_t type) {
    float *plain = (float *)to;
#if defined(__AVX512BF16__)
    if (type == BFLOAT16) {
        for (int64_t i = 0; i < inputs; i += 32) {
            __m512bh rounded = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + i + 16), _mm512_loadu_ps(from + i));
            memcpy(to + i * 2, &rounded, sizeof rounded);
        }
        return;
    }
#endif
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
        // Of their bits, which without the sign are in the order of the numbers, and a NaN's above all: it is the scale then.
        const __m512i size = _mm512_set1_epi32(0x7fffffff);
        __m512i largest = _mm512_castps_si512(_mm512_set1_ps(1e-30f));
        for (int64_t i = 0; i < inputs; i += 16)
            largest = _mm512_max_epi32(largest, _mm512_and_si512(size, _mm512_loadu_si512(from + i)));
        int32_t bits = _mm512_reduce_max_epi32(largest);
        float scale;
        memcpy(&scale, &bits, sizeof scale);
        scale /= 32512.0f; // 127 * 256: the high byte stays within its range
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
        float sum = 256.0f * _mm512_reduce_add_epi32(high_sum) + _mm512_reduce_add_epi32(low_sum);
        float extra[2] = {scale, 128.0f * sum};
        memcpy(to + inputs * 4, extra, sizeof extra);
        return;
    }
#endif
    if (type == INT8) {
        for (int64_t i = 0; i < inputs; i += 64)
            for (int64_t j = 0; j < 64; j++) plain[i + j % 4 * LANES + j / 4] = from[i + j];
        return;
    }
    memcpy(plain, from, inputs * 4);
}

#endif
