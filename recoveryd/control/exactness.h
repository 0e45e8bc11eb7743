/*
 * exactness: whether the newest image of a volume is exact, remembered for as long as nothing that
 * decides it has changed.
 *
 * To find out means to walk the maps of all chunks that may not be. What decides the outcome is
 * counted at a small cost: the updates and gaps up to the watermark, the number of the store's
 * facts, what waits to be settled, the size. While all of these are the same, so is the outcome.
 */
#ifndef SANREWIND_RECOVERYD_EXACTNESS_H
#define SANREWIND_RECOVERYD_EXACTNESS_H

#include "common/cleanup.h"
#include "recoveryd/image/volume.h"

struct exactness;

struct exactness_answer {
    bool exact;
    uint64_t gaps;
    char why[256]; /* it cannot be restored at all; empty: it can */
};

/* The store is borrowed. Thread-safe. NULL: out of memory. */
struct exactness *exactness_create(struct store *store);
void exactness_destroy(struct exactness *x);

/* `r` is the reader that the volume was read with. */
int exactness_of(struct exactness *x, struct index_reader *r, const struct volume *v,
                 struct exactness_answer *answer, struct error *err);

#endif
