/*
 * record: the units that monitors send, that batches and segment files hold, and that LOGs keep.
 *
 * All integers little-endian. Every record starts with a 24-byte head and is padded with zeros to a
 * multiple of 8; docs/wire-protocol.md has the byte tables. The CRC32C of a record covers its head
 * and fields, not the payload data behind them, which has a checksum of its own, made by the
 * monitor and checked up to the restored image.
 *
 * Every record but PAYLOAD takes one order mark of its stream: marks are dense, so a hole is a
 * loss. A PAYLOAD carries the mark of the UPDATE that it belongs to and may travel apart from it.
 */
#ifndef SANREWIND_PROTO_RECORD_H
#define SANREWIND_PROTO_RECORD_H

#include "common/buffer.h"
#include "common/cursor.h"
#include "common/error.h"

#include <stdbool.h>
#include <stdint.h>

enum record_type {
    RECORD_UPDATE = 1,   /* a change that the device reported as done */
    RECORD_PAYLOAD = 2,  /* the bytes of an UPDATE */
    RECORD_GAP = 3,      /* the wire no longer tells the truth about a range */
    RECORD_PATH = 4,     /* what is known of a path to a volume */
    RECORD_FRONTIER = 5, /* heartbeat: nothing with a time mark <= time_ns comes after this mark */
    RECORD_AUDIT = 6,  /* what a READ returned, as checksums: the truth about an image, for free */
    RECORD_RESUME = 7, /* a new stream missed nothing of a path since an earlier one */
};

enum update_op {
    UPDATE_WRITE = 1,   /* payload_bytes == length_bytes */
    UPDATE_ZERO = 2,    /* the range reads as zeros; no payload */
    UPDATE_PATTERN = 3, /* the payload repeated over the range */
    UPDATE_FLUSH = 4, /* SYNCHRONIZE CACHE: changes nothing, marks a stable point; range may be 0 */
    /* Content that is not on the wire, but follows from what is known: recoveryd makes it. */
    UPDATE_COPY = 5, /* what `source` held; no payload */
    UPDATE_OR = 6,   /* the payload OR what the range held; payload_bytes == length_bytes */
    UPDATE_XOR = 7,  /* likewise with exclusive OR */
};

enum update_flags {
    UPDATE_FUA = 1 << 0, /* the write was forced to the medium */
};

struct update_record {
    uint64_t time_ns;   /* time mark */
    uint64_t issued_ns; /* wall time of the command; 0 unknown */
    uint64_t path;      /* record_path_id() */
    uint64_t offset_bytes;
    uint64_t length_bytes;
    uint32_t block_bytes; /* logical block length */
    uint8_t op;           /* enum update_op */
    uint8_t opcode;       /* SCSI operation code, for people */
    uint16_t flags;       /* enum update_flags */
    uint32_t payload_bytes;
    uint32_t payload_crc32c;
    /* COPY only. The copy was taken at some moment of [source_from_ns, source_until_ns]: where the
     * source changed in that time, the content is not known. */
    uint64_t source_path;
    uint64_t source_offset_bytes;
    uint64_t source_from_ns;
    uint64_t source_until_ns;
};

struct payload_record {
    uint32_t bytes;
    uint32_t crc32c;
    const uint8_t *data; /* borrowed: `bytes` long, inside what was decoded */
};

/* Why the wire does not tell the truth. Numbers are for ever; add at the end. */
enum gap_reason {
    GAP_CAPTURE_LOSS = 1,    /* the kernel, the interface or the mirror port dropped packets */
    GAP_STREAM_HOLE = 2,     /* bytes that the receiver acknowledged never passed the monitor */
    GAP_BAD_DIGEST = 3,      /* data arrived with a broken digest and not again */
    GAP_FAILED_WRITE = 4,    /* an error status after data may have reached the medium */
    GAP_NEXUS_LOST = 5,      /* the connection, session or login ended with the write in flight */
    GAP_ABORTED = 6,         /* a task management function ended it */
    GAP_OVERLAP = 7,         /* overlapping writes in flight at once have no order on the wire */
    GAP_UNKNOWN_COMMAND = 8, /* a command that may change media and is not understood */
    GAP_UNKNOWN_CONTENT = 9, /* a command changed media with content that is not on the wire */
    GAP_MONITOR_RESTART = 10,
    GAP_OVERFLOW = 11,     /* a limit of the monitor (memory, spool) was reached */
    GAP_MALFORMED = 12,    /* PDUs that cannot be understood */
    GAP_UNREADABLE = 13,   /* a payload in the store no longer matches its checksum */
    GAP_CONTRADICTED = 14, /* a READ returned something else than the image held */
    GAP_CLOCK = 15,        /* two monitors saw writes closer together than their clocks agree */
    GAP_UNRESOLVED = 16,   /* a copy of content that is not known (yet) */
    GAP_STRANGER = 17,     /* something changed on another path, and both may be one volume */
    GAP_NAME_LOST = 18,    /* the session by which the path was known ended before its name was */
};

/*
 * A gap that says of its path only what happened on others: a third path that may be the same
 * volume as this one has it from those others, or need not have it at all.
 */
static inline bool gap_is_hearsay(uint16_t reason) {
    return reason == GAP_STRANGER || reason == GAP_NAME_LOST;
}

