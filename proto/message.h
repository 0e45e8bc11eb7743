/*
 * message: what travels in one ZeroMQ frame between a monitor, a recovery server and recoveryctl.
 *
 * A 16-byte head (magic, version, kind, length), then the body of its kind. Little-endian. Strings
 * are 16-bit lengths and bytes. HELLO, WELCOME, REFUSE and ACK end in a CRC32C of everything before
 * it; a BATCH has one over its head, and each record in it its own. docs/wire-protocol.md has the
 * tables and the conversation.
 */
#ifndef SANREWIND_PROTO_MESSAGE_H
#define SANREWIND_PROTO_MESSAGE_H

#include "common/buffer.h"
#include "common/cursor.h"
#include "common/error.h"
#include "common/rangeset.h"

#include <stdint.h>

enum { MESSAGE_VERSION = 1, MESSAGE_HEAD_BYTES = 16, BATCH_HEAD_BYTES = 48 };

enum message_kind {
    MESSAGE_HELLO = 1,         /* monitor → server, first on every lane */
    MESSAGE_WELCOME = 2,       /* server → monitor */
    MESSAGE_REFUSE = 3,        /* server → anybody: why not */
    MESSAGE_BATCH = 4,         /* monitor → server: records */
    MESSAGE_ACK = 5,           /* server → monitor: what is durable */
    MESSAGE_CONTROL = 6,       /* recoveryctl → server: a JSON request */
    MESSAGE_CONTROL_REPLY = 7, /* server → recoveryctl: a JSON object, then bytes */
};

struct message_hello {
    uint64_t monitor;
    uint64_t stream;
    const char *name; /* the monitor's; decoded: borrowed, not NUL-terminated */
    uint16_t name_bytes;
    const char *software;
    uint16_t software_bytes;
};

struct message_welcome {
    uint64_t incarnation;  /* of the server process: changes when it restarts */
    uint64_t frontier;     /* order marks below it are durable already */
    uint64_t credit_bytes; /* how much the monitor may have unacknowledged */
};

struct message_refuse {
    const char *text;
    uint16_t text_bytes;
};

/* The head of a batch; the records follow. */
struct message_batch {
    uint64_t monitor;
    uint64_t stream;
    uint32_t records;
};

struct message_ack {
    uint64_t monitor;
    uint64_t stream;
    uint64_t incarnation;
    uint64_t frontier;          /* every order mark below it is durable */
    const struct range *ranges; /* encode: marks beyond it that are durable too */
    uint32_t range_count;
};

struct message_control {
    const char *json;
    uint32_t json_bytes;
    const uint8_t *data; /* reply only: image bytes */
    uint32_t data_bytes;
};

struct message {
    uint16_t kind;
    union {
        struct message_hello hello;
        struct message_welcome welcome;
        struct message_refuse refuse;
        struct message_batch batch;
        struct message_ack ack;
        struct message_control control;
    };
};

/* Appends a whole message (for a BATCH use message_batch_begin). Fails through b->failed. */
void message_encode(struct buffer *b, const struct message *m);

/* A batch is built in place: begin, record_encode() any number of times, finish with the count. */
void message_batch_begin(struct buffer *b);
void message_batch_finish(struct buffer *b, const struct message_batch *batch);

/*
 * The length of the batch whose head these BATCH_HEAD_BYTES are, by its own checksum; 0: it is
 * none. For files that hold one batch after the other.
 */
size_t message_batch_length(const uint8_t *head);

/*
 * Reads one frame. 0, ERR_FORMAT, or ERR_VERSION (a newer protocol). For a BATCH, *body is left at
 * the first record. For an ACK, the ranges are left in *body: message_ack_range() takes them off
 * one by one.
 */
int message_decode(const void *frame, size_t length, struct message *m, struct cursor *body,
                   struct error *err);
struct range message_ack_range(struct cursor *body);

#endif
