// The decode step: a few new tokens of each row of a cache, through the whole model to their logits, in one call.
//
// The formulae are those of gpt.py, generations A to E. Activations are fp32, rounded only as inputs of a product (pack.h).
// Compiled by native/build.py; called by model/decode_step.py, whose structures mirror layer, shape and request.
#include <stdlib.h>

#include "attend.h"
#include "choose.h"
#include "layout.h"
#include "pack.h"
#include "products.h"
#include "team.h"
#include "vectors.h"

#define EPSILON 1.1920929e-07f
#define SOFTCAP 15.0f
#define PIECE_BYTES 262144 // of a matrix that a thread takes at most at once: long streams, but some for every thread
#define MOST_ROWS 240     // that it takes at most
#define APART 32          // vectors whose products are kept apart until they are added

typedef struct {
    const char *q, *k, *v, *o, *fc, *proj;                                           // matrices (outputs, inputs)
    const char *q_scales, *k_scales, *v_scales, *o_scales, *fc_scales, *proj_scales; // of INT8, INT4, COMPACT: see products.h
    const char *value_table, *value_gate;                                             // null where there are none
    char *keys, *values;                                                              // (rows, kv_heads, capacity, size)
    double residual, start;
    int64_t window; // negative: none
} layer;

typedef struct {
    int64_t layers, heads, kv_heads, size, width, vocabulary, table_rows;
    int64_t matrix_type, table_type, gate_type, cache_type;
    int64_t gate_width, has_lambdas, middle;
    double gate_scale, qk_scale, smear, backout;
    const char *table, *head, *smear_gate; // smear_gate null: no smear, no backout
    const char *head_scales;
    const float *cosines, *sines;
} shape;

typedef struct {
    int64_t rows, added, threads;
    const int64_t *ids;            // (rows, added)
    const int64_t *lengths;        // (rows): tokens in the cache
    const int64_t *last;           // (rows): which new token's logits are wanted
    int64_t *known;                // (rows, ...): the ids of the tokens in the cache
    int64_t known_apart;           // elements between rows of `known`
    int64_t row_apart, head_apart; // and between rows and heads of the cache
    float *logits;                 // (rows, vocabulary)
} request;

EXPORT_LAYOUT(layer, window);
EXPORT_LAYOUT(shape, sines);
EXPORT_LAYOUT(request, logits);

typedef struct {
    const shape *shape;
    const layer *layers;
    const request *request;
    int threads;
    int64_t tokens;
    float *x, *x0, *middle, *normed, *qkv, *y, *hidden; // (tokens, ...)
    char *packed;
    float *scores;
    int64_t scores_apart;
    atomic_llong *taken; // a counter for each thing that is shared out
    atomic_llong *done;  // and for each time that threads wait for each other
    atomic_int numbers;  // of the threads
} step;

typedef void (*each)(step *, const layer *, int64_t item, float *scores);

static void norm(const float *from, float *to, int64_t size, float factor) {
    floats sum = {0};
    for (int64_t i = 0; i < size; i += LANES) sum += load(from + i) * load(from + i);
    float scale = factor / sqrtf(sum_of(sum) / size + EPSILON);
    for (int64_t i = 0; i < size; i += LANES) store(to + i, load(from + i) * scale);
}

static void look_up(const char *table, int64_t type, int64_t row, int64_t width, float *to) {
    for (int64_t i = 0; i < width; i += LANES) store(to + i, load_as(table, row * width + i, type));
}

static void embed(step *s, const layer *unused, int64_t token, float *scores) {
    const shape *m = s->shape;
    const request *r = s->request;
    int64_t row = token / r->added, place = token % r->added, width = m->width;
    float *x = s->x + token * width, *before = s->normed + token * width;
    look_up(m->table, m->table_type, r->ids[token], width, x);
    norm(x, x, width, 1.0f);
    if (m->smear_gate && r->lengths[row] + place > 0) {
        look_up(m->table, m->table_type, r->known[row * r->known_apart + r->lengths[row] + place - 1], width, before);
        norm(before, before, width, 1.0f);
        float gate = 0;
        for (int64_t i = 0; i < 24; i++) gate += x[i] * value_of(m->smear_gate, i, m->gate_type);
        gate = (float)m->smear * sigmoid(gate);
        for (int64_t i = 0; i < width; i++) x[i] += gate * before[i];
    }
    if (m->has_lambdas) memcpy(s->x0 + token * width, x, width * sizeof(float));
}

static void pack_normed(step *s, int64_t token) {
    int64_t width = s->shape->width;
    norm(s->x + token * width, s->normed + token * width, width, 1.0f);
    pack(s->normed + token * width, s->packed + token * packed_bytes(width, s->shape->matrix_type), width, s->shape->matrix_type);
}

