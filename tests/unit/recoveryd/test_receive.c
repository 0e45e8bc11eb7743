/* The receiving side as a whole: batches in any order and shape, twice, split, through crashes. */
#include "../common/seed.h"
#include "world.h"

#include "common/clock.h"
#include "proto/limits.h"
#include "recoveryd/store/store.h"

#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

enum { UPDATES = 400, LANES = 3 };

TestSuite(receive, .timeout = 60);

static size_t *in_order(const struct sim_stream *s) {
    size_t *index = malloc(s->count * sizeof *index);
    for (size_t i = 0; i < s->count; i++)
        index[i] = i;
    return index;
}

static void shuffle(size_t *index, size_t count, uint64_t *state) {
    for (size_t i = count; i > 1; i--) {
        size_t other = sim_random(state) % i;
        size_t kept = index[i - 1];
        index[i - 1] = index[other];
        index[other] = kept;
    }
}

/* In batches of 1 to `most` records, over the lanes in turn. */
static void send_all(struct sim_lane **lanes, size_t lane_count, const struct sim_stream *s,
                     const size_t *index, size_t count, size_t most, uint64_t *state) {
    size_t lane = 0;
    for (size_t i = 0; i < count;) {
        AUTO_BUFFER frame;
        size_t batch = 1 + sim_random(state) % most;
        if (batch > count - i)
            batch = count - i;
        sim_batch(s, index + i, batch, &frame);
        sim_send(lanes[lane++ % lane_count], &frame);
        i += batch;
    }
}

static void connect_lanes(struct sim_lane **lanes, const struct world *w,
                          const struct sim_stream *s) {
    for (size_t i = 0; i < LANES; i++) {
        struct message_welcome welcome;
        lanes[i] = sim_connect(w->endpoint);
        sim_hello(lanes[i], s);
        cr_assert(sim_await_welcome(lanes[i], &welcome));
        cr_assert_gt(welcome.credit_bytes, 0);
        cr_assert_gt(welcome.incarnation, 0);
    }
}

static void disconnect_lanes(struct sim_lane **lanes) {
    for (size_t i = 0; i < LANES; i++)
        sim_disconnect(lanes[i]);
}

/* Whatever is not acknowledged is sent again, as a monitor does. */
static void deliver(struct sim_lane **lanes, const struct sim_stream *s, const size_t *index,
                    size_t count, uint64_t *state) {
    struct rangeset durable;
    rangeset_init(&durable, 100000);
    for (int tries = 0; tries < 20; tries++) {
        bool all = false;
        send_all(lanes, LANES, s, index, count, 40, state);
        for (size_t i = 0; i < LANES && !all; i++)
            all = sim_await_durable(lanes[i], s, &durable, 300);
        if (all) {
            rangeset_release(&durable);
            return;
        }
    }
    cr_assert_fail("not everything was acknowledged; the first missing mark is %lu",
                   rangeset_first_missing(&durable, 0));
}

static void run_order(bool shuffled, bool twice, size_t updates) {
    uint64_t state = test_seed();
    struct world w;
    struct sim_stream s;
    struct sim_lane *lanes[LANES];
    world_make(&w);
    world_start(&w);
    sim_stream_make(&s, "mon", 1000, SIM_START_NS, updates, &state);
    connect_lanes(lanes, &w, &s);
    size_t *index = in_order(&s);
    if (shuffled)
        shuffle(index, s.count, &state);
    deliver(lanes, &s, index, s.count, &state);
    if (twice) {
        shuffle(index, s.count, &state);
        deliver(lanes, &s, index, s.count, &state);
    }
    disconnect_lanes(lanes);
    cr_assert_eq(world_stop(&w), 0);
    world_baseline_zeros(&w);
    world_expect(&w, &s);
    cr_assert(world_image_is(&w, s.marks[0], s.images[0]), "with a baseline it is exact");
    free(index);
    sim_stream_release(&s);
    world_remove(&w);
}

Test(receive, in_order) {
    run_order(false, false, UPDATES);
}

