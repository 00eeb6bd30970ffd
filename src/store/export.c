/* Exporting a transaction for a replica: the published blob, rebuilt from the record. */
#include "store/store_internal.h"

static enum status entries_read(struct store *s, struct log_tx *t, struct arena *arena, struct tx_entry **out, struct err *err)
{
    struct tx_entry *entries = arena_array(arena, t->entry_count, sizeof *entries);
    enum status st = ST_OK;

    if (entries == NULL)
        return err_set(err, ST_NOMEM, 0, "exporting a transaction of %u entries", t->entry_count);
    for (uint32_t i = 0; i < t->entry_count && st == ST_OK; i++) {
        st = log_tx_entry(s->log, t, i, &entries[i], err);
        if (st == ST_OK && !entries[i].is_value_gone)
            st = log_tx_value(s->log, t, i, arena, &entries[i].value, err);
    }
    *out = entries;
    return st;
}

enum status store_export(struct store *s, uint64_t tx_id, bool allow_precommitted, bool skip_integrity, struct arena *arena, struct bytes *out,
                         struct err *err)
{
    uint64_t limit = atomic_load_explicit(allow_precommitted ? &s->exportable_tx : &s->durable_tx, memory_order_acquire);
    struct tx_entry *entries = NULL;
    struct log_tx t;
    struct writer w;
    uint64_t bytes = 0;
    uint8_t *blob;
    enum status st;

    *out = bytes_of(NULL, 0);
    if (tx_id == 0)
        return err_set(err, ST_NOT_FOUND, 0, "tx not found");
    if (tx_id > limit)
        return beyond_error(s, err);
    if ((st = log_tx_open(s->log, tx_id, false, &t, err)) != ST_OK)
        return st;
    if ((st = entries_read(s, &t, arena, &entries, err)) != ST_OK)
        goto done;
    if ((st = tx_export_size(&t.header, entries, t.entry_count, &bytes, err)) != ST_OK)
        goto done;
    blob = bytes <= SIZE_MAX ? arena_alloc(arena, (size_t)bytes) : NULL;
    if (blob == NULL) {
        st = err_set(err, ST_NOMEM, 0, "exporting a transaction of %llu bytes", (unsigned long long)bytes);
        goto done;
    }
    w = writer_of(blob, (size_t)bytes);
    if ((st = tx_export(&t.header, entries, t.entry_count, skip_integrity, &w, err)) == ST_OK)
        *out = bytes_of(blob, writer_len(&w));
done:
    log_tx_close(s->log, &t);
    return st;
}
