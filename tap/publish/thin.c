#include "tap/publish/thin.h"

#include "proto/message.h"
#include "proto/record.h"

#include <string.h>

/* What a FRONTIER takes: an AUDIT of few blocks is smaller. */
enum { NOTHING_BYTES = 88 };

/* So short that the GAP is no longer than the UPDATE was. */
static const char lost_text[] = "no room";

static void put_gap(struct buffer *out, const struct record *r) {
    const struct update_record *u = &r->update;
    struct record gap = {
        .type = RECORD_GAP,
        .order = r->order,
        .gap = {.time_ns = u->time_ns,
                .issued_ns = u->issued_ns,
                .path = u->path,
                .offset_bytes = u->offset_bytes,
                .length_bytes = u->length_bytes,
                .reason = GAP_OVERFLOW,
                .text = lost_text,
                .text_bytes = (uint16_t)(sizeof lost_text - 1)},
    };
    record_encode(out, &gap);
}

/* A promise of nothing: takes the mark, and says nothing of the monitor. */
static void put_nothing(struct buffer *out, uint64_t order) {
    record_encode(out, &(struct record){.type = RECORD_FRONTIER, .order = order});
}

int thin_batch(const uint8_t *frame, size_t bytes, struct buffer *out, uint64_t *lost,
               struct error *err) {
    struct message m;
    struct cursor body;
    int code = message_decode(frame, bytes, &m, &body, err);
    if (code < 0 || m.kind != MESSAGE_BATCH)
        return code < 0 ? code : error_set(err, ERR_FORMAT, "a message that is no batch");
    struct message_batch thin = {.monitor = m.batch.monitor, .stream = m.batch.stream};
    buffer_clear(out);
    message_batch_begin(out);
    for (uint32_t i = 0; i < m.batch.records; i++) {
        const uint8_t *start = body.next;
        struct record r;
        code = record_decode(&body, &r, err);
        if (code < 0)
            return code;
        size_t length = (size_t)(body.next - start);
        if (r.type == RECORD_PAYLOAD)
            continue;
        if (r.type == RECORD_UPDATE && r.update.payload_bytes > 0) {
            put_gap(out, &r);
            (*lost)++;
        } else if (r.type == RECORD_AUDIT && length > NOTHING_BYTES) {
            put_nothing(out, r.order);
        } else {
            buffer_put(out, start, length);
        }
        thin.records++;
    }
    message_batch_finish(out, &thin);
    return out->failed ? error_set(err, ERR_NOMEM, "out of memory") : 0;
}
