#include "tap/streams.h"

#include <criterion/criterion.h>
#include <string.h>

static struct streams *s;
static struct tcp_consumer consumer;
static struct tcp_endpoints endpoints = {.client_port = 40000, .server_port = 3260};
static char log_text[1000]; /* who was asked what */
static bool wanted = true;
static unsigned told[STREAM_FOREIGNS];

static void note(const char *who, const char *what) {
    strcat(log_text, who);
    strcat(log_text, what);
}

static void *on_open(void *context, const struct tcp_endpoints *e, bool from_start,
                     uint64_t time_ns) {
    (void)e;
    (void)time_ns;
    note(context, from_start ? " open;" : " late;");
    return context;
}

static bool on_data(void *connection, enum tcp_direction direction, const uint8_t *data,
                    size_t bytes, uint64_t time_ns) {
    (void)direction;
    (void)data;
    (void)bytes;
    (void)time_ns;
    note(connection, " data;");
    return wanted;
}

static bool on_hole(void *connection, enum tcp_direction direction, uint64_t bytes,
                    uint64_t time_ns) {
    (void)direction;
    (void)bytes;
    (void)time_ns;
    note(connection, " hole;");
    return wanted;
}

static void on_close(void *connection, enum tcp_end why, uint64_t time_ns) {
    (void)why;
    (void)time_ns;
    note(connection, " close;");
}

static enum tcp_copy on_again(void *connection, enum tcp_direction direction, uint64_t back,
                              const uint8_t *data, size_t bytes) {
    (void)direction;
    note(connection, " again;");
    return back == 7 && bytes == 3 && data[0] == 'a' ? TCP_COPY_DIFFERS : TCP_COPY_FORGOTTEN;
}

static void on_dispute(void *connection, enum tcp_direction direction, uint64_t back,
                       uint64_t bytes, uint64_t time_ns) {
    cr_assert(direction == TCP_TO_CLIENT && back == 7 && bytes == 3 && time_ns == 5);
    note(connection, " dispute;");
}

static bool on_save(void *connection, bool whole, struct buffer *b) {
    note(connection, whole ? " save whole;" : " save;");
    buffer_put_u8(b, 42);
    return true;
}

static void *on_load(void *context, const struct tcp_endpoints *e, struct cursor *cursor) {
    (void)e;
    note(context, " load;");
    return cursor_u8(cursor) == 42 ? context : NULL;
}

static void on_first_foreign(void *context, enum stream_foreign kind) {
    (void)context;
    told[kind]++;
}

static void start(void) {
    struct tcp_consumer iscsi = {"iscsi",  on_open,  on_data,   on_hole,
                                 on_close, on_again, on_dispute};
    struct tcp_consumer fcip = {
        .context = "fcip", .open = on_open, .data = on_data, .hole = on_hole, .close = on_close};
    s = streams_create(&iscsi, &fcip,
                       &(struct streams_output){.first_foreign = on_first_foreign,
                                                .save = on_save,
                                                .load = on_load,
                                                .load_context = "iscsi"});
    consumer = streams_consumer(s);
}

static void stop(void) {
    streams_destroy(s);
}

TestSuite(streams, .init = start, .fini = stop);

/* A connection that begins with these bytes. */
static void connect_with(const char *bytes, size_t length, bool from_start) {
    void *c = consumer.open(consumer.context, &endpoints, from_start, 0);
    log_text[0] = '\0';
    if (consumer.data(c, TCP_TO_SERVER, (const uint8_t *)bytes, length, 0))
        consumer.close(c, TCP_END_FIN, 0);
}

#define CONNECT(literal) connect_with(literal, sizeof(literal) - 1, true)

Test(streams, whatever_it_is_goes_to_iscsi) {
    CONNECT("\x43\x87\0\0");
    cr_assert_str_eq(log_text, "iscsi open;iscsi data;iscsi close;");
    connect_with("x", 1, false);
    cr_assert_str_eq(log_text, "iscsi late;iscsi data;iscsi close;");
}

Test(streams, fcip_by_its_port) {
    endpoints.server_port = 3225;
    CONNECT("x");
    cr_assert_str_eq(log_text, "fcip open;fcip data;fcip close;");
    endpoints = (struct tcp_endpoints){.client_port = 3225, .server_port = 50000};
    CONNECT("x");
    cr_assert_str_eq(log_text, "iscsi open;iscsi data;iscsi close;");
    connect_with("x", 1, false);
    cr_assert_str_eq(log_text, "fcip late;fcip data;fcip close;");
}

