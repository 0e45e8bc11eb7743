#include "spool_world.h"

#include "common/cleanup.h"
#include "common/clock.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_NS (10 * NS_PER_SECOND)

static struct spool_reader reader_at(const struct spool_world *w, uint64_t order) {
    return (struct spool_reader){.stream = spool_stream(w->spool), .order = order};
}

static void expect_safe(struct spool_world *w) {
    struct error err = {0};
    cr_assert_eq(spool_wait_safe(w->spool, PATIENCE_NS, &err), 0, "%s", err.text);
}

/* --- in memory -----------------------------------------------------------------------------------
 */

static void start_in_memory(struct spool_world *w, uint64_t bound, enum spool_full full) {
    spoolworld_open(w);
    struct spool_options options = spoolworld_options(w, 1, 1);
    options.dir = NULL;
    options.bound_bytes = bound;
    options.full = full;
    spoolworld_start(w, &options);
}

Test(spool_memory, keeps_what_is_not_acknowledged_beyond_the_pool) {
    struct spool_world w;
    struct error err;
    start_in_memory(&w, 16 << 20, SPOOL_WAIT);
    spoolworld_put(&w, 200);
    struct spool_reader r = reader_at(&w, 0);
    cr_assert_eq(spoolworld_read(&w, &r, 200), 0);
    spoolworld_acknowledge(&w, 0, 100);
    r = reader_at(&w, 100);
    cr_assert_eq(spoolworld_read(&w, &r, 150), 0);
    cr_assert_eq(spool_wait_drained(w.spool, 0, &err), ERR_NET);
    cr_assert_eq(spool_wait_safe(w.spool, 0, &err), ERR_NET);
    spoolworld_acknowledge(&w, 0, 400);
    cr_assert_eq(spool_wait_drained(w.spool, 0, &err), 0);
    cr_assert_eq(spool_wait_safe(w.spool, 0, &err), 0);
    cr_assert_eq(spool_backlog(w.spool), 0);
    spool_reader_release(&r);
    spoolworld_close(&w);
}

Test(spool_memory, full_the_oldest_become_gaps) {
    struct spool_world w;
    start_in_memory(&w, 1 << 20, SPOOL_OLDEST);
    spoolworld_put(&w, 100);
    struct spool_reader r = reader_at(&w, 0);
    unsigned gaps = spoolworld_read(&w, &r, 85);
    cr_assert(gaps > 80 && spool_lost(w.spool) == gaps, "%u", gaps);
    cr_assert_eq(spoolworld_read(&w, &r, 15), 0, "the newest are whole");
    spool_reader_release(&r);
    spoolworld_close(&w);
}

Test(spool_memory, full_the_newest_become_gaps) {
    struct spool_world w;
    start_in_memory(&w, 1 << 20, SPOOL_NEWEST);
    spoolworld_put(&w, 100);
    struct spool_reader r = reader_at(&w, 0);
    cr_assert_eq(spoolworld_read(&w, &r, 15), 0, "the oldest are whole");
    cr_assert_eq(spoolworld_read(&w, &r, 85), 85);
    spoolworld_acknowledge(&w, 0, 60);
    spoolworld_put(&w, 5);
    cr_assert_eq(spoolworld_read(&w, &r, 5), 0, "there is room again");
    spool_reader_release(&r);
    spoolworld_close(&w);
}

static void *acknowledge_late(void *context) {
    struct spool_world *w = context;
    nanosleep(&(struct timespec){.tv_nsec = 50 * 1000000}, NULL);
    spoolworld_acknowledge(w, 0, 10);
    return NULL;
}

Test(spool_memory, full_it_waits_when_told_to) {
    struct spool_world w;
    pthread_t thread;
    start_in_memory(&w, 1 << 20, SPOOL_WAIT);
    spoolworld_put(&w, 16);
    pthread_create(&thread, NULL, acknowledge_late, &w);
    spoolworld_put(&w, 4);
    pthread_join(thread, NULL);
    struct spool_reader r = reader_at(&w, 10);
    cr_assert_eq(spoolworld_read(&w, &r, 15), 0);
    cr_assert_eq(spool_lost(w.spool), 0);
    spool_reader_release(&r);
    spoolworld_close(&w);
}

/* --- which sinks count ---------------------------------------------------------------------------
 */

