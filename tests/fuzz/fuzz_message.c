/*
 * Whole frames as they come off a socket: heads, bodies, and the records of a batch joined with
 * their payloads. The first byte says whether the length and the checksums are made right first.
 */
#include "common/crc32c.h"
#include "proto/message.h"
#include "recoveryd/receive/landing.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void store_le32(uint8_t *to, uint32_t value) {
    for (size_t i = 0; i < 4; i++)
        to[i] = (uint8_t)(value >> (8 * i));
}

static void mend(uint8_t *frame, size_t size) {
    if (size < BATCH_HEAD_BYTES)
        return;
    store_le32(frame + 8, (uint32_t)size);
    bool is_batch = frame[6] == MESSAGE_BATCH && frame[7] == 0;
    size_t at = is_batch ? BATCH_HEAD_BYTES - 4 : size - 4;
    store_le32(frame + at, crc32c(0, frame, at));
}

static void mend_records(uint8_t *frame, size_t size) {
    size_t at = BATCH_HEAD_BYTES;
    while (at + RECORD_HEAD_BYTES <= size) {
        uint8_t *record = frame + at;
        uint32_t length = (uint32_t)record[4] | (uint32_t)record[5] << 8 |
                          (uint32_t)record[6] << 16 | (uint32_t)record[7] << 24;
        size_t head = (size_t)record[10] | (size_t)record[11] << 8;
        if (head < RECORD_HEAD_BYTES || head > size - at || length < head || length > size - at)
            return;
        store_le32(record, crc32c(0, record + 4, head - 4));
        at += length;
    }
}

static void decode(const uint8_t *frame, size_t size) {
    struct message m;
    struct cursor body;
    struct landing l;
    if (message_decode(frame, size, &m, &body, NULL) != 0)
        return;
    for (uint32_t i = 0; m.kind == MESSAGE_ACK && i < m.ack.range_count; i++)
        message_ack_range(&body);
    if (m.kind != MESSAGE_BATCH || landing_decode(&l, &m.batch, &body, frame, NULL) != 0)
        return;
    for (size_t i = 1; i < l.count; i++) {
        if (l.arrivals[i - 1].order >= l.arrivals[i].order)
            abort();
    }
    landing_place(&l, &(struct extent){.segment = 1, .offset = 4096});
    landing_release(&l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1)
        return 0;
    uint8_t *copy = malloc(size);
    memcpy(copy, data + 1, size - 1);
    if ((data[0] & 1) != 0) {
        mend_records(copy, size - 1);
        mend(copy, size - 1);
    }
    decode(copy, size - 1);
    free(copy);
    return 0;
}
