/* Blocks of a run file: building, checking, searching. docs/format-index.md has the offsets.
 *
 * A block is checked completely once, when it comes from the disk (checksum, then its structure). After that the functions
 * here trust it: they may not be given a block that did not pass its check.
 * Nothing here does I/O. Builders allocate; they say ST_NOMEM and may then only be freed. */
#ifndef INDEX_RUN_FORMAT_H
#define INDEX_RUN_FORMAT_H

#include "base/hash.h"
#include "index/memtable.h"

#define RUN_HEADER_LEN 128u
#define RUN_FOOTER_LEN 128u
#define RUN_FORMAT_VERSION 1u
#define BLOCK_HEADER_LEN 16u
#define BLOCK_LEN_MAX ((size_t)16 << 20) /* any block but the root */
#define ROOT_LEN_MAX ((size_t)1 << 30)
#define DATA_BYTES_TARGET 8192u
#define DATA_KEYS_MAX 2048u /* an entry has at least 6 bytes */
#define DATA_GROUP 16u
#define INLINE_VERSIONS_MAX 64u
#define VERSION_PAGE_MAX 1024u
#define LIST_BLOCK_MAX 256u
#define LIST_ITEM_LEN 24u
#define FENCE_ITEM_LEN 32u
#define FENCE_BYTES_TARGET 8192u
#define FENCE_ITEMS_MIN 16u
#define PARTITION_BLOCKS_MAX 256u
#define PARTITION_KEYS_MAX 65536u
#define BLOOM_LINE_LEN 64u
#define BLOOM_PAGE_LEN 4096u
#define BLOOM_PAGE_LINES 63u
#define BLOOM_BITS_PER_KEY 10u
#define BLOOM_PROBES 7u
#define VERSION_BYTES_MAX 40u /* an encoded version: 10 + 10 + 5 + 10 at most */

enum block_kind { BLOCK_DATA = 'D', BLOCK_VERSIONS = 'V', BLOCK_LIST = 'L', BLOCK_FENCE = 'F', BLOCK_BLOOM = 'B', BLOCK_ROOT = 'R' };

/* What a block is checked against. */
struct run_identity {
    uint8_t uuid[16];
    uint64_t salt, run_id;
    uint32_t seed;              /* run_seed() of the three above */
    uint64_t tx_first, tx_last; /* of the file */
    uint64_t file_len;
    const char *path;
};

uint32_t run_seed(const uint8_t uuid[16], uint64_t salt, uint64_t run_id);
/* Checksum of what follows the checksum field (or comes before it, for header and footer) of a piece at offset. */
uint32_t run_checksum(uint32_t seed, uint64_t offset, const void *data, size_t len);
uint64_t index_key_hash(struct index_key k);

/* A growing byte buffer. */
struct grow {
    uint8_t *data;
    size_t len, cap;
};
bool grow_reserve(struct grow *g, size_t more); /* room for more bytes behind len */
void grow_free(struct grow *g);

static inline uint32_t block_len(const uint8_t *b) { return load_u32le(b + 8); }
static inline uint32_t block_count(const uint8_t *b) { return load_u16le(b + 6); }  /* D and V */
static inline uint32_t block_items(const uint8_t *b) { return load_u32le(b + 12); } /* L, F, R; B: lines */
static inline uint32_t data_ns(const uint8_t *b) { return load_u16le(b + 12); }
static inline uint32_t data_skip(const uint8_t *b) { return load_u16le(b + 14); }
/* Fills the header of a finished block but its checksum, which run_block_seal() adds once the offset is known. */
void run_block_header(uint8_t *b, enum block_kind kind, size_t count, size_t len, uint32_t aux);
uint32_t run_block_seal(uint8_t *b, uint32_t seed, uint64_t offset);
/* Checksum, kind and structure of a block of len bytes read from offset. */
/* The same for bytes that passed run_block_check() before, as far as their length and checksum tell: the structure is not looked at again. */
MUST_USE enum status run_block_check_again(const struct run_identity *id, enum block_kind kind, uint64_t offset, const uint8_t *b, size_t len,
                                           struct err *err);
MUST_USE enum status run_block_check(const struct run_identity *id, enum block_kind kind, uint64_t offset, const uint8_t *b, size_t len,
                                     struct err *err);

/* LEB128 in a checked block. */
static inline uint64_t varint_get(const uint8_t **p)
{
    uint64_t v = *(*p)++;

    if (v < 0x80)
        return v;
    v &= 0x7f;
    for (unsigned shift = 7;; shift += 7) {
        uint8_t b = *(*p)++;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80)
            return v;
    }
}
static inline uint8_t *varint_put(uint8_t *p, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        *p++ = (uint8_t)(v | 0x80);
    *p++ = (uint8_t)v;
    return p;
}

/* --- data blocks (run_data.c) --- */

struct data_builder {
    struct grow out;
    uint16_t slots[DATA_KEYS_MAX];
    uint32_t count, ns;
    size_t head_at, head_len; /* key bytes of the group's head in out */
};
MUST_USE bool data_block_add(struct data_builder *b, struct index_key key, const uint8_t *payload, size_t payload_len);
MUST_USE bool data_block_finish(struct data_builder *b); /* appends heads and slots, fills the header */
/* 8 bytes of key from skip on, zero padded, as a big-endian number. */
uint64_t data_block_head(struct bytes key, size_t skip);
void data_block_reset(struct data_builder *b);

