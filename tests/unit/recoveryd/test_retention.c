/* What a rule keeps can be restored, what it does not cannot, and its room is given back. */
#include "recoveryd/image/baseline.h"
#include "recoveryd/image/volume_kept.h"
#include "recoveryd/index/thinned.h"
#include "recoveryd/retention/plan.h"
#include "recoveryd/retention/reclaim.h"
#include "recoveryd/retention/retention.h"
#include "recoveryd/store/made_write.h"
#include "recoveryd/verify/verify.h"
#include "tests/unit/recoveryd/store_rig.h"

#include <fcntl.h>

#define SECOND UINT64_C(1000000000)
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)
#define START  (UINT64_C(20000) * DAY)

enum { BLOCK = 4096, BLOCKS = 8, EVERY = 10 }; /* minutes between two writes */

struct past {
    struct rig rig;
    uint64_t path;
    uint64_t writes;
    struct volume_list list;
};

static uint64_t time_of(uint64_t write) {
    return START + write * EVERY * MINUTE + 7;
}

/* Block n % BLOCKS gets the number of the write. */
static void write_until(struct past *p, uint64_t end_ns) {
    for (; time_of(p->writes) < end_ns; p->writes++) {
        struct stamp stamp = {time_of(p->writes), 1, 1, p->writes + 1};
        rig_fill(&p->rig, p->path, stamp, 0, p->writes % BLOCKS * BLOCK, BLOCK,
                 (uint8_t)(p->writes % 251));
    }
    rig_stream(&p->rig, 1, 1, START, end_ns, false);
    rig_commit(&p->rig);
}

static void past_begin(struct past *p, uint64_t end_ns) {
    rig_start(&p->rig);
    p->path = rig_path(&p->rig, 1, 1, "iqn.x:a", "naa.1", (uint64_t)BLOCK * BLOCKS, START);
    rig_floor_zero(&p->rig, p->path, 0, (uint64_t)BLOCK * BLOCKS);
    write_until(p, end_ns);
}

static void past_end(struct past *p) {
    volume_list_release(&p->list);
    rig_end(&p->rig);
}

static const struct volume *volume(struct past *p) {
    AUTO(index_reader) r = rig_reader(&p->rig);
    volume_list_release(&p->list);
    rig_ok(&p->rig, volume_list_read(r, &p->list, &p->rig.err));
    return volume_of_path(&p->list, p->path);
}

static void set_rule(struct past *p, struct retention_entry rule) {
    rig_ok(&p->rig, index_put_retention(p->rig.store->index, &rule, false, &p->rig.err));
}

static void run(struct past *p) {
    bool again = true;
    for (int i = 0; again; i++) {
        rig_ok(&p->rig, retention_work(p->rig.store, &again, &p->rig.err));
        cr_assert_lt(i, 1000, "it does not end");
    }
}

static uint64_t held(struct past *p) {
    AUTO(index_reader) r = rig_reader(&p->rig);
    uint64_t bytes;
    rig_ok(&p->rig, retention_held(r, volume(p), &bytes, &p->rig.err));
    return bytes;
}

static bool is_refused(struct past *p, uint64_t time_ns) {
    AUTO(image) im = NULL;
    int code = image_open(p->rig.store, volume(p), time_ns, &im, &p->rig.err);
    cr_assert(code == 0 || code == ERR_INEXACT, "%s", p->rig.err.text);
    return code != 0;
}

