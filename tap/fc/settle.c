#include "tap/fc/internal.h"

#include <utlist.h>

/* How often what waits is looked at, in packet time. */
#define JUDGE_NS (5 * NS_PER_MS)
/* What is open for longer than this when the monitor ends may have had a response unseen. */
#define LAST_WORD_NS (100 * NS_PER_MS)

static const char lost_status[] =
    "its exchange identifier was used again before its status was seen";
static const char no_status[] = "its status may have passed unseen: there was none within a second";
static const char unreadable[] = "a command that the capture has cut, or that FCP-4 does not know";

/* What cannot be read may have changed any block when it ended, or at any time before. */
static void gap_unreadable(const struct task *t, uint64_t time_ns) {
    if (t->unreadable)
        tracker_unit_gap(t->nexus->nexus, t->lun, GAP_MALFORMED, unreadable, time_ns);
}

/*
 * Commands of the initiator of `t` or, with `everybody`, of all initiators. The one that has taken
 * its identifier was issued when `t` had ended, and is whom the caller is about to go on with.
 */
static void abort_tasks(const struct task *t, bool everybody, bool every_unit, const char *text,
                        uint64_t time_ns) {
    struct fc_nexus *n;
    const struct task *heir = t->slot != NULL ? t->slot->now : NULL;
    DL_FOREACH2(t->nexus->to->as_target, n, to_next) {
        struct task *other, *after;
        if (n != t->nexus && !everybody)
            continue;
        DL_FOREACH_SAFE2(n->tasks, other, after, next) {
            if (other->kind == TASK_COMMAND && other->answer == NULL && other != heir &&
                (every_unit || other->lun == t->lun))
                task_abandon(other, GAP_ABORTED, text, time_ns);
        }
    }
}

static void management_done(struct task *t) {
    const struct answer *a = t->answer;
    if (!a->readable || a->response.status != 0 || a->response.code != 0)
        return;
    if ((t->management & FCP_TARGET_RESET) != 0)
        abort_tasks(t, true, true, "a target reset ended it before its status", a->time_ns);
    else if ((t->management & FCP_UNIT_RESET) != 0)
        abort_tasks(t, true, false, "a reset ended it before its status", a->time_ns);
    else if ((t->management & FCP_CLEAR_TASK_SET) != 0)
        abort_tasks(t, true, false, "its task set was cleared", a->time_ns);
    else if ((t->management & FCP_ABORT_TASK_SET) != 0)
        abort_tasks(t, false, false, "its task set was aborted", a->time_ns);
}

static void give_status(struct task *t) {
    const struct answer *a = t->answer;
    const struct fcp_response *r = &a->response;
    if (!a->readable) {
        task_doubt_all(t);
        tracker_abandon(t->exchange, GAP_STREAM_HOLE, "its status was cut by the capture",
                        a->time_ns);
        return;
    }
    /* What was asked for may have come to the device unseen. */
    if ((r->status != 0 || r->code != 0) && t->asked_end > 0 && !task_is_complete(t))
        tracker_data_out_lost(t->exchange, 0, t->asked_end);
    tracker_status(t->exchange,
                   &(struct tracker_status){.status = r->status,
                                            .delivered = r->code == 0,
                                            .sense = r->sense_bytes > 0 ? r->sense : NULL,
                                            .sense_bytes = r->sense_bytes,
                                            .residual_underflow = r->underflow ? r->residual : 0,
                                            .time_ns = a->time_ns});
}

static void drop(struct task *t) {
    t->nexus->fc->counters.repeated++;
    if (t->exchange != NULL)
        tracker_abandon(t->exchange, 0, NULL, 0);
    task_end(t);
}

void settle_now(struct task *t) {
    if (t->copy && fc_makes_copies(t->nexus->fc, t->answer->time_ns)) {
        drop(t);
        return;
    }
    gap_unreadable(t, t->answer->time_ns);
    bool mixed = t->mixed && t->exchange != NULL && t->out_bytes > 0;
    if (t->torn || (mixed && !fc_makes_copies(t->nexus->fc, t->answer->time_ns)))
        stray_lost_command(t->nexus, t->answer->time_ns);
    if (t->in_again && t->exchange != NULL && t->nexus->fc->copies > 0)
        tracker_data_in_revoke(t->exchange);
    if (t->exchange != NULL)
        give_status(t);
    if (t->kind == TASK_MANAGEMENT)
        management_done(t);
    task_end(t);
}

