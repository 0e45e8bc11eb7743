#include "tap/scsi/ata.h"

#include "common/cursor.h"

enum ata_form {
    FORM_VOLUME,
    FORM_HARMLESS,
    FORM_CAPACITY,
    FORM_28,       /* 28-bit LBA, 8-bit count in which 0 is 256 */
    FORM_48,       /* 48-bit LBA, 16-bit count in which 0 is 65536 */
    FORM_48_SPOIL, /* likewise, and leaves the blocks unreadable */
    FORM_QUEUED,   /* likewise, with the count in the features */
    FORM_TRIM,     /* harmless without the TRIM bit */
    FORM_SMART,    /* harmless unless it writes the log of SCT commands */
    FORM_LOG,      /* likewise */
    FORM_SANITIZE, /* harmless when it only asks for the status */
    FORM_MAX,      /* harmless when it only asks for the greatest address */
};

struct ata_row {
    uint8_t code;
    uint8_t form; /* enum ata_form */
    const char *name;
};

/* ACS-5 7, and ATA/ATAPI-7 for what it dropped. What is not here may do anything. */
static const struct ata_row rows[] = {
    {0x00, FORM_HARMLESS, "NOP"},
    {0x06, FORM_TRIM, "DATA SET MANAGEMENT"},
    {0x0b, FORM_HARMLESS, "REQUEST SENSE DATA EXT"},
    {0x20, FORM_HARMLESS, "READ SECTORS"},
    {0x24, FORM_HARMLESS, "READ SECTORS EXT"},
    {0x25, FORM_HARMLESS, "READ DMA EXT"},
    {0x27, FORM_HARMLESS, "READ NATIVE MAX ADDRESS EXT"},
    {0x29, FORM_HARMLESS, "READ MULTIPLE EXT"},
    {0x2f, FORM_HARMLESS, "READ LOG EXT"},
    {0x30, FORM_28, "WRITE SECTORS"},
    {0x34, FORM_48, "WRITE SECTORS EXT"},
    {0x35, FORM_48, "WRITE DMA EXT"},
    {0x37, FORM_CAPACITY, "SET MAX ADDRESS EXT"},
    {0x39, FORM_48, "WRITE MULTIPLE EXT"},
    {0x3a, FORM_48, "WRITE STREAM DMA EXT"},
    {0x3b, FORM_48, "WRITE STREAM EXT"},
    {0x3c, FORM_28, "WRITE VERIFY"},
    {0x3d, FORM_48, "WRITE DMA FUA EXT"},
    {0x3f, FORM_LOG, "WRITE LOG EXT"},
    {0x40, FORM_HARMLESS, "READ VERIFY SECTORS"},
    {0x42, FORM_HARMLESS, "READ VERIFY SECTORS EXT"},
    {0x44, FORM_48, "ZERO EXT"},
    {0x45, FORM_48_SPOIL, "WRITE UNCORRECTABLE EXT"},
    {0x47, FORM_HARMLESS, "READ LOG DMA EXT"},
    {0x57, FORM_LOG, "WRITE LOG DMA EXT"},
    {0x5c, FORM_HARMLESS, "TRUSTED RECEIVE"},
    {0x5d, FORM_HARMLESS, "TRUSTED RECEIVE DMA"},
    {0x60, FORM_HARMLESS, "READ FPDMA QUEUED"},
    {0x61, FORM_QUEUED, "WRITE FPDMA QUEUED"},
    {0x78, FORM_MAX, "ACCESSIBLE MAX ADDRESS"},
    {0x90, FORM_HARMLESS, "EXECUTE DEVICE DIAGNOSTIC"},
    {0x92, FORM_HARMLESS, "DOWNLOAD MICROCODE"},
    {0x93, FORM_HARMLESS, "DOWNLOAD MICROCODE DMA"},
    {0x98, FORM_HARMLESS, "CHECK POWER MODE"},
    {0xa1, FORM_HARMLESS, "IDENTIFY PACKET DEVICE"},
    {0xb0, FORM_SMART, "SMART"},
    {0xb4, FORM_SANITIZE, "SANITIZE DEVICE"},
    {0xc4, FORM_HARMLESS, "READ MULTIPLE"},
    {0xc5, FORM_28, "WRITE MULTIPLE"},
    {0xc6, FORM_HARMLESS, "SET MULTIPLE MODE"},
    {0xc8, FORM_HARMLESS, "READ DMA"},
    {0xca, FORM_28, "WRITE DMA"},
    {0xce, FORM_48, "WRITE MULTIPLE FUA EXT"},
    {0xe0, FORM_HARMLESS, "STANDBY IMMEDIATE"},
    {0xe1, FORM_HARMLESS, "IDLE IMMEDIATE"},
    {0xe2, FORM_HARMLESS, "STANDBY"},
    {0xe3, FORM_HARMLESS, "IDLE"},
    {0xe4, FORM_HARMLESS, "READ BUFFER"},
    {0xe5, FORM_HARMLESS, "CHECK POWER MODE"},
    {0xe6, FORM_HARMLESS, "SLEEP"},
    {0xe7, FORM_HARMLESS, "FLUSH CACHE"},
    {0xe8, FORM_HARMLESS, "WRITE BUFFER"},
    {0xe9, FORM_HARMLESS, "READ BUFFER DMA"},
    {0xea, FORM_HARMLESS, "FLUSH CACHE EXT"},
    {0xeb, FORM_HARMLESS, "WRITE BUFFER DMA"},
    {0xec, FORM_HARMLESS, "IDENTIFY DEVICE"},
    {0xef, FORM_HARMLESS, "SET FEATURES"},
    {0xf1, FORM_HARMLESS, "SECURITY SET PASSWORD"},
    {0xf2, FORM_HARMLESS, "SECURITY UNLOCK"},
    {0xf3, FORM_HARMLESS, "SECURITY ERASE PREPARE"},
    {0xf4, FORM_VOLUME, "SECURITY ERASE UNIT"},
    {0xf5, FORM_HARMLESS, "SECURITY FREEZE LOCK"},
    {0xf6, FORM_HARMLESS, "SECURITY DISABLE PASSWORD"},
    {0xf8, FORM_HARMLESS, "READ NATIVE MAX ADDRESS"},
    {0xf9, FORM_CAPACITY, "SET MAX ADDRESS"},
};