/* The image of a moment, wholly and exactly. */
static void check_image(struct past *p, uint64_t time_ns) {
    uint8_t found[BLOCK * BLOCKS];
    AUTO(image) im = NULL;
    AUTO_FREE struct image_run *runs = NULL;
    size_t count;
    rig_ok(&p->rig, image_open(p->rig.store, volume(p), time_ns, &im, &p->rig.err));
    rig_ok(&p->rig, image_range_map(im, 0, sizeof found, &runs, &count, &p->rig.err));
    rig_ok(&p->rig, image_runs_read(im, runs, count, 0, found, &p->rig.err));
    for (size_t i = 0; i < count; i++)
        cr_assert(runs[i].exact);
    for (uint64_t block = 0; block < BLOCKS; block++) {
        uint8_t expected = 0;
        for (uint64_t w = block; w < p->writes && time_of(w) <= time_ns; w += BLOCKS)
            expected = (uint8_t)(w % 251);
        cr_assert_eq(found[block * BLOCK], expected, "block %lu at %lu: %u, not %u",
                     (unsigned long)block, (unsigned long)time_ns, found[block * BLOCK], expected);
        cr_assert_eq(found[block * BLOCK + BLOCK - 1], expected);
    }
}

Test(retention, without_a_rule_everything_stays) {
    struct past p = {0};
    past_begin(&p, START + 3 * DAY);
    run(&p);
    cr_assert_eq(held(&p), p.writes * BLOCK);
    for (uint64_t at = START + HOUR; at < START + 3 * DAY; at += 5 * HOUR)
        check_image(&p, at);
    past_end(&p);
}

Test(retention, every_moment_then_one_per_step_until_the_horizon) {
    struct past p = {0};
    uint64_t end_ns = START + 20 * DAY;
    past_begin(&p, end_ns);
    set_rule(&p, (struct retention_entry){
                     .every_ns = 2 * DAY, .step_ns = 6 * HOUR, .until_ns = 10 * DAY});
    run(&p);
    for (uint64_t at = end_ns - 2 * DAY; at <= end_ns; at += 37 * MINUTE)
        check_image(&p, at);
    for (uint64_t at = end_ns - 10 * DAY; at <= end_ns - 2 * DAY; at += 6 * HOUR) {
        check_image(&p, at);
        cr_assert(at == end_ns - 2 * DAY || is_refused(&p, at + 3 * HOUR));
    }
    /* The horizon itself is the oldest moment. */
    cr_assert_eq(volume(&p)->first_ns, end_ns - 10 * DAY);
    cr_assert(is_refused(&p, end_ns - 10 * DAY - 1));
    cr_assert(is_refused(&p, START + DAY));
    /* 8 blocks at the horizon, all of each step's (36 writes to 8 blocks: 8), and two days. */
    cr_assert_eq(held(&p), (uint64_t)(8 + 32 * 8 + 288) * BLOCK);
    /* It says which moments there are. */
    struct volume_kept kept;
    AUTO(index_reader) r = rig_reader(&p.rig);
    uint64_t at = end_ns - 5 * DAY + HOUR;
    rig_ok(&p.rig, volume_kept_at(r, volume(&p), at, false, &kept, &p.rig.err));
    cr_assert(!kept.kept);
    cr_assert_eq(kept.before_ns, end_ns - 5 * DAY);
    cr_assert_eq(kept.after_ns, end_ns - 5 * DAY + 6 * HOUR);
    index_reader_close(take_pointer(&r));
    past_end(&p);
}

Test(retention, it_goes_on_as_time_goes_by) {
    struct past p = {0};
    past_begin(&p, START + 5 * DAY);
    set_rule(&p,
             (struct retention_entry){.every_ns = DAY, .step_ns = 3 * HOUR, .until_ns = 4 * DAY});
    for (uint64_t end_ns = START + 5 * DAY; end_ns < START + 12 * DAY; end_ns += 5 * HOUR) {
        write_until(&p, end_ns);
        run(&p);
        check_image(&p, end_ns);
        check_image(&p, end_ns - DAY + 11 * MINUTE);
        check_image(&p, volume(&p)->first_ns);
        cr_assert_leq(volume(&p)->first_ns, end_ns - 4 * DAY);
        cr_assert_geq(volume(&p)->first_ns, end_ns - 4 * DAY - 10 * HOUR);
        uint64_t kept = (end_ns - 3 * DAY) / (3 * HOUR) * (3 * HOUR);
        check_image(&p, kept);
        cr_assert(is_refused(&p, kept + HOUR));
    }
    cr_assert_lt(held(&p), (uint64_t)(8 + 28 * 8 + 200) * BLOCK);
    past_end(&p);
}

