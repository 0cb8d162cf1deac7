// fp32 to 28 bits a weight and back, to the bit (compact.h); for checkpoint/compact.py, some rows at a time.
#include "compact.h"

#define OCTAVES 8 // exponent bytes in a row's table

// What the most chunks of a row fit in: the least exponent byte of its table. `ranges`: of each chunk the least and the largest.
static int32_t best_table(const uint8_t (*ranges)[2], int64_t chunks) {
    int32_t change[128 + 1] = {0}, best = 0, most = 0, fit = 0;
    for (int64_t c = 0; c < chunks; c++) {
        int32_t first = ranges[c][1] < OCTAVES ? 0 : ranges[c][1] - OCTAVES + 1;
        if (first <= ranges[c][0]) change[first]++, change[ranges[c][0] + 1]--;
    }
    for (int32_t least = 0; least <= 128 - OCTAVES; least++)
        if ((fit += change[least]) > most) most = fit, best = least;
    return best;
}

// Two of CHUNK / 2 bytes' four bits in each.
static void put_fours(const uint8_t *fours, char *to) {
    for (int i = 0; i < CHUNK / 2; i++) to[i] = (char)(fours[i] | fours[CHUNK / 2 + i] << 4);
}

static void put_chunk(const uint32_t *weights, int32_t least, char *to, odd_chunk *odd) {
    uint16_t low[CHUNK];
    uint8_t middle[CHUNK], top[CHUNK], fours[CHUNK];
#pragma GCC unroll 64
    for (int i = 0; i < CHUNK; i++) {
        low[LOW_PLACE(i)] = (uint16_t)weights[i];
        middle[MIDDLE_PLACE(i)] = (uint8_t)(weights[i] >> 16);
        top[MIDDLE_PLACE(i)] = (uint8_t)(weights[i] >> 24);
    }
    memcpy(to, low, sizeof low);
    memcpy(to + MIDDLE_AT, middle, sizeof middle);
    for (int i = 0; i < CHUNK; i++) fours[i] = (uint8_t)(odd ? top[i] & 15 : top[i] >> 7 << 3 | ((top[i] & 0x7f) - least));
    put_fours(fours, to + FOURS_AT);
    if (!odd) return;
    for (int i = 0; i < CHUNK; i++) fours[i] = top[i] >> 4;
    put_fours(fours, odd->bits);
}

// Rows of fp32, from row `first` of a matrix on. The notes of those rows: as compact.h has them, but the place is from the
// begin of `odd`, where there is room for all chunks of each row and an end. Returns how many of these were taken.
int64_t make_compact(const uint32_t *from, char *to, int64_t *notes, odd_chunk *odd, int64_t rows, int64_t inputs, int64_t first) {
    int64_t chunks = inputs / CHUNK, count = 0;
    uint8_t ranges[inputs / CHUNK][2];
    to += first * compact_bytes(inputs);
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t c = 0; c < chunks; c++) {
            uint32_t least = 0x7f000000, most = 0;
            for (int i = 0; i < CHUNK; i++) {
                uint32_t exponent = from[c * CHUNK + i] & 0x7f000000;
                least = exponent < least ? exponent : least, most = exponent > most ? exponent : most;
            }
            ranges[c][0] = (uint8_t)(least >> 24), ranges[c][1] = (uint8_t)(most >> 24);
        }
        int32_t least = best_table(ranges, chunks);
        notes[first + row] = count * (int64_t)sizeof(odd_chunk) * 256 + least;
        for (int64_t c = 0; c < chunks; c++, from += CHUNK, to += CHUNK_BYTES) {
            int fits = ranges[c][0] >= least && ranges[c][1] < least + OCTAVES;
            if (!fits) odd[count].chunk = (uint32_t)c;
            put_chunk(from, least, to, fits ? 0 : &odd[count++]);
        }
        odd[count++] = (odd_chunk){NO_MORE};
    }
    return count;
}

// Rows `begin` to `end` of a matrix as fp32.
void expand_rows(const char *rows, const int64_t *notes, int64_t begin, int64_t end, int64_t inputs, float *to) {
    const char *chunk = rows + begin * compact_bytes(inputs);
    for (int64_t row = begin; row < end; row++) {
        const odd_chunk *odd = odd_chunks_of(notes, row, 0);
        tops table = tops_of(notes, row);
        for (uint32_t c = 0; c < inputs / CHUNK; c++, chunk += CHUNK_BYTES, to += CHUNK) expand_chunk(chunk, table, odd->chunk == c ? odd++->bits : 0, to);
    }
}

// Whether a chat is the faster with them. Measured on a Zen 4: with AVX2 a reply takes 0.9 of the time and prompts no more than
// with fp32; with AVX-512 0.87, but prompts 1.1 times the time, since their products there are faster than expanding by more.
// Without AVX2 weights are put together one by one.
int64_t compact_pays(void) {
#if defined(__AVX2__) && LANES == 8
    return 1;
#else
    return 0;
#endif
}
