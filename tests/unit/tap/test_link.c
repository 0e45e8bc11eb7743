#include "spool_world.h"

#include "common/clock.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "proto/record.h"
#include "proto/stamp.h"
#include "tap/publish/link.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

enum { MOST_SEEN = 256, WAIT_MS = 10000, CREDIT = 4 * (WORLD_PAYLOAD + 400) };

/* A server that says what it is told to, and remembers what it hears. */
struct fake {
    char endpoint[96];
    void *context;
    void *router;
    uint64_t incarnation;
    uint64_t frontier; /* that it answers HELLO with */
    uint64_t refuses;  /* this stream */
    bool refuses_all;
    uint64_t hello; /* the stream of the last one */
    unsigned hellos;
    uint8_t peer[256];
    size_t peer_bytes;
    uint64_t seen[MOST_SEEN]; /* first order marks of batches of the stream */
    unsigned count;
};

static void fake_open(struct fake *f, const struct spool_world *w) {
    int linger = 0;
    snprintf(f->endpoint, sizeof f->endpoint, "ipc://%s.sock", w->dir);
    f->context = zmq_ctx_new();
    f->router = zmq_socket(f->context, ZMQ_ROUTER);
    zmq_setsockopt(f->router, ZMQ_LINGER, &linger, sizeof linger);
    cr_assert_eq(zmq_bind(f->router, f->endpoint), 0);
    f->incarnation++;
}

static void fake_close(struct fake *f) {
    zmq_close(f->router);
    zmq_ctx_term(f->context);
}

static void fake_send(struct fake *f, const struct message *m) {
    AUTO_BUFFER b;
    buffer_init(&b, LIMIT_RECORD_HEAD_BYTES);
    message_encode(&b, m);
    zmq_send(f->router, f->peer, f->peer_bytes, ZMQ_SNDMORE);
    zmq_send(f->router, b.data, b.length, 0);
}

static bool has_seen(const struct fake *f, uint64_t order) {
    for (unsigned i = 0; i < f->count; i++) {
        if (f->seen[i] == order)
            return true;
    }
    return false;
}

/* What was seen beyond the frontier is acknowledged, too. */
static void fake_acknowledge(struct fake *f, uint64_t stream, uint64_t frontier) {
    struct rangeset beyond;
    rangeset_init(&beyond, MOST_SEEN);
    for (uint64_t order = frontier; order < 1000; order += WORLD_MARKS) {
        if (has_seen(f, order))
            rangeset_add(&beyond, order, order + WORLD_MARKS);
    }
    fake_send(f, &(struct message){.kind = MESSAGE_ACK,
                                   .ack = {.monitor = stamp_monitor_id("m"),
                                           .stream = stream,
                                           .incarnation = f->incarnation,
                                           .frontier = frontier,
                                           .ranges = beyond.ranges,
                                           .range_count = (uint32_t)beyond.count}});
    rangeset_release(&beyond);
}

static void take_hello(struct fake *f, const struct message_hello *hello) {
    f->hello = hello->stream;
    f->hellos++;
    if (f->refuses_all || hello->stream == f->refuses) {
        fake_send(f, &(struct message){.kind = MESSAGE_REFUSE,
                                       .refuse = {.text = "older", .text_bytes = 5}});
        return;
    }
    fake_send(f, &(struct message){.kind = MESSAGE_WELCOME,
                                   .welcome = {.incarnation = f->incarnation,
                                               .frontier = f->frontier,
                                               .credit_bytes = CREDIT}});
}

/* One message; false: none came for so long. */
static bool fake_hear(struct fake *f, int wait_ms) {
    struct message m;
    struct cursor body;
    struct record first;
    struct error err = {0};
    zmq_msg_t frame;
    zmq_setsockopt(f->router, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms);
    int bytes = zmq_recv(f->router, f->peer, sizeof f->peer, 0);
    if (bytes < 0)
        return false;
    f->peer_bytes = (size_t)bytes;
    zmq_msg_init(&frame);
    cr_assert_geq(zmq_msg_recv(&frame, f->router, 0), 0);
    cr_assert_eq(message_decode(zmq_msg_data(&frame), zmq_msg_size(&frame), &m, &body, &err), 0,
                 "%s", err.text);
    if (m.kind == MESSAGE_HELLO) {
        take_hello(f, &m.hello);
    } else {
        cr_assert_eq(m.kind, MESSAGE_BATCH);
        cr_assert_eq(m.batch.stream, f->hello, "a batch of a stream that was not announced");
        cr_assert_eq(record_decode(&body, &first, &err), 0, "%s", err.text);
        cr_assert_lt(f->count, MOST_SEEN);
        f->seen[f->count++] = first.order;
    }
    zmq_msg_close(&frame);
    return true;
}

static void fake_hear_batches(struct fake *f, unsigned count) {
    while (f->count < count)
        cr_assert(fake_hear(f, WAIT_MS), "only %u batches came", f->count);
}

