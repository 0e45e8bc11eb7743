#include "common/clock.h"
#include "proto/when.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t absolute(const char *text) {
    struct when when;
    struct error err = {0};
    cr_assert_eq(when_parse(text, &when, &err), 0, "%s: %s", text, err.text);
    cr_assert_eq(when.kind, WHEN_ABSOLUTE, "%s", text);
    return when.ns;
}

static uint64_t ago(const char *text) {
    struct when when;
    struct error err = {0};
    cr_assert_eq(when_parse(text, &when, &err), 0, "%s: %s", text, err.text);
    cr_assert_eq(when.kind, WHEN_AGO, "%s", text);
    return when.ns;
}

static void refused(const char *text, const char *expected) {
    struct when when;
    struct error err = {0};
    cr_assert_eq(when_parse(text, &when, &err), ERR_USAGE, "%s was taken", text);
    cr_assert(strstr(err.text, expected) != NULL, "%s: %s", text, err.text);
    cr_assert(strstr(err.text, "-15m, latest, bookmark:NAME, before-write:LBA") != NULL,
              "the accepted forms are missing: %s", err.text);
}

Test(when, rfc3339_utc) {
    cr_assert_eq(absolute("1970-01-01T00:00:00Z"), 0);
    cr_assert_eq(absolute("2026-11-23T21:02:39Z"), 1795467759 * NS_PER_SECOND);
    cr_assert_eq(absolute("2026-11-23T21:02:39.123456789Z"),
                 1795467759 * NS_PER_SECOND + 123456789);
    cr_assert_eq(absolute("2026-11-23t21:02:39.5z"), 1795467759 * NS_PER_SECOND + 500000000);
    cr_assert_eq(absolute("2026-11-23 21:02:39Z"), 1795467759 * NS_PER_SECOND);
    cr_assert_eq(absolute("2024-02-29T00:00:00Z"), 1709164800 * NS_PER_SECOND);
    cr_assert_eq(absolute("2000-02-29T12:00:00Z"), 951825600 * NS_PER_SECOND);
}

Test(when, rfc3339_offsets) {
    uint64_t utc = absolute("2026-11-23T21:02:39Z");
    cr_assert_eq(absolute("2026-11-23T22:02:39+01:00"), utc);
    cr_assert_eq(absolute("2026-11-23T16:32:39-04:30"), utc);
    cr_assert_eq(absolute("2026-11-24T10:47:39+13:45"), utc);
    cr_assert_eq(absolute("2026-11-23T21:02:39-00:00"), utc);
    cr_assert_eq(absolute("1970-01-01T01:00:00+01:00"), 0);
}

Test(when, the_ends_of_the_range) {
    cr_assert_eq(absolute("2554-07-21T23:34:33.709551615Z"), UINT64_MAX);
    cr_assert_eq(absolute("@18446744073.709551615"), UINT64_MAX);
    refused("2554-07-21T23:34:33.709551616Z", "1970 to 2554");
    refused("@18446744073.709551616", "1970 to 2554");
    refused("@18446744074", "1970 to 2554");
    refused("@99999999999999999999999", "is not @SECONDS");
    refused("9999-12-31T23:59:59Z", "1970 to 2554");
    refused("1969-12-31T23:59:59Z", "1970 to 2554");
    refused("1970-01-01T00:00:00+00:01", "1970 to 2554");
    refused("0000-01-01T00:00:00Z", "1970 to 2554");
}

Test(when, naive_local_times_are_refused) {
    refused("2026-11-23T21:02:39", "zone");
    refused("2026-11-23 21:02:39.5", "zone");
    refused("2026-11-23", "is a day");
    refused("21:02:39", "is not a time");
    refused("yesterday", "is not a time");
    refused("now", "is not a time");
    refused("1795404207", "is not a time");
    refused("", "is not a time");
}

