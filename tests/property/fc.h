/*
 * fc: what the property test has to know of FC frames in plain FCoE. The corpus has no others.
 */
#ifndef SANREWIND_TESTS_PROPERTY_FC_H
#define SANREWIND_TESTS_PROPERTY_FC_H

#include "tests/property/packets.h"

#include <stdbool.h>

/* The frame header; NULL: it is no FC frame. */
const uint8_t *fc_find(const struct packet *packet);
/* Another one, in plain FCoE. */
struct fc_header {
    uint8_t r_ctl, type;
    uint32_t d_id, s_id, f_ctl, parameter;
    uint16_t ox_id, rx_id;
};
void fc_make(struct packets *to, const struct fc_header *header, const uint8_t *payload,
             size_t bytes, uint64_t time_ns);
/* Big-endian. */
void fc_put(uint8_t *to, uint64_t value, unsigned bytes);
/* The low half of its S_ID. */
uint16_t fc_source(const uint8_t *header);
/*
 * When commands were issued of whose exchange nothing survived, in order: Fibre Channel has no
 * number by which that could be known. Likewise two exchanges with one identifier, when the end of
 * the first and the beginning of the second are missing, and what is left looks like one. Up to
 * `most`; returns how many.
 */
size_t fc_vanished(const struct packets *from, const bool *survived, uint64_t *to, size_t most);

#endif
