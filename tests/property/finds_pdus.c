/*
 * finds_pdus DIRECTORY CAPTURE SECONDS
 *
 * Takes the streams of a capture, cuts their beginning off at random bytes, and looks for PDUs in
 * the rest, as its segments come: what is found must be where a PDU begins when the stream is read
 * from its true beginning, with the digests that it has. Every header must have the shape of one,
 * too. The seed is printed, and taken from SANREWIND_SEED.
 */
#include "common/buffer.h"
#include "common/clock.h"
#include "tap/decap/decap.h"
#include "tap/iscsi/framer.h"
#include "tap/iscsi/seek.h"
#include "tap/iscsi/shape.h"
#include "tests/property/mangle.h"
#include "tests/property/packets.h"
#include "tests/property/truth.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_STREAMS = 64, MOST_BYTES = 256 << 20, HELD_BYTES = 8 << 20, TAIL_PDUS = 5 };

struct places {
    size_t *list;
    size_t count;
    size_t capacity;
};

/* One direction of a connection. */
struct stream {
    struct buffer bytes;
    bool of_initiator;
    struct places segments; /* where they begin */
    struct places pdus;     /* in full feature phase */
    struct seek_digests digests;
};

struct survey {
    struct tcp *tcp;
    struct stream streams[MOST_STREAMS];
    size_t count;
    uint64_t pdus;
    uint64_t misshapen;
    uint64_t cuts;
    uint64_t found;
    uint64_t passed; /* PDUs before the places that were found */
    uint64_t most_passed;
    uint64_t wrong;
};

static void add_place(struct places *p, size_t at) {
    if (p->count == p->capacity) {
        p->capacity = p->capacity > 0 ? 2 * p->capacity : 1024;
        p->list = realloc(p->list, p->capacity * sizeof *p->list);
        if (p->list == NULL)
            abort();
    }
    p->list[p->count++] = at;
}