Test(streams, fcip_by_how_it_begins) {
    CONNECT("\1\1\xfe\xfe\1\1\xfe\xfe\1\0\xfe\xff\0\x13\xff\xec");
    cr_assert_str_eq(log_text, "fcip open;fcip data;fcip close;");
}

Test(streams, not_wanted) {
    wanted = false;
    CONNECT("GET / HTTP/1.1");
    cr_assert_str_eq(log_text, "iscsi open;iscsi data;");
}

Test(streams, hole_at_the_beginning) {
    void *c = consumer.open(consumer.context, &endpoints, true, 0);
    cr_assert(consumer.hole(c, TCP_TO_SERVER, 5, 0));
    cr_assert(consumer.data(c, TCP_TO_SERVER, (const uint8_t *)"x", 1, 0));
    consumer.close(c, TCP_END_FIN, 0);
    cr_assert_str_eq(log_text, "iscsi open;iscsi hole;iscsi data;iscsi close;");
}

Test(streams, closed_before_any_data) {
    void *c = consumer.open(consumer.context, &endpoints, true, 0);
    consumer.close(c, TCP_END_FIN, 0);
    cr_assert_str_eq(log_text, "");
}

Test(streams, what_is_not_decoded_is_told_once) {
    for (unsigned i = 0; i < 3; i++) {
        CONNECT("\0\0\x80\0\x80\0\0\0\0\0");
        CONNECT("MPA ID Req Frame\x40\1\0\0");
        CONNECT("\x16\x03\x01\2\0\1");
    }
    endpoints.server_port = 443;
    CONNECT("\x16\x03\x01\2\0\1");
    for (unsigned kind = 0; kind < STREAM_FOREIGNS; kind++) {
        cr_assert_eq(told[kind], 1);
        cr_assert_eq(streams_foreign(s, kind), 3, "%s", streams_foreign_name(kind));
    }
}

Test(streams, what_came_twice_is_asked_of_the_protocol) {
    void *c = consumer.open(consumer.context, &endpoints, true, 0);
    cr_assert_eq(consumer.again(c, TCP_TO_CLIENT, 7, (const uint8_t *)"abc", 3), TCP_COPY_SAME);
    consumer.dispute(c, TCP_TO_CLIENT, 7, 3, 5);
    consumer.data(c, TCP_TO_SERVER, (const uint8_t *)"x", 1, 0);
    cr_assert_eq(consumer.again(c, TCP_TO_CLIENT, 7, (const uint8_t *)"abc", 3), TCP_COPY_DIFFERS);
    consumer.dispute(c, TCP_TO_CLIENT, 7, 3, 5);
    cr_assert_str_eq(log_text, "iscsi open;iscsi data;iscsi again;iscsi dispute;");
    endpoints.server_port = 3225;
    c = consumer.open(consumer.context, &endpoints, true, 0);
    consumer.data(c, TCP_TO_SERVER, (const uint8_t *)"x", 1, 0);
    cr_assert_eq(consumer.again(c, TCP_TO_CLIENT, 7, (const uint8_t *)"abc", 3), TCP_COPY_SAME);
    consumer.dispute(c, TCP_TO_CLIENT, 7, 3, 5);
}

Test(streams, over_a_restart) {
    AUTO_BUFFER b;
    buffer_init(&b, 100);
    void *c = consumer.open(consumer.context, &endpoints, true, 0);
    cr_assert_not(streams_connection_save(c, true, &b), "nobody knows what it is");
    consumer.data(c, TCP_TO_SERVER, (const uint8_t *)"x", 1, 0);
    cr_assert(streams_connection_save(c, true, &b));
    endpoints.server_port = 3225;
    void *tunnel = consumer.open(consumer.context, &endpoints, true, 0);
    consumer.data(tunnel, TCP_TO_SERVER, (const uint8_t *)"x", 1, 0);
    cr_assert_not(streams_connection_save(tunnel, true, &b));
    log_text[0] = '\0';
    struct cursor cursor = cursor_of(b.data, b.length);
    c = streams_connection_load(s, &endpoints, &cursor);
    cr_assert_not_null(c);
    consumer.data(c, TCP_TO_SERVER, (const uint8_t *)"x", 1, 0);
    cr_assert_str_eq(log_text, "iscsi load;iscsi data;");
    cr_assert_null(streams_connection_load(s, &endpoints, &cursor));
}
