#include "recoveryd/index/index.h"

#include "recoveryd/index/index_upgrade.h"

#include <errno.h>
#include <sys/stat.h>

/* Names are for ever: another version may add tables. */
static const char *const table_names[TABLE_COUNT] = {
    [TABLE_META] = "meta",
    [TABLE_PIECES] = "pieces",
    [TABLE_FLOORS] = "floors",
    [TABLE_GAPS] = "gaps",
    [TABLE_EVENTS] = "events",
    [TABLE_PATHS] = "paths",
    [TABLE_STREAMS] = "streams",
    [TABLE_PATH_STREAMS] = "path_streams",
    [TABLE_TALLIES] = "tallies",
    [TABLE_SIZES] = "sizes",
    [TABLE_JOINS] = "joins",
    [TABLE_RESUMES] = "resumes",
    [TABLE_DERIVED] = "derived",
    [TABLE_DERIVED_DONE] = "derived_done",
    [TABLE_DERIVED_STUCK] = "derived_stuck",
    [TABLE_AUDITS] = "audits",
    [TABLE_AUDITED] = "audited",
    [TABLE_JOURNAL] = "journal",
    [TABLE_RUNS] = "runs",
    [TABLE_KEYFRAMES] = "keyframes",
    [TABLE_HISTORY] = "history",
    [TABLE_THINNED] = "thinned",
    [TABLE_THINNING] = "thinning",
    [TABLE_HELD] = "held",
    [TABLE_DEAD] = "dead",
    [TABLE_RETENTIONS] = "retentions",
};

static int write_meta(struct kv *kv, uint64_t store_id, struct error *err) {
    AUTO(kv_txn) t = NULL;
    AUTO_BUFFER value;
    buffer_init(&value, 64);
    value_encode_meta(&value, &(struct meta_entry){INDEX_VERSION, store_id});
    struct kv_key key = key_meta();
    int code = kv_write(kv, &t, err);
    if (code == 0)
        code = kv_put(t, TABLE_META, &key, value.data, value.length, err);
    return code == 0 ? kv_commit(take_pointer(&t), err) : code;
}

/* ERR_NOT_FOUND without a text: there is none yet. */
static int check_meta(struct kv *kv, const char *dir, uint64_t store_id, uint32_t *version,
                      struct error *err) {
    AUTO(kv_txn) t = NULL;
    struct kv_item item = {0};
    struct meta_entry meta;
    struct kv_key key = key_meta();
    int code = kv_read(kv, &t, err);
    if (code == 0)
        code = kv_get(t, TABLE_META, &key, &item.value, err);
    if (code == 0)
        code = value_decode_meta(item, &meta, err);
    if (code != 0)
        return code;
    if (meta.version > INDEX_VERSION)
        return error_set(
            err, ERR_VERSION,
            "%s: the index has version %u, this program knows versions up to %d: use a "
            "newer sanrewind",
            dir, meta.version, INDEX_VERSION);
    if (meta.store_id != store_id)
        return error_set(err, ERR_FORMAT,
                         "%s: the index belongs to another store: restore the one that came with "
                         "the segments",
                         dir);
    *version = meta.version;
    return 0;
}

static int refuse_old(const char *dir, uint32_t version, struct error *err) {
    return error_set(err, ERR_VERSION,
                     "%s: the index has version %u, this program works with %d: start recoveryd on "
                     "the store once, which upgrades it",
                     dir, version, INDEX_VERSION);
}

/* The version is looked at before any other table is touched. */
static int open_tables(struct kv *kv, const char *dir, enum index_mode mode, uint64_t store_id,
                       struct error *err) {
    uint32_t version = INDEX_VERSION;
    bool create = mode == INDEX_CREATE;
    int code = kv_open_tables(kv, TABLE_META, table_names, 1, create, err);
    if (code != 0)
        return code;
    code = check_meta(kv, dir, store_id, &version, err);
    if (code == ERR_NOT_FOUND)
        code = create ? write_meta(kv, store_id, err)
                      : error_set(err, ERR_FORMAT, "%s: the index has no format record", dir);
    if (code == 0 && version < INDEX_VERSION && mode == INDEX_USE)
        code = refuse_old(dir, version, err);
    if (code == 0)
        code = kv_open_tables(kv, TABLE_META + 1, table_names + 1, TABLE_COUNT_V1 - 1, create, err);
    if (code != 0)
        return code;
    bool missing = create || version < INDEX_VERSION;
    code = kv_open_tables(kv, TABLE_COUNT_V1, table_names + TABLE_COUNT_V1,
                          TABLE_COUNT - TABLE_COUNT_V1, missing, err);
    return code == 0 && version < INDEX_VERSION ? index_upgrade(kv, version, store_id, err) : code;
}

int index_open(const char *dir, enum index_mode mode, uint64_t store_id, struct index **out,
               struct error *err) {
    bool create = mode == INDEX_CREATE;
    if (create && mkdir(dir, 0750) != 0 && errno != EEXIST)
        return error_errno(err, errno, "cannot make the directory %s", dir);
    AUTO(kv) kv = NULL;
    int code = kv_open(dir, create, &kv, err);
    if (code == 0)
        code = open_tables(kv, dir, mode, store_id, err);
    if (code != 0)
        return code;
    struct index *i = calloc(1, sizeof *i);
    if (i == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    i->kv = take_pointer(&kv);
    i->unmerged_most = INDEX_UNMERGED_MOST;
    *out = i;
    return 0;
}

void index_close(struct index *i) {
    if (i == NULL)
        return;
    kv_close(i->kv);
    free(i);
}
