#include "fc_world.h"

#include "common/clock.h"
#include "common/crc32.h"
#include "tap/fc/els.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t lun_one = UINT64_C(1) << 48;

void fc_world_make(struct fc_world *w) {
    struct tracker_limits limits = tracker_default_limits();
    *w = (struct fc_world){.recorder = recorder_create(),
                           .now_ns = 1000 * NS_PER_SECOND,
                           .s_id = FC_INITIATOR,
                           .d_id = FC_TARGET,
                           .rx_base = 0x100,
                           .lun = lun_one};
    w->tracker = tracker_create(&w->recorder->sink, &limits);
    w->fc = fc_create(w->tracker, 1 << 20);
}

void fc_world_end(struct fc_world *w) {
    fc_destroy(w->fc);
    tracker_destroy(w->tracker);
    recorder_destroy(w->recorder);
}

void fc_wait(struct fc_world *w) {
    for (int i = 0; i < 50; i++) {
        w->now_ns += 10 * NS_PER_MS;
        fc_tick(w->fc, w->now_ns);
    }
}

static size_t put_header(const struct frame *h, uint8_t *to) {
    put_be(to, h->r_ctl, 1);
    put_be(to + 1, h->d_id, 3);
    put_be(to + 4, 0, 1);
    put_be(to + 5, h->s_id, 3);
    put_be(to + 8, h->type, 1);
    put_be(to + 9, h->f_ctl, 3);
    put_be(to + 12, h->seq_id, 1);
    put_be(to + 13, 0, 1);
    put_be(to + 14, h->seq_cnt, 2);
    put_be(to + 16, h->ox_id, 2);
    put_be(to + 18, h->rx_id, 2);
    put_be(to + 20, h->parameter, 4);
    return 24;
}

void fc_show(struct fc_world *w, struct frame h, const uint8_t *payload, size_t bytes) {
    bool from_target = (h.f_ctl & F_CTL_RESPONDER) != 0;
    w->now_ns += NS_PER_MS;
    if (w->silent)
        return;
    if (h.s_id == 0 && h.d_id == 0) {
        h.s_id = from_target ? w->d_id : w->s_id;
        h.d_id = from_target ? w->s_id : w->d_id;
    }
    /* Exactly as long, so that a sanitizer sees what lies behind. */
    uint8_t *frame = malloc(24 + bytes + 4);
    size_t length = put_header(&h, frame);
    if (bytes > 0)
        memcpy(frame + length, payload, bytes);
    length += bytes;
    uint32_t crc = crc32_frame(0, frame, length);
    for (int i = 0; i < 4; i++)
        frame[length++] = (uint8_t)(crc >> (8 * i));
    fc_frame(w->fc, &(struct fc_frame){.data = frame,
                                       .bytes = (uint32_t)length,
                                       .wire_bytes = (uint32_t)length,
                                       .has_crc = true,
                                       .vsan = w->vsan,
                                       .time_ns = w->now_ns});
    free(frame);
}

void fc_write_command(struct fc_world *w, uint16_t ox_id, uint32_t lba, uint16_t blocks) {
    uint8_t iu[32] = {0};
    put_be(iu, w->lun, 8);
    iu[11] = 1; /* WRDATA */
    iu[12] = 0x2a;
    put_be(iu + 14, lba, 4);
    put_be(iu + 19, blocks, 2);
    put_be(iu + 28, blocks * 512u, 4);
    fc_show(w,
            (struct frame){.r_ctl = R_CTL_COMMAND,
                           .type = TYPE_FCP,
                           .f_ctl = 0x290000,
                           .ox_id = ox_id,
                           .rx_id = FC_ID_UNASSIGNED},
            iu, sizeof iu);
}

void fc_management(struct fc_world *w, uint16_t ox_id, uint8_t flags) {
    uint8_t iu[32] = {0};
    put_be(iu, lun_one, 8);
    iu[10] = flags;
    fc_show(w,
            (struct frame){.r_ctl = R_CTL_COMMAND,
                           .type = TYPE_FCP,
                           .f_ctl = 0x290000,
                           .ox_id = ox_id,
                           .rx_id = FC_ID_UNASSIGNED},
            iu, sizeof iu);
}

static uint16_t rx_of(const struct fc_world *w, uint16_t ox_id) {
    return (uint16_t)(ox_id + w->rx_base);
}

void fc_ready(struct fc_world *w, uint16_t ox_id, uint32_t offset, uint32_t bytes) {
    uint8_t iu[12] = {0};
    put_be(iu, offset, 4);
    put_be(iu + 4, bytes, 4);
    fc_show(w,
            (struct frame){.r_ctl = R_CTL_READY,
                           .type = TYPE_FCP,
                           .f_ctl = 0x890000,
                           .seq_id = 1,
                           .ox_id = ox_id,
                           .rx_id = rx_of(w, ox_id)},
            iu, sizeof iu);
}