/* The first mark that has not come. */
static uint64_t frontier_of(const struct fake *f, uint64_t from) {
    while (has_seen(f, from))
        from += WORLD_MARKS;
    return from;
}

static struct link *connect_to(struct spool_world *w, const struct fake *f, unsigned sink) {
    struct link *l = NULL;
    struct error err = {0};
    struct link_options options = {
        .endpoint = f->endpoint, .monitor = "m", .lanes = 1, .spool = w->spool, .sink = sink};
    cr_assert_eq(link_create(&options, &l, &err), 0, "%s", err.text);
    return l;
}

static void expect_drained(struct spool_world *w) {
    struct error err = {0};
    cr_assert_eq(spool_wait_drained(w->spool, 10 * NS_PER_SECOND, &err), 0, "%s", err.text);
}

static void expect_safe(struct spool_world *w) {
    struct error err = {0};
    cr_assert_eq(spool_wait_safe(w->spool, 10 * NS_PER_SECOND, &err), 0, "%s", err.text);
}

static void end(struct spool_world *w, struct fake *f, struct link *l) {
    link_destroy(l);
    fake_close(f);
    unlink(f->endpoint + strlen("ipc://"));
    spoolworld_close(w);
}

/* A disk that takes its time. */
static atomic_bool disk_is_slow;

static int slow_sync(int fd) {
    (void)fd;
    while (atomic_load(&disk_is_slow))
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    return 0;
}

