#include "common/crc32c.h"

#include "common/vector_state.h"

#include <isa-l/crc.h>

/* ISA-L takes an int length: a larger buffer goes in parts. */
enum { CRC_PART_BYTES = 1 << 30 };

uint32_t crc32c(uint32_t crc, const void *data, size_t length) {
    const uint8_t *bytes = data;
    uint32_t state = ~crc;
    while (length > 0) {
        size_t part = length < CRC_PART_BYTES ? length : CRC_PART_BYTES;
        /* ISA-L's prototype lacks const; it reads only. */
        state = crc32_iscsi((unsigned char *)(uintptr_t)bytes, (int)part, state);
        bytes += part;
        length -= part;
    }
    vector_state_clean();
    return ~state;
}
