#include "recoveryd/ctl/restore.h"

#include "recoveryd/ctl/ctl.h"
#include "recoveryd/ctl/view.h"

#include <string.h>
#include <sys/stat.h>

enum { MAX_VOLUMES = 32 };

struct restore_arguments {
    const char *at;
    const char *since;
    const char *to;
    uint64_t size_bytes;
    bool latest_safe;
    bool allow_gaps;
    bool json;
};

static int set_at(void *into, const char *value, struct error *err) {
    struct restore_arguments *a = into;
    (void)err;
    a->at = value;
    return 0;
}

static int set_since(void *into, const char *value, struct error *err) {
    struct restore_arguments *a = into;
    (void)err;
    a->since = value;
    return 0;
}

static int set_to(void *into, const char *value, struct error *err) {
    struct restore_arguments *a = into;
    if (strncmp(value, "iscsi://", 8) == 0)
        return error_set(err, ERR_USAGE, "--to: this version restores to a file or a block device");
    a->to = value;
    return 0;
}

static int set_size(void *into, const char *value, struct error *err) {
    struct restore_arguments *a = into;
    return options_bytes("size", value, 512, INT64_MAX, &a->size_bytes, err);
}

static int set_latest_safe(void *into, const char *value, struct error *err) {
    struct restore_arguments *a = into;
    (void)value;
    (void)err;
    a->latest_safe = true;
    return 0;
}

static int set_allow_gaps(void *into, const char *value, struct error *err) {
    struct restore_arguments *a = into;
    (void)value;
    (void)err;
    a->allow_gaps = true;
    return 0;
}

static int set_json(void *into, const char *value, struct error *err) {
    struct restore_arguments *a = into;
    (void)value;
    (void)err;
    a->json = true;
    return 0;
}

static const struct option_row rows[] = {
    {0, "at", "TIME", "2026-11-23T21:02:39.5Z, ...+01:00, @SECONDS[.NS], -15m, latest,", set_at},
    {0, "to", "FILE|DIR|DEVICE", "where to; several volumes need a directory", set_to},
    {0, "since", "TIME", "FILE is the image of this time: write only what changed since",
     set_since},
    {0, "latest-safe", NULL, "a TIME that is too late means the last one that is safe",
     set_latest_safe},
    {0, "allow-gaps", NULL, "also when not exact; FILE.gaps.json then says what is not",
     set_allow_gaps},
    {0, "size", "BYTES", "the volume's size, when nobody has announced it", set_size},
    {0, "json", NULL, "print JSON", set_json},
    {0},
};

static const struct option_set options = {
    .program = "recoveryctl restore",
    .usage = "recoveryctl restore VOLUME... --at TIME --to FILE|DIR|DEVICE [OPTION]...",
    .summary =
        "Writes volumes as they were at TIME. Several are restored to the same moment. An image\n"
        "that would not be exact is refused (exit status 3) before anything is written. After an\n"
        "interruption the same command goes on with FILE.partial. With --since, FILE must be the\n"
        "image of that time (which is believed, not checked), and becomes that of --at; while it\n"
        "is neither, it is FILE.partial.",
    .rows = rows,
};

static int check(const struct restore_arguments *a, int volumes, struct error *err) {
    if (volumes < 1)
        return error_set(err, ERR_USAGE, "which volume? see recoveryctl restore --help");
    if (volumes > MAX_VOLUMES)
        return error_set(err, ERR_USAGE, "at most %d volumes at once", MAX_VOLUMES);
    if (a->at == NULL)
        return error_set(err, ERR_USAGE, "restore to when? give --at TIME");
    if (a->to == NULL)
        return error_set(err, ERR_USAGE, "restore to where? give --to FILE");
    if (volumes > 1 && a->since != NULL)
        return error_set(err, ERR_USAGE, "--since is for one volume");
    if (volumes > 1 && a->size_bytes > 0)
        return error_set(err, ERR_USAGE, "--size is for one volume");
    return 0;
}

