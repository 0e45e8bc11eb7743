/* tapd: the monitor. Wires and nothing else. */
#include "common/log.h"
#include "common/options.h"
#include "common/stop.h"
#include "tap/interfaces.h"
#include "tap/monitor.h"
#include "tap/settings.h"

static int run(const struct settings *settings, struct error *err) {
    if (settings->list_interfaces)
        return interfaces_print(settings->json, settings->ring_bytes, err);
    int code = stop_install(err);
    return code == 0 ? monitor_run(settings, err) : code;
}

int main(int argc, char **argv) {
    struct error err = {0};
    struct settings settings;
    log_init("tapd", LOG_LEVEL_INFO);
    settings_init(&settings);
    int code = settings_parse(&settings, argc, argv, &err);
    if (code == OPTIONS_DONE) {
        log_init("tapd", settings.log_level);
        code = run(&settings, &err);
    }
    settings_release(&settings);
    if (code < 0)
        log_error("%s", err.text);
    return code < 0 ? error_exit_status(code) : 0;
}
