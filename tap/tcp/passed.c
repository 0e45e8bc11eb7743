#include "tap/tcp/passed.h"

#include <stdlib.h>
#include <string.h>

enum { FEW_RUNS = 8 };

static void lose(struct passed_run *run, const struct passed_doubt *doubt) {
    run->disputed = false;
    if (!run->lost)
        doubt->found(doubt->context, run->given.start, run->given.end);
    run->lost = true;
}

/* Had the receiver the bytes before it got this copy of them? */
static bool came_too_late(const struct passed_run *run, const struct passed_copy *copy) {
    if (run->answered_ns == 0)
        return false;
    const struct ack answer = {
        .time_ns = run->answered_ns, .echo = run->echo, .stamped = run->echoed};
    const struct ack_copy sent = {copy->time_ns, copy->stamp, copy->stamped, copy->again};
    return acks_sent_later(&sent, &answer);
}

/* What an acknowledgement says of the copy that was given, and of the other one. */
static void judge(struct passed_run *run, const struct passed_doubt *doubt) {
    if (run->given.again && came_too_late(run, &run->given))
        lose(run, doubt);
    if (run->disputed && !came_too_late(run, &run->other))
        lose(run, doubt);
    run->disputed = false;
}

static void drop_oldest(struct passed *p, uint32_t runs, const struct passed_doubt *doubt) {
    for (uint32_t i = 0; i < runs; i++)
        if (p->runs[i].disputed)
            lose(&p->runs[i], doubt);
    p->count -= runs;
    p->unanswered -= p->unanswered < runs ? p->unanswered : runs;
    memmove(p->runs, p->runs + runs, p->count * sizeof *p->runs);
}

static bool resize(struct passed *p, uint32_t capacity, struct passed_budget *budget) {
    size_t others = budget->runs - p->capacity;
    if (capacity > PASSED_MOST || (capacity > p->capacity && others + capacity > budget->most))
        return false;
    struct passed_run *runs = realloc(p->runs, capacity * sizeof *runs);
    if (runs == NULL)
        return false;
    budget->runs = others + capacity;
    p->runs = runs;
    p->capacity = capacity;
    return true;
}

static bool grow(struct passed *p, struct passed_budget *budget) {
    return resize(p, p->capacity > 0 ? p->capacity * 2 : FEW_RUNS, budget);
}

static bool make_room(struct passed *p, const struct passed_doubt *doubt) {
    uint32_t old = 0;
    if (p->count < p->capacity)
        return true;
    while (old < p->count && p->runs[old].seen_ns < doubt->old_ns)
        old++;
    if (old == 0 && grow(p, doubt->budget))
        return true;
    if (p->count == 0)
        return false;
    drop_oldest(p, old > 0 ? old : p->count / 4, doubt);
    if (p->capacity > FEW_RUNS && p->count < p->capacity / 4)
        resize(p, p->capacity / 2, doubt->budget);
    return p->count < p->capacity;
}

/* Is the same known of both, the one behind the other? */
static bool are_alike(const struct passed_run *a, const struct passed_run *b) {
    const struct passed_copy *x = &a->given;
    const struct passed_copy *y = &b->given;
    bool together = x->stamped || y->time_ns - x->time_ns < ACKS_TOGETHER_NS;
    return x->end == y->start && x->stamped == y->stamped && x->stamp == y->stamp &&
           x->again == y->again && together && a->echoed == b->echoed && a->echo == b->echo &&
           !a->disputed && !b->disputed && !a->compared && !b->compared && a->lost == b->lost;
}

/* The last two, when both were answered, so that there is one for each millisecond. */
static void join_last(struct passed *p) {
    if (p->count < 2 || p->unanswered < p->count)
        return;
    struct passed_run *last = &p->runs[p->count - 1];
    struct passed_run *before = last - 1;
    if (!are_alike(before, last))
        return;
    before->given.end = last->given.end;
    before->seen_ns = last->seen_ns;
    before->answered_ns = last->answered_ns;
    p->count--;
    p->unanswered--;
}

