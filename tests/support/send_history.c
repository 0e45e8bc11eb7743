/*
 * send_history ENDPOINT UPDATES [MONITOR]: a monitor without a wire.
 *
 * Makes a random history of one small volume (seed printed, taken from SANREWIND_SEED), sends its
 * records to a recovery server in random order over several lanes, half of them twice, and prints
 * "@SECONDS.NS SHA256" for moments whose image it knows. Ends with 0 when all is acknowledged.
 */
#include "../unit/common/seed.h"
#include "../unit/recoveryd/sim.h"

#include "common/digest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 3, BATCH_RECORDS = 40, TRIES = 60, WAIT_MS = 3000 };

static void shuffle(size_t *index, size_t count, uint64_t *state) {
    for (size_t i = count; i > 1; i--) {
        size_t other = sim_random(state) % i;
        size_t kept = index[i - 1];
        index[i - 1] = index[other];
        index[other] = kept;
    }
}

static void send_some(struct sim_lane **lanes, const struct sim_stream *s, const size_t *index,
                      size_t count) {
    for (size_t i = 0, lane = 0; i < count; i += BATCH_RECORDS, lane++) {
        AUTO_BUFFER frame;
        sim_batch(s, index + i, count - i < BATCH_RECORDS ? count - i : BATCH_RECORDS, &frame);
        sim_send(lanes[lane % LANES], &frame);
    }
}

/* The records that are not acknowledged. */
static size_t missing(const struct sim_stream *s, const struct rangeset *durable, size_t *index) {
    size_t count = 0;
    for (size_t i = 0; i < s->count; i++) {
        if (!rangeset_contains(durable, s->records[i].order, s->records[i].order + 1))
            index[count++] = i;
    }
    return count;
}

static bool deliver(struct sim_lane **lanes, const struct sim_stream *s, uint64_t *state) {
    struct rangeset durable;
    rangeset_init(&durable, 1000000);
    size_t *index = calloc(s->count, sizeof *index);
    bool all = false;
    for (int tries = 0; tries < TRIES && !all; tries++) {
        size_t count = missing(s, &durable, index);
        shuffle(index, count, state);
        send_some(lanes, s, index, count);
        if (tries == 0)
            send_some(lanes, s, index, count / 2);
        for (size_t i = 0; i < LANES && !all; i++)
            all = sim_await_durable(lanes[i], s, &durable, WAIT_MS);
    }
    free(index);
    rangeset_release(&durable);
    return all;
}

static void print_marks(const struct sim_stream *s) {
    for (size_t i = 0; i < s->mark_count; i++) {
        char hex[SHA256_HEX_BYTES];
        AUTO(sha256) sum = sha256_create();
        sha256_update(sum, s->images[i], SIM_BYTES);
        sha256_finish_hex(sum, hex);
        printf("@%" PRIu64 ".%09" PRIu64 " %s\n", s->marks[i] / NS_PER_SECOND,
               s->marks[i] % NS_PER_SECOND, hex);
    }
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: send_history ENDPOINT UPDATES [MONITOR]\n");
        return 2;
    }
    uint64_t state = test_seed();
    struct sim_stream s;
    struct sim_lane *lanes[LANES];
    sim_stream_make(&s, argc > 3 ? argv[3] : "history", clock_wall_ns(), SIM_START_NS,
                    strtoul(argv[2], NULL, 10), &state);
    for (size_t i = 0; i < LANES; i++) {
        struct message_welcome welcome;
        lanes[i] = sim_connect(argv[1]);
        sim_hello(lanes[i], &s);
        if (!sim_await_welcome(lanes[i], &welcome)) {
            fprintf(stderr, "send_history: no welcome from %s\n", argv[1]);
            return 1;
        }
    }
    bool all = deliver(lanes, &s, &state);
    for (size_t i = 0; i < LANES; i++)
        sim_disconnect(lanes[i]);
    print_marks(&s);
    sim_stream_release(&s);
    if (!all)
        fprintf(stderr, "send_history: not everything was acknowledged\n");
    return all ? 0 : 1;
}