Test(receive, any_order) {
    run_order(true, false, UPDATES);
}

Test(receive, any_order_and_twice) {
    run_order(true, true, UPDATES);
}

/* Nothing that was acknowledged is lost, however often the server dies. */
Test(receive, killed_again_and_again) {
    uint64_t state = test_seed();
    struct world w;
    struct sim_stream s;
    struct sim_lane *lanes[LANES];
    struct rangeset durable;
    rangeset_init(&durable, 100000);
    world_make(&w);
    sim_stream_make(&s, "mon", 1000, SIM_START_NS, UPDATES, &state);
    size_t *index = in_order(&s);
    for (int life = 0; life < 5; life++) {
        struct message_welcome welcome;
        world_start(&w);
        connect_lanes(lanes, &w, &s);
        shuffle(index, s.count, &state);
        send_all(lanes, LANES, &s, index, s.count / 4, 10, &state);
        /* Die somewhere in the middle: after one acknowledgement. */
        AUTO_BUFFER frame;
        struct message m;
        struct cursor body;
        if (sim_receive(lanes[0], &frame, &m, &body, 2000) && m.kind == MESSAGE_ACK)
            rangeset_add(&durable, 0, m.ack.frontier);
        world_kill(&w);
        disconnect_lanes(lanes);
        world_start(&w);
        lanes[0] = sim_connect(w.endpoint);
        sim_hello(lanes[0], &s);
        cr_assert(sim_await_welcome(lanes[0], &welcome));
        cr_assert_geq(welcome.frontier, rangeset_first_missing(&durable, 0),
                      "what was acknowledged is gone");
        sim_disconnect(lanes[0]);
        cr_assert_eq(world_stop(&w), 0);
    }
    world_start(&w);
    connect_lanes(lanes, &w, &s);
    deliver(lanes, &s, index, s.count, &state);
    disconnect_lanes(lanes);
    cr_assert_eq(world_stop(&w), 0);
    world_expect(&w, &s);
    rangeset_release(&durable);
    free(index);
    sim_stream_release(&s);
    world_remove(&w);
}

/* SIGTERM with batches under way: what was acknowledged is there, and the exit is clean. */
Test(receive, sigterm_makes_durable_what_it_holds) {
    uint64_t state = test_seed();
    struct world w;
    struct sim_stream s;
    struct sim_lane *lanes[LANES];
    world_make(&w);
    world_start(&w);
    sim_stream_make(&s, "mon", 1000, SIM_START_NS, UPDATES, &state);
    connect_lanes(lanes, &w, &s);
    size_t *index = in_order(&s);
    send_all(lanes, LANES, &s, index, s.count, 40, &state);
    cr_assert_eq(world_stop(&w), 0);
    struct rangeset durable;
    rangeset_init(&durable, 100000);
    for (size_t i = 0; i < LANES; i++)
        sim_await_durable(lanes[i], &s, &durable, 100);
    disconnect_lanes(lanes);
    world_start(&w);
    struct message_welcome welcome;
    struct sim_lane *lane = sim_connect(w.endpoint);
    sim_hello(lane, &s);
    cr_assert(sim_await_welcome(lane, &welcome));
    cr_assert_geq(welcome.frontier, rangeset_first_missing(&durable, 0));
    sim_disconnect(lane);
    cr_assert_eq(world_stop(&w), 0);
    rangeset_release(&durable);
    free(index);
    sim_stream_release(&s);
    world_remove(&w);
}

/* --- what is refused -----------------------------------------------------------------------------
 */

static void expect_refusal(struct sim_lane *lane, const char *part) {
    for (;;) {
        AUTO_BUFFER frame;
        struct message m;
        struct cursor body;
        cr_assert(sim_receive(lane, &frame, &m, &body, 10000), "no refusal (%s)", part);
        if (m.kind != MESSAGE_REFUSE)
            continue;
        char text[LIMIT_REASON_BYTES + 1] = {0};
        memcpy(text, m.refuse.text, m.refuse.text_bytes);
        cr_assert(strstr(text, part) != NULL, "refused with: %s", text);
        return;
    }
}

