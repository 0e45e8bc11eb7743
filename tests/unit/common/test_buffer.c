#include "common/buffer.h"
#include "common/cursor.h"

#include <criterion/criterion.h>

Test(buffer, writes_what_the_cursor_reads) {
    AUTO_BUFFER b;
    buffer_init(&b, 1024);
    buffer_put_u8(&b, 7);
    buffer_put_le16(&b, 0x1234);
    buffer_put_le32(&b, 0xdeadbeef);
    buffer_put_le64(&b, UINT64_C(0x0123456789abcdef));
    buffer_put_be(&b, 0xabcdef, 3);
    buffer_patch_le(&b, 1, 0x4321, 2);
    struct cursor c = cursor_of(b.data, b.length);
    cr_assert_eq(cursor_u8(&c), 7);
    cr_assert_eq(cursor_le16(&c), 0x4321);
    cr_assert_eq(cursor_le32(&c), 0xdeadbeef);
    cr_assert_eq(cursor_le64(&c), UINT64_C(0x0123456789abcdef));
    cr_assert_eq(cursor_be24(&c), 0xabcdef);
    cr_assert(cursor_ok(&c));
    cr_assert_eq(cursor_left(&c), 0);
}

Test(buffer, limit_fails_for_good_and_writes_nothing) {
    AUTO_BUFFER b;
    buffer_init(&b, 6);
    buffer_put_le32(&b, 1);
    buffer_put_le32(&b, 2);
    cr_assert(b.failed);
    cr_assert_eq(b.length, 4);
    buffer_put_u8(&b, 1);
    cr_assert_eq(b.length, 4, "after a failure nothing more is written");
    buffer_clear(&b);
    buffer_put_le32(&b, 3);
    cr_assert_not(b.failed);
}

Test(buffer, patch_outside_is_ignored) {
    AUTO_BUFFER b;
    buffer_init(&b, 64);
    buffer_put_le16(&b, 5);
    buffer_patch_le(&b, 1, 0xffff, 2);
    cr_assert_eq(b.data[1], 0);
}
