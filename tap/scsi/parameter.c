#include "tap/scsi/parameter.h"

#include "common/cursor.h"

enum { RANGE_BYTES = 16, TOKEN_BYTES = 512, CSCD_BYTES = 32, TRIM_BYTES = 8 };
enum {
    CSCD_IDENTIFICATION = 0xe4,
    SEGMENT_BLOCK = 0x02,
    SEGMENT_BLOCK_OFFSET = 0x0a,
    SEGMENT_BLOCK_HELD = 0x0d, /* as 02h; the data can be asked for as well */
};

bool unmap_list_parse(const uint8_t *data, size_t bytes, struct range_list *list) {
    struct cursor c = cursor_of(data, bytes);
    cursor_skip(&c, 2); /* UNMAP DATA LENGTH repeats the next */
    size_t length = cursor_be16(&c);
    cursor_skip(&c, 4);
    size_t start = bytes - cursor_left(&c);
    /* An incomplete last descriptor is to be ignored. */
    if (!cursor_ok(&c) || !cursor_skip(&c, length / RANGE_BYTES * RANGE_BYTES))
        return false;
    *list = (struct range_list){data, bytes, start, length / RANGE_BYTES};
    return true;
}

bool token_list_parse(const uint8_t *data, size_t bytes, struct range_list *list) {
    struct cursor c = cursor_of(data, bytes);
    cursor_skip(&c, 16); /* lengths, flags, offset into the token's content */
    cursor_skip(&c, TOKEN_BYTES);
    cursor_skip(&c, 6);
    size_t length = cursor_be16(&c);
    size_t start = bytes - cursor_left(&c);
    if (!cursor_ok(&c) || !cursor_skip(&c, length / RANGE_BYTES * RANGE_BYTES))
        return false;
    *list = (struct range_list){data, bytes, start, length / RANGE_BYTES};
    return true;
}

bool populate_list_parse(const uint8_t *data, size_t bytes, struct range_list *list) {
    struct cursor c = cursor_of(data, bytes);
    cursor_skip(&c, 14); /* length, flags, timeout, type */
    size_t length = cursor_be16(&c);
    size_t start = bytes - cursor_left(&c);
    if (!cursor_ok(&c) || !cursor_skip(&c, length / RANGE_BYTES * RANGE_BYTES))
        return false;
    *list = (struct range_list){data, bytes, start, length / RANGE_BYTES};
    return true;
}

struct block_range range_list_at(const struct range_list *list, size_t index) {
    struct cursor c = cursor_of(list->data, list->bytes);
    cursor_skip(&c, list->start + index * RANGE_BYTES);
    uint64_t lba = cursor_be64(&c);
    uint64_t blocks = cursor_be32(&c);
    return (struct block_range){lba, blocks};
}

size_t ata_trim_count(size_t bytes) {
    return bytes / TRIM_BYTES;
}

struct block_range ata_trim_at(const uint8_t *data, size_t bytes, size_t index) {
    struct cursor c = cursor_of(data, bytes);
    cursor_skip(&c, index * TRIM_BYTES);
    uint64_t entry = cursor_le64(&c);
    return (struct block_range){entry & UINT64_C(0xffffffffffff), entry >> 48};
}

struct block_range scattered_range(const uint8_t bytes[SCATTERED_BYTES]) {
    struct cursor c = cursor_of(bytes, SCATTERED_BYTES);
    uint64_t lba = cursor_be64(&c);
    uint64_t blocks = cursor_be32(&c);
    return (struct block_range){lba, blocks};
}

bool reassign_list_parse(const uint8_t *data, size_t bytes, bool long_lba, bool long_list,
                         struct reassign_list *list) {
    struct cursor c = cursor_of(data, bytes);
    size_t each = long_lba ? 8 : 4;
    if (!long_list)
        cursor_skip(&c, 2);
    size_t length = long_list ? cursor_be32(&c) : cursor_be16(&c);
    if (!cursor_ok(&c) || !cursor_skip(&c, length / each * each))
        return false;
    *list = (struct reassign_list){data, bytes, length / each, long_lba};
    return true;
}

uint64_t reassign_list_at(const struct reassign_list *list, size_t index) {
    struct cursor c = cursor_of(list->data, list->bytes);
    cursor_skip(&c, 4 + index * (list->long_lba ? 8 : 4));
    return list->long_lba ? cursor_be64(&c) : cursor_be32(&c);
}

bool copy_list_parse(const uint8_t *data, size_t bytes, bool long_form, struct copy_list *list) {
    struct cursor c = cursor_of(data, bytes);
    size_t targets = 0;
    size_t segments = 0;
    bool immediate = false;
    if (long_form) { /* SPC-5 6.6.2: flags at 15, lengths at 42 and 44 of a 48-byte header */
        cursor_skip(&c, 15);
        immediate = (cursor_u8(&c) & 0x01) != 0;
        cursor_skip(&c, 26);
        targets = cursor_be16(&c);
        segments = cursor_be16(&c);
        cursor_skip(&c, 2);
    } else { /* SPC-4 6.4.3: lengths at 2 and 8 of a 16-byte header */
        cursor_skip(&c, 2);
        targets = cursor_be16(&c);
        cursor_skip(&c, 4);
        segments = cursor_be32(&c);
        cursor_skip(&c, 4);
    }
    size_t start = bytes - cursor_left(&c);
    if (!cursor_ok(&c) || !cursor_skip(&c, targets) || !cursor_skip(&c, segments))
        return false;
    *list = (struct copy_list){.data = data,
                               .bytes = bytes,
                               .long_form = long_form,
                               .immediate = immediate,
                               .targets_start = start,
                               .targets_bytes = targets,
                               .next = start + targets,
                               .end = start + targets + segments};
    return true;
}

