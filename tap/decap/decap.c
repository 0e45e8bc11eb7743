#include "tap/decap/decap.h"

#include "tap/decap/internal.h"

#include <stdlib.h>

struct decap {
    struct fragments *fragments;
    uint64_t dropped[DECAP_REASONS];
    unsigned fc2_crcs; /* frames of LINKTYPE_FC_2 in a row with a CRC that holds */
};

enum { FC2_CRCS_PROVE = 3 };

struct layer {
    uint32_t number;
    layer_function *open;
};

/* Most frequent first. DLT_ numbers as libpcap gives them for the LINKTYPE_ of a file. */
static const struct layer link_layers[] = {
    {1, layer_ethernet}, {113, layer_sll},  {276, layer_sll2}, {0, layer_null},
    {108, layer_null},   {12, layer_raw},   {14, layer_raw},   {101, layer_raw},
    {228, layer_raw4},   {229, layer_raw6}, {224, layer_fc2},  {225, layer_fc2_delimited},
    {0, NULL},
};

static const struct layer ethertype_layers[] = {
    {ETHERTYPE_IPV4, layer_ipv4}, {ETHERTYPE_IPV6, layer_ipv6},
    {0x8100, layer_vlan},         {0x88a8, layer_vlan},
    {0x9100, layer_vlan},         {0x8906, layer_fcoe},
    {0x8914, layer_fip},          {0, NULL},
};

/* The extension headers of IPv6 (RFC 8200, 4) share the name space of the protocols. */
static const struct layer protocol_layers[] = {
    {PROTOCOL_TCP, layer_tcp},
    {0, layer_ipv6_options},
    {43, layer_ipv6_options},
    {60, layer_ipv6_options},
    {44, layer_ipv6_fragment},
    {51, layer_authentication},
    {0, NULL},
};

static const struct {
    const struct layer *layers;
    enum decap_drop unknown;
} spaces[] = {
    [SPACE_LINK] = {link_layers, DECAP_UNKNOWN_LINK},
    [SPACE_ETHERTYPE] = {ethertype_layers, DECAP_NOT_IP},
    [SPACE_PROTOCOL] = {protocol_layers, DECAP_NOT_TCP},
};

static layer_function *find_layer(enum layer_space space, uint32_t number) {
    const struct layer *layer = spaces[space].layers;
    while (layer->open != NULL && layer->number != number)
        layer++;
    return layer->open;
}

bool decap_knows_link(int link_type) {
    return link_type >= 0 && find_layer(SPACE_LINK, (uint32_t)link_type) != NULL;
}

struct decap *decap_create(void) {
    AUTO(decap) d = calloc(1, sizeof *d);
    if (d == NULL)
        return NULL;
    d->fragments = fragments_create();
    return d->fragments != NULL ? take_pointer(&d) : NULL;
}

void decap_destroy(struct decap *d) {
    if (d == NULL)
        return;
    fragments_destroy(d->fragments);
    free(d);
}

void frame_limit(struct frame *f, uint64_t bytes) {
    size_t captured = cursor_left(&f->bytes);
    if (bytes < captured)
        f->bytes = cursor_child(&f->bytes, (size_t)bytes);
    f->cut = bytes > captured ? bytes - captured : 0;
}

enum decap_kind decap_packet(struct decap *d, const struct packet *packet,
                             struct decap_result *result) {
    struct frame f = {
        .bytes = cursor_of(packet->data, packet->caplen),
        .cut = packet->wire_length > packet->caplen ? packet->wire_length - packet->caplen : 0,
        .time_ns = packet->time_ns,
        .space = SPACE_LINK,
        .number = (uint32_t)packet->link_type,
        .result = result,
    };
    result->kind = DECAP_NOTHING;
    enum layer_result outcome = LAYER_NEXT;
    while (outcome == LAYER_NEXT) {
        layer_function *open = find_layer(f.space, f.number);
        if (open == NULL)
            outcome = frame_drop(&f, spaces[f.space].unknown);
        else if (f.depth++ >= FRAME_LAYERS)
            outcome = frame_drop(&f, DECAP_TOO_DEEP);
        else
            outcome = open(d, &f);
    }
    if (outcome == LAYER_DROP)
        d->dropped[f.drop]++;
    return result->kind;
}

