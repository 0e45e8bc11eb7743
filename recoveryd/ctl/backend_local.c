#include "recoveryd/ctl/backend.h"

#include "recoveryd/store/store.h"

struct local {
    struct backend backend; /* first: the functions get a pointer to it */
    struct store *store;
    struct control *control;
};

static int local_run(struct backend *b, const json_t *request, json_t **result, struct error *err) {
    struct local *local = (struct local *)b;
    return control_run(local->control, request, result, NULL, err);
}

static int local_chunk(struct backend *b, uint64_t image, uint64_t chunk, uint8_t *to,
                       size_t *bytes, bool *all_zero, struct error *err) {
    struct local *local = (struct local *)b;
    return control_chunk(local->control, image, chunk, to, bytes, all_zero, err);
}

static int local_range(struct backend *b, uint64_t image, uint64_t offset_bytes,
                       uint64_t length_bytes, uint8_t *to, struct error *err) {
    struct local *local = (struct local *)b;
    return control_range(local->control, image, offset_bytes, length_bytes, to, err);
}

static void local_destroy(struct backend *b) {
    struct local *local = (struct local *)b;
    control_destroy(local->control);
    store_close(local->store);
    free(local);
}

int backend_local(const char *dir, bool writes, struct backend **out, struct error *err) {
    struct local *local = calloc(1, sizeof *local);
    if (local == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    local->backend = (struct backend){
        .run = local_run, .chunk = local_chunk, .range = local_range, .destroy = local_destroy};
    int code = store_open(dir, writes ? STORE_WRITE : STORE_READ, &local->store, err);
    if (code == 0 && (local->control = control_create(local->store)) == NULL)
        code = error_set(err, ERR_NOMEM, "out of memory");
    if (code < 0) {
        local_destroy(&local->backend);
        return code;
    }
    *out = &local->backend;
    return 0;
}
