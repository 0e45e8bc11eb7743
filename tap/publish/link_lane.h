/*
 * link_lane: the sockets of a link. Only link.c and link_lane.c include this. <zmq.h> is included
 * in link_lane.c alone.
 *
 * A lane is one DEALER connection. HELLO is sent when its handshake has succeeded, not before: what
 * is queued on a connection that is not there yet would arrive after a restart as if it were new.
 */
#ifndef SANREWIND_TAP_LINK_LANE_H
#define SANREWIND_TAP_LINK_LANE_H

#include "common/buffer.h"
#include "common/error.h"

#include <stdbool.h>
#include <stdint.h>

enum lane_state { LANE_DOWN, LANE_GREETED, LANE_UP };

struct lanes;

/* What happened on a lane, found by lanes_poll(). */
enum lane_event_kind {
    LANE_CONNECTED,    /* say HELLO */
    LANE_DISCONNECTED, /* what was under way on it may be lost */
    LANE_MESSAGE,      /* `data`, `bytes`: borrowed for the time of the call */
};

struct lane_event {
    enum lane_event_kind kind;
    unsigned lane;
    const void *data;
    size_t bytes;
};

int lanes_open(const char *endpoint, unsigned count, struct lanes **out, struct error *err);
void lanes_close(struct lanes *l);

/*
 * Waits up to timeout_ms for anything on the sockets or for wake_fd to be readable, then calls
 * `handle` for each event. Negative: ZeroMQ failed.
 */
int lanes_poll(struct lanes *l, int wake_fd, long timeout_ms,
               void (*handle)(void *context, const struct lane_event *event), void *context,
               struct error *err);

/* False when the lane cannot take it now. Copies. */
bool lanes_send(struct lanes *l, unsigned lane, const void *data, size_t bytes);

#endif
