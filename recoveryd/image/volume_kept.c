#include "recoveryd/image/volume_kept.h"

#include "recoveryd/index/thinned.h"

static uint64_t path_at(const struct volume *v, size_t i) {
    return i < v->path_count ? v->paths[i].path : v->strangers[i - v->path_count]->path;
}

/* A stretch of any path that has the moment inside. *found: there is one. */
static int find(struct index_reader *r, const struct volume *v, uint64_t time_ns, bool below,
                struct thinned_entry *e, bool *found, struct error *err) {
    int code = ERR_NOT_FOUND;
    for (size_t i = 0; code == ERR_NOT_FOUND && i < v->path_count + v->stranger_count; i++)
        code = index_thinned_at(r, path_at(v, i), time_ns, below, e, err);
    *found = code == 0;
    return code == ERR_NOT_FOUND ? 0 : code;
}

/* Out of one stretch after the other: each path may have its own. */
static int leave(struct index_reader *r, const struct volume *v, uint64_t *time_ns, bool down,
                 struct error *err) {
    struct thinned_entry e;
    bool found = true;
    int code = 0;
    while (code == 0 && found) {
        code = find(r, v, *time_ns, false, &e, &found, err);
        if (code == 0 && found)
            *time_ns = down ? e.from_ns : e.until_ns;
    }
    return code;
}

int volume_kept_at(struct index_reader *r, const struct volume *v, uint64_t time_ns, bool below,
                   struct volume_kept *kept, struct error *err) {
    struct thinned_entry e;
    bool found = false;
    *kept = (struct volume_kept){.before_ns = time_ns, .after_ns = time_ns};
    int code = find(r, v, time_ns, below, &e, &found, err);
    kept->kept = !found;
    if (code == 0 && found)
        code = leave(r, v, &kept->before_ns, true, err);
    return code == 0 && found ? leave(r, v, &kept->after_ns, false, err) : code;
}

int volume_kept_horizon(struct index_reader *r, const struct volume *v, uint64_t *horizon_ns,
                        struct error *err) {
    *horizon_ns = 0;
    for (size_t i = 0; i < v->path_count; i++) {
        uint64_t horizon;
        uint64_t until;
        int code = index_thinned_ends(r, v->paths[i].path, &horizon, &until, err);
        if (code != 0)
            return code;
        if (horizon > *horizon_ns)
            *horizon_ns = horizon;
    }
    return 0;
}
