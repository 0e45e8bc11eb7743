#include "tests/property/packets.h"

#include "tap/capture/capture.h"
#include "tap/decap/decap.h"

#include <stdlib.h>
#include <string.h>

static void *must(void *memory) {
    if (memory == NULL)
        abort();
    return memory;
}

uint8_t *packets_block(struct packets *p, size_t bytes) {
    if (p->block_count == p->block_capacity) {
        p->block_capacity = p->block_capacity > 0 ? 2 * p->block_capacity : 64;
        p->blocks = must(realloc(p->blocks, p->block_capacity * sizeof *p->blocks));
    }
    uint8_t *block = must(malloc(bytes > 0 ? bytes : 1));
    p->blocks[p->block_count++] = block;
    return block;
}

void packets_add(struct packets *p, const struct packet *packet) {
    if (p->count == p->capacity) {
        p->capacity = p->capacity > 0 ? 2 * p->capacity : 1024;
        p->list = must(realloc(p->list, p->capacity * sizeof *p->list));
    }
    p->list[p->count++] = *packet;
}

void packets_clear(struct packets *p) {
    for (size_t i = 0; i < p->block_count; i++)
        free(p->blocks[i]);
    p->block_count = 0;
    p->count = 0;
}

void packets_release(struct packets *p) {
    packets_clear(p);
    free(p->blocks);
    free(p->list);
    *p = (struct packets){0};
}

int packets_load(struct packets *p, const char *const *files, size_t count, struct error *err) {
    struct capture_options options = {.knows_link = decap_knows_link};
    AUTO(capture) capture = must(capture_create(&options));
    int code = 0;
    for (size_t i = 0; i < count && code == 0; i++)
        code = capture_add_file(capture, files[i], err);
    while (code == 0) {
        struct packet packet;
        uint64_t quiet_ns = 0;
        int outcome = capture_next(capture, 0, &packet, &quiet_ns, err);
        if (outcome == CAPTURE_END)
            return 0;
        code = outcome < 0 ? outcome : 0;
        if (outcome != CAPTURE_PACKET)
            continue;
        uint8_t *copy = packets_block(p, packet.caplen);
        memcpy(copy, packet.data, packet.caplen);
        packet.data = copy;
        packets_add(p, &packet);
    }
    return code;
}
