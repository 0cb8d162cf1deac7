// Rounding weights to fewer bits: to eight as checkpoint/int8.py says it, and fp32 to bf16. Torch's operators give the same.
#include <string.h>

#include "layout.h"
#include "team.h"

#define ROWS 32 // that a thread takes at once: threads that others keep from their core take fewer
#define SMALLEST 1e-30f
#define ROUNDER 12582912.0f // 1.5 * 2^23: the lowest bits of a sum with it are the other number, rounded half to even

typedef struct {
    const void *from; // (rows, columns), fp32 or bf16
    int8_t *to;       // the same shape
    float *scales;    // (rows)
    int64_t rows, columns, is_bf16, threads;
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

// By their bits without the sign, among which a NaN's are the largest.
static float scale_of(uint32_t largest) {
    float value = as_float(largest);
    return (value < SMALLEST ? SMALLEST : value) / 127;
}

static float round_floats(const uint32_t *from, int64_t count, int8_t *to) {
    uint32_t largest = 0;
    for (int64_t i = 0; i < count; i++) {
        uint32_t size = from[i] & 0x7fffffff;
        largest = size > largest ? size : largest;
    }
    float scale = scale_of(largest);
    for (int64_t i = 0; i < count; i++) to[i] = (int8_t)as_bits(as_float(from[i]) / scale + ROUNDER);
    return scale;
}

static float round_halves(const uint16_t *from, int64_t count, int8_t *to) {
    uint16_t largest = 0;
    for (int64_t i = 0; i < count; i++) {
        uint16_t size = from[i] & 0x7fff;
        largest = size > largest ? size : largest;
    }
    float scale = scale_of((uint32_t)largest << 16);
    for (int64_t i = 0; i < count; i++) to[i] = (int8_t)as_bits(as_float((uint32_t)from[i] << 16) / scale + ROUNDER);
    return scale;
}

static void work(void *context) {
    task *task = context;
    const request *r = task->request;
    for (int64_t begin; (begin = take(&task->taken, ROWS)) < r->rows;)
        for (int64_t row = begin; row < begin + ROWS && row < r->rows; row++) {
            int8_t *to = r->to + row * r->columns;
            r->scales[row] = r->is_bf16 ? round_halves((const uint16_t *)r->from + row * r->columns, r->columns, to)
                                        : round_floats((const uint32_t *)r->from + row * r->columns, r->columns, to);
        }
}

void quantize(const request *request) {
    task task = {.request = request};
    run_together((int)request->threads, work, &task, &task.threads);
}

// fp32 to bf16, to nearest, ties to even. Added to a NaN's bits, that could make a number of it.
void narrow(const uint32_t *from, uint16_t *to, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits = from[i], rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
        to[i] = (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
    }
}
