#include "recoveryd/ctl/backend.h"

#include "common/clock.h"
#include "common/cursor.h"
#include "common/stop.h"
#include "proto/limits.h"
#include "recoveryd/control/envelope.h"
#include "recoveryd/index/index.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

/* The only file of recoveryctl that includes <zmq.h>. */

enum { CONNECT_TIMEOUT_MS = 5000, HEARTBEAT_MS = 5000, POLL_MS = 1000 };

/* One request at a time. Threads that want more at once make more connections. */
struct connection {
    void *socket;
    void *events; /* PAIR: is the connection there? */
    struct connection *next;
};

struct remote {
    struct backend backend; /* first: the functions get a pointer to it */
    void *context;
    char *endpoint;
    pthread_mutex_t lock; /* guards idle */
    struct connection *idle;
};

static int zmq_failed(struct error *err, const char *what) {
    return error_set(err, ERR_NET, "%s: %s", what, zmq_strerror(zmq_errno()));
}

static void set_int(void *socket, int option, int value) {
    zmq_setsockopt(socket, option, &value, sizeof value);
}

static void connection_destroy(struct connection *c) {
    if (c->socket != NULL) {
        zmq_socket_monitor(c->socket, NULL, 0);
        zmq_close(c->socket);
    }
    if (c->events != NULL)
        zmq_close(c->events);
    free(c);
}

static int watch(struct remote *r, struct connection *c, struct error *err) {
    char name[64];
    snprintf(name, sizeof name, "inproc://connection-%p", (void *)c);
    int events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED;
    if (zmq_socket_monitor(c->socket, name, events) != 0)
        return zmq_failed(err, "cannot watch a connection");
    c->events = zmq_socket(r->context, ZMQ_PAIR);
    if (c->events == NULL || zmq_connect(c->events, name) != 0)
        return zmq_failed(err, "cannot watch a connection");
    set_int(c->events, ZMQ_LINGER, 0);
    return 0;
}

static int connect_socket(struct remote *r, struct connection *c, struct error *err) {
    c->socket = zmq_socket(r->context, ZMQ_DEALER);
    if (c->socket == NULL)
        return zmq_failed(err, "cannot make a socket");
    int64_t most = LIMIT_CONTROL_BYTES;
    zmq_setsockopt(c->socket, ZMQ_MAXMSGSIZE, &most, sizeof most);
    set_int(c->socket, ZMQ_LINGER, 0);
    set_int(c->socket, ZMQ_IPV6, 1);
    set_int(c->socket, ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS);
    set_int(c->socket, ZMQ_HEARTBEAT_TIMEOUT, 4 * HEARTBEAT_MS);
    int code = watch(r, c, err);
    if (code < 0)
        return code;
    if (zmq_connect(c->socket, r->endpoint) != 0)
        return error_set(err, ERR_USAGE,
                         "--server: cannot connect to '%s' (%s); use tcp://HOST:PORT or ipc://PATH",
                         r->endpoint, zmq_strerror(zmq_errno()));
    return 0;
}

/* A monitor event is two frames: event u16 and value u32 in host order, then the address. */
static uint16_t next_event(struct connection *c) {
    uint8_t frame[6];
    char address[256];
    uint16_t event = 0;
    int bytes = zmq_recv(c->events, frame, sizeof frame, ZMQ_DONTWAIT);
    if (bytes < (int)sizeof event)
        return 0;
    struct cursor cursor = cursor_of(frame, sizeof event);
    cursor_copy(&cursor, &event, sizeof event);
    zmq_recv(c->events, address, sizeof address, 0);
    return event;
}

static int nobody(const struct remote *r, struct error *err) {
    return error_set(err, ERR_NET,
                     "no recovery server answers at %s: is recoveryd running, and does it --listen "
                     "there? (--store DIR reads a store on this machine)",
                     r->endpoint);
}

static int await_handshake(struct remote *r, struct connection *c, struct error *err) {
    struct mono start = clock_mono();
    while (clock_since_ns(start) < CONNECT_TIMEOUT_MS * NS_PER_MS) {
        zmq_pollitem_t items[] = {{.socket = c->events, .events = ZMQ_POLLIN},
                                  {.fd = stop_fd(), .events = ZMQ_POLLIN}};
        zmq_poll(items, stop_fd() >= 0 ? 2 : 1, 100);
        if (stop_requested())
            return error_set(err, ERR_STOPPED, "stopped");
        if (next_event(c) == ZMQ_EVENT_HANDSHAKE_SUCCEEDED)
            return 0;
    }
    return nobody(r, err);
}

static int connection_take(struct remote *r, struct connection **out, struct error *err) {
    pthread_mutex_lock(&r->lock);
    struct connection *c = r->idle;
    if (c != NULL)
        r->idle = c->next;
    pthread_mutex_unlock(&r->lock);
    if (c == NULL) {
        c = calloc(1, sizeof *c);
        if (c == NULL)
            return error_set(err, ERR_NOMEM, "out of memory");
        int code = connect_socket(r, c, err);
        if (code == 0)
            code = await_handshake(r, c, err);
        if (code < 0) {
            connection_destroy(c);
            return code;
        }
    }
    *out = c;
    return 0;
}

static void connection_put(struct remote *r, struct connection *c) {
    pthread_mutex_lock(&r->lock);
    c->next = r->idle;
    r->idle = c;
    pthread_mutex_unlock(&r->lock);
}

/* However long it takes: a baseline is read while we wait. A server that dies closes the
 * connection. */
