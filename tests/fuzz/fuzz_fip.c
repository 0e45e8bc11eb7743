/*
 * A FIP frame, and an ELS by its first byte as the answer to what: what is found must lie inside.
 */
#include "tap/fc/els.h"
#include "tap/fc/fip.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct fip fip;
    struct els els;
    if (fip_parse(data, size, &fip) && fip.frame != NULL &&
        (fip.frame < data || fip.frame + fip.frame_bytes > data + size))
        abort();
    if (fip.port_count > FIP_PORTS_MOST)
        abort();
    if (size > 0)
        els_parse(data + 1, size - 1, data[0], &els);
    return 0;
}
