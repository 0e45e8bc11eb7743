#include "recoveryd/ctl/ctl.h"
#include "recoveryd/ctl/show.h"

static const struct option_set options = {
    .program = "recoveryctl monitors",
    .usage = "recoveryctl monitors [--json]",
    .summary = "Every monitor: how far it is, what it saw, what it lost.",
};

static void print(const json_t *monitors) {
    size_t i;
    const json_t *monitor;
    if (json_array_size(monitors) == 0)
        printf("no monitor has sent anything yet\n");
    json_array_foreach(monitors, i, monitor) {
        if (i > 0)
            putchar('\n');
        show_monitor(monitor);
    }
}

int ctl_monitors(struct ctl *ctl, int argc, char **argv, struct error *err) {
    bool json = false;
    int code = ctl_parse_simple(&options, argc, argv, &json, NULL, err);
    if (code != OPTIONS_DONE)
        return code < 0 ? code : 0;
    AUTO_JSON request = json_pack("{s:s}", "command", "monitors");
    return ctl_ask(ctl, request, json, print, err);
}