Test(spool, all_required_sinks_must_have_it) {
    struct spool_world w;
    struct error err;
    spoolworld_open(&w);
    struct spool_options options = spoolworld_options(&w, 2, 2);
    spoolworld_start(&w, &options);
    spoolworld_put(&w, 10);
    spoolworld_acknowledge(&w, 0, 20);
    expect_safe(&w);
    cr_assert_eq(spool_wait_drained(w.spool, 0, &err), ERR_NET);
    struct spool_reader r = reader_at(&w, 0);
    cr_assert_eq(spoolworld_read(&w, &r, 10), 0);
    spoolworld_acknowledge(&w, 1, 20);
    cr_assert_eq(spool_wait_drained(w.spool, 0, &err), 0);
    spool_reader_release(&r);
    spoolworld_stop(&w);
    uint64_t bytes;
    cr_assert_eq(spoolworld_files(&w, &bytes), 0, "nothing is left behind");
    spoolworld_close(&w);
}

Test(spool, one_that_is_not_required_holds_nobody_back) {
    struct spool_world w;
    struct spool_piece piece;
    struct error err = {0};
    uint64_t bytes;
    spoolworld_open(&w);
    struct spool_options options = spoolworld_options(&w, 2, 1);
    options.bound_bytes = 2 << 20;
    spoolworld_start(&w, &options);
    for (unsigned i = 0; i < 40; i++) {
        spoolworld_put(&w, 5);
        spoolworld_acknowledge(&w, 0, w.next_order);
    }
    cr_assert_eq(spool_wait_drained(w.spool, 0, &err), 0);
    expect_safe(&w);
    spoolworld_files(&w, &bytes);
    cr_assert_leq(bytes, 2 << 20);
    struct spool_reader r = reader_at(&w, 0);
    cr_assert_eq(spool_read(w.spool, &r, &piece, &err), SPOOL_HOLE, "what it lacks was let go of");
    cr_assert_eq(spool_lost(w.spool), 0, "and of the others nothing");
    spool_lose(w.spool, 1, &(struct error){.code = ERR_NET, .text = "gone"});
    cr_assert_eq(spool_check(w.spool, &err), 0);
    spool_lose(w.spool, 0, &(struct error){.code = ERR_NET, .text = "gone too"});
    cr_assert_eq(spool_check(w.spool, &err), ERR_NET);
    spool_reader_release(&r);
    spoolworld_close(&w);
}

Test(spool, ranges_beyond_the_frontier_count) {
    struct spool_world w;
    struct error err;
    spoolworld_open(&w);
    struct spool_options options = spoolworld_options(&w, 1, 1);
    spoolworld_start(&w, &options);
    spoolworld_put(&w, 4);
    struct rangeset beyond;
    rangeset_init(&beyond, 8);
    rangeset_add(&beyond, 4, 8);
    spool_acknowledge(w.spool, 0, WORLD_STREAM, 2, &beyond);
    cr_assert_eq(spool_wait_drained(w.spool, 0, &err), ERR_NET);
    rangeset_add(&beyond, 2, 4);
    spool_acknowledge(w.spool, 0, WORLD_STREAM, 2, &beyond);
    cr_assert_eq(spool_wait_drained(w.spool, 0, &err), 0);
    rangeset_release(&beyond);
    spoolworld_close(&w);
}

/* --- on disk -------------------------------------------------------------------------------------
 */

Test(spool_disk, the_next_start_reads_what_was_left) {
    struct spool_world w;
    struct spool_piece piece;
    struct error err;
    spoolworld_open(&w);
    struct spool_options options = spoolworld_options(&w, 1, 1);
    options.bound_bytes = 8 << 20; /* files of 1 MiB */
    spoolworld_start(&w, &options);
    spoolworld_put(&w, 60);
    expect_safe(&w);
    spoolworld_acknowledge(&w, 0, 40);
    spoolworld_stop(&w);
    spoolworld_start(&w, &options);
    cr_assert_eq(spool_stream(w.spool), WORLD_STREAM + 1,
                 "a new one, though the clock stood still");
    cr_assert_eq(spool_next_stream(w.spool, 0), WORLD_STREAM);
    cr_assert_eq(spool_next_stream(w.spool, WORLD_STREAM), WORLD_STREAM + 1);
    spoolworld_put(&w, 10);
    struct spool_reader r = {.stream = WORLD_STREAM, .order = 40};
    cr_assert_eq(spoolworld_read(&w, &r, 40), 0, "the same bytes");
    cr_assert_eq(spool_read(w.spool, &r, &piece, &err), SPOOL_NOTHING);
    spool_reader_release(&r);
    r = reader_at(&w, 0);
    cr_assert_eq(spoolworld_read(&w, &r, 10), 0);
    spoolworld_acknowledge(&w, 0, 20);
    cr_assert_eq(spool_next_stream(w.spool, WORLD_STREAM), WORLD_STREAM + 1);
    spool_reader_release(&r);
    spoolworld_stop(&w);
    uint64_t bytes;
    cr_assert_eq(spoolworld_files(&w, &bytes), 0, "both streams are let go of");
    spoolworld_close(&w);
}

