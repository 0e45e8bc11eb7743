#include "tap/iscsi/login.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* "Key=value|Key=value" of one side, as one PDU. */
static bool say(struct login *l, enum login_side side, const char *text) {
    size_t bytes = strlen(text) + 1;
    uint8_t *copy = malloc(bytes);
    memcpy(copy, text, bytes);
    for (size_t i = 0; i < bytes; i++) {
        if (copy[i] == '|')
            copy[i] = 0;
    }
    bool fine = login_text(l, side, copy, bytes) && login_pdu_end(l, side, false);
    free(copy);
    return fine;
}

static struct login_result result_of(const char *initiator, const char *target) {
    AUTO(login) l = login_create();
    cr_assert(say(l, LOGIN_INITIATOR, initiator));
    cr_assert(say(l, LOGIN_TARGET, target));
    return login_result(l);
}

Test(iscsi_login, defaults) {
    struct login_result r = result_of("InitiatorName=iqn.a|TargetName=iqn.b", "");
    cr_assert_str_eq(r.initiator, "iqn.a");
    cr_assert_str_eq(r.target, "iqn.b");
    cr_assert_not(r.discovery || r.header_digest || r.data_digest || r.unreadable);
    cr_assert(r.initial_r2t && r.immediate_data);
    cr_assert_eq(r.max_burst_bytes, 262144);
    cr_assert_eq(r.first_burst_bytes, 65536);
    cr_assert_eq(r.max_segment_bytes[LOGIN_TARGET], 8192);
    cr_assert_eq(r.max_connections, 1);
    cr_assert_eq(r.error_recovery_level, 0);
    cr_assert_eq(r.portal_group, UINT32_MAX);
}

/* RFC 7143 6.2.1: of a list the answer chooses. */
Test(iscsi_login, digests) {
    cr_assert(result_of("HeaderDigest=CRC32C,None", "HeaderDigest=CRC32C").header_digest);
    cr_assert_not(result_of("HeaderDigest=CRC32C,None", "HeaderDigest=None").header_digest);
    cr_assert_not(result_of("HeaderDigest=None,CRC32C", "HeaderDigest=None").header_digest);
    cr_assert(result_of("HeaderDigest=None,CRC32C", "HeaderDigest=CRC32C").header_digest);
    cr_assert_not(result_of("DataDigest=CRC32C", "").data_digest, "no answer");
    cr_assert_not(result_of("DataDigest=CRC32C", "DataDigest=Reject").data_digest);
    struct login_result r = result_of("DataDigest=CRC32C", "DataDigest=CRC32C");
    cr_assert(r.data_digest && !r.header_digest);
    cr_assert(result_of("DataDigest=X-other,None", "DataDigest=X-other").unreadable);
}

Test(iscsi_login, an_offer_of_the_target_is_answered_by_the_initiator) {
    AUTO(login) l = login_create();
    say(l, LOGIN_TARGET, "HeaderDigest=CRC32C,None");
    say(l, LOGIN_INITIATOR, "HeaderDigest=None");
    cr_assert_not(login_result(l).header_digest);
    say(l, LOGIN_INITIATOR, "HeaderDigest=CRC32C");
    cr_assert(login_result(l).header_digest);
}

/* Linux LIO leaves out the answer when it equals the default. */
Test(iscsi_login, results_of_booleans) {
    cr_expect(result_of("InitialR2T=No", "").initial_r2t);
    cr_expect(result_of("InitialR2T=No", "InitialR2T=Yes").initial_r2t);
    cr_expect_not(result_of("InitialR2T=No", "InitialR2T=No").initial_r2t);
    cr_expect(result_of("InitialR2T=Yes", "InitialR2T=No").initial_r2t);
    cr_expect_not(result_of("ImmediateData=No", "").immediate_data);
    cr_expect_not(result_of("ImmediateData=Yes", "ImmediateData=No").immediate_data);
    cr_expect(result_of("ImmediateData=Yes", "ImmediateData=Yes").immediate_data);
    cr_expect(result_of("ImmediateData=Maybe", "").immediate_data, "as if it were not there");
}

