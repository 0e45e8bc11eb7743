#include "common/clock.h"
#include "tap/iscsi/internal.h"

/* How long a command's number may be missing because it came on another connection. */
#define ELSEWHERE_NS NS_PER_SECOND

bool continuity_unseen(const struct session *s, uint64_t time_ns) {
    if (s->late && time_ns < s->joined_ns + UNSEEN_LIFE_NS)
        return true;
    return command_numbers_missing(&s->commands) > s->unseen_ended;
}

void continuity_count_unseen(struct session *s) {
    /* One that began before anything was known of the numbers is none of those that are missing. */
    if (s->unseen_ended < command_numbers_missing(&s->commands))
        s->unseen_ended++;
}

static void set_jumped(struct session *s, uint64_t since_ns) {
    s->owner->jumped_count += (size_t)(since_ns > 0);
    s->owner->jumped_count -= (size_t)(s->jumped_ns > 0);
    s->jumped_ns = since_ns;
}

void continuity_end(struct session *s) {
    set_jumped(s, 0);
}

static void doubt_function(struct session *s, const struct task *request, uint64_t since_ns);

void continuity_statuses_lost(struct connection *c, uint64_t since_ns) {
    static const char text[] = "its status may have passed unseen";
    struct session *s = c->session;
    if (s == NULL)
        return;
    struct task *task, *next;
    HASH_ITER(hh, s->tasks, task, next) {
        if (task->connection != c)
            continue;
        task->doubted = true;
        if (task->exchange != NULL)
            tracker_doubt(task->exchange, GAP_STREAM_HOLE, text, since_ns);
        if (task->kind == TASK_MANAGEMENT)
            doubt_function(s, task, since_ns);
    }
    if (continuity_unseen(s, since_ns))
        tracker_nexus_gap(s->nexus, GAP_STREAM_HOLE,
                          "a command may have ended of which nothing was seen", since_ns);
}

static bool reaches_other_sessions(uint8_t function) {
    return function == TASK_CLEAR_TASK_SET || function == TASK_LOGICAL_UNIT_RESET ||
           function == TASK_TARGET_WARM_RESET || function == TASK_TARGET_COLD_RESET;
}

/* It may have been done: commands that it ends may have been done in part. */
static void doubt_function(struct session *s, const struct task *request, uint64_t since_ns) {
    if (!reaches_other_sessions(request->function))
        return; /* those of its own session are in doubt with it */
    const uint64_t *lun = request->function < TASK_TARGET_WARM_RESET ? &request->lun : NULL;
    session_doubt_others(s, lun, GAP_STREAM_HOLE, "a reset may have ended it", since_ns);
}

/* Nothing that was known of the numbers holds. */
static void lose_count(struct connection *c, uint64_t since_ns) {
    c->owner->counters.malformed++;
    tracker_nexus_gap(c->session->nexus, GAP_STREAM_HOLE,
                      "sequence numbers that do not go on: commands may have been missed",
                      since_ns);
}

/*
 * Numbers are missing. Behind a hole that is no surprise: the commands will be noticed when they
 * end. Otherwise they passed on a connection that is not seen, or is not seen yet.
 */
static void jumped(struct connection *c, bool torn, uint64_t time_ns) {
    struct session *s = c->session;
    if (torn)
        return;
    if (s->several) {
        if (s->jumped_ns == 0)
            set_jumped(s, s->contiguous_ns > 0 ? s->contiguous_ns : time_ns);
        return;
    }
    tracker_nexus_gap(s->nexus, GAP_STREAM_HOLE,
                      "commands of this session pass on a connection that the monitor does not see",
                      s->contiguous_ns);
}

