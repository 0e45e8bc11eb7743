/* verify: what it counts, what it calls damage and what it does not, and where it says that it is.
 */
#include "common/buffer.h"
#include "proto/message.h"
#include "recoveryd/image/baseline.h"
#include "recoveryd/settle/settle.h"
#include "recoveryd/store/made_write.h"
#include "recoveryd/verify/verify.h"
#include "tests/unit/recoveryd/store_rig.h"

#include <fcntl.h>
#include <sys/stat.h>

enum { UPDATES = 8, WRITE_BYTES = 8192, SIZE_BYTES = 16 << 20 };

struct kept {
    struct rig rig;
    uint64_t path;
    struct extent extents[UPDATES]; /* of payloads */
    uint64_t order;
    struct verify_result result;
};

static uint64_t offset_of(unsigned i) {
    return i * (UINT64_C(1) << 20) + 4096;
}

/* As a batch of its own, as monitors send them. */
static struct extent put_batch(struct kept *k, uint64_t path, const struct stamp *stamp,
                               uint64_t offset, uint64_t length, uint8_t value, uint32_t bytes,
                               bool indexed) {
    uint8_t *data = malloc(bytes);
    AUTO_BUFFER batch;
    struct extent extent;
    struct record record = {.type = RECORD_UPDATE,
                            .order = stamp->order,
                            .update = {.time_ns = stamp->time_ns,
                                       .path = path,
                                       .offset_bytes = offset,
                                       .length_bytes = length,
                                       .block_bytes = 512,
                                       .op = bytes == length ? UPDATE_WRITE : UPDATE_PATTERN,
                                       .payload_bytes = bytes}};
    buffer_init(&batch, LIMIT_BATCH_BYTES);
    memset(data, value, bytes);
    rig_ok(&k->rig, made_write_append(k->rig.segment, &batch, stamp->monitor, stamp->stream,
                                      &record, data, &extent, &k->rig.err));
    if (indexed)
        rig_ok(&k->rig,
               index_put_update(rig_writer(&k->rig), stamp, &record.update, &extent, &k->rig.err));
    free(data);
    return extent;
}

static void start(struct kept *k) {
    memset(k, 0, sizeof *k);
    rig_start(&k->rig);
    k->path = rig_path(&k->rig, 1, 1, "iqn.a", "", SIZE_BYTES, 100);
    rig_stream(&k->rig, 1, 1, 100, 10000, false); /* marks 0 to 9 */
    for (unsigned i = 0; i < UPDATES; i++)
        k->extents[i] = put_batch(k, k->path, &(struct stamp){1000 + i, 1, 1, i}, offset_of(i),
                                  WRITE_BYTES, (uint8_t)(i + 1), WRITE_BYTES, true);
    rig_commit(&k->rig);
}

static void end(struct kept *k) {
    verify_release(&k->result);
    rig_end(&k->rig);
}

static const struct verify_result *verify(struct kept *k) {
    struct verify_options all = {0};
    verify_release(&k->result);
    rig_ok(&k->rig, verify_run(k->rig.store, &all, &k->result, &k->rig.err));
    return &k->result;
}

static void segment_path(const struct kept *k, uint32_t segment, char path[160]) {
    snprintf(path, 160, "%s/segments/%08x.seg", k->rig.dir, segment);
}