Test(iscsi_login, results_of_numbers) {
    struct login_result r =
        result_of("MaxBurstLength=16776192|FirstBurstLength=262144|ErrorRecoveryLevel=2|"
                  "MaxConnections=4|MaxRecvDataSegmentLength=0x10000",
                  "MaxBurstLength=1048576|FirstBurstLength=65536|ErrorRecoveryLevel=1|"
                  "MaxConnections=8|MaxRecvDataSegmentLength=4096|TargetPortalGroupTag=7");
    cr_assert_eq(r.max_burst_bytes, 1048576);
    cr_assert_eq(r.first_burst_bytes, 65536);
    cr_assert_eq(r.error_recovery_level, 1);
    cr_assert_eq(r.max_connections, 4);
    cr_assert_eq(r.max_segment_bytes[LOGIN_INITIATOR], 65536);
    cr_assert_eq(r.max_segment_bytes[LOGIN_TARGET], 4096);
    cr_assert_eq(r.portal_group, 7);
}

Test(iscsi_login, numbers_that_are_none) {
    static const char *const wrong[] = {"", "x", "1x", "-1", "0x", "99999999999", " 1", "0x1g"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char text[64];
        snprintf(text, sizeof text, "TargetPortalGroupTag=%s", wrong[i]);
        cr_expect_eq(result_of("", text).portal_group, UINT32_MAX, "'%s'", wrong[i]);
    }
}

Test(iscsi_login, discovery_and_what_cannot_be_followed) {
    cr_expect(result_of("SessionType=Discovery", "").discovery);
    cr_expect_not(result_of("SessionType=Normal", "").discovery);
    cr_expect(result_of("OFMarker=Yes", "OFMarker=Yes").unreadable);
    cr_expect_not(result_of("OFMarker=Yes", "OFMarker=No").unreadable);
    cr_expect(result_of("RDMAExtensions=Yes", "RDMAExtensions=Yes").unreadable);
}

/* The C bit: keys cut anywhere, over several PDUs. */
Test(iscsi_login, text_over_several_pdus) {
    static const char text[] = "InitiatorName=iqn.a\0HeaderDigest=CRC32C\0TargetName=iqn.b";
    for (size_t cut = 0; cut <= sizeof text; cut++) {
        AUTO(login) l = login_create();
        login_text(l, LOGIN_INITIATOR, (const uint8_t *)text, cut);
        cr_assert(login_pdu_end(l, LOGIN_INITIATOR, true));
        login_text(l, LOGIN_INITIATOR, (const uint8_t *)text + cut, sizeof text - cut);
        cr_assert(login_pdu_end(l, LOGIN_INITIATOR, false));
        say(l, LOGIN_TARGET, "HeaderDigest=CRC32C");
        struct login_result r = login_result(l);
        cr_assert_str_eq(r.initiator, "iqn.a");
        cr_assert_str_eq(r.target, "iqn.b");
        cr_assert(r.header_digest);
    }
}

Test(iscsi_login, names_are_checked) {
    char text[600] = "TargetName=";
    memset(text + 11, 'x', 223);
    cr_expect_eq(strlen(result_of(text, "").target), 223);
    memset(text + 11, 'x', 224);
    cr_expect_str_empty(result_of(text, "").target, "longer than RFC 7143 allows");
    cr_expect_str_empty(result_of("TargetName=a b", "").target);
    cr_expect_str_empty(result_of("TargetName=a\nb", "").target);
    cr_expect_str_empty(result_of("TargetName=", "").target);
    cr_expect_str_empty(result_of("", "TargetName=iqn.b").target, "the target does not say it");
}

Test(iscsi_login, malformed_text) {
    AUTO(login) l = login_create();
    cr_expect_not(say(l, LOGIN_INITIATOR, "no equals sign"));
    cr_expect(say(l, LOGIN_INITIATOR, "||A=b||"), "more NULs than needed");
    static const uint8_t unended[] = {'T', 'a', 'r', 'g', 'e', 't', 'N', 'a', 'm', 'e', '=', 'x'};
    cr_expect(login_text(l, LOGIN_INITIATOR, unended, sizeof unended));
    cr_expect(login_pdu_end(l, LOGIN_INITIATOR, false));
    cr_expect_str_eq(login_result(l).target, "x", "the last NUL may be missing");
}

Test(iscsi_login, text_has_a_limit) {
    AUTO(login) l = login_create();
    uint8_t text[1024];
    memset(text, 'a', sizeof text);
    bool fine = true;
    for (int i = 0; i < 100 && fine; i++)
        fine = login_text(l, LOGIN_INITIATOR, text, sizeof text);
    cr_assert_not(fine);
}
