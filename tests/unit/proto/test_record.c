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

/* --- copies, audits, resumed streams -------------------------------------------------------------
 */

static const uint8_t three_crcs[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};

static struct record sample_copy(void) {
    return (struct record){.type = RECORD_UPDATE,
                           .order = 43,
                           .update = {.time_ns = 1000,
                                      .issued_ns = 900,
                                      .path = 7,
                                      .offset_bytes = 4096,
                                      .length_bytes = 1 << 30,
                                      .block_bytes = 512,
                                      .op = UPDATE_COPY,
                                      .opcode = 0x83,
                                      .source_path = 8,
                                      .source_offset_bytes = 512,
                                      .source_from_ns = 900,
                                      .source_until_ns = 1000}};
}

static struct record sample_audit(void) {
    return (struct record){.type = RECORD_AUDIT,
                           .order = 44,
                           .audit = {.time_ns = 1000,
                                     .issued_ns = 900,
                                     .path = 7,
                                     .offset_bytes = 4096,
                                     .block_bytes = 512,
                                     .blocks = 3,
                                     .kind = AUDIT_BLOCKSUM,
                                     .sums = three_crcs}};
}

static struct record sample_resume(void) {
    return (struct record){
        .type = RECORD_RESUME,
        .order = 1,
        .resume = {.time_ns = 1000, .path = 7, .stream = UINT64_MAX, .order = 99}};
}

Test(record, copy_or_and_xor_survive) {
    struct record in = sample_copy();
    struct record out = {0};
    struct error err = {0};
    cr_assert_eq(round_trip(&in, &out, &err), 0, "%s", err.text);
    cr_assert_eq(memcmp(&out.update, &in.update, sizeof in.update), 0);
    in = sample_update();
    in.update.op = UPDATE_OR;
    in.update.source_path = 5; /* not for this operation */
    cr_assert_eq(round_trip(&in, &out, &err), 0, "%s", err.text);
    cr_assert_eq(out.update.op, UPDATE_OR);
    cr_assert_eq(out.update.source_path, 0);
    in.update.op = UPDATE_XOR;
    cr_assert_eq(round_trip(&in, &out, &err), 0, "%s", err.text);
    cr_assert_eq(out.update.payload_bytes, 512);
}

Test(record, audit_and_resume_survive) {
    struct record in = sample_audit();
    struct record out = {0};
    struct error err = {0};
    cr_assert_eq(round_trip(&in, &out, &err), 0, "%s", err.text);
    cr_assert_eq(out.audit.issued_ns, 900);
    cr_assert_eq(out.audit.path, 7);
    cr_assert_eq(out.audit.offset_bytes, 4096);
    cr_assert_eq(out.audit.block_bytes, 512);
    cr_assert_eq(out.audit.blocks, 3);
    cr_assert_eq(memcmp(out.audit.sums, three_crcs, sizeof three_crcs), 0);
    cr_assert_eq(record_time_ns(&out), 1000);
    in = sample_resume();
    cr_assert_eq(round_trip(&in, &out, &err), 0, "%s", err.text);
    cr_assert_eq(memcmp(&out.resume, &in.resume, sizeof in.resume), 0);
    cr_assert_eq(record_time_ns(&out), 1000);
}

