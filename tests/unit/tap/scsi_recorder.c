#include "scsi_recorder.h"

#include "tap/scsi/payload.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t lun_one = UINT64_C(1) << 48;

void put_be(uint8_t *to, uint64_t value, size_t width) {
    for (size_t i = 0; i < width; i++)
        to[i] = (uint8_t)(value >> (8 * (width - 1 - i)));
}

static struct recorded *next_event(struct recorder *r) {
    if (r->count == RECORDED_EVENTS)
        abort();
    return &r->events[r->count++];
}

static void record_update(struct sink *s, const struct sink_update *u) {
    struct recorded *e = next_event((struct recorder *)s);
    *e = (struct recorded){.kind = RECORDED_UPDATE,
                           .path = u->path->id,
                           .lun = u->path->lun,
                           .time_ns = u->time_ns,
                           .lba = u->lba,
                           .blocks = u->blocks,
                           .block_bytes = u->block_bytes,
                           .op = u->op,
                           .applied = u->applied,
                           .fua = u->fua,
                           .issued_ns = u->issued_ns,
                           .status = u->status};
    if (u->source != NULL) {
        e->source = u->source->id;
        e->source_lba = u->source_lba;
        e->source_from_ns = u->source_from_ns;
        e->source_until_ns = u->source_until_ns;
    }
    if (u->data == NULL || !u->applied)
        return;
    e->data_bytes = payload_length(u->data);
    if (u->op != UPDATE_PATTERN && e->data_bytes != u->blocks * u->block_bytes)
        abort(); /* the whole range, and nothing else */
    e->data = malloc(e->data_bytes);
    size_t part = 0;
    for (size_t done = 0; done < e->data_bytes; done += part) {
        const uint8_t *bytes = payload_bytes(u->data, done, e->data_bytes - done, &part);
        if (bytes == NULL)
            abort(); /* applied means complete */
        memcpy(e->data + done, bytes, part);
    }
}

static void record_gap(struct sink *s, const struct sink_gap *g) {
    struct recorded *e = next_event((struct recorder *)s);
    *e = (struct recorded){.kind = RECORDED_GAP,
                           .path = g->path != NULL ? g->path->id : 0,
                           .lun = g->path != NULL ? g->path->lun : 0,
                           .time_ns = g->time_ns,
                           .offset_bytes = g->offset_bytes,
                           .length_bytes = g->length_bytes,
                           .reason = g->reason};
    snprintf(e->text, sizeof e->text, "%s", g->text);
}

static void record_audit(struct sink *s, const struct sink_audit *a) {
    struct recorded *e = next_event((struct recorder *)s);
    *e = (struct recorded){.kind = RECORDED_AUDIT,
                           .path = a->path->id,
                           .lun = a->path->lun,
                           .time_ns = a->time_ns,
                           .issued_ns = a->issued_ns,
                           .lba = a->lba,
                           .blocks = a->blocks,
                           .block_bytes = a->block_bytes};
    e->sums = malloc(a->blocks * sizeof *e->sums);
    if (e->sums == NULL || a->blocks == 0 || a->blocks > AUDIT_BLOCKS)
        abort();
    memcpy(e->sums, a->sums, a->blocks * sizeof *e->sums);
}

static void record_path(struct sink *s, const struct sink_path *p, uint64_t time_ns) {
    struct recorded *e = next_event((struct recorder *)s);
    *e = (struct recorded){
        .kind = RECORDED_PATH, .path = p->id, .lun = p->lun, .time_ns = time_ns, .known = *p};
}

struct recorder *recorder_create(void) {
    struct recorder *r = calloc(1, sizeof *r);
    if (r == NULL)
        abort();
    r->sink = (struct sink){
        .update = record_update, .gap = record_gap, .path = record_path, .audit = record_audit};
    return r;
}

void recorder_forget(struct recorder *r) {
    for (size_t i = 0; i < r->count; i++) {
        free(r->events[i].data);
        free(r->events[i].sums);
    }
    r->count = 0;
}

void recorder_destroy(struct recorder *r) {
    recorder_forget(r);
    free(r);
}

const struct recorded *recorded_at(const struct recorder *r, enum recorded_kind kind,
                                   size_t index) {
    for (size_t i = 0; i < r->count; i++) {
        const struct recorded *e = &r->events[i];
        if (e->kind != kind || (kind == RECORDED_UPDATE && !e->applied))
            continue;
        if (index-- == 0)
            return e;
    }
    return NULL;
}

size_t recorded_count(const struct recorder *r, enum recorded_kind kind) {
    size_t count = 0;
    while (recorded_at(r, kind, count) != NULL)
        count++;
    return count;
}

const struct recorded *recorded_update(const struct recorder *r, size_t index) {
    const struct recorded *e = recorded_at(r, RECORDED_UPDATE, index);
    cr_assert_not_null(e, "no update %zu", index);
    return e;
}

const struct recorded *recorded_gap(const struct recorder *r, size_t index) {
    const struct recorded *e = recorded_at(r, RECORDED_GAP, index);
    cr_assert_not_null(e, "no gap %zu", index);
    return e;
}

const struct recorded *recorded_audit(const struct recorder *r, size_t index) {
    const struct recorded *e = recorded_at(r, RECORDED_AUDIT, index);
    cr_assert_not_null(e, "no audit %zu", index);
    return e;
}

