#include "recoveryd/receive/socket.h"

#include "proto/limits.h"
#include "proto/message.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <zmq.h>

enum {
    /* Small, so that what waits is counted here and the rest presses back on the monitors. */
    RECEIVE_LIMIT_MESSAGES = 64,
    SEND_LIMIT_MESSAGES = 1000,
    HEARTBEAT_MS = 5000,
    LINGER_MS = 2000,
};

struct socket {
    void *context;
    void *router;
    void *outgoing; /* PULL: what senders want sent */
    char endpoint[512];
    char inproc[64];
};

struct sender {
    void *push;
};

struct owned_frame {
    struct frame frame; /* first: callers get a pointer to it */
    zmq_msg_t message;
};

void frame_destroy(struct frame *f) {
    if (f == NULL)
        return;
    struct owned_frame *owned = (struct owned_frame *)f;
    zmq_msg_close(&owned->message);
    free(owned);
}

static void set_int(void *socket, int option, int value) {
    zmq_setsockopt(socket, option, &value, sizeof value);
}

/* --- listening -----------------------------------------------------------------------------------
 */

/*
 * ZeroMQ unlinks whatever lies at the path of an ipc endpoint before it binds: a file that is not a
 * socket, or one that another server listens on, must be noticed before.
 */
static int check_ipc_path(const char *path, struct error *err) {
    struct stat status;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path[0] == '@' || path[0] == '*')
        return 0;
    if (path[0] == '\0' || strlen(path) >= sizeof address.sun_path)
        return error_set(err, ERR_USAGE, "--listen: the path of ipc://%s has not 1 to %zu bytes",
                         path, sizeof address.sun_path - 1);
    if (lstat(path, &status) != 0)
        return 0;
    if (!S_ISSOCK(status.st_mode))
        return error_set(err, ERR_USAGE, "--listen: %s exists and is not a socket", path);
    strcpy(address.sun_path, path);
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return error_set(err, ERR_BUSY, "another program listens on ipc://%s already", path);
    return 0;
}

static int check_endpoint(const char *endpoint, struct error *err) {
    if (strncmp(endpoint, "tcp://", 6) == 0)
        return 0;
    if (strncmp(endpoint, "ipc://", 6) == 0)
        return check_ipc_path(endpoint + 6, err);
    return error_set(err, ERR_USAGE, "--listen: '%s' is not tcp://ADDRESS:PORT or ipc://PATH",
                     endpoint);
}

static int bind_failed(const char *endpoint, struct error *err) {
    int errnum = zmq_errno();
    if (errnum == EADDRINUSE)
        return error_set(
            err, ERR_BUSY,
            "another program listens on %s already: stop it or choose another --listen", endpoint);
    return error_set(err, ERR_USAGE,
                     "cannot listen on %s (%s): use tcp://ADDRESS:PORT with an address of this "
                     "machine, or ipc://PATH",
                     endpoint, zmq_strerror(errnum));
}

static int listen_on(struct socket *s, const char *endpoint, struct error *err) {
    s->router = zmq_socket(s->context, ZMQ_ROUTER);
    if (s->router == NULL)
        return error_set(err, ERR_IO, "cannot make a socket: %s", zmq_strerror(zmq_errno()));
    int64_t most = LIMIT_CONTROL_BYTES;
    zmq_setsockopt(s->router, ZMQ_MAXMSGSIZE, &most, sizeof most);
    set_int(s->router, ZMQ_RCVHWM, RECEIVE_LIMIT_MESSAGES);
    set_int(s->router, ZMQ_SNDHWM, SEND_LIMIT_MESSAGES);
    set_int(s->router, ZMQ_LINGER, LINGER_MS);
    set_int(s->router, ZMQ_IPV6, 1);
    set_int(s->router, ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS);
    set_int(s->router, ZMQ_HEARTBEAT_TIMEOUT, 4 * HEARTBEAT_MS);
    if (zmq_bind(s->router, endpoint) != 0)
        return bind_failed(endpoint, err);
    size_t size = sizeof s->endpoint;
    if (zmq_getsockopt(s->router, ZMQ_LAST_ENDPOINT, s->endpoint, &size) != 0)
        snprintf(s->endpoint, sizeof s->endpoint, "%s", endpoint);
    return 0;
}

static int open_outgoing(struct socket *s, struct error *err) {
    snprintf(s->inproc, sizeof s->inproc, "inproc://outgoing-%p", (void *)s);
    s->outgoing = zmq_socket(s->context, ZMQ_PULL);
    if (s->outgoing == NULL)
        return error_set(err, ERR_IO, "cannot make a socket: %s", zmq_strerror(zmq_errno()));
    set_int(s->outgoing, ZMQ_RCVHWM, 0);
    if (zmq_bind(s->outgoing, s->inproc) != 0)
        return error_set(err, ERR_IO, "cannot make a socket: %s", zmq_strerror(zmq_errno()));
    return 0;
}

