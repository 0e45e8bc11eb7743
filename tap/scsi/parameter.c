#include "tap/scsi/parameter.h"

#include "common/cursor.h"

enum { RANGE_BYTES = 16, TOKEN_BYTES = 512, CSCD_BYTES = 32 };
enum { CSCD_IDENTIFICATION = 0xe4, SEGMENT_BLOCK = 0x02, SEGMENT_BLOCK_OFFSET = 0x0a };

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

struct block_range range_list_at(const struct range_list *list, size_t index) {
    struct cursor c = cursor_of(list->data, list->bytes);
    cursor_skip(&c, list->start + index * RANGE_BYTES);
    uint64_t lba = cursor_be64(&c);
    uint64_t blocks = cursor_be32(&c);
    return (struct block_range){lba, blocks};
}

bool copy_list_parse(const uint8_t *data, size_t bytes, bool long_form, struct copy_list *list) {
    struct cursor c = cursor_of(data, bytes);
    size_t targets = 0;
    size_t segments = 0;
    if (long_form) { /* SPC-5 6.6.2: lengths at 42 and 44 of a 48-byte header */
        cursor_skip(&c, 42);
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
    cursor_skip(&cscd, 3); /* peripheral device type, relative initiator port */
    uint8_t code_set = cursor_u8(&cscd) & 0x0f;
    uint8_t kind = cursor_u8(&cscd);
    cursor_skip(&cscd, 1);
    uint8_t length = cursor_u8(&cscd);
    struct cursor designator = cursor_child(&cscd, 20);
    cursor_skip(&cscd, 1);
    *block_bytes = cursor_be24(&cscd);
    const uint8_t *bytes = cursor_bytes(&designator, length);
    if (!cursor_ok(&cscd) || bytes == NULL || type != CSCD_IDENTIFICATION)
        return false;
    return device_designator(kind & 0x3f, code_set, bytes, length, name) > 0;
}

static enum copy_step read_segment(const struct copy_list *list, struct cursor c, uint8_t type,
                                   bool of_destination, struct copy_segment *segment) {
    *segment = (struct copy_segment){.units_are_bytes = type == SEGMENT_BLOCK_OFFSET};
    size_t source = cursor_be16(&c);
    size_t destination = cursor_be16(&c);
    if (segment->units_are_bytes) {
        segment->units = cursor_be32(&c);
    } else {
        cursor_skip(&c, 2);
        segment->units = cursor_be16(&c);
        segment->units_of_source = !of_destination;
    }
    cursor_skip(&c, 8); /* source LBA */
    segment->lba = cursor_be64(&c);
    if (segment->units_are_bytes) {
        cursor_skip(&c, 2);
        segment->units += cursor_be16(&c); /* from the block's start to the last byte */
    }
    if (!cursor_ok(&c))
        return COPY_OPAQUE;
    char ignored[DEVICE_NAME_BYTES];
    if (!read_cscd(list, source, ignored, &segment->source_block))
        segment->source_block = 0;
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
    if (!cursor_ok(&body) || (type != SEGMENT_BLOCK && type != SEGMENT_BLOCK_OFFSET)) {
        list->next = list->end;
        return COPY_OPAQUE;
    }
    return read_segment(list, body, type, (flags & 0x02) != 0, segment);
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
