/* The parsers of tap/scsi. The first byte of the input chooses one, the rest is what it reads. */
#include "tap/scsi/command.h"
#include "tap/scsi/device.h"
#include "tap/scsi/parameter.h"
#include "tap/scsi/sense.h"
#include "tap/scsi/token.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds) {
    if (!holds)
        abort();
}

static void read_command(const uint8_t *data, size_t size) {
    struct command command;
    char text[64];
    command_parse(data, size, &command);
    check(strlen(command_text(&command, text, sizeof text)) < sizeof text);
    check((command.kind == COMMAND_UNKNOWN) <= command_changes_media(&command));
}

static void read_sense(const uint8_t *data, size_t size) {
    struct sense sense;
    char text[64];
    if (!sense_parse(data, size, &sense))
        return;
    check(sense_verdict(SCSI_CHECK_CONDITION, &sense, true) <= VERDICT_DOUBT);
    sense_text(SCSI_CHECK_CONDITION, &sense, text, sizeof text);
}

static void read_pages(const uint8_t *data, size_t size) {
    char name[DEVICE_NAME_BYTES];
    struct standard_inquiry inquiry;
    enum unmapped_content unmapped;
    device_standard_inquiry(data, size, &inquiry);
    struct device_limits limits;
    device_provisioning(data, size, &unmapped);
    device_limits(data, size, &limits);
    device_serial(data, size, name);
    check(memchr(name, 0, sizeof name) != NULL);
    device_identification(data, size, name);
    check(memchr(name, 0, sizeof name) != NULL);
}

static void read_capacity(const uint8_t *data, size_t size) {
    struct capacity capacity;
    for (int long_form = 0; long_form < 2; long_form++) {
        if (device_capacity(data, size, long_form, &capacity))
            check(capacity.block_bytes > 0 && capacity.blocks <= INT64_MAX / capacity.block_bytes);
    }
}

static void read_ranges(const uint8_t *data, size_t size) {
    struct range_list list;
    bool (*const parsers[])(const uint8_t *, size_t, struct range_list *) = {
        unmap_list_parse, token_list_parse, populate_list_parse};
    for (int i = 0; i < 3; i++) {
        if (!parsers[i](data, size, &list))
            continue;
        check(list.start + list.count * 16 <= size);
        for (size_t k = 0; k < list.count; k++)
            range_list_at(&list, k);
    }
}

static void read_copies(const uint8_t *data, size_t size) {
    struct copy_list list;
    struct copy_segment segment;
    for (int long_form = 0; long_form < 2; long_form++) {
        size_t steps = 0;
        if (!copy_list_parse(data, size, long_form, &list))
            continue;
        while (copy_list_next(&list, &segment) == COPY_SEGMENT)
            check(++steps <= size && segment.destination[0] != '\0');
        mode_list_keeps_geometry(data, size, long_form, 512, 1 << 20);
    }
}

static void read_blocks(const uint8_t *data, size_t size) {
    for (int form = 0; form < 4; form++) {
        struct reassign_list list;
        bool long_lba = (form & 1) != 0;
        if (!reassign_list_parse(data, size, long_lba, (form & 2) != 0, &list))
            continue;
        check(4 + list.count * (long_lba ? 8 : 4) <= size);
        for (size_t i = 0; i < list.count; i++)
            check(long_lba || reassign_list_at(&list, i) <= UINT32_MAX);
    }
    for (size_t i = 0; i < ata_trim_count(size); i++)
        check(ata_trim_at(data, size, i).blocks <= UINT16_MAX);
    if (size >= SCATTERED_BYTES)
        check(scattered_range(data).blocks <= UINT32_MAX);
}

static void read_tokens(const uint8_t *data, size_t size) {
    struct token_information info;
    struct token_use use;
    token_populate_immediate(data, size);
    if (token_information_parse(data, size, &info) && info.token != NULL)
        check(info.token >= data && info.token + TOKEN_BYTES <= data + size &&
              token_kind(info.token) <= TOKEN_ZEROS);
    if (token_use_parse(data, size, &use))
        check(use.token == data + 16 && size >= 16 + TOKEN_BYTES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static void (*const readers[])(const uint8_t *,
                                   size_t) = {read_command, read_sense,  read_pages,  read_capacity,
                                              read_ranges,  read_copies, read_blocks, read_tokens};
    if (size > 0)
        readers[data[0] % (sizeof readers / sizeof readers[0])](data + 1, size - 1);
    return 0;
}