static void flip(const struct kept *k, uint32_t segment, uint64_t offset) {
    char path[160];
    uint8_t byte;
    segment_path(k, segment, path);
    int fd = open(path, O_RDWR);
    cr_assert_eq(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= 0x10;
    cr_assert_eq(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
}

static uint64_t segment_size(const struct kept *k, uint32_t segment) {
    char path[160];
    struct stat status;
    segment_path(k, segment, path);
    cr_assert_eq(stat(path, &status), 0);
    return (uint64_t)status.st_size;
}

static void expect_damage(const struct verify_damage *d, const struct kept *k, unsigned update) {
    cr_assert_eq(d->offset_bytes, offset_of(update));
    cr_assert_eq(d->length_bytes, WRITE_BYTES);
    cr_assert_eq(d->time_ns, 1000 + update);
    cr_assert(d->from_monitor);
    cr_assert_eq(d->stamp.monitor, 1);
    cr_assert_eq(d->stamp.stream, 1);
    cr_assert_eq(d->stamp.order, update);
    cr_assert_eq(d->extent.segment, k->extents[update].segment);
    cr_assert_eq(d->extent.offset, k->extents[update].offset);
    cr_assert_str_eq(d->volume->name, "iqn.a/0");
}

Test(verify, a_store_that_is_good_is_counted) {
    static struct kept k;
    start(&k);
    const struct verify_result *r = verify(&k);
    cr_assert(verify_is_good(r));
    cr_assert_eq(r->volume_count, 1);
    cr_assert_eq(r->volumes[0].pieces, UPDATES);
    cr_assert_eq(r->volumes[0].payloads, UPDATES);
    cr_assert_eq(r->volumes[0].bytes, UPDATES * WRITE_BYTES);
    cr_assert(r->has_segments);
    cr_assert_eq(r->segments, 1);
    cr_assert_eq(r->batches, UPDATES);
    cr_assert_eq(r->records, 2 * UPDATES);
    cr_assert_eq(r->unknown_records, 0);
    cr_assert_eq(r->torn_ends, 0);
    cr_assert_eq(r->unused_count, 0);
    end(&k);
}

/* Every payload, first and last byte. */
Test(verify, one_wrong_bit_is_found_where_it_is) {
    static struct kept k;
    start(&k);
    for (unsigned i = 0; i < UPDATES; i++) {
        for (unsigned last = 0; last < 2; last++) {
            uint64_t at = k.extents[i].offset + last * (WRITE_BYTES - 1);
            flip(&k, k.extents[i].segment, at);
            const struct verify_result *r = verify(&k);
            cr_assert(!verify_is_good(r));
            cr_assert_eq(r->damage_count, 1);
            expect_damage(&r->damages[0], &k, i);
            cr_assert_eq(r->volumes[0].damaged, 1);
            cr_assert_eq(r->stretch_count, 1);
            cr_assert_eq(r->stretches[0].offset, k.extents[i].offset);
            cr_assert_eq(r->stretches[0].bytes, WRITE_BYTES);
            cr_assert_eq(r->records, 2 * UPDATES, "all others are still counted");
            flip(&k, k.extents[i].segment, at);
        }
    }
    cr_assert(verify_is_good(verify(&k)));
    end(&k);
}

/* No payload is damaged, but what says what they are. */
Test(verify, a_wrong_head_costs_no_batch_behind_it) {
    static struct kept k;
    start(&k);
    for (unsigned at = 0; at < BATCH_HEAD_BYTES + 24; at++) {
        uint64_t batch = 4096;
        flip(&k, 1, batch + at);
        const struct verify_result *r = verify(&k);
        cr_assert(!verify_is_good(r), "byte %u", at);
        cr_assert_eq(r->damage_count, 0);
        cr_assert_eq(r->stretch_count, 1);
        cr_assert_geq(r->stretches[0].offset, batch);
        cr_assert_leq(r->stretches[0].offset + r->stretches[0].bytes,
                      k.extents[1].offset); /* of the next batch's payload */
        cr_assert_geq(r->records, 2 * UPDATES - 2);
        flip(&k, 1, batch + at);
    }
    end(&k);
}

Test(verify, a_segment_that_was_cut_has_lost_what_is_behind) {
    static struct kept k;
    char path[160];
    start(&k);
    segment_path(&k, 1, path);
    cr_assert_eq(truncate(path, (off_t)k.extents[5].offset + 100), 0);
    const struct verify_result *r = verify(&k);
    cr_assert_eq(r->damage_count, 3);
    for (unsigned i = 0; i < 3; i++)
        expect_damage(&r->damages[i], &k, 5 + i);
    cr_assert_not_null(strstr(r->damages[0].why, "ends before"), "%s", r->damages[0].why);
    cr_assert_eq(r->stretch_count, 1);
    cr_assert_eq(r->stretches[0].offset + r->stretches[0].bytes, segment_size(&k, 1));
    cr_assert_eq(r->batches, 5);
    end(&k);
}

/* Cut between two batches nothing in it looks wrong: only the index knows. */
Test(verify, a_segment_that_is_gone_is_missed) {
    static struct kept k;
    char path[160];
    start(&k);
    segment_path(&k, 1, path);
    rig_close(&k.rig);
    unlink(path);
    rig_open(&k.rig);
    const struct verify_result *r = verify(&k);
    cr_assert_eq(r->damage_count, UPDATES);
    for (unsigned i = 0; i < UPDATES; i++)
        expect_damage(&r->damages[i], &k, i);
    cr_assert_not_null(strstr(r->damages[0].why, "lost"), "%s", r->damages[0].why);
    cr_assert_eq(r->segments, 0);
    end(&k);
}

Test(verify, what_a_crash_leaves_is_no_damage) {
    static struct kept k;
    char path[160];
    start(&k);
    struct extent lost =
        put_batch(&k, k.path, &(struct stamp){2000, 1, 1, 10}, 0, 512, 1, 512, false);
    put_batch(&k, k.path, &(struct stamp){2000, 1, 2, 0}, 0, 512, 1, 512, false);
    const struct verify_result *r = verify(&k);
    cr_assert(verify_is_good(r));
    cr_assert_eq(r->unknown_records, 4,
                 "a mark that is not durable, and a stream that is not known");
    cr_assert_eq(r->torn_ends, 0);
    flip(&k, lost.segment, lost.offset);
    r = verify(&k);
    cr_assert(verify_is_good(r), "nobody was promised it");
    cr_assert_eq(r->torn_ends, 1);
    cr_assert_eq(r->torn_bytes, 512);
    uint64_t size = segment_size(&k, 1);
    segment_path(&k, 1, path);
    cr_assert_eq(truncate(path, (off_t)size + 12345), 0); /* blocks that were never written */
    r = verify(&k);
    cr_assert(verify_is_good(r));
    cr_assert_eq(r->torn_ends, 1);
    cr_assert_eq(r->torn_bytes, 512 + 12345);
    cr_assert_eq(truncate(path, (off_t)size - 100), 0);
    r = verify(&k);
    cr_assert(verify_is_good(r));
    cr_assert_eq(r->torn_ends, 1);
    end(&k);
}

Test(verify, a_segment_that_nothing_points_at_is_named) {
    static struct kept k;
    char path[160];
    start(&k);
    segments_writer_destroy(k.rig.segment);
    k.rig.segment = segments_writer_create(k.rig.store->segments);
    put_batch(&k, k.path, &(struct stamp){2000, 1, 2, 0}, 0, 512, 1, 512, false);
    segment_path(&k, 3, path);
    close(open(path, O_WRONLY | O_CREAT, 0600)); /* killed before its head was written */
    const struct verify_result *r = verify(&k);
    cr_assert(verify_is_good(r));
    cr_assert_eq(r->segments, 3);
    cr_assert_eq(r->unused_count, 2);
    cr_assert_eq(r->unused[0].segment, 2);
    cr_assert_eq(r->unused[1].segment, 3);
    rig_close(&k.rig);
    flip(&k, 2, 9);
    rig_open(&k.rig);
    r = verify(&k);
    cr_assert_eq(r->stretch_count, 1, "a head that is none");
    cr_assert_eq(r->stretches[0].segment, 2);
    end(&k);
}

/* A write over a boundary and a pattern over many chunks have one payload each. */
Test(verify, a_payload_is_read_once_and_named_with_its_whole_range) {
    static struct kept k;
    struct verify_options all = {0};
    start(&k);
    uint64_t large = UINT64_C(1) << 40;
    struct extent over = put_batch(&k, k.path, &(struct stamp){2000, 1, 1, 8}, (9 << 20) - 4096,
                                   WRITE_BYTES, 0x55, WRITE_BYTES, true);
    struct extent pattern =
        put_batch(&k, k.path, &(struct stamp){3000, 1, 1, 9}, 10 << 20, large, 0x66, 512, true);
    rig_commit(&k.rig);
    const struct verify_result *r = verify(&k);
    cr_assert(verify_is_good(r));
    cr_assert_eq(r->volumes[0].payloads, UPDATES + 2);
    flip(&k, over.segment, over.offset + 5000);
    flip(&k, pattern.segment, pattern.offset);
    r = verify(&k);
    cr_assert_eq(r->damage_count, 2);
    cr_assert_eq(r->volumes[0].damaged, 2);
    cr_assert_eq(r->damages[0].offset_bytes, (9 << 20) - 4096);
    cr_assert_eq(r->damages[0].length_bytes, WRITE_BYTES);
    cr_assert_eq(r->damages[1].offset_bytes, 10 << 20);
    cr_assert_eq(r->damages[1].length_bytes, large);
    const char *names[] = {"iqn.a", "iqn.a/0"};
    all.volumes = names;
    all.volume_count = 2;
    verify_release(&k.result);
    rig_ok(&k.rig, verify_run(k.rig.store, &all, &k.result, &k.rig.err));
    cr_assert_eq(k.result.volume_count, 1, "named twice");
    cr_assert_eq(k.result.damage_count, 2);
    cr_assert(!k.result.has_segments);
    names[1] = "iqn.nobody";
    verify_release(&k.result);
    cr_assert_eq(verify_run(k.rig.store, &all, &k.result, &k.rig.err), ERR_NOT_FOUND);
    end(&k);
}

static struct extent put_or(struct kept *k, uint64_t order, uint64_t offset) {
    uint8_t data[512];
    struct extent extent;
    struct stamp stamp = {2000 + order, 1, 1, order};
    memset(data, 0x80, sizeof data);
    struct update_record update = {.time_ns = stamp.time_ns,
                                   .issued_ns = stamp.time_ns - 1,
                                   .path = k->path,
                                   .offset_bytes = offset,
                                   .length_bytes = sizeof data,
                                   .block_bytes = 512,
                                   .op = UPDATE_OR,
                                   .payload_bytes = sizeof data,
                                   .payload_crc32c = crc32c(0, data, sizeof data)};
    rig_ok(&k->rig, segments_append(k->rig.segment, data, sizeof data, &extent, &k->rig.err));
    rig_ok(&k->rig, index_put_update(rig_writer(&k->rig), &stamp, &update, &extent, &k->rig.err));
    return extent;
}

static void expect_or_damaged(struct kept *k, const struct extent *operand, uint64_t order,
                              uint64_t offset) {
    struct verify_options o = {0};
    const char *name = "iqn.a";
    o.volumes = &name;
    o.volume_count = 1;
    flip(k, operand->segment, operand->offset + 7);
    verify_release(&k->result);
    rig_ok(&k->rig, verify_run(k->rig.store, &o, &k->result, &k->rig.err));
    cr_assert_eq(k->result.damage_count, 1);
    cr_assert_eq(k->result.damages[0].offset_bytes, offset);
    cr_assert_eq(k->result.damages[0].length_bytes, 512);
    cr_assert_eq(k->result.damages[0].time_ns, 2000 + order);
    flip(k, operand->segment, operand->offset + 7);
}

/* While it waits, when it is derived, and when it cannot be. */
Test(verify, operands_are_payloads_whatever_became_of_them) {
    static struct kept k;
    struct waiting_counts counts;
    start(&k);
    struct extent known = put_or(&k, 8, offset_of(0));
    struct extent unknown = put_or(&k, 9, 9 << 20);
    rig_commit(&k.rig);
    expect_or_damaged(&k, &known, 8, offset_of(0));
    expect_or_damaged(&k, &unknown, 9, 9 << 20);
    rig_ok(&k.rig, settle(k.rig.store, UINT64_MAX, &k.rig.err));
    struct index_reader *r = rig_reader(&k.rig);
    rig_ok(&k.rig, index_count_waiting(r, &counts, &k.rig.err));
    index_reader_close(r);
    cr_assert_eq(counts.derived, 0);
    cr_assert_eq(counts.stuck, 1);
    expect_or_damaged(&k, &known, 8, offset_of(0));
    expect_or_damaged(&k, &unknown, 9, 9 << 20);
    end(&k);
}

Test(verify, baselines_are_payloads_of_their_volume) {
    static struct kept k;
    char file[160];
    start(&k);
    snprintf(file, sizeof file, "%s/base.img", k.rig.base);
    int fd = open(file, O_WRONLY | O_CREAT, 0600);
    cr_assert_eq(pwrite(fd, "base", 4, 3 << 20), 4);
    cr_assert_eq(ftruncate(fd, SIZE_BYTES), 0);
    close(fd);
    struct volume_list list;
    struct index_reader *reader = rig_reader(&k.rig);
    rig_ok(&k.rig, volume_list_read(reader, &list, &k.rig.err));
    index_reader_close(reader);
    struct baseline_options options = {.file = file};
    struct baseline_result baseline;
    rig_ok(&k.rig,
           baseline_from_file(k.rig.store, &list.volumes[0], &options, &baseline, &k.rig.err));
    volume_list_release(&list);
    const struct verify_result *r = verify(&k);
    cr_assert(verify_is_good(r));
    cr_assert_eq(r->volumes[0].payloads, UPDATES + 1);
    cr_assert_eq(r->unknown_records, 0, "a floor names them");
    uint64_t size = segment_size(&k, 2);
    flip(&k, 2, size / 2);
    r = verify(&k);
    cr_assert_eq(r->damage_count, 1);
    cr_assert_eq(r->damages[0].offset_bytes, 3 << 20);
    cr_assert_not(r->damages[0].from_monitor);
    cr_assert_eq(r->damages[0].length_bytes, 1 << 20);
    cr_assert_eq(r->damages[0].time_ns, 0);
    end(&k);
}

static void see_progress(void *context, uint64_t done, uint64_t total) {
    uint64_t *last = context;
    cr_assert_geq(done, last[0]);
    cr_assert_leq(done, total);
    last[0] = done;
    last[1] = total;
}

/* More than are looked up at once: several groups, and one more than fits in each. */
Test(verify, more_payloads_than_fit_in_memory) {
    static struct kept k;
    enum { MANY = (1 << 18) * 2 + 3, BYTES = 512 };
    static uint8_t blob[MANY + BYTES];
    start(&k);
    struct extent all;
    memset(blob, 0x42, sizeof blob);
    rig_ok(&k.rig, segments_append(k.rig.segment, blob, sizeof blob, &all, &k.rig.err));
    struct update_record u = {.path = k.path,
                              .length_bytes = BYTES,
                              .block_bytes = 512,
                              .op = UPDATE_WRITE,
                              .payload_bytes = BYTES,
                              .payload_crc32c = crc32c(0, blob, BYTES)};
    for (unsigned i = 0; i < MANY; i++) {
        struct stamp stamp = {2000 + i, 1, 1, 10 + i};
        struct extent extent = {all.segment, BYTES, all.offset + i};
        u.time_ns = stamp.time_ns;
        u.offset_bytes = (uint64_t)(i % 4096) * 4096;
        rig_ok(&k.rig, index_put_update(rig_writer(&k.rig), &stamp, &u, &extent, &k.rig.err));
    }
    rig_commit(&k.rig);
    uint64_t seen[2] = {0};
    struct verify_options options = {.progress = see_progress, .progress_context = seen};
    rig_ok(&k.rig, verify_run(k.rig.store, &options, &k.result, &k.rig.err));
    const struct verify_result *r = &k.result;
    cr_assert_eq(r->damage_count, 0);
    cr_assert_eq(r->volumes[0].pieces, UPDATES + MANY);
    cr_assert_eq(r->volumes[0].payloads, UPDATES + MANY);
    cr_assert_eq(seen[0], seen[1], "all of what was announced, and no more");
    flip(&k, all.segment, all.offset + 1000);
    r = verify(&k);
    cr_assert_eq(r->damage_count, BYTES);
    cr_assert_eq(r->volumes[0].damaged, r->damage_count);
    end(&k);
}
