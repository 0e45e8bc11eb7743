#include "recoveryd/settle/background.h"

#include "common/clock.h"
#include "common/log.h"
#include "recoveryd/settle/settle.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* The watermark is half a second behind the traffic: looking more often finds nothing. */
#define PAUSE_NS (UINT64_C(250) * NS_PER_MS)

static int settle_all(struct store *s, bool *again, struct error *err) {
    *again = false;
    return settle(s, UINT64_MAX, err);
}

static int merge_due(struct store *s, bool *again, struct error *err) {
    return index_merge_due(s->index, again, err);
}

static int watch_room(struct store *s, bool *again, struct error *err) {
    *again = false;
    return room_watch(s->room, err);
}

/* When there is much that cannot be settled yet (a monitor is away), a look takes long: it never
 * takes more than a tenth of the time. */
const struct background_work background_settle = {
    .doing = "settle copies and audits", .work = settle_all, .rest = 10};
const struct background_work background_merge = {
    .doing = "sort the index's journal", .work = merge_due, .rest = 0};

const struct background_work background_room = {
    .doing = "see how much space is left", .work = watch_room, .rest = 10};

struct background {
    struct store *store;
    const struct background_work *work;
    pthread_t thread;
    bool runs;
    pthread_mutex_t lock; /* guards `ending` */
    pthread_cond_t wake;
    bool ending;
};

static struct timespec in_a_while(const struct background *b, uint64_t look_ns) {
    uint64_t pause_ns = look_ns * b->work->rest;
    uint64_t at = clock_mono().ns + (pause_ns > PAUSE_NS ? pause_ns : PAUSE_NS);
    return (struct timespec){.tv_sec = (time_t)(at / NS_PER_SECOND),
                             .tv_nsec = (long)(at % NS_PER_SECOND)};
}

/* False: it is time to end. */
static bool pause_a_while(struct background *b, uint64_t look_ns) {
    struct timespec until = in_a_while(b, look_ns);
    pthread_mutex_lock(&b->lock);
    int waited = 0;
    while (!b->ending && waited == 0)
        waited = pthread_cond_timedwait(&b->wake, &b->lock, &until);
    bool goes_on = !b->ending;
    pthread_mutex_unlock(&b->lock);
    return goes_on;
}

static bool is_ending(struct background *b) {
    pthread_mutex_lock(&b->lock);
    bool ending = b->ending;
    pthread_mutex_unlock(&b->lock);
    return ending;
}

/* A failure (a full disk) is said once, and tried again: images go on telling of the gap. */
static void *background_thread(void *context) {
    struct background *b = context;
    char said[sizeof((struct error *)0)->text] = "";
    uint64_t look_ns = 0;
    while (pause_a_while(b, look_ns)) {
        struct error err = {0};
        bool again = true;
        int code = 0;
        while (code == 0 && again && !is_ending(b)) {
            struct mono start = clock_mono();
            code = b->work->work(b->store, &again, &err);
            look_ns = clock_since_ns(start);
        }
        if (code == 0) {
            said[0] = '\0';
        } else if (strcmp(said, err.text) != 0) {
            log_warning("cannot %s now: %s", b->work->doing, err.text);
            memcpy(said, err.text, sizeof said);
        }
    }
    return NULL;
}

static void init_wake(struct background *b) {
    pthread_condattr_t attributes;
    pthread_mutex_init(&b->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&b->wake, &attributes);
    pthread_condattr_destroy(&attributes);
}

int background_create(struct store *s, const struct background_work *work, struct background **out,
                      struct error *err) {
    struct background *b = calloc(1, sizeof *b);
    if (b == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    b->store = s;
    b->work = work;
    init_wake(b);
    int errnum = pthread_create(&b->thread, NULL, background_thread, b);
    b->runs = errnum == 0;
    if (!b->runs) {
        background_destroy(b);
        return error_errno(err, errnum, "cannot start a thread");
    }
    *out = b;
    return 0;
}

void background_destroy(struct background *b) {
    if (b == NULL)
        return;
    pthread_mutex_lock(&b->lock);
    b->ending = true;
    pthread_cond_signal(&b->wake);
    pthread_mutex_unlock(&b->lock);
    if (b->runs)
        pthread_join(b->thread, NULL);
    pthread_cond_destroy(&b->wake);
    pthread_mutex_destroy(&b->lock);
    free(b);
}
