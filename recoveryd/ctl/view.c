#include "recoveryd/ctl/view.h"

#include "recoveryd/ctl/ctl.h"

int view_resolve(struct backend *b, const json_t *volumes, const char *at, bool latest_safe,
                 json_t **resolved, struct error *err) {
    AUTO_JSON request = json_pack("{s:s,s:O,s:s,s:b}", "command", "resolve", "volumes", volumes,
                                  "at", at, "latest_safe", latest_safe);
    if (request == NULL)
        return error_set(err, ERR_USAGE, "a name that is not UTF-8");
    return b->run(b, request, resolved, err);
}

int view_open(struct view *v, struct backend *b, const char *volume, uint64_t time_ns,
              uint64_t size_bytes, struct error *err) {
    *v = (struct view){.backend = b};
    AUTO_JSON request =
        json_pack("{s:s,s:s,s:I,s:I}", "command", "image.open", "volume", volume, "time_ns",
                  (json_int_t)time_ns, "size_bytes", (json_int_t)size_bytes);
    if (request == NULL)
        return error_set(err, ERR_USAGE, "a name that is not UTF-8");
    int code = b->run(b, request, &v->facts, err);
    if (code == 0)
        v->image = ctl_number(v->facts, "image");
    return code;
}

void view_close(struct view *v) {
    if (v->image != 0) {
        AUTO_JSON result = NULL;
        AUTO_JSON request =
            json_pack("{s:s,s:I}", "command", "image.close", "image", (json_int_t)v->image);
        v->backend->run(v->backend, request, &result, NULL);
    }
    json_decref(v->facts);
    *v = (struct view){0};
}

int view_gaps(struct view *v, json_t **gaps, struct error *err) {
    AUTO_JSON all = json_array();
    uint64_t total = view_gap_count(v);
    while (json_array_size(all) < total) {
        AUTO_JSON result = NULL;
        AUTO_JSON request =
            json_pack("{s:s,s:I,s:I}", "command", "image.gaps", "image", (json_int_t)v->image,
                      "from", (json_int_t)json_array_size(all));
        int code = v->backend->run(v->backend, request, &result, err);
        if (code < 0)
            return code;
        json_t *some = json_object_get(result, "gaps");
        if (json_array_size(some) == 0 || json_array_extend(all, some) != 0)
            return error_set(err, ERR_NET, "the server's answer cannot be understood");
    }
    *gaps = json_incref(all);
    return 0;
}

bool view_is_exact(const struct view *v) {
    return json_is_true(json_object_get(v->facts, "exact"));
}

uint64_t view_gap_count(const struct view *v) {
    return ctl_number(v->facts, "gaps");
}
