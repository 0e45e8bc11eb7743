/*
 * device: what a logical unit says of itself: INQUIRY and READ CAPACITY data (SPC-5, SBC-4). Pure
 * parsers; fields that did not come are as "not known".
 */
#ifndef SANREWIND_TAP_SCSI_DEVICE_H
#define SANREWIND_TAP_SCSI_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DEVICE_NAME_BYTES = 256 };

enum device_page {
    PAGE_SERIAL = 0x80,
    PAGE_IDENTIFICATION = 0x83,
    PAGE_LIMITS = 0xb0,
    PAGE_PROVISIONING = 0xb2,
};

/* What unmapped blocks read as. */
enum unmapped_content {
    UNMAPPED_UNKNOWN,   /* the device has not been heard on it */
    UNMAPPED_ZEROS,     /* LBPRZ 1, or xx1b */
    UNMAPPED_UNDEFINED, /* LBPRZ 0, or 000b */
    UNMAPPED_PATTERN,   /* 010b: the provisioning initialization pattern */
};

struct standard_inquiry {
    bool is_disk;      /* a direct-access block device that is there */
    bool removable;    /* RMB */
    bool ignores_same; /* zeroes on WRITE SAME with UNMAP whatever block it was given */
};

/* SPC-5 6.7.2. False: cut before it says anything. */
bool device_standard_inquiry(const uint8_t *data, size_t bytes, struct standard_inquiry *inquiry);

/* VPD page 80h: the serial number, trimmed; "" when there is none. False: cut or another page. */
bool device_serial(const uint8_t *data, size_t bytes, char serial[DEVICE_NAME_BYTES]);

/*
 * VPD page 83h: the best name of the logical unit, "" when it has none that could be unique in the
 * world. NAA 6 before NAA 5 and 2, EUI-64, T10 vendor, SCSI name strings. False: cut or another
 * page.
 */
bool device_identification(const uint8_t *data, size_t bytes, char name[DEVICE_NAME_BYTES]);

/*
 * One designator as text: "naa.6001405...", "eui.0011...", "t10.LIO-ORG ...", or the name string
 * itself. `kind` is byte 1 of the descriptor without PIV: association in bits 5 and 4, designator
 * type below. Returns its rank, higher is better; 0 when it does not name a logical unit, or not
 * one only (a name without a registered company in it).
 */
unsigned device_designator(uint8_t kind, uint8_t code_set, const uint8_t *bytes, size_t length,
                           char name[DEVICE_NAME_BYTES]);

/* VPD page B2h (SBC-4 6.6.7). False: cut or another page. */
bool device_provisioning(const uint8_t *data, size_t bytes, enum unmapped_content *unmapped);

/* VPD page B0h (SBC-4 6.6.4), as far as it concerns the effect of UNMAP. */
struct device_limits {
    uint32_t unmap_granularity; /* blocks; 0 not said */
    uint32_t unmap_alignment;   /* 0 when it is not valid (UGAVALID) */
};

/* False: cut or another page. */
bool device_limits(const uint8_t *data, size_t bytes, struct device_limits *limits);

struct capacity {
    uint64_t blocks; /* 0: more than READ CAPACITY(10) can say */
    uint32_t block_bytes;
    bool complete;             /* READ CAPACITY(16) up to the provisioning bits */
    bool provisioned;          /* LBPME */
    bool zeros;                /* LBPRZ */
    bool protection;           /* PROT_EN */
    uint8_t physical_exponent; /* LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT */
    uint16_t lowest_aligned;   /* LOWEST ALIGNED LOGICAL BLOCK ADDRESS */
};

/* READ CAPACITY(10) or (16) data (SBC-4 5.20, 5.21). False: cut before the block length, or absurd.
 */
bool device_capacity(const uint8_t *data, size_t bytes, bool long_form, struct capacity *capacity);

#endif