/* The CSCD descriptor at `index`: its designator and block length. False: of another kind. */
static bool read_cscd(const struct copy_list *list, size_t index, char name[DEVICE_NAME_BYTES],
                      uint32_t *block_bytes) {
    struct cursor c = cursor_of(list->data, list->bytes);
    cursor_skip(&c, list->targets_start);
    struct cursor all = cursor_child(&c, list->targets_bytes);
    cursor_skip(&all, index * CSCD_BYTES);
    struct cursor cscd = cursor_child(&all, CSCD_BYTES);
    uint8_t type = cursor_u8(&cscd);
    bool is_null = (cursor_u8(&cscd) & 0x20) != 0; /* NUL, peripheral device type */
    cursor_skip(&cscd, 2);                         /* relative initiator port */
    uint8_t code_set = cursor_u8(&cscd) & 0x0f;
    uint8_t kind = cursor_u8(&cscd);
    cursor_skip(&cscd, 1);
    uint8_t length = cursor_u8(&cscd);
    struct cursor designator = cursor_child(&cscd, 20);
    cursor_skip(&cscd, 1);
    *block_bytes = cursor_be24(&cscd);
    const uint8_t *bytes = cursor_bytes(&designator, length);
    if (!cursor_ok(&cscd) || bytes == NULL || type != CSCD_IDENTIFICATION || is_null)
        return false;
    return device_designator(kind & 0x3f, code_set, bytes, length, name) > 0;
}

/* SPC-4 6.4.6.3 and 6.4.6.9: counted in blocks, or in bytes from within a block. */
static bool read_where(struct cursor c, uint8_t type, uint8_t flags, struct copy_segment *segment) {
    bool bytes = type == SEGMENT_BLOCK_OFFSET;
    if (!bytes)
        cursor_skip(&c, 2);
    segment->units = bytes ? cursor_be32(&c) : cursor_be16(&c);
    segment->units_are_bytes = bytes;
    segment->units_of_source = !bytes && (flags & 0x02) == 0;
    segment->carries = (flags & 0x01) != 0;
    segment->source_lba = cursor_be64(&c);
    segment->lba = cursor_be64(&c);
    if (bytes) {
        segment->source_skip = cursor_be16(&c);
        segment->skip = cursor_be16(&c);
    }
    return cursor_ok(&c);
}

static enum copy_step read_segment(const struct copy_list *list, struct cursor c, uint8_t type,
                                   uint8_t flags, struct copy_segment *segment) {
    *segment = (struct copy_segment){0};
    size_t source = cursor_be16(&c);
    size_t destination = cursor_be16(&c);
    if (!read_where(c, type, flags, segment))
        return COPY_OPAQUE;
    if (!read_cscd(list, source, segment->source, &segment->source_block)) {
        segment->source[0] = '\0';
        segment->source_block = 0;
    }
    if (!read_cscd(list, destination, segment->destination, &segment->destination_block))
        return COPY_OPAQUE;
    return COPY_SEGMENT;
}

enum copy_step copy_list_next(struct copy_list *list, struct copy_segment *segment) {
    if (list->next >= list->end)
        return COPY_END;
    struct cursor c = cursor_of(list->data, list->bytes);
    cursor_skip(&c, list->next);
    struct cursor segments = cursor_child(&c, list->end - list->next);
    uint8_t type = cursor_u8(&segments);
    uint8_t flags = cursor_u8(&segments);
    size_t length = cursor_be16(&segments);
    struct cursor body = cursor_child(&segments, length);
    list->next += 4 + length;
    if (!cursor_ok(&body) ||
        (type != SEGMENT_BLOCK && type != SEGMENT_BLOCK_OFFSET && type != SEGMENT_BLOCK_HELD)) {
        list->next = list->end;
        return COPY_OPAQUE;
    }
    return read_segment(list, body, type, flags, segment);
}

static bool blocks_fit(uint64_t blocks, uint64_t all, uint32_t block_bytes, uint64_t size_bytes) {
    /* SBC-4 6.5.2: 0 and all ones leave or maximise the capacity; it is at its maximum already. */
    return blocks == 0 || blocks == all || blocks * block_bytes == size_bytes;
}

bool mode_list_keeps_geometry(const uint8_t *data, size_t bytes, bool long_form,
                              uint32_t block_bytes, uint64_t size_bytes) {
    struct cursor c = cursor_of(data, bytes);
    cursor_skip(&c, long_form ? 4 : 3);
    bool long_lba = long_form && (cursor_u8(&c) & 0x01) != 0;
    if (long_form)
        cursor_skip(&c, 1);
    size_t length = long_form ? cursor_be16(&c) : cursor_u8(&c);
    struct cursor descriptors = cursor_child(&c, length);
    while (cursor_ok(&descriptors) && cursor_left(&descriptors) > 0) {
        uint64_t blocks = long_lba ? cursor_be64(&descriptors) : cursor_be32(&descriptors);
        cursor_skip(&descriptors, long_lba ? 4 : 1);
        uint32_t block = long_lba ? cursor_be32(&descriptors) : cursor_be24(&descriptors);
        uint64_t all = long_lba ? UINT64_MAX : UINT32_MAX;
        if (block_bytes == 0 || block != block_bytes ||
            !blocks_fit(blocks, all, block_bytes, size_bytes))
            return false;
    }
    return cursor_ok(&descriptors);
}
