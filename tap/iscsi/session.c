#include "tap/iscsi/internal.h"

#include <stdio.h>
#include <utlist.h>

struct task *session_task(struct session *s, uint32_t tag) {
    struct task *task = NULL;
    HASH_FIND(hh, s->tasks, &tag, sizeof tag, task);
    return task;
}

/* A flow that is in the middle of this task's data must not go on using it. */
static void forget_in_flows(const struct task *task) {
    for (int direction = 0; direction < 2; direction++) {
        struct flow *flow = &task->connection->flows[direction];
        if (flow->task == task)
            flow->task = NULL;
    }
}

void session_task_move(struct task *task, struct connection *to) {
    forget_in_flows(task);
    task->connection = to;
}

void session_task_end(struct session *s, struct task *task) {
    forget_in_flows(task);
    HASH_DEL(s->tasks, task);
    s->owner->task_count--;
    free(task);
}

void session_task_abandon(struct session *s, struct task *task, uint16_t reason, const char *text,
                          uint64_t time_ns) {
    if (task->exchange != NULL)
        tracker_abandon(task->exchange, reason, text, time_ns);
    session_task_end(s, task);
}

void session_abandon(struct session *s, const struct connection *c, const uint64_t *lun,
                     uint16_t reason, const char *text, uint64_t time_ns) {
    struct task *task, *next;
    HASH_ITER(hh, s->tasks, task, next) {
        if (task->kind != TASK_COMMAND || (c != NULL && task->connection != c) ||
            (lun != NULL && task->lun != *lun))
            continue;
        session_task_abandon(s, task, reason, text, time_ns);
    }
}

static void make_room(struct session *s, uint64_t time_ns) {
    if (s->owner->task_count < MAX_TASKS || s->tasks == NULL)
        return;
    session_task_abandon(s, s->tasks, GAP_OVERFLOW, "more tasks open than the monitor can follow",
                         time_ns);
}

struct task *session_task_begin(struct connection *c, uint32_t tag, enum task_kind kind,
                                uint64_t lun, uint64_t time_ns) {
    struct session *s = c->session;
    struct task *before = session_task(s, tag);
    /* One in doubt ended when it came to be in doubt: the gap is there already. */
    if (before != NULL && before->doubted)
        session_task_abandon(s, before, 0, NULL, time_ns);
    else if (before != NULL)
        session_task_abandon(s, before, GAP_STREAM_HOLE,
                             "its task tag came again before its status was seen", time_ns);
    make_room(s, time_ns);
    struct task *task = malloc(sizeof *task);
    if (task == NULL)
        return NULL;
    *task = (struct task){.tag = tag, .kind = kind, .lun = lun, .connection = c};
    HASH_ADD(hh, s->tasks, tag, sizeof task->tag, task);
    if (task->hh.tbl == NULL) {
        free(task);
        return NULL;
    }
    s->owner->task_count++;
    return task;
}

static void doubt_tasks(struct session *s, const uint64_t *lun, uint16_t reason, const char *text,
                        uint64_t time_ns) {
    struct task *task, *next;
    HASH_ITER(hh, s->tasks, task, next) {
        if (task->exchange == NULL || (lun != NULL && task->lun != *lun))
            continue;
        task->doubted = true;
        tracker_doubt(task->exchange, reason, text, time_ns);
    }
}

void session_doubt_others(struct session *s, const uint64_t *lun, uint16_t reason, const char *text,
                          uint64_t time_ns) {
    for (struct session *other = s->owner->sessions; other != NULL; other = other->next) {
        if (other == s || strcmp(other->target, s->target) != 0)
            continue;
        doubt_tasks(other, lun, reason, text, time_ns);
        if (continuity_unseen(other, time_ns))
            tracker_nexus_gap(other->nexus, reason, text, time_ns);
    }
}

void session_data_lost(struct session *s, const struct connection *c) {
    struct task *task, *next;
    HASH_ITER(hh, s->tasks, task, next) {
        if ((c == NULL || task->connection == c) && task->exchange != NULL)
            tracker_data_out_lost(task->exchange, 0, UINT32_MAX);
    }
}

static bool is_same_session(const struct session *s, const struct connection *c,
                            const struct login_result *result) {
    bool same_group = s->portal_group == result->portal_group;
    return s->current && s->isid == c->isid && same_group &&
           strcmp(s->initiator, result->initiator) == 0 && strcmp(s->target, result->target) == 0;
}

/* Takes the nexus, which may be NULL: out of memory. */
static struct session *session_create(struct iscsi *i, struct nexus *nexus, const char *initiator,
                                      const char *target) {
    struct session *s = nexus != NULL ? calloc(1, sizeof *s) : NULL;
    if (s == NULL) {
        tracker_nexus_close(nexus, 0, NULL, 0);
        return NULL;
    }
    s->nexus = nexus;
    s->owner = i;
    s->current = true;
    command_numbers_init(&s->commands);
    snprintf(s->initiator, sizeof s->initiator, "%s", initiator);
    snprintf(s->target, sizeof s->target, "%s", target);
    DL_APPEND(i->sessions, s);
    return s;
}

