#include "recoveryd/image/volume.h"

#include "proto/lun.h"
#include "recoveryd/image/volume_window.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void volume_path_name(const struct path_entry *path, char *text, size_t size) {
    char name[PATH_NAME_BYTES];
    snprintf(text, size, "%s", lun_path_name(path->target, path->lun, name));
}

struct path_array {
    struct path_entry *paths;
    size_t count;
    size_t capacity;
    bool failed;
};

static bool take_path(void *context, const struct path_entry *path) {
    struct path_array *array = context;
    if (array->count == array->capacity) {
        size_t capacity = array->capacity > 0 ? array->capacity * 2 : 16;
        struct path_entry *paths = realloc(array->paths, capacity * sizeof *paths);
        array->failed = paths == NULL;
        if (array->failed)
            return false;
        array->paths = paths;
        array->capacity = capacity;
    }
    array->paths[array->count++] = *path;
    return true;
}

/* The first seen comes first; numbers decide between equals, so that the order is always the same.
 */
static int compare_age(const struct path_entry *a, const struct path_entry *b) {
    if (a->first_ns != b->first_ns)
        return a->first_ns < b->first_ns ? -1 : 1;
    return a->path < b->path ? -1 : a->path > b->path;
}

/* Paths of one volume next to each other; those without a designator alone. */
static int compare_paths(const void *left, const void *right) {
    const struct path_entry *a = left;
    const struct path_entry *b = right;
    int order = strcmp(a->designator, b->designator);
    return order != 0 ? order : compare_age(a, b);
}

static bool same_volume(const struct path_entry *a, const struct path_entry *b) {
    return a->designator[0] != '\0' && strcmp(a->designator, b->designator) == 0;
}

static void join_facts(struct volume *v) {
    const struct path_entry *sized = NULL;
    const struct path_entry *blocked = NULL;
    for (size_t i = 0; i < v->path_count; i++) {
        const struct path_entry *p = &v->paths[i];
        if (p->size_bytes > 0 && (sized == NULL || p->size_ns > sized->size_ns))
            sized = p;
        if (p->block_bytes > 0 && (blocked == NULL || p->block_ns > blocked->block_ns))
            blocked = p;
    }
    v->size_bytes = sized != NULL ? sized->size_bytes : 0;
    v->block_bytes = blocked != NULL ? blocked->block_bytes : 0;
}

static int fill(struct volume *v, const struct path_entry *paths, size_t count, struct error *err) {
    char name[PATH_NAME_BYTES];
    char id[LIMIT_NAME_BYTES + 1];
    volume_path_name(&paths[0], name, sizeof name);
    if (paths[0].designator[0] != '\0')
        snprintf(id, sizeof id, "%s", paths[0].designator);
    else
        snprintf(id, sizeof id, "path-%016" PRIx64, paths[0].path);
    v->name = strdup(name);
    v->id = strdup(id);
    v->paths = calloc(count, sizeof *v->paths);
    if (v->name == NULL || v->id == NULL || v->paths == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    memcpy(v->paths, paths, count * sizeof *paths);
    v->path_count = count;
    join_facts(v);
    return 0;
}

static int compare_volumes(const void *left, const void *right) {
    const struct volume *a = left;
    const struct volume *b = right;
    int order = strcmp(a->name, b->name);
    return order != 0 ? order : strcmp(a->id, b->id);
}

static int build(struct index_reader *r, const struct path_array *array, struct volume_list *list,
                 struct error *err) {
    struct stream_table table;
    int code = stream_table_read(r, &table, err);
    for (size_t i = 0; code == 0 && i < array->count;) {
        size_t end = i + 1;
        while (end < array->count && same_volume(&array->paths[i], &array->paths[end]))
            end++;
        struct volume *v = &list->volumes[list->count++];
        code = fill(v, &array->paths[i], end - i, err);
        if (code == 0)
            code = volume_window_read(r, &table, v, err);
        i = end;
    }
    stream_table_release(&table);
    return code;
}

int volume_list_read(struct index_reader *r, struct volume_list *list, struct error *err) {
    struct path_array array = {0};
    *list = (struct volume_list){0};
    int code = index_each_path(r, take_path, &array, err);
    if (code == 0 && array.count > 0) {
        qsort(array.paths, array.count, sizeof *array.paths, compare_paths);
        list->volumes = calloc(array.count, sizeof *list->volumes);
    }
    if (code == 0 && (array.failed || (array.count > 0 && list->volumes == NULL)))
        code = error_set(err, ERR_NOMEM, "out of memory");
    if (code == 0)
        code = build(r, &array, list, err);
    free(array.paths);
    if (code != 0)
        volume_list_release(list);
    else if (list->count > 1)
        qsort(list->volumes, list->count, sizeof *list->volumes, compare_volumes);
    return code;
}

void volume_list_release(struct volume_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        free(list->volumes[i].name);
        free(list->volumes[i].id);
        free(list->volumes[i].paths);
    }
    free(list->volumes);
    *list = (struct volume_list){0};
}

static bool text_matches(const char *text, const char *name, bool whole) {
    return whole ? strcmp(text, name) == 0 : strstr(text, name) != NULL;
}

static bool volume_matches(const struct volume *v, const char *name, bool whole) {
    if (text_matches(v->name, name, whole) || text_matches(v->id, name, whole))
        return true;
    for (size_t i = 0; i < v->path_count; i++) {
        char path[PATH_NAME_BYTES];
        volume_path_name(&v->paths[i], path, sizeof path);
        if (text_matches(path, name, whole))
            return true;
    }
    return false;
}

/* The only one that matches; *count says how many do. */
static const struct volume *only_match(const struct volume_list *list, const char *name, bool whole,
                                       size_t *count) {
    const struct volume *found = NULL;
    *count = 0;
    for (size_t i = 0; i < list->count; i++) {
        if (!volume_matches(&list->volumes[i], name, whole))
            continue;
        found = &list->volumes[i];
        (*count)++;
    }
    return found;
}

/* "a, b, c" of all volumes, or of those that match a part; cut with "..." where there is no room.
 */
static void list_names(const struct volume_list *list, const char *part, char *text, size_t size) {
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < list->count; i++) {
        const struct volume *v = &list->volumes[i];
        if (part != NULL && !volume_matches(v, part, false))
            continue;
        size_t need = strlen(v->name) + 2;
        if (used + need + 5 >= size) {
            snprintf(text + used, size - used, "%s...", used > 0 ? ", " : "");
            return;
        }
        used += (size_t)snprintf(text + used, size - used, "%s%s", used > 0 ? ", " : "", v->name);
    }
}

int volume_find(const struct volume_list *list, const char *name, const struct volume **out,
                struct error *err) {
    size_t count = 0;
    char names[320];
    *out = only_match(list, name, true, &count);
    if (count != 1 && name[0] != '\0')
        *out = only_match(list, name, false, &count);
    if (count == 1)
        return 0;
    list_names(list, count > 1 ? name : NULL, names, sizeof names);
    if (count > 1)
        return error_set(err, ERR_USAGE, "\"%.64s\" is not one volume: it is part of %s", name,
                         names);
    if (list->count == 0)
        return error_set(err, ERR_NOT_FOUND, "there is no volume \"%.64s\": the store has none yet",
                         name);
    return error_set(err, ERR_NOT_FOUND, "there is no volume \"%.64s\": there is %s", name, names);
}
