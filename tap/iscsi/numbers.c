#include "tap/iscsi/numbers.h"

#include "tap/iscsi/pdu.h"

/* Farther ahead or behind than any window of commands: another session, or nonsense. */
enum { FARTHEST = 1 << 20 };

void command_numbers_init(struct command_numbers *n) {
    *n = (struct command_numbers){0};
    rangeset_init(&n->missing, NUMBERS_RANGES);
}

void command_numbers_release(struct command_numbers *n) {
    rangeset_release(&n->missing);
}

void command_numbers_forget(struct command_numbers *n) {
    n->known = false;
    rangeset_clear(&n->missing);
}

static void start(struct command_numbers *n, uint32_t next) {
    rangeset_clear(&n->missing);
    n->known = true;
    n->next = (UINT64_C(1) << 32) | next; /* so that numbers before it are there, too */
}

static bool is_wild(int32_t ahead) {
    return ahead >= FARTHEST || ahead <= -FARTHEST;
}

enum numbers_step command_numbers_reach(struct command_numbers *n, uint32_t number) {
    if (!n->known) {
        start(n, number);
        return NUMBERS_FIRST;
    }
    int32_t ahead = pdu_serial_distance((uint32_t)n->next, number);
    if (is_wild(ahead)) {
        command_numbers_forget(n);
        return NUMBERS_WILD;
    }
    if (ahead <= 0)
        return ahead == 0 ? NUMBERS_NEXT : NUMBERS_BEHIND;
    uint64_t end = n->next + (uint64_t)ahead;
    if (!rangeset_add(&n->missing, n->next, end)) {
        command_numbers_forget(n);
        return NUMBERS_WILD;
    }
    n->next = end;
    return NUMBERS_AHEAD;
}

enum numbers_step command_numbers_take(struct command_numbers *n, uint32_t number) {
    enum numbers_step step = command_numbers_reach(n, number);
    if (step == NUMBERS_WILD)
        return step;
    if (step == NUMBERS_BEHIND) {
        uint64_t behind = (uint64_t) - (int64_t)pdu_serial_distance((uint32_t)n->next, number);
        uint64_t wide = n->next - behind;
        if (rangeset_remove(&n->missing, wide, wide + 1))
            return step;
        command_numbers_forget(n); /* too many pieces: what is missing cannot be told any more */
        return NUMBERS_WILD;
    }
    n->next++;
    return step;
}

uint64_t command_numbers_missing(const struct command_numbers *n) {
    return rangeset_total(&n->missing);
}

enum numbers_step status_numbers_see(struct status_numbers *n, uint32_t number, bool counts,
                                     uint32_t *lost) {
    bool known = n->known;
    int32_t ahead = known ? pdu_serial_distance(n->next, number) : 0;
    *lost = 0;
    if (ahead < 0 && !is_wild(ahead))
        return NUMBERS_BEHIND;
    n->known = true;
    n->next = number + (counts ? 1 : 0);
    if (!known)
        return NUMBERS_FIRST;
    if (is_wild(ahead))
        return NUMBERS_WILD;
    *lost = (uint32_t)ahead;
    return ahead > 0 ? NUMBERS_AHEAD : NUMBERS_NEXT;
}
