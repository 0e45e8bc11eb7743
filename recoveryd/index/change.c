#include "recoveryd/index/change.h"

#include <stdlib.h>

/* Which fields are written; what is not is as predicted. The seven frequent ones fit into a byte.
 */
enum field {
    FIELD_ORDER = 1 << 0,   /* not the one after the last one's */
    FIELD_OFFSET = 1 << 1,  /* not where the last one ended */
    FIELD_LENGTH = 1 << 2,  /* not the last one's */
    FIELD_PAYLOAD = 1 << 3, /* there is one: its place, and CRC */
    FIELD_SEGMENT = 1 << 4, /* not the last one's */
    FIELD_ISSUED = 1 << 5,  /* it is known */
    FIELD_KIND = 1 << 6,    /* operation or flags are not the last one's */
    FIELD_PATH = 1 << 7,    /* not the last one's */
    FIELD_STREAM = 1 << 8,  /* not the last one's monitor and stream */
    FIELD_BYTES = 1 << 9,   /* offset and length are no multiples of 512 */
    FIELD_WHOLE = 1 << 10,  /* the payload begins elsewhere: this is a part */
    FIELD_SIZE = 1 << 11,   /* the payload is not as long as the change */
    FIELDS = (1 << 12) - 1,
};
enum { UNIT_BITS = 9 };

/* LEB128. */
static void put_number(struct buffer *b, uint64_t value) {
    uint8_t bytes[10];
    size_t count = 0;
    do {
        bytes[count++] = (uint8_t)(value | 0x80);
        value >>= 7;
    } while (value > 0);
    bytes[count - 1] &= 0x7f;
    buffer_put(b, bytes, count);
}

static uint64_t take_number(struct cursor *c) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = cursor_u8(c);
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
    c->failed = true;
    return 0;
}

/* Differences may go either way: the sign is the lowest bit. */
static void put_step(struct buffer *b, uint64_t from, uint64_t to) {
    uint64_t step = to - from;
    put_number(b, step << 1 ^ (step >> 63 != 0 ? UINT64_MAX : 0));
}

static uint64_t take_step(struct cursor *c, uint64_t from) {
    uint64_t value = take_number(c);
    return from + (value >> 1 ^ (0 - (value & 1)));
}

static uint64_t end_of(const struct change *c) {
    return c->offset_bytes + c->length_bytes;
}

static uint64_t extent_end(const struct extent *e) {
    return e->offset + e->bytes;
}

static bool in_units(const struct change *c, const struct change *last) {
    uint64_t bits = c->offset_bytes | c->length_bytes | end_of(last);
    return (bits & ((1 << UNIT_BITS) - 1)) == 0;
}

static unsigned fields_of(const struct change *c, const struct change *last) {
    unsigned fields = 0;
    bool payload = c->extent.bytes > 0;
    fields |= c->stamp.order != last->stamp.order + 1 ? FIELD_ORDER : 0;
    fields |= c->offset_bytes != end_of(last) ? FIELD_OFFSET : 0;
    fields |= c->length_bytes != last->length_bytes ? FIELD_LENGTH : 0;
    fields |= payload ? FIELD_PAYLOAD : 0;
    fields |= payload && c->extent.segment != last->extent.segment ? FIELD_SEGMENT : 0;
    fields |= c->issued_ns != 0 ? FIELD_ISSUED : 0;
    fields |= c->op != last->op || c->flags != last->flags ? FIELD_KIND : 0;
    fields |= c->path != last->path ? FIELD_PATH : 0;
    fields |= c->stamp.monitor != last->stamp.monitor || c->stamp.stream != last->stamp.stream
                  ? FIELD_STREAM
                  : 0;
    fields |= !in_units(c, last) ? FIELD_BYTES : 0;
    fields |= c->whole_offset != c->offset_bytes ? FIELD_WHOLE : 0;
    fields |= payload && c->extent.bytes != c->length_bytes ? FIELD_SIZE : 0;
    return fields;
}

