/* recoveryctl: its command line, its exit statuses, and that both backends give the same answers.
 */
#include "../common/seed.h"
#include "world.h"

#include "common/clock.h"
#include "common/digest.h"
#include "recoveryd/ctl/ctl.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

TestSuite(ctl, .timeout = 60);

enum { OUT_BYTES = 65536 };

static void read_file(const char *path, char *to, size_t size) {
    int fd = open(path, O_RDONLY);
    ssize_t bytes = fd >= 0 ? read(fd, to, size - 1) : 0;
    to[bytes > 0 ? bytes : 0] = '\0';
    if (fd >= 0)
        close(fd);
}

static void be_recoveryctl(int argc, char **argv, const char *out_path, const char *err_path) {
    struct error err = {0};
    if (freopen(out_path, "w", stdout) == NULL || freopen(err_path, "w", stderr) == NULL)
        _exit(99);
    int code = ctl_run(argc, argv, &err);
    if (code < 0)
        fprintf(stderr, "%s\n", err.text);
    fflush(NULL);
    _exit(code < 0 ? error_exit_status(code) : 0);
}

/* Runs recoveryctl with the words of `line` in a process of its own: its exit status. */
static int run(const struct world *w, char *out, char *err, const char *format, ...) {
    char line[1024];
    char *argv[32] = {"recoveryctl"};
    int argc = 1;
    int status;
    char out_path[96];
    char err_path[96];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    for (char *word = strtok(line, " "); word != NULL && argc < 31; word = strtok(NULL, " "))
        argv[argc++] = word;
    snprintf(out_path, sizeof out_path, "%s/out", w->dir);
    snprintf(err_path, sizeof err_path, "%s/err", w->dir);
    pid_t child = fork();
    if (child == 0)
        be_recoveryctl(argc, argv, out_path, err_path);
    cr_assert_eq(waitpid(child, &status, 0), child);
    read_file(out_path, out, OUT_BYTES);
    read_file(err_path, err, OUT_BYTES);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static char out[OUT_BYTES];
static char err[OUT_BYTES];

static void expect_usage(const struct world *w, const char *line, const char *part) {
    cr_assert_eq(run(w, out, err, "%s", line), 2, "%s: %s", line, err);
    cr_assert(strstr(err, part) != NULL, "%s: %s", line, err);
    cr_assert_str_empty(out, "%s", line);
}

Test(ctl, the_command_line_is_checked_before_anything_else) {
    struct world w;
    world_make(&w);
    expect_usage(&w, "", "which command? one of: status");
    expect_usage(&w, "explode", "'explode' is not a command; the commands are: status");
    expect_usage(&w, "--store /x --server tcp://127.0.0.1:1 status", "give one of them");
    expect_usage(&w, "--store rados:pool status", "directory");
    expect_usage(&w, "--nonsense status", "--nonsense");
    expect_usage(&w, "status extra", "'extra'");
    expect_usage(&w, "status --nonsense", "recoveryctl status --help");
    expect_usage(&w, "window", "which volume?");
    expect_usage(&w, "window a b", "'b'");
    expect_usage(&w, "timeline v --every fast", "--every");
    expect_usage(&w, "restore", "which volume?");
    expect_usage(&w, "restore v", "--at TIME");
    expect_usage(&w, "restore v --at latest", "--to FILE");
    expect_usage(&w, "restore v --at yesterday --to x", "2026-11-23T21:02:39.5Z");
    expect_usage(&w, "restore v --at 2026-11-23T21:02:39 --to x", "zone");
    expect_usage(&w, "restore v --at latest --to iscsi://h/t/0", "file or a block device");
    expect_usage(&w, "restore v --at latest --to x --size lots", "--size");
    expect_usage(&w, "restore v w --at latest --to x --size 1M", "--size is for one volume");
    expect_usage(&w, "restore v w --at latest --to x --since -1h", "--since is for one volume");
    expect_usage(&w, "restore v --at latest --to x --since noon", "not a time");
    expect_usage(&w, "baseline v", "--from FILE");
    expect_usage(&w, "baseline v --from iscsi://h/t/0", "file, a device or zeros");
    expect_usage(&w, "baseline v --from zeros --at noon", "not a time");
    expect_usage(&w, "gaps", "name one volume");
    expect_usage(&w, "verify", "--store DIR");
    expect_usage(&w, "--server tcp://127.0.0.1:1 verify v", "--store DIR");
    expect_usage(&w, "verify --nonsense", "--nonsense");
    world_remove(&w);
}

Test(ctl, help_lists_the_commands) {
    static const char *const names[] = {"status", "monitors", "volumes",  "window", "timeline",
                                        "gaps",   "restore",  "baseline", "verify"};
    struct world w;
    world_make(&w);
    cr_assert_eq(run(&w, out, err, "--help"), 0);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        cr_assert(strstr(out, names[i]) != NULL, "%s is missing", names[i]);
        char help[OUT_BYTES];
        cr_assert_eq(run(&w, help, err, "%s --help", names[i]), 0);
        cr_assert(strstr(help, "--json") != NULL, "%s", help);
        size_t lines = 0;
        for (const char *c = help; *c != '\0'; c++)
            lines += *c == '\n';
        cr_assert_leq(lines, 24, "the help of %s does not fit a screen", names[i]);
    }
    world_remove(&w);
}

