/*
 * shuffle_proxy FRONT BACK SEED [slow]: the network at its worst, between tapd and recoveryd.
 *
 * Takes the batches of monitors apart and sends their records on in random order, in new batches,
 * on random lanes, some of them twice; holds them back; breaks lanes, once with the loss of what
 * was under way. Nothing of that may change the result. "slow" lets few records through at a time,
 * so that a test can kill a process in the middle.
 *
 * Ends on SIGTERM with a line that says what it did. The seed makes the choices repeatable as far
 * as the arrival of the frames is.
 */
#include "common/cleanup.h"
#include "common/clock.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "proto/record.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

enum {
    LANES = 32,
    IDENTITY_BYTES = 255,
    BATCH_BYTES = 1 << 20,
    BREAK_EVERY = 24, /* batches, on average */
    DUPLICATE_EVERY = 8,
    QUIET_MS = 40, /* the monitor waits for us: let go */
};

struct piece {
    uint8_t *bytes;
    size_t length;
    uint64_t monitor;
    uint64_t stream;
    bool copy; /* was sent before */
};

struct lane {
    uint8_t identity[IDENTITY_BYTES];
    size_t identity_bytes;
    uint8_t *hello;
    size_t hello_bytes;
    void *back;
    void *events; /* of its connection */
};

struct proxy {
    void *context;
    void *front;
    const char *back_endpoint;
    struct lane lanes[LANES];
    unsigned lane_count;
    struct piece *pieces;
    size_t piece_count;
    size_t piece_capacity;
    size_t hold; /* let go only what is beyond */
    bool slow;
    bool lost_once;
    uint64_t random;
    struct mono last_arrival;
    struct mono last_batch;
    uint64_t shuffled, duplicated, batches, broken;
};

static volatile sig_atomic_t stopped;

static void on_signal(int number) {
    (void)number;
    stopped = 1;
}

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "shuffle_proxy: ");
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

/* splitmix64 */
static uint64_t next_random(struct proxy *p, uint64_t below) {
    uint64_t z = p->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (z ^ (z >> 31)) % below;
}

static uint8_t *copy_of(const void *bytes, size_t length) {
    uint8_t *copy = malloc(length);
    if (copy == NULL)
        die("out of memory");
    return memcpy(copy, bytes, length);
}

/* --- lanes ---------------------------------------------------------------------------------------
 */

static void send_frame(void *socket, const void *bytes, size_t length, int flags) {
    if (zmq_send(socket, bytes, length, flags) < 0 && errno != EHOSTUNREACH && errno != EINTR)
        die("cannot send: %s", zmq_strerror(errno));
}

/* A lane to the server that says hello as the monitor did. */
static void open_back(struct proxy *p, struct lane *lane) {
    char name[64];
    static unsigned serial;
    snprintf(name, sizeof name, "inproc://events-%u", serial++);
    lane->back = zmq_socket(p->context, ZMQ_DEALER);
    if (lane->back == NULL || zmq_socket_monitor(lane->back, name, ZMQ_EVENT_DISCONNECTED) != 0)
        die("cannot make a socket: %s", zmq_strerror(errno));
    lane->events = zmq_socket(p->context, ZMQ_PAIR);
    if (lane->events == NULL || zmq_connect(lane->events, name) != 0)
        die("cannot watch a socket: %s", zmq_strerror(errno));
    int unlimited = 0;
    zmq_setsockopt(lane->back, ZMQ_SNDHWM, &unlimited, sizeof unlimited);
    if (zmq_connect(lane->back, p->back_endpoint) != 0)
        die("cannot connect to %s: %s", p->back_endpoint, zmq_strerror(errno));
    send_frame(lane->back, lane->hello, lane->hello_bytes, 0);
}

