/*
 * The search for PDUs in a stream of any bytes, shown in any pieces, with anything known before.
 *
 * Input: a byte of settings (01h of the initiator, 02h header digest known, 04h its value, 08h data
 * digest known, 10h its value, 80h sought at the first byte only), a byte of phase (modulo 5 less
 * 1), a byte with a number of pieces, their lengths of 16 bits (little-endian; what remains is one
 * more), and the bytes.
 */
#include "common/cursor.h"
#include "tap/iscsi/seek.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_PIECES = 256 };

struct settings {
    bool of_initiator;
    bool here;
    int phase;
    struct seek_digests digests;
};

struct pieces {
    size_t starts[MOST_PIECES];
    size_t count;
    const uint8_t *bytes;
    size_t length;
};

static void check(bool holds) {
    if (!holds)
        abort();
}

static void begin(struct seek *s, const struct settings *settings) {
    if (settings->here)
        seek_init_here(s, settings->of_initiator, &settings->digests);
    else
        seek_init(s, settings->of_initiator, &settings->digests, settings->phase);
}

static void check_hit(const struct settings *settings, const struct seek_hit *hit, size_t length) {
    const struct seek_digests *known = &settings->digests;
    check(hit->start < length && hit->digests.header_known);
    check(!settings->here || hit->start == 0);
    check(settings->here || settings->phase < 0 || (int)(hit->start % 4) == settings->phase);
    check(!known->header_known || hit->digests.header == known->header);
    check(!known->data_known || (hit->digests.data_known && hit->digests.data == known->data));
}

/* The first `count` pieces, in memory of their own, so that a read past them is found. */
static bool show(struct seek *s, const struct settings *settings, const struct pieces *p,
                 size_t count, bool last_chance, struct seek_hit *hit) {
    size_t length = count < p->count ? p->starts[count] : p->length;
    uint8_t *copy = malloc(length > 0 ? length : 1);
    check(copy != NULL);
    if (length > 0)
        memcpy(copy, p->bytes, length);
    struct seek_view view = {copy, length, p->starts, count, last_chance};
    bool found = seek_find(s, &view, hit);
    if (found)
        check_hit(settings, hit, length);
    free(copy);
    return found;
}

static struct pieces read_pieces(struct cursor *c) {
    struct pieces p = {.count = 1};
    struct cursor lengths = {0};
    size_t count = cursor_u8(c);
    lengths = cursor_child(c, 2 * count);
    p.length = cursor_left(c);
    p.bytes = c->next;
    while (cursor_left(&lengths) > 0 && p.count < MOST_PIECES) {
        size_t start = p.starts[p.count - 1] + cursor_le16(&lengths);
        if (start >= p.length)
            break;
        if (start > p.starts[p.count - 1])
            p.starts[p.count++] = start;
    }
    return p;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct cursor c = cursor_of(data, size);
    uint8_t bits = cursor_u8(&c);
    struct settings settings = {.of_initiator = bits & 1,
                                .here = bits & 0x80,
                                .phase = cursor_u8(&c) % 5 - 1,
                                .digests = {.header_known = bits & 2,
                                            .header = (bits & 6) == 6,
                                            .data_known = bits & 8,
                                            .data = (bits & 0x18) == 0x18}};
    struct pieces p = read_pieces(&c);
    struct seek s;
    struct seek_hit at_once = {0};
    struct seek_hit hit = {0};
    begin(&s, &settings);
    bool found_at_once = show(&s, &settings, &p, p.count, false, &at_once);
    begin(&s, &settings);
    bool found = false;
    for (size_t count = 1; count <= p.count && !found; count++)
        found = show(&s, &settings, &p, count, false, &hit);
    /* Looking further for data can refute what was believed without. */
    if (found_at_once)
        check(found && hit.start <= at_once.start);
    if (settings.digests.data_known)
        check(found == found_at_once && hit.start == at_once.start);
    if (!found)
        show(&s, &settings, &p, p.count, true, &hit);
    begin(&s, &settings);
    show(&s, &settings, &p, p.count, true, &hit);
    return 0;
}
