/*
 * crc32: the checksum of Ethernet and Fibre Channel (IEEE 802.3, 3.2.9; FC-FS-5, 11).
 *
 * crc32_frame(0, data, n) is the usual value: "123456789" gives cbf43926h. On the wire it stands
 * with its least significant byte first. Chains as crc32c() does.
 */
#ifndef SANREWIND_COMMON_CRC32_H
#define SANREWIND_COMMON_CRC32_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32_frame(uint32_t crc, const void *data, size_t length);

#endif