static struct session *create_known(struct connection *c, const struct login_result *result) {
    struct iscsi *i = c->owner;
    struct nexus *nexus =
        tracker_nexus_open(i->tracker, PATH_ISCSI, result->initiator, result->target);
    struct session *s = session_create(i, nexus, result->initiator, result->target);
    if (s == NULL)
        return NULL;
    s->isid = c->isid;
    s->portal_group = result->portal_group;
    s->error_recovery_level = result->error_recovery_level;
    s->single = result->max_connections <= 1;
    return s;
}

void session_add_connection(struct session *s, struct connection *c) {
    if (s->connections != NULL)
        s->several = true;
    c->session = s;
    DL_APPEND2(s->connections, c, session_prev, session_next);
}

struct session *session_restore(struct iscsi *i, const char *initiator, const char *target) {
    struct nexus *nexus = tracker_nexus_open(i->tracker, PATH_ISCSI, initiator, target);
    struct session *s = session_create(i, nexus, initiator, target);
    if (s != NULL)
        s->restored = true;
    return s;
}

struct session *session_enter_late(struct connection *c, const char *initiator,
                                   const char *address) {
    struct iscsi *i = c->owner;
    struct nexus *nexus =
        tracker_nexus_open_provisional(i->tracker, PATH_ISCSI, initiator, address);
    struct session *s = session_create(i, nexus, initiator, address);
    if (s == NULL)
        return NULL;
    s->late = true;
    session_add_connection(s, c);
    return s;
}

/*
 * RFC 7143 6.3.4: a connection that logs in again under its number takes the place of the old one,
 * whose tasks are over (or go on here, after a reassignment, on recovery level 2).
 */
static void reinstate_connection(struct session *s, const struct connection *c, uint64_t time_ns) {
    if (s->error_recovery_level >= 2)
        return;
    for (struct connection *old = s->connections; old != NULL; old = old->session_next) {
        if (old->id == c->id)
            session_abandon(s, old, NULL, GAP_NEXUS_LOST,
                            "its connection was logged in again before its status was seen",
                            time_ns);
    }
}

struct session *session_enter(struct connection *c, const struct login_result *result,
                              uint64_t time_ns) {
    struct session *s = c->owner->sessions;
    while (s != NULL && !is_same_session(s, c, result))
        s = s->next;
    if (s != NULL && c->tsih == 0) {
        /* The old session's connections may still be there, but nothing on them counts any more. */
        session_abandon(s, NULL, NULL, GAP_NEXUS_LOST,
                        "its session was logged in again before its status was seen", time_ns);
        s->current = false;
        s = NULL;
    }
    if (s == NULL)
        s = create_known(c, result);
    else
        reinstate_connection(s, c, time_ns);
    if (s != NULL)
        session_add_connection(s, c);
    return s;
}

static void session_destroy(struct session *s, uint16_t reason, const char *text,
                            uint64_t time_ns) {
    struct task *task, *next;
    tracker_nexus_close(s->nexus, reason, text, time_ns);
    HASH_ITER(hh, s->tasks, task, next) {
        HASH_DEL(s->tasks, task);
        s->owner->task_count--;
        free(task);
    }
    DL_DELETE(s->owner->sessions, s);
    continuity_end(s);
    command_numbers_release(&s->commands);
    probe_free(s);
    free(s);
}

/* Tasks that may be reassigned stay with the session, and on no connection that is still there. */
static void entrust_tasks(struct session *s, const struct connection *from, struct connection *to) {
    struct task *task, *next;
    HASH_ITER(hh, s->tasks, task, next) {
        if (task->connection == from)
            session_task_move(task, to);
    }
}

void session_leave(struct connection *c, uint16_t reason, const char *text, uint64_t time_ns) {
    struct session *s = c->session;
    if (s == NULL)
        return;
    c->session = NULL;
    DL_DELETE2(s->connections, c, session_prev, session_next);
    if (s->connections == NULL) {
        /* On recovery level 2 its tasks may go on with data that is not seen to be theirs. */
        if (s->error_recovery_level >= 2 && reason != 0)
            session_data_lost(s, NULL);
        if (reason != 0 && !s->logged_out && continuity_unseen(s, time_ns))
            tracker_nexus_gap(s->nexus, reason,
                              "commands may have been in flight that passed unseen", time_ns);
        if (s->restored)
            resume_break(s->owner, s->target);
        session_destroy(s, reason, text, time_ns);
        return;
    }
    if (s->error_recovery_level < 2)
        session_abandon(s, c, NULL, reason, text, time_ns);
    entrust_tasks(s, c, s->connections);
}

void sessions_release(struct iscsi *i) {
    while (i->sessions != NULL)
        session_destroy(i->sessions, 0, NULL, 0);
}