void settle_try(struct task *t) {
    if (t->answer == NULL || t->copy || t->answer->again || !task_is_complete(t))
        return;
    if (t->answer->premature)
        fc_skew_proven(t->nexus->fc, t->answer->time_ns);
    settle_now(t);
}

static void lose_status(struct task *t) {
    if (t->copy && fc_makes_copies(t->nexus->fc, t->issued_ns)) {
        drop(t);
        return;
    }
    t->nexus->fc->counters.lost_status++;
    task_doubt_all(t);
    gap_unreadable(t, t->issued_ns);
    gap_unreadable(t, t->superseded_ns);
    task_abandon(t, GAP_STREAM_HOLE, lost_status, t->issued_ns);
}

void settle_replaced(struct task *t, uint64_t time_ns) {
    t->superseded_ns = time_ns;
    if (t->answer != NULL)
        settle_now(t);
    else
        lose_status(t);
}

void settle_superseded(struct task *t, uint64_t time_ns) {
    struct slot *s = t->slot;
    t->superseded_ns = time_ns;
    if (t->copy) {
        /* Only a copy is followed by nothing, or by copies; a mirror that makes them makes more. */
        if (t->answer == NULL)
            fc_copy_proven(t->nexus->fc, t->issued_ns);
        task_detach(t);
        return;
    }
    if (t->answer != NULL) {
        settle_now(t);
        return;
    }
    if (s->past != NULL)
        lose_status(s->past);
    s->past = t;
    s->now = NULL;
}

static uint64_t later(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static uint64_t answer_deadline(const struct task *t) {
    const struct answer *a = t->answer;
    uint64_t deadline = a->time_ns;
    if (!task_is_complete(t))
        deadline = later(deadline, a->time_ns + SKEW_NS);
    if (a->again)
        deadline = later(deadline, a->time_ns + REPEAT_NS);
    if (t->copy)
        deadline = later(deadline, t->issued_ns + PATIENCE_NS);
    return deadline;
}

/* A response that came before the data, and did before, is a copy: the real one is to come. */
static void settle_late(struct task *t) {
    const struct answer *a = t->answer;
    if (a->again && a->premature && !task_is_complete(t) &&
        fc_makes_copies(t->nexus->fc, a->time_ns))
        free(task_unanswer(t));
    else
        settle_now(t);
}

static void judge_answered(struct fc *f) {
    struct task *t, *next;
    DL_FOREACH_SAFE2(f->answered, t, next, wait_next) {
        if (f->clock_ns >= answer_deadline(t))
            settle_late(t);
    }
}

static void doubt(struct task *t) {
    struct fc *f = t->nexus->fc;
    DL_DELETE2(f->open, t, open_prev, open_next);
    t->doubted = true;
    DL_APPEND2(f->doubted, t, open_prev, open_next);
    if (t->exchange == NULL)
        return;
    task_doubt_all(t);
    tracker_doubt(t->exchange, GAP_STREAM_HOLE, no_status, t->issued_ns);
}

static void judge_open(struct fc *f) {
    struct task *t, *next;
    DL_FOREACH_SAFE2(f->open, t, next, open_next) {
        bool out_of_patience = f->clock_ns >= t->issued_ns + PATIENCE_NS;
        bool superseded = t->superseded_ns > 0 && f->clock_ns >= t->superseded_ns + SKEW_NS;
        if (superseded && t->copy)
            superseded = out_of_patience;
        if (superseded || (out_of_patience && t->slot == NULL))
            lose_status(t);
        else if (out_of_patience && t->copy && fc_makes_copies(f, f->clock_ns))
            drop(t);
        else if (out_of_patience)
            doubt(t);
    }
    while (f->doubted != NULL && f->clock_ns >= f->doubted->issued_ns + FORGET_NS) {
        t = f->doubted;
        gap_unreadable(t, t->issued_ns);
        task_abandon(t, GAP_NEXUS_LOST, "it has had no status for three minutes", t->issued_ns);
    }
}

void settle_judge(struct fc *f) {
    if (f->clock_ns < f->judged_ns + JUDGE_NS)
        return;
    f->judged_ns = f->clock_ns;
    judge_answered(f);
    judge_open(f);
    stray_judge(f, false);
}

void settle_finish(struct fc *f) {
    struct task *t, *next;
    while (f->answered != NULL)
        settle_now(f->answered);
    DL_FOREACH_SAFE2(f->open, t, next, open_next) {
        if (t->superseded_ns > 0)
            lose_status(t);
        else if (t->data_cut || f->clock_ns >= t->issued_ns + LAST_WORD_NS)
            doubt(t);
    }
    stray_judge(f, true);
}
