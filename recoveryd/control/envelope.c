#include "recoveryd/control/envelope.h"

#include "proto/limits.h"
#include "proto/message.h"
#include "recoveryd/control/control.h"

#include <string.h>

static void put(struct buffer *b, uint16_t kind, const json_t *json, const struct buffer *data) {
    AUTO_FREE char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    if (text == NULL || strlen(text) > LIMIT_CONTROL_BYTES) {
        b->failed = true;
        return;
    }
    struct message m = {
        .kind = kind,
        .control = {.json = text,
                    .json_bytes = (uint32_t)strlen(text),
                    .data = data != NULL ? data->data : NULL,
                    .data_bytes = data != NULL ? (uint32_t)data->length : 0},
    };
    message_encode(b, &m);
}

void envelope_request(struct buffer *b, const json_t *request) {
    put(b, MESSAGE_CONTROL, request, NULL);
}

void envelope_result(struct buffer *b, const json_t *result, const struct buffer *data) {
    AUTO_JSON reply = json_pack("{s:O}", "result", result);
    put(b, MESSAGE_CONTROL_REPLY, reply, data);
}

void envelope_error(struct buffer *b, const struct error *why) {
    /* A text may quote what came from the wire. */
    json_t *text = json_string(why->text);
    if (text == NULL)
        text = json_string("the reason holds bytes that are not text");
    AUTO_JSON reply = json_pack("{s:{s:i,s:o}}", "error", "code", why->code, "text", text);
    put(b, MESSAGE_CONTROL_REPLY, reply, NULL);
}

static json_t *load(const struct message_control *control) {
    return json_loadb(control->json, control->json_bytes, JSON_REJECT_DUPLICATES, NULL);
}

int envelope_open_request(const void *frame, size_t bytes, json_t **request, struct error *err) {
    struct message m;
    struct cursor body;
    int code = message_decode(frame, bytes, &m, &body, err);
    if (code < 0)
        return code;
    *request = m.kind == MESSAGE_CONTROL ? load(&m.control) : NULL;
    if (json_is_object(*request))
        return 0;
    json_decref(*request);
    return error_set(err, ERR_FORMAT, "malformed request: it is not a JSON object");
}

static int carried_error(const json_t *reply, struct error *err) {
    const json_t *error = json_object_get(reply, "error");
    const char *text = json_string_value(json_object_get(error, "text"));
    json_int_t code = json_integer_value(json_object_get(error, "code"));
    if (text == NULL || code > ERR_USAGE || code < ERR_STOPPED)
        return error_set(err, ERR_NET, "the server's answer cannot be understood");
    return error_set(err, (int)code, "%s", text);
}

int envelope_open_reply(const void *frame, size_t bytes, json_t **result, const uint8_t **data,
                        size_t *data_bytes, struct error *err) {
    struct message m;
    struct cursor body;
    if (message_decode(frame, bytes, &m, &body, err) < 0)
        return ERR_NET;
    if (m.kind == MESSAGE_REFUSE)
        return error_set(err, ERR_NET, "the server refuses: %.*s", (int)m.refuse.text_bytes,
                         m.refuse.text);
    if (m.kind != MESSAGE_CONTROL_REPLY)
        return error_set(err, ERR_NET, "the server's answer cannot be understood");
    AUTO_JSON reply = load(&m.control);
    json_t *found = json_object_get(reply, "result");
    if (found == NULL)
        return carried_error(reply, err);
    *result = json_incref(found);
    *data = m.control.data;
    *data_bytes = m.control.data_bytes;
    return 0;
}
