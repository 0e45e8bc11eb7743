#include "tap/save.h"
#include "tap/iscsi/internal.h"

#include <utlist.h>

/*
 * Sessions over a restart of the monitor. What passed meanwhile is a hole in each connection, and
 * the sequence numbers tell what was in it: often nothing. Connections that could not be read are
 * not saved: they are joined mid-way again.
 */

enum { MOST_SAVED = 1 << 20 };

static bool is_worth_saving(const struct connection *c) {
    return c->state == CONNECTION_FULL && c->search == NULL && c->session != NULL &&
           c->data_digest_known && (!c->session->late || c->session->named);
}

static bool can_be_saved(const struct session *s) {
    for (const struct connection *c = s->connections; c != NULL; c = c->session_next) {
        if (!is_worth_saving(c))
            return false;
    }
    return s->connections != NULL && s->current;
}

static void save_numbers(const struct command_numbers *n, struct buffer *b) {
    buffer_put_u8(b, n->known);
    buffer_put_le64(b, n->next);
    buffer_put_le32(b, (uint32_t)n->missing.count);
    for (size_t i = 0; i < n->missing.count; i++) {
        buffer_put_le64(b, n->missing.ranges[i].start);
        buffer_put_le64(b, n->missing.ranges[i].end);
    }
}

static bool load_numbers(struct command_numbers *n, struct cursor *c) {
    n->known = cursor_u8(c) != 0;
    n->next = cursor_le64(c);
    for (uint32_t count = cursor_le32(c); count > 0 && cursor_ok(c); count--) {
        uint64_t start = cursor_le64(c);
        uint64_t end = cursor_le64(c);
        if (start >= end || end > n->next || !rangeset_add(&n->missing, start, end))
            return false;
    }
    return cursor_ok(c);
}

static void save_session(const struct session *s, struct buffer *b) {
    save_text(b, s->initiator);
    save_text(b, s->target);
    buffer_put_u8(b, s->several);
    buffer_put_u8(b, s->single);
    buffer_put_u8(b, s->late);
    buffer_put_le64(b, s->joined_ns);
    buffer_put_le64(b, s->isid);
    buffer_put_le32(b, s->portal_group);
    buffer_put_le32(b, s->error_recovery_level);
    buffer_put_le64(b, s->unseen_ended);
    save_numbers(&s->commands, b);
}

void iscsi_save(const struct iscsi *i, struct buffer *b) {
    uint32_t count = 0;
    buffer_put_le32(b, (uint32_t)i->port_count);
    for (size_t k = 0; k < i->port_count; k++)
        buffer_put_le16(b, i->ports[k]);
    size_t count_at = b->length;
    buffer_put_le32(b, 0);
    for (struct session *s = i->sessions; s != NULL; s = s->next) {
        if (!can_be_saved(s))
            continue;
        save_session(s, b);
        s->saved_as = count++;
    }
    buffer_patch_le(b, count_at, count, 4);
}

static bool load_session(struct iscsi *i, struct cursor *c) {
    char initiator[LOGIN_NAME_BYTES];
    char target[LOGIN_NAME_BYTES];
    if (!load_text(c, initiator, sizeof initiator) || !load_text(c, target, sizeof target))
        return false;
    struct session *s = session_restore(i, initiator, target);
    if (s == NULL)
        return false;
    s->several = cursor_u8(c) != 0;
    s->single = cursor_u8(c) != 0;
    s->late = s->named = cursor_u8(c) != 0;
    s->joined_ns = cursor_le64(c);
    s->isid = cursor_le64(c);
    s->portal_group = cursor_le32(c);
    s->error_recovery_level = cursor_le32(c);
    s->unseen_ended = cursor_le64(c);
    return load_numbers(&s->commands, c);
}

bool iscsi_load(struct iscsi *i, struct cursor *c, uint64_t now_ns) {
    i->now_ns = now_ns;
    uint32_t ports = cursor_le32(c);
    for (; ports > 0 && cursor_ok(c); ports--) {
        uint16_t port = cursor_le16(c);
        if (i->port_count < MAX_PORTS)
            i->ports[i->port_count++] = port;
    }
    uint32_t sessions = cursor_le32(c);
    bool good = cursor_ok(c) && sessions <= MOST_SAVED;
    for (; good && sessions > 0; sessions--)
        good = load_session(i, c);
    return good;
}

