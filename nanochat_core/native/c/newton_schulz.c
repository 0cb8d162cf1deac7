// Muon's Newton-Schulz steps on one matrix in bf16, where no product is packed again for the next one.
//
// A tall matrix is treated as its transpose: W is wide, (small, large). A step is W <- QW with Q = a + bG + cG^2, G = WW'.
// Several make one pass over W: the next one's G is G Q^2, for all of these are polynomials of one matrix.
//
// Sizes are filled up with zeros, which stay zeros, to multiples of 16. Sums are fp32. Needs AVX512-BF16. Called by
// newton_schulz.py, whose structure mirrors `request`.
#include <stdint.h>

#define MOST_STEPS 5

typedef struct {
    int64_t rows, columns;
    const float *from; // (rows, columns)
    float *to;         // the same, and may be the same memory
    uint32_t *memory;  // newton_schulz_words of it, at a multiple of 64 bytes
    const float *norm; // by which it is divided
    double coefficients[3];
    int64_t passes[MOST_STEPS]; // steps in each pass, then zeros
    int64_t threads;
} request;

#ifdef __AVX512BF16__
#include "centred.h"

typedef struct {
    job job;
    const request *request;
} task;

// What each thread knows.
typedef struct {
    const request *request;
    place place;
    int is_tall;
    int64_t small, large;    // in blocks
    panels w, other, turned; // W, room for the next one, and W'
    centred gram, half, factor, product, last;
} worker;

static int64_t blocks(int64_t size) { return (size + PANEL - 1) / PANEL; }

static void swap(centred *one, centred *other) {
    centred kept = *one;
    *one = *other;
    *other = kept;
}

// The product of the Qs of so many steps.
static void make_factor(worker *w, int64_t steps) {
    const double *coefficients = w->request->coefficients;
    gram(&w->place, w->turned, &w->gram);
    polynomial(&w->place, &w->gram, coefficients, &w->factor);
    for (int64_t step = 1; step < steps; step++) {
        const centred *last = step == 1 ? &w->factor : &w->last;
        commuting(&w->place, &w->gram, last, &w->half);
        commuting(&w->place, &w->half, last, &w->gram);
        polynomial(&w->place, &w->gram, coefficients, &w->last);
        commuting(&w->place, &w->last, &w->factor, &w->product);
        swap(&w->factor, &w->product);
    }
}

// W <- factor W.
static void change_w(worker *w) {
    panels next = w->other;
    for (int64_t column; (column = take_one(&w->place)) < w->large;)
        for (int64_t row = 0; row < w->small; row++) {
            __m512 sums[PANEL];
            multiply_panels(block_of(w->factor.rest, 0, row), block_of(w->w, 0, column), w->small, sums);
            add_block(sums, w->factor.mean, block_of(w->w, row, column));
            write_upright(sums, block_of(next, row, column));
            write_turned(sums, block_of(w->turned, column, row));
        }
    next_phase(&w->place);
    w->other = w->w;
    w->w = next;
}

// factor W into `to`; of a tall matrix W' factor.
static void write_result(worker *w) {
    const request *r = w->request;
    panels as_given = w->is_tall ? w->turned : w->w;
    panels a = w->is_tall ? w->w : w->factor.rest, b = w->is_tall ? w->factor.rest : w->w;
    for (int64_t row; (row = take_one(&w->place)) < blocks(r->rows);)
        for (int64_t column = 0; column < blocks(r->columns); column++) {
            __m512 sums[PANEL];
            multiply_panels(block_of(a, 0, row), block_of(b, 0, column), w->small, sums);
            add_block(sums, w->factor.mean, block_of(as_given, row, column));
            __mmask16 lanes = lanes_below(r->columns - column * PANEL);
            float *to = r->to + row * PANEL * r->columns + column * PANEL;
#pragma GCC unroll 16
            for (int64_t i = 0; i < PANEL; i++)
                if (row * PANEL + i < r->rows) _mm512_mask_storeu_ps(to + i * r->columns, lanes, sums[i]);
        }
}

static void load(worker *w) {
    const request *r = w->request;
    __m512 scale = _mm512_set1_ps(1 / *r->norm);
    panels as_given = w->is_tall ? w->turned : w->w, turned = w->is_tall ? w->w : w->turned;
    for (int64_t row; (row = take_one(&w->place)) < blocks(r->rows);)
        for (int64_t column = 0; column < blocks(r->columns); column++) {
            __mmask16 lanes = lanes_below(r->columns - column * PANEL);
            const float *from = r->from + row * PANEL * r->columns + column * PANEL;
            __m512 rows[PANEL];
#pragma GCC unroll 16
            for (int64_t i = 0; i < PANEL; i++) {
                rows[i] = _mm512_setzero_ps();
                if (row * PANEL + i < r->rows) rows[i] = _mm512_maskz_loadu_ps(lanes, from + i * r->columns);
                rows[i] = _mm512_mul_ps(rows[i], scale);
            }
            write_upright(rows, block_of(as_given, row, column));
            write_turned(rows, block_of(turned, column, row));
        }
    next_phase(&w->place);
}

static panels new_panels(uint32_t **memory, int64_t depth, int64_t columns) {
    panels made = {*memory, depth};
    *memory += depth * columns * BLOCK;
    return made;
}

static centred new_centred(uint32_t **memory, int64_t size) {
    centred made = {.rest = new_panels(memory, size, size), .exact = (float *)*memory};
    *memory += size * (size + 1) * BLOCK;
    return made;
}

static void work(void *context) {
    task *task = context;
    const request *r = task->request;
    worker w = {.request = r, .place = {.job = &task->job}, .is_tall = r->rows > r->columns};
    w.small = blocks(w.is_tall ? r->columns : r->rows);
    w.large = blocks(w.is_tall ? r->rows : r->columns);
    uint32_t *memory = r->memory;
    w.w = new_panels(&memory, w.small, w.large);
    w.other = new_panels(&memory, w.small, w.large);
    w.turned = new_panels(&memory, w.large, w.small);
    centred *squares[] = {&w.gram, &w.half, &w.factor, &w.product, &w.last};
    for (int i = 0; i < 5; i++) *squares[i] = new_centred(&memory, w.small);
    load(&w);
    for (int pass = 0; pass < MOST_STEPS && r->passes[pass]; pass++) {
        make_factor(&w, r->passes[pass]);
        if (pass + 1 < MOST_STEPS && r->passes[pass + 1]) change_w(&w);
        else write_result(&w);
    }
}

int64_t newton_schulz_exists(void) { return 1; }

// What a matrix of these sizes, small <= large, needs.
int64_t newton_schulz_words(int64_t small, int64_t large) {
    small = blocks(small);
    large = blocks(large);
    return (3 * large + 5 * (2 * small + 1)) * small * BLOCK;
}

void newton_schulz(const request *request) {
    int64_t size = request->rows < request->columns ? request->rows : request->columns;
    task task = {.job = {.size = size}, .request = request};
    run_together((int)request->threads, work, &task, &task.job.threads);
}

#else

int64_t newton_schulz_exists(void) { return 0; }
int64_t newton_schulz_words(int64_t small, int64_t large) { return 0 * small * large; }
void newton_schulz(const request *request) { (void)request; }

#endif
