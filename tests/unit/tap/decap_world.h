/*
 * decap_world: a decapsulation under test, what it found, and what it said of losses.
 *
 * One per test process: Criterion runs each test in one of its own.
 */
#ifndef SANREWIND_TESTS_DECAP_WORLD_H
#define SANREWIND_TESTS_DECAP_WORLD_H

#include "tap/decap/decap.h"
#include "tests/unit/tap/frame_maker.h"

enum { LINK_ETHERNET = 1, LINK_RAW = 101, TCP = 6 };

extern struct made_frame f;
extern struct decap *d;
extern unsigned segments;
extern struct tcp_segment last;
extern char text[70000];
extern unsigned fc_frames;
extern struct fc_frame last_fc; /* its data is gone */
extern unsigned losses;
extern char loss_text[256];
extern uint64_t loss_ns;
extern unsigned first_drops;
/* The time of what is shown next. */
extern uint64_t now_ns;

/* .init and .fini of a suite. */
void world_start(void);
void world_stop(void);

/* The frame in `f`, of which the capture kept `captured` bytes. */
void show_cut(int link_type, size_t captured);
void show(int link_type);
uint64_t dropped(void);
/* One segment "hello", as frame_tcp() makes it, and nothing dropped. */
void expect_hello(int link_type);
void expect_drop(int link_type, enum decap_drop reason);
/* At whatever length: a segment, or a drop with a reason, and no more than one of them. */
void cut_everywhere(int link_type);

/* "hello" in TCP in IP, without a link header. */
void hello_ipv4(void);
void hello_ipv6(void);
/* The same in Ethernet. */
void hello_ethernet(void);

#endif
