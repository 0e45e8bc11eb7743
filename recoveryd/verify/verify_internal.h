/*
 * verify_internal: what the two ways of verify share.
 */
#ifndef SANREWIND_RECOVERYD_VERIFY_INTERNAL_H
#define SANREWIND_RECOVERYD_VERIFY_INTERNAL_H

#include "recoveryd/verify/verify.h"

/* A path whose pieces are looked at: of a volume, or the pseudo-path of one of its baselines. */
struct target {
    uint64_t path;
    size_t volume; /* in the result's volumes */
    bool base;
};

struct segment_entry {
    uint32_t segment;
    uint64_t bytes;       /* at the beginning */
    uint64_t pointed_end; /* the index points at nothing from here on; 0: at nothing at all */
};

struct verify {
    struct store *store;
    const struct verify_options *options;
    struct verify_result *result;
    struct target *targets;
    size_t target_count;
    size_t target_capacity;
    struct segment_entry *segments; /* ascending */
    size_t segment_count;
    size_t segment_capacity;
    uint64_t done_bytes;
    uint64_t total_bytes;
    bool no_memory;
};

/* NULL: it was not there at the beginning. */
struct segment_entry *verify_segment(struct verify *v, uint32_t segment);
/* More bytes were read. ERR_STOPPED. */
int verify_advance(struct verify *v, uint64_t bytes, struct error *err);
/*
 * Room for one more at the end of an array; false (and v->no_memory) when the memory ends. `items`
 * points to the array's pointer.
 */
bool verify_grow(struct verify *v, void *items, size_t count, size_t *capacity, size_t item_bytes);

/* Bytes of all distinct payloads that the targets point at, as far as that is told without reading
 * them. */
int verify_measure(struct verify *v, uint64_t *bytes, struct error *err);
/* From the index to the segments. */
int verify_payloads(struct verify *v, struct error *err);
/* From the segments to the index; after verify_payloads(). */
int verify_batches(struct verify *v, struct error *err);

#endif
