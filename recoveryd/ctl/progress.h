/*
 * progress: bytes, rate and time left of long work, on a terminal; nothing when standard error is
 * none.
 */
#ifndef SANREWIND_RECOVERYD_PROGRESS_H
#define SANREWIND_RECOVERYD_PROGRESS_H

#include "common/clock.h"

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *what; /* borrowed */
    bool terminal;
    struct mono start;
    struct mono shown;
};

void progress_begin(struct progress *p, const char *what);
/* For callbacks: `context` is the struct progress. */
void progress_show(void *context, uint64_t done_bytes, uint64_t total_bytes);
/* Leaves an empty line behind. */
void progress_end(struct progress *p);

#endif
