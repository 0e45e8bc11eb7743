/*
 * lun: logical unit numbers as people write them.
 */
#ifndef SANREWIND_PROTO_LUN_H
#define SANREWIND_PROTO_LUN_H

#include <stddef.h>
#include <stdint.h>

enum { LUN_TEXT_BYTES = 24, PATH_NAME_BYTES = 256 + LUN_TEXT_BYTES };

/*
 * The number of a single-level LUN in the 8-byte field (SAM-6, 4.7): peripheral device addressing
 * with its bus identifier (some targets put a LUN above 255 there as a plain 16-bit number), flat
 * space, and extended flat space. UINT64_MAX when it has more levels or another form.
 */
uint64_t lun_number(uint64_t field);

/* The number, or the 16 hex digits of the field when it is not a plain one: "300", "0x4001…". */
const char *lun_text(uint64_t field, char text[LUN_TEXT_BYTES]);

/* "TARGET/LUN": how a path is called everywhere. */
const char *lun_path_name(const char *target, uint64_t field, char text[PATH_NAME_BYTES]);

#endif
