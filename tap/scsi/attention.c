#include "tap/scsi/internal.h"

#include <stdio.h>

enum { SMALLEST_BLOCK = 512, LARGEST_BLOCK = 65536 };

bool attention_supports(uint32_t block_bytes) {
    return block_bytes >= SMALLEST_BLOCK && block_bytes <= LARGEST_BLOCK &&
           (block_bytes & (block_bytes - 1)) == 0;
}

void attention_refuse(struct tracker *t, struct path *path, uint64_t time_ns) {
    char text[TEXT_BYTES];
    if (path->refusal_said || path->kind == PATH_KIND_OTHER)
        return;
    path->refusal_said = true;
    snprintf(text, sizeof text,
             "its blocks have %u bytes, which is not supported (512 to 65536, a power of two): "
             "nothing of this volume is recorded",
             path->sink.block_bytes);
    gap_volume(
        t, path,
        &(struct gap_cause){.reason = GAP_UNKNOWN_CONTENT, .text = text, .time_ns = time_ns});
}

void attention_geometry(struct unit *unit) {
    for (struct path *path = unit->paths; path != NULL; path = path->unit_next) {
        path->block_stale = true;
        path->size_stale = true;
    }
}

static void take_medium(struct exchange *x, uint64_t time_ns) {
    struct path *path = x->path;
    if (!path->removable)
        return;
    attention_geometry(path->unit);
    gap_volume(x->nexus->tracker, path,
               &(struct gap_cause){.reason = GAP_UNKNOWN_CONTENT,
                                   .text = "the medium may have been changed for another",
                                   .time_ns = time_ns,
                                   .initiator = x->nexus->initiator});
    rival_note(path->unit, x, 0, UINT64_MAX, time_ns, false);
}

/*
 * SPC-5 annex F. Writes tell the block length by the amount of their data, so that what is stale
 * is confirmed soon; until then what does not tell it is not believed. A new name shows when page
 * 83h is asked for again: see set_designator() in path.c.
 */
void attention_take(struct exchange *x, const struct sense *sense, uint64_t time_ns) {
    struct path *path = x->path;
    switch (sense->asc << 8 | sense->ascq) {
    case 0x2800: /* NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED */
        take_medium(x, time_ns);
        break;
    case 0x2a01: /* MODE PARAMETERS CHANGED */
        path->block_stale = true;
        break;
    case 0x2a09: /* CAPACITY DATA HAS CHANGED */
        path->block_stale = true;
        path->size_stale = true;
        break;
    default:
        break;
    }
}
