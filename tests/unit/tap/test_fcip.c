#include "tap/fcip/fcip.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

enum { HEAD = 28, PAYLOAD = 64, FC_BYTES = 24 + PAYLOAD + 4, FRAME = HEAD + 4 + FC_BYTES + 4 };

static struct fcip *f;
static struct tcp_consumer consumer;
static void *tunnel;
static unsigned frames;
static unsigned losses;
static char last_loss[128];
static uint8_t marks[1000]; /* the first byte of each frame's payload */
static struct fc_frame last;

static void on_frame(void *context, const struct fc_frame *frame) {
    (void)context;
    last = *frame;
    marks[frames++ % sizeof marks] = frame->data[24];
}

static void on_loss(void *context, const char *text, uint64_t time_ns) {
    (void)context;
    (void)time_ns;
    losses++;
    snprintf(last_loss, sizeof last_loss, "%s", text);
}

static void open_tunnel(bool from_start) {
    struct tcp_endpoints endpoints = {.server_port = 3225};
    tunnel = consumer.open(consumer.context, &endpoints, from_start, 0);
}

static void start(void) {
    f = fcip_create(&(struct fcip_output){.frame = on_frame, .loss = on_loss});
    consumer = fcip_consumer(f);
    open_tunnel(true);
}

static void stop(void) {
    consumer.close(tunnel, TCP_END_FIN, 0);
    fcip_destroy(f);
}

TestSuite(fcip, .init = start, .fini = stop);

static void be32(uint8_t *to, uint32_t value) {
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(value >> (24 - 8 * i));
}

static void be16_and_not(uint8_t *to, uint16_t value) {
    be32(to, (uint32_t)value << 16 | (uint16_t)~value);
}

static void delimiter(uint8_t *to, uint8_t code) {
    uint8_t not_code = (uint8_t)~code;
    memcpy(to, (uint8_t[]){code, code, not_code, not_code}, 4);
}

/* An FCIP frame whose payload is all `mark`. */
static void make(uint8_t *to, uint8_t mark) {
    memset(to, 0, FRAME);
    be16_and_not(to, 0x0101);
    be16_and_not(to + 4, 0x0101);
    be16_and_not(to + 8, 0);
    be16_and_not(to + 12, FRAME / 4);
    delimiter(to + HEAD, FC_SOF_I3);
    memset(to + HEAD + 4 + 24, mark, PAYLOAD);
    delimiter(to + FRAME - 4, FC_EOF_T);
}

static void give(const uint8_t *data, size_t bytes) {
    cr_assert(consumer.data(tunnel, TCP_TO_SERVER, data, bytes, 5));
}

static void lose(uint64_t bytes) {
    cr_assert(consumer.hole(tunnel, TCP_TO_SERVER, bytes, 5));
}

static void expect_marks(unsigned count, const char *expected) {
    cr_assert_eq(frames, count, "%u", frames);
    cr_assert_arr_eq(marks, expected, count);
}

Test(fcip, one_frame) {
    uint8_t frame[FRAME];
    make(frame, 'a');
    give(frame, FRAME);
    expect_marks(1, "a");
    cr_assert_eq(last.bytes, FC_BYTES);
    cr_assert_eq(last.wire_bytes, FC_BYTES);
    cr_assert(last.has_crc);
    cr_assert_not(last.bad);
    cr_assert_eq(last.sof, FC_SOF_I3);
    cr_assert_eq(last.eof, FC_EOF_T);
    cr_assert_eq(last.time_ns, 5);
    cr_assert_eq(losses, 0);
}

Test(fcip, in_pieces_of_any_size) {
    static uint8_t stream[26 * FRAME];
    for (unsigned i = 0; i < 26; i++)
        make(stream + i * FRAME, (uint8_t)('a' + i));
    for (size_t piece = 1; piece < 2 * FRAME; piece += 7) {
        frames = 0;
        for (size_t at = 0; at < sizeof stream; at += piece)
            give(stream + at, at + piece < sizeof stream ? piece : sizeof stream - at);
        expect_marks(26, "abcdefghijklmnopqrstuvwxyz");
    }
    cr_assert_eq(losses, 0);
}

Test(fcip, directions_are_apart) {
    uint8_t frame[FRAME];
    make(frame, 'a');
    give(frame, 50);
    consumer.data(tunnel, TCP_TO_CLIENT, frame, FRAME, 5);
    give(frame + 50, FRAME - 50);
    expect_marks(2, "aa");
}

Test(fcip, special_frames_are_not_for_the_fabric) {
    uint8_t frame[76] = {0};
    be16_and_not(frame, 0x0101);
    be16_and_not(frame + 4, 0x0101);
    be16_and_not(frame + 8, 0x0100);
    be16_and_not(frame + 12, 76 / 4);
    give(frame, sizeof frame);
    cr_assert_eq(frames, 0);
    cr_assert_eq(losses, 0);
    cr_assert_eq(fcip_counters(f)->special, 1);
}

Test(fcip, bad_frames_say_so) {
    uint8_t frame[FRAME];
    make(frame, 'a');
    delimiter(frame + FRAME - 4, FC_EOF_NI);
    give(frame, FRAME);
    cr_assert(last.bad);
}

