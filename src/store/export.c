/* Exporting a transaction for a replica: the published blob, rebuilt from the record. Large values may be left out, to be read when they are sent. */
#include "store/store_internal.h"

/* Once the values in memory are so many, shorter ones are left out too. */
#define KEPT_BYTES_MAX ((size_t)1 << 20)
#define FAR_BYTES_MIN ((size_t)1 << 10)

/* One export: what store_export_parts() was asked for, and the entries. */
struct export
{
    struct store *store;
    struct log_tx tx;
    size_t far_bytes; /* SIZE_MAX: nothing is left out */
    struct arena *arena;
    struct tx_entry *entries;
    size_t far_count, far_total;
};

/* The value of entry i, or its length alone. */
static enum status value_take(struct export *x, uint32_t i, size_t *kept, struct err *err)
{
    struct tx_entry *e = &x->entries[i];
    bool is_far = e->value_len > 0 && e->value_len >= (*kept > KEPT_BYTES_MAX && x->far_bytes != SIZE_MAX ? FAR_BYTES_MIN : x->far_bytes);
    uint8_t first;

    if (!is_far) {
        *kept += e->value_len;
        return log_tx_value(x->store->log, &x->tx, i, x->arena, &e->value, err);
    }
    x->far_count++;
    x->far_total += e->value_len;
    if (e->value.data != NULL) { /* in the cache, verified */
        e->value = bytes_of(NULL, e->value_len);
        return ST_OK;
    }
    e->value = bytes_of(NULL, e->value_len);
    return store_value_check(x->store, x->tx.header.id, i, &first, err);
}

static enum status entries_read(struct export *x, struct err *err)
{
    size_t kept = 0;
    enum status st = ST_OK;

    if ((x->entries = arena_array(x->arena, x->tx.entry_count, sizeof *x->entries)) == NULL)
        return err_set(err, ST_NOMEM, 0, "exporting a transaction of %u entries", x->tx.entry_count);
    for (uint32_t i = 0; i < x->tx.entry_count && st == ST_OK; i++) {
        st = log_tx_entry(x->store->log, &x->tx, i, &x->entries[i], err);
        if (st == ST_OK && !x->entries[i].is_value_gone)
            st = value_take(x, i, &kept, err);
    }
    return st;
}

static enum status gaps_make(const struct export *x, const size_t *value_at, struct store_export_parts *out, struct err *err)
{
    struct store_export_gap *gaps = arena_array(x->arena, x->far_count, sizeof *gaps);

    if (gaps == NULL)
        return err_set(err, ST_NOMEM, 0, "exporting a transaction of %u entries", x->tx.entry_count);
    for (uint32_t i = 0; i < x->tx.entry_count; i++)
        if (x->entries[i].value.data == NULL && x->entries[i].value.len > 0)
            gaps[out->gap_count++] = (struct store_export_gap){value_at[i], x->entries[i].value.len, i};
    out->gaps = gaps;
    return ST_OK;
}

static enum status export_write(struct export *x, bool skip_integrity, struct store_export_parts *out, struct err *err)
{
    const struct tx_header *h = &x->tx.header;
    size_t count = x->tx.entry_count, *value_at = NULL;
    uint64_t bytes = 0;
    uint8_t *blob;
    struct writer w;
    enum status st;

    if ((st = tx_export_size(h, x->entries, count, &bytes, err)) != ST_OK)
        return st;
    blob = bytes <= SIZE_MAX ? arena_alloc(x->arena, (size_t)bytes - x->far_total) : NULL;
    if (blob == NULL || (x->far_count > 0 && (value_at = arena_array(x->arena, count, sizeof *value_at)) == NULL))
        return err_set(err, ST_NOMEM, 0, "exporting a transaction of %llu bytes", (unsigned long long)bytes);
    w = writer_of(blob, (size_t)bytes - x->far_total);
    if ((st = tx_export_parts(h, x->entries, count, skip_integrity, &w, value_at, err)) != ST_OK)
        return st;
    out->bytes = bytes_of(blob, writer_len(&w));
    out->len = out->bytes.len + x->far_total;
    return x->far_count > 0 ? gaps_make(x, value_at, out, err) : ST_OK;
}

enum status store_export_parts(struct store *s, uint64_t tx_id, bool allow_precommitted, bool skip_integrity, size_t far_bytes, struct arena *arena,
                               struct store_export_parts *out, struct err *err)
{
    uint64_t limit = atomic_load_explicit(allow_precommitted ? &s->exportable_tx : &s->durable_tx, memory_order_acquire);
    struct export x = {.store = s, .far_bytes = far_bytes, .arena = arena};
    enum status st;

    *out = (struct store_export_parts){.bytes = bytes_of(NULL, 0)};
    if (tx_id == 0)
        return err_set(err, ST_NOT_FOUND, 0, "tx not found");
    if (tx_id > limit)
        return beyond_error(s, err);
    if ((st = log_tx_open(s->log, tx_id, false, &x.tx, err)) != ST_OK)
        return st;
    if ((st = entries_read(&x, err)) == ST_OK)
        st = export_write(&x, skip_integrity, out, err);
    log_tx_close(s->log, &x.tx);
    return st;
}

enum status store_export(struct store *s, uint64_t tx_id, bool allow_precommitted, bool skip_integrity, struct arena *arena, struct bytes *out,
                         struct err *err)
{
    struct store_export_parts parts;
    enum status st = store_export_parts(s, tx_id, allow_precommitted, skip_integrity, SIZE_MAX, arena, &parts, err);

    *out = st == ST_OK ? parts.bytes : bytes_of(NULL, 0);
    return st;
}