Test(spool_disk, a_torn_end_is_cut) {
    struct spool_world w;
    struct spool_piece piece;
    struct error err;
    char path[128];
    spoolworld_open(&w);
    struct spool_options options = spoolworld_options(&w, 1, 1);
    spoolworld_start(&w, &options);
    spoolworld_put(&w, 5);
    expect_safe(&w);
    spoolworld_stop(&w);
    uint64_t bytes;
    cr_assert_eq(spoolworld_files(&w, &bytes), 1);
    snprintf(path, sizeof path, "%s/0000000000000001.spool", w.dir);
    cr_assert_eq(truncate(path, (off_t)bytes - 100), 0);
    spoolworld_start(&w, &options);
    struct spool_reader r = {.stream = WORLD_STREAM};
    cr_assert_eq(spoolworld_read(&w, &r, 4), 0);
    cr_assert_eq(spool_read(w.spool, &r, &piece, &err), SPOOL_NOTHING);
    spool_reader_release(&r);
    spoolworld_close(&w);
}

Test(spool_disk, one_tapd_and_one_monitor_use_it) {
    struct spool_world w;
    struct spool *other = NULL;
    struct error err;
    spoolworld_open(&w);
    struct spool_options options = spoolworld_options(&w, 1, 1);
    spoolworld_start(&w, &options);
    cr_assert_eq(spool_create(&options, &other, &err), ERR_BUSY);
    spoolworld_put(&w, 1);
    expect_safe(&w);
    spoolworld_stop(&w);
    options.monitor++;
    cr_assert_eq(spool_create(&options, &other, &err), ERR_USAGE);
    spoolworld_close(&w);
}

static void expect_bounded(struct spool_world *w, uint64_t bound) {
    uint64_t bytes;
    spoolworld_files(w, &bytes);
    cr_assert_leq(bytes, bound);
}

Test(spool_disk, full_the_oldest_become_gaps_on_disk) {
    struct spool_world w;
    spoolworld_open(&w);
    struct spool_options options = spoolworld_options(&w, 1, 1);
    options.bound_bytes = 2 << 20;
    options.full = SPOOL_OLDEST;
    spoolworld_start(&w, &options);
    for (unsigned i = 0; i < 20; i++) {
        spoolworld_put(&w, 10);
        expect_safe(&w);
        expect_bounded(&w, 2 << 20);
    }
    spoolworld_stop(&w);
    spoolworld_start(&w, &options);
    struct spool_reader r = {.stream = WORLD_STREAM};
    cr_assert_eq(spoolworld_read(&w, &r, 160), 160);
    unsigned gaps = spoolworld_read(&w, &r, 25);
    cr_assert_lt(gaps, 25);
    cr_assert_eq(spoolworld_read(&w, &r, 15), 0, "the newest are whole");
    spool_reader_release(&r);
    spoolworld_close(&w);
}

Test(spool_disk, full_the_newest_become_gaps_on_disk) {
    struct spool_world w;
    spoolworld_open(&w);
    struct spool_options options = spoolworld_options(&w, 1, 1);
    options.bound_bytes = 2 << 20;
    options.full = SPOOL_NEWEST;
    spoolworld_start(&w, &options);
    for (unsigned i = 0; i < 20; i++) {
        spoolworld_put(&w, 10);
        expect_safe(&w);
        expect_bounded(&w, 2 << 20);
    }
    uint64_t lost = spool_lost(w.spool);
    spoolworld_stop(&w);
    spoolworld_start(&w, &options);
    struct spool_reader r = {.stream = WORLD_STREAM};
    cr_assert_eq(spoolworld_read(&w, &r, 20), 0, "the oldest are whole");
    cr_assert_eq(spoolworld_read(&w, &r, 180), lost);
    cr_assert(lost > 140 && lost < 180, "%lu", lost);
    spool_reader_release(&r);
    spoolworld_close(&w);
}

/* A sync that fails so many times. */
static atomic_int failures_to_come;

