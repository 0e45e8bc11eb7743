#include "common/blocksum.h"
#include "common/crc32c.h"

#include <criterion/criterion.h>
#include <string.h>

Test(blocksum, usual_value) {
    cr_assert_eq(blocksum_add(0, "123456789", 9), UINT64_C(0x995dc9bbdf1939fa));
    cr_assert_eq(blocksum("123456789", 9), 0x995dc9bbu ^ 0xdf1939fau);
}

Test(blocksum, in_pieces) {
    cr_assert_eq(blocksum_end(blocksum_add(blocksum_add(0, "1234", 4), "56789", 5)),
                 blocksum("123456789", 9));
}

/* As file systems seal their blocks. */
Test(blocksum, blocks_that_end_in_their_own_checksum) {
    uint8_t block[2][4096];
    for (int i = 0; i < 2; i++) {
        memset(block[i], i, sizeof block[i]);
        uint32_t crc = crc32c(0, block[i], 4092);
        memcpy(block[i] + 4092,
               &(uint8_t[]){(uint8_t)crc, (uint8_t)(crc >> 8), (uint8_t)(crc >> 16),
                            (uint8_t)(crc >> 24)},
               4);
    }
    cr_assert_eq(crc32c(0, block[0], 4096), crc32c(0, block[1], 4096));
    cr_assert_neq(blocksum(block[0], 4096), blocksum(block[1], 4096));
}
