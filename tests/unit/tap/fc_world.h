/*
 * fc_world: Fibre Channel frames between an initiator and a target, and what the sink is told of
 * them.
 */
#ifndef SANREWIND_TESTS_FC_WORLD_H
#define SANREWIND_TESTS_FC_WORLD_H

#include "tap/fc/fc.h"
#include "tap/fc/frame.h"
#include "tests/unit/tap/scsi_recorder.h"

enum { FC_INITIATOR = 0x0a0a01, FC_TARGET = 0x0b0b02 };
#define FC_INITIATOR_WWPN UINT64_C(0x200000000000000a)
#define FC_TARGET_WWPN    UINT64_C(0x200000000000000b)

struct fc_world {
    struct recorder *recorder;
    struct tracker *tracker;
    struct fc *fc;
    uint64_t now_ns; /* counts up by 1 ms with each frame */
    uint16_t vsan;
    bool silent;         /* what is made is not shown */
    uint32_t s_id, d_id; /* of what passes between the two */
    uint16_t rx_base;    /* see below */
    uint64_t lun;        /* that fc_write_command() writes to */
};

void fc_world_make(struct fc_world *w);
void fc_world_end(struct fc_world *w);
/* So long that nothing waits for anything any more, but for a response. */
void fc_wait(struct fc_world *w);
/* A frame of that header (S_ID and D_ID by F_CTL_RESPONDER when both are 0). */
void fc_show(struct fc_world *w, struct frame header, const uint8_t *payload, size_t bytes);

/* On exchange `ox_id`; RX_ID is ox_id + rx_base (100h). WRITE(10) of LUN `lun` (1), in blocks of
 * 512. */
void fc_write_command(struct fc_world *w, uint16_t ox_id, uint32_t lba, uint16_t blocks);
void fc_ready(struct fc_world *w, uint16_t ox_id, uint32_t offset, uint32_t bytes);
/* One frame of data, each byte `fill`. */
void fc_data(struct fc_world *w, uint16_t ox_id, uint16_t seq_cnt, uint32_t offset, uint32_t bytes,
             uint8_t fill);
void fc_response(struct fc_world *w, uint16_t ox_id, uint8_t status);
/* All of it, with one frame of data. */
void fc_whole_write(struct fc_world *w, uint16_t ox_id, uint32_t lba, uint16_t blocks,
                    uint8_t fill);
/* A command with data-in that ends GOOD with `answer` (up to a frame), on LUN 1. */
void fc_ask(struct fc_world *w, uint16_t ox_id, const uint8_t *cdb, size_t cdb_bytes,
            const uint8_t *answer, size_t answer_bytes);
/* FCP_CMND with these task management flags. */
void fc_management(struct fc_world *w, uint16_t ox_id, uint8_t flags);
/* PLOGI of the initiator, and its acceptance. */
void fc_login(struct fc_world *w);
/* Any ELS; `wwpn` of the speaker goes where `code`, or the answer's length, has it. */
void fc_service(struct fc_world *w, const struct frame *ids, uint8_t code, uint64_t wwpn,
                size_t bytes);
/* Parts of a login, and the process login that follows. */
void fc_plogi(struct fc_world *w, uint16_t ox_id);
void fc_plogi_accept(struct fc_world *w, uint16_t ox_id, uint64_t wwpn);
void fc_logo(struct fc_world *w, uint16_t ox_id);
void fc_prli(struct fc_world *w, uint16_t ox_id);

#endif
