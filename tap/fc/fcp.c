#include "tap/fc/fcp.h"

#include "common/cursor.h"

enum { WRITES = 0x01, READS = 0x02 };

/* FCP-4, 9.1.2.4; 0 is untagged, and 3 and above what it does not define. */
static uint8_t attribute_of(uint8_t code) {
    enum { SIMPLE = 0, HEAD_OF_QUEUE = 1, ORDERED = 2, ACA = 4 };
    switch (code & 7) {
    case SIMPLE:
        return 1;
    case ORDERED:
        return 2;
    case HEAD_OF_QUEUE:
        return 3;
    case ACA:
        return 4;
    default:
        return 0;
    }
}

/* FCP-4, 9.1.1. */
enum fcp_result fcp_command_parse(const uint8_t *data, size_t bytes, struct fcp_command *to) {
    struct cursor c = cursor_of(data, bytes);
    *to = (struct fcp_command){.lun = cursor_be64(&c)};
    if (!cursor_ok(&c))
        return FCP_NO_LUN;
    cursor_skip(&c, 1); /* command reference number */
    to->attribute = attribute_of(cursor_u8(&c));
    to->management = cursor_u8(&c);
    uint8_t lengths = cursor_u8(&c);
    size_t additional = (size_t)(lengths >> 2) * 4;
    to->cdb_bytes = 16 + additional;
    cursor_copy(&c, to->cdb, to->cdb_bytes);
    uint32_t data_bytes = cursor_be32(&c);
    to->out_bytes = (lengths & WRITES) != 0 ? data_bytes : 0;
    to->in_bytes = (lengths & READS) != 0 ? data_bytes : 0;
    if ((lengths & WRITES) != 0 && (lengths & READS) != 0)
        to->in_bytes = cursor_be32(&c);
    return cursor_ok(&c) ? FCP_GOOD : FCP_SHORT;
}

/* FCP-4, 9.2. */
bool fcp_ready_parse(const uint8_t *data, size_t bytes, struct fcp_ready *to) {
    struct cursor c = cursor_of(data, bytes);
    to->offset = cursor_be32(&c);
    to->burst_bytes = cursor_be32(&c);
    return cursor_ok(&c);
}

/* FCP-4, 9.4.11: three bytes reserved, then the code. */
static uint8_t code_of(struct cursor info) {
    cursor_skip(&info, 3);
    return cursor_u8(&info);
}

/* FCP-4, 9.4. */
bool fcp_response_parse(const uint8_t *data, size_t bytes, bool cut, struct fcp_response *to) {
    enum { HAS_CODE = 0x01, HAS_SENSE = 0x02, UNDERFLOW = 0x08 };
    struct cursor c = cursor_of(data, bytes);
    *to = (struct fcp_response){0};
    cursor_skip(&c, 10);
    uint8_t flags = cursor_u8(&c);
    to->status = cursor_u8(&c);
    if (!cursor_ok(&c))
        return false;
    to->residual = cursor_be32(&c);
    uint32_t sense_bytes = cursor_be32(&c);
    uint32_t info_bytes = cursor_be32(&c);
    to->underflow = (flags & UNDERFLOW) != 0;
    if (!cursor_ok(&c))
        return cut && (flags & (HAS_CODE | UNDERFLOW)) == 0;
    if ((flags & HAS_CODE) != 0)
        to->code = code_of(cursor_child(&c, info_bytes));
    if (!cursor_ok(&c))
        return false;
    if ((flags & HAS_SENSE) == 0)
        return true;
    size_t left = cursor_left(&c);
    if (sense_bytes > left && !cut)
        return false;
    to->sense_bytes = sense_bytes < left ? sense_bytes : left;
    if (to->sense_bytes > FCP_SENSE_MOST)
        to->sense_bytes = FCP_SENSE_MOST;
    return cursor_copy(&c, to->sense, to->sense_bytes);
}
