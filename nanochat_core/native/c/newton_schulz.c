// Muon's Newton-Schulz steps on one matrix, all in one call, for processors with AVX512-BF16. panels.h says how a
// matrix lies in memory and is multiplied, centred.h multiplies symmetric ones, team.h has the threads; the steps are here.
//
// What is computed. Five steps W <- QW, Q = a + bG + cG^2, G = WW', for W = X / norm, (small, large); a tall X is treated as
// its transpose. muon.py computes the same by torch's operators, and asks this instead where can_orthogonalize
// (newton_schulz.py) allows it: on a CPU with AVX512-BF16 and without AMX, with which torch's products are faster. Built for
// another processor, this file says that it has nothing. newton_schulz.py mirrors `request`.
//
// In which layout. vdpbf16ps multiplies pairs: a panel is 16 columns, and a row of it the pairs (2k, 2k + 1) of each. A
// product leaves its 16 x 16 sums in 16 registers, in fp32, and writes them as the products that follow read them: `w`
// upright for QW, `turned` (W') for G. So nothing is packed again between two products, as it is by torch's operators.
// Sizes are filled up to multiples of 16 with zeros, which stay zeros.
//
// Why it is more exact. A symmetric matrix is kept as the mean of its diagonal and a rest (centred.h): the means multiply
// in fp32, and the 8 bits of bf16 are those of the rest alone, which is small. Where the rest is added it is read in fp32.
//
// Why two passes. Two steps need W once: the second one's G is G Q^2, since all of these are polynomials of one matrix, and
// small^3 costs less than small^2 large. But what bf16 lost of G's smallest values grows by a^2 = 12 with each step, until
// G is made from W again. So wide matrices take the five steps as 3 + 2 (passes_over), the others one by one.
//
// Distance from fp64, in % of the result, of 512 x 2048 with singular values i^-decay; and time on one core of a Zen 4:
//
//     decay                     0.3    0.5    1.0    1.5   | 512 x 512   512 x 2048
//     torch.optim.Muon          0.93   0.97   3.02   9.26  |   20 ms        63 ms
//     muon.py                   0.67   0.70   2.92   8.60  |   20           45
//     here, 1 + 1 + 1 + 1 + 1   0.45   0.54   3.01   9.25  |   13           41
//     here, 3 + 2               0.31   0.39   2.58   8.37  |   13           25
//     here, 5                   0.22   0.45    29    389   |
//
// There it makes a d8 step of 32 conversations 4% to 5% shorter than muon.py would, and 6% to 7% than torch.optim.Muon.
#include "layout.h"

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

EXPORT_LAYOUT(request, threads);

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

// The product of the Qs of so many steps. Each further step costs four products of small^3, halved, and no look at W.
static void make_factor(worker *w, int64_t steps) {
    const double *coefficients = w->request->coefficients;
    gram(&w->place, w->turned, &w->gram);
    polynomial(&w->place, &w->gram, coefficients, &w->factor);
    for (int64_t step = 1; step < steps; step++) {
        const centred *last = step == 1 ? &w->factor : &w->last;
        commuting(&w->place, &w->gram, last, &w->half); // G Q, then G Q^2: the G of what the last step made of W
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
