#include "tap/fc/fip.h"

#include "common/cursor.h"

enum { VERSION = 1, WORD_BYTES = 4 };

enum fip_descriptor {
    DESCRIPTOR_FLOGI = 7,
    DESCRIPTOR_FDISC = 8,
    DESCRIPTOR_LOGO = 9,
    DESCRIPTOR_ELP = 10,
    DESCRIPTOR_VX_PORT = 11,
};

/* FC-BB-6, table 46: MAC address, FC_ID, WWPN. */
static void take_port(struct cursor body, struct fip *to) {
    struct fip_port port;
    cursor_skip(&body, 6);
    port.fc_id = cursor_be32(&body) & 0xffffff;
    port.wwpn = cursor_be64(&body);
    if (cursor_ok(&body) && to->port_count < FIP_PORTS_MOST)
        to->ports[to->port_count++] = port;
}

/* Two bytes reserved, then a whole FC frame without SOF, CRC and EOF. */
static void take_frame(struct cursor body, struct fip *to) {
    cursor_skip(&body, 2);
    to->frame_bytes = cursor_left(&body);
    to->frame = cursor_bytes(&body, to->frame_bytes);
}

static bool take_descriptor(struct cursor *c, struct fip *to) {
    uint8_t type = cursor_u8(c);
    size_t words = cursor_u8(c);
    if (!cursor_ok(c) || words == 0)
        return false;
    struct cursor body = cursor_child(c, words * WORD_BYTES - 2);
    if (!cursor_ok(&body))
        return false;
    switch (type) {
    case DESCRIPTOR_FLOGI:
    case DESCRIPTOR_FDISC:
    case DESCRIPTOR_LOGO:
    case DESCRIPTOR_ELP:
        take_frame(body, to);
        break;
    case DESCRIPTOR_VX_PORT:
        take_port(body, to);
        break;
    default:
        break;
    }
    return true;
}

bool fip_parse(const uint8_t *data, size_t bytes, struct fip *to) {
    struct cursor c = cursor_of(data, bytes);
    *to = (struct fip){0};
    uint8_t version = cursor_u8(&c) >> 4;
    cursor_skip(&c, 1);
    to->operation = cursor_be16(&c);
    cursor_skip(&c, 1);
    to->subcode = cursor_u8(&c);
    size_t words = cursor_be16(&c);
    cursor_skip(&c, 2); /* flags */
    struct cursor list = cursor_child(&c, words * WORD_BYTES);
    if (!cursor_ok(&list) || version != VERSION)
        return false;
    while (cursor_left(&list) > 0) {
        if (!take_descriptor(&list, to))
            return false;
    }
    return true;
}
