/* Writes a run file front to back: version pages as they fill, data blocks, and after each partition its fence page and Bloom
 * filter; at the end root and footer. Memory is one partition's hashes and fences, one block and the write buffer. */
#include "index/run.h"

#include <assert.h>
#include <stdlib.h>

struct run_writer {
    struct vfs *vfs;
    struct vfs_file *file;
    char *path;
    struct run_identity id;
    bool is_finished;
    uint64_t written, synced; /* bytes given to the file; of them synced */
    struct grow buffer;       /* what follows them */
    struct data_builder data;
    struct fence_builder fence, root;
    uint64_t *hashes; /* of the partition's keys */
    size_t hash_count, hash_cap;
    struct grow block_separator; /* lowest separator of the block being built, and of the partition */
    struct grow part_separator;
    uint32_t part_ns;
    uint64_t part_keys;
    struct grow key, last_key; /* key being written; the one before it in this namespace */
    uint32_t key_ns, last_ns;
    bool has_last;
    uint64_t version_total, version_seen;
    struct index_version *versions; /* VERSION_PAGE_MAX, filled to version_count */
    uint32_t version_count;
    struct grow list;               /* list items of the key's pages */
    uint64_t page_offset, page_len; /* of the last page */
    uint64_t keys, version_sum, blocks;
    uint32_t digest;
};

static bool grow_set(struct grow *g, struct bytes b)
{
    g->len = 0;
    if (!grow_reserve(g, b.len == 0 ? 1 : b.len))
        return false;
    if (b.len > 0)
        memcpy(g->data, b.data, b.len);
    g->len = b.len;
    return true;
}

static uint64_t position(const struct run_writer *w) { return w->written + w->buffer.len; }

static enum status no_memory(struct err *err) { return err_set(err, ST_NOMEM, 0, "no memory for writing an index run"); }

/* Writes whole 256 KiB pieces, or everything. */
static enum status buffer_drain(struct run_writer *w, bool all, struct err *err)
{
    size_t len = all ? w->buffer.len : w->buffer.len - w->buffer.len % RUN_WRITE_BYTES;
    enum status st = ST_OK;

    if (len == 0)
        return ST_OK;
    if ((st = vfs_write_at(w->file, w->written, w->buffer.data, len, err)) != ST_OK)
        return st;
    w->written += len;
    memmove(w->buffer.data, w->buffer.data + len, w->buffer.len - len);
    w->buffer.len -= len;
    /* syncing as we go spreads what would be one long stall of the disk at the end */
    if (w->written - w->synced >= RUN_SYNC_BYTES) {
        st = w->file->ops->sync(w->file, err);
        w->synced = w->written;
    }
    return st;
}

/* Takes a finished block over into the file. */
static enum status block_write(struct run_writer *w, uint8_t *block, uint64_t *offset, struct err *err)
{
    uint32_t len = block_len(block);
    uint8_t crc[4];

    *offset = position(w);
    store_u32le(crc, run_block_seal(block, w->id.seed, *offset));
    w->digest = crc32c(w->digest, crc, sizeof crc);
    w->blocks++;
    if (!grow_reserve(&w->buffer, len))
        return no_memory(err);
    memcpy(w->buffer.data + w->buffer.len, block, len);
    w->buffer.len += len;
    return w->buffer.len >= RUN_WRITE_BYTES ? buffer_drain(w, false, err) : ST_OK;
}

enum status run_writer_open(struct vfs *vfs, const struct env *env, const char *path, const uint8_t uuid[16], uint64_t run_id, uint64_t tx_first,
                            uint64_t tx_last, struct run_writer **out, struct err *err)
{
    struct run_writer *w = calloc(1, sizeof *w);
    enum status st = ST_OK;
    uint8_t h[RUN_HEADER_LEN] = "IDXRUN01";

    *out = NULL;
    if (w == NULL)
        return no_memory(err);
    w->vfs = vfs;
    if ((w->path = strdup(path)) == NULL || (w->versions = calloc(VERSION_PAGE_MAX, sizeof *w->versions)) == NULL ||
        !grow_reserve(&w->buffer, RUN_WRITE_BYTES + (64 << 10))) {
        st = no_memory(err);
        goto done;
    }
    memcpy(w->id.uuid, uuid, 16);
    w->id.run_id = run_id;
    w->id.tx_first = tx_first;
    w->id.tx_last = tx_last;
    env_random(env, &w->id.salt, sizeof w->id.salt);
    w->id.seed = run_seed(uuid, w->id.salt, run_id);
    store_u16le(h + 8, RUN_FORMAT_VERSION);
    memcpy(h + 16, uuid, 16);
    store_u64le(h + 32, run_id);
    store_u64le(h + 40, w->id.salt);
    store_u64le(h + 48, tx_first);
    store_u64le(h + 56, tx_last);
    store_u32le(h + 124, run_checksum(w->id.seed, 0, h, 124));
    memcpy(w->buffer.data, h, sizeof h);
    w->buffer.len = sizeof h;
    st = vfs->ops->open(vfs, path, VFS_WRITE | VFS_CREATE | VFS_TRUNCATE, &w->file, err);
    if (st != ST_OK)
        goto done;
    *out = w;
    w = NULL;
done:
    run_writer_close(w);
    return st == ST_OK ? ST_OK : err_while(err, st, "creating index run %s", path);
}

