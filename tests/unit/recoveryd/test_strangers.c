/* A path of unknown name that one monitor sees, and the volumes that others see: may they be one?
 */
#include "recoveryd/control/exactness.h"
#include "recoveryd/image/clock.h"
#include "recoveryd/image/stranger.h"
#include "recoveryd/settle/settle.h"
#include "tests/unit/recoveryd/store_rig.h"

enum { SIZE = 4 << 20, MIB = 1 << 20 };
enum { NAMED = 1, LATE = 2 }; /* monitors */

struct facts {
    const char *target;
    const char *designator;
    const char *serial;
    uint64_t size;
    uint32_t block;
    uint64_t lun;
    uint64_t same_as;
    bool named;
};

#define ADDRESS "portal-10.0.0.2:3260,10.0.0.1:40000"

static uint64_t announce(struct rig *rig, uint64_t monitor, uint64_t stream, uint64_t time_ns,
                         const struct facts *f) {
    const char *target = f->target != NULL ? f->target : ADDRESS;
    const char *designator = f->designator != NULL ? f->designator : "";
    const char *serial = f->serial != NULL ? f->serial : "";
    struct path_record path = {.time_ns = time_ns,
                               .path = record_path_id(PATH_ISCSI, target, strlen(target), f->lun),
                               .size_bytes = f->size,
                               .lun = f->lun,
                               .block_bytes = f->block,
                               .flags = f->named ? 0 : PATH_PROVISIONAL,
                               .protocol = PATH_ISCSI,
                               .target = target,
                               .target_bytes = (uint16_t)strlen(target),
                               .designator = designator,
                               .designator_bytes = (uint16_t)strlen(designator),
                               .serial = serial,
                               .serial_bytes = (uint16_t)strlen(serial),
                               .same_as = f->same_as};
    rig_ok(rig, index_put_path(rig_writer(rig), monitor, stream, &path, &rig->err));
    return path.path;
}

struct scene {
    struct rig rig;
    uint64_t named; /* with a baseline of zeros, and all that can be known of it */
    uint64_t late;  /* nothing is known of it */
};

static void scene_make(struct scene *s) {
    rig_start(&s->rig);
    s->named = announce(&s->rig, NAMED, 1, 100,
                        &(struct facts){"iqn.a", "naa.1", "SN1", SIZE, 512, .named = true});
    s->late = announce(&s->rig, LATE, 1, 100, &(struct facts){0});
    rig_clock(&s->rig, NAMED, 1, 100, 10000, 100, 0);
    rig_clock(&s->rig, LATE, 1, 100, 10000, 100, 0);
    rig_floor_zero(&s->rig, s->named, 0, SIZE);
}

static struct rig_byte named_at(struct scene *s, uint64_t time_ns, uint64_t offset) {
    return rig_byte_at(&s->rig, s->named, time_ns, offset);
}

static const struct stamp late_write = {200, LATE, 1, 1};

/* --- what a stranger writes ----------------------------------------------------------------------
 */

Test(strangers, what_one_wrote_is_in_doubt_until_it_is_written_again) {
    struct scene s;
    scene_make(&s);
    rig_fill(&s.rig, s.named, (struct stamp){150, NAMED, 1, 1}, 0, MIB, 4096, 1);
    rig_fill(&s.rig, s.late, late_write, 0, MIB + 512, 1024, 2);
    rig_put(&s.rig, s.late, &(struct stamp){210, LATE, 1, 2}, 3 * MIB, 512, NULL, 0);
    rig_fill(&s.rig, s.named, (struct stamp){250, NAMED, 1, 2}, 0, MIB + 512, 512, 3);
    rig_commit(&s.rig);
    cr_assert(named_at(&s, 199, MIB + 512).exact, "before");
    struct rig_byte byte = named_at(&s, 200, MIB + 512);
    cr_assert_not(byte.exact);
    cr_assert_eq(byte.reason, GAP_STRANGER);
    cr_assert_eq(byte.since_ns, 200);
    cr_assert_eq(byte.value, 1, "its own content is the best guess");
    cr_assert(named_at(&s, 200, MIB).exact, "beside it");
    cr_assert(named_at(&s, 250, MIB + 512).exact, "written again");
    cr_assert_not(named_at(&s, 250, MIB + 1024).exact);
    cr_assert(named_at(&s, 250, 3 * MIB).exact, "zeros over zeros");
    cr_assert_eq(rig_gap_count(&s.rig, s.named, 199), 0);
    cr_assert_eq(rig_gap_count(&s.rig, s.named, 200), 1);
    cr_assert_eq(rig_gap_count(&s.rig, s.named, 300), 1);
    rig_end(&s.rig);
}

