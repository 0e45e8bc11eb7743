/*
 * batch: a message full of records, from the capture worker to every link, and back for reuse.
 *
 * The pool hands out empty batches and bounds how many there are: a worker that is faster than its
 * links waits in batch_pool_take(). A filled batch is shared by the links, read-only, and counted;
 * the last one to put it back returns it to the pool. Thread-safe.
 */
#ifndef SANREWIND_TAP_BATCH_H
#define SANREWIND_TAP_BATCH_H

#include "common/buffer.h"
#include "common/cleanup.h"
#include "common/clock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BATCH_STOP_PATIENCE_NS (10 * NS_PER_SECOND)

struct batch_pool;

struct batch {
    struct buffer frame;  /* the whole message */
    uint64_t first_order; /* order marks [first_order, end_order) are in it */
    uint64_t end_order;
    uint32_t records;
    uint64_t updates;
    struct batch_pool *pool;
    int references; /* guarded by the pool's lock */
    bool loose;     /* a copy: does not go back */
    struct batch *next_free;
};

/* At most `count` batches exist at once. NULL: out of memory. */
struct batch_pool *batch_pool_create(size_t count);
/* All batches must be back. */
void batch_pool_destroy(struct batch_pool *pool);

/*
 * An empty batch, begun as a message. Waits for one to come back; NULL when closed, out of memory,
 * or when none came back for BATCH_STOP_PATIENCE after stop_requested().
 */
struct batch *batch_pool_take(struct batch_pool *pool);
/* Most batches are under way: what need not be sent now should wait. */
bool batch_pool_is_scarce(struct batch_pool *pool);
/* Wakes whoever waits: nothing will come back any more. */
void batch_pool_close(struct batch_pool *pool);
/*
 * A filled batch with another frame (or its own), in no more memory than it needs, which does not
 * count among those of the pool: for whoever keeps it for long. NULL: out of memory.
 */
struct batch *batch_copy(const struct batch *batch, const struct buffer *frame);
/* One more user of a filled batch. */
void batch_hold(struct batch *batch);
void batch_put(struct batch *batch);

DEFINE_AUTO(batch_pool, batch_pool_destroy)

#endif
