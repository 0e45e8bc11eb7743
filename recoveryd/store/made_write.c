#include "recoveryd/store/made_write.h"

#include "common/crc32c.h"
#include "proto/message.h"

int made_write_append(struct segment_writer *w, struct buffer *batch, uint64_t monitor,
                      uint64_t stream, struct record *update, const uint8_t *payload,
                      struct extent *extent, struct error *err) {
    struct update_record *u = &update->update;
    u->payload_crc32c = crc32c(0, payload, u->payload_bytes);
    buffer_clear(batch);
    message_batch_begin(batch);
    record_encode(batch, update);
    size_t start = record_payload_begin(batch, update->order, u->payload_bytes, u->payload_crc32c);
    uint32_t payload_at = (uint32_t)batch->length;
    buffer_put(batch, payload, u->payload_bytes);
    record_payload_end(batch, start);
    message_batch_finish(batch, &(struct message_batch){monitor, stream, 2});
    if (batch->failed)
        return error_set(err, ERR_NOMEM, "out of memory");
    int code = segments_append(w, batch->data, batch->length, extent, err);
    if (code != 0)
        return code;
    extent->offset += payload_at;
    extent->bytes = u->payload_bytes;
    return 0;
}
