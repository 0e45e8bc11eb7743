#include "world.h"

#include "common/log.h"
#include "common/stop.h"
#include "recoveryd/control/service.h"
#include "recoveryd/image/baseline.h"
#include "recoveryd/image/image.h"
#include "recoveryd/receive/server.h"
#include "recoveryd/receive/socket.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

void world_make(struct world *w) {
    *w = (struct world){0};
    strcpy(w->dir, "/tmp/sanrewind-test-XXXXXX");
    cr_assert(mkdtemp(w->dir) != NULL);
    snprintf(w->store, sizeof w->store, "%s/store", w->dir);
    snprintf(w->endpoint, sizeof w->endpoint, "ipc://%s/server", w->dir);
}

void world_remove(struct world *w) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", w->dir);
    cr_assert_eq(system(command), 0);
}

static int serve(const struct world *w, int ready, struct error *err) {
    AUTO(store) store = NULL;
    AUTO(socket) socket = NULL;
    AUTO(control) control = NULL;
    AUTO(service) service = NULL;
    AUTO(server) server = NULL;
    int code = store_open(w->store, STORE_OWN, &store, err);
    if (code == 0)
        code = socket_open(w->endpoint, &socket, err);
    if (code == 0 && (control = control_create(store)) == NULL)
        code = ERR_NOMEM;
    if (code == 0)
        code = service_create(control, socket, &service, err);
    struct server_options options = {
        .store = store,
        .socket = socket,
        .workers = 2,
        .credit_bytes = 32 << 20,
        .held_bytes = w->held_bytes > 0 ? w->held_bytes : 64 << 20,
        .control = {.take = service_take, .context = service},
    };
    if (code == 0)
        code = stop_install(err);
    if (code == 0)
        code = server_create(&options, &server, err);
    if (code == 0 && write(ready, "", 1) == 1)
        code = server_run(server, err);
    return code;
}

void world_start(struct world *w) {
    int ready[2];
    char byte;
    cr_assert_eq(pipe(ready), 0);
    w->child = fork();
    cr_assert_geq(w->child, 0);
    if (w->child == 0) {
        struct error err = {0};
        close(ready[0]);
        log_init("server", LOG_LEVEL_WARNING);
        int code = serve(w, ready[1], &err);
        if (code < 0)
            log_error("%s", err.text);
        _exit(code < 0 ? 1 : 0);
    }
    close(ready[1]);
    cr_assert_eq(read(ready[0], &byte, 1), 1, "the server did not start");
    close(ready[0]);
}

int world_stop(struct world *w) {
    int status = -1;
    kill(w->child, SIGTERM);
    cr_assert_eq(waitpid(w->child, &status, 0), w->child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void world_kill(struct world *w) {
    kill(w->child, SIGKILL);
    waitpid(w->child, NULL, 0);
}

/* --- looking into the store ----------------------------------------------------------------------
 */

struct look {
    struct store *store;
    struct index_reader *reader;
    struct volume_list list;
    const struct volume *volume;
};

static void look_open(struct look *l, struct world *w, enum store_mode mode) {
    struct error err = {0};
    *l = (struct look){0};
    cr_assert_eq(store_open(w->store, mode, &l->store, &err), 0, "%s", err.text);
    cr_assert_eq(index_read(l->store->index, &l->reader, &err), 0, "%s", err.text);
    cr_assert_eq(volume_list_read(l->reader, &l->list, &err), 0, "%s", err.text);
    cr_assert_eq(volume_find(&l->list, SIM_TARGET "/0", &l->volume, &err), 0, "%s", err.text);
}

static void look_close(struct look *l) {
    volume_list_release(&l->list);
    index_reader_close(l->reader);
    store_close(l->store);
}

void world_baseline_zeros(struct world *w) {
    struct look l;
    struct error err = {0};
    struct baseline_options options = {0};
    struct baseline_result result;
    look_open(&l, w, STORE_WRITE);
    cr_assert_eq(baseline_from_file(l.store, l.volume, &options, &result, &err), 0, "%s", err.text);
    look_close(&l);
}

static void compare(struct image *im, const uint8_t *expected) {
    static uint8_t chunk[INDEX_CHUNK_BYTES];
    struct error err = {0};
    for (uint64_t i = 0; i * INDEX_CHUNK_BYTES < SIM_BYTES; i++) {
        size_t bytes = 0;
        bool all_zero = false;
        cr_assert_eq(image_chunk_read(im, i, chunk, &bytes, &all_zero, &err), 0, "%s", err.text);
        for (size_t at = 0; at < bytes; at++) {
            uint8_t found = all_zero ? 0 : chunk[at];
            cr_assert_eq(found, expected[i * INDEX_CHUNK_BYTES + at], "byte %zu of chunk %zu", at,
                         (size_t)i);
        }
    }
}

bool world_image_is(struct world *w, uint64_t time_ns, const uint8_t *expected) {
    struct look l;
    struct error err = {0};
    AUTO(image) im = NULL;
    struct image_gap *gaps = NULL;
    size_t count = 0;
    look_open(&l, w, STORE_READ);
    cr_assert_eq(image_open(l.store, l.volume, time_ns, &im, &err), 0, "%s", err.text);
    compare(im, expected);
    cr_assert_eq(image_gaps(im, &gaps, &count, &err), 0, "%s", err.text);
    free(gaps);
    image_close(take_pointer(&im));
    look_close(&l);
    return count == 0;
}

struct found_stream {
    uint64_t stream;
    struct stream_entry entry;
    bool found;
};

static bool take_stream(void *context, const struct stream_entry *entry) {
    struct found_stream *found = context;
    if (entry->stream != found->stream)
        return true;
    found->entry = *entry;
    found->found = true;
    return false;
}

void world_expect(struct world *w, const struct sim_stream *s) {
    struct look l;
    struct error err = {0};
    struct found_stream found = {.stream = s->stream};
    look_open(&l, w, STORE_READ);
    cr_assert_eq(index_each_stream(l.reader, take_stream, &found, &err), 0, "%s", err.text);
    cr_assert(found.found);
    cr_assert_eq(found.entry.frontier, s->orders);
    cr_assert_eq(found.entry.run_count, 0);
    cr_assert_eq(found.entry.frontier_ns, s->end_ns);
    cr_assert(found.entry.ended);
    cr_assert_str_eq(found.entry.name, s->name);
    look_close(&l);
    for (size_t i = 0; i < s->mark_count; i++)
        world_image_is(w, s->marks[i], s->images[i]);
}
