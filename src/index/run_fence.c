/* Fence pages and the root: separators with where they lead to. */
#include "index/run_format.h"

#include <assert.h>
#include <stdlib.h>

void fence_reset(struct fence_builder *b)
{
    b->out.len = 0;
    b->slots.len = 0;
    b->count = 0;
}

void fence_free(struct fence_builder *b)
{
    grow_free(&b->out);
    grow_free(&b->slots);
}

bool fence_add(struct fence_builder *b, struct index_key separator, struct fence_item item)
{
    uint8_t *p;

    if (!grow_reserve(&b->out, BLOCK_HEADER_LEN + FENCE_ITEM_LEN + separator.key.len) || !grow_reserve(&b->slots, 4))
        return false;
    if (b->count == 0)
        b->out.len = BLOCK_HEADER_LEN;
    store_u32le(b->slots.data + b->slots.len, (uint32_t)b->out.len);
    b->slots.len += 4;
    p = b->out.data + b->out.len;
    store_u32le(p, separator.ns);
    store_u32le(p + 4, (uint32_t)separator.key.len);
    store_u64le(p + 8, item.offset);
    store_u32le(p + 16, item.len);
    store_u32le(p + 20, item.bloom_lines);
    store_u64le(p + 24, item.keys);
    if (separator.key.len > 0)
        memcpy(p + FENCE_ITEM_LEN, separator.key.data, separator.key.len);
    b->out.len += FENCE_ITEM_LEN + separator.key.len;
    b->count++;
    return true;
}

bool fence_finish(struct fence_builder *b, enum block_kind kind)
{
    if (b->count == 0)
        b->out.len = BLOCK_HEADER_LEN;
    if (!grow_reserve(&b->out, BLOCK_HEADER_LEN + b->slots.len))
        return false;
    if (b->slots.len > 0)
        memcpy(b->out.data + b->out.len, b->slots.data, b->slots.len);
    b->out.len += b->slots.len;
    run_block_header(b->out.data, kind, 0, b->out.len, b->count);
    return true;
}

static const uint8_t *item_at(const uint8_t *block, uint32_t i)
{
    return block + load_u32le(block + block_len(block) - 4 * (size_t)(block_items(block) - i));
}

struct index_key fence_key(const uint8_t *block, uint32_t i)
{
    const uint8_t *p = item_at(block, i);
    return (struct index_key){load_u32le(p), bytes_of(p + FENCE_ITEM_LEN, load_u32le(p + 4))};
}

struct fence_item fence_item_at(const uint8_t *block, uint32_t i)
{
    const uint8_t *p = item_at(block, i);
    return (struct fence_item){load_u64le(p + 8), load_u32le(p + 16), load_u32le(p + 20), load_u64le(p + 24)};
}

uint32_t fence_search(const uint8_t *block, struct index_key key, bool below)
{
    uint32_t low = 0, high = block_items(block);

    while (low < high) {
        uint32_t mid = (low + high) / 2;
        int c = index_key_compare(fence_key(block, mid), key);

        if (c < 0 || (c == 0 && !below))
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}
