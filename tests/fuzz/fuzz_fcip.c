/*
 * TCP streams into fcip/: a run of records, each
 *
 *   kind u8 (bit 0 direction, bit 1 hole) | length u16 LE | bytes
 *
 * Every frame that is given out is read.
 */
#include "common/cursor.h"
#include "tap/fcip/fcip.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned sum; /* so that reading is not optimised away */

static void on_frame(void *context, const struct fc_frame *frame) {
    (void)context;
    if (frame->bytes != frame->wire_bytes || frame->bytes < 28)
        abort();
    for (uint32_t i = 0; i < frame->bytes; i++)
        sum += frame->data[i];
}

static void on_loss(void *context, const char *text, uint64_t time_ns) {
    (void)context;
    (void)time_ns;
    sum += (unsigned char)text[0];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    AUTO(fcip) f = fcip_create(&(struct fcip_output){.frame = on_frame, .loss = on_loss});
    if (f == NULL)
        abort();
    struct tcp_consumer consumer = fcip_consumer(f);
    struct tcp_endpoints endpoints = {.server_port = 3225};
    struct cursor c = cursor_of(data, size);
    void *tunnel = consumer.open(consumer.context, &endpoints, cursor_u8(&c) & 1, 0);
    while (cursor_ok(&c) && cursor_left(&c) > 0) {
        uint8_t kind = cursor_u8(&c);
        size_t length = cursor_le16(&c);
        if (!cursor_ok(&c))
            break;
        enum tcp_direction direction = (kind & 1) != 0 ? TCP_TO_CLIENT : TCP_TO_SERVER;
        if ((kind & 2) != 0) {
            consumer.hole(tunnel, direction, length, 0);
            continue;
        }
        if (length > cursor_left(&c))
            length = cursor_left(&c);
        consumer.data(tunnel, direction, cursor_bytes(&c, length), length, 0);
    }
    consumer.close(tunnel, TCP_END_SHUTDOWN, 0);
    return 0;
}
