/* Rings of items and txs, and a chained hash table over the items' positions. */
#include "store/recent.h"

#include <assert.h>
#include <stdlib.h>

enum { ITEMS_START = 256, TXS_START = 64 };

void recent_init(struct recent *r, uint64_t seed)
{
    memset(r, 0, sizeof *r);
    r->seed = seed;
    r->floor = UINT64_MAX;
}

void recent_start(struct recent *r, uint64_t floor)
{
    assert(!r->is_on);
    r->is_on = true;
    r->floor = floor;
}

void recent_stop(struct recent *r)
{
    for (uint64_t i = r->tx_first; i < r->tx_end; i++)
        free(r->txs[i & (r->tx_cap - 1)].keys);
    free(r->txs);
    free(r->items);
    free(r->buckets);
    recent_init(r, r->seed);
}

static uint32_t *bucket_of(const struct recent *r, uint64_t hash) { return &r->buckets[hash & (r->item_cap - 1)]; }

static struct recent_item *item_at(const struct recent *r, uint64_t number) { return &r->items[number & (r->item_cap - 1)]; }

static enum status items_grow(struct recent *r, size_t wanted, struct err *err)
{
    size_t cap = r->item_cap == 0 ? ITEMS_START : r->item_cap;
    struct recent_item *items = NULL;
    uint32_t *buckets = NULL;

    while (cap < wanted)
        cap *= 2;
    if (cap == r->item_cap)
        return ST_OK;
    items = calloc(cap, sizeof *items);
    buckets = calloc(cap, sizeof *buckets);
    if (items == NULL || buckets == NULL || cap > UINT32_MAX / 2) {
        free(items);
        free(buckets);
        return err_set(err, ST_NOMEM, 0, "recently written keys");
    }
    for (uint64_t i = r->item_first; i < r->item_end; i++) {
        struct recent_item *item = &items[i & (cap - 1)];
        uint32_t *bucket;

        *item = *item_at(r, i);
        if (!item->is_newest)
            continue;
        bucket = &buckets[item->hash & (cap - 1)];
        item->next = *bucket;
        *bucket = (uint32_t)(i & (cap - 1)) + 1;
    }
    free(r->items);
    free(r->buckets);
    r->items = items;
    r->buckets = buckets;
    r->item_cap = cap;
    return ST_OK;
}

static enum status txs_grow(struct recent *r, struct err *err)
{
    size_t cap = r->tx_cap == 0 ? TXS_START : r->tx_cap * 2;
    struct recent_tx *txs;

    if (r->tx_cap != 0 && r->tx_end - r->tx_first < r->tx_cap)
        return ST_OK;
    txs = calloc(cap, sizeof *txs);
    if (txs == NULL)
        return err_set(err, ST_NOMEM, 0, "recently written keys");
    for (uint64_t i = r->tx_first; i < r->tx_end; i++)
        txs[i & (cap - 1)] = r->txs[i & (r->tx_cap - 1)];
    free(r->txs);
    r->txs = txs;
    r->tx_cap = cap;
    return ST_OK;
}

/* Takes the item with this key out of its bucket; NULL-safe when it is not there. */
static void bucket_remove(struct recent *r, uint64_t hash, const uint8_t *key, uint32_t key_len)
{
    uint32_t *at = bucket_of(r, hash);

    while (*at != 0) {
        struct recent_item *item = &r->items[*at - 1];

        if (item->hash == hash && item->key_len == key_len && memcmp(item->key, key, key_len) == 0) {
            *at = item->next;
            item->is_newest = false;
            return;
        }
        at = &item->next;
    }
}

static void drop_oldest(struct recent *r)
{
    struct recent_tx *tx = &r->txs[r->tx_first & (r->tx_cap - 1)];

    for (uint32_t i = 0; i < tx->item_count; i++) {
        struct recent_item *item = item_at(r, r->item_first);

        if (item->is_newest)
            bucket_remove(r, item->hash, item->key, item->key_len);
        r->item_first++;
    }
    r->floor = tx->tx_id;
    r->key_bytes -= tx->bytes;
    free(tx->keys);
    r->tx_first++;
}

