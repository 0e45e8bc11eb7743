/* Who may speak for which monitor. */
#include "recoveryd/receive/streams.h"

#include "proto/stamp.h"

#include <criterion/criterion.h>
#include <string.h>

static int hello_as(struct streams *s, uint64_t monitor, const char *name, size_t bytes,
                    uint64_t stream, struct error *err) {
    uint64_t frontier = 77;
    struct message_hello hello = {
        .monitor = monitor, .stream = stream, .name = name, .name_bytes = (uint16_t)bytes};
    int code = streams_hello(s, &hello, &frontier, err);
    if (code == 0)
        cr_assert_eq(frontier, 0);
    return code;
}

static int hello(struct streams *s, const char *name, uint64_t stream, struct error *err) {
    return hello_as(s, stamp_monitor_id(name), name, strlen(name), stream, err);
}

Test(streams, names) {
    AUTO(streams) s = streams_create(10);
    struct error err = {0};
    char longest[LIMIT_NAME_BYTES + 2];
    cr_assert_eq(hello(s, "mon", 1, &err), 0);
    cr_assert_eq(hello(s, "m\xc3\xb6n", 1, &err), 0);
    cr_assert_eq(hello(s, "", 1, &err), ERR_FORMAT);
    cr_assert_eq(hello(s, "two\nlines", 1, &err), ERR_FORMAT);
    cr_assert_eq(hello(s, "\x1b[31m", 1, &err), ERR_FORMAT);
    cr_assert_eq(hello_as(s, stamp_monitor_id("a"), "a\0b", 3, 1, &err), ERR_FORMAT);
    memset(longest, 'x', sizeof longest);
    longest[LIMIT_NAME_BYTES] = '\0';
    cr_assert_eq(hello(s, longest, 1, &err), 0);
    cr_assert_eq(hello_as(s, 1, longest, LIMIT_NAME_BYTES + 1, 1, &err), ERR_FORMAT);
    cr_assert_eq(hello_as(s, 123, "mon", 3, 1, &err), ERR_FORMAT, "the number of another");
    cr_assert(strstr(err.text, "number of another") != NULL, "%s", err.text);
}

Test(streams, a_newer_start_takes_over) {
    AUTO(streams) s = streams_create(10);
    struct error err = {0};
    uint64_t monitor = stamp_monitor_id("mon");
    bool superseded;
    cr_assert_eq(hello(s, "mon", 100, &err), 0);
    cr_assert_eq(hello(s, "mon", 100, &err), 0, "another lane");
    cr_assert_eq(hello(s, "other", 50, &err), 0, "another monitor");
    cr_assert_eq(hello(s, "mon", 200, &err), 0);
    struct stream *old = streams_admit(s, monitor, 100, &superseded);
    cr_assert(old != NULL && superseded, "what it saw is still taken");
    streams_release(s, old);
    struct stream *new = streams_admit(s, monitor, 200, &superseded);
    cr_assert(new != NULL && !superseded);
    streams_release(s, new);
    cr_assert_eq(hello(s, "mon", 100, &err), ERR_BUSY);
    cr_assert_eq(hello(s, "mon", 150, &err), ERR_BUSY, "never heard of, and older");
    cr_assert(strstr(err.text, "--monitor") != NULL, "%s", err.text);
    cr_assert_eq(hello(s, "other", 50, &err), 0);
    cr_assert_eq(streams_admit(s, monitor, 300, &superseded), NULL);
}

/* A flood of strangers does not lock out who comes later, nor throw out whose batches are under
 * way. */
Test(streams, a_full_table_makes_room) {
    AUTO(streams) s = streams_create(8);
    struct error err = {0};
    bool superseded;
    char name[16];
    cr_assert_eq(hello(s, "held", 1, &err), 0);
    struct stream *held = streams_admit(s, stamp_monitor_id("held"), 1, &superseded);
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "stranger%d", i);
        cr_assert_eq(hello(s, name, 1, &err), 0, "%s", err.text);
    }
    struct stream *again = streams_admit(s, stamp_monitor_id("held"), 1, &superseded);
    cr_assert_eq(again, held);
    streams_release(s, held);
    streams_release(s, held);
}

Test(streams, durable_entries_are_what_hello_tells) {
    AUTO(streams) s = streams_create(8);
    struct error err = {0};
    bool superseded;
    uint64_t frontier = 0;
    cr_assert_eq(hello(s, "mon", 1, &err), 0);
    struct stream *stream = streams_admit(s, stamp_monitor_id("mon"), 1, &superseded);
    struct stream_entry entry = stream->entry;
    entry.frontier = 42;
    streams_install(s, stream, &entry);
    streams_release(s, stream);
    struct message_hello again = {
        .monitor = stamp_monitor_id("mon"), .stream = 1, .name = "mon", .name_bytes = 3};
    cr_assert_eq(streams_hello(s, &again, &frontier, &err), 0);
    cr_assert_eq(frontier, 42);
}
