#include "tap/fc/internal.h"

#include <utlist.h>

/* What passes between an initiator and a target: FCP-4, 9. */

static void free_seen(struct seen **seen) {
    seen_free(*seen);
}

/* Commands */

static void give_command(struct task *t, const struct fcp_command *command) {
    t->lun = command->lun;
    t->out_bytes = command->out_bytes;
    t->in_bytes = command->in_bytes;
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
    t->withheld = seen->again && fc_makes_copies(f, seen->time_ns);
    if (t->kind == TASK_COMMAND && !t->unreadable && !t->withheld)
        give_command(t, &command);
}

static void keep(struct task *t, struct seen *seen) {
    if (t->kept_count >= MAX_KEPT) {
        seen_free(seen);
        return;
    }
    uint64_t time_ns = seen->time_ns;
    seen = seen_keep(seen);
    if (seen == NULL) {
        t->nexus->fc->counters.overflow++;
        tracker_nexus_gap(t->nexus->nexus, GAP_OVERFLOW, "no memory left to hold a frame",
                          time_ns - 1);
        return;
    }
    DL_APPEND(t->kept, seen);
    t->kept_count++;
}

/* A copy of the command that is open, or of one before it. */
static bool is_copy(struct slot *s, const struct seen *seen) {
    const struct task *now = s->now;
    if (!seen->again || now == NULL)
        return false;
    if (now->answer != NULL && !now->answer->premature)
        return false; /* that one is over */
    /* Otherwise its response was lost, and a command that was there before came again. */
    if (now->checksum != seen->frame.checksum) {
        stray_note(s, seen, s->now->last_ns);
        s->now->mixed = true;
    }
    fc_copy_proven(s->nexus->fc, seen->time_ns);
    return true;
}

