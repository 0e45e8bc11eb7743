#include "spool_world.h"

#include "common/crc32c.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "proto/record.h"
#include "tap/publish/spool_file.h"
#include "tap/publish/thin.h"

#include <criterion/criterion.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ENTRIES = 4 };

static const struct spool_file_head head = {WORLD_MONITOR, WORLD_STREAM, 5};
static const char *const frames[ENTRIES] = {"a batch", "another, longer", "12345678", "the last"};

/* Entries of 10 marks each; ends[i] is where entry i ends. */
static int make_file(uint64_t ends[ENTRIES]) {
    struct error err = {0};
    int fd = memfd_create("spool", 0);
    uint64_t at = SPOOL_FILE_HEAD_BYTES;
    cr_assert_eq(spool_file_begin(fd, &head, &err), 0, "%s", err.text);
    for (uint64_t i = 0; i < ENTRIES; i++) {
        uint64_t wrote;
        struct spool_entry entry = {.first_order = 100 + 10 * i,
                                    .end_order = 110 + 10 * i,
                                    .bytes = (uint32_t)strlen(frames[i])};
        cr_assert_eq(spool_file_append(fd, at, head.number, &entry, (const uint8_t *)frames[i],
                                       &wrote, &err),
                     0, "%s", err.text);
        at += wrote;
        ends[i] = at;
    }
    return fd;
}

static struct spool_extent scan(int fd, bool thorough) {
    struct spool_extent extent;
    struct error err = {0};
    cr_assert_eq(spool_file_scan(fd, &head, thorough, &extent, &err), 0, "%s", err.text);
    return extent;
}

static void expect_entries(const struct spool_extent *extent, unsigned count,
                           const uint64_t ends[ENTRIES]) {
    cr_assert_eq(extent->bytes, count > 0 ? ends[count - 1] : SPOOL_FILE_HEAD_BYTES);
    cr_assert_eq(extent->end_order, count > 0 ? 100 + 10 * count : 0);
    cr_assert_eq(extent->first_order, count > 0 ? 100 : 0);
}

Test(spool_file, what_is_written_is_read) {
    uint64_t ends[ENTRIES];
    AUTO_CLOSE int fd = make_file(ends);
    AUTO_BUFFER frame;
    struct spool_file_head back;
    struct spool_entry entry;
    struct error err = {0};
    uint64_t at = SPOOL_FILE_HEAD_BYTES;
    buffer_init(&frame, 1000);
    cr_assert_eq(spool_file_head(fd, &back, &err), 0, "%s", err.text);
    cr_assert(back.monitor == head.monitor && back.stream == head.stream && back.number == 5);
    for (uint64_t i = 0; i < ENTRIES; at = ends[i++]) {
        cr_assert_eq(spool_file_entry(fd, at, ends[ENTRIES - 1], 5, &entry, &err), 0);
        cr_assert(entry.first_order == 100 + 10 * i && entry.end_order == 110 + 10 * i);
        cr_assert_eq(spool_file_frame(fd, at, &entry, &frame, &err), 0);
        cr_assert_eq(frame.length, strlen(frames[i]));
        cr_assert_eq(memcmp(frame.data, frames[i], frame.length), 0);
    }
    cr_assert_eq(spool_file_entry(fd, at, ends[ENTRIES - 1], 5, &entry, &err), ERR_NOT_FOUND);
    struct spool_extent extent = scan(fd, true);
    expect_entries(&extent, ENTRIES, ends);
}

Test(spool_file, torn_at_every_byte_it_ends_with_the_last_whole_batch) {
    uint64_t ends[ENTRIES];
    AUTO_CLOSE int fd = make_file(ends);
    for (uint64_t bytes = ends[ENTRIES - 1]; bytes >= SPOOL_FILE_HEAD_BYTES; bytes--) {
        unsigned whole = 0;
        while (whole < ENTRIES && ends[whole] <= bytes)
            whole++;
        cr_assert_eq(ftruncate(fd, (off_t)bytes), 0);
        struct spool_extent extent = scan(fd, true);
        expect_entries(&extent, whole, ends);
        extent = scan(fd, false);
        expect_entries(&extent, whole, ends);
    }
    struct spool_file_head back;
    struct error err;
    cr_assert_eq(ftruncate(fd, SPOOL_FILE_HEAD_BYTES - 1), 0);
    cr_assert_eq(spool_file_head(fd, &back, &err), ERR_FORMAT);
}

Test(spool_file, a_damaged_byte_anywhere_ends_it_there) {
    uint64_t ends[ENTRIES];
    AUTO_CLOSE int fd = make_file(ends);
    struct spool_file_head back;
    struct error err;
    for (uint64_t at = 0; at < ends[ENTRIES - 1]; at++) {
        uint8_t byte;
        unsigned before = 0;
        while (ends[before] <= at)
            before++;
        uint64_t start = before > 0 ? ends[before - 1] : SPOOL_FILE_HEAD_BYTES;
        bool padding = at >= start + SPOOL_ENTRY_HEAD_BYTES + strlen(frames[before]);
        cr_assert_eq(pread(fd, &byte, 1, (off_t)at), 1);
        byte ^= 0x10;
        cr_assert_eq(pwrite(fd, &byte, 1, (off_t)at), 1);
        if (at < SPOOL_FILE_HEAD_BYTES) {
            cr_assert_eq(spool_file_head(fd, &back, &err), ERR_FORMAT, "byte %lu", at);
        } else {
            struct spool_extent extent = scan(fd, true);
            expect_entries(&extent, padding ? ENTRIES : before, ends);
        }
        byte ^= 0x10;
        cr_assert_eq(pwrite(fd, &byte, 1, (off_t)at), 1);
    }
}

