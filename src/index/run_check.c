/* Checksums of a run file, and the complete check of a block when it comes from the disk.
 *
 * A block that passes can be read without further bounds checks by the functions of run_format.h: all slots, lengths and
 * varints stay inside, keys and separators strictly ascend, versions descend within the run's tx range. */
#include "index/run_format.h"

#include <assert.h>

uint32_t run_seed(const uint8_t uuid[16], uint64_t salt, uint64_t run_id)
{
    uint8_t b[32];

    memcpy(b, uuid, 16);
    store_u64le(b + 16, salt);
    store_u64le(b + 24, run_id);
    return crc32c(0, b, sizeof b);
}

uint32_t run_checksum(uint32_t seed, uint64_t offset, const void *data, size_t len)
{
    uint8_t at[8];

    store_u64le(at, offset);
    return crc32c(crc32c(seed, at, sizeof at), data, len);
}

void run_block_header(uint8_t *b, enum block_kind kind, size_t count, size_t len, uint32_t aux)
{
    assert(count <= UINT16_MAX && len <= UINT32_MAX);
    store_u32le(b, 0);
    b[4] = (uint8_t)kind;
    b[5] = 0;
    store_u16le(b + 6, (uint16_t)count);
    store_u32le(b + 8, (uint32_t)len);
    store_u32le(b + 12, aux);
}

uint32_t run_block_seal(uint8_t *b, uint32_t seed, uint64_t offset)
{
    uint32_t crc = run_checksum(seed, offset, b + 4, block_len(b) - 4);

    store_u32le(b, crc);
    return crc;
}

/* --- structure --- */

static bool in_file(const struct run_identity *id, uint64_t offset, uint64_t len)
{
    return offset >= RUN_HEADER_LEN && len >= BLOCK_HEADER_LEN && len <= BLOCK_LEN_MAX && offset <= id->file_len && len <= id->file_len - offset;
}

/* One encoded version; *tx becomes its tx id. */
static bool version_ok(const struct run_identity *id, struct reader *r, bool first, uint64_t *tx)
{
    uint64_t delta = reader_varint(r), entry = reader_varint(r), value_len = reader_varint(r);

    if ((entry & 2) != 0)
        (void)reader_varint(r);
    if (r->failed || entry >> 2 > UINT32_MAX || value_len > UINT32_MAX)
        return false;
    if (first ? delta > id->tx_last - id->tx_first : delta == 0 || delta > *tx - id->tx_first)
        return false;
    *tx = first ? id->tx_first + delta : *tx - delta;
    return true;
}

static bool payload_ok(const struct run_identity *id, struct reader *r)
{
    uint64_t count = reader_varint(r), tx = 0, len;
    struct reader versions;

    if (r->failed || count == 0)
        return false;
    if (count == 1)
        return version_ok(id, r, true, &tx);
    if (count > INLINE_VERSIONS_MAX) {
        uint64_t offset;
        if (!version_ok(id, r, true, &tx) || count > tx - id->tx_first + 1)
            return false;
        offset = reader_varint(r);
        len = reader_varint(r);
        if (r->failed || offset < RUN_HEADER_LEN || offset > id->file_len || len > id->file_len - offset || len > UINT32_MAX)
            return false;
        if (count > VERSION_PAGE_MAX) { /* a list: its length follows from the count */
            uint64_t pages = (count - 1) / VERSION_PAGE_MAX + 1, blocks = (pages - 1) / LIST_BLOCK_MAX + 1;
            return len == blocks * BLOCK_HEADER_LEN + pages * LIST_ITEM_LEN;
        }
        return true;
    }
    len = reader_varint(r);
    if (r->failed || len > reader_left(r))
        return false;
    versions = reader_of(reader_bytes(r, (size_t)len));
    for (uint64_t i = 0; i < count; i++) {
        if (!version_ok(id, &versions, i == 0, &tx))
            return false;
    }
    return reader_done(&versions);
}

/* Pieces of the key before, to see that keys ascend without copying them. */
struct key_parts {
    const uint8_t *head, *suffix;
    size_t head_len, shared, suffix_len;
};

/* Both keys follow the same head, the new one is next->shared + next->suffix: strictly above the one before? */
static bool parts_ascend(const struct key_parts *before, const struct key_parts *next)
{
    if (before->shared == next->shared)
        return bytes_compare(bytes_of(before->suffix, before->suffix_len), bytes_of(next->suffix, next->suffix_len)) < 0;
    /* sharing is as long as it can be (checked), so the key that leaves the head earlier is above */
    return before->shared > next->shared;
}