int socket_open(const char *endpoint, struct socket **out, struct error *err) {
    int code = check_endpoint(endpoint, err);
    if (code < 0)
        return code;
    AUTO(socket) s = calloc(1, sizeof *s);
    if (s == NULL || (s->context = zmq_ctx_new()) == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    code = listen_on(s, endpoint, err);
    if (code == 0)
        code = open_outgoing(s, err);
    if (code == 0)
        *out = take_pointer(&s);
    return code;
}

void socket_close(struct socket *s) {
    if (s == NULL)
        return;
    if (s->router != NULL && s->outgoing != NULL)
        socket_forward(s);
    if (s->outgoing != NULL)
        zmq_close(s->outgoing);
    if (s->router != NULL)
        zmq_close(s->router);
    if (s->context != NULL)
        zmq_ctx_term(s->context);
    free(s);
}

const char *socket_endpoint(const struct socket *s) {
    return s->endpoint;
}

/* --- receiving -----------------------------------------------------------------------------------
 */

bool socket_wait(struct socket *s, bool want_frames, int wake_fd, long timeout_ms) {
    zmq_pollitem_t items[] = {
        {.socket = s->outgoing, .events = ZMQ_POLLIN},
        {.fd = wake_fd, .events = ZMQ_POLLIN},
        {.socket = s->router, .events = ZMQ_POLLIN},
    };
    /* The wake descriptor is left out when there is none: ZeroMQ would poll descriptor -1. */
    if (wake_fd < 0)
        items[1] = items[0];
    zmq_poll(items, want_frames ? 3 : 2, timeout_ms);
    if ((items[0].revents & ZMQ_POLLIN) != 0)
        socket_forward(s);
    return want_frames && (items[2].revents & ZMQ_POLLIN) != 0;
}

static bool has_more(void *socket) {
    int more = 0;
    size_t size = sizeof more;
    return zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size) == 0 && more != 0;
}

/* A frame of ours has one part. What stands behind it is dropped, and the frame with it: as if
 * empty. */
static bool drop_rest(void *socket) {
    bool any = false;
    while (has_more(socket)) {
        char rest[8];
        zmq_recv(socket, rest, sizeof rest, 0);
        any = true;
    }
    return any;
}

struct frame *socket_receive(struct socket *s) {
    struct peer from;
    int length = zmq_recv(s->router, from.bytes, sizeof from.bytes, ZMQ_DONTWAIT);
    if (length < 0)
        return NULL;
    from.length = (uint8_t)length;
    struct owned_frame *owned = calloc(1, sizeof *owned);
    if (owned == NULL) {
        drop_rest(s->router);
        return NULL;
    }
    zmq_msg_init(&owned->message);
    if (has_more(s->router))
        zmq_msg_recv(&owned->message, s->router, 0);
    owned->frame.from = from;
    owned->frame.data = zmq_msg_data(&owned->message);
    owned->frame.bytes = drop_rest(s->router) ? 0 : zmq_msg_size(&owned->message);
    return &owned->frame;
}

/* --- sending -------------------------------------------------------------------------------------
 */

static void send_two_parts(void *socket, const struct peer *to, const void *data, size_t bytes) {
    if (zmq_send(socket, to->bytes, to->length, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0)
        zmq_send(socket, data, bytes, ZMQ_DONTWAIT);
}

void socket_send(struct socket *s, const struct peer *to, const struct buffer *message) {
    if (!message->failed)
        send_two_parts(s->router, to, message->data, message->length);
}

void socket_forward(struct socket *s) {
    struct peer to;
    for (;;) {
        int length = zmq_recv(s->outgoing, to.bytes, sizeof to.bytes, ZMQ_DONTWAIT);
        if (length < 0)
            return;
        to.length = (uint8_t)length;
        zmq_msg_t message;
        zmq_msg_init(&message);
        if (zmq_msg_recv(&message, s->outgoing, 0) >= 0 &&
            zmq_send(s->router, to.bytes, to.length, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0 &&
            zmq_msg_send(&message, s->router, ZMQ_DONTWAIT) >= 0)
            continue; /* sent: the message is ZeroMQ's now */
        zmq_msg_close(&message);
    }
}

struct sender *sender_create(struct socket *s) {
    AUTO(sender) sender = calloc(1, sizeof *sender);
    if (sender == NULL)
        return NULL;
    sender->push = zmq_socket(s->context, ZMQ_PUSH);
    if (sender->push == NULL)
        return NULL;
    set_int(sender->push, ZMQ_SNDHWM, 0);
    if (zmq_connect(sender->push, s->inproc) != 0)
        return NULL;
    return take_pointer(&sender);
}

void sender_destroy(struct sender *s) {
    if (s == NULL)
        return;
    if (s->push != NULL)
        zmq_close(s->push);
    free(s);
}

void sender_send(struct sender *s, const struct peer *to, const struct buffer *message) {
    if (!message->failed)
        send_two_parts(s->push, to, message->data, message->length);
}

static void encode_refusal(struct buffer *b, const char *text) {
    size_t length = strnlen(text, LIMIT_REASON_BYTES);
    struct message m = {
        .kind = MESSAGE_REFUSE,
        .refuse = {.text = text, .text_bytes = (uint16_t)length},
    };
    buffer_init(b, LIMIT_RECORD_HEAD_BYTES);
    message_encode(b, &m);
}

void sender_refuse(struct sender *s, const struct peer *to, const char *text) {
    AUTO_BUFFER b;
    encode_refusal(&b, text);
    sender_send(s, to, &b);
}

void socket_refuse(struct socket *s, const struct peer *to, const char *text) {
    AUTO_BUFFER b;
    encode_refusal(&b, text);
    socket_send(s, to, &b);
}