/* A hole inside of one frame costs that frame, and the place of the next is known. */
Test(fcip, hole_in_a_frame) {
    uint8_t stream[3 * FRAME];
    for (unsigned i = 0; i < 3; i++)
        make(stream + i * FRAME, (uint8_t)('a' + i));
    give(stream, FRAME + 40);
    lose(20);
    give(stream + FRAME + 60, sizeof stream - FRAME - 60);
    expect_marks(2, "ac");
    cr_assert_eq(losses, 1);
    cr_assert_eq(fcip_counters(f)->lost_synchronisation, 0);
}

Test(fcip, two_holes_in_a_frame) {
    uint8_t stream[2 * FRAME];
    make(stream, 'a');
    make(stream + FRAME, 'b');
    give(stream, 40);
    lose(20);
    give(stream + 60, 10);
    lose(5);
    give(stream + 75, sizeof stream - 75);
    expect_marks(1, "b");
    cr_assert_eq(fcip_counters(f)->lost_synchronisation, 0);
}

Test(fcip, hole_over_the_beginning_of_a_frame) {
    uint8_t stream[4 * FRAME];
    for (unsigned i = 0; i < 4; i++)
        make(stream + i * FRAME, (uint8_t)('a' + i));
    give(stream, FRAME + 40);
    lose(FRAME);
    give(stream + 2 * FRAME + 40, sizeof stream - 2 * FRAME - 40);
    expect_marks(2, "ad");
    cr_assert_eq(fcip_counters(f)->lost_synchronisation, 1);
    cr_assert_gt(losses, 0);
}

Test(fcip, joined_in_the_middle) {
    uint8_t stream[3 * FRAME];
    for (unsigned i = 0; i < 3; i++)
        make(stream + i * FRAME, (uint8_t)('a' + i));
    consumer.close(tunnel, TCP_END_FIN, 0);
    open_tunnel(false);
    give(stream + 33, sizeof stream - 33);
    expect_marks(2, "bc");
    cr_assert_eq(losses, 1);
}

/* Every field that is there twice, changed once: the frame is none, and the next is found. */
Test(fcip, each_redundant_field) {
    static const size_t places[] = {0,  1,  2,  3,  4,         5,         6,         7,
                                    8,  9,  10, 11, 12,        13,        14,        15,
                                    28, 29, 30, 31, FRAME - 4, FRAME - 3, FRAME - 2, FRAME - 1};
    for (unsigned i = 0; i < sizeof places / sizeof *places; i++) {
        uint8_t stream[3 * FRAME];
        for (unsigned k = 0; k < 3; k++)
            make(stream + k * FRAME, (uint8_t)('a' + k));
        stream[FRAME + places[i]] ^= 0x10;
        frames = losses = 0;
        give(stream, sizeof stream);
        expect_marks(2, "ac");
        cr_assert_gt(losses, 0, "byte %zu", places[i]);
    }
}

Test(fcip, lengths_out_of_bounds) {
    static const uint16_t words[] = {0, 15, 16, 545, 1023};
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++) {
        uint8_t stream[2 * FRAME];
        make(stream, 'a');
        make(stream + FRAME, 'b');
        be16_and_not(stream + 12, words[i]);
        frames = losses = 0;
        give(stream, sizeof stream);
        expect_marks(1, "b");
        cr_assert_gt(losses, 0);
    }
}

/* While nothing can be read, all that passes may be anything. */
Test(fcip, encrypted_stream) {
    uint8_t noise[4096];
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)(i * 7 + i / 256 * 13);
    for (unsigned i = 1; i <= 10; i++) {
        give(noise, sizeof noise);
        cr_assert_geq(losses, i);
    }
    cr_assert_eq(frames, 0);
}

static void make_ifcp(uint8_t *to, uint8_t flags) {
    make(to, 'i');
    be16_and_not(to, 0x0201);
    be32(to + 4, 0);
    be32(to + 8, (uint32_t)flags << 16 | FC_SOF_I3 << 8 | FC_EOF_T);
}

Test(fcip, ifcp) {
    uint8_t frame[FRAME];
    make_ifcp(frame, 0x02);
    give(frame, FRAME);
    expect_marks(1, "i");
    make_ifcp(frame, 0x04);
    give(frame, FRAME);
    cr_assert_eq(fcip_counters(f)->special, 1);
    cr_assert_eq(losses, 0);
    make_ifcp(frame, 0);
    give(frame, FRAME);
    expect_marks(1, "i");
    cr_assert_eq(fcip_counters(f)->translated, 1);
    cr_assert_eq(losses, 1);
}

Test(fcip, more_tunnels_than_there_is_room) {
    void *tunnels[300];
    struct tcp_endpoints endpoints = {.server_port = 3225};
    uint8_t frame[FRAME];
    make(frame, 'a');
    for (unsigned i = 0; i < 300; i++)
        tunnels[i] = consumer.open(consumer.context, &endpoints, true, 0);
    cr_assert(consumer.data(tunnels[299], TCP_TO_SERVER, frame, FRAME, 5));
    cr_assert_eq(losses, 1);
    cr_assert_eq(frames, 0);
    for (unsigned i = 0; i < 300; i++)
        consumer.close(tunnels[i], TCP_END_FIN, 0);
}
