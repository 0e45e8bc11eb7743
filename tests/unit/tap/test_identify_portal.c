#include "tap/identify/portal.h"

#include <criterion/criterion.h>
#include <string.h>

static void expect_text(const char *from, const char *to) {
    struct portal portal;
    char text[PORTAL_TEXT_BYTES];
    cr_assert(portal_parse(from, &portal), "%s", from);
    portal_text(&portal, text);
    cr_assert_str_eq(text, to);
}

Test(portal, addresses_as_targets_give_them) {
    expect_text("192.0.2.7:3261,1", "192.0.2.7:3261");
    expect_text("192.0.2.7", "192.0.2.7:3260");
    expect_text("192.0.2.7,65535", "192.0.2.7:3260");
    expect_text("[2001:DB8::7]:860,2", "[2001:db8::7]:860");
    expect_text("[2001:db8::7]", "[2001:db8::7]:3260");
    expect_text("255.255.255.255:65535,1", "255.255.255.255:65535");
}

Test(portal, what_does_not_say_where_is_refused) {
    static const char *const bad[] = {"",
                                      "storage.example:3260,1",
                                      "0.0.0.0:3260,1",
                                      "[::]:3260,1",
                                      "192.0.2.7:",
                                      "192.0.2.7:0",
                                      "192.0.2.7:65536",
                                      "192.0.2.7:3260,",
                                      "192.0.2.7:3260,65536",
                                      "192.0.2.7:3260,1x",
                                      "192.0.2.7:000003260",
                                      "192.0.2.7:4294970556",
                                      "192.0.2.256",
                                      "2001:db8::7",
                                      "[2001:db8::7",
                                      "[]:3260",
                                      "[192.0.2.7]:3260",
                                      "[2001:db8::7]x",
                                      ":3260",
                                      "192.0.2.7 :3260"};
    struct portal portal;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert_not(portal_parse(bad[i], &portal), "%s", bad[i]);
}

Test(portal, a_long_address_is_refused_before_it_is_copied) {
    char text[512];
    struct portal portal;
    memset(text, '1', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    cr_assert_not(portal_parse(text, &portal));
    text[0] = '[';
    text[sizeof text - 2] = ']';
    cr_assert_not(portal_parse(text, &portal));
}

Test(portal, equal_is_family_address_and_port) {
    struct portal a, b;
    cr_assert(portal_parse("192.0.2.7:3260,1", &a));
    cr_assert(portal_parse("192.0.2.7:3260,2", &b));
    cr_assert(portal_equal(&a, &b));
    cr_assert(portal_parse("192.0.2.7:3261", &b));
    cr_assert_not(portal_equal(&a, &b));
    cr_assert(portal_parse("192.0.2.8:3260", &b));
    cr_assert_not(portal_equal(&a, &b));
    b = a;
    b.family = 6;
    cr_assert_not(portal_equal(&a, &b));
}
