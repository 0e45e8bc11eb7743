/* Requests and answers: what comes from outside is checked, and errors travel as they were worded.
 */
#include "world.h"

#include "recoveryd/control/control.h"
#include "recoveryd/control/envelope.h"
#include "recoveryd/store/store.h"

#include <criterion/criterion.h>
#include <string.h>

/* A store without anything in it, and the control of it. */
struct desk {
    struct world world;
    struct store *store;
    struct control *control;
};

static void desk_open(struct desk *d) {
    struct error err = {0};
    world_make(&d->world);
    cr_assert_eq(store_open(d->world.store, STORE_OWN, &d->store, &err), 0, "%s", err.text);
    d->control = control_create(d->store);
    cr_assert(d->control != NULL);
}

static void desk_close(struct desk *d) {
    control_destroy(d->control);
    store_close(d->store);
    world_remove(&d->world);
}

static int ask(struct desk *d, const char *request, json_t **result, struct error *err) {
    AUTO_JSON parsed = json_loads(request, 0, NULL);
    AUTO_BUFFER data;
    buffer_init(&data, 1 << 21);
    *result = NULL;
    return control_run(d->control, parsed, result, &data, err);
}

static void refused(struct desk *d, const char *request, int code, const char *part) {
    struct error err = {0};
    json_t *result;
    cr_assert_eq(ask(d, request, &result, &err), code, "%s: %s", request, err.text);
    cr_assert(strstr(err.text, part) != NULL, "%s: %s", request, err.text);
}

Test(control, an_empty_store_has_answers) {
    struct desk d;
    struct error err = {0};
    json_t *result;
    desk_open(&d);
    cr_assert_eq(ask(&d, "{\"command\":\"volumes\"}", &result, &err), 0, "%s", err.text);
    cr_assert(json_is_array(result));
    cr_assert_eq(json_array_size(result), 0);
    json_decref(result);
    cr_assert_eq(ask(&d, "{\"command\":\"status\"}", &result, &err), 0, "%s", err.text);
    cr_assert_str_eq(json_string_value(json_object_get(result, "store")), d.world.store);
    json_decref(result);
    desk_close(&d);
}

Test(control, requests_are_checked) {
    struct desk d;
    desk_open(&d);
    refused(&d, "{}", ERR_USAGE, "no 'command'");
    refused(&d, "[]", ERR_USAGE, "no 'command'");
    refused(&d, "{\"command\":5}", ERR_USAGE, "no 'command'");
    refused(&d, "{\"command\":\"format\"}", ERR_VERSION, "does not know");
    refused(&d, "{\"command\":\"window\"}", ERR_USAGE, "no 'volume'");
    refused(&d, "{\"command\":\"window\",\"volume\":[]}", ERR_USAGE, "no 'volume'");
    refused(&d, "{\"command\":\"window\",\"volume\":\"x\"}", ERR_NOT_FOUND, "x");
    refused(&d, "{\"command\":\"window\",\"volume\":\"\"}", ERR_NOT_FOUND, "");
    refused(&d, "{\"command\":\"resolve\",\"at\":\"latest\"}", ERR_USAGE, "1 to 32 volumes");
    refused(&d, "{\"command\":\"resolve\",\"at\":\"latest\",\"volumes\":[1]}", ERR_NOT_FOUND, "");
    refused(&d, "{\"command\":\"image.open\",\"volume\":\"x\",\"time_ns\":\"soon\"}", ERR_USAGE,
            "not a number");
    refused(&d, "{\"command\":\"image.open\",\"volume\":\"x\",\"time_ns\":-1}", ERR_USAGE,
            "not a number");
    refused(&d, "{\"command\":\"image.chunk\",\"image\":0,\"chunk\":0}", ERR_NOT_FOUND,
            "no longer open");
    refused(&d, "{\"command\":\"image.chunk\",\"image\":99,\"chunk\":0}", ERR_NOT_FOUND,
            "no longer open");
    refused(&d, "{\"command\":\"image.gaps\",\"image\":99}", ERR_NOT_FOUND, "no longer open");
    refused(&d, "{\"command\":\"baseline\",\"volume\":\"x\"}", ERR_USAGE, "no 'from'");
    refused(&d, "{\"command\":\"baseline\",\"volume\":\"x\",\"from\":\"zeros\",\"at\":\"latest\"}",
            ERR_USAGE, "moment of the clock");
    desk_close(&d);
}

