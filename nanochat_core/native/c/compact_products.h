// Products of rows in 28 bits a weight (compact.h): of the same numbers in the same order as those of fp32, so to the same bits.
//
// For one vector weights go from registers into its sums. For several they are put into memory first, a block at a time, which the
// first cache holds beside some of the vectors: a block's rows share each load of a vector.
#ifndef COMPACT_PRODUCTS_H
#define COMPACT_PRODUCTS_H

#include "compact.h"

#define AHEAD_OF_COMPACT 1024 // for one vector: on a Zen 4 with AVX2, 2560 took a quarter longer, as if nothing were fetched
#define COLUMNS 8             // chunks of a block; of rows that are not much longer, all
#define MOST_COLUMNS 12
#define GROUP_ROWS 12 // whose sums wait from block to block; the next ones' weights are fetched into the second cache

typedef struct {
    const char *rows;
    const int64_t *notes;
    int64_t inputs;
} compact;

INLINE const char *extra_of(const odd_chunk **odd, uint32_t chunk) {
    if (__builtin_expect((*odd)->chunk != chunk, 1)) return 0;
    return (*odd)++->bits;
}

// A row . the vector, in as many sums as dot_float has.
INLINE float dot_compact(const compact *a, int64_t row, const char *vector) {
    const char *chunk = a->rows + row * compact_bytes(a->inputs);
    const odd_chunk *odd = odd_chunks_of(a->notes, row, 0);
    tops table = tops_of(a->notes, row);
    floats sums[4] = {0};
    for (uint32_t c = 0; c < a->inputs / CHUNK; c++, chunk += CHUNK_BYTES, vector += CHUNK * 4) {
        const char *extra = extra_of(&odd, c);
#pragma GCC unroll 4
        for (int byte = 0; byte < CHUNK_BYTES; byte += 64) __builtin_prefetch(chunk + byte + AHEAD_OF_COMPACT, 0, 2);
#pragma GCC unroll 4
        for (int part = 0; part < PARTS; part++) {
            floats weights[4];
            expand(chunk, part, table, extra, weights);
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++) sums[k] += weights[k] * load((const float *)vector + part * PART + k * LANES);
        }
    }
    return sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// Some rows from `row` on, of them the chunks from `begin` to `end`.
typedef struct {
    int64_t row, begin, end;
    int begins, ends; // whether they are the rows' first, and their last
    int64_t kept;     // the place of the first row in its group
    float weights[SOME_ROWS][MOST_COLUMNS * CHUNK];
} compact_block;

static void expand_block(const compact *a, compact_block *b, int64_t rows) {
    for (int64_t r = 0; r < rows; r++) {
        const char *chunk = a->rows + (b->row + r) * compact_bytes(a->inputs) + b->begin * CHUNK_BYTES;
        const odd_chunk *odd = odd_chunks_of(a->notes, b->row + r, b->begin);
        tops table = tops_of(a->notes, b->row + r);
        float *to = b->weights[r];
        for (int64_t c = b->begin; c < b->end; c++, chunk += CHUNK_BYTES, to += CHUNK) expand_chunk(chunk, table, extra_of(&odd, (uint32_t)c), to);
    }
}

// R rows of a block by M vectors. The sums go on from `kept`, and wait there for the rows' next block.
INLINE void dots_compact(const compact_block *b, const char *ahead, int64_t lines, const char *vectors, int64_t apart, int R, int M, floats (*kept)[MOST], float *out, int64_t out_apart) {
    floats sums[SOME_ROWS][MOST] = {0};
    if (!b->begins)
#pragma GCC unroll 4
        for (int r = 0; r < R; r++)
#pragma GCC unroll 8
            for (int m = 0; m < M; m++) sums[r][m] = kept[r][m];
    for (int64_t chunk = 0; chunk < (b->end - b->begin) * CHUNK; chunk += CHUNK) {
        for (int64_t line = 0; line < lines; line++, ahead += 64) __builtin_prefetch(ahead, 0, 2);
#pragma GCC unroll 2
        for (int64_t i = chunk; i < chunk + CHUNK; i += LANES) {
            floats weights[SOME_ROWS];
#pragma GCC unroll 4
            for (int r = 0; r < R; r++) weights[r] = load(b->weights[r] + i);
            add_products(sums, weights, vectors + i * 4, apart, R, M);
        }
    }
    if (b->ends) {
        sum_up(sums, R, M, out, out_apart);
        return;
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) kept[r][m] = sums[r][m];
}