void passed_note(struct passed *p, const struct passed_copy *given, uint64_t now_ns,
                 const struct passed_doubt *doubt) {
    join_last(p);
    if (!make_room(p, doubt))
        return;
    if (given->stamped && (p->count == 0 || acks_stamp_is_later(given->stamp, p->newest_stamp)))
        p->newest_stamp = given->stamp;
    p->runs[p->count++] = (struct passed_run){.given = *given, .seen_ns = now_ns};
}

/* Run `i` is made two, the first of which ends at `at`. False without room: it stays one. */
static bool split(struct passed *p, uint32_t i, uint64_t at, const struct passed_doubt *doubt) {
    if (p->count == p->capacity && !grow(p, doubt->budget))
        return false;
    memmove(p->runs + i + 1, p->runs + i, (p->count - i) * sizeof *p->runs);
    p->count++;
    p->runs[i].given.end = at;
    p->runs[i + 1].given.start = at;
    p->unanswered += i < p->unanswered ? 1 : 0;
    return true;
}

static void answer(struct passed_run *run, const struct tcp_segment *acknowledgement,
                   const struct passed_doubt *doubt) {
    if (run->answered_ns == 0)
        run->answered_ns = acknowledgement->time_ns > 0 ? acknowledgement->time_ns : 1;
    if (acknowledgement->stamped &&
        (!run->echoed || acks_stamp_is_later(run->echo, acknowledgement->echo))) {
        run->echo = acknowledgement->echo;
        run->echoed = true;
    }
    judge(run, doubt);
}

/* One that comes late, and echoes less than those before it, says more of what they were for. */
static void answer_earlier(struct passed *p, uint64_t end,
                           const struct tcp_segment *acknowledgement,
                           const struct passed_doubt *doubt) {
    for (uint32_t i = 0; i < p->unanswered && p->runs[i].given.start < end; i++) {
        if (p->runs[i].given.end > end && !split(p, i, end, doubt))
            return;
        answer(&p->runs[i], acknowledgement, doubt);
    }
}

void passed_answer(struct passed *p, uint64_t end, const struct tcp_segment *acknowledgement,
                   const struct passed_doubt *doubt) {
    bool stamped = acknowledgement->stamped;
    if (stamped && p->unanswered > 0 && acks_stamp_is_later(p->newest_echo, acknowledgement->echo))
        answer_earlier(p, end, acknowledgement, doubt);
    else if (stamped)
        p->newest_echo = acknowledgement->echo;
    while (p->unanswered < p->count && p->runs[p->unanswered].given.start < end) {
        const struct passed_copy *given = &p->runs[p->unanswered].given;
        /* In part: of interest only when it may not have been this copy. */
        if (given->end > end &&
            (!stamped || !acks_stamp_is_later(given->stamp, acknowledgement->echo) ||
             !split(p, p->unanswered, end, doubt)))
            return;
        answer(&p->runs[p->unanswered++], acknowledgement, doubt);
    }
}

void passed_behind(struct passed *p, uint64_t offset, uint32_t stamp,
                   const struct passed_doubt *doubt) {
    for (uint32_t i = 0; i < p->count && p->runs[i].given.end <= offset; i++) {
        struct passed_run *run = &p->runs[i];
        if (!run->given.stamped || run->given.again ||
            !acks_stamp_is_later(run->given.stamp, stamp))
            continue;
        run->given.again = true;
        if (came_too_late(run, &run->given))
            lose(run, doubt);
    }
}

uint64_t passed_start(const struct passed *p) {
    return p->count > 0 ? p->runs[0].given.start : UINT64_MAX;
}