/* The first that is not before `at`. */
static size_t place_from(const struct places *p, size_t at) {
    size_t low = 0;
    size_t high = p->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (p->list[middle] < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Streams out of packets */

static void *take_open(void *context, const struct tcp_endpoints *endpoints, bool from_start,
                       uint64_t time_ns) {
    struct survey *s = context;
    (void)endpoints;
    (void)time_ns;
    if (!from_start || s->count + 2 > MOST_STREAMS)
        return NULL;
    struct stream *pair = &s->streams[s->count];
    for (int d = 0; d < 2; d++) {
        buffer_init(&pair[d].bytes, MOST_BYTES);
        pair[d].of_initiator = d == TCP_TO_SERVER;
    }
    s->count += 2;
    return pair;
}

static bool take_data(void *connection, enum tcp_direction direction, const uint8_t *data,
                      size_t bytes, uint64_t time_ns) {
    struct stream *s = (struct stream *)connection + direction;
    (void)time_ns;
    add_place(&s->segments, s->bytes.length);
    buffer_put(&s->bytes, data, bytes);
    return true;
}

/* What came before it is of use. */
static bool take_hole(void *connection, enum tcp_direction direction, uint64_t bytes,
                      uint64_t time_ns) {
    (void)connection;
    (void)direction;
    (void)bytes;
    (void)time_ns;
    return false;
}

static void take_close(void *connection, enum tcp_end why, uint64_t time_ns) {
    (void)connection;
    (void)why;
    (void)time_ns;
}

static void take_packets(struct survey *s, const struct packets *packets) {
    struct tcp_consumer consumer = {
        .context = s, .open = take_open, .data = take_data, .hole = take_hole, .close = take_close};
    struct tcp_limits limits = tcp_default_limits();
    s->tcp = tcp_create(&consumer, &limits);
    AUTO(decap) decap = decap_create();
    if (s->tcp == NULL || decap == NULL)
        abort();
    for (size_t i = 0; i < packets->count; i++) {
        struct decap_result found;
        if (decap_packet(decap, &packets->list[i], &found) == DECAP_TCP)
            tcp_segment(s->tcp, &found.tcp);
    }
    tcp_destroy(s->tcp);
}

/* PDUs out of streams */

static bool is_login(const struct framer *f) {
    return f->pdu.opcode == PDU_LOGIN_REQUEST || f->pdu.opcode == PDU_LOGIN_RESPONSE;
}

/* The PDUs that are not of the login, if those digests hold all the way. */
static bool read_with(const struct stream *s, int digests, struct places *pdus) {
    struct framer f;
    struct cursor in = cursor_of(s->bytes.data, s->bytes.length);
    size_t start = 0;
    bool login = true;
    bool good = true;
    bool more = true;
    framer_init(&f);
    pdus->count = 0;
    while (good && more) {
        if (framer_is_between(&f))
            start = (size_t)(in.next - s->bytes.data);
        if (login && framer_is_between(&f) && cursor_left(&in) > 0 &&
            (in.next[0] & 0x1f) != PDU_LOGIN_REQUEST) {
            login = false;
            framer_set_digests(&f, (digests & 1) != 0, (digests & 2) != 0);
        }
        switch (framer_next(&f, &in)) {
        case FRAMER_HEADER:
            good = is_login(&f) == login && (s->of_initiator ? pdu_is_of_initiator(f.pdu.opcode)
                                                             : pdu_is_of_target(f.pdu.opcode));
            if (!login)
                add_place(pdus, start);
            break;
        case FRAMER_END:
            good = f.data_intact;
            break;
        case FRAMER_DATA:
            break;
        case FRAMER_BAD:
            good = false;
            break;
        case FRAMER_NEED:
            more = false;
            break;
        }
    }
    framer_release(&f);
    return good;
}

static bool read_stream(struct survey *s, struct stream *stream) {
    for (int digests = 3; digests >= 0; digests--) {
        if (!read_with(stream, digests, &stream->pdus))
            continue;
        stream->digests = (struct seek_digests){true, digests & 1, true, digests & 2};
        s->pdus += stream->pdus.count;
        for (size_t i = 0; i < stream->pdus.count; i++)
            s->misshapen +=
                !shape_fits(stream->bytes.data + stream->pdus.list[i], stream->of_initiator);
        return true;
    }
    return false;
}

/* Cuts */

static bool is_right(const struct stream *s, const struct seek_hit *hit, size_t at) {
    size_t i = place_from(&s->pdus, at);
    const struct seek_digests *d = &hit->digests;
    return i < s->pdus.count && s->pdus.list[i] == at && d->header == s->digests.header &&
           (!d->data_known || d->data == s->digests.data);
}

/* Segment by segment, as much as is ever held back. */
static bool find(const struct stream *s, size_t cut, const struct seek_digests *known, int phase,
                 struct seek_hit *hit) {
    struct seek seek;
    struct places starts = {0};
    size_t end = s->bytes.length - cut < HELD_BYTES ? s->bytes.length : cut + HELD_BYTES;
    bool found = false;
    seek_init(&seek, s->of_initiator, known, phase);
    for (size_t i = place_from(&s->segments, cut + 1); !found; i++) {
        bool last = i >= s->segments.count || s->segments.list[i] >= end;
        size_t to = last ? end : s->segments.list[i];
        size_t from = i > 0 && s->segments.list[i - 1] > cut ? s->segments.list[i - 1] : cut;
        add_place(&starts, from - cut);
        struct seek_view view = {s->bytes.data + cut, to - cut, starts.list, starts.count, last};
        found = seek_find(&seek, &view, hit);
        if (last)
            break;
    }
    free(starts.list);
    return found;
}

/* Half of them in or right behind a header: what looks like one is made of the rest of another. */
static size_t place_of_cut(const struct stream *s, uint64_t random) {
    size_t first = s->pdus.list[0];
    if ((random & 2) != 0)
        return first + (size_t)(random >> 8) % (s->bytes.length - first);
    size_t near = s->pdus.list[(random >> 8) % s->pdus.count] + (size_t)(random >> 2) % 64;
    return near < s->bytes.length ? near : first;
}

static void cut_once(struct survey *s, const struct stream *stream, uint64_t random) {
    static const struct seek_digests unknown = {0};
    size_t cut = place_of_cut(stream, random);
    bool known = (random & 1) != 0; /* as behind a hole */
    struct seek_hit hit;
    size_t before = place_from(&stream->pdus, cut);
    s->cuts++;
    if (!find(stream, cut, known ? &stream->digests : &unknown,
              known ? (int)((4 - cut % 4) % 4) : -1, &hit)) {
        if (stream->pdus.count - before <= TAIL_PDUS)
            return;
        printf("FAILED: nothing is found behind byte %zu, with %zu PDUs there\n", cut,
               stream->pdus.count - before);
        s->wrong++;
        return;
    }
    s->found++;
    size_t passed = place_from(&stream->pdus, cut + hit.start) - before;
    s->passed += passed;
    s->most_passed = passed > s->most_passed ? passed : s->most_passed;
    if (is_right(stream, &hit, cut + hit.start))
        return;
    printf("FAILED: cut at byte %zu, found one at %zu, where none is or with other digests\n", cut,
           cut + hit.start);
    s->wrong++;
}

static void cut_streams(struct survey *s, uint64_t seed, uint64_t seconds) {
    struct mono begun = clock_mono();
    uint64_t state = seed;
    while (clock_since_ns(begun) < seconds * NS_PER_SECOND && s->wrong < 10) {
        struct stream *stream = &s->streams[mangle_random(&state) % s->count];
        if (stream->pdus.count > TAIL_PDUS)
            cut_once(s, stream, mangle_random(&state));
    }
}

static int load(struct packets *packets, const char *directory, const char *name,
                struct error *err) {
    struct truth truth = {0};
    int code = truth_load(&truth, directory, name, err);
    if (code == 0)
        code = packets_load(packets, (const char *const *)truth.files, truth.file_count, err);
    truth_release(&truth);
    return code;
}

static uint64_t seed_of_run(void) {
    const char *given = getenv("SANREWIND_SEED");
    return given != NULL ? strtoull(given, NULL, 10) : clock_wall_ns();
}

static void survey_release(struct survey *s) {
    for (size_t i = 0; i < s->count; i++) {
        buffer_release(&s->streams[i].bytes);
        free(s->streams[i].segments.list);
        free(s->streams[i].pdus.list);
    }
}

int main(int argc, char **argv) {
    static struct survey s;
    struct packets packets = {0};
    struct error err = {0};
    if (argc != 4) {
        fprintf(stderr, "usage: finds_pdus DIRECTORY CAPTURE SECONDS\n");
        return 2;
    }
    uint64_t seed = seed_of_run();
    printf("SANREWIND_SEED=%" PRIu64 "\n", seed);
    if (load(&packets, argv[1], argv[2], &err) < 0) {
        fprintf(stderr, "finds_pdus: %s\n", err.text);
        return 1;
    }
    take_packets(&s, &packets);
    packets_release(&packets);
    for (size_t i = 0; i < s.count; i++) {
        if (!read_stream(&s, &s.streams[i])) {
            printf("FAILED: stream %zu cannot be read from its beginning\n", i);
            s.wrong++;
        }
    }
    if (s.count > 0 && s.wrong == 0)
        cut_streams(&s, seed, strtoull(argv[3], NULL, 10));
    printf("%zu streams, %" PRIu64 " PDUs, %" PRIu64 " of them not like one; %" PRIu64
           " cuts, %" PRIu64 " found, %.3f PDUs passed before, %" PRIu64 " at most\n",
           s.count, s.pdus, s.misshapen, s.cuts, s.found,
           s.found > 0 ? (double)s.passed / (double)s.found : 0, s.most_passed);
    bool good = s.wrong == 0 && s.misshapen == 0 && s.pdus > 0 && s.found > 0;
    survey_release(&s);
    return good ? 0 : 1;
}
