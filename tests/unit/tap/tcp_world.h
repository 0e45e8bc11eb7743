/*
 * tcp_world: a client, a server and a tap for tests of tap/tcp. What the consumer hears is written
 * down as words, so that a test says in one line what it expects:
 *
 *   "open+ "     open() with from_start, "open- " without
 *   ">abc "      data towards the server, "<abc " towards the client
 *   ">hole:5 "   a hole
 *   ">twice:def "  of bytes that were given, it is not known which copy was received
 *   "close:fin " and so on
 *
 * Sequence numbers are given relative to the side's initial sequence number; data begins at 1.
 */
#ifndef SANREWIND_TESTS_TCP_WORLD_H
#define SANREWIND_TESTS_TCP_WORLD_H

#include "tap/tcp/tcp.h"

#include <criterion/criterion.h>

enum { CLIENT, SERVER };

struct tcp_world {
    struct tcp *tcp;
    uint32_t initial[2];
    uint16_t port[2];
    uint16_t expected_port; /* the client port that open() must name; 0: port[CLIENT] */
    uint32_t stamp;         /* RFC 7323, of what is sent next; 0: it has none */
    uint32_t echo;
    uint64_t ms; /* packet time of what is sent next */
    char heard[8192];
    uint64_t data_time_ms; /* of the last data() */
    uint64_t hole_time_ms; /* of the last hole() */
    bool from_start;
    bool refuse_open;
    char given[2][4096]; /* by enum tcp_direction */
    size_t given_bytes[2];
    bool forgetful;  /* what was given is not compared with what comes again */
    unsigned accept; /* data() returns false after so many calls; 0: never */
    unsigned calls;
};

void world_init(struct tcp_world *w, const struct tcp_limits *limits);
/* Ends the tcp object too. */
void world_end(struct tcp_world *w);

/* One segment; `text` is its payload. Acknowledges `ack` unless that is 0. */
void world_send(struct tcp_world *w, int from, uint8_t flags, uint32_t sequence, uint32_t ack,
                const char *text);
/* The same, with `lost` more bytes on the wire that the capture did not keep. */
void world_send_cut(struct tcp_world *w, int from, uint32_t sequence, uint32_t ack,
                    const char *text, uint32_t lost);
/* SYN, SYN-ACK, ACK. */
void world_shake_hands(struct tcp_world *w);

#define world_heard(w, expected) cr_assert_str_eq((w)->heard, expected)

/* The calendar: `ms` milliseconds later. */
void world_wait(struct tcp_world *w, uint64_t ms);

#endif