static void check_command(struct connection *c, const struct pdu_numbers *n, bool torn,
                          uint64_t time_ns) {
    struct session *s = c->session;
    /* Where nothing can be missing, a number that is not due is the initiator's own fault, and the
     * target takes no notice of the command (RFC 7143 4.2.2.1). */
    if (s->single && !torn && s->commands.known &&
        pdu_serial_distance((uint32_t)s->commands.next, n->number) > 0)
        return;
    enum numbers_step step = n->counts ? command_numbers_take(&s->commands, n->number)
                                       : command_numbers_reach(&s->commands, n->number);
    bool wrong = step == NUMBERS_WILD || step == NUMBERS_AHEAD;
    if (wrong && s->restored)
        resume_break(s->owner, s->target);
    if (step == NUMBERS_WILD)
        lose_count(c, torn ? c->flows[TCP_TO_SERVER].torn_ns : s->contiguous_ns);
    else if (step == NUMBERS_AHEAD)
        jumped(c, torn, time_ns);
    if (command_numbers_missing(&s->commands) == 0) {
        set_jumped(s, 0);
        s->contiguous_ns = time_ns;
    }
}

static void check_of_initiator(struct connection *c, uint64_t time_ns) {
    struct flow *flow = &c->flows[TCP_TO_SERVER];
    struct pdu_numbers n = pdu_numbers(flow->framer.head);
    if (!n.has_number)
        return; /* Data-Out: it says nothing of what was missed */
    check_command(c, &n, flow->torn, time_ns);
    flow->torn = false;
}

static void check_of_target(struct connection *c, uint64_t time_ns) {
    struct flow *flow = &c->flows[TCP_TO_CLIENT];
    struct pdu_numbers n = pdu_numbers(flow->framer.head);
    uint32_t lost = 0;
    if (n.has_expected && c->session->commands.known) {
        struct pdu_numbers reached = {.number = n.expected};
        check_command(c, &reached, flow->torn || c->flows[TCP_TO_SERVER].torn, time_ns);
    }
    if (!n.has_number)
        return;
    enum numbers_step step = status_numbers_see(&c->statuses, n.number, n.counts, &lost);
    c->repeated = step == NUMBERS_BEHIND;
    uint64_t since_ns = flow->torn ? flow->torn_ns : flow->last_ns;
    flow->torn = false;
    if (step == NUMBERS_WILD)
        lose_count(c, since_ns);
    if (step != NUMBERS_WILD && lost == 0)
        return;
    if (c->session->restored)
        resume_break(c->owner, c->session->target);
    continuity_statuses_lost(c, since_ns);
}

void continuity_check(struct connection *c, enum tcp_direction direction, uint64_t time_ns) {
    struct flow *flow = &c->flows[direction];
    if (direction == TCP_TO_SERVER)
        check_of_initiator(c, time_ns);
    else
        check_of_target(c, time_ns);
    flow->last_ns = time_ns;
    if (!flow->restored || flow->torn)
        return;
    flow->restored = false;
    resume_check(c->session, time_ns);
}

void continuity_tick(struct iscsi *i, uint64_t now_ns) {
    if (i->jumped_count == 0)
        return;
    for (struct session *s = i->sessions; s != NULL; s = s->next) {
        if (s->jumped_ns == 0 || now_ns < s->jumped_ns + ELSEWHERE_NS)
            continue;
        tracker_nexus_gap(
            s->nexus, GAP_STREAM_HOLE,
            "commands of this session pass on a connection that the monitor does not see",
            s->jumped_ns);
        set_jumped(s, 0);
        s->contiguous_ns = now_ns;
        s->unseen_ended += command_numbers_missing(&s->commands);
        command_numbers_forget(&s->commands);
    }
}

uint64_t continuity_oldest(const struct iscsi *i) {
    uint64_t oldest_ns = UINT64_MAX;
    if (i->jumped_count == 0)
        return oldest_ns;
    for (const struct session *s = i->sessions; s != NULL; s = s->next) {
        if (s->jumped_ns > 0 && s->jumped_ns < oldest_ns)
            oldest_ns = s->jumped_ns;
    }
    return oldest_ns;
}
