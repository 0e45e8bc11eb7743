/*
 * tcp: ordered byte streams out of what a mirror port delivers (RFC 9293).
 *
 * Takes segments in any order, both directions mixed, duplicated, retransmitted with other
 * boundaries, with wrapping sequence numbers and offload-sized payloads, and gives each direction's
 * bytes to a consumer exactly once and in order. Two rules make it exact:
 *
 *  - Cause before effect. A segment's bytes are delivered only after the bytes of the other
 *    direction that it acknowledges: a SCSI response never overtakes its command, however late the
 *    mirror is.
 *  - A hole is a value. Bytes that were acknowledged and are not seen within the reorder window
 *    (counted from the acknowledgement; it may take two of them until it is said) are lost by the
 *    mirror: the consumer gets hole(), not silence. Bytes not acknowledged are waited for: they
 *    come again. What comes again although it was acknowledged is not what the receiver took, and
 *    need not be the same: it fills no hole (see acks.h).
 *
 * Memory is bounded by the limits given at creation: the connection that passes its own, or the
 * oldest when all together pass theirs, has its first hole declared lost and its buffered bytes
 * delivered.
 *
 * A connection joined in the middle, of which no SYN was seen, is held for one reorder window
 * first, so that what the mirror delivers late (the SYN itself, too) still counts. A RST likewise
 * ends a connection one window later. A silent connection with nothing held stays until there is
 * need of its room.
 *
 * Time is packet time: no clock is read. Not thread-safe: one object per capture worker.
 */
#ifndef SANREWIND_TAP_TCP_H
#define SANREWIND_TAP_TCP_H

#include "common/buffer.h"
#include "common/cleanup.h"
#include "common/cursor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tcp;

enum tcp_direction {
    TCP_TO_SERVER = 0, /* initiator → target */
    TCP_TO_CLIENT = 1,
};

struct tcp_endpoints {
    uint8_t family;     /* 4 or 6 */
    uint8_t client[16]; /* IPv4 in the first 4 bytes */
    uint8_t server[16];
    uint16_t client_port;
    uint16_t server_port;
};

/* One segment, found by decap/. Addresses and ports as in the packet. */
struct tcp_segment {
    uint8_t family;
    const uint8_t *source; /* 4 or 16 bytes */
    const uint8_t *destination;
    uint16_t source_port;
    uint16_t destination_port;
    uint32_t sequence;
    uint32_t acknowledgement;
    uint8_t flags;  /* TCP_FIN ... */
    bool stamped;   /* it has the timestamps of RFC 7323 */
    uint32_t stamp; /* TSval */
    uint32_t echo;  /* TSecr */
    const uint8_t *data;
    uint32_t data_bytes; /* captured */
    uint32_t
        wire_bytes; /* of payload on the wire; larger than data_bytes when the capture cut it */
    uint64_t time_ns;
};

enum tcp_flags {
    TCP_FIN = 0x01,
    TCP_SYN = 0x02,
    TCP_RST = 0x04,
    TCP_ACK = 0x10,
};

enum tcp_end {
    TCP_END_FIN,      /* both directions closed in order */
    TCP_END_RESET,    /* RST */
    TCP_END_REPLACED, /* a new SYN on the same addresses and ports */
    TCP_END_EVICTED,  /* dropped for want of room, or idle too long */
    TCP_END_SHUTDOWN, /* the monitor ends: tcp_destroy */
};

/* Bytes that come again, beside what they were. */
enum tcp_copy {
    TCP_COPY_SAME, /* or it does not matter */
    TCP_COPY_DIFFERS,
    TCP_COPY_FORGOTTEN, /* nobody knows any more what they were */
};

/*
 * What is done with the bytes. `connection` is what open() returned.
 *
 * open:  a connection with data. from_start: its SYN was seen. When it was not, who is the client
 * is a guess by port numbers. Return NULL to ignore the connection: it then costs a table entry
 * only. data:  the next bytes of a direction; borrowed. time_ns is the time of the packet that
 * carried them, or that of a later one which carried bytes before them: it never steps back within
 * a direction, but may lie behind what was said of other connections. Return false to ignore the
 * connection from now on (close is then not called). hole:  `bytes` bytes of that direction are
 * lost for good; data() goes on behind them. Its time_ns is one at which none of them had passed
 * yet, and may be older than what was given before. close: the last call for it.
 *
 * Both may be NULL: again: bytes that were given lately, beginning `back` bytes before the end of
 * what was given, came again: are they the same? dispute: of bytes that were given lately, nobody
 * knows whether the receiver took these, or other ones that were sent in their place.
 */
