#include "tap/publish/link.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/version.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "proto/stamp.h"
#include "tap/publish/link_lane.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>

enum { MAX_LANES = 16, POLL_MS = 100, MAX_PENDING = 1024, MAX_CREDIT_BYTES = 64 << 20 };
#define RETRY_NS     (5 * NS_PER_SECOND)
#define RETRY_MAX_NS (60 * NS_PER_SECOND)

/* A batch that is not acknowledged yet. */
struct pending {
    uint64_t first_order;
    uint64_t end_order;
    size_t bytes;
    bool sent;
    unsigned lane;
    struct mono sent_at;
    uint64_t retry_ns; /* how long to wait for an acknowledgement before it is sent again */
    struct pending *next;
};

struct link {
    /* Fixed at creation. */
    char *endpoint;
    char *monitor;
    uint64_t monitor_id;
    struct spool *spool;
    unsigned sink;
    unsigned lane_count;
    int wake_fd;
    pthread_t thread;
    bool thread_runs;

    /* The thread's own. */
    uint64_t stream; /* that is spoken of now */
    struct lanes *lanes;
    enum lane_state states[MAX_LANES];
    unsigned next_lane;
    struct pending *first;
    struct pending **last;
    unsigned pending_count;
    uint64_t credit_bytes;
    uint64_t under_way_bytes;
    uint64_t incarnation;
    uint64_t frontier; /* of the stream, as the server said last */
    struct rangeset beyond;
    bool greeted;     /* the server said so of this stream */
    bool idle;        /* nothing goes on */
    uint64_t turn_to; /* the stream to be spoken of next; 0: none */
    struct spool_reader reader;
    struct spool_piece piece; /* read, and not sent yet */
    struct spool_reader again;

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    bool stopping;
    bool welcomed;
    struct error failure; /* code 0: none */
};

