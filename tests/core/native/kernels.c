// The compiled kernels as a program: cases come by stdin, results go to stdout; so that other processors' code can be run by
// an emulator. Built and called by test_kernels.py.
#include <stdio.h>
#include <stdlib.h>

#include "attend.h"
#include "compact.c"
#include "products.h"

static void *read_some(int64_t bytes) {
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64); // whole lines; nothing beyond them is read but fetched
    if (fread(memory, 1, bytes, stdin) != (size_t)bytes) exit(3);
    return memory;
}

static void multiply_case(const int64_t *c) { // type, outputs, inputs, vectors; rows' bytes, scales' bytes
    matrix a = {read_some(c[5]), read_some(c[6]), c[1], c[2], c[3]};
    float *vectors = read_some(c[4] * c[3] * 4), *out = calloc(c[4] * c[2], 4);
    int64_t apart = packed_bytes(c[3], c[1]);
    char *packed = aligned_alloc(64, c[4] * apart);
    for (int64_t m = 0; m < c[4]; m++) pack(vectors + m * c[3], packed + m * apart, c[3], c[1]);
    product(&a, 0, c[2], packed, c[4], out, c[2]);
    fwrite(out, 4, c[4] * c[2], stdout);
    free((void *)a.rows), free((void *)a.scales), free(vectors), free(out), free(packed);
}

// Rows of fp32 in 28 bits: what comes back, and products, must be those of fp32 to the bit, but for which NaN it is.
static int differ(const float *one, const float *other, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (bits_of(one[i]) != bits_of(other[i]) && (one[i] == one[i] || other[i] == other[i])) return 1;
    return 0;
}

static void compact_case(const int64_t *c) {
    int64_t outputs = c[2], inputs = c[3], count = c[4], apart = packed_bytes(inputs, FLOAT32), chunks = outputs * (inputs / CHUNK + 1);
    float *rows = read_some(outputs * inputs * 4), *vectors = read_some(count * inputs * 4);
    float *back = malloc(outputs * inputs * 4), *plain = calloc(count * outputs, 4), *out = calloc(count * outputs, 4);
    char *compact = aligned_alloc(64, (outputs * compact_bytes(inputs) + 63) / 64 * 64), *packed = aligned_alloc(64, count * apart);
    odd_chunk *odd = malloc(chunks * sizeof *odd);
    int64_t *notes = malloc(outputs * 8 + chunks * sizeof *odd);
    int64_t found = make_compact((const uint32_t *)rows, compact, notes, odd, outputs, inputs, 0);
    for (int64_t row = 0; row < outputs; row++) notes[row] += outputs * 8 * 256;
    memcpy(notes + outputs, odd, found * sizeof *odd);
    expand_rows(compact, notes, 0, outputs, inputs, back);
    if (memcmp(back, rows, outputs * inputs * 4)) exit(4);
    for (int64_t m = 0; m < count; m++) pack(vectors + m * inputs, packed + m * apart, inputs, COMPACT);
    product(&(matrix){(const char *)rows, 0, FLOAT32, outputs, inputs}, 0, outputs, packed, count, plain, outputs);
    product(&(matrix){compact, (const char *)notes, COMPACT, outputs, inputs}, 0, outputs, packed, count, out, outputs);
    if (differ(out, plain, count * outputs)) exit(5);
    fwrite(out, 4, count * outputs, stdout);
    free(rows), free(vectors), free(back), free(plain), free(out), free(compact), free(packed), free(odd), free(notes);
}

static void attend_case(const int64_t *c) { // type of the cache, size, positions, queries, of which the first sees so many; window
    int64_t size = c[2], positions = c[3], bytes = positions * size * size_of(c[1]);
    char *keys = read_some(bytes), *values = read_some(bytes);
    float *q = read_some(c[4] * size * 4), *y = calloc(c[4] * size, 4);
    float *scores = aligned_alloc(64, QUERIES * ((positions + 2 * LANES) / 16 + 1) * 64);
    query queries[QUERIES];
    for (int64_t k = 0; k < c[4]; k++) queries[k] = (query){q + k * size, y + k * size, c[6] + k, c[5] + k};
    attend(queries, (int)c[4], keys, values, 0, size, scores, c[1]);
    fwrite(y, 4, c[4] * size, stdout);
    free(keys), free(values), free(q), free(y), free(scores);
}

int main(void) {
    int64_t c[8];
    while (fread(c, 8, 8, stdin) == 8) (c[0] ? attend_case : c[1] == COMPACT ? compact_case : multiply_case)(c);
    return 0;
}
