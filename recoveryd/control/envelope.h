/*
 * envelope: requests and answers of control as CONTROL and CONTROL_REPLY messages.
 *
 * An answer is {"result": ...} or {"error": {"code": N, "text": "..."}}, so that what the server
 * says reads the same as what the local store says.
 */
#ifndef SANREWIND_RECOVERYD_ENVELOPE_H
#define SANREWIND_RECOVERYD_ENVELOPE_H

#include "common/buffer.h"
#include "common/error.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

/* Appends a whole message. Fails through b->failed. */
void envelope_request(struct buffer *b, const json_t *request);
/* `data` may be NULL. */
void envelope_result(struct buffer *b, const json_t *result, const struct buffer *data);
void envelope_error(struct buffer *b, const struct error *why);

/* The request in a frame (a new reference), or ERR_FORMAT. */
int envelope_open_request(const void *frame, size_t bytes, json_t **request, struct error *err);
/*
 * The answer in a frame: 0 with *result (a new reference) and its bytes, borrowed from the frame;
 * or the error that it holds; ERR_NET: it is no answer.
 */
int envelope_open_reply(const void *frame, size_t bytes, json_t **result, const uint8_t **data,
                        size_t *data_bytes, struct error *err);

#endif
