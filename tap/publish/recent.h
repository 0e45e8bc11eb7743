/*
 * recent: the updates that no promise covers yet, for gaps that turn out to be older than they are.
 *
 * A loss is certain only some time after it happened. Whether an update of that time came before or
 * after what was lost nobody can tell: it must not end the gap.
 */
#ifndef SANREWIND_TAP_RECENT_H
#define SANREWIND_TAP_RECENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct recent_update {
    uint64_t time_ns; /* time mark */
    uint64_t path;
    uint64_t offset_bytes;
    uint64_t length_bytes;
};

/* All zeros is empty. */
struct recent {
    struct recent_update *updates; /* owned; in the order of the stream */
    size_t count;
    size_t capacity;
};

void recent_release(struct recent *r);
/* Where the next one is to be written, in full; NULL when there is no room: what it would have said
 * is lost. */
struct recent_update *recent_add(struct recent *r);
/* What a promise up to time_ns covers is not needed any more. */
void recent_settle(struct recent *r, uint64_t time_ns);

#endif
