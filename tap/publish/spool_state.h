/*
 * spool_state: what the parts of the spool share. Only spool.c, spool_read.c and
 * spool_disk.c include this.
 */
#ifndef SANREWIND_TAP_SPOOL_STATE_H
#define SANREWIND_TAP_SPOOL_STATE_H

#include "common/clock.h"
#include "tap/publish/shelf.h"
#include "tap/publish/spool.h"

#include <pthread.h>

/* A batch in memory: not on stable storage yet, or there is no folder. */
struct held {
    struct batch *batch;
    struct mono since;
    bool thin;
};

struct spool_sink {
    uint64_t stream; /* it has all of the streams before it, and of this one… */
    uint64_t frontier;
    struct rangeset beyond;
    bool lost;
    void (*wake)(void *context);
    void *context;
};

struct spool {
    struct spool_options o;
    struct shelf *shelf; /* NULL: in memory */
    pthread_t thread;
    bool thread_runs;

    pthread_mutex_t lock; /* guards all below, and the list of the shelf */
    pthread_cond_t changed;
    bool stopping;
    bool hurry; /* somebody waits for stable storage */
    struct spool_sink sinks[SPOOL_SINKS];
    struct held *held; /* a deque of the stream of this start: held[head..head + count) */
    size_t head;
    size_t count;
    size_t capacity;
    size_t bulky;        /* the first so many are copies outside the pool */
    size_t written;      /* the first so many are in files */
    size_t thinned;      /* the first so many have been looked at for thinning */
    uint64_t bytes;      /* that held ones take, when there is no folder */
    uint64_t safe_order; /* marks below it are on stable storage */
    bool wants_room;
    bool stuck; /* somebody waits for room */
    struct mono full_said;
    uint64_t lost;
    struct error failure;
};

/* With the lock held, all of them. */

struct held *spool_held(struct spool *s, size_t index);
void spool_pop_held(struct spool *s);
/* The required sinks have it; all: every sink that is not lost, too. */
bool spool_is_released(struct spool *s, uint64_t stream, uint64_t first, uint64_t end, bool all);
void spool_wake_links(struct spool *s);
void spool_wait_a_while(struct spool *s, uint64_t ns);
/* There is no room: says so, now and then. */
void spool_say_full(struct spool *s);
void spool_fail_locked(struct spool *s, const struct error *err);
/* Replaces a held batch by what is left of it. False: it is as large as before. */
bool spool_thin_held(struct spool *s, struct held *held);

/* --- spool_disk.c --- */

void *spool_disk_thread(void *context);

#endif
