#include "common/crc32c.h"
#include "common/digest.h"

#include <criterion/criterion.h>
#include <string.h>

/* RFC 7143, appendix A.4. */
Test(crc32c, examples_of_the_standard) {
    uint8_t data[32] = {0};
    cr_assert_eq(crc32c(0, "123456789", 9), 0xe3069283u);
    cr_assert_eq(crc32c(0, data, 32), 0x8a9136aau);
    memset(data, 0xff, 32);
    cr_assert_eq(crc32c(0, data, 32), 0x62a8ab43u);
    for (int i = 0; i < 32; i++)
        data[i] = (uint8_t)i;
    cr_assert_eq(crc32c(0, data, 32), 0x46dd794eu);
}

Test(crc32c, chains) {
    uint32_t part = crc32c(0, "12345", 5);
    cr_assert_eq(crc32c(part, "6789", 4), 0xe3069283u);
    cr_assert_eq(crc32c(part, "", 0), part);
}

Test(digest, sha256_of_data_and_zeros) {
    char hex[SHA256_HEX_BYTES];
    AUTO(sha256) s = sha256_create();
    sha256_update(s, "abc", 3);
    sha256_finish_hex(s, hex);
    cr_assert_str_eq(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    AUTO(sha256) zeros = sha256_create();
    sha256_zeros(zeros, 100000);
    sha256_finish_hex(zeros, hex);
    AUTO(sha256) again = sha256_create();
    AUTO_FREE uint8_t *plain = calloc(1, 100000);
    sha256_update(again, plain, 100000);
    char same[SHA256_HEX_BYTES];
    sha256_finish_hex(again, same);
    cr_assert_str_eq(hex, same);
}
