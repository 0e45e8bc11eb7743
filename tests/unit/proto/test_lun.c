#include "proto/lun.h"

#include <criterion/criterion.h>

Test(lun, four_methods) {
    cr_assert_eq(lun_number(0), 0);
    cr_assert_eq(lun_number(UINT64_C(0x0001000000000000)), 1);
    cr_assert_eq(lun_number(UINT64_C(0x012c000000000000)), 300);
    cr_assert_eq(lun_number(UINT64_C(0x412c000000000000)), 300);
    cr_assert_eq(lun_number(UINT64_C(0xd201234500000000)), 0x012345);
    cr_assert_eq(lun_number(UINT64_C(0x0001000200000000)), UINT64_MAX);
    cr_assert_eq(lun_number(UINT64_C(0x8001000000000000)), UINT64_MAX);
    cr_assert_eq(lun_number(UINT64_C(0xc101000000000000)), UINT64_MAX);
}

Test(lun, texts) {
    char text[LUN_TEXT_BYTES];
    cr_assert_str_eq(lun_text(UINT64_C(0x012c000000000000), text), "300");
    cr_assert_str_eq(lun_text(UINT64_C(0xc101000000000000), text), "0xc101000000000000");
    char name[PATH_NAME_BYTES];
    cr_assert_str_eq(lun_path_name("iqn.x:y", 0, name), "iqn.x:y/0");
}