static void close_back(struct lane *lane, int linger_ms) {
    zmq_socket_monitor(lane->back, NULL, 0);
    zmq_setsockopt(lane->back, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
    zmq_close(lane->back);
    zmq_close(lane->events);
}

static struct lane *lane_of(struct proxy *p, const uint8_t *identity, size_t bytes) {
    for (unsigned i = 0; i < p->lane_count; i++) {
        struct lane *lane = &p->lanes[i];
        if (lane->identity_bytes == bytes && memcmp(lane->identity, identity, bytes) == 0)
            return lane;
    }
    return NULL;
}

static void take_hello(struct proxy *p, const uint8_t *identity, size_t identity_bytes,
                       const void *frame, size_t bytes) {
    struct lane *lane = lane_of(p, identity, identity_bytes);
    if (lane != NULL) {
        send_frame(lane->back, frame, bytes, 0);
        return;
    }
    if (p->lane_count == LANES)
        die("more than %d lanes", LANES);
    lane = &p->lanes[p->lane_count++];
    memcpy(lane->identity, identity, identity_bytes);
    lane->identity_bytes = identity_bytes;
    lane->hello = copy_of(frame, bytes);
    lane->hello_bytes = bytes;
    open_back(p, lane);
}

/* --- records -------------------------------------------------------------------------------------
 */

static void add_piece(struct proxy *p, struct piece piece) {
    if (p->piece_count == p->piece_capacity) {
        p->piece_capacity = p->piece_capacity == 0 ? 1024 : p->piece_capacity * 2;
        p->pieces = realloc(p->pieces, p->piece_capacity * sizeof *p->pieces);
        if (p->pieces == NULL)
            die("out of memory");
    }
    p->pieces[p->piece_count++] = piece;
}

static struct piece take_random_piece(struct proxy *p) {
    size_t i = next_random(p, p->piece_count);
    struct piece piece = p->pieces[i];
    p->pieces[i] = p->pieces[--p->piece_count];
    return piece;
}

static void take_batch(struct proxy *p, const struct message_batch *batch, struct cursor *body) {
    for (uint32_t i = 0; i < batch->records; i++) {
        struct error err = {0};
        struct record record;
        const uint8_t *start = body->next;
        if (record_decode(body, &record, &err) < 0)
            die("the monitor sent a bad record: %s", err.text);
        size_t length = (size_t)(body->next - start);
        add_piece(p, (struct piece){.bytes = copy_of(start, length),
                                    .length = length,
                                    .monitor = batch->monitor,
                                    .stream = batch->stream});
    }
}

/* A batch holds records of one stream: what belongs to another one goes back. */
static void fill_batch(struct proxy *p, struct buffer *b, struct message_batch *batch) {
    size_t wanted = 1 + next_random(p, p->slow ? 20 : (uint64_t)1 << next_random(p, 9));
    for (size_t tries = 0; tries < wanted && p->piece_count > 0; tries++) {
        struct piece piece = take_random_piece(p);
        if (batch->records == 0) {
            batch->monitor = piece.monitor;
            batch->stream = piece.stream;
        }
        if (piece.monitor != batch->monitor || piece.stream != batch->stream ||
            b->length + piece.length > 2 * BATCH_BYTES) {
            add_piece(p, piece);
            continue;
        }
        buffer_put(b, piece.bytes, piece.length);
        batch->records++;
        p->shuffled++;
        if (!piece.copy && next_random(p, DUPLICATE_EVERY) == 0) {
            piece.copy = true;
            p->duplicated++;
            add_piece(p, piece);
        } else {
            free(piece.bytes);
        }
    }
}

/* Once in a while a lane breaks: mostly after what it carried has arrived, once before. */
static void maybe_break(struct proxy *p) {
    if (next_random(p, BREAK_EVERY) != 0)
        return;
    struct lane *lane = &p->lanes[next_random(p, p->lane_count)];
    close_back(lane, p->lost_once ? 2000 : 0);
    p->lost_once = true;
    p->broken++;
    open_back(p, lane);
}

static void send_batch(struct proxy *p) {
    AUTO_BUFFER b;
    struct message_batch batch = {0};
    buffer_init(&b, LIMIT_BATCH_BYTES);
    message_batch_begin(&b);
    fill_batch(p, &b, &batch);
    message_batch_finish(&b, &batch);
    if (b.failed)
        die("a batch does not fit");
    struct lane *lane = &p->lanes[next_random(p, p->lane_count)];
    send_frame(lane->back, b.data, b.length, 0);
    p->batches++;
    p->last_batch = clock_mono();
    maybe_break(p);
}

/* --- traffic -------------------------------------------------------------------------------------
 */

static void take_front(struct proxy *p) {
    uint8_t identity[IDENTITY_BYTES];
    int identity_bytes = zmq_recv(p->front, identity, sizeof identity, 0);
    zmq_msg_t frame;
    zmq_msg_init(&frame);
    if (identity_bytes < 0 || zmq_msg_recv(&frame, p->front, 0) < 0)
        die("cannot receive: %s", zmq_strerror(errno));
    struct error err = {0};
    struct message message;
    struct cursor body;
    if (message_decode(zmq_msg_data(&frame), zmq_msg_size(&frame), &message, &body, &err) < 0)
        die("the monitor sent a bad message: %s", err.text);
    p->last_arrival = clock_mono();
    if (message.kind == MESSAGE_HELLO)
        take_hello(p, identity, (size_t)identity_bytes, zmq_msg_data(&frame), zmq_msg_size(&frame));
    else if (message.kind == MESSAGE_BATCH)
        take_batch(p, &message.batch, &body);
    else
        die("the monitor sent a message of kind %u", message.kind);
    zmq_msg_close(&frame);
}

static void take_back(struct proxy *p, const struct lane *lane) {
    zmq_msg_t frame;
    zmq_msg_init(&frame);
    if (zmq_msg_recv(&frame, lane->back, ZMQ_DONTWAIT) >= 0) {
        send_frame(p->front, lane->identity, lane->identity_bytes, ZMQ_SNDMORE);
        send_frame(p->front, zmq_msg_data(&frame), zmq_msg_size(&frame), 0);
    }
    zmq_msg_close(&frame);
}

/* The server went away: what was under way is lost, and the lane starts anew. */
static void take_disconnect(struct proxy *p, struct lane *lane) {
    close_back(lane, 0);
    open_back(p, lane);
}

static void let_go(struct proxy *p) {
    bool quiet = clock_since_ns(p->last_arrival) > QUIET_MS * NS_PER_MS;
    if (p->slow) {
        if (p->piece_count > 0 && clock_since_ns(p->last_batch) > 5 * NS_PER_MS)
            send_batch(p);
        return;
    }
    while (p->piece_count > (quiet ? 0 : p->hold)) {
        send_batch(p);
        p->hold = (size_t)1 << next_random(p, 13);
    }
}

static void turn(struct proxy *p) {
    zmq_pollitem_t items[1 + 2 * LANES] = {{.socket = p->front, .events = ZMQ_POLLIN}};
    unsigned lanes = p->lane_count;
    for (unsigned i = 0; i < lanes; i++) {
        items[1 + 2 * i] = (zmq_pollitem_t){.socket = p->lanes[i].back, .events = ZMQ_POLLIN};
        items[2 + 2 * i] = (zmq_pollitem_t){.socket = p->lanes[i].events, .events = ZMQ_POLLIN};
    }
    if (zmq_poll(items, (int)(1 + 2 * lanes), 1 + (long)next_random(p, 8)) < 0)
        return; /* a signal */
    for (unsigned i = 0; i < lanes; i++) {
        if (items[1 + 2 * i].revents & ZMQ_POLLIN)
            take_back(p, &p->lanes[i]);
        if (items[2 + 2 * i].revents & ZMQ_POLLIN)
            take_disconnect(p, &p->lanes[i]);
    }
    if (items[0].revents & ZMQ_POLLIN)
        take_front(p);
    let_go(p);
}

static void run(struct proxy *p, const char *front_endpoint) {
    p->context = zmq_ctx_new();
    p->front = zmq_socket(p->context, ZMQ_ROUTER);
    if (zmq_bind(p->front, front_endpoint) != 0)
        die("cannot listen on %s: %s", front_endpoint, zmq_strerror(errno));
    fprintf(stderr, "shuffle_proxy: ready\n");
    while (!stopped)
        turn(p);
    fprintf(stderr,
            "shuffle_proxy: shuffled %" PRIu64 " records in %" PRIu64 " batches, %" PRIu64
            " twice, broke %" PRIu64 " lanes\n",
            p->shuffled, p->batches, p->duplicated, p->broken);
}

static void release(struct proxy *p) {
    int linger_ms = 0;
    for (unsigned i = 0; i < p->lane_count; i++) {
        close_back(&p->lanes[i], 0);
        free(p->lanes[i].hello);
    }
    for (size_t i = 0; i < p->piece_count; i++)
        free(p->pieces[i].bytes);
    free(p->pieces);
    zmq_setsockopt(p->front, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
    zmq_close(p->front);
    zmq_ctx_term(p->context);
}

int main(int argc, char **argv) {
    if (argc < 4)
        die("usage: shuffle_proxy FRONT BACK SEED [slow]");
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    struct proxy p = {.back_endpoint = argv[2],
                      .random = strtoull(argv[3], NULL, 0),
                      .hold = 256,
                      .slow = argc > 4,
                      .last_arrival = clock_mono(),
                      .last_batch = clock_mono()};
    run(&p, argv[1]);
    release(&p);
    return 0;
}
