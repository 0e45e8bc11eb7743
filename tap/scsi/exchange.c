#include "tap/scsi/internal.h"

#include <utlist.h>

enum {
    ANSWER_BYTES = 4096, /* INQUIRY and READ CAPACITY answers are far shorter */
    ALL_ANSWERS_BYTES = 16 << 20,
    PARAMETER_BYTES = 68 << 10, /* parameter lists have 16-bit lengths; EXTENDED COPY's are short */
};

static bool is_learned_from(const struct command *command) {
    return command->kind == COMMAND_INQUIRY || command->kind == COMMAND_CAPACITY ||
           command->kind == COMMAND_TOKENS;
}

static bool data_matters(const struct command *command) {
    switch (command->kind) {
    case COMMAND_WRITE:
    case COMMAND_COMPARE_WRITE:
    case COMMAND_WRITE_SAME:
    case COMMAND_UNMAP:
    case COMMAND_MODE_SELECT:
    case COMMAND_EXTENDED_COPY:
    case COMMAND_WRITE_TOKEN:
    case COMMAND_POPULATE:
    case COMMAND_SCATTERED:
    case COMMAND_REASSIGN:
    case COMMAND_ATA_TRIM:
        return true;
    default:
        return false;
    }
}

static void give_up_oldest(struct tracker *t, uint64_t time_ns) {
    struct exchange *x = t->oldest;
    t->counters.given_up++;
    exchange_mark_moved(x, 0, x->data_out_bytes);
    change_abandoned(x, GAP_OVERFLOW, "more commands in flight than the monitor can follow",
                     time_ns);
    exchange_destroy(x);
}

struct exchange *exchange_create(struct nexus *n, struct path *path,
                                 const struct tracker_command *command,
                                 const struct command *parsed) {
    struct tracker *t = n->tracker;
    if (t->exchange_count >= t->limits.open_exchanges && t->oldest != NULL)
        give_up_oldest(t, command->time_ns);
    struct exchange *x = malloc(sizeof *x); /* calloc() takes twice as long (glibc 2.36) */
    if (x == NULL)
        return NULL;
    *x = (struct exchange){0};
    x->nexus = n;
    x->path = path;
    x->holder = command->holder;
    x->command = *parsed;
    x->number = n->commands++;
    x->issued_ns = command->time_ns;
    x->data_out_bytes = command->data_out_bytes;
    x->data_in_bytes = command->data_in_bytes;
    x->attribute = command->attribute;
    if (command->cdb_bytes <= sizeof x->cdb) {
        memcpy(x->cdb, command->cdb, command->cdb_bytes);
        x->cdb_bytes = (uint16_t)command->cdb_bytes;
    }
    x->keeps_data = data_matters(parsed);
    if (parsed->kind == COMMAND_COMPARE_WRITE)
        x->skip_bytes = x->data_out_bytes / 2;
    x->open_index = NOT_OPEN;
    DL_APPEND(t->oldest, x);
    DL_APPEND2(n->exchanges, x, nexus_prev, nexus_next);
    t->exchange_count++;
    rival_open(x);
    if (parsed->kind == COMMAND_EXTENDED_COPY)
        DL_APPEND2(t->copies, x, copy_prev, copy_next);
    if (x->holder != NULL)
        *x->holder = x;
    return x;
}

static void drop_payload(struct exchange *x) {
    if (x->payload == NULL)
        return;
    DL_DELETE2(x->nexus->tracker->holding, x, holding_prev, holding_next);
    payload_destroy(x->payload);
    x->payload = NULL;
}

void exchange_destroy(struct exchange *x) {
    struct tracker *t = x->nexus->tracker;
    rival_close(x);
    rival_free(x->rivals);
    audit_free(x);
    drop_payload(x);
    if (x->command.kind == COMMAND_EXTENDED_COPY)
        DL_DELETE2(t->copies, x, copy_prev, copy_next);
    t->answer_bytes -= x->answer_bytes;
    free(x->answer);
    DL_DELETE(t->oldest, x);
    DL_DELETE2(x->nexus->exchanges, x, nexus_prev, nexus_next);
    t->exchange_count--;
    if (x->holder != NULL)
        *x->holder = NULL;
    free(x);
}

bool exchange_moved(const struct exchange *x) {
    return x->moved_end > x->moved_start;
}

void exchange_mark_moved(struct exchange *x, uint64_t offset, uint64_t bytes) {
    if (offset >= x->data_out_bytes || bytes == 0)
        return;
    if (bytes > x->data_out_bytes - offset)
        bytes = x->data_out_bytes - offset;
    if (!exchange_moved(x)) {
        x->moved_start = offset;
        x->moved_end = offset + bytes;
        return;
    }
    if (offset < x->moved_start)
        x->moved_start = offset;
    if (offset + bytes > x->moved_end)
        x->moved_end = offset + bytes;
}

static bool begin_payload(struct exchange *x) {
    struct tracker *t = x->nexus->tracker;
    x->payload = payload_create(t->pool, x->data_out_bytes - x->skip_bytes);
    if (x->payload == NULL)
        return false;
    DL_APPEND2(t->holding, x, holding_prev, holding_next);
    return true;
}

