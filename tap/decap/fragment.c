#include "common/clock.h"
#include "common/rangeset.h"
#include "tap/decap/internal.h"

#include <stdlib.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>
#include <utlist.h>

enum {
    DATAGRAMS = 1024,
    DATAGRAM_BYTES = 65535,
    DATAGRAM_RANGES = 512, /* pieces that do not touch */
    ALL_DATAGRAMS_BYTES = 16 << 20,
};

/* RFC 791 proposes 15 s, RFC 8200 60 s; packets of one datagram travel together. */
#define LIFETIME_NS (30 * NS_PER_SECOND)
/* A whole one is remembered so long, for a mirror port's second copies of its fragments. */
#define AFTERLIFE_NS (500 * NS_PER_MS)

struct datagram_key {
    uint8_t source[16];
    uint8_t destination[16];
    uint32_t id;
    uint8_t family;
    uint8_t protocol; /* IPv4 only: RFC 8200 leaves it out */
    uint8_t padding[2];
};

struct datagram {
    struct datagram_key key;
    UT_hash_handle hh;
    struct datagram *prev, *next;
    uint8_t *data; /* owned */
    size_t capacity;
    struct rangeset have;
    uint32_t total_bytes; /* 0 until the last fragment has come */
    uint8_t protocol;
    bool whole;
    uint64_t time_ns; /* of its first fragment, or of its completion */
};

struct fragments {
    struct datagram *datagrams; /* uthash */
    struct datagram *oldest;    /* list by age */
    size_t bytes;
    uint8_t *whole; /* what the last complete datagram was; owned */
    uint64_t now_ns;
    uint64_t lost;
};

struct fragments *fragments_create(void) {
    return calloc(1, sizeof(struct fragments));
}

static void forget(struct fragments *f, struct datagram *d) {
    if (!d->whole)
        f->lost++;
    f->bytes -= d->capacity;
    DL_DELETE(f->oldest, d);
    HASH_DEL(f->datagrams, d);
    rangeset_release(&d->have);
    free(d->data);
    free(d);
}

void fragments_destroy(struct fragments *f) {
    if (f == NULL)
        return;
    while (f->oldest != NULL)
        forget(f, f->oldest);
    free(f->whole);
    free(f);
}

uint64_t fragments_lost(const struct fragments *f) {
    return f->lost;
}

static void expire(struct fragments *f, uint64_t time_ns) {
    if (time_ns > f->now_ns)
        f->now_ns = time_ns;
    while (f->oldest != NULL && f->now_ns > f->oldest->time_ns &&
           f->now_ns - f->oldest->time_ns > LIFETIME_NS)
        forget(f, f->oldest);
}

static struct datagram_key key_of(const struct fragment *fragment) {
    size_t bytes = fragment->family == 4 ? 4 : 16;
    struct datagram_key key = {.family = fragment->family, .id = fragment->id};
    memcpy(key.source, fragment->source, bytes);
    memcpy(key.destination, fragment->destination, bytes);
    key.protocol = fragment->family == 4 ? fragment->protocol : 0;
    return key;
}

static struct datagram *add_datagram(struct fragments *f, const struct datagram_key *key) {
    while (HASH_COUNT(f->datagrams) >= DATAGRAMS)
        forget(f, f->oldest);
    struct datagram *d = calloc(1, sizeof *d);
    if (d == NULL)
        return NULL;
    d->key = *key;
    d->time_ns = f->now_ns;
    HASH_ADD(hh, f->datagrams, key, sizeof d->key, d);
    if (d->hh.tbl == NULL) {
        free(d);
        return NULL;
    }
    rangeset_init(&d->have, DATAGRAM_RANGES);
    DL_APPEND(f->oldest, d);
    return d;
}

static struct datagram *find_or_add(struct fragments *f, const struct fragment *fragment) {
    struct datagram_key key = key_of(fragment);
    struct datagram *d = NULL;
    HASH_FIND(hh, f->datagrams, &key, sizeof key, d);
    if (d != NULL && d->whole && f->now_ns - d->time_ns > AFTERLIFE_NS) {
        forget(f, d); /* the identification is in use again */
        d = NULL;
    }
    return d != NULL ? d : add_datagram(f, &key);
}

static bool make_room(struct fragments *f, struct datagram *d, size_t bytes) {
    if (bytes <= d->capacity)
        return true;
    size_t capacity = d->capacity * 2 > bytes ? d->capacity * 2 : bytes;
    while (f->bytes + capacity > ALL_DATAGRAMS_BYTES && f->oldest != d)
        forget(f, f->oldest);
    uint8_t *data = realloc(d->data, capacity);
    if (data == NULL)
        return false;
    f->bytes += capacity - d->capacity;
    d->data = data;
    d->capacity = capacity;
    return true;
}

/* Bytes that have come already stay as they are. */
static void fill(struct datagram *d, const struct fragment *fragment) {
    struct cursor bytes = fragment->bytes;
    uint64_t at = fragment->offset;
    uint64_t end = at + cursor_left(&bytes);
    struct range missing;
    while (rangeset_missing(&d->have, at, end, &missing)) {
        cursor_skip(&bytes, (size_t)(missing.start - at));
        if (!rangeset_add(&d->have, missing.start, missing.end))
            return;
        cursor_copy(&bytes, d->data + missing.start, (size_t)(missing.end - missing.start));
        at = missing.end;
    }
}

bool fragments_add(struct fragments *f, const struct fragment *fragment, struct rebuilt *rebuilt) {
    size_t bytes = cursor_left(&fragment->bytes);
    /* Only the last may have a length that is not a multiple of 8: the others could not meet. */
    if (fragment->offset + bytes > DATAGRAM_BYTES ||
        (!fragment->last && !fragment->cut && bytes % 8 != 0))
        return false;
    expire(f, fragment->time_ns);
    struct datagram *d = find_or_add(f, fragment);
    if (d == NULL || d->whole || !make_room(f, d, fragment->offset + bytes))
        return false;
    if (fragment->last && !fragment->cut && d->total_bytes == 0)
        d->total_bytes = (uint32_t)(fragment->offset + bytes);
    if (fragment->offset == 0 && !rangeset_contains(&d->have, 0, 1))
        d->protocol = fragment->protocol;
    fill(d, fragment);
    if (d->total_bytes == 0 || !rangeset_contains(&d->have, 0, d->total_bytes))
        return false;
    free(f->whole);
    f->whole = take_pointer(&d->data);
    f->bytes -= d->capacity;
    d->capacity = 0;
    *rebuilt = (struct rebuilt){.bytes = cursor_of(f->whole, d->total_bytes),
                                .protocol = d->protocol,
                                .span_ns = f->now_ns - d->time_ns};
    d->whole = true;
    d->time_ns = f->now_ns;
    rangeset_release(&d->have);
    return true;
}