/* A chunk that the volume itself never wrote to. */
Test(strangers, its_chunks_are_looked_at_too) {
    struct scene s;
    scene_make(&s);
    rig_fill(&s.rig, s.late, late_write, 0, 2 * MIB, 512, 2);
    rig_commit(&s.rig);
    cr_assert_eq(rig_gap_count(&s.rig, s.named, 300), 1);
    cr_assert_not(named_at(&s, 300, 2 * MIB).exact);
    rig_floor_zero(&s.rig, s.named, 250, SIZE);
    rig_commit(&s.rig);
    cr_assert_eq(rig_gap_count(&s.rig, s.named, 300), 0, "somebody looked since");
    rig_end(&s.rig);
}

Test(strangers, the_named_volume_is_one_to_the_other) {
    struct scene s;
    scene_make(&s);
    announce(&s.rig, LATE, 1, 110, &(struct facts){.size = SIZE, .block = 512});
    rig_fill(&s.rig, s.late, late_write, 0, 0, 1024, 2);
    rig_fill(&s.rig, s.named, (struct stamp){250, NAMED, 1, 2}, 0, 0, 512, 3);
    rig_commit(&s.rig);
    cr_assert(rig_byte_at(&s.rig, s.late, 249, 0).exact);
    cr_assert_not(rig_byte_at(&s.rig, s.late, 250, 0).exact);
    cr_assert_eq(rig_byte_at(&s.rig, s.late, 250, 0).value, 2);
    cr_assert(rig_byte_at(&s.rig, s.late, 250, 512).exact);
    rig_end(&s.rig);
}

/* Both ends of one link, and a monitor at each: one saw the login. */
Test(strangers, the_same_content_makes_no_difference) {
    struct scene s;
    scene_make(&s);
    rig_fill(&s.rig, s.named, (struct stamp){150, NAMED, 1, 1}, 0, 0, 1024, 1);
    rig_fill(&s.rig, s.late, (struct stamp){151, LATE, 1, 1}, 0, 0, 1024, 1);
    rig_fill(&s.rig, s.late, (struct stamp){160, LATE, 1, 2}, 0, 512, 512, 2);
    rig_fill(&s.rig, s.late, (struct stamp){170, LATE, 1, 3}, 0, 0, 1024, 1);
    rig_commit(&s.rig);
    cr_assert(named_at(&s, 155, 0).exact);
    cr_assert(named_at(&s, 155, 512).exact);
    cr_assert(named_at(&s, 200, 0).exact);
    cr_assert_not(named_at(&s, 200, 512).exact, "the volume may hold what came between");
    rig_end(&s.rig);
}

/* 508 bytes and their CRC32C, as file systems seal blocks: all have the same CRC32C. */
static void put_sealed(struct rig *rig, uint64_t path, struct stamp stamp, uint8_t value) {
    uint8_t block[512];
    memset(block, value, 508);
    uint32_t crc = crc32c(0, block, 508);
    for (int i = 0; i < 4; i++)
        block[508 + i] = (uint8_t)(crc >> (8 * i));
    rig_put(rig, path, &stamp, 0, sizeof block, block, sizeof block);
}

Test(strangers, the_same_checksum_is_not_the_same_content) {
    struct scene s;
    scene_make(&s);
    put_sealed(&s.rig, s.named, (struct stamp){150, NAMED, 1, 1}, 1);
    put_sealed(&s.rig, s.late, (struct stamp){160, LATE, 1, 1}, 2);
    rig_commit(&s.rig);
    cr_assert_not(named_at(&s, 200, 0).exact);
    put_sealed(&s.rig, s.late, (struct stamp){170, LATE, 1, 2}, 1);
    put_sealed(&s.rig, s.named, (struct stamp){180, NAMED, 1, 2}, 3);
    put_sealed(&s.rig, s.late, (struct stamp){190, LATE, 1, 3}, 3);
    rig_commit(&s.rig);
    cr_assert(named_at(&s, 200, 0).exact);
    rig_end(&s.rig);
}

