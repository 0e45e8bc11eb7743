#include "tap/publish/link.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/queue.h"
#include "common/version.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "proto/stamp.h"
#include "tap/publish/link_lane.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>

enum { MAX_LANES = 16, POLL_MS = 100 };
#define RETRY_NS     (5 * NS_PER_SECOND)
#define RETRY_MAX_NS (60 * NS_PER_SECOND)

/* A batch that is not acknowledged yet. */
struct pending {
    struct batch *batch;
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
    uint64_t stream;
    struct batch_pool *pool;
    unsigned lane_count;
    struct queue *incoming; /* batches from the publisher */
    int wake_fd;
    pthread_t thread;
    bool thread_runs;

    /* The thread's own. */
    struct lanes *lanes;
    enum lane_state states[MAX_LANES];
    unsigned next_lane;
    struct pending *first;
    struct pending **last;
    uint64_t credit_bytes;
    uint64_t under_way_bytes;
    uint64_t incarnation;

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    bool stopping;
    bool welcomed;
    uint64_t unacknowledged; /* batches */
    struct error failure;    /* code 0: none */
};

static void fail(struct link *l, const struct error *err) {
    pthread_mutex_lock(&l->lock);
    if (l->failure.code == 0)
        l->failure = *err;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    batch_pool_close(l->pool);
}

static void wake(struct link *l) {
    uint64_t one = 1;
    if (write(l->wake_fd, &one, sizeof one) < 0) {
        /* Full means readable, which is all that is wanted. */
    }
}

/* --- the thread ----------------------------------------------------------------------------------
 */

static void unsend(struct link *l, struct pending *pending) {
    if (!pending->sent)
        return;
    pending->sent = false;
    l->under_way_bytes -= pending->batch->frame.length;
}

static void unsend_all(struct link *l) {
    for (struct pending *p = l->first; p != NULL; p = p->next)
        unsend(l, p);
}

static void lane_down(struct link *l, unsigned lane) {
    l->states[lane] = LANE_DOWN;
    for (struct pending *p = l->first; p != NULL; p = p->next) {
        if (p->lane == lane)
            unsend(l, p);
    }
}

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

static void drop_pending(struct link *l, struct pending **at) {
    struct pending *gone = *at;
    unsend(l, gone);
    *at = gone->next;
    if (l->last == &gone->next)
        l->last = at;
    batch_put(gone->batch);
    free(gone);
}

static bool is_durable(const struct batch *batch, uint64_t frontier,
                       const struct rangeset *beyond) {
    return batch->end_order <= frontier ||
           rangeset_contains(beyond, batch->first_order > frontier ? batch->first_order : frontier,
                             batch->end_order);
}