static void save_framer(const struct framer *f, struct buffer *b) {
    bool has_ahs = f->ahs != NULL && f->state != FRAMER_IN_HEAD;
    buffer_put_u8(b, (uint8_t)f->state);
    buffer_put_le32(b, (uint32_t)f->have);
    buffer_put_le32(b, f->data_done);
    buffer_put_le32(b, f->crc);
    buffer_put_u8(b, f->unverifiable);
    buffer_put_u8(b, f->data_intact);
    buffer_put(b, f->head, sizeof f->head);
    buffer_put(b, f->digest, sizeof f->digest);
    buffer_put_le32(b, has_ahs ? f->pdu.ahs_bytes : 0);
    if (has_ahs)
        buffer_put(b, f->ahs, f->pdu.ahs_bytes);
}

static bool load_framer(struct framer *f, struct cursor *c) {
    uint8_t state = cursor_u8(c);
    f->have = cursor_le32(c);
    f->data_done = cursor_le32(c);
    f->crc = cursor_le32(c);
    f->unverifiable = cursor_u8(c) != 0;
    f->data_intact = cursor_u8(c) != 0;
    cursor_copy(c, f->head, sizeof f->head);
    cursor_copy(c, f->digest, sizeof f->digest);
    size_t ahs_bytes = cursor_le32(c);
    const uint8_t *ahs = cursor_bytes(c, ahs_bytes);
    if (!cursor_ok(c) || state >= FRAMER_LOST)
        return false;
    f->state = (enum framer_state)state;
    f->pdu = pdu_parse(f->head);
    if (f->state == FRAMER_IN_HEAD)
        return f->have < PDU_HEAD_BYTES && ahs_bytes == 0;
    if (ahs_bytes != f->pdu.ahs_bytes || f->have > PDU_MAX_AHS_BYTES ||
        f->data_done > f->pdu.data_bytes)
        return false;
    if (f->state != FRAMER_IN_AHS && f->have > PDU_DIGEST_BYTES)
        return false;
    if (ahs_bytes == 0)
        return true;
    f->ahs = malloc(ahs_bytes);
    if (f->ahs == NULL)
        return false;
    memcpy(f->ahs, ahs, ahs_bytes);
    return f->have <= ahs_bytes || f->state != FRAMER_IN_AHS;
}

static void save_flow(const struct flow *flow, struct buffer *b) {
    save_framer(&flow->framer, b);
    buffer_put_u8(b, (uint8_t)flow->use);
    buffer_put_u8(b, flow->task != NULL);
    buffer_put_le32(b, flow->task != NULL ? flow->task->tag : 0);
    buffer_put_le32(b, flow->base);
    buffer_put_le64(b, flow->position);
    buffer_put_u8(b, (uint8_t)flow->phase);
    buffer_put_le64(b, flow->last_ns);
    buffer_put_u8(b, flow->torn);
    buffer_put_le64(b, flow->torn_ns);
}

static bool load_flow(struct connection *c, enum tcp_direction direction, struct cursor *cursor) {
    struct flow *flow = &c->flows[direction];
    bool good = load_framer(&flow->framer, cursor);
    uint8_t use = cursor_u8(cursor);
    bool has_task = cursor_u8(cursor) != 0;
    uint32_t tag = cursor_le32(cursor);
    flow->base = cursor_le32(cursor);
    flow->position = cursor_le64(cursor);
    flow->phase = cursor_u8(cursor) & 3;
    flow->last_ns = cursor_le64(cursor);
    flow->torn = cursor_u8(cursor) != 0;
    flow->torn_ns = cursor_le64(cursor);
    flow->restored = true;
    flow->use = (enum data_use)use;
    if (has_task)
        flow->task = session_task(c->session, tag);
    if (flow->task != NULL && flow->task->connection != c)
        flow->task = NULL;
    return good && cursor_ok(cursor) && use <= USE_NOTE && use != USE_LOGIN;
}

static void save_task(const struct task *task, bool whole, struct buffer *b) {
    buffer_put_le32(b, task->tag);
    buffer_put_u8(b, (uint8_t)task->kind);
    buffer_put_le64(b, task->lun);
    buffer_put_le32(b, task->command_number);
    buffer_put_le32(b, task->referenced_tag);
    buffer_put_u8(b, task->function);
    buffer_put_le16(b, task->logout_connection);
    buffer_put_u8(b, task->reads);
    buffer_put_u8(b, task->lun_known);
    buffer_put_u8(b, task->doubted);
    buffer_put_u8(b, task->exchange != NULL);
    if (task->exchange != NULL)
        tracker_exchange_save(task->exchange, whole, b);
}

