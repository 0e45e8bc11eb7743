#include "common/crc32c.h"
#include "proto/limits.h"
#include "proto/record.h"

#include <criterion/criterion.h>
#include <string.h>

static struct record sample_update(void) {
    return (struct record){.type = RECORD_UPDATE,
                           .order = 42,
                           .update = {.time_ns = 1000,
                                      .issued_ns = 900,
                                      .path = 7,
                                      .offset_bytes = 4096,
                                      .length_bytes = 512,
                                      .block_bytes = 512,
                                      .op = UPDATE_WRITE,
                                      .opcode = 0x2a,
                                      .flags = UPDATE_FUA,
                                      .payload_bytes = 512,
                                      .payload_crc32c = 0x12345678}};
}

static int round_trip(const struct record *in, struct record *out, struct error *err) {
    static struct buffer b;
    buffer_release(&b);
    buffer_init(&b, LIMIT_BATCH_BYTES);
    record_encode(&b, in);
    cr_assert_not(b.failed);
    cr_assert_eq(b.length % RECORD_ALIGN, 0);
    struct cursor c = cursor_of(b.data, b.length);
    int code = record_decode(&c, out, err);
    if (code == 0)
        cr_assert_eq(cursor_left(&c), 0);
    return code;
}

Test(record, update_survives) {
    struct record in = sample_update();
    struct record out = {0};
    struct error err = {0};
    cr_assert_eq(round_trip(&in, &out, &err), 0, "%s", err.text);
    cr_assert_eq(out.type, RECORD_UPDATE);
    cr_assert_eq(out.order, 42);
    cr_assert_eq(out.update.time_ns, 1000);
    cr_assert_eq(out.update.issued_ns, 900);
    cr_assert_eq(out.update.path, 7);
    cr_assert_eq(out.update.offset_bytes, 4096);
    cr_assert_eq(out.update.length_bytes, 512);
    cr_assert_eq(out.update.block_bytes, 512);
    cr_assert_eq(out.update.opcode, 0x2a);
    cr_assert_eq(out.update.flags, UPDATE_FUA);
    cr_assert_eq(out.update.payload_crc32c, 0x12345678);
    cr_assert_eq(record_time_ns(&out), 1000);
}

Test(record, gap_path_and_frontier_survive) {
    struct error err = {0};
    struct record out = {0};
    const char *text = "a hole of 1460 bytes";
    struct record gap = {.type = RECORD_GAP,
                         .order = 3,
                         .gap = {.time_ns = 5,
                                 .path = 9,
                                 .length_bytes = GAP_TO_END,
                                 .reason = GAP_STREAM_HOLE,
                                 .text = text,
                                 .text_bytes = (uint16_t)strlen(text)}};
    cr_assert_eq(round_trip(&gap, &out, &err), 0, "%s", err.text);
    cr_assert_eq(out.gap.length_bytes, GAP_TO_END);
    cr_assert_eq(memcmp(out.gap.text, text, out.gap.text_bytes), 0);

    const char *target = "iqn.2001-04.com.example:disk";
    struct record path = {.type = RECORD_PATH,
                          .order = 4,
                          .path = {.time_ns = 6,
                                   .path = record_path_id(PATH_ISCSI, target, strlen(target), 1),
                                   .size_bytes = 1 << 20,
                                   .lun = 1,
                                   .block_bytes = 512,
                                   .flags = PATH_LBPRZ,
                                   .protocol = PATH_ISCSI,
                                   .target = target,
                                   .target_bytes = (uint16_t)strlen(target),
                                   .designator = "naa.5",
                                   .designator_bytes = 5,
                                   .serial = ""}};
    cr_assert_eq(round_trip(&path, &out, &err), 0, "%s", err.text);
    cr_assert_eq(out.path.size_bytes, 1 << 20);
    cr_assert_eq(out.path.designator_bytes, 5);
    cr_assert_eq(out.path.serial_bytes, 0);
    path.path.path++;
    cr_assert_eq(round_trip(&path, &out, &err), ERR_FORMAT, "a path's number is checked");

    struct record frontier = {.type = RECORD_FRONTIER,
                              .frontier = {.time_ns = 8, .packets = 2, .flags = FRONTIER_END}};
    cr_assert_eq(round_trip(&frontier, &out, &err), 0, "%s", err.text);
    cr_assert_eq(out.frontier.packets, 2);
    cr_assert_eq(out.frontier.flags, FRONTIER_END);
}

