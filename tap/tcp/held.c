#include "tap/tcp/held.h"

#include "common/cursor.h"

#include <stdlib.h>
#include <string.h>

enum {
    FEW_PIECES = 16,
    OVERHEAD_BYTES = 24, /* of malloc, and the pointer to it: pieces can have a single byte */
};

static size_t memory_of(const struct piece *p) {
    return sizeof *p + p->room + OVERHEAD_BYTES;
}

static uint64_t end_of(const struct span *s) {
    return s->offset + s->bytes;
}

/* Index of the first piece that ends after `offset`. */
static size_t first_ending_after(const struct held *h, uint64_t offset) {
    size_t low = h->first;
    size_t high = h->end;
    if (low < high && end_of(&h->pieces[high - 1]->span) <= offset)
        return high; /* nearly always: behind all others */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (end_of(&h->pieces[middle]->span) <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool make_room(struct held *h, size_t *at) {
    size_t count = h->end - h->first;
    if (count >= HELD_PIECES)
        return false;
    if (h->end < h->capacity)
        return true;
    if (h->first > 0) {
        memmove(h->pieces, h->pieces + h->first, count * sizeof(struct piece *));
        *at -= h->first;
        h->first = 0;
        h->end = count;
    }
    if (count <= h->capacity / 2 && h->capacity > 0)
        return true;
    size_t capacity = h->capacity > 0 ? h->capacity * 2 : FEW_PIECES;
    struct piece **pieces = realloc(h->pieces, capacity * sizeof(struct piece *));
    if (pieces == NULL)
        return h->end < h->capacity;
    h->pieces = pieces;
    h->capacity = capacity;
    return true;
}

/* A copy of bytes [start, end) of `whole`, placed at index *at. */
static bool insert_part(struct held *h, size_t *at, const struct span *whole, const uint8_t *data,
                        uint64_t start, uint64_t end) {
    uint32_t skip = (uint32_t)(start - whole->offset);
    uint32_t bytes = (uint32_t)(end - start);
    struct cursor from = cursor_of(data, whole->kept);
    if (!cursor_skip(&from, skip))
        from = cursor_of(data, 0);
    uint32_t kept = (uint32_t)cursor_left(&from);
    if (kept > bytes)
        kept = bytes;
    struct piece *part = malloc(sizeof *part + kept);
    if (part == NULL || !make_room(h, at)) {
        free(part);
        return false;
    }
    part->span = *whole;
    part->span.offset = start;
    part->span.bytes = bytes;
    part->span.kept = kept;
    part->room = kept;
    if (kept > 0)
        cursor_copy(&from, part->data, kept);
    memmove(h->pieces + *at + 1, h->pieces + *at, (h->end - *at) * sizeof(struct piece *));
    h->pieces[(*at)++] = part;
    h->end++;
    h->memory += memory_of(part);
    return true;
}

/* Bytes [start, end) are both in `there` and in the newcomer. */
static void meet(struct piece *there, const struct span *whole, const uint8_t *data, uint64_t start,
                 uint64_t end, struct held_overlap *overlap) {
    overlap->duplicate_bytes += end - start;
    /* A copy that was sent earlier acknowledges less: the bytes depend on no more than that. */
    if (start == there->span.offset && end == end_of(&there->span) &&
        whole->needs < there->span.needs)
        there->span.needs = whole->needs;
    struct cursor ours = cursor_of(there->data, there->span.kept);
    struct cursor theirs = cursor_of(data, whole->kept);
    if (!cursor_skip(&ours, (size_t)(start - there->span.offset)) ||
        !cursor_skip(&theirs, (size_t)(start - whole->offset)))
        return;
    size_t bytes = (size_t)(end - start);
    if (bytes > cursor_left(&ours))
        bytes = cursor_left(&ours);
    if (bytes > cursor_left(&theirs))
        bytes = cursor_left(&theirs);
    const uint8_t *a = cursor_bytes(&ours, bytes);
    const uint8_t *b = cursor_bytes(&theirs, bytes);
    if (memcmp(a, b, bytes) == 0)
        return;
    size_t same = 0;
    while (a[same] == b[same])
        same++;
    for (size_t i = same; i < bytes; i++)
        overlap->conflicting_bytes += a[i] != b[i];
    there->span.kept = (uint32_t)(start - there->span.offset + same);
}

bool held_add(struct held *h, const struct span *span, const uint8_t *data,
              struct held_overlap *overlap) {
    uint64_t at = span->offset;
    uint64_t end = end_of(span);
    size_t i = first_ending_after(h, at);
    while (at < end) {
        struct piece *there = i < h->end ? h->pieces[i] : NULL;
        if (there == NULL || there->span.offset >= end)
            return insert_part(h, &i, span, data, at, end);
        if (there->span.offset > at) {
            if (!insert_part(h, &i, span, data, at, there->span.offset))
                return false;
            at = there->span.offset;
        }
        uint64_t shared_end = end_of(&there->span) < end ? end_of(&there->span) : end;
        meet(there, span, data, at, shared_end, overlap);
        at = shared_end;
        i++;
    }
    return true;
}

struct piece *held_pop(struct held *h) {
    struct piece *front = h->pieces[h->first++];
    h->memory -= memory_of(front);
    if (held_empty(h) && h->capacity > FEW_PIECES) {
        free(h->pieces); /* or else every connection that once held much would keep a large table */
        *h = (struct held){0};
    } else if (held_empty(h)) {
        h->first = 0;
        h->end = 0;
    }
    return front;
}

/* The part of `p` from `start` on; what was kept moves to the front. */
static void trim_front(struct piece *p, uint64_t start) {
    struct span *span = &p->span;
    uint32_t gone = (uint32_t)(start - span->offset);
    uint32_t gone_kept = gone < span->kept ? gone : span->kept;
    memmove(p->data, p->data + gone_kept, span->kept - gone_kept);
    span->offset = start;
    span->bytes -= gone;
    span->kept -= gone_kept;
}

void held_clip(struct held *h, uint64_t start, uint64_t end) {
    while (!held_empty(h) && end_of(&held_front(h)->span) <= start)
        free(held_pop(h));
    if (!held_empty(h) && held_front(h)->span.offset < start)
        trim_front(held_front(h), start);
    while (!held_empty(h) && h->pieces[h->end - 1]->span.offset >= end) {
        struct piece *last = h->pieces[--h->end];
        h->memory -= memory_of(last);
        free(last);
    }
}

void held_release(struct held *h) {
    while (!held_empty(h))
        free(held_pop(h));
    free(h->pieces);
    *h = (struct held){0};
}
