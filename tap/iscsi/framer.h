/*
 * framer: cuts one direction of a connection into PDUs, as the bytes come (RFC 7143, 11.1, 11.2).
 *
 * Data segments are passed on in the pieces in which they arrive: nothing larger than a header is
 * ever kept. Pull it: give it a cursor and take events until it needs more bytes.
 */
#ifndef SANREWIND_TAP_ISCSI_FRAMER_H
#define SANREWIND_TAP_ISCSI_FRAMER_H

#include "common/cursor.h"
#include "tap/iscsi/pdu.h"

enum framer_event {
    FRAMER_NEED,   /* the cursor is used up */
    FRAMER_HEADER, /* head, pdu and ahs are those of a new PDU */
    FRAMER_DATA,   /* piece, piece_bytes, piece_offset: a part of its data segment */
    FRAMER_END,    /* the PDU is complete; data_intact says whether its digest held */
    FRAMER_BAD,    /* the header digest is wrong: where PDUs begin is unknown from now on */
};

enum framer_state {
    FRAMER_IN_HEAD,
    FRAMER_IN_AHS,
    FRAMER_IN_HEAD_DIGEST,
    FRAMER_AT_HEADER, /* the header is there, its event is not given yet */
    FRAMER_IN_DATA,
    FRAMER_IN_PADDING,
    FRAMER_IN_DATA_DIGEST,
    FRAMER_LOST,
};

struct framer {
    enum framer_state state;
    bool header_digest;
    bool data_digest;
    /* The PDU at hand, valid from its FRAMER_HEADER to its FRAMER_END. */
    struct pdu pdu;
    uint8_t head[PDU_HEAD_BYTES];
    uint8_t *ahs; /* NULL without; owned */
    const uint8_t *piece;
    size_t piece_bytes;
    uint32_t piece_offset;
    bool data_intact;
    /* Inner matters. */
    size_t have; /* of the part that is being collected */
    uint32_t data_done;
    uint32_t crc;
    bool unverifiable; /* a hole took some of the data or of its digest */
    uint8_t digest[PDU_DIGEST_BYTES];
};

void framer_init(struct framer *f);
void framer_release(struct framer *f);
/* Between two PDUs: what holds from the next one on. */
void framer_set_digests(struct framer *f, bool header, bool data);
enum framer_event framer_next(struct framer *f, struct cursor *in);
/* Is it between two PDUs? */
bool framer_is_between(const struct framer *f);

/*
 * `bytes` of the stream are lost. True when they lie within the data segment of the PDU at hand and
 * what belongs to it: [*lost_offset, + *lost_bytes) of its data did not come, and all goes on
 * behind. False: where PDUs begin is unknown from now on.
 */
bool framer_hole(struct framer *f, uint64_t bytes, uint32_t *lost_offset, uint32_t *lost_bytes);

#endif
