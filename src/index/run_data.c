/* Data blocks: keys of one namespace with their payloads, in groups of 16 that share bytes with the group's first key. */
#include "index/run_format.h"

#include <assert.h>
#include <stdlib.h>

bool grow_reserve(struct grow *g, size_t more)
{
    size_t need, cap;
    uint8_t *data;

    if (__builtin_add_overflow(g->len, more, &need))
        return false;
    if (need <= g->cap)
        return true;
    cap = need < 256 ? 256 : need + need / 2;
    if (cap < need || (data = realloc(g->data, cap)) == NULL)
        return false;
    g->data = data;
    g->cap = cap;
    return true;
}

void grow_free(struct grow *g)
{
    free(g->data);
    *g = (struct grow){NULL, 0, 0};
}

static size_t common_len(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
    size_t len = a_len < b_len ? a_len : b_len, i = 0;

    for (; i + 8 <= len; i += 8) {
        uint64_t diff = load_u64le(a + i) ^ load_u64le(b + i);
        if (diff != 0)
            return i + (size_t)__builtin_ctzll(diff) / 8;
    }
    while (i < len && a[i] == b[i])
        i++;
    return i;
}

/* --- building --- */

void data_block_reset(struct data_builder *b)
{
    b->out.len = 0;
    b->count = 0;
}

bool data_block_add(struct data_builder *b, struct index_key key, const uint8_t *payload, size_t payload_len)
{
    bool is_head = b->count % DATA_GROUP == 0;
    size_t shared;
    uint8_t *p;

    assert(b->count < DATA_KEYS_MAX && b->out.len <= UINT16_MAX && key.key.len <= INDEX_KEY_LEN_MAX);
    if (!grow_reserve(&b->out, BLOCK_HEADER_LEN + 10 + key.key.len + payload_len))
        return false;
    if (b->count == 0) {
        b->out.len = BLOCK_HEADER_LEN;
        b->ns = key.ns;
    }
    assert(b->ns == key.ns);
    shared = is_head ? 0 : common_len(b->out.data + b->head_at, b->head_len, key.key.data, key.key.len);
    b->slots[b->count++] = (uint16_t)b->out.len;
    p = varint_put(b->out.data + b->out.len, shared);
    p = varint_put(p, key.key.len - shared);
    if (is_head) {
        b->head_at = (size_t)(p - b->out.data);
        b->head_len = key.key.len;
    }
    if (key.key.len > shared)
        memcpy(p, key.key.data + shared, key.key.len - shared);
    p += key.key.len - shared;
    memcpy(p, payload, payload_len);
    b->out.len = (size_t)(p - b->out.data) + payload_len;
    return true;
}

static struct bytes group_key(const uint8_t *block, size_t slot)
{
    const uint8_t *p = block + slot;
    size_t len;

    (void)varint_get(&p);
    len = (size_t)varint_get(&p);
    return bytes_of(p, len);
}

uint64_t data_block_head(struct bytes key, size_t skip)
{
    uint8_t b[8] = {0};

    if (skip + 8 <= key.len)
        return load_u64be(key.data + skip);
    if (skip < key.len)
        memcpy(b, key.data + skip, key.len - skip);
    return load_u64be(b);
}

bool data_block_finish(struct data_builder *b)
{
    uint32_t groups = (b->count + DATA_GROUP - 1) / DATA_GROUP;
    struct bytes first, last;
    size_t skip;

    assert(b->count > 0);
    if (!grow_reserve(&b->out, 2 * (size_t)b->count + 8 * (size_t)groups))
        return false;
    first = group_key(b->out.data, b->slots[0]);
    last = group_key(b->out.data, b->slots[(groups - 1) * DATA_GROUP]);
    skip = common_len(first.data, first.len, last.data, last.len);
    for (uint32_t i = 0; i < groups; i++, b->out.len += 8)
        store_u64le(b->out.data + b->out.len, data_block_head(group_key(b->out.data, b->slots[i * DATA_GROUP]), skip));
    for (uint32_t i = 0; i < b->count; i++, b->out.len += 2)
        store_u16le(b->out.data + b->out.len, b->slots[i]);
    run_block_header(b->out.data, BLOCK_DATA, b->count, b->out.len, b->ns | (uint32_t)skip << 16);
    return true;
}

