// Text to token ids: pieces (pieces.h) that were met before come from a table, others are merged (merges.h).
//
// Compiled by native/build.py; called by tokenizer/compiled.py, whose structure mirrors `encoding`. All memory but that for very
// long pieces is the caller's, and only `known` and `ids` are written to: threads may share the rest.
#include "layout.h"
#include "merges.h"
#include "pieces.h"

#define KNOWN_BYTES 24
#define KNOWN_IDS 9
#define KNOWN_BITS 16

typedef struct {
    splitting splitting;
    vocabulary vocabulary;
    vocabulary marks; // special tokens; their ids follow those of the vocabulary. Each begins with <
} encoding;

EXPORT_LAYOUT(encoding, marks.longest);

// One line of the processor's cache. A piece that falls upon another's place takes it.
typedef struct {
    uint64_t bytes[KNOWN_BYTES / 8]; // filled up with zeros
    uint16_t size, count;
    uint32_t ids[KNOWN_IDS];
} known_piece;

_Static_assert(sizeof(known_piece) == 64, "known pieces must not share lines");

static const uint8_t MASK[2 * KNOWN_BYTES] = {[0 ... KNOWN_BYTES - 1] = 0xFF};

static int64_t encode_known(const vocabulary *v, known_piece *known, const uint8_t *p, int64_t size, uint32_t *ids) {
    uint64_t bytes[3], mask[3];
    memcpy(bytes, p, KNOWN_BYTES);
    memcpy(mask, MASK + KNOWN_BYTES - size, KNOWN_BYTES);
    for (int i = 0; i < 3; i++) bytes[i] &= mask[i];
    uint64_t hash = bytes[0] * 0x9E3779B97F4A7C15u + bytes[1] * 0xC2B2AE3D27D4EB4Fu;
    hash = (hash ^ hash >> 32) + (bytes[2] ^ (uint64_t)size) * 0x165667B19E3779F9u;
    known_piece *place = known + (hash * 0x9E3779B97F4A7C15u >> (64 - KNOWN_BITS));
    uint64_t differs = (bytes[0] ^ place->bytes[0]) | (bytes[1] ^ place->bytes[1]) | (bytes[2] ^ place->bytes[2]);
    if (!(differs | (place->size ^ (uint64_t)size))) {
        memcpy(ids, place->ids, sizeof place->ids); // all: how many there are need not be known yet
        return place->count;
    }
    int64_t count = encode_piece(v, p, size, ids);
    if (count > 0 && count <= KNOWN_IDS) {
        memcpy(place->bytes, bytes, KNOWN_BYTES);
        memcpy(place->ids, ids, count * sizeof *ids);
        place->size = (uint16_t)size;
        place->count = (uint16_t)count;
    }
    return count;
}

// The next special token from p on, `end` when there is none. Its number and bytes go to `mark` and `size`.
static const uint8_t *next_mark(const vocabulary *marks, const uint8_t *p, const uint8_t *end, int *mark, int *size) {
    for (; p < end && (p = memchr(p, '<', end - p)); p++)
        for (*mark = 0; *mark < marks->count; ++*mark) {
            *size = (int)(marks->starts[*mark + 1] - marks->starts[*mark]);
            if (*size <= end - p && !memcmp(p, marks->bytes + marks->starts[*mark], *size)) return p;
        }
    return end;
}

// 0 when the vocabulary cannot be looked up quickly.
int64_t tokenize_prepare(const encoding *e) { return fill(&e->vocabulary); }

// What the caller has to provide: bytes of `known`, bytes that may be read after a text, ids that may be written after its.
int64_t tokenize_known_bytes(void) { return sizeof(known_piece) << KNOWN_BITS; }
int64_t tokenize_bytes_after(void) { return KNOWN_BYTES; }
int64_t tokenize_ids_after(void) { return KNOWN_IDS; }

// How many ids were written; -1 when there is no memory. After the text there must be tokenize_bytes_after() bytes; `ids`
// must have room for as many as the text has bytes, and tokenize_ids_after() more. `known` is zero at first, at a multiple
// of 64 bytes, and for one call at a time.
int64_t tokenize(const encoding *e, known_piece *known, const uint8_t *text, int64_t size, uint32_t *ids) {
    const uint8_t *p = text, *end = text + size;
    uint32_t *out = ids;
    while (p < end) {
        int mark = 0, mark_size = 0;
        const uint8_t *stop = next_mark(&e->marks, p, end, &mark, &mark_size);
        while (p < stop) {
            const uint8_t *next = end_of_piece(&e->splitting, p, stop);
            if (next > stop) next = stop; // bytes that are no UTF-8
            int64_t count = next - p <= KNOWN_BYTES ? encode_known(&e->vocabulary, known, p, next - p, out)
                                                    : encode_piece(&e->vocabulary, p, next - p, out);
            if (count < 0) return -1;
            out += count;
            p = next;
        }
        if (stop < end) {
            *out++ = (uint32_t)(e->vocabulary.count + mark);
            p += mark_size;
        }
    }
    return out - ids;
}
