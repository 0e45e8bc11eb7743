#include "tap/publish/spool.h"

#include "common/log.h"
#include "common/stop.h"
#include "proto/limits.h"
#include "tap/publish/spool_state.h"
#include "tap/publish/thin.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a batch in memory takes beside its bytes. */
enum { HELD_EXTRA_BYTES = 256, FIRST_CAPACITY = 256 };
#define SAY_FULL_NS (60 * NS_PER_SECOND)

/* --- what is held in memory ----------------------------------------------------------------------
 */

struct held *spool_held(struct spool *s, size_t index) {
    return &s->held[s->head + index];
}

static uint64_t cost_of(const struct batch *batch) {
    return batch->frame.length + HELD_EXTRA_BYTES;
}

void spool_pop_held(struct spool *s) {
    struct batch *batch = spool_held(s, 0)->batch;
    s->bytes -= cost_of(batch);
    batch_put(batch);
    s->head++;
    s->count--;
    s->bulky -= s->bulky > 0;
    s->written -= s->written > 0;
    s->thinned -= s->thinned > 0;
}

static bool make_place(struct spool *s) {
    if (s->head + s->count < s->capacity)
        return true;
    if (s->head > s->capacity / 2) {
        memmove(s->held, s->held + s->head, s->count * sizeof *s->held);
        s->head = 0;
        return true;
    }
    size_t capacity = s->capacity > 0 ? 2 * s->capacity : FIRST_CAPACITY;
    struct held *held = realloc(s->held, capacity * sizeof *held);
    if (held == NULL)
        return false;
    s->held = held;
    s->capacity = capacity;
    return true;
}

static bool push_held(struct spool *s, struct batch *batch, bool thin) {
    if (!make_place(s))
        return false;
    s->held[s->head + s->count++] = (struct held){batch, clock_mono(), thin};
    s->bytes += cost_of(batch);
    return true;
}

/* Half of the pool is for what comes: older batches are kept outside of it. */
static void leave_pool(struct spool *s) {
    while (s->count - s->bulky > s->o.pool_count / 2) {
        struct held *held = spool_held(s, s->bulky++);
        struct batch *copy =
            held->batch->loose ? NULL : batch_copy(held->batch, &held->batch->frame);
        if (copy == NULL)
            continue;
        batch_put(held->batch);
        held->batch = copy;
    }
}

bool spool_thin_held(struct spool *s, struct held *held) {
    AUTO_BUFFER thin;
    struct error err;
    uint64_t lost = 0;
    buffer_init(&thin, LIMIT_BATCH_BYTES);
    held->thin = true;
    if (thin_batch(held->batch->frame.data, held->batch->frame.length, &thin, &lost, &err) < 0 ||
        lost == 0)
        return false;
    struct batch *copy = batch_copy(held->batch, &thin);
    if (copy == NULL)
        return false;
    s->bytes -= cost_of(held->batch) - cost_of(copy);
    s->lost += lost;
    batch_put(held->batch);
    held->batch = copy;
    return true;
}

/* --- what sinks have -----------------------------------------------------------------------------
 */

static bool sink_has(const struct spool_sink *sink, uint64_t stream, uint64_t first, uint64_t end) {
    if (sink->stream != stream)
        return stream < sink->stream;
    return end <= sink->frontier ||
           rangeset_contains(&sink->beyond, first > sink->frontier ? first : sink->frontier, end);
}

bool spool_is_released(struct spool *s, uint64_t stream, uint64_t first, uint64_t end, bool all) {
    unsigned have = 0;
    for (unsigned i = 0; i < s->o.sinks; i++) {
        bool has = sink_has(&s->sinks[i], stream, first, end);
        have += has;
        if (all && !has && !s->sinks[i].lost)
            return false;
    }
    return have >= s->o.required;
}

static bool held_is_released(struct spool *s, const struct held *held, bool all) {
    return spool_is_released(s, s->o.stream, held->batch->first_order, held->batch->end_order, all);
}

/* Without a folder. The lock is held. */
static void let_go(struct spool *s) {
    while (s->shelf == NULL && s->count > 0 && held_is_released(s, spool_held(s, 0), true))
        spool_pop_held(s);
}

void spool_wake_links(struct spool *s) {
    for (unsigned i = 0; i < s->o.sinks; i++) {
        if (s->sinks[i].wake != NULL)
            s->sinks[i].wake(s->sinks[i].context);
    }
}