/* The registers of an ATA command, as wide as the CDB has them. */
struct registers {
    unsigned protocol;
    bool extended;
    uint16_t features;
    uint16_t count;
    uint64_t lba;
    uint8_t device;
    uint8_t command;
};

static void read_12(struct cursor c, struct registers *r) {
    cursor_skip(&c, 2); /* protocol, flags */
    r->features = cursor_u8(&c);
    r->count = cursor_u8(&c);
    r->lba = cursor_u8(&c);
    r->lba |= (uint64_t)cursor_u8(&c) << 8;
    r->lba |= (uint64_t)cursor_u8(&c) << 16;
    r->device = cursor_u8(&c);
    r->command = cursor_u8(&c);
}

static void read_16(struct cursor c, struct registers *r) {
    static const unsigned shifts[] = {24, 0, 32, 8, 40, 16};
    cursor_skip(&c, 2);
    r->features = cursor_be16(&c);
    r->count = cursor_be16(&c);
    for (size_t i = 0; i < sizeof shifts / sizeof shifts[0]; i++)
        r->lba |= (uint64_t)cursor_u8(&c) << shifts[i];
    r->device = cursor_u8(&c);
    r->command = cursor_u8(&c);
}

static void read_32(struct cursor c, struct registers *r) {
    cursor_skip(&c, 4);
    r->lba = cursor_be(&c, 6);
    r->features = cursor_be16(&c);
    r->count = cursor_be16(&c);
    r->device = cursor_u8(&c);
    r->command = cursor_u8(&c);
}