static void take_command(struct slot *s, struct seen *seen) {
    struct task *now = s->now;
    if (now != NULL && now->withheld && now->checksum == seen->frame.checksum) {
        /* If one of them is no copy, then the last one. */
        now->issued_ns = seen->time_ns;
        seen_free(seen);
        return;
    }
    if (is_copy(s, seen)) {
        s->nexus->fc->counters.repeated++;
        seen_free(seen);
        return;
    }
    if (s->now != NULL)
        settle_superseded(s->now, seen->time_ns);
    s->recovering = false;
    bool copies = !s->strays.fresh && fc_makes_copies(s->nexus->fc, seen->time_ns);
    if (copies || (s->strays.in && !s->strays.out)) /* or of a READ, which changed nothing */
        stray_clear(s);
    uint64_t early_ns = s->strays.first_ns;
    struct seen *early = NULL;
    if (fc_has_skew(s->nexus->fc, seen->time_ns))
        early = stray_take_early(s);
    open_task(s, seen);
    if (s->now != NULL && early != NULL)
        s->now->early_ns = early_ns;
    if (s->now != NULL && s->now->withheld)
        keep(s->now, seen);
    else
        seen_free(seen);
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
    if (!answer->again || !fc_makes_copies(t->nexus->fc, answer->time_ns))
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

/*
 * Is the response there before its data? One that was seen before, on a mirror that makes copies,
 * needs data that is no copy to be believed.
 */
static bool is_premature(const struct task *t) {
    const struct answer *a = t->answer;
    if (!a->again || !fc_makes_copies(t->nexus->fc, a->time_ns))
        return !task_is_complete(t);
    return !task_is_surely_complete(t) || (t->out_bytes == 0 && t->in_end == 0);
}

/* A second response for one command: one of them is a copy, or of a command that was lost, if not
 * both. */
static void second_answer(struct task *t, struct answer *second, const struct seen *seen) {
    struct answer *first = t->answer;
    if (first->checksum == second->checksum) {
        if (first->premature) {
            lose_early(t);
            first->time_ns = second->time_ns;
            if (t->exchange != NULL)
                tracker_ended_at(t->exchange, first->time_ns);
            first->premature = is_premature(t);
        } else if (t->slot != NULL && !t->slot->recovering) {
            stray_note(t->slot, seen, t->last_ns);
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

static void take_response(struct task *t, const struct seen *seen) {
    struct answer *answer = read_answer(seen);
    if (answer == NULL)
        return;
    if (!answer->readable)
        t->nexus->fc->counters.malformed++;
    if (!seen->again)
        t->copy = false;
    if (t->answer != NULL) {
        second_answer(t, answer, seen);
    } else {
        task_answer(t, answer);
        answer->premature = is_premature(t);
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
        else if (ready.offset < t->surely_asked_end)
            lose_early(t);
        t->last_ns = seen->time_ns;
    }
    if (seen->again && ready.offset < t->surely_asked_end && t->slot != NULL) {
        /* A copy, or the next command's, which asks for the same. */
        if (t->answer == NULL)
            fc_copy_proven(t->nexus->fc, seen->time_ns);
        stray_note(t->slot, seen, t->last_ns);
    }
    t->maybe_rx_id = frame->rx_id;
    if (end > t->asked_end)
        t->asked_end = (uint32_t)end;
    if (!seen->again && end > t->surely_asked_end)
        t->surely_asked_end = (uint32_t)end;
    if (!seen->again || ready.offset > t->next_offset)
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

/* Is something missing before it, for so long that it need not be of the same command? */
static bool is_torn(const struct task *t, const struct seen *seen, uint32_t offset) {
    return t->torn ||
           (!seen->again && offset > t->next_offset && seen->time_ns > t->last_ns + TURN_NS);
}

static void tear(struct task *t) {
    if (!t->torn)
        stray_lost_command(t->nexus, t->last_ns);
    t->torn = true;
}

/* Another one that may be a copy, too, was there and differs: nobody can tell which is the
 * command's. */
static void contest(struct task *t, uint64_t offset, const uint8_t *data, size_t bytes) {
    uint64_t end = offset + bytes;
    struct range part = {offset, offset};
    while (part.end < end && rangeset_missing(&t->sure, part.end, end, &part)) {
        size_t length = (size_t)(part.end - part.start);
        if (tracker_data_out_equals(t->exchange, part.start, data + (part.start - offset), length))
            continue;
        tracker_data_out_dispute(t->exchange, part.start, length);
        rangeset_remove(&t->all, part.start, part.end);
        rangeset_add(&t->contested, part.start, part.end);
    }
}

/* It may be a copy of what an earlier command wrote: it takes the place of nothing. */
static void give_unsure(struct task *t, uint64_t offset, const uint8_t *data, size_t bytes) {
    uint64_t end = offset + bytes;
    struct range hole = {offset, offset};
    contest(t, offset, data, bytes);
    while (hole.end < end && rangeset_missing(&t->all, hole.end, end, &hole)) {
        struct range part;
        if (rangeset_overlap(&t->contested, hole.start, hole.end, &part))
            continue;
        tracker_data_out(t->exchange, hole.start, data + (hole.start - offset),
                         (size_t)(hole.end - hole.start));
        rangeset_add(&t->all, hole.start, hole.end);
    }
}

/* Which command of the exchange identifier it is of tells the responder's. */
static void note_unsure(struct task *t, uint16_t rx_id) {
    if (t->unsure_rx_id != FC_ID_UNASSIGNED && t->unsure_rx_id != rx_id)
        t->unsure_mixed = true;
    t->unsure_rx_id = rx_id;
}

static void learn_rx_id(struct task *t, uint16_t rx_id) {
    t->rx_id = rx_id;
    if (t->unsure_mixed || (t->unsure_rx_id != FC_ID_UNASSIGNED && t->unsure_rx_id != rx_id))
        task_forget_unsure(t);
}

static void take_data_out(struct task *t, const struct seen *seen) {
    const struct frame *frame = &seen->frame;
    uint32_t offset;
    bool placed = find_offset(t, frame, &offset);
    uint64_t end = (uint64_t)offset + frame->bytes;
    bool over = t->answer != NULL && !t->answer->premature;
    if (seen->again && (over || end > t->out_bytes || rangeset_contains(&t->sure, offset, end))) {
        t->nexus->fc->counters.repeated++;
        if (!over)
            fc_copy_proven(t->nexus->fc, seen->time_ns);
        if (t->slot != NULL) /* or the next command's, which writes the same */
            stray_note(t->slot, seen, t->last_ns);
        return;
    }
    bool torn = is_torn(t, seen, offset);
    if (!seen->again) {
        t->copy = false;
        t->seq_id = frame->seq_id;
        t->seq_cnt = frame->seq_cnt;
    }
    if (!seen->again || offset == t->next_offset)
        t->next_offset = offset + frame->wire_bytes;
    if (t->exchange == NULL)
        return;
    if (torn)
        tear(t);
    t->last_ns = seen->time_ns;
    if (!placed || torn) {
        tracker_data_out_lost(t->exchange, 0, t->out_bytes);
        return;
    }
    if (seen->again) {
        note_unsure(t, frame->rx_id);
        give_unsure(t, offset, frame->payload, frame->bytes);
    } else {
        tracker_data_out(t->exchange, offset, frame->payload, frame->bytes);
    }
    t->data_cut |= frame->bytes < frame->wire_bytes;
    if (frame->bytes < frame->wire_bytes)
        tracker_data_out_lost(t->exchange, end, frame->wire_bytes - frame->bytes);
    if (!seen->again) {
        rangeset_add(&t->all, offset, (uint64_t)offset + frame->wire_bytes);
        rangeset_add(&t->sure, offset, end);
    } else if (frame->wire_bytes > frame->bytes) {
        rangeset_add(&t->all, end, (uint64_t)offset + frame->wire_bytes);
    }
    settle_try(t);
}

static void take_data_in(struct task *t, const struct seen *seen) {
    const struct frame *frame = &seen->frame;
    if (!seen->again) {
        t->copy = false;
        if (t->answer != NULL)
            reject_answer(t);
        t->in_end = frame->parameter + frame->wire_bytes;
    } else if (t->answer == NULL && frame->parameter < t->in_end) {
        fc_copy_proven(t->nexus->fc, seen->time_ns);
    }
    t->in_again |= seen->again;
    if (t->exchange == NULL || !tracker_wants_data_in(t->exchange))
        return;
    tracker_data_in(t->exchange, frame->parameter, frame->payload, frame->bytes);
}

/*
 * Nothing has asked for it again: what comes for the second time is the next command's. What came
 * as a copy may be none, unless this mirror makes them.
 */
static bool is_second_time(const struct task *t, const struct seen *seen) {
    const struct frame *frame = &seen->frame;
    bool copies = fc_makes_copies(t->nexus->fc, seen->time_ns);
    const struct rangeset *came = copies ? &t->sure : &t->all;
    uint32_t asked_end = copies ? t->surely_asked_end : t->asked_end;
    struct fcp_ready ready;
    struct range part;
    bool sent_again = (t->slot != NULL && t->slot->recovering) ||
                      (frame->f_ctl & (F_CTL_RETRANSMITTED | F_CTL_OFFSET)) != F_CTL_OFFSET;
    if (frame->r_ctl == R_CTL_READY)
        return fcp_ready_parse(frame->payload, frame->bytes, &ready) && ready.offset < asked_end &&
               t->slot != NULL && !t->slot->recovering;
    return !sent_again && rangeset_overlap(came, frame->parameter,
                                           (uint64_t)frame->parameter + frame->bytes, &part);
}

/*
 * The command has its response and all its data, or had this before, and something new comes: of
 * the next one, whose FCP_CMND was not seen. (A response that came too early, as a copy of an older
 * one may, is another matter.)
 */
static bool is_of_next(const struct task *t, const struct seen *seen) {
    const struct frame *frame = &seen->frame;
    bool in = frame->r_ctl == R_CTL_DATA && (frame->f_ctl & F_CTL_RESPONDER) != 0;
    bool out = frame->r_ctl == R_CTL_READY || (frame->r_ctl == R_CTL_DATA && !in);
    if (seen->again || (!in && !out))
        return false;
    if (t->withheld || t->unreadable)
        return false; /* what it asks for is not known */
    if (t->answer != NULL && t->answer->premature)
        return out && !fc_makes_copies(t->nexus->fc, seen->time_ns) && is_second_time(t, seen);
    if ((out && t->out_bytes == 0) || (in && t->in_bytes == 0))
        return true;
    if (t->answer == NULL)
        return out && t->early_ns == 0 && is_second_time(t, seen);
    /* Where a READ goes on just where it was, it was a copy of a response that came between. */
    bool goes_on = t->answer->again && frame->parameter == t->in_end &&
                   (uint64_t)frame->parameter + frame->wire_bytes <= t->in_bytes;
    return out || (t->in_end > 0 && !goes_on);
}

/* The target has given the exchange another identifier: a command before, or one not seen. */
static bool is_of_another(const struct task *t, const struct seen *seen) {
    uint16_t rx_id = seen->frame.rx_id;
    uint16_t own = t->rx_id;
    bool data = seen->frame.r_ctl == R_CTL_DATA && (seen->frame.f_ctl & F_CTL_RESPONDER) == 0;
    if (rx_id == FC_ID_UNASSIGNED)
        return false;
    if (own == FC_ID_UNASSIGNED && seen->again && data)
        return rx_id != t->maybe_rx_id; /* the request for it tells the identifier */
    if (own == FC_ID_UNASSIGNED && !fc_makes_copies(t->nexus->fc, seen->time_ns))
        own = t->maybe_rx_id;
    return own != FC_ID_UNASSIGNED && rx_id != own;
}

static void take_part(struct task *t, const struct seen *seen) {
    const struct frame *frame = &seen->frame;
    bool from_target = (frame->f_ctl & F_CTL_RESPONDER) != 0;
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
        take_response(t, seen);
        break;
    default: /* FCP_CONF: the target may forget the exchange */
        break;
    }
}

/* It is no copy: what was kept of it counts. */
static void believe(struct task *t) {
    struct seen *seen, *next;
    struct seen *kept = t->kept;
    struct fcp_command command;
    t->withheld = false;
    t->kept = NULL;
    DL_FOREACH_SAFE(kept, seen, next) {
        const struct frame *frame = &seen->frame;
        if (frame->r_ctl == R_CTL_COMMAND &&
            fcp_command_parse(frame->payload, frame->bytes, &command) == FCP_GOOD &&
            t->kind == TASK_COMMAND)
            give_command(t, &command);
        else if (frame->r_ctl != R_CTL_COMMAND)
            take_part(t, seen);
        seen_free(seen);
    }
}

static void take_frame(struct slot *s, struct seen *seen) {
    __attribute__((cleanup(free_seen))) struct seen *mine = seen;
    const struct frame *frame = &seen->frame;
    struct task *t = task_of(s, frame);
    if (frame->r_ctl == R_CTL_COMMAND) {
        take_command(s, take_pointer(&mine));
        return;
    }
    if (t != NULL && is_of_next(t, seen)) {
        settle_replaced(t, seen->time_ns);
        t = NULL;
    } else if (t != NULL && is_of_another(t, seen)) {
        if (!seen->again) /* else a copy, most likely */
            settle_replaced(t, seen->time_ns);
        t = NULL;
    }
    if (t == NULL) {
        stray_add(s, take_pointer(&mine));
        return;
    }
    if (t->withheld && seen->again) {
        keep(t, take_pointer(&mine));
        return;
    }
    if (t->withheld)
        believe(t);
    if (!seen->again && t->rx_id == FC_ID_UNASSIGNED)
        learn_rx_id(t, frame->rx_id);
    take_part(t, seen);
}

/* A login that was lost may have made the target another one. */
static struct fc_nexus *nexus_for(struct fc *f, const struct seen *seen, uint32_t initiator,
                                  uint32_t target) {
    const struct frame *frame = &seen->frame;
    struct fc_nexus *n = nexus_find(f, frame->vsan, initiator, target);
    if (seen->again || (n != NULL && n->judged == pairs_changes(f->pairs)))
        return n != NULL ? n : nexus_of(f, frame->vsan, initiator, target);
    bool judged = pairs_before_frame(f, frame, initiator, target, seen->time_ns);
    n = nexus_of(f, frame->vsan, initiator, target);
    if (n != NULL && judged)
        n->judged = pairs_changes(f->pairs);
    return n;
}

void duty_frame(struct fc *f, struct seen *seen) {
    const struct frame *frame = &seen->frame;
    bool from_target = (frame->f_ctl & F_CTL_RESPONDER) != 0;
    uint32_t initiator = from_target ? frame->d_id : frame->s_id;
    uint32_t target = from_target ? frame->s_id : frame->d_id;
    struct fc_nexus *n = nexus_for(f, seen, initiator, target);
    struct slot *s = n != NULL ? slot_of(n, frame->ox_id) : NULL;
    if (s != NULL) {
        take_frame(s, seen);
        return;
    }
    f->counters.overflow++;
    tracker_gap(f->tracker, GAP_OVERFLOW, "more ports talk than the monitor can follow",
                seen->time_ns);
    seen_free(seen);
}
