/* Point reads in a run, and the versions of a key in it. */
#include "index/run.h"

#include <assert.h>

/* --- versions --- */

static enum status contradiction(const struct run_versions *v, struct err *err)
{
    atomic_store_explicit(&v->run->is_damaged, true, memory_order_release);
    return err_set(err, ST_CORRUPT, 0, "index run %s: the versions at offset %llu are not those of their key", v->run->path,
                   (unsigned long long)v->payload.offset);
}

static uint64_t page_count(const struct run_versions *v) { return (v->payload.count - 1) / VERSION_PAGE_MAX + 1; }

/* The list item of a version page; with a single page there is no list. */
static enum status page_locate(const struct run_versions *v, uint64_t page, bool nowait, struct list_item *out, struct err *err)
{
    uint64_t pages = page_count(v), block_no = page / LIST_BLOCK_MAX, items = pages - block_no * LIST_BLOCK_MAX;
    struct run_block b;
    enum status st;

    if (pages == 1) {
        *out = (struct list_item){v->payload.offset, v->payload.len, (uint32_t)v->payload.count, 0};
        return ST_OK;
    }
    if (items > LIST_BLOCK_MAX)
        items = LIST_BLOCK_MAX;
    /* list blocks are small and read again and again: through the cache also for merges */
    st = run_block_get(v->run, NULL, BLOCK_LIST, v->payload.offset + block_no * (BLOCK_HEADER_LEN + LIST_BLOCK_MAX * LIST_ITEM_LEN),
                       BLOCK_HEADER_LEN + (size_t)items * LIST_ITEM_LEN, nowait, &b, err);
    if (st != ST_OK)
        return st;
    assert(block_items(b.data) == items);
    *out = list_item_at(b.data, (uint32_t)(page % LIST_BLOCK_MAX));
    run_block_put(v->run, &b);
    if (out->count != (page == pages - 1 ? v->payload.count - page * VERSION_PAGE_MAX : VERSION_PAGE_MAX))
        return contradiction(v, err);
    return ST_OK;
}

static enum status page_get(const struct run_versions *v, const struct list_item *item, bool nowait, struct run_block *out, struct err *err)
{
    enum status st = run_block_get(v->run, v->stream, BLOCK_VERSIONS, item->offset, item->len, nowait, out, err);

    if (st == ST_OK && block_count(out->data) != item->count) {
        run_block_put(v->run, out);
        st = contradiction(v, err);
    }
    return st;
}

/* The page that holds the newest version <= upto: the last whose first tx is <= upto; pages when even the first is above. */
static enum status page_search(const struct run_versions *v, uint64_t upto, bool nowait, uint64_t *page, struct list_item *item, struct err *err)
{
    uint64_t low = 0, high = page_count(v);
    enum status st = ST_OK;

    if (high == 1) {
        *page = 0;
        return page_locate(v, 0, nowait, item, err);
    }
    while (low < high && st == ST_OK) {
        uint64_t mid = (low + high) / 2;
        st = page_locate(v, mid, nowait, item, err);
        if (st == ST_OK && item->first_tx <= upto)
            low = mid + 1;
        else
            high = mid;
    }
    if (st != ST_OK)
        return st;
    *page = low == 0 ? 0 : low - 1;
    return page_locate(v, *page, nowait, item, err);
}

static void inline_upto(const struct run_versions *v, uint64_t upto, uint64_t *count, struct index_version *out)
{
    const uint8_t *p = v->payload.versions;
    uint64_t tx = v->run->id.tx_first;

    for (uint64_t i = 0; i < v->payload.count; i++) {
        p = version_get(p, i == 0, &tx, out);
        if (tx <= upto) {
            *count = v->payload.count - i;
            return;
        }
    }
    *count = 0;
}

enum status run_versions_upto(const struct run_versions *v, uint64_t upto, bool nowait, uint64_t *count, struct index_version *out, struct err *err)
{
    struct list_item item;
    struct run_block b;
    uint64_t page;
    uint32_t n;
    enum status st;

    if (v->payload.count <= INLINE_VERSIONS_MAX) {
        inline_upto(v, upto, count, out);
        return ST_OK;
    }
    if (v->payload.newest.tx_id <= upto) {
        *count = v->payload.count;
        *out = v->payload.newest;
        return ST_OK;
    }
    if ((st = page_search(v, upto, nowait, &page, &item, err)) != ST_OK || (st = page_get(v, &item, nowait, &b, err)) != ST_OK)
        return st;
    n = version_page_upto(b.data, upto);
    *count = page * VERSION_PAGE_MAX + n;
    if (n > 0)
        version_page_nth(b.data, n - 1, out);
    run_block_put(v->run, &b);
    /* the first page may be above upto, a later one was chosen because it is not */
    return n == 0 && page > 0 ? contradiction(v, err) : ST_OK;
}

enum status run_versions_copy(const struct run_versions *v, uint64_t from, size_t count, struct index_version *out, struct err *err)
{
    enum status st = ST_OK;