Test(record, payload_in_pieces_equals_payload_in_one) {
    uint8_t data[1000];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7);
    uint32_t crc = crc32c(0, data, sizeof data);
    AUTO_BUFFER whole;
    AUTO_BUFFER pieces;
    buffer_init(&whole, 4096);
    buffer_init(&pieces, 4096);
    struct record r = {.type = RECORD_PAYLOAD, .order = 5, .payload = {sizeof data, crc, data}};
    record_encode(&whole, &r);
    size_t start = record_payload_begin(&pieces, 5, sizeof data, crc);
    buffer_put(&pieces, data, 333);
    buffer_put(&pieces, data + 333, sizeof data - 333);
    record_payload_end(&pieces, start);
    cr_assert_eq(whole.length, pieces.length);
    cr_assert_eq(memcmp(whole.data, pieces.data, whole.length), 0);
    struct cursor c = cursor_of(whole.data, whole.length);
    struct record out;
    cr_assert_eq(record_decode(&c, &out, NULL), 0);
    cr_assert(record_payload_ok(&out.payload));
    whole.data[100] ^= 1;
    cr_assert_not(record_payload_ok(&out.payload), "a flipped bit in the data is found");
}

static int decode_bytes(const uint8_t *data, size_t bytes) {
    struct cursor c = cursor_of(data, bytes);
    struct record out;
    return record_decode(&c, &out, NULL);
}

Test(record, every_flipped_bit_and_every_cut_is_refused) {
    struct record in = sample_update();
    AUTO_BUFFER b;
    buffer_init(&b, 4096);
    record_encode(&b, &in);
    cr_assert_eq(decode_bytes(b.data, b.length), 0);
    for (size_t cut = 0; cut < b.length; cut++)
        cr_assert_neq(decode_bytes(b.data, cut), 0, "cut at %zu", cut);
    for (size_t bit = 0; bit < b.length * 8; bit++) {
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        cr_assert_neq(decode_bytes(b.data, b.length), 0, "bit %zu", bit);
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

/* With a right checksum, so that only the check of the field itself can refuse it. */
static int decode_patched(const struct record *in, size_t at, uint64_t value, size_t width) {
    AUTO_BUFFER b;
    buffer_init(&b, LIMIT_BATCH_BYTES);
    record_encode(&b, in);
    buffer_patch_le(&b, at, value, width);
    struct cursor c = cursor_of(b.data, b.length);
    cursor_skip(&c, 10);
    uint16_t head = cursor_le16(&c);
    if (head >= 4 && head <= b.length)
        buffer_patch_le(&b, 0, crc32c(0, b.data + 4, head - 4u), 4);
    return decode_bytes(b.data, b.length);
}

Test(record, impossible_fields_are_refused) {
    struct record u = sample_update();
    cr_assert_eq(decode_patched(&u, 24, 1001, 8), 0, "the patching itself works");
    cr_assert_eq(decode_patched(&u, 4, 1 << 20, 4), ERR_FORMAT, "length beyond the end");
    cr_assert_eq(decode_patched(&u, 4, 81, 4), ERR_FORMAT, "length not a multiple of 8");
    cr_assert_eq(decode_patched(&u, 10, 8, 2), ERR_FORMAT, "head too short");
    cr_assert_eq(decode_patched(&u, 10, 5000, 2), ERR_FORMAT, "head too long");
    cr_assert_eq(decode_patched(&u, 8, 99, 2), ERR_VERSION, "unknown type");
    cr_assert_eq(decode_patched(&u, 40, 0, 8), ERR_FORMAT, "no path");
    cr_assert_eq(decode_patched(&u, 48, UINT64_MAX, 8), ERR_FORMAT, "offset");
    cr_assert_eq(decode_patched(&u, 56, UINT64_MAX - 5000, 8), ERR_FORMAT, "length wraps");
    cr_assert_eq(decode_patched(&u, 68, 77, 1), ERR_FORMAT, "operation");
    cr_assert_eq(decode_patched(&u, 72, 511, 4), ERR_FORMAT, "payload is not the range");
    struct record g = {.type = RECORD_GAP,
                       .gap = {.path = 1, .length_bytes = 8, .text = "abc", .text_bytes = 3}};
    cr_assert_eq(decode_patched(&g, 66, 5000, 2), ERR_FORMAT, "text beyond the head");
    struct record p = {.type = RECORD_PAYLOAD, .payload = {8, 0, (const uint8_t *)"12345678"}};
    cr_assert_eq(decode_patched(&p, 24, 0, 4), ERR_FORMAT, "empty payload");
    cr_assert_eq(decode_patched(&p, 24, 4000, 4), ERR_FORMAT, "payload beyond the record");
    cr_assert_eq(decode_patched(&p, 24, UINT32_MAX, 4), ERR_FORMAT, "payload beyond all limits");
}

Test(record, path_ids_differ_and_are_stable) {
    uint64_t id = record_path_id(PATH_ISCSI, "iqn.a", 5, 0);
    cr_assert_neq(id, record_path_id(PATH_ISCSI, "iqn.a", 5, 1));
    cr_assert_neq(id, record_path_id(PATH_FCP, "iqn.a", 5, 0));
    cr_assert_neq(id, record_path_id(PATH_ISCSI, "iqn.b", 5, 0));
    /* First 8 bytes of SHA-256 of 01 | 8 zero bytes | "iqn.a": part of the wire protocol. */
    cr_assert_eq(id, UINT64_C(0x861f954d78b6d28c));
}