/* The first run that ends behind `offset`. */
static uint32_t run_at(const struct passed *p, uint64_t offset) {
    uint32_t low = 0;
    uint32_t high = p->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (p->runs[middle].given.end > offset)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Was it sent after what lies behind it? */
static bool is_again(const struct passed *p, const struct passed_copy *copy) {
    uint32_t i = run_at(p, copy->end);
    if (copy->again || i == p->count)
        return copy->again;
    const struct passed_copy *behind = &p->runs[i].given;
    return copy->stamped && behind->stamped && acks_stamp_is_later(copy->stamp, behind->stamp);
}

static bool was_given_first(const struct passed_run *run, const struct passed_copy *copy) {
    return !copy->stamped || !run->given.stamped ||
           !acks_stamp_is_later(run->given.stamp, copy->stamp);
}

static void dispute(struct passed_run *run, const struct passed_copy *copy,
                    const struct passed_doubt *doubt) {
    bool given_first = was_given_first(run, copy);
    if (given_first && came_too_late(run, copy))
        return;
    /* Of three that differ, nobody tells which. */
    if (!given_first || run->answered_ns > 0 || run->disputed) {
        lose(run, doubt);
        return;
    }
    run->disputed = true;
    run->other = *copy;
}

/*
 * The command has ended, so that the target had the bytes when it said so. A mirror shows a copy
 * that was taken before that, unless it delivers one direction later than the other, and then the
 * acknowledgement echoes that copy: with an older echo, it was not needed.
 */
static void dispute_forgotten(struct passed_run *run, const struct passed_copy *copy,
                              const struct passed_doubt *doubt) {
    bool known =
        (run->compared && run->compared_stamp == copy->stamp) || run->seen_ns < doubt->old_ns;
    if (!copy->stamped || !run->given.stamped || run->given.stamp == copy->stamp || known)
        return;
    if (was_given_first(run, copy) && run->echoed && acks_stamp_is_later(copy->stamp, run->echo))
        return;
    lose(run, doubt);
}

static void compare_equal(struct passed_run *run, const struct passed_copy *copy,
                          const struct passed_doubt *doubt) {
    (void)doubt;
    if (!copy->stamped || run->given.stamp == copy->stamp)
        return;
    run->compared = true;
    run->compared_stamp = copy->stamp;
}

/* Does it for all runs that lie within the copy; exact: not for those that do so in part. */
static void each_run(struct passed *p, const struct passed_copy *copy, bool exact,
                     const struct passed_doubt *doubt,
                     void (*act)(struct passed_run *run, const struct passed_copy *copy,
                                 const struct passed_doubt *doubt)) {
    struct passed_copy all = *copy;
    all.again = is_again(p, copy);
    for (uint32_t i = run_at(p, copy->start); i < p->count && p->runs[i].given.start < copy->end;
         i++) {
        if (p->runs[i].given.start < copy->start && split(p, i, copy->start, doubt))
            continue;
        bool within = p->runs[i].given.start >= copy->start;
        if (p->runs[i].given.end > copy->end)
            within = split(p, i, copy->end, doubt) && within;
        if (within || !exact)
            act(&p->runs[i], &all, doubt);
    }
}

/* A duplicate of what was given says nothing, and need not split the run. */
static bool is_duplicate(const struct passed *p, const struct passed_copy *copy) {
    uint32_t i = run_at(p, copy->start);
    return i == p->count || !copy->stamped ||
           (p->runs[i].given.end >= copy->end && p->runs[i].given.stamp == copy->stamp);
}

void passed_equals(struct passed *p, const struct passed_copy *copy,
                   const struct passed_doubt *doubt) {
    if (!is_duplicate(p, copy))
        each_run(p, copy, true, doubt, compare_equal);
}

void passed_differs(struct passed *p, const struct passed_copy *copy,
                    const struct passed_doubt *doubt) {
    each_run(p, copy, false, doubt, dispute);
}

void passed_forgotten(struct passed *p, const struct passed_copy *copy,
                      const struct passed_doubt *doubt) {
    if (!is_duplicate(p, copy))
        each_run(p, copy, false, doubt, dispute_forgotten);
}

void passed_release(struct passed *p, struct passed_budget *budget) {
    budget->runs -= p->capacity;
    free(p->runs);
    *p = (struct passed){0};
}
