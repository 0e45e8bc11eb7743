/*
 * limits: what both ends of the wire hold each other to. docs/wire-protocol.md repeats them.
 */
#ifndef SANREWIND_PROTO_LIMITS_H
#define SANREWIND_PROTO_LIMITS_H

enum {
    /* A larger write is sent as several updates with one time mark and consecutive order marks. */
    LIMIT_UPDATE_PAYLOAD_BYTES = 1 << 20,
    /* A batch is closed when it reaches the target; one record may carry it up to the maximum. */
    LIMIT_BATCH_TARGET_BYTES = 512 << 10,
    LIMIT_BATCH_BYTES = 4 << 20,
    LIMIT_BATCH_RECORDS = 65536,
    LIMIT_RECORD_HEAD_BYTES = 4096, /* a record without its payload data */
    LIMIT_NAME_BYTES = 255,         /* monitor names, iSCSI names (RFC 7143: 223), designators */
    LIMIT_REASON_BYTES = 1023,      /* the text of a gap or a refusal */
    LIMIT_CONTROL_BYTES = 16 << 20, /* a control request or reply */
    LIMIT_ACK_RANGES = 1024,        /* order marks beyond the frontier in one acknowledgement */
};

#endif
