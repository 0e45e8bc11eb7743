/*
 * rangeset: a set of 64-bit numbers kept as sorted, disjoint, half-open ranges [start, end).
 *
 * Holds what has arrived of a TCP stream, of a write's data, of a stream's order marks. The number
 * of ranges is limited at init: an add that would pass it is refused, and the caller says what that
 * means (a hole that never fills must not take memory without bound). Appending at the end is O(1),
 * anything else a binary search and a move. Not thread-safe.
 */
#ifndef SANREWIND_COMMON_RANGESET_H
#define SANREWIND_COMMON_RANGESET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct range {
    uint64_t start;
    uint64_t end;
};

struct rangeset {
    struct range *ranges; /* owned */
    size_t count;
    size_t capacity;
    size_t limit;
};

void rangeset_init(struct rangeset *s, size_t limit);
void rangeset_release(struct rangeset *s);
void rangeset_clear(struct rangeset *s);

/* False when the limit or the memory ends: the set is then unchanged. Empty ranges are taken. */
bool rangeset_add(struct rangeset *s, uint64_t start, uint64_t end);
/* False when a split would pass the limit: the set is then unchanged. */
bool rangeset_remove(struct rangeset *s, uint64_t start, uint64_t end);

bool rangeset_contains(const struct rangeset *s, uint64_t start, uint64_t end);
/* First number >= from that is not in the set. */
uint64_t rangeset_first_missing(const struct rangeset *s, uint64_t from);
/* The first missing part of [start, end); false when all of it is there. */
bool rangeset_missing(const struct rangeset *s, uint64_t start, uint64_t end, struct range *hole);
/* The first part of the set inside [start, end); false when none of it is there. */
bool rangeset_overlap(const struct rangeset *s, uint64_t start, uint64_t end, struct range *part);
/* How many numbers are in it. */
uint64_t rangeset_total(const struct rangeset *s);

#endif
