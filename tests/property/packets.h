/*
 * packets: a capture in memory, to be replayed many times, as it was or mangled.
 */
#ifndef SANREWIND_TESTS_PACKETS_H
#define SANREWIND_TESTS_PACKETS_H

#include "common/error.h"
#include "tap/packet.h"

#include <stddef.h>

/* Modified bytes live in blocks of their own: a mangled sequence mostly points into its original.
 */
struct packets {
    struct packet *list;
    size_t count;
    size_t capacity;
    uint8_t **blocks; /* owned */
    size_t block_count;
    size_t block_capacity;
};

/* Reads one or several files, merged by time. */
int packets_load(struct packets *p, const char *const *files, size_t count, struct error *err);
void packets_release(struct packets *p);
/* Empty again; keeps the memory of the list. */
void packets_clear(struct packets *p);
/* Both end the program when memory ends: this is a test. */
void packets_add(struct packets *p, const struct packet *packet);
/* Room for `bytes` that live as long as the list. */
uint8_t *packets_block(struct packets *p, size_t bytes);

#endif