Test(retention, nothing_before_the_last_moments_when_no_step_is_given) {
    struct past p = {0};
    uint64_t end_ns = START + 6 * DAY;
    past_begin(&p, end_ns);
    set_rule(&p, (struct retention_entry){.every_ns = DAY});
    run(&p);
    cr_assert_eq(volume(&p)->first_ns, end_ns - DAY);
    check_image(&p, end_ns - DAY);
    check_image(&p, end_ns - DAY + 1);
    cr_assert_eq(held(&p), (uint64_t)(8 + 144) * BLOCK);
    past_end(&p);
}

/* A volume that holds more than it may loses the oldest, and what it has left is right. */
Test(retention, bytes_win_over_times) {
    struct past p = {0};
    uint64_t end_ns = START + 20 * DAY;
    past_begin(&p, end_ns);
    set_rule(&p, (struct retention_entry){
                     .every_ns = 15 * DAY, .step_ns = HOUR, .bytes = UINT64_C(500) * BLOCK});
    run(&p);
    cr_assert_leq(held(&p), UINT64_C(500) * BLOCK);
    cr_assert_gt(held(&p), UINT64_C(400) * BLOCK);
    uint64_t first_ns = volume(&p)->first_ns;
    check_image(&p, first_ns);
    check_image(&p, first_ns + 1);
    check_image(&p, end_ns);
    cr_assert(is_refused(&p, first_ns - 1));
    past_end(&p);
}

/* Rules: the volume's own, else the common one. */
Test(retention, a_volume_s_own_rule_comes_first) {
    struct past p = {0};
    struct retention_entry rule;
    past_begin(&p, START + 3 * DAY);
    set_rule(&p, (struct retention_entry){.every_ns = DAY});
    set_rule(&p, (struct retention_entry){.volume = "naa.1", .every_ns = 2 * DAY});
    run(&p);
    cr_assert_eq(volume(&p)->first_ns, START + DAY);
    AUTO(index_reader) r = rig_reader(&p.rig);
    rig_ok(&p.rig, index_get_retention(r, "naa.1", &rule, &p.rig.err));
    cr_assert_eq(rule.every_ns, 2 * DAY);
    rig_ok(&p.rig, index_get_retention(r, "naa.2", &rule, &p.rig.err));
    cr_assert_eq(rule.every_ns, DAY);
    index_reader_close(take_pointer(&r));
    snprintf(rule.volume, sizeof rule.volume, "naa.1");
    rig_ok(&p.rig, index_put_retention(p.rig.store->index, &rule, true, &p.rig.err));
    run(&p);
    cr_assert_eq(volume(&p)->first_ns, START + 2 * DAY);
    past_end(&p);
}

/* What waits to be settled still needs its past. */
Test(retention, what_waits_to_be_derived_holds_it_back) {
    struct past p = {0};
    uint64_t end_ns = START + 6 * DAY;
    past_begin(&p, end_ns);
    struct stamp stamp = {START + 2 * DAY, 1, 1, 100000};
    struct update_record copy = {.time_ns = stamp.time_ns,
                                 .path = p.path,
                                 .offset_bytes = 0,
                                 .length_bytes = BLOCK,
                                 .block_bytes = 512,
                                 .op = UPDATE_COPY,
                                 .source_path = 77,
                                 .source_from_ns = stamp.time_ns - SECOND,
                                 .source_until_ns = stamp.time_ns};
    rig_ok(&p.rig, index_put_update(rig_writer(&p.rig), &stamp, &copy, NULL, &p.rig.err));
    rig_commit(&p.rig);
    set_rule(&p, (struct retention_entry){.every_ns = DAY});
    run(&p);
    cr_assert_lt(volume(&p)->first_ns, stamp.time_ns);
    cr_assert_gt(volume(&p)->first_ns, stamp.time_ns - HOUR);
    past_end(&p);
}

