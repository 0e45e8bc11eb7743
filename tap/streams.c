#include "tap/streams.h"

#include "tap/fcip/fcip.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

/* A connection; its protocol is known once its first bytes are. */
struct stream {
    struct streams *owner;
    const struct tcp_consumer *protocol; /* NULL until then */
    void *user;                          /* what the protocol's open() returned */
    struct tcp_endpoints endpoints;
    bool from_start;
    struct stream *prev, *next; /* owner->all */
};

struct streams {
    struct tcp_consumer iscsi;
    struct tcp_consumer fcip;
    struct streams_output output;
    uint64_t foreign[STREAM_FOREIGNS];
    struct stream *all;
    struct stream crowd; /* stands for all for which there is no memory */
};

struct streams *streams_create(const struct tcp_consumer *iscsi, const struct tcp_consumer *fcip,
                               const struct streams_output *output) {
    struct streams *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->iscsi = *iscsi;
    s->fcip = *fcip;
    s->output = *output;
    s->crowd.owner = s;
    return s;
}

static struct stream *add_stream(struct streams *s, const struct tcp_endpoints *endpoints,
                                 bool from_start) {
    struct stream *c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    c->owner = s;
    c->endpoints = *endpoints;
    c->from_start = from_start;
    DL_APPEND(s->all, c);
    return c;
}

static void free_stream(struct stream *c) {
    DL_DELETE(c->owner->all, c);
    free(c);
}

void streams_destroy(struct streams *s) {
    if (s == NULL)
        return;
    while (s->all != NULL)
        free_stream(s->all);
    free(s);
}

uint64_t streams_foreign(const struct streams *s, enum stream_foreign kind) {
    return s->foreign[kind];
}

const char *streams_foreign_name(enum stream_foreign kind) {
    static const char *const names[] = {
        [STREAM_NVME] = "NVMe/TCP", [STREAM_IWARP] = "iWARP", [STREAM_TLS] = "TLS on iSCSI's port"};
    return names[kind];
}

/*
 * NVMe/TCP: ICReq, whose header and length are fixed (NVMe TCP Transport 1.0, 3.6.2.2). iWARP: the
 * MPA request (RFC 5044, 7.1). TLS: a handshake record.
 */
static const struct {
    const char *bytes;
    size_t length;
    uint16_t port; /* 0: any */
} signatures[] = {
    [STREAM_NVME] = {"\0\0\x80\0\x80\0\0\0", 8, 0},
    [STREAM_IWARP] = {"MPA ID Req Frame", 16, 0},
    [STREAM_TLS] = {"\x16\x03", 2, 3260},
};

static void note_foreign(struct stream *c, const uint8_t *data, size_t bytes) {
    struct streams *s = c->owner;
    for (enum stream_foreign kind = STREAM_NVME; kind < STREAM_FOREIGNS; kind++) {
        size_t length = signatures[kind].length;
        uint16_t port = signatures[kind].port;
        if (bytes < length || memcmp(data, signatures[kind].bytes, length) != 0 ||
            (port != 0 && port != c->endpoints.server_port))
            continue;
        if (s->foreign[kind]++ == 0)
            s->output.first_foreign(s->output.context, kind);
    }
}

/* Who is the client of a connection joined in the middle is a guess. */
static bool is_fcip(const struct stream *c, const uint8_t *data, size_t bytes) {
    return fcip_knows_port(c->endpoints.server_port) ||
           (!c->from_start && fcip_knows_port(c->endpoints.client_port)) ||
           fcip_may_begin(data, bytes);
}

/* False: nobody wants it. */
static bool decide(struct stream *c, const uint8_t *data, size_t bytes, uint64_t time_ns) {
    struct streams *s = c->owner;
    if (c->from_start)
        note_foreign(c, data, bytes);
    const struct tcp_consumer *protocol = is_fcip(c, data, bytes) ? &s->fcip : &s->iscsi;
    c->user = protocol->open(protocol->context, &c->endpoints, c->from_start, time_ns);
    if (c->user == NULL)
        return false;
    c->protocol = protocol;
    return true;
}

