/* SHA-256 and CRC-32C with run-time dispatch; a keyed 64-bit hash for tables.
 *
 * All functions are pure, allocate nothing (but for the contexts of sha=openssl-evp) and may be called from any thread. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base/bytes.h"

#define HASH_LEN 32
typedef struct {
    uint8_t b[HASH_LEN];
} hash_t;

static inline bool hash_equal(const hash_t *a, const hash_t *b) { return memcmp(a->b, b->b, HASH_LEN) == 0; }
extern const hash_t HASH_ZERO;  /* 32 zero bytes */
extern const hash_t HASH_EMPTY; /* SHA-256 of the empty string */

/* Used by one thread from sha256_init() to sha256_final(); at most four at a time per thread. */
struct sha256 {
    uint32_t state[8];
    uint64_t total; /* bytes hashed so far */
    uint8_t block[64];
};
void sha256_init(struct sha256 *s);
void sha256_update(struct sha256 *s, const void *data, size_t len);
void sha256_final(struct sha256 *s, hash_t *out);
/* One message. out may overlap data. */
void sha256(const void *data, size_t len, hash_t *out);
/* SHA-256(prefix byte || left || right), the 65-byte Merkle node. */
void sha256_node(const hash_t *left, const hash_t *right, hash_t *out);
/* SHA-256(0x00 || leaf data of 32 bytes). */
void sha256_leaf(const hash_t *data, hash_t *out);
/* One level of a Merkle tree: out[i] = node(in[2i], in[2i+1]) for i < pair_count; two messages are interleaved where the
 * CPU gains from it. out may equal in. */
void sha256_nodes(const hash_t *in, size_t pair_count, hash_t *out);
/* Which implementation runs: "sha-ni", "armv8", "portable", or "openssl-evp (provider NAME)" when built with the option sha=openssl-evp. */
const char *sha256_backend(void);

/* CRC-32C (Castagnoli). Start with seed 0, or with any 32-bit seed; chain by passing the previous result. */
uint32_t crc32c(uint32_t seed, const void *data, size_t len);

/* Keyed hash for in-memory tables (xxh3-like mixing is fine); stable only within a process. */
uint64_t hash64(uint64_t seed, const void *data, size_t len);

#endif