Test(when, what_the_calendar_does_not_have) {
    refused("2026-02-29T00:00:00Z", "calendar");
    refused("2100-02-29T00:00:00Z", "calendar");
    refused("2026-13-01T00:00:00Z", "calendar");
    refused("2026-00-01T00:00:00Z", "calendar");
    refused("2026-04-31T00:00:00Z", "calendar");
    refused("2026-04-00T00:00:00Z", "calendar");
    refused("2026-04-01T24:00:00Z", "calendar");
    refused("2026-04-01T23:60:00Z", "calendar");
    refused("2026-04-01T23:59:61Z", "calendar");
    refused("2016-12-31T23:59:60Z", "leap second");
}

Test(when, slips_of_the_finger) {
    refused("2026-11-23T21:02Z", "is not a time");
    refused("2026-11-23T21:02:39.Z", "is not a time");
    refused("2026-11-23T21:02:39.1234567890Z", "is not a time");
    refused("2026-11-23T21:02:39,5Z", "is not a time");
    refused("2026-11-23T21:02:39+1:00", "is not a time");
    refused("2026-11-23T21:02:39+0100", "is not a time");
    refused("2026-11-23T21:02:39+24:00", "is not a time");
    refused("2026-11-23T21:02:39+01:60", "is not a time");
    refused("2026-11-23T21:02:39Z ", "is not a time");
    refused(" 2026-11-23T21:02:39Z", "is not a time");
    refused("26-11-23T21:02:39Z", "is not a time");
    refused("2026-1-23T21:02:39Z", "is not a time");
    refused("@", "is not @SECONDS");
    refused("@-1", "is not @SECONDS");
    refused("@1.", "is not @SECONDS");
    refused("@1.0000000001", "is not @SECONDS");
    refused("@0x10", "is not @SECONDS");
}

Test(when, seconds_of_the_epoch) {
    cr_assert_eq(absolute("@0"), 0);
    cr_assert_eq(absolute("@1795404207.438474540"), UINT64_C(1795404207438474540));
    cr_assert_eq(absolute("@1795404207.5"), UINT64_C(1795404207500000000));
}

Test(when, ago) {
    cr_assert_eq(ago("-15m"), 900 * NS_PER_SECOND);
    cr_assert_eq(ago("-1h30m"), 5400 * NS_PER_SECOND);
    cr_assert_eq(ago("-1w2d3h4m5s"), 788645 * NS_PER_SECOND);
    cr_assert_eq(ago("-0s"), 0);
    refused("-", "time ago");
    refused("-15", "time ago");
    refused("-m", "time ago");
    refused("-15x", "time ago");
    refused("-30m1h", "time ago");
    refused("-1h1h", "time ago");
    refused("-1.5h", "time ago");
    refused("--15m", "time ago");
    refused("-15m ", "time ago");
    refused("-99999999999999999999s", "time ago");
    refused("-40000w", "time ago");
}

Test(when, looked_up_in_the_store) {
    struct when when;
    cr_assert_eq(when_parse("latest", &when, NULL), 0);
    cr_assert_eq(when.kind, WHEN_LATEST);
    cr_assert_eq(when_parse("bookmark:before the upgrade", &when, NULL), 0);
    cr_assert_eq(when.kind, WHEN_BOOKMARK);
    cr_assert_str_eq(when.name, "before the upgrade");
    cr_assert_eq(when_parse("before-write:2048", &when, NULL), 0);
    cr_assert_eq(when.kind, WHEN_BEFORE_WRITE);
    cr_assert_eq(when.lba, 2048);
    cr_assert_eq(when_parse("before-write:0xFfff", &when, NULL), 0);
    cr_assert_eq(when.lba, 0xffff);
    cr_assert_eq(when_parse("before-write:0xffffffffffffffff", &when, NULL), 0);
    cr_assert_eq(when.lba, UINT64_MAX);
    refused("Latest", "is not a time");
    refused("latest ", "is not a time");
    refused("bookmark:", "bookmark");
    refused("before-write:", "block");
    refused("before-write:0x", "block");
    refused("before-write:0x1ffffffffffffffff", "block");
    refused("before-write:18446744073709551616", "block");
    refused("before-write:12k", "block");
}

