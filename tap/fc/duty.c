#include "tap/fc/internal.h"

#include <utlist.h>

/* What passes between an initiator and a target: FCP-4, 9. */

static void free_seen(struct seen **seen) {
    free(*seen);
}

/* Commands */

static void give_command(struct task *t, const struct fcp_command *command) {
    t->lun = command->lun;
    t->out_bytes = command->out_bytes;
    tracker_command(t->nexus->nexus, &(struct tracker_command){.lun = command->lun,
                                                               .cdb = command->cdb,
                                                               .cdb_bytes = command->cdb_bytes,
                                                               .data_out_bytes = command->out_bytes,
                                                               .data_in_bytes = command->in_bytes,
                                                               .attribute = command->attribute,
                                                               .time_ns = t->issued_ns,
                                                               .holder = &t->exchange});
}

static void open_task(struct slot *s, const struct seen *seen) {
    struct fc *f = s->nexus->fc;
    const struct frame *frame = &seen->frame;
    struct fcp_command command;
    enum fcp_result result = fcp_command_parse(frame->payload, frame->bytes, &command);
    bool management = result == FCP_GOOD && command.management != 0;
    struct task *t = task_begin(s, management ? TASK_MANAGEMENT : TASK_COMMAND, seen);
    if (t == NULL || result == FCP_NO_LUN) {
        tracker_nexus_gap(s->nexus->nexus, t == NULL ? GAP_OVERFLOW : GAP_MALFORMED,
                          "a command that cannot be read or followed", seen->time_ns);
        if (t != NULL)
            task_end(t);
        return;
    }
    f->counters.commands++;
    t->management = command.management;
    t->lun = command.lun;
    t->unreadable = result != FCP_GOOD;
    if (result != FCP_GOOD && frame->bytes >= frame->wire_bytes)
        f->counters.malformed++;
    if (t->kind == TASK_COMMAND && !t->unreadable)
        give_command(t, &command);
}

/* A copy of the command that is open, or of one before it. */
static bool is_copy(const struct slot *s, const struct seen *seen) {
    const struct task *now = s->now;
    if (!seen->again || now == NULL)
        return false;
    if (now->checksum == seen->frame.checksum && now->answer == NULL) {
        fc_copy_proven(s->nexus->fc, seen->time_ns);
        return true;
    }
    return fc_makes_copies(s->nexus->fc, seen->time_ns);
}

static void take_command(struct slot *s, const struct seen *seen) {
    if (is_copy(s, seen)) {
        s->nexus->fc->counters.repeated++;
        return;
    }
    if (s->now != NULL)
        settle_superseded(s->now, seen->time_ns);
    s->recovering = false;
    uint64_t early_ns = s->strays.first_ns;
    struct seen *early = stray_take_early(s);
    open_task(s, seen);
    if (s->now != NULL && early != NULL)
        s->now->early_ns = early_ns;
    struct seen *one, *next;
    DL_FOREACH_SAFE(early, one, next) {
        one->prev = one->next = NULL;
        duty_frame(s->nexus->fc, one);
    }
}

/* Its exchange goes by the identifier that the target gave it, if that tells. */
static struct task *task_of(const struct slot *s, const struct frame *frame) {
    struct task *now = s->now;
    struct task *past = s->past;
    bool of_past = past != NULL && past->answer == NULL && past->rx_id == frame->rx_id &&
                   frame->rx_id != FC_ID_UNASSIGNED;
    bool of_now = now != NULL && (now->rx_id == frame->rx_id || now->rx_id == FC_ID_UNASSIGNED);
    return of_past && !of_now ? past : now;
}

/* Responses */

static void lose_early(struct task *t) {
    if (t->early_ns > 0)
        stray_lost_command(t->nexus, t->early_ns - 1);
    t->early_ns = 0;
}

/* The response that is held was that of an earlier command. */
static void reject_answer(struct task *t) {
    struct task *past = t->slot != NULL ? t->slot->past : NULL;
    struct answer *answer = task_unanswer(t);
    lose_early(t);
    if (past != NULL && past != t && past->answer == NULL) {
        task_answer(past, answer);
        settle_try(past);
        return;
    }
    if (!answer->again)
        stray_lost_command(t->nexus, answer->time_ns - 1);
    free(answer);
}

static struct answer *read_answer(const struct seen *seen) {
    const struct frame *frame = &seen->frame;
    struct answer *a = calloc(1, sizeof *a);
    if (a == NULL)
        return NULL;
    a->readable = fcp_response_parse(frame->payload, frame->bytes, frame->bytes < frame->wire_bytes,
                                     &a->response);
    a->time_ns = seen->time_ns;
    a->checksum = frame->checksum;
    a->again = seen->again;
    return a;
}

/* A second response for one command: one of them, if not both, is a copy. */
static void second_answer(struct task *t, struct answer *second) {
    struct answer *first = t->answer;
    if (first->checksum == second->checksum) {
        if (first->premature) {
            lose_early(t);
            first->time_ns = second->time_ns;
            first->premature = !task_is_complete(t);
        } else {
            fc_copy_proven(t->nexus->fc, second->time_ns);
        }
        free(second);
        return;
    }
    if (second->again) {
        free(second);
        return;
    }
    reject_answer(t);
    task_answer(t, second);
}

