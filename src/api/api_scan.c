/* Scans: keys in order, for each the newest version.
 *
 * A scan in a read-write transaction merges the index with the own writes (sorted when it is opened) and remembers the last key it has passed: at its close, or
 * at the end of the transaction, the passed range goes into the read set. */
#include "api/api_cursor.h"

#include <stdlib.h>

#include "store/kv_encoding.h"

void scan_end(immudb_cursor *c)
{
    if (c->scan != NULL)
        index_scan_close(c->scan);
    c->scan = NULL;
    c->has_version = false;
    c->is_ended = true;
}

/* --- the range --- */
/* Where raw bounds lie in the index; the first byte of all that are given must agree. */
static enum status raw_bounds(struct bytes *bounds[3], uint32_t *ns, uint8_t *prefix_byte, struct err *err)
{
    struct bytes index_key;
    uint32_t found;
    bool is_any = false;

    for (size_t i = 0; i < 3; i++) {
        if (bounds[i]->len == 0)
            continue;
        if (!store_index_key(*bounds[i], &found, &index_key) || (is_any && (found != *ns || bounds[i]->data[0] != *prefix_byte)))
            return err_set(err, ST_INVALID, 0, "no index covers this range of keys");
        *ns = found;
        *prefix_byte = bounds[i]->data[0];
        is_any = true;
    }
    /* The catalog's two kinds share a namespace: only a prefix keeps them apart. */
    if (!is_any || (*ns == INDEX_NS_CATALOG && bounds[0]->len == 0))
        return err_set(err, ST_INVALID, 0, "a raw scan needs the first byte of its keys");
    for (size_t i = 0; i < 3; i++) {
        if (bounds[i]->len > 0) {
            (void)store_index_key(*bounds[i], &found, &index_key);
            *bounds[i] = index_key;
        }
    }
    return ST_OK;
}

static enum status scan_range(immudb_cursor *c, const immudb_scan_options *o, struct err *err)
{
    struct index_scan_options *r = &c->range;
    struct bytes *bounds[3] = {&r->prefix, &r->seek, &r->end};
    enum status st;

    if ((st = bytes_check(o->prefix, "prefix", err)) != ST_OK || (st = bytes_check(o->seek, "seek", err)) != ST_OK ||
        (st = bytes_check(o->end, "end", err)) != ST_OK)
        return st;
    r->ns = INDEX_NS_KV;
    r->prefix = bytes_in(o->prefix);
    r->seek = bytes_in(o->seek);
    r->end = bytes_in(o->end);
    r->inclusive_seek = (o->flags & IMMUDB_INCLUSIVE_SEEK) != 0;
    r->inclusive_end = (o->flags & IMMUDB_INCLUSIVE_END) != 0;
    r->desc = (o->flags & IMMUDB_DESC) != 0;
    r->want_revision = (o->flags & IMMUDB_WITH_REVISION) != 0;
    c->prefix_byte = KEY_PREFIX_KV;
    if ((o->flags & IMMUDB_RAW) != 0 && (st = raw_bounds(bounds, &r->ns, &c->prefix_byte, err)) != ST_OK)
        return st;
    for (size_t i = 0; i < 3; i++)
        if ((st = cursor_keep(c, bounds[i], err)) != ST_OK)
            return st;
    return ST_OK;
}

/* Does an index key lie in the range, by the same rules as in the index? */
static bool range_holds(const struct index_scan_options *r, struct bytes key)
{
    int by_seek = r->seek.len == 0 ? (r->desc ? -1 : 1) : bytes_compare(key, r->seek);
    int by_end = r->end.len == 0 ? (r->desc ? 1 : -1) : bytes_compare(key, r->end);

    if (!bytes_has_prefix(key, r->prefix))
        return false;
    if (by_seek == 0 ? !r->inclusive_seek : (by_seek < 0) != r->desc)
        return false;
    return by_end == 0 ? r->inclusive_end : (by_end < 0) != r->desc;
}

static int item_compare(const void *a, const void *b) { return bytes_compare(((const struct tx_item *)a)->key, ((const struct tx_item *)b)->key); }

/* Own writes in the range, in the order of the scan, with index keys instead of store keys kept aside. */
static enum status own_gather(immudb_cursor *c, struct err *err)
{
    const immudb_tx *tx = c->tx;
    struct bytes index_key;
    uint32_t ns;

