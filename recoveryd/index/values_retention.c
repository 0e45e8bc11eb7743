#include "recoveryd/index/values.h"

#include <string.h>

void value_encode_thinned(struct buffer *b, const struct thinned_entry *e) {
    buffer_put_le64(b, e->from_ns);
    buffer_put_le64(b, e->next_chunk);
    buffer_put_le64(b, e->next.time_ns);
    buffer_put_le64(b, e->next.monitor);
    buffer_put_le64(b, e->next.stream);
    buffer_put_le64(b, e->next.order);
}

int value_decode_thinned(struct kv_item item, struct thinned_entry *e, struct error *err) {
    e->path = cursor_be64(&item.key);
    e->until_ns = cursor_be64(&item.key);
    e->from_ns = cursor_le64(&item.value);
    e->next_chunk = cursor_le64(&item.value);
    e->next.time_ns = cursor_le64(&item.value);
    e->next.monitor = cursor_le64(&item.value);
    e->next.stream = cursor_le64(&item.value);
    e->next.order = cursor_le64(&item.value);
    bool sound = e->from_ns < e->until_ns &&
                 (e->next_chunk <= THINNED_HISTORY || e->next_chunk == THINNED_DONE);
    return value_is_whole(&item) && sound ? 0
                                          : value_damaged(err, "what was thinned cannot be read");
}

void value_encode_retention(struct buffer *b, const struct retention_entry *e) {
    buffer_put_le64(b, e->every_ns);
    buffer_put_le64(b, e->step_ns);
    buffer_put_le64(b, e->until_ns);
    buffer_put_le64(b, e->bytes);
    buffer_put(b, e->volume, strlen(e->volume));
}

int value_decode_retention(struct kv_item item, struct retention_entry *e, struct error *err) {
    cursor_skip(&item.key, 8);
    e->every_ns = cursor_le64(&item.value);
    e->step_ns = cursor_le64(&item.value);
    e->until_ns = cursor_le64(&item.value);
    e->bytes = cursor_le64(&item.value);
    size_t bytes = cursor_left(&item.value);
    const uint8_t *name = cursor_bytes(&item.value, bytes);
    e->volume[0] = '\0';
    if (!value_is_whole(&item) || bytes > LIMIT_NAME_BYTES ||
        (bytes > 0 && memchr(name, '\0', bytes) != NULL))
        return value_damaged(err, "a retention cannot be read");
    if (bytes > 0)
        memcpy(e->volume, name, bytes);
    e->volume[bytes] = '\0';
    return 0;
}
