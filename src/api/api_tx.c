/* A transaction in the making.
 *
 * Write-only: entries go straight into the draft. Read-write: they are kept here, in a table of touched keys, so that later writes replace earlier ones and
 * reads see them; they go into the draft at commit, with the read set. Keys and values are copied into the tx: first into its inline bytes, then an arena.
 * The view of a read-write transaction is opened by its first read: all its reads are as of that tx, and checked against it. */
#include "api/api_internal.h"

#include <stdlib.h>

#include "store/kv_encoding.h"

enum { TX_CHUNK_BYTES = 4096, ITEMS_FIRST = 16 };

/* --- memory --- */
static void tx_account(immudb_tx *tx)
{
    size_t bytes = tx->arena.bytes_used + tx->item_cap * (sizeof *tx->items + sizeof *tx->writes + 2 * sizeof *tx->table);

    if (bytes > tx->budget_bytes) {
        budget_take(&tx->db->runtime->runtime->budget, BUDGET_REQUEST, bytes - tx->budget_bytes);
        tx->budget_bytes = bytes;
    }
}

void *tx_alloc(immudb_tx *tx, size_t len)
{
    void *p;

    if (len <= TX_INLINE_BYTES - tx->inline_used) {
        p = tx->inline_bytes + tx->inline_used;
        tx->inline_used += len;
        return p;
    }
    p = arena_alloc(&tx->arena, len);
    tx_account(tx);
    return p;
}

/* prefix (none when negative) || b */
static enum status tx_copy(immudb_tx *tx, int prefix, struct bytes b, struct bytes *out, struct err *err)
{
    size_t head = prefix >= 0 ? 1 : 0;
    uint8_t *p = b.len < SIZE_MAX ? tx_alloc(tx, head + b.len) : NULL;

    if (p == NULL)
        return err_set(err, ST_NOMEM, 0, "%zu bytes in a transaction", b.len);
    if (prefix >= 0)
        p[0] = (uint8_t)prefix;
    if (b.len > 0)
        memcpy(p + head, b.data, b.len);
    *out = bytes_of(p, head + b.len);
    return ST_OK;
}

/* --- touched keys --- */
static uint32_t *slot_of(const immudb_tx *tx, struct bytes key)
{
    uint32_t mask = 2 * tx->item_cap - 1, at = (uint32_t)hash64((uint64_t)(uintptr_t)tx, key.data, key.len) & mask;

    while (tx->table[at] != 0 && !bytes_equal(tx->items[tx->table[at] - 1].key, key))
        at = (at + 1) & mask;
    return &tx->table[at];
}

static enum status items_grow(immudb_tx *tx, struct err *err)
{
    uint32_t cap = tx->item_cap == 0 ? ITEMS_FIRST : tx->item_cap * 2;
    struct tx_item *items;
    uint32_t *writes, *table;

    if (tx->item_count < tx->item_cap)
        return ST_OK;
    if (cap > UINT32_MAX / 4)
        return err_set(err, ST_LIMIT, 0, "too many keys in a transaction");
    items = malloc(cap * sizeof *items);
    writes = malloc(cap * sizeof *writes);
    table = calloc((size_t)cap * 2, sizeof *table);
    if (items == NULL || writes == NULL || table == NULL) {
        free(items);
        free(writes);
        free(table);
        return err_set(err, ST_NOMEM, 0, "a transaction of %u keys", tx->item_count);
    }
    if (tx->item_count > 0) {
        memcpy(items, tx->items, tx->item_count * sizeof *items);
        memcpy(writes, tx->writes, tx->write_count * sizeof *writes);
    }
    free(tx->items);
    free(tx->writes);
    free(tx->table);
    tx->items = items;
    tx->writes = writes;
    tx->table = table;
    tx->item_cap = cap;
    for (uint32_t i = 0; i < tx->item_count; i++)
        *slot_of(tx, items[i].key) = i + 1;
    tx_account(tx);
    return ST_OK;
}

