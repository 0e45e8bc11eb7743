/* Sessions joined mid-way whose target is found by what they wrote: the decision, both ways. */
#include "iscsi_world.h"

#include "common/clock.h"
#include "common/digest.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { GOOD = 0, BLOCKS = 1 << 12, BLOCK = 512 };

#define LUN_1 (UINT64_C(1) << 48)

/* What a target of the portal answers to READ. */
enum content {
    HOLDS,      /* what the session wrote */
    OTHER,      /* something else */
    UNREADABLE, /* it refuses */
    MIXED,      /* some of what it wrote */
    SNAPSHOT,   /* what the session had written when it was asked first */
    SILENT,     /* no answer comes */
};

struct rig {
    struct iscsi_world w;
    struct iscsi_link late;
    struct identity_unit unit;
    struct identity_target targets[2]; /* iqn.a, iqn.b: the same LUN */
    struct identity identity;
    enum content content[2];
    size_t asked[2];
    uint64_t now[BLOCKS];  /* number of what the session wrote last, by LBA; 0: nothing */
    uint64_t then[BLOCKS]; /* of the snapshot */
    bool taken;
    uint32_t tag;
    unsigned seed;
    bool spoil; /* answers are others, until the blocks are written again */
    uint64_t spoil_ns;
    struct identity_probe last;
};

static void link_send_block(struct rig *r, uint32_t lba) {
    struct made_pdu *pdu = make_write(&r->late, ++r->tag, lba, 1, BLOCK, 0);
    for (size_t i = 0; i < BLOCK; i++)
        pdu->data[i] = (uint8_t)(rand_r(&r->seed) >> 5);
    r->now[lba] = digest_id64(pdu->data, BLOCK);
    link_send(&r->late, TO_TARGET, pdu);
    free(pdu);
}

static void write_block(struct rig *r, uint32_t lba) {
    link_send_block(r, lba);
    link_response(&r->late, r->tag, GOOD);
}

static void pass(struct rig *r, uint64_t ns) {
    r->w.now_ns += ns;
    iscsi_tick(r->w.iscsi, r->w.now_ns);
}

static struct rig *rig_make(enum content a, enum content b) {
    struct rig *r = calloc(1, sizeof *r);
    r->seed = 1;
    r->unit = (struct identity_unit){
        .lun = LUN_1, .designator = "naa.6001", .block_bytes = BLOCK, .is_disk = true};
    r->targets[0] = (struct identity_target){
        .name = "iqn.a", .units = &r->unit, .unit_count = 1, .whole = true};
    r->targets[1] = r->targets[0];
    strcpy(r->targets[1].name, "iqn.b");
    r->content[0] = a;
    r->content[1] = b;
    iscsi_world_make(&r->w);
    r->late = link_open(&r->w, 3260, false);
    r->late.isid = 0x5005;
    for (uint32_t i = 0; i < 8; i++) {
        pass(r, 300 * NS_PER_MS);
        write_block(r, i);
    }
    cr_assert_eq(UPDATES(r->w), 8);
    r->identity = (struct identity){.targets = r->targets, .target_count = 2};
    cr_assert(iscsi_wants_identity(r->w.iscsi, &r->identity.portal));
    return r;
}

static void rig_end(struct rig *r) {
    iscsi_world_end(&r->w);
    free(r);
}

static void read_block(struct rig *r, enum content content, struct identity_block *block,
                       size_t index) {
    cr_assert_lt(block->lba, BLOCKS);
    cr_assert(block->lun == LUN_1 && block->block_bytes == BLOCK);
    uint64_t written = r->now[block->lba];
    block->read = content != UNREADABLE;
    block->id = written;
    if (content == OTHER || (content == MIXED && index == 0) ||
        (content == SNAPSHOT && r->then[block->lba] != written))
        block->id = ~written;
}

static void answer(struct rig *r, struct identity_probe *probe) {
    size_t k = strcmp(probe->target, "iqn.b") == 0;
    cr_assert_str_eq(probe->target, r->targets[k].name);
    cr_assert(probe->count >= 3 && probe->count <= PROBE_BLOCKS);
    cr_assert_eq(probe->portal.port, 3260);
    r->asked[k]++;
    r->last = *probe;
    if (!r->taken)
        memcpy(r->then, r->now, sizeof r->then);
    r->taken = true;
    if (r->content[k] == SILENT)
        return;
    for (size_t i = 0; i < probe->count; i++)
        read_block(r, r->spoil ? OTHER : r->content[k], &probe->blocks[i], i);
    probe->answered_ns = r->w.now_ns;
    iscsi_probe_answer(r->w.iscsi, probe);
}

static bool is_named(const struct rig *r, const char *name) {
    size_t paths = PATHS(r->w);
    const struct recorded *old = recorded_at(r->w.recorder, RECORDED_PATH, paths - 1);
    const struct recorded *named = recorded_at(r->w.recorder, RECORDED_PATH, paths - 2);
    return paths >= 3 && old->known.same_as != 0 && old->known.same_as == named->known.id &&
           strcmp(named->known.target, name) == 0;
}

