/*
 * restore_target: where a restored image goes: a new file, or a block device. Internal to restore.
 */
#ifndef SANREWIND_RECOVERYD_RESTORE_TARGET_H
#define SANREWIND_RECOVERYD_RESTORE_TARGET_H

#include "common/cleanup.h"
#include "common/error.h"
#include "recoveryd/image/restore_state.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct restore_target;

/*
 * With an identity (see restore_state.h) a file is PATH.partial until it is finished, and goes on
 * where the same restore was interrupted. NULL: a file of a name that nobody else has, for this
 * time only.
 */
int restore_target_open(const char *path, uint64_t size_bytes, const char *identity,
                        struct restore_target **out, struct error *err);
/* Removes what was not finished, unless it was to be kept. */
void restore_target_close(struct restore_target *t);

/*
 * Puts bytes in their place. Zeros become holes in a file, and are written to a device. Thread-safe
 * for ranges that do not overlap. *written: bytes that are not holes.
 */
int restore_target_put(struct restore_target *t, uint64_t offset, const uint8_t *data, size_t bytes,
                       bool all_zero, uint64_t *written, struct error *err);
/* How far an interrupted restore came, as it said; and whether there was one, but of something
 * else. */
const struct restore_state *restore_target_begun(const struct restore_target *t);
bool restore_target_was_other(const struct restore_target *t);
/* PATH.partial; NULL: this one cannot be resumed. */
const char *restore_target_partial(const struct restore_target *t);
int restore_target_read(struct restore_target *t, uint64_t offset, uint8_t *to, size_t bytes,
                        struct error *err);
/* Nothing from `done_bytes` on was written. */
int restore_target_rewind(struct restore_target *t, uint64_t done_bytes, struct error *err);
/* All before state->done_bytes is on stable storage, and the state says so. */
int restore_target_checkpoint(struct restore_target *t, const struct restore_state *state,
                              struct error *err);
/* To be resumed: closing leaves it. */
void restore_target_keep(struct restore_target *t);

/* Everything is on stable storage and, for a file, under its name. */
int restore_target_finish(struct restore_target *t, struct error *err);

/* A name that a file in it got, or lost, is durable. */
int restore_target_sync_directory(const char *path, struct error *err);

DEFINE_AUTO(restore_target, restore_target_close)

#endif
