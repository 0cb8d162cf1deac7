// Rows of fp32 in 28 bits a weight, from which the very same bits come back: reading them takes seven eighths of the time.
//
// A weight's highest byte is its sign and seven of its eight bits of exponent. Of these a row of weights has few, so that
// four bits choose the byte from a table: both signs, and eight exponents that follow each other. Chunks that hold others
// (zeros beside larger numbers, say) are odd: they have those four bits as they are, and the upper four in the row's note.
//
// A chunk: its weights' low 16 bits, then the 8 above them, in the order in which they are put together again; then the four
// bits, those of byte i of the 8 bits in the low half of byte i, those of byte 32 + i in the high half.
#ifndef COMPACT_H
#define COMPACT_H

#include "vectors.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define CHUNK 64
#define CHUNK_BYTES 224
#define MIDDLE_AT 128
#define FOURS_AT 192

INLINE int64_t compact_bytes(int64_t inputs) { return inputs / CHUNK * CHUNK_BYTES; }

// Of a matrix: for each row the place of its odd chunks, in bytes from the notes' begin, times 256, plus the least exponent
// byte of its table. Behind them the odd chunks: which chunk of the row, four bytes, and its bits. A row's end with NO_MORE.
typedef struct {
    uint32_t chunk;
    char bits[32];
} odd_chunk;
#define NO_MORE 0xffffffffu

INLINE const odd_chunk *odd_chunks_of(const int64_t *notes, int64_t row, int64_t from_chunk) {
    const odd_chunk *odd = (const odd_chunk *)((const char *)notes + (notes[row] >> 8));
    while (odd->chunk < from_chunk) odd++;
    return odd;
}

// Where the low 16 bits, and the 8 above them, of weight `i` of a chunk lie.
#if defined(__AVX2__)
#define LANE(i) ((i) % LANES / 4) // of 128 bits: nothing goes from one to another
#define TURN(i) ((i) / LANES % 4) // which of the part's registers it comes to lie in
#define LOW_PLACE(i) ((i) / PART * PART + TURN(i) / 2 * 2 * LANES + LANE(i) * 8 + TURN(i) % 2 * 4 + (i) % 4)
#define MIDDLE_PLACE(i) ((i) / PART * PART + LANE(i) * 16 + TURN(i) * 4 + (i) % 4)
#else
#define LOW_PLACE(i) (i)
#define MIDDLE_PLACE(i) (i)
#endif

static const uint8_t first_table[16] = {0, 1, 2, 3, 4, 5, 6, 7, 128, 129, 130, 131, 132, 133, 134, 135};

#define PART (4 * LANES) // weights that are put together at once: four registers of floats
#define PARTS (CHUNK / PART)

// `tops`: the table of a row. `expand_as`: a part of a chunk; extra: the upper four bits of an odd one, else null.
#if defined(__AVX2__)
#if LANES == 16
typedef __m512i tops;
#define OF_REGISTER(name) _mm512_##name
#define BITS_AT(from) _mm512_loadu_si512(from)
#define IN_EACH_LANE(value) _mm512_broadcast_i32x4(value)
INLINE tops fours_of(const char *from, int part) {
    tops both = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)from));
    return _mm512_and_si512(_mm512_srlv_epi64(both, _mm512_setr_epi64(0, 0, 0, 0, 4, 4, 4, 4)), _mm512_set1_epi8(15));
}
#else
typedef __m256i tops;
#define OF_REGISTER(name) _mm256_##name
#define BITS_AT(from) _mm256_loadu_si256((const __m256i *)(from))
#define IN_EACH_LANE(value) _mm256_broadcastsi128_si256(value)
INLINE tops fours_of(const char *from, int part) {
    tops both = BITS_AT(from);
    return _mm256_and_si256(part ? _mm256_srli_epi16(both, 4) : both, _mm256_set1_epi8(15));
}
#endif

INLINE tops tops_from(int32_t least) {
    return IN_EACH_LANE(_mm_add_epi8(_mm_loadu_si128((const __m128i *)first_table), _mm_set1_epi8((char)least)));
}

INLINE tops with_extra(tops fours, const char *extra, int part) { return fours | (tops)OF_REGISTER(slli_epi16)(fours_of(extra, part), 4); }

INLINE void expand_as(const char *chunk, int part, tops table, const char *extra, floats four[4]) {
    tops fours = fours_of(chunk + FOURS_AT, part), middle = BITS_AT(chunk + MIDDLE_AT + part * PART);
    tops top = extra ? with_extra(fours, extra, part) : OF_REGISTER(shuffle_epi8)(table, fours);
    tops high[2] = {OF_REGISTER(unpacklo_epi8)(middle, top), OF_REGISTER(unpackhi_epi8)(middle, top)};
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        tops low = BITS_AT(chunk + part * 2 * PART + i * PART);
        four[2 * i] = (floats)OF_REGISTER(unpacklo_epi16)(low, high[i]);
        four[2 * i + 1] = (floats)OF_REGISTER(unpackhi_epi16)(low, high[i]);
    }
}

#else
typedef int32_t tops;

INLINE tops tops_from(int32_t least) { return least; }

INLINE void expand_as(const char *chunk, int part, tops table, const char *extra, floats four[4]) {
    uint32_t found[PART];
    for (int i = 0; i < PART; i++) {
        int at = part * PART + i, right = at / 32 * 4;
        uint16_t low;
        memcpy(&low, chunk + at * 2, 2);
        uint32_t bits = (uint8_t)chunk[FOURS_AT + at % 32] >> right & 15;
        uint32_t top = extra ? bits | ((uint8_t)extra[at % 32] >> right & 15) << 4 : first_table[bits] + (uint32_t)table;
        found[i] = top << 24 | (uint32_t)(uint8_t)chunk[MIDDLE_AT + at] << 16 | low;
    }
    memcpy(four, found, sizeof found);
}
#endif

// Told apart before all else: compilers would make both kinds and choose.
INLINE void expand(const char *chunk, int part, tops table, const char *extra, floats four[4]) {
    if (__builtin_expect(!extra, 1)) expand_as(chunk, part, table, 0, four);
    else expand_as(chunk, part, table, extra, four);
}

INLINE void expand_chunk(const char *chunk, tops table, const char *extra, float *to) {
#pragma GCC unroll 4
    for (int part = 0; part < PARTS; part++) {
        floats four[4];
        expand(chunk, part, table, extra, four);
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) store(to + part * PART + k * LANES, four[k]);
    }
}

INLINE tops tops_of(const int64_t *notes, int64_t row) { return tops_from((int32_t)(notes[row] & 255)); }

#endif