Test(record, a_provisional_path_survives_and_an_old_one_has_no_other) {
    const char *target = "10.0.0.1:3260";
    struct record in = {.type = RECORD_PATH,
                        .path = {.path = record_path_id(PATH_ISCSI, target, strlen(target), 1),
                                 .lun = 1,
                                 .flags = PATH_PROVISIONAL,
                                 .protocol = PATH_ISCSI,
                                 .target = target,
                                 .target_bytes = (uint16_t)strlen(target),
                                 .designator = "",
                                 .serial = "",
                                 .same_as = 12345}};
    struct record out = {0};
    struct error err = {0};
    cr_assert_eq(round_trip(&in, &out, &err), 0, "%s", err.text);
    cr_assert_eq(out.path.same_as, 12345);
    cr_assert_eq(out.path.flags, PATH_PROVISIONAL);
    /* As a monitor of the first version sends it: the field is not there. */
    AUTO_BUFFER b;
    buffer_init(&b, 4096);
    record_encode(&b, &in);
    struct cursor c = cursor_of(b.data + 10, 2);
    uint16_t head = (uint16_t)(cursor_le16(&c) - 8);
    buffer_patch_le(&b, 10, head, 2);
    buffer_patch_le(&b, 0, crc32c(0, b.data + 4, head - 4u), 4);
    c = cursor_of(b.data, b.length);
    cr_assert_eq(record_decode(&c, &out, &err), 0, "%s", err.text);
    cr_assert_eq(out.path.same_as, 0);
    buffer_patch_le(&b, 10, head + 3u, 2);
    buffer_patch_le(&b, 0, crc32c(0, b.data + 4, head - 1u), 4);
    c = cursor_of(b.data, b.length);
    cr_assert_eq(record_decode(&c, &out, &err), ERR_FORMAT, "half a number");
}

Test(record, impossible_copies_audits_and_resumptions_are_refused) {
    struct record c = sample_copy();
    cr_assert_eq(decode_patched(&c, 80, 9, 8), 0, "the patching itself works");
    cr_assert_eq(decode_patched(&c, 80, 0, 8), ERR_FORMAT, "no source");
    cr_assert_eq(decode_patched(&c, 88, INT64_MAX, 8), ERR_FORMAT, "source offset");
    cr_assert_eq(decode_patched(&c, 96, 1001, 8), ERR_FORMAT, "it ends before it begins");
    cr_assert_eq(decode_patched(&c, 72, 512, 4), ERR_FORMAT, "a copy has no payload");
    cr_assert_eq(decode_patched(&c, 56, UINT64_MAX - 5000, 8), ERR_FORMAT, "length wraps");
    for (uint64_t head = 80; head < 112; head++)
        cr_assert_eq(decode_patched(&c, 10, head, 2), ERR_FORMAT, "cut at %lu", head);
    struct record u = sample_update();
    u.update.op = UPDATE_XOR;
    cr_assert_eq(decode_patched(&u, 72, 0, 4), ERR_FORMAT, "an XOR without data");
    cr_assert_eq(decode_patched(&u, 56, 1024, 8), ERR_FORMAT, "an XOR of another length");
    struct record a = sample_audit();
    cr_assert_eq(decode_patched(&a, 24, 7, 8), 0, "the patching itself works");
    cr_assert_eq(decode_patched(&a, 40, 0, 8), ERR_FORMAT, "no path");
    cr_assert_eq(decode_patched(&a, 48, INT64_MAX - 512, 8), ERR_FORMAT, "offset");
    cr_assert_eq(decode_patched(&a, 56, 0, 4), ERR_FORMAT, "blocks of nothing");
    cr_assert_eq(decode_patched(&a, 60, 0, 4), ERR_FORMAT, "no blocks");
    cr_assert_eq(decode_patched(&a, 60, 4, 4), ERR_FORMAT, "more checksums than there are");
    cr_assert_eq(decode_patched(&a, 60, AUDIT_BLOCKS + 1, 4), ERR_FORMAT, "too many blocks");
    cr_assert_eq(decode_patched(&a, 60, UINT32_MAX, 4), ERR_FORMAT, "far too many blocks");
    cr_assert_eq(decode_patched(&a, 10, 75, 2), ERR_FORMAT, "a checksum cut short");
    struct record r = sample_resume();
    cr_assert_eq(decode_patched(&r, 32, 0, 8), ERR_FORMAT, "no path");
    for (uint64_t head = 24; head < 56; head++)
        cr_assert_eq(decode_patched(&r, 10, head, 2), ERR_FORMAT, "cut at %lu", head);
}
