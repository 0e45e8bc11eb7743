#include "tests/unit/recoveryd/store_rig.h"

static struct volume_list volumes_of(struct rig *rig) {
    struct volume_list list;
    AUTO(index_reader) r = rig_reader(rig);
    rig_ok(rig, volume_list_read(r, &list, &rig->err));
    return list;
}

Test(volume, paths_join_by_designator_and_the_first_seen_names_it) {
    struct rig rig;
    rig_start(&rig);
    rig_path(&rig, 1, 1, "iqn.a", "naa.6", 4096, 200);
    rig_path(&rig, 1, 1, "iqn.b", "naa.6", 8192, 300);
    rig_path(&rig, 2, 1, "iqn.c", "naa.6", 0, 100);
    rig_path(&rig, 1, 1, "iqn.d", "", 512, 100);
    rig_path(&rig, 1, 1, "iqn.e", "", 512, 100);
    rig_commit(&rig);
    struct volume_list list = volumes_of(&rig);
    const struct volume *v;
    cr_assert_eq(list.count, 3);
    rig_ok(&rig, volume_find(&list, "naa.6", &v, &rig.err));
    cr_assert_eq(v->path_count, 3);
    cr_assert_str_eq(v->name, "iqn.c/0");
    cr_assert_eq(v->size_bytes, 8192, "the newest announcement of a size");
    cr_assert_eq(v->block_bytes, 512);
    rig_ok(&rig, volume_find(&list, "iqn.b/0", &v, &rig.err));
    cr_assert_str_eq(v->id, "naa.6");
    rig_ok(&rig, volume_find(&list, "n.d/", &v, &rig.err));
    cr_assert_eq(strncmp(v->id, "path-", 5), 0);
    cr_assert_eq(volume_find(&list, "iqn", &v, &rig.err), ERR_USAGE);
    cr_assert_eq(volume_find(&list, "iqn.z", &v, &rig.err), ERR_NOT_FOUND);
    cr_assert_not_null(strstr(rig.err.text, "iqn.e/0"), "%s", rig.err.text);
    cr_assert_eq(volume_find(&list, "", &v, &rig.err), ERR_NOT_FOUND);
    volume_list_release(&list);
    rig_end(&rig);
}

Test(volume, a_whole_name_wins_over_a_part_of_another) {
    struct rig rig;
    rig_start(&rig);
    rig_path(&rig, 1, 1, "iqn.a", "", 512, 1);
    rig_path(&rig, 1, 1, "iqn.a/0", "", 512, 1);
    rig_commit(&rig);
    struct volume_list list = volumes_of(&rig);
    const struct volume *v;
    rig_ok(&rig, volume_find(&list, "iqn.a/0", &v, &rig.err));
    cr_assert_str_eq(v->name, "iqn.a/0");
    volume_list_release(&list);
    rig_end(&rig);
}

/* The window of the only volume, with two monitors on its path. */
static struct volume_list window(struct rig *rig, uint64_t *first_ns, uint64_t *watermark_ns) {
    rig_commit(rig);
    struct volume_list list = volumes_of(rig);
    cr_assert_eq(list.count, 1);
    *first_ns = list.volumes[0].first_ns;
    *watermark_ns = list.volumes[0].watermark_ns;
    volume_list_release(&list);
    return list;
}

Test(volume, window_is_what_every_monitor_promises) {
    struct rig rig;
    uint64_t first;
    uint64_t last;
    rig_start(&rig);
    uint64_t path = rig_path(&rig, 1, 10, "iqn.a", "", 512, 100);
    window(&rig, &first, &last);
    cr_assert_eq(last, 0, "a stream that nothing is known of promises nothing");
    rig_stream(&rig, 1, 10, 90, 500, false);
    rig_stream(&rig, 7, 10, 1, 1, false);
    window(&rig, &first, &last);
    cr_assert_eq(first, 90);
    cr_assert_eq(last, 500, "a monitor that cannot see the volume does not matter");
    rig_path(&rig, 2, 20, "iqn.a", "", 512, 300);
    rig_stream(&rig, 2, 20, 250, 400, false);
    window(&rig, &first, &last);
    cr_assert_eq(first, 90);
    cr_assert_eq(last, 400);
    rig_stream(&rig, 2, 21, 600, 450, false);
    window(&rig, &first, &last);
    cr_assert_eq(last, 450, "the newest stream of a monitor counts, announced or not");
    rig_stream(&rig, 2, 21, 600, 10, true);
    rig_stream(&rig, 1, 10, 90, 380, true);
    window(&rig, &first, &last);
    cr_assert_eq(last, 380, "when it has ended, the greatest of all its streams");
    rig_floor_zero(&rig, path, 0, 512);
    window(&rig, &first, &last);
    cr_assert_eq(first, 90, "a baseline from before everything changes nothing");
    rig_end(&rig);
}

Test(volume, window_begins_at_the_oldest_baseline) {
    struct rig rig;
    uint64_t first;
    uint64_t last;
    rig_start(&rig);
    uint64_t path = rig_path(&rig, 1, 10, "iqn.a", "", 0, 100);
    rig_stream(&rig, 1, 10, 90, 500, false);
    rig_floor_zero(&rig, path, 300, 4096);
    rig_floor_zero(&rig, path, 200, 8192);
    rig_gap(&rig, path, &(struct stamp){120, 1, 10, 3}, 0, GAP_TO_END, GAP_OVERFLOW);
    window(&rig, &first, &last);
    cr_assert_eq(first, 200);
    struct volume_list list = volumes_of(&rig);
    cr_assert_eq(list.volumes[0].size_bytes, 4096, "of the newest baseline");
    volume_list_release(&list);
    rig_end(&rig);
}

Test(volume, latest_is_the_newest_update_of_any_path) {
    struct rig rig;
    rig_start(&rig);
    uint64_t a = rig_path(&rig, 1, 1, "iqn.a", "naa.1", 4096, 1);
    uint64_t b = rig_path(&rig, 1, 1, "iqn.b", "naa.1", 4096, 1);
    rig_put(&rig, a, &(struct stamp){50, 1, 1, 2}, 0, 512, NULL, 0);
    rig_put(&rig, b, &(struct stamp){70, 1, 1, 3}, 0, 512, NULL, 0);
    rig_commit(&rig);
    struct volume_list list = volumes_of(&rig);
    cr_assert_eq(list.volumes[0].latest_ns, 70);
    volume_list_release(&list);
    rig_end(&rig);
}
