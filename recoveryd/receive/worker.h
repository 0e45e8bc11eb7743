/*
 * worker: the threads that verify batches and append them to segments.
 *
 * Each has a segment writer of its own, so that they never wait for each other. A malformed batch
 * is refused to its sender, counted, and leaves nothing behind. A full disk makes a worker wait
 * with the batch in its hand.
 */
#ifndef SANREWIND_RECOVERYD_WORKER_H
#define SANREWIND_RECOVERYD_WORKER_H

#include "common/queue.h"
#include "recoveryd/receive/full.h"
#include "recoveryd/receive/landed.h"
#include "recoveryd/store/room.h"
#include "recoveryd/store/segments.h"

#include <stdatomic.h>

struct worker {
    /* All borrowed. */
    unsigned number;
    struct queue *frames; /* in: struct frame, its context the admitted struct stream */
    struct queue *landed; /* out: struct landed */
    struct streams *streams;
    struct segment_writer *writer;
    struct room *room;            /* asked before each append; NULL: no limits */
    struct sender *sender;        /* the worker's own */
    _Atomic uint64_t *held_bytes; /* what frames take up; the worker gives back */
    /* Its own. */
    struct full full; /* with `stalled` set */
    uint64_t malformed;
    struct rate malformed_lines;
};

/* Runs until `frames` is closed and empty: 0. ERR_STOPPED: stop was requested while the disk was
 * full. */
int worker_run(struct worker *w, struct error *err);

/* One frame, which is destroyed; its stream is passed on or released. */
int worker_take(struct worker *w, struct frame *frame, struct error *err);

#endif
