/*
 * socket: the door of recoveryd. The only file of the program that includes <zmq.h> is socket.c.
 *
 * One thread, the receiver, owns the listening socket. Every other thread that has something to say
 * makes a sender of its own; what it sends waits in memory until the receiver forwards it, so that
 * no sender ever waits for the receiver.
 */
#ifndef SANREWIND_RECOVERYD_SOCKET_H
#define SANREWIND_RECOVERYD_SOCKET_H

#include "common/buffer.h"
#include "common/cleanup.h"
#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct socket;
struct sender;

/* Who sent a frame, and so where an answer goes: one connection (lane) of a monitor or recoveryctl.
 */
struct peer {
    uint8_t length;
    uint8_t bytes[255];
};

static inline bool peer_equal(const struct peer *a, const struct peer *b) {
    return a->length == b->length && memcmp(a->bytes, b->bytes, a->length) == 0;
}

/* One frame as it came. The bytes are ZeroMQ's own memory: nothing is copied until they are on
 * disk. */
struct frame {
    struct peer from;
    const void *data;
    size_t bytes;
    void *context; /* for whoever handles it */
};

void frame_destroy(struct frame *f);

/* Listens. ERR_USAGE: not an endpoint; ERR_BUSY: somebody else listens there. */
int socket_open(const char *endpoint, struct socket **out, struct error *err);
/* Forwards what is left and gives it a moment to leave. All senders must be destroyed. */
void socket_close(struct socket *s);
/* What it listens on, with the port that the system chose for ":*". */
const char *socket_endpoint(const struct socket *s);

/*
 * Waits up to timeout_ms for a frame (if `want_frames`), something to forward, or wake_fd (-1:
 * none) to be readable, and forwards. True when a frame may be there.
 */
bool socket_wait(struct socket *s, bool want_frames, int wake_fd, long timeout_ms);
/* The next frame, or NULL when there is none now. */
struct frame *socket_receive(struct socket *s);
/* For the receiver itself. What a peer that is gone or does not read should get is dropped. */
void socket_send(struct socket *s, const struct peer *to, const struct buffer *message);
/* Forwards all that senders have sent so far. */
void socket_forward(struct socket *s);

/* For one thread. NULL: out of memory. */
struct sender *sender_create(struct socket *s);
void sender_destroy(struct sender *s);
void sender_send(struct sender *s, const struct peer *to, const struct buffer *message);
/* REFUSE with a sentence: what every refusal of the server goes through. */
void sender_refuse(struct sender *s, const struct peer *to, const char *text);
void socket_refuse(struct socket *s, const struct peer *to, const char *text);

DEFINE_AUTO(frame, frame_destroy)
DEFINE_AUTO(socket, socket_close)
DEFINE_AUTO(sender, sender_destroy)

#endif
