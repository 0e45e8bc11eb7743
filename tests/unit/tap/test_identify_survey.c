#include "proto/record.h"
#include "tap/identify/portal.h"
#include "tap/identify/survey.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

/* --- targets */

struct world {
    struct offers offers;
    struct offer list[SURVEY_TARGETS];
};

static void world_open(struct world *w, const char *asked) {
    memset(w, 0, sizeof *w);
    w->offers.list = w->list;
    cr_assert(portal_parse(asked, &w->offers.asked));
}

static void offer(struct world *w, const char *name, const char *address) {
    offers_take(&w->offers, name, NULL);
    if (address != NULL)
        offers_take(&w->offers, name, address);
}

static void expect_names(struct world *w, const char *names) {
    char text[512] = "";
    offers_select(&w->offers);
    for (size_t i = 0; i < w->offers.count; i++) {
        strcat(text, w->list[i].name);
        strcat(text, " ");
    }
    cr_assert_str_eq(text, names);
}

Test(offers, targets_at_other_portals_are_left_out) {
    struct world w;
    world_open(&w, "192.0.2.7:3260");
    offer(&w, "iqn.a", "192.0.2.8:3260,1");
    offer(&w, "iqn.b", "192.0.2.7:3260,1");
    offer(&w, "iqn.c", "192.0.2.7:3261,1");
    expect_names(&w, "iqn.b ");
}

Test(offers, one_of_several_addresses_is_enough) {
    struct world w;
    world_open(&w, "[2001:db8::7]:3260");
    offer(&w, "iqn.a", "192.0.2.8:3260,1");
    offers_take(&w.offers, "iqn.a", "[2001:db8:0::7]:3260,2");
    offer(&w, "iqn.b", "192.0.2.8:3260,1");
    expect_names(&w, "iqn.a ");
}

Test(offers, what_does_not_say_where_it_is_may_be_here) {
    struct world w;
    world_open(&w, "192.0.2.7:3260");
    offer(&w, "iqn.none", NULL);
    offer(&w, "iqn.name", "storage.example:3260,1");
    offer(&w, "iqn.any", "0.0.0.0:3260,1");
    offer(&w, "iqn.there", "192.0.2.8:3260,1");
    expect_names(&w, "iqn.none iqn.name iqn.any ");
}

Test(offers, all_elsewhere_is_a_portal_behind_address_translation) {
    struct world w;
    world_open(&w, "192.0.2.7:3260");
    offer(&w, "iqn.a", "10.0.0.1:3260,1");
    offer(&w, "iqn.b", "10.0.0.2:3260,1");
    expect_names(&w, "iqn.a iqn.b ");
}

Test(offers, names_that_are_none_are_passed_over) {
    struct world w;
    char name[256];
    world_open(&w, "192.0.2.7:3260");
    offer(&w, "", NULL);
    offer(&w, "iqn.with space", NULL);
    offer(&w, "iqn.with\tcontrol", NULL);
    snprintf(name, sizeof name, "iqn.%0220d", 0);
    offer(&w, name, NULL);
    cr_assert_eq(w.offers.count, 0, "224 bytes are too many");
    name[223] = '\0';
    offer(&w, name, NULL);
    cr_assert_eq(w.offers.count, 1, "223 are not");
    cr_assert_str_eq(w.list[0].name, name);
}

Test(offers, more_than_the_limit_is_told) {
    struct world w;
    char name[32];
    world_open(&w, "192.0.2.7:3260");
    for (int i = 0; i < SURVEY_TARGETS; i++) {
        snprintf(name, sizeof name, "iqn.%d", i);
        offer(&w, name, NULL);
    }
    offer(&w, "iqn.0", NULL);
    cr_assert_not(w.offers.full, "known already");
    offer(&w, "iqn.one-more", NULL);
    cr_assert(w.offers.full);
    cr_assert_eq(w.offers.count, SURVEY_TARGETS);
}

/* --- logical units */

Test(survey, luns_as_they_were_reported) {
    static const uint8_t data[] = {0,    0,    0, 24, 0, 0, 0, 0, 0,    0,    0, 0, 0, 0, 0, 0,
                                   0x41, 0x2c, 0, 0,  0, 0, 0, 0, 0x00, 0x05, 0, 1, 0, 0, 0, 0};
    uint64_t luns[4] = {0};
    bool whole = false;
    cr_assert_eq(survey_luns(data, sizeof data, luns, 4, &whole), 3);
    cr_assert(whole);
    cr_assert_eq(luns[0], 0);
    cr_assert_eq(luns[1], UINT64_C(0x412c) << 48);
    cr_assert_eq(luns[2], UINT64_C(0x0005000100000000));
    cr_assert(query_can_address(luns[1]));
    cr_assert_not(query_can_address(luns[2]), "two levels");
    cr_assert_eq(survey_luns(data, sizeof data, luns, 2, &whole), 2, "room for two");
    cr_assert_not(whole);
}