/* False: cut short, or no such CDB. */
static bool read_registers(const uint8_t *cdb, size_t bytes, struct registers *r) {
    struct cursor c = cursor_of(cdb, bytes);
    uint8_t opcode = cursor_u8(&c);
    size_t whole = opcode == 0xa1 ? 12 : opcode == 0x85 ? 16 : 32;
    if (bytes < whole || !cursor_skip(&c, opcode == 0x7f ? 9 : 0))
        return false;
    struct cursor flags = c;
    uint8_t first = cursor_u8(&flags);
    *r = (struct registers){.protocol = first >> 1 & 0x0f, .extended = (first & 1) != 0};
    if (opcode == 0xa1)
        read_12(c, r);
    else if (opcode == 0x85)
        read_16(c, r);
    else
        read_32(c, r);
    return true;
}

static struct ata_effect range_48(const struct registers *r, uint16_t count) {
    /* Without EXTEND the upper halves are not the CDB's (SAT-5 12.2.2.3). */
    if (!r->extended)
        return (struct ata_effect){.kind = ATA_VOLUME};
    return (struct ata_effect){
        .kind = ATA_RANGE, .lba = r->lba, .blocks = count > 0 ? count : UINT64_C(65536)};
}

static struct ata_effect range_28(const struct registers *r) {
    uint64_t count = r->count & 0xff;
    return (struct ata_effect){.kind = ATA_RANGE,
                               .lba = (r->lba & 0xffffff) | (uint64_t)(r->device & 0x0f) << 24,
                               .blocks = count > 0 ? count : 256};
}

static struct ata_effect harmless_if(bool harmless, enum ata_kind otherwise) {
    return (struct ata_effect){.kind = harmless ? ATA_HARMLESS : otherwise};
}

static struct ata_effect effect_of(enum ata_form form, const struct registers *r) {
    enum { SMART_WRITE_LOG = 0xd6, SCT_COMMAND_LOG = 0xe0, TRIM_BIT = 0x01 };
    bool to_sct = (r->lba & 0xff) == SCT_COMMAND_LOG;
    struct ata_effect effect = {.kind = ATA_VOLUME};
    switch (form) {
    case FORM_VOLUME:
        return effect;
    case FORM_HARMLESS:
        return harmless_if(true, ATA_VOLUME);
    case FORM_CAPACITY:
        return harmless_if(false, ATA_CAPACITY);
    case FORM_28:
        return range_28(r);
    case FORM_48:
        return range_48(r, r->count);
    case FORM_48_SPOIL:
        effect = range_48(r, r->count);
        effect.spoils = true;
        return effect;
    case FORM_QUEUED:
        return range_48(r, r->features);
    case FORM_TRIM:
        return harmless_if((r->features & TRIM_BIT) == 0, ATA_TRIM);
    case FORM_SMART:
        return harmless_if((r->features & 0xff) != SMART_WRITE_LOG || !to_sct, ATA_VOLUME);
    case FORM_LOG:
        return harmless_if(!to_sct, ATA_VOLUME);
    case FORM_SANITIZE: /* SANITIZE STATUS EXT */
        return harmless_if(r->features == 0, ATA_VOLUME);
    case FORM_MAX: /* GET NATIVE MAX ADDRESS EXT, FREEZE ACCESSIBLE MAX ADDRESS EXT */
        return harmless_if(r->features == 0 || r->features == 2, ATA_CAPACITY);
    }
    return effect;
}

/* Protocols that move no data to the device: resets, PIO and DMA data-in, asking for registers. */
static bool protocol_is_inbound(unsigned protocol) {
    enum { HARD_RESET = 0, SOFT_RESET = 1, PIO_IN = 4, DIAGNOSTIC = 8 };
    enum { DMA_IN = 10, RETURN_INFORMATION = 15 };
    return protocol == HARD_RESET || protocol == SOFT_RESET || protocol == PIO_IN ||
           protocol == DIAGNOSTIC || protocol == DMA_IN || protocol == RETURN_INFORMATION;
}

struct ata_effect ata_parse(const uint8_t *cdb, size_t bytes) {
    struct registers r;
    if (!read_registers(cdb, bytes, &r))
        return (struct ata_effect){.kind = ATA_VOLUME};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].code != r.command)
            continue;
        struct ata_effect effect = effect_of((enum ata_form)rows[i].form, &r);
        effect.name = rows[i].name;
        return effect;
    }
    return harmless_if(protocol_is_inbound(r.protocol), ATA_VOLUME);
}
