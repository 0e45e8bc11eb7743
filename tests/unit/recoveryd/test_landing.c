/* Batches taken apart, halves joined, and what waits for the rest. */
#include "../common/seed.h"
#include "sim.h"

#include "proto/limits.h"
#include "recoveryd/receive/landing.h"
#include "recoveryd/receive/waiting.h"

#include <criterion/criterion.h>
#include <string.h>

static int decode(const struct buffer *frame, struct landing *l, struct error *err) {
    struct message m;
    struct cursor body;
    /* From memory of exactly its size, so that a sanitizer sees a read past the end. */
    uint8_t *copy = malloc(frame->length > 0 ? frame->length : 1);
    memcpy(copy, frame->data, frame->length);
    int code = message_decode(copy, frame->length, &m, &body, err);
    if (code == 0)
        code = landing_decode(l, &m.batch, &body, copy, err);
    free(copy);
    return code;
}

static void make(struct sim_stream *s, size_t updates) {
    uint64_t state = 5;
    sim_stream_make(s, "mon", 7, SIM_START_NS, updates, &state);
}

Test(landing, joins_updates_with_their_payloads) {
    struct sim_stream s;
    struct landing l;
    struct error err = {0};
    make(&s, 40);
    AUTO_FREE size_t *index = malloc(s.count * sizeof *index);
    for (size_t i = 0; i < s.count; i++)
        index[i] = s.count - 1 - i;
    AUTO_BUFFER frame;
    sim_batch(&s, index, s.count, &frame);
    cr_assert_eq(decode(&frame, &l, &err), 0, "%s", err.text);
    cr_assert_eq(l.count, s.orders, "one arrival per order mark");
    landing_place(&l, &(struct extent){.segment = 3, .bytes = 0, .offset = 4096});
    for (size_t i = 0; i < l.count; i++) {
        cr_assert_eq(l.arrivals[i].order, i);
        cr_assert(arrival_is_whole(&l.arrivals[i]));
        if (!l.arrivals[i].has_payload)
            continue;
        cr_assert_eq(l.arrivals[i].payload.segment, 3);
        cr_assert_eq(l.arrivals[i].payload.bytes, l.arrivals[i].control.update.payload_bytes);
        cr_assert_leq(l.arrivals[i].payload.offset + l.arrivals[i].payload.bytes,
                      4096 + frame.length);
    }
    landing_release(&l);
    sim_stream_release(&s);
}

/* The strings of a PATH must outlive the frame. */
Test(landing, keeps_the_strings_of_a_path) {
    struct sim_stream s;
    struct landing l;
    make(&s, 1);
    AUTO_BUFFER frame;
    sim_batch(&s, (size_t[]){0}, 1, &frame);
    cr_assert_eq(decode(&frame, &l, NULL), 0);
    const struct path_record *path = &l.arrivals[0].control.path;
    cr_assert_eq(path->target_bytes, strlen(SIM_TARGET));
    cr_assert_eq(memcmp(path->target, SIM_TARGET, path->target_bytes), 0);
    cr_assert_eq(memcmp(path->designator, SIM_DESIGNATOR, path->designator_bytes), 0);
    landing_release(&l);
    sim_stream_release(&s);
}

static void expect_same(const struct landing *a, const struct landing *b) {
    cr_assert_eq(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        cr_assert_eq(a->arrivals[i].order, b->arrivals[i].order);
        cr_assert_eq(a->arrivals[i].control.type, b->arrivals[i].control.type);
        cr_assert_eq(record_time_ns(&a->arrivals[i].control),
                     record_time_ns(&b->arrivals[i].control));
        cr_assert_eq(a->arrivals[i].payload_crc32c, b->arrivals[i].payload_crc32c);
    }
}

/* A flipped byte is refused; only the padding behind a payload is nobody's, and changes nothing. */
Test(landing, every_flipped_byte_is_refused) {
    struct sim_stream s;
    struct landing whole;
    struct landing l;
    size_t taken = 0;
    make(&s, 3);
    AUTO_BUFFER frame;
    size_t index[16];
    size_t count = s.count < 16 ? s.count : 16;
    for (size_t i = 0; i < count; i++)
        index[i] = i;
    sim_batch(&s, index, count, &frame);
    cr_assert_eq(decode(&frame, &whole, NULL), 0);
    for (size_t at = 0; at < frame.length; at++) {
        frame.data[at] ^= 0x40;
        if (decode(&frame, &l, NULL) == 0) {
            expect_same(&whole, &l);
            landing_release(&l);
            taken++;
        }
        frame.data[at] ^= 0x40;
    }
    cr_assert_leq(taken, 8 * count, "%zu flips went unnoticed", taken);
    landing_release(&whole);
    sim_stream_release(&s);
}

