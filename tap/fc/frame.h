/*
 * frame: the headers of a Fibre Channel frame (FC-FS-5, 10 to 12).
 */
#ifndef SANREWIND_TAP_FC_FRAME_H
#define SANREWIND_TAP_FC_FRAME_H

#include "tap/fc/fc.h"

enum fc_r_ctl {
    R_CTL_DATA = 0x01, /* solicited data; FCP-4, 9: the information units of FCP */
    R_CTL_CONFIRM = 0x03,
    R_CTL_READY = 0x05,
    R_CTL_COMMAND = 0x06,
    R_CTL_RESPONSE = 0x07,
    R_CTL_ELS_REQUEST = 0x22,
    R_CTL_ELS_REPLY = 0x23,
    R_CTL_FC4_REQUEST = 0x32, /* SRR */
    R_CTL_FC4_REPLY = 0x33,
    R_CTL_VFT = 0x50,
    R_CTL_IFR = 0x51,
    R_CTL_ENCAPSULATION = 0x52,
    R_CTL_ABTS = 0x81,
    R_CTL_BA_ACC = 0x84,
    R_CTL_BA_RJT = 0x85,
};

enum fc_type { TYPE_BLS = 0x00, TYPE_ELS = 0x01, TYPE_FCP = 0x08, TYPE_NVME = 0x28 };

enum fc_f_ctl {
    F_CTL_RESPONDER = 0x800000, /* sent by the exchange's responder */
    F_CTL_LAST_SEQUENCE = 0x100000,
    F_CTL_END_SEQUENCE = 0x080000,
    F_CTL_RETRANSMITTED = 0x000200,
    F_CTL_OFFSET = 0x000008, /* the parameter is a relative offset */
    F_CTL_FILL = 0x000003,
};

/* FC-FS-5, 11: FC_IDs from FC_WELL_KNOWN on are those of services. */
enum { FC_ID_UNASSIGNED = 0xffff, FC_WELL_KNOWN = 0xfffff0, FC_FABRIC_PORT = 0xfffffe };

struct frame {
    uint8_t r_ctl;
    uint8_t type;
    uint8_t seq_id;
    uint32_t d_id;
    uint32_t s_id;
    uint32_t f_ctl;
    uint16_t seq_cnt;
    uint16_t ox_id;
    uint16_t rx_id;
    uint32_t parameter;
    bool is_fip;            /* no FC frame at all: MAC addresses, and what follows the EtherType */
    uint16_t vsan;          /* of a VFT header, else what the envelope said */
    const uint8_t *payload; /* borrowed; without optional headers and fill bytes */
    uint32_t bytes;         /* captured */
    uint32_t wire_bytes;    /* larger when cut */
    uint32_t checksum;      /* the CRC of what was captured, made here */
};

enum frame_verdict {
    FRAME_GOOD,
    FRAME_DAMAGED,    /* the receiver cannot have taken it */
    FRAME_MALFORMED,  /* headers longer than the frame, or of no known kind */
    FRAME_UNREADABLE, /* its header was cut off */
    FRAME_ENCRYPTED,  /* the header is there, the rest is not readable */
};

enum frame_verdict frame_parse(const struct fc_frame *from, struct frame *to);

#endif
