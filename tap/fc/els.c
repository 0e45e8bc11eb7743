#include "tap/fc/els.h"

#include "common/cursor.h"

enum { PAGE_BYTES = 16 };

/* FC-LS-4, 4.2 and after: a code, three more bytes, then the fields of each. */
static void read_fields(struct cursor *c, uint8_t kind, struct els *to) {
    switch (kind) {
    case ELS_PLOGI:
    case ELS_FLOGI:
    case ELS_PDISC:
    case ELS_FDISC:
        cursor_skip(c, 16); /* common service parameters */
        to->wwpn = cursor_be64(c);
        break;
    case ELS_ADISC:
        cursor_skip(c, 4); /* hard address */
        to->wwpn = cursor_be64(c);
        cursor_skip(c, 8); /* node name */
        to->fc_id = cursor_be32(c) & 0xffffff;
        break;
    default:
        break;
    }
}

static void read_request(struct cursor *c, struct els *to) {
    switch (to->code) {
    case ELS_LOGO:
        to->fc_id = cursor_be32(c) & 0xffffff;
        to->wwpn = cursor_be64(c);
        break;
    case ELS_REC:
        to->fc_id = cursor_be32(c) & 0xffffff;
        to->ox_id = cursor_be16(c);
        break;
    case ELS_SRR: /* FCP-4, 7.2 */
        to->ox_id = cursor_be16(c);
        break;
    case ELS_PRLI:
        to->type = cursor_left(c) > 0 ? cursor_u8(c) : 0;
        break;
    default:
        read_fields(c, to->code, to);
    }
}

bool els_parse(const uint8_t *data, size_t bytes, uint8_t reply_to, struct els *to) {
    struct cursor c = cursor_of(data, bytes);
    *to = (struct els){.code = cursor_u8(&c)};
    cursor_skip(&c, 3);
    if (to->code == ELS_LS_ACC)
        read_fields(&c, reply_to, to);
    else
        read_request(&c, to);
    return cursor_ok(&c);
}

/* One that is for no class of service at all is no login, but what happens to be as long. */
static bool has_class(const uint8_t *data, size_t bytes) {
    static const size_t classes[] = {36, 52, 68};
    enum { VALID = 0x80, CLASSES_END = 84 };
    for (size_t i = 0; i < 3 && bytes >= CLASSES_END; i++) {
        if ((data[classes[i]] & VALID) != 0)
            return true;
    }
    return bytes < CLASSES_END;
}

uint8_t els_answers(const uint8_t *data, size_t bytes, size_t wire_bytes) {
    struct cursor c = cursor_of(data, bytes);
    if (cursor_u8(&c) != ELS_LS_ACC)
        return 0;
    if (wire_bytes == ELS_LOGIN_BYTES || wire_bytes == ELS_LOGIN_MOST_BYTES)
        return has_class(data, bytes) ? ELS_PLOGI : 0;
    bool pages = cursor_u8(&c) == PAGE_BYTES && cursor_be16(&c) == wire_bytes && cursor_ok(&c);
    return pages && wire_bytes % PAGE_BYTES == 4 ? ELS_PRLI : 0;
}
