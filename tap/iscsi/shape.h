/*
 * shape: could these 48 bytes be a header? For finding PDUs in the middle of a stream (RFC 7143,
 * section 11): operation code, reserved fields, and what the fields say of each other. A pure
 * judge; random bytes pass once in some hundred million times, zeros never.
 */
#ifndef SANREWIND_TAP_ISCSI_SHAPE_H
#define SANREWIND_TAP_ISCSI_SHAPE_H

#include "tap/iscsi/pdu.h"

bool shape_fits(const uint8_t head[PDU_HEAD_BYTES], bool of_initiator);

#endif