const struct tx_item *tx_find(const immudb_tx *tx, struct bytes store_key)
{
    uint32_t at = tx->item_cap == 0 ? 0 : *slot_of(tx, store_key);

    return at == 0 ? NULL : &tx->items[at - 1];
}

enum status tx_item(immudb_tx *tx, struct bytes store_key, uint32_t *out, struct err *err)
{
    struct bytes copy;
    uint32_t *slot;
    enum status st;

    if ((st = items_grow(tx, err)) != ST_OK)
        return st;
    slot = slot_of(tx, store_key);
    if (*slot == 0) {
        if ((st = tx_copy(tx, -1, store_key, &copy, err)) != ST_OK)
            return st;
        tx->items[tx->item_count] = (struct tx_item){.key = copy};
        *slot = ++tx->item_count;
    }
    *out = *slot - 1;
    return ST_OK;
}

enum status tx_count_read(immudb_tx *tx, struct err *err)
{
    if (tx->read_count + tx->range_count >= tx->db->read_set_max)
        return err_set(err, ST_LIMIT, 0, "read set limit of %u exceeded", tx->db->read_set_max);
    return ST_OK;
}

/* --- begin and end --- */
enum status tx_view(immudb_tx *tx, struct err *err)
{
    return tx->view != NULL ? ST_OK : store_snapshot_open(tx->db->store, tx->read_tx_id, &tx->view, err);
}

static enum status tx_options_check(const immudb_tx_options *o, struct err *err)
{
    if (o->mode < IMMUDB_TX_READ_WRITE || o->mode > IMMUDB_TX_READ_ONLY)
        return err_set(err, ST_UNSUPPORTED, 0, "unknown transaction mode %d", o->mode);
    if (o->mode != IMMUDB_TX_READ_ONLY && o->read_tx_id != 0)
        return err_set(err, ST_INVALID, 0, "read_tx_id is for read-only transactions");
    return ST_OK;
}

immudb_status immudb_tx_begin(immudb_db *db, const immudb_tx_options *options, immudb_tx **out, immudb_error *error)
{
    immudb_tx_options o;
    immudb_tx *tx = NULL;
    struct err err;
    enum status st;

    if (db == NULL || out == NULL)
        return api_result(api_null(&err, db == NULL ? "db" : "out"), &err, error);
    *out = NULL;
    if ((st = sized_in(&o, sizeof o, options, true, "immudb_tx_options", &err)) != ST_OK || (st = tx_options_check(&o, &err)) != ST_OK)
        return api_result(st, &err, error);
    if ((tx = malloc(sizeof *tx)) == NULL)
        return api_result(err_set(&err, ST_NOMEM, 0, "beginning a transaction"), &err, error);
    memset(tx, 0, offsetof(immudb_tx, inline_bytes));
    tx->db = db;
    tx->mode = o.mode;
    tx->wait_durable = o.wait_durable != 0;
    tx->read_tx_id = o.read_tx_id;
    tx->timeout_ms = o.timeout_ms;
    arena_init(&tx->arena, TX_CHUNK_BYTES, 0);
    if (o.mode == IMMUDB_TX_READ_ONLY)
        st = tx_view(tx, &err);
    else
        st = draft_create(db->store, &tx->draft, &err);
    atomic_fetch_add(&db->handles, 1);
    if (st != ST_OK)
        immudb_tx_cancel(tx);
    else
        *out = tx;
    return api_result(st, &err, error);
}

/* Frees what is left of it; the handle was given back already. */
void tx_free(immudb_tx *tx)
{
    draft_free(tx->draft);
    store_snapshot_close(tx->view);
    free(tx->items);
    free(tx->writes);
    free(tx->table);
    arena_free(&tx->arena);
    if (tx->budget_bytes > 0)
        budget_give(&tx->db->runtime->runtime->budget, BUDGET_REQUEST, tx->budget_bytes);
    free(tx);
}

