#include "recoveryd/index/kv.h"
#include "recoveryd/index/values.h"
#include "tests/unit/recoveryd/store_rig.h"

#include <unistd.h>

static const struct stamp early = {100, 1, 1, 0};
static const struct stamp later = {200, 1, 1, 1};

struct seen {
    size_t count;
    struct piece pieces[200];
    size_t stop_after;
};

static bool see_piece(void *context, const struct piece *p) {
    struct seen *seen = context;
    seen->pieces[seen->count++] = *p;
    return seen->count != seen->stop_after;
}

static struct seen pieces_of(struct rig *rig, uint64_t path, uint64_t chunk, uint64_t until) {
    struct seen seen = {0};
    AUTO(index_reader) r = rig_reader(rig);
    rig_ok(rig, index_each_piece(r, path, chunk, until, see_piece, &seen, &rig->err));
    return seen;
}

Test(index, pieces_come_newest_first_and_cut_at_chunks) {
    struct rig rig;
    rig_start(&rig);
    uint8_t data[8192];
    memset(data, 7, sizeof data);
    rig_put(&rig, 5, &later, INDEX_CHUNK_BYTES - 512, 512, NULL, 0);
    rig_put(&rig, 5, &early, INDEX_CHUNK_BYTES - 4096, 8192, data, 8192);
    rig_commit(&rig);
    struct seen first = pieces_of(&rig, 5, 0, UINT64_MAX);
    cr_assert_eq(first.count, 2);
    cr_assert_eq(first.pieces[0].kind, PIECE_ZERO);
    cr_assert_eq(first.pieces[1].kind, PIECE_DATA);
    cr_assert_eq(first.pieces[1].offset_bytes, INDEX_CHUNK_BYTES - 4096);
    cr_assert_eq(first.pieces[1].length_bytes, 4096);
    cr_assert_eq(first.pieces[1].extent.bytes, 8192);
    struct seen second = pieces_of(&rig, 5, 1, UINT64_MAX);
    cr_assert_eq(second.count, 1);
    cr_assert_eq(second.pieces[0].offset_bytes, INDEX_CHUNK_BYTES);
    cr_assert_eq(second.pieces[0].whole_offset, INDEX_CHUNK_BYTES - 4096);
    cr_assert_eq(pieces_of(&rig, 5, 0, 199).count, 1);
    cr_assert_eq(pieces_of(&rig, 5, 0, 99).count, 0);
    cr_assert_eq(pieces_of(&rig, 4, 0, UINT64_MAX).count, 0);
    cr_assert_eq(pieces_of(&rig, 6, 0, UINT64_MAX).count, 0);
    struct seen one = {.stop_after = 1};
    AUTO(index_reader) r = rig_reader(&rig);
    rig_ok(&rig, index_each_piece(r, 5, 0, UINT64_MAX, see_piece, &one, &rig.err));
    cr_assert_eq(one.count, 1);
    index_reader_close(take_pointer(&r));
    rig_end(&rig);
}

Test(index, the_same_stamp_twice_is_the_same) {
    struct rig rig;
    rig_start(&rig);
    uint8_t data[512] = {1};
    for (int i = 0; i < 3; i++) {
        rig_put(&rig, 5, &early, 0, 512, data, 512);
        rig_put(&rig, 5, &early, 0, 512, data, 512);
        rig_gap(&rig, 5, &later, 0, 512, GAP_OVERLAP);
        rig_commit(&rig);
    }
    cr_assert_eq(pieces_of(&rig, 5, 0, UINT64_MAX).count, 2);
    AUTO(index_reader) r = rig_reader(&rig);
    uint64_t updates;
    rig_ok(&rig, index_count_updates(r, 5, UINT64_MAX, &updates, &rig.err));
    cr_assert_eq(updates, 1);
    index_reader_close(take_pointer(&r));
    rig_end(&rig);
}

