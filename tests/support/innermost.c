/*
 * innermost: what decap finds in each packet of a capture file.
 *
 * usage: innermost FILE
 *
 * A line per packet: its number; then "tcp", addresses and ports, "fc" and what it is, "fip", or
 * why it went no further, or "kept" (a piece of a datagram).
 */
#include "common/crc32.h"
#include "tap/capture/capture.h"
#include "tap/decap/decap.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static void print_address(const struct tcp_segment *segment, const uint8_t *address,
                          uint16_t port) {
    char text[INET6_ADDRSTRLEN];
    inet_ntop(segment->family == 4 ? AF_INET : AF_INET6, address, text, sizeof text);
    printf(" %s %u", text, port);
}

static void print_segment(const struct tcp_segment *segment) {
    printf("tcp");
    print_address(segment, segment->source, segment->source_port);
    print_address(segment, segment->destination, segment->destination_port);
    printf("\n");
}

/* The header, what follows it without the CRC as a checksum, and whether it is to be believed. */
static void print_fc(const struct fc_frame *frame) {
    uint32_t bytes = frame->bytes - (frame->has_crc ? 4 : 0);
    printf("fc vsan %u sof %02x eof %02x", frame->vsan, frame->sof, frame->eof);
    for (uint32_t i = 0; i < 24 && i < bytes; i++)
        printf("%s%02x", i % 4 == 0 ? " " : "", frame->data[i]);
    printf(" %u bytes %08x%s%s\n", bytes, crc32_frame(0, frame->data, bytes),
           frame->wire_bytes > frame->bytes ? " cut" : "", frame->bad ? " bad" : "");
}

static const char *why(struct decap *d, uint64_t *before) {
    const char *reason = "kept";
    for (int i = 0; i < DECAP_REASONS; i++) {
        uint64_t now = decap_dropped(d, (enum decap_drop)i);
        if (now != before[i])
            reason = decap_drop_name((enum decap_drop)i);
        before[i] = now;
    }
    return reason;
}

int main(int argc, char **argv) {
    struct capture_options options = {.knows_link = decap_knows_link};
    AUTO(capture) c = capture_create(&options);
    AUTO(decap) d = decap_create();
    struct error err = {0};
    if (argc != 2 || c == NULL || d == NULL || capture_add_file(c, argv[1], &err) != 0) {
        fprintf(stderr, "innermost: %s\n", argc == 2 ? err.text : "usage: innermost FILE");
        return 1;
    }
    struct packet packet;
    uint64_t quiet_ns = 0;
    uint64_t before[DECAP_REASONS] = {0};
    for (unsigned long number = 1; capture_next(c, 0, &packet, &quiet_ns, &err) == CAPTURE_PACKET;
         number++) {
        struct decap_result found;
        printf("%lu ", number);
        enum decap_kind kind = decap_packet(d, &packet, &found);
        const char *reason = why(d, before);
        if (kind == DECAP_TCP)
            print_segment(&found.tcp);
        else if (kind == DECAP_FC)
            print_fc(&found.fc);
        else
            printf("%s\n", kind == DECAP_FIP ? "fip" : reason);
    }
    return 0;
}
