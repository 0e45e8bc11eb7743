/*
 * mangle: what mirror ports and captures do to traffic, reproducible by a seed.
 */
#ifndef SANREWIND_TESTS_MANGLE_H
#define SANREWIND_TESTS_MANGLE_H

#include "tests/property/packets.h"

#include <stdbool.h>

enum mangle_kind {
    MANGLE_REMOVE,    /* `count` packets from `at` on */
    MANGLE_THIN,      /* each packet lost with 1:count */
    MANGLE_DUPLICATE, /* each packet again, 1:4, up to 30 ms later */
    MANGLE_REORDER,   /* each packet up to 20 ms late; stamps stay */
    MANGLE_SNAP,      /* cut to `count` bytes */
    MANGLE_BEHEAD,    /* nothing before packet `at` */
    MANGLE_ONE_WAY,   /* one direction dropped: count 0 that to the server */
    MANGLE_SHIFT,     /* sequence numbers that wrap near packet `at` */
    MANGLE_SPLIT,     /* each segment in two, 1:2 */
    MANGLE_RESTART,   /* the monitor is restarted before packet `at` and misses `count` */
    MANGLE_MERGE,     /* neighbours of one direction in one, up to `count` bytes, as offload does */
    MANGLE_AGAIN,     /* bytes again with other boundaries, 1:16, up to `count` ms later */
    MANGLE_LATE,      /* each packet again, 1:32, one to two seconds later */
    MANGLE_SKEW,      /* one direction `count` ms late (odd: that to the server); stamps stay */
    MANGLE_FLIP,      /* one bit of the payload of the first packet from `at` on that has one */
    MANGLE_KINDS
};

struct mangle {
    enum mangle_kind kind;
    size_t at;
    size_t count;
    uint64_t seed;
    uint16_t server_port; /* of FC: the low half of the target's FC_ID */
};

/* Into `to`, which is cleared first and borrows from `from`. */
void mangle_apply(const struct mangle *m, const struct packets *from, struct packets *to);
/* Does it leave packets with the times they had, and lose nothing that comes again later? */
bool mangle_keeps_times(const struct mangle *m);
/*
 * Was something sent again? Then, which of its copies came before an acknowledgement, only the
 * order tells.
 */
bool mangle_finds_copies(const struct packets *from);
/* "remove(at=5, count=1, seed=7)" */
void mangle_describe(const struct mangle *m, char *text, size_t size);

struct blackout {
    uint64_t start_ns;
    uint64_t end_ns;
};

/*
 * When no monitor could have known: bytes were lost, and until the end of the stretch nothing of
 * their connection was seen for longer than a receiver may delay an acknowledgement, or nothing
 * that acknowledges them and they came again then. Up to `most`; returns how many.
 */
size_t mangle_blackouts(const struct mangle *m, const struct packets *from, struct blackout *to,
                        size_t most);

/* Of those that a mangle removed: see fc_vanished(). */
size_t mangle_vanished(const struct mangle *m, const struct packets *from, uint64_t *to,
                       size_t most);

/* A small generator: the same numbers everywhere (splitmix64). */
uint64_t mangle_random(uint64_t *state);

#endif