static size_t table_pieces(struct rig *rig, uint64_t path, uint64_t *chunks, size_t room) {
    AUTO(index_reader) r = rig_reader(rig);
    size_t count = 0;
    uint64_t chunk = 0;
    while (count < room && index_next_chunk(r, path, chunk, &chunk, &rig->err) == 0)
        chunks[count++] = chunk++;
    return count;
}

Test(index, a_range_over_everything_takes_a_few_pieces_only) {
    struct rig rig;
    rig_start(&rig);
    const uint64_t far = UINT64_C(1) << 50;
    rig_put(&rig, 5, &early, 4096, INT64_MAX - 8192, NULL, 0);
    rig_gap(&rig, 5, &later, far, GAP_TO_END, GAP_CAPTURE_LOSS);
    rig_commit(&rig);
    struct seen near = pieces_of(&rig, 5, 0, UINT64_MAX);
    cr_assert_eq(near.count, 1);
    cr_assert_eq(near.pieces[0].offset_bytes, 4096);
    cr_assert_eq(near.pieces[0].length_bytes, INDEX_CHUNK_BYTES - 4096, "cut to the chunk");
    struct seen beyond = pieces_of(&rig, 5, far / INDEX_CHUNK_BYTES, UINT64_MAX);
    cr_assert_eq(beyond.count, 2);
    cr_assert_eq(beyond.pieces[0].kind, PIECE_GAP);
    cr_assert_eq(pieces_of(&rig, 5, INDEX_CHUNK_COUNT - 1, UINT64_MAX).count, 2);
    rig_end(&rig);
}

Test(index, levels_hold_any_range_in_64_pieces) {
    unsigned seed = 1;
    for (int i = 0; i < 100000; i++) {
        uint64_t length = (((uint64_t)rand_r(&seed) << 32 | (uint64_t)rand_r(&seed)) >>
                           (1 + rand_r(&seed) % 62)) +
                          1;
        uint64_t offset =
            ((uint64_t)rand_r(&seed) << 32 | (uint64_t)rand_r(&seed)) & ((UINT64_C(1) << 63) - 1);
        if (offset > (UINT64_C(1) << 63) - length)
            offset = (UINT64_C(1) << 63) - length;
        unsigned level = level_of_range(offset, length);
        cr_assert_lt(level, LEVELS);
        unsigned shift = level_shift(level);
        uint64_t touched = ((offset + length - 1) >> shift) - (offset >> shift) + 1;
        cr_assert_leq(touched, LEVEL_CHUNKS);
    }
}

Test(index, next_chunk_finds_small_and_large_pieces) {
    struct rig rig;
    rig_start(&rig);
    uint64_t chunks[300];
    rig_put(&rig, 5, &early, 3 * INDEX_CHUNK_BYTES, 512, NULL, 0);
    rig_put(&rig, 5, &later, 700 * INDEX_CHUNK_BYTES, 512, NULL, 0);
    rig_put(&rig, 6, &later, 1 * INDEX_CHUNK_BYTES, 512, NULL, 0);
    rig_commit(&rig);
    cr_assert_eq(table_pieces(&rig, 5, chunks, 300), 2);
    cr_assert_eq(chunks[0], 3);
    cr_assert_eq(chunks[1], 700);
    struct stamp third = {300, 1, 1, 2};
    rig_put(&rig, 5, &third, 128 * INDEX_CHUNK_BYTES, 128 * INDEX_CHUNK_BYTES, NULL, 0);
    rig_commit(&rig);
    cr_assert_eq(table_pieces(&rig, 5, chunks, 300), 2 + 128);
    cr_assert_eq(chunks[1], 128);
    cr_assert_eq(chunks[128], 255);
    cr_assert_eq(table_pieces(&rig, 7, chunks, 300), 0);
    rig_end(&rig);
}

Test(index, an_aborted_writer_leaves_nothing) {
    struct rig rig;
    rig_start(&rig);
    rig_put(&rig, 5, &early, 0, 512, NULL, 0);
    index_abort(take_pointer(&rig.writer));
    cr_assert_eq(pieces_of(&rig, 5, 0, UINT64_MAX).count, 0);
    rig_end(&rig);
}

