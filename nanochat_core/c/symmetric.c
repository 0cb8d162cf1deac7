// Products of bf16 matrices that are known to be symmetric: the half above the diagonal is computed, and mirrored.
//
// Needs AVX512-BF16, whose instruction multiplies pairs of neighbours in k: both factors are packed into panels of 16
// columns, each row of a panel holding the pairs (2k, 2k+1) of its columns. Sums are fp32 and rounded once. Compiled by
// native.py; called by symmetric.py, whose structure mirrors `product`.
#include "team.h"

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

typedef struct {
    int64_t size, depth;      // out is (size, size), a sum over depth
    const uint16_t *a, *b;    // (depth, size); b null: the same as a
    int64_t a_is_transposed;  // a is (size, depth)
    uint32_t *a_packed, *b_packed;
    const uint16_t *plus;     // (size, size), null: nothing
    uint16_t *out;            // alpha * a' b + beta * plus + shift * identity
    double alpha, beta, shift;
    int64_t threads;
} product;

#ifdef __AVX512BF16__

#define PANEL 16

typedef struct {
    const product *product;
    int threads;
    atomic_llong packed_a, packed_b, computed;
} job;

static void pack(const uint16_t *from, int64_t size, int64_t depth, int64_t panel, uint32_t *to) {
    for (int64_t k = 0; k < depth; k += 2, to += PANEL) {
        const uint16_t *even = from + k * size + panel * PANEL;
        __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)even));
        __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(even + size)));
        _mm512_store_si512(to, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
}

static void pack_transposed(const uint16_t *from, int64_t depth, int64_t panel, uint32_t *to) {
    for (int64_t pair = 0; pair < depth / 2; pair += 8) // by 8, so that a line read is used at once
        for (int64_t column = 0; column < PANEL; column++) {
            const uint32_t *pairs = (const uint32_t *)(from + (panel * PANEL + column) * depth) + pair;
            for (int k = 0; k < 8; k++) to[(pair + k) * PANEL + column] = pairs[k];
        }
}

static inline void multiply(const uint32_t *a, const uint32_t *b, int64_t pairs, __m512 *sums) {
    for (int i = 0; i < PANEL; i++) sums[i] = _mm512_setzero_ps();
    for (int64_t k = 0; k < pairs; k++, a += PANEL, b += PANEL) {
        __m512bh columns = (__m512bh)_mm512_load_si512(b);
#pragma GCC unroll 16
        for (int i = 0; i < PANEL; i++)
            sums[i] = _mm512_dpbf16_ps(sums[i], (__m512bh)_mm512_set1_epi32((int)a[i]), columns);
    }
}

// 8 x 8 numbers: each round turns the address (row, column), 3 bits each, left by one bit.
static void transpose(const uint16_t *from, uint16_t *to, int64_t apart) {
    __m128i x[8], y[8];
    for (int i = 0; i < 8; i++) x[i] = _mm_load_si128((const __m128i *)(from + i * PANEL));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 4; i++) {
            y[2 * i] = _mm_unpacklo_epi16(x[i], x[i + 4]);
            y[2 * i + 1] = _mm_unpackhi_epi16(x[i], x[i + 4]);
        }
        for (int i = 0; i < 8; i++) x[i] = y[i];
    }
    for (int i = 0; i < 8; i++) _mm_storeu_si128((__m128i *)(to + i * apart), x[i]);
}

// The block at (row, column), in panels, and its mirror image.
static void write_block(const product *p, int64_t row, int64_t column, const __m512 *sums) {
    uint16_t rounded[PANEL][PANEL] __attribute__((aligned(64)));
    for (int i = 0; i < PANEL; i++) {
        int64_t place = (row * PANEL + i) * p->size + column * PANEL;
        __m512 values = _mm512_mul_ps(sums[i], _mm512_set1_ps((float)p->alpha));
        if (p->plus) {
            __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(p->plus + place)));
            __m512 added = _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
            values = _mm512_fmadd_ps(added, _mm512_set1_ps((float)p->beta), values);
        }
        if (row == column)
            values = _mm512_mask_add_ps(values, (__mmask16)(1 << i), values, _mm512_set1_ps((float)p->shift));
        __m256i narrow = (__m256i)_mm512_cvtneps_pbh(values);
        _mm256_storeu_si256((__m256i *)(p->out + place), narrow);
        _mm256_store_si256((__m256i *)rounded[i], narrow);
    }
    if (row == column) return;
    uint16_t *mirrored = p->out + column * PANEL * p->size + row * PANEL;
    for (int i = 0; i < PANEL; i += 8)
        for (int j = 0; j < PANEL; j += 8) transpose(&rounded[i][j], mirrored + j * p->size + i, p->size);
}

static void work(void *context) {
    job *job = context;
    const product *p = job->product;
    int64_t panels = p->size / PANEL, apart = p->depth / 2 * PANEL;
    for (int64_t i; (i = take(&job->packed_a, 1)) < panels;)
        if (p->a_is_transposed) pack_transposed(p->a, p->depth, i, p->a_packed + i * apart);
        else pack(p->a, p->size, p->depth, i, p->a_packed + i * apart);
    for (int64_t i; p->b && (i = take(&job->packed_b, 1)) < panels;)
        pack(p->b, p->size, p->depth, i, p->b_packed + i * apart);
    meet(job->threads);
    const uint32_t *b = p->b ? p->b_packed : p->a_packed;
    for (int64_t i; (i = take(&job->computed, 1)) < panels;) {
        int64_t column = panels - 1 - i; // the longest first
        for (int64_t row = 0; row <= column; row++) {
            __m512 sums[PANEL];
            multiply(p->a_packed + row * apart, b + column * apart, p->depth / 2, sums);
            write_block(p, row, column, sums);
        }
    }
}

int64_t symmetric_product_exists(void) { return 1; }

// size must be a multiple of 16, depth of 16; what is packed takes size * depth / 2 words, at a multiple of 64 bytes.
void symmetric_product(const product *product) {
    job job = {.product = product};
    run_together((int)product->threads, work, &job, &job.threads);
}

#else

int64_t symmetric_product_exists(void) { return 0; }
void symmetric_product(const product *product) { (void)product; }

#endif
