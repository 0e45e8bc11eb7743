/*
 * els: Extended Link Services (FC-LS-4) that say who a port is, or end what goes on. Pure.
 */
#ifndef SANREWIND_TAP_FC_ELS_H
#define SANREWIND_TAP_FC_ELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum els_code {
    ELS_LS_RJT = 0x01,
    ELS_LS_ACC = 0x02,
    ELS_PLOGI = 0x03,
    ELS_FLOGI = 0x04,
    ELS_LOGO = 0x05,
    ELS_REC = 0x13,
    ELS_SRR = 0x14,
    ELS_PRLI = 0x20,
    ELS_PRLO = 0x21,
    ELS_TPRLO = 0x24,
    ELS_PDISC = 0x50,
    ELS_FDISC = 0x51,
    ELS_ADISC = 0x52,
    ELS_RSCN = 0x61,
};

/* FC-LS-4, 4.3.7: PLOGI, FLOGI, FDISC, PDISC; the longer one when both sides offer it. */
enum { ELS_LOGIN_BYTES = 116, ELS_LOGIN_MOST_BYTES = 256 };

struct els {
    uint8_t code;
    uint64_t wwpn;  /* of the port that speaks; 0: it does not say */
    uint32_t fc_id; /* ADISC, LOGO: its own; REC: of the exchange's originator */
    uint16_t ox_id; /* REC, SRR: of which exchange */
    uint8_t type;   /* PRLI: of the protocol */
};

/*
 * `reply_to`: for LS_ACC, the code of the request, whose fields the answer has (0: not known).
 * False: too short for what its code says.
 */
bool els_parse(const uint8_t *data, size_t bytes, uint8_t reply_to, struct els *to);

/*
 * Which request an LS_ACC answers, told by its length on the wire and by what does not vary:
 * ELS_PLOGI (or FLOGI, FDISC, PDISC), ELS_PRLI (or PRLO), or 0.
 */
uint8_t els_answers(const uint8_t *data, size_t bytes, size_t wire_bytes);

#endif