Test(survey, a_list_of_luns_that_is_cut_gives_whole_ones) {
    uint8_t data[8 + 4 * 8] = {0, 0, 0, 32};
    uint64_t luns[8];
    bool whole;
    for (size_t bytes = 0; bytes <= sizeof data; bytes++) {
        cr_assert_eq(survey_luns(data, bytes, luns, 8, &whole), bytes < 8 ? 0 : (bytes - 8) / 8,
                     "%zu", bytes);
        cr_assert_eq(whole, bytes == sizeof data, "%zu", bytes);
    }
    data[0] = 0xff; /* claims four thousand million bytes */
    cr_assert_eq(survey_luns(data, sizeof data, luns, 8, &whole), 4);
    cr_assert_not(whole);
    memset(data, 0, 4);
    cr_assert_eq(survey_luns(data, sizeof data, luns, 8, &whole), 0);
    data[3] = 15; /* not a multiple of eight */
    cr_assert_eq(survey_luns(data, sizeof data, luns, 8, &whole), 1);
}

/* 2048 blocks of 512, LBPME and LBPRZ */
static const uint8_t capacity16[32] = {0, 0, 0, 0, 0, 0, 7, 255, 0, 0, 2, 0, 0, 0, 0xc0, 0};

Test(survey, capacity_gives_size_and_flags) {
    struct identity_unit unit = {0};
    cr_assert(survey_learn(&unit, QUESTION_CAPACITY_16, capacity16, sizeof capacity16));
    cr_assert_eq(unit.size_bytes, 1 << 20);
    cr_assert_eq(unit.block_bytes, 512);
    cr_assert_eq(unit.flags, PATH_LBPME | PATH_LBPRZ);
    cr_assert(unit.flags_known);
}

Test(survey, the_short_capacity_knows_no_flags) {
    static const uint8_t data[] = {0, 0, 0, 9, 0, 0, 16, 0};
    struct identity_unit unit = {0};
    cr_assert(survey_learn(&unit, QUESTION_CAPACITY_10, data, sizeof data));
    cr_assert_eq(unit.size_bytes, 40960);
    cr_assert_eq(unit.block_bytes, 4096);
    cr_assert_not(unit.flags_known);
    static const uint8_t beyond[] = {255, 255, 255, 255, 0, 0, 2, 0};
    cr_assert(survey_learn(&unit, QUESTION_CAPACITY_10, beyond, sizeof beyond));
    cr_assert_eq(unit.size_bytes, 0, "larger than it can say");
}

Test(survey, zeros_are_promised_only_where_both_say_so) {
    static const struct {
        uint8_t lbprz;
        bool zeros;
    } pages[] = {{1 << 2, true}, {0, false}, {2 << 2, false}, {3 << 2, true}};
    for (size_t i = 0; i < 4; i++) {
        const uint8_t page[] = {0, 0xb2, 0, 4, 0, pages[i].lbprz, 2, 0};
        struct identity_unit unit = {0};
        cr_assert(survey_learn(&unit, QUESTION_CAPACITY_16, capacity16, sizeof capacity16));
        cr_assert(survey_learn(&unit, QUESTION_UNMAP, page, sizeof page));
        cr_assert_eq(unit.flags, pages[i].zeros ? PATH_LBPME | PATH_LBPRZ : PATH_LBPME, "%zu", i);
    }
    const uint8_t page[] = {0, 0xb2, 0, 4, 0, 1 << 2, 2, 0};
    struct identity_unit unit = {0};
    cr_assert(survey_learn(&unit, QUESTION_UNMAP, page, sizeof page));
    cr_assert_eq(unit.flags, 0, "the page alone promises nothing here");
}

Test(survey, names) {
    static const uint8_t serial[] = {0, 0x80, 0, 6, ' ', ' ', 'S', 'N', '1', ' '};
    static const uint8_t names[] = {0,    0x83, 0,    20,   1,    3,    0,    16,
                                    0x60, 0x01, 0x40, 0x5a, 0xbc, 0xde, 0xf0, 0x12,
                                    0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x11};
    struct identity_unit unit = {0};
    cr_assert(survey_learn(&unit, QUESTION_SERIAL, serial, sizeof serial));
    cr_assert_str_eq(unit.serial, "SN1");
    cr_assert(survey_learn(&unit, QUESTION_NAMES, names, sizeof names));
    cr_assert_str_eq(unit.designator, "naa.6001405abcdef0123456789abcdef011");
}

Test(survey, answers_cut_anywhere_teach_nothing_wrong) {
    static const uint8_t names[] = {0,    0x83, 0,    20,   1,    3,    0,    16,
                                    0x60, 0x01, 0x40, 0x5a, 0xbc, 0xde, 0xf0, 0x12,
                                    0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x11};
    for (size_t bytes = 0; bytes < sizeof names; bytes++) {
        struct identity_unit unit = {0};
        cr_assert_not(survey_learn(&unit, QUESTION_NAMES, names, bytes), "%zu", bytes);
        cr_assert_str_eq(unit.designator, "");
    }
    for (size_t bytes = 0; bytes < 12; bytes++) {
        struct identity_unit unit = {0};
        cr_assert_not(survey_learn(&unit, QUESTION_CAPACITY_16, capacity16, bytes));
        cr_assert_eq(unit.size_bytes, 0);
    }
    struct identity_unit unit = {0};
    cr_assert(survey_learn(&unit, QUESTION_CAPACITY_16, capacity16, 12));
    cr_assert_not(unit.flags_known, "cut before the flags");
    cr_assert_not(survey_learn(&unit, QUESTION_INQUIRY, NULL, 0));
}
