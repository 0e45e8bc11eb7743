#include "tap/scsi/device.h"

#include "common/cursor.h"
#include "common/zero.h"

#include <stdio.h>
#include <string.h>

enum { CODE_BINARY = 1 };
enum designator_type { DESIGNATOR_T10 = 1, DESIGNATOR_EUI64 = 2, DESIGNATOR_NAA = 3 };
enum { DESIGNATOR_NAME = 8, MAX_HEX_BYTES = 32 };
enum rank { RANK_NONE, RANK_NAME, RANK_T10, RANK_EUI64, RANK_NAA_2, RANK_NAA_5, RANK_NAA_6 };

static bool is_page(struct cursor *c, uint8_t page) {
    cursor_skip(c, 1);
    return cursor_u8(c) == page && cursor_ok(c);
}

/*
 * All of a page's body, or a failed cursor: initiators often ask for the first bytes only, to learn
 * the length, and half a list of names is worse than none.
 */
static struct cursor page_body(struct cursor *c) {
    size_t length = cursor_be16(c);
    return cursor_child(c, length);
}

/* Copies printable text without the spaces around it; anything else becomes '_'. */
static void copy_text(const uint8_t *bytes, size_t length, char *to, size_t size) {
    while (length > 0 && (bytes[length - 1] == ' ' || bytes[length - 1] == 0))
        length--;
    size_t at = 0;
    while (at < length && bytes[at] == ' ')
        at++;
    size_t used = 0;
    for (; at < length && used + 1 < size; at++)
        to[used++] = bytes[at] > ' ' && bytes[at] < 0x7f ? (char)bytes[at]
                     : bytes[at] == ' '                  ? ' '
                                                         : '_';
    to[used] = '\0';
}

static void put_hex(const char *prefix, const uint8_t *bytes, size_t length, char *to) {
    size_t used = (size_t)snprintf(to, DEVICE_NAME_BYTES, "%s", prefix);
    for (size_t i = 0; i < length && i < MAX_HEX_BYTES; i++)
        used += (size_t)snprintf(to + used, DEVICE_NAME_BYTES - used, "%02x", bytes[i]);
}

bool device_standard_inquiry(const uint8_t *data, size_t bytes, struct standard_inquiry *inquiry) {
    /* Direct access, write-once, optical memory, simplified, host-managed zoned. */
    static const uint8_t disk_types[] = {0x00, 0x04, 0x07, 0x0e, 0x14};
    struct cursor c = cursor_of(data, bytes);
    uint8_t first = cursor_u8(&c);
    *inquiry = (struct standard_inquiry){0};
    if (!cursor_ok(&c))
        return false;
    for (size_t i = 0; i < sizeof disk_types; i++)
        inquiry->is_disk |= first >> 5 == 0 && (first & 0x1f) == disk_types[i];
    inquiry->removable = (cursor_u8(&c) & 0x80) != 0;
    cursor_skip(&c, 6);
    const uint8_t *vendor = cursor_bytes(&c, 8);
    /* Linux LIO and tgt unmap without looking at the block. */
    if (vendor != NULL)
        inquiry->ignores_same =
            memcmp(vendor, "LIO-ORG ", 8) == 0 || memcmp(vendor, "IET     ", 8) == 0;
    return true;
}

bool device_serial(const uint8_t *data, size_t bytes, char serial[DEVICE_NAME_BYTES]) {
    struct cursor c = cursor_of(data, bytes);
    serial[0] = '\0';
    if (!is_page(&c, PAGE_SERIAL))
        return false;
    struct cursor body = page_body(&c);
    if (!cursor_ok(&body))
        return false;
    size_t length = cursor_left(&body);
    copy_text(cursor_bytes(&body, length), length, serial, DEVICE_NAME_BYTES);
    return true;
}

/*
 * SPC-5 7.7.6.6. Types 2, 5 and 6 begin, behind the type's four bits, with the company's number:
 * 12 bits and then the company for type 2. Without a company (tgt leaves it zero) every such target
 * in the world gives the same name to its first disk, so it names nothing.
 */
static unsigned rank_naa(const uint8_t *bytes, size_t length) {
    struct cursor c = cursor_of(bytes, length);
    uint64_t head = cursor_be64(&c);
    if (!cursor_ok(&c))
        return RANK_NONE;
    uint64_t company = (head >> 36) & 0xffffff;
    switch (head >> 60) {
    case 2:
        company = (head >> 24) & 0xffffff;
        return company != 0 && length == 8 ? RANK_NAA_2 : RANK_NONE;
    case 5:
        return company != 0 && length == 8 ? RANK_NAA_5 : RANK_NONE;
    case 6:
        return company != 0 && length == 16 ? RANK_NAA_6 : RANK_NONE;
    default: /* 3 is locally assigned */
        return RANK_NONE;
    }
}

/* SPC-5 7.7.6.4: the vendor's eight characters, and then what the vendor likes. */
static unsigned name_t10(const uint8_t *bytes, size_t length, char name[DEVICE_NAME_BYTES]) {
    /* tgt: the number of target and LUN alone, the same on every host */
    if (length <= 8 || memcmp(bytes, "IET     ", 8) == 0)
        return RANK_NONE;
    memcpy(name, "t10.", 5);
    copy_text(bytes, length, name + 4, DEVICE_NAME_BYTES - 4);
    return RANK_T10;
}

