#include "sim.h"

#include "common/crc32c.h"
#include "proto/limits.h"
#include "proto/stamp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

/* Not assert(): it must hold in every build. */
static void require(bool holds, const char *what) {
    if (holds)
        return;
    fprintf(stderr, "sim: %s\n", what);
    abort();
}

uint64_t sim_random(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    uint64_t x = *state;
    return (x ^ x >> 33) * UINT64_C(0xff51afd7ed558ccd) >> 8;
}

/* --- a history -----------------------------------------------------------------------------------
 */

struct sim_record *sim_add(struct sim_stream *s, const struct record *r) {
    s->records = realloc(s->records, (s->count + 1) * sizeof *s->records);
    struct sim_record *record = &s->records[s->count++];
    record->order = r->order;
    record->is_payload = r->type == RECORD_PAYLOAD;
    buffer_init(&record->bytes, 2 << 20);
    record_encode(&record->bytes, r);
    require(!record->bytes.failed, "a record does not fit");
    return record;
}

static void add_path(struct sim_stream *s, uint64_t time_ns) {
    struct record r = {
        .type = RECORD_PATH,
        .order = s->orders++,
        .path = {.time_ns = time_ns,
                 .path = s->path,
                 .size_bytes = SIM_BYTES,
                 .block_bytes = SIM_BLOCK,
                 .protocol = PATH_ISCSI,
                 .target = SIM_TARGET,
                 .target_bytes = sizeof SIM_TARGET - 1,
                 .designator = SIM_DESIGNATOR,
                 .designator_bytes = sizeof SIM_DESIGNATOR - 1,
                 .serial = "",
                 .serial_bytes = 0},
    };
    sim_add(s, &r);
}

static void add_frontier(struct sim_stream *s, uint64_t time_ns, uint32_t flags) {
    struct record r = {
        .type = RECORD_FRONTIER,
        .order = s->orders++,
        .frontier = {.time_ns = time_ns, .wall_ns = time_ns, .packets = s->orders, .flags = flags},
    };
    sim_add(s, &r);
}

static void apply(uint8_t *image, const struct update_record *u, const uint8_t *payload) {
    for (uint64_t i = 0; i < u->length_bytes; i++)
        image[u->offset_bytes + i] = u->payload_bytes > 0 ? payload[i % u->payload_bytes] : 0;
}

static void add_update(struct sim_stream *s, uint64_t time_ns, uint8_t *image, uint64_t *state) {
    static uint8_t payload[64 * SIM_BLOCK];
    uint64_t blocks = 1 + sim_random(state) % 64;
    uint64_t first = sim_random(state) % (SIM_BLOCKS - blocks);
    uint64_t kind = sim_random(state) % 8;
    struct record r = {
        .type = RECORD_UPDATE,
        .order = s->orders++,
        .update = {.time_ns = time_ns,
                   .path = s->path,
                   .offset_bytes = first * SIM_BLOCK,
                   .length_bytes = blocks * SIM_BLOCK,
                   .block_bytes = SIM_BLOCK,
                   .op = kind == 0   ? UPDATE_ZERO
                         : kind == 1 ? UPDATE_PATTERN
                                     : UPDATE_WRITE},
    };
    if (kind == 1)
        r.update.payload_bytes = SIM_BLOCK;
    else if (kind > 1)
        r.update.payload_bytes = (uint32_t)(blocks * SIM_BLOCK);
    for (uint32_t i = 0; i < r.update.payload_bytes; i++)
        payload[i] = (uint8_t)sim_random(state);
    r.update.payload_crc32c = crc32c(0, payload, r.update.payload_bytes);
    sim_add(s, &r);
    apply(image, &r.update, payload);
    if (r.update.payload_bytes == 0)
        return;
    struct record p = {.type = RECORD_PAYLOAD,
                       .order = r.order,
                       .payload = {.bytes = r.update.payload_bytes,
                                   .crc32c = r.update.payload_crc32c,
                                   .data = payload}};
    sim_add(s, &p);
}

static void keep_image(struct sim_stream *s, uint64_t time_ns, const uint8_t *image) {
    s->marks[s->mark_count] = time_ns;
    s->images[s->mark_count] = malloc(SIM_BYTES);
    memcpy(s->images[s->mark_count++], image, SIM_BYTES);
}

void sim_stream_make(struct sim_stream *s, const char *name, uint64_t stream, uint64_t start_ns,
                     size_t updates, uint64_t *state) {
    uint8_t *image = calloc(1, SIM_BYTES);
    uint64_t now = start_ns;
    *s = (struct sim_stream){.stream = stream, .monitor = stamp_monitor_id(name)};
    strcpy(s->name, name);
    s->path = record_path_id(PATH_ISCSI, SIM_TARGET, strlen(SIM_TARGET), 0);
    add_path(s, now);
    for (size_t i = 0; i < updates; i++) {
        /* Now and then two updates share a time mark. */
        now += sim_random(state) % 4 * 500000;
        add_update(s, now, image, state);
        if (i % 16 == 15)
            add_frontier(s, now++, 0);
        if ((i + 1) % (updates / 8 > 0 ? updates / 8 : 1) == 0 && s->mark_count < 8) {
            keep_image(s, now, image);
            now++;
        }
    }
    s->end_ns = now + 1000000;
    add_frontier(s, s->end_ns, FRONTIER_END);
    free(image);
}