/* A new group's head against the last key of the group before. */
static bool head_ascends(const struct key_parts *before, struct bytes head)
{
    struct bytes start = bytes_of(before->head, before->shared), rest;
    int c;

    if (head.len < start.len)
        return bytes_compare(start, head) < 0;
    c = bytes_compare(start, bytes_of(head.data, start.len));
    rest = bytes_of(head.data + start.len, head.len - start.len);
    return c < 0 || (c == 0 && bytes_compare(bytes_of(before->suffix, before->suffix_len), rest) < 0);
}

static bool data_ok(const struct run_identity *id, const uint8_t *b, size_t len)
{
    uint32_t count = block_count(b);
    size_t tail = 2 * (size_t)count + 8 * (((size_t)count + DATA_GROUP - 1) / DATA_GROUP), skip = data_skip(b), shared_all = 0;
    struct key_parts last = {0};
    struct bytes first = {NULL, 0};
    struct reader r;

    if (count == 0 || count > DATA_KEYS_MAX || len < BLOCK_HEADER_LEN + tail)
        return false;
    r = (struct reader){b + BLOCK_HEADER_LEN, b + len - tail, false};
    for (uint32_t i = 0; i < count; i++) {
        bool is_head = i % DATA_GROUP == 0;
        struct key_parts k = last;
        uint64_t shared, suffix_len;

        if ((size_t)(r.at - b) != load_u16le(b + len - 2 * (size_t)(count - i)))
            return false;
        shared = reader_varint(&r);
        suffix_len = reader_varint(&r);
        if (r.failed || suffix_len > INDEX_KEY_LEN_MAX || shared > (is_head ? 0 : k.head_len) || shared + suffix_len > INDEX_KEY_LEN_MAX)
            return false;
        k.shared = (size_t)shared;
        k.suffix_len = (size_t)suffix_len;
        if ((k.suffix = reader_take(&r, k.suffix_len)) == NULL)
            return false;
        if (is_head) {
            if (i > 0 && !head_ascends(&last, bytes_of(k.suffix, k.suffix_len)))
                return false;
            k.head = k.suffix;
            k.head_len = k.suffix_len;
            if (i == 0)
                first = bytes_of(k.head, k.head_len);
            for (shared_all = 0; shared_all < first.len && shared_all < k.head_len && first.data[shared_all] == k.head[shared_all];)
                shared_all++;
            if (load_u64le(b + len - tail + 8 * (size_t)(i / DATA_GROUP)) != data_block_head(bytes_of(k.head, k.head_len), skip))
                return false;
        } else {
            if (k.suffix_len == 0 || (k.shared < k.head_len && k.suffix[0] <= k.head[k.shared]))
                return false; /* not above the head, or sharing less than there is */
            if (i % DATA_GROUP > 1 && !parts_ascend(&last, &k))
                return false;
        }
        last = k;
        if (!payload_ok(id, &r))
            return false;
    }
    return reader_done(&r) && skip == shared_all; /* of the first and the last head, so of all */
}

static bool width_ok(uint32_t width, uint32_t max) { return (width == 1 || width == 2 || width == 4 || width == 8) && width <= max; }

static bool versions_ok(const struct run_identity *id, const uint8_t *b, size_t len)
{
    uint32_t count = block_count(b), w_tx = b[12], w_index = b[13], w_len = b[14], flags = b[15];
    size_t need;
    uint64_t base, last = 0;

    if (count == 0 || count > VERSION_PAGE_MAX || !width_ok(w_tx, 8) || !width_ok(w_index, 4) || !width_ok(w_len, 4) || flags > 3 || flags == 2)
        return false;
    need = BLOCK_HEADER_LEN + 8 + (size_t)count * (w_tx + w_index + w_len + (flags & 1 ? 1 : 0) + (flags & 2 ? 8 : 0));
    if (len != need)
        return false;
    base = load_u64le(b + BLOCK_HEADER_LEN);
    if (base < id->tx_first || base > id->tx_last || version_page_tx(b, 0) != base)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t tx = version_page_tx(b, i);
        if (tx < base || tx > id->tx_last || (i > 0 && tx <= last))
            return false;
        last = tx;
    }
    for (uint32_t i = 0; (flags & 1) != 0 && i < count; i++) {
        uint8_t bits = b[BLOCK_HEADER_LEN + 8 + (size_t)count * (w_tx + w_index + w_len) + i];
        if (bits > 3 || ((bits & 2) != 0 && (flags & 2) == 0))
            return false;
    }
    return true;
}

