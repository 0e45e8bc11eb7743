#include "recoveryd/ctl/ctl.h"

static const struct option_set options = {
    .program = "recoveryctl window",
    .usage = "recoveryctl window VOLUME [--json]",
    .summary =
        "The times to which a volume can be restored, one \"FROM - TO\" a line; either can be\n"
        "given to --at as it is. Nothing is printed while there is none.",
};

static void print(const json_t *windows) {
    size_t i;
    const json_t *window;
    json_array_foreach(windows, i, window) {
        printf("%s - %s\n", ctl_string(window, "from"), ctl_string(window, "to"));
    }
}

int ctl_window(struct ctl *ctl, int argc, char **argv, struct error *err) {
    bool json = false;
    const char *volume;
    int code = ctl_parse_simple(&options, argc, argv, &json, &volume, err);
    if (code != OPTIONS_DONE)
        return code < 0 ? code : 0;
    AUTO_JSON request = json_pack("{s:s,s:s}", "command", "window", "volume", volume);
    return ctl_ask(ctl, request, json, print, err);
}