void run_writer_close(struct run_writer *w)
{
    if (w == NULL)
        return;
    if (w->file != NULL) {
        w->file->ops->close(w->file);
        if (!w->is_finished)
            (void)w->vfs->ops->unlink(w->vfs, w->path, NULL); /* else removed as an orphan at the next open */
    }
    grow_free(&w->buffer);
    grow_free(&w->data.out);
    fence_free(&w->fence);
    fence_free(&w->root);
    grow_free(&w->block_separator);
    grow_free(&w->part_separator);
    grow_free(&w->key);
    grow_free(&w->last_key);
    grow_free(&w->list);
    free(w->hashes);
    free(w->versions);
    free(w->path);
    free(w);
}

/* --- partitions and blocks --- */

static enum status partition_close(struct run_writer *w, struct err *err)
{
    uint64_t offset, at;
    struct fence_item item = {0};
    struct grow pages = {0};
    enum status st;

    if (w->fence.count == 0)
        return ST_OK;
    if (!fence_finish(&w->fence, BLOCK_FENCE) || !bloom_build(&pages, w->hashes, w->hash_count)) {
        st = no_memory(err);
        goto done;
    }
    item.len = block_len(w->fence.out.data);
    item.keys = w->part_keys;
    item.bloom_lines = bloom_lines(w->hash_count);
    assert(w->part_keys == w->hash_count);
    if ((st = block_write(w, w->fence.out.data, &offset, err)) != ST_OK)
        goto done;
    item.offset = offset;
    for (uint32_t page = 0; page < bloom_pages(item.bloom_lines); page++) {
        if ((st = block_write(w, pages.data + (size_t)page * BLOOM_PAGE_LEN, &at, err)) != ST_OK)
            goto done;
        assert(at == offset + item.len + (uint64_t)page * BLOOM_PAGE_LEN);
    }
    if (!fence_add(&w->root, (struct index_key){w->part_ns, bytes_of(w->part_separator.data, w->part_separator.len)}, item)) {
        st = no_memory(err);
        goto done;
    }
    fence_reset(&w->fence);
    w->hash_count = 0;
    w->part_keys = 0;
done:
    grow_free(&pages);
    return st;
}

static enum status block_close(struct run_writer *w, struct err *err)
{
    struct index_key separator = {w->data.ns, bytes_of(w->block_separator.data, w->block_separator.len)};
    struct fence_item item = {0};
    enum status st;

    if (w->data.count == 0)
        return ST_OK;
    if (!data_block_finish(&w->data))
        return no_memory(err);
    item.len = block_len(w->data.out.data);
    item.keys = w->data.count;
    if ((st = block_write(w, w->data.out.data, &item.offset, err)) != ST_OK)
        return st;
    if (w->fence.count == 0) {
        w->part_ns = separator.ns;
        if (!grow_set(&w->part_separator, separator.key))
            return no_memory(err);
    }
    if (!fence_add(&w->fence, separator, item))
        return no_memory(err);
    w->part_keys += item.keys;
    data_block_reset(&w->data);
    if (w->fence.count >= PARTITION_BLOCKS_MAX || w->part_keys >= PARTITION_KEYS_MAX ||
        (w->fence.count >= FENCE_ITEMS_MIN && w->fence.out.len + w->fence.slots.len >= FENCE_BYTES_TARGET))
        return partition_close(w, err);
    return ST_OK;
}