Test(control, a_refused_image_takes_no_place) {
    struct desk d;
    desk_open(&d);
    for (int i = 0; i < 100; i++)
        refused(&d, "{\"command\":\"image.open\",\"volume\":\"x\",\"time_ns\":1}", ERR_NOT_FOUND,
                "");
    desk_close(&d);
}

/* --- envelopes -----------------------------------------------------------------------------------
 */

Test(envelope, requests_and_answers_come_back) {
    AUTO_BUFFER b;
    AUTO_BUFFER bytes;
    AUTO_JSON request = json_pack("{s:s}", "command", "status");
    AUTO_JSON opened = NULL;
    AUTO_JSON result = NULL;
    const uint8_t *data;
    size_t data_bytes;
    struct error err = {0};
    buffer_init(&b, 4096);
    buffer_init(&bytes, 4096);
    buffer_put(&bytes, "12345", 5);
    envelope_request(&b, request);
    cr_assert_eq(envelope_open_request(b.data, b.length, &opened, &err), 0, "%s", err.text);
    cr_assert(json_equal(request, opened));
    buffer_clear(&b);
    envelope_result(&b, request, &bytes);
    cr_assert_eq(envelope_open_reply(b.data, b.length, &result, &data, &data_bytes, &err), 0);
    cr_assert(json_equal(request, result));
    cr_assert_eq(data_bytes, 5);
    cr_assert_eq(memcmp(data, "12345", 5), 0);
}

Test(envelope, errors_travel_as_they_were_worded) {
    AUTO_BUFFER b;
    json_t *result;
    const uint8_t *data;
    size_t data_bytes;
    struct error err = {0};
    buffer_init(&b, 4096);
    envelope_error(&b, &(struct error){.code = ERR_INEXACT, .text = "not exact: \"why\""});
    cr_assert_eq(envelope_open_reply(b.data, b.length, &result, &data, &data_bytes, &err),
                 ERR_INEXACT);
    cr_assert_str_eq(err.text, "not exact: \"why\"");
    buffer_clear(&b);
    envelope_error(&b, &(struct error){.code = ERR_IO, .text = "bytes \xff\xfe"});
    cr_assert_eq(envelope_open_reply(b.data, b.length, &result, &data, &data_bytes, &err), ERR_IO);
}

static void reply_is_nonsense(const char *json) {
    AUTO_BUFFER b;
    json_t *result;
    const uint8_t *data;
    size_t data_bytes;
    struct error err = {0};
    struct message m = {.kind = MESSAGE_CONTROL_REPLY,
                        .control = {.json = json, .json_bytes = (uint32_t)strlen(json)}};
    buffer_init(&b, 4096);
    message_encode(&b, &m);
    cr_assert_eq(envelope_open_reply(b.data, b.length, &result, &data, &data_bytes, &err), ERR_NET,
                 "%s", json);
}

Test(envelope, nonsense_is_not_an_answer) {
    reply_is_nonsense("");
    reply_is_nonsense("7");
    reply_is_nonsense("{}");
    reply_is_nonsense("{\"error\":{}}");
    reply_is_nonsense("{\"error\":{\"code\":0,\"text\":\"fine\"}}");
    reply_is_nonsense("{\"error\":{\"code\":5,\"text\":\"fine\"}}");
    reply_is_nonsense("{\"error\":{\"code\":-99,\"text\":\"?\"}}");
    reply_is_nonsense("{\"error\":{\"code\":-2}}");
}