static void begin_attention(step *s, const layer *l, int64_t token, float *scores) {
    int64_t width = s->shape->width;
    float *x = s->x + token * width, *x0 = s->x0 + token * width;
    if (s->shape->has_lambdas)
        for (int64_t i = 0; i < width; i++) x[i] = (float)l->residual * x[i] + (float)l->start * x0[i];
    pack_normed(s, token);
}

static void begin_mlp(step *s, const layer *l, int64_t token, float *scores) { pack_normed(s, token); }

static void begin_output(step *s, const layer *l, int64_t token, float *scores) {
    int64_t width = s->shape->width;
    pack(s->y + token * width, s->packed + token * packed_bytes(width, s->shape->matrix_type), width, s->shape->matrix_type);
}

static void begin_projection(step *s, const layer *l, int64_t token, float *scores) {
    int64_t width = 4 * s->shape->width;
    float *hidden = s->hidden + token * width;
    for (int64_t i = 0; i < width; i++) hidden[i] = hidden[i] < 0 ? 0 : hidden[i] * hidden[i];
    pack(hidden, s->packed + token * packed_bytes(width, s->shape->matrix_type), width, s->shape->matrix_type);
}

static void begin_head(step *s, const layer *l, int64_t row, float *scores) {
    int64_t width = s->shape->width, token = row * s->request->added + s->request->last[row];
    float *x = s->x + token * width, *middle = s->middle + token * width;
    if (s->shape->smear_gate)
        for (int64_t i = 0; i < width; i++) x[i] -= (float)s->shape->backout * middle[i];
    norm(x, s->normed + token * width, width, 1.0f);
    pack(s->normed + token * width, s->packed + row * packed_bytes(width, s->shape->matrix_type), width, s->shape->matrix_type);
}

static void keep_middle(step *s, const layer *l, int64_t token, float *scores) {
    memcpy(s->middle + token * s->shape->width, s->x + token * s->shape->width, s->shape->width * sizeof(float));
}

// Rotary positions on split halves, then the norm; in place.
static void turn(const shape *m, float *head, int64_t position, float factor) {
    int64_t half = m->size / 2;
    const float *cosine = m->cosines + position * half, *sine = m->sines + position * half;
    for (int64_t i = 0; i < half; i++) {
        float first = head[i], second = head[half + i];
        head[i] = first * cosine[i] + second * sine[i];
        head[half + i] = second * cosine[i] - first * sine[i];
    }
    norm(head, head, m->size, factor);
}

static void add_value_embedding(step *s, const layer *l, int64_t token, int64_t kv_head, float *v) {
    const shape *m = s->shape;
    float gate = 0;
    for (int64_t i = 0; i < m->gate_width; i++)
        gate += s->normed[token * m->width + i] * value_of(l->value_gate, kv_head * m->gate_width + i, m->gate_type);
    gate = (float)m->gate_scale * sigmoid(gate);
    int64_t place = (s->request->ids[token] * m->kv_heads + kv_head) * m->size;
    for (int64_t i = 0; i < m->size; i += LANES) store(v + i, load(v + i) + gate * load_as(l->value_table, place + i, m->table_type));
}

// The first position that a token at `position` looks at.
static int64_t first_seen(const layer *l, int64_t position) {
    return l->window < 0 || position <= l->window ? 0 : position - l->window;
}

// All new tokens of one row and one key/value head: into the cache first, then each query that shares the head.
static void attend_head(step *s, const layer *l, int64_t item, float *scores) {
    const shape *m = s->shape;
    const request *r = s->request;
    int64_t row = item / m->kv_heads, kv_head = item % m->kv_heads, size = m->size, group = m->heads / m->kv_heads;
    int64_t columns = (m->heads + 2 * m->kv_heads) * size, bytes = size_of(m->cache_type);
    int64_t place = row * r->row_apart + kv_head * r->head_apart; // of the head's first key, in elements
    for (int64_t i = 0; i < r->added; i++) {
        int64_t token = row * r->added + i, position = r->lengths[row] + i;
        float *k = s->qkv + token * columns + (m->heads + kv_head) * size, *v = k + m->kv_heads * size;
        turn(m, k, position, (float)m->qk_scale);
        if (l->value_table) add_value_embedding(s, l, token, kv_head, v);
        for (int64_t d = 0; d < size; d += LANES) {
            store_as(l->keys, place + position * size + d, load(k + d), m->cache_type);
            store_as(l->values, place + position * size + d, load(v + d), m->cache_type);
        }
    }
    int64_t then = item + 1, then_row = then / m->kv_heads; // what this thread reads next, if no other takes it
    const char *next = 0;
    if (then < r->rows * m->kv_heads)
        next = l->keys + (then_row * r->row_apart + then % m->kv_heads * r->head_apart + first_seen(l, r->lengths[then_row]) * size) * bytes;
    int64_t queries = r->added * group;
    for (int64_t begin = 0; begin < queries;) {
        query some[QUERIES];
        int count = queries - begin >= QUERIES ? QUERIES : 1;
        for (int k = 0; k < count; k++) {
            int64_t token = row * r->added + (begin + k) / group, position = r->lengths[row] + (begin + k) / group;
            int64_t head = kv_head * group + (begin + k) % group;
            float *q = s->qkv + token * columns + head * size;
            turn(m, q, position, (float)m->qk_scale / sqrtf(size));
            some[k] = (query){q, s->y + token * m->width + head * size, first_seen(l, position), position + 1};
        }
        begin += count;
        attend(some, count, l->keys + place * bytes, l->values + place * bytes, begin == queries ? next : 0, size, scores, m->cache_type);
    }
}

