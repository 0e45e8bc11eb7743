/*
 * stamper: order marks and time marks of one stream.
 *
 * Order marks are dense from 0. Time marks are packet times, later than every frontier that was
 * promised: a recovery server may have let somebody restore up to there. They may step back: what a
 * connection held back is given late, and a loss is older than the moment in which it is certain.
 */
#ifndef SANREWIND_TAP_STAMPER_H
#define SANREWIND_TAP_STAMPER_H

#include <stdint.h>

struct stamper {
    uint64_t next_order;
    uint64_t last_ns;     /* greatest time mark given */
    uint64_t promised_ns; /* greatest frontier promised */
};

static inline uint64_t stamper_time(struct stamper *s, uint64_t packet_ns) {
    uint64_t time_ns = packet_ns;
    if (time_ns <= s->promised_ns)
        time_ns = s->promised_ns + 1;
    if (time_ns > s->last_ns)
        s->last_ns = time_ns;
    return time_ns;
}

static inline uint64_t stamper_order(struct stamper *s) {
    return s->next_order++;
}

/* What may be promised when everything up to seen_ns is in the stream. */
static inline uint64_t stamper_promise(struct stamper *s, uint64_t seen_ns) {
    if (seen_ns > s->promised_ns)
        s->promised_ns = seen_ns;
    return s->promised_ns;
}

#endif
