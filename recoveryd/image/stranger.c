#include "recoveryd/image/stranger.h"

#include <stdlib.h>
#include <string.h>

/* --- proof ---------------------------------------------------------------------------------------
 */

static bool has_designator(const struct volume *v) {
    for (size_t i = 0; i < v->path_count; i++) {
        if (v->paths[i].designator[0] != '\0')
            return true;
    }
    return false;
}

static bool share_target(const struct volume *a, const struct volume *b) {
    for (size_t i = 0; i < a->path_count; i++) {
        for (size_t k = 0; k < b->path_count; k++) {
            if (a->paths[i].protocol == b->paths[k].protocol &&
                strcmp(a->paths[i].target, b->paths[k].target) == 0)
                return true;
        }
    }
    return false;
}

static bool serials_differ(const struct volume *a, const struct volume *b) {
    bool known = false;
    for (size_t i = 0; i < a->path_count; i++) {
        for (size_t k = 0; k < b->path_count; k++) {
            const char *x = a->paths[i].serial;
            const char *y = b->paths[k].serial;
            if (x[0] == '\0' || y[0] == '\0')
                continue;
            if (strcmp(x, y) == 0)
                return false;
            known = true;
        }
    }
    return known;
}

static uint64_t size_of(const struct volume_size *size) {
    return size->size_bytes;
}

static uint64_t block_of(const struct volume_size *size) {
    return size->block_bytes;
}

/* All are known to be different: 0 is not known. */
static bool all_differ(const struct volume *a, const struct volume *b,
                       uint64_t (*of)(const struct volume_size *)) {
    bool known = false;
    for (size_t i = 0; i < a->size_count; i++) {
        for (size_t k = 0; k < b->size_count; k++) {
            uint64_t x = of(&a->sizes[i]);
            uint64_t y = of(&b->sizes[k]);
            if (x == 0 || y == 0)
                continue;
            if (x == y)
                return false;
            known = true;
        }
    }
    return known;
}

/* At least one of them is provisional. */
static bool may_be_one(const struct volume *a, const struct volume *b) {
    if (all_differ(a, b, size_of) || all_differ(a, b, block_of))
        return false;
    if (has_designator(a) && has_designator(b))
        return false;
    return !share_target(a, b) && !serials_differ(a, b);
}

/* --- pairs ---------------------------------------------------------------------------------------
 */

/* The room is always a power of two, at least FIRST. */
static bool make_room(struct volume *v, size_t count) {
    enum { FIRST = 8 };
    size_t room = FIRST;
    while (room < v->stranger_count)
        room *= 2;
    if (v->strangers != NULL && count <= room)
        return true;
    while (room < count)
        room *= 2;
    const struct path_entry **grown = realloc(v->strangers, room * sizeof *grown);
    if (grown == NULL)
        return false;
    v->strangers = grown;
    return true;
}

static int add(struct volume *v, const struct volume *stranger, struct error *err) {
    if (v->stranger_count + stranger->path_count > STRANGER_PATHS)
        v->crowded = true;
    if (v->crowded)
        return 0;
    if (!make_room(v, v->stranger_count + stranger->path_count))
        return error_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < stranger->path_count; i++)
        v->strangers[v->stranger_count++] = &stranger->paths[i];
    return 0;
}

/* What each volume as a stranger lowers the watermark of others to, found when it is needed. */
struct bounds {
    struct index_reader *r;
    const struct stream_table *table;
    struct volume_list *list;
    struct bound {
        bool known;
        uint64_t bound_ns;
        uint64_t watermark_ns; /* that it will have */
    } * of;
};

static int read_bound(struct bounds *b, size_t i, struct error *err) {
    struct bound *bound = &b->of[i];
    const struct volume *v = &b->list->volumes[i];
    int code = 0;
    bound->bound_ns = bound->known ? bound->bound_ns : UINT64_MAX;
    for (size_t k = 0; code == 0 && !bound->known && k < v->path_count; k++) {
        struct stamp end;
        code = stranger_end(b->r, &v->paths[k], UINT64_MAX, &end, err);
        if (code == 0)
            code =
                volume_window_bound(b->r, b->table, v->paths[k].path, &end, &bound->bound_ns, err);
    }
    bound->known = code == 0;
    return code;
}

/* Volume i gets k as a stranger. */
static int meet(struct bounds *b, size_t i, size_t k, struct error *err) {
    int code = add(&b->list->volumes[i], &b->list->volumes[k], err);
    if (code == 0)
        code = read_bound(b, k, err);
    if (code == 0 && b->of[k].bound_ns < b->of[i].watermark_ns)
        b->of[i].watermark_ns = b->of[k].bound_ns;
    return code;
}

static int find_all(struct bounds *b, struct error *err) {
    struct volume *volumes = b->list->volumes;
    int code = 0;
    for (size_t i = 0; i < b->list->count; i++) {
        for (size_t k = 0; volumes[i].provisional && code == 0 && k < b->list->count; k++) {
            if (i == k || !may_be_one(&volumes[i], &volumes[k]))
                continue;
            code = meet(b, i, k, err);
            if (code == 0 && !volumes[k].provisional)
                code = meet(b, k, i, err);
        }
    }
    return code;
}

static bool has_provisional(const struct volume_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        if (list->volumes[i].provisional)
            return true;
    }
    return false;
}

int strangers_find(struct index_reader *r, const struct stream_table *table,
                   struct volume_list *list, struct error *err) {
    if (!has_provisional(list))
        return 0;
    struct bounds b = {
        .r = r, .table = table, .list = list, .of = calloc(list->count, sizeof *b.of)};
    if (b.of == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < list->count; i++)
        b.of[i].watermark_ns = list->volumes[i].watermark_ns;
    int code = find_all(&b, err);
    for (size_t i = 0; i < list->count; i++)
        list->volumes[i].watermark_ns = b.of[i].watermark_ns;
    free(b.of);
    return code;
}

/* --- the end of a session ------------------------------------------------------------------------
 */

static bool see_end(void *context, const struct floor *floor) {
    struct stamp *end = context;
    if (floor->kind == FLOOR_GAP && floor->reason == GAP_NAME_LOST)
        *end = floor->stamp;
    return end->time_ns == UINT64_MAX;
}

int stranger_end(struct index_reader *r, const struct path_entry *path, uint64_t until_ns,
                 struct stamp *end, struct error *err) {
    struct stamp newest;
    *end = (struct stamp){.time_ns = UINT64_MAX};
    if ((path->flags & PATH_PROVISIONAL) == 0)
        return 0;
    int code = index_each_floor(r, path->path, until_ns, see_end, end, err);
    if (code != 0 || end->time_ns == UINT64_MAX)
        return code;
    /* The same addresses and ports again, and again without a login. */
    code = index_newest_update(r, path->path, until_ns, &newest, err);
    if (code == 0 && newest.time_ns > end->time_ns)
        *end = (struct stamp){.time_ns = UINT64_MAX};
    return code == ERR_NOT_FOUND ? 0 : code;
}