/* The shortest string above the last key and not above key; empty when key is the first of its namespace. */
static struct bytes separator_of(const struct run_writer *w, struct bytes key)
{
    size_t i = 0;

    if (!w->has_last || w->last_ns != w->key_ns)
        return bytes_of(key.data, 0);
    while (i < w->last_key.len && i < key.len && w->last_key.data[i] == key.data[i])
        i++;
    assert(i < key.len);
    return bytes_of(key.data, i + 1);
}

static enum status hash_note(struct run_writer *w, struct index_key key, struct err *err)
{
    if (w->hash_count == w->hash_cap) {
        size_t cap = w->hash_cap == 0 ? 1024 : w->hash_cap * 2;
        uint64_t *hashes = realloc(w->hashes, cap * sizeof *hashes);
        if (hashes == NULL)
            return no_memory(err);
        w->hashes = hashes;
        w->hash_cap = cap;
    }
    w->hashes[w->hash_count++] = index_key_hash(key);
    return ST_OK;
}

/* The key whose versions have all come goes into a data block. */
static enum status key_close(struct run_writer *w, const uint8_t *payload, size_t len, struct err *err)
{
    struct index_key key = {w->key_ns, bytes_of(w->key.data, w->key.len)};
    struct grow swap;
    enum status st;

    if (w->data.count > 0 && (w->data.ns != key.ns || w->data.out.len >= DATA_BYTES_TARGET || w->data.count == DATA_KEYS_MAX)) {
        if ((st = block_close(w, err)) != ST_OK)
            return st;
    }
    if (w->data.count == 0 && !grow_set(&w->block_separator, separator_of(w, key.key)))
        return no_memory(err);
    if (!data_block_add(&w->data, key, payload, len))
        return no_memory(err);
    if ((st = hash_note(w, key, err)) != ST_OK)
        return st;
    swap = w->last_key;
    w->last_key = w->key;
    w->key = swap;
    w->last_ns = w->key_ns;
    w->has_last = true;
    w->keys++;
    w->version_sum += w->version_total;
    w->version_total = 0;
    w->version_seen = 0;
    w->version_count = 0;
    return ST_OK;
}

/* --- keys and versions --- */

enum status run_writer_key(struct run_writer *w, struct index_key key, uint64_t version_count, struct err *err)
{
    assert(version_count > 0 && w->version_total == 0 && !w->is_finished);
    assert(!w->has_last || index_key_compare((struct index_key){w->last_ns, bytes_of(w->last_key.data, w->last_key.len)}, key) < 0);
    if (!grow_set(&w->key, key.key))
        return no_memory(err);
    w->key_ns = key.ns;
    w->version_total = version_count;
    w->list.len = 0;
    return ST_OK;
}

/* A full (or the last) page of a key with many versions. */
static enum status page_close(struct run_writer *w, struct err *err)
{
    struct grow page = {0};
    uint8_t *item;
    enum status st;

    if (!version_page_put(&page, w->versions, w->version_count) || !grow_reserve(&w->list, LIST_ITEM_LEN)) {
        st = no_memory(err);
        goto done;
    }
    w->page_len = page.len;
    if ((st = block_write(w, page.data, &w->page_offset, err)) != ST_OK)
        goto done;
    item = w->list.data + w->list.len;
    store_u64le(item, w->page_offset);
    store_u32le(item + 8, (uint32_t)w->page_len);
    store_u32le(item + 12, w->version_count);
    store_u64le(item + 16, w->versions[0].tx_id);
    w->list.len += LIST_ITEM_LEN;
done:
    grow_free(&page);
    return st;
}

/* Writes the list blocks of the key; *offset and *len of the whole list. */
static enum status list_close(struct run_writer *w, uint64_t *offset, uint64_t *len, struct err *err)
{
    uint8_t block[BLOCK_HEADER_LEN + LIST_BLOCK_MAX * LIST_ITEM_LEN];
    enum status st = ST_OK;
    uint64_t at;

    *offset = position(w);
    for (size_t from = 0; st == ST_OK && from < w->list.len; from += LIST_BLOCK_MAX * LIST_ITEM_LEN) {
        size_t part = w->list.len - from < LIST_BLOCK_MAX * LIST_ITEM_LEN ? w->list.len - from : LIST_BLOCK_MAX * LIST_ITEM_LEN;
        memcpy(block + BLOCK_HEADER_LEN, w->list.data + from, part);
        run_block_header(block, BLOCK_LIST, 0, BLOCK_HEADER_LEN + part, (uint32_t)(part / LIST_ITEM_LEN));
        st = block_write(w, block, &at, err);
    }
    *len = position(w) - *offset;
    return st;
}