Test(index, more_than_may_wait_is_written_and_still_all_or_nothing) {
    struct rig rig;
    rig_start(&rig);
    const uint64_t count = INDEX_PENDING_BYTES / 150;
    for (uint64_t i = 0; i < count; i++)
        rig_put(&rig, 5, &(struct stamp){i + 1, 1, 1, i}, i % 1000 * 512, 512, NULL, 0);
    AUTO(index_reader) before = rig_reader(&rig);
    uint64_t updates;
    rig_ok(&rig, index_count_updates(before, 5, UINT64_MAX, &updates, &rig.err));
    cr_assert_eq(updates, 0);
    rig_commit(&rig);
    rig_ok(&rig, index_count_updates(before, 5, UINT64_MAX, &updates, &rig.err));
    cr_assert_eq(updates, 0, "a reader sees one moment");
    index_reader_close(take_pointer(&before));
    AUTO(index_reader) after = rig_reader(&rig);
    rig_ok(&rig, index_count_updates(after, 5, UINT64_MAX, &updates, &rig.err));
    cr_assert_eq(updates, count);
    index_reader_close(take_pointer(&after));
    rig_end(&rig);
}

Test(index, counts_equal_the_events_at_any_time) {
    struct rig rig;
    rig_start(&rig);
    unsigned seed = 7;
    enum { EVENTS = 3000 };
    static uint64_t times[EVENTS];
    for (uint64_t i = 0; i < EVENTS; i++) {
        times[i] = ((uint64_t)rand_r(&seed) << 31 | (uint64_t)rand_r(&seed)) >> rand_r(&seed) % 50;
        rig_put(&rig, 5, &(struct stamp){times[i], 1, 1, i}, 0, 512, NULL, 0);
        struct update_record flush = {.time_ns = times[i], .path = 5, .op = UPDATE_FLUSH};
        struct stamp stamp = {times[i], 2, 1, i};
        rig_ok(&rig, index_put_update(rig_writer(&rig), &stamp, &flush, NULL, &rig.err));
        if (i % 700 == 0)
            rig_commit(&rig);
    }
    rig_commit(&rig);
    AUTO(index_reader) r = rig_reader(&rig);
    for (int i = 0; i < 100; i++) {
        uint64_t until = times[rand_r(&seed) % EVENTS] + (uint64_t)(rand_r(&seed) % 2);
        uint64_t expected = 0;
        uint64_t newest = 0;
        for (size_t k = 0; k < EVENTS; k++) {
            expected += times[k] <= until;
            if (times[k] <= until && times[k] > newest)
                newest = times[k];
        }
        uint64_t count;
        struct stamp stamp;
        rig_ok(&rig, index_count_updates(r, 5, until, &count, &rig.err));
        cr_assert_eq(count, expected);
        rig_ok(&rig, index_newest_update(r, 5, until, &stamp, &rig.err));
        cr_assert_eq(stamp.time_ns, newest);
        cr_assert_eq(stamp.monitor, 1, "flush points are no updates");
    }
    struct stamp none;
    cr_assert_eq(index_newest_update(r, 4, UINT64_MAX, &none, &rig.err), ERR_NOT_FOUND);
    cr_assert_eq(index_newest_update(r, 6, UINT64_MAX, &none, &rig.err), ERR_NOT_FOUND);
    index_reader_close(take_pointer(&r));
    rig_end(&rig);
}

static bool take_path(void *context, const struct path_entry *p) {
    *(struct path_entry *)context = *p;
    return true;
}