    assert(from <= v->payload.count && count <= v->payload.count - from);
    if (v->payload.count <= INLINE_VERSIONS_MAX) {
        struct index_version all[INLINE_VERSIONS_MAX];
        const uint8_t *p = v->payload.versions;
        uint64_t tx = v->run->id.tx_first, n = v->payload.count;

        for (uint64_t i = 0; i < n; i++)
            p = version_get(p, i == 0, &tx, &all[n - 1 - i]);
        memcpy(out, all + from, count * sizeof *out);
        return ST_OK;
    }
    while (count > 0 && st == ST_OK) {
        uint64_t page = from / VERSION_PAGE_MAX;
        uint32_t at = (uint32_t)(from % VERSION_PAGE_MAX);
        struct list_item item;
        struct run_block b;

        if ((st = page_locate(v, page, false, &item, err)) != ST_OK || (st = page_get(v, &item, false, &b, err)) != ST_OK)
            break;
        for (; at < item.count && count > 0; at++, count--, from++)
            version_page_nth(b.data, at, out++);
        run_block_put(v->run, &b);
    }
    return st;
}

/* --- point reads --- */

/* A block for a moment: borrowed from pins when there are any, else the caller's own pin. run_block_put() is right for both. */
static enum status block_borrow(struct run *r, struct run_pin *pin, enum block_kind kind, uint64_t offset, size_t len, bool nowait,
                                struct run_block *out, struct err *err)
{
    enum status st;

    if (pin == NULL)
        return run_block_get(r, NULL, kind, offset, len, nowait, out, err);
    if (pin->run != r || pin->offset != offset || pin->block.pin.len != len || pin->block.data[4] != (uint8_t)kind) {
        if (pin->run != NULL)
            run_block_put(pin->run, &pin->block);
        pin->run = NULL;
        if ((st = run_block_get(r, NULL, kind, offset, len, nowait, &pin->block, err)) != ST_OK)
            return st;
        pin->run = r;
        pin->offset = offset;
    }
    *out = (struct run_block){.data = pin->block.data};
    return ST_OK;
}

static size_t place_of(const struct run *r, uint64_t offset, size_t places)
{
    return (size_t)(((r->id.run_id ^ offset) * 0x9e3779b97f4a7c15u) >> 32) % places;
}
static struct run_pin *page_pin(struct run_pins *pins, const struct run *r, uint64_t offset)
{
    return pins == NULL ? NULL : &pins->pages[place_of(r, offset, RUN_PIN_PAGES)];
}
/* One per run: the next key of a sorted list is likely to be in the same block. */
static struct run_pin *data_pin(struct run_pins *pins, const struct run *r)
{
    return pins == NULL ? NULL : &pins->data[place_of(r, 0, RUN_PIN_DATA)];
}

void run_pins_release(struct run_pins *pins)
{
    for (size_t i = 0; i < RUN_PIN_PAGES + RUN_PIN_DATA; i++) {
        struct run_pin *pin = i < RUN_PIN_PAGES ? &pins->pages[i] : &pins->data[i - RUN_PIN_PAGES];

        if (pin->run != NULL)
            run_block_put(pin->run, &pin->block);
        pin->run = NULL;
    }
}

static enum status bloom_has(struct run *r, const struct fence_item *part, uint64_t hash, bool nowait, struct run_pins *pins, bool *may_have,
                             struct err *err)
{
    uint32_t line = bloom_line(hash, part->bloom_lines), page = line / BLOOM_PAGE_LINES;
    uint64_t offset = part->offset + part->len + (uint64_t)page * BLOOM_PAGE_LEN;
    size_t len = BLOOM_LINE_LEN + (size_t)bloom_page_lines(part->bloom_lines, page) * BLOOM_LINE_LEN;
    struct run_block b;
    enum status st = block_borrow(r, page_pin(pins, r, offset), BLOCK_BLOOM, offset, len, nowait, &b, err);

    if (st != ST_OK)
        return st;
    *may_have = bloom_line_has(b.data + BLOOM_LINE_LEN + (size_t)(line % BLOOM_PAGE_LINES) * BLOOM_LINE_LEN, hash);
    if (!*may_have)
        atomic_fetch_add_explicit(&r->stats->bloom_skips, 1, memory_order_relaxed);
    run_block_put(r, &b);
    return ST_OK;
}

enum status run_find(struct run *r, struct index_key key, uint64_t hash, bool nowait, struct run_pins *pins, bool *found,
                     struct run_versions *versions, struct run_block *block, struct err *err)
{
    uint32_t i = fence_search(r->root, key, false), at;
    struct run_block b = {0};
    struct fence_item part, leaf;
    struct data_entry e;
    bool may_have;
    enum status st;

    *found = false;
    if (i == 0 || fence_key(r->root, 0).ns > key.ns)
        return ST_OK;
    part = fence_item_at(r->root, i - 1);
    if ((st = bloom_has(r, &part, hash, nowait, pins, &may_have, err)) != ST_OK || !may_have)
        return st;
    if ((st = block_borrow(r, page_pin(pins, r, part.offset), BLOCK_FENCE, part.offset, part.len, nowait, &b, err)) != ST_OK)
        return st;
    i = fence_search(b.data, key, false);
    if (i > 0)
        leaf = fence_item_at(b.data, i - 1);
    run_block_put(r, &b);
    if (i == 0)
        return ST_OK;
    if ((st = block_borrow(r, data_pin(pins, r), BLOCK_DATA, leaf.offset, leaf.len, nowait, &b, err)) != ST_OK)
        return st;
    if (data_ns(b.data) == key.ns) {
        at = data_block_search(b.data, key.key, found);
        if (*found) {
            data_block_entry(b.data, at, &e);
            versions->run = r;
            versions->stream = NULL;
            run_payload_read(e.payload, r->id.tx_first, &versions->payload);
            *block = b;
            return ST_OK;
        }
    }
    run_block_put(r, &b);
    return ST_OK;
}
