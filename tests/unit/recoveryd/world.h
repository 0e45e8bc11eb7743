/*
 * world: a store in a directory of its own and a server on it, in this process or in one that can
 * be killed.
 */
#ifndef SANREWIND_TESTS_WORLD_H
#define SANREWIND_TESTS_WORLD_H

#include "sim.h"

#include <pthread.h>
#include <stdint.h>
#include <sys/types.h>

struct world {
    char dir[64];
    char store[80];
    char endpoint[96];
    uint64_t held_bytes; /* of the server; 0: a default */
    pid_t child;
};

void world_make(struct world *w);
/* Removes the directory. */
void world_remove(struct world *w);

/* The server in a child process. */
void world_start(struct world *w);
/* SIGTERM: the exit status. */
int world_stop(struct world *w);
void world_kill(struct world *w);

/* Everything that `s` made is in the store: frontier, times, and the image at each mark. */
void world_expect(struct world *w, const struct sim_stream *s);
/* The volume's image at time_ns equals `image`; whether it is exact comes back. */
bool world_image_is(struct world *w, uint64_t time_ns, const uint8_t *image);
void world_baseline_zeros(struct world *w);

#endif
