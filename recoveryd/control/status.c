/* What there is: the store, its monitors, its volumes, and the times of one. */
#include "recoveryd/control/commands.h"

#include "common/clock.h"
#include "recoveryd/image/image.h"

int command_status(struct control *c, const json_t *request, json_t **result, struct buffer *data,
                   struct error *err) {
    AUTO_SNAPSHOT s = {0};
    AUTO_JSON monitors = NULL;
    AUTO_JSON volumes = NULL;
    (void)request;
    (void)data;
    int code = snapshot_open(&s, c->store, err);
    if (code == 0)
        code = fact_monitors(&s, &monitors, err);
    if (code == 0)
        code = fact_volumes(c->store, &s, &volumes, err);
    if (code < 0)
        return code;
    *result = json_pack("{s:o,s:o,s:O,s:O}", "store", fact_text(c->store->dir), "stored_bytes",
                        fact_number(segments_total_bytes(c->store->segments)), "monitors", monitors,
                        "volumes", volumes);
    fact_put_time(*result, "now", clock_wall_ns());
    return 0;
}

int command_monitors(struct control *c, const json_t *request, json_t **result, struct buffer *data,
                     struct error *err) {
    AUTO_SNAPSHOT s = {0};
    (void)request;
    (void)data;
    int code = snapshot_open(&s, c->store, err);
    return code < 0 ? code : fact_monitors(&s, result, err);
}

int command_volumes(struct control *c, const json_t *request, json_t **result, struct buffer *data,
                    struct error *err) {
    AUTO_SNAPSHOT s = {0};
    (void)request;
    (void)data;
    int code = snapshot_open(&s, c->store, err);
    return code < 0 ? code : fact_volumes(c->store, &s, result, err);
}

/* Whether the image at the end of the window is exact. */
static bool is_exact(struct store *store, const struct volume *v) {
    AUTO(image) image = NULL;
    AUTO_FREE struct image_gap *gaps = NULL;
    size_t count = 0;
    return image_open(store, v, v->watermark_ns, &image, NULL) == 0 &&
           image_gaps(image, &gaps, &count, NULL) == 0 && count == 0;
}

/* An array: empty while nothing can be restored. */
int command_window(struct control *c, const json_t *request, json_t **result, struct buffer *data,
                   struct error *err) {
    AUTO_SNAPSHOT s = {0};
    const struct volume *v = NULL;
    (void)data;
    int code = snapshot_open(&s, c->store, err);
    if (code == 0)
        code = snapshot_volume(&s, request, &v, err);
    if (code < 0)
        return code;
    *result = json_array();
    if (v->first_ns == 0 || v->watermark_ns == 0 || v->first_ns > v->watermark_ns)
        return 0;
    json_t *window = json_object();
    fact_put_time(window, "from", v->first_ns);
    fact_put_time(window, "to", v->watermark_ns);
    json_object_set_new(window, "exact", json_boolean(is_exact(c->store, v)));
    json_array_append_new(*result, window);
    return 0;
}
