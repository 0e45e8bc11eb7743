/*
 * link: one destination (a recovery server) of a monitor: lanes, credit, acknowledgements, sending
 * again.
 *
 * A thread of its own owns the ZeroMQ sockets. A batch is kept until the server says that every
 * order mark in it is durable. It is sent again when its lane's connection broke, when the server
 * restarted (a new incarnation), or when no acknowledgement came for a long time: the server
 * recognises what it has. At most the credit that the server grants is under way; the rest waits
 * here, in batches that the pool bounds.
 */
#ifndef SANREWIND_TAP_LINK_H
#define SANREWIND_TAP_LINK_H

#include "common/cleanup.h"
#include "common/error.h"
#include "tap/publish/batch.h"
#include "tap/publish/publisher.h"

#include <stdbool.h>
#include <stdint.h>

struct link;

struct link_options {
    const char *endpoint; /* ZeroMQ: tcp://HOST:PORT, ipc://PATH */
    const char *monitor;  /* name */
    uint64_t stream;
    unsigned lanes;          /* connections, 1 to 16 */
    struct batch_pool *pool; /* borrowed; closed when the link fails for good */
};

/* Starts the thread. ERR_USAGE: an endpoint that ZeroMQ cannot use. */
int link_create(const struct link_options *options, size_t batch_count, struct link **out,
                struct error *err);
/* Stops the thread; what is not acknowledged is let go of. */
void link_destroy(struct link *l);

/* To give to the publisher. */
struct outlet link_outlet(struct link *l);

/* Waits until a server has welcomed a lane: 0; ERR_NET after timeout_ns, or the server's refusal.
 */
int link_wait_welcome(struct link *l, uint64_t timeout_ns, struct error *err);
/* Waits until all batches given so far are acknowledged: 0; ERR_NET after timeout_ns, a refusal,
 * ERR_STOPPED. */
int link_wait_drained(struct link *l, uint64_t timeout_ns, struct error *err);
/* 0, or the server's refusal or a failure of the thread: then nothing will go on. */
int link_check(struct link *l, struct error *err);
uint64_t link_unacknowledged(struct link *l);

DEFINE_AUTO(link, link_destroy)

#endif
