// Cuts text (UTF-8) into the pieces of nanochat's splitting patterns and of the starter's: the functions below are their
// alternatives, tried in the same order. What is a letter, a number or white space is told by a table.
#ifndef PIECES_H
#define PIECES_H

#include <stdint.h>
#include <string.h>

enum { OTHER, LETTER, NUMBER, SPACE };
#define CHARACTERS 0x110000

typedef struct {
    const uint8_t *classes;   // of each code point
    int64_t has_contractions; // '(?i:[sdmt]|ll|ve|re) before all else
    int64_t takes_any_before; // [^\r\n\p{L}\p{N}]? before letters, else only a blank
    int64_t digits;           // most in one piece
    int64_t takes_newlines;   // [\r\n]* after symbols; \s*[\r\n] before other white space
} splitting;

typedef struct {
    int class, width;
} character;

// May look at three bytes after the text, where it ends within a character.
static inline character character_at(const splitting *s, const uint8_t *p) {
    uint32_t code = p[0];
    int width = 1;
    if (code >= 0xF0) {
        code = (code & 7) << 18 | (p[1] & 63u) << 12 | (p[2] & 63u) << 6 | (p[3] & 63u);
        width = 4;
    } else if (code >= 0xE0) {
        code = (code & 15) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u);
        width = 3;
    } else if (code >= 0xC0) {
        code = (code & 31) << 6 | (p[1] & 63u);
        width = 2;
    }
    return (character){code < CHARACTERS ? s->classes[code] : OTHER, width};
}

static inline int is_newline(uint8_t byte) { return byte == '\n' || byte == '\r'; }

static inline int is_at(const splitting *s, const uint8_t *p, const uint8_t *end, int class) {
    return p < end && character_at(s, p).class == class;
}

static inline const uint8_t *after_all(const splitting *s, const uint8_t *p, const uint8_t *end, int class) {
    while (p < end) {
        character c = character_at(s, p);
        if (c.class != class) break;
        p += c.width;
    }
    return p;
}

// Bytes of s, d, m, t, ll, ve or re in either case; the long s (U+017F) is an s too.
static inline int contraction(const uint8_t *p, const uint8_t *end) {
    if (p == end) return 0;
    int one = p[0] | 32, two = end - p > 1 ? p[1] : 0;
    if (p[0] == 0xC5 && two == 0xBF) return 2;
    if (one == 's' || one == 'd' || one == 'm' || one == 't') return 1;
    two |= 32;
    return (one == 'l' && two == 'l') || ((one == 'v' || one == 'r') && two == 'e') ? 2 : 0;
}

// The end of white space that begins at p: it leaves its last character to what follows it, unless that is its only one.
static const uint8_t *end_of_space(const splitting *s, const uint8_t *p, const uint8_t *end) {
    const uint8_t *q = p, *last = p, *newline = 0;
    while (q < end) {
        character c = character_at(s, q);
        if (c.class != SPACE) break;
        if (is_newline(*q)) newline = q + 1;
        last = q;
        q += c.width;
    }
    if (s->takes_newlines && newline) return newline;
    return q >= end || last == p ? q : last;
}

static inline const uint8_t *end_of_piece(const splitting *s, const uint8_t *p, const uint8_t *end) {
    character first = character_at(s, p);
    const uint8_t *q = p + first.width;
    int length;
    if (first.class == LETTER) return after_all(s, q, end, LETTER);
    if (*p == '\'' && s->has_contractions && (length = contraction(q, end))) return q + length;
    if (first.class == NUMBER) {
        for (int64_t n = 1; n < s->digits && is_at(s, q, end, NUMBER); n++) q += character_at(s, q).width;
        return q;
    }
    if ((*p == ' ' || (s->takes_any_before && !is_newline(*p))) && is_at(s, q, end, LETTER))
        return after_all(s, q, end, LETTER);
    if (first.class == OTHER || (*p == ' ' && is_at(s, q, end, OTHER))) {
        q = after_all(s, q, end, OTHER);
        while (s->takes_newlines && q < end && is_newline(*q)) q++;
        return q;
    }
    return end_of_space(s, p, end);
}

#endif
