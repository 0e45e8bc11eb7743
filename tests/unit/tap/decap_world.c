#include "tests/unit/tap/decap_world.h"

#include "common/clock.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct made_frame f;
struct decap *d;
unsigned segments;
struct tcp_segment last;
char text[70000];
unsigned fc_frames;
struct fc_frame last_fc;
unsigned losses;
char loss_text[256];
uint64_t loss_ns;
unsigned first_drops;
uint64_t now_ns = UINT64_C(1700000000) * NS_PER_SECOND;

static void take(const struct tcp_segment *segment) {
    segments++;
    last = *segment;
    memcpy(text, segment->data, segment->data_bytes);
    text[segment->data_bytes] = '\0';
}

static void on_loss(void *context, const struct decap_loss *loss) {
    (void)context;
    losses++;
    loss_ns = loss->time_ns;
    snprintf(loss_text, sizeof loss_text, "%s", loss->text);
}

static void on_first_drop(void *context, enum decap_drop reason) {
    (void)context;
    (void)reason;
    first_drops++;
}

void world_start(void) {
    d = decap_create();
    decap_observe(d, &(struct decap_observer){.loss = on_loss, .first_drop = on_first_drop});
    frame_init(&f);
}

void world_stop(void) {
    decap_destroy(d);
}

void show_cut(int link_type, size_t captured) {
    uint8_t *exact = malloc(captured + 1); /* so that a sanitizer sees what lies behind */
    memcpy(exact, frame_data(&f), captured);
    struct packet packet = {.data = exact,
                            .caplen = (uint32_t)captured,
                            .wire_length = (uint32_t)frame_length(&f),
                            .time_ns = now_ns,
                            .link_type = link_type};
    struct decap_result found;
    enum decap_kind kind = decap_packet(d, &packet, &found);
    if (kind == DECAP_TCP)
        take(&found.tcp);
    if (kind == DECAP_FC) {
        fc_frames++;
        last_fc = found.fc;
    }
    free(exact);
}

void show(int link_type) {
    show_cut(link_type, frame_length(&f));
}

uint64_t dropped(void) {
    uint64_t total = 0;
    for (int i = 0; i < DECAP_REASONS; i++)
        total += decap_dropped(d, i);
    return total;
}

void expect_hello(int link_type) {
    unsigned before = segments;
    uint64_t dropped_before = dropped();
    show(link_type);
    cr_assert_eq(segments, before + 1);
    cr_assert_eq(dropped(), dropped_before);
    cr_assert_str_eq(text, "hello");
    cr_assert_eq(last.wire_bytes, 5);
    cr_assert_eq(last.source_port, 40000);
    cr_assert_eq(last.destination_port, 3260);
    cr_assert_eq(last.sequence, 100);
}

void expect_drop(int link_type, enum decap_drop reason) {
    uint64_t before = decap_dropped(d, reason);
    uint64_t all_before = dropped();
    unsigned segments_before = segments;
    show(link_type);
    cr_assert_eq(segments, segments_before);
    cr_assert_eq(dropped(), all_before + 1);
    cr_assert_eq(decap_dropped(d, reason), before + 1, "%s", decap_drop_name(reason));
}

void cut_everywhere(int link_type) {
    size_t whole = frame_length(&f);
    for (size_t captured = 0; captured < whole; captured++) {
        uint64_t before = dropped();
        segments = 0;
        show_cut(link_type, captured);
        cr_assert_eq(segments + dropped() - before, 1, "at %zu", captured);
        cr_assert_eq(segments, captured + 5 >= whole, "at %zu", captured);
    }
    cr_assert_eq(decap_dropped(d, DECAP_CUT_SHORT), dropped());
}

void hello_ipv4(void) {
    frame_tcp(&f, 4, 12, "hello");
    frame_ipv4(&f, TCP, 1, 0x4000);
}

void hello_ipv6(void) {
    frame_tcp(&f, 6, 12, "hello");
    frame_ipv6(&f, TCP);
}

void hello_ethernet(void) {
    hello_ipv4();
    frame_ethernet(&f, 0x0800);
}
