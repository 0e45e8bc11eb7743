/*
 * thin: what is left of a batch whose bytes cannot be kept.
 *
 * Each UPDATE with a payload becomes a GAP (reason overflow) with the same stamp, over the same
 * range: the smallest thing that can be said of it, and it needs no other place in the order of
 * stamps. Large AUDITs become FRONTIERs that promise nothing. All other records stay as they are,
 * and the order marks are as dense as before.
 */
#ifndef SANREWIND_TAP_THIN_H
#define SANREWIND_TAP_THIN_H

#include "common/buffer.h"
#include "common/error.h"

#include <stddef.h>
#include <stdint.h>

/*
 * Writes the thinned batch to `out`, which is cleared before. *lost is increased by the updates
 * that became gaps. ERR_FORMAT: not a batch. Fails through out->failed as well.
 */
int thin_batch(const uint8_t *frame, size_t bytes, struct buffer *out, uint64_t *lost,
               struct error *err);

#endif
