#include "common/buffer.h"
#include "common/clock.h"
#include "tap/iscsi/internal.h"

#include <utlist.h>

/*
 * What passes on a connection while it is not known where PDUs begin is held back, of both
 * directions and in the order in which it came, so that nothing is read out of turn. When the
 * places are found it is read from there on as if it came now.
 */

struct piece {
    size_t start;   /* in the bytes of its direction */
    uint64_t bytes; /* of a hole: missing */
    uint64_t time_ns;
    uint8_t direction;
    bool hole;
};

/* One direction. */
struct way {
    struct buffer bytes;
    size_t *starts; /* where segments began */
    size_t start_count;
    size_t start_capacity;
    uint64_t position; /* as in struct flow, behind the last byte */
    bool aligned;      /* it means something */
    bool lost;
    bool found;
    struct seek seek;
    struct seek_hit hit;
};

struct search {
    struct connection *connection;
    struct way ways[2];
    struct piece *pieces;
    size_t count;
    size_t capacity;
    uint64_t since_ns;
    uint64_t begun_ns;
    size_t accounted; /* its part of owner->search_bytes */
    size_t skipped;   /* bytes that were looked at, and forgotten */
    bool hopeless;
    bool failed; /* out of memory: something is not in it */
    struct search *prev, *next;
};

static void account(struct search *s) {
    size_t now = s->ways[0].bytes.length + s->ways[1].bytes.length + s->count * sizeof *s->pieces;
    struct iscsi *i = s->connection->owner;
    i->search_bytes = i->search_bytes - s->accounted + now;
    s->accounted = now;
}

struct search *search_begin(struct connection *c, uint64_t since_ns) {
    struct search *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->connection = c;
    s->since_ns = since_ns;
    s->begun_ns = c->owner->now_ns;
    for (int d = 0; d < 2; d++) {
        buffer_init(&s->ways[d].bytes, 2 * SEARCH_BYTES);
        s->ways[d].position = flow_position(&c->flows[d]);
        s->ways[d].aligned = c->state == CONNECTION_FULL;
    }
    DL_APPEND(c->owner->searches, s);
    return s;
}

void search_free(struct search *s) {
    if (s == NULL)
        return;
    struct iscsi *i = s->connection->owner;
    if (!s->hopeless)
        DL_DELETE(i->searches, s);
    i->search_bytes -= s->accounted;
    for (int d = 0; d < 2; d++) {
        buffer_release(&s->ways[d].bytes);
        free(s->ways[d].starts);
    }
    free(s->pieces);
    free(s);
}

/* What was held of that direction cannot be read any more. */
static void drop_way(struct search *s, enum tcp_direction direction) {
    size_t kept = 0;
    for (size_t i = 0; i < s->count; i++) {
        if (s->pieces[i].direction != direction)
            s->pieces[kept++] = s->pieces[i];
    }
    s->count = kept;
    s->ways[direction].start_count = 0;
    buffer_clear(&s->ways[direction].bytes);
    account(s);
}

static struct seek_digests known_digests(const struct connection *c) {
    const struct framer *f = &c->flows[0].framer;
    bool full = c->state == CONNECTION_FULL;
    return (struct seek_digests){.header_known = full,
                                 .header = f->header_digest,
                                 .data_known = full && c->data_digest_known,
                                 .data = f->data_digest};
}

void search_lose(struct search *s, enum tcp_direction direction, uint64_t time_ns) {
    struct way *way = &s->ways[direction];
    struct seek_digests digests = known_digests(s->connection);
    const struct flow *flow = &s->connection->flows[direction];
    int phase = way->aligned ? (int)((flow->phase - way->position) % 4) : -1;
    drop_way(s, direction);
    way->lost = true;
    way->found = false;
    seek_init(&way->seek, direction == TCP_TO_SERVER, &digests, phase);
    if (time_ns < s->since_ns)
        s->since_ns = time_ns;
}

