/*
 * restore_target: where a restored image goes: a new file, or a block device. Internal to restore.
 */
#ifndef SANREWIND_RECOVERYD_RESTORE_TARGET_H
#define SANREWIND_RECOVERYD_RESTORE_TARGET_H

#include "common/cleanup.h"
#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct restore_target;

int restore_target_open(const char *path, uint64_t size_bytes, struct restore_target **out,
                        struct error *err);
/* Removes what was not finished. */
void restore_target_close(struct restore_target *t);

/*
 * Puts bytes in their place. Zeros become holes in a file, and are written to a device. Thread-safe
 * for ranges that do not overlap. *written: bytes that are not holes.
 */
int restore_target_put(struct restore_target *t, uint64_t offset, const uint8_t *data, size_t bytes,
                       bool all_zero, uint64_t *written, struct error *err);
/* Everything is on stable storage and, for a file, under its name. */
int restore_target_finish(struct restore_target *t, struct error *err);

/* A name that a file in it got, or lost, is durable. */
int restore_target_sync_directory(const char *path, struct error *err);

DEFINE_AUTO(restore_target, restore_target_close)

#endif