static bool load_task(struct connection *c, struct cursor *cursor, uint64_t now_ns) {
    uint32_t tag = cursor_le32(cursor);
    uint8_t kind = cursor_u8(cursor);
    uint64_t lun = cursor_le64(cursor);
    struct task *task = cursor_ok(cursor) && kind <= TASK_UNSEEN
                            ? session_task_begin(c, tag, (enum task_kind)kind, lun, now_ns)
                            : NULL;
    if (task == NULL)
        return false;
    task->command_number = cursor_le32(cursor);
    task->referenced_tag = cursor_le32(cursor);
    task->function = cursor_u8(cursor);
    task->logout_connection = cursor_le16(cursor);
    task->reads = cursor_u8(cursor) != 0;
    task->lun_known = cursor_u8(cursor) != 0;
    task->doubted = cursor_u8(cursor) != 0;
    bool followed = cursor_u8(cursor) != 0;
    if (followed && !tracker_exchange_load(c->session->nexus, cursor, &task->exchange))
        return false;
    if (followed && task->exchange == NULL) {
        task->kind = TASK_UNSEEN;
        task->lun_known = true;
    }
    return cursor_ok(cursor);
}

bool iscsi_connection_save(void *connection, bool whole, struct buffer *b) {
    const struct connection *c = connection;
    if (c == &c->owner->crowd || !is_worth_saving(c) || !can_be_saved(c->session))
        return false;
    const struct session *s = c->session;
    size_t count_at;
    uint32_t count = 0;
    buffer_put_le32(b, s->saved_as);
    buffer_put_u8(b, (uint8_t)((c->from_start ? 1 : 0) | (c->known_port ? 2 : 0) |
                               (c->swapped ? 4 : 0) | (c->statuses.known ? 8 : 0)));
    buffer_put_u8(b, (uint8_t)((c->flows[0].framer.header_digest ? 1 : 0) |
                               (c->flows[0].framer.data_digest ? 2 : 0)));
    buffer_put_le16(b, c->server_port);
    buffer_put_le16(b, c->id);
    buffer_put_le16(b, c->tsih);
    buffer_put_le64(b, c->isid);
    buffer_put_le32(b, c->statuses.next);
    buffer_put_le32(b, (uint32_t)c->note_bytes);
    buffer_put(b, c->note, c->note_bytes);
    count_at = b->length;
    buffer_put_le32(b, 0);
    for (const struct task *task = s->tasks; task != NULL; task = task->hh.next) {
        if (task->connection != c)
            continue;
        save_task(task, whole, b);
        count++;
    }
    buffer_patch_le(b, count_at, count, 4);
    save_flow(&c->flows[TCP_TO_SERVER], b);
    save_flow(&c->flows[TCP_TO_CLIENT], b);
    return true;
}

static struct session *session_at(struct iscsi *i, uint32_t number) {
    struct session *s = i->sessions;
    while (s != NULL && number-- > 0)
        s = s->next;
    return s;
}

static bool load_connection(struct connection *c, struct cursor *cursor) {
    struct session *s = session_at(c->owner, cursor_le32(cursor));
    uint8_t flags = cursor_u8(cursor);
    uint8_t digests = cursor_u8(cursor);
    if (s == NULL || !cursor_ok(cursor))
        return false;
    session_add_connection(s, c);
    c->from_start = (flags & 1) != 0;
    c->known_port = (flags & 2) != 0;
    c->swapped = (flags & 4) != 0;
    c->statuses.known = (flags & 8) != 0;
    c->server_port = cursor_le16(cursor);
    c->id = cursor_le16(cursor);
    c->tsih = cursor_le16(cursor);
    c->isid = cursor_le64(cursor);
    c->statuses.next = cursor_le32(cursor);
    c->note_bytes = cursor_le32(cursor);
    if (c->note_bytes > NOTE_BYTES || !cursor_copy(cursor, c->note, c->note_bytes))
        return false;
    c->data_digest_known = true;
    c->state = CONNECTION_FULL;
    uint32_t tasks = cursor_le32(cursor);
    bool good = cursor_ok(cursor) && tasks <= MAX_TASKS;
    for (; good && tasks > 0; tasks--)
        good = load_task(c, cursor, c->owner->now_ns);
    for (int d = 0; d < 2; d++) {
        framer_set_digests(&c->flows[d].framer, (digests & 1) != 0, (digests & 2) != 0);
        good = good && load_flow(c, (enum tcp_direction)d, cursor);
    }
    return good;
}

void *iscsi_connection_load(void *iscsi, const struct tcp_endpoints *endpoints,
                            struct cursor *cursor) {
    struct iscsi *i = iscsi;
    struct connection *c = connection_create(i, false, endpoints->server_port);
    if (c == NULL)
        return NULL;
    c->endpoints = *endpoints;
    /* What was made of it stays, to be freed with the rest: the whole is thrown away then. */
    return load_connection(c, cursor) ? c : NULL;
}