void immudb_tx_cancel(immudb_tx *tx)
{
    immudb_db *db;

    if (tx == NULL)
        return;
    db = tx->db;
    (void)cursors_detach(tx, NULL);
    tx_free(tx);
    atomic_fetch_sub(&db->handles, 1);
}

/* --- entries --- */
static enum status writable_check(const immudb_tx *tx, struct err *err)
{
    return tx->draft != NULL ? ST_OK : err_set(err, ST_READ_ONLY, 0, "a read-only transaction");
}

/* The store's own limits, seen before commit. */
static enum status limits_check(const immudb_tx *tx, size_t key_len, size_t value_len, struct err *err)
{
    if (key_len > tx->db->key_len_max)
        return err_set(err, ST_LIMIT, 0, "max key length exceeded");
    return value_len > tx->db->value_len_max ? err_set(err, ST_LIMIT, 0, "max value length exceeded") : ST_OK;
}

/* Into the table: replaces an earlier write. */
static enum status put_item(immudb_tx *tx, struct bytes store_key, struct bytes store_value, const struct kv_metadata *md, struct err *err)
{
    const struct tx_item *there = tx_find(tx, store_key);
    struct tx_item *item;
    uint32_t at = 0;
    enum status st;

    if ((there == NULL || !there->is_written) && tx->write_count >= tx->db->tx_entries_max)
        return err_set(err, ST_LIMIT, 0, "max number of entries per tx exceeded");
    if ((st = tx_item(tx, store_key, &at, err)) != ST_OK)
        return st;
    item = &tx->items[at];
    item->value = store_value;
    item->md = *md;
    if (!item->is_written) {
        item->is_written = true;
        tx->writes[tx->write_count++] = at;
    }
    return ST_OK;
}

enum status tx_put(immudb_tx *tx, immudb_bytes key, immudb_bytes value, const struct kv_metadata *md, uint32_t flags, struct err *err)
{
    bool is_raw = (flags & IMMUDB_RAW) != 0, is_deleted = md->is_deleted;
    size_t head = is_raw ? 0 : 1;
    struct bytes store_key, store_value = bytes_of(NULL, 0);
    struct key_ref k;
    enum status st;

    if ((st = bytes_check(value, "value", err)) != ST_OK || (st = key_open(key, flags, &k, err)) != ST_OK)
        return st;
    if ((st = limits_check(tx, k.store_key.len, value.len + (is_deleted ? 0 : head), err)) != ST_OK)
        goto done;
    if (!is_deleted && (st = tx_copy(tx, is_raw ? -1 : VALUE_PREFIX_PLAIN, bytes_in(value), &store_value, err)) != ST_OK)
        goto done;
    if (tx->mode == IMMUDB_TX_READ_WRITE)
        st = put_item(tx, k.store_key, store_value, md, err);
    else if ((st = tx_copy(tx, -1, k.store_key, &store_key, err)) == ST_OK)
        st = draft_set(tx->draft, store_key, md, store_value, err);
done:
    key_close(&k);
    return st;
}

static enum status set_options_check(const immudb_set_options *o, struct err *err)
{
    const uint32_t known = IMMUDB_RAW | IMMUDB_NON_INDEXABLE | IMMUDB_EXPIRES;

    return (o->flags & ~known) != 0 ? err_set(err, ST_UNSUPPORTED, 0, "unknown flags 0x%x", o->flags & ~known) : ST_OK;
}

immudb_status immudb_tx_set(immudb_tx *tx, immudb_bytes key, immudb_bytes value, const immudb_set_options *options, immudb_error *error)
{
    immudb_set_options o;
    struct kv_metadata md;
    struct err err;
    enum status st = tx == NULL ? api_null(&err, "tx") : writable_check(tx, &err);

    if (st != ST_OK || (st = sized_in(&o, sizeof o, options, true, "immudb_set_options", &err)) != ST_OK ||
        (st = set_options_check(&o, &err)) != ST_OK)
        return api_result(st, &err, error);
    md = (struct kv_metadata){.has_expiry = (o.flags & IMMUDB_EXPIRES) != 0,
                              .is_non_indexable = (o.flags & IMMUDB_NON_INDEXABLE) != 0,
                              .expires_at = (o.flags & IMMUDB_EXPIRES) != 0 ? o.expires_at : 0};
    return api_result(tx_put(tx, key, value, &md, o.flags, &err), &err, error);
}

