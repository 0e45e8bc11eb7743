#include "tap/iscsi/internal.h"

/*
 * A segment that is sent again need not say what it said before: initiators that send without
 * copying (Linux) retransmit what the memory holds by then. Until it is known which copy the target
 * took, both are compared: data of open commands is there. Of those that ended meanwhile, nobody
 * knows any more what it was.
 */

void sent_release(struct flow *flow) {
    free(flow->sent);
    flow->sent = NULL;
}

static struct sent *entry_at(const struct flow *flow, size_t number) {
    return &flow->sent[number % SENT_ENTRIES];
}

static size_t oldest_entry(const struct flow *flow) {
    return flow->sent_count > SENT_ENTRIES ? flow->sent_count - SENT_ENTRIES : 0;
}

void sent_note(struct flow *flow, uint64_t position, const struct task *task, uint64_t offset,
               uint32_t bytes) {
    if (flow->sent == NULL)
        flow->sent = calloc(SENT_ENTRIES, sizeof *flow->sent);
    if (flow->sent == NULL)
        return;
    struct sent *last = flow->sent_count > 0 ? entry_at(flow, flow->sent_count - 1) : NULL;
    uint64_t number = tracker_number(task->exchange);
    if (last != NULL && last->number == number && last->position + last->bytes == position &&
        last->offset + last->bytes == offset && bytes <= UINT32_MAX - last->bytes) {
        last->bytes += bytes;
        return;
    }
    *entry_at(flow, flow->sent_count++) = (struct sent){.position = position,
                                                        .bytes = bytes,
                                                        .tag = task->tag,
                                                        .offset = offset,
                                                        .lun = task->lun,
                                                        .number = number};
}

/* What became of a part of the stream. */
struct found {
    struct exchange *exchange; /* NULL: its command has ended */
    uint64_t offset;           /* in the command's data */
    size_t skip;               /* from the start of the part */
    size_t bytes;
};

/* The part of [position, position + bytes) that was this entry's; false when there is none. */
static bool find(struct connection *c, const struct sent *sent, uint64_t position, uint64_t bytes,
                 struct found *found) {
    uint64_t start = position > sent->position ? position : sent->position;
    uint64_t end = position + bytes;
    if (end > sent->position + sent->bytes)
        end = sent->position + sent->bytes;
    if (start >= end)
        return false;
    *found = (struct found){.offset = sent->offset + (start - sent->position),
                            .skip = (size_t)(start - position),
                            .bytes = (size_t)(end - start)};
    const struct task *task = session_task(c->session, sent->tag);
    if (task != NULL && task->exchange != NULL && tracker_number(task->exchange) == sent->number)
        found->exchange = task->exchange;
    return true;
}

enum tcp_copy sent_compare(struct connection *c, uint64_t position, const uint8_t *data,
                           size_t bytes) {
    const struct flow *flow = &c->flows[TCP_TO_SERVER];
    enum tcp_copy result = TCP_COPY_SAME;
    size_t oldest = oldest_entry(flow);
    for (size_t i = flow->sent_count; i > oldest; i--) {
        const struct sent *sent = entry_at(flow, i - 1);
        struct found found;
        struct cursor from = cursor_of(data, bytes);
        if (sent->position + sent->bytes <= position)
            return result;
        if (!find(c, sent, position, bytes, &found) || !cursor_skip(&from, found.skip))
            continue;
        if (found.exchange == NULL)
            result = TCP_COPY_FORGOTTEN;
        else if (!tracker_data_out_equals(found.exchange, found.offset, from.next, found.bytes))
            return TCP_COPY_DIFFERS;
    }
    return result;
}

void sent_dispute(struct connection *c, uint64_t position, uint64_t bytes) {
    const struct flow *flow = &c->flows[TCP_TO_SERVER];
    size_t oldest = oldest_entry(flow);
    for (size_t i = flow->sent_count; i > oldest; i--) {
        const struct sent *sent = entry_at(flow, i - 1);
        struct found found;
        if (sent->position + sent->bytes <= position)
            return;
        if (!find(c, sent, position, bytes, &found))
            continue;
        if (found.exchange != NULL)
            tracker_data_out_dispute(found.exchange, found.offset, found.bytes);
        else
            tracker_ended_dispute(c->session->nexus, sent->lun, sent->number);
    }
}