void search_ask_digest(struct search *s, enum tcp_direction direction) {
    struct way *way = &s->ways[direction];
    struct seek_digests digests = known_digests(s->connection);
    way->lost = true;
    seek_init_here(&way->seek, direction == TCP_TO_SERVER, &digests);
}

static void add_piece(struct search *s, const struct piece *piece) {
    if (s->count == s->capacity) {
        size_t capacity = s->capacity > 0 ? 2 * s->capacity : 16;
        struct piece *pieces = realloc(s->pieces, capacity * sizeof *pieces);
        s->failed = s->failed || pieces == NULL;
        if (pieces == NULL)
            return;
        s->pieces = pieces;
        s->capacity = capacity;
    }
    s->pieces[s->count++] = *piece;
}

static void add_start(struct search *s, struct way *way, size_t start) {
    if (way->start_count == way->start_capacity) {
        size_t capacity = way->start_capacity > 0 ? 2 * way->start_capacity : 16;
        size_t *starts = realloc(way->starts, capacity * sizeof *starts);
        s->failed = s->failed || starts == NULL;
        if (starts == NULL)
            return;
        way->starts = starts;
        way->start_capacity = capacity;
    }
    way->starts[way->start_count++] = start;
}

void search_data(struct search *s, enum tcp_direction direction, const uint8_t *data, size_t bytes,
                 uint64_t time_ns) {
    struct way *way = &s->ways[direction];
    struct piece piece = {way->bytes.length, bytes, time_ns, (uint8_t)direction, false};
    buffer_put(&way->bytes, data, bytes);
    s->failed = s->failed || way->bytes.failed;
    add_start(s, way, piece.start);
    add_piece(s, &piece);
    way->position += bytes;
    account(s);
}

void search_hole(struct search *s, enum tcp_direction direction, uint64_t bytes, uint64_t time_ns) {
    struct way *way = &s->ways[direction];
    way->position += bytes;
    if (way->lost && !way->found) {
        search_lose(s, direction, time_ns);
        return;
    }
    struct piece piece = {way->bytes.length, bytes, time_ns, (uint8_t)direction, true};
    add_piece(s, &piece);
    account(s);
}

enum tcp_copy search_compare(const struct search *s, enum tcp_direction direction, uint64_t back,
                             const uint8_t *data, size_t bytes) {
    const struct way *way = &s->ways[direction];
    struct cursor there = cursor_of(way->bytes.data, way->bytes.length);
    if (back > way->bytes.length || !cursor_skip(&there, way->bytes.length - (size_t)back))
        return TCP_COPY_FORGOTTEN;
    const uint8_t *ours = cursor_bytes(&there, bytes);
    bool same = ours != NULL && memcmp(ours, data, bytes) == 0;
    return same ? TCP_COPY_SAME : TCP_COPY_DIFFERS;
}

uint64_t search_position(const struct search *s, enum tcp_direction direction) {
    const struct way *way = &s->ways[direction];
    return way->position - way->bytes.length + (way->lost ? way->hit.start : 0);
}

static void find(struct way *way, bool last_chance) {
    struct seek_view view = {.bytes = way->bytes.data,
                             .length = way->bytes.length,
                             .starts = way->starts,
                             .start_count = way->start_count,
                             .last_chance = last_chance};
    if (way->lost && !way->found && view.length > 0)
        way->found = seek_find(&way->seek, &view, &way->hit);
}

bool search_is_done(struct search *s, bool last_chance) {
    bool done = !s->failed;
    for (int d = 0; d < 2; d++) {
        struct way *way = &s->ways[d];
        find(way, last_chance);
        done = done && (!way->lost || way->found);
    }
    return done;
}

void search_give_up(struct search *s) {
    if (s->hopeless)
        return;
    s->hopeless = true;
    DL_DELETE(s->connection->owner->searches, s);
}

bool search_is_hopeless(const struct search *s) {
    return s->hopeless;
}

