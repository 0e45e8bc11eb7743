#include "common/queue.h"

#include "common/clock.h"

#include <errno.h>
#include <pthread.h>

struct queue {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t not_empty;
    pthread_cond_t not_full;
    size_t limit;
    size_t head;
    size_t count;
    bool closed;
    void *items[];
};

struct queue *queue_create(size_t limit) {
    struct queue *q = calloc(1, sizeof *q + limit * sizeof q->items[0]);
    if (q == NULL)
        return NULL;
    q->limit = limit;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->not_empty, &attributes);
    pthread_cond_init(&q->not_full, &attributes);
    pthread_condattr_destroy(&attributes);
    return q;
}

void queue_destroy(struct queue *q) {
    if (q == NULL)
        return;
    pthread_cond_destroy(&q->not_full);
    pthread_cond_destroy(&q->not_empty);
    pthread_mutex_destroy(&q->lock);
    free(q);
}

static void put(struct queue *q, void *item) {
    q->items[(q->head + q->count) % q->limit] = item;
    q->count++;
    pthread_cond_signal(&q->not_empty);
}

bool queue_push(struct queue *q, void *item) {
    pthread_mutex_lock(&q->lock);
    while (q->count == q->limit && !q->closed)
        pthread_cond_wait(&q->not_full, &q->lock);
    bool taken = !q->closed;
    if (taken)
        put(q, item);
    pthread_mutex_unlock(&q->lock);
    return taken;
}

bool queue_try_push(struct queue *q, void *item) {
    pthread_mutex_lock(&q->lock);
    bool taken = !q->closed && q->count < q->limit;
    if (taken)
        put(q, item);
    pthread_mutex_unlock(&q->lock);
    return taken;
}

/* With the lock held: wait until there is an item; false on time-out or when closed and empty. */
static bool wait_for_item(struct queue *q, uint64_t timeout_ns) {
    if (timeout_ns == UINT64_MAX) {
        while (q->count == 0 && !q->closed)
            pthread_cond_wait(&q->not_empty, &q->lock);
        return q->count > 0;
    }
    uint64_t deadline = clock_mono().ns + timeout_ns;
    struct timespec until = {.tv_sec = (time_t)(deadline / NS_PER_SECOND),
                             .tv_nsec = (long)(deadline % NS_PER_SECOND)};
    while (q->count == 0 && !q->closed) {
        if (pthread_cond_timedwait(&q->not_empty, &q->lock, &until) == ETIMEDOUT)
            break;
    }
    return q->count > 0;
}

void *queue_pop(struct queue *q, uint64_t timeout_ns) {
    void *item = NULL;
    pthread_mutex_lock(&q->lock);
    if (wait_for_item(q, timeout_ns)) {
        item = q->items[q->head];
        q->head = (q->head + 1) % q->limit;
        q->count--;
        pthread_cond_signal(&q->not_full);
    }
    pthread_mutex_unlock(&q->lock);
    return item;
}

void queue_close(struct queue *q) {
    pthread_mutex_lock(&q->lock);
    q->closed = true;
    pthread_cond_broadcast(&q->not_empty);
    pthread_cond_broadcast(&q->not_full);
    pthread_mutex_unlock(&q->lock);
}

bool queue_is_closed(struct queue *q) {
    pthread_mutex_lock(&q->lock);
    bool closed = q->closed;
    pthread_mutex_unlock(&q->lock);
    return closed;
}

size_t queue_depth(struct queue *q) {
    pthread_mutex_lock(&q->lock);
    size_t count = q->count;
    pthread_mutex_unlock(&q->lock);
    return count;
}
