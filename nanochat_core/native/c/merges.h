// Byte pair encoding: the tokens by their bytes, and the merges of a piece in the order of their ranks.
#ifndef MERGES_H
#define MERGES_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define NO_RANK UINT32_MAX
#define MOST_STEPS 4096 // to a slot of the table; a vocabulary that was made to collide takes more
#define ON_STACK 128

typedef struct {
    const uint8_t *bytes;   // of all tokens, in the order of their ranks
    const uint32_t *starts; // of each in `bytes`, and the end of the last
    uint32_t *slots;        // rank + 1 of a token, 0: free; a power of two of them, at least twice the tokens
    int64_t count, mask, longest;
} vocabulary;

static inline uint64_t mixed(uint64_t x) {
    x *= 0x9E3779B97F4A7C15u;
    return x ^ x >> 29;
}

static inline uint64_t hash_of(const uint8_t *p, int64_t size) {
    uint64_t hash = (uint64_t)size, word;
    for (; size >= 8; p += 8, size -= 8) {
        memcpy(&word, p, 8);
        hash = mixed(hash ^ word);
    }
    word = 0;
    for (int64_t i = 0; i < size; i++) word = word << 8 | p[i];
    return mixed(mixed(hash ^ word));
}

static int fill(const vocabulary *v) {
    for (int64_t rank = 0; rank < v->count; rank++) {
        uint64_t slot = hash_of(v->bytes + v->starts[rank], v->starts[rank + 1] - v->starts[rank]);
        int steps = 0;
        while (v->slots[slot & v->mask]) {
            slot++;
            if (++steps > MOST_STEPS) return 0;
        }
        v->slots[slot & v->mask] = (uint32_t)rank + 1;
    }
    return 1;
}

static uint32_t rank_of(const vocabulary *v, const uint8_t *p, int64_t size) {
    if (size > v->longest) return NO_RANK;
    for (uint64_t slot = hash_of(p, size);; slot++) {
        uint32_t found = v->slots[slot & v->mask];
        if (!found) return NO_RANK;
        uint32_t start = v->starts[found - 1];
        if (v->starts[found] - start == size && !memcmp(v->bytes + start, p, size)) return found - 1;
    }
}

// What is left of a piece's bytes between merges: parts, each known by its first byte.
typedef struct {
    uint32_t *next, *before; // the part's neighbours
    uint32_t *rank;          // of the part joined with the next; NO_RANK also for a part that is no more
    uint64_t *heap;          // rank and place of joins to be looked at, the least first; those that are out of date too
    int64_t waiting;
} parts;

static void push(parts *parts, uint32_t rank, uint32_t place) {
    parts->rank[place] = rank;
    if (rank == NO_RANK) return;
    uint64_t entry = (uint64_t)rank << 32 | place;
    int64_t i = parts->waiting++;
    for (; i && parts->heap[(i - 1) / 2] > entry; i = (i - 1) / 2) parts->heap[i] = parts->heap[(i - 1) / 2];
    parts->heap[i] = entry;
}

static uint64_t pop(parts *parts) {
    uint64_t least = parts->heap[0], last = parts->heap[--parts->waiting];
    int64_t i = 0, child;
    while ((child = 2 * i + 1) < parts->waiting) {
        if (child + 1 < parts->waiting && parts->heap[child + 1] < parts->heap[child]) child++;
        if (parts->heap[child] >= last) break;
        parts->heap[i] = parts->heap[child];
        i = child;
    }
    parts->heap[i] = last;
    return least;
}

static uint32_t joined(const vocabulary *v, const parts *parts, const uint8_t *p, uint32_t size, uint32_t place) {
    uint32_t second = parts->next[place];
    return second == size ? NO_RANK : rank_of(v, p + place, parts->next[second] - place);
}

// The least rank first, the leftmost of equals, until no two neighbours join to a token. How many ids there are.
static int64_t merge(const vocabulary *v, const uint8_t *p, uint32_t size, parts *parts, uint32_t *ids) {
    parts->waiting = 0;
    for (uint32_t i = 0; i < size; i++) parts->next[i] = i + 1, parts->before[i] = i - 1;
    for (uint32_t i = 0; i < size; i++) push(parts, joined(v, parts, p, size, i), i);
    while (parts->waiting) {
        uint64_t least = pop(parts);
        uint32_t place = (uint32_t)least;
        if (parts->rank[place] != least >> 32) continue;
        uint32_t gone = parts->next[place], after = parts->next[gone];
        parts->next[place] = after;
        parts->rank[gone] = NO_RANK;
        if (after < size) parts->before[after] = place;
        push(parts, joined(v, parts, p, size, place), place);
        if (place) push(parts, joined(v, parts, p, size, parts->before[place]), parts->before[place]);
    }
    int64_t count = 0;
    for (uint32_t i = 0; i < size; i = parts->next[i]) ids[count++] = rank_of(v, p + i, parts->next[i] - i);
    return count;
}

// The ids of a piece: its own where it is a token as a whole. How many there are; -1 when there is no memory.
static int64_t encode_piece(const vocabulary *v, const uint8_t *p, int64_t size, uint32_t *ids) {
    uint32_t rank = rank_of(v, p, size);
    if (rank != NO_RANK) {
        *ids = rank;
        return 1;
    }
    uint64_t kept[ON_STACK * 9 / 2], *memory = kept; // a place has three numbers, and three entries in the heap
    if (size > ON_STACK && !(memory = malloc((size_t)size * sizeof kept / ON_STACK))) return -1;
    uint32_t *numbers = (uint32_t *)(memory + 3 * size);
    parts parts = {.heap = memory, .next = numbers, .before = numbers + size, .rank = numbers + 2 * size};
    int64_t count = merge(v, p, (uint32_t)size, &parts, ids);
    if (memory != kept) free(memory);
    return count;
}

#endif
