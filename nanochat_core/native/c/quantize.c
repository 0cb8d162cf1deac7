// Rounding weights to fewer bits: to eight or four as checkpoint/few_bits.py says it, into strips (strips.h); and fp32 to
// bf16. Torch's operators give the same.
#include <math.h>
#include <string.h>

#include "layout.h"
#include "team.h"

#define ROWS 32 // that a thread takes at once: threads that others keep from their core take fewer
#define SMALLEST 1e-30f
#define STRIP 16
#define GROUP 32
#define CHOICES 8

typedef struct {
    const void *from;   // (rows, columns), fp32 or bf16
    char *to;           // strips of a matrix of which `from` are the rows from `first` on
    void *scales;       // of eight bits fp32, one a row; of four bf16, (strips, groups, STRIP)
    const float *tried; // (CHOICES): what the largest number of a group may become in four bits
    int64_t first, rows, columns, is_bf16, bits, threads;
} request;

EXPORT_LAYOUT(request, threads);

typedef struct {
    const request *request;
    atomic_llong taken;
    int threads;
} task;

static inline float as_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t as_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

// To nearest, ties to even. Added to a NaN's bits, that could make a number of it.
static inline uint16_t narrowed(uint32_t bits) {
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
}

// A group of a row, zeros beyond its end.
static inline void read_group(const request *r, int64_t row, int64_t group, float *to) {
    int64_t begin = group * GROUP, count = r->columns - begin < GROUP ? r->columns - begin : GROUP, at = row * r->columns + begin;
    if (count < GROUP) memset(to, 0, GROUP * sizeof *to);
    if (!r->is_bf16) memcpy(to, (const float *)r->from + at, count * 4);
    else
        for (int64_t i = 0; i < count; i++) to[i] = as_float((uint32_t)((const uint16_t *)r->from)[at + i] << 16);
}

// The largest of a group by its bits without the sign, among which a NaN's are the largest.
static inline float largest_of(const float *group) {
    uint32_t most = 0;
    for (int i = 0; i < GROUP; i++) {
        uint32_t size = as_bits(group[i]) & 0x7fffffff;
        most = size > most ? size : most;
    }
    return as_float(most);
}

static void round_to_eight(const request *r, int64_t row, int64_t groups) {
    float group[GROUP], most = 0;
    for (int64_t g = 0; g < groups; g++) {
        read_group(r, row, g, group);
        float size = largest_of(group);
        if (!(size <= most)) most = most != most ? most : size;
    }
    float scale = (most < SMALLEST ? SMALLEST : most) / 127;
    int64_t place = r->first + row;
    char *to = r->to + place / STRIP * STRIP * groups * GROUP + place % STRIP * 4;
    ((float *)r->scales)[place] = scale;
    for (int64_t g = 0; g < groups; g++) {
        read_group(r, row, g, group);
        int8_t rounded[GROUP];
        for (int i = 0; i < GROUP; i++) rounded[i] = (int8_t)as_bits(group[i] / scale + 12582912.0f); // 1.5 * 2^23: see narrow bits of the sum
        for (int four = 0; four < GROUP / 4; four++, to += 4 * STRIP) memcpy(to, rounded + 4 * four, 4);
    }
}

// The scale of a group in four bits whose squared errors are the fewest: the largest number, with its sign, over one of `tried`.
// In lanes that the compiler makes of the loops over choices.
static float best_scale(const float *group, const float *tried) {
    float most = 0, scales[CHOICES], inverse[CHOICES];
    for (int i = 0; i < GROUP; i++)
        if ((as_bits(group[i]) & 0x7fffffff) > (as_bits(most) & 0x7fffffff)) most = group[i];
    if (fabsf(most) < SMALLEST) return 0;
    double errors[CHOICES] = {0};
    for (int c = 0; c < CHOICES; c++) {
        scales[c] = as_float((uint32_t)narrowed(as_bits(most / tried[c])) << 16);
        inverse[c] = 1.0f / scales[c];
    }
    for (int i = 0; i < GROUP; i++)
        for (int c = 0; c < CHOICES; c++) {
            float whole = rintf(group[i] * inverse[c]);
            whole = whole > 7.0f ? 7.0f : whole;
            whole = whole < -8.0f ? -8.0f : whole;
            double off = whole * scales[c] - group[i]; // the product of 4 bits and 8 is exact
            errors[c] += off * off;
        }
    int best = 0;
    for (int c = 1; c < CHOICES; c++)
        if (errors[c] < errors[best]) best = c;
    return scales[best];
}

static void round_to_four(const request *r, int64_t row, int64_t groups) {
    int64_t place = r->first + row, strip = place / STRIP, lane = place % STRIP;
    char *to = r->to + strip * groups * (STRIP * GROUP / 2) + lane * 4;
    uint16_t *scales = (uint16_t *)r->scales + strip * groups * STRIP + lane;
    for (int64_t g = 0; g < groups; g++, scales += STRIP) {
        float group[GROUP];
        uint8_t rounded[GROUP];
        read_group(r, row, g, group);
        float scale = best_scale(group, r->tried), inverse = scale == 0 ? 0 : 1.0f / scale;
        *scales = (uint16_t)(as_bits(scale) >> 16);
        for (int i = 0; i < GROUP; i++) {
            float whole = rintf(group[i] * inverse);
            rounded[i] = (uint8_t)(8 + (int)(whole > 7.0f ? 7.0f : whole >= -8.0f ? whole : -8.0f)); // a NaN is the scale's
        }
        for (int four = 0; four < 4; four++, to += 4 * STRIP)
            for (int i = 0; i < 4; i++) to[i] = (char)(rounded[4 * four + i] | rounded[16 + 4 * four + i] << 4);
    }
}

static void work(void *context) {
    task *task = context;
    const request *r = task->request;
    int64_t groups = (r->columns + GROUP - 1) / GROUP;
    for (int64_t begin; (begin = take(&task->taken, ROWS)) < r->rows;)
        for (int64_t row = begin; row < begin + ROWS && row < r->rows; row++) (r->bits == 8 ? round_to_eight : round_to_four)(r, row, groups);
}

void quantize(const request *request) {
    task task = {.request = request};
    run_with_any((int)request->threads, work, &task, &task.threads);
}

void narrow(const uint32_t *from, uint16_t *to, int64_t count) {
    for (int64_t i = 0; i < count; i++) to[i] = narrowed(from[i]);
}