// How far a thread is in its way through the step.
typedef struct {
    int64_t taken, done;
} place;

static void wait_for(step *s, int64_t all, place *at) {
    if (s->threads > 1) await(&s->done[at->done++], all);
}

static void share(step *s, each work, const layer *l, int64_t items, place *at, float *scores) {
    atomic_llong *taken = &s->taken[at->taken++];
    for (int64_t item; (item = take(taken, 1)) < items;) {
        work(s, l, item, scores);
        if (s->threads > 1) add_done(&s->done[at->done], 1, items);
    }
    wait_for(s, items, at);
}

enum then { KEEP, ADD, CAP };

// out (count, out_apart), or what is added to it, = the packed vectors times the matrix. Nobody waits for the others yet, who
// have `rows_in_all` to do before that.
static void multiply(step *s, const matrix *a, int64_t count, float *out, int64_t out_apart, enum then then, int64_t rows_in_all, place *at) {
    atomic_llong *taken = &s->taken[at->taken++];
    int64_t rows = PIECE_BYTES / row_bytes(a), even = a->outputs / (4 * s->threads), whole = is_in_strips(a->type) ? STRIP : ROWS;
    if (count > APART && rows < even) rows = even; // so that the vectors come from memory less often
    if (s->threads > 1 && rows > even) rows = even;
    rows = (rows < whole ? whole : rows > MOST_ROWS ? MOST_ROWS : rows) / whole * whole;
    float added[MOST_ROWS * APART];
    for (int64_t from; (from = take(taken, rows)) < a->outputs;) {
        int64_t to = from + rows < a->outputs ? from + rows : a->outputs;
        if (then != ADD) product(a, from, to, s->packed, count, out + from, out_apart);
        for (int64_t begin = 0; then == ADD && begin < count; begin += APART) {
            int64_t size = begin + APART < count ? APART : count - begin;
            product(a, from, to, s->packed + begin * packed_bytes(a->inputs, a->type), size, added, rows);
            for (int64_t m = 0; m < size; m++)
                for (int64_t row = from; row < to; row++) out[(begin + m) * out_apart + row] += added[m * rows + row - from];
        }
        for (int64_t m = 0; then == CAP && m < count; m++) {
            float *part = out + m * out_apart;
            int64_t row = from;
            for (; row + LANES <= to; row += LANES) store(part + row, SOFTCAP * tanh_of(load(part + row) * (1 / SOFTCAP)));
            for (; row < to; row++) part[row] = SOFTCAP * tanh_of(all(part[row] * (1 / SOFTCAP)))[0];
        }
        if (s->threads > 1) add_done(&s->done[at->done], to - from, rows_in_all);
    }
}

static matrix matrix_of(step *s, const char *rows, const char *scales, int64_t outputs, int64_t inputs) {
    return (matrix){rows, scales, s->shape->matrix_type, outputs, inputs};
}

