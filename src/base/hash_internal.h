/* The implementations behind hash.h. One table of functions is chosen when the program is loaded, before main() and
 * before any thread, and never changes; until then the portable one is in place. */
#ifndef BASE_HASH_INTERNAL_H
#define BASE_HASH_INTERNAL_H

#include "base/hash.h"

struct sha256_impl {
    const char *name;
    /* Feeds count blocks of 64 bytes into state. */
    void (*blocks)(uint32_t state[8], const uint8_t *data, size_t count);
    /* As sha256_node() and sha256_leaf(). */
    void (*node)(const uint8_t *left, const uint8_t *right, uint8_t *out);
    void (*leaf)(const uint8_t *data, uint8_t *out);
    /* As sha256_nodes(). */
    void (*nodes)(const uint8_t *in, size_t pair_count, uint8_t *out);
};

struct crc32c_impl {
    const char *name;
    /* Without the inversions at start and end. */
    uint32_t (*update)(uint32_t crc, const uint8_t *data, size_t len);
};

extern const uint32_t sha256_k[64];
extern const uint32_t sha256_start[8];

extern const struct sha256_impl sha256_portable;
extern const struct crc32c_impl crc32c_portable;
#if defined(__x86_64__)
extern const struct sha256_impl sha256_x86; /* needs SHA-NI, SSE4.1 */
extern const struct crc32c_impl crc32c_x86; /* needs SSE4.2, PCLMULQDQ */
bool sha256_x86_usable(void);
bool crc32c_x86_usable(void);
#elif defined(__aarch64__)
extern const struct sha256_impl sha256_armv8;
extern const struct crc32c_impl crc32c_armv8;
bool sha256_armv8_usable(void);
bool crc32c_armv8_usable(void);
#endif

/* Fills the tables of crc32c_portable; done once by the loader, again it does nothing new. */
void crc32c_portable_init(void);

/* node and leaf in terms of blocks(), for implementations that gain nothing from more. */
void sha256_node_by_blocks(const struct sha256_impl *impl, const uint8_t *left, const uint8_t *right, uint8_t *out);
void sha256_leaf_by_blocks(const struct sha256_impl *impl, const uint8_t *data, uint8_t *out);

#endif
