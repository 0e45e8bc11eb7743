/*
 * Frames of Fibre Channel and FIP, in any order of time: whatever they hold, what the sink is told
 * must make sense, and no promise may be broken that fc_oldest_pending() allows.
 *
 * Input: records of
 *
 *   flags u8 | time step in 5 ms i8 | length u16 LE | frame
 *
 * Flags: 01h it has a CRC (which is made right), 02h the capture has cut 8 bytes, 04h damaged,
 * 08h FIP, 10h another VSAN, 20h again, 40h a loss before it.
 */
#include "common/clock.h"
#include "common/crc32.h"
#include "common/cursor.h"
#include "tap/fc/fc.h"
#include "tap/scsi/payload.h"
#include "tap/scsi/tracker.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds) {
    if (!holds)
        abort();
}

static void take_update(struct sink *s, const struct sink_update *u) {
    (void)s;
    struct range hole;
    if (!u->applied || u->data == NULL)
        return;
    uint64_t length = u->op == UPDATE_WRITE ? u->blocks * u->block_bytes : u->block_bytes;
    check(payload_length(u->data) == length);
    check(!payload_missing(u->data, 0, length, &hole));
    payload_crc32c(u->data, 0, length);
}

static void take_gap(struct sink *s, const struct sink_gap *g) {
    (void)s;
    check(g->text != NULL && g->reason != 0 && g->path != NULL && g->length_bytes > 0);
    check(g->length_bytes == GAP_TO_END || g->length_bytes <= INT64_MAX);
}

static void take_path(struct sink *s, const struct sink_path *path, uint64_t time_ns) {
    (void)s;
    (void)time_ns;
    check(path->size_bytes <= INT64_MAX);
}

static void give_frame(struct fc *f, uint8_t flags, struct cursor bytes, uint64_t time_ns) {
    uint8_t copy[4096];
    size_t length = cursor_left(&bytes) < sizeof copy - 4 ? cursor_left(&bytes) : sizeof copy - 4;
    struct fc_frame frame = {.data = copy,
                             .bytes = (uint32_t)length,
                             .bad = (flags & 4) != 0,
                             .vsan = (flags & 16) != 0 ? 7 : 0,
                             .time_ns = time_ns};
    cursor_copy(&bytes, copy, length);
    if ((flags & 1) != 0) {
        uint32_t crc = crc32_frame(0, copy, length);
        for (int i = 0; i < 4; i++)
            copy[length + (size_t)i] = (uint8_t)(crc >> (8 * i));
        frame.bytes += 4;
        frame.has_crc = true;
    }
    frame.wire_bytes = frame.bytes;
    if ((flags & 3) == 2)
        frame.wire_bytes += 8;
    fc_frame(f, &frame);
    if ((flags & 32) != 0) {
        frame.time_ns += NS_PER_MS;
        fc_frame(f, &frame);
    }
}

static void give(struct fc *f, uint8_t flags, struct cursor bytes, uint64_t time_ns) {
    if ((flags & 64) != 0)
        fc_loss(f, (flags & 16) != 0 ? 7 : 0, "a counter jumped", time_ns);
    if ((flags & 8) == 0) {
        give_frame(f, flags, bytes, time_ns);
        return;
    }
    struct fc_fip_frame fip = {.bytes = (uint32_t)cursor_left(&bytes), .time_ns = time_ns};
    fip.data = cursor_bytes(&bytes, fip.bytes);
    fc_fip(f, &fip);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct sink sink = {.update = take_update, .gap = take_gap, .path = take_path};
    struct tracker_limits limits = {.open_exchanges = 16, .payload_bytes = 256 << 10, .paths = 8};
    struct tracker *tracker = tracker_create(&sink, &limits);
    struct fc *f = fc_create(tracker, 64 << 10);
    struct cursor c = cursor_of(data, size);
    uint64_t time_ns = 1000 * NS_PER_SECOND;
    while (cursor_left(&c) >= 4) {
        uint8_t flags = cursor_u8(&c);
        time_ns += (uint64_t)((int8_t)cursor_u8(&c) * (int64_t)(5 * NS_PER_MS));
        size_t length = cursor_le16(&c);
        if (length > cursor_left(&c))
            length = cursor_left(&c);
        give(f, flags, cursor_child(&c, length), time_ns);
        check(fc_oldest_pending(f) > 0);
    }
    if (size % 2 == 0)
        fc_finish(f);
    fc_destroy(f);
    tracker_destroy(tracker);
    return 0;
}