static void add_item(struct recent *r, uint64_t tx_id, const uint8_t *key, uint32_t key_len, const struct kv_metadata *md)
{
    uint64_t hash = hash64(r->seed, key, key_len);
    struct recent_item *item = item_at(r, r->item_end);
    uint32_t *bucket = bucket_of(r, hash);

    bucket_remove(r, hash, key, key_len);
    *item = (struct recent_item){.tx_id = tx_id,
                                 .hash = hash,
                                 .key = key,
                                 .key_len = key_len,
                                 .next = *bucket,
                                 .expires_at = md->expires_at,
                                 .is_deleted = md->is_deleted,
                                 .has_expiry = md->has_expiry,
                                 .is_newest = true};
    *bucket = (uint32_t)(r->item_end & (r->item_cap - 1)) + 1;
    r->item_end++;
}

enum status recent_add(struct recent *r, uint64_t tx_id, const struct tx_entry *entries, const struct kv_metadata *mds, size_t count,
                       uint64_t committed_tx, struct err *err)
{
    size_t key_bytes = 0, item_count = 0;
    uint8_t *keys = NULL, *at;
    enum status st;

    assert(r->is_on);
    for (size_t i = 0; i < count; i++) {
        if (mds[i].is_non_indexable)
            continue;
        key_bytes += entries[i].key.len;
        item_count++;
    }
    while (r->tx_first < r->tx_end && r->item_end - r->item_first + item_count > RECENT_ITEMS_MAX &&
           r->txs[r->tx_first & (r->tx_cap - 1)].tx_id <= committed_tx)
        drop_oldest(r);
    if ((st = txs_grow(r, err)) != ST_OK || (st = items_grow(r, (size_t)(r->item_end - r->item_first) + item_count, err)) != ST_OK)
        return st;
    keys = malloc(key_bytes + 1);
    if (keys == NULL)
        return err_set(err, ST_NOMEM, 0, "recently written keys");
    r->txs[r->tx_end & (r->tx_cap - 1)] = (struct recent_tx){.tx_id = tx_id, .item_count = (uint32_t)item_count, .keys = keys, .bytes = key_bytes};
    r->tx_end++;
    r->key_bytes += key_bytes;
    at = keys;
    for (size_t i = 0; i < count; i++) {
        if (mds[i].is_non_indexable)
            continue;
        memcpy(at, entries[i].key.data, entries[i].key.len);
        add_item(r, tx_id, at, (uint32_t)entries[i].key.len, &mds[i]);
        at += entries[i].key.len;
    }
    return ST_OK;
}

const struct recent_item *recent_find(const struct recent *r, struct bytes key)
{
    uint64_t hash;

    if (r->item_cap == 0)
        return NULL;
    hash = hash64(r->seed, key.data, key.len);
    for (uint32_t at = *bucket_of(r, hash); at != 0; at = r->items[at - 1].next) {
        const struct recent_item *item = &r->items[at - 1];

        if (item->hash == hash && item->key_len == key.len && memcmp(item->key, key.data, key.len) == 0)
            return item;
    }
    return NULL;
}

bool recent_in_range(const struct recent *r, struct bytes first, struct bytes last, uint64_t after_tx)
{
    for (uint64_t i = r->item_end; i > r->item_first; i--) {
        const struct recent_item *item = item_at(r, i - 1);
        struct bytes key = bytes_of(item->key, item->key_len);

        if (item->tx_id <= after_tx)
            break;
        if (!item->is_newest || bytes_compare(key, first) < 0)
            continue;
        if (last.len > 0 ? bytes_compare(key, last) <= 0 : key.data[0] == first.data[0])
            return true;
    }
    return false;
}

size_t recent_bytes(const struct recent *r)
{
    return r->item_cap * (sizeof *r->items + sizeof *r->buckets) + r->tx_cap * sizeof *r->txs + r->key_bytes;
}
