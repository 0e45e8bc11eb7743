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

/* --- provisional paths ---------------------------------------------------------------------------
 */

struct announcement {
    const char *target;
    const char *designator;
    const char *same_as; /* target of another path */
    uint16_t flags;
    uint64_t time_ns;
};

static uint64_t announce(struct rig *rig, const struct announcement *a) {
    struct path_record path = {.time_ns = a->time_ns,
                               .size_bytes = 4096,
                               .block_bytes = 512,
                               .flags = a->flags,
                               .protocol = PATH_ISCSI,
                               .target = a->target,
                               .target_bytes = (uint16_t)strlen(a->target),
                               .designator = a->designator,
                               .designator_bytes = (uint16_t)strlen(a->designator)};
    path.path = record_path_id(PATH_ISCSI, a->target, strlen(a->target), 0);
    if (a->same_as != NULL)
        path.same_as = record_path_id(PATH_ISCSI, a->same_as, strlen(a->same_as), 0);
    rig_ok(rig, index_put_path(rig_writer(rig), 1, 1, &path, &rig->err));
    return path.path;
}

/* Two provisional paths, one after the other, lead to a real one, which has a sister. */
static const struct announcement chain[] = {
    {"10.0.0.1:3260", "", NULL, PATH_PROVISIONAL, 100},
    {"10.0.0.1:3260", "", "10.0.0.2:3260", PATH_PROVISIONAL, 200},
    {"10.0.0.2:3260", "", "iqn.real", PATH_PROVISIONAL, 150},
    {"iqn.real", "naa.6", NULL, 0, 300},
    {"iqn.sister", "naa.6", NULL, 0, 250},
    {"iqn.stranger", "naa.7", NULL, 0, 50},
};
enum { CHAIN = sizeof chain / sizeof chain[0] };

Test(volume, provisional_paths_join_in_any_order_and_do_not_name_the_volume) {
    for (unsigned round = 0; round < 12; round++) {
        struct rig rig;
        rig_start(&rig);
        for (unsigned i = 0; i < CHAIN; i++) {
            /* 5 and 6 have no common divisor: every rotation, forwards and backwards. */
            unsigned at = round < 6 ? (i + round) % CHAIN : (round + CHAIN - i) % CHAIN;
            announce(&rig, &chain[at]);
            rig_commit(&rig);
        }
        struct volume_list list = volumes_of(&rig);
        const struct volume *v;
        cr_assert_eq(list.count, 2);
        rig_ok(&rig, volume_find(&list, "naa.6", &v, &rig.err));
        cr_assert_eq(v->path_count, 4);
        cr_assert_str_eq(v->name, "iqn.sister/0", "the oldest of the real ones");
        cr_assert_not(v->provisional);
        rig_ok(&rig, volume_find(&list, "10.0.0.1:3260/0", &v, &rig.err));
        cr_assert_str_eq(v->id, "naa.6");
        volume_list_release(&list);
        rig_end(&rig);
    }
}

Test(volume, a_volume_of_provisional_paths_only_says_so) {
    struct rig rig;
    rig_start(&rig);
    announce(&rig, &chain[0]);
    announce(&rig, &chain[2]); /* the same as one that nobody has announced */
    rig_commit(&rig);
    struct volume_list list = volumes_of(&rig);
    cr_assert_eq(list.count, 2);
    for (size_t i = 0; i < 2; i++)
        cr_assert(list.volumes[i].provisional);
    cr_assert_str_eq(list.volumes[0].name, "10.0.0.1:3260/0");
    volume_list_release(&list);
    rig_end(&rig);
}

/* --- sizes ---------------------------------------------------------------------------------------
 */

enum { MIB = 1 << 20 };

static void size_at(struct rig *rig, uint64_t time_ns, uint64_t size) {
    rig_path(rig, 1, 1, "iqn.a", "naa.1", size, time_ns);
}

Test(volume, an_image_has_the_size_of_its_time) {
    struct rig rig;
    rig_start(&rig);
    size_at(&rig, 300, 2 * MIB);
    size_at(&rig, 200, 0); /* nothing was said of it */
    size_at(&rig, 500, MIB);
    size_at(&rig, 400, 2 * MIB);
    uint64_t path = rig_path(&rig, 1, 1, "iqn.a", "naa.1", 3 * MIB, 700);
    rig_clock(&rig, 1, 1, 100, 1000, 10, 0);
    rig_commit(&rig);
    static const struct {
        uint64_t time_ns;
        uint64_t size;
    } expected[] = {{100, 2 * MIB}, {299, 2 * MIB}, {300, 2 * MIB}, {499, 2 * MIB},
                    {500, MIB},     {699, MIB},     {700, 3 * MIB}, {1000, 3 * MIB}};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        cr_assert_eq(rig_byte_at(&rig, path, expected[i].time_ns, 0).size_bytes, expected[i].size,
                     "at %lu", expected[i].time_ns);
    rig_end(&rig);
}

/* 2 MiB, then 1, then 3: what was between 1 and 2 before is gone; what was written since is not. */
Test(volume, what_lay_beyond_an_end_is_unknown) {
    struct rig rig;
    rig_start(&rig);
    size_at(&rig, 100, 2 * MIB);
    size_at(&rig, 300, MIB);
    size_at(&rig, 500, 3 * MIB);
    uint64_t path = record_path_id(PATH_ISCSI, "iqn.a", 5, 0);
    rig_floor_zero(&rig, path, 0, 2 * MIB);
    rig_fill(&rig, path, (struct stamp){200, 1, 1, 1}, 0, MIB - 512, 2048, 1);
    rig_fill(&rig, path, (struct stamp){450, 1, 1, 2}, 0, MIB + 512, 512, 2);
    rig_clock(&rig, 1, 1, 100, 1000, 10, 0);
    rig_commit(&rig);
    cr_assert_eq(rig_gap_count(&rig, path, 250), 0, "before it shrank all was known");
    cr_assert_eq(rig_byte_at(&rig, path, 250, MIB).value, 1);
    cr_assert_eq(rig_gap_count(&rig, path, 400), 0, "nor is there anything beyond the end");
    cr_assert(rig_byte_at(&rig, path, 600, MIB - 512).exact);
    cr_assert_not(rig_byte_at(&rig, path, 600, MIB).exact, "written before it shrank");
    cr_assert_not(rig_byte_at(&rig, path, 600, MIB).known);
    cr_assert(rig_byte_at(&rig, path, 600, MIB + 512).exact, "after");
    cr_assert_not(rig_byte_at(&rig, path, 600, 2 * MIB - 512).exact, "the baseline's");
    cr_assert_not(rig_byte_at(&rig, path, 600, 2 * MIB).exact, "never there");
    cr_assert_eq(rig_gap_count(&rig, path, 600), 2, "before and behind what was written");
    /* A baseline of now says what it holds. */
    rig_floor_zero(&rig, path, 550, 3 * MIB);
    rig_commit(&rig);
    cr_assert_eq(rig_gap_count(&rig, path, 600), 0);
    rig_end(&rig);
}