Test(when, a_bookmark_name_has_a_limit) {
    char text[400] = "bookmark:";
    size_t prefix = strlen(text);
    memset(text + prefix, 'x', LIMIT_NAME_BYTES);
    struct when when;
    cr_assert_eq(when_parse(text, &when, NULL), 0);
    text[prefix + LIMIT_NAME_BYTES] = 'x';
    refused(text, "bookmark");
}

Test(when, durations) {
    uint64_t ns;
    cr_assert_eq(when_parse_duration("90s", &ns, NULL), 0);
    cr_assert_eq(ns, 90 * NS_PER_SECOND);
    cr_assert_eq(when_parse_duration("1h30m", &ns, NULL), 0);
    cr_assert_eq(ns, 5400 * NS_PER_SECOND);
    struct error err;
    cr_assert_eq(when_parse_duration("0s", &ns, &err), ERR_USAGE);
    cr_assert_eq(when_parse_duration("", &ns, &err), ERR_USAGE);
    cr_assert_eq(when_parse_duration("5", &ns, &err), ERR_USAGE);
}

Test(when, printing) {
    char text[WHEN_TEXT_BYTES];
    cr_assert_str_eq(when_print_utc(0, text), "1970-01-01T00:00:00.000000000Z");
    cr_assert_str_eq(when_print_utc(UINT64_MAX, text), "2554-07-21T23:34:33.709551615Z");
    cr_assert_str_eq(when_print_utc(UINT64_C(1795404207438474540), text),
                     "2026-11-23T03:23:27.438474540Z");
    setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
    tzset();
    cr_assert_str_eq(when_print_local(UINT64_C(1795404207438474540), text),
                     "2026-11-23T04:23:27.438474540+01:00");
    setenv("TZ", "NST3:30", 1);
    tzset();
    cr_assert_str_eq(when_print_local(UINT64_C(1795404207438474540), text),
                     "2026-11-22T23:53:27.438474540-03:30");
    cr_assert_str_eq(when_print_local(5, text), "1970-01-01T00:00:00.000000005Z");
}

static uint64_t seed_of_run(void) {
    const char *given = getenv("SANREWIND_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : clock_wall_ns();
    fprintf(stderr, "SANREWIND_SEED=%" PRIu64 "\n", seed);
    return seed;
}

static uint64_t next_random(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state ^ *state >> 29;
}

/* What is printed can be pasted back, whatever the zone, daylight saving and old odd offsets
 * included. */
Test(when, printed_times_parse_back) {
    static const char *const zones[] = {"UTC0",         "Europe/Berlin",    "Africa/Monrovia",
                                        "Asia/Kolkata", "America/St_Johns", "Pacific/Kiritimati"};
    uint64_t state = seed_of_run();
    char text[WHEN_TEXT_BYTES];
    for (size_t zone = 0; zone < sizeof zones / sizeof zones[0]; zone++) {
        setenv("TZ", zones[zone], 1);
        tzset();
        for (unsigned i = 0; i < 20000; i++) {
            uint64_t time_ns = next_random(&state) >> (i % 40);
            cr_assert_eq(absolute(when_print_utc(time_ns, text)), time_ns, "%s", text);
            cr_assert_eq(absolute(when_print_local(time_ns, text)), time_ns, "%s", text);
        }
    }
}

/* The calendar agrees with that of the C library. */
Test(when, dates_are_those_of_the_c_library) {
    uint64_t state = seed_of_run();
    for (unsigned i = 0; i < 50000; i++) {
        uint64_t time_ns = next_random(&state);
        time_t second = (time_t)(time_ns / NS_PER_SECOND);
        struct tm tm;
        char expected[32];
        char text[WHEN_TEXT_BYTES];
        strftime(expected, sizeof expected, "%Y-%m-%dT%H:%M:%S", gmtime_r(&second, &tm));
        when_print_utc(time_ns, text);
        text[19] = '\0';
        cr_assert_str_eq(text, expected);
    }
}