/* The key must be there: seen by an own read, which the commit checks, or by a precondition. */
static enum status delete_check(immudb_tx *tx, immudb_bytes key, uint32_t flags, struct err *err)
{
    immudb_buffer *buffer = NULL;
    immudb_entry entry;
    immudb_error why;
    struct key_ref k;
    immudb_status status;
    enum status st;

    if (tx->mode == IMMUDB_TX_WRITE_ONLY) {
        if ((st = key_open(key, flags, &k, err)) != ST_OK)
            return st;
        st = draft_precondition(tx->draft, KEY_MUST_EXIST, k.store_key, 0, err);
        key_close(&k);
        return st;
    }
    immudb_entry_init(&entry);
    if ((status = immudb_buffer_create(&buffer, &why)) == IMMUDB_OK)
        status = immudb_tx_get(tx, key, (flags & IMMUDB_RAW) | IMMUDB_NO_VALUE, buffer, &entry, &why);
    immudb_buffer_free(buffer);
    return status == IMMUDB_OK ? ST_OK : err_set(err, status_in(status), why.os_errno, "%s", why.text);
}

immudb_status immudb_tx_delete(immudb_tx *tx, immudb_bytes key, uint32_t flags, immudb_error *error)
{
    const struct kv_metadata md = {.is_deleted = true};
    struct err err;
    enum status st = tx == NULL ? api_null(&err, "tx") : writable_check(tx, &err);

    if (st == ST_OK && (st = delete_check(tx, key, flags, &err)) == ST_OK)
        st = tx_put(tx, key, immudb_bytes_of(NULL, 0), &md, flags, &err);
    return api_result(st, &err, error);
}

immudb_status immudb_tx_precondition(immudb_tx *tx, int32_t kind, immudb_bytes key, uint64_t tx_id, uint32_t flags, immudb_error *error)
{
    static const enum precondition_kind KINDS[] = {[IMMUDB_MUST_EXIST] = KEY_MUST_EXIST,
                                                   [IMMUDB_MUST_NOT_EXIST] = KEY_MUST_NOT_EXIST,
                                                   [IMMUDB_NOT_MODIFIED_AFTER_TX] = KEY_NOT_MODIFIED_AFTER_TX};
    struct key_ref k;
    struct err err;
    enum status st = tx == NULL ? api_null(&err, "tx") : writable_check(tx, &err);

    if (st == ST_OK && (kind < IMMUDB_MUST_EXIST || kind > IMMUDB_NOT_MODIFIED_AFTER_TX))
        st = err_set(&err, ST_UNSUPPORTED, 0, "unknown kind of precondition %d", kind);
    if (st != ST_OK || (st = key_open(key, flags, &k, &err)) != ST_OK)
        return api_result(st, &err, error);
    st = draft_precondition(tx->draft, KINDS[kind], k.store_key, tx_id, &err);
    key_close(&k);
    return api_result(st, &err, error);
}

immudb_status immudb_tx_set_extra(immudb_tx *tx, immudb_bytes extra, immudb_error *error)
{
    struct err err;
    enum status st = tx == NULL ? api_null(&err, "tx") : writable_check(tx, &err);

    if (st == ST_OK && (st = bytes_check(extra, "extra", &err)) == ST_OK && extra.len > TX_EXTRA_BYTES_MAX)
        st = err_set(&err, ST_LIMIT, 0, "extra metadata of %zu bytes, at most %d", extra.len, TX_EXTRA_BYTES_MAX);
    if (st == ST_OK)
        draft_set_extra(tx->draft, bytes_in(extra));
    return api_result(st, &err, error);
}