static enum status paged_key_close(struct run_writer *w, struct err *err)
{
    uint8_t payload[PAYLOAD_BYTES_MAX];
    uint64_t offset = w->page_offset, len = w->page_len;
    const struct index_version newest = w->versions[w->version_count - 1];
    enum status st = ST_OK;

    if (w->version_total > VERSION_PAGE_MAX && (st = list_close(w, &offset, &len, err)) != ST_OK)
        return st;
    return key_close(w, payload, run_payload_put_paged(payload, w->id.tx_first, w->version_total, &newest, offset, len), err);
}

enum status run_writer_versions(struct run_writer *w, const struct index_version *v, size_t count, struct err *err)
{
    enum status st = ST_OK;

    assert(count <= w->version_total - w->version_seen);
    for (size_t i = 0; i < count && st == ST_OK; i++) {
        uint8_t payload[PAYLOAD_BYTES_MAX];

        assert(v[i].tx_id >= w->id.tx_first && v[i].tx_id <= w->id.tx_last);
        assert(w->version_count == 0 || v[i].tx_id > w->versions[w->version_count - 1].tx_id);
        if (w->version_count == VERSION_PAGE_MAX)
            w->version_count = 0; /* its page is written */
        w->versions[w->version_count++] = v[i];
        w->version_seen++;
        if (w->version_total <= INLINE_VERSIONS_MAX) {
            if (w->version_seen == w->version_total)
                st = key_close(w, payload, run_payload_put_inline(payload, w->id.tx_first, w->versions, w->version_count), err);
            continue;
        }
        if (w->version_count == VERSION_PAGE_MAX || w->version_seen == w->version_total)
            st = page_close(w, err);
        if (st == ST_OK && w->version_seen == w->version_total)
            st = paged_key_close(w, err);
    }
    return st;
}

enum status run_writer_finish(struct run_writer *w, struct run_expect *expect, struct err *err)
{
    uint8_t f[RUN_FOOTER_LEN] = "IDXEND01";
    uint64_t root_offset = 0, end;
    uint32_t root_len, crc;
    enum status st;

    assert(w->version_total == 0 && !w->is_finished);
    if ((st = block_close(w, err)) != ST_OK || (st = partition_close(w, err)) != ST_OK)
        goto done;
    if (!fence_finish(&w->root, BLOCK_ROOT) || w->root.out.len > ROOT_LEN_MAX) {
        st = no_memory(err);
        goto done;
    }
    root_len = block_len(w->root.out.data);
    if ((st = block_write(w, w->root.out.data, &root_offset, err)) != ST_OK)
        goto done;
    end = position(w);
    store_u16le(f + 8, RUN_FORMAT_VERSION);
    store_u64le(f + 16, w->id.run_id);
    store_u64le(f + 24, w->id.salt);
    store_u64le(f + 32, w->id.tx_first);
    store_u64le(f + 40, w->id.tx_last);
    store_u64le(f + 48, w->keys);
    store_u64le(f + 56, w->version_sum);
    store_u64le(f + 64, root_offset);
    store_u32le(f + 72, root_len);
    store_u32le(f + 76, w->digest);
    store_u64le(f + 80, end + RUN_FOOTER_LEN);
    store_u64le(f + 88, w->blocks);
    crc = run_checksum(w->id.seed, end, f, 124);
    store_u32le(f + 124, crc);
    if (!grow_reserve(&w->buffer, sizeof f)) {
        st = no_memory(err);
        goto done;
    }
    memcpy(w->buffer.data + w->buffer.len, f, sizeof f);
    w->buffer.len += sizeof f;
    if ((st = buffer_drain(w, true, err)) != ST_OK || (st = w->file->ops->sync(w->file, err)) != ST_OK)
        goto done;
    *expect = (struct run_expect){w->id.run_id, w->id.salt, end + RUN_FOOTER_LEN, w->keys, w->version_sum, crc};
    w->is_finished = true;
done:
    return st == ST_OK ? ST_OK : err_while(err, st, "writing index run %s", w->path);
}

uint64_t run_writer_bytes(const struct run_writer *w) { return position(w); }
uint64_t run_writer_keys(const struct run_writer *w) { return w->keys; }