static void take_acknowledged(struct link *l, uint64_t frontier, const struct rangeset *beyond) {
    uint64_t gone = 0;
    for (struct pending **at = &l->first; *at != NULL;) {
        if (is_durable((*at)->batch, frontier, beyond)) {
            drop_pending(l, at);
            gone++;
        } else {
            at = &(*at)->next;
        }
    }
    pthread_mutex_lock(&l->lock);
    l->unacknowledged -= gone;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

/* A server that restarted has lost what it had not made durable. */
static void note_incarnation(struct link *l, uint64_t incarnation) {
    if (l->incarnation == incarnation)
        return;
    if (l->incarnation != 0)
        log_info("the recovery server at %s restarted: sending again what it may have lost",
                 l->endpoint);
    l->incarnation = incarnation;
    unsend_all(l);
}

static void take_welcome(struct link *l, unsigned lane, const struct message_welcome *welcome) {
    struct rangeset none;
    rangeset_init(&none, 0);
    l->states[lane] = LANE_UP;
    l->credit_bytes = welcome->credit_bytes;
    note_incarnation(l, welcome->incarnation);
    take_acknowledged(l, welcome->frontier, &none);
    pthread_mutex_lock(&l->lock);
    bool first = !l->welcomed;
    l->welcomed = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    if (first)
        log_info("connected to the recovery server at %s", l->endpoint);
}

static void take_ack(struct link *l, const struct message_ack *ack, struct cursor *ranges) {
    if (ack->monitor != l->monitor_id || ack->stream != l->stream)
        return;
    struct rangeset beyond;
    rangeset_init(&beyond, LIMIT_ACK_RANGES);
    for (uint32_t i = 0; i < ack->range_count; i++) {
        struct range range = message_ack_range(ranges);
        rangeset_add(&beyond, range.start, range.end);
    }
    note_incarnation(l, ack->incarnation);
    take_acknowledged(l, ack->frontier, &beyond);
    rangeset_release(&beyond);
}

static void take_refusal(struct link *l, const struct message_refuse *refuse) {
    struct error err;
    error_set(&err, ERR_NET, "the recovery server at %s refuses: %.*s", l->endpoint,
              (int)refuse->text_bytes, refuse->text);
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

static void take_incoming(struct link *l) {
    uint64_t count;
    if (read(l->wake_fd, &count, sizeof count) < 0 && errno != EAGAIN)
        return;
    for (struct batch *batch; (batch = queue_pop(l->incoming, 0)) != NULL;) {
        struct pending *pending = calloc(1, sizeof *pending);
        if (pending == NULL) {
            struct error err;
            error_set(&err, ERR_NOMEM, "out of memory");
            fail(l, &err);
            batch_put(batch);
            return;
        }
        pending->batch = batch;
        pending->retry_ns = RETRY_NS;
        *l->last = pending;
        l->last = &pending->next;
    }
}

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

static void send_waiting(struct link *l) {
    for (struct pending *p = l->first; p != NULL; p = p->next) {
        size_t bytes = p->batch->frame.length;
        if (p->sent)
            continue;
        if (l->under_way_bytes > 0 && l->under_way_bytes + bytes > l->credit_bytes)
            return;
        unsigned lane = pick_lane(l);
        if (lane == l->lane_count || !lanes_send(l->lanes, lane, p->batch->frame.data, bytes))
            return;
        p->sent = true;
        p->lane = lane;
        p->sent_at = clock_mono();
        l->under_way_bytes += bytes;
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

static bool is_stopping(struct link *l) {
    pthread_mutex_lock(&l->lock);
    bool stopping = l->stopping;
    pthread_mutex_unlock(&l->lock);
    return stopping;
}

static void *link_thread(void *context) {
    struct link *l = context;
    struct error err;
    while (!is_stopping(l)) {
        if (lanes_poll(l->lanes, l->wake_fd, POLL_MS, on_event, l, &err) < 0) {
            fail(l, &err);
            break;
        }
        take_incoming(l);
        retry_overdue(l);
        send_waiting(l);
    }
    while (l->first != NULL)
        drop_pending(l, &l->first);
    return NULL;
}

/* --- the worker's side ---------------------------------------------------------------------------
 */

static void link_send(void *context, struct batch *batch) {
    struct link *l = context;
    batch_hold(batch);
    pthread_mutex_lock(&l->lock);
    l->unacknowledged++;
    pthread_mutex_unlock(&l->lock);
    if (!queue_push(l->incoming, batch))
        batch_put(batch);
    wake(l);
}

struct outlet link_outlet(struct link *l) {
    return (struct outlet){.send = link_send, .context = l};
}

static struct timespec deadline_after(uint64_t timeout_ns) {
    uint64_t at = clock_mono().ns + timeout_ns;
    return (struct timespec){.tv_sec = (time_t)(at / NS_PER_SECOND),
                             .tv_nsec = (long)(at % NS_PER_SECOND)};
}

/* Waits for reached(l) under the lock. 0, the failure, ERR_STOPPED, or `late` after the deadline.
 */
static int wait_for(struct link *l, bool (*reached)(const struct link *), uint64_t timeout_ns,
                    struct error *err) {
    struct timespec deadline = deadline_after(timeout_ns);
    int code = 0;
    pthread_mutex_lock(&l->lock);
    while (!reached(l) && code == 0) {
        if (l->failure.code != 0) {
            *err = l->failure;
            code = err->code;
        } else if (pthread_cond_timedwait(&l->changed, &l->lock, &deadline) == ETIMEDOUT) {
            code = ERR_NET;
            err->code = 0;
        }
    }
    pthread_mutex_unlock(&l->lock);
    return code;
}

static bool has_welcome(const struct link *l) {
    return l->welcomed;
}

static bool is_drained(const struct link *l) {
    return l->unacknowledged == 0;
}

int link_wait_welcome(struct link *l, uint64_t timeout_ns, struct error *err) {
    int code = wait_for(l, has_welcome, timeout_ns, err);
    if (code == ERR_NET && err->code == 0)
        return error_set(err, ERR_NET,
                         "no recovery server answered at %s within %llu s: is recoveryd running, "
                         "and does it --listen there?",
                         l->endpoint, (unsigned long long)(timeout_ns / NS_PER_SECOND));
    return code;
}

int link_wait_drained(struct link *l, uint64_t timeout_ns, struct error *err) {
    int code = wait_for(l, is_drained, timeout_ns, err);
    if (code == ERR_NET && err->code == 0)
        return error_set(err, ERR_NET,
                         "the recovery server at %s has not acknowledged %llu batches", l->endpoint,
                         (unsigned long long)link_unacknowledged(l));
    return code;
}

int link_check(struct link *l, struct error *err) {
    pthread_mutex_lock(&l->lock);
    int code = l->failure.code;
    if (code != 0 && err != NULL)
        *err = l->failure;
    pthread_mutex_unlock(&l->lock);
    return code;
}

uint64_t link_unacknowledged(struct link *l) {
    pthread_mutex_lock(&l->lock);
    uint64_t count = l->unacknowledged;
    pthread_mutex_unlock(&l->lock);
    return count;
}

static int link_start(struct link *l, struct error *err) {
    int code = lanes_open(l->endpoint, l->lane_count, &l->lanes, err);
    if (code < 0)
        return code;
    int errnum = pthread_create(&l->thread, NULL, link_thread, l);
    if (errnum != 0)
        return error_errno(err, errnum, "cannot start a thread");
    l->thread_runs = true;
    return 0;
}

int link_create(const struct link_options *options, size_t batch_count, struct link **out,
                struct error *err) {
    AUTO(link) l = calloc(1, sizeof *l);
    if (l == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    l->last = &l->first;
    l->endpoint = strdup(options->endpoint);
    l->monitor = strdup(options->monitor);
    l->incoming = queue_create(batch_count);
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->endpoint == NULL || l->monitor == NULL || l->incoming == NULL || l->wake_fd < 0)
        return error_set(err, ERR_NOMEM, "out of memory");
    l->monitor_id = stamp_monitor_id(l->monitor);
    l->stream = options->stream;
    l->pool = options->pool;
    l->lane_count = options->lanes;
    int code = link_start(l, err);
    if (code == 0)
        *out = take_pointer(&l);
    return code;
}

void link_destroy(struct link *l) {
    if (l == NULL)
        return;
    if (l->thread_runs) {
        pthread_mutex_lock(&l->lock);
        l->stopping = true;
        pthread_mutex_unlock(&l->lock);
        wake(l);
        pthread_join(l->thread, NULL);
    }
    for (struct batch *batch; l->incoming != NULL && (batch = queue_pop(l->incoming, 0)) != NULL;)
        batch_put(batch);
    queue_destroy(l->incoming);
    lanes_close(l->lanes);
    if (l->wake_fd > 0)
        close(l->wake_fd);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
    free(l->endpoint);
    free(l->monitor);
    free(l);
}
