/*
 * payload: the data of one write while it arrives: in pieces, in any order, within bounded memory.
 *
 * Memory is taken in chunks as bytes come, never for what a header merely promises. All payloads of
 * a tracker share one pool, which knows its limit and keeps freed chunks for the next write.
 * Not thread-safe.
 */
#ifndef SANREWIND_TAP_PAYLOAD_H
#define SANREWIND_TAP_PAYLOAD_H

#include "common/cleanup.h"
#include "common/rangeset.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct payload_pool;
struct payload;

struct payload_pool *payload_pool_create(size_t limit_bytes);
void payload_pool_destroy(struct payload_pool *pool);
size_t payload_pool_used(const struct payload_pool *pool);
/* Is it so full that a write can fail for it? */
bool payload_pool_is_short(const struct payload_pool *pool);

/* An empty payload of `length` bytes to come. NULL: out of memory. */
struct payload *payload_create(struct payload_pool *pool, uint64_t length);
void payload_destroy(struct payload *p);

uint64_t payload_length(const struct payload *p);
/* False when the pool is exhausted, the bytes lie outside, or come in more pieces than can be
 * remembered: some of them may have been kept then, and all count as missing. */
bool payload_write(struct payload *p, uint64_t offset, const uint8_t *data, size_t bytes);
void payload_revoke(struct payload *p, uint64_t offset, uint64_t bytes);
/*
 * The first part of [start, end) that has not come; false when all is there. Bytes past the
 * length never come.
 */
bool payload_missing(const struct payload *p, uint64_t start, uint64_t end, struct range *hole);
/* First and last byte that have come, as a range; false when none has. */
bool payload_extent(const struct payload *p, struct range *extent);

/* How many bytes have come. */
uint64_t payload_arrived(const struct payload *p);
/* Are those of [offset, offset + bytes) that have come the same as `data`? */
bool payload_equals(const struct payload *p, uint64_t offset, const uint8_t *data, size_t bytes);
/* Does `whole`, which is complete and as long, hold the same bytes wherever some of `p` have come?
 */
bool payload_agrees(const struct payload *p, const struct payload *whole);
/* A payload of its own with a copy of [offset, offset + bytes), all of which has come. NULL: no
 * room. */
struct payload *payload_slice(const struct payload *p, uint64_t offset, uint64_t bytes);

/*
 * The bytes at `offset`: a pointer to as many as lie together, *bytes of them, at most `want`. Only
 * where the data is complete. NULL at the end.
 */
const uint8_t *payload_bytes(const struct payload *p, uint64_t offset, size_t want, size_t *bytes);
/* Copies [offset, offset + bytes) out. False: some of it has not come. */
bool payload_copy(const struct payload *p, uint64_t offset, uint8_t *to, size_t bytes);
/*
 * A number that tells contents apart (of complete data); 0: out of memory. A CRC would not: blocks
 * that end in a CRC of themselves, as file systems keep them, all have the same one.
 */
uint64_t payload_id64(const struct payload *p);
uint32_t payload_crc32c(const struct payload *p, uint64_t offset, uint64_t bytes);
bool payload_is_zero(const struct payload *p, uint64_t offset, uint64_t bytes);

DEFINE_AUTO(payload_pool, payload_pool_destroy)
DEFINE_AUTO(payload, payload_destroy)

#endif