#define GAP_TO_END UINT64_MAX /* length of a gap over the rest of the volume */

struct gap_record {
    uint64_t time_ns;   /* since when; a stamp like that of an update */
    uint64_t issued_ns; /* when the command behind it was issued; 0 unknown */
    uint64_t path;
    uint64_t offset_bytes;
    uint64_t length_bytes; /* or GAP_TO_END */
    uint16_t reason;       /* enum gap_reason */
    const char *text;      /* one sentence; decoded: borrowed, not NUL-terminated */
    uint16_t text_bytes;
};

enum path_protocol { PATH_ISCSI = 1, PATH_FCP = 2, PATH_NVME = 3 };

enum path_flags {
    PATH_LBPME = 1 << 0,       /* READ CAPACITY(16): thin provisioned */
    PATH_LBPRZ = 1 << 1,       /* unmapped blocks read as zeros */
    PATH_PROTECTION = 1 << 2,  /* formatted with protection information */
    PATH_PROVISIONAL = 1 << 3, /* the session's login was not seen: `target` is its address */
};

struct path_record {
    uint64_t time_ns;
    uint64_t path;
    uint64_t size_bytes;  /* 0 unknown */
    uint64_t lun;         /* the 8-byte LUN field as a big-endian number */
    uint32_t block_bytes; /* 0 unknown */
    uint16_t flags;       /* enum path_flags */
    uint8_t protocol;     /* enum path_protocol */
    /* Strings: encode from `..._bytes` bytes; decoded ones are borrowed and not NUL-terminated. */
    const char *target; /* iSCSI name; naa.<WWPN>; NQN */
    uint16_t target_bytes;
    const char
        *designator; /* best identity of the logical unit, e.g. naa.6001405…; empty unknown */
    uint16_t designator_bytes;
    const char *serial; /* VPD page 80h */
    uint16_t serial_bytes;
    uint64_t same_as; /* a provisional path turned out to be this one; 0: not known */
};

enum frontier_flags {
    FRONTIER_END = 1 << 0, /* the stream ends here, cleanly */
};

struct frontier_record {
    uint64_t time_ns; /* the promise */
    uint64_t wall_ns; /* the monitor's clock when it was made */
    uint64_t packets; /* totals since the stream began */
    uint64_t bytes;
    uint64_t dropped; /* packets that kernel or interface dropped */
    uint64_t malformed;
    uint64_t clock_error_ns; /* bound of the monitor's clock error; 0 unknown */
    uint32_t flags;          /* enum frontier_flags */
};

/* Checksums of consecutive blocks that a READ returned (CRC32C of each). */
enum { AUDIT_BLOCKS = 1000 };
struct audit_record {
    uint64_t time_ns;   /* time mark: of the packet that carried the status */
    uint64_t issued_ns; /* of the command: the blocks held this at some moment in between, and
                           nothing that the monitor saw changed them meanwhile */
    uint64_t path;
    uint64_t offset_bytes;
    uint32_t block_bytes;
    uint32_t blocks;       /* 1 to AUDIT_BLOCKS */
    const uint8_t *crc32c; /* `blocks` little-endian numbers; decoded: borrowed */
};

/*
 * The sequence numbers of the sessions prove that no command on this path was missed between the
 * end of an earlier stream of the same monitor and this one. It counts when all of that stream
 * below `order` is durable: then the gap of the restart does not concern this path.
 */
struct resume_record {
    uint64_t time_ns;
    uint64_t path;
    uint64_t stream; /* the earlier one */
    uint64_t order;
};

struct record {
    uint16_t type; /* enum record_type */
    uint64_t order;
    union {
        struct update_record update;
        struct payload_record payload;
        struct gap_record gap;
        struct path_record path;
        struct frontier_record frontier;
        struct audit_record audit;
        struct resume_record resume;
    };
};

enum { RECORD_HEAD_BYTES = 24, RECORD_ALIGN = 8 };

/* Appends. Fails through b->failed only. */
void record_encode(struct buffer *b, const struct record *r);

/*
 * A PAYLOAD whose data lies in pieces: begin, buffer_put() exactly `bytes` bytes, end with what
 * begin returned.
 */
size_t record_payload_begin(struct buffer *b, uint64_t order, uint32_t bytes, uint32_t crc);
void record_payload_end(struct buffer *b, size_t start);

/*
 * Takes one record off the cursor. 0, or ERR_FORMAT with the reason: the cursor is then of no
 * further use. Payload data is checked for length, not against its checksum: record_payload_ok()
 * does that, where it is worth the time. Every field is validated (ops, ranges that wrap, payload
 * sizes). A type that this version does not know is ERR_VERSION.
 */
int record_decode(struct cursor *c, struct record *r, struct error *err);

bool record_payload_ok(const struct payload_record *p);

/*
 * The number that stands for a path: first 8 bytes, big-endian, of the SHA-256 of the protocol's
 * byte, the LUN as 8 bytes big-endian, and the target name. Never 0.
 */
uint64_t record_path_id(uint8_t protocol, const char *target, size_t target_bytes, uint64_t lun);

/* "capture loss", "failed write", ... for people; never NULL. */
const char *record_gap_reason(uint16_t reason);

/* The time mark of any record but PAYLOAD (0). */
uint64_t record_time_ns(const struct record *r);

#endif