static void take_response(struct slot *s, struct task *t, const struct seen *seen) {
    struct answer *answer = read_answer(seen);
    (void)s;
    if (answer == NULL)
        return;
    if (!answer->readable)
        t->nexus->fc->counters.malformed++;
    if (!seen->again)
        t->copy = false;
    if (t->answer != NULL) {
        second_answer(t, answer);
    } else {
        task_answer(t, answer);
        answer->premature = !task_is_complete(t);
    }
    settle_try(t);
}

/* Data */

static void take_ready(struct task *t, const struct seen *seen) {
    struct fcp_ready ready;
    const struct frame *frame = &seen->frame;
    if (!fcp_ready_parse(frame->payload, frame->bytes, &ready)) {
        t->nexus->fc->counters.malformed += frame->bytes >= frame->wire_bytes;
        return;
    }
    uint64_t end = (uint64_t)ready.offset + ready.burst_bytes;
    if (end > t->out_bytes)
        end = t->out_bytes;
    if (!seen->again) {
        t->copy = false;
        if (t->answer != NULL) /* this one came behind it, from the same side */
            reject_answer(t);
        else if (ready.offset < t->asked_end)
            lose_early(t);
        t->rx_id = frame->rx_id;
    }
    if (end > t->asked_end)
        t->asked_end = (uint32_t)end;
    t->next_offset = ready.offset;
}

/* FCP-4 has a relative offset in all data; without it, data follows what was asked for. */
static bool find_offset(struct task *t, const struct frame *frame, uint32_t *offset) {
    bool goes_on = frame->seq_id == t->seq_id && frame->seq_cnt == (uint16_t)(t->seq_cnt + 1);
    *offset = t->next_offset;
    if ((frame->f_ctl & F_CTL_OFFSET) != 0)
        *offset = frame->parameter;
    return (frame->f_ctl & F_CTL_OFFSET) != 0 || goes_on || frame->seq_cnt == 0;
}

static void take_data_out(struct task *t, const struct seen *seen) {
    const struct frame *frame = &seen->frame;
    uint32_t offset;
    bool placed = find_offset(t, frame, &offset);
    uint64_t end = (uint64_t)offset + frame->bytes;
    if (placed && seen->again && rangeset_contains(&t->sure, offset, end)) {
        t->nexus->fc->counters.repeated++;
        fc_copy_proven(t->nexus->fc, seen->time_ns);
        return;
    }
    if (!seen->again) {
        t->copy = false;
        t->seq_id = frame->seq_id;
        t->seq_cnt = frame->seq_cnt;
        t->next_offset = offset + frame->wire_bytes;
    }
    if (t->exchange == NULL)
        return;
    if (!placed) {
        tracker_data_out_lost(t->exchange, 0, t->out_bytes);
        return;
    }
    tracker_data_out(t->exchange, offset, frame->payload, frame->bytes);
    if (frame->bytes < frame->wire_bytes)
        tracker_data_out_lost(t->exchange, end, frame->wire_bytes - frame->bytes);
    rangeset_add(&t->all, offset, (uint64_t)offset + frame->wire_bytes);
    if (!seen->again)
        rangeset_add(&t->sure, offset, end);
    settle_try(t);
}

static void take_data_in(struct task *t, const struct seen *seen) {
    const struct frame *frame = &seen->frame;
    if (!seen->again) {
        t->copy = false;
        if (t->answer != NULL && t->answer->again)
            reject_answer(t);
    }
    t->in_again |= seen->again;
    if (t->exchange == NULL || !tracker_wants_data_in(t->exchange))
        return;
    tracker_data_in(t->exchange, frame->parameter, frame->payload, frame->bytes);
}

static void take_frame(struct slot *s, struct seen *seen) {
    __attribute__((cleanup(free_seen))) struct seen *mine = seen;
    const struct frame *frame = &seen->frame;
    bool from_target = (frame->f_ctl & F_CTL_RESPONDER) != 0;
    struct task *t = task_of(s, frame);
    if (frame->r_ctl == R_CTL_COMMAND) {
        take_command(s, seen);
        return;
    }
    if (t == NULL) {
        stray_add(s, take_pointer(&mine));
        return;
    }
    switch (frame->r_ctl) {
    case R_CTL_READY:
        take_ready(t, seen);
        break;
    case R_CTL_DATA:
        if (from_target)
            take_data_in(t, seen);
        else
            take_data_out(t, seen);
        break;
    case R_CTL_RESPONSE:
        take_response(s, t, seen);
        break;
    default: /* FCP_CONF: the target may forget the exchange */
        break;
    }
}

void duty_frame(struct fc *f, struct seen *seen) {
    const struct frame *frame = &seen->frame;
    bool from_target = (frame->f_ctl & F_CTL_RESPONDER) != 0;
    uint32_t initiator = from_target ? frame->d_id : frame->s_id;
    uint32_t target = from_target ? frame->s_id : frame->d_id;
    struct fc_nexus *n = nexus_of(f, frame->vsan, initiator, target);
    struct slot *s = n != NULL ? slot_of(n, frame->ox_id) : NULL;
    if (s != NULL) {
        take_frame(s, seen);
        return;
    }
    f->counters.overflow++;
    tracker_gap(f->tracker, GAP_OVERFLOW, "more ports talk than the monitor can follow",
                seen->time_ns);
    free(seen);
}
