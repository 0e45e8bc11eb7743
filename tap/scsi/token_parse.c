#include "tap/scsi/token.h"

#include "common/cursor.h"

enum { POPULATE_TOKEN = 0x10, WRITE_USING_TOKEN = 0x11 };

enum token_kind token_kind(const uint8_t token[TOKEN_BYTES]) {
    struct cursor c = cursor_of(token, TOKEN_BYTES);
    uint32_t type = cursor_be32(&c);
    if (type == UINT32_C(0xffff0001))
        return TOKEN_ZEROS;
    /* SPC-5 table 131: point in time copy, default, change vulnerable, persistent, any */
    return type >= 0x00800000 && type <= 0x0080ffff ? TOKEN_POINT_IN_TIME : TOKEN_OTHER;
}

bool token_use_parse(const uint8_t *data, size_t bytes, struct token_use *use) {
    struct cursor c = cursor_of(data, bytes);
    cursor_skip(&c, 2);
    use->immediate = (cursor_u8(&c) & 0x01) != 0;
    cursor_skip(&c, 5);
    use->offset = cursor_be64(&c);
    use->token = cursor_bytes(&c, TOKEN_BYTES);
    return cursor_ok(&c);
}

bool token_populate_immediate(const uint8_t *data, size_t bytes) {
    struct cursor c = cursor_of(data, bytes);
    cursor_skip(&c, 2);
    return (cursor_u8(&c) & 0x01) != 0;
}

/* SPC-5 table "COPY STATUS TRANSFER COUNT UNITS": 00h bytes, then by 1024; F1h blocks. */
static void read_units(uint8_t units, struct token_information *info) {
    info->in_blocks = units == 0xf1;
    if (units <= 0x06)
        info->unit_bytes = UINT64_C(1) << 10 * units;
}

/* Table "COPY OPERATION STATUS". 03h and 04h are for people to look at what was left out. */
static enum token_progress progress_of(uint8_t status) {
    if (status == 0x01)
        return TOKEN_DONE;
    return status >= 0x10 && status <= 0x12 ? TOKEN_GOING_ON : TOKEN_FAILED;
}

bool token_information_parse(const uint8_t *data, size_t bytes, struct token_information *info) {
    struct cursor c = cursor_of(data, bytes);
    *info = (struct token_information){0};
    cursor_skip(&c, 4); /* available data */
    uint8_t action = cursor_u8(&c) & 0x1f;
    info->writes = action == WRITE_USING_TOKEN;
    info->progress = progress_of(cursor_u8(&c) & 0x7f);
    cursor_skip(&c, 7);
    size_t sense = cursor_u8(&c);
    cursor_skip(&c, 1);
    read_units(cursor_u8(&c), info);
    info->transferred = cursor_be64(&c);
    cursor_skip(&c, 8); /* segments processed */
    if (!cursor_ok(&c) || (action != POPULATE_TOKEN && action != WRITE_USING_TOKEN))
        return false;
    cursor_skip(&c, sense);
    uint32_t length = cursor_be32(&c);
    cursor_skip(&c, 2); /* the ROD's descriptor */
    const uint8_t *token = cursor_bytes(&c, TOKEN_BYTES);
    if (length >= 2 + TOKEN_BYTES && cursor_ok(&c))
        info->token = token;
    return true;
}