unsigned device_designator(uint8_t kind, uint8_t code_set, const uint8_t *bytes, size_t length,
                           char name[DEVICE_NAME_BYTES]) {
    bool of_logical_unit = (kind >> 4 & 0x3) == 0;
    unsigned rank = RANK_NONE;
    name[0] = '\0';
    if (!of_logical_unit || length == 0)
        return RANK_NONE;
    switch (kind & 0x0f) {
    case DESIGNATOR_NAA:
        rank = code_set == CODE_BINARY ? rank_naa(bytes, length) : RANK_NONE;
        if (rank != RANK_NONE)
            put_hex("naa.", bytes, length, name);
        return rank;
    case DESIGNATOR_EUI64:
        if (code_set != CODE_BINARY || (length != 8 && length != 12 && length != 16) ||
            zero_all(bytes, length))
            return RANK_NONE;
        put_hex("eui.", bytes, length, name);
        return RANK_EUI64;
    case DESIGNATOR_T10:
        return name_t10(bytes, length, name);
    case DESIGNATOR_NAME:
        copy_text(bytes, length, name, DEVICE_NAME_BYTES);
        return name[0] != '\0' ? RANK_NAME : RANK_NONE;
    default:
        return RANK_NONE;
    }
}

bool device_identification(const uint8_t *data, size_t bytes, char name[DEVICE_NAME_BYTES]) {
    struct cursor c = cursor_of(data, bytes);
    unsigned best = RANK_NONE;
    name[0] = '\0';
    if (!is_page(&c, PAGE_IDENTIFICATION))
        return false;
    struct cursor body = page_body(&c);
    if (!cursor_ok(&body))
        return false;
    while (cursor_ok(&body) && cursor_left(&body) > 0) {
        uint8_t code_set = cursor_u8(&body) & 0x0f;
        uint8_t kind = cursor_u8(&body) & 0x3f;
        cursor_skip(&body, 1);
        size_t length = cursor_u8(&body);
        const uint8_t *designator = cursor_bytes(&body, length);
        char candidate[DEVICE_NAME_BYTES];
        if (designator == NULL)
            break;
        unsigned rank = device_designator(kind, code_set, designator, length, candidate);
        if (rank <= best)
            continue;
        best = rank;
        memcpy(name, candidate, sizeof candidate);
    }
    return true;
}

bool device_provisioning(const uint8_t *data, size_t bytes, enum unmapped_content *unmapped) {
    struct cursor c = cursor_of(data, bytes);
    *unmapped = UNMAPPED_UNKNOWN;
    if (!is_page(&c, PAGE_PROVISIONING))
        return false;
    struct cursor body = page_body(&c);
    cursor_skip(&body, 1);
    unsigned zeros = cursor_u8(&body) >> 2 & 0x7;
    if (!cursor_ok(&body))
        return false;
    if ((zeros & 1) != 0)
        *unmapped = UNMAPPED_ZEROS;
    else
        *unmapped = zeros == 2 ? UNMAPPED_PATTERN : UNMAPPED_UNDEFINED;
    return true;
}

bool device_limits(const uint8_t *data, size_t bytes, struct device_limits *limits) {
    struct cursor c = cursor_of(data, bytes);
    *limits = (struct device_limits){0};
    if (!is_page(&c, PAGE_LIMITS))
        return false;
    struct cursor body = page_body(&c);
    cursor_skip(&body, 24);
    uint32_t granularity = cursor_be32(&body);
    uint32_t alignment = cursor_be32(&body);
    if (!cursor_ok(&body))
        return false;
    limits->unmap_granularity = granularity;
    if ((alignment & UINT32_C(0x80000000)) != 0)
        limits->unmap_alignment = alignment & INT32_MAX;
    return true;
}

bool device_capacity(const uint8_t *data, size_t bytes, bool long_form, struct capacity *capacity) {
    struct cursor c = cursor_of(data, bytes);
    uint64_t last = long_form ? cursor_be64(&c) : cursor_be32(&c);
    *capacity = (struct capacity){.block_bytes = cursor_be32(&c)};
    if (!cursor_ok(&c) || capacity->block_bytes == 0)
        return false;
    bool beyond = !long_form && last == UINT32_MAX;
    capacity->blocks = beyond ? 0 : last + 1;
    if (capacity->blocks > INT64_MAX / capacity->block_bytes || (long_form && last == UINT64_MAX))
        return false;
    if (!long_form)
        return true;
    uint8_t protection = cursor_u8(&c);
    uint8_t exponent = cursor_u8(&c) & 0x0f;
    uint8_t provisioning = cursor_u8(&c);
    uint8_t aligned = cursor_u8(&c);
    capacity->complete = cursor_ok(&c);
    capacity->physical_exponent = capacity->complete ? exponent : 0;
    capacity->lowest_aligned =
        capacity->complete ? (uint16_t)((provisioning & 0x3fu) * 256 + aligned) : 0;
    capacity->protection = capacity->complete && (protection & 0x01) != 0;
    capacity->provisioned = capacity->complete && (provisioning & 0x80) != 0;
    capacity->zeros = capacity->complete && (provisioning & 0x40) != 0;
    return true;
}
