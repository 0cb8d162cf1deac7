// Matrices of bf16 in panels, as AVX512-BF16 multiplies them: 16 columns a panel, each row of it the pairs (2k, 2k + 1) of
// its columns in one register. What a product gives is written as the next one reads it, upright, turned or both.
#ifndef PANELS_H
#define PANELS_H

#include <immintrin.h>
#include <stdint.h>

#define PANEL 16
#define BLOCK (PANEL * PANEL / 2) // words of 16 x 16 numbers, which lie together
#define INLINE static inline __attribute__((always_inline))

typedef struct {
    uint32_t *words; // null: no matrix
    int64_t depth;   // rows, in blocks
} panels;

INLINE uint32_t *block_of(panels matrix, int64_t row, int64_t column) {
    return matrix.words + (column * matrix.depth + row) * BLOCK;
}

// sums = a' b for a panel of each, over `depth` blocks.
INLINE void multiply_panels(const uint32_t *a, const uint32_t *b, int64_t depth, __m512 *sums) {
#pragma GCC unroll 16
    for (int i = 0; i < PANEL; i++) sums[i] = _mm512_setzero_ps();
    for (int64_t k = 0; k < depth * PANEL / 2; k++, a += PANEL, b += PANEL) {
        __m512i columns = _mm512_load_si512(b);
#pragma GCC unroll 16
        for (int i = 0; i < PANEL; i++) // in assembler, because gcc copies the sums to and fro around its intrinsic
            __asm__("vdpbf16ps %2, %1, %0" : "+v"(sums[i]) : "v"(columns), "v"(_mm512_set1_epi32((int)a[i])));
    }
}

INLINE __m512i rounded(__m512 low, __m512 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

// 16 x 16 numbers into a block: row 2k beside row 2k + 1.
INLINE void write_upright(const __m512 *rows, uint32_t *block) {
    __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18,
                                     2, 17, 1, 16, 0);
#pragma GCC unroll 8
    for (int k = 0; k < PANEL / 2; k++)
        _mm512_store_si512(block + k * PANEL, _mm512_permutexvar_epi16(order, rounded(rows[2 * k], rows[2 * k + 1])));
}

// The transpose of 16 x 16 numbers into a block: pairs of a row are words already, so that words change places.
INLINE void write_turned(const __m512 *rows, uint32_t *block) {
    __m512i turned[2][4];
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
        __m512i pairs[4], mixed[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) pairs[i] = rounded(rows[8 * half + i], rows[8 * half + i + 4]);
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            mixed[i] = _mm512_unpacklo_epi32(pairs[2 * i], pairs[2 * i + 1]);
            mixed[i + 2] = _mm512_unpackhi_epi32(pairs[2 * i], pairs[2 * i + 1]);
        }
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            turned[half][2 * i] = _mm512_unpacklo_epi64(mixed[2 * i], mixed[2 * i + 1]);
            turned[half][2 * i + 1] = _mm512_unpackhi_epi64(mixed[2 * i], mixed[2 * i + 1]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) { // lanes: words i and i + 4 of rows 0 to 3 of a half, then of its rows 4 to 7
        _mm512_store_si512(block + i * PANEL, _mm512_shuffle_i32x4(turned[0][i], turned[1][i], 0x88));
        _mm512_store_si512(block + (i + 4) * PANEL, _mm512_shuffle_i32x4(turned[0][i], turned[1][i], 0xdd));
    }
}

// rows += weight * the block.
INLINE void add_block(__m512 *rows, float weight, const uint32_t *block) {
    __m512 times = _mm512_set1_ps(weight);
#pragma GCC unroll 8
    for (int k = 0; k < PANEL / 2; k++) {
        __m512i pairs = _mm512_load_si512(block + k * PANEL);
        __m512 odd = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xffff0000)));
        rows[2 * k] = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)), times, rows[2 * k]);
        rows[2 * k + 1] = _mm512_fmadd_ps(odd, times, rows[2 * k + 1]);
    }
}

INLINE __mmask16 lanes_below(int64_t count) { return count >= PANEL ? 0xffff : count <= 0 ? 0 : (__mmask16)((1 << count) - 1); }

#endif