void fc_data(struct fc_world *w, uint16_t ox_id, uint16_t seq_cnt, uint32_t offset, uint32_t bytes,
             uint8_t fill) {
    uint8_t data[2112];
    cr_assert_leq(bytes, sizeof data);
    memset(data, fill, sizeof data);
    fc_show(w,
            (struct frame){.r_ctl = R_CTL_DATA,
                           .type = TYPE_FCP,
                           .f_ctl = F_CTL_OFFSET,
                           .seq_id = 1,
                           .seq_cnt = seq_cnt,
                           .ox_id = ox_id,
                           .rx_id = rx_of(w, ox_id),
                           .parameter = offset},
            data, bytes);
}

void fc_response(struct fc_world *w, uint16_t ox_id, uint8_t status) {
    uint8_t iu[24] = {0};
    iu[11] = status;
    fc_show(w,
            (struct frame){.r_ctl = R_CTL_RESPONSE,
                           .type = TYPE_FCP,
                           .f_ctl = 0x980000,
                           .seq_id = 2,
                           .ox_id = ox_id,
                           .rx_id = rx_of(w, ox_id)},
            iu, sizeof iu);
}

void fc_whole_write(struct fc_world *w, uint16_t ox_id, uint32_t lba, uint16_t blocks,
                    uint8_t fill) {
    fc_write_command(w, ox_id, lba, blocks);
    fc_ready(w, ox_id, 0, blocks * 512u);
    fc_data(w, ox_id, 0, 0, blocks * 512u, fill);
    fc_response(w, ox_id, 0);
}

void fc_ask(struct fc_world *w, uint16_t ox_id, const uint8_t *cdb, size_t cdb_bytes,
            const uint8_t *answer, size_t answer_bytes) {
    uint8_t iu[32] = {0};
    put_be(iu, lun_one, 8);
    iu[11] = 2; /* RDDATA */
    memcpy(iu + 12, cdb, cdb_bytes);
    put_be(iu + 28, answer_bytes, 4);
    fc_show(w,
            (struct frame){.r_ctl = R_CTL_COMMAND,
                           .type = TYPE_FCP,
                           .f_ctl = 0x290000,
                           .ox_id = ox_id,
                           .rx_id = FC_ID_UNASSIGNED},
            iu, sizeof iu);
    fc_show(w,
            (struct frame){.r_ctl = R_CTL_DATA,
                           .type = TYPE_FCP,
                           .f_ctl = F_CTL_RESPONDER | F_CTL_OFFSET,
                           .ox_id = ox_id,
                           .rx_id = rx_of(w, ox_id)},
            answer, answer_bytes);
    fc_response(w, ox_id, 0);
}

void fc_service(struct fc_world *w, const struct frame *ids, uint8_t code, uint64_t wwpn,
                size_t bytes) {
    uint8_t payload[256] = {code};
    bool adisc = bytes == 28;
    bool login = bytes >= 116;
    if (login)
        payload[68] = 0x80; /* class 3 */
    if (login || adisc || code == ELS_LOGO)
        put_be(payload + (login ? 20 : 8), wwpn, 8);
    if (code == ELS_LOGO)
        put_be(payload + 4, ids->s_id, 4);
    if (bytes == 20) /* PRLI and the like: one page, of FCP */
        memcpy(payload + 1, "\20\0\24\10", 4);
    struct frame header = *ids;
    bool reply = code == ELS_LS_ACC || code == ELS_LS_RJT;
    header.r_ctl = reply ? R_CTL_ELS_REPLY : R_CTL_ELS_REQUEST;
    header.type = TYPE_ELS;
    header.f_ctl = reply ? 0x990000 : 0x290000;
    fc_show(w, header, payload, bytes);
}

static void show_service(struct fc_world *w, bool from_target, uint16_t ox_id, uint8_t code,
                         uint64_t wwpn, size_t bytes) {
    fc_service(w,
               &(struct frame){.s_id = from_target ? w->d_id : w->s_id,
                               .d_id = from_target ? w->s_id : w->d_id,
                               .ox_id = ox_id},
               code, wwpn, bytes);
}

void fc_plogi(struct fc_world *w, uint16_t ox_id) {
    show_service(w, false, ox_id, ELS_PLOGI, FC_INITIATOR_WWPN, 116);
}

void fc_plogi_accept(struct fc_world *w, uint16_t ox_id, uint64_t wwpn) {
    show_service(w, true, ox_id, ELS_LS_ACC, wwpn, 116);
}

void fc_logo(struct fc_world *w, uint16_t ox_id) {
    show_service(w, false, ox_id, ELS_LOGO, FC_INITIATOR_WWPN, 16);
}

void fc_prli(struct fc_world *w, uint16_t ox_id) {
    show_service(w, false, ox_id, ELS_PRLI, 0, 20);
}

void fc_login(struct fc_world *w) {
    fc_plogi(w, 0x777);
    fc_plogi_accept(w, 0x777, FC_TARGET_WWPN);
}
