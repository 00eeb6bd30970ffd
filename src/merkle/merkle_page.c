/* One page: 256 neighbouring nodes of a band's lowest level and what they hash to.
 *
 * Stored form, PAGE_BYTES = 8,720:
 *
 *      0   256 hashes of level 0 of the band
 *   8192   16 hashes of level 4
 *   8704   crc:u32le     CRC-32C over bytes 0..8703 and 8708..8719, seeded with the CRC-32C of the database's uuid
 *   8708   band:u32le
 *   8712   page_no:u64le
 *
 * The levels between are recomputed: 1, 3 or 7 hashes for a node one, two or three levels above a stored one. */
#include "merkle/merkle_internal.h"

#include <assert.h>

static_assert(PAGE_BYTES == 8720, "the stored form is published in the format description");
static_assert(sizeof(hash_t) == HASH_LEN, "hashes lie side by side");

void page_fill(hash_t nodes[PAGE_NODES], size_t from, size_t count, const hash_t *leaves)
{
    assert(from + count <= PAGE_WIDTH);
    memcpy(&nodes[from], leaves, count * sizeof *leaves);
    for (unsigned level = 1; level < BAND_LEVELS; level++) {
        size_t first = from >> level, end = (from + count) >> level;

        if (first == end) /* nothing completed here, so nothing above */
            break;
        sha256_nodes(&nodes[node_at(level - 1, 2 * first)], end - first, &nodes[node_at(level, first)]);
    }
}

void page_root(const hash_t nodes[PAGE_NODES], hash_t *root) { sha256_node(&nodes[node_at(7, 0)], &nodes[node_at(7, 1)], root); }

static uint32_t page_crc(const uint8_t *data, uint32_t seed)
{
    return crc32c(crc32c(seed, data, PAGE_BODY_BYTES), data + PAGE_BODY_BYTES + 4, PAGE_BYTES - PAGE_BODY_BYTES - 4);
}

void page_encode(const hash_t nodes[PAGE_NODES], uint32_t seed, unsigned band, uint64_t no, uint8_t out[PAGE_BYTES])
{
    memcpy(out, nodes, PAGE_MID_OFFSET);
    memcpy(out + PAGE_MID_OFFSET, &nodes[node_at(PAGE_MID_LEVEL, 0)], 16 * HASH_LEN);
    store_u32le(out + PAGE_BODY_BYTES + 4, band);
    store_u64le(out + PAGE_BODY_BYTES + 8, no);
    store_u32le(out + PAGE_BODY_BYTES, page_crc(out, seed));
}

enum status page_check(const uint8_t *data, size_t len, uint32_t seed, unsigned band, uint64_t no, struct err *err)
{
    if (len != PAGE_BYTES)
        return err_set(err, ST_CORRUPT, 0, "tree page of %zu bytes", len);
    if (load_u32le(data + PAGE_BODY_BYTES) != page_crc(data, seed))
        return err_set(err, ST_CORRUPT, 0, "tree page %llu of band %u: wrong checksum", (unsigned long long)no, band);
    if (load_u32le(data + PAGE_BODY_BYTES + 4) != band || load_u64le(data + PAGE_BODY_BYTES + 8) != no)
        return err_set(err, ST_CORRUPT, 0, "tree page %llu of band %u is in the place of another", (unsigned long long)no, band);
    return ST_OK;
}

/* Hashes count (a power of two up to 16) neighbouring nodes down to one. */
static void reduce(const hash_t *in, size_t count, hash_t *out)
{
    hash_t level[8];

    assert(count <= 16);
    if (count == 1) {
        *out = in[0];
        return;
    }
    count /= 2;
    sha256_nodes(in, count, level);
    for (; count > 1; count /= 2)
        sha256_nodes(level, count / 2, level);
    *out = level[0];
}

static const hash_t *stored_level(const uint8_t *data, unsigned level)
{
    return (const hash_t *)(const void *)(data + (level == 0 ? 0 : PAGE_MID_OFFSET));
}

void stored_node(const uint8_t *data, unsigned level, size_t index, hash_t *out)
{
    unsigned base = level < PAGE_MID_LEVEL ? 0 : PAGE_MID_LEVEL;
    size_t width = (size_t)1 << (level - base);

    reduce(stored_level(data, base) + index * width, width, out);
}

void stored_root(const uint8_t *data, hash_t *root) { reduce(stored_level(data, PAGE_MID_LEVEL), 16, root); }

void stored_expand(const uint8_t *data, hash_t nodes[PAGE_NODES]) { page_fill(nodes, 0, PAGE_WIDTH, stored_level(data, 0)); }