/* Each malformed frame is refused with its reason, and the next good batch goes through. */
Test(receive, malformed_frames_are_refused) {
    uint64_t state = test_seed();
    struct world w;
    struct sim_stream s;
    struct sim_lane *lanes[LANES];
    world_make(&w);
    world_start(&w);
    sim_stream_make(&s, "mon", 1000, SIM_START_NS, 64, &state);
    connect_lanes(lanes, &w, &s);
    size_t *index = in_order(&s);
    struct buffer frame;

    sim_batch(&s, index, 10, &frame);
    frame.data[0] ^= 1;
    sim_send(lanes[0], &frame);
    expect_refusal(lanes[0], "does not begin as one");
    frame.data[0] ^= 1;

    frame.data[4] = 99;
    sim_send(lanes[0], &frame);
    expect_refusal(lanes[0], "protocol version 99");
    frame.data[4] = MESSAGE_VERSION;

    frame.data[20] ^= 1;
    sim_send(lanes[0], &frame);
    expect_refusal(lanes[0], "checksum of a batch");
    frame.data[20] ^= 1;

    frame.length -= 8;
    sim_send(lanes[0], &frame);
    expect_refusal(lanes[0], "length is not what it says");
    frame.length += 8;

    frame.data[frame.length - 100] ^= 1;
    sim_send(lanes[0], &frame);
    expect_refusal(lanes[0], "checksum");
    buffer_release(&frame);

    buffer_init(&frame, 16);
    sim_send(lanes[0], &frame);
    expect_refusal(lanes[0], "does not begin as one");
    buffer_release(&frame);

    deliver(lanes, &s, index, s.count, &state);
    disconnect_lanes(lanes);
    cr_assert_eq(world_stop(&w), 0);
    world_expect(&w, &s);
    free(index);
    sim_stream_release(&s);
    world_remove(&w);
}

Test(receive, a_batch_that_promises_more_records_than_it_has) {
    uint64_t state = test_seed();
    struct world w;
    struct sim_stream s;
    struct sim_lane *lanes[LANES];
    world_make(&w);
    world_start(&w);
    sim_stream_make(&s, "mon", 1000, SIM_START_NS, 16, &state);
    connect_lanes(lanes, &w, &s);
    size_t *index = in_order(&s);
    AUTO_BUFFER frame;
    sim_batch(&s, index, 5, &frame);
    for (uint32_t records = 0; records < 12; records++) {
        if (records == 5)
            continue;
        message_batch_finish(&frame, &(struct message_batch){s.monitor, s.stream, records});
        sim_send(lanes[0], &frame);
        expect_refusal(lanes[0], "malformed");
    }
    message_batch_finish(&frame,
                         &(struct message_batch){s.monitor, s.stream, LIMIT_BATCH_RECORDS + 1});
    sim_send(lanes[0], &frame);
    expect_refusal(lanes[0], "impossible size");
    disconnect_lanes(lanes);
    cr_assert_eq(world_stop(&w), 0);
    free(index);
    sim_stream_release(&s);
    world_remove(&w);
}

/* A batch before any HELLO of its stream is neither taken nor acknowledged, and ends nothing. */
Test(receive, a_batch_without_hello_waits_for_one) {
    uint64_t state = test_seed();
    struct world w;
    struct sim_stream s;
    world_make(&w);
    world_start(&w);
    sim_stream_make(&s, "mon", 1000, SIM_START_NS, 16, &state);
    struct sim_lane *lane = sim_connect(w.endpoint);
    size_t *index = in_order(&s);
    AUTO_BUFFER frame;
    sim_batch(&s, index, s.count, &frame);
    sim_send(lane, &frame);
    sim_hello(lane, &s);
    struct message_welcome welcome;
    cr_assert(sim_await_welcome(lane, &welcome));
    cr_assert_eq(welcome.frontier, 0);
    struct rangeset durable;
    rangeset_init(&durable, 100);
    sim_send(lane, &frame);
    cr_assert(sim_await_durable(lane, &s, &durable, 10000));
    rangeset_release(&durable);
    sim_disconnect(lane);
    cr_assert_eq(world_stop(&w), 0);
    world_expect(&w, &s);
    free(index);
    sim_stream_release(&s);
    world_remove(&w);
}

