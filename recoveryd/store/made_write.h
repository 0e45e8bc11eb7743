/*
 * made_write: content that the server makes itself (baselines, what it derives), as a batch of one
 * write, like those of monitors: an index can be rebuilt from it, too.
 */
#ifndef SANREWIND_RECOVERYD_MADE_WRITE_H
#define SANREWIND_RECOVERYD_MADE_WRITE_H

#include "common/buffer.h"
#include "proto/record.h"
#include "recoveryd/store/segments.h"

/* A batch holds the payload and less than this. */
enum { MADE_WRITE_ROOM_BYTES = 4096 };

/*
 * Appends `update`, a WRITE of update->update.payload_bytes bytes whose checksum is filled in here,
 * with its payload. *extent: where the payload is. `batch` is only room that is used again.
 */
int made_write_append(struct segment_writer *w, struct buffer *batch, uint64_t monitor,
                      uint64_t stream, struct record *update, const uint8_t *payload,
                      struct extent *extent, struct error *err);

#endif
