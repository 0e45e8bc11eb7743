#include "recoveryd/index/index_upgrade.h"

#include "recoveryd/index/counter.h"
#include "recoveryd/index/index_internal.h"

#include <stdlib.h>

static int put(struct kv_txn *t, enum index_table table, const struct kv_key *key,
               const struct buffer *value, struct error *err) {
    if (value->failed)
        return error_set(err, ERR_NOMEM, "out of memory");
    return kv_put(t, table, key, value->data, value->length, err);
}

/* Version 1 knew the newest size only: it becomes the whole history. */
static int upgrade_path(struct kv_txn *t, struct kv_item item, struct kv_key *at,
                        struct error *err) {
    struct path_entry path;
    AUTO_BUFFER value;
    buffer_init(&value, 64);
    int code = value_decode_path(item, &path, err);
    if (code != 0)
        return code;
    *at = key_path(path.path);
    struct size_entry size = {.size_bytes = path.size_bytes};
    struct kv_key key = key_size(path.path, path.size_ns);
    if (path.block_ns == path.size_ns)
        size.block_bytes = path.block_bytes;
    value_encode_size(&value, &size);
    if (size.size_bytes > 0 || size.block_bytes > 0)
        code = put(t, TABLE_SIZES, &key, &value, err);
    if (code != 0 || path.block_bytes == 0 || path.block_ns == path.size_ns)
        return code;
    buffer_clear(&value);
    key = key_size(path.path, path.block_ns);
    value_encode_size(&value, &(struct size_entry){.block_bytes = path.block_bytes});
    return put(t, TABLE_SIZES, &key, &value, err);
}

/* Two numbers more, both unknown. */
static int upgrade_stream(struct kv_txn *t, struct kv_item item, struct kv_key *at,
                          struct error *err) {
    AUTO_FREE struct stream_entry *stream = malloc(sizeof *stream);
    AUTO_BUFFER value;
    buffer_init(&value, 65536);
    if (stream == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    int code = value_decode_stream_v1(item, stream, err);
    if (code != 0)
        return code;
    struct kv_key key = key_stream(stream->monitor, stream->stream);
    *at = key;
    value_encode_stream(&value, stream);
    return put(t, TABLE_STREAMS, &key, &value, err);
}

/* Every item once: `each` may put, and says which key it was. */
static int upgrade_table(struct kv_txn *t, enum index_table table,
                         int (*each)(struct kv_txn *, struct kv_item, struct kv_key *,
                                     struct error *),
                         struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    struct kv_key next = {.length = 0};
    kv_key_add(&next, 0, 1);
    int code = kv_cursor_open(t, table, &c, err);
    if (code == 0)
        code = kv_seek_up(c, &next, &item, err);
    while (code == 0) {
        code = each(t, item, &next, err);
        if (code != 0)
            return code;
        kv_key_add(&next, 0, 1); /* behind it */
        code = kv_seek_up(c, &next, &item, err);
    }
    return index_ended(code);
}

/* A block of history, whose key begins with the path: what its writes hold is counted. */
static int add_held(struct kv_txn *t, struct kv_item item, uint64_t *path, uint64_t *held_bytes,
                    struct error *err) {
    AUTO_CHANGES block = {0};
    uint64_t found = cursor_be64(&item.key);
    struct stamp first = key_take_stamp(&item.key);
    struct kv_key key = key_path(*path);
    int code = found != *path ? counter_add(t, TABLE_HELD, &key, *held_bytes, err) : 0;
    if (code == 0)
        code = changes_unpack(&block, change_state_at(&first), item.value, err);
    *held_bytes = found != *path ? 0 : *held_bytes;
    *path = found;
    for (size_t i = 0; code == 0 && i < block.count; i++)
        *held_bytes += block.list[i].op == UPDATE_WRITE ? block.list[i].length_bytes : 0;
    return code;
}

/* Version 3 did not count what it held. */
static int count_held(struct kv_txn *t, struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    uint64_t path = 0;
    uint64_t held_bytes = 0;
    struct kv_key first = key_path(0);
    int code = kv_cursor_open(t, TABLE_HISTORY, &c, err);
    if (code == 0)
        code = kv_seek_up(c, &first, &item, err);
    while (code == 0) {
        code = add_held(t, item, &path, &held_bytes, err);
        if (code == 0)
            code = kv_next(c, &item, err);
    }
    struct kv_key key = key_path(path);
    code = index_ended(code);
    return code == 0 ? counter_add(t, TABLE_HELD, &key, held_bytes, err) : code;
}

/* Version 3 keeps new updates elsewhere, and reads those of version 2 where they are. */
int index_upgrade(struct kv *kv, uint32_t version, uint64_t store_id, struct error *err) {
    AUTO(kv_txn) t = NULL;
    AUTO_BUFFER value;
    struct kv_key key = key_meta();
    buffer_init(&value, 64);
    int code = kv_write(kv, &t, err);
    if (code == 0 && version < 2)
        code = upgrade_table(t, TABLE_PATHS, upgrade_path, err);
    if (code == 0 && version < 2)
        code = upgrade_table(t, TABLE_STREAMS, upgrade_stream, err);
    if (code == 0)
        code = count_held(t, err);
    value_encode_meta(&value, &(struct meta_entry){INDEX_VERSION, store_id});
    if (code == 0)
        code = put(t, TABLE_META, &key, &value, err);
    return code == 0 ? kv_commit(take_pointer(&t), err) : code;
}