    if (tx->mode != IMMUDB_TX_READ_WRITE || tx->write_count == 0)
        return ST_OK;
    if ((c->own_writes = malloc(tx->write_count * sizeof *c->own_writes)) == NULL)
        return err_set(err, ST_NOMEM, 0, "a scan of %u own writes", tx->write_count);
    for (uint32_t i = 0; i < tx->write_count; i++) {
        const struct tx_item *item = &tx->items[tx->writes[i]];

        /* Entries that are not indexed are not found by key, now or later. */
        if (!item->md.is_non_indexable && store_index_key(item->key, &ns, &index_key) && ns == c->range.ns && range_holds(&c->range, index_key))
            c->own_writes[c->own_count++] = *item;
    }
    if (c->own_count > 1)
        qsort(c->own_writes, c->own_count, sizeof *c->own_writes, item_compare);
    for (size_t i = 0; c->range.desc && i < c->own_count / 2; i++) {
        struct tx_item swap = c->own_writes[i];

        c->own_writes[i] = c->own_writes[c->own_count - 1 - i];
        c->own_writes[c->own_count - 1 - i] = swap;
    }
    return ST_OK;
}

static enum status scan_open(immudb_cursor *c, const immudb_scan_options *o, struct err *err)
{
    enum status st = scan_range(c, o, err);

    c->skip = o->offset;
    return st != ST_OK ? st : index_scan_open(c->index, &c->range, &c->scan, err);
}

static enum status scan_options_in(const immudb_scan_options *options, immudb_scan_options *o, struct err *err)
{
    const uint32_t known = IMMUDB_RAW | IMMUDB_WITH_DELETED | IMMUDB_NO_VALUE | IMMUDB_NO_FOLLOW | IMMUDB_DESC | IMMUDB_INCLUSIVE_SEEK |
                           IMMUDB_INCLUSIVE_END | IMMUDB_WITH_REVISION;
    enum status st = sized_in(o, sizeof *o, options, true, "immudb_scan_options", err);

    if (st == ST_OK && (o->flags & ~known) != 0)
        st = err_set(err, ST_UNSUPPORTED, 0, "unknown flags 0x%x", o->flags & ~known);
    return st;
}

immudb_status immudb_scan(immudb_db *db, const immudb_scan_options *options, immudb_cursor **out, immudb_error *error)
{
    immudb_scan_options o;
    immudb_cursor *c = NULL;
    struct err err;
    enum status st;

    if (db == NULL || out == NULL)
        return api_result(api_null(&err, db == NULL ? "db" : "out"), &err, error);
    *out = NULL;
    if ((st = scan_options_in(options, &o, &err)) != ST_OK || (st = cursor_make(db, CURSOR_SCAN, o.flags, &c, &err)) != ST_OK)
        return api_result(st, &err, error);
    if ((st = cursor_view(c, o.snapshot, &err)) != ST_OK || (st = scan_open(c, &o, &err)) != ST_OK)
        immudb_cursor_close(c);
    else
        *out = c;
    return api_result(st, &err, error);
}

immudb_status immudb_tx_scan(immudb_tx *tx, const immudb_scan_options *options, immudb_cursor **out, immudb_error *error)
{
    immudb_scan_options o;
    immudb_cursor *c = NULL;
    struct err err;
    enum status st;

    if (tx == NULL || out == NULL)
        return api_result(api_null(&err, tx == NULL ? "tx" : "out"), &err, error);
    *out = NULL;
    if ((st = scan_options_in(options, &o, &err)) != ST_OK)
        return api_result(st, &err, error);
    if (tx->mode == IMMUDB_TX_WRITE_ONLY || o.snapshot != NULL)
        st = err_set(&err, ST_INVALID, 0, o.snapshot != NULL ? "a transaction has its own snapshot" : "a write-only transaction does not read");
    if (st != ST_OK || (st = tx_view(tx, &err)) != ST_OK || (tx->mode == IMMUDB_TX_READ_WRITE && (st = tx_count_read(tx, &err)) != ST_OK) ||
        (st = cursor_make(tx->db, CURSOR_SCAN, o.flags | IMMUDB_NO_FOLLOW, &c, &err)) != ST_OK)
        return api_result(st, &err, error);
    c->index = store_snapshot_index(tx->view);
    if ((st = scan_open(c, &o, &err)) == ST_OK) {
        c->tx = tx;
        c->was_in_tx = true;
        c->next = tx->cursors;
        c->at = &tx->cursors;
        if (c->next != NULL)
            c->next->at = &c->next;
        tx->cursors = c;
        st = own_gather(c, &err);
    }
    if (st != ST_OK)
        immudb_cursor_close(c);
    else
        *out = c;
    return api_result(st, &err, error);
}

