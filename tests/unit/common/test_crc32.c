#include "common/crc32.h"

#include <criterion/criterion.h>

Test(crc32, check_value) {
    cr_assert_eq(crc32_frame(0, "123456789", 9), 0xcbf43926);
    cr_assert_eq(crc32_frame(crc32_frame(0, "1234", 4), "56789", 5), 0xcbf43926);
    cr_assert_eq(crc32_frame(0, "", 0), 0);
}
