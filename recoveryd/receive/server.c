#include "recoveryd/receive/server.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/stop.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "recoveryd/receive/committer.h"
#include "recoveryd/receive/worker.h"

#include <pthread.h>
#include <string.h>

enum {
    MAX_WORKERS = 64,
    MAX_STREAMS = 65536,
    QUEUE_FRAMES = 4096, /* many small ones; held_bytes bounds large ones */
    QUEUE_LANDED = 64,
    READ_AT_ONCE = 64, /* frames between two looks at what has to be forwarded */
    POLL_MS = 1000,
    POLL_HELD_MS = 1, /* how soon the receiver looks again whether workers made room */
};

struct server {
    struct server_options o;
    struct streams *streams;
    struct queue *frames;
    struct queue *landed;
    uint64_t incarnation;

    struct worker workers[MAX_WORKERS];
    struct segment_writer *writers[MAX_WORKERS];
    pthread_t worker_threads[MAX_WORKERS];
    unsigned workers_running;
    struct committer *committer;
    struct sender *committer_sender;
    pthread_t committer_thread;
    bool committer_runs;

    _Atomic uint64_t held_bytes; /* of frames between the socket and the segments */

    struct rate malformed_lines; /* the receiver's */
    struct rate superseded_lines;

    pthread_mutex_t lock; /* guards below */
    struct error failure; /* of a thread; code 0: none */
};

/* --- threads -------------------------------------------------------------------------------------
 */

/* The first failure ends the server; the rest is its consequence. */
static void fail(struct server *s, const struct error *err) {
    pthread_mutex_lock(&s->lock);
    if (s->failure.code == 0)
        s->failure = *err;
    pthread_mutex_unlock(&s->lock);
    stop_request();
}

/* After a failure: what still comes is not for the disk, but whoever pushes must not wait for ever.
 */
static void discard_landed(struct server *s) {
    for (struct landed *landed; (landed = queue_pop(s->landed, UINT64_MAX)) != NULL;) {
        streams_release(s->streams, landed->stream);
        landed_destroy(landed);
    }
}

static void discard_frames(struct server *s) {
    for (struct frame *frame; (frame = queue_pop(s->frames, UINT64_MAX)) != NULL;) {
        streams_release(s->streams, frame->context);
        atomic_fetch_sub(&s->held_bytes, frame->bytes);
        frame_destroy(frame);
    }
}

static void *committer_thread(void *context) {
    struct server *s = context;
    struct error err = {0};
    if (committer_run(s->committer, &err) < 0) {
        fail(s, &err);
        discard_landed(s);
    }
    return NULL;
}

struct worker_start {
    struct server *server;
    unsigned number;
};

static void *worker_thread(void *context) {
    struct worker_start *start = context;
    struct server *s = start->server;
    struct error err = {0};
    int code = worker_run(&s->workers[start->number], &err);
    free(start);
    if (code < 0) {
        fail(s, &err);
        discard_frames(s);
    }
    return NULL;
}

static int start_worker(struct server *s, unsigned number, struct error *err) {
    s->writers[number] = segments_writer_create(s->o.store->segments);
    s->workers[number] = (struct worker){
        .number = number,
        .frames = s->frames,
        .landed = s->landed,
        .streams = s->streams,
        .writer = s->writers[number],
        .room = s->o.store->room,
        .sender = sender_create(s->o.socket),
        .full = {.stalled = room_waiting(s->o.store->room)},
        .held_bytes = &s->held_bytes,
    };
    struct worker_start *start = malloc(sizeof *start);
    if (s->writers[number] == NULL || s->workers[number].sender == NULL || start == NULL) {
        free(start);
        return error_set(err, ERR_NOMEM, "out of memory");
    }
    *start = (struct worker_start){s, number};
    int errnum = pthread_create(&s->worker_threads[number], NULL, worker_thread, start);
    if (errnum != 0) {
        free(start);
        return error_errno(err, errnum, "cannot start a thread");
    }
    s->workers_running = number + 1;
    return 0;
}

