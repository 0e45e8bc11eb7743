/*
 * crc32c: the Castagnoli checksum (RFC 7143, 13.1; the digest of iSCSI and of every record here).
 *
 * By the processor's instructions where it has them (ISA-L). crc32c(0, data, n) is the usual value:
 * "123456789" gives e3069283h. Chain with the previous value: crc32c(crc32c(0, a), b) is that of
 * a|b.
 */
#ifndef SANREWIND_COMMON_CRC32C_H
#define SANREWIND_COMMON_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(uint32_t crc, const void *data, size_t length);

#endif
