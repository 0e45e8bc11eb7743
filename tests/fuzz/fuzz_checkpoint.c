/*
 * What a pipeline saved for the next start, damaged in any way, and then traffic: byte 0 chooses
 * how many of the bytes behind it are the saved state; the rest are frames as in fuzz_decap, each
 * with a 16-bit little-endian length. What can be loaded can be saved, and the same comes out.
 */
#include "common/buffer.h"
#include "common/cursor.h"
#include "proto/record.h"
#include "tap/pipeline.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore_update(struct sink *s, const struct sink_update *update) {
    (void)s;
    (void)update;
}

static void ignore_gap(struct sink *s, const struct sink_gap *gap) {
    (void)s;
    if (gap->text == NULL)
        abort();
}

static void ignore_path(struct sink *s, const struct sink_path *path, uint64_t time_ns) {
    (void)s;
    (void)path;
    (void)time_ns;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct sink sink = {.update = ignore_update, .gap = ignore_gap, .path = ignore_path};
    struct cursor c = cursor_of(data, size);
    size_t share = cursor_u8(&c);
    struct cursor saved = cursor_child(&c, cursor_left(&c) * (share + 1) / 256);
    AUTO(pipeline) p = pipeline_create(&sink, NULL);
    if (p == NULL || !pipeline_load(p, &saved, 1000000000))
        return 0;
    uint64_t time_ns = 1000000000;
    while (cursor_left(&c) > 2) {
        size_t bytes = cursor_le16(&c) % (cursor_left(&c) + 1);
        const uint8_t *frame = cursor_bytes(&c, bytes);
        time_ns += 10000000;
        pipeline_packet(p, &(struct packet){.data = frame,
                                            .caplen = (uint32_t)bytes,
                                            .wire_length = (uint32_t)bytes,
                                            .time_ns = time_ns,
                                            .link_type = 1});
    }
    AUTO_BUFFER again;
    buffer_init(&again, (size_t)64 << 20);
    pipeline_save(p, true, &again);
    AUTO(pipeline) second = pipeline_create(&sink, NULL);
    struct cursor cursor = cursor_of(again.data, again.length);
    if (second != NULL && !pipeline_load(second, &cursor, time_ns))
        abort();
    return 0;
}
