#include "recoveryd/ctl/ctl.h"

#include "proto/when.h"

#include <inttypes.h>
#include <string.h>

struct retention_arguments {
    uint64_t every_ns;
    uint64_t step_ns;
    uint64_t until_ns;
    uint64_t bytes;
    bool all;
    bool common;
    bool follows;
    bool json;
};

static int duration(const char *name, const char *value, uint64_t *ns, struct error *err) {
    struct error why = {0};
    return when_parse_duration(value, ns, &why) == 0
               ? 0
               : error_set(err, ERR_USAGE, "--%s: %s", name, why.text);
}

static int set_every(void *into, const char *value, struct error *err) {
    struct retention_arguments *a = into;
    return duration("every", value, &a->every_ns, err);
}

static int set_step(void *into, const char *value, struct error *err) {
    struct retention_arguments *a = into;
    return duration("one-per", value, &a->step_ns, err);
}

static int set_until(void *into, const char *value, struct error *err) {
    struct retention_arguments *a = into;
    return duration("until", value, &a->until_ns, err);
}

static int set_bytes(void *into, const char *value, struct error *err) {
    struct retention_arguments *a = into;
    return options_bytes("max-bytes", value, 1, INT64_MAX, &a->bytes, err);
}

static int set_all(void *into, const char *value, struct error *err) {
    struct retention_arguments *a = into;
    (void)value;
    (void)err;
    a->all = true;
    return 0;
}

static int set_common(void *into, const char *value, struct error *err) {
    struct retention_arguments *a = into;
    (void)value;
    (void)err;
    a->common = true;
    return 0;
}

static int set_follows(void *into, const char *value, struct error *err) {
    struct retention_arguments *a = into;
    (void)value;
    (void)err;
    a->follows = true;
    return 0;
}

static int set_json(void *into, const char *value, struct error *err) {
    struct retention_arguments *a = into;
    (void)value;
    (void)err;
    a->json = true;
    return 0;
}

static const struct option_row rows[] = {
    {0, "every", "DURATION", "keep every moment of the last DURATION (30m, 12h, 7d, 4w)",
     set_every},
    {0, "one-per", "DURATION", "and before that one moment each DURATION", set_step},
    {0, "until", "DURATION", "but none older than DURATION (default: for ever)", set_until},
    {0, "max-bytes", "SIZE", "hold SIZE (K, M, G, T) of the volume's data at most", set_bytes},
    {0, "all", NULL, "keep everything", set_all},
    {0, "follow-default", NULL, "no rule of its own for the volume any more", set_follows},
    {0, "default", NULL, "the rule of all volumes that have none of their own", set_common},
    {0, "json", NULL, "print JSON", set_json},
    {0},
};

static const struct option_set options = {
    .program = "recoveryctl retention",
    .usage = "recoveryctl retention show [VOLUME] [--json]\n"
             "       recoveryctl retention set VOLUME|--default RULE",
    .summary =
        "How much of the volumes' history is kept. Without a rule it is all. RULE is --all,\n"
        "--follow-default, --max-bytes SIZE, or\n"
        "--every DURATION [--one-per DURATION [--until DURATION]] [--max-bytes SIZE].\n"
        "What falls out of it cannot be restored any more: recoveryd lets it go, in its own time,\n"
        "some minutes after the rule was set. When SIZE is too little for the times, it wins, and\n"
        "recoveryd's log says so.",
    .rows = rows,
};

/* --- for people ----------------------------------------------------------------------------------
 */

static void print_rule(const json_t *keeps) {
    char text[CTL_TEXT_BYTES];
    uint64_t every = ctl_number(keeps, "every_ns");
    uint64_t step = ctl_number(keeps, "step_ns");
    uint64_t until = ctl_number(keeps, "until_ns");
    uint64_t bytes = ctl_number(keeps, "bytes");
    if (every == 0 && bytes == 0)
        printf("everything");
    if (every > 0)
        printf("every moment of the last %s", ctl_duration_text(every, text));
    if (step > 0)
        printf(", then one per %s", ctl_duration_text(step, text));
    if (until > 0)
        printf(" until %s", ctl_duration_text(until, text));
    if (bytes > 0)
        printf("%s%s at most", every > 0 ? ", " : "", ctl_bytes_text(bytes, text));
    putchar('\n');
}

