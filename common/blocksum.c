#include "common/blocksum.h"

#include "common/vector_state.h"

#include <isa-l/crc64.h>

uint64_t blocksum_add(uint64_t sum, const void *data, size_t length) {
    sum = crc64_ecma_refl(sum, data, length);
    vector_state_clean();
    return sum;
}

uint32_t blocksum_end(uint64_t sum) {
    return (uint32_t)(sum >> 32) ^ (uint32_t)sum;
}

uint32_t blocksum(const void *data, size_t length) {
    return blocksum_end(blocksum_add(0, data, length));
}
