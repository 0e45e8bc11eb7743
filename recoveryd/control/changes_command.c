/* What changed between two images of a volume, and the bytes of parts of an image. */
#include "recoveryd/control/commands.h"
#include "recoveryd/image/image_changes.h"

#include <string.h>

enum { CHANGES_AT_ONCE = 200000 };

static int hold_both(struct control *c, const json_t *request, struct lease **image,
                     struct lease **since, struct error *err) {
    uint64_t id;
    uint64_t since_id;
    int code = argument_number(request, "image", 0, &id, err);
    if (code == 0)
        code = argument_number(request, "since", 0, &since_id, err);
    if (code == 0)
        code = leases_hold(c->leases, id, image, err);
    if (code < 0)
        return code;
    code = leases_hold(c->leases, since_id, since, err);
    if (code == 0 && strcmp((*image)->volume.id, (*since)->volume.id) != 0) {
        leases_drop(c->leases, *since);
        code = error_set(err, ERR_USAGE, "malformed request: images of two volumes");
    }
    if (code < 0)
        leases_drop(c->leases, *image);
    return code;
}

static void put_ranges(json_t *list, const struct rangeset *ranges) {
    for (size_t i = 0; i < ranges->count; i++)
        json_array_append_new(list, json_pack("[o,o]", fact_number(ranges->ranges[i].start),
                                              fact_number(ranges->ranges[i].end)));
}

/* Chunk by chunk from *next on, as many as fit into one answer. */
static int list_changes(struct image *im, const struct image_changes *changes, uint64_t *next,
                        json_t *list, struct error *err) {
    uint64_t count = image_chunk_count(im);
    struct range part;
    int code = 0;
    while (code == 0 && json_array_size(list) < CHANGES_AT_ONCE) {
        struct rangeset ranges;
        if (*next >= count || !rangeset_overlap(&changes->chunks, *next, count, &part)) {
            *next = count;
            return 0;
        }
        rangeset_init(&ranges, INDEX_CHUNK_BYTES / 512 + 1);
        code = image_changes_in_chunk(im, changes, part.start, &ranges, err);
        put_ranges(list, &ranges);
        rangeset_release(&ranges);
        *next = part.start + 1;
    }
    return code;
}

static int changes_of(struct image *im, const struct image *since, uint64_t *next, json_t *list,
                      struct error *err) {
    struct image_changes changes;
    int code = image_changes_find(im, since, &changes, err);
    if (code == 0)
        code = list_changes(im, &changes, next, list, err);
    image_changes_release(&changes);
    return code;
}

/*
 * Where `image` may differ from `since`, from chunk number `from` on: {"ranges": [[start, end],
 * ...], "next": the chunk to go on from, null when that was all}.
 */
int command_image_changes(struct control *c, const json_t *request, json_t **result,
                          struct buffer *data, struct error *err) {
    struct lease *image;
    struct lease *since;
    uint64_t next;
    (void)data;
    int code = argument_number(request, "from", 0, &next, err);
    if (code == 0)
        code = hold_both(c, request, &image, &since, err);
    if (code < 0)
        return code;
    json_t *list = json_array();
    code = changes_of(image->image, since->image, &next, list, err);
    bool more = next < image_chunk_count(image->image);
    leases_drop(c->leases, since);
    leases_drop(c->leases, image);
    if (code == 0)
        *result =
            json_pack("{s:O,s:o}", "ranges", list, "next", more ? fact_number(next) : json_null());
    json_decref(list);
    return code;
}

int command_image_range(struct control *c, const json_t *request, json_t **result,
                        struct buffer *data, struct error *err) {
    uint64_t image;
    uint64_t offset;
    uint64_t length;
    int code = argument_number(request, "image", 0, &image, err);
    if (code == 0)
        code = argument_number(request, "offset_bytes", 0, &offset, err);
    if (code == 0)
        code = argument_number(request, "length_bytes", 0, &length, err);
    if (code < 0)
        return code;
    if (data == NULL || !buffer_reserve(data, INDEX_CHUNK_BYTES))
        return error_set(err, ERR_NOMEM, "out of memory");
    code = control_range(c, image, offset, length, data->data + data->length, err);
    if (code < 0)
        return code;
    data->length += length;
    *result = json_pack("{s:o}", "bytes", fact_number(length));
    return 0;
}
