/*
 * sim: a monitor made by hand, for tests of the receiving side: a history with the images that it
 * makes, its records as batches in any shape, and a lane to a server.
 */
#ifndef SANREWIND_TESTS_SIM_H
#define SANREWIND_TESTS_SIM_H

#include "common/buffer.h"
#include "common/rangeset.h"
#include "proto/message.h"
#include "proto/record.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SIM_BLOCK = 512, SIM_BLOCKS = 4096, SIM_BYTES = SIM_BLOCK * SIM_BLOCKS };

#define SIM_START_NS   UINT64_C(1795404207000000000)
#define SIM_TARGET     "iqn.2026-11.lab.sim:disk"
#define SIM_DESIGNATOR "naa.600140500000000000000000000000aa"

/* A record in its encoded form. */
struct sim_record {
    uint64_t order;
    struct buffer bytes;
    bool is_payload;
};

/* One stream of one monitor: PATH first, then updates and heartbeats, END last. */
struct sim_stream {
    char name[64];
    uint64_t monitor;
    uint64_t stream;
    uint64_t path;
    struct sim_record *records;
    size_t count;
    uint64_t orders;    /* order marks used */
    uint64_t end_ns;    /* time of the END */
    uint64_t marks[8];  /* times at which images were kept */
    uint8_t *images[8]; /* SIM_BYTES each */
    size_t mark_count;
};

uint64_t sim_random(uint64_t *state);

/* `updates` random changes, one to some ms apart, from start_ns on; 8 marks spread over them. */
void sim_stream_make(struct sim_stream *s, const char *name, uint64_t stream, uint64_t start_ns,
                     size_t updates, uint64_t *state);
void sim_stream_release(struct sim_stream *s);

/* One record more, as it is. */
struct sim_record *sim_add(struct sim_stream *s, const struct record *r);

/* The records at index[0..count) as one batch. */
void sim_batch(const struct sim_stream *s, const size_t *index, size_t count, struct buffer *frame);

/* A lane. */
struct sim_lane;
struct sim_lane *sim_connect(const char *endpoint);
void sim_disconnect(struct sim_lane *lane);
void sim_send(struct sim_lane *lane, const struct buffer *frame);
void sim_hello(struct sim_lane *lane, const struct sim_stream *s);
/* The next message into `frame` (to be released): false after timeout_ms without one. */
bool sim_receive(struct sim_lane *lane, struct buffer *frame, struct message *m,
                 struct cursor *body, long timeout_ms);
/* Waits for the WELCOME. */
bool sim_await_welcome(struct sim_lane *lane, struct message_welcome *welcome);
/* Adds what ACKs say to `durable` until [0, orders) is in it or nothing comes for timeout_ms. */
bool sim_await_durable(struct sim_lane *lane, const struct sim_stream *s, struct rangeset *durable,
                       long timeout_ms);

#endif