/* --- reading a checked block --- */

static const uint8_t *slot_at(const uint8_t *block, uint32_t i)
{
    return block + load_u16le(block + block_len(block) - 2 * (size_t)(block_count(block) - i));
}

void data_block_entry(const uint8_t *block, uint32_t i, struct data_entry *e)
{
    const uint8_t *p = slot_at(block, i), *h;

    e->shared = (uint32_t)varint_get(&p);
    e->suffix_len = (uint32_t)varint_get(&p);
    e->suffix = p;
    e->payload = p + e->suffix_len;
    if (i % DATA_GROUP == 0) {
        e->head = p;
    } else {
        h = slot_at(block, i - i % DATA_GROUP);
        (void)varint_get(&h);
        (void)varint_get(&h);
        e->head = h;
    }
}

/* Entry i of a group against key, given how many bytes key shares with the group's head, and that key is above the head:
 * an entry that shares more with the head than key does is below key, one that shares less is above it. */
static int entry_compare(const uint8_t *block, uint32_t i, struct bytes key, size_t common)
{
    const uint8_t *p = slot_at(block, i);
    size_t shared = (size_t)varint_get(&p), len = (size_t)varint_get(&p);

    if (shared != common)
        return shared > common ? -1 : 1;
    return bytes_compare(bytes_of(p, len), bytes_of(key.data + common, key.len - common));
}

/* Asks for len bytes before they are needed, so that their cache misses overlap. */
static void prefetch(const uint8_t *p, size_t len)
{
    for (size_t at = 0; at < len; at += 64)
        __builtin_prefetch(p + at);
}

/* Number of groups whose head key is at or below key; *equal when the last of them is the key. */
static uint32_t groups_upto(const uint8_t *block, struct bytes key, bool *equal)
{
    uint32_t count = block_count(block), groups = (count + DATA_GROUP - 1) / DATA_GROUP, low = 0, high = groups;
    const uint8_t *heads = block + block_len(block) - 2 * (size_t)count - 8 * (size_t)groups;
    size_t skip = data_skip(block), len = key.len < skip ? key.len : skip;
    struct data_entry first;
    uint64_t head;
    int c;

    prefetch(heads, 2 * (size_t)count + 8 * (size_t)groups);
    *equal = false;
    data_block_entry(block, 0, &first);
    c = len == 0 ? 0 : memcmp(key.data, first.suffix, len);
    if (c < 0 || (c == 0 && key.len < skip))
        return 0;
    if (c > 0)
        return groups;
    head = data_block_head(key, skip);
    while (low < high) { /* heads below */
        uint32_t mid = (low + high) / 2;
        if (load_u64le(heads + 8 * (size_t)mid) < head)
            low = mid + 1;
        else
            high = mid;
    }
    for (high = low; high < groups && load_u64le(heads + 8 * (size_t)high) == head; high++)
        ;
    while (low < high) { /* equal heads: by the whole keys */
        uint32_t mid = (low + high) / 2;
        struct data_entry e;

        data_block_entry(block, mid * DATA_GROUP, &e);
        c = bytes_compare(bytes_of(e.suffix, e.suffix_len), key);
        if (c == 0) {
            *equal = true;
            return mid + 1;
        }
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

uint32_t data_block_search(const uint8_t *block, struct bytes key, bool *equal)
{
    uint32_t count = block_count(block), low, high, group = groups_upto(block, key, equal);
    struct data_entry head;
    const uint8_t *start, *end;
    size_t common;

    if (group == 0)
        return 0;
    group = (group - 1) * DATA_GROUP;
    if (*equal)
        return group;
    low = group + 1;
    high = group + DATA_GROUP < count ? group + DATA_GROUP : count;
    start = slot_at(block, group);
    end = high < count ? slot_at(block, high) : start + 1024;
    prefetch(start, end - start < 1024 ? (size_t)(end - start) : 1024);
    data_block_entry(block, group, &head);
    common = common_len(head.suffix, head.suffix_len, key.data, key.len);
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        int c = entry_compare(block, mid, key, common);

        if (c == 0) {
            *equal = true;
            return mid;
        }
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}