/* What the next ACK says is durable. */
static uint64_t acknowledged(struct sim_lane *lane) {
    for (;;) {
        AUTO_BUFFER frame;
        struct message m;
        struct cursor body;
        cr_assert(sim_receive(lane, &frame, &m, &body, 10000), "no acknowledgement");
        if (m.kind != MESSAGE_ACK)
            continue;
        uint64_t marks = m.ack.frontier;
        for (uint32_t i = 0; i < m.ack.range_count; i++) {
            struct range range = message_ack_range(&body);
            marks += range.end - range.start;
        }
        return marks;
    }
}

/* A stream begins with its record 0; a mark beyond the window is left to be sent again; END comes
 * last. */
Test(receive, what_has_to_wait_is_not_acknowledged) {
    uint64_t state = test_seed();
    struct world w;
    struct sim_stream s;
    struct message_welcome welcome;
    world_make(&w);
    world_start(&w);
    sim_stream_make(&s, "mon", 1000, SIM_START_NS, 30, &state);
    struct sim_lane *lane = sim_connect(w.endpoint);
    sim_hello(lane, &s);
    cr_assert(sim_await_welcome(lane, &welcome));
    size_t *index = in_order(&s);
    AUTO_BUFFER without_first;
    AUTO_BUFFER end;
    AUTO_BUFFER far;
    AUTO_BUFFER first;
    sim_batch(&s, index + 1, 8, &without_first);
    sim_send(lane, &without_first);
    cr_assert_eq(acknowledged(lane), 0, "before record 0");
    sim_batch(&s, index, 1, &first);
    sim_send(lane, &first);
    cr_assert_gt(acknowledged(lane), 1, "record 0 and what waited for it");
    sim_batch(&s, index + s.count - 1, 1, &end);
    sim_send(lane, &end);
    cr_assert_lt(acknowledged(lane), 10, "the END before its time");

    struct record frontier = {.type = RECORD_FRONTIER,
                              .order = UINT64_MAX,
                              .frontier = {.time_ns = UINT64_MAX, .wall_ns = 1}};
    buffer_init(&far, 4096);
    message_batch_begin(&far);
    record_encode(&far, &frontier);
    message_batch_finish(&far, &(struct message_batch){s.monitor, s.stream, 1});
    sim_send(lane, &far);
    cr_assert_lt(acknowledged(lane), 10, "far beyond the window");

    AUTO_BUFFER rest;
    struct rangeset durable;
    rangeset_init(&durable, 100);
    sim_batch(&s, index, s.count - 1, &rest);
    sim_send(lane, &rest);
    cr_assert(sim_await_durable(lane, &s, &durable, 10000), "the END waited for the rest");
    rangeset_release(&durable);
    sim_disconnect(lane);
    cr_assert_eq(world_stop(&w), 0);
    world_expect(&w, &s);
    free(index);
    sim_stream_release(&s);
    world_remove(&w);
}

/* --- restarts of the monitor ---------------------------------------------------------------------
 */

static void deliver_stream(struct world *w, const struct sim_stream *s, uint64_t *state) {
    struct sim_lane *lanes[LANES];
    size_t *index = in_order(s);
    connect_lanes(lanes, w, s);
    shuffle(index, s->count, state);
    deliver(lanes, s, index, s->count, state);
    disconnect_lanes(lanes);
    free(index);
}

struct gap_count {
    size_t restarts;
    struct stamp stamp; /* of the first */
    struct stamp last;
};

