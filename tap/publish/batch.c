#include "tap/publish/batch.h"

#include "common/stop.h"
#include "proto/limits.h"
#include "proto/message.h"

#include <pthread.h>

struct batch_pool {
    pthread_mutex_t lock; /* guards all below and every batch's references */
    pthread_cond_t came_back;
    struct batch *free;
    size_t made;
    size_t idle; /* in `free` */
    size_t limit;
    bool closed;
};

struct batch_pool *batch_pool_create(size_t count) {
    struct batch_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL)
        return NULL;
    pool->limit = count;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->came_back, &attributes);
    pthread_condattr_destroy(&attributes);
    return pool;
}

static void batch_free(struct batch *batch) {
    buffer_release(&batch->frame);
    free(batch);
}

void batch_pool_destroy(struct batch_pool *pool) {
    if (pool == NULL)
        return;
    while (pool->free != NULL) {
        struct batch *batch = pool->free;
        pool->free = batch->next_free;
        batch_free(batch);
    }
    pthread_cond_destroy(&pool->came_back);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

static struct batch *batch_make(struct batch_pool *pool) {
    struct batch *batch = calloc(1, sizeof *batch);
    if (batch == NULL)
        return NULL;
    batch->pool = pool;
    buffer_init(&batch->frame, LIMIT_BATCH_BYTES);
    return batch;
}

/* With the lock held: a while of waiting, so that a stop is noticed. */
static void wait_a_while(struct batch_pool *pool) {
    uint64_t until = clock_mono().ns + 100 * NS_PER_MS;
    struct timespec deadline = {.tv_sec = (time_t)(until / NS_PER_SECOND),
                                .tv_nsec = (long)(until % NS_PER_SECOND)};
    pthread_cond_timedwait(&pool->came_back, &pool->lock, &deadline);
}

/* With the lock held. */
static bool wait_for_room(struct batch_pool *pool) {
    struct mono stopped = {0};
    while (pool->free == NULL && pool->made == pool->limit && !pool->closed) {
        wait_a_while(pool);
        if (!stop_requested())
            continue;
        if (stopped.ns == 0)
            stopped = clock_mono();
        if (clock_since_ns(stopped) > BATCH_STOP_PATIENCE_NS)
            return false;
    }
    return !pool->closed;
}

/* With the lock held. */
static struct batch *take_locked(struct batch_pool *pool) {
    if (!wait_for_room(pool))
        return NULL;
    struct batch *batch = pool->free;
    if (batch != NULL) {
        pool->free = batch->next_free;
        pool->idle--;
        return batch;
    }
    batch = batch_make(pool);
    if (batch != NULL)
        pool->made++;
    return batch;
}

struct batch *batch_pool_take(struct batch_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    struct batch *batch = take_locked(pool);
    if (batch != NULL)
        batch->references = 1;
    pthread_mutex_unlock(&pool->lock);
    if (batch == NULL)
        return NULL;
    batch->first_order = 0;
    batch->end_order = 0;
    batch->records = 0;
    batch->updates = 0;
    buffer_clear(&batch->frame);
    message_batch_begin(&batch->frame);
    return batch;
}

bool batch_pool_is_scarce(struct batch_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    bool scarce = pool->limit - pool->made + pool->idle < pool->limit / 4;
    pthread_mutex_unlock(&pool->lock);
    return scarce;
}

void batch_pool_close(struct batch_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    pool->closed = true;
    pthread_cond_broadcast(&pool->came_back);
    pthread_mutex_unlock(&pool->lock);
}

void batch_hold(struct batch *batch) {
    pthread_mutex_lock(&batch->pool->lock);
    batch->references++;
    pthread_mutex_unlock(&batch->pool->lock);
}

struct batch *batch_copy(const struct batch *batch, const struct buffer *frame) {
    struct batch *copy = calloc(1, sizeof *copy);
    if (copy == NULL)
        return NULL;
    *copy = (struct batch){.first_order = batch->first_order,
                           .end_order = batch->end_order,
                           .records = batch->records,
                           .updates = batch->updates,
                           .pool = batch->pool,
                           .references = 1,
                           .loose = true};
    buffer_init(&copy->frame, frame->length);
    buffer_put(&copy->frame, frame->data, frame->length);
    if (!copy->frame.failed)
        return copy;
    batch_free(copy);
    return NULL;
}

void batch_put(struct batch *batch) {
    struct batch_pool *pool = batch->pool;
    pthread_mutex_lock(&pool->lock);
    bool last = --batch->references == 0;
    if (last && !batch->loose) {
        batch->next_free = pool->free;
        pool->free = batch;
        pool->idle++;
        pthread_cond_signal(&pool->came_back);
    }
    pthread_mutex_unlock(&pool->lock);
    if (last && batch->loose)
        batch_free(batch);
}