static void run_layer(step *s, const layer *l, place *at, float *scores) {
    const shape *m = s->shape;
    int64_t width = m->width, kv = m->kv_heads * m->size, columns = width + 2 * kv;
    matrix q = matrix_of(s, l->q, l->q_scales, width, width), k = matrix_of(s, l->k, l->k_scales, kv, width);
    matrix v = matrix_of(s, l->v, l->v_scales, kv, width), o = matrix_of(s, l->o, l->o_scales, width, width);
    matrix fc = matrix_of(s, l->fc, l->fc_scales, 4 * width, width), proj = matrix_of(s, l->proj, l->proj_scales, width, 4 * width);
    share(s, begin_attention, l, s->tokens, at, scores);
    multiply(s, &q, s->tokens, s->qkv, columns, KEEP, columns, at);
    multiply(s, &k, s->tokens, s->qkv + width, columns, KEEP, columns, at);
    multiply(s, &v, s->tokens, s->qkv + width + kv, columns, KEEP, columns, at);
    wait_for(s, columns, at);
    share(s, attend_head, l, s->request->rows * m->kv_heads, at, scores);
    share(s, begin_output, l, s->tokens, at, scores);
    multiply(s, &o, s->tokens, s->x, width, ADD, width, at);
    wait_for(s, width, at);
    share(s, begin_mlp, l, s->tokens, at, scores);
    multiply(s, &fc, s->tokens, s->hidden, 4 * width, KEEP, 4 * width, at);
    wait_for(s, 4 * width, at);
    share(s, begin_projection, l, s->tokens, at, scores);
    multiply(s, &proj, s->tokens, s->x, width, ADD, width, at);
    wait_for(s, width, at);
}

// What each thread does.
static void run_step(void *context) {
    step *s = context;
    const shape *m = s->shape;
    float *scores = s->scores + atomic_fetch_add(&s->numbers, 1) * s->scores_apart;
    place at = {0};
    share(s, embed, 0, s->tokens, &at, scores);
    for (int64_t index = 0; index < m->layers; index++) {
        run_layer(s, &s->layers[index], &at, scores);
        if (m->smear_gate && index == m->middle) share(s, keep_middle, 0, s->tokens, &at, scores);
    }
    share(s, begin_head, 0, s->request->rows, &at, scores);
    matrix head = matrix_of(s, m->head, m->head_scales, m->vocabulary, m->width);
    multiply(s, &head, s->request->rows, s->request->logits, m->vocabulary, CAP, m->vocabulary, &at);
}

static void *take_part(char **place, int64_t bytes) {
    char *part = *place;
    *place += (bytes + 63) / 64 * 64;
    return part;
}

enum outcome { DONE, NO_MEMORY, UNKNOWN_TOKEN };

// Nothing has happened unless it is DONE: then the logits are there, and the tokens, their keys and values in the cache.
int decode(const shape *m, const layer *layers, const request *r) {
    for (int64_t token = 0; token < r->rows * r->added; token++)
        if (r->ids[token] < 0 || r->ids[token] >= m->table_rows) return UNKNOWN_TOKEN;
    step s = {.shape = m, .layers = layers, .request = r, .tokens = r->rows * r->added};
    int64_t packed = packed_bytes(4 * m->width, m->matrix_type);
    int64_t longest = 0, floats_each = m->width * 10 + 2 * m->kv_heads * m->size, counters = m->layers * 16 + 8;
    for (int64_t row = 0; row < r->rows; row++) longest = r->lengths[row] > longest ? r->lengths[row] : longest;
    s.scores_apart = QUERIES * ((longest + r->added + 2 * LANES) / LANES * LANES);
    int64_t bytes = s.tokens * (floats_each * 4 + packed) + r->threads * s.scores_apart * 4 + 2 * counters * 8;
    char *memory = aligned_alloc(64, (bytes + 64 * 16 + 63) / 64 * 64), *place = memory;
    if (!memory) return NO_MEMORY;
    for (int64_t row = 0; row < r->rows; row++)
        memcpy(r->known + row * r->known_apart + r->lengths[row], r->ids + row * r->added, r->added * sizeof(int64_t));
    int64_t each = s.tokens * m->width * 4;
    s.x = take_part(&place, each), s.x0 = take_part(&place, each), s.middle = take_part(&place, each);
    s.normed = take_part(&place, each), s.y = take_part(&place, each), s.hidden = take_part(&place, 4 * each);
    s.qkv = take_part(&place, each + s.tokens * 2 * m->kv_heads * m->size * 4);
    s.packed = take_part(&place, s.tokens * packed);
    s.scores = take_part(&place, r->threads * s.scores_apart * 4);
    s.taken = take_part(&place, counters * 8);
    s.done = take_part(&place, counters * 8);
    memset(s.taken, 0, counters * 8);
    memset(s.done, 0, counters * 8);
    run_with_any((int)r->threads, run_step, &s, &s.threads);
    free(memory);
    return DONE;
}

// New tokens, of all rows together, up to which this is worth while for matrices of a type; negative: always. Torch knows
// the units for whole matrices that some processors have.
int64_t most_tokens(int64_t matrix_type) {
#if defined(__APPLE__)
    if (matrix_type == FLOAT32) return 32;
#elif defined(__AMX_BF16__)
    if (matrix_type == BFLOAT16) return 32;
#endif
    return -1;
}