/* Which of two came last is not known: they were in flight at once. */
static void check_flight(uint64_t monitor) {
    struct scene s;
    scene_make(&s);
    uint64_t other = announce(&s.rig, monitor, 1, 100, &(struct facts){.target = "portal-x,y"});
    rig_fill(&s.rig, other, (struct stamp){200, monitor, 1, 5}, 190, 0, 1024, 2);
    rig_fill(&s.rig, s.named, (struct stamp){220, NAMED, 1, 6}, 195, 0, 512, 3);
    rig_fill(&s.rig, s.named, (struct stamp){220, NAMED, 1, 7}, 201, 512, 512, 3);
    rig_commit(&s.rig);
    cr_assert_not(named_at(&s, 300, 0).exact);
    cr_assert_eq(named_at(&s, 300, 0).reason, GAP_STRANGER);
    cr_assert(named_at(&s, 300, 512).exact, "issued when the other was done");
    rig_end(&s.rig);
}

Test(strangers, a_write_that_was_in_flight_with_it_does_not_end_the_doubt) {
    check_flight(LATE);
    check_flight(NAMED); /* which does not know that both may be one */
}

Test(strangers, clocks_count) {
    struct scene s;
    scene_make(&s);
    rig_clock(&s.rig, LATE, 1, 100, 10000, 100, 10);
    rig_clock(&s.rig, NAMED, 1, 100, 10000, 100, 5);
    rig_fill(&s.rig, s.late, late_write, 0, 0, 1024, 2);
    rig_fill(&s.rig, s.named, (struct stamp){215, NAMED, 1, 6}, 0, 0, 512, 3);
    rig_fill(&s.rig, s.named, (struct stamp){216, NAMED, 1, 7}, 0, 512, 512, 3);
    rig_commit(&s.rig);
    cr_assert_not(named_at(&s, 300, 0).exact);
    cr_assert(named_at(&s, 300, 512).exact);
    rig_end(&s.rig);
}

/* The late monitor learns of the volume in the end, and says so since the stranger's first write;
 * between that and the last one another monitor wrote. */
Test(strangers, a_monitor_that_sees_both_later_is_no_proof) {
    struct scene s;
    scene_make(&s);
    uint64_t first_ns = 110;
    uint64_t second_ns = first_ns + 2 * CLOCK_LOSS_NS;
    uint64_t third_ns = second_ns + 2 * CLOCK_LOSS_NS;
    rig_clock(&s.rig, NAMED, 1, 100, 2 * third_ns, 100, 0);
    rig_clock(&s.rig, LATE, 1, 100, 2 * third_ns, 100, 0);
    rig_fill(&s.rig, s.late, (struct stamp){first_ns, LATE, 1, 1}, 0, 0, 512, 2);
    rig_fill(&s.rig, s.named, (struct stamp){second_ns, NAMED, 1, 1}, 0, 0, 512, 3);
    rig_fill(&s.rig, s.late, (struct stamp){third_ns, LATE, 1, 2}, 0, 0, 512, 4);
    announce(&s.rig, LATE, 1, third_ns + 1,
             &(struct facts){"iqn.a", "naa.1", "SN1", SIZE, 512, .named = true});
    rig_gap(&s.rig, s.named, &(struct stamp){first_ns, LATE, 1, 3}, 0, GAP_TO_END, GAP_STRANGER);
    rig_commit(&s.rig);
    cr_assert(named_at(&s, second_ns, 0).exact);
    cr_assert_not(named_at(&s, third_ns, 0).exact);
    cr_assert_eq(named_at(&s, third_ns, 0).since_ns, third_ns);
    rig_end(&s.rig);
}

/* --- who is one ----------------------------------------------------------------------------------
 */

static void check_proof(const struct facts *f, bool proven) {
    struct scene s;
    scene_make(&s);
    announce(&s.rig, LATE, 1, 120, f);
    rig_fill(&s.rig, s.late, late_write, 0, 0, 512, 2);
    rig_commit(&s.rig);
    cr_assert_eq(named_at(&s, 300, 0).exact, proven);
    cr_assert_eq(rig_gap_count(&s.rig, s.named, 300), proven ? 0 : 1);
    rig_end(&s.rig);
}

