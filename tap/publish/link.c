#include "tap/publish/link.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/version.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "proto/stamp.h"
#include "tap/publish/link_state.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>

enum { POLL_MS = 100, MAX_CREDIT_BYTES = 64 << 20 };

static void set_failure(struct link *l, const struct error *err) {
    pthread_mutex_lock(&l->lock);
    if (l->failure.code == 0)
        l->failure = *err;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

void link_fail(struct link *l, const struct error *err) {
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
    bool back = stream < l->stream;
    lanes_close(l->lanes);
    l->lanes = NULL;
    for (unsigned i = 0; i < l->lane_count; i++)
        l->states[i] = LANE_DOWN;
    l->turn_to = 0;
    l->stream = stream;
    l->frontier = 0;
    rangeset_clear(&l->beyond);
    l->greeted = false;
    link_rewind(l);
    /* Forward, the spool lets go of the stream before when the sink has taken to the next one. */
    if (back)
        spool_acknowledge(l->spool, l->sink, stream, 0, NULL);
    if (lanes_open(l->endpoint, l->lane_count, &l->lanes, &err) < 0)
        link_fail(l, &err);
}

static void next_stream(struct link *l) {
    turn_to(l, spool_next_stream(l->spool, l->stream));
}

void link_give_up_stream(struct link *l, const char *why) {
    struct error err;
    if (is_old(l)) {
        log_warning("%s: what is left of an earlier start is not sent: %s", l->endpoint, why);
        next_stream(l);
        return;
    }
    error_set(&err, ERR_NET, "%s: %s; the next start goes on with a gap that says so", l->endpoint,
              why);
    link_fail(l, &err);
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
    link_rewind(l);
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

static void note_acknowledged(struct link *l) {
    link_forget_acknowledged(l);
    spool_acknowledge(l->spool, l->sink, l->stream, l->frontier, &l->beyond);
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
        link_rewind(l);
    l->greeted = true;
    note_acknowledged(l);
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
    note_acknowledged(l);
}

/* Of a stream of an earlier start the server may know a successor: then it has got past it. */
static void take_refusal(struct link *l, const struct message_refuse *refuse) {
    struct error err;
    error_set(&err, ERR_NET, "the recovery server at %s refuses: %.*s", l->endpoint,
              (int)refuse->text_bytes, refuse->text);
    if (is_old(l))
        link_give_up_stream(l, err.text);
    else
        link_fail(l, &err);
}

static void take_message(struct link *l, const struct lane_event *event) {
    struct message m;
    struct cursor body;
    struct error err;
    if (message_decode(event->data, event->bytes, &m, &body, &err) < 0) {
        error_prefix(&err, "the recovery server at %s", l->endpoint);
        link_fail(l, &err);
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
        link_lane_is_down(l, event->lane);
        break;
    case LANE_MESSAGE:
        take_message(l, event);
        break;
    }
}

/* Of an earlier start nothing is added any more. */
static void leave_finished(struct link *l) {
    if (is_old(l) && l->greeted && link_is_done(l))
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
            link_fail(l, &err);
            break;
        }
        rest(l);
        if (l->turn_to == 0 && !l->idle)
            link_send_waiting(l);
        if (l->turn_to == 0 && !l->idle)
            leave_finished(l);
        if (l->turn_to != 0 && !l->idle)
            speak_of(l, l->turn_to);
    }
    link_rewind(l);
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
    link_rewind(l);
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
    spool_reader_release(&l->next.reader);
    spool_reader_release(&l->live.reader);
    spool_reader_release(&l->again);
    rangeset_release(&l->beyond);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
    free(l->endpoint);
    free(l->monitor);
    free(l);
}
