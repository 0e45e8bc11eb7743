#include "tap/fc/internal.h"

/* FC-FS-5, 16 (Basic Link Services); FCP-4, 12.3: how a command is aborted. */

static struct task *task_between(struct fc *f, const struct frame *frame, uint32_t initiator,
                                 uint32_t target) {
    struct fc_nexus *n = nexus_find(f, frame->vsan, initiator, target);
    struct slot *s = n != NULL ? slot_find(n, frame->ox_id) : NULL;
    return s != NULL ? s->now : NULL;
}

/* The exchange is that of an initiator at either end. */
static struct task *task_of(struct fc *f, const struct frame *frame) {
    bool from_responder = (frame->f_ctl & F_CTL_RESPONDER) != 0;
    return from_responder ? task_between(f, frame, frame->d_id, frame->s_id)
                          : task_between(f, frame, frame->s_id, frame->d_id);
}

/* It is over at both ends; what was asked for may have come to the device unseen. */
static void finish(struct task *t, uint64_t time_ns) {
    uint64_t since_ns = t->aborted_ns > 0 ? t->aborted_ns : time_ns;
    if (t->answer != NULL) {
        settle_now(t);
        return;
    }
    if (t->exchange != NULL && t->asked_end > 0 && !task_is_complete(t))
        tracker_data_out_lost(t->exchange, 0, t->asked_end);
    if (t->unreadable)
        tracker_unit_gap(t->nexus->nexus, t->lun, GAP_ABORTED, "a command that cannot be read",
                         since_ns);
    task_abandon(t, GAP_ABORTED, "its initiator aborted it", since_ns);
}

void abort_frame(struct fc *f, const struct seen *seen) {
    struct task *t = task_of(f, &seen->frame);
    if (t == NULL || seen->again)
        return;
    switch (seen->frame.r_ctl) {
    case R_CTL_ABTS:
        f->counters.aborts++;
        if (t->aborted_ns == 0)
            t->aborted_ns = seen->time_ns;
        break;
    case R_CTL_BA_ACC:
    case R_CTL_BA_RJT: /* the target knows nothing of it, or not any more */
        if (t->aborted_ns > 0)
            finish(t, seen->time_ns);
        break;
    default:
        break;
    }
}