/* --- the read set of a scan --- */
static enum status passed_note(immudb_cursor *c, struct bytes store_key, struct err *err)
{
    uint8_t *grown;

    if (c->tx == NULL || c->tx->mode != IMMUDB_TX_READ_WRITE)
        return ST_OK;
    if (store_key.len > c->passed_cap) {
        if ((grown = realloc(c->passed, store_key.len * 2)) == NULL)
            return err_set(err, ST_NOMEM, 0, "a scan in a transaction");
        c->passed = grown;
        c->passed_cap = store_key.len * 2;
    }
    memcpy(c->passed, store_key.data, store_key.len);
    c->passed_len = store_key.len;
    c->has_passed = true;
    return ST_OK;
}

/* prefix byte || index key; the catalog's index keys are store keys already. */
static bool store_key_make(const immudb_cursor *c, struct bytes index_key, struct arena *arena, struct bytes *out)
{
    bool is_whole = c->range.ns == INDEX_NS_CATALOG;
    uint8_t *p = arena_alloc(arena, index_key.len + 1);

    if (p == NULL)
        return false;
    p[0] = c->prefix_byte;
    if (index_key.len > 0)
        memcpy(p + (is_whole ? 0 : 1), index_key.data, index_key.len);
    *out = bytes_of(p, index_key.len + (is_whole && index_key.len > 0 ? 0 : 1));
    return true;
}

/* The smallest key behind all that have the prefix; empty: the end of the namespace. */
static bool prefix_end(const immudb_cursor *c, struct arena *arena, struct bytes *out)
{
    struct bytes prefix = c->range.prefix;
    struct bytes copy;
    uint8_t *last;

    *out = bytes_of(NULL, 0);
    while (prefix.len > 0 && prefix.data[prefix.len - 1] == 0xff)
        prefix.len--;
    if (prefix.len == 0)
        return true;
    if (!store_key_make(c, prefix, arena, &copy))
        return false;
    last = (uint8_t *)(uintptr_t)copy.data + copy.len - 1; /* our own copy */
    (*last)++;
    *out = copy;
    return true;
}

/* Smallest and largest store key of the whole range; both inclusive, a little generous. */
static bool range_bounds(const immudb_cursor *c, struct arena *arena, struct bytes *low, struct bytes *high)
{
    struct bytes lower = c->range.desc ? c->range.end : c->range.seek, upper = c->range.desc ? c->range.seek : c->range.end;

    if (bytes_compare(lower, c->range.prefix) < 0)
        lower = c->range.prefix;
    if (!store_key_make(c, lower, arena, low))
        return false;
    return upper.len > 0 ? store_key_make(c, upper, arena, high) : prefix_end(c, arena, high);
}

enum status range_note(immudb_cursor *c, struct err *err)
{
    immudb_tx *tx = c->tx;
    struct tx_range *r;
    struct bytes passed;

    if (tx == NULL || tx->mode != IMMUDB_TX_READ_WRITE || (!c->has_passed && !c->is_ended))
        return ST_OK;
    r = arena_alloc(&tx->arena, sizeof *r);
    if (r == NULL || !range_bounds(c, &tx->arena, &r->first, &r->last))
        goto failed;
    if (!c->is_ended) { /* only what was passed */
        passed = arena_copy(&tx->arena, bytes_of(c->passed, c->passed_len));
        if (passed.data == NULL)
            goto failed;
        if (c->range.desc)
            r->first = passed;
        else
            r->last = passed;
    }
    if (r->last.len == 0 || bytes_compare(r->first, r->last) <= 0) {
        r->next = tx->ranges;
        tx->ranges = r;
        tx->range_count++;
    }
    return ST_OK;
failed:
    tx->lost_range = true;
    return err_set(err, ST_NOMEM, 0, "a scan in a transaction");
}

