#include "recoveryd/image/volume_join.h"

#include <stdlib.h>
#include <string.h>

static bool take_path(void *context, const struct path_entry *path) {
    struct joined_paths *list = context;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity > 0 ? list->capacity * 2 : 16;
        struct joined_path *paths = realloc(list->paths, capacity * sizeof *paths);
        list->failed = paths == NULL;
        if (list->failed)
            return false;
        list->paths = paths;
        list->capacity = capacity;
    }
    list->paths[list->count] = (struct joined_path){.entry = *path, .volume = list->count};
    list->count++;
    return true;
}

/* --- union and find: `volume` is the place of another path of the same volume, or one's own ------
 */

static size_t find(struct joined_paths *list, size_t i) {
    while (list->paths[i].volume != i) {
        list->paths[i].volume = list->paths[list->paths[i].volume].volume;
        i = list->paths[i].volume;
    }
    return i;
}

static void join(struct joined_paths *list, size_t a, size_t b) {
    a = find(list, a);
    b = find(list, b);
    list->paths[a > b ? a : b].volume = a < b ? a : b;
}

static int compare_designators(const void *left, const void *right) {
    const struct joined_path *a = left;
    const struct joined_path *b = right;
    int order = strcmp(a->entry.designator, b->entry.designator);
    if (order != 0)
        return order;
    return a->entry.path < b->entry.path ? -1 : a->entry.path > b->entry.path;
}

/* While they are in the order of their designators. */
static void join_by_designator(struct joined_paths *list) {
    for (size_t i = 0; i < list->count; i++)
        list->paths[i].volume = i;
    for (size_t i = 1; i < list->count; i++) {
        const char *designator = list->paths[i].entry.designator;
        if (designator[0] != '\0' && strcmp(designator, list->paths[i - 1].entry.designator) == 0)
            join(list, i - 1, i);
    }
}

/* Their places by number. */
struct place {
    uint64_t path;
    size_t at;
};

struct joiner {
    struct joined_paths *list;
    struct place *places;
};

static int compare_places(const void *left, const void *right) {
    const struct place *a = left;
    const struct place *b = right;
    return a->path < b->path ? -1 : a->path > b->path;
}

static const struct place *place_of(const struct joiner *j, uint64_t path) {
    struct place key = {.path = path};
    return bsearch(&key, j->places, j->list->count, sizeof key, compare_places);
}

static bool join_pair(void *context, uint64_t path, uint64_t other) {
    struct joiner *j = context;
    const struct place *a = place_of(j, path);
    const struct place *b = place_of(j, other);
    if (a != NULL && b != NULL)
        join(j->list, a->at, b->at);
    return true;
}

static int join_by_number(struct index_reader *r, struct joined_paths *list, struct error *err) {
    struct joiner j = {.list = list, .places = calloc(list->count, sizeof(struct place))};
    if (j.places == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < list->count; i++)
        j.places[i] = (struct place){list->paths[i].entry.path, i};
    qsort(j.places, list->count, sizeof *j.places, compare_places);
    int code = index_each_join(r, join_pair, &j, err);
    free(j.places);
    return code;
}

/* --- the list ------------------------------------------------------------------------------------
 */

/* The first seen comes first, but those whose target is only an address come last; numbers decide
 * between equals, so that the order is always the same. */
static int compare_age(const struct path_entry *a, const struct path_entry *b) {
    int provisional = (a->flags & PATH_PROVISIONAL) - (b->flags & PATH_PROVISIONAL);
    if (provisional != 0)
        return provisional;
    if (a->first_ns != b->first_ns)
        return a->first_ns < b->first_ns ? -1 : 1;
    return a->path < b->path ? -1 : a->path > b->path;
}

static int compare_volumes(const void *left, const void *right) {
    const struct joined_path *a = left;
    const struct joined_path *b = right;
    if (a->volume != b->volume)
        return a->volume < b->volume ? -1 : 1;
    return compare_age(&a->entry, &b->entry);
}

int joined_paths_read(struct index_reader *r, struct joined_paths *list, struct error *err) {
    *list = (struct joined_paths){0};
    int code = index_each_path(r, take_path, list, err);
    if (code == 0 && list->failed)
        code = error_set(err, ERR_NOMEM, "out of memory");
    if (code != 0 || list->count == 0)
        return code;
    qsort(list->paths, list->count, sizeof *list->paths, compare_designators);
    join_by_designator(list);
    code = join_by_number(r, list, err);
    for (size_t i = 0; i < list->count; i++)
        list->paths[i].volume = find(list, i);
    qsort(list->paths, list->count, sizeof *list->paths, compare_volumes);
    return code;
}

void joined_paths_release(struct joined_paths *list) {
    free(list->paths);
    *list = (struct joined_paths){0};
}