void spool_acknowledge(struct spool *s, unsigned sink, uint64_t stream, uint64_t frontier,
                       const struct rangeset *beyond) {
    struct spool_sink *state = &s->sinks[sink];
    pthread_mutex_lock(&s->lock);
    state->stream = stream;
    state->frontier = frontier;
    rangeset_clear(&state->beyond);
    for (size_t i = 0; beyond != NULL && i < beyond->count; i++)
        rangeset_add(&state->beyond, beyond->ranges[i].start, beyond->ranges[i].end);
    let_go(s);
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

void spool_lose(struct spool *s, unsigned sink, const struct error *why) {
    unsigned left = 0;
    pthread_mutex_lock(&s->lock);
    s->sinks[sink].lost = true;
    for (unsigned i = 0; i < s->o.sinks; i++)
        left += !s->sinks[i].lost;
    if (left < s->o.required)
        spool_fail_locked(s, why);
    else
        log_error("%s: nothing more is sent there until the next start", why->text);
    let_go(s);
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

uint64_t spool_next_stream(struct spool *s, uint64_t after) {
    uint64_t next = s->o.stream;
    pthread_mutex_lock(&s->lock);
    for (struct shelf_file *f = s->shelf != NULL ? s->shelf->first : NULL; f != NULL; f = f->next) {
        if (f->head.stream > after && f->head.stream < next &&
            f->extent.first_order < f->extent.end_order)
            next = f->head.stream;
    }
    pthread_mutex_unlock(&s->lock);
    return next;
}

uint64_t spool_first_held(struct spool *s, uint64_t stream) {
    pthread_mutex_lock(&s->lock);
    bool none = stream != s->o.stream || s->count == 0;
    uint64_t order = none ? UINT64_MAX : spool_held(s, 0)->batch->first_order;
    pthread_mutex_unlock(&s->lock);
    return order;
}

/* --- the publisher's side ------------------------------------------------------------------------
 */

void spool_wait_a_while(struct spool *s, uint64_t ns) {
    uint64_t until = clock_mono().ns + ns;
    struct timespec deadline = {.tv_sec = (time_t)(until / NS_PER_SECOND),
                                .tv_nsec = (long)(until % NS_PER_SECOND)};
    pthread_cond_timedwait(&s->changed, &s->lock, &deadline);
}

void spool_say_full(struct spool *s) {
    static const char *const what[] = {[SPOOL_WAIT] = "the capture waits",
                                       [SPOOL_OLDEST] = "of the oldest updates only gaps are kept",
                                       [SPOOL_NEWEST] = "of the newest updates only gaps are kept"};
    if (s->full_said.ns != 0 && clock_since_ns(s->full_said) < SAY_FULL_NS)
        return;
    s->full_said = clock_mono();
    log_warning("the %s is full (%" PRIu64 " bytes): %s (%" PRIu64 " updates became gaps so far)",
                s->shelf != NULL ? "spool" : "buffer", s->o.bound_bytes, what[s->o.full], s->lost);
}

/* Without a folder: one step towards room. False: there is nothing to be done but to wait. */
static bool gain_room(struct spool *s) {
    if (s->count > 0 && held_is_released(s, spool_held(s, 0), false)) {
        spool_pop_held(s);
        return true;
    }
    spool_say_full(s);
    while (s->o.full == SPOOL_OLDEST && s->thinned < s->count) {
        if (spool_thin_held(s, spool_held(s, s->thinned++)))
            return true;
    }
    return false;
}

/* Whole batches leave some room for thin ones. */
static bool has_room(const struct spool *s, const struct held *incoming) {
    uint64_t bound = s->o.bound_bytes;
    if (s->o.full == SPOOL_NEWEST && !incoming->thin)
        bound -= bound / 8;
    return s->bytes + cost_of(incoming->batch) <= bound;
}

/* False: it has taken too long to end the program in an orderly way, or nothing goes on any more.
 */
static bool wait_for_room(struct spool *s, struct held *incoming) {
    struct mono stopped = {0};
    while (s->failure.code == 0 && !has_room(s, incoming)) {
        if (gain_room(s))
            continue;
        if (s->o.full == SPOOL_NEWEST && !incoming->thin) {
            s->bytes += cost_of(incoming->batch); /* as if it were held */
            spool_thin_held(s, incoming);
            s->bytes -= cost_of(incoming->batch);
            continue;
        }
        s->stuck = true;
        spool_wait_a_while(s, 100 * NS_PER_MS);
        if (!stop_requested())
            continue;
        if (stopped.ns == 0)
            stopped = clock_mono();
        if (clock_since_ns(stopped) > BATCH_STOP_PATIENCE_NS)
            return false;
    }
    s->stuck = false;
    return s->failure.code == 0;
}

static void put(void *context, struct batch *batch) {
    struct spool *s = context;
    struct held incoming = {.batch = batch};
    struct error err;
    batch_hold(batch);
    pthread_mutex_lock(&s->lock);
    bool taken = s->failure.code == 0;
    if (taken && s->shelf == NULL)
        taken = wait_for_room(s, &incoming);
    if (taken && !push_held(s, incoming.batch, incoming.thin)) {
        error_set(&err, ERR_NOMEM, "out of memory");
        spool_fail_locked(s, &err);
        taken = false;
    }
    if (!taken)
        batch_put(incoming.batch);
    if (s->shelf == NULL)
        leave_pool(s);
    pthread_cond_broadcast(&s->changed);
    spool_wake_links(s);
    pthread_mutex_unlock(&s->lock);
}

struct outlet spool_outlet(struct spool *s) {
    return (struct outlet){.send = put, .context = s};
}

/* --- waiting, and the end ------------------------------------------------------------------------
 */

void spool_fail_locked(struct spool *s, const struct error *err) {
    if (s->failure.code == 0)
        s->failure = *err;
    pthread_cond_broadcast(&s->changed);
    batch_pool_close(s->o.pool);
}

void spool_fail(struct spool *s, const struct error *err) {
    pthread_mutex_lock(&s->lock);
    spool_fail_locked(s, err);
    pthread_mutex_unlock(&s->lock);
}

int spool_check(struct spool *s, struct error *err) {
    pthread_mutex_lock(&s->lock);
    int code = s->failure.code;
    if (code != 0 && err != NULL)
        *err = s->failure;
    pthread_mutex_unlock(&s->lock);
    return code;
}

/* With the lock held. */
static uint64_t backlog(struct spool *s) {
    uint64_t bytes = 0;
    for (struct shelf_file *f = s->shelf != NULL ? s->shelf->first : NULL; f != NULL; f = f->next) {
        const struct spool_extent *extent = &f->extent;
        if (extent->first_order < extent->end_order &&
            !spool_is_released(s, f->head.stream, extent->first_order, extent->end_order, false))
            bytes += extent->bytes;
    }
    for (size_t i = s->written; i < s->count; i++) {
        if (!held_is_released(s, spool_held(s, i), false))
            bytes += cost_of(spool_held(s, i)->batch);
    }
    return bytes;
}

/* By the share of its order marks. */
static uint64_t lag_in_file(const struct spool_sink *sink, const struct shelf_file *file) {
    const struct spool_extent *extent = &file->extent;
    if (sink_has(sink, file->head.stream, extent->first_order, extent->end_order))
        return 0;
    if (sink->stream < file->head.stream || sink->frontier <= extent->first_order)
        return extent->bytes;
    return (uint64_t)((double)extent->bytes * (double)(extent->end_order - sink->frontier) /
                      (double)(extent->end_order - extent->first_order));
}

static bool is_drained(struct spool *s) {
    return backlog(s) == 0;
}

static bool is_safe(struct spool *s) {
    return s->count == 0 || is_drained(s);
}

static int wait_for(struct spool *s, bool (*reached)(struct spool *), uint64_t timeout_ns,
                    struct error *err) {
    struct mono begun = clock_mono();
    int code = 0;
    pthread_mutex_lock(&s->lock);
    while (code == 0 && !reached(s)) {
        if (s->failure.code != 0) {
            *err = s->failure;
            code = err->code;
        } else if (clock_since_ns(begun) >= timeout_ns) {
            code = ERR_NET;
        } else {
            spool_wait_a_while(s, timeout_ns - clock_since_ns(begun) < 100 * NS_PER_MS
                                      ? timeout_ns - clock_since_ns(begun)
                                      : 100 * NS_PER_MS);
        }
    }
    pthread_mutex_unlock(&s->lock);
    return code;
}

int spool_wait_drained(struct spool *s, uint64_t timeout_ns, struct error *err) {
    int code = wait_for(s, is_drained, timeout_ns, err);
    if (code == ERR_NET && spool_check(s, NULL) == 0)
        return error_set(err, ERR_NET, "%" PRIu64 " bytes have not been acknowledged",
                         spool_backlog(s));
    return code;
}

int spool_wait_safe(struct spool *s, uint64_t timeout_ns, struct error *err) {
    pthread_mutex_lock(&s->lock);
    s->hurry = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    int code = wait_for(s, is_safe, s->shelf != NULL ? timeout_ns : 0, err);
    if (code == ERR_NET && spool_check(s, NULL) == 0)
        return error_set(err, ERR_NET, "what was not acknowledged is not on stable storage");
    return code;
}

uint64_t spool_backlog(struct spool *s) {
    pthread_mutex_lock(&s->lock);
    uint64_t bytes = backlog(s);
    pthread_mutex_unlock(&s->lock);
    return bytes;
}

uint64_t spool_lag(struct spool *s, unsigned sink) {
    pthread_mutex_lock(&s->lock);
    const struct spool_sink *state = &s->sinks[sink];
    uint64_t bytes = 0;
    for (struct shelf_file *f = s->shelf != NULL ? s->shelf->first : NULL; f != NULL; f = f->next)
        bytes += lag_in_file(state, f);
    for (size_t i = s->written; i < s->count; i++) {
        const struct batch *batch = spool_held(s, i)->batch;
        if (!sink_has(state, s->o.stream, batch->first_order, batch->end_order))
            bytes += cost_of(batch);
    }
    pthread_mutex_unlock(&s->lock);
    return bytes;
}

bool spool_is_stuck(struct spool *s) {
    pthread_mutex_lock(&s->lock);
    bool stuck = s->stuck;
    pthread_mutex_unlock(&s->lock);
    return stuck;
}

uint64_t spool_lost(struct spool *s) {
    pthread_mutex_lock(&s->lock);
    uint64_t lost = s->lost;
    pthread_mutex_unlock(&s->lock);
    return lost;
}

uint64_t spool_stream(const struct spool *s) {
    return s->o.stream;
}

void spool_attach(struct spool *s, unsigned sink, void (*wake)(void *context), void *context) {
    pthread_mutex_lock(&s->lock);
    s->sinks[sink].wake = wake;
    s->sinks[sink].context = context;
    pthread_mutex_unlock(&s->lock);
}

static int open_folder(struct spool *s, struct error *err) {
    if (s->o.dir == NULL)
        return 0;
    int code = shelf_open(s->o.dir, s->o.monitor, &s->shelf, err);
    if (code < 0)
        return code;
    uint64_t total;
    uint64_t left;
    shelf_room(s->shelf, &total, &left);
    if (s->o.bound_bytes > total)
        s->o.bound_bytes = total;
    for (struct shelf_file *f = s->shelf->first; f != NULL; f = f->next) {
        if (f->head.stream >= s->o.stream)
            s->o.stream = f->head.stream + 1;
    }
    if (s->shelf->first != NULL)
        log_info("%s: %" PRIu64 " bytes of earlier starts are to be sent", s->o.dir,
                 s->shelf->bytes);
    int errnum = pthread_create(&s->thread, NULL, spool_disk_thread, s);
    if (errnum != 0)
        return error_errno(err, errnum, "cannot start a thread");
    s->thread_runs = true;
    return 0;
}

int spool_create(const struct spool_options *options, struct spool **out, struct error *err) {
    AUTO(spool) s = calloc(1, sizeof *s);
    if (s == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    s->o = *options;
    if (s->o.sync == NULL)
        s->o.sync = fdatasync;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    for (unsigned i = 0; i < SPOOL_SINKS; i++)
        rangeset_init(&s->sinks[i].beyond, LIMIT_ACK_RANGES);
    int code = open_folder(s, err);
    if (code == 0)
        *out = take_pointer(&s);
    return code;
}

void spool_destroy(struct spool *s) {
    if (s == NULL)
        return;
    if (s->thread_runs) {
        pthread_mutex_lock(&s->lock);
        s->stopping = true;
        pthread_cond_broadcast(&s->changed);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
    }
    while (s->count > 0)
        spool_pop_held(s);
    free(s->held);
    shelf_close(s->shelf);
    for (unsigned i = 0; i < SPOOL_SINKS; i++)
        rangeset_release(&s->sinks[i].beyond);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
