/*
 * reclaim: gives the disk back what is dead in segments, and packs what is not.
 *
 * What is alive is found by looking at everything that the index points at, not by what it was told
 * to be dead: a payload goes only when nothing points at it, its record was durable, and no view is
 * open that is older than that look.
 */
#ifndef SANREWIND_RECOVERYD_RETENTION_RECLAIM_H
#define SANREWIND_RECOVERYD_RETENTION_RECLAIM_H

#include "recoveryd/settle/background.h"
#include "recoveryd/store/pack.h"
#include "recoveryd/store/store.h"

struct reclaim_options {
    uint64_t quiet_ns; /* segments that were written since are left alone */
    /* Of what a segment takes on disk, so much must be dead: 1/share; and of all of them together,
     * 1/total_share, as a look at the whole index is needed. */
    unsigned share;
    unsigned total_share;
    enum pack_level level;
};
extern const struct reclaim_options reclaim_defaults;

struct reclaim_result {
    uint64_t segments; /* that were packed */
    uint64_t before_bytes;
    uint64_t after_bytes;
};
/* What is worth it now. ERR_BUSY: an old view is open; later, then. */
int reclaim(struct store *s, const struct reclaim_options *options, struct reclaim_result *result,
            struct error *err);

/* Both pack as the store's pack_level says. */
extern const struct background_work background_reclaim;
/* Segments that are full, and quiet for a while, so that they take less. */
extern const struct background_work background_pack;

#endif
