/* A store on a file system that is full: refused, whole, and of use again when there is room. */
#include "tests/unit/recoveryd/store_rig.h"

#include <errno.h>
#include <sched.h>
#include <sys/mount.h>

enum { PAYLOAD = 4096 };

static bool mount_small(const char *dir, const char *size, unsigned long flags) {
    return mount("none", dir, "tmpfs", flags, size) == 0;
}

/* Puts `count` updates from number `next` on; 0 when they are durable. */
static int put_batch(struct rig *rig, uint64_t next, int count) {
    uint8_t data[PAYLOAD];
    struct index_writer *w;
    int code = index_begin(rig->store->index, &w, &rig->err);
    for (int i = 0; code == 0 && i < count; i++, next++) {
        struct extent extent;
        memset(data, (int)next, sizeof data);
        struct update_record u = {.time_ns = next + 1,
                                  .path = 5,
                                  .offset_bytes = next % 200 * PAYLOAD,
                                  .length_bytes = PAYLOAD,
                                  .op = UPDATE_WRITE,
                                  .payload_bytes = PAYLOAD,
                                  .payload_crc32c = crc32c(0, data, PAYLOAD)};
        code = segments_append(rig->segment, data, PAYLOAD, &extent, &rig->err);
        if (code == 0)
            code =
                index_put_update(w, &(struct stamp){next + 1, 1, 1, next}, &u, &extent, &rig->err);
    }
    if (code == 0)
        code = segments_sync(rig->segment, &rig->err);
    if (code == 0)
        return index_commit(w, &rig->err);
    index_abort(w);
    return code;
}

static uint64_t updates_in(struct rig *rig) {
    uint64_t count;
    AUTO(index_reader) r = rig_reader(rig);
    rig_ok(rig, index_count_updates(r, 5, UINT64_MAX, &count, &rig->err));
    return count;
}

static void fill_and_go_on(struct rig *rig, int batch) {
    uint64_t done = 0;
    int code;
    rig_open(rig);
    while ((code = put_batch(rig, done, batch)) == 0)
        done += (uint64_t)batch;
    cr_assert_eq(code, ERR_FULL, "%s", rig->err.text);
    cr_assert_eq(updates_in(rig), done);
    cr_assert_eq(put_batch(rig, done, batch), ERR_FULL, "still full: %s", rig->err.text);
    cr_assert(mount_small(rig->base, "size=64m", MS_REMOUNT));
    rig_ok(rig, put_batch(rig, done, batch));
    cr_assert_eq(updates_in(rig), done + (uint64_t)batch);
    rig_close(rig);
    rig_open(rig);
    cr_assert_eq(updates_in(rig), done + (uint64_t)batch);
    rig_close(rig);
}

Test(store_full, a_full_disk_is_said_and_survived) {
    struct rig rig;
    rig_make_dir(&rig);
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        rig_remove_dir(&rig);
        cr_skip_test("needs the right to mount: %s", strerror(errno));
    }
    /* Sizes that end in the segments, in the index, and in between. */
    for (int kib = 2000; kib < 2400; kib += 36) {
        char size[32];
        snprintf(size, sizeof size, "size=%dk", kib);
        cr_assert(mount_small(rig.base, size, 0), "%s", strerror(errno));
        fill_and_go_on(&rig, 1 + kib % 17);
        cr_assert_eq(umount(rig.base), 0);
    }
    rig_remove_dir(&rig);
}
