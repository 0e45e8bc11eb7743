#include "recoveryd/receive/landing.h"

#include "proto/limits.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 256 };

void arrival_release(struct arrival *a) {
    free(a->text);
    a->text = NULL;
}

void landing_release(struct landing *l) {
    for (size_t i = 0; i < l->count; i++)
        arrival_release(&l->arrivals[i]);
    free(l->arrivals);
    *l = (struct landing){0};
}

static bool needs_payload(const struct arrival *a) {
    return a->control.type == RECORD_UPDATE && a->control.update.payload_bytes > 0;
}

bool arrival_is_whole(const struct arrival *a) {
    return a->has_control && (a->has_payload || !needs_payload(a));
}

static bool payload_fits(const struct arrival *a) {
    return needs_payload(a) && a->control.update.payload_bytes == a->payload_bytes &&
           a->control.update.payload_crc32c == a->payload_crc32c;
}

static void take_control(struct arrival *a, struct arrival *more) {
    a->has_control = true;
    a->control = more->control;
    a->text = take_pointer(&more->text);
}

static void take_payload_of(struct arrival *a, const struct arrival *more) {
    a->has_payload = true;
    a->payload = more->payload;
    a->payload_bytes = more->payload_bytes;
    a->payload_crc32c = more->payload_crc32c;
}

bool arrival_join(struct arrival *a, struct arrival *more) {
    if (more->has_control && !a->has_control)
        take_control(a, more);
    if (more->has_payload && !a->has_payload)
        take_payload_of(a, more);
    arrival_release(more);
    if (!a->has_control || !a->has_payload || payload_fits(a))
        return true;
    a->has_payload = false;
    return false;
}

/* --- decoding ------------------------------------------------------------------------------------
 */

static int bad(struct error *err, const char *what) {
    return error_set(err, ERR_FORMAT, "malformed batch: %s", what);
}

static char *put_string(char *to, const char **from, uint16_t bytes) {
    memcpy(to, *from, bytes);
    *from = to;
    return to + bytes;
}

/* How many bytes of a record are borrowed from its frame. */
static size_t borrowed_bytes(const struct record *r) {
    switch (r->type) {
    case RECORD_GAP:
        return r->gap.text_bytes;
    case RECORD_PATH:
        return (size_t)r->path.target_bytes + r->path.designator_bytes + r->path.serial_bytes;
    case RECORD_AUDIT:
        return (size_t)r->audit.blocks * 4;
    default:
        return 0;
    }
}

/* They go away with the frame, before the record is committed. */
static int own_strings(struct arrival *a, struct error *err) {
    struct record *r = &a->control;
    if (r->type != RECORD_GAP && r->type != RECORD_PATH && r->type != RECORD_AUDIT)
        return 0;
    a->text = malloc(borrowed_bytes(r) + 1);
    if (a->text == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    if (r->type == RECORD_GAP) {
        put_string(a->text, &r->gap.text, r->gap.text_bytes);
    } else if (r->type == RECORD_AUDIT) {
        memcpy(a->text, r->audit.sums, borrowed_bytes(r));
        r->audit.sums = (const uint8_t *)a->text;
    } else {
        char *next = put_string(a->text, &r->path.target, r->path.target_bytes);
        next = put_string(next, &r->path.designator, r->path.designator_bytes);
        put_string(next, &r->path.serial, r->path.serial_bytes);
    }
    return 0;
}

static int take_payload(struct arrival *a, const struct record *r, const uint8_t *frame,
                        struct error *err) {
    if (!record_payload_ok(&r->payload))
        return bad(err, "the checksum of a payload does not match");
    a->has_payload = true;
    a->payload_bytes = r->payload.bytes;
    a->payload_crc32c = r->payload.crc32c;
    a->payload =
        (struct extent){.bytes = r->payload.bytes, .offset = (uint64_t)(r->payload.data - frame)};
    return 0;
}

static int take_record(struct arrival *a, struct cursor *body, const uint8_t *frame,
                       struct error *err) {
    struct record r;
    int code = record_decode(body, &r, err);
    if (code < 0)
        return code;
    *a = (struct arrival){.order = r.order};
    if (r.type == RECORD_PAYLOAD)
        return take_payload(a, &r, frame, err);
    a->has_control = true;
    a->control = r;
    return own_strings(a, err);
}

/* Grows with what is really there: the count in the head is only a promise. */
static struct arrival *next_slot(struct landing *l) {
    if (l->count == l->capacity) {
        size_t capacity = l->capacity > 0 ? l->capacity * 2 : FIRST_CAPACITY;
        struct arrival *grown = realloc(l->arrivals, capacity * sizeof *grown);
        if (grown == NULL)
            return NULL;
        l->arrivals = grown;
        l->capacity = capacity;
    }
    return &l->arrivals[l->count];
}

static int by_order(const void *left, const void *right) {
    const struct arrival *a = left;
    const struct arrival *b = right;
    return (a->order > b->order) - (a->order < b->order);
}

static bool is_sorted(const struct landing *l) {
    for (size_t i = 1; i < l->count; i++) {
        if (l->arrivals[i - 1].order > l->arrivals[i].order)
            return false;
    }
    return true;
}

static int join_neighbours(struct landing *l, struct error *err) {
    size_t kept = 0;
    bool fits = true;
    for (size_t i = 0; i < l->count; i++) {
        if (kept > 0 && l->arrivals[kept - 1].order == l->arrivals[i].order) {
            fits = arrival_join(&l->arrivals[kept - 1], &l->arrivals[i]) && fits;
            continue;
        }
        if (kept != i)
            l->arrivals[kept] = l->arrivals[i];
        kept++;
    }
    l->count = kept;
    return fits ? 0 : bad(err, "a payload is not the one that its update names");
}

static int decode_all(struct landing *l, const struct message_batch *batch, struct cursor *body,
                      const uint8_t *frame, struct error *err) {
    for (uint32_t i = 0; i < batch->records; i++) {
        struct arrival *slot = next_slot(l);
        if (slot == NULL)
            return error_set(err, ERR_NOMEM, "out of memory");
        int code = take_record(slot, body, frame, err);
        if (code < 0)
            return code;
        l->count++;
    }
    if (cursor_left(body) != 0)
        return bad(err, "bytes behind its last record");
    if (!is_sorted(l))
        qsort(l->arrivals, l->count, sizeof *l->arrivals, by_order);
    return join_neighbours(l, err);
}

int landing_decode(struct landing *l, const struct message_batch *batch, struct cursor *body,
                   const void *frame, struct error *err) {
    *l = (struct landing){0};
    int code = decode_all(l, batch, body, frame, err);
    if (code < 0)
        landing_release(l);
    return code;
}

void landing_place(struct landing *l, const struct extent *where) {
    for (size_t i = 0; i < l->count; i++) {
        if (!l->arrivals[i].has_payload)
            continue;
        l->arrivals[i].payload.segment = where->segment;
        l->arrivals[i].payload.offset += where->offset;
    }
}