bool decap_fc2_has_crc(struct decap *d, bool holds) {
    if (d->fc2_crcs < FC2_CRCS_PROVE)
        d->fc2_crcs = holds ? d->fc2_crcs + 1 : 0;
    return holds || d->fc2_crcs == FC2_CRCS_PROVE;
}

bool decap_collect(struct decap *d, const struct fragment *fragment, struct cursor *whole,
                   uint8_t *protocol) {
    return fragments_add(d->fragments, fragment, whole, protocol);
}

uint64_t decap_dropped(const struct decap *d, enum decap_drop reason) {
    uint64_t lost = reason == DECAP_FRAGMENT_LOST ? fragments_lost(d->fragments) : 0;
    return d->dropped[reason] + lost;
}

const char *decap_drop_name(enum decap_drop reason) {
    static const char *const names[] = {
        [DECAP_CUT_SHORT] = "cut_short",
        [DECAP_MALFORMED] = "malformed",
        [DECAP_UNKNOWN_LINK] = "unknown_link",
        [DECAP_NOT_IP] = "not_ip",
        [DECAP_NOT_TCP] = "not_tcp",
        [DECAP_TOO_DEEP] = "too_deep",
        [DECAP_FRAGMENT_LOST] = "fragment_lost",
    };
    return names[reason];
}

static uint32_t sum_words(uint32_t sum, struct cursor c) {
    while (cursor_left(&c) >= 2)
        sum += cursor_be16(&c);
    if (cursor_left(&c) > 0)
        sum += (uint32_t)cursor_u8(&c) << 8;
    return sum;
}

/*
 * The checksum of RFC 9293, 3.1. Asked only of what was put together here: reused identifications
 * can mix two datagrams (RFC 4963), and whoever made fragments had to fill it in.
 */
static bool checksum_holds(const struct frame *f) {
    size_t address_bytes = f->family == 4 ? 4 : 16;
    uint32_t sum = PROTOCOL_TCP + (uint32_t)cursor_left(&f->bytes);
    sum = sum_words(sum, cursor_of(f->source, address_bytes));
    sum = sum_words(sum, cursor_of(f->destination, address_bytes));
    sum = sum_words(sum, f->bytes);
    while (sum > 0xffff)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum == 0xffff;
}

/* RFC 9293, 3.1. */
enum layer_result layer_tcp(struct decap *d, struct frame *f) {
    (void)d;
    if (f->rebuilt && !checksum_holds(f))
        return frame_drop(f, DECAP_FRAGMENT_LOST);
    struct tcp_segment segment = {
        .family = f->family,
        .source = f->source,
        .destination = f->destination,
        .time_ns = f->time_ns,
    };
    segment.source_port = cursor_be16(&f->bytes);
    segment.destination_port = cursor_be16(&f->bytes);
    segment.sequence = cursor_be32(&f->bytes);
    segment.acknowledgement = cursor_be32(&f->bytes);
    uint32_t header_bytes = (cursor_u8(&f->bytes) >> 4) * 4u;
    segment.flags = cursor_u8(&f->bytes);
    cursor_skip(&f->bytes, 6); /* window, checksum, urgent pointer */
    if (!cursor_ok(&f->bytes))
        return frame_drop(f, DECAP_CUT_SHORT);
    if (header_bytes < 20 || header_bytes - 20 > frame_wire_left(f))
        return frame_drop(f, DECAP_MALFORMED);
    if (!cursor_skip(&f->bytes, header_bytes - 20))
        return frame_drop(f, DECAP_CUT_SHORT);
    uint64_t wire_bytes = frame_wire_left(f);
    segment.data_bytes = (uint32_t)cursor_left(&f->bytes);
    segment.wire_bytes = wire_bytes < UINT32_MAX ? (uint32_t)wire_bytes : UINT32_MAX;
    segment.data = cursor_bytes(&f->bytes, segment.data_bytes);
    f->result->kind = DECAP_TCP;
    f->result->tcp = segment;
    return LAYER_DONE;
}