static bool has_name(const struct rig *r) {
    return is_named(r, "iqn.a") || is_named(r, "iqn.b");
}

/* They changed before the answer, and that passes us behind it. */
static void spoil(struct rig *r) {
    for (size_t i = 0; i < r->last.count; i++)
        write_block(r, (uint32_t)r->last.blocks[i].lba);
    r->spoil = false;
    r->spoil_ns = 0;
}

/* The session goes on writing, and the monitor asks; until it has a name, or for so long. */
static void go_on(struct rig *r, uint64_t ns) {
    uint64_t end_ns = r->w.now_ns + ns;
    struct identity_probe probe;
    while (!has_name(r) && r->w.now_ns < end_ns) {
        pass(r, 250 * NS_PER_MS);
        recorder_forget(r->w.recorder);
        write_block(r, (uint32_t)rand_r(&r->seed) % BLOCKS);
        while (iscsi_wants_probe(r->w.iscsi, r->w.now_ns, &probe)) {
            if (r->spoil)
                r->spoil_ns = r->w.now_ns + 600 * NS_PER_MS;
            answer(r, &probe);
        }
        if (r->spoil_ns != 0 && r->w.now_ns >= r->spoil_ns)
            spoil(r);
    }
}

static void tell(struct rig *r) {
    iscsi_identify(r->w.iscsi, &r->identity, r->w.now_ns);
    cr_assert_not(has_name(r));
}

Test(iscsi_probe, the_one_that_holds_it_is_the_one) {
    for (int k = 0; k < 2; k++) {
        struct rig *r = rig_make(k == 0 ? HOLDS : OTHER, k == 0 ? OTHER : HOLDS);
        struct identity_probe probe;
        cr_assert_not(iscsi_wants_probe(r->w.iscsi, r->w.now_ns, &probe), "nobody answered yet");
        tell(r);
        go_on(r, 60 * NS_PER_SECOND);
        cr_assert(is_named(r, r->targets[k].name));
        cr_assert_eq(r->asked[k], 2, "two rounds");
        cr_assert_eq(r->asked[1 - k], 1, "a difference is enough");
        write_block(r, 5);
        size_t updates = UPDATES(r->w);
        cr_assert_eq(recorded_update(r->w.recorder, updates - 1)->path,
                     recorded_at(r->w.recorder, RECORDED_PATH, PATHS(r->w) - 2)->known.id);
        cr_assert_not(iscsi_wants_probe(r->w.iscsi, r->w.now_ns, &probe));
        rig_end(r);
    }
}

/* Its own target is hidden from us: no other one takes its place. */
Test(iscsi_probe, none_holds_it) {
    struct rig *r = rig_make(OTHER, OTHER);
    struct portal portal;
    tell(r);
    go_on(r, 500 * NS_PER_SECOND);
    cr_assert_not(has_name(r));
    cr_assert(r->asked[0] == 1 && r->asked[1] == 1, "excluded: not asked again");
    cr_assert_not(iscsi_wants_identity(r->w.iscsi, &portal));
    go_on(r, 120 * NS_PER_SECOND);
    cr_assert(iscsi_wants_identity(r->w.iscsi, &portal), "what it said is old");
    r->content[1] = HOLDS;
    iscsi_identify(r->w.iscsi, &r->identity, r->w.now_ns);
    go_on(r, 60 * NS_PER_SECOND);
    cr_assert(is_named(r, "iqn.b"), "it is shown to us by now");
    rig_end(r);
}

Test(iscsi_probe, two_hold_it) {
    struct rig *r = rig_make(HOLDS, HOLDS);
    tell(r);
    go_on(r, 900 * NS_PER_SECOND);
    cr_assert_not(has_name(r));
    cr_assert(r->asked[0] > 1 && r->asked[0] < 12, "%zu: seldom", r->asked[0]);
    rig_end(r);
}

/* Half a match is no match, and no difference. */
Test(iscsi_probe, one_holds_some_of_it) {
    struct rig *r = rig_make(MIXED, HOLDS);
    tell(r);
    go_on(r, 300 * NS_PER_SECOND);
    cr_assert_not(has_name(r));
    cr_assert_gt(r->asked[0], 1);
    rig_end(r);
}

/* A copy of that moment holds what was written before, and nothing that came behind. */
Test(iscsi_probe, snapshot_is_not_it) {
    struct rig *r = rig_make(SNAPSHOT, OTHER);
    tell(r);
    go_on(r, 500 * NS_PER_SECOND);
    cr_assert_not(has_name(r));
    cr_assert_eq(r->asked[0], 2);
    rig_end(r);
}