struct data_entry {
    const uint8_t *head; /* key bytes of the group's head */
    uint32_t shared, suffix_len;
    const uint8_t *suffix;
    const uint8_t *payload;
};
void data_block_entry(const uint8_t *block, uint32_t i, struct data_entry *e);
/* Number of entries below key; *equal when the next one is the key. */
uint32_t data_block_search(const uint8_t *block, struct bytes key, bool *equal);

/* --- versions (run_versions.c) --- */

/* The payload of a key, read. */
struct payload {
    uint64_t count;
    const uint8_t *versions;     /* count <= INLINE_VERSIONS_MAX: encoded, newest first */
    struct index_version newest; /* count > INLINE_VERSIONS_MAX, as are the following */
    uint64_t offset;
    uint32_t len; /* of the version page or of the whole list */
};
void run_payload_read(const uint8_t *p, uint64_t tx_first, struct payload *out);
/* Reads one version in a checked block; *tx is the previous one's or, with first set, the run's tx_first. */
static inline const uint8_t *version_get(const uint8_t *p, bool first, uint64_t *tx, struct index_version *out)
{
    uint64_t delta = varint_get(&p), entry = varint_get(&p);

    *tx = first ? *tx + delta : *tx - delta;
    out->tx_id = *tx;
    out->entry_index = (uint32_t)(entry >> 2);
    out->is_deleted = (entry & 1) != 0;
    out->has_expiry = (entry & 2) != 0;
    out->value_len = (uint32_t)varint_get(&p);
    out->expires_at = 0;
    if (out->has_expiry) {
        uint64_t z = varint_get(&p);
        out->expires_at = (int64_t)(z >> 1) ^ -(int64_t)(z & 1);
    }
    return p;
}
/* Encodes up to INLINE_VERSIONS_MAX versions given oldest first as a whole payload; the bytes used. */
size_t run_payload_put_inline(uint8_t *out, uint64_t tx_first, const struct index_version *oldest_first, uint32_t count);
size_t run_payload_put_paged(uint8_t *out, uint64_t tx_first, uint64_t count, const struct index_version *newest, uint64_t offset, uint64_t len);
#define PAYLOAD_BYTES_MAX (20u + INLINE_VERSIONS_MAX * VERSION_BYTES_MAX)

/* Builds a version page of count versions, oldest first, behind out->len. */
MUST_USE bool version_page_put(struct grow *out, const struct index_version *v, uint32_t count);
void version_page_nth(const uint8_t *block, uint32_t nth, struct index_version *out);
uint64_t version_page_tx(const uint8_t *block, uint32_t nth);
/* Number of versions with tx id <= upto. */
uint32_t version_page_upto(const uint8_t *block, uint64_t upto);

struct list_item {
    uint64_t offset;
    uint32_t len, count;
    uint64_t first_tx;
};
static inline struct list_item list_item_at(const uint8_t *block, uint32_t i)
{
    const uint8_t *p = block + BLOCK_HEADER_LEN + (size_t)i * LIST_ITEM_LEN;
    return (struct list_item){load_u64le(p), load_u32le(p + 8), load_u32le(p + 12), load_u64le(p + 16)};
}

/* --- fences (run_fence.c) --- */

struct fence_item {
    uint64_t offset;
    uint32_t len, bloom_lines;
    uint64_t keys;
};
struct fence_builder {
    struct grow out, slots;
    uint32_t count;
};
MUST_USE bool fence_add(struct fence_builder *b, struct index_key separator, struct fence_item item);
MUST_USE bool fence_finish(struct fence_builder *b, enum block_kind kind);
void fence_reset(struct fence_builder *b);
void fence_free(struct fence_builder *b);
struct index_key fence_key(const uint8_t *block, uint32_t i);
struct fence_item fence_item_at(const uint8_t *block, uint32_t i);
/* Number of items whose separator is at or below key (below it: strictly): the last of these is where the key belongs. */
uint32_t fence_search(const uint8_t *block, struct index_key key, bool below);

/* --- Bloom filters (run_bloom.c) --- */

static inline uint32_t bloom_lines(uint64_t keys)
{
    uint64_t lines = (keys * BLOOM_BITS_PER_KEY + 8 * BLOOM_LINE_LEN - 1) / (8 * BLOOM_LINE_LEN);
    return lines == 0 ? 1 : (uint32_t)lines;
}
static inline uint32_t bloom_pages(uint32_t lines) { return (lines + BLOOM_PAGE_LINES - 1) / BLOOM_PAGE_LINES; }
static inline uint32_t bloom_page_lines(uint32_t lines, uint32_t page)
{
    return lines - page * BLOOM_PAGE_LINES < BLOOM_PAGE_LINES ? lines - page * BLOOM_PAGE_LINES : BLOOM_PAGE_LINES;
}
static inline uint32_t bloom_line(uint64_t hash, uint32_t lines) { return (uint32_t)(((hash >> 32) * lines) >> 32); }
void bloom_line_add(uint8_t *line, uint64_t hash);
bool bloom_line_has(const uint8_t *line, uint64_t hash);
/* Builds the pages of a filter over hashes behind out->len, each at 4,096-byte steps, headers filled but for the checksum. */
MUST_USE bool bloom_build(struct grow *out, const uint64_t *hashes, size_t count);

#endif