static bool count_gap(void *context, const struct gap_entry *gap) {
    struct gap_count *count = context;
    count->restarts += gap->reason == GAP_MONITOR_RESTART;
    if (count->restarts == 1)
        count->stamp = gap->stamp;
    count->last = gap->stamp;
    return true;
}

static struct gap_count restart_gaps(struct world *w, uint64_t path) {
    struct gap_count count = {0};
    struct error err = {0};
    struct store *store = NULL;
    struct index_reader *reader = NULL;
    cr_assert_eq(store_open(w->store, STORE_READ, &store, &err), 0, "%s", err.text);
    cr_assert_eq(index_read(store->index, &reader, &err), 0);
    cr_assert_eq(index_each_gap(reader, path, UINT64_MAX, count_gap, &count, &err), 0);
    index_reader_close(reader);
    store_close(store);
    return count;
}

Test(receive, a_restart_leaves_a_gap_since_the_last_promise) {
    uint64_t state = test_seed();
    struct world w;
    struct sim_stream old;
    struct sim_stream new;
    world_make(&w);
    world_start(&w);
    sim_stream_make(&old, "mon", 1000, SIM_START_NS, 64, &state);
    sim_stream_make(&new, "mon", 2000, SIM_START_NS + 60 * NS_PER_SECOND, 64, &state);
    deliver_stream(&w, &old, &state);
    deliver_stream(&w, &new, &state);
    cr_assert_eq(world_stop(&w), 0);
    struct gap_count gaps = restart_gaps(&w, old.path);
    cr_assert_eq(gaps.restarts, 2);
    cr_assert_eq(gaps.stamp.time_ns, old.end_ns + 1);
    cr_assert_gt(gaps.last.time_ns, old.end_ns + 1, "behind every update from before the restart");
    cr_assert_eq(gaps.stamp.stream, new.stream);
    world_baseline_zeros(&w);
    cr_assert(world_image_is(&w, old.marks[7], old.images[7]), "exact before the restart");
    sim_stream_release(&old);
    sim_stream_release(&new);
    world_remove(&w);
}

Test(receive, the_same_times_again_are_no_gap) {
    uint64_t state = test_seed();
    struct world w;
    struct sim_stream old;
    struct sim_stream new;
    world_make(&w);
    world_start(&w);
    uint64_t again = state;
    sim_stream_make(&old, "mon", 1000, SIM_START_NS, 64, &state);
    sim_stream_make(&new, "mon", 2000, SIM_START_NS, 64, &again);
    deliver_stream(&w, &old, &state);
    deliver_stream(&w, &new, &state);
    cr_assert_eq(world_stop(&w), 0);
    cr_assert_eq(restart_gaps(&w, old.path).restarts, 0);
    world_expect(&w, &new);
    sim_stream_release(&old);
    sim_stream_release(&new);
    world_remove(&w);
}

/* The newer of two with one name wins; the older is told why. */
Test(receive, two_monitors_with_one_name) {
    uint64_t state = test_seed();
    struct world w;
    struct sim_stream old;
    struct sim_stream new;
    struct message_welcome welcome;
    world_make(&w);
    world_start(&w);
    sim_stream_make(&old, "mon", 1000, SIM_START_NS, 16, &state);
    sim_stream_make(&new, "mon", 2000, SIM_START_NS, 16, &state);
    struct sim_lane *first = sim_connect(w.endpoint);
    struct sim_lane *second = sim_connect(w.endpoint);
    sim_hello(first, &old);
    cr_assert(sim_await_welcome(first, &welcome));
    sim_hello(second, &new);
    cr_assert(sim_await_welcome(second, &welcome));
    AUTO_BUFFER frame;
    size_t index[] = {0, 1, 2};
    sim_batch(&old, index, 3, &frame);
    sim_send(first, &frame);
    expect_refusal(first, "started later");
    sim_hello(first, &old);
    expect_refusal(first, "started later");
    sim_disconnect(first);
    sim_disconnect(second);
    cr_assert_eq(world_stop(&w), 0);
    sim_stream_release(&old);
    sim_stream_release(&new);
    world_remove(&w);
}
