#include "tap/publish/link_lane.h"

#include "common/cleanup.h"
#include "common/cursor.h"
#include "proto/limits.h"

#include <errno.h>
#include <stdio.h>
#include <zmq.h>

enum { MAX_LANES = 16, RECONNECT_MS = 100, RECONNECT_MAX_MS = 2000, HEARTBEAT_MS = 5000 };

struct lane {
    void *socket;
    void *monitor; /* PAIR with the connection's events */
};

struct lanes {
    void *context;
    unsigned count;
    struct lane lanes[MAX_LANES];
};

static int zmq_failed(struct error *err, const char *what) {
    return error_set(err, ERR_NET, "%s: %s", what, zmq_strerror(zmq_errno()));
}

static void set_int(void *socket, int option, int value) {
    zmq_setsockopt(socket, option, &value, sizeof value);
}

static int open_monitor(struct lanes *l, struct lane *lane, unsigned index, struct error *err) {
    char name[64];
    snprintf(name, sizeof name, "inproc://lane-%p-%u", (void *)l, index);
    int events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED;
    if (zmq_socket_monitor(lane->socket, name, events) != 0)
        return zmq_failed(err, "cannot watch a connection");
    lane->monitor = zmq_socket(l->context, ZMQ_PAIR);
    if (lane->monitor == NULL || zmq_connect(lane->monitor, name) != 0)
        return zmq_failed(err, "cannot watch a connection");
    set_int(lane->monitor, ZMQ_LINGER, 0);
    return 0;
}

static int open_lane(struct lanes *l, unsigned index, const char *endpoint, struct error *err) {
    struct lane *lane = &l->lanes[index];
    lane->socket = zmq_socket(l->context, ZMQ_DEALER);
    if (lane->socket == NULL)
        return zmq_failed(err, "cannot make a socket");
    /* What may be under way is bounded by credit, so that ZeroMQ's own limit only has to be out of
     * the way. */
    set_int(lane->socket, ZMQ_SNDHWM, 0);
    set_int(lane->socket, ZMQ_RCVHWM, 0);
    set_int(lane->socket, ZMQ_LINGER, 0);
    /* Nothing is queued for a connection that is not there: what breaks with it is sent again by
     * us. */
    set_int(lane->socket, ZMQ_IMMEDIATE, 1);
    set_int(lane->socket, ZMQ_RECONNECT_IVL, RECONNECT_MS);
    set_int(lane->socket, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS);
    set_int(lane->socket, ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS);
    set_int(lane->socket, ZMQ_HEARTBEAT_TIMEOUT, 4 * HEARTBEAT_MS);
    int64_t most = LIMIT_CONTROL_BYTES;
    zmq_setsockopt(lane->socket, ZMQ_MAXMSGSIZE, &most, sizeof most);
    int code = open_monitor(l, lane, index, err);
    if (code < 0)
        return code;
    if (zmq_connect(lane->socket, endpoint) != 0)
        return error_set(err, ERR_USAGE,
                         "%s is not an endpoint that can be connected to (%s); "
                         "use tcp://HOST:PORT or ipc://PATH",
                         endpoint, zmq_strerror(zmq_errno()));
    return 0;
}

int lanes_open(const char *endpoint, unsigned count, struct lanes **out, struct error *err) {
    struct lanes *l = calloc(1, sizeof *l);
    if (l == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    l->context = zmq_ctx_new();
    int code = l->context != NULL ? 0 : zmq_failed(err, "cannot start ZeroMQ");
    for (unsigned i = 0; code == 0 && i < count && i < MAX_LANES; i++) {
        l->count = i + 1;
        code = open_lane(l, i, endpoint, err);
    }
    if (code < 0) {
        lanes_close(l);
        return code;
    }
    *out = l;
    return 0;
}

void lanes_close(struct lanes *l) {
    if (l == NULL)
        return;
    for (unsigned i = 0; i < l->count; i++) {
        if (l->lanes[i].socket != NULL) {
            zmq_socket_monitor(l->lanes[i].socket, NULL, 0);
            zmq_close(l->lanes[i].socket);
        }
        if (l->lanes[i].monitor != NULL)
            zmq_close(l->lanes[i].monitor);
    }
    if (l->context != NULL)
        zmq_ctx_term(l->context);
    free(l);
}

/* A monitor event is two frames: event u16 and value u32 in host order, then the address. */
static bool read_monitor(struct lane *lane, uint16_t *event) {
    uint8_t frame[6];
    int bytes = zmq_recv(lane->monitor, frame, sizeof frame, ZMQ_DONTWAIT);
    if (bytes < 0)
        return false;
    struct cursor c = cursor_of(frame, (size_t)bytes < sizeof frame ? (size_t)bytes : sizeof frame);
    *event = 0;
    cursor_copy(&c, event, sizeof *event);
    char address[256];
    zmq_recv(lane->monitor, address, sizeof address, 0);
    return true;
}

static void take_monitor_events(struct lanes *l, unsigned index,
                                void (*handle)(void *, const struct lane_event *), void *context) {
    uint16_t event;
    while (read_monitor(&l->lanes[index], &event)) {
        struct lane_event found = {.lane = index};
        found.kind = event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED ? LANE_CONNECTED : LANE_DISCONNECTED;
        handle(context, &found);
    }
}

static void take_messages(struct lanes *l, unsigned index,
                          void (*handle)(void *, const struct lane_event *), void *context) {
    for (;;) {
        zmq_msg_t message;
        zmq_msg_init(&message);
        if (zmq_msg_recv(&message, l->lanes[index].socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&message);
            return;
        }
        struct lane_event found = {.kind = LANE_MESSAGE,
                                   .lane = index,
                                   .data = zmq_msg_data(&message),
                                   .bytes = zmq_msg_size(&message)};
        handle(context, &found);
        zmq_msg_close(&message);
    }
}

int lanes_poll(struct lanes *l, int wake_fd, long timeout_ms,
               void (*handle)(void *, const struct lane_event *), void *context,
               struct error *err) {
    zmq_pollitem_t items[2 * MAX_LANES + 1];
    int count = 0;
    for (unsigned i = 0; i < l->count; i++) {
        items[count++] = (zmq_pollitem_t){.socket = l->lanes[i].monitor, .events = ZMQ_POLLIN};
        items[count++] = (zmq_pollitem_t){.socket = l->lanes[i].socket, .events = ZMQ_POLLIN};
    }
    items[count++] = (zmq_pollitem_t){.fd = wake_fd, .events = ZMQ_POLLIN};
    if (zmq_poll(items, count, timeout_ms) < 0 && zmq_errno() != EINTR)
        return zmq_failed(err, "waiting for the recovery server failed");
    for (unsigned i = 0; i < l->count; i++) {
        take_monitor_events(l, i, handle, context);
        take_messages(l, i, handle, context);
    }
    return 0;
}

bool lanes_send(struct lanes *l, unsigned lane, const void *data, size_t bytes) {
    return zmq_send(l->lanes[lane].socket, data, bytes, ZMQ_DONTWAIT) >= 0;
}
