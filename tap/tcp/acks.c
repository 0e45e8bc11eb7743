#include "tap/tcp/acks.h"

#include <stdlib.h>
#include <string.h>

enum { FEW_ACKS = 16 };

/* Is `entry` good for what `segment` says, too? */
static bool is_same(const struct ack *entry, const struct tcp_segment *segment) {
    if (entry->stamped && segment->stamped)
        return entry->echo == segment->echo;
    return entry->stamped == segment->stamped &&
           segment->time_ns < entry->time_ns + ACKS_TOGETHER_NS;
}

static bool make_room(struct acks *a) {
    if (a->count < a->capacity)
        return true;
    if (a->first > 0) {
        a->count -= a->first;
        memmove(a->list, a->list + a->first, a->count * sizeof *a->list);
        a->first = 0;
        return true;
    }
    uint32_t capacity = a->capacity > 0 ? a->capacity * 2 : FEW_ACKS;
    struct ack *list = capacity <= ACKS_MOST ? realloc(a->list, capacity * sizeof *a->list) : NULL;
    if (list == NULL)
        return false;
    a->list = list;
    a->capacity = capacity;
    return true;
}

void acks_note(struct acks *a, uint64_t end, const struct tcp_segment *segment) {
    struct ack *last = a->count > a->first ? &a->list[a->count - 1] : NULL;
    /* Without room, the time of the last one stands for more: what came between is not believed. */
    if (last != NULL && (is_same(last, segment) || !make_room(a))) {
        a->list[a->count - 1].end = end;
        return;
    }
    if (!make_room(a))
        return;
    a->list[a->count++] = (struct ack){.end = end,
                                       .time_ns = segment->time_ns,
                                       .echo = segment->echo,
                                       .stamped = segment->stamped};
}

void acks_forget(struct acks *a, uint64_t below) {
    while (a->first < a->count && a->list[a->first].end <= below)
        a->first++;
    if (a->first == a->count)
        acks_release(a);
}

/*
 * Whoever filled a hole of the receiver's finds its own TSval in the answer (RFC 7323, 4.3). So
 * does the first of those that one acknowledgement is for; the others are younger than that, but
 * none of them is younger than what was first sent behind it.
 */
bool acks_sent_later(const struct ack_copy *copy, const struct ack *entry) {
    bool much_later = copy->time_ns > entry->time_ns + ACKS_SKEW_NS;
    if (entry->stamped && copy->stamped)
        return acks_stamp_is_later(copy->stamp, entry->echo) && (copy->again || much_later);
    return much_later;
}

uint64_t acks_before(const struct acks *a, const struct tcp_segment *segment, bool again) {
    const struct ack_copy copy = {segment->time_ns, segment->stamp, segment->stamped, again};
    for (uint32_t i = a->count; i > a->first; i--) {
        if (acks_sent_later(&copy, &a->list[i - 1]))
            return a->list[i - 1].end;
    }
    return 0;
}

void acks_release(struct acks *a) {
    free(a->list);
    *a = (struct acks){0};
}
