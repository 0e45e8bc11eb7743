/*
 * tcp_writer: a capture file with one TCP connection in it, as a clean mirror port would show it:
 * handshake, segments of at most an MTU, an acknowledgement for every second one, right checksums.
 */
#ifndef SANREWIND_TESTS_BENCH_TCP_WRITER_H
#define SANREWIND_TESTS_BENCH_TCP_WRITER_H

#include "common/error.h"

#include <stddef.h>
#include <stdint.h>

struct tcp_writer;

enum tcp_side { TCP_CLIENT, TCP_SERVER };

/* Begins a nanosecond pcap file at `path` at start_ns, with the handshake to `port`. */
int tcp_writer_open(const char *path, unsigned mtu, uint16_t port, uint64_t start_ns,
                    struct tcp_writer **out, struct error *err);
/* Bytes of the stream from one side. Failures show at the close. */
void tcp_writer_send(struct tcp_writer *w, enum tcp_side from, const void *bytes, size_t length);
/* Both sides say FIN. 0, or why the file is not whole. */
int tcp_writer_close(struct tcp_writer *w, struct error *err);
/* How long the file is by now. */
uint64_t tcp_writer_bytes(const struct tcp_writer *w);

#endif
