#include "proto/limits.h"
#include "proto/message.h"
#include "proto/record.h"

#include <criterion/criterion.h>
#include <string.h>

static int decode(const struct buffer *b, struct message *m, struct cursor *body) {
    return message_decode(b->data, b->length, m, body, NULL);
}

Test(message, hello_welcome_refuse_survive) {
    AUTO_BUFFER b;
    struct message out;
    struct cursor body;
    buffer_init(&b, 4096);
    struct message hello = {.kind = MESSAGE_HELLO,
                            .hello = {.monitor = 1,
                                      .stream = 2,
                                      .name = "rack7",
                                      .name_bytes = 5,
                                      .software = "x",
                                      .software_bytes = 1}};
    message_encode(&b, &hello);
    cr_assert_eq(decode(&b, &out, &body), 0);
    cr_assert_eq(out.hello.stream, 2);
    cr_assert_eq(memcmp(out.hello.name, "rack7", 5), 0);
    buffer_clear(&b);
    message_encode(&b, &(struct message){.kind = MESSAGE_WELCOME, .welcome = {3, 4, 5}});
    cr_assert_eq(decode(&b, &out, &body), 0);
    cr_assert_eq(out.welcome.incarnation, 3);
    cr_assert_eq(out.welcome.frontier, 4);
    cr_assert_eq(out.welcome.credit_bytes, 5);
    buffer_clear(&b);
    message_encode(&b, &(struct message){.kind = MESSAGE_REFUSE, .refuse = {"no", 2}});
    cr_assert_eq(decode(&b, &out, &body), 0);
    cr_assert_eq(out.refuse.text_bytes, 2);
}

Test(message, ack_carries_ranges) {
    AUTO_BUFFER b;
    buffer_init(&b, 4096);
    struct range ranges[] = {{10, 20}, {30, 31}};
    message_encode(
        &b,
        &(struct message){.kind = MESSAGE_ACK,
                          .ack = {.stream = 9, .frontier = 5, .ranges = ranges, .range_count = 2}});
    struct message out;
    struct cursor body;
    cr_assert_eq(decode(&b, &out, &body), 0);
    cr_assert_eq(out.ack.frontier, 5);
    cr_assert_eq(out.ack.range_count, 2);
    cr_assert_eq(message_ack_range(&body).end, 20);
    cr_assert_eq(message_ack_range(&body).start, 30);
}

Test(message, control_carries_json_and_bytes) {
    AUTO_BUFFER b;
    buffer_init(&b, 4096);
    message_encode(&b, &(struct message){.kind = MESSAGE_CONTROL_REPLY,
                                         .control = {.json = "{}",
                                                     .json_bytes = 2,
                                                     .data = (const uint8_t *)"abc",
                                                     .data_bytes = 3}});
    struct message out;
    struct cursor body;
    cr_assert_eq(decode(&b, &out, &body), 0);
    cr_assert_eq(memcmp(out.control.json, "{}", 2), 0);
    cr_assert_eq(memcmp(out.control.data, "abc", 3), 0);
}

static void make_batch(struct buffer *b) {
    message_batch_begin(b);
    for (uint64_t order = 0; order < 3; order++)
        record_encode(b, &(struct record){.type = RECORD_FRONTIER,
                                          .order = order,
                                          .frontier = {.time_ns = order * 10}});
    message_batch_finish(b, &(struct message_batch){.monitor = 1, .stream = 2, .records = 3});
}

Test(message, batch_holds_records) {
    AUTO_BUFFER b;
    buffer_init(&b, LIMIT_BATCH_BYTES);
    make_batch(&b);
    struct message out;
    struct cursor body;
    cr_assert_eq(decode(&b, &out, &body), 0);
    cr_assert_eq(out.batch.stream, 2);
    cr_assert_eq(out.batch.records, 3);
    for (uint64_t order = 0; order < 3; order++) {
        struct record r;
        cr_assert_eq(record_decode(&body, &r, NULL), 0);
        cr_assert_eq(r.order, order);
    }
    cr_assert_eq(cursor_left(&body), 0);
}

Test(message, every_cut_and_flipped_head_bit_is_refused) {
    AUTO_BUFFER b;
    buffer_init(&b, LIMIT_BATCH_BYTES);
    make_batch(&b);
    struct message out;
    struct cursor body;
    for (size_t cut = 0; cut < b.length; cut++)
        cr_assert_neq(message_decode(b.data, cut, &out, &body, NULL), 0, "cut at %zu", cut);
    for (size_t bit = 0; bit < BATCH_HEAD_BYTES * 8; bit++) {
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        cr_assert_neq(decode(&b, &out, &body), 0, "bit %zu", bit);
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

Test(message, newer_protocol_is_named) {
    AUTO_BUFFER b;
    buffer_init(&b, 4096);
    message_encode(&b, &(struct message){.kind = MESSAGE_REFUSE, .refuse = {"no", 2}});
    b.data[4] = 2;
    struct message out;
    struct cursor body;
    struct error err;
    cr_assert_eq(message_decode(b.data, b.length, &out, &body, &err), ERR_VERSION);
    cr_assert_not_null(strstr(err.text, "version 2"));
}