Test(strangers, one_that_is_proven_to_be_another_is_none) {
    check_proof(&(struct facts){.size = SIZE, .block = 512, .serial = "SN1"}, false);
    check_proof(&(struct facts){.size = SIZE / 2}, true);
    check_proof(&(struct facts){.block = 4096}, true);
    check_proof(&(struct facts){.serial = "SN2"}, true);
    check_proof(&(struct facts){.designator = "naa.2"}, true);
}

/* It was as large as that once, and the other monitor may not have seen it grow. */
Test(strangers, a_size_that_it_had_is_no_proof) {
    struct scene s;
    scene_make(&s);
    announce(&s.rig, LATE, 1, 120, &(struct facts){.size = SIZE});
    announce(&s.rig, LATE, 1, 130, &(struct facts){.size = 2 * SIZE});
    rig_fill(&s.rig, s.late, late_write, 0, 0, 512, 2);
    rig_commit(&s.rig);
    cr_assert_not(named_at(&s, 300, 0).exact);
    rig_end(&s.rig);
}

Test(strangers, another_lun_of_its_target_is_none) {
    struct scene s;
    scene_make(&s);
    /* LUN 0 of the session is the named volume, so that LUN 1 is not. */
    announce(&s.rig, LATE, 1, 120, &(struct facts){.designator = "naa.1"});
    uint64_t other = announce(&s.rig, LATE, 1, 120, &(struct facts){.lun = UINT64_C(1) << 48});
    rig_fill(&s.rig, other, late_write, 0, 0, 512, 2);
    rig_commit(&s.rig);
    cr_assert(named_at(&s, 300, 0).exact);
    rig_end(&s.rig);
}

Test(strangers, two_with_names_are_none) {
    struct scene s;
    scene_make(&s);
    uint64_t other = announce(&s.rig, LATE, 1, 100, &(struct facts){"iqn.b", .named = true});
    rig_fill(&s.rig, other, late_write, 0, 0, 512, 2);
    rig_commit(&s.rig);
    cr_assert(named_at(&s, 300, 0).exact);
    rig_end(&s.rig);
}

Test(strangers, one_that_turns_out_to_be_the_volume_wrote_to_it) {
    for (int way = 0; way < 2; way++) {
        struct scene s;
        scene_make(&s);
        rig_fill(&s.rig, s.late, late_write, 0, 0, 512, 2);
        rig_commit(&s.rig);
        cr_assert_not(named_at(&s, 300, 0).exact);
        struct facts same = {.same_as = way == 0 ? s.named : 0,
                             .designator = way == 0 ? "" : "naa.1"};
        announce(&s.rig, LATE, 1, 9000, &same);
        rig_commit(&s.rig);
        cr_assert(named_at(&s, 300, 0).exact);
        cr_assert_eq(named_at(&s, 300, 0).value, 2);
        rig_end(&s.rig);
    }
}

/* --- gaps over all of one ------------------------------------------------------------------------
 */

static bool gap_counts(uint16_t reason, bool ended_before) {
    struct scene s;
    scene_make(&s);
    rig_fill(&s.rig, s.late, (struct stamp){150, LATE, 1, 1}, 0, MIB, 512, 2);
    if (ended_before)
        rig_gap(&s.rig, s.late, &(struct stamp){160, LATE, 1, 2}, 0, GAP_TO_END, GAP_NAME_LOST);
    rig_gap(&s.rig, s.late, &(struct stamp){200, LATE, 1, 3}, 0, GAP_TO_END, reason);
    rig_gap(&s.rig, s.late, &(struct stamp){210, LATE, 1, 4}, 2 * MIB, 512, reason);
    rig_commit(&s.rig);
    cr_assert(named_at(&s, 199, 0).exact);
    struct rig_byte byte = named_at(&s, 300, 0);
    cr_assert(byte.exact || byte.reason == GAP_STRANGER);
    rig_end(&s.rig);
    return !byte.exact;
}

Test(strangers, what_was_lost_of_one_may_have_been_of_the_volume) {
    cr_assert(gap_counts(GAP_STREAM_HOLE, false));
    cr_assert(gap_counts(GAP_CAPTURE_LOSS, true));
    cr_assert(gap_counts(GAP_MONITOR_RESTART, false));
    cr_assert_not(gap_counts(GAP_MONITOR_RESTART, true), "nothing passed on it any more");
    cr_assert_not(gap_counts(GAP_NAME_LOST, false));
    cr_assert_not(gap_counts(GAP_STRANGER, false), "that is of others, and theirs to say");
}