static void set_failure(struct link *l, const struct error *err) {
    pthread_mutex_lock(&l->lock);
    if (l->failure.code == 0)
        l->failure = *err;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

static void fail(struct link *l, const struct error *err) {
    l->idle = true;
    set_failure(l, err);
    spool_lose(l->spool, l->sink, err);
}

static void wake(void *context) {
    const struct link *l = context;
    uint64_t one = 1;
    if (write(l->wake_fd, &one, sizeof one) < 0) {
        /* Full means readable, which is all that is wanted. */
    }
}

/* --- what is under way ---------------------------------------------------------------------------
 */

static void unsend(struct link *l, struct pending *pending) {
    if (!pending->sent)
        return;
    pending->sent = false;
    l->under_way_bytes -= pending->bytes;
}

static void drop_pending(struct link *l, struct pending **at) {
    struct pending *gone = *at;
    unsend(l, gone);
    *at = gone->next;
    if (l->last == &gone->next)
        l->last = at;
    l->pending_count--;
    free(gone);
}

static void drop_all(struct link *l) {
    while (l->first != NULL)
        drop_pending(l, &l->first);
}

static void lane_down(struct link *l, unsigned lane) {
    l->states[lane] = LANE_DOWN;
    for (struct pending *p = l->first; p != NULL; p = p->next) {
        if (p->lane == lane)
            unsend(l, p);
    }
}

static bool is_durable(const struct link *l, uint64_t first, uint64_t end) {
    return end <= l->frontier ||
           rangeset_contains(&l->beyond, first > l->frontier ? first : l->frontier, end);
}

/* The reader begins anew behind what the server has. */
static void rewind_reader(struct link *l) {
    drop_all(l);
    spool_give_back(&l->piece);
    l->reader.stream = l->stream;
    l->reader.order = l->frontier;
}

static void take_acknowledged(struct link *l) {
    for (struct pending **at = &l->first; *at != NULL;) {
        if (is_durable(l, (*at)->first_order, (*at)->end_order))
            drop_pending(l, at);
        else
            at = &(*at)->next;
    }
    spool_acknowledge(l->spool, l->sink, l->stream, l->frontier, &l->beyond);
}

/* --- which stream is spoken of -------------------------------------------------------------------
 */

static bool is_old(const struct link *l) {
    return l->stream != spool_stream(l->spool);
}

/* Not in the middle of an event of a connection. */
static void turn_to(struct link *l, uint64_t stream) {
    l->turn_to = stream;
}

/*
 * An answer does not name the stream that it is about, so that each stream has connections of its
 * own.
 */
static void speak_of(struct link *l, uint64_t stream) {
    struct error err;
    lanes_close(l->lanes);
    l->lanes = NULL;
    for (unsigned i = 0; i < l->lane_count; i++)
        l->states[i] = LANE_DOWN;
    l->turn_to = 0;
    l->stream = stream;
    l->frontier = 0;
    rangeset_clear(&l->beyond);
    l->greeted = false;
    rewind_reader(l);
    spool_acknowledge(l->spool, l->sink, stream, 0, NULL);
    if (lanes_open(l->endpoint, l->lane_count, &l->lanes, &err) < 0)
        fail(l, &err);
}

static void next_stream(struct link *l) {
    turn_to(l, spool_next_stream(l->spool, l->stream));
}

/*
 * What the server lacks of the stream is not in the spool any more, so that it cannot become whole.
 * A new stream begins with a gap behind what there is of the ones before it: an old stream is left
 * alone, and of that of this start no more can be sent until there is a new one.
 */
static void give_up_stream(struct link *l, const char *why) {
    struct error err;
    if (is_old(l)) {
        log_warning("%s: what is left of an earlier start is not sent: %s", l->endpoint, why);
        next_stream(l);
        return;
    }
    error_set(&err, ERR_NET, "%s: %s; the next start goes on with a gap that says so", l->endpoint,
              why);
    fail(l, &err);
}

/* --- what the server says ------------------------------------------------------------------------
 */

static void say_hello(struct link *l, unsigned lane) {
    AUTO_BUFFER b;
    buffer_init(&b, LIMIT_RECORD_HEAD_BYTES);
    struct message hello = {
        .kind = MESSAGE_HELLO,
        .hello = {.monitor = l->monitor_id,
                  .stream = l->stream,
                  .name = l->monitor,
                  .name_bytes = (uint16_t)strlen(l->monitor),
                  .software = "tapd " SANREWIND_VERSION,
                  .software_bytes = sizeof "tapd " SANREWIND_VERSION - 1},
    };
    message_encode(&b, &hello);
    if (!b.failed && lanes_send(l->lanes, lane, b.data, b.length))
        l->states[lane] = LANE_GREETED;
}

/*
 * A server that restarted has lost what it had not made durable, and one that was restored from a
 * copy of its store more than that: streams that it had acknowledged, too.
 */
static void note_incarnation(struct link *l, uint64_t incarnation, uint64_t frontier) {
    bool restarted = l->incarnation != 0 && l->incarnation != incarnation;
    l->incarnation = incarnation;
    if (!restarted)
        return;
    if (frontier < l->frontier)
        log_warning("the recovery server at %s has less than it had acknowledged (%" PRIu64
                    " records of %" PRIu64
                    "): was it restored from a copy? What the spool still has is sent again",
                    l->endpoint, frontier, l->frontier);
    else
        log_info("the recovery server at %s restarted: sending again what it may have lost",
                 l->endpoint);
    l->frontier = frontier;
    rangeset_clear(&l->beyond);
    rewind_reader(l);
    uint64_t oldest = spool_next_stream(l->spool, 0);
    if (oldest < l->stream)
        turn_to(l, oldest);
}

static void note_welcome(struct link *l) {
    pthread_mutex_lock(&l->lock);
    bool first = !l->welcomed;
    l->welcomed = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    if (first)
        log_info("connected to the recovery server at %s", l->endpoint);
}

static void take_welcome(struct link *l, unsigned lane, const struct message_welcome *welcome) {
    note_welcome(l);
    note_incarnation(l, welcome->incarnation, welcome->frontier);
    if (l->turn_to != 0)
        return;
    l->states[lane] = LANE_UP;
    l->credit_bytes =
        welcome->credit_bytes < MAX_CREDIT_BYTES ? welcome->credit_bytes : MAX_CREDIT_BYTES;
    if (welcome->frontier > l->frontier)
        l->frontier = welcome->frontier;
    if (!l->greeted)
        rewind_reader(l);
    l->greeted = true;
    take_acknowledged(l);
}

static void take_ack(struct link *l, const struct message_ack *ack, struct cursor *ranges) {
    if (ack->monitor != l->monitor_id || ack->stream != l->stream)
        return;
    /* Of a server that is gone, whatever it had; or overtaken by a later one on another lane. */
    if (ack->incarnation != l->incarnation || ack->frontier < l->frontier)
        return;
    rangeset_clear(&l->beyond);
    for (uint32_t i = 0; i < ack->range_count; i++) {
        struct range range = message_ack_range(ranges);
        rangeset_add(&l->beyond, range.start, range.end);
    }
    l->frontier = ack->frontier;
    take_acknowledged(l);
}

/* Of a stream of an earlier start the server may know a successor: then it has got past it. */
static void take_refusal(struct link *l, const struct message_refuse *refuse) {
    struct error err;
    error_set(&err, ERR_NET, "the recovery server at %s refuses: %.*s", l->endpoint,
              (int)refuse->text_bytes, refuse->text);
    if (is_old(l))
        give_up_stream(l, err.text);
    else
        fail(l, &err);
}

static void take_message(struct link *l, const struct lane_event *event) {
    struct message m;
    struct cursor body;
    struct error err;
    if (message_decode(event->data, event->bytes, &m, &body, &err) < 0) {
        error_prefix(&err, "the recovery server at %s", l->endpoint);
        fail(l, &err);
        return;
    }
    if (m.kind == MESSAGE_WELCOME)
        take_welcome(l, event->lane, &m.welcome);
    else if (m.kind == MESSAGE_ACK)
        take_ack(l, &m.ack, &body);
    else if (m.kind == MESSAGE_REFUSE)
        take_refusal(l, &m.refuse);
}

static void on_event(void *context, const struct lane_event *event) {
    struct link *l = context;
    if (l->idle || l->turn_to != 0)
        return;
    switch (event->kind) {
    case LANE_CONNECTED:
        say_hello(l, event->lane);
        break;
    case LANE_DISCONNECTED:
        lane_down(l, event->lane);
        break;
    case LANE_MESSAGE:
        take_message(l, event);
        break;
    }
}

/* --- sending -------------------------------------------------------------------------------------
 */

/* The next lane that can take a batch, in turn; lane_count when none can. */
static unsigned pick_lane(struct link *l) {
    for (unsigned tries = 0; tries < l->lane_count; tries++) {
        unsigned lane = l->next_lane;
        l->next_lane = (lane + 1) % l->lane_count;
        if (l->states[lane] == LANE_UP)
            return lane;
    }
    return l->lane_count;
}

static bool has_credit(const struct link *l, size_t bytes) {
    return l->under_way_bytes == 0 || l->under_way_bytes + bytes <= l->credit_bytes;
}

/* False: not now. */
static bool send_piece(struct link *l, const struct spool_piece *piece, struct pending *pending) {
    unsigned lane = pick_lane(l);
    if (lane == l->lane_count || !lanes_send(l->lanes, lane, piece->data, piece->bytes))
        return false;
    pending->bytes = piece->bytes; /* a batch that was thinned meanwhile is smaller */
    pending->sent = true;
    pending->lane = lane;
    pending->sent_at = clock_mono();
    l->under_way_bytes += piece->bytes;
    return true;
}

/* What a broken connection took with it. False: not now. */
static bool send_again(struct link *l, struct pending *pending) {
    struct spool_piece piece;
    struct error err;
    if (!has_credit(l, pending->bytes))
        return false;
    l->again.stream = l->stream;
    l->again.order = pending->first_order;
    int found = spool_read(l->spool, &l->again, &piece, &err);
    if (found != SPOOL_PIECE) {
        give_up_stream(l, found < 0 ? err.text : "the spool had to let go of what it lacks");
        return false;
    }
    bool sent = send_piece(l, &piece, pending);
    spool_give_back(&piece);
    return sent;
}

/* True: `piece` is the next one to be sent. */
static bool read_next(struct link *l) {
    struct error err;
    while (l->piece.data == NULL) {
        int found = spool_read(l->spool, &l->reader, &l->piece, &err);
        if (found == SPOOL_NOTHING)
            return false;
        if (found != SPOOL_PIECE) {
            give_up_stream(l, found < 0 ? err.text : "the spool had to let go of what it lacks");
            return false;
        }
        if (is_durable(l, l->piece.first_order, l->piece.end_order))
            spool_give_back(&l->piece);
    }
    return true;
}

/* False: not now. */
static bool send_next(struct link *l) {
    if (l->pending_count == MAX_PENDING || !read_next(l) || !has_credit(l, l->piece.bytes))
        return false;
    struct pending *pending = calloc(1, sizeof *pending);
    if (pending == NULL || !send_piece(l, &l->piece, pending)) {
        free(pending);
        return false;
    }
    pending->first_order = l->piece.first_order;
    pending->end_order = l->piece.end_order;
    pending->retry_ns = RETRY_NS;
    *l->last = pending;
    l->last = &pending->next;
    l->pending_count++;
    spool_give_back(&l->piece);
    return true;
}

static bool has_lane(const struct link *l) {
    for (unsigned i = 0; i < l->lane_count; i++) {
        if (l->states[i] == LANE_UP)
            return true;
    }
    return false;
}

static void send_waiting(struct link *l) {
    if (!has_lane(l))
        return;
    for (struct pending *p = l->first; p != NULL; p = p->next) {
        if (!p->sent && !send_again(l, p))
            return;
    }
    while (l->turn_to == 0 && send_next(l)) {
    }
}

static void retry_overdue(struct link *l) {
    for (struct pending *p = l->first; p != NULL; p = p->next) {
        if (!p->sent || clock_since_ns(p->sent_at) < p->retry_ns)
            continue;
        unsend(l, p);
        if (p->retry_ns < RETRY_MAX_NS)
            p->retry_ns *= 2;
    }
}

/* Of an earlier start nothing is added any more. */
static void leave_finished(struct link *l) {
    if (is_old(l) && l->greeted && l->first == NULL && !read_next(l) && l->turn_to == 0)
        next_stream(l);
}

static bool is_stopping(struct link *l) {
    pthread_mutex_lock(&l->lock);
    bool stopping = l->stopping;
    pthread_mutex_unlock(&l->lock);
    return stopping;
}

static void rest(const struct link *l) {
    uint64_t count;
    if (read(l->wake_fd, &count, sizeof count) < 0 && errno != EAGAIN)
        log_warning("%s: cannot be woken: %s", l->endpoint, strerror(errno));
}

static void *link_thread(void *context) {
    struct link *l = context;
    struct error err;
    while (!is_stopping(l) && !l->idle) {
        if (lanes_poll(l->lanes, l->wake_fd, POLL_MS, on_event, l, &err) < 0) {
            fail(l, &err);
            break;
        }
        rest(l);
        retry_overdue(l);
        if (l->turn_to == 0 && !l->idle)
            send_waiting(l);
        if (l->turn_to == 0 && !l->idle)
            leave_finished(l);
        if (l->turn_to != 0 && !l->idle)
            speak_of(l, l->turn_to);
    }
    drop_all(l);
    spool_give_back(&l->piece);
    return NULL;
}

/* --- the worker's side ---------------------------------------------------------------------------
 */

bool link_is_welcome(struct link *l) {
    pthread_mutex_lock(&l->lock);
    bool welcomed = l->welcomed;
    pthread_mutex_unlock(&l->lock);
    return welcomed;
}

int link_wait_welcome(struct link *l, uint64_t timeout_ns, struct error *err) {
    uint64_t at = clock_plus(clock_mono().ns, timeout_ns);
    struct timespec deadline = {.tv_sec = (time_t)(at / NS_PER_SECOND),
                                .tv_nsec = (long)(at % NS_PER_SECOND)};
    int code = 0;
    pthread_mutex_lock(&l->lock);
    while (!l->welcomed && code == 0) {
        if (l->failure.code != 0) {
            *err = l->failure;
            code = err->code;
        } else if (pthread_cond_timedwait(&l->changed, &l->lock, &deadline) == ETIMEDOUT) {
            code = error_set(err, ERR_NET,
                             "no recovery server answered at %s within %llu s: is recoveryd "
                             "running, and does it --listen there?",
                             l->endpoint, (unsigned long long)(timeout_ns / NS_PER_SECOND));
        }
    }
    pthread_mutex_unlock(&l->lock);
    return code;
}

static int link_start(struct link *l, struct error *err) {
    l->stream = spool_next_stream(l->spool, 0);
    l->reader.stream = l->stream;
    int code = lanes_open(l->endpoint, l->lane_count, &l->lanes, err);
    if (code < 0)
        return code;
    spool_attach(l->spool, l->sink, wake, l);
    int errnum = pthread_create(&l->thread, NULL, link_thread, l);
    if (errnum != 0)
        return error_errno(err, errnum, "cannot start a thread");
    l->thread_runs = true;
    return 0;
}

int link_create(const struct link_options *options, struct link **out, struct error *err) {
    AUTO(link) l = calloc(1, sizeof *l);
    if (l == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    rangeset_init(&l->beyond, LIMIT_ACK_RANGES);
    l->last = &l->first;
    l->spool = options->spool;
    l->sink = options->sink;
    l->lane_count = options->lanes;
    l->endpoint = strdup(options->endpoint);
    l->monitor = strdup(options->monitor);
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->endpoint == NULL || l->monitor == NULL || l->wake_fd < 0)
        return error_set(err, ERR_NOMEM, "out of memory");
    l->monitor_id = stamp_monitor_id(l->monitor);
    int code = link_start(l, err);
    if (code == 0)
        *out = take_pointer(&l);
    return code;
}

void link_destroy(struct link *l) {
    if (l == NULL)
        return;
    spool_attach(l->spool, l->sink, NULL, NULL);
    if (l->thread_runs) {
        pthread_mutex_lock(&l->lock);
        l->stopping = true;
        pthread_mutex_unlock(&l->lock);
        wake(l);
        pthread_join(l->thread, NULL);
    }
    lanes_close(l->lanes);
    if (l->wake_fd > 0)
        close(l->wake_fd);
    spool_reader_release(&l->reader);
    spool_reader_release(&l->again);
    rangeset_release(&l->beyond);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
    free(l->endpoint);
    free(l->monitor);
    free(l);
}
