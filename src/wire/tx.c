/* TxHeader, TxEntry, Tx. */
#include "wire/wire.h"

/* TxMetadata: 1 truncatedTxID, 2 extra. */
static void put_tx_metadata(struct pb *w, const struct tx_metadata *md)
{
    pb_bytes(w, 2, bytes_of(md->extra, md->extra_len));
    pb_u64(w, 1, md->truncated_upto);
}

/* TxHeader: 1 id, 2 prevAlh, 3 ts, 4 nentries, 5 eH, 6 blTxId, 7 blRoot, 8 version, 9 metadata. */
void wire_tx_header(struct pb *w, const struct tx_header *h, bool with_metadata)
{
    if (with_metadata || !tx_metadata_is_empty(&h->md)) {
        size_t mark = pb_len(w);

        put_tx_metadata(w, &h->md);
        pb_message(w, 9, mark);
    }
    pb_i32(w, 8, (int32_t)h->version);
    pb_hash(w, 7, &h->bl_root);
    pb_u64(w, 6, h->bl_tx_id);
    pb_hash(w, 5, &h->eh);
    pb_i32(w, 4, (int32_t)h->entry_count);
    pb_i64(w, 3, h->ts);
    pb_hash(w, 2, &h->prev_alh);
    pb_u64(w, 1, h->id);
}

/* TxEntry: 1 key, 2 hValue, 3 vLen, 4 metadata, 5 value. */
void wire_tx_entry(struct pb *w, const struct tx_entry *e, const struct kv_far *far)
{
    if (far != NULL && far->tx_id != 0)
        pb_far(w, 5, e->value.len, far);
    else
        pb_bytes(w, 5, e->value);
    if (e->md.len > 0) {
        size_t mark = pb_len(w);
        struct kv_metadata md;

        if (kv_metadata_decode(e->md, &md, NULL) != ST_OK) {
            w->failed = true;
            return;
        }
        wire_kv_metadata(w, &md);
        pb_message(w, 4, mark);
    }
    pb_i32(w, 3, (int32_t)e->value_len);
    pb_hash(w, 2, &e->hval);
    pb_bytes(w, 1, e->key);
}

/* Tx: 1 header, 2 entries, 3 kvEntries, 4 zEntries. */
void wire_tx(struct pb *w, const struct kv_tx *tx)
{
    size_t mark;

    for (size_t i = tx->z_entry_count; i-- > 0;) {
        mark = pb_len(w);
        wire_zentry(w, &tx->z_entries[i]);
        pb_message(w, 4, mark);
    }
    for (size_t i = tx->kv_entry_count; i-- > 0;) {
        mark = pb_len(w);
        wire_entry(w, &tx->kv_entries[i]);
        pb_message(w, 3, mark);
    }
    for (size_t i = tx->entry_count; i-- > 0;) {
        mark = pb_len(w);
        wire_tx_entry(w, &tx->entries[i], tx->entry_fars == NULL ? NULL : &tx->entry_fars[i]);
        pb_message(w, 2, mark);
    }
    mark = pb_len(w);
    wire_tx_header(w, tx->header, true);
    pb_message(w, 1, mark);
}

/* Sums do not matter to the byte: a writer grows. Saturates far below overflow. */
size_t wire_tx_hint(const struct kv_tx *tx)
{
    size_t sum = WIRE_TX_HEADER_BYTES;

    for (size_t i = 0; i < tx->entry_count && sum < PB_MESSAGE_BYTES_MAX / 2; i++)
        sum += 64 + tx->entries[i].key.len + (tx->entries[i].value.data == NULL ? 0 : tx->entries[i].value.len);
    for (size_t i = 0; i < tx->kv_entry_count && sum < PB_MESSAGE_BYTES_MAX / 2; i++)
        sum += 16 + wire_entry_size(&tx->kv_entries[i]) - wire_entry_far(&tx->kv_entries[i]);
    for (size_t i = 0; i < tx->z_entry_count && sum < PB_MESSAGE_BYTES_MAX / 2; i++)
        sum += 16 + wire_zentry_size(&tx->z_entries[i]) - wire_entry_far(&tx->z_entries[i].entry);
    return sum;
}