/* A baseline of a file: block n holds 200 + n. */
static void take_baseline(struct past *p) {
    char file[96];
    uint8_t data[BLOCK];
    struct baseline_options options = {.file = file};
    struct baseline_result result;
    snprintf(file, sizeof file, "%s/base.img", p->rig.base);
    FILE *f = fopen(file, "w");
    cr_assert_not_null(f);
    for (int block = 0; block < BLOCKS; block++) {
        memset(data, 200 + block, sizeof data);
        cr_assert_eq(fwrite(data, 1, sizeof data, f), sizeof data);
    }
    fclose(f);
    rig_ok(&p->rig, baseline_from_file(p->rig.store, volume(p), &options, &result, &p->rig.err));
    unlink(file);
}

static uint8_t byte_at(struct past *p, uint64_t time_ns, uint64_t block) {
    struct rig_byte byte = rig_byte_at(&p->rig, p->path, time_ns, block * BLOCK);
    cr_assert(byte.exact);
    return byte.value;
}

/* What was written over a baseline by the horizon is folded into it; the rest of it stays. */
Test(retention, the_baseline_gives_way_to_what_was_written_over_it) {
    struct past p = {0};
    uint64_t end_ns = START + 10 * DAY;
    rig_start(&p.rig);
    p.path = rig_path(&p.rig, 1, 1, "iqn.x:a", "naa.1", (uint64_t)BLOCK * BLOCKS, START);
    rig_stream(&p.rig, 1, 1, START, end_ns, false);
    rig_commit(&p.rig);
    take_baseline(&p);
    take_baseline(&p); /* the newest word counts: the first one goes wholly */
    cr_assert_eq(held(&p), (uint64_t)(2 * BLOCKS) * BLOCK);
    for (uint64_t block = 0; block < 3; block++) {
        struct stamp stamp = {START + DAY + block, 1, 1, 1 + block};
        rig_fill(&p.rig, p.path, stamp, 0, block * BLOCK, BLOCK, (uint8_t)(1 + block));
    }
    /* Behind the horizon: before it, the baseline shows. */
    struct stamp late = {end_ns - HOUR, 1, 1, 10};
    rig_fill(&p.rig, p.path, late, 0, 3 * BLOCK, BLOCK, 99);
    rig_commit(&p.rig);
    set_rule(&p, (struct retention_entry){.every_ns = DAY});
    run(&p);
    cr_assert_eq(volume(&p)->first_ns, end_ns - DAY);
    for (uint64_t block = 0; block < BLOCKS; block++) {
        uint8_t old = (uint8_t)(block < 3 ? 1 + block : 200 + block);
        cr_assert_eq(byte_at(&p, end_ns - DAY, block), old);
        cr_assert_eq(byte_at(&p, end_ns, block), block == 3 ? 99 : old);
    }
    cr_assert_lt(held(&p), (uint64_t)(2 * BLOCKS) * BLOCK);
    past_end(&p);
}

/* --- the disk ------------------------------------------------------------------------------------
 */

static const struct reclaim_options at_once = {.share = 2, .total_share = 50, .level = PACK_FAST};

