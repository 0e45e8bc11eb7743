/*
 * Two directions of two iSCSI connections, as the TCP layer would deliver them: whatever they hold,
 * what the sink is told must make sense.
 *
 * Input: operations of a byte each with a 16-bit length (little-endian) behind. The low two bits of
 * the byte: 0 data to the target, 1 data to the initiator, 2 a hole to the target, 3 to the
 * initiator. 04h: the second connection. 08h: close it first, for the reason in 30h. 80h: if it has
 * to be opened, its beginning was not seen. The data follows its length.
 *
 * 40h: something else: 0 so many milliseconds pass, 1 somebody finds out what the portal is, with
 * the number of its targets in 30h, 2 connections that are opened from now on are on the port whose
 * number is the length, 3 the same, with the client's and the server's port confused.
 */
#include "common/cursor.h"
#include "tap/iscsi/iscsi.h"
#include "tap/scsi/payload.h"
#include "tap/scsi/tracker.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds) {
    if (!holds)
        abort();
}

static void take_update(struct sink *s, const struct sink_update *u) {
    (void)s;
    struct range hole;
    if (!u->applied)
        return;
    check(u->block_bytes > 0 || (u->op == UPDATE_FLUSH && u->blocks == 0));
    if (u->blocks > 0) {
        check(u->blocks <= INT64_MAX / u->block_bytes);
        check(u->lba <= INT64_MAX / u->block_bytes - u->blocks);
    }
    uint64_t length = u->blocks * u->block_bytes;
    check((u->data != NULL) == (u->op == UPDATE_WRITE || u->op == UPDATE_PATTERN));
    if (u->data == NULL)
        return;
    check(payload_length(u->data) == (u->op == UPDATE_WRITE ? length : u->block_bytes));
    check(!payload_missing(u->data, 0, payload_length(u->data), &hole));
    payload_crc32c(u->data, 0, payload_length(u->data));
    payload_is_zero(u->data, 0, payload_length(u->data));
}

static void take_gap(struct sink *s, const struct sink_gap *g) {
    (void)s;
    check(g->text != NULL && g->reason != 0 && g->path != NULL && g->length_bytes > 0);
    check(g->length_bytes == GAP_TO_END || g->length_bytes <= INT64_MAX);
    check(g->offset_bytes <= INT64_MAX);
}

static void take_path(struct sink *s, const struct sink_path *path, uint64_t time_ns) {
    (void)s;
    (void)time_ns;
    check(path->size_bytes <= INT64_MAX);
}

struct ends {
    struct iscsi *iscsi;
    struct tcp_consumer consumer;
    void *connections[2];
    struct tcp_endpoints endpoints;
    uint64_t now_ns;
};

static void check_pending(const struct ends *e) {
    uint64_t pending_ns = iscsi_oldest_pending(e->iscsi);
    check(pending_ns == UINT64_MAX || pending_ns <= e->now_ns);
}

static void identify(struct ends *e, size_t count) {
    static struct identity_unit unit = {.lun = UINT64_C(1) << 48,
                                        .designator = "naa.6001",
                                        .size_bytes = 4096 * 512,
                                        .block_bytes = 512,
                                        .is_disk = true};
    struct identity_target targets[] = {
        {.name = "iqn.a", .units = &unit, .unit_count = 1}, {.name = "iqn.b"}, {.name = "iqn.c"}};
    struct identity identity = {.targets = targets, .target_count = count};
    while (iscsi_wants_identity(e->iscsi, &identity.portal))
        iscsi_identify(e->iscsi, &identity, e->now_ns);
}

static void befall(struct ends *e, uint8_t what, uint64_t length) {
    switch (what & 3) {
    case 0:
        e->now_ns += length * 1000000;
        iscsi_tick(e->iscsi, e->now_ns);
        break;
    case 1:
        identify(e, what >> 4 & 3);
        break;
    case 2:
        e->endpoints.client_port = 4;
        e->endpoints.server_port = (uint16_t)length;
        break;
    case 3:
        e->endpoints.client_port = (uint16_t)length;
        e->endpoints.server_port = 4;
        break;
    }
}

static void operate(struct ends *e, uint8_t what, struct cursor data, uint64_t length) {
    void **connection = &e->connections[what >> 2 & 1];
    enum tcp_direction direction = (what & 1) != 0 ? TCP_TO_CLIENT : TCP_TO_SERVER;
    bool keeps = true;
    e->now_ns += 1000000;
    if ((what & 8) != 0 && *connection != NULL) {
        e->consumer.close(*connection, (enum tcp_end)(what >> 4 & 3), e->now_ns);
        *connection = NULL;
    }
    if (*connection == NULL) {
        *connection =
            e->consumer.open(e->consumer.context, &e->endpoints, (what & 0x80) == 0, e->now_ns);
    }
    if (*connection == NULL)
        return;
    if ((what & 2) != 0)
        keeps = e->consumer.hole(*connection, direction, length, e->now_ns);
    else
        keeps = e->consumer.data(*connection, direction, data.next, cursor_left(&data), e->now_ns);
    if (!keeps)
        *connection = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct sink sink = {.update = take_update, .gap = take_gap, .path = take_path};
    /* Small enough for the limits to be met. */
    struct tracker_limits limits = {.open_exchanges = 16, .payload_bytes = 256 << 10, .paths = 8};
    struct tracker *tracker = tracker_create(&sink, &limits);
    struct iscsi *iscsi = iscsi_create(tracker);
    struct ends ends = {.iscsi = iscsi,
                        .consumer = iscsi_consumer(iscsi),
                        .endpoints = {.family = 4, .client_port = 4, .server_port = 3260}};
    struct cursor c = cursor_of(data, size);
    while (cursor_left(&c) >= 3) {
        uint8_t what = cursor_u8(&c);
        uint64_t length = cursor_le16(&c);
        if ((what & 0x40) != 0) {
            befall(&ends, what, length);
            check_pending(&ends);
            continue;
        }
        size_t bytes = (what & 2) != 0 ? 0 : (size_t)length;
        operate(&ends, what, cursor_child(&c, bytes < cursor_left(&c) ? bytes : cursor_left(&c)),
                length);
        check_pending(&ends);
    }
    for (int i = 0; i < 2; i++) {
        if (ends.connections[i] != NULL)
            ends.consumer.close(ends.connections[i], i == 0 ? TCP_END_FIN : TCP_END_SHUTDOWN,
                                ends.now_ns);
    }
    iscsi_destroy(iscsi);
    tracker_destroy(tracker);
    return 0;
}
