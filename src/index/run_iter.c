/* Walks the keys of a run in order, either way. */
#include "index/run.h"

#include <assert.h>

void run_iter_init(struct run_iter *it, struct run *r, bool desc, bool direct)
{
    memset(it, 0, sizeof *it);
    it->run = r;
    it->desc = desc;
    it->is_direct = direct;
    it->is_done = true;
}

void run_iter_close(struct run_iter *it)
{
    run_block_put(it->run, &it->block);
    run_block_put(it->run, &it->fence);
    run_stream_free(&it->data_stream);
    run_stream_free(&it->version_stream);
    grow_free(&it->key_buffer);
}

static enum status part_load(struct run_iter *it, uint32_t part, struct err *err)
{
    struct fence_item item = fence_item_at(it->run->root, part);

    run_block_put(it->run, &it->block);
    run_block_put(it->run, &it->fence);
    it->part = part;
    return run_block_get(it->run, NULL, BLOCK_FENCE, item.offset, item.len, false, &it->fence, err);
}

/* Loads data block `at` of the fence page. */
static enum status block_load(struct run_iter *it, uint32_t at, struct err *err)
{
    struct fence_item item = fence_item_at(it->fence.data, at);
    enum status st;

    run_block_put(it->run, &it->block);
    it->at = at;
    it->key_group = UINT32_MAX;
    st = run_block_get(it->run, it->is_direct ? &it->data_stream : NULL, BLOCK_DATA, item.offset, item.len, false, &it->block, err);
    if (st == ST_OK && block_count(it->block.data) != item.keys) {
        atomic_store_explicit(&it->run->is_damaged, true, memory_order_release);
        st = err_set(err, ST_CORRUPT, 0, "index run %s: %u keys in the block at offset %llu, its fence says %llu", it->run->path,
                     block_count(it->block.data), (unsigned long long)item.offset, (unsigned long long)item.keys);
    }
    return st;
}

enum status run_iter_seek(struct run_iter *it, struct index_key key, bool inclusive, bool last, struct err *err)
{
    uint32_t parts = block_items(it->run->root), i;
    bool below = it->desc && !inclusive, equal = false;
    enum status st;

    it->is_done = parts == 0;
    if (parts == 0)
        return ST_OK;
    i = last ? parts : fence_search(it->run->root, key, below);
    if ((st = part_load(it, i == 0 ? 0 : i - 1, err)) != ST_OK)
        return st;
    i = last ? block_items(it->fence.data) : fence_search(it->fence.data, key, below);
    if ((st = block_load(it, i == 0 ? 0 : i - 1, err)) != ST_OK)
        return st;
    if (last) {
        it->entry = block_count(it->block.data);
    } else if (data_ns(it->block.data) != key.ns) {
        it->entry = data_ns(it->block.data) < key.ns ? block_count(it->block.data) : 0;
    } else {
        it->entry = data_block_search(it->block.data, key.key, &equal);
        if (equal && inclusive == it->desc)
            it->entry++; /* asc: step over the key itself; desc: entry is one above the next */
    }
    return ST_OK;
}

/* The block after (before) the present one; is_done at the edge. */
static enum status block_advance(struct run_iter *it, struct err *err)
{
    enum status st;

    if (it->desc ? it->at > 0 : it->at + 1 < block_items(it->fence.data)) {
        st = block_load(it, it->desc ? it->at - 1 : it->at + 1, err);
    } else if (it->desc ? it->part > 0 : it->part + 1 < block_items(it->run->root)) {
        if ((st = part_load(it, it->desc ? it->part - 1 : it->part + 1, err)) != ST_OK)
            return st;
        st = block_load(it, it->desc ? block_items(it->fence.data) - 1 : 0, err);
    } else {
        it->is_done = true;
        return ST_OK;
    }
    if (st == ST_OK)
        it->entry = it->desc ? block_count(it->block.data) : 0;
    return st;
}

/* Puts the key of entry i together in key_buffer, of which the first key_shared bytes may still be the head's. */
static bool key_assemble(struct run_iter *it, uint32_t i, const struct data_entry *e)
{
    uint32_t group = i - i % DATA_GROUP, have = it->key_group == group ? it->key_shared : 0;
    size_t len = (size_t)e->shared + e->suffix_len;

    if (it->key_buffer.cap < len || it->key_buffer.data == NULL) {
        it->key_buffer.len = 0;
        if (!grow_reserve(&it->key_buffer, len + 1)) /* never NULL, for the empty key */
            return false;
    }
    if (e->shared > have)
        memcpy(it->key_buffer.data + have, e->head + have, e->shared - have);
    memcpy(it->key_buffer.data + e->shared, e->suffix, e->suffix_len);
    it->key_group = group;
    it->key_shared = i == group ? e->suffix_len : e->shared;
    it->key = (struct index_key){data_ns(it->block.data), bytes_of(it->key_buffer.data, len)};
    return true;
}

enum status run_iter_next(struct run_iter *it, struct err *err)
{
    struct data_entry e;
    uint32_t i;

    while (!it->is_done && (it->desc ? it->entry == 0 : it->entry == block_count(it->block.data))) {
        enum status st = block_advance(it, err);
        if (st != ST_OK)
            return st;
    }
    if (it->is_done)
        return ST_NOT_FOUND;
    i = it->desc ? --it->entry : it->entry++;
    data_block_entry(it->block.data, i, &e);
    if (!key_assemble(it, i, &e))
        return err_set(err, ST_NOMEM, 0, "no memory for an index key");
    it->versions.run = it->run;
    it->versions.stream = it->is_direct ? &it->version_stream : NULL;
    run_payload_read(e.payload, it->run->id.tx_first, &it->versions.payload);
    return ST_OK;
}
