/*
 * Records as they come off the wire. The first byte says whether checksums are made right first:
 * without that no input would get past them.
 */
#include "common/buffer.h"
#include "common/crc32c.h"
#include "proto/record.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void mend_checksum(uint8_t *record, size_t size) {
    if (size < RECORD_HEAD_BYTES)
        return;
    size_t head = (size_t)record[10] | (size_t)record[11] << 8;
    if (head < RECORD_HEAD_BYTES || head > size)
        return;
    uint32_t crc = crc32c(0, record + 4, head - 4);
    for (size_t i = 0; i < 4; i++)
        record[i] = (uint8_t)(crc >> (8 * i));
}

/* What was decoded encodes to something that decodes to the same. */
static void check_round_trip(const struct record *r) {
    AUTO_BUFFER b;
    struct record again;
    buffer_init(&b, 4 << 20);
    record_encode(&b, r);
    struct cursor c = cursor_of(b.data, b.length);
    if (b.failed || record_decode(&c, &again, NULL) != 0 || again.type != r->type ||
        again.order != r->order || record_time_ns(&again) != record_time_ns(r))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1)
        return 0;
    uint8_t *copy = malloc(size);
    memcpy(copy, data + 1, size - 1);
    struct cursor c = cursor_of(copy, size - 1);
    struct record r;
    do {
        if ((data[0] & 1) != 0)
            mend_checksum(copy + (c.next - copy), cursor_left(&c));
        if (record_decode(&c, &r, NULL) != 0)
            break;
        if (r.type == RECORD_PAYLOAD)
            record_payload_ok(&r.payload);
        check_round_trip(&r);
    } while (cursor_left(&c) > 0);
    free(copy);
    return 0;
}
