/*
 * stamp: the order stamp, one total order over the updates of all monitors.
 */
#ifndef SANREWIND_PROTO_STAMP_H
#define SANREWIND_PROTO_STAMP_H

#include <stdint.h>

struct stamp {
    uint64_t time_ns; /* time mark: wall time of the packet with GOOD status, non-decreasing per
                         stream */
    uint64_t monitor; /* stamp_monitor_id() of the monitor's name */
    uint64_t stream;  /* wall time in ns at which the stream was opened: unique per monitor */
    uint64_t order;   /* order mark: dense from 0 per stream */
};

/* < 0, 0, > 0 as a comes before, is, or comes after b. */
static inline int stamp_compare(const struct stamp *a, const struct stamp *b) {
    const uint64_t left[] = {a->time_ns, a->monitor, a->stream, a->order};
    const uint64_t right[] = {b->time_ns, b->monitor, b->stream, b->order};
    for (int i = 0; i < 4; i++) {
        if (left[i] != right[i])
            return left[i] < right[i] ? -1 : 1;
    }
    return 0;
}

/* The number that stands for a monitor's name: first 8 bytes of its SHA-256, big-endian. */
uint64_t stamp_monitor_id(const char *name);

#endif
