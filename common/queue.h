/*
 * queue: the only thing that threads share: a bounded first-in-first-out of pointers.
 *
 * Any number of producers and consumers. The lock guards everything inside. Ownership of an item
 * passes from the producer to the consumer; what is still inside at destroy is the destroyer's to
 * drain first.
 */
#ifndef SANREWIND_COMMON_QUEUE_H
#define SANREWIND_COMMON_QUEUE_H

#include "common/cleanup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct queue;

struct queue *queue_create(size_t limit); /* at most `limit` items; NULL: out of memory */
void queue_destroy(struct queue *q);

/* Waits while full. False once closed: the item is still the caller's. */
bool queue_push(struct queue *q, void *item);
/* False at once when full or closed. */
bool queue_try_push(struct queue *q, void *item);
/* Waits up to timeout_ns (UINT64_MAX: for ever) for an item; NULL on time-out, or closed and empty.
 */
void *queue_pop(struct queue *q, uint64_t timeout_ns);
/* No more pushes; pops go on until it is empty. */
void queue_close(struct queue *q);
bool queue_is_closed(struct queue *q);
size_t queue_depth(struct queue *q);

DEFINE_AUTO(queue, queue_destroy)

#endif
