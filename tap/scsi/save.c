#include "tap/save.h"
#include "tap/scsi/internal.h"

enum { PATHS_AT_ONCE = 65536 };

static void save_path(const struct path *path, struct buffer *b) {
    const struct sink_path *p = &path->sink;
    bool guessed = path->block_guessed;
    buffer_put_le64(b, p->lun);
    buffer_put_u8(b, (uint8_t)path->kind);
    buffer_put_u8(b, path->announced);
    buffer_put_u8(b, path->ignores_same);
    buffer_put_u8(b, p->flags_known);
    buffer_put_u8(b, (uint8_t)path->unmapped_by_page);
    buffer_put_u8(b, guessed);
    buffer_put_le16(b, p->flags);
    buffer_put_le32(b, p->block_bytes);
    buffer_put_le64(b, p->size_bytes);
    save_text(b, p->designator);
    save_text(b, p->serial);
}

void tracker_save(const struct tracker *t, struct buffer *b) {
    size_t count_at = b->length;
    uint32_t count = 0;
    buffer_put_le32(b, 0);
    for (const struct target *target = t->targets; target != NULL; target = target->hh.next) {
        if (target->provisional || target->paths == NULL)
            continue;
        buffer_put_u8(b, target->protocol);
        save_text(b, target->name);
        buffer_put_le32(b, HASH_COUNT(target->paths));
        for (const struct path *path = target->paths; path != NULL; path = path->hh.next)
            save_path(path, b);
        count++;
    }
    buffer_patch_le(b, count_at, count, 4);
}

static bool load_path(struct tracker *t, struct target *target, struct cursor *c, uint64_t now_ns) {
    struct identity_unit unit = {.lun = cursor_le64(c), .is_disk = true};
    uint8_t kind = cursor_u8(c);
    bool announced = cursor_u8(c) != 0;
    bool ignores_same = cursor_u8(c) != 0;
    unit.flags_known = cursor_u8(c) != 0;
    uint8_t unmapped = cursor_u8(c);
    bool guessed = cursor_u8(c) != 0;
    unit.flags = cursor_le16(c);
    unit.block_bytes = cursor_le32(c);
    unit.size_bytes = cursor_le64(c);
    load_text(c, unit.designator, sizeof unit.designator);
    load_text(c, unit.serial, sizeof unit.serial);
    if (!cursor_ok(c) || kind > PATH_KIND_OTHER || unmapped > UNMAPPED_PATTERN)
        return false;
    struct path *path = path_at(t, target, unit.lun);
    if (path == NULL)
        return false;
    path_take_facts(t, path, &unit, now_ns);
    path->kind = (enum path_kind)kind;
    path->ignores_same = ignores_same;
    path->unmapped_by_page = (enum unmapped_content)unmapped;
    path->block_guessed = guessed;
    if (announced)
        path_announce(t, path, now_ns);
    return true;
}

static bool load_target(struct tracker *t, struct cursor *c, uint64_t now_ns) {
    char name[256];
    uint8_t protocol = cursor_u8(c);
    if (!load_text(c, name, sizeof name))
        return false;
    struct target *target = target_of(t, protocol, name);
    uint32_t paths = cursor_le32(c);
    bool good = target != NULL && paths <= PATHS_AT_ONCE;
    for (; good && paths > 0; paths--)
        good = load_path(t, target, c, now_ns);
    return good;
}

bool tracker_load(struct tracker *t, struct cursor *c, uint64_t now_ns) {
    for (uint32_t count = cursor_le32(c); count > 0; count--) {
        if (!load_target(t, c, now_ns))
            return false;
    }
    return cursor_ok(c);
}

/* The pieces of its data that have come. */
static void save_data(const struct exchange *x, struct buffer *b) {
    uint64_t length = x->payload != NULL ? payload_length(x->payload) : 0;
    uint64_t at = 0;
    while (at < length) {
        struct range hole = {length, length};
        if (payload_missing(x->payload, at, length, &hole) && hole.start == at) {
            at = hole.end;
            continue;
        }
        size_t part = 0;
        const uint8_t *bytes = payload_bytes(x->payload, at, (size_t)(hole.start - at), &part);
        if (bytes == NULL || part == 0)
            break;
        buffer_put_le64(b, at + x->skip_bytes);
        buffer_put_le32(b, (uint32_t)part);
        buffer_put(b, bytes, part);
        at += part;
    }
    buffer_put_le64(b, UINT64_MAX);
}

void tracker_exchange_save(const struct exchange *x, bool whole, struct buffer *b) {
    buffer_put_le64(b, x->path->sink.lun);
    buffer_put_le16(b, x->cdb_bytes);
    buffer_put(b, x->cdb, x->cdb_bytes);
    buffer_put_le32(b, x->data_out_bytes);
    buffer_put_le32(b, x->data_in_bytes);
    buffer_put_u8(b, x->attribute);
    buffer_put_le64(b, x->issued_ns);
    /* Who was in flight with it is not saved, nor are answers: it is then not believed. */
    bool doubtful = !whole || x->rivals != NULL || x->data_dropped || x->revoked || x->came_late ||
                    x->answer_bytes > 0;
    buffer_put_u8(b, doubtful);
    buffer_put_le64(b, x->moved_start);
    buffer_put_le64(b, x->moved_end);
    if (whole)
        save_data(x, b);
    else
        buffer_put_le64(b, UINT64_MAX);
}

static bool load_data(struct exchange *x, struct cursor *c) {
    for (;;) {
        uint64_t offset = cursor_le64(c);
        if (offset == UINT64_MAX || !cursor_ok(c))
            return cursor_ok(c);
        size_t bytes = cursor_le32(c);
        const uint8_t *data = cursor_bytes(c, bytes);
        if (data == NULL)
            return false;
        if (x != NULL)
            tracker_data_out(x, offset, data, bytes);
    }
}

bool tracker_exchange_load(struct nexus *n, struct cursor *c, struct exchange **holder) {
    struct tracker_command command = {.holder = holder};
    command.lun = cursor_le64(c);
    command.cdb_bytes = cursor_le16(c);
    command.cdb = cursor_bytes(c, command.cdb_bytes);
    command.data_out_bytes = cursor_le32(c);
    command.data_in_bytes = cursor_le32(c);
    command.attribute = cursor_u8(c);
    command.time_ns = cursor_le64(c);
    bool doubtful = cursor_u8(c) != 0;
    uint64_t moved_start = cursor_le64(c);
    uint64_t moved_end = cursor_le64(c);
    if (!cursor_ok(c) || command.cdb_bytes > SAVED_CDB_BYTES)
        return false;
    struct exchange *x = command.cdb_bytes > 0 ? tracker_command(n, &command) : NULL;
    if (!load_data(x, c))
        return false;
    if (x == NULL)
        return true;
    if (moved_end > moved_start)
        exchange_mark_moved(x, moved_start, moved_end - moved_start);
    x->data_dropped = x->data_dropped || doubtful;
    return true;
}
