#include "common/cursor.h"

#include <criterion/criterion.h>

Test(cursor, reads_both_byte_orders) {
    const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    struct cursor c = cursor_of(bytes, sizeof bytes);
    cr_assert_eq(cursor_u8(&c), 1);
    cr_assert_eq(cursor_be16(&c), 0x0203);
    cr_assert_eq(cursor_le16(&c), 0x0504);
    cr_assert_eq(cursor_be24(&c), 0x060708);
    cr_assert_eq(cursor_le32(&c), 0x0c0b0a09u);
    cr_assert_eq(cursor_left(&c), 3);
    cr_assert(cursor_ok(&c));
}

Test(cursor, failure_is_sticky_and_moves_nothing) {
    const uint8_t bytes[] = {0xff, 0xff, 0xff};
    struct cursor c = cursor_of(bytes, sizeof bytes);
    cr_assert_eq(cursor_be32(&c), 0);
    cr_assert_not(cursor_ok(&c));
    cr_assert_eq(cursor_u8(&c), 0, "a read after a failure must give nothing");
    cr_assert_eq(cursor_left(&c), 3);
}

Test(cursor, child_is_bounded) {
    const uint8_t bytes[] = {1, 2, 3, 4};
    struct cursor c = cursor_of(bytes, sizeof bytes);
    struct cursor child = cursor_child(&c, 2);
    cr_assert_eq(cursor_be16(&child), 0x0102);
    cr_assert_eq(cursor_u8(&child), 0);
    cr_assert_not(cursor_ok(&child));
    cr_assert(cursor_ok(&c), "a child's failure is its own");
    cr_assert_eq(cursor_be16(&c), 0x0304);
    struct cursor none = cursor_child(&c, 1);
    cr_assert_not(cursor_ok(&none));
    cr_assert_not(cursor_ok(&c));
}

Test(cursor, copy_of_too_much_zeroes) {
    const uint8_t bytes[] = {1, 2};
    uint8_t to[4] = {9, 9, 9, 9};
    struct cursor c = cursor_of(bytes, sizeof bytes);
    cr_assert_not(cursor_copy(&c, to, 4));
    cr_assert_eq(to[0] | to[1] | to[2] | to[3], 0);
}