struct tcp_consumer {
    void *context; /* for open */
    void *(*open)(void *context, const struct tcp_endpoints *endpoints, bool from_start,
                  uint64_t time_ns);
    bool (*data)(void *connection, enum tcp_direction direction, const uint8_t *data, size_t bytes,
                 uint64_t time_ns);
    bool (*hole)(void *connection, enum tcp_direction direction, uint64_t bytes, uint64_t time_ns);
    void (*close)(void *connection, enum tcp_end why, uint64_t time_ns);
    enum tcp_copy (*again)(void *connection, enum tcp_direction direction, uint64_t back,
                           const uint8_t *data, size_t bytes);
    void (*dispute)(void *connection, enum tcp_direction direction, uint64_t back, uint64_t bytes,
                    uint64_t time_ns);
};

struct tcp_limits {
    size_t connections;         /* most connections followed at once */
    size_t connection_bytes;    /* most bytes held back for one connection */
    size_t total_bytes;         /* most bytes held back in all */
    uint64_t reorder_window_ns; /* how late a mirrored packet may come */
    uint64_t idle_ns; /* a connection that waits for bytes is given up when silent for longer */
};

/* 65536 connections, 16 MiB, 64 MiB, 500 ms, 1 h */
struct tcp_limits tcp_default_limits(void);

struct tcp_counters {
    uint64_t segments;
    uint64_t duplicate_bytes; /* seen before: RX and TX copies, retransmissions */
    uint64_t out_of_order;    /* segments that had to wait */
    uint64_t holes;           /* declared lost */
    uint64_t hole_bytes;
    uint64_t cut_segments;      /* cut by the capture's snap length */
    uint64_t conflicting_bytes; /* sent twice, and which copy was received is not known: lost */
    uint64_t outside_window;    /* segments that are not of the connection on their ports */
    uint64_t connections;
    uint64_t evicted;
    uint64_t sent_needlessly; /* bytes of copies sent when the receiver had them: not believed */
    uint64_t given_up;        /* times that a limit ended the wait for missing bytes */
};

/* Copies `consumer` and `limits`. NULL: out of memory. */
struct tcp *tcp_create(const struct tcp_consumer *consumer, const struct tcp_limits *limits);
/* Delivers what is held, declaring holes, and closes every connection with TCP_END_SHUTDOWN. */
void tcp_destroy(struct tcp *t);

void tcp_segment(struct tcp *t, const struct tcp_segment *segment);
/* Packet time has reached now_ns without a packet: holes older than the window are declared lost.
 */
void tcp_tick(struct tcp *t, uint64_t now_ns);
/*
 * What is held back or missing now was not known before this time, or had no effect before a packet
 * that is still to come (bytes that nobody acknowledged). UINT64_MAX: nothing is. A hole that is
 * found later can be older by as long as a receiver delays its acknowledgement.
 */
uint64_t tcp_oldest_pending(const struct tcp *t);
const struct tcp_counters *tcp_counters(const struct tcp *t);

/*
 * For the next start (see tap/save.h): the connections that are delivered, each with what `save`
 * writes of the consumer's own (false: it is not worth saving). whole: with what is held back; this
 * object must then be dropped, not destroyed with words to the consumer. In a new object, `load`
 * makes what open() would have returned. What passed meanwhile is a hole.
 */
void tcp_save(const struct tcp *t, bool whole, struct buffer *b,
              bool (*save)(void *connection, bool whole, struct buffer *b));
bool tcp_load(struct tcp *t, struct cursor *cursor, void *context,
              void *(*load)(void *context, const struct tcp_endpoints *endpoints,
                            struct cursor *cursor),
              uint64_t now_ns);
/* Frees it without a word to the consumer. */
void tcp_drop(struct tcp *t);

DEFINE_AUTO(tcp, tcp_destroy)

#endif
