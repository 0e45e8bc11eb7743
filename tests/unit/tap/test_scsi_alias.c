/* Sessions whose login was not seen, and what their monitor says of other paths because of them. */
#include "scsi_recorder.h"

#include "common/clock.h"

#include <criterion/criterion.h>

/* A named disk and, beside it, a session that may lead to it. */
struct beside {
    struct scsi_world w;
    struct nexus *late;
    uint64_t named_path;
    uint64_t late_path;
};

static struct beside beside_make(void) {
    struct beside b = {.w = scsi_world_disk()};
    b.late = tracker_nexus_open_provisional(b.w.tracker, PATH_ISCSI, "iqn.initiator", "portal-a");
    scsi_good(&b.w, scsi_write(&b.w, b.w.nexus, 100, 8, 1));
    b.named_path = recorded_at(b.w.recorder, RECORDED_UPDATE, 0)->path;
    scsi_good(&b.w, scsi_write(&b.w, b.late, 200, 8, 1));
    b.late_path = recorded_at(b.w.recorder, RECORDED_UPDATE, 1)->path;
    cr_assert_neq(b.named_path, b.late_path);
    recorder_forget(b.w.recorder);
    return b;
}

/* How many gaps a path was given, of which reason the last one was. */
static size_t gaps_of(const struct beside *b, uint64_t path, uint16_t *reason) {
    size_t count = 0;
    *reason = 0;
    for (size_t i = 0; i < GAPS(b->w); i++) {
        const struct recorded *gap = recorded_at(b->w.recorder, RECORDED_GAP, i);
        if (gap->path != path)
            continue;
        *reason = gap->reason;
        count++;
    }
    return count;
}

/* What concerns a path only because of another one must not be taken for a change of its own: a
 * server that lays it on a third path would put the first one in doubt of itself. */
Test(scsi_alias, what_others_wrote_is_hearsay) {
    struct beside b = beside_make();
    uint16_t reason;
    scsi_good(&b.w, scsi_write(&b.w, b.w.nexus, 300, 8, 1));
    cr_assert_eq(gaps_of(&b, b.late_path, &reason), 1);
    cr_assert_eq(reason, GAP_STRANGER);
    recorder_forget(b.w.recorder);
    scsi_good(&b.w, scsi_write(&b.w, b.late, 300, 8, 1));
    cr_assert_eq(gaps_of(&b, b.named_path, &reason), 1);
    cr_assert_eq(reason, GAP_STRANGER);
    tracker_nexus_close(b.late, 0, NULL, 0);
    scsi_world_end(&b.w);
}

Test(scsi_alias, what_was_lost_of_another_session_is_hearsay) {
    struct beside b = beside_make();
    uint16_t reason;
    tracker_nexus_gap(b.w.nexus, GAP_STREAM_HOLE, "lost", ++b.w.now_ns);
    cr_assert_eq(gaps_of(&b, b.named_path, &reason), 1);
    cr_assert_eq(reason, GAP_STREAM_HOLE);
    cr_assert_eq(gaps_of(&b, b.late_path, &reason), 1);
    cr_assert_eq(reason, GAP_STRANGER);
    /* Its own loss says more than that, and is said though nothing has changed since. */
    recorder_forget(b.w.recorder);
    tracker_nexus_gap(b.late, GAP_STREAM_HOLE, "lost", ++b.w.now_ns);
    cr_assert_eq(gaps_of(&b, b.late_path, &reason), 1);
    cr_assert_eq(reason, GAP_STREAM_HOLE);
    recorder_forget(b.w.recorder);
    tracker_nexus_gap(b.w.nexus, GAP_STREAM_HOLE, "lost", ++b.w.now_ns);
    cr_assert_eq(gaps_of(&b, b.late_path, &reason), 0, "it says nothing new");
    tracker_nexus_close(b.late, 0, NULL, 0);
    scsi_world_end(&b.w);
}

/* A unit of the late session that appears after losses of both. */
Test(scsi_alias, a_newcomer_has_the_loss_of_its_own_session) {
    struct beside b = beside_make();
    tracker_nexus_gap(b.w.nexus, GAP_STREAM_HOLE, "theirs", ++b.w.now_ns);
    uint64_t own_ns = ++b.w.now_ns;
    tracker_nexus_gap(b.late, GAP_BAD_DIGEST, "its own", own_ns);
    recorder_forget(b.w.recorder);
    const uint8_t cdb[16] = {0x2a, 0, 0, 0, 0, 100, 0, 0, 8};
    struct exchange *x =
        tracker_command(b.late, &(struct tracker_command){.lun = UINT64_C(2) << 48,
                                                          .cdb = cdb,
                                                          .cdb_bytes = sizeof cdb,
                                                          .data_out_bytes = 4096,
                                                          .time_ns = ++b.w.now_ns});
    scsi_fill(x, 0, 4096, 1);
    scsi_good(&b.w, x);
    uint64_t path = recorded_at(b.w.recorder, RECORDED_UPDATE, 0)->path;
    size_t found = 0;
    for (size_t i = 0; i < GAPS(b.w); i++) {
        const struct recorded *gap = recorded_at(b.w.recorder, RECORDED_GAP, i);
        found += gap->path == path && gap->reason == GAP_BAD_DIGEST && gap->time_ns == own_ns;
    }
    cr_assert_eq(found, 1);
    tracker_nexus_close(b.late, 0, NULL, 0);
    scsi_world_end(&b.w);
}

Test(scsi_alias, the_end_of_a_session_is_told_from_losing_sight_of_it) {
    struct beside b = beside_make();
    uint16_t reason;
    tracker_nexus_close(b.late, GAP_OVERFLOW, "no room", ++b.w.now_ns);
    cr_assert_eq(gaps_of(&b, b.late_path, &reason), 1);
    cr_assert_eq(reason, GAP_STRANGER, "it may go on");
    recorder_forget(b.w.recorder);
    b.late = tracker_nexus_open_provisional(b.w.tracker, PATH_ISCSI, "iqn.initiator", "portal-a");
    scsi_good(&b.w, scsi_write(&b.w, b.w.nexus, 300, 8, 1));
    cr_assert_eq(gaps_of(&b, b.late_path, &reason), 1, "it goes on");
    tracker_nexus_close(b.late, GAP_NEXUS_LOST, "closed", ++b.w.now_ns);
    cr_assert_eq(gaps_of(&b, b.late_path, &reason), 2);
    cr_assert_eq(reason, GAP_NAME_LOST);
    scsi_world_end(&b.w);
}
