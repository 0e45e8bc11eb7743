/*
 * link: one sink (a recovery server or a LOG) of a monitor: lanes, credit, acknowledgements,
 * sending again.
 *
 * A thread of its own owns the ZeroMQ sockets. It reads batches from the spool, in the order of
 * their streams, and keeps of what is under way no more than the numbers: a batch is read again
 * when its lane's connection broke, or no acknowledgement came for a long time. When the server
 * restarted (a new incarnation), everything that it does not say it has is sent again, from the
 * oldest stream of the spool on. At most the credit that the server grants is under way.
 */
#ifndef SANREWIND_TAP_LINK_H
#define SANREWIND_TAP_LINK_H

#include "common/cleanup.h"
#include "common/error.h"
#include "tap/publish/spool.h"

#include <stdbool.h>
#include <stdint.h>

struct link;

struct link_options {
    const char *endpoint; /* ZeroMQ: tcp://HOST:PORT, ipc://PATH */
    const char *monitor;  /* name */
    unsigned lanes;       /* connections, 1 to 16 */
    struct spool *spool;  /* borrowed */
    unsigned sink;        /* its number there */
};

/* Starts the thread. ERR_USAGE: an endpoint that ZeroMQ cannot use. */
int link_create(const struct link_options *options, struct link **out, struct error *err);
/* Stops the thread. */
void link_destroy(struct link *l);

/* Waits until a server has welcomed a lane: 0; ERR_NET after timeout_ns, or the server's refusal.
 */
int link_wait_welcome(struct link *l, uint64_t timeout_ns, struct error *err);
bool link_is_welcome(struct link *l);

DEFINE_AUTO(link, link_destroy)

#endif