/* As a recovery server keeps them: batches of updates with their payloads. */
static void write_batches(struct past *p, uint64_t end_ns) {
    AUTO_BUFFER batch;
    buffer_init(&batch, 1 << 20);
    uint8_t data[BLOCK];
    for (; time_of(p->writes) < end_ns; p->writes++) {
        struct record r = {.type = RECORD_UPDATE,
                           .order = p->writes + 1,
                           .update = {.time_ns = time_of(p->writes),
                                      .path = p->path,
                                      .offset_bytes = p->writes % BLOCKS * BLOCK,
                                      .length_bytes = BLOCK,
                                      .block_bytes = 512,
                                      .op = UPDATE_WRITE,
                                      .payload_bytes = BLOCK}};
        struct extent extent;
        struct stamp stamp = {time_of(p->writes), 1, 1, p->writes + 1};
        for (int i = 0; i < BLOCK; i++)
            data[i] = (uint8_t)(p->writes % 251);
        rig_ok(&p->rig,
               made_write_append(p->rig.segment, &batch, 1, 1, &r, data, &extent, &p->rig.err));
        rig_ok(&p->rig,
               index_put_update(rig_writer(&p->rig), &stamp, &r.update, &extent, &p->rig.err));
    }
    rig_clock(&p->rig, 1, 1, START, end_ns, p->writes + 1, 0);
    rig_commit(&p->rig);
}

static void batches_begin(struct past *p, uint64_t end_ns) {
    rig_start(&p->rig);
    segments_set_limit(p->rig.store->segments, 1 << 20);
    p->path = rig_path(&p->rig, 1, 1, "iqn.x:a", "naa.1", (uint64_t)BLOCK * BLOCKS, START);
    rig_floor_zero(&p->rig, p->path, 0, (uint64_t)BLOCK * BLOCKS);
    write_batches(p, end_ns);
    segments_writer_destroy(take_pointer(&p->rig.segment));
}

static uint64_t disk_bytes(struct past *p) {
    uint64_t sum = 0;
    struct segment_size size;
    for (uint32_t i = 1; segments_size(p->rig.store->segments, i, &size, NULL) == 0; i++)
        sum += size.disk_bytes;
    return sum;
}

static void check_good(struct past *p) {
    struct verify_options options = {0};
    struct verify_result result;
    rig_ok(&p->rig, verify_run(p->rig.store, &options, &result, &p->rig.err));
    cr_assert(verify_is_good(&result));
    verify_release(&result);
}

Test(retention, what_is_dead_is_given_back) {
    struct past p = {0};
    uint64_t end_ns = START + 20 * DAY;
    struct reclaim_result result;
    batches_begin(&p, end_ns);
    uint64_t before = disk_bytes(&p);
    rig_ok(&p.rig, reclaim(p.rig.store, &at_once, &result, &p.rig.err));
    cr_assert_eq(result.segments, 0, "nothing is dead");
    set_rule(&p, (struct retention_entry){.every_ns = 2 * DAY});
    run(&p);
    rig_ok(&p.rig, reclaim(p.rig.store, &at_once, &result, &p.rig.err));
    cr_assert_gt(result.segments, 5);
    uint64_t after = disk_bytes(&p);
    cr_assert_eq(before - after, result.before_bytes - result.after_bytes);
    cr_assert_lt(after, before / 4, "%lu of %lu bytes are left", (unsigned long)after,
                 (unsigned long)before);
    for (uint64_t at = end_ns - 2 * DAY; at <= end_ns; at += 37 * MINUTE)
        check_image(&p, at);
    check_good(&p);
    rig_ok(&p.rig, reclaim(p.rig.store, &at_once, &result, &p.rig.err));
    cr_assert_eq(result.segments, 0, "all is done");
    rig_close(&p.rig);
    rig_open(&p.rig);
    check_image(&p, end_ns);
    check_good(&p);
    past_end(&p);
}

