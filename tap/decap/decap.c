#include "tap/decap/decap.h"

#include "tap/decap/internal.h"

#include <stdlib.h>

enum { CRCS_PROVE = 3 };

struct layer {
    uint32_t number;
    layer_function *open;
};

/* Most frequent first. DLT_ numbers as libpcap gives them for the LINKTYPE_ of a file. */
static const struct layer link_layers[] = {
    {LINK_ETHERNET, layer_ethernet},
    {113, layer_sll},
    {276, layer_sll2},
    {0, layer_null},
    {108, layer_null},
    {12, layer_raw},
    {14, layer_raw},
    {101, layer_raw},
    {228, layer_raw4},
    {229, layer_raw6},
    {224, layer_fc2},
    {225, layer_fc2_delimited},
    {0, NULL},
};

static const struct layer ethertype_layers[] = {
    {ETHERTYPE_IPV4, layer_ipv4},
    {ETHERTYPE_IPV6, layer_ipv6},
    {0x8100, layer_vlan}, /* IEEE 802.1Q */
    {0x88a8, layer_vlan}, /* IEEE 802.1ad */
    {0x9100, layer_vlan}, /* QinQ before there was 802.1ad */
    {0x9200, layer_vlan},
    {0x9300, layer_vlan},
    {ETHERTYPE_MPLS, layer_mpls},
    {0x8848, layer_mpls}, /* with an upstream-assigned label (RFC 5332) */
    {0xd28b, layer_arista},
    {0x8903, layer_fabricpath},
    {0x22f3, layer_trill},
    {0x88e7, layer_backbone}, /* IEEE 802.1ah */
    {ETHERTYPE_NSH, layer_nsh},
    {ETHERTYPE_TEB, layer_ethernet},
    {0x8915, layer_roce}, /* RoCE v1 */
    {0x88a2, layer_aoe},
    {0x88b5, layer_keyframe}, /* local experimental (IEEE 802, 9.2.4) */
    {0x8906, layer_fcoe},
    {0x8914, layer_fip},
    {0x88ae, layer_paa},
    {0xfcfc, layer_mds},
    {0, layer_mds}, /* before it had a number */
    {0, NULL},
};

/* The extension headers of IPv6 (RFC 8200, 4) share the name space of the protocols. */
static const struct layer protocol_layers[] = {
    {PROTOCOL_TCP, layer_tcp},
    {17, layer_udp},
    {47, layer_gre},
    {4, layer_ipv4},  /* RFC 2003 */
    {41, layer_ipv6}, /* RFC 2473, RFC 4213 */
    {0, layer_ipv6_options},
    {43, layer_ipv6_options},
    {60, layer_ipv6_options},
    {44, layer_ipv6_fragment},
    {51, layer_authentication},
    {50, layer_esp},
    {97, layer_etherip},
    {115, layer_l2tp},
    {137, layer_mpls}, /* RFC 4023 */
    {253, layer_keyframe},
    {0, NULL},
};

static const struct layer gre_layers[] = {
    {0x88be, layer_erspan1or2},      {0x22eb, layer_erspan3},
    {ETHERTYPE_TEB, layer_ethernet}, /* NVGRE, too (RFC 7637) */
    {ETHERTYPE_IPV4, layer_ipv4},    {ETHERTYPE_IPV6, layer_ipv6},
    {ETHERTYPE_MPLS, layer_mpls},    {0x8848, layer_mpls},
    {ETHERTYPE_NSH, layer_nsh},      {0, NULL},
};

static const struct layer udp_layers[] = {
    {4789, layer_vxlan},    {8472, layer_vxlan}, /* Linux, before there was a number */
    {6081, layer_geneve},   {4790, layer_vxlan_gpe},
    {7932, layer_erm},      {37008, layer_tzsp},
    {1701, layer_l2tp_udp}, {6635, layer_mpls}, /* RFC 7510 */
    {4791, layer_roce},                         /* RoCE v2 */
    {4500, layer_udp_esp},  {0, NULL},
};