static bool list_ok(const struct run_identity *id, const uint8_t *b, size_t len)
{
    uint32_t items = block_items(b);
    uint64_t last = 0;

    if (items == 0 || items > LIST_BLOCK_MAX || len != BLOCK_HEADER_LEN + (size_t)items * LIST_ITEM_LEN)
        return false;
    for (uint32_t i = 0; i < items; i++) {
        struct list_item item = list_item_at(b, i);
        if (!in_file(id, item.offset, item.len) || item.count == 0 || item.count > VERSION_PAGE_MAX || item.first_tx < id->tx_first ||
            item.first_tx > id->tx_last || (i > 0 && item.first_tx <= last))
            return false;
        last = item.first_tx;
    }
    return true;
}

static bool fence_ok(const struct run_identity *id, const uint8_t *b, size_t len, bool is_root)
{
    uint64_t items = block_items(b), end;
    struct index_key last = {0};
    uint64_t at = BLOCK_HEADER_LEN;

    if ((items == 0 && !is_root) || items > len / 4 || len < BLOCK_HEADER_LEN + 4 * items)
        return false;
    end = len - 4 * items;
    for (uint64_t i = 0; i < items; i++) {
        const uint8_t *p = b + at;
        struct index_key key;
        uint64_t keys;
        uint32_t lines;

        if (load_u32le(b + end + 4 * i) != at || end - at < FENCE_ITEM_LEN || load_u32le(p + 4) > end - at - FENCE_ITEM_LEN)
            return false;
        key = (struct index_key){load_u32le(p), bytes_of(p + FENCE_ITEM_LEN, load_u32le(p + 4))};
        lines = load_u32le(p + 20);
        keys = load_u64le(p + 24);
        if (key.key.len > INDEX_KEY_LEN_MAX || key.ns >= INDEX_NAMESPACES_MAX || (i > 0 && index_key_compare(last, key) >= 0) ||
            !in_file(id, load_u64le(p + 8), load_u32le(p + 16)) || keys == 0 || keys > PARTITION_KEYS_MAX + DATA_KEYS_MAX)
            return false;
        if (is_root ? lines != bloom_lines(keys) : lines != 0)
            return false;
        last = key;
        at += FENCE_ITEM_LEN + key.key.len;
    }
    return at == end;
}

static bool bloom_ok(const uint8_t *b, size_t len)
{
    uint32_t lines = block_items(b);

    return lines >= 1 && lines <= BLOOM_PAGE_LINES && len == BLOOM_LINE_LEN + (size_t)lines * BLOOM_LINE_LEN;
}

static enum status malformed(const struct run_identity *id, enum block_kind kind, uint64_t offset, struct err *err)
{
    return err_set(err, ST_CORRUPT, 0, "index run %s: malformed %c block at offset %llu", id->path, (char)kind, (unsigned long long)offset);
}

enum status run_block_check_again(const struct run_identity *id, enum block_kind kind, uint64_t offset, const uint8_t *b, size_t len, struct err *err)
{
    if (len < BLOCK_HEADER_LEN || load_u32le(b) != run_checksum(id->seed, offset, b + 4, len - 4))
        return err_set(err, ST_CORRUPT, 0, "index run %s: wrong checksum of %zu bytes at offset %llu", id->path, len, (unsigned long long)offset);
    return block_len(b) == len && b[4] == (uint8_t)kind && b[5] == 0 ? ST_OK : malformed(id, kind, offset, err);
}

enum status run_block_check(const struct run_identity *id, enum block_kind kind, uint64_t offset, const uint8_t *b, size_t len, struct err *err)
{
    enum status st = run_block_check_again(id, kind, offset, b, len, err);
    bool ok = false;

    if (st == ST_OK) {
        switch (kind) {
        case BLOCK_DATA:
            ok = data_ok(id, b, len);
            break;
        case BLOCK_VERSIONS:
            ok = versions_ok(id, b, len);
            break;
        case BLOCK_LIST:
            ok = list_ok(id, b, len);
            break;
        case BLOCK_FENCE:
        case BLOCK_ROOT:
            ok = fence_ok(id, b, len, kind == BLOCK_ROOT);
            break;
        case BLOCK_BLOOM:
            ok = bloom_ok(b, len);
            break;
        }
    }
    return st != ST_OK || ok ? st : malformed(id, kind, offset, err);
}