static void drop_data(struct exchange *x) {
    x->nexus->tracker->counters.given_up++;
    x->data_dropped = true;
    drop_payload(x);
}

void exchange_store(struct exchange *x, uint64_t offset, const uint8_t *data, size_t bytes) {
    struct tracker *t = x->nexus->tracker;
    if (x->data_dropped || (x->payload == NULL && !begin_payload(x))) {
        x->data_dropped = true;
        return;
    }
    while (!payload_write(x->payload, offset, data, bytes)) {
        /* The oldest one's data makes room; it may be its own. */
        drop_data(payload_pool_is_short(t->pool) ? t->holding : x);
        if (x->data_dropped)
            return;
    }
}

const struct payload *exchange_complete(const struct exchange *x) {
    struct range hole;
    if (x->payload == NULL || payload_missing(x->payload, 0, payload_length(x->payload), &hole))
        return NULL;
    return x->payload;
}

uint8_t *exchange_parameters(const struct exchange *x, size_t *bytes) {
    const struct payload *payload = exchange_complete(x);
    *bytes = 0;
    if (payload == NULL || payload_length(payload) > PARAMETER_BYTES)
        return NULL;
    AUTO_FREE uint8_t *copy = malloc((size_t)payload_length(payload));
    if (copy == NULL || !payload_copy(payload, 0, copy, (size_t)payload_length(payload)))
        return NULL;
    *bytes = (size_t)payload_length(payload);
    return take_pointer(&copy);
}

bool tracker_wants_data_in(const struct exchange *x) {
    return x->audit != NULL || is_learned_from(&x->command);
}

void tracker_data_in(struct exchange *x, uint64_t offset, const uint8_t *data, size_t bytes) {
    if (x->audit != NULL) {
        audit_data(x, offset, data, bytes);
        return;
    }
    /* In order, or not at all: an answer this short comes in one piece. */
    if (!is_learned_from(&x->command) || offset != x->answer_bytes || offset >= ANSWER_BYTES ||
        bytes == 0)
        return;
    size_t room = ANSWER_BYTES - (size_t)offset;
    if (bytes > room)
        bytes = room;
    if (bytes > ALL_ANSWERS_BYTES - x->nexus->tracker->answer_bytes) {
        x->nexus->tracker->counters.given_up++; /* somebody asks and asks: nothing is learned */
        return;
    }
    uint8_t *grown = realloc(x->answer, x->answer_bytes + bytes);
    if (grown == NULL)
        return;
    x->answer = grown;
    memcpy(grown + x->answer_bytes, data, bytes);
    x->answer_bytes += bytes;
    x->nexus->tracker->answer_bytes += bytes;
}

void tracker_data_in_revoke(struct exchange *x) {
    x->nexus->tracker->answer_bytes -= x->answer_bytes;
    x->answer_bytes = 0;
    audit_free(x);
}

void tracker_data_out(struct exchange *x, uint64_t offset, const uint8_t *data, size_t bytes) {
    exchange_mark_moved(x, offset, bytes);
    if (!x->keeps_data || offset >= x->data_out_bytes)
        return;
    if (bytes > x->data_out_bytes - offset)
        bytes = (size_t)(x->data_out_bytes - offset);
    struct cursor c = cursor_of(data, bytes);
    if (offset < x->skip_bytes) {
        size_t skip = x->skip_bytes - (size_t)offset;
        if (!cursor_skip(&c, skip < bytes ? skip : bytes))
            return;
        offset = x->skip_bytes;
    }
    size_t left = cursor_left(&c);
    if (left > 0)
        exchange_store(x, offset - x->skip_bytes, cursor_bytes(&c, left), left);
}

void tracker_data_out_lost(struct exchange *x, uint64_t offset, uint64_t bytes) {
    exchange_mark_moved(x, offset, bytes);
    x->data_lost = true;
}

bool tracker_data_out_equals(const struct exchange *x, uint64_t offset, const uint8_t *data,
                             size_t bytes) {
    struct cursor c = cursor_of(data, bytes);
    if (x->payload == NULL || offset >= x->data_out_bytes)
        return true;
    if (offset < x->skip_bytes) {
        if (!cursor_skip(&c, x->skip_bytes - (size_t)offset))
            return true;
        offset = x->skip_bytes;
    }
    size_t left = cursor_left(&c);
    if (left > x->data_out_bytes - offset)
        left = (size_t)(x->data_out_bytes - offset);
    return payload_equals(x->payload, offset - x->skip_bytes, c.next, left);
}

uint64_t tracker_number(const struct exchange *x) {
    return x->number;
}

void tracker_data_out_dispute(struct exchange *x, uint64_t offset, uint64_t bytes) {
    x->ambiguous = true;
    tracker_data_out_revoke(x, offset, bytes);
}

void tracker_data_out_revoke(struct exchange *x, uint64_t offset, uint64_t bytes) {
    x->revoked = true;
    if (x->payload == NULL)
        return;
    uint64_t end = offset + bytes;
    uint64_t start = offset > x->skip_bytes ? offset - x->skip_bytes : 0;
    if (end > x->skip_bytes)
        payload_revoke(x->payload, start, end - x->skip_bytes - start);
}