/* More than are looked at one by one. */
Test(strangers, of_very_many_the_newest_change_counts) {
    struct scene s;
    scene_make(&s);
    for (uint64_t i = 0; i < 40; i++) {
        char name[32];
        snprintf(name, sizeof name, "portal-%02u", (unsigned)i);
        uint64_t path = announce(&s.rig, LATE, 1, 100, &(struct facts){.target = name});
        rig_fill(&s.rig, path, (struct stamp){200 + i, LATE, 1, i + 1}, 0, MIB, 512, 2);
    }
    rig_commit(&s.rig);
    cr_assert(named_at(&s, 199, MIB).exact);
    cr_assert_not(named_at(&s, 300, MIB).exact);
    cr_assert_not(named_at(&s, 300, 2 * MIB).exact, "all of it, for want of a closer look");
    cr_assert_geq(rig_gap_count(&s.rig, s.named, 300), 1);
    rig_end(&s.rig);
}

Test(strangers, in_a_crowd_nothing_is_certain) {
    struct scene s;
    scene_make(&s);
    for (unsigned i = 0; i <= STRANGER_PATHS; i++) {
        char name[32];
        snprintf(name, sizeof name, "portal-%u", i);
        announce(&s.rig, LATE, 1, 100, &(struct facts){.target = name});
    }
    rig_commit(&s.rig);
    cr_assert_not(named_at(&s, 300, 0).exact);
    rig_end(&s.rig);
}

/* --- promises ------------------------------------------------------------------------------------
 */

static uint64_t watermark_of(struct scene *s, uint64_t path) {
    struct volume_list list;
    AUTO(index_reader) r = rig_reader(&s->rig);
    rig_ok(&s->rig, volume_list_read(r, &list, &s->rig.err));
    uint64_t watermark_ns = volume_of_path(&list, path)->watermark_ns;
    volume_list_release(&list);
    return watermark_ns;
}

Test(strangers, who_sees_one_has_to_promise_too) {
    struct scene s;
    scene_make(&s);
    rig_clock(&s.rig, LATE, 1, 100, 400, 100, 0);
    rig_commit(&s.rig);
    cr_assert_eq(watermark_of(&s, s.named), 400);
    cr_assert_eq(watermark_of(&s, s.late), 400);
    rig_gap(&s.rig, s.late, &(struct stamp){401, LATE, 1, 9}, 0, GAP_TO_END, GAP_NAME_LOST);
    rig_commit(&s.rig);
    cr_assert_eq(watermark_of(&s, s.named), 400, "something older may be missing");
    rig_clock(&s.rig, LATE, 1, 100, 401, 100, 0);
    rig_commit(&s.rig);
    cr_assert_eq(watermark_of(&s, s.named), 10000, "nothing comes on it any more");
    rig_put(&s.rig, s.late, &(struct stamp){402, LATE, 1, 10}, 0, 512, NULL, 0);
    rig_commit(&s.rig);
    cr_assert_eq(watermark_of(&s, s.named), 401, "it goes on");
    announce(&s.rig, LATE, 1, 120, &(struct facts){.size = SIZE / 2});
    rig_commit(&s.rig);
    cr_assert_eq(watermark_of(&s, s.named), 10000, "it is another");
    rig_end(&s.rig);
}

/* --- who relies on it ----------------------------------------------------------------------------
 */

static bool is_exact_now(struct scene *s, struct exactness *x) {
    struct volume_list list;
    struct exactness_answer answer;
    rig_commit(&s->rig);
    AUTO(index_reader) r = rig_reader(&s->rig);
    rig_ok(&s->rig, volume_list_read(r, &list, &s->rig.err));
    rig_ok(&s->rig, exactness_of(x, r, volume_of_path(&list, s->named), &answer, &s->rig.err));
    volume_list_release(&list);
    return answer.exact;
}

