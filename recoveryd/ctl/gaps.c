#include "recoveryd/ctl/ctl.h"
#include "recoveryd/ctl/view.h"

#include <inttypes.h>

struct gaps_options {
    const char *at;
    bool json;
};

static int set_at(void *into, const char *value, struct error *err) {
    struct gaps_options *o = into;
    (void)err;
    o->at = value;
    return 0;
}

static int set_json(void *into, const char *value, struct error *err) {
    struct gaps_options *o = into;
    (void)value;
    (void)err;
    o->json = true;
    return 0;
}

static const struct option_row rows[] = {
    {0, "at", "TIME", "in the image at TIME (default: latest)", set_at},
    {0, "json", NULL, "print JSON", set_json},
    {0},
};

static const struct option_set options = {
    .program = "recoveryctl gaps",
    .usage = "recoveryctl gaps VOLUME [--at TIME] [--json]",
    .summary = "The ranges of a volume that are not known exactly at a time, since when, and why. "
               "A range\n"
               "heals by itself when something is written over all of it.",
    .rows = rows,
};

static void print(const json_t *gaps) {
    size_t i;
    const json_t *gap;
    char length[CTL_TEXT_BYTES];
    if (json_array_size(gaps) == 0) {
        printf("no gaps: exact\n");
        return;
    }
    printf("%-16s %-11s %-30s %s\n", "offset", "length", "since", "why");
    json_array_foreach(gaps, i, gap) {
        printf("%-16" PRIu64 " %-11s %-30s %s\n", ctl_number(gap, "offset_bytes"),
               ctl_bytes_text(ctl_number(gap, "length_bytes"), length), ctl_string(gap, "since"),
               ctl_string(gap, "reason"));
        if (json_object_get(gap, "text") != NULL)
            printf("    %s\n", ctl_string(gap, "text"));
    }
}

static int read_gaps(struct backend *b, const char *volume, const char *at, json_t **gaps,
                     struct error *err) {
    AUTO_JSON resolved = NULL;
    AUTO_JSON volumes = json_pack("[s]", volume);
    struct view view = {0};
    int code = view_resolve(b, volumes, at, false, &resolved, err);
    if (code == 0)
        code = view_open(&view, b, volume, ctl_number(resolved, "time_ns"), 0, err);
    if (code == 0)
        code = view_gaps(&view, gaps, err);
    view_close(&view);
    return code;
}

int ctl_gaps(struct ctl *ctl, int argc, char **argv, struct error *err) {
    struct gaps_options o = {.at = "latest"};
    AUTO(backend) backend = NULL;
    AUTO_JSON gaps = NULL;
    char at[512];
    int operand = argc;
    int code = options_parse(&options, &o, argc, argv, false, &operand, err);
    if (code != OPTIONS_DONE)
        return code < 0 ? code : 0;
    if (argc - operand != 1)
        return error_set(err, ERR_USAGE, "name one volume; see recoveryctl gaps --help");
    code = ctl_time(o.at, at, err);
    if (code == 0)
        code = ctl_backend(ctl, true, &backend, err);
    if (code == 0)
        code = read_gaps(backend, argv[operand], at, &gaps, err);
    if (code < 0)
        return code;
    if (o.json)
        return ctl_print_json(gaps, err);
    print(gaps);
    return 0;
}