static void *consume_open(void *context, const struct tcp_endpoints *endpoints, bool from_start,
                          uint64_t time_ns) {
    (void)time_ns;
    struct streams *s = context;
    struct stream *c = add_stream(s, endpoints, from_start);
    return c != NULL ? c : &s->crowd;
}

/* Its first bytes, of which there may be none. False: nobody wants it. */
static bool begin(struct stream *c, const uint8_t *data, size_t bytes, uint64_t time_ns) {
    if (c != &c->owner->crowd)
        return decide(c, data, bytes, time_ns);
    c->owner->output.overflow(c->owner->output.context, time_ns);
    return true;
}

static bool keep_or_free(struct stream *c, bool keep) {
    if (!keep)
        free_stream(c);
    return keep;
}

static bool consume_data(void *connection, enum tcp_direction direction, const uint8_t *data,
                         size_t bytes, uint64_t time_ns) {
    struct stream *c = connection;
    if (c->protocol == NULL && !begin(c, data, bytes, time_ns))
        return keep_or_free(c, false);
    return c->protocol == NULL ||
           keep_or_free(c, c->protocol->data(c->user, direction, data, bytes, time_ns));
}

static bool consume_hole(void *connection, enum tcp_direction direction, uint64_t bytes,
                         uint64_t time_ns) {
    struct stream *c = connection;
    if (c->protocol == NULL && !begin(c, (const uint8_t *)"", 0, time_ns))
        return keep_or_free(c, false);
    return c->protocol == NULL ||
           keep_or_free(c, c->protocol->hole(c->user, direction, bytes, time_ns));
}

static void consume_close(void *connection, enum tcp_end why, uint64_t time_ns) {
    struct stream *c = connection;
    if (c == &c->owner->crowd)
        return;
    if (c->protocol != NULL)
        c->protocol->close(c->user, why, time_ns);
    free_stream(c);
}

/* FCIP takes no interest: gateways send again what they keep, and CRCs guard it. */
static enum tcp_copy consume_again(void *connection, enum tcp_direction direction, uint64_t back,
                                   const uint8_t *data, size_t bytes) {
    const struct stream *c = connection;
    return c->protocol != NULL && c->protocol->again != NULL
               ? c->protocol->again(c->user, direction, back, data, bytes)
               : TCP_COPY_SAME;
}

static void consume_dispute(void *connection, enum tcp_direction direction, uint64_t back,
                            uint64_t bytes, uint64_t time_ns) {
    const struct stream *c = connection;
    if (c->protocol != NULL && c->protocol->dispute != NULL)
        c->protocol->dispute(c->user, direction, back, bytes, time_ns);
}

bool streams_connection_save(void *connection, bool whole, struct buffer *b) {
    const struct stream *c = connection;
    const struct streams *s = c->owner;
    return c->protocol == &s->iscsi && s->output.save != NULL && s->output.save(c->user, whole, b);
}

void *streams_connection_load(void *streams, const struct tcp_endpoints *endpoints,
                              struct cursor *cursor) {
    struct streams *s = streams;
    struct stream *c = s->output.load != NULL ? add_stream(s, endpoints, false) : NULL;
    if (c == NULL)
        return NULL;
    c->protocol = &s->iscsi;
    c->user = s->output.load(s->output.load_context, endpoints, cursor);
    if (c->user != NULL)
        return c;
    free_stream(c);
    return NULL;
}

struct tcp_consumer streams_consumer(struct streams *s) {
    return (struct tcp_consumer){.context = s,
                                 .open = consume_open,
                                 .data = consume_data,
                                 .hole = consume_hole,
                                 .close = consume_close,
                                 .again = consume_again,
                                 .dispute = consume_dispute};
}
