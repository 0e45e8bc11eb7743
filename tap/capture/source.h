/*
 * source: one interface or one file, read through libpcap, with a look-ahead of one packet.
 *
 * The only place that knows libpcap. capture.c merges several of them.
 */
#ifndef SANREWIND_TAP_SOURCE_H
#define SANREWIND_TAP_SOURCE_H

#include "tap/capture/capture.h"

struct source;

/* Both give NULL with a sentence, as capture_add_file and capture_add_interface say. */
struct source *source_open_file(const char *path, const struct capture_options *options,
                                struct error *err);
struct source *source_open_interface(const char *name, const struct capture_options *options,
                                     struct error *err);
void source_close(struct source *s);

enum source_outcome {
    SOURCE_PACKET = 0, /* *packet is valid until the next call */
    SOURCE_NONE = 1,   /* nothing now; of a file: nothing any more */
};

/* Never waits. Negative: an error with a sentence; the source is then at its end. */
int source_read(struct source *s, struct packet *packet, struct error *err);

/* Readable when an interface has packets. */
int source_fd(const struct source *s);
/* Packets that an interface lost, since it was opened. Not for every packet: it asks the kernel. */
uint64_t source_dropped(struct source *s);

/*
 * After so long without a packet, an interface has delivered all that it had captured before: the
 * kernel hands a part-filled block over within the time-out, twice for caution.
 */
uint64_t source_settle_ns(void);

enum { SOURCE_LINKS = 8, SOURCE_STAMPS = 8 };

/* An interface that could be a source. */
struct source_info {
    char name[64];
    char description[128];
    bool up;
    bool loopback;
    char refusal[256]; /* why it cannot be captured from; "" when it can */
    bool promiscuous;
    bool readable; /* frames of its first link type can be read */
    char links[SOURCE_LINKS][32];
    size_t link_count;
    char stamps[SOURCE_STAMPS][32]; /* "host", "adapter", ... as pcap-tstamp(7) has them */
    size_t stamp_count;
};

/* Each network interface there is, and "any"; it is opened for a moment to learn what it offers. */
int source_list(const struct capture_options *options,
                void (*each)(void *context, const struct source_info *info), void *context,
                struct error *err);

DEFINE_AUTO(source, source_close)

#endif
