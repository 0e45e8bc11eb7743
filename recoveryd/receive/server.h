/*
 * server: recoveryd's receiving side, wired: one receiver, workers, one committer.
 *
 *     ROUTER → receiver → frames → workers → landed → committer → acknowledgements → receiver →
 * ROUTER └→ control requests → the hands that server_options names
 *
 * The calling thread is the receiver. Memory is bounded by what monitors may have under way
 * (credit) and, over all of them, by held_bytes: beyond it nothing more is read from the sockets,
 * and TCP presses back.
 */
#ifndef SANREWIND_RECOVERYD_SERVER_H
#define SANREWIND_RECOVERYD_SERVER_H

#include "common/cleanup.h"
#include "common/error.h"
#include "recoveryd/store/store.h"

#include <stdbool.h>
#include <stdint.h>

struct server;
struct socket;
struct frame;

/* Who answers recoveryctl. */
struct server_control {
    /* Takes the frame over; false when busy: the caller refuses it. Never waits. */
    bool (*take)(void *context, struct frame *frame);
    void *context;
};

struct server_options {
    struct store *store;   /* STORE_OWN; borrowed */
    struct socket *socket; /* listening; borrowed */
    unsigned workers;      /* 1 to 64 */
    uint64_t credit_bytes; /* per stream */
    uint64_t held_bytes;   /* of frames, over all streams */
    struct server_control control;
};

int server_create(const struct server_options *options, struct server **out, struct error *err);
void server_destroy(struct server *s);

/*
 * Runs until stop is requested; then commits and acknowledges what it holds. 0, or the failure that
 * ended it.
 */
int server_run(struct server *s, struct error *err);

DEFINE_AUTO(server, server_destroy)

#endif
