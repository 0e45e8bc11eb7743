#include "fc_world.h"

#include "common/clock.h"

#include <criterion/criterion.h>
#include <string.h>

static struct fc_world w;

static void start(void) {
    fc_world_make(&w);
}

static void stop(void) {
    fc_world_end(&w);
}

TestSuite(fc_command, .init = start, .fini = stop);

static const struct sink_path *path_of(uint64_t id) {
    for (size_t i = PATHS(w); i > 0; i--) {
        const struct recorded *r = recorded_at(w.recorder, RECORDED_PATH, i - 1);
        if (r->path == id)
            return &r->known;
    }
    return NULL;
}

/* SAM-6, 4.7.5: the field is the same in FCP_CMND and in iSCSI, and is what names the path. */
static void expect_same_unit(uint16_t ox_id, uint64_t lun) {
    static const char iqn[] = "iqn.t";
    static const uint8_t write[10] = {0x2a, [8] = 1};
    static const char wwpn[] = "naa.20:00:00:00:00:00:00:0b";
    struct nexus *iscsi = tracker_nexus_open(w.tracker, PATH_ISCSI, "iqn.i", iqn);
    struct exchange *x = NULL;
    w.lun = lun;
    fc_whole_write(&w, ox_id, 0, 1, 7);
    fc_wait(&w);
    tracker_command(iscsi, &(struct tracker_command){.lun = lun,
                                                     .cdb = write,
                                                     .cdb_bytes = sizeof write,
                                                     .data_out_bytes = 512,
                                                     .time_ns = w.now_ns,
                                                     .holder = &x});
    struct scsi_world other_world = {w.recorder, w.tracker, iscsi, w.now_ns};
    scsi_fill(x, 0, 512, 7);
    scsi_good(&other_world, x);
    w.now_ns = other_world.now_ns;
    const struct sink_path *fc = path_of(record_path_id(PATH_FCP, wwpn, strlen(wwpn), lun));
    const struct sink_path *other = path_of(record_path_id(PATH_ISCSI, iqn, strlen(iqn), lun));
    cr_assert_not_null(fc, "%016lx", (unsigned long)lun);
    cr_assert_not_null(other, "%016lx", (unsigned long)lun);
    cr_expect_eq(fc->lun, lun);
    cr_expect_eq(fc->lun, other->lun);
    tracker_nexus_close(iscsi, 0, NULL, 0);
}

Test(fc_command, all_addressing_methods) {
    fc_login(&w);
    expect_same_unit(1, UINT64_C(0x0001000000000000)); /* peripheral device */
    expect_same_unit(2, UINT64_C(0x0103000000000000)); /* with a bus */
    expect_same_unit(3, UINT64_C(0x412c000000000000)); /* flat space */
    expect_same_unit(4, UINT64_C(0x8a21000000000000)); /* logical unit */
    expect_same_unit(5, UINT64_C(0xd201234500000000)); /* extended flat space */
    expect_same_unit(6, UINT64_C(0x0102000300000000)); /* a second level */
    cr_assert_eq(UPDATES(w), 12);
}

/* XDWRITEREAD(10): what goes out is written, what comes in is not (SBC-3, 5.43). */
static void show_both_ways(uint16_t ox_id, size_t unit_bytes) {
    uint8_t iu[36] = {0, 1};
    uint8_t in[512];
    iu[11] = 3; /* WRDATA, RDDATA */
    iu[12] = 0x53;
    put_be(iu + 14, 100, 4);
    put_be(iu + 19, 1, 2);
    put_be(iu + 28, 512, 4); /* FCP_DL */
    put_be(iu + 32, 512, 4); /* FCP_BIDIRECTIONAL_READ_DL */
    fc_show(&w,
            (struct frame){.r_ctl = R_CTL_COMMAND,
                           .type = TYPE_FCP,
                           .f_ctl = 0x290000,
                           .ox_id = ox_id,
                           .rx_id = FC_ID_UNASSIGNED},
            iu, unit_bytes);
    memset(in, 99, sizeof in);
    fc_ready(&w, ox_id, 0, 512);
    fc_data(&w, ox_id, 0, 0, 512, 7);
    fc_show(&w,
            (struct frame){.r_ctl = R_CTL_DATA,
                           .type = TYPE_FCP,
                           .f_ctl = F_CTL_RESPONDER | F_CTL_OFFSET,
                           .ox_id = ox_id,
                           .rx_id = (uint16_t)(ox_id + 0x100)},
            in, sizeof in);
    fc_response(&w, ox_id, 0);
    fc_wait(&w);
}

Test(fc_command, both_ways) {
    show_both_ways(1, 36);
    cr_assert_eq(UPDATES(w), 1);
    cr_assert_eq(GAPS(w), 0);
    const struct recorded *r = recorded_update(w.recorder, 0);
    cr_assert_eq(r->lba, 100);
    cr_assert_eq(r->data_bytes, 512);
    cr_assert(r->data[0] == 7 && r->data[511] == 7);
}

/* Without the length of what comes in, the command cannot be read: it may have been any. */
Test(fc_command, both_ways_without_the_second_length) {
    show_both_ways(1, 32);
    cr_assert_eq(UPDATES(w), 0);
    cr_assert_geq(GAPS(w), 1);
    cr_assert_eq(fc_counters(w.fc)->malformed, 1);
}