static void pack_place(struct buffer *b, unsigned fields, const struct change *c,
                       const struct change *last) {
    unsigned unit = (fields & FIELD_BYTES) != 0 ? 0 : UNIT_BITS;
    if ((fields & FIELD_OFFSET) != 0)
        put_step(b, end_of(last) >> unit, c->offset_bytes >> unit);
    if ((fields & FIELD_LENGTH) != 0)
        put_number(b, c->length_bytes >> unit);
    if ((fields & FIELD_WHOLE) != 0)
        put_step(b, c->offset_bytes, c->whole_offset);
}

static void pack_payload(struct buffer *b, unsigned fields, const struct change *c,
                         const struct change *last) {
    if ((fields & FIELD_PAYLOAD) == 0)
        return;
    if ((fields & FIELD_SEGMENT) != 0)
        put_number(b, c->extent.segment);
    if ((fields & FIELD_SIZE) != 0)
        put_number(b, c->extent.bytes);
    put_step(b, extent_end(&last->extent), c->extent.offset);
    buffer_put_le32(b, c->payload_crc32c);
}

void change_pack(struct change_state *s, struct buffer *b, const struct change *c) {
    const struct change *last = &s->last;
    unsigned fields = fields_of(c, last);
    put_number(b, fields);
    put_step(b, last->stamp.time_ns, c->stamp.time_ns);
    if ((fields & FIELD_STREAM) != 0) {
        buffer_put_le64(b, c->stamp.monitor);
        buffer_put_le64(b, c->stamp.stream);
    }
    if ((fields & FIELD_ORDER) != 0)
        put_step(b, last->stamp.order, c->stamp.order);
    if ((fields & FIELD_PATH) != 0)
        buffer_put_le64(b, c->path);
    if ((fields & FIELD_KIND) != 0) {
        buffer_put_u8(b, c->op);
        put_number(b, c->flags);
    }
    if ((fields & FIELD_ISSUED) != 0)
        put_step(b, c->issued_ns, c->stamp.time_ns);
    pack_place(b, fields, c, last);
    pack_payload(b, fields, c, last);
    struct extent before = last->extent;
    s->last = *c;
    if (c->extent.bytes == 0) /* the next payload lies behind the last one */
        s->last.extent = before;
}

static void unpack_place(struct cursor *from, unsigned fields, struct change *c,
                         const struct change *last) {
    unsigned unit = (fields & FIELD_BYTES) != 0 ? 0 : UNIT_BITS;
    c->offset_bytes = end_of(last);
    if ((fields & FIELD_OFFSET) != 0)
        c->offset_bytes = take_step(from, end_of(last) >> unit) << unit;
    c->length_bytes = last->length_bytes;
    if ((fields & FIELD_LENGTH) != 0)
        c->length_bytes = take_number(from) << unit;
    c->whole_offset = c->offset_bytes;
    if ((fields & FIELD_WHOLE) != 0)
        c->whole_offset = take_step(from, c->offset_bytes);
}

static void unpack_payload(struct cursor *from, unsigned fields, struct change *c,
                           const struct change *last) {
    if ((fields & FIELD_PAYLOAD) == 0)
        return;
    uint64_t segment = last->extent.segment;
    uint64_t bytes = c->length_bytes;
    if ((fields & FIELD_SEGMENT) != 0)
        segment = take_number(from);
    if ((fields & FIELD_SIZE) != 0)
        bytes = take_number(from);
    c->extent.offset = take_step(from, extent_end(&last->extent));
    c->payload_crc32c = cursor_le32(from);
    from->failed = from->failed || segment == 0 || segment > UINT32_MAX || bytes == 0 ||
                   bytes > UINT32_MAX || c->extent.offset > INT64_MAX;
    c->extent.segment = (uint32_t)segment;
    c->extent.bytes = (uint32_t)bytes;
}