static const struct {
    const struct layer *layers;
    enum decap_drop unknown;
} spaces[] = {
    [SPACE_LINK] = {link_layers, DECAP_UNKNOWN_LINK},
    [SPACE_ETHERTYPE] = {ethertype_layers, DECAP_NOT_IP},
    [SPACE_PROTOCOL] = {protocol_layers, DECAP_NOT_TCP},
    [SPACE_GRE] = {gre_layers, DECAP_NOT_IP},
    [SPACE_UDP] = {udp_layers, DECAP_NOT_TCP},
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

bool decap_knows_ethertype(uint32_t ethertype) {
    return ethertype != 0 && find_layer(SPACE_ETHERTYPE, ethertype) != NULL;
}

static void pass_loss(void *context, const char *text, uint64_t time_ns) {
    const struct decap_observer *o = context;
    if (o->loss != NULL)
        o->loss(o->context, &(struct decap_loss){.time_ns = time_ns, .text = text});
}

struct decap *decap_create(void) {
    AUTO(decap) d = calloc(1, sizeof *d);
    if (d == NULL)
        return NULL;
    d->fragments = fragments_create();
    d->losses = losses_create(pass_loss, &d->observer);
    if (d->fragments == NULL || d->losses == NULL)
        return NULL;
    d->losses_due_ns = losses_due(d->losses);
    return take_pointer(&d);
}

void decap_destroy(struct decap *d) {
    if (d == NULL)
        return;
    fragments_destroy(d->fragments);
    losses_destroy(d->losses);
    free(d);
}

void decap_observe(struct decap *d, const struct decap_observer *observer) {
    d->observer = *observer;
}

void decap_set_time(struct decap *d, enum device_clock clock) {
    d->time = (struct device_time){.clock = clock};
}

uint64_t decap_time(const struct decap *d, uint64_t capture_ns) {
    return device_time_of(&d->time, capture_ns);
}

void decap_tick(struct decap *d, uint64_t now_ns) {
    if (*d->losses_due_ns <= now_ns)
        losses_tick(d->losses, now_ns);
}

void decap_finish(struct decap *d) {
    losses_tick(d->losses, UINT64_MAX);
}

struct losses_counters decap_losses(const struct decap *d) {
    return *losses_counters(d->losses);
}

struct device_time_counters decap_times(const struct decap *d) {
    return d->time.counters;
}

void frame_limit(struct frame *f, uint64_t bytes) {
    size_t captured = cursor_left(&f->bytes);
    if (bytes < captured)
        f->bytes = cursor_child(&f->bytes, (size_t)bytes);
    f->cut = bytes > captured ? bytes - captured : 0;
}

static void count_drop(struct decap *d, enum decap_drop reason) {
    if (d->dropped[reason]++ == 0 && d->observer.first_drop != NULL)
        d->observer.first_drop(d->observer.context, reason);
}

enum decap_kind decap_packet(struct decap *d, const struct packet *packet,
                             struct decap_result *result) {
    struct frame f = {
        .bytes = cursor_of(packet->data, packet->caplen),
        .cut = packet->wire_length > packet->caplen ? packet->wire_length - packet->caplen : 0,
        .capture_ns = packet->time_ns,
        .time_ns = device_time_of(&d->time, packet->time_ns),
        .space = SPACE_LINK,
        .number = (uint32_t)packet->link_type,
        .result = result,
    };
    result->kind = DECAP_NOTHING;
    enum layer_result outcome = LAYER_NEXT;
    decap_tick(d, f.time_ns);
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
        count_drop(d, f.drop);
    return result->kind;
}

bool decap_has_crc(unsigned *in_a_row, bool holds) {
    if (*in_a_row < CRCS_PROVE)
        *in_a_row = holds ? *in_a_row + 1 : 0;
    return holds || *in_a_row == CRCS_PROVE;
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
        [DECAP_DAMAGED] = "damaged",
        [DECAP_OTHER_MIRROR] = "other_mirror",
        [DECAP_ESP] = "esp",
        [DECAP_ROCE] = "roce",
        [DECAP_AOE] = "aoe",
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

static uint16_t fold(uint32_t sum) {
    while (sum > 0xffff)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

/*
 * Is a TCP segment what its sender sent? Asked only of what was put together here: reused
 * identifications can mix two datagrams (RFC 4963). The checksum of RFC 9293, 3.1 tells; where it
 * is left to the network card it holds only the sum of the pseudo-header, and nothing in the
 * segment tells. Then the fragments must have come together, within less time than any sender needs
 * to use up 65536 identifications.
 */
static bool is_one_datagram(const struct frame *f) {
    enum { CHECKSUM_AT = 16 };
    const uint64_t together_ns = UINT64_C(20000000);
    size_t address_bytes = f->family == 4 ? 4 : 16;
    struct cursor field = f->bytes;
    uint32_t pseudo = sum_words(PROTOCOL_TCP, cursor_of(f->source, address_bytes));
    pseudo = sum_words(pseudo, cursor_of(f->destination, address_bytes));
    uint32_t length = (uint32_t)cursor_left(&f->bytes);
    if (f->cut == 0 && fold(sum_words(pseudo + length, f->bytes)) == 0xffff)
        return true;
    cursor_skip(&field, CHECKSUM_AT);
    uint16_t checksum = cursor_be16(&field);
    bool left_to_the_card = checksum == fold(pseudo + length) || checksum == fold(pseudo);
    return cursor_ok(&field) && left_to_the_card && f->rebuilt_ns <= together_ns;
}

/* RFC 7323, 3.2: the timestamps, among the options of RFC 9293, 3.2. */
static void read_stamps(struct cursor options, struct tcp_segment *segment) {
    enum { END = 0, NO_OPERATION = 1, TIMESTAMPS = 8, TIMESTAMPS_BYTES = 10 };
    segment->stamp = segment->echo = 0;
    segment->stamped = false;
    while (cursor_left(&options) > 0) {
        uint8_t kind = cursor_u8(&options);
        if (kind == END)
            return;
        if (kind == NO_OPERATION)
            continue;
        uint8_t bytes = cursor_u8(&options);
        if (!cursor_ok(&options) || bytes < 2)
            return;
        struct cursor option = cursor_child(&options, bytes - 2u);
        if (kind != TIMESTAMPS || bytes != TIMESTAMPS_BYTES)
            continue;
        segment->stamp = cursor_be32(&option);
        segment->echo = cursor_be32(&option);
        segment->stamped = cursor_ok(&option);
        return;
    }
}

/* RFC 9293, 3.1. */
enum layer_result layer_tcp(struct decap *d, struct frame *f) {
    (void)d;
    if (f->rebuilt && !is_one_datagram(f))
        return frame_drop(f, DECAP_FRAGMENT_LOST);
    struct tcp_segment *segment = &f->result->tcp;
    segment->family = f->family;
    segment->source = f->source;
    segment->destination = f->destination;
    segment->time_ns = f->time_ns;
    segment->source_port = cursor_be16(&f->bytes);
    segment->destination_port = cursor_be16(&f->bytes);
    segment->sequence = cursor_be32(&f->bytes);
    segment->acknowledgement = cursor_be32(&f->bytes);
    uint32_t header_bytes = (cursor_u8(&f->bytes) >> 4) * 4u;
    segment->flags = cursor_u8(&f->bytes);
    cursor_skip(&f->bytes, 6); /* window, checksum, urgent pointer */
    if (!cursor_ok(&f->bytes))
        return frame_drop(f, DECAP_CUT_SHORT);
    if (header_bytes < 20 || header_bytes - 20 > frame_wire_left(f))
        return frame_drop(f, DECAP_MALFORMED);
    struct cursor options = cursor_child(&f->bytes, header_bytes - 20);
    if (!cursor_ok(&f->bytes))
        return frame_drop(f, DECAP_CUT_SHORT);
    read_stamps(options, segment);
    uint64_t wire_bytes = frame_wire_left(f);
    segment->data_bytes = (uint32_t)cursor_left(&f->bytes);
    segment->wire_bytes = wire_bytes < UINT32_MAX ? (uint32_t)wire_bytes : UINT32_MAX;
    segment->data = cursor_bytes(&f->bytes, segment->data_bytes);
    f->result->kind = DECAP_TCP;
    return LAYER_DONE;
}

enum layer_result layer_esp(struct decap *d, struct frame *f) {
    (void)d;
    return frame_drop(f, DECAP_ESP);
}

enum layer_result layer_roce(struct decap *d, struct frame *f) {
    (void)d;
    return frame_drop(f, DECAP_ROCE);
}

enum layer_result layer_aoe(struct decap *d, struct frame *f) {
    (void)d;
    return frame_drop(f, DECAP_AOE);
}

enum layer_result layer_keyframe(struct decap *d, struct frame *f) {
    (void)device_time_keyframe(&d->time, f->bytes, f->capture_ns);
    return frame_drop(f, f->space == SPACE_PROTOCOL ? DECAP_NOT_TCP : DECAP_NOT_IP);
}
