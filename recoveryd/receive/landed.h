/*
 * landed: a batch whose bytes are in a segment: what workers hand to the committer.
 */
#ifndef SANREWIND_RECOVERYD_LANDED_H
#define SANREWIND_RECOVERYD_LANDED_H

#include "recoveryd/receive/landing.h"
#include "recoveryd/receive/socket.h"
#include "recoveryd/receive/streams.h"

struct landed {
    struct peer from;
    struct stream *stream; /* admitted; the committer releases it */
    unsigned worker;       /* whose segment writer took it */
    bool appended; /* false: all of it was durable already, an acknowledgement is all it wants */
    struct landing landing;
};

/* Does not release the stream. */
static inline void landed_destroy(struct landed *l) {
    if (l == NULL)
        return;
    landing_release(&l->landing);
    free(l);
}

DEFINE_AUTO(landed, landed_destroy)

#endif