void sim_stream_release(struct sim_stream *s) {
    for (size_t i = 0; i < s->count; i++)
        buffer_release(&s->records[i].bytes);
    for (size_t i = 0; i < s->mark_count; i++)
        free(s->images[i]);
    free(s->records);
}

void sim_batch(const struct sim_stream *s, const size_t *index, size_t count,
               struct buffer *frame) {
    buffer_init(frame, LIMIT_BATCH_BYTES);
    message_batch_begin(frame);
    for (size_t i = 0; i < count; i++) {
        const struct buffer *bytes = &s->records[index[i]].bytes;
        buffer_put(frame, bytes->data, bytes->length);
    }
    message_batch_finish(frame, &(struct message_batch){.monitor = s->monitor,
                                                        .stream = s->stream,
                                                        .records = (uint32_t)count});
    require(!frame->failed, "a batch does not fit");
}

/* --- a lane --------------------------------------------------------------------------------------
 */

struct sim_lane {
    void *context;
    void *socket;
};

struct sim_lane *sim_connect(const char *endpoint) {
    struct sim_lane *lane = calloc(1, sizeof *lane);
    int none = 0;
    lane->context = zmq_ctx_new();
    lane->socket = zmq_socket(lane->context, ZMQ_DEALER);
    zmq_setsockopt(lane->socket, ZMQ_LINGER, &none, sizeof none);
    zmq_setsockopt(lane->socket, ZMQ_SNDHWM, &none, sizeof none);
    require(zmq_connect(lane->socket, endpoint) == 0, "cannot connect");
    return lane;
}

void sim_disconnect(struct sim_lane *lane) {
    zmq_close(lane->socket);
    zmq_ctx_term(lane->context);
    free(lane);
}

void sim_send(struct sim_lane *lane, const struct buffer *frame) {
    require(zmq_send(lane->socket, frame->data, frame->length, 0) >= 0, "cannot send");
}

void sim_hello(struct sim_lane *lane, const struct sim_stream *s) {
    AUTO_BUFFER b;
    struct message m = {.kind = MESSAGE_HELLO,
                        .hello = {.monitor = s->monitor,
                                  .stream = s->stream,
                                  .name = s->name,
                                  .name_bytes = (uint16_t)strlen(s->name),
                                  .software = "sim",
                                  .software_bytes = 3}};
    buffer_init(&b, 4096);
    message_encode(&b, &m);
    sim_send(lane, &b);
}

bool sim_receive(struct sim_lane *lane, struct buffer *frame, struct message *m,
                 struct cursor *body, long timeout_ms) {
    zmq_pollitem_t item = {.socket = lane->socket, .events = ZMQ_POLLIN};
    buffer_init(frame, LIMIT_CONTROL_BYTES);
    if (zmq_poll(&item, 1, timeout_ms) <= 0)
        return false;
    zmq_msg_t message;
    zmq_msg_init(&message);
    bool good = zmq_msg_recv(&message, lane->socket, 0) >= 0;
    if (good)
        buffer_put(frame, zmq_msg_data(&message), zmq_msg_size(&message));
    zmq_msg_close(&message);
    return good && message_decode(frame->data, frame->length, m, body, NULL) == 0;
}

bool sim_await_welcome(struct sim_lane *lane, struct message_welcome *welcome) {
    for (;;) {
        AUTO_BUFFER frame;
        struct message m;
        struct cursor body;
        if (!sim_receive(lane, &frame, &m, &body, 10000))
            return false;
        if (m.kind != MESSAGE_WELCOME)
            continue;
        *welcome = m.welcome;
        return true;
    }
}

bool sim_await_durable(struct sim_lane *lane, const struct sim_stream *s, struct rangeset *durable,
                       long timeout_ms) {
    while (!rangeset_contains(durable, 0, s->orders)) {
        AUTO_BUFFER frame;
        struct message m;
        struct cursor body;
        if (!sim_receive(lane, &frame, &m, &body, timeout_ms))
            return false;
        if (m.kind != MESSAGE_ACK || m.ack.stream != s->stream)
            continue;
        rangeset_add(durable, 0, m.ack.frontier);
        for (uint32_t i = 0; i < m.ack.range_count; i++) {
            struct range range = message_ack_range(&body);
            rangeset_add(durable, range.start, range.end);
        }
    }
    return true;
}
