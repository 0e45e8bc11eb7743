#include "tap/capture/capture.h"

#include "common/clock.h"
#include "common/stop.h"
#include "tap/capture/source.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

enum { CAPTURE_SOURCES = 64 };

/* While others are busy, a silent interface is not asked again before this much packet time has
 * passed. */
#define RETRY_NS NS_PER_MS

struct input {
    struct source *source;
    bool live;
    bool pending; /* `packet` waits for its turn */
    bool ended;
    uint64_t asked_ns; /* packet time when it last had nothing */
    struct packet packet;
    struct error failure; /* told once all packets are out */
};

struct capture {
    struct capture_options options;
    struct input inputs[CAPTURE_SOURCES];
    size_t count;
    size_t live_count;
    struct input *given; /* its packet is with the caller */
    uint64_t time_ns;    /* of the packet given last */
    uint64_t stop_ns;    /* wall time at which a stop was noticed; 0: none */
    bool live_failed;
    uint64_t packets;
    uint64_t bytes;
};

struct capture *capture_create(const struct capture_options *options) {
    struct capture *c = calloc(1, sizeof *c);
    if (c != NULL)
        c->options = *options;
    return c;
}

void capture_destroy(struct capture *c) {
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->count; i++)
        source_close(c->inputs[i].source);
    free(c);
}

static int add(struct capture *c, struct source *source, bool live) {
    c->inputs[c->count++] = (struct input){.source = source, .live = live};
    c->live_count += live;
    return 0;
}

static int check_room(const struct capture *c, struct error *err) {
    if (c->count < CAPTURE_SOURCES)
        return 0;
    return error_set(err, ERR_USAGE, "more than %d files and interfaces: use several monitors",
                     CAPTURE_SOURCES);
}

int capture_add_file(struct capture *c, const char *path, struct error *err) {
    struct error reason = {0};
    if (check_room(c, &reason) == 0) {
        struct source *source = source_open_file(path, &c->options, &reason);
        if (source != NULL)
            return add(c, source, false);
    }
    if (err != NULL)
        *err = reason;
    return reason.code;
}

int capture_add_interface(struct capture *c, const char *name, struct error *err) {
    struct error reason = {0};
    if (check_room(c, &reason) == 0) {
        struct source *source = source_open_interface(name, &c->options, &reason);
        if (source != NULL)
            return add(c, source, true);
    }
    if (err != NULL)
        *err = reason;
    return reason.code;
}

/* Look one packet ahead. */
static void refill(struct capture *c, struct input *in) {
    int outcome = source_read(in->source, &in->packet, &in->failure);
    in->pending = outcome == SOURCE_PACKET;
    in->asked_ns = c->time_ns;
    in->ended = outcome < 0 || (outcome == SOURCE_NONE && !in->live);
    if (outcome < 0 && in->live)
        c->live_failed = true;
}

static bool worth_asking(const struct capture *c, const struct input *in, bool others_wait) {
    if (in->pending || in->ended)
        return false;
    return !in->live || !others_wait || c->time_ns - in->asked_ns >= RETRY_NS;
}

/* The input with the earliest packet, the first of equals; NULL when none has one. */
static struct input *earliest(struct capture *c) {
    struct input *best = NULL;
    for (size_t i = 0; i < c->count; i++) {
        struct input *in = &c->inputs[i];
        if (in->pending && (best == NULL || in->packet.time_ns < best->packet.time_ns))
            best = in;
    }
    return best;
}

static struct input *next_input(struct capture *c) {
    if (c->given != NULL) {
        c->given->pending = false;
        refill(c, c->given);
        c->given = NULL;
    }
    if (c->count == 1 && c->inputs[0].pending)
        return &c->inputs[0];
    bool others_wait = earliest(c) != NULL;
    for (size_t i = 0; i < c->count; i++)
        if (worth_asking(c, &c->inputs[i], others_wait))
            refill(c, &c->inputs[i]);
    return earliest(c);
}

static int give(struct capture *c, struct input *in, struct packet *packet) {
    *packet = in->packet;
    c->given = in;
    c->time_ns = in->packet.time_ns;
    c->packets++;
    c->bytes += in->packet.caplen;
    return CAPTURE_PACKET;
}

/* Failures are told one by one, and each once: of a file at the end, of an interface at once. */
static int tell_failure(struct capture *c, struct error *err) {
    c->live_failed = false;
    for (size_t i = 0; i < c->count; i++) {
        struct error failure = c->inputs[i].failure;
        if (failure.code == 0)
            continue;
        c->inputs[i].failure.code = 0;
        if (err != NULL)
            *err = failure;
        return failure.code;
    }
    return CAPTURE_END;
}

static bool any_live_left(const struct capture *c) {
    for (size_t i = 0; i < c->count; i++)
        if (c->inputs[i].live && !c->inputs[i].ended)
            return true;
    return false;
}

static void wait_for_packets(struct capture *c, uint64_t timeout_ns, bool until_stop) {
    struct pollfd fds[CAPTURE_SOURCES + 1];
    nfds_t count = 0;
    for (size_t i = 0; i < c->count; i++)
        if (c->inputs[i].live && !c->inputs[i].ended)
            fds[count++] = (struct pollfd){.fd = source_fd(c->inputs[i].source), .events = POLLIN};
    if (until_stop)
        fds[count++] = (struct pollfd){.fd = stop_fd(), .events = POLLIN};
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / NS_PER_SECOND),
                               .tv_nsec = (long)(timeout_ns % NS_PER_SECOND)};
    ppoll(fds, count, &timeout, NULL);
}

/* After a stop: what was captured before it still counts. */
static int next_until_stop(struct capture *c, struct packet *packet, struct error *err) {
    if (c->stop_ns == 0)
        c->stop_ns = clock_wall_ns();
    struct input *in = next_input(c);
    while (in == NULL && any_live_left(c) && clock_wall_ns() < c->stop_ns + source_settle_ns()) {
        wait_for_packets(c, source_settle_ns() / 8, false);
        in = next_input(c);
    }
    if (in != NULL && in->packet.time_ns <= c->stop_ns)
        return give(c, in, packet);
    return tell_failure(c, err);
}

int capture_next(struct capture *c, uint64_t timeout_ns, struct packet *packet,
                 uint64_t *quiet_until_ns, struct error *err) {
    if (c->live_count > 0 && stop_requested())
        return next_until_stop(c, packet, err);
    struct input *in = next_input(c);
    if (c->live_failed)
        return tell_failure(c, err);
    if (in != NULL)
        return give(c, in, packet);
    if (!any_live_left(c))
        return tell_failure(c, err);
    wait_for_packets(c, timeout_ns, true);
    uint64_t asked_ns = clock_wall_ns();
    in = next_input(c);
    if (in != NULL)
        return give(c, in, packet);
    if (stop_requested())
        return next_until_stop(c, packet, err);
    *quiet_until_ns = asked_ns - source_settle_ns();
    return CAPTURE_IDLE;
}

struct capture_stats capture_stats(struct capture *c) {
    struct capture_stats stats = {.packets = c->packets, .bytes = c->bytes};
    for (size_t i = 0; i < c->count; i++)
        stats.dropped += source_dropped(c->inputs[i].source);
    return stats;
}