/* What was on its way when the first round ended may be on it, too. */
Test(iscsi_probe, second_round_takes_commands_issued_behind_the_first) {
    struct rig *r = rig_make(HOLDS, OTHER);
    struct identity_probe probe;
    r->targets[1] = (struct identity_target){.name = "iqn.b", .whole = true};
    tell(r);
    while (r->asked[0] == 0)
        go_on(r, 250 * NS_PER_MS);
    for (uint32_t i = 0; i < 6; i++)
        link_send_block(r, 100 + i);
    for (uint32_t i = 0; i < 40; i++) {
        pass(r, NS_PER_SECOND);
        if (i >= 10 && i < 16)
            link_response(&r->late, r->tag - (15 - i), GOOD);
        while (iscsi_wants_probe(r->w.iscsi, r->w.now_ns, &probe))
            answer(r, &probe);
    }
    cr_assert_eq(r->asked[0], 1);
    go_on(r, 30 * NS_PER_SECOND);
    cr_assert(is_named(r, "iqn.a"));
    rig_end(r);
}

Test(iscsi_probe, unreadable_ones_are_neither_believed_nor_in_the_way) {
    struct rig *r = rig_make(UNREADABLE, OTHER);
    tell(r);
    go_on(r, 300 * NS_PER_SECOND);
    cr_assert_not(has_name(r));
    cr_assert(r->asked[0] > 1 && r->asked[0] < 8, "%zu: seldom", r->asked[0]);
    rig_end(r);
    r = rig_make(UNREADABLE, HOLDS);
    tell(r);
    go_on(r, 60 * NS_PER_SECOND);
    cr_assert(is_named(r, "iqn.b"));
    rig_end(r);
}

/* What is different because it was written over meanwhile says nothing. */
Test(iscsi_probe, difference_of_what_changed_meanwhile) {
    struct rig *r = rig_make(HOLDS, OTHER);
    r->spoil = true;
    tell(r);
    go_on(r, 120 * NS_PER_SECOND);
    cr_assert_not(r->spoil);
    cr_assert(is_named(r, "iqn.a"));
    rig_end(r);
}

Test(iscsi_probe, difference_under_a_command_in_flight) {
    struct rig *r = rig_make(OTHER, OTHER);
    link_write(&r->late, 1, 0, BLOCKS, 512, 1); /* over all of it */
    tell(r);
    go_on(r, 40 * NS_PER_SECOND);
    cr_assert(r->asked[0] > 1 && r->asked[1] > 1, "not excluded");
    link_response(&r->late, 1, 0x08); /* BUSY: nothing was done */
    r->content[0] = HOLDS;
    go_on(r, 120 * NS_PER_SECOND);
    cr_assert(is_named(r, "iqn.a"));
    rig_end(r);
}

Test(iscsi_probe, answers_that_never_come) {
    struct rig *r = rig_make(SILENT, OTHER);
    tell(r);
    go_on(r, 290 * NS_PER_SECOND);
    cr_assert_eq(r->asked[0], 1);
    struct identity_probe stranger = r->last;
    stranger.number++;
    iscsi_probe_answer(r->w.iscsi, &stranger);
    r->content[0] = HOLDS;
    go_on(r, 120 * NS_PER_SECOND);
    cr_assert(is_named(r, "iqn.a"), "it is asked again");
    rig_end(r);
}

/* Proof by content needs nobody else to be known. */
Test(iscsi_probe, targets_of_which_not_all_is_known) {
    struct rig *r = rig_make(OTHER, HOLDS);
    r->targets[0] = (struct identity_target){.name = "iqn.a"};
    r->targets[1].whole = false;
    tell(r);
    go_on(r, 60 * NS_PER_SECOND);
    cr_assert(is_named(r, "iqn.b"));
    cr_assert_eq(r->asked[0], 0, "it shows us nothing that could be read");
    rig_end(r);
}

Test(iscsi_probe, another_lun_or_block_length_is_not_asked) {
    for (uint32_t i = 0; i < 3; i++) {
        struct rig *r = rig_make(HOLDS, HOLDS);
        if (i == 0)
            r->unit.lun = 0;
        else
            r->unit.block_bytes = i == 1 ? 4096 : 0; /* 0: it did not tell */
        tell(r);
        go_on(r, 60 * NS_PER_SECOND);
        cr_assert(r->asked[0] == 0 && r->asked[1] == 0 && !has_name(r));
        rig_end(r);
    }
}

Test(iscsi_probe, portals_without_such_sessions_are_not_kept) {
    struct rig *r = rig_make(HOLDS, OTHER);
    struct identity_probe probe;
    tell(r);
    link_close(&r->late, TCP_END_FIN);
    for (int i = 0; i < 100; i++) {
        pass(r, 10 * NS_PER_SECOND);
        cr_assert_not(iscsi_wants_probe(r->w.iscsi, r->w.now_ns, &probe));
    }
    rig_end(r);
}
