/*
 * login: what two sides agree on by text keys (RFC 7143, sections 6 and 13).
 *
 * Takes the text of Login Requests and Responses, which may go on over several PDUs, and knows the
 * result functions. A side that does not mention a key (targets leave out what equals the default)
 * is taken to have said the default.
 */
#ifndef SANREWIND_TAP_ISCSI_LOGIN_H
#define SANREWIND_TAP_ISCSI_LOGIN_H

#include "common/cleanup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LOGIN_NAME_BYTES = 224 }; /* RFC 7143 4.2.7.1: at most 223 */

enum login_side { LOGIN_INITIATOR = 0, LOGIN_TARGET = 1 };

struct login;

struct login_result {
    char initiator[LOGIN_NAME_BYTES];
    char target[LOGIN_NAME_BYTES]; /* "" in a discovery session */
    bool discovery;
    bool header_digest; /* CRC32C */
    bool data_digest;
    bool unreadable; /* an unknown digest, markers in the stream, or RDMA: not followed */
    bool initial_r2t;
    bool immediate_data;
    uint32_t max_burst_bytes;
    uint32_t first_burst_bytes;
    uint32_t max_segment_bytes[2]; /* what each side can receive; by enum login_side */
    uint32_t max_connections;
    uint32_t error_recovery_level;
    uint32_t portal_group; /* UINT32_MAX unknown */
};

struct login *login_create(void); /* NULL: out of memory */
void login_destroy(struct login *l);

/* Text of one side, in pieces. False: more than any login needs. */
bool login_text(struct login *l, enum login_side side, const uint8_t *text, size_t bytes);
/* Its PDU ended; `more`: the C bit says that the text goes on. False: the text is malformed. */
bool login_pdu_end(struct login *l, enum login_side side, bool more);
/* What holds when the login has succeeded. */
struct login_result login_result(const struct login *l);

DEFINE_AUTO(login, login_destroy)

#endif
