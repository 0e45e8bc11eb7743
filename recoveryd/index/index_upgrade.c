#include "recoveryd/index/index_upgrade.h"

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
    value_encode_meta(&value, &(struct meta_entry){INDEX_VERSION, store_id});
    if (code == 0)
        code = put(t, TABLE_META, &key, &value, err);
    return code == 0 ? kv_commit(take_pointer(&t), err) : code;
}
