/*
 * innermost: what decap finds in each packet of a capture file.
 *
 * usage: innermost FILE
 *
 * A line per packet: its number; then "tcp", addresses and ports, "fc", "fip", or why it went no
 * further, or "kept" (a piece of a datagram).
 */
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
        else
            printf("%s\n", kind == DECAP_FC ? "fc" : kind == DECAP_FIP ? "fip" : reason);
    }
    return 0;
}