Test(index, paths_merge_the_same_in_any_order) {
    static const struct {
        uint64_t time, size;
        const char *designator, *serial;
    } facts[] = {{10, 1000, "naa.1", ""},
                 {20, 0, "", "abc"},
                 {30, 2000, "", ""},
                 {40, 0, "naa.2", ""},
                 {40, 0, "naa.3", "abd"}};
    enum { FACTS = sizeof facts / sizeof facts[0] };
    unsigned seed = 3;
    for (int round = 0; round < 30; round++) {
        struct rig rig;
        rig_start(&rig);
        int order[FACTS] = {0, 1, 2, 3, 4};
        for (int i = FACTS - 1; i > 0; i--) {
            int k = rand_r(&seed) % (i + 1);
            int swap = order[i];
            order[i] = order[k];
            order[k] = swap;
        }
        for (int i = 0; i < FACTS; i++) {
            struct path_record p = {.time_ns = facts[order[i]].time,
                                    .path = 9,
                                    .size_bytes = facts[order[i]].size,
                                    .target = "iqn.x",
                                    .target_bytes = 5,
                                    .designator = facts[order[i]].designator,
                                    .serial = facts[order[i]].serial};
            p.designator_bytes = (uint16_t)strlen(p.designator);
            p.serial_bytes = (uint16_t)strlen(p.serial);
            rig_ok(&rig, index_put_path(rig_writer(&rig), 1, 1, &p, &rig.err));
            if (rand_r(&seed) % 2)
                rig_commit(&rig);
        }
        rig_commit(&rig);
        struct path_entry path;
        AUTO(index_reader) r = rig_reader(&rig);
        rig_ok(&rig, index_each_path(r, take_path, &path, &rig.err));
        cr_assert_eq(path.size_bytes, 2000);
        cr_assert_str_eq(path.designator, "naa.3");
        cr_assert_str_eq(path.serial, "abd");
        cr_assert_str_eq(path.target, "iqn.x");
        cr_assert_eq(path.first_ns, 10);
        cr_assert_eq(path.last_ns, 40);
        index_reader_close(take_pointer(&r));
        rig_end(&rig);
    }
}

static bool take_stream(void *context, const struct stream_entry *s) {
    *(struct stream_entry *)context = *s;
    return true;
}

Test(index, streams_come_back_as_they_were) {
    struct rig rig;
    rig_start(&rig);
    struct stream_entry in = {.monitor = 1,
                              .stream = 2,
                              .name = "rack 7",
                              .first_ns = 3,
                              .frontier = 4,
                              .frontier_ns = 5,
                              .heard_ns = 6,
                              .updates = 7,
                              .bytes = 8,
                              .packets = 9,
                              .dropped = 10,
                              .ended = true,
                              .run_count = STREAM_RUNS};
    for (uint32_t i = 0; i < STREAM_RUNS; i++)
        in.runs[i] = (struct stream_run){10 + 2 * i, 11 + 2 * i, i};
    static struct stream_entry out;
    rig_ok(&rig, index_put_stream(rig_writer(&rig), &in, &rig.err));
    rig_commit(&rig);
    AUTO(index_reader) r = rig_reader(&rig);
    rig_ok(&rig, index_each_stream(r, take_stream, &out, &rig.err));
    cr_assert_eq(memcmp(&in, &out, sizeof in), 0);
    index_reader_close(take_pointer(&r));
    in.run_count++;
    cr_assert_eq(index_put_stream(rig_writer(&rig), &in, &rig.err), ERR_FULL);
    rig_end(&rig);
}

struct gap_seen {
    size_t count;
    struct gap_entry last;
};

static bool see_gap(void *context, const struct gap_entry *g) {
    struct gap_seen *seen = context;
    seen->last = *g;
    seen->count++;
    return true;
}

static bool see_floor(void *context, const struct floor *f) {
    *(struct floor *)context = *f;
    return true;
}

