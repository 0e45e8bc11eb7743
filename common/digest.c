#include "common/digest.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

struct sha256 {
    EVP_MD_CTX *context;
};

struct sha256 *sha256_create(void) {
    struct sha256 *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->context = EVP_MD_CTX_new();
    if (s->context == NULL || EVP_DigestInit_ex(s->context, EVP_sha256(), NULL) != 1) {
        sha256_destroy(s);
        return NULL;
    }
    return s;
}

void sha256_destroy(struct sha256 *s) {
    if (s == NULL)
        return;
    EVP_MD_CTX_free(s->context);
    free(s);
}

void sha256_update(struct sha256 *s, const void *data, size_t length) {
    EVP_DigestUpdate(s->context, data, length);
}

void sha256_zeros(struct sha256 *s, uint64_t length) {
    static const uint8_t zeros[65536];
    while (length > 0) {
        size_t part = length < sizeof zeros ? (size_t)length : sizeof zeros;
        sha256_update(s, zeros, part);
        length -= part;
    }
}

void sha256_finish_hex(struct sha256 *s, char hex[SHA256_HEX_BYTES]) {
    uint8_t sum[EVP_MAX_MD_SIZE] = {0};
    unsigned int length = 0;
    EVP_DigestFinal_ex(s->context, sum, &length);
    for (size_t i = 0; i < SHA256_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", sum[i]);
}

bool sha256_hex_so_far(const struct sha256 *s, char hex[SHA256_HEX_BYTES]) {
    AUTO(sha256) copy = sha256_create();
    if (copy == NULL || EVP_MD_CTX_copy_ex(copy->context, s->context) != 1)
        return false;
    sha256_finish_hex(copy, hex);
    return true;
}

static uint64_t first_bytes(const uint8_t *sum) {
    uint64_t id = 0;
    for (size_t i = 0; i < 8; i++)
        id = id << 8 | sum[i];
    return id;
}

uint64_t sha256_finish_id64(struct sha256 *s) {
    uint8_t sum[EVP_MAX_MD_SIZE] = {0};
    unsigned int length = 0;
    EVP_DigestFinal_ex(s->context, sum, &length);
    return first_bytes(sum);
}

uint64_t digest_id64(const void *data, size_t length) {
    uint8_t sum[EVP_MAX_MD_SIZE] = {0};
    EVP_Digest(data, length, sum, NULL, EVP_sha256(), NULL);
    return first_bytes(sum);
}