enum status cursors_detach(immudb_tx *tx, struct err *err)
{
    enum status st = ST_OK;
    immudb_cursor *c;

    while ((c = tx->cursors) != NULL) {
        if (st == ST_OK)
            st = range_note(c, err);
        cursor_unlink(c);
        scan_end(c);
        c->index = NULL;
    }
    if (st == ST_OK && tx->lost_range)
        st = err_set(err, ST_NOMEM, 0, "a scan in the transaction could not be noted");
    return st;
}

/* --- scan, step by step --- */
/* Keeps the index's next key at hand. ST_NOT_FOUND: no more. */
static enum status index_peek(immudb_cursor *c, struct err *err)
{
    enum status st;

    if (c->has_version)
        return ST_OK;
    if (c->scan == NULL)
        return ST_NOT_FOUND;
    st = index_scan_next(c->scan, &c->key, &c->version, &c->revision, err);
    if (st == ST_NOT_FOUND) {
        index_scan_close(c->scan);
        c->scan = NULL;
    }
    c->has_version = st == ST_OK;
    return st;
}

/* <0: the own write comes first, 0: it replaces the index's, >0: the index's. */
static int own_compare(const immudb_cursor *c, bool has_index)
{
    struct bytes own_key;
    uint32_t ns = 0;
    int order;

    if (c->own_at >= c->own_count)
        return 1;
    if (!has_index)
        return -1;
    (void)store_index_key(c->own_writes[c->own_at].key, &ns, &own_key);
    order = bytes_compare(own_key, c->key);
    return c->range.desc ? -order : order;
}

static enum status own_step(immudb_cursor *c, immudb_entry *out, struct err *err)
{
    const struct tx_item *item = &c->own_writes[c->own_at++];
    enum status st;

    if ((st = passed_note(c, item->key, err)) != ST_OK)
        return st;
    if ((c->flags & IMMUDB_WITH_DELETED) == 0 && (item->md.is_deleted || kv_metadata_expired(&item->md, c->now_s)))
        return ST_AGAIN;
    if (c->skip > 0) {
        c->skip--;
        return ST_AGAIN;
    }
    return entry_pending(item, c->now_s, c->flags, &c->arena, out, err);
}

static enum status index_step(immudb_cursor *c, immudb_entry *out, struct err *err)
{
    struct entry_want w = cursor_want(c);
    struct bytes store_key;
    enum status st;

    c->has_version = false;
    if (c->was_in_tx) {
        if (!store_key_make(c, c->key, &c->arena, &store_key))
            return err_set(err, ST_NOMEM, 0, "a scan in a transaction");
        if ((st = passed_note(c, store_key, err)) != ST_OK)
            return st;
    }
    if ((c->flags & IMMUDB_WITH_DELETED) == 0 && version_is_dead(&c->version, c->now_s))
        return ST_AGAIN;
    if (c->skip > 0) {
        c->skip--;
        return ST_AGAIN;
    }
    st = entry_at(&w, c->version.tx_id, c->version.entry_index, out, err);
    if (st == ST_NOT_FOUND || st == ST_LIMIT) /* a reference that leads nowhere, or to another one */
        return ST_AGAIN;
    if (st == ST_OK && c->range.want_revision)
        out->revision = c->revision;
    return st;
}

/* ST_AGAIN: the key was passed over. */
static enum status scan_step(immudb_cursor *c, immudb_entry *out, struct err *err)
{
    enum status st = index_peek(c, err);
    int order;

    if (st != ST_OK && st != ST_NOT_FOUND)
        return st;
    if (st == ST_NOT_FOUND && c->own_at >= c->own_count)
        return ST_NOT_FOUND;
    order = own_compare(c, st == ST_OK);
    if (order == 0)
        c->has_version = false; /* hidden by the own write */
    return order <= 0 ? own_step(c, out, err) : index_step(c, out, err);
}

enum status scan_next(immudb_cursor *c, immudb_entry *out, struct err *err)
{
    enum status st;

    if (c->was_in_tx && c->tx == NULL)
        return err_set(err, ST_CLOSED, 0, "the transaction has ended");
    do {
        arena_reset(&c->arena);
        st = scan_step(c, out, err);
    } while (st == ST_AGAIN);
    return st;
}
