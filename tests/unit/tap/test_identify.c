#include "common/clock.h"
#include "common/log.h"
#include "tap/identify/identify.h"
#include "tap/identify/portal.h"
#include "tap/identify/survey.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A socket on loopback, bound; listening: whoever connects gets no answer. */
static int bound(struct portal *portal, bool listening) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_geq(fd, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    if (listening)
        cr_assert_eq(listen(fd, 8), 0);
    *portal = (struct portal){.family = 4, .port = ntohs(address.sin_port)};
    memcpy(portal->address, &address.sin_addr, 4);
    return fd;
}

static struct identify *make(void) {
    struct identify *i = NULL;
    struct error err = {0};
    log_init("test", LOG_LEVEL_ERROR);
    cr_assert_eq(identify_create(&(struct identify_options){0}, &i, &err), 0, "%s", err.text);
    return i;
}

static void expect_prompt_end(struct identify *i) {
    struct mono begun = clock_mono();
    identify_destroy(i);
    cr_assert_lt(clock_since_ns(begun), NS_PER_SECOND);
}

static bool settles(struct identify *i) {
    struct mono begun = clock_mono();
    while (!identify_is_settled(i) && clock_since_ns(begun) < 20 * NS_PER_SECOND)
        usleep(1000);
    return identify_is_settled(i);
}

Test(identify, a_portal_that_refuses_is_settled_without_an_answer) {
    struct portal portal;
    struct identity *identity;
    struct identify *i = make();
    int fd = bound(&portal, false);
    cr_assert(identify_is_settled(i));
    cr_assert(identify_ask(i, &portal));
    cr_assert(settles(i));
    cr_assert_not(identify_take(i, &identity));
    cr_assert(identify_ask(i, &portal), "named again while it waits to be asked again");
    cr_assert(settles(i));
    expect_prompt_end(i);
    close(fd);
}

Test(identify, a_portal_that_never_answers_does_not_hold_the_end) {
    struct portal portal;
    struct identity *identity;
    struct identify *i = make();
    int fd = bound(&portal, true);
    cr_assert(identify_ask(i, &portal));
    int peer = accept(fd, NULL, NULL); /* it is being asked */
    char byte;
    cr_assert_eq(read(peer, &byte, 1), 1);
    cr_assert_not(identify_is_settled(i));
    cr_assert_not(identify_take(i, &identity));
    expect_prompt_end(i);
    close(peer);
    close(fd);
}

Test(identify, a_portal_that_hangs_up_is_settled) {
    struct portal portal;
    struct identify *i = make();
    int fd = bound(&portal, true);
    cr_assert(identify_ask(i, &portal));
    close(accept(fd, NULL, NULL));
    cr_assert(settles(i));
    expect_prompt_end(i);
    close(fd);
}

Test(identify, the_queue_has_an_end) {
    struct portal portal, silent;
    struct identify *i = make();
    int fd = bound(&silent, true);
    cr_assert(identify_ask(i, &silent));
    int peer = accept(fd, NULL, NULL); /* busy with it from here on */
    unsigned taken = 0;
    portal = silent;
    while (identify_has_room(i)) {
        portal.port = (uint16_t)(++taken);
        cr_assert(identify_ask(i, &portal));
        cr_assert_lt(taken, 10000);
    }
    cr_assert_gt(taken, 0);
    cr_assert_not(identify_ask(i, &portal));
    expect_prompt_end(i);
    close(peer);
    close(fd);
}

Test(identify, names_of_initiators) {
    char name[256];
    cr_assert(identify_is_initiator_name("iqn.2026-01.example:monitor-1"));
    cr_assert(identify_is_initiator_name("eui.02004567A425678D"));
    cr_assert(identify_is_initiator_name("naa.52004567BA64678D"));
    static const char *const bad[] = {"",
                                      "iqn.",
                                      "monitor",
                                      "iqn.2026-01.example:a b",
                                      "iqn.2026-01.example:a\n",
                                      "IQN.2026-01.example"};
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++)
        cr_assert_not(identify_is_initiator_name(bad[k]), "%s", bad[k]);
    memset(name, 'a', sizeof name);
    memcpy(name, "iqn.", 4);
    name[224] = '\0';
    cr_assert_not(identify_is_initiator_name(name));
    name[223] = '\0';
    cr_assert(identify_is_initiator_name(name));
}

Test(identify, wrong_options_are_refused) {
    struct identify *i = NULL;
    struct error err = {0};
    struct identify_options options = {.initiator = "not a name"};
    cr_assert_eq(identify_create(&options, &i, &err), ERR_USAGE);
    options = (struct identify_options){.chap_file = "/nowhere/at/all"};
    cr_assert_eq(identify_create(&options, &i, &err), ERR_NOT_FOUND);
    cr_assert_null(i);
}

static struct identity_probe one_block(const struct portal *portal) {
    struct identity_probe probe = {.number = 7, .portal = *portal, .target = "iqn.a", .count = 1};
    probe.blocks[0] = (struct identity_block){
        .lun = UINT64_C(1) << 48, .lba = 5, .block_bytes = 512, .read = true, .id = 1};
    return probe;
}

Test(identify, a_block_that_nobody_lets_us_read_is_unread) {
    struct portal portal;
    struct identify *i = make();
    int fd = bound(&portal, false);
    struct identity_probe probe = one_block(&portal);
    struct identity_probe answer = {0};
    struct mono begun = clock_mono();
    cr_assert_not(identify_take_probe(i, &answer));
    cr_assert(identify_probe(i, &probe));
    while (!identify_take_probe(i, &answer) && clock_since_ns(begun) < 20 * NS_PER_SECOND)
        usleep(1000);
    cr_assert_eq(answer.number, 7);
    cr_assert_eq(answer.count, 1);
    cr_assert_not(answer.blocks[0].read);
    cr_assert_gt(answer.answered_ns, 0);
    cr_assert_not(identify_take_probe(i, &answer), "one answer each");
    expect_prompt_end(i);
    close(fd);
}

Test(identify, reads_that_are_never_answered_do_not_hold_the_end) {
    struct portal portal;
    struct identify *i = make();
    int fd = bound(&portal, true);
    struct identity_probe probe = one_block(&portal);
    size_t taken = 0;
    while (taken < 100 && identify_probe(i, &probe))
        taken++;
    cr_assert(taken >= 16 && taken < 100, "%zu: there is a limit", taken);
    int peer = accept(fd, NULL, NULL); /* the first is under way */
    expect_prompt_end(i);
    close(peer);
    close(fd);
}