Test(spool_file, entries_of_another_file_and_order_marks_that_jump_are_not_taken) {
    uint64_t ends[ENTRIES];
    AUTO_CLOSE int fd = make_file(ends);
    struct error err = {0};
    uint64_t wrote;
    struct spool_entry entry = {.first_order = 140, .end_order = 150, .bytes = 3};
    cr_assert_eq(spool_file_append(fd, ends[3], 6, &entry, (const uint8_t *)"old", &wrote, &err),
                 0);
    struct spool_extent extent = scan(fd, true);
    expect_entries(&extent, ENTRIES, ends);
    entry.first_order = 141;
    cr_assert_eq(spool_file_append(fd, ends[3], 5, &entry, (const uint8_t *)"old", &wrote, &err),
                 0);
    extent = scan(fd, true);
    expect_entries(&extent, ENTRIES, ends);
}

Test(spool_file, a_newer_version_is_refused) {
    uint64_t ends[ENTRIES];
    AUTO_CLOSE int fd = make_file(ends);
    struct spool_file_head back;
    struct error err;
    uint8_t bytes[SPOOL_FILE_HEAD_BYTES];
    cr_assert_eq(pread(fd, bytes, sizeof bytes, 0), sizeof bytes);
    bytes[4] = 2;
    uint32_t crc = crc32c(0, bytes, 36);
    memcpy(bytes + 36, &crc, 4);
    cr_assert_eq(pwrite(fd, bytes, sizeof bytes, 0), sizeof bytes);
    cr_assert_eq(spool_file_head(fd, &back, &err), ERR_VERSION);
}

/* --- what is left of a batch ---------------------------------------------------------------------
 */

static void decode_all(const struct buffer *b, struct record *records, unsigned count) {
    struct message m;
    struct cursor body;
    struct error err = {0};
    cr_assert_eq(message_decode(b->data, b->length, &m, &body, &err), 0, "%s", err.text);
    cr_assert_eq(m.batch.records, count);
    for (unsigned i = 0; i < count; i++)
        cr_assert_eq(record_decode(&body, &records[i], &err), 0, "%s", err.text);
    cr_assert_eq(cursor_left(&body), 0);
}

Test(thin, updates_become_gaps_at_their_own_place) {
    AUTO_BUFFER whole;
    AUTO_BUFFER thin;
    AUTO_BUFFER again;
    struct record r[2];
    struct error err = {0};
    uint64_t lost = 0;
    buffer_init(&whole, LIMIT_BATCH_BYTES);
    buffer_init(&thin, LIMIT_BATCH_BYTES);
    buffer_init(&again, LIMIT_BATCH_BYTES);
    message_batch_begin(&whole);
    spoolworld_fill(&whole, WORLD_STREAM, 8);
    cr_assert_eq(thin_batch(whole.data, whole.length, &thin, &lost, &err), 0, "%s", err.text);
    cr_assert_eq(lost, 1);
    cr_assert_lt(thin.length, 400);
    decode_all(&thin, r, 2);
    cr_assert(r[0].type == RECORD_GAP && r[0].order == 8 && r[0].gap.time_ns == 1008);
    cr_assert(r[0].gap.offset_bytes == 8 * 65536 && r[0].gap.length_bytes == WORLD_PAYLOAD);
    cr_assert(r[1].type == RECORD_UPDATE && r[1].update.op == UPDATE_FLUSH && r[1].order == 9);
    cr_assert_eq(thin_batch(thin.data, thin.length, &again, &lost, &err), 0);
    cr_assert(lost == 1 && again.length == thin.length);
    cr_assert_eq(memcmp(again.data, thin.data, thin.length), 0);
}

Test(thin, an_audit_leaves_its_mark_only) {
    AUTO_BUFFER whole;
    AUTO_BUFFER thin;
    struct record r[1];
    struct error err = {0};
    uint64_t lost = 0;
    static const uint8_t sums[4000];
    struct record audit = {.type = RECORD_AUDIT,
                           .order = 3,
                           .audit = {.time_ns = 9,
                                     .path = 7,
                                     .block_bytes = 512,
                                     .blocks = 1000,
                                     .kind = AUDIT_BLOCKSUM,
                                     .sums = sums}};
    buffer_init(&whole, LIMIT_BATCH_BYTES);
    buffer_init(&thin, LIMIT_BATCH_BYTES);
    message_batch_begin(&whole);
    record_encode(&whole, &audit);
    message_batch_finish(&whole, &(struct message_batch){WORLD_MONITOR, WORLD_STREAM, 1});
    cr_assert_eq(thin_batch(whole.data, whole.length, &thin, &lost, &err), 0, "%s", err.text);
    decode_all(&thin, r, 1);
    cr_assert(r[0].type == RECORD_FRONTIER && r[0].order == 3 && lost == 0);
    cr_assert(r[0].frontier.time_ns == 0 && r[0].frontier.flags == 0);
    cr_assert_eq(thin_batch(whole.data, whole.length - 8, &thin, &lost, &err), ERR_FORMAT);
}
