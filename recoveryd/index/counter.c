#include "recoveryd/index/counter.h"

#include "recoveryd/index/index_internal.h"

int counter_get(struct kv_txn *t, unsigned table, const struct kv_key *key, uint64_t *number,
                struct error *err) {
    struct cursor value;
    *number = 0;
    int code = kv_get(t, table, key, &value, err);
    if (code != 0)
        return index_ended(code);
    *number = cursor_le64(&value);
    return cursor_ok(&value) && cursor_left(&value) == 0
               ? 0
               : error_set(err, ERR_FORMAT, "the index is damaged: a counter cannot be read");
}

static int put(struct kv_txn *t, unsigned table, const struct kv_key *key, uint64_t number,
               struct error *err) {
    uint8_t value[8];
    for (unsigned i = 0; i < sizeof value; i++)
        value[i] = (uint8_t)(number >> (8 * i));
    return kv_put(t, table, key, value, sizeof value, err);
}

int counter_add(struct kv_txn *t, unsigned table, const struct kv_key *key, uint64_t number,
                struct error *err) {
    uint64_t before;
    if (number == 0)
        return 0;
    int code = counter_get(t, table, key, &before, err);
    uint64_t room = UINT64_MAX - before;
    return code == 0 ? put(t, table, key, before + (number < room ? number : room), err) : code;
}

int counter_take(struct kv_txn *t, unsigned table, const struct kv_key *key, uint64_t number,
                 struct error *err) {
    uint64_t before;
    if (number == 0)
        return 0;
    int code = counter_get(t, table, key, &before, err);
    return code == 0 ? put(t, table, key, before - (number < before ? number : before), err) : code;
}