void expect_gap(const struct recorder *r, size_t index, uint64_t lba, uint64_t blocks,
                uint16_t reason) {
    const struct recorded *e = recorded_gap(r, index);
    cr_expect_eq(e->offset_bytes, lba * 512, "at %lu: %s", e->offset_bytes, e->text);
    cr_expect_eq(e->length_bytes, blocks * 512, "%lu bytes: %s", e->length_bytes, e->text);
    cr_expect_eq(e->reason, reason, "%s", e->text);
}

void expect_whole_gap(const struct recorder *r, size_t index, uint16_t reason) {
    const struct recorded *e = recorded_gap(r, index);
    cr_expect_eq(e->offset_bytes, 0, "%s", e->text);
    cr_expect_eq(e->length_bytes, GAP_TO_END, "%s", e->text);
    cr_expect_eq(e->reason, reason, "%s", e->text);
}

struct scsi_world scsi_world_make_limited(const struct tracker_limits *limits) {
    struct scsi_world w = {.recorder = recorder_create(), .now_ns = 1000};
    w.tracker = tracker_create(&w.recorder->sink, limits);
    w.nexus = tracker_nexus_open(w.tracker, PATH_ISCSI, "iqn.initiator", "iqn.target");
    return w;
}

struct scsi_world scsi_world_make(void) {
    struct tracker_limits limits = tracker_default_limits();
    return scsi_world_make_limited(&limits);
}

struct scsi_world scsi_world_disk(void) {
    struct scsi_world w = scsi_world_make();
    scsi_capacity(&w, w.nexus, 4096, 512, 0xc0);
    return w;
}

void scsi_world_end(struct scsi_world *w) {
    tracker_nexus_close(w->nexus, 0, NULL, w->now_ns);
    tracker_destroy(w->tracker);
    recorder_destroy(w->recorder);
}

struct exchange *scsi_send(struct scsi_world *w, struct nexus *n, const uint8_t *cdb, size_t bytes,
                           uint32_t data_out, uint32_t data_in) {
    return tracker_command(n, &(struct tracker_command){.lun = lun_one,
                                                        .cdb = cdb,
                                                        .cdb_bytes = bytes,
                                                        .data_out_bytes = data_out,
                                                        .data_in_bytes = data_in,
                                                        .attribute = 1,
                                                        .time_ns = ++w->now_ns});
}

void scsi_fill(struct exchange *x, size_t start, size_t end, uint8_t fill) {
    uint8_t *data = malloc(end - start);
    if (data == NULL)
        abort();
    memset(data, fill, end - start);
    tracker_data_out(x, start, data, end - start);
    free(data);
}

struct exchange *scsi_write(struct scsi_world *w, struct nexus *n, uint32_t lba, uint16_t blocks,
                            uint8_t fill) {
    uint8_t cdb[16] = {0x2a};
    put_be(cdb + 2, lba, 4);
    put_be(cdb + 7, blocks, 2);
    struct exchange *x = scsi_send(w, n, cdb, sizeof cdb, blocks * 512u, 0);
    scsi_fill(x, 0, blocks * 512u, fill);
    return x;
}

void scsi_good(struct scsi_world *w, struct exchange *x) {
    tracker_status(x, &(struct tracker_status){.delivered = true, .time_ns = ++w->now_ns});
}

void scsi_do(struct scsi_world *w, struct nexus *n, const uint8_t *cdb, size_t cdb_bytes,
             const uint8_t *data, size_t bytes) {
    struct exchange *x = scsi_send(w, n, cdb, cdb_bytes, (uint32_t)bytes, 0);
    tracker_data_out(x, 0, data, bytes);
    scsi_good(w, x);
}

void scsi_check(struct scsi_world *w, struct exchange *x, uint8_t key, uint8_t asc, uint8_t ascq) {
    const uint8_t sense[18] = {0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, asc, ascq};
    tracker_status(x, &(struct tracker_status){.status = 0x02,
                                               .delivered = true,
                                               .sense = sense,
                                               .sense_bytes = sizeof sense,
                                               .time_ns = ++w->now_ns});
}

void scsi_ask(struct scsi_world *w, struct nexus *n, const uint8_t *cdb, size_t cdb_bytes,
              const uint8_t *answer, size_t answer_bytes) {
    struct exchange *x = scsi_send(w, n, cdb, cdb_bytes, 0, (uint32_t)answer_bytes);
    tracker_data_in(x, 0, answer, answer_bytes);
    scsi_good(w, x);
}

void scsi_capacity(struct scsi_world *w, struct nexus *n, uint64_t blocks, uint32_t block_bytes,
                   uint8_t provisioning) {
    const uint8_t cdb[16] = {0x9e, 0x10};
    uint8_t answer[32] = {0};
    put_be(answer, blocks - 1, 8);
    put_be(answer + 8, block_bytes, 4);
    answer[14] = provisioning;
    scsi_ask(w, n, cdb, sizeof cdb, answer, sizeof answer);
}

void scsi_identify(struct scsi_world *w, struct nexus *n, uint8_t last) {
    const uint8_t cdb[16] = {0x12, 0x01, 0x83, 0, 255};
    uint8_t answer[24] = {0, 0x83, 0, 20, 0x01, 0x03, 0, 16, 0x60, 0x01, 0x40, 0x50};
    answer[23] = last;
    scsi_ask(w, n, cdb, sizeof cdb, answer, sizeof answer);
}

void scsi_introduce(struct scsi_world *w, struct nexus *n, uint8_t type, const char *vendor) {
    const uint8_t cdb[16] = {0x12, 0, 0, 0, 36};
    uint8_t answer[36] = {type, 0, 5, 2, 31};
    memcpy(answer + 8, vendor, 8);
    scsi_ask(w, n, cdb, sizeof cdb, answer, sizeof answer);
}
