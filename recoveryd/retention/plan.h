/*
 * plan: which stretches of a volume's history its rule lets go.
 *
 * Kept are: every moment of the last `every_ns` before the watermark; before that the moments that
 * are multiples of `step_ns` since the epoch, so that those of several volumes are the same;
 * nothing before `until_ns`, but for one moment there, the horizon, into which all that was before
 * is folded. Stretches are not planned one by one as time goes by but when a good part has come
 * together, because every pass walks the whole index of the path. So a little more is kept than the
 * rule says, and never less, except for what `bytes` takes.
 */
#ifndef SANREWIND_RECOVERYD_RETENTION_PLAN_H
#define SANREWIND_RECOVERYD_RETENTION_PLAN_H

#include "recoveryd/image/volume.h"
#include "recoveryd/index/thinned.h"

/* What is newer than this before the watermark is never thinned: audits and copies look at it. */
#define RETENTION_MARGIN_NS (UINT64_C(120) * 1000000000)

struct plan {
    struct thinned_entry *list; /* owned */
    size_t count;
    size_t capacity;
    bool breaks;     /* `bytes` takes what the rest of the rule would keep */
    uint64_t cut_ns; /* the new horizon; 0: it stays */
    uint64_t held;   /* bytes of the volume */
};

/* Zero-initialise `plan`. Nothing in it: nothing is to be done. */
int plan_make(struct index_reader *r, const struct volume *v, const struct retention_entry *rule,
              struct plan *plan, struct error *err);
void plan_release(struct plan *plan);
#define AUTO_PLAN __attribute__((cleanup(plan_release))) struct plan

/*
 * When the volume's history will be as long as its rule promises; 0: it is, or nothing is promised.
 */
uint64_t retention_promise(const struct volume *v, const struct retention_entry *rule);

/* Payload bytes that the index points at for the volume, its baselines included. */
int retention_held(struct index_reader *r, const struct volume *v, uint64_t *bytes,
                   struct error *err);

#endif
