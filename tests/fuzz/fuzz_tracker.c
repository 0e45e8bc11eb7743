/*
 * The tracker, as a transport feeds it: commands, data and statuses of two sessions in any order.
 * The sink checks what it is told.
 */
#include "common/cursor.h"
#include "tap/scsi/payload.h"
#include "tap/scsi/tracker.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SESSIONS = 2, SLOTS = 8, UNITS = 4 };

struct world {
    struct tracker *tracker;
    struct nexus *sessions[SESSIONS];
    struct exchange *slots[SLOTS];
    uint64_t now_ns;
};

static void check(bool holds) {
    if (!holds)
        abort();
}

static void take_update(struct sink *s, const struct sink_update *u) {
    (void)s;
    if (!u->applied || u->op == UPDATE_FLUSH)
        return;
    check(u->block_bytes > 0 && u->blocks > 0);
    check(u->lba <= INT64_MAX / u->block_bytes && u->blocks <= INT64_MAX / u->block_bytes - u->lba);
    bool whole = u->op == UPDATE_WRITE || u->op == UPDATE_OR || u->op == UPDATE_XOR;
    check((u->data != NULL) == (whole || u->op == UPDATE_PATTERN));
    check((u->source != NULL) == (u->op == UPDATE_COPY));
    if (u->source != NULL)
        check(u->source->block_bytes > 0 && u->source_lba <= INT64_MAX / u->source->block_bytes &&
              u->blocks * u->block_bytes <= UINT64_C(64) << 30);
    struct range hole;
    if (whole)
        check(payload_length(u->data) == u->blocks * u->block_bytes &&
              !payload_missing(u->data, 0, payload_length(u->data), &hole));
}

static void take_gap(struct sink *s, const struct sink_gap *g) {
    (void)s;
    check(g->text != NULL && g->length_bytes > 0);
}

static void take_path(struct sink *s, const struct sink_path *path, uint64_t time_ns) {
    (void)s;
    (void)time_ns;
    check(path->id != 0);
}

static void take_audit(struct sink *s, const struct sink_audit *a) {
    (void)s;
    check(a->blocks > 0 && a->blocks <= AUDIT_BLOCKS && a->block_bytes > 0);
    volatile uint32_t sum = 0;
    for (uint32_t i = 0; i < a->blocks; i++)
        sum = sum + a->sums[i];
}

static struct nexus *open_session(struct world *w, size_t i) {
    static const char *const targets[] = {"iqn.a", "iqn.b"};
    return tracker_nexus_open(w->tracker, PATH_ISCSI, "iqn.initiator", targets[i]);
}

static void command(struct world *w, struct cursor *c, uint8_t where) {
    size_t slot = where % SLOTS;
    uint64_t unit = where / SLOTS % UNITS;
    struct nexus *n = w->sessions[where / SLOTS / UNITS % SESSIONS];
    size_t length = cursor_u8(c) % 40;
    uint32_t out = cursor_be24(c) & 0xfffff;
    uint32_t in = cursor_be24(c) & 0xfffff;
    const uint8_t *cdb = cursor_bytes(c, length);
    if (cdb == NULL)
        return;
    if (w->slots[slot] != NULL)
        tracker_abandon(w->slots[slot], GAP_ABORTED, "was aborted", w->now_ns);
    tracker_command(n, &(struct tracker_command){.lun = unit << 48,
                                                 .cdb = cdb,
                                                 .cdb_bytes = length,
                                                 .data_out_bytes = out,
                                                 .data_in_bytes = in,
                                                 .attribute = where % 3,
                                                 .time_ns = w->now_ns,
                                                 .holder = &w->slots[slot]});
}

/* Some bytes of the input, or many that are all the same. */
static void move_data(struct exchange *x, struct cursor *c, bool out) {
    static uint8_t many[1 << 16];
    uint32_t offset = cursor_be24(c) & 0xfffff;
    size_t length = cursor_be16(c);
    bool same = cursor_u8(c) % 2 == 1;
    const uint8_t *bytes = many;
    if (!same)
        bytes = cursor_bytes(c, length = length % 1024);
    if (bytes == NULL)
        return;
    if (out)
        tracker_data_out(x, offset, bytes, length);
    else if (tracker_wants_data_in(x))
        tracker_data_in(x, offset, bytes, length);
}

static void status(struct world *w, struct exchange *x, struct cursor *c, bool good) {
    uint8_t code = good ? 0 : cursor_u8(c);
    size_t length = good ? 0 : cursor_u8(c) % 32;
    const uint8_t *sense = cursor_bytes(c, length);
    tracker_status(x, &(struct tracker_status){.status = code,
                                               .delivered = code != 0xff,
                                               .sense = sense,
                                               .sense_bytes = sense != NULL ? length : 0,
                                               .residual_underflow = code & 0x80,
                                               .time_ns = w->now_ns});
}

static void with_slot(struct world *w, struct cursor *c, uint8_t step, struct exchange *x) {
    switch (step % 8) {
    case 0:
        move_data(x, c, true);
        break;
    case 1:
        move_data(x, c, false);
        break;
    case 2:
        status(w, x, c, true);
        break;
    case 3:
        status(w, x, c, false);
        break;
    case 4:
        tracker_abandon(x, GAP_NEXUS_LOST, "was lost", w->now_ns);
        break;
    case 5:
        tracker_doubt(x, GAP_STREAM_HOLE, "may have ended", w->now_ns);
        break;
    case 6:
        tracker_data_out_lost(x, cursor_be24(c) & 0xfffff, cursor_be16(c));
        break;
    default:
        tracker_data_out_revoke(x, cursor_be24(c) & 0xfffff, cursor_be16(c));
        tracker_data_in_revoke(x);
    }
}

static void one_step(struct world *w, struct cursor *c) {
    uint8_t step = cursor_u8(c);
    uint8_t where = cursor_u8(c);
    size_t session = where % SESSIONS;
    w->now_ns += 1000;
    struct exchange *x = w->slots[where % SLOTS];
    if (step < 0x60) {
        command(w, c, where);
    } else if (step < 0xf0) {
        if (x != NULL)
            with_slot(w, c, step, x);
    } else if (step < 0xf8) {
        tracker_nexus_gap(w->sessions[session], GAP_STREAM_HOLE, "lost", w->now_ns - 500);
    } else {
        tracker_nexus_close(w->sessions[session], GAP_NEXUS_LOST, "ended", w->now_ns);
        w->sessions[session] = open_session(w, session);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct sink sink = {
        .update = take_update, .gap = take_gap, .path = take_path, .audit = take_audit};
    struct tracker_limits limits = {
        .open_exchanges = 6, .payload_bytes = 1 << 20, .paths = 6, .audit_one_in = 1};
    struct world w = {.tracker = tracker_create(&sink, &limits), .now_ns = 1000};
    for (size_t i = 0; i < SESSIONS; i++)
        w.sessions[i] = open_session(&w, i);
    struct cursor c = cursor_of(data, size);
    while (cursor_ok(&c) && cursor_left(&c) > 0)
        one_step(&w, &c);
    for (size_t i = 0; i < SESSIONS; i++)
        tracker_nexus_close(w.sessions[i], GAP_NEXUS_LOST, "ended", w.now_ns);
    tracker_destroy(w.tracker);
    return 0;
}
