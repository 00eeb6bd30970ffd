/* Fuzz target: any bytes as a run file. The first byte chooses: as they are, or with all checksums put right (found by walking the
 * blocks that header, footer, root and fences lead to), so that the structure behind them is reached. Opening, walking both ways, looking up
 * and reading versions must never crash, and end. */
#include "index/run.h"
#include "vfs/vfs_memory.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void seal_if_block(uint8_t *image, size_t len, uint32_t seed, uint64_t offset, uint64_t block)
{
    uint32_t crc;

    if (block < BLOCK_HEADER_LEN || offset > len || block > len - offset)
        return;
    crc = run_checksum(seed, offset, image + offset + 4, (size_t)block - 4);
    store_u32le(image + offset, crc);
}

/* Checksums of everything the root's and the fences' pointers lead to. */
static void seal_fence(uint8_t *image, size_t len, uint32_t seed, uint64_t offset, uint64_t block, unsigned depth)
{
    uint32_t items;

    if (block < BLOCK_HEADER_LEN || offset > len || block > len - offset)
        return;
    items = load_u32le(image + offset + 12);
    for (uint32_t i = 0; i < items && i < 64 && 4 * (uint64_t)(i + 1) <= block - BLOCK_HEADER_LEN; i++) {
        uint64_t at = load_u32le(image + offset + block - 4 * ((uint64_t)i + 1));
        if (at > block || block - at < FENCE_ITEM_LEN)
            continue;
        if (depth > 0)
            seal_fence(image, len, seed, load_u64le(image + offset + at + 8), load_u32le(image + offset + at + 16), depth - 1);
        else
            seal_if_block(image, len, seed, load_u64le(image + offset + at + 8), load_u32le(image + offset + at + 16));
        if (depth > 0) { /* its Bloom pages */
            uint64_t page = load_u64le(image + offset + at + 8) + load_u32le(image + offset + at + 16);
            uint32_t lines = load_u32le(image + offset + at + 20);
            for (uint32_t p = 0; lines > 0 && p < bloom_pages(lines) && p < 8; p++)
                seal_if_block(image, len, seed, page + (uint64_t)p * BLOOM_PAGE_LEN,
                              BLOOM_LINE_LEN + (uint64_t)bloom_page_lines(lines, p) * BLOOM_LINE_LEN);
        }
    }
    seal_if_block(image, len, seed, offset, block);
}

static void seal_all(uint8_t *image, size_t len, const uint8_t uuid[16])
{
    uint32_t seed;
    uint64_t end = len - RUN_FOOTER_LEN;
    uint8_t *f = image + end;

    memcpy(image, "IDXRUN01", 8);
    memcpy(f, "IDXEND01", 8);
    memcpy(image + 16, uuid, 16);
    store_u16le(image + 8, RUN_FORMAT_VERSION);
    store_u32le(image + 12, 0);
    memcpy(f + 16, image + 32, 16); /* run id, salt */
    memcpy(f + 32, image + 48, 16); /* tx range */
    store_u64le(f + 80, len);
    seed = run_seed(uuid, load_u64le(image + 40), load_u64le(image + 32));
    if (load_u64le(f + 64) <= end)
        store_u32le(f + 72, (uint32_t)(end - load_u64le(f + 64)));
    seal_fence(image, len, seed, load_u64le(f + 64), load_u32le(f + 72), 1);
    store_u32le(image + 124, run_checksum(seed, 0, image, 124));
    store_u32le(f + 124, run_checksum(seed, end, f, 124));
}

static void walk(struct run *r, bool desc)
{
    struct run_iter it;
    struct index_version v[8];
    unsigned steps = 0;
    enum status st;

    run_iter_init(&it, r, desc, desc);
    st = run_iter_seek(&it, (struct index_key){0, {NULL, 0}}, true, desc, NULL);
    while (st == ST_OK && steps++ < 5000 && (st = run_iter_next(&it, NULL)) == ST_OK) {
        struct run_block b = {0};
        struct run_versions found;
        uint64_t count;
        bool has;

        if (run_versions_upto(&it.versions, r->id.tx_first + 3, false, &count, v, NULL) == ST_OK && it.versions.payload.count >= 2 &&
            run_versions_copy(&it.versions, it.versions.payload.count - 2, 2, v, NULL) != ST_OK)
            continue;
        if (run_find(r, it.key, index_key_hash(it.key), false, NULL, &has, &found, &b, NULL) == ST_OK && has)
            run_block_put(r, &b);
    }
    run_iter_close(&it);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const uint8_t uuid[16] = "fuzz";
    struct run_stats stats = {0};
    struct cache *cache = NULL;
    struct vfs_file *f = NULL;
    struct run *r = NULL;
    struct budget budget;
    struct vfs *vfs;
    uint8_t *image;

    if (len < 1 + RUN_HEADER_LEN + RUN_FOOTER_LEN || len > (1 << 20) || (image = malloc(len - 1)) == NULL)
        return 0;
    memcpy(image, data + 1, len - 1);
    if (data[0] & 1)
        seal_all(image, len - 1, uuid);
    vfs = vfs_memory_create();
    budget_init(&budget, 32 << 20);
    if (vfs != NULL && cache_create(vfs, &budget, 4, &cache, NULL) == ST_OK && vfs->ops->open(vfs, "r", VFS_WRITE | VFS_CREATE, &f, NULL) == ST_OK &&
        vfs_write_at(f, 0, image, len - 1, NULL) == ST_OK && run_open(vfs, cache, &stats, "r", uuid, NULL, &r, NULL) == ST_OK) {
        walk(r, false);
        walk(r, true);
    }
    run_close(r);
    if (f != NULL)
        f->ops->close(f);
    if (cache != NULL)
        cache_destroy(cache);
    vfs_memory_destroy(vfs);
    free(image);
    return 0;
}
