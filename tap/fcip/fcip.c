#include "tap/fcip/fcip.h"

#include "common/cursor.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

/* RFC 3643, 3. */
enum {
    HEAD_BYTES = 28,
    DELIMITER_BYTES = 4,
    FC_LEAST_BYTES = 24 + 4, /* frame header and CRC */
    LEAST_WORDS = 15,        /* RFC 3821, 5.6.2.2: 15 < length < 545 */
    MOST_WORDS = 545,
    PROTOCOL_FCIP = 1,
    PROTOCOL_IFCP = 2,
    FLAG_SPECIAL = 0x01, /* FCIP's pFlags */
    IFCP_SESSION = 0x04, /* RFC 4172, 5.3.1 */
    IFCP_TRANSPARENT = 0x02,
    /* Where the length is known, that a frame can begin is told by this many bytes. */
    TOLD_BYTES = 16,
    BUFFER_BYTES = 8192, /* more than a frame */
    MAX_CONNECTIONS = 256,
};

struct head {
    uint8_t protocol;
    uint8_t flags;
    size_t bytes; /* of the frame with its encapsulation */
};

struct flow {
    bool searching;
    size_t skip; /* the rest of a frame of which a part was lost */
    size_t used;
    uint8_t buffer[BUFFER_BYTES];
};

struct tunnel {
    struct fcip *owner;
    struct flow flows[2];
    struct tunnel *prev, *next; /* owner->all */
};

struct fcip {
    struct fcip_output output;
    struct fcip_counters counters;
    size_t open;
    struct tunnel *all;
    struct tunnel crowd; /* stands for all beyond MAX_CONNECTIONS */
};

struct fcip *fcip_create(const struct fcip_output *output) {
    struct fcip *f = calloc(1, sizeof *f);
    if (f == NULL)
        return NULL;
    f->output = *output;
    f->crowd.owner = f;
    return f;
}

static void free_tunnel(struct tunnel *t) {
    DL_DELETE(t->owner->all, t);
    t->owner->open--;
    free(t);
}

void fcip_destroy(struct fcip *f) {
    if (f == NULL)
        return;
    while (f->all != NULL) /* what tcp_drop() left */
        free_tunnel(f->all);
    free(f);
}

const struct fcip_counters *fcip_counters(const struct fcip *f) {
    return &f->counters;
}

bool fcip_knows_port(uint16_t port) {
    return port == 3225 || port == 3420;
}

/* Words 0 to 3; false: no encapsulated frame can begin so. */
static bool read_head(struct cursor c, struct head *head) {
    uint32_t first = cursor_be32(&c);
    uint32_t second = cursor_be32(&c);
    uint32_t third = cursor_be32(&c);
    uint32_t fourth = cursor_be32(&c);
    uint32_t words = fourth >> 16 & 0x3ff;
    if (!cursor_ok(&c) || (first >> 16 ^ (first & 0xffff)) != 0xffff ||
        (fourth >> 16 ^ (fourth & 0xffff)) != 0xffff || words <= LEAST_WORDS ||
        words >= MOST_WORDS || (first >> 16 & 0xff) != 1)
        return false;
    head->protocol = (uint8_t)(first >> 24);
    head->bytes = words * 4;
    if (head->protocol == PROTOCOL_IFCP) {
        head->flags = (uint8_t)(third >> 16);
        return second == 0;
    }
    head->flags = (uint8_t)(third >> 24);
    return head->protocol == PROTOCOL_FCIP && second == first &&
           (third >> 16 ^ (third & 0xffff)) == 0xffff;
}

bool fcip_may_begin(const uint8_t *data, size_t bytes) {
    struct head head;
    return read_head(cursor_of(data, bytes), &head);
}

/* Twice, then twice its complement. */
static bool read_delimiter(struct cursor *c, uint8_t *code) {
    uint32_t word = cursor_be32(c);
    *code = (uint8_t)(word >> 24);
    return cursor_ok(c) && (word >> 16 & 0xff) == *code && (word >> 8 & 0xff) == (~*code & 0xffu) &&
           (word & 0xff) == (~*code & 0xffu);
}

static bool says_bad(uint8_t eof) {
    return eof == FC_EOF_NI || eof == FC_EOF_A || eof == FC_EOF_DTI || eof == FC_EOF_RTI;
}

static bool is_control(const struct head *head) {
    return (head->flags & (head->protocol == PROTOCOL_FCIP ? FLAG_SPECIAL : IFCP_SESSION)) != 0;
}

static bool is_translated(const struct head *head) {
    return head->protocol == PROTOCOL_IFCP && (head->flags & IFCP_TRANSPARENT) == 0;
}

static void tell_loss(struct fcip *f, const char *text, uint64_t time_ns) {
    f->output.loss(f->output.context, text, time_ns);
}

/* A whole frame, head and all. False: it is none. */
static bool take_frame(struct fcip *f, struct cursor c, const struct head *head, uint64_t time_ns) {
    if (is_control(head)) {
        f->counters.special++;
        return true;
    }
    struct fc_frame frame = {.has_crc = true, .time_ns = time_ns};
    cursor_skip(&c, HEAD_BYTES);
    bool valid = read_delimiter(&c, &frame.sof);
    if (head->bytes < HEAD_BYTES + 2 * DELIMITER_BYTES + FC_LEAST_BYTES)
        return false;
    frame.bytes = (uint32_t)(head->bytes - HEAD_BYTES - 2 * DELIMITER_BYTES);
    frame.wire_bytes = frame.bytes;
    frame.data = cursor_bytes(&c, frame.bytes);
    if (!read_delimiter(&c, &frame.eof) || !valid)
        return false;
    frame.bad = says_bad(frame.eof);
    f->counters.frames++;
    if (is_translated(head)) {
        f->counters.translated++;
        tell_loss(f, "iFCP with translated addresses cannot be read", time_ns);
        return true;
    }
    f->output.frame(f->output.context, &frame);
    return true;
}

