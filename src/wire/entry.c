/* Entry, ZEntry, KVMetadata, Reference: answers of Get, Scan, History, ZScan. */
#include "wire/wire.h"

#include <assert.h>

/* KVMetadata: 1 deleted, 2 expiration {1 expiresAt}, 3 nonIndexable. */
void wire_kv_metadata(struct pb *w, const struct kv_metadata *md)
{
    pb_bool(w, 3, md->is_non_indexable);
    if (md->has_expiry) {
        size_t mark = pb_len(w);

        pb_i64(w, 1, md->expires_at);
        pb_message(w, 2, mark);
    }
    pb_bool(w, 1, md->is_deleted);
}

static void metadata_field(struct pb *w, uint32_t field, const struct kv_metadata *md)
{
    size_t mark = pb_len(w);

    if (kv_metadata_is_empty(md))
        return;
    wire_kv_metadata(w, md);
    pb_message(w, field, mark);
}

/* Reference: 1 tx, 2 key, 3 atTx, 4 metadata, 5 revision. */
static void put_reference(struct pb *w, const struct kv_reference *r)
{
    pb_u64(w, 5, r->revision);
    metadata_field(w, 4, &r->md);
    pb_u64(w, 3, r->at_tx);
    pb_bytes(w, 2, r->key);
    pb_u64(w, 1, r->tx_id);
}

/* Entry: 1 tx, 2 key, 3 value, 4 referencedBy, 5 metadata, 6 expired, 7 revision. */
void wire_entry(struct pb *w, const struct kv_entry *e)
{
    pb_u64(w, 7, e->revision);
    pb_bool(w, 6, e->is_expired);
    metadata_field(w, 5, &e->md);
    if (e->has_reference) {
        size_t mark = pb_len(w);

        put_reference(w, &e->reference);
        pb_message(w, 4, mark);
    }
    if (e->far.tx_id != 0)
        pb_far(w, 3, e->value.len, &e->far);
    else
        pb_bytes(w, 3, e->value);
    pb_bytes(w, 2, e->key);
    pb_u64(w, 1, e->tx_id);
}

/* ZEntry: 1 set, 2 key, 3 entry, 4 score, 5 atTx. */
void wire_zentry(struct pb *w, const struct kv_zentry *z)
{
    pb_u64(w, 5, z->at_tx);
    pb_double(w, 4, z->score);
    if (z->has_entry) {
        size_t mark = pb_len(w);

        wire_entry(w, &z->entry);
        pb_message(w, 3, mark);
    }
    pb_bytes(w, 2, z->key);
    pb_bytes(w, 1, z->set);
}

/* --- exact sizes; all field numbers here take one byte --- */

static size_t u64_size(uint64_t v) { return v == 0 ? 0 : 1 + pb_varint_len(v); }
static size_t body_size(size_t len) { return 1 + pb_varint_len(len) + len; }
static size_t bytes_size(struct bytes b) { return b.len == 0 ? 0 : body_size(b.len); }
static size_t metadata_size(const struct kv_metadata *md)
{
    size_t len = (md->is_deleted ? 2u : 0u) + (md->is_non_indexable ? 2u : 0u);

    if (kv_metadata_is_empty(md))
        return 0;
    if (md->has_expiry)
        len += body_size(u64_size((uint64_t)md->expires_at));
    return body_size(len);
}

size_t wire_entry_size(const struct kv_entry *e)
{
    size_t len = u64_size(e->tx_id) + bytes_size(e->key) + bytes_size(e->value) + metadata_size(&e->md) + (e->is_expired ? 2u : 0u) +
                 u64_size(e->revision);

    if (e->has_reference) {
        const struct kv_reference *r = &e->reference;

        len += body_size(u64_size(r->tx_id) + bytes_size(r->key) + u64_size(r->at_tx) + metadata_size(&r->md) + u64_size(r->revision));
    }
    return len;
}

size_t wire_zentry_size(const struct kv_zentry *z)
{
    uint64_t score;
    size_t len = bytes_size(z->set) + bytes_size(z->key) + u64_size(z->at_tx);

    memcpy(&score, &z->score, 8);
    if (score != 0)
        len += 9;
    return z->has_entry ? len + body_size(wire_entry_size(&z->entry)) : len;
}

size_t wire_entry_far(const struct kv_entry *e) { return e->far.tx_id != 0 ? e->value.len : 0; }

/* The body of the next message of the list, into which one value at most is not written. */
static bool list_body(struct pb_list *l, size_t len, const struct kv_entry *e, size_t behind, struct pb *w)
{
    size_t far = e != NULL ? wire_entry_far(e) : 0;
    struct rope_cut cut = {.at = 0};
    uint8_t *body;

    if (far > 0)
        cut = (struct rope_cut){len - far - behind, far, e->far};
    if ((body = pb_list_add(l, 1, len, &cut, far > 0)) == NULL)
        return false;
    pb_init_fixed(w, body, len - far);
    return true;
}

/* Bytes of an encoded entry behind its value: what would be left of it without value, key and tx. */
static size_t behind_value(const struct kv_entry *e)
{
    struct kv_entry tail = *e;

    tail.tx_id = 0;
    tail.key = tail.value = bytes_of(NULL, 0);
    return wire_entry_size(&tail);
}

void wire_list_entry(struct pb_list *l, const struct kv_entry *e)
{
    size_t len = wire_entry_size(e);
    struct rope_cut noted;
    struct pb w;

    if (!list_body(l, len, e, e->far.tx_id != 0 ? behind_value(e) : 0, &w))
        return;
    w.cuts = &noted;
    w.cut_cap = 1;
    wire_entry(&w, e);
    assert(!w.failed && w.at == w.start);
}

void wire_list_zentry(struct pb_list *l, const struct kv_zentry *z)
{
    size_t len = wire_zentry_size(z), behind = 0;
    const struct kv_entry *e = z->has_entry ? &z->entry : NULL;
    struct rope_cut noted;
    struct pb w;

    if (e != NULL && e->far.tx_id != 0) {
        struct kv_zentry tail = {.score = z->score, .at_tx = z->at_tx};

        behind = behind_value(e) + wire_zentry_size(&tail);
    }
    if (!list_body(l, len, e, behind, &w))
        return;
    w.cuts = &noted;
    w.cut_cap = 1;
    wire_zentry(&w, z);
    assert(!w.failed && w.at == w.start);
}