static int failing_sync(int fd) {
    (void)fd;
    if (atomic_fetch_sub(&failures_to_come, 1) <= 0)
        return 0;
    errno = EIO;
    return -1;
}

Test(spool_disk, what_could_not_be_synced_is_written_again_elsewhere) {
    struct spool_world w;
    uint64_t bytes;
    spoolworld_open(&w);
    struct spool_options options = spoolworld_options(&w, 1, 1);
    options.sync = failing_sync;
    atomic_store(&failures_to_come, 0);
    spoolworld_start(&w, &options);
    spoolworld_put(&w, 3);
    expect_safe(&w);
    atomic_store(&failures_to_come, 1);
    spoolworld_put(&w, 3);
    expect_safe(&w);
    cr_assert_eq(spoolworld_files(&w, &bytes), 2, "the first ends with what was synced");
    struct spool_reader r = reader_at(&w, 0);
    cr_assert_eq(spoolworld_read(&w, &r, 6), 0);
    spool_reader_release(&r);
    spoolworld_stop(&w);
    spoolworld_start(&w, &options);
    r = (struct spool_reader){.stream = WORLD_STREAM};
    cr_assert_eq(spoolworld_read(&w, &r, 6), 0);
    spool_reader_release(&r);
    spoolworld_close(&w);
}

Test(spool_disk, a_disk_that_cannot_be_synced_ends_it) {
    struct spool_world w;
    struct error err = {0};
    spoolworld_open(&w);
    struct spool_options options = spoolworld_options(&w, 1, 1);
    options.sync = failing_sync;
    atomic_store(&failures_to_come, 100);
    spoolworld_start(&w, &options);
    spoolworld_put(&w, 1);
    cr_assert_eq(spool_wait_safe(w.spool, PATIENCE_NS, &err), ERR_IO);
    cr_assert_not_null(strstr(err.text, "sync"), "%s", err.text);
    cr_assert_eq(spool_check(w.spool, &err), ERR_IO);
    spoolworld_close(&w);
}

Test(spool_disk, a_reader_goes_on_in_a_file_that_was_thinned_meanwhile) {
    struct spool_world w;
    spoolworld_open(&w);
    struct spool_options options = spoolworld_options(&w, 1, 1);
    options.bound_bytes = 2 << 20;
    options.full = SPOOL_OLDEST;
    spoolworld_start(&w, &options);
    spoolworld_put(&w, 20);
    expect_safe(&w);
    struct spool_reader r = reader_at(&w, 0);
    cr_assert_eq(spoolworld_read(&w, &r, 3), 0);
    for (unsigned i = 0; i < 10; i++) {
        spoolworld_put(&w, 8);
        expect_safe(&w);
    }
    cr_assert_gt(spool_lost(w.spool), 20);
    unsigned gaps = spoolworld_read(&w, &r, 97);
    cr_assert_eq(gaps + 3, spool_lost(w.spool), "three were read whole before");
    spool_reader_release(&r);
    spoolworld_close(&w);
}