Test(landing, every_cut_is_refused) {
    struct sim_stream s;
    struct landing l;
    make(&s, 2);
    AUTO_BUFFER frame;
    sim_batch(&s, (size_t[]){0, 1, 2}, 3, &frame);
    size_t whole = frame.length;
    for (size_t length = BATCH_HEAD_BYTES; length < whole; length++) {
        frame.length = length;
        message_batch_finish(&frame, &(struct message_batch){s.monitor, s.stream, 3});
        cr_assert_lt(decode(&frame, &l, NULL), 0, "cut to %zu of %zu", length, whole);
    }
    sim_stream_release(&s);
}

static void put(struct buffer *b, struct record r) {
    record_encode(b, &r);
}

static struct record update_of(uint64_t order, uint32_t bytes, uint32_t crc) {
    return (struct record){.type = RECORD_UPDATE,
                           .order = order,
                           .update = {.time_ns = 1,
                                      .path = 1,
                                      .length_bytes = bytes,
                                      .op = UPDATE_WRITE,
                                      .payload_bytes = bytes,
                                      .payload_crc32c = crc}};
}

static struct record payload_of(uint64_t order, const uint8_t *data, uint32_t bytes, uint32_t crc) {
    return (struct record){.type = RECORD_PAYLOAD,
                           .order = order,
                           .payload = {.bytes = bytes, .crc32c = crc, .data = data}};
}

Test(landing, a_payload_that_is_not_the_one_that_its_update_names) {
    static const uint8_t data[512];
    struct landing l;
    struct error err = {0};
    AUTO_BUFFER frame;
    buffer_init(&frame, LIMIT_BATCH_BYTES);
    message_batch_begin(&frame);
    put(&frame, update_of(0, 512, 77));
    put(&frame, payload_of(0, data, 512, 0x30fcedc0)); /* CRC32C of 512 zeros */
    message_batch_finish(&frame, &(struct message_batch){1, 2, 2});
    cr_assert_eq(decode(&frame, &l, &err), ERR_FORMAT);
}

/* --- waiting -------------------------------------------------------------------------------------
 */

static struct arrival control(uint64_t order, uint32_t crc) {
    return (struct arrival){
        .order = order, .has_control = true, .control = update_of(order, 512, crc)};
}

static struct arrival payload(uint64_t order, uint32_t crc) {
    return (struct arrival){.order = order,
                            .has_payload = true,
                            .payload_bytes = 512,
                            .payload_crc32c = crc,
                            .payload = {.segment = 1, .bytes = 512, .offset = order * 512}};
}

static void give(struct waiting *w, struct arrival a) {
    cr_assert(waiting_add(w, &a));
}

Test(waiting, halves_join_in_either_order) {
    struct waiting w = {0};
    give(&w, control(5, 1));
    give(&w, payload(3, 2));
    cr_assert_eq(w.whole_count, 0);
    cr_assert_eq(w.half_count, 2);
    give(&w, control(3, 2));
    give(&w, payload(5, 1));
    cr_assert_eq(w.whole_count, 2);
    cr_assert_eq(w.half_count, 0);
    waiting_sort(&w);
    cr_assert_eq(w.whole[0].order, 3);
    cr_assert_eq(w.whole[1].order, 5);
    waiting_release(&w);
}

Test(waiting, duplicates_leave_one) {
    struct waiting w = {0};
    for (int i = 0; i < 3; i++) {
        give(&w, control(5, 1));
        give(&w, control(5, 1));
        give(&w, payload(5, 1));
    }
    give(&w, payload(5, 1));
    waiting_sort(&w);
    cr_assert_eq(w.whole_count, 1);
    waiting_remove(&w, (bool[]){true});
    cr_assert_eq(waiting_count(&w), 0, "the half that came again went with it");
    waiting_release(&w);
}

Test(waiting, a_wrong_payload_does_not_block_the_right_one) {
    struct waiting w = {0};
    give(&w, payload(5, 99));
    give(&w, control(5, 1));
    cr_assert_eq(w.whole_count, 0);
    cr_assert_eq(w.misfits, 1);
    give(&w, payload(5, 1));
    cr_assert_eq(w.whole_count, 1);
    cr_assert_eq(w.whole[0].payload_crc32c, 1);
    waiting_release(&w);
}

Test(waiting, what_is_not_done_stays) {
    struct waiting w = {0};
    for (uint64_t i = 0; i < 6; i++) {
        give(&w, control(i, 1));
        give(&w, payload(i, 1));
    }
    waiting_sort(&w);
    waiting_remove(&w, (bool[]){true, false, true, false, false, true});
    cr_assert_eq(w.whole_count, 3);
    cr_assert_eq(w.whole[0].order, 1);
    cr_assert_eq(w.whole[1].order, 3);
    cr_assert_eq(w.whole[2].order, 4);
    waiting_release(&w);
}