Test(ctl, stores_that_are_none) {
    struct world w;
    world_make(&w);
    cr_assert_eq(run(&w, out, err, "--store %s/nothing status", w.dir), 1);
    cr_assert_eq(run(&w, out, err, "--store %s status", w.dir), 1, "a directory, but no store");
    cr_assert_eq(run(&w, out, err, "--server nonsense status"), 2);
    world_remove(&w);
}

/* --- on a history --------------------------------------------------------------------------------
 */

static void fill(struct world *w, struct sim_stream *s) {
    uint64_t state = test_seed();
    struct message_welcome welcome;
    struct rangeset durable;
    rangeset_init(&durable, 1000);
    sim_stream_make(s, "mon", 1000, SIM_START_NS, 100, &state);
    struct sim_lane *lane = sim_connect(w->endpoint);
    sim_hello(lane, s);
    cr_assert(sim_await_welcome(lane, &welcome));
    for (size_t i = 0; i < s->count; i++) {
        AUTO_BUFFER frame;
        sim_batch(s, &i, 1, &frame);
        sim_send(lane, &frame);
    }
    cr_assert(sim_await_durable(lane, s, &durable, 10000));
    rangeset_release(&durable);
    sim_disconnect(lane);
}

static void sha_of(const uint8_t *image, char hex[SHA256_HEX_BYTES]) {
    AUTO(sha256) sum = sha256_create();
    sha256_update(sum, image, SIM_BYTES);
    sha256_finish_hex(sum, hex);
}

static bool exists(const char *path) {
    struct stat status;
    return stat(path, &status) == 0;
}

/* What every restore has to do and to refuse, through one backend. */
static void restore_all_ways(const struct world *w, const struct sim_stream *s,
                             const char *backend) {
    char image[128];
    char gaps[160];
    char sha[SHA256_HEX_BYTES];
    snprintf(image, sizeof image, "%s/image", w->dir);
    snprintf(gaps, sizeof gaps, "%s.gaps.json", image);
    for (size_t i = 0; i < s->mark_count; i++) {
        uint64_t second = s->marks[i] / NS_PER_SECOND;
        uint64_t ns = s->marks[i] % NS_PER_SECOND;
        cr_assert_eq(run(w, out, err, "%s restore disk/0 --at @%lu.%09lu --to %s", backend, second,
                         ns, image),
                     0, "%s", err);
        sha_of(s->images[i], sha);
        cr_assert(strstr(out, sha) != NULL, "%s, not %s", out, sha);
        cr_assert(strstr(out, ", exact, sha256 ") != NULL, "%s", out);
    }
    unlink(image);
    struct {
        const char *at;
        int status;
        const char *part;
    } refusals[] = {
        {"-1s", 3, "--latest-safe"},
        {"@1", 3, "history begins at"},
        {"bookmark:none", 1, "no bookmark none"},
        {"before-write:99999999", 1, "no write to block"},
    };
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        cr_assert_eq(
            run(w, out, err, "%s restore disk/0 --at %s --to %s", backend, refusals[i].at, image),
            refusals[i].status, "%s: %s", refusals[i].at, err);
        cr_assert(strstr(err, refusals[i].part) != NULL, "%s: %s", refusals[i].at, err);
        cr_assert(!exists(image), "%s left a file", refusals[i].at);
    }
    cr_assert_eq(run(w, out, err, "%s restore nobody --at latest --to %s", backend, image), 1);
    cr_assert(strstr(err, SIM_TARGET "/0") != NULL, "the names there are: %s", err);
    cr_assert_eq(
        run(w, out, err, "%s restore disk/0 --at -1s --latest-safe --to %s", backend, image), 0);
    cr_assert(strstr(out, "lowered to the watermark") != NULL, "%s", out);
    cr_assert_eq(run(w, out, err, "%s restore disk/0 --at latest --to %s --json", backend, w->dir),
                 0);
    cr_assert(strstr(out, "iqn.2026-11.lab.sim:disk_0.img") != NULL, "%s", out);
    cr_assert(!exists(gaps));
}