static int await_reply(struct remote *r, struct connection *c, zmq_msg_t *reply,
                       struct error *err) {
    for (;;) {
        zmq_pollitem_t items[] = {{.socket = c->socket, .events = ZMQ_POLLIN},
                                  {.socket = c->events, .events = ZMQ_POLLIN},
                                  {.fd = stop_fd(), .events = ZMQ_POLLIN}};
        zmq_poll(items, stop_fd() >= 0 ? 3 : 2, POLL_MS);
        if (zmq_msg_recv(reply, c->socket, ZMQ_DONTWAIT) >= 0)
            return 0;
        if (zmq_errno() != EAGAIN && zmq_errno() != EINTR)
            return zmq_failed(err, "the connection to the server failed");
        if (stop_requested())
            return error_set(err, ERR_STOPPED, "stopped");
        if (next_event(c) == ZMQ_EVENT_DISCONNECTED)
            return error_set(err, ERR_NET, "the recovery server at %s went away", r->endpoint);
    }
}

static int converse(struct remote *r, struct connection *c, const json_t *request, zmq_msg_t *reply,
                    struct error *err) {
    AUTO_BUFFER b;
    buffer_init(&b, LIMIT_CONTROL_BYTES);
    envelope_request(&b, request);
    if (b.failed)
        return error_set(err, ERR_USAGE, "the request is too long");
    if (zmq_send(c->socket, b.data, b.length, ZMQ_DONTWAIT) < 0)
        return zmq_failed(err, "cannot send to the server");
    return await_reply(r, c, reply, err);
}

/* One request and its answer; what bytes it has go to `to`, of which there is room for `room`. */
static int exchange(struct remote *r, const json_t *request, json_t **result, uint8_t *to,
                    size_t room, struct error *err) {
    struct connection *c = NULL;
    const uint8_t *data;
    size_t data_bytes;
    int code = connection_take(r, &c, err);
    if (code < 0)
        return code;
    zmq_msg_t reply;
    zmq_msg_init(&reply);
    code = converse(r, c, request, &reply, err);
    if (code < 0) {
        zmq_msg_close(&reply);
        connection_destroy(c);
        return code;
    }
    connection_put(r, c);
    code = envelope_open_reply(zmq_msg_data(&reply), zmq_msg_size(&reply), result, &data,
                               &data_bytes, err);
    if (code == 0 && data_bytes > room) {
        json_decref(*result);
        code = error_set(err, ERR_NET, "the server's answer is longer than it may be");
    }
    if (code == 0 && data_bytes > 0)
        memcpy(to, data, data_bytes);
    zmq_msg_close(&reply);
    return code;
}

static int remote_run(struct backend *b, const json_t *request, json_t **result,
                      struct error *err) {
    return exchange((struct remote *)b, request, result, NULL, 0, err);
}

static int remote_chunk(struct backend *b, uint64_t image, uint64_t chunk, uint8_t *to,
                        size_t *bytes, bool *all_zero, struct error *err) {
    AUTO_JSON result = NULL;
    AUTO_JSON request = json_pack("{s:s,s:I,s:I}", "command", "image.chunk", "image",
                                  (json_int_t)image, "chunk", (json_int_t)chunk);
    int code = exchange((struct remote *)b, request, &result, to, INDEX_CHUNK_BYTES, err);
    if (code < 0)
        return code;
    json_int_t length = json_integer_value(json_object_get(result, "bytes"));
    if (length < 0 || (uint64_t)length > INDEX_CHUNK_BYTES)
        return error_set(err, ERR_NET, "the server's answer cannot be understood");
    *bytes = (size_t)length;
    *all_zero = json_is_true(json_object_get(result, "zero"));
    if (*all_zero)
        memset(to, 0, *bytes);
    return 0;
}

static int remote_range(struct backend *b, uint64_t image, uint64_t offset_bytes,
                        uint64_t length_bytes, uint8_t *to, struct error *err) {
    AUTO_JSON result = NULL;
    AUTO_JSON request = json_pack("{s:s,s:I,s:I,s:I}", "command", "image.range", "image",
                                  (json_int_t)image, "offset_bytes", (json_int_t)offset_bytes,
                                  "length_bytes", (json_int_t)length_bytes);
    int code = exchange((struct remote *)b, request, &result, to, length_bytes, err);
    if (code < 0)
        return code;
    json_int_t length = json_integer_value(json_object_get(result, "bytes"));
    if (length < 0 || (uint64_t)length != length_bytes)
        return error_set(err, ERR_NET, "the server's answer cannot be understood");
    return 0;
}

static void remote_destroy(struct backend *b) {
    struct remote *r = (struct remote *)b;
    while (r->idle != NULL) {
        struct connection *c = r->idle;
        r->idle = c->next;
        connection_destroy(c);
    }
    if (r->context != NULL)
        zmq_ctx_term(r->context);
    pthread_mutex_destroy(&r->lock);
    free(r->endpoint);
    free(r);
}

int backend_remote(const char *endpoint, struct backend **out, struct error *err) {
    struct remote *r = calloc(1, sizeof *r);
    if (r == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    r->backend = (struct backend){
        .run = remote_run, .chunk = remote_chunk, .range = remote_range, .destroy = remote_destroy};
    pthread_mutex_init(&r->lock, NULL);
    r->endpoint = strdup(endpoint);
    r->context = zmq_ctx_new();
    if (r->endpoint == NULL || r->context == NULL) {
        remote_destroy(&r->backend);
        return error_set(err, ERR_NOMEM, "out of memory");
    }
    *out = &r->backend;
    return 0;
}