static bool payload_fits(const struct change *c) {
    if (c->extent.bytes == 0)
        return true;
    if (c->extent.bytes > LIMIT_UPDATE_PAYLOAD_BYTES || c->offset_bytes < c->whole_offset ||
        (c->op != UPDATE_WRITE && c->op != UPDATE_PATTERN))
        return false;
    return c->op == UPDATE_PATTERN ||
           c->offset_bytes - c->whole_offset + c->length_bytes <= c->extent.bytes;
}

bool change_is_sound(const struct change *c) {
    bool known = c->op == UPDATE_WRITE || c->op == UPDATE_ZERO || c->op == UPDATE_PATTERN ||
                 c->op == UPDATE_FLUSH;
    return known && c->length_bytes <= INT64_MAX &&
           c->offset_bytes <= INT64_MAX - c->length_bytes && payload_fits(c);
}

int change_unpack(struct change_state *s, struct cursor *from, struct change *c,
                  struct error *err) {
    const struct change *last = &s->last;
    uint64_t fields = take_number(from);
    *c = (struct change){
        .stamp = last->stamp, .path = last->path, .op = last->op, .flags = last->flags};
    c->stamp.time_ns = take_step(from, last->stamp.time_ns);
    if ((fields & FIELD_STREAM) != 0) {
        c->stamp.monitor = cursor_le64(from);
        c->stamp.stream = cursor_le64(from);
    }
    c->stamp.order = last->stamp.order + 1;
    if ((fields & FIELD_ORDER) != 0)
        c->stamp.order = take_step(from, last->stamp.order);
    if ((fields & FIELD_PATH) != 0)
        c->path = cursor_le64(from);
    if ((fields & FIELD_KIND) != 0) {
        c->op = cursor_u8(from);
        c->flags = (uint16_t)take_number(from);
    }
    if ((fields & FIELD_ISSUED) != 0)
        c->issued_ns = c->stamp.time_ns - take_step(from, 0);
    unpack_place(from, (unsigned)fields, c, last);
    unpack_payload(from, (unsigned)fields, c, last);
    if (!cursor_ok(from) || fields > FIELDS || !change_is_sound(c))
        return error_set(err, ERR_FORMAT, "the index is damaged: a packed change");
    struct extent before = last->extent;
    s->last = *c;
    if (c->extent.bytes == 0)
        s->last.extent = before;
    return 0;
}

struct piece change_piece(const struct change *c) {
    static const uint8_t kinds[] = {[UPDATE_WRITE] = PIECE_DATA,
                                    [UPDATE_ZERO] = PIECE_ZERO,
                                    [UPDATE_PATTERN] = PIECE_PATTERN,
                                    [UPDATE_FLUSH] = 0};
    return (struct piece){.stamp = c->stamp,
                          .issued_ns = c->issued_ns,
                          .offset_bytes = c->offset_bytes,
                          .length_bytes = c->length_bytes,
                          .whole_offset = c->whole_offset,
                          .extent = c->extent,
                          .payload_crc32c = c->payload_crc32c,
                          .kind = kinds[c->op]};
}

void changes_release(struct changes *c) {
    free(c->list);
    *c = (struct changes){0};
}

bool changes_add(struct changes *c, const struct change *change) {
    if (c->count == c->capacity) {
        size_t capacity = c->capacity > 0 ? 2 * c->capacity : 128;
        struct change *list = realloc(c->list, capacity * sizeof *list);
        if (list == NULL)
            return false;
        c->list = list;
        c->capacity = capacity;
    }
    c->list[c->count++] = *change;
    return true;
}

int changes_unpack(struct changes *c, struct change_state state, struct cursor block,
                   struct error *err) {
    struct change change;
    int code = 0;
    while (code == 0 && cursor_left(&block) > 0) {
        code = change_unpack(&state, &block, &change, err);
        if (code == 0 && !changes_add(c, &change))
            code = error_set(err, ERR_NOMEM, "out of memory");
    }
    return code;
}
