/*
 * spool_world: batches of known content, and a folder, for the tests of the spool.
 */
#ifndef SANREWIND_TESTS_SPOOL_WORLD_H
#define SANREWIND_TESTS_SPOOL_WORLD_H

#include "tap/publish/spool.h"

enum { WORLD_MONITOR = 11, WORLD_STREAM = 22, WORLD_PAYLOAD = 60000, WORLD_MARKS = 2 };

struct spool_world {
    char dir[64];
    struct batch_pool *pool;
    struct spool *spool;
    struct outlet outlet;
    uint64_t next_order;
    uint64_t marks; /* that a batch takes, whatever is in it; 0: WORLD_MARKS */
};

void spoolworld_open(struct spool_world *w);
void spoolworld_close(struct spool_world *w);
/* With the folder, and so that `required` of `sinks` must acknowledge. */
struct spool_options spoolworld_options(struct spool_world *w, unsigned sinks, unsigned required);
void spoolworld_start(struct spool_world *w, const struct spool_options *options);
void spoolworld_stop(struct spool_world *w);

/*
 * A batch with an update of 60,000 bytes and a flush, which take the marks [order, order + 2); the
 * update's range is at order × 65536.
 */
void spoolworld_fill(struct buffer *frame, uint64_t stream, uint64_t order);
/* Puts so many of them in. */
void spoolworld_put(struct spool_world *w, unsigned count);
/* All from the reader on are there; how many of them have become gaps. */
unsigned spoolworld_read(struct spool_world *w, struct spool_reader *r, unsigned count);
void spoolworld_acknowledge(struct spool_world *w, unsigned sink, uint64_t frontier);
/* How many spool files there are, and their bytes. */
unsigned spoolworld_files(const struct spool_world *w, uint64_t *bytes);

#endif
