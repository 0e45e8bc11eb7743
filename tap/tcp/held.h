/*
 * held: bytes of one direction that cannot be delivered yet, as disjoint pieces sorted by offset.
 *
 * What overlaps is compared, counted, and not stored. Where two copies differ nobody knows which
 * one the receiver took: from there on the piece's bytes are as if the capture's snap length had
 * cut them off. Such bytes are part of a piece (they take sequence space) without being there. A
 * piece also carries what must be delivered before it. Not thread-safe.
 */
#ifndef SANREWIND_TAP_HELD_H
#define SANREWIND_TAP_HELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    /* Bounds the work of an insertion, which moves pointers; a full window of small segments fits.
     */
    HELD_PIECES = 16384,
};

/* Consecutive bytes of one direction, and what is to be known of them. */
struct span {
    uint64_t offset;  /* of the first byte, in its own direction */
    uint64_t needs;   /* offset that the other direction must have reached first */
    uint64_t time_ns; /* packet time */
    uint32_t bytes;   /* of sequence space */
    uint32_t kept; /* of them captured, from the first on: fewer when the capture cut the segment */
    uint32_t stamp; /* RFC 7323 TSval, where `stamped` */
    bool stamped;
    bool again; /* it was sent after what lies behind it */
};

struct piece {
    struct span span;
    uint32_t room;  /* bytes taken for data */
    uint8_t data[]; /* span.kept bytes */
};

struct held {
    struct piece **pieces; /* owned; the live ones are [first, end) */
    size_t first;
    size_t end;
    size_t capacity;
    size_t memory; /* taken by the pieces */
};

/* What an insertion found of bytes that were there already. */
struct held_overlap {
    uint64_t duplicate_bytes;
    uint64_t conflicting_bytes; /* of them, those with another value */
};

static inline bool held_empty(const struct held *h) {
    return h->first == h->end;
}

/* The piece with the least offset; NULL when empty. */
static inline struct piece *held_front(const struct held *h) {
    return held_empty(h) ? NULL : h->pieces[h->first];
}

/* The offset behind the last piece; 0 when empty. */
static inline uint64_t held_end(const struct held *h) {
    if (held_empty(h))
        return 0;
    const struct span *last = &h->pieces[h->end - 1]->span;
    return last->offset + last->bytes;
}

/*
 * Keep the parts of `span` that are not held yet, with a copy of their bytes from `data`. False
 * when memory or HELD_PIECES ended: what was not kept is as if it had never been seen.
 */
bool held_add(struct held *h, const struct span *span, const uint8_t *data,
              struct held_overlap *overlap);
/* Take the front out; the caller frees it. Not when empty. */
struct piece *held_pop(struct held *h);
/* Drop what lies outside of [start, end), trimming a piece across the start. */
void held_clip(struct held *h, uint64_t start, uint64_t end);
/* Drop all, and give the memory back. */
void held_release(struct held *h);

#endif