Test(index, a_whole_gap_is_a_floor_and_in_the_list) {
    struct rig rig;
    rig_start(&rig);
    rig_gap(&rig, 5, &early, 0, GAP_TO_END, GAP_NEXUS_LOST);
    rig_gap(&rig, 5, &later, 512, 512, GAP_OVERLAP);
    struct gap_record none = {.length_bytes = 1};
    cr_assert_eq(index_put_gap(rig_writer(&rig), &early, &none, &rig.err), ERR_FORMAT, "no path");
    rig_commit(&rig);
    struct gap_seen gaps = {0};
    struct floor floor = {0};
    AUTO(index_reader) r = rig_reader(&rig);
    rig_ok(&rig, index_each_gap(r, 5, 100, see_gap, &gaps, &rig.err));
    cr_assert_eq(gaps.count, 1);
    cr_assert_eq(gaps.last.reason, GAP_NEXUS_LOST);
    cr_assert_str_eq(gaps.last.text, "a test");
    rig_ok(&rig, index_each_gap(r, 5, 200, see_gap, &gaps, &rig.err));
    cr_assert_eq(gaps.count, 3);
    rig_ok(&rig, index_each_floor(r, 5, 99, see_floor, &floor, &rig.err));
    cr_assert_eq(floor.kind, 0);
    rig_ok(&rig, index_each_floor(r, 5, 100, see_floor, &floor, &rig.err));
    cr_assert_eq(floor.kind, FLOOR_GAP);
    cr_assert_eq(floor.reason, GAP_NEXUS_LOST);
    index_reader_close(take_pointer(&r));
    cr_assert_eq(pieces_of(&rig, 5, 0, UINT64_MAX).count, 1);
    rig_end(&rig);
}

Test(index, impossible_updates_are_refused) {
    struct rig rig;
    rig_start(&rig);
    struct extent extent = {1, 512, 4096};
    struct update_record u = {.path = 5, .op = UPDATE_WRITE, .length_bytes = 512};
    cr_assert_eq(index_put_update(rig_writer(&rig), &early, &u, NULL, &rig.err), ERR_FORMAT);
    u.payload_bytes = 500;
    cr_assert_eq(index_put_update(rig_writer(&rig), &early, &u, &extent, &rig.err), ERR_FORMAT);
    u = (struct update_record){.path = 5, .op = 9};
    cr_assert_eq(index_put_update(rig_writer(&rig), &early, &u, NULL, &rig.err), ERR_FORMAT);
    u = (struct update_record){
        .path = 5, .op = UPDATE_ZERO, .offset_bytes = INT64_MAX, .length_bytes = 1};
    cr_assert_eq(index_put_update(rig_writer(&rig), &early, &u, NULL, &rig.err), ERR_FORMAT);
    rig_end(&rig);
}

/* An open view is told of, with its process and its age. */
Test(index, health_tells_of_the_oldest_view) {
    struct rig rig;
    struct index_health health;
    rig_start(&rig);
    rig_ok(&rig, index_health(rig.store->index, &health, &rig.err));
    cr_assert_eq(health.oldest_pid, 0);
    cr_assert_gt(health.bytes, 0);
    struct index_reader *reader = rig_reader(&rig);
    for (uint64_t i = 1; i <= 3; i++) {
        rig_put(&rig, 7, &(struct stamp){i, 1, 1, i}, 0, 512, NULL, 0);
        rig_commit(&rig);
    }
    rig_ok(&rig, index_health(rig.store->index, &health, &rig.err));
    cr_assert_eq(health.readers, 1);
    cr_assert_eq(health.oldest_pid, (unsigned)getpid());
    cr_assert_eq(health.oldest_commits, 3);
    index_reader_close(reader);
    rig_ok(&rig, index_health(rig.store->index, &health, &rig.err));
    cr_assert_eq(health.readers, 0);
    rig_end(&rig);
}

Test(index, network_file_systems_are_known) {
    cr_assert(kv_file_system_is_shared(0x6969));         /* NFS */
    cr_assert(kv_file_system_is_shared(0x01021997));     /* 9P */
    cr_assert(kv_file_system_is_shared(0x65735546));     /* FUSE */
    cr_assert_not(kv_file_system_is_shared(0xef53));     /* ext4 */
    cr_assert_not(kv_file_system_is_shared(0x01021994)); /* tmpfs */
}
