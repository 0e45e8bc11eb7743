#include "recoveryd/receive/marks.h"

#include <string.h>

#define MAX_RUNS (sizeof((struct stream_entry *)0)->runs / sizeof(struct stream_run))

static uint64_t greater(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

bool marks_have(const struct stream_entry *entry, uint64_t order) {
    if (order < entry->frontier)
        return true;
    for (uint32_t i = entry->run_count; i > 0; i--) {
        if (order >= entry->runs[i - 1].start)
            return order < entry->runs[i - 1].end;
    }
    return false;
}

static void erase_run(struct stream_entry *entry, uint32_t index) {
    memmove(&entry->runs[index], &entry->runs[index + 1],
            (entry->run_count - index - 1) * sizeof entry->runs[0]);
    entry->run_count--;
}

static void move_frontier(struct stream_entry *entry, uint64_t promise_ns) {
    entry->frontier++;
    entry->frontier_ns = greater(entry->frontier_ns, promise_ns);
    if (entry->run_count == 0 || entry->runs[0].start != entry->frontier)
        return;
    entry->frontier = entry->runs[0].end;
    entry->frontier_ns = greater(entry->frontier_ns, entry->runs[0].last_ns);
    erase_run(entry, 0);
}

/* `order` is not in the entry yet; runs[at] is the first that begins after it. */
static bool add_beyond(struct stream_entry *entry, uint32_t at, uint64_t order,
                       uint64_t promise_ns) {
    struct stream_run *before = at > 0 ? &entry->runs[at - 1] : NULL;
    struct stream_run *after = at < entry->run_count ? &entry->runs[at] : NULL;
    bool touches_before = before != NULL && before->end == order;
    bool touches_after = after != NULL && after->start == order + 1;
    if (touches_before) {
        before->end = touches_after ? after->end : order + 1;
        before->last_ns = greater(before->last_ns, promise_ns);
        if (touches_after) {
            before->last_ns = greater(before->last_ns, after->last_ns);
            erase_run(entry, at);
        }
        return true;
    }
    if (touches_after) {
        after->start = order;
        after->last_ns = greater(after->last_ns, promise_ns);
        return true;
    }
    if (entry->run_count == MAX_RUNS)
        return false;
    memmove(&entry->runs[at + 1], &entry->runs[at],
            (entry->run_count - at) * sizeof entry->runs[0]);
    entry->runs[at] = (struct stream_run){order, order + 1, promise_ns};
    entry->run_count++;
    return true;
}

bool marks_add(struct stream_entry *entry, uint64_t order, uint64_t promise_ns) {
    if (marks_have(entry, order))
        return true;
    if (order == entry->frontier) {
        move_frontier(entry, promise_ns);
        return true;
    }
    uint32_t at = entry->run_count;
    while (at > 0 && entry->runs[at - 1].start > order)
        at--;
    return add_beyond(entry, at, order, promise_ns);
}

uint64_t marks_promise(const struct record *r) {
    return r->type == RECORD_FRONTIER ? r->frontier.time_ns : 0;
}
