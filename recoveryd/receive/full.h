/*
 * full: what a thread does while the disk is full: say so once a minute, wait a little, try again.
 */
#ifndef SANREWIND_RECOVERYD_FULL_H
#define SANREWIND_RECOVERYD_FULL_H

#include "common/error.h"
#include "recoveryd/receive/rate.h"

#include <stdatomic.h>

struct full {
    atomic_uint *stalled; /* borrowed: how many threads wait */
    bool waiting;         /* this one does */
    struct rate lines;
};

/* After ERR_FULL with its sentence. True: try again; false: stop was requested meanwhile. */
bool full_wait(struct full *f, const struct error *err);
/* It is over, one way or the other. */
void full_end(struct full *f);

#endif