static void print_volume(const json_t *volume) {
    char text[CTL_TEXT_BYTES];
    const char *rule = ctl_string(volume, "rule");
    printf("\n%s\n", ctl_string(volume, "volume"));
    printf("  keeps     ");
    print_rule(json_object_get(volume, "keeps"));
    if (strcmp(rule, "own") != 0)
        printf("            (%s)\n",
               strcmp(rule, "default") == 0 ? "the default" : "there is no rule");
    printf("  has       %s - %s\n", ctl_string(volume, "first"), ctl_string(volume, "latest"));
    if (ctl_number(volume, "breaks_ns") > 0)
        printf("  WARNING   the disk is full at %.19sZ, before that is complete\n",
               ctl_string(volume, "breaks"));
    printf("  holds     %s\n", ctl_bytes_text(ctl_number(volume, "held_bytes"), text));
}

static void print_shown(const json_t *result) {
    size_t i;
    const json_t *volume;
    printf("default: ");
    print_rule(json_object_get(result, "default"));
    json_array_foreach(json_object_get(result, "volumes"), i, volume) {
        print_volume(volume);
    }
}

static void print_set(const json_t *result) {
    const char *volume = json_string_value(json_object_get(result, "volume"));
    printf("%s: ", volume != NULL ? volume : "default");
    print_rule(json_object_get(result, "keeps"));
}

/* --- asking --------------------------------------------------------------------------------------
 */

static bool has_rule(const struct retention_arguments *a) {
    return a->every_ns > 0 || a->step_ns > 0 || a->until_ns > 0 || a->bytes > 0 || a->all ||
           a->follows;
}

static int show(struct ctl *ctl, const struct retention_arguments *a, const char *volume,
                struct error *err) {
    if (has_rule(a) || a->common)
        return error_set(err, ERR_USAGE, "retention show takes no rule: see retention --help");
    AUTO_JSON request = json_pack("{s:s,s:s}", "command", "retention", "action", "show");
    if (volume != NULL)
        json_object_set_new(request, "volume", json_string(volume));
    return ctl_ask(ctl, request, a->json, print_shown, err);
}

static int check(const struct retention_arguments *a, const char *volume, struct error *err) {
    bool has_times = a->every_ns > 0 || a->step_ns > 0 || a->until_ns > 0 || a->bytes > 0;
    if ((volume != NULL) == a->common)
        return error_set(err, ERR_USAGE, "set it of what? name one volume, or give --default");
    if (!has_rule(a))
        return error_set(err, ERR_USAGE,
                         "keep what? give a rule: see recoveryctl retention --help");
    if (a->all + a->follows + has_times > 1)
        return error_set(err, ERR_USAGE, "--all and --follow-default stand alone");
    if (a->follows && a->common)
        return error_set(err, ERR_USAGE,
                         "--follow-default is for a volume; for the default, --all");
    return 0;
}

static int set(struct ctl *ctl, const struct retention_arguments *a, const char *volume,
               struct error *err) {
    int code = check(a, volume, err);
    if (code < 0)
        return code;
    AUTO_JSON request =
        json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:b,s:b,s:b}", "command", "retention", "action", "set",
                  "every_ns", (json_int_t)a->every_ns, "step_ns", (json_int_t)a->step_ns,
                  "until_ns", (json_int_t)a->until_ns, "bytes", (json_int_t)a->bytes, "all", a->all,
                  "remove", a->follows || (a->all && a->common), "default", a->common);
    if (volume != NULL)
        json_object_set_new(request, "volume", json_string(volume));
    return ctl_ask(ctl, request, a->json, print_set, err);
}

int ctl_retention(struct ctl *ctl, int argc, char **argv, struct error *err) {
    struct retention_arguments a = {0};
    int operand = argc;
    int code = options_parse(&options, &a, argc, argv, false, &operand, err);
    if (code != OPTIONS_DONE)
        return code < 0 ? code : 0;
    const char *action = operand < argc ? argv[operand] : "show";
    const char *volume = operand + 1 < argc ? argv[operand + 1] : NULL;
    if (argc - operand > 2)
        return error_set(err, ERR_USAGE, "what is '%s'? see recoveryctl retention --help",
                         argv[operand + 2]);
    if (strcmp(action, "show") == 0)
        return show(ctl, &a, volume, err);
    if (strcmp(action, "set") == 0)
        return set(ctl, &a, volume, err);
    return error_set(err, ERR_USAGE,
                     "'%s' is neither show nor set: see recoveryctl retention --help", action);
}