static void lose(struct fcip *f, struct flow *flow, const char *text, uint64_t time_ns) {
    if (!flow->searching)
        f->counters.lost_synchronisation++;
    flow->searching = true;
    tell_loss(f, text, time_ns);
}

/*
 * The frame at the start of `c`, when it is there. Bytes taken; 0: more are needed. While
 * searching, a frame counts only when all of it is right.
 */
static size_t take_next(struct fcip *f, struct flow *flow, struct cursor c, uint64_t time_ns) {
    struct head head;
    if (cursor_left(&c) < TOLD_BYTES)
        return 0;
    bool begins = read_head(c, &head);
    if (begins && cursor_left(&c) < head.bytes)
        return 0;
    if (begins && take_frame(f, cursor_child(&c, head.bytes), &head, time_ns)) {
        flow->searching = false;
        return head.bytes;
    }
    if (!flow->searching)
        lose(f, flow, "an FCIP or iFCP stream cannot be read from here on", time_ns);
    f->counters.skipped_bytes++;
    return 1;
}

/* All frames that are whole in the buffer; what is left is the beginning of one. */
static void take_all(struct fcip *f, struct flow *flow, uint64_t time_ns) {
    struct cursor c = cursor_of(flow->buffer, flow->used);
    size_t taken = 0;
    do {
        taken = take_next(f, flow, c, time_ns);
        cursor_skip(&c, taken);
    } while (taken > 0);
    flow->used = cursor_left(&c);
    memmove(flow->buffer, c.next, flow->used);
}

static void fill(struct flow *flow, struct cursor *in) {
    size_t room = BUFFER_BYTES - flow->used;
    size_t part = cursor_left(in) < room ? cursor_left(in) : room;
    cursor_copy(in, flow->buffer + flow->used, part);
    flow->used += part;
}

static void skip_rest(struct flow *flow, struct cursor *in) {
    size_t part = cursor_left(in) < flow->skip ? cursor_left(in) : flow->skip;
    cursor_skip(in, part);
    flow->skip -= part;
}

static bool consume_data(void *connection, enum tcp_direction direction, const uint8_t *data,
                         size_t bytes, uint64_t time_ns) {
    struct tunnel *t = connection;
    struct flow *flow = &t->flows[direction];
    struct cursor in = cursor_of(data, bytes);
    if (t == &t->owner->crowd) {
        tell_loss(t->owner, "more FCIP connections than the monitor can follow", time_ns);
        return true;
    }
    bool blind = flow->searching;
    skip_rest(flow, &in);
    while (cursor_left(&in) > 0) {
        fill(flow, &in);
        take_all(t->owner, flow, time_ns);
    }
    if (blind)
        tell_loss(t->owner, "an FCIP or iFCP stream that cannot be read", time_ns);
    return true;
}

/* A hole inside of a frame leaves the place of the next one known. */
static bool consume_hole(void *connection, enum tcp_direction direction, uint64_t bytes,
                         uint64_t time_ns) {
    struct tunnel *t = connection;
    struct flow *flow = &t->flows[direction];
    struct head head;
    uint64_t rest = flow->skip;
    if (flow->used >= TOLD_BYTES && read_head(cursor_of(flow->buffer, flow->used), &head))
        rest = head.bytes - flow->used;
    flow->used = 0;
    flow->skip = bytes <= rest ? (size_t)(rest - bytes) : 0;
    if (bytes > rest && !flow->searching) {
        flow->searching = true;
        t->owner->counters.lost_synchronisation++;
    }
    tell_loss(t->owner, "bytes of an FCIP or iFCP stream never passed the monitor", time_ns);
    return true;
}

static void *consume_open(void *context, const struct tcp_endpoints *endpoints, bool from_start,
                          uint64_t time_ns) {
    struct fcip *f = context;
    (void)endpoints;
    (void)time_ns;
    struct tunnel *t = f->open < MAX_CONNECTIONS ? calloc(1, sizeof *t) : NULL;
    if (t == NULL)
        return &f->crowd;
    t->owner = f;
    t->flows[0].searching = !from_start;
    t->flows[1].searching = !from_start;
    DL_APPEND(f->all, t);
    f->open++;
    f->counters.connections++;
    return t;
}

static void consume_close(void *connection, enum tcp_end why, uint64_t time_ns) {
    struct tunnel *t = connection;
    if (t == &t->owner->crowd)
        return;
    if (why == TCP_END_EVICTED)
        tell_loss(t->owner, "the monitor had no room left to follow an FCIP connection", time_ns);
    free_tunnel(t);
}

struct tcp_consumer fcip_consumer(struct fcip *f) {
    return (struct tcp_consumer){.context = f,
                                 .open = consume_open,
                                 .data = consume_data,
                                 .hole = consume_hole,
                                 .close = consume_close};
}
