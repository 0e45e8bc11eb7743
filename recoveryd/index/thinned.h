/*
 * thinned: what retention takes out of the index, and the record of it.
 *
 * A thinned stretch of a path is (from, until]: of the changes in it, those are gone that newer
 * ones of the same path and monitor, up to `until`, hide wholly; or a baseline of the volume does.
 * So an image at `from`, at `until` or outside is what it always was, and one strictly inside
 * cannot be made any more: image_open() refuses it. The stretch is written down before anything is
 * taken out. One that begins at 0 is the path's horizon: what was before is folded into what it was
 * at `until`.
 *
 * A baseline's base path is thinned up to the horizon, too: what was written over its pieces by
 * then, on the path that the baseline is of, hides them.
 *
 * Gaps, floors and what is waiting to be derived are never taken out; nor are changes that lie in
 * chunks of a higher level (an UNMAP of very much), which have no payload worth it.
 */
#ifndef SANREWIND_RECOVERYD_THINNED_H
#define SANREWIND_RECOVERYD_THINNED_H

#include "recoveryd/index/index.h"

struct thinned_entry {
    uint64_t path;
    uint64_t from_ns; /* 0: the horizon */
    uint64_t until_ns;
    /* How far the work is: chunks below this one; then THINNED_HISTORY, up to the stamp `next`. */
    uint64_t next_chunk;
    struct stamp next;
};
#define THINNED_HISTORY INDEX_CHUNK_COUNT
#define THINNED_DONE    UINT64_MAX

/*
 * The stretch that keeps an image of the path at time_ns from being made. `below`: one of only some
 * of the changes of that time, for which the stretch's own end will not do either. ERR_NOT_FOUND
 * without a text: none does.
 */
int index_thinned_at(struct index_reader *r, uint64_t path, uint64_t time_ns, bool below,
                     struct thinned_entry *e, struct error *err);
/* The first one that is not done. ERR_NOT_FOUND: all are. */
int index_next_thinning(struct index_reader *r, struct thinned_entry *e, struct error *err);
/* Of one path: where its first stretch ends if that is a horizon, and where its last one does; 0:
 * there is none. */
int index_thinned_ends(struct index_reader *r, uint64_t path, uint64_t *horizon_ns,
                       uint64_t *until_ns, struct error *err);

/* New stretches, in one commit; what lay wholly inside of one of them goes into it. */
int index_put_thinned(struct index *i, const struct thinned_entry *list, size_t count,
                      struct error *err);

struct thin_result {
    uint64_t changes; /* that were taken out */
    uint64_t bytes;   /* of their ranges that had a payload */
};
/* What hides changes of the path beside those of its own. */
struct thin_ground {
    struct stamp baseline; /* everything older; all zeros: nothing */
    /* Of the base path of a baseline: what was written over it, on the path that the baseline is
     * of, since that. 0: it is no base path. */
    uint64_t over_path;
    struct stamp over_since;
};
/*
 * One step of taking out, in a short transaction of its own, and `e` moves on, to THINNED_DONE at
 * last. By one thread. The results are added.
 */
int index_thin(struct index *i, struct thinned_entry *e, const struct thin_ground *ground,
               struct thin_result *result, struct error *err);

/* --- how much is kept --------------------------------------------------------------------------
 */

/* Bytes of the payloads that the path's changes still point at, where they are not derived. */
int index_held(struct index_reader *r, uint64_t path, uint64_t *bytes, struct error *err);
/* Bytes of each segment that were pointed at once and are no more. */
int index_each_dead(struct index_reader *r, bool (*visit)(void *, uint32_t segment, uint64_t bytes),
                    void *context, struct error *err);

/*
 * Every place in the segments that the index points at, often several times; ERR_FORMAT when there
 * is anything that cannot be read, so that nobody takes silence for an answer.
 */
int index_each_extent(struct index_reader *r, bool (*visit)(void *, const struct extent *),
                      void *context, struct error *err);
/* The segment was rid of so many bytes that were dead; what was let go since then still counts. */
int index_forget_dead(struct index *i, uint32_t segment, uint64_t bytes, struct error *err);
/* Moments of the index are numbered: that of a reader, and of the oldest reader of all processes
 * (UINT64_MAX: none is open). */
uint64_t index_moment(const struct index_reader *r);
int index_oldest_moment(struct index *i, uint64_t *moment, struct error *err);

/* --- how much shall be kept --------------------------------------------------------------------
 */

/* Every moment for `every_ns`, then one each `step_ns`, until `until_ns`; `bytes` of payloads at
 * most. 0: no such rule. */
struct retention_entry {
    char volume[LIMIT_NAME_BYTES + 1]; /* its id; "": of those that have none of their own */
    uint64_t every_ns;
    uint64_t step_ns;
    uint64_t until_ns;
    uint64_t bytes;
};

/* `remove`: the volume has no rule of its own any more. */
int index_put_retention(struct index *i, const struct retention_entry *e, bool remove,
                        struct error *err);
/* That of the volume, or else the common one. ERR_NOT_FOUND: neither. */
int index_get_retention(struct index_reader *r, const char *volume, struct retention_entry *e,
                        struct error *err);
int index_each_retention(struct index_reader *r,
                         bool (*visit)(void *, const struct retention_entry *), void *context,
                         struct error *err);

#endif
