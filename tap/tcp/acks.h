/*
 * acks: which bytes of one direction the receiver had, and since when, while the monitor has not
 * seen them.
 *
 * A copy that was sent after that is none that the receiver took. It need not carry what the first
 * one did: initiators that send without copying (Linux) retransmit what the memory holds by then.
 * Not thread-safe.
 */
#ifndef SANREWIND_TAP_ACKS_H
#define SANREWIND_TAP_ACKS_H

#include "common/clock.h"
#include "tap/tcp/tcp.h"

enum {
    ACKS_MOST = 1024, /* entries of one direction: about one for each millisecond */
};

/* Acknowledgements so close together are one, of the time of the first. */
#define ACKS_TOGETHER_NS NS_PER_MS
/*
 * Where timestamps do not tell, the times of arrival do. A mirror port may deliver one direction so
 * much later than the other; a retransmission that nobody needed comes after more than that, nearly
 * always.
 */
#define ACKS_SKEW_NS (50 * NS_PER_MS)

struct ack {
    uint64_t end;     /* all below was received */
    uint64_t time_ns; /* packet time */
    uint32_t echo;    /* RFC 7323: TSecr; of the first that it acknowledges, or fills a hole */
    bool stamped;
};

/* Timestamps, which wrap (RFC 7323, 5.2). */
static inline bool acks_stamp_is_later(uint32_t a, uint32_t b) {
    return (int32_t)(a - b) > 0;
}

/* A copy of some bytes, as far as it tells when it was sent. */
struct ack_copy {
    uint64_t time_ns; /* packet time */
    uint32_t stamp;   /* TSval */
    bool stamped;
    bool again; /* by its timestamps it was sent after what lies behind it: it is no first copy */
};

/* Was it sent when the receiver had said so? */
bool acks_sent_later(const struct ack_copy *copy, const struct ack *entry);

struct acks {
    struct ack *list; /* owned; by end; the live ones are [first, count) */
    uint32_t first;
    uint32_t count;
    uint32_t capacity;
};

/* `segment`, of the other side, acknowledges everything below `end`. */
void acks_note(struct acks *a, uint64_t end, const struct tcp_segment *segment);
/* Everything below was seen. */
void acks_forget(struct acks *a, uint64_t below);
/*
 * The receiver had everything below the result before `segment` was sent; 0 when nothing tells.
 * `again`: by its timestamps it was sent after what lies behind it, so that it is no first copy.
 */
uint64_t acks_before(const struct acks *a, const struct tcp_segment *segment, bool again);
void acks_release(struct acks *a);

#endif
