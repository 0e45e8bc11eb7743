/*
 * committer: the thread that makes what has landed durable, in the one order that is safe: segments
 * synced, index committed, acknowledged.
 *
 * Each round takes whatever landed while the round before ran, so that batches share a sync the
 * more the faster they come. A full disk stops it: nothing is acknowledged, nothing is lost, and it
 * tries again until there is space. Any other failure of storage ends the server: what was not
 * acknowledged will be sent again.
 */
#ifndef SANREWIND_RECOVERYD_COMMITTER_H
#define SANREWIND_RECOVERYD_COMMITTER_H

#include "common/queue.h"
#include "recoveryd/receive/landed.h"
#include "recoveryd/store/store.h"

#include <stdatomic.h>

struct committer;

struct committer_options {
    /* All borrowed. */
    struct store *store;
    struct streams *streams;
    struct queue *landed;  /* of struct landed */
    struct sender *sender; /* the committer's own */
    struct segment_writer **writers;
    unsigned writer_count;
    uint64_t incarnation;
    atomic_uint *stalled; /* counts threads that wait for a full disk */
};

struct committer *committer_create(const struct committer_options *options);
void committer_destroy(struct committer *c);

/*
 * Runs until the queue is closed and empty: 0. ERR_FULL when stop was requested while the disk was
 * full; another error when storage failed.
 */
int committer_run(struct committer *c, struct error *err);

/* One round: waits up to timeout_ns for something to land, and commits it. 0 also when nothing did.
 */
int committer_round(struct committer *c, uint64_t timeout_ns, struct error *err);

DEFINE_AUTO(committer, committer_destroy)

#endif
