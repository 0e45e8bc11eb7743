#include "recoveryd/settle/background.h"

#include "common/clock.h"
#include "common/log.h"
#include "recoveryd/settle/settle.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/*
 * The watermark is half a second behind the traffic: looking more often finds nothing. When there
 * is much that cannot be settled yet (a monitor is away), a look takes long: it never takes more
 * than a tenth of the time.
 */
#define PAUSE_NS (UINT64_C(250) * NS_PER_MS)
enum { PAUSES_PER_LOOK = 10 };

struct background {
    struct store *store;
    pthread_t thread;
    bool runs;
    pthread_mutex_t lock; /* guards `ending` */
    pthread_cond_t wake;
    bool ending;
};

static struct timespec in_a_while(uint64_t look_ns) {
    uint64_t pause_ns = look_ns * PAUSES_PER_LOOK;
    uint64_t at = clock_mono().ns + (pause_ns > PAUSE_NS ? pause_ns : PAUSE_NS);
    return (struct timespec){.tv_sec = (time_t)(at / NS_PER_SECOND),
                             .tv_nsec = (long)(at % NS_PER_SECOND)};
}

/* False: it is time to end. */
static bool pause_a_while(struct background *b, uint64_t look_ns) {
    struct timespec until = in_a_while(look_ns);
    pthread_mutex_lock(&b->lock);
    int waited = 0;
    while (!b->ending && waited == 0)
        waited = pthread_cond_timedwait(&b->wake, &b->lock, &until);
    bool goes_on = !b->ending;
    pthread_mutex_unlock(&b->lock);
    return goes_on;
}

/* A failure (a full disk) is said once, and tried again: images go on telling of the gap. */
static void *background_thread(void *context) {
    struct background *b = context;
    char said[sizeof((struct error *)0)->text] = "";
    uint64_t look_ns = 0;
    while (pause_a_while(b, look_ns)) {
        struct error err = {0};
        struct mono start = clock_mono();
        if (settle(b->store, UINT64_MAX, &err) == 0) {
            said[0] = '\0';
        } else if (strcmp(said, err.text) != 0) {
            log_warning("cannot settle copies and audits now: %s", err.text);
            memcpy(said, err.text, sizeof said);
        }
        look_ns = clock_since_ns(start);
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

int background_create(struct store *s, struct background **out, struct error *err) {
    struct background *b = calloc(1, sizeof *b);
    if (b == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    b->store = s;
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
