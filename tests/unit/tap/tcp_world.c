#include "tests/unit/tap/tcp_world.h"

#include "common/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const uint8_t addresses[2][4] = {{10, 0, 0, 1}, {10, 0, 0, 2}};

static void note(struct tcp_world *w, const char *format, ...) {
    size_t used = strlen(w->heard);
    va_list args;
    va_start(args, format);
    vsnprintf(w->heard + used, sizeof w->heard - used, format, args);
    va_end(args);
}

static void *on_open(void *context, const struct tcp_endpoints *endpoints, bool from_start,
                     uint64_t time_ns) {
    struct tcp_world *w = context;
    (void)time_ns;
    note(w, from_start ? "open+ " : "open- ");
    uint16_t expected = w->expected_port > 0 ? w->expected_port : w->port[CLIENT];
    cr_assert_eq(endpoints->client_port, expected);
    cr_assert_eq(endpoints->server_port, w->port[SERVER]);
    cr_assert_eq(memcmp(endpoints->client, addresses[CLIENT], 4), 0);
    cr_assert_eq(memcmp(endpoints->server, addresses[SERVER], 4), 0);
    return w->refuse_open ? NULL : w;
}

/* NULL: a hole. Only tests of a few bytes look back at them. */
static void give(struct tcp_world *w, enum tcp_direction direction, const uint8_t *data,
                 size_t bytes) {
    if (bytes > sizeof w->given[0] - w->given_bytes[direction])
        return;
    char *to = w->given[direction] + w->given_bytes[direction];
    if (data != NULL)
        memcpy(to, data, bytes);
    else
        memset(to, '?', bytes);
    w->given_bytes[direction] += bytes;
}

static bool on_data(void *connection, enum tcp_direction direction, const uint8_t *data,
                    size_t bytes, uint64_t time_ns) {
    struct tcp_world *w = connection;
    w->data_time_ms = time_ns / NS_PER_MS;
    note(w, "%c%.*s ", direction == TCP_TO_SERVER ? '>' : '<', (int)bytes, (const char *)data);
    give(w, direction, data, bytes);
    return w->accept == 0 || ++w->calls < w->accept;
}

static bool on_hole(void *connection, enum tcp_direction direction, uint64_t bytes,
                    uint64_t time_ns) {
    struct tcp_world *w = connection;
    w->hole_time_ms = time_ns / NS_PER_MS;
    note(w, "%chole:%u ", direction == TCP_TO_SERVER ? '>' : '<', (unsigned)bytes);
    give(w, direction, NULL, bytes);
    return true;
}

static const char *given(const struct tcp_world *w, enum tcp_direction direction, uint64_t back) {
    cr_assert_leq(back, w->given_bytes[direction]);
    return w->given[direction] + w->given_bytes[direction] - back;
}

static enum tcp_copy on_again(void *connection, enum tcp_direction direction, uint64_t back,
                              const uint8_t *data, size_t bytes) {
    const struct tcp_world *w = connection;
    if (w->forgetful)
        return TCP_COPY_FORGOTTEN;
    cr_assert_leq(bytes, back);
    bool same = memcmp(given(w, direction, back), data, bytes) == 0;
    return same ? TCP_COPY_SAME : TCP_COPY_DIFFERS;
}

static void on_dispute(void *connection, enum tcp_direction direction, uint64_t back,
                       uint64_t bytes, uint64_t time_ns) {
    struct tcp_world *w = connection;
    (void)time_ns;
    cr_assert_leq(bytes, back);
    note(w, "%ctwice:%.*s ", direction == TCP_TO_SERVER ? '>' : '<', (int)bytes,
         given(w, direction, back));
}

static void on_close(void *connection, enum tcp_end why, uint64_t time_ns) {
    static const char *const names[] = {"fin", "reset", "replaced", "evicted", "shutdown"};
    (void)time_ns;
    note(connection, "close:%s ", names[why]);
}

void world_init(struct tcp_world *w, const struct tcp_limits *limits) {
    struct tcp_limits defaults = tcp_default_limits();
    struct tcp_consumer consumer = {.context = w,
                                    .open = on_open,
                                    .data = on_data,
                                    .hole = on_hole,
                                    .close = on_close,
                                    .again = on_again,
                                    .dispute = on_dispute};
    *w = (struct tcp_world){
        .initial = {1000, 900000}, .port = {40000, 3260}, .ms = UINT64_C(1700000000000)};
    w->tcp = tcp_create(&consumer, limits != NULL ? limits : &defaults);
    cr_assert_not_null(w->tcp);
}

void world_end(struct tcp_world *w) {
    tcp_destroy(w->tcp);
    w->tcp = NULL;
}

static void send_segment(struct tcp_world *w, int from, uint8_t flags, uint32_t sequence,
                         uint32_t ack, const char *text, uint32_t lost) {
    uint32_t bytes = (uint32_t)strlen(text);
    struct tcp_segment segment = {
        .family = 4,
        .source = addresses[from],
        .destination = addresses[1 - from],
        .source_port = w->port[from],
        .destination_port = w->port[1 - from],
        .sequence = w->initial[from] + sequence,
        .acknowledgement = ack > 0 ? w->initial[1 - from] + ack : 0,
        .flags = (uint8_t)(flags | (ack > 0 ? TCP_ACK : 0)),
        .data = (const uint8_t *)text,
        .data_bytes = bytes,
        .wire_bytes = bytes + lost,
        .time_ns = w->ms * NS_PER_MS,
        .stamped = w->stamp != 0,
        .stamp = w->stamp,
        .echo = w->echo,
    };
    tcp_segment(w->tcp, &segment);
}

void world_send(struct tcp_world *w, int from, uint8_t flags, uint32_t sequence, uint32_t ack,
                const char *text) {
    send_segment(w, from, flags, sequence, ack, text, 0);
}

void world_send_cut(struct tcp_world *w, int from, uint32_t sequence, uint32_t ack,
                    const char *text, uint32_t lost) {
    send_segment(w, from, 0, sequence, ack, text, lost);
}

void world_shake_hands(struct tcp_world *w) {
    world_send(w, CLIENT, TCP_SYN, 0, 0, "");
    world_send(w, SERVER, TCP_SYN, 0, 1, "");
    world_send(w, CLIENT, 0, 1, 1, "");
}

void world_wait(struct tcp_world *w, uint64_t ms) {
    w->ms += ms;
    tcp_tick(w->tcp, w->ms * NS_PER_MS);
}
