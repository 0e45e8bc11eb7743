#include "recoveryd/image/image_strangers.h"

#include "recoveryd/image/stranger.h"

#include <stdlib.h>

bool floor_scan_add(struct floor_scan *scan, const struct image_floor *floor) {
    struct image *im = scan->im;
    if (im->floor_count == scan->capacity) {
        size_t capacity = scan->capacity > 0 ? scan->capacity * 2 : 8;
        struct image_floor *floors = realloc(im->floors, capacity * sizeof *floors);
        scan->failed = floors == NULL;
        if (scan->failed)
            return false;
        im->floors = floors;
        scan->capacity = capacity;
    }
    im->floors[im->floor_count++] = *floor;
    return true;
}

/* Nothing older than the volume's newest baseline can be seen. */
static struct stamp newest_baseline(const struct image *im) {
    struct stamp newest = {0};
    for (size_t i = 0; i < im->floor_count; i++) {
        if (im->floors[i].kind == FLOOR_ZERO && stamp_compare(&im->floors[i].stamp, &newest) > 0)
            newest = im->floors[i].stamp;
    }
    return newest;
}

static bool add_gap(struct floor_scan *scan, const struct stamp *stamp) {
    return floor_scan_add(
        scan, &(struct image_floor){
                  .stamp = *stamp, .reason = GAP_STRANGER, .kind = FLOOR_GAP, .stranger = true});
}

struct stranger_scan {
    struct floor_scan *floors;
    struct stamp oldest; /* that matters */
    struct stamp end;    /* of the session */
};

/* That nobody watched a session that had ended before says nothing. */
static bool take_floor(void *context, const struct floor *floor) {
    struct stranger_scan *scan = context;
    const struct image *im = scan->floors->im;
    if (stamp_compare(&floor->stamp, &scan->oldest) < 0)
        return false;
    bool unwatched =
        floor->reason == GAP_MONITOR_RESTART && floor->stamp.time_ns > scan->end.time_ns;
    if (floor->kind != FLOOR_GAP || gap_is_hearsay(floor->reason) || unwatched ||
        stamp_compare(&floor->stamp, &im->limit) > 0)
        return true;
    return add_gap(scan->floors, &floor->stamp);
}

static int take_path(struct floor_scan *floors, const struct path_entry *path,
                     const struct stamp *oldest, struct error *err) {
    struct image *im = floors->im;
    struct stranger_scan scan = {.floors = floors, .oldest = *oldest};
    int code = stranger_end(im->reader, path, im->info.time_ns, &scan.end, err);
    if (code == 0)
        code = index_each_floor(im->reader, path->path, im->info.time_ns, take_floor, &scan, err);
    im->paths[im->path_count + im->stranger_count++] = path->path;
    return code;
}

int image_take_strangers(struct floor_scan *scan, const struct volume *v, struct error *err) {
    struct image *im = scan->im;
    struct stamp oldest = newest_baseline(im);
    int code = 0;
    for (size_t i = 0; code == 0 && i < v->stranger_count && !v->crowded; i++) {
        const struct path_entry *path = v->strangers[i];
        struct stamp newest;
        code = index_newest_change(im->reader, path->path, im->info.time_ns, &newest, err);
        bool counts = code == 0 && stamp_compare(&newest, &oldest) >= 0;
        code = code == ERR_NOT_FOUND ? 0 : code;
        if (!counts)
            continue;
        im->has_strangers = true;
        if (im->stranger_count < IMAGE_STRANGERS)
            code = take_path(scan, path, &oldest, err);
        else if (add_gap(scan, &newest))
            code = clock_table_add_path(&im->clocks, im->reader, path->path, err);
    }
    if (v->crowded)
        add_gap(scan, &im->limit);
    return code;
}