/* A damaged segment stays as it is, and keeps nobody else from getting room. */
Test(retention, damage_in_one_segment_is_left_alone) {
    struct past p = {0};
    uint64_t end_ns = START + 20 * DAY;
    struct reclaim_result result;
    struct pack_result packed;
    struct segment_size before;
    struct segment_size after;
    struct rangeset none;
    char name[128];
    uint8_t byte;
    rangeset_init(&none, 0);
    batches_begin(&p, end_ns);
    rig_ok(&p.rig, segments_pack(p.rig.store->segments, 2, &none, PACK_SMALL, &packed, &p.rig.err));
    snprintf(name, sizeof name, "%s/segments/00000002.seg", p.rig.dir);
    AUTO_CLOSE int fd = open(name, O_RDWR);
    cr_assert_eq(pread(fd, &byte, 1, 4096 + 40), 1);
    byte ^= 0xff;
    cr_assert_eq(pwrite(fd, &byte, 1, 4096 + 40), 1);
    rig_ok(&p.rig, segments_size(p.rig.store->segments, 2, &before, &p.rig.err));
    set_rule(&p, (struct retention_entry){.every_ns = 2 * DAY});
    run(&p);
    rig_ok(&p.rig, reclaim(p.rig.store, &at_once, &result, &p.rig.err));
    cr_assert_gt(result.segments, 5);
    rig_ok(&p.rig, segments_size(p.rig.store->segments, 2, &after, &p.rig.err));
    cr_assert_eq(before.disk_bytes, after.disk_bytes);
    cr_assert_eq(after.absent_bytes, 0);
    check_image(&p, end_ns);
    rig_ok(&p.rig, reclaim(p.rig.store, &at_once, &result, &p.rig.err));
    cr_assert_eq(result.segments, 0, "all is done");
    past_end(&p);
}

/* A view that was opened before shows what it showed, so long as it is open. */
Test(retention, an_open_view_keeps_what_it_shows) {
    struct past p = {0};
    uint64_t end_ns = START + 10 * DAY;
    struct reclaim_result result;
    uint8_t found[BLOCK * BLOCKS];
    batches_begin(&p, end_ns);
    AUTO(image) im = NULL;
    rig_ok(&p.rig, image_open(p.rig.store, volume(&p), START + DAY, &im, &p.rig.err));
    set_rule(&p, (struct retention_entry){.every_ns = DAY});
    run(&p);
    cr_assert(is_refused(&p, START + DAY));
    cr_assert_eq(reclaim(p.rig.store, &at_once, &result, &p.rig.err), ERR_BUSY);
    AUTO_FREE struct image_run *runs = NULL;
    size_t count;
    rig_ok(&p.rig, image_range_map(im, 0, sizeof found, &runs, &count, &p.rig.err));
    rig_ok(&p.rig, image_runs_read(im, runs, count, 0, found, &p.rig.err));
    cr_assert_eq(found[0], 143 / BLOCKS * BLOCKS % 251);
    image_close(take_pointer(&im));
    rig_ok(&p.rig, reclaim(p.rig.store, &at_once, &result, &p.rig.err));
    cr_assert_gt(result.segments, 0);
    check_image(&p, end_ns);
    past_end(&p);
}

/* What a monitor was not told to be durable comes again, or its update does: it stays. */
Test(retention, what_is_not_durable_yet_is_not_dead) {
    struct past p = {0};
    uint64_t end_ns = START + 10 * DAY;
    struct reclaim_result result;
    batches_begin(&p, end_ns);
    set_rule(&p, (struct retention_entry){.every_ns = DAY});
    run(&p);
    rig_clock(&p.rig, 1, 1, START, end_ns, 1, 0);
    rig_ok(&p.rig, index_commit(take_pointer(&p.rig.writer), &p.rig.err));
    rig_ok(&p.rig, reclaim(p.rig.store, &at_once, &result, &p.rig.err));
    cr_assert_eq(result.segments, 0);
    past_end(&p);
}

/* --- what is to come -----------------------------------------------------------------------------
 */

Test(retention, a_promise_is_complete_when_the_history_is_long_enough) {
    struct volume v = {.first_ns = START, .watermark_ns = START + 3 * DAY};
    struct retention_entry rule = {.every_ns = DAY};
    cr_assert_eq(retention_promise(&v, &rule), 0);
    rule.step_ns = HOUR;
    rule.until_ns = 5 * DAY;
    cr_assert_eq(retention_promise(&v, &rule), START + 5 * DAY);
    cr_assert_eq(retention_promise(&v, &(struct retention_entry){.bytes = 5}), 0);
}