/* All images are open, and found to be exact, before the first byte is written. */
static int open_all(const struct restore_arguments *a, struct backend *backend,
                    const json_t *resolved, struct view *views, size_t *count, struct error *err) {
    const json_t *names = json_object_get(resolved, "volumes");
    size_t i;
    const json_t *name;
    json_array_foreach(names, i, name) {
        if (i == MAX_VOLUMES)
            return error_set(err, ERR_NET, "the server's answer cannot be understood");
        *count = i + 1;
        int code = view_open(&views[i], backend, json_string_value(name),
                             ctl_number(resolved, "time_ns"), a->size_bytes, err);
        if (code == 0 && !view_is_exact(&views[i]) && !a->allow_gaps)
            code = restore_refuse_inexact(&views[i], err);
        if (code < 0)
            return code;
    }
    return 0;
}

/* The image at --since, to be found in the file. */
static int open_since(const struct restore_arguments *a, const struct view *v, const char *since,
                      struct view *earlier, struct error *err) {
    AUTO_JSON resolved = NULL;
    const char *volume = ctl_string(v->facts, "volume");
    AUTO_JSON names = json_pack("[s]", volume);
    int code = view_resolve(v->backend, names, since, false, &resolved, err);
    if (code < 0)
        return error_prefix(err, "--since");
    uint64_t time_ns = ctl_number(resolved, "time_ns");
    if (time_ns > ctl_number(v->facts, "time_ns"))
        return error_set(err, ERR_USAGE, "--since: %s is later than --at", since);
    code = view_open(earlier, v->backend, volume, time_ns, a->size_bytes, err);
    if (code < 0)
        return error_prefix(err, "--since");
    if (view_is_exact(earlier) || a->allow_gaps)
        return 0;
    restore_refuse_inexact(earlier, err);
    return error_prefix(err, "--since");
}

static int restore_changes(const struct restore_arguments *a, const json_t *resolved,
                           struct view *v, const char *path, json_t **result, struct error *err) {
    struct view earlier = {.backend = v->backend};
    char since[512];
    int code = ctl_time(a->since, since, err);
    if (code == 0)
        code = open_since(a, v, since, &earlier, err);
    if (code == 0)
        code = restore_since(v, &earlier, path, resolved, result, err);
    view_close(&earlier);
    return code;
}

static int restore_all(const struct restore_arguments *a, const json_t *resolved,
                       struct view *views, size_t count, struct error *err) {
    AUTO_JSON results = json_array();
    for (size_t i = 0; i < count; i++) {
        char path[RESTORE_PATH_BYTES];
        json_t *result;
        int code = restore_path(&views[i], a->to, count > 1, path, err);
        if (code == 0 && a->since != NULL)
            code = restore_changes(a, resolved, &views[i], path, &result, err);
        else if (code == 0)
            code = restore_view(&views[i], path, resolved, &result, err);
        if (code < 0)
            return code;
        json_array_append_new(results, result);
        if (!a->json)
            restore_print(result);
    }
    if (!a->json)
        return 0;
    return ctl_print_json(count == 1 ? json_array_get(results, 0) : results, err);
}

static int restore(const struct ctl *ctl, const struct restore_arguments *a, const char *at,
                   const json_t *names, struct error *err) {
    AUTO(backend) backend = NULL;
    AUTO_JSON resolved = NULL;
    struct view views[MAX_VOLUMES];
    size_t count = 0;
    int code = ctl_backend(ctl, true, &backend, err);
    if (code == 0)
        code = view_resolve(backend, names, at, a->latest_safe, &resolved, err);
    if (code == 0)
        code = open_all(a, backend, resolved, views, &count, err);
    if (code == 0)
        code = restore_all(a, resolved, views, count, err);
    for (size_t i = 0; i < count; i++)
        view_close(&views[i]);
    return code;
}

int ctl_restore(struct ctl *ctl, int argc, char **argv, struct error *err) {
    struct restore_arguments a = {0};
    char at[512];
    int operand = argc;
    int code = options_parse(&options, &a, argc, argv, false, &operand, err);
    if (code != OPTIONS_DONE)
        return code < 0 ? code : 0;
    code = check(&a, argc - operand, err);
    if (code == 0 && a.since != NULL)
        code = ctl_time(a.since, at, err);
    if (code == 0)
        code = ctl_time(a.at, at, err);
    if (code < 0)
        return code;
    AUTO_JSON names = json_array();
    for (int i = operand; i < argc; i++)
        json_array_append_new(names, json_string(argv[i]));
    return restore(ctl, &a, at, names, err);
}
