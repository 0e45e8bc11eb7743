/*
 * runs: the pieces of a chunk, as packed changes, and keyframes among them. Internal to the index.
 *
 * A keyframe holds what the chunk's runs showed at a stamp: the changes up to there, without what
 * lay hidden under newer ones of the same monitor. (What lies under those of another one may have
 * come after them: an image has to see both.) Every few hundred changes there is one, so that what
 * a look-up at any time reads does not grow with the history.
 */
#ifndef SANREWIND_RECOVERYD_RUNS_H
#define SANREWIND_RECOVERYD_RUNS_H

#include "recoveryd/index/change.h"
#include "recoveryd/index/kv.h"

/*
 * Puts changes of one chunk (cut to it, sorted by stamp) among those that are there; of equal
 * stamps the one that was there stays. Keeps the keyframes right.
 */
int runs_insert(struct kv_txn *t, uint64_t path, uint64_t level_chunk, const struct change *list,
                size_t count, struct error *err);

/*
 * Takes changes out, whose stamps are sorted and which newer ones up to `until` hide, each by those
 * of its own monitor: what a look-up at `until` or later shows stays the same. Not what one before
 * that shows. `beyond`: what hides them does not lie in the runs of this chunk, so that later
 * keyframes hold them, too. `gone` says of each whether it was there.
 */
int runs_drop(struct kv_txn *t, uint64_t path, uint64_t level_chunk, const struct stamp *stamps,
              size_t count, const struct stamp *until, bool beyond, bool *gone, struct error *err);

/* Whether the runs of the chunk have a change of this stamp. */
int runs_have(struct kv_txn *t, uint64_t path, uint64_t level_chunk, const struct stamp *stamp,
              bool *have, struct error *err);

/* One chunk being read, newest change first. Not longer than its transaction. */
struct run_cursor;
/* `all`: without keyframes, so that nothing is left out. */
int runs_open(struct kv_txn *t, bool all, struct run_cursor **out, struct error *err);
void run_cursor_close(struct run_cursor *c);
/*
 * The newest change with a stamp <= until; then the next older one. Unless all are wanted, what
 * lies hidden may be left out, and what is left of one may come in several parts. Valid until the
 * next call. ERR_NOT_FOUND without a text: there is none.
 */
int runs_seek(struct run_cursor *c, uint64_t path, uint64_t level_chunk, const struct stamp *until,
              const struct change **change, struct error *err);
int runs_previous(struct run_cursor *c, const struct change **change, struct error *err);

DEFINE_AUTO(run_cursor, run_cursor_close)

#endif
