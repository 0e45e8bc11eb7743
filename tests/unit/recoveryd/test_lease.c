#include "common/clock.h"
#include "recoveryd/control/lease.h"
#include "tests/unit/recoveryd/store_rig.h"

/* A store with one volume, and images of it. */
struct open_images {
    struct rig rig;
    struct leases *leases;
    char volume[80];
};

static void begin(struct open_images *o) {
    uint8_t block[512] = {1};
    rig_start(&o->rig);
    uint64_t path = rig_path(&o->rig, 1, 1, "iqn.test:a", "naa.1", 1 << 20, 10);
    rig_put(&o->rig, path, &(struct stamp){20, 1, 1, 1}, 0, 512, block, 512);
    rig_stream(&o->rig, 1, 1, 10, 100, false);
    rig_commit(&o->rig);
    snprintf(o->volume, sizeof o->volume, "naa.1");
    o->leases = leases_create(o->rig.store);
    cr_assert_not_null(o->leases);
}

static void end(struct open_images *o) {
    leases_destroy(o->leases);
    rig_end(&o->rig);
}

static struct lease *open_one(struct open_images *o) {
    struct lease *lease;
    rig_ok(&o->rig, leases_open(o->leases, o->volume, 50, 0, &lease, &o->rig.err));
    return lease;
}

static unsigned readers(struct open_images *o) {
    struct index_health health;
    rig_ok(&o->rig, index_health(o->rig.store->index, &health, &o->rig.err));
    return health.readers;
}

static void wait_for_age(struct open_images *o, uint64_t ns) {
    while (leases_oldest_ns(o->leases) <= ns) {
    }
}

Test(lease, without_a_limit_it_is_open_as_long_as_it_is_read) {
    struct open_images o;
    begin(&o);
    struct lease *lease = open_one(&o);
    uint64_t id = lease->id;
    wait_for_age(&o, NS_PER_MS);
    leases_drop(o.leases, lease);
    leases_tidy(o.leases);
    rig_ok(&o.rig, leases_hold(o.leases, id, &lease, &o.rig.err));
    leases_drop(o.leases, lease);
    end(&o);
}

Test(lease, what_is_open_for_too_long_is_closed_without_anybody_asking) {
    struct open_images o;
    begin(&o);
    leases_set_limit(o.leases, NS_PER_MS);
    struct lease *lease = open_one(&o);
    uint64_t id = lease->id;
    leases_drop(o.leases, lease);
    wait_for_age(&o, NS_PER_MS);
    leases_tidy(o.leases);
    cr_assert_eq(leases_oldest_ns(o.leases), 0);
    cr_assert_eq(readers(&o), 0, "the index may use its space again");
    cr_assert_eq(leases_hold(o.leases, id, &lease, &o.rig.err), ERR_NOT_FOUND);
    end(&o);
}

Test(lease, who_reads_at_the_limit_reads_to_the_end_of_his_chunk) {
    struct open_images o;
    uint8_t *chunk = malloc(INDEX_CHUNK_BYTES);
    size_t bytes;
    bool all_zero;
    begin(&o);
    leases_set_limit(o.leases, NS_PER_MS);
    struct lease *lease = open_one(&o);
    struct lease *other;
    uint64_t id = lease->id;
    wait_for_age(&o, NS_PER_MS);
    cr_assert_eq(leases_hold(o.leases, id, &other, &o.rig.err), ERR_NOT_FOUND);
    leases_tidy(o.leases);
    rig_ok(&o.rig, image_chunk_read(lease->image, 0, chunk, &bytes, &all_zero, &o.rig.err));
    cr_assert_eq(chunk[0], 1);
    leases_drop(o.leases, lease);
    cr_assert_eq(readers(&o), 0);
    free(chunk);
    end(&o);
}
