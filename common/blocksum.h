/*
 * blocksum: tells what blocks hold apart.
 *
 * Not CRC32C: storage is full of blocks that end in a CRC32C of themselves (ext4, for one), and all
 * of those have the same one. CRC-64 (ECMA-182, reflected), both halves combined, by the
 * processor's instructions where it has them (ISA-L). Two blocks that differ have the same sum with
 * a probability of 2^-32. Chain with the previous value, beginning with 0.
 */
#ifndef SANREWIND_COMMON_BLOCKSUM_H
#define SANREWIND_COMMON_BLOCKSUM_H

#include <stddef.h>
#include <stdint.h>

uint64_t blocksum_add(uint64_t sum, const void *data, size_t length);
/* Of all that was added. */
uint32_t blocksum_end(uint64_t sum);
/* Of one block. */
uint32_t blocksum(const void *data, size_t length);

#endif
