#include "recoveryd/control/commands.h"

#include <stdatomic.h>
#include <string.h>

#define TIDY_NS (5 * NS_PER_SECOND)

struct command {
    const char *name;
    command_function *run;
};

static const struct command commands[] = {
    {"status", command_status},
    {"monitors", command_monitors},
    {"volumes", command_volumes},
    {"window", command_window},
    {"timeline", command_timeline},
    {"resolve", command_resolve},
    {"image.open", command_image_open},
    {"image.chunk", command_image_chunk},
    {"image.gaps", command_image_gaps},
    {"image.close", command_image_close},
    {"image.changes", command_image_changes},
    {"image.range", command_image_range},
    {"baseline", command_baseline},
    {"retention", command_retention},
};

struct control *control_create(struct store *store) {
    AUTO(control) c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    c->store = store;
    c->leases = leases_create(store);
    c->exactness = exactness_create(store);
    return c->leases != NULL && c->exactness != NULL ? take_pointer(&c) : NULL;
}

void control_destroy(struct control *c) {
    if (c == NULL)
        return;
    leases_destroy(c->leases);
    exactness_destroy(c->exactness);
    free(c);
}

void control_set_view_limit(struct control *c, uint64_t limit_ns) {
    leases_set_limit(c->leases, limit_ns);
}

void control_tidy(struct control *c) {
    uint64_t now = clock_mono().ns;
    uint64_t last = atomic_load(&c->tidied_ns);
    if (now - last < TIDY_NS || !atomic_compare_exchange_strong(&c->tidied_ns, &last, now))
        return;
    struct index_health health;
    leases_tidy(c->leases);
    index_health(c->store->index, &health, NULL);
}

int control_run(struct control *c, const json_t *request, json_t **result, struct buffer *data,
                struct error *err) {
    const char *name;
    int code = argument_string(request, "command", &name, err);
    if (code < 0)
        return code;
    *result = NULL;
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(commands[i].name, name) != 0)
            continue;
        code = commands[i].run(c, request, result, data, err);
        if (code == 0 && *result == NULL)
            code = error_set(err, ERR_NOMEM, "out of memory");
        return code;
    }
    return error_set(err, ERR_VERSION,
                     "the server does not know the request '%.64s': is it of the same version?",
                     name);
}

int control_chunk(struct control *c, uint64_t image, uint64_t chunk, uint8_t *to, size_t *bytes,
                  bool *all_zero, struct error *err) {
    struct lease *lease;
    int code = leases_hold(c->leases, image, &lease, err);
    if (code < 0)
        return code;
    code = image_chunk_read(lease->image, chunk, to, bytes, all_zero, err);
    leases_drop(c->leases, lease);
    return code;
}

static int read_range(struct image *im, uint64_t offset, uint64_t length, uint8_t *to,
                      struct error *err) {
    AUTO_FREE struct image_run *runs = NULL;
    size_t count = 0;
    uint64_t size = image_info(im)->size_bytes;
    if (length == 0 || offset >= size || length > size - offset ||
        offset / INDEX_CHUNK_BYTES != (offset + length - 1) / INDEX_CHUNK_BYTES)
        return error_set(err, ERR_USAGE, "malformed request: not a range inside of one chunk");
    int code = image_range_map(im, offset, length, &runs, &count, err);
    return code == 0 ? image_runs_read(im, runs, count, offset, to, err) : code;
}

int control_range(struct control *c, uint64_t image, uint64_t offset_bytes, uint64_t length_bytes,
                  uint8_t *to, struct error *err) {
    struct lease *lease;
    int code = leases_hold(c->leases, image, &lease, err);
    if (code < 0)
        return code;
    code = read_range(lease->image, offset_bytes, length_bytes, to, err);
    leases_drop(c->leases, lease);
    return code;
}

/* --- fields of a request -------------------------------------------------------------------------
 */

int argument_string(const json_t *request, const char *name, const char **value,
                    struct error *err) {
    *value = argument_optional(request, name);
    if (*value == NULL)
        return error_set(err, ERR_USAGE, "malformed request: no '%s'", name);
    return 0;
}

const char *argument_optional(const json_t *request, const char *name) {
    return json_string_value(json_object_get(request, name));
}

int argument_number(const json_t *request, const char *name, uint64_t missing, uint64_t *value,
                    struct error *err) {
    const json_t *field = json_object_get(request, name);
    *value = missing;
    if (field == NULL)
        return 0;
    if (!json_is_integer(field) || json_integer_value(field) < 0)
        return error_set(err, ERR_USAGE, "malformed request: '%s' is not a number", name);
    *value = (uint64_t)json_integer_value(field);
    return 0;
}

bool argument_flag(const json_t *request, const char *name) {
    return json_is_true(json_object_get(request, name));
}

/* --- one moment of the store ---------------------------------------------------------------------
 */

int snapshot_open(struct snapshot *s, struct store *store, struct error *err) {
    *s = (struct snapshot){0};
    int code = index_read(store->index, &s->reader, err);
    if (code < 0)
        return code;
    return volume_list_read(s->reader, &s->volumes, err);
}

void snapshot_release(struct snapshot *s) {
    volume_list_release(&s->volumes);
    index_reader_close(s->reader);
    *s = (struct snapshot){0};
}

int snapshot_volume(const struct snapshot *s, const json_t *request, const struct volume **volume,
                    struct error *err) {
    const char *name;
    int code = argument_string(request, "volume", &name, err);
    if (code < 0)
        return code;
    return volume_find(&s->volumes, name, volume, err);
}