static void restore_without_baseline(const struct world *w, const char *backend) {
    char image[128];
    char gaps[160];
    snprintf(image, sizeof image, "%s/image", w->dir);
    snprintf(gaps, sizeof gaps, "%s.gaps.json", image);
    cr_assert_eq(run(w, out, err, "%s restore disk/0 --at latest --to %s", backend, image), 3);
    cr_assert(strstr(err, "--allow-gaps") != NULL, "%s", err);
    cr_assert(!exists(image) && !exists(gaps));
    cr_assert_eq(
        run(w, out, err, "%s restore disk/0 --at latest --to %s --allow-gaps", backend, image), 0);
    cr_assert(strstr(out, "NOT EXACT") != NULL, "%s", out);
    cr_assert(exists(image) && exists(gaps));
    cr_assert_eq(run(w, out, err, "%s gaps disk/0 --json", backend), 0);
    char beside[OUT_BYTES];
    read_file(gaps, beside, sizeof beside);
    json_t *listed = json_loads(out, 0, NULL);
    json_t *written = json_loads(beside, 0, NULL);
    cr_assert(json_array_size(listed) > 0);
    cr_assert(json_equal(listed, written), "the file says what the command says");
    json_decref(listed);
    json_decref(written);
    unlink(image);
    unlink(gaps);
}

static void both_say_the_same(const struct world *w, const char *local, const char *remote) {
    static const char *const questions[] = {"volumes --json",       "window disk/0",
                                            "window disk/0 --json", "timeline disk/0 --json",
                                            "gaps disk/0",          "volumes"};
    for (size_t i = 0; i < sizeof questions / sizeof questions[0]; i++) {
        char first[OUT_BYTES];
        cr_assert_eq(run(w, first, err, "%s %s", local, questions[i]), 0, "%s", err);
        cr_assert_eq(run(w, out, err, "%s %s", remote, questions[i]), 0, "%s", err);
        cr_assert_str_eq(first, out, "%s", questions[i]);
        cr_assert_gt(strlen(out), 0, "%s", questions[i]);
    }
}

Test(ctl, with_a_server_and_without) {
    struct world w;
    struct sim_stream s;
    char local[160];
    char remote[160];
    world_make(&w);
    snprintf(local, sizeof local, "--store %s", w.store);
    snprintf(remote, sizeof remote, "--server %s", w.endpoint);
    world_start(&w);
    fill(&w, &s);
    restore_without_baseline(&w, local);
    restore_without_baseline(&w, remote);
    cr_assert_eq(run(&w, out, err, "%s baseline disk/0 --from zeros", remote), 0, "%s", err);
    both_say_the_same(&w, local, remote);
    restore_all_ways(&w, &s, local);
    restore_all_ways(&w, &s, remote);
    cr_assert_eq(world_stop(&w), 0);
    restore_all_ways(&w, &s, local);
    cr_assert_eq(run(&w, out, err, "%s status", remote), 1);
    cr_assert(strstr(err, "is recoveryd running") != NULL, "%s", err);
    sim_stream_release(&s);
    world_remove(&w);
}

/* A window's ends can be pasted back. */
Test(ctl, windows_paste_back) {
    struct world w;
    struct sim_stream s;
    world_make(&w);
    world_start(&w);
    fill(&w, &s);
    cr_assert_eq(world_stop(&w), 0);
    cr_assert_eq(run(&w, out, err, "--store %s baseline disk/0 --from zeros", w.store), 0);
    cr_assert_eq(run(&w, out, err, "--store %s window disk/0", w.store), 0);
    char from[64];
    char to[64];
    cr_assert_eq(sscanf(out, "%63s - %63s", from, to), 2);
    cr_assert_eq(
        run(&w, out, err, "--store %s restore disk/0 --at %s --to %s/a", w.store, from, w.dir), 0,
        "%s", err);
    cr_assert_eq(
        run(&w, out, err, "--store %s restore disk/0 --at %s --to %s/b", w.store, to, w.dir), 0,
        "%s", err);
    sim_stream_release(&s);
    world_remove(&w);
}

Test(ctl, a_baseline_of_the_wrong_size) {
    struct world w;
    struct sim_stream s;
    char path[96];
    world_make(&w);
    world_start(&w);
    fill(&w, &s);
    snprintf(path, sizeof path, "%s/base", w.dir);
    FILE *file = fopen(path, "w");
    fputs("short", file);
    fclose(file);
    cr_assert_eq(run(&w, out, err, "--server %s baseline disk/0 --from %s", w.endpoint, path), 1);
    cr_assert(strstr(err, "2097152") != NULL, "%s", err);
    cr_assert_eq(run(&w, out, err, "--server %s baseline disk/0 --from %s.gone", w.endpoint, path),
                 1);
    cr_assert_eq(world_stop(&w), 0);
    sim_stream_release(&s);
    world_remove(&w);
}
