/* recoveryd: the recovery server. Wires and nothing else. */
#include "common/log.h"
#include "common/options.h"
#include "common/stop.h"
#include "recoveryd/control/control.h"
#include "recoveryd/control/service.h"
#include "recoveryd/receive/server.h"
#include "recoveryd/receive/socket.h"
#include "recoveryd/retention/reclaim.h"
#include "recoveryd/retention/retention.h"
#include "recoveryd/settings.h"
#include "recoveryd/settle/background.h"

/* What goes on beside everything else. */
static const struct background_work *const works[] = {
    &background_merge,   &background_settle, &background_retention,
    &background_reclaim, &background_pack,   &background_room,
};
enum { WORKS = sizeof works / sizeof works[0] };

struct backgrounds {
    struct background *list[WORKS];
};

static void stop_background(struct backgrounds *b) {
    for (size_t i = WORKS; i-- > 0;)
        background_destroy(b->list[i]);
}

#define AUTO_BACKGROUNDS __attribute__((cleanup(stop_background))) struct backgrounds

static int start_background(struct store *store, struct backgrounds *b, struct error *err) {
    int code = 0;
    for (size_t i = 0; code == 0 && i < WORKS; i++)
        code = background_create(store, works[i], &b->list[i], err);
    return code;
}

static int serve(const struct settings *settings, struct store *store, struct socket *socket,
                 struct error *err) {
    AUTO_BACKGROUNDS backgrounds = {0};
    AUTO(control) control = control_create(store);
    AUTO(service) service = NULL;
    AUTO(server) server = NULL;
    if (control == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    control_set_view_limit(control, settings->view_limit_ns);
    int code = service_create(control, socket, &service, err);
    if (code < 0)
        return code;
    struct server_options options = {
        .store = store,
        .socket = socket,
        .workers = (unsigned)settings->workers,
        .credit_bytes = settings->credit_bytes,
        .held_bytes = settings->memory_bytes,
        .control = {.take = service_take, .context = service},
    };
    code = server_create(&options, &server, err);
    if (code == 0)
        code = start_background(store, &backgrounds, err);
    if (code < 0)
        return code;
    log_info("ready, listening on %s, store %s", socket_endpoint(socket), store->dir);
    return server_run(server, err);
}

static int run(const struct settings *settings, struct error *err) {
    AUTO(store) store = NULL;
    AUTO(socket) socket = NULL;
    /* The endpoint first: a wrong one must not leave a new, empty store behind. */
    int code = socket_open(settings->listen, &socket, err);
    if (code == 0)
        code = store_open(settings->store, STORE_OWN, &store, err);
    if (code == 0)
        code = stop_install(err);
    if (code == 0) {
        store->pack_level = settings->compress;
        store->pack_quiet_ns = settings->pack_after_ns;
    }
    if (code == 0)
        room_set_limits(store->room, &settings->room);
    if (code == 0)
        code = serve(settings, store, socket, err);
    return code;
}

int main(int argc, char **argv) {
    struct error err = {0};
    struct settings settings;
    log_init("recoveryd", LOG_LEVEL_INFO);
    settings_init(&settings);
    int code = settings_parse(&settings, argc, argv, &err);
    if (code == OPTIONS_DONE) {
        log_init("recoveryd", settings.log_level);
        code = run(&settings, &err);
    }
    settings_release(&settings);
    if (code < 0)
        log_error("%s", err.text);
    return code < 0 ? error_exit_status(code) : 0;
}
