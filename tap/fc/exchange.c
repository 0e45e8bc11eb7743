#include "tap/fc/internal.h"

#include <utlist.h>

struct slot *slot_find(struct fc_nexus *n, uint16_t ox_id) {
    struct slot *s = NULL;
    HASH_FIND(hh, n->slots, &ox_id, sizeof ox_id, s);
    return s;
}

static void use(struct slot *s) {
    struct fc *f = s->nexus->fc;
    if (f->slots->prev == s)
        return;
    DL_DELETE(f->slots, s);
    DL_APPEND(f->slots, s);
}

static void make_room(struct fc *f) {
    if (f->slot_count < MAX_SLOTS)
        return;
    struct slot *s = f->slots;
    f->counters.overflow++;
    if (s->now != NULL)
        task_abandon(s->now, GAP_OVERFLOW, "more exchanges than the monitor can follow",
                     s->now->issued_ns);
    slot_destroy(s);
}

struct slot *slot_of(struct fc_nexus *n, uint16_t ox_id) {
    struct fc *f = n->fc;
    struct slot *s = slot_find(n, ox_id);
    if (s != NULL) {
        use(s);
        return s;
    }
    make_room(f);
    s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->ox_id = ox_id;
    s->nexus = n;
    HASH_ADD(hh, n->slots, ox_id, sizeof s->ox_id, s);
    if (s->hh.tbl == NULL) {
        free(s);
        return NULL;
    }
    DL_APPEND(f->slots, s);
    f->slot_count++;
    return s;
}

void slot_destroy(struct slot *s) {
    struct fc_nexus *n = s->nexus;
    if (s->now != NULL)
        task_detach(s->now);
    if (s->past != NULL)
        task_detach(s->past);
    stray_clear(s);
    DL_DELETE(n->fc->slots, s);
    n->fc->slot_count--;
    HASH_DEL(n->slots, s);
    free(s);
}

static void make_task_room(struct fc *f) {
    if (f->task_count < MAX_TASKS)
        return;
    struct task *t = f->doubted != NULL ? f->doubted : f->open;
    f->counters.overflow++;
    if (t != NULL)
        task_abandon(t, GAP_OVERFLOW, "more commands open than the monitor can follow",
                     t->issued_ns);
}

struct task *task_begin(struct slot *s, enum task_kind kind, const struct seen *seen) {
    struct fc *f = s->nexus->fc;
    make_task_room(f);
    struct task *t = calloc(1, sizeof *t);
    if (t == NULL)
        return NULL;
    t->slot = s;
    t->nexus = s->nexus;
    t->kind = kind;
    t->issued_ns = seen->time_ns;
    t->last_ns = seen->time_ns;
    t->checksum = seen->frame.checksum;
    t->rx_id = t->maybe_rx_id = t->unsure_rx_id = FC_ID_UNASSIGNED;
    t->copy = seen->again;
    rangeset_init(&t->sure, MAX_DATA_RANGES);
    rangeset_init(&t->all, MAX_DATA_RANGES);
    rangeset_init(&t->contested, MAX_DATA_RANGES);
    DL_APPEND2(s->nexus->tasks, t, prev, next);
    DL_APPEND2(f->open, t, open_prev, open_next);
    f->task_count++;
    s->now = t;
    return t;
}

void task_detach(struct task *t) {
    struct slot *s = t->slot;
    t->slot = NULL;
    if (s == NULL)
        return;
    if (s->now == t)
        s->now = NULL;
    if (s->past == t)
        s->past = NULL;
}

/* What the frames that are still to come of it may look like. */
static void write_epitaph(const struct task *t) {
    struct slot *s = t->slot;
    if (s == NULL || s->now != t)
        return;
    s->epitaph = (struct epitaph){
        .time_ns = t->answer != NULL ? t->answer->time_ns : t->nexus->fc->clock_ns,
        .rx_id = t->rx_id,
        .seq_id = t->seq_id,
        .seq_cnt = t->seq_cnt,
        .cut_short = t->answer != NULL && t->answer->response.status != 0 && !task_is_complete(t),
        .aborted = t->answer == NULL && t->aborted_ns > 0,
        .answer_checksum = t->answer != NULL ? t->answer->checksum : 0,
    };
}

static void leave_list(struct task *t) {
    struct fc *f = t->nexus->fc;
    if (t->answer != NULL)
        DL_DELETE2(f->answered, t, wait_prev, wait_next);
    else if (t->doubted)
        DL_DELETE2(f->doubted, t, open_prev, open_next);
    else
        DL_DELETE2(f->open, t, open_prev, open_next);
}

void task_end(struct task *t) {
    write_epitaph(t);
    task_detach(t);
    leave_list(t);
    DL_DELETE2(t->nexus->tasks, t, prev, next);
    t->nexus->fc->task_count--;
    rangeset_release(&t->sure);
    rangeset_release(&t->all);
    rangeset_release(&t->contested);
    struct seen *seen, *next;
    DL_FOREACH_SAFE(t->kept, seen, next) {
        seen_free(seen);
    }
    free(t->answer);
    free(t);
}

void task_abandon(struct task *t, uint16_t reason, const char *text, uint64_t time_ns) {
    if (t->exchange != NULL)
        tracker_abandon(t->exchange, reason, text, time_ns);
    task_end(t);
}

static bool has_all(const struct task *t, const struct rangeset *have) {
    uint64_t bytes = t->out_bytes;
    if (t->answer != NULL && t->answer->response.underflow)
        bytes -= t->answer->response.residual < bytes ? t->answer->response.residual : bytes;
    return t->exchange == NULL || rangeset_contains(have, 0, bytes);
}

bool task_is_complete(const struct task *t) {
    return has_all(t, &t->all);
}

bool task_is_surely_complete(const struct task *t) {
    return has_all(t, &t->sure);
}

void task_answer(struct task *t, struct answer *answer) {
    leave_list(t);
    t->answer = answer;
    if (t->exchange != NULL)
        tracker_ended_at(t->exchange, answer->time_ns);
    DL_APPEND2(t->nexus->fc->answered, t, wait_prev, wait_next);
}

struct answer *task_unanswer(struct task *t) {
    struct fc *f = t->nexus->fc;
    struct answer *answer = t->answer;
    leave_list(t);
    t->answer = NULL;
    if (t->exchange != NULL)
        tracker_ended_at(t->exchange, 0);
    if (t->doubted)
        DL_APPEND2(f->doubted, t, open_prev, open_next);
    else
        DL_PREPEND2(f->open, t, open_prev, open_next);
    return answer;
}

void task_forget_unsure(struct task *t) {
    uint64_t end = t->out_bytes;
    struct range part = {0, 0};
    while (part.end < end && rangeset_missing(&t->sure, part.end, end, &part)) {
        if (t->exchange != NULL)
            tracker_data_out_dispute(t->exchange, part.start, part.end - part.start);
        rangeset_remove(&t->all, part.start, part.end);
    }
    t->asked_end = t->surely_asked_end;
    t->unsure_rx_id = FC_ID_UNASSIGNED;
    t->unsure_mixed = false;
}

void task_doubt_all(struct task *t) {
    if (t->exchange != NULL && t->out_bytes > 0)
        tracker_data_out_lost(t->exchange, 0, t->out_bytes);
}
