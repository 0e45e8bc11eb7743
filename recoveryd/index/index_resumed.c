#include "recoveryd/index/index_resumed.h"

/* A RESUME counts when everything of the earlier stream below its mark is durable. */
static int counts(struct index_reader *r, const struct resume_entry *resume, bool *resumed,
                  struct error *err) {
    static _Thread_local struct stream_entry earlier;
    int code = index_get_stream(r, resume->monitor, resume->earlier, &earlier, err);
    *resumed = code == 0 && earlier.frontier >= resume->order;
    return index_ended(code);
}

int resumed_look_up(struct index_reader *r, uint64_t path, const struct stamp *stamp, bool *resumed,
                    struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    struct resume_entry entry = {.path = path, .monitor = stamp->monitor, .stream = stamp->stream};
    struct kv_key from = key_resume(&entry);
    *resumed = false;
    int code = kv_cursor_open(r->txn, TABLE_RESUMES, &c, err);
    if (code == 0)
        code = kv_seek_up(c, &from, &item, err);
    for (; code == 0 && !*resumed; code = kv_next(c, &item, err)) {
        code = value_decode_resume(item, &entry, err);
        if (code != 0 || entry.path != path || entry.monitor != stamp->monitor ||
            entry.stream != stamp->stream)
            return code;
        code = counts(r, &entry, resumed, err);
        if (code != 0)
            return code;
    }
    return index_ended(code);
}
