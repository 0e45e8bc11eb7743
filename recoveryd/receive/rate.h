/*
 * rate: at most one log line in an interval, with the number of those that were left out.
 */
#ifndef SANREWIND_RECOVERYD_RATE_H
#define SANREWIND_RECOVERYD_RATE_H

#include "common/clock.h"

#include <stdbool.h>

struct rate {
    struct mono last;
    bool begun;
    uint64_t left_out;
};

/* True: write the line now; *left_out is how many were not written since the one before. */
static inline bool rate_allows(struct rate *r, uint64_t interval_ns, uint64_t *left_out) {
    if (r->begun && clock_since_ns(r->last) < interval_ns) {
        r->left_out++;
        return false;
    }
    *left_out = r->left_out;
    *r = (struct rate){.last = clock_mono(), .begun = true};
    return true;
}

#endif