Test(strangers, an_answer_is_not_remembered_when_one_writes) {
    struct scene s;
    scene_make(&s);
    struct exactness *x = exactness_create(s.rig.store);
    cr_assert(is_exact_now(&s, x));
    rig_fill(&s.rig, s.late, late_write, 0, 0, 512, 2);
    cr_assert_not(is_exact_now(&s, x));
    rig_put(&s.rig, s.named, &(struct stamp){300, NAMED, 1, 3}, 0, 512, NULL, 0);
    cr_assert(is_exact_now(&s, x));
    exactness_destroy(x);
    rig_end(&s.rig);
}

static void copy_first_block(struct scene *s, uint64_t to, uint64_t time_ns) {
    struct update_record u = {.time_ns = time_ns,
                              .path = to,
                              .length_bytes = 512,
                              .block_bytes = 512,
                              .op = UPDATE_COPY,
                              .source_path = s->named,
                              .source_from_ns = time_ns - 10,
                              .source_until_ns = time_ns};
    struct stamp stamp = {time_ns, NAMED, 1, 7};
    rig_ok(&s->rig, index_put_update(rig_writer(&s->rig), &stamp, &u, NULL, &s->rig.err));
}

/* A copy of what one may have changed is not known; nor is one while it was in flight. */
Test(strangers, copies_of_what_one_wrote_are_not_believed) {
    static const struct {
        uint64_t issued_ns;
        uint64_t time_ns;
        bool known;
    } cases[] = {{0, 200, false}, {290, 310, false}, {301, 310, true}};
    for (size_t i = 0; i < 3; i++) {
        struct scene s;
        scene_make(&s);
        uint64_t to = announce(&s.rig, NAMED, 1, 100,
                               &(struct facts){"iqn.to", "naa.9", "SN9", MIB, 512, .named = true});
        uint64_t whole = 1000 + INDEX_IN_FLIGHT_NS;
        rig_clock(&s.rig, NAMED, 1, 100, whole, 100, 0);
        rig_clock(&s.rig, LATE, 1, 100, whole, 100, 0);
        rig_fill(&s.rig, s.named, (struct stamp){150, NAMED, 1, 1}, 0, 0, 512, 1);
        rig_fill(&s.rig, s.late, (struct stamp){cases[i].time_ns, LATE, 1, 1}, cases[i].issued_ns,
                 0, 512, 2);
        copy_first_block(&s, to, 300);
        rig_floor_zero(&s.rig, to, 0, MIB);
        rig_commit(&s.rig);
        rig_ok(&s.rig, settle(s.rig.store, UINT64_MAX, &s.rig.err));
        cr_assert_eq(rig_byte_at(&s.rig, to, 300, 0).exact, cases[i].known, "case %zu", i);
        rig_end(&s.rig);
    }
}

/* A READ of what one may have changed, which returned what the volume held before. */
Test(strangers, a_read_proves_what_one_cannot_have_changed_since) {
    for (int after = 0; after < 2; after++) {
        struct scene s;
        uint8_t block[512];
        uint8_t sum[4];
        uint64_t read_ns = after ? 1000 + CLOCK_LOSS_NS : 400;
        scene_make(&s);
        rig_clock(&s.rig, NAMED, 1, 100, 2 * read_ns, 100, 0);
        rig_clock(&s.rig, LATE, 1, 100, 2 * read_ns, 100, 0);
        rig_fill(&s.rig, s.named, (struct stamp){150, NAMED, 1, 1}, 0, 0, 512, 1);
        rig_fill(&s.rig, s.late, late_write, 0, 0, 512, 2);
        memset(block, 1, sizeof block);
        uint32_t crc = crc32c(0, block, sizeof block);
        for (int i = 0; i < 4; i++)
            sum[i] = (uint8_t)(crc >> (8 * i));
        struct stamp stamp = {read_ns, NAMED, 1, 5};
        struct audit_record audit = {.time_ns = read_ns,
                                     .issued_ns = read_ns - 10,
                                     .path = s.named,
                                     .block_bytes = 512,
                                     .blocks = 1,
                                     .crc32c = sum};
        rig_ok(&s.rig, index_put_audit(rig_writer(&s.rig), &stamp, &audit, &s.rig.err));
        rig_commit(&s.rig);
        rig_ok(&s.rig, settle(s.rig.store, UINT64_MAX, &s.rig.err));
        cr_assert_eq(named_at(&s, 2 * read_ns, 0).exact, after != 0);
        rig_end(&s.rig);
    }
}
