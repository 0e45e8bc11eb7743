#include "recoveryd/ctl/ctl.h"

#include <limits.h>
#include <string.h>

struct baseline_arguments {
    const char *from;
    const char *at;
    uint64_t size_bytes;
    bool json;
};

static int set_from(void *into, const char *value, struct error *err) {
    struct baseline_arguments *a = into;
    if (strncmp(value, "iscsi://", 8) == 0)
        return error_set(err, ERR_USAGE, "--from: this version takes a file, a device or zeros");
    a->from = value;
    return 0;
}

static int set_at(void *into, const char *value, struct error *err) {
    struct baseline_arguments *a = into;
    (void)err;
    a->at = value;
    return 0;
}

static int set_size(void *into, const char *value, struct error *err) {
    struct baseline_arguments *a = into;
    return options_bytes("size", value, 512, INT64_MAX, &a->size_bytes, err);
}

static int set_json(void *into, const char *value, struct error *err) {
    struct baseline_arguments *a = into;
    (void)value;
    (void)err;
    a->json = true;
    return 0;
}

static const struct option_row rows[] = {
    {0, "from", "FILE|zeros",
     "an image file or block device, or zeros for a volume seen from its making", set_from},
    {0, "at", "TIME", "the moment that it shows (default: before the first update)", set_at},
    {0, "size", "BYTES", "the volume's size, when nobody has announced it", set_size},
    {0, "json", NULL, "print JSON", set_json},
    {0},
};

static const struct option_set options = {
    .program = "recoveryctl baseline",
    .usage = "recoveryctl baseline VOLUME --from FILE|zeros [--at TIME] [--size BYTES] [--json]",
    .summary = "Says what a volume held before its first update, or at a known moment. Without it, "
               "blocks\n"
               "that were never written are unknown, and no image is exact. FILE is opened by the "
               "recovery\n"
               "server, or by this program with --store DIR.",
    .rows = rows,
};

static void print(const json_t *result) {
    char size[CTL_TEXT_BYTES];
    char stored[CTL_TEXT_BYTES];
    uint64_t at = ctl_number(result, "at_ns");
    printf("%s: baseline from %s (%s, %s of it not zeros) %s%s\n", ctl_string(result, "volume"),
           ctl_string(result, "from"), ctl_bytes_text(ctl_number(result, "size_bytes"), size),
           ctl_bytes_text(ctl_number(result, "stored_bytes"), stored),
           at > 0 ? "at " : "before the first update", at > 0 ? ctl_string(result, "at") : "");
}

/* The server does not stand where we do: it gets a whole path. */
static int whole_path(const char *path, char *to, size_t size, struct error *err) {
    AUTO_FREE char *here = path[0] != '/' ? realpath(".", NULL) : NULL;
    int length =
        here != NULL ? snprintf(to, size, "%s/%s", here, path) : snprintf(to, size, "%s", path);
    if (length < 0 || (size_t)length >= size)
        return error_set(err, ERR_USAGE, "--from: the path is too long");
    return 0;
}

static int make_request(const struct baseline_arguments *a, const char *volume, json_t **request,
                        struct error *err) {
    char path[PATH_MAX];
    char at[512];
    int code = 0;
    if (strcmp(a->from, "zeros") == 0)
        snprintf(path, sizeof path, "zeros");
    else
        code = whole_path(a->from, path, sizeof path, err);
    if (code == 0 && a->at != NULL)
        code = ctl_time(a->at, at, err);
    if (code < 0)
        return code;
    *request = json_pack("{s:s,s:s,s:s}", "command", "baseline", "volume", volume, "from", path);
    if (a->at != NULL)
        json_object_set_new(*request, "at", json_string(at));
    if (a->size_bytes > 0)
        json_object_set_new(*request, "size_bytes", json_integer((json_int_t)a->size_bytes));
    return 0;
}

int ctl_baseline(struct ctl *ctl, int argc, char **argv, struct error *err) {
    struct baseline_arguments a = {0};
    AUTO(backend) backend = NULL;
    AUTO_JSON request = NULL;
    AUTO_JSON result = NULL;
    int operand = argc;
    int code = options_parse(&options, &a, argc, argv, false, &operand, err);
    if (code != OPTIONS_DONE)
        return code < 0 ? code : 0;
    if (argc - operand != 1)
        return error_set(err, ERR_USAGE, "name one volume; see recoveryctl baseline --help");
    if (a.from == NULL)
        return error_set(err, ERR_USAGE, "from what? give --from FILE or --from zeros");
    code = make_request(&a, argv[operand], &request, err);
    if (code == 0)
        code = ctl_backend(ctl, true, &backend, err);
    if (code == 0)
        code = backend->run(backend, request, &result, err);
    if (code < 0)
        return code;
    if (a.json)
        return ctl_print_json(result, err);
    print(result);
    return 0;
}
