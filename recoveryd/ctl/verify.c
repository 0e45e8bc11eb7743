#include "recoveryd/control/verify_facts.h"
#include "recoveryd/ctl/ctl.h"
#include "recoveryd/ctl/progress.h"

#include <inttypes.h>

static int set_json(void *into, const char *value, struct error *err) {
    bool *json = into;
    (void)value;
    (void)err;
    *json = true;
    return 0;
}

static const struct option_row rows[] = {
    {0, "json", NULL, "print JSON", set_json},
    {0},
};

static const struct option_set options = {
    .program = "recoveryctl verify",
    .usage = "recoveryctl --store DIR verify [VOLUME]... [--json]",
    .summary =
        "Reads everything that is stored, and compares it with its checksums: each payload that\n"
        "the index points at, and (unless volumes are named) every batch in the segments. A\n"
        "recoveryd may work on the store meanwhile. Nothing is changed. Exit status 3: damage was\n"
        "found; what was damaged is named, and restores of it stop there, now as before.",
    .rows = rows,
};

/* --- for people ----------------------------------------------------------------------------------
 */

static void print_damaged(const json_t *damaged) {
    size_t i;
    const json_t *d;
    if (json_array_size(damaged) > 0)
        printf("\n%-16s %-10s %-30s %-12s %s\n", "offset", "length", "written", "segment", "there");
    json_array_foreach(damaged, i, d) {
        printf("%-16" PRIu64 " %-10" PRIu64 " %-30s %-12s %" PRIu64 "\n",
               ctl_number(d, "offset_bytes"), ctl_number(d, "length_bytes"), ctl_string(d, "time"),
               ctl_string(d, "segment"), ctl_number(d, "segment_offset"));
        printf("    %s: %s\n", ctl_string(d, "volume"), ctl_string(d, "why"));
        if (json_is_string(json_object_get(d, "monitor")))
            printf("    monitor %s, stream %s, order mark %" PRIu64 "\n", ctl_string(d, "monitor"),
                   ctl_string(d, "stream"), ctl_number(d, "order"));
    }
}

static void print_volumes(const json_t *volumes) {
    size_t i;
    const json_t *v;
    char bytes[CTL_TEXT_BYTES];
    json_array_foreach(volumes, i, v) {
        printf("volume %s\n", ctl_string(v, "volume"));
        printf("  payloads  %" PRIu64 ", %s, of %" PRIu64 " pieces\n", ctl_number(v, "payloads"),
               ctl_bytes_text(ctl_number(v, "bytes"), bytes), ctl_number(v, "pieces"));
        if (ctl_number(v, "damaged") == 0)
            printf("  good      all of them\n");
        else
            printf("  DAMAGED   %" PRIu64 "\n", ctl_number(v, "damaged"));
    }
}

static void print_segments(const json_t *s) {
    size_t i;
    const json_t *entry;
    char bytes[CTL_TEXT_BYTES];
    if (!json_is_object(s))
        return;
    printf("segments\n");
    printf("  files     %" PRIu64 ", %s\n", ctl_number(s, "files"),
           ctl_bytes_text(ctl_number(s, "bytes"), bytes));
    printf("  batches   %" PRIu64 ", with %" PRIu64 " records\n", ctl_number(s, "batches"),
           ctl_number(s, "records"));
    printf("  unknown   %" PRIu64 " records that the index does not know of: never acknowledged\n",
           ctl_number(s, "unknown_records"));
    printf("  torn      %" PRIu64 " ends, %s: what a crash left\n", ctl_number(s, "torn_ends"),
           ctl_bytes_text(ctl_number(s, "torn_bytes"), bytes));
    if (ctl_number(s, "reclaimed_bytes") > 0)
        printf("  reclaimed %s of payloads that retention let go\n",
               ctl_bytes_text(ctl_number(s, "reclaimed_bytes"), bytes));
    json_array_foreach(json_object_get(s, "unused"), i, entry)
        printf("  unused    %s, %s: nothing points at it\n", ctl_string(entry, "segment"),
               ctl_bytes_text(ctl_number(entry, "bytes"), bytes));
    json_array_foreach(json_object_get(s, "damaged"), i, entry) printf(
        "  DAMAGED   %s, %" PRIu64 " bytes at %" PRIu64 ": %s\n", ctl_string(entry, "segment"),
        ctl_number(entry, "bytes"), ctl_number(entry, "offset"), ctl_string(entry, "why"));
}

static void print(const json_t *facts) {
    print_volumes(json_object_get(facts, "volumes"));
    print_segments(json_object_get(facts, "segments"));
    print_damaged(json_object_get(facts, "damaged"));
}

/* --- the command ---------------------------------------------------------------------------------
 */

static int say_damage(const struct verify_result *r, struct error *err) {
    uint64_t payloads = r->damage_count + r->damages_left_out;
    uint64_t stretches = r->stretch_count + r->stretches_left_out;
    return error_set(err, ERR_INEXACT,
                     "the store is damaged: %" PRIu64 " payloads are not what was written, %" PRIu64
                     " stretches of segments cannot be understood; restores of what needs them "
                     "stop, all others are exact",
                     payloads, stretches);
}

static int verify(struct store *store, struct verify_options *o, bool json, struct error *err) {
    struct verify_result result;
    struct progress progress;
    progress_begin(&progress, "verify");
    if (progress.terminal) {
        o->progress = progress_show;
        o->progress_context = &progress;
    }
    int code = verify_run(store, o, &result, err);
    progress_end(&progress);
    AUTO_JSON facts = code == 0 ? verify_facts(&result) : NULL;
    if (code == 0 && facts == NULL)
        code = error_set(err, ERR_NOMEM, "out of memory");
    if (code == 0 && json)
        code = ctl_print_json(facts, err);
    else if (code == 0)
        print(facts);
    if (code == 0 && !verify_is_good(&result))
        code = say_damage(&result, err);
    verify_release(&result);
    return code;
}

int ctl_verify(struct ctl *ctl, int argc, char **argv, struct error *err) {
    AUTO(store) store = NULL;
    bool json = false;
    int operand = argc;
    int code = options_parse(&options, &json, argc, argv, false, &operand, err);
    if (code != OPTIONS_DONE)
        return code < 0 ? code : 0;
    if (ctl->store == NULL)
        return error_set(err, ERR_USAGE,
                         "verify reads the store itself: give --store DIR, on the machine that has "
                         "it; recoveryd may go on running");
    code = store_open(ctl->store, STORE_READ, &store, err);
    struct verify_options o = {.volumes = (const char *const *)(argv + operand),
                               .volume_count = (size_t)(argc - operand)};
    return code == 0 ? verify(store, &o, json, err) : code;
}
