#include "tap/identify/probe.h"

#include "common/clock.h"
#include "common/digest.h"

#include <stdlib.h>

static int read_block(struct query *query, struct identity_block *block, uint8_t *data,
                      struct error *err) {
    if (!query_can_address(block->lun) || block->block_bytes == 0 ||
        block->block_bytes > QUERY_BLOCK_BYTES)
        return 0;
    int code = query_read(query, block->lun, block->lba, data, block->block_bytes, err);
    block->read = code == 0;
    if (block->read)
        block->id = digest_id64(data, block->block_bytes);
    return code == ERR_NOT_FOUND ? 0 : code;
}

static int read_blocks(const struct query_options *options, struct identity_probe *probe,
                       struct error *err) {
    AUTO(query) query = NULL;
    AUTO_FREE uint8_t *data = malloc(QUERY_BLOCK_BYTES);
    if (data == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    int code = query_open(options, &probe->portal, probe->target, &query, err);
    for (size_t i = 0; code == 0 && i < probe->count; i++)
        code = read_block(query, &probe->blocks[i], data, err);
    return code;
}

int probe_read(const struct query_options *options, struct identity_probe *probe,
               struct error *err) {
    for (size_t i = 0; i < probe->count; i++)
        probe->blocks[i].read = false;
    int code = read_blocks(options, probe, err);
    probe->answered_ns = clock_wall_ns();
    return code;
}
