#include "recoveryd/image/volume.h"

#include "proto/lun.h"
#include "recoveryd/image/stranger.h"
#include "recoveryd/image/volume_join.h"
#include "recoveryd/image/volume_size.h"
#include "recoveryd/image/volume_window.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void volume_path_name(const struct path_entry *path, char *text, size_t size) {
    char name[PATH_NAME_BYTES];
    snprintf(text, size, "%s", lun_path_name(path->target, path->lun, name));
}

static void join_facts(struct volume *v) {
    const struct volume_size *last = v->size_count > 0 ? &v->sizes[v->size_count - 1] : NULL;
    v->size_bytes = last != NULL ? last->size_bytes : 0;
    v->block_bytes = last != NULL ? last->block_bytes : 0;
}

/* The name of the path that is the volume's, and the first designator that there is. */
static int name_volume(struct volume *v, struct error *err) {
    char name[PATH_NAME_BYTES];
    char id[LIMIT_NAME_BYTES + 1];
    volume_path_name(&v->paths[0], name, sizeof name);
    snprintf(id, sizeof id, "path-%016" PRIx64, v->paths[0].path);
    for (size_t i = v->path_count; i > 0; i--) {
        if (v->paths[i - 1].designator[0] != '\0')
            snprintf(id, sizeof id, "%s", v->paths[i - 1].designator);
    }
    v->provisional = (v->paths[0].flags & PATH_PROVISIONAL) != 0;
    v->name = strdup(name);
    v->id = strdup(id);
    return v->name != NULL && v->id != NULL ? 0 : error_set(err, ERR_NOMEM, "out of memory");
}

static int fill(struct index_reader *r, struct volume *v, const struct joined_path *paths,
                size_t count, struct error *err) {
    v->paths = calloc(count, sizeof *v->paths);
    if (v->paths == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < count; i++)
        v->paths[i] = paths[i].entry;
    v->path_count = count;
    int code = name_volume(v, err);
    if (code == 0)
        code = volume_sizes_read(r, v, err);
    join_facts(v);
    return code;
}

static int compare_volumes(const void *left, const void *right) {
    const struct volume *a = left;
    const struct volume *b = right;
    int order = strcmp(a->name, b->name);
    return order != 0 ? order : strcmp(a->id, b->id);
}

static int fill_all(struct index_reader *r, const struct stream_table *table,
                    const struct joined_paths *paths, struct volume_list *list, struct error *err) {
    int code = 0;
    for (size_t i = 0; code == 0 && i < paths->count;) {
        size_t end = i + 1;
        while (end < paths->count && paths->paths[end].volume == paths->paths[i].volume)
            end++;
        struct volume *v = &list->volumes[list->count++];
        code = fill(r, v, &paths->paths[i], end - i, err);
        if (code == 0)
            code = volume_window_read(r, table, v, err);
        i = end;
    }
    return code;
}

static int build(struct index_reader *r, const struct joined_paths *paths, struct volume_list *list,
                 struct error *err) {
    struct stream_table table;
    int code = stream_table_read(r, &table, err);
    if (code == 0)
        code = fill_all(r, &table, paths, list, err);
    if (code == 0 && list->count > 1) {
        qsort(list->volumes, list->count, sizeof *list->volumes, compare_volumes);
        code = strangers_find(r, &table, list, err);
    }
    stream_table_release(&table);
    return code;
}

int volume_list_read(struct index_reader *r, struct volume_list *list, struct error *err) {
    struct joined_paths paths;
    *list = (struct volume_list){0};
    int code = joined_paths_read(r, &paths, err);
    if (code == 0 && paths.count > 0 &&
        (list->volumes = calloc(paths.count, sizeof *list->volumes)) == NULL)
        code = error_set(err, ERR_NOMEM, "out of memory");
    if (code == 0)
        code = build(r, &paths, list, err);
    joined_paths_release(&paths);
    if (code != 0)
        volume_list_release(list);
    return code;
}

void volume_list_release(struct volume_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        free(list->volumes[i].name);
        free(list->volumes[i].id);
        free(list->volumes[i].paths);
        free(list->volumes[i].sizes);
        free(list->volumes[i].strangers);
    }
    free(list->volumes);
    *list = (struct volume_list){0};
}

const struct volume *volume_of_path(const struct volume_list *list, uint64_t path) {
    for (size_t i = 0; i < list->count; i++) {
        const struct volume *v = &list->volumes[i];
        for (size_t k = 0; k < v->path_count; k++) {
            if (v->paths[k].path == path)
                return v;
        }
    }
    return NULL;
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
