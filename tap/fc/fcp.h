/*
 * fcp: the information units of FCP-4 (clause 9), parsed. Pure functions.
 */
#ifndef SANREWIND_TAP_FC_FCP_H
#define SANREWIND_TAP_FC_FCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* FCP-4, 9.1.2.5: task management flags. */
enum fcp_management {
    FCP_ABORT_TASK_SET = 0x02,
    FCP_CLEAR_TASK_SET = 0x04,
    FCP_UNIT_RESET = 0x10,
    FCP_TARGET_RESET = 0x20, /* obsolete */
    FCP_CLEAR_ACA = 0x40,
};

enum { FCP_CDB_MOST = 16 + 4 * 63 };

struct fcp_command {
    uint64_t lun;
    uint8_t attribute;  /* as struct tracker_command has it */
    uint8_t management; /* 0: a command */
    uint8_t cdb[FCP_CDB_MOST];
    size_t cdb_bytes;
    uint32_t out_bytes;
    uint32_t in_bytes;
};

enum fcp_result {
    FCP_GOOD,
    FCP_SHORT, /* fewer bytes than its fields say */
    FCP_NO_LUN /* not even its LUN is there */
};

enum fcp_result fcp_command_parse(const uint8_t *data, size_t bytes, struct fcp_command *to);

struct fcp_ready {
    uint32_t offset;
    uint32_t burst_bytes;
};

bool fcp_ready_parse(const uint8_t *data, size_t bytes, struct fcp_ready *to);

enum { FCP_SENSE_MOST = 252 };

struct fcp_response {
    uint8_t status;
    uint8_t code; /* RSP_CODE; 0 also when there is none */
    bool underflow;
    uint32_t residual; /* bytes that were not transferred, with `underflow` */
    uint8_t sense[FCP_SENSE_MOST];
    size_t sense_bytes;
};

/* `cut`: the capture has only the front; sense and code may then be missing. */
bool fcp_response_parse(const uint8_t *data, size_t bytes, bool cut, struct fcp_response *to);

#endif