/* It need not be iSCSI at all. */
static bool is_silent(const struct search *s) {
    return s->connection->state == CONNECTION_LATE && !s->connection->known_port;
}

bool search_is_full(const struct search *s) {
    const struct iscsi *i = s->connection->owner;
    return s->failed ||
           s->accounted > (is_silent(s) ? (size_t)SEARCH_SILENT_BYTES : (size_t)SEARCH_BYTES) ||
           i->search_bytes > SEARCH_TOTAL_BYTES;
}

bool search_has_bytes(const struct search *s, enum tcp_direction direction) {
    return s->ways[direction].bytes.length > 0;
}

bool search_has_lost(const struct search *s, enum tcp_direction direction) {
    return s->ways[direction].lost && !s->ways[direction].found;
}

bool search_was_lost(const struct search *s, enum tcp_direction direction) {
    return s->ways[direction].lost;
}

uint64_t search_since_ns(const struct search *s) {
    return s->since_ns;
}

void search_set_since(struct search *s, uint64_t since_ns) {
    s->since_ns = since_ns;
    s->begun_ns = since_ns;
}

struct seek_digests search_digests(const struct search *s) {
    struct seek_digests digests = known_digests(s->connection);
    for (int d = 0; d < 2; d++) {
        const struct way *way = &s->ways[d];
        if (!way->found)
            continue;
        bool data_known = digests.data_known;
        bool data = digests.data;
        digests = way->hit.digests;
        if (!digests.data_known && data_known) {
            digests.data_known = true;
            digests.data = data;
        }
    }
    return digests;
}

void search_clear(struct search *s, uint64_t time_ns) {
    search_lose(s, TCP_TO_SERVER, time_ns);
    search_lose(s, TCP_TO_CLIENT, time_ns);
    s->failed = false;
}

bool search_skip(struct search *s, uint64_t time_ns) {
    size_t held = s->ways[0].bytes.length + s->ways[1].bytes.length;
    if (!is_silent(s) || s->failed || s->skipped + held > SEARCH_SILENT_MOST)
        return false;
    s->skipped += held;
    search_clear(s, time_ns);
    return true;
}

bool search_has_skipped(const struct search *s) {
    return s->skipped > 0;
}

/* The part of a piece that can be read. */
static bool is_readable(const struct way *way, struct piece *piece) {
    size_t from = way->lost ? way->hit.start : 0;
    if (piece->hole)
        return piece->start >= from;
    if (piece->start + piece->bytes <= from)
        return false;
    if (piece->start < from) {
        piece->bytes -= from - piece->start;
        piece->start = from;
    }
    return true;
}

bool search_replay(struct connection *c) {
    struct search *s = c->search;
    bool going = true;
    c->search = NULL;
    c->replaying = true;
    for (size_t i = 0; i < s->count && going; i++) {
        struct piece piece = s->pieces[i];
        const struct way *way = &s->ways[piece.direction];
        enum tcp_direction direction = (enum tcp_direction)piece.direction;
        if (!is_readable(way, &piece))
            continue;
        going = piece.hole ? connection_hole(c, direction, piece.bytes, piece.time_ns)
                           : connection_data(c, direction, way->bytes.data + piece.start,
                                             (size_t)piece.bytes, piece.time_ns);
    }
    c->replaying = false;
    search_free(s);
    return going;
}

uint64_t search_oldest(const struct iscsi *i) {
    uint64_t oldest_ns = UINT64_MAX;
    for (const struct search *s = i->searches; s != NULL; s = s->next) {
        if (!is_silent(s) && s->since_ns < oldest_ns)
            oldest_ns = s->since_ns;
    }
    return oldest_ns;
}

struct connection *search_overdue(const struct iscsi *i, uint64_t now_ns) {
    for (const struct search *s = i->searches; s != NULL; s = s->next) {
        if (now_ns > s->begun_ns && now_ns - s->begun_ns > SEARCH_PATIENCE_NS)
            return s->connection;
    }
    return NULL;
}
