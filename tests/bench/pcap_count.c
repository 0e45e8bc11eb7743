/*
 * pcap_count FILE: the least that anybody can do with a capture: pcap_loop() that adds up the
 * bytes. What tests/bench/run measures the monitor against.
 */
#include <inttypes.h>
#include <pcap.h>
#include <stdint.h>
#include <stdio.h>

struct totals {
    uint64_t packets;
    uint64_t bytes;
};

static void count(u_char *user, const struct pcap_pkthdr *header, const u_char *bytes) {
    struct totals *totals = (struct totals *)user;
    (void)bytes;
    totals->packets++;
    totals->bytes += header->caplen;
}

int main(int argc, char **argv) {
    char text[PCAP_ERRBUF_SIZE];
    struct totals totals = {0};
    pcap_t *capture = argc == 2 ? pcap_open_offline(argv[1], text) : NULL;
    if (capture == NULL) {
        fprintf(stderr, "usage: pcap_count FILE%s%s\n", argc == 2 ? ": " : "",
                argc == 2 ? text : "");
        return 2;
    }
    int code = pcap_loop(capture, -1, count, (u_char *)&totals);
    if (code < 0)
        fprintf(stderr, "pcap_count: %s\n", pcap_geterr(capture));
    pcap_close(capture);
    printf("%" PRIu64 " packets %" PRIu64 " bytes\n", totals.packets, totals.bytes);
    return code < 0 ? 1 : 0;
}
