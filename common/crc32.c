#include "common/crc32.h"

#include "common/vector_state.h"

#include <isa-l/crc.h>

uint32_t crc32_frame(uint32_t crc, const void *data, size_t length) {
    crc = crc32_gzip_refl(crc, data, length);
    vector_state_clean();
    return crc;
}