typedef void (*compact_dots)(const compact_block *, const char *, int64_t, const char *, int64_t, floats (*)[MOST], float *, int64_t);

#define COMPACT_DOTS(R, M)                                                                                                                       \
    static void compact_##R##_##M(const compact_block *b, const char *ahead, int64_t lines, const char *vectors, int64_t apart,                  \
                                  floats (*kept)[MOST], float *out, int64_t out_apart) {                                                         \
        dots_compact(b, ahead, lines, vectors, apart, R, M, kept, out, out_apart);                                                               \
    }
#define ALL_COMPACT_DOTS(R) COMPACT_DOTS(R, 1) COMPACT_DOTS(R, 2) COMPACT_DOTS(R, 4) COMPACT_DOTS(R, 8)
ALL_COMPACT_DOTS(1) ALL_COMPACT_DOTS(3)
static const compact_dots all_compact_dots[2][4] = {
    {compact_1_1, compact_1_2, compact_1_4, compact_1_8},
    {compact_3_1, compact_3_2, compact_3_4, compact_3_8},
};

// Rows of a block by all vectors. Each few of them fetch a share of what `ahead` has, bit by bit: all at once would be waited for.
static void multiply_block(const compact_block *b, int64_t rows, const char *ahead, const char *vectors, int64_t apart, int64_t count, floats (*kept)[GROUP_ROWS][MOST], float *out, int64_t out_apart) {
    int64_t chunks = b->end - b->begin, passes = (count + SOME_VECTORS - 1) / SOME_VECTORS;
    int64_t lines = rows * CHUNK_BYTES / (64 * passes) + 1; // with each chunk
    vectors += b->begin * CHUNK * 4;
    for (int64_t m = 0, some; m < count; m += some, kept++) {
        int power = count - m >= 8 ? 3 : count - m >= 4 ? 2 : count - m >= 2 ? 1 : 0;
        if (1 << power > SOME_VECTORS) power--;
        some = 1 << power;
        all_compact_dots[rows > 1][power](b, ahead, lines, vectors + m * apart, apart, *kept + b->kept, out + m * out_apart, out_apart);
        ahead += lines * 64 * chunks;
    }
}

// Rows `from` to `to` by at most AT_ONCE vectors.
static void product_of_compact(const compact *a, int64_t from, int64_t to, const char *vectors, int64_t apart, int64_t count, float *out, int64_t out_apart) {
    if (count == 1) {
        for (int64_t row = from; row < to; row++) out[row - from] = dot_compact(a, row, vectors);
        return;
    }
    int64_t chunks = a->inputs / CHUNK, parts = chunks <= MOST_COLUMNS ? 1 : (chunks + COLUMNS - 1) / COLUMNS, columns = (chunks + parts - 1) / parts, size = compact_bytes(a->inputs);
    floats kept[AT_ONCE / SOME_VECTORS + 3][GROUP_ROWS][MOST]; // + 3: the last vectors by four, two and one
    compact_block b;
    for (int64_t group = from, until; group < to; group = until) {
        until = to - group < GROUP_ROWS ? to : group + GROUP_ROWS;
        const char *ahead = a->rows + (group + GROUP_ROWS) * size;
        for (b.begin = 0; b.begin < chunks; b.begin = b.end) {
            b.end = chunks - b.begin < columns ? chunks : b.begin + columns;
            b.begins = b.begin == 0, b.ends = b.end == chunks;
            for (int64_t rows, row = group; row < until; row += rows) {
                rows = until - row < SOME_ROWS ? 1 : SOME_ROWS, b.row = row, b.kept = row - group;
                expand_block(a, &b, rows);
                multiply_block(&b, rows, ahead, vectors, apart, count, kept, out + row - from, out_apart);
                ahead += rows * (b.end - b.begin) * CHUNK_BYTES;
            }
        }
    }
}

#endif