static int start_committer(struct server *s, struct error *err) {
    s->committer_sender = sender_create(s->o.socket);
    struct committer_options options = {
        .store = s->o.store,
        .streams = s->streams,
        .landed = s->landed,
        .sender = s->committer_sender,
        .writers = s->writers,
        .writer_count = s->o.workers,
        .incarnation = s->incarnation,
        .stalled = room_waiting(s->o.store->room),
    };
    s->committer = committer_create(&options);
    if (s->committer == NULL || s->committer_sender == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    int errnum = pthread_create(&s->committer_thread, NULL, committer_thread, s);
    if (errnum != 0)
        return error_errno(err, errnum, "cannot start a thread");
    s->committer_runs = true;
    return 0;
}

/* In the order of the pipeline, so that each stage drains into the next before that one ends. */
static void stop_threads(struct server *s) {
    queue_close(s->frames);
    for (unsigned i = 0; i < s->workers_running; i++)
        pthread_join(s->worker_threads[i], NULL);
    s->workers_running = 0;
    queue_close(s->landed);
    if (s->committer_runs)
        pthread_join(s->committer_thread, NULL);
    s->committer_runs = false;
}

int server_create(const struct server_options *options, struct server **out, struct error *err) {
    if (options->workers < 1 || options->workers > MAX_WORKERS)
        return error_set(err, ERR_USAGE, "--workers: 1 to %d", MAX_WORKERS);
    AUTO(server) s = calloc(1, sizeof *s);
    if (s == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    s->o = *options;
    s->incarnation = clock_wall_ns();
    pthread_mutex_init(&s->lock, NULL);
    s->streams = streams_create(MAX_STREAMS);
    s->frames = queue_create(QUEUE_FRAMES);
    s->landed = queue_create(QUEUE_LANDED);
    if (s->streams == NULL || s->frames == NULL || s->landed == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    int code = streams_load(s->streams, s->o.store->index, err);
    for (unsigned i = 0; i < options->workers && code == 0; i++)
        code = start_worker(s, i, err);
    if (code == 0)
        code = start_committer(s, err);
    if (code == 0)
        *out = take_pointer(&s);
    return code;
}

void server_destroy(struct server *s) {
    if (s == NULL)
        return;
    if (s->frames != NULL && s->landed != NULL)
        stop_threads(s);
    for (unsigned i = 0; i < s->o.workers; i++) {
        segments_writer_destroy(s->writers[i]);
        sender_destroy(s->workers[i].sender);
    }
    committer_destroy(s->committer);
    sender_destroy(s->committer_sender);
    queue_destroy(s->frames);
    queue_destroy(s->landed);
    streams_destroy(s->streams);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* --- the receiver --------------------------------------------------------------------------------
 */

static void refuse_malformed(struct server *s, struct frame *frame, const struct error *why) {
    uint64_t left_out;
    socket_refuse(s->o.socket, &frame->from, why->text);
    if (rate_allows(&s->malformed_lines, NS_PER_SECOND, &left_out))
        log_warning("%s: refused (and %llu more)", why->text, (unsigned long long)left_out);
    frame_destroy(frame);
}

static void greet(struct server *s, struct frame *frame, const struct message_hello *hello) {
    struct error err;
    struct message welcome = {
        .kind = MESSAGE_WELCOME,
        .welcome = {.incarnation = s->incarnation, .credit_bytes = s->o.credit_bytes}};
    if (streams_hello(s->streams, hello, &welcome.welcome.frontier, &err) < 0) {
        refuse_malformed(s, frame, &err);
        return;
    }
    AUTO_BUFFER b;
    buffer_init(&b, LIMIT_RECORD_HEAD_BYTES);
    message_encode(&b, &welcome);
    socket_send(s->o.socket, &frame->from, &b);
    frame_destroy(frame);
}

/*
 * An older start of a monitor that still sends would hold two histories in one name: what it saw is
 * kept, and it is told to stop.
 */
static void refuse_superseded(struct server *s, const struct frame *frame,
                              const struct stream *stream) {
    uint64_t left_out;
    socket_refuse(s->o.socket, &frame->from,
                  "another tapd with the same --monitor name was started later: give each its own");
    if (rate_allows(&s->superseded_lines, 60 * NS_PER_SECOND, &left_out))
        log_warning("monitor %s: an earlier start still sends; it was told to stop (two tapd with "
                    "one name?)",
                    stream->entry.name);
}

/*
 * A batch of a stream that was never introduced comes from a connection that was just made anew:
 * the HELLO follows, and the monitor sends the batch again.
 */
static void admit(struct server *s, struct frame *frame, const struct message_batch *batch) {
    bool superseded;
    struct stream *stream = streams_admit(s->streams, batch->monitor, batch->stream, &superseded);
    if (stream == NULL) {
        frame_destroy(frame);
        return;
    }
    if (superseded)
        refuse_superseded(s, frame, stream);
    frame->context = stream;
    atomic_fetch_add(&s->held_bytes, frame->bytes);
    if (queue_try_push(s->frames, frame))
        return;
    atomic_fetch_sub(&s->held_bytes, frame->bytes);
    streams_release(s->streams, stream);
    frame_destroy(frame);
}

static void take_control(struct server *s, struct frame *frame) {
    if (s->o.control.take != NULL && s->o.control.take(s->o.control.context, frame))
        return;
    socket_refuse(s->o.socket, &frame->from, "too many requests at once: try again");
    frame_destroy(frame);
}

static bool is_full(struct server *s) {
    return atomic_load(&s->held_bytes) >= s->o.held_bytes ||
           queue_depth(s->frames) >= QUEUE_FRAMES - 1;
}

static void dispatch(struct server *s, struct frame *frame) {
    struct message m;
    struct cursor body;
    struct error err;
    int code = message_decode(frame->data, frame->bytes, &m, &body, &err);
    if (code == 0 && m.kind == MESSAGE_BATCH) {
        /* Only when the disk is full does it come here: what is not acknowledged is sent again. */
        if (is_full(s))
            frame_destroy(frame);
        else
            admit(s, frame, &m.batch);
    } else if (code == 0 && m.kind == MESSAGE_HELLO) {
        greet(s, frame, &m.hello);
    } else if (code == 0 && m.kind == MESSAGE_CONTROL) {
        take_control(s, frame);
    } else {
        if (code == 0)
            error_set(&err, ERR_FORMAT, "malformed message: of a kind that no server gets");
        refuse_malformed(s, frame, &err);
    }
}

/*
 * While workers are behind, nothing is read. While the disk is full, everything is, and batches are
 * dropped: so that a monitor that connects and an administrator who asks get an answer.
 */
static bool wants_frames(struct server *s) {
    return !is_full(s) || atomic_load(room_waiting(s->o.store->room)) > 0;
}

int server_run(struct server *s, struct error *err) {
    while (!stop_requested()) {
        bool wants = wants_frames(s);
        if (!socket_wait(s->o.socket, wants, stop_fd(), wants ? POLL_MS : POLL_HELD_MS))
            continue;
        for (unsigned i = 0; i < READ_AT_ONCE && wants; i++) {
            struct frame *frame = socket_receive(s->o.socket);
            if (frame == NULL)
                break;
            dispatch(s, frame);
            wants = wants_frames(s);
        }
    }
    stop_threads(s);
    if (s->failure.code != 0) {
        *err = s->failure;
        return err->code;
    }
    return 0;
}
