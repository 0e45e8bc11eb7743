/*
 * streams: which protocol a TCP connection speaks: asked once, with its first bytes.
 *
 * FCIP and iFCP are known by their ports or by how they begin; everything else is offered to iSCSI,
 * which knows its own. Storage protocols that are recognised and not decoded (NVMe/TCP, iWARP, TLS
 * on a port of iSCSI) are counted, and told once. Not thread-safe.
 */
#ifndef SANREWIND_TAP_STREAMS_H
#define SANREWIND_TAP_STREAMS_H

#include "common/cleanup.h"
#include "tap/tcp/tcp.h"

struct streams;

enum stream_foreign { STREAM_NVME, STREAM_IWARP, STREAM_TLS, STREAM_FOREIGNS };

struct streams_output {
    void *context;
    /* The first connection of its kind. */
    void (*first_foreign)(void *context, enum stream_foreign kind);
    /* Data passed on a connection for which there is no memory. */
    void (*overflow)(void *context, uint64_t time_ns);
    /* What tcp_save() and tcp_load() ask for, of iSCSI's connections. */
    bool (*save)(void *connection, bool whole, struct buffer *b);
    void *(*load)(void *load_context, const struct tcp_endpoints *endpoints, struct cursor *cursor);
    void *load_context;
};

/* Copies all. NULL: out of memory. */
struct streams *streams_create(const struct tcp_consumer *iscsi, const struct tcp_consumer *fcip,
                               const struct streams_output *output);
/* After its tcp object, and before those who read the streams: what tcp_drop() left is freed. */
void streams_destroy(struct streams *s);
struct tcp_consumer streams_consumer(struct streams *s);

/*
 * For tcp_save() and tcp_load(), whose context is the streams object. FCIP's connections are not
 * saved: Fibre Channel has nothing to prove by them.
 */
bool streams_connection_save(void *connection, bool whole, struct buffer *b);
void *streams_connection_load(void *streams, const struct tcp_endpoints *endpoints,
                              struct cursor *cursor);

uint64_t streams_foreign(const struct streams *s, enum stream_foreign kind);
const char *streams_foreign_name(enum stream_foreign kind); /* "NVMe/TCP", ... */

DEFINE_AUTO(streams, streams_destroy)

#endif
