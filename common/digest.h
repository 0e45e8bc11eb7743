/*
 * digest: SHA-256 of images, and the 64-bit identifiers made from it.
 */
#ifndef SANREWIND_COMMON_DIGEST_H
#define SANREWIND_COMMON_DIGEST_H

#include "common/cleanup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHA256_BYTES = 32, SHA256_HEX_BYTES = 65 };

struct sha256;

struct sha256 *sha256_create(void); /* NULL: out of memory */
void sha256_destroy(struct sha256 *s);
void sha256_update(struct sha256 *s, const void *data, size_t length);
void sha256_zeros(struct sha256 *s, uint64_t length);
/* Ends the sum; hex is NUL-terminated. The object can only be destroyed afterwards. */
void sha256_finish_hex(struct sha256 *s, char hex[SHA256_HEX_BYTES]);

/* Likewise, the first 8 bytes of the sum, big-endian. */
uint64_t sha256_finish_id64(struct sha256 *s);

/* The sum of what came so far; more may follow. False: out of memory. */
bool sha256_hex_so_far(const struct sha256 *s, char hex[SHA256_HEX_BYTES]);

DEFINE_AUTO(sha256, sha256_destroy)

/* The first 8 bytes, big-endian, of the SHA-256 of `data`: names monitors and paths on the wire. */
uint64_t digest_id64(const void *data, size_t length);

#endif