static void await_files(struct spool_world *w) {
    struct mono begun = clock_mono();
    while (spool_first_held(w->spool, WORLD_STREAM) != UINT64_MAX) {
        cr_assert_lt(clock_since_ns(begun), 10 * NS_PER_SECOND);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

/* Forty batches in files, and five that are published while those are on their way. The number of
 * the first of the five, as they came. */
static unsigned catch_up(bool slow) {
    struct spool_world w;
    struct fake f = {0};
    spoolworld_open(&w);
    struct spool_options options = spoolworld_options(&w, 1, 1);
    options.sync = slow_sync;
    spoolworld_start(&w, &options);
    spoolworld_put(&w, 40);
    await_files(&w);
    fake_open(&f, &w);
    struct link *l = connect_to(&w, &f, 0);
    fake_hear_batches(&f, 4);
    cr_assert_not(fake_hear(&f, 50), "there was no credit for more");
    atomic_store(&disk_is_slow, slow);
    spoolworld_put(&w, 5);
    while (f.count < 45) {
        fake_acknowledge(&f, WORLD_STREAM, frontier_of(&f, 0));
        fake_hear_batches(&f, f.count + 1);
    }
    unsigned first_new = 0;
    while (f.seen[first_new] < 80)
        first_new++;
    cr_expect_eq(frontier_of(&f, 0), 90, "each once");
    fake_acknowledge(&f, WORLD_STREAM, 90);
    atomic_store(&disk_is_slow, false);
    spoolworld_put(&w, 1);
    fake_hear_batches(&f, 46);
    fake_acknowledge(&f, WORLD_STREAM, 92);
    expect_drained(&w);
    end(&w, &f, l);
    return first_new;
}

Test(link, what_is_new_does_not_wait_for_what_is_old) {
    unsigned first_new = catch_up(true);
    cr_expect_lt(first_new, 10, "the first new one came as number %u", first_new);
}

/* What was sent early may have left the memory, and be in no file, when the older ones come there.
 */
Test(link, what_came_early_is_not_missed) {
    for (unsigned i = 0; i < 5; i++)
        catch_up(false);
}

Test(link, a_server_that_has_less_than_before_gets_it_again) {
    struct spool_world w;
    struct fake f = {0};
    spoolworld_open(&w);
    struct spool_options options = spoolworld_options(&w, 2, 2);
    spoolworld_start(&w, &options);
    spoolworld_put(&w, 4);
    fake_open(&f, &w);
    struct link *l = connect_to(&w, &f, 0);
    fake_hear_batches(&f, 4);
    fake_acknowledge(&f, WORLD_STREAM, 8);
    spoolworld_put(&w, 1); /* comes when the acknowledgement has */
    fake_hear_batches(&f, 5);
    fake_close(&f);
    f.frontier = 2;
    f.count = 0;
    fake_open(&f, &w);
    fake_hear_batches(&f, 4);
    cr_assert_eq(frontier_of(&f, 2), 10);
    fake_acknowledge(&f, WORLD_STREAM, 10);
    spoolworld_acknowledge(&w, 1, 10);
    expect_drained(&w);
    end(&w, &f, l);
}

Test(link, what_is_not_there_any_more_ends_it) {
    struct spool_world w;
    struct fake f = {0};
    struct error err = {0};
    spoolworld_open(&w);
    struct spool_options options = spoolworld_options(&w, 1, 1);
    options.dir = NULL;
    spoolworld_start(&w, &options);
    spoolworld_put(&w, 4);
    fake_open(&f, &w);
    struct link *l = connect_to(&w, &f, 0);
    fake_hear_batches(&f, 4);
    fake_acknowledge(&f, WORLD_STREAM, 8);
    expect_drained(&w);
    fake_close(&f);
    f.frontier = 2;
    fake_open(&f, &w);
    spoolworld_put(&w, 1);
    cr_assert(fake_hear(&f, WAIT_MS));
    cr_assert_eq(spool_wait_drained(w.spool, 10 * NS_PER_SECOND, &err), ERR_NET);
    cr_assert_not_null(strstr(err.text, "let go of what it lacks"), "%s", err.text);
    cr_assert_eq(spool_check(w.spool, &err), ERR_NET);
    end(&w, &f, l);
}

Test(link, marks_far_ahead_of_the_frontier_wait) {
    struct spool_world w;
    struct fake f = {0};
    spoolworld_open(&w);
    struct spool_options options = spoolworld_options(&w, 1, 1);
    spoolworld_start(&w, &options);
    w.marks = 100000;
    spoolworld_put(&w, 3);
    fake_open(&f, &w);
    struct link *l = connect_to(&w, &f, 0);
    fake_hear_batches(&f, 1);
    cr_assert_not(fake_hear(&f, 100), "the server would not take the second one");
    fake_acknowledge(&f, WORLD_STREAM, 100000);
    fake_hear_batches(&f, 2);
    fake_acknowledge(&f, WORLD_STREAM, 200000);
    fake_hear_batches(&f, 3);
    fake_acknowledge(&f, WORLD_STREAM, 300000);
    expect_drained(&w);
    end(&w, &f, l);
}

/* The spool of an earlier start, with so many batches. */
static void leave_behind(struct spool_world *w, const struct spool_options *options,
                         unsigned count) {
    spoolworld_start(w, options);
    spoolworld_put(w, count);
    expect_safe(w);
    spoolworld_stop(w);
    spoolworld_start(w, options);
}

Test(link, old_streams_come_first) {
    struct spool_world w;
    struct fake f = {.frontier = 0};
    spoolworld_open(&w);
    struct spool_options options = spoolworld_options(&w, 1, 1);
    leave_behind(&w, &options, 3);
    spoolworld_put(&w, 2);
    fake_open(&f, &w);
    struct link *l = connect_to(&w, &f, 0);
    fake_hear_batches(&f, 3);
    cr_assert_eq(f.hello, WORLD_STREAM);
    cr_assert_not(fake_hear(&f, 200), "the new stream does not begin before the old one is there");
    fake_acknowledge(&f, WORLD_STREAM, 6);
    f.count = 0;
    fake_hear_batches(&f, 2);
    cr_assert_eq(f.hello, WORLD_STREAM + 1);
    cr_assert_eq(f.hellos, 2);
    fake_acknowledge(&f, WORLD_STREAM + 1, 4);
    expect_drained(&w);
    end(&w, &f, l);
}

Test(link, an_old_stream_that_is_refused_is_left_alone) {
    struct spool_world w;
    struct fake f = {.refuses = WORLD_STREAM};
    spoolworld_open(&w);
    struct spool_options options = spoolworld_options(&w, 1, 1);
    leave_behind(&w, &options, 3);
    spoolworld_put(&w, 2);
    fake_open(&f, &w);
    struct link *l = connect_to(&w, &f, 0);
    fake_hear_batches(&f, 2);
    cr_assert_eq(f.hello, WORLD_STREAM + 1);
    fake_acknowledge(&f, WORLD_STREAM + 1, 4);
    expect_drained(&w);
    end(&w, &f, l);
}

Test(link, who_refuses_everything_costs_nothing_of_the_spool) {
    struct spool_world w;
    struct fake f = {.refuses_all = true};
    struct error err;
    uint64_t bytes;
    spoolworld_open(&w);
    struct spool_options options = spoolworld_options(&w, 1, 1);
    leave_behind(&w, &options, 3);
    fake_open(&f, &w);
    struct link *l = connect_to(&w, &f, 0);
    while (f.hello != WORLD_STREAM + 1)
        cr_assert(fake_hear(&f, WAIT_MS));
    spoolworld_put(&w, 1);
    cr_assert_eq(spool_wait_drained(w.spool, 10 * NS_PER_SECOND, &err), ERR_NET);
    cr_assert_not_null(strstr(err.text, "refuses: older"), "%s", err.text);
    link_destroy(l);
    spoolworld_stop(&w);
    cr_assert_geq(spoolworld_files(&w, &bytes), 1);
    cr_assert_gt(bytes, 3 * WORLD_PAYLOAD, "what was left is still there");
    end(&w, &f, NULL);
}