static void flip_byte(const struct spool_world *w, unsigned file, off_t at) {
    char path[128];
    uint8_t byte;
    snprintf(path, sizeof path, "%s/%016x.spool", w->dir, file);
    AUTO_CLOSE int fd = open(path, O_RDWR);
    cr_assert_eq(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
}

Test(spool_disk, damage_is_found_when_it_is_read) {
    struct spool_world w;
    struct spool_piece piece;
    struct error err;
    uint64_t bytes;
    spoolworld_open(&w);
    struct spool_options options = spoolworld_options(&w, 1, 1);
    options.bound_bytes = 2 << 20;
    spoolworld_start(&w, &options);
    spoolworld_put(&w, 25);
    expect_safe(&w);
    spoolworld_stop(&w);
    cr_assert_gt(spoolworld_files(&w, &bytes), 4);
    flip_byte(&w, 1, 1000); /* the bytes of the first batch: not looked at before */
    flip_byte(&w, 3, 10);   /* the head of the third file */
    spoolworld_start(&w, &options);
    struct spool_reader r = {.stream = WORLD_STREAM};
    cr_assert_eq(spool_read(w.spool, &r, &piece, &err), ERR_FORMAT);
    r.order = WORLD_MARKS;
    while (spool_read(w.spool, &r, &piece, &err) == SPOOL_PIECE)
        spool_give_back(&piece);
    cr_assert_gt(r.order, 2 * WORLD_MARKS);
    cr_assert_eq(spool_read(w.spool, &r, &piece, &err), SPOOL_HOLE, "the third was put aside");
    spool_reader_release(&r);
    spoolworld_close(&w);
}

Test(spool_disk, each_sink_has_its_own_lag) {
    struct spool_world w;
    spoolworld_open(&w);
    struct spool_options options = spoolworld_options(&w, 2, 1);
    spoolworld_start(&w, &options);
    spoolworld_put(&w, 10);
    expect_safe(&w);
    spoolworld_acknowledge(&w, 0, 20);
    spoolworld_acknowledge(&w, 1, 10);
    cr_assert_eq(spool_lag(w.spool, 0), 0);
    uint64_t lag = spool_lag(w.spool, 1);
    cr_assert(lag > 4 * WORLD_PAYLOAD && lag < 6 * WORLD_PAYLOAD, "%lu", lag);
    cr_assert_eq(spool_backlog(w.spool), 0);
    cr_assert_not(spool_is_stuck(w.spool));
    spoolworld_close(&w);
}

/* --- crashes -------------------------------------------------------------------------------------
 */

/* What a start that is killed at any moment told of. */
struct told {
    uint64_t safe;         /* marks below it are on stable storage */
    uint64_t acknowledged; /* and these the sink has */
};

/* Puts batches in, some of which are acknowledged, until somebody kills it. */
static void be_killed(struct spool_world *w, const struct spool_options *options, unsigned seed,
                      int pipe_fd) {
    struct told told = {0};
    struct error err;
    srand(seed);
    spoolworld_start(w, options);
    for (;;) {
        spoolworld_put(w, 1 + (unsigned)rand() % 8);
        if (rand() % 3 == 0) {
            told.acknowledged += WORLD_MARKS * ((unsigned)rand() % 6);
            if (told.acknowledged > w->next_order)
                told.acknowledged = w->next_order;
            spoolworld_acknowledge(w, 0, told.acknowledged);
        }
        uint64_t end = w->next_order;
        if (rand() % 2 == 0 && spool_wait_safe(w->spool, PATIENCE_NS, &err) == 0)
            told.safe = end;
        if (write(pipe_fd, &told, sizeof told) != sizeof told)
            _exit(1);
    }
}

static struct told kill_one(struct spool_world *w, const struct spool_options *options,
                            unsigned seed) {
    struct told told = {0};
    struct told next;
    int fds[2];
    cr_assert_eq(pipe(fds), 0);
    pid_t child = fork();
    if (child == 0) {
        close(fds[0]);
        be_killed(w, options, seed, fds[1]);
    }
    close(fds[1]);
    for (unsigned left = 1 + seed % 40; left > 0; left--) {
        cr_assert_eq(read(fds[0], &next, sizeof next), sizeof next, "the child ended");
        told = next;
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    while (read(fds[0], &next, sizeof next) == sizeof next)
        told = next;
    close(fds[0]);
    return told;
}

/* All that was safe is there, byte for byte or as a gap; then an unbroken part of the rest. */
static void expect_what_was_safe(struct spool_world *w, const struct spool_options *options,
                                 const struct told *told) {
    struct spool_piece piece;
    struct error err;
    spoolworld_start(w, options);
    struct spool_reader r = {.stream = WORLD_STREAM, .order = told->acknowledged};
    for (;;) {
        int found = spool_read(w->spool, &r, &piece, &err);
        if (found != SPOOL_PIECE)
            break;
        spool_give_back(&piece);
        r.order -= WORLD_MARKS;
        spoolworld_read(w, &r, 1);
    }
    if (told->safe > told->acknowledged)
        cr_assert_geq(r.order, told->safe);
    spool_reader_release(&r);
    spoolworld_acknowledge(w, 0, 0);
    spoolworld_stop(w);
}

Test(spool_crash, killed_at_any_moment_nothing_that_was_safe_is_gone, .timeout = 120) {
    for (unsigned seed = 1; seed <= 24; seed++) {
        struct spool_world w;
        spoolworld_open(&w);
        struct spool_options options = spoolworld_options(&w, 1, 1);
        options.bound_bytes = seed % 2 == 0 ? 16 << 20 : 1 << 20;
        options.full = seed % 4 == 1 ? SPOOL_OLDEST : SPOOL_NEWEST;
        struct told told = kill_one(&w, &options, seed);
        expect_what_was_safe(&w, &options, &told);
        spoolworld_close(&w);
    }
}
