#include "recoveryd/index/index_internal.h"

#include <string.h>

/* Puts that are joined with what is there, so that the order in which they come does not matter. */

static bool says_otherwise(const char *fresh, const char *before) {
    return fresh[0] != '\0' && strcmp(fresh, before) != 0;
}

/* Which volume the path belongs to, or which volumes it may be, may be otherwise than before. */
static bool joins_otherwise(const struct path_entry *fresh, const struct path_entry *before) {
    return says_otherwise(fresh->designator, before->designator) ||
           says_otherwise(fresh->serial, before->serial) ||
           (fresh->size_bytes > 0 && fresh->size_bytes != before->size_bytes) ||
           (fresh->block_bytes > 0 && fresh->block_bytes != before->block_bytes);
}

/* A path is put together from all that was ever said of it. */
int put_merged_path(struct index_writer *w, const struct put *put, struct error *err) {
    struct kv_item fresh = put_item(w, put);
    struct kv_item stored = fresh;
    struct path_entry path;
    struct path_entry before;
    int code = value_decode_path(fresh, &path, err);
    if (code != 0)
        return code;
    code = kv_get(w->txn, TABLE_PATHS, &put->key, &stored.value, err);
    if (code == 0)
        code = value_decode_path(stored, &before, err);
    if (code != 0 && code != ERR_NOT_FOUND)
        return code;
    if (code == ERR_NOT_FOUND || joins_otherwise(&path, &before))
        upset_add(&w->upset, true, 0);
    if (code == 0)
        path_entry_merge(&path, &before);
    AUTO_BUFFER value;
    buffer_init(&value, 4096);
    value_encode_path(&value, &path);
    if (value.failed)
        return error_set(err, ERR_NOMEM, "out of memory");
    return kv_put(w->txn, TABLE_PATHS, &put->key, value.data, value.length, err);
}

int put_merged_size(struct index_writer *w, const struct put *put, struct error *err) {
    struct kv_item stored = put_item(w, put);
    struct size_entry size;
    struct size_entry before;
    int code = value_decode_size(stored, &size, err);
    if (code == 0)
        code = kv_get(w->txn, TABLE_SIZES, &put->key, &stored.value, err);
    if (code == 0)
        code = value_decode_size(stored, &before, err);
    if (code != 0 && code != ERR_NOT_FOUND)
        return code;
    if (code == 0)
        size_entry_merge(&size, &before);
    AUTO_BUFFER value;
    buffer_init(&value, 64);
    value_encode_size(&value, &size);
    return kv_put(w->txn, TABLE_SIZES, &put->key, value.data, value.length, err);
}

int put_merged_audited(struct index_writer *w, const struct put *put, struct error *err) {
    struct kv_item stored = put_item(w, put);
    struct audited_entry audited;
    struct audited_entry before;
    int code = value_decode_audited(stored, &audited, err);
    if (code == 0)
        code = kv_get(w->txn, TABLE_AUDITED, &put->key, &stored.value, err);
    if (code == 0)
        code = value_decode_audited(stored, &before, err);
    if (code != 0 && code != ERR_NOT_FOUND)
        return code;
    if (code == 0)
        audited_entry_merge(&audited, &before);
    AUTO_BUFFER value;
    buffer_init(&value, 256);
    value_encode_audited(&value, &audited);
    return kv_put(w->txn, TABLE_AUDITED, &put->key, value.data, value.length, err);
}
