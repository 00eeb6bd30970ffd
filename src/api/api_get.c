/* Point reads, and how an entry is shown: key, value, metadata, references followed one step. */
#include "api/api_internal.h"

#include <stdlib.h>

#include "store/kv_encoding.h"

/* --- showing an entry --- */
static bool is_in_pin(const struct log_pin *pin, const void *p)
{
    uintptr_t at = (uintptr_t)p, start = (uintptr_t)pin->block.data;

    return pin->block.data != NULL && at >= start && at < start + pin->block.len;
}

static enum status copy_bytes(struct arena *arena, immudb_bytes *b, struct err *err)
{
    struct bytes copy;

    if (b->len == 0) {
        b->data = NULL;
        return ST_OK;
    }
    copy = arena_copy(arena, bytes_in(*b));
    if (copy.data == NULL)
        return err_set(err, ST_NOMEM, 0, "an entry of %zu bytes", b->len);
    b->data = copy.data;
    return ST_OK;
}

enum status entry_copy(struct arena *arena, immudb_entry *e, struct err *err)
{
    enum status st;

    if ((st = copy_bytes(arena, &e->key, err)) != ST_OK || (st = copy_bytes(arena, &e->metadata, err)) != ST_OK)
        return st;
    return copy_bytes(arena, &e->referenced_key, err);
}

bool version_is_dead(const struct index_version *v, int64_t now_s) { return v->is_deleted || (v->has_expiry && v->expires_at <= now_s); }

enum status entry_refuse_dead(const immudb_entry *e, uint32_t flags, struct err *err)
{
    if ((flags & IMMUDB_WITH_DELETED) != 0)
        return ST_OK;
    if ((e->flags & IMMUDB_ENTRY_DELETED) != 0)
        return err_set(err, ST_NOT_FOUND, 0, "key not found");
    return (e->flags & IMMUDB_ENTRY_EXPIRED) != 0 ? err_set(err, ST_NOT_FOUND, 0, "key not found: expired entry") : ST_OK;
}

static uint32_t flags_of(const struct kv_metadata *md, int64_t now_s)
{
    uint32_t flags = 0;

    if (md->is_deleted)
        flags |= IMMUDB_ENTRY_DELETED;
    if (md->has_expiry)
        flags |= IMMUDB_ENTRY_EXPIRES | (kv_metadata_expired(md, now_s) ? (uint32_t)IMMUDB_ENTRY_EXPIRED : 0);
    if (md->is_non_indexable)
        flags |= IMMUDB_ENTRY_NON_INDEXABLE;
    return flags;
}

enum status entry_describe(const struct entry_want *w, uint64_t tx_id, uint32_t entry_index, const struct tx_entry *e, immudb_entry *out,
                           struct err *err)
{
    struct kv_metadata md = {false, false, false, 0};
    struct bytes key = e->key;
    enum status st;

    immudb_entry_init(out);
    if (e->md.len > 0 && (st = kv_metadata_decode(e->md, &md, err)) != ST_OK)
        return st;
    if ((w->flags & IMMUDB_RAW) == 0 && !kv_key_decode(e->key, &key))
        return err_set(err, ST_CORRUPT, 0, "the key of entry %u of transaction %llu is of another kind", entry_index, (unsigned long long)tx_id);
    out->key = bytes_out(key);
    out->metadata = bytes_out(e->md);
    out->tx_id = tx_id;
    out->entry_index = entry_index;
    out->expires_at = md.has_expiry ? md.expires_at : 0;
    out->flags = flags_of(&md, w->now_s);
    out->value_len = e->value_len;
    out->value_hash = hash_out(&e->hval);
    if (e->is_value_gone)
        out->flags |= IMMUDB_ENTRY_VALUE_GONE;
    return ST_OK;
}

/* Reads the entry; a value that was truncated away is no failure. */
static enum status entry_load(const struct entry_want *w, struct log_pin *pin, uint64_t tx_id, uint32_t entry_index, bool want_value,
                              struct tx_entry *e, struct err *err)
{
    enum status st;

    memset(e, 0, sizeof *e);
    st = store_entry_read(w->db->store, tx_id, entry_index, false, want_value, w->arena, pin, e, err);
    return st == ST_NOT_FOUND && e->is_value_gone ? ST_OK : st;
}

/* The record holds no hash of a small value. */
static enum status entry_hash(const struct entry_want *w, uint64_t tx_id, uint32_t entry_index, bool has_value, struct tx_entry *e, struct err *err)
{
    enum status st;

    if (e->is_value_gone || !hash_equal(&e->hval, &HASH_ZERO))
        return ST_OK;
    if (!has_value && (st = entry_load(w, w->pin, tx_id, entry_index, true, e, err)) != ST_OK)
        return st;
    sha256(e->value.data, e->value.len, &e->hval);
    return ST_OK;
}

static enum status reference_nowhere(struct err *err) { return err_set(err, ST_NOT_FOUND, 0, "key not found: the reference leads to no key"); }

/* Where the value of a reference lies. */
static enum status target_find(const struct entry_want *w, const struct kv_value *ref, uint64_t *tx_id, uint32_t *entry_index, struct err *err)
{
    struct index_version version;
    struct key_ref key;
    struct log_tx t;
    enum status st;

    if (ref->at_tx == 0) {
        st = index_get(w->index, INDEX_NS_KV, ref->referenced_key, false, &version, NULL, err);
        if (st == ST_NOT_FOUND || (st == ST_OK && version_is_dead(&version, w->now_s)))
            return reference_nowhere(err);
        if (st == ST_OK) {
            *tx_id = version.tx_id;
            *entry_index = version.entry_index;
        }
        return st;
    }
    if ((st = key_open(bytes_out(ref->referenced_key), 0, &key, err)) != ST_OK)
        return st;
    if ((st = store_tx_open(w->db->store, ref->at_tx, false, &t, err)) == ST_OK) {
        st = store_tx_find(w->db->store, &t, key.store_key, entry_index, err);
        store_tx_close(w->db->store, &t);
    }
    key_close(&key);
    *tx_id = ref->at_tx;
    return st == ST_NOT_FOUND ? reference_nowhere(err) : st;
}

static enum status follow(const struct entry_want *w, const struct kv_value *ref, immudb_entry *out, struct err *err)
{
    struct log_pin pin;
    struct tx_entry e;
    struct kv_value v;
    uint64_t tx_id = 0;
    uint32_t entry_index = 0;
    enum status st;

    memset(&pin, 0, sizeof pin);
    if ((st = target_find(w, ref, &tx_id, &entry_index, err)) != ST_OK)
        return st;
    if ((st = entry_load(w, &pin, tx_id, entry_index, true, &e, err)) != ST_OK)
        goto done;
    out->referenced_tx_id = tx_id;
    if (e.is_value_gone) {
        out->flags |= IMMUDB_ENTRY_VALUE_GONE;
    } else if (!kv_value_decode(e.value, &v)) {
        st = err_set(err, ST_CORRUPT, 0, "the value of transaction %llu has an unknown form", (unsigned long long)tx_id);
    } else if (v.kind == KV_VALUE_REFERENCE) {
        st = err_set(err, ST_LIMIT, 0, "max key resolution limit reached. It may be due to cyclic references");
    } else {
        out->value = bytes_out(v.value);
        st = copy_bytes(w->arena, &out->value, err); /* the pin ends here */
    }
done:
    store_pin_release(w->db->store, &pin);
    return st;
}

static enum status show_value(const struct entry_want *w, const struct tx_entry *e, immudb_entry *out, struct err *err)
{
    struct kv_value v;
    enum status st;

    if ((w->flags & IMMUDB_RAW) != 0) {
        out->value = bytes_out(e->value);
        return w->is_copy && is_in_pin(w->pin, e->value.data) ? copy_bytes(w->arena, &out->value, err) : ST_OK;
    }
    if (!kv_value_decode(e->value, &v))
        return err_set(err, ST_CORRUPT, 0, "the value of transaction %llu has an unknown form", (unsigned long long)out->tx_id);
    if (v.kind != KV_VALUE_REFERENCE) {
        out->value = bytes_out(v.value);
        return w->is_copy && is_in_pin(w->pin, v.value.data) ? copy_bytes(w->arena, &out->value, err) : ST_OK;
    }
    out->flags |= IMMUDB_ENTRY_REFERENCE;
    out->referenced_key = bytes_out(v.referenced_key);
    if ((w->flags & IMMUDB_NO_FOLLOW) != 0 || w->index == NULL) {
        out->referenced_tx_id = v.at_tx;
        return ST_OK;
    }
    if (w->is_copy && (st = copy_bytes(w->arena, &out->referenced_key, err)) != ST_OK)
        return st;
    return follow(w, &v, out, err);
}

enum status entry_at(const struct entry_want *w, uint64_t tx_id, uint32_t entry_index, immudb_entry *out, struct err *err)
{
    struct tx_entry e;
    bool want_value = (w->flags & IMMUDB_NO_VALUE) == 0;
    enum status st;

    if ((st = entry_load(w, w->pin, tx_id, entry_index, want_value, &e, err)) != ST_OK ||
        (st = entry_hash(w, tx_id, entry_index, want_value, &e, err)) != ST_OK || (st = entry_describe(w, tx_id, entry_index, &e, out, err)) != ST_OK)
        return st;
    if (want_value && !e.is_value_gone && (st = show_value(w, &e, out, err)) != ST_OK)
        return st;
    return w->is_copy ? entry_copy(w->arena, out, err) : ST_OK;
}

/* --- get --- */
static enum status not_found(struct err *err) { return err_set(err, ST_NOT_FOUND, 0, "key not found"); }

enum status get_latest(struct entry_want *w, const struct key_ref *key, immudb_entry *out, struct err *err)
{
    struct index_version version;
    uint64_t revision = 0;
    enum status st;

    if (!key->is_indexed)
        return key_not_indexed(err);
    st = index_get(w->index, key->ns, key->index_key, false, &version, &revision, err);
    if (st == ST_NOT_FOUND || (st == ST_OK && (w->flags & IMMUDB_WITH_DELETED) == 0 && version.is_deleted))
        return not_found(err);
    if (st != ST_OK || (st = entry_at(w, version.tx_id, version.entry_index, out, err)) != ST_OK)
        return st;
    out->revision = revision;
    return entry_refuse_dead(out, w->flags, err);
}

static enum status get_revision(struct entry_want *w, const struct key_ref *key, int64_t at_revision, immudb_entry *out, struct err *err)
{
    struct index_version version;
    uint64_t total = 0, revision, back = 0 - (uint64_t)at_revision; /* also right for the smallest number */
    enum status st;

    if (!key->is_indexed)
        return key_not_indexed(err);
    st = index_version_count(w->index, key->ns, key->index_key, &total, err);
    if (st == ST_NOT_FOUND || (st == ST_OK && total == 0))
        return not_found(err);
    if (st != ST_OK)
        return st;
    if (at_revision > 0 ? (uint64_t)at_revision > total : back >= total)
        return err_set(err, ST_INVALID, 0, "invalid key revision number");
    revision = at_revision > 0 ? (uint64_t)at_revision : total - back;
    if ((st = index_get_revision(w->index, key->ns, key->index_key, revision, &version, err)) != ST_OK ||
        (st = entry_at(w, version.tx_id, version.entry_index, out, err)) != ST_OK)
        return st;
    out->revision = revision;
    return entry_refuse_dead(out, w->flags, err);
}

static enum status get_at_tx(struct entry_want *w, const struct key_ref *key, uint64_t at_tx, immudb_entry *out, struct err *err)
{
    struct log_tx t;
    uint32_t entry_index = 0;
    enum status st;

    if ((st = store_tx_open(w->db->store, at_tx, false, &t, err)) != ST_OK)
        return st;
    st = store_tx_find(w->db->store, &t, key->store_key, &entry_index, err);
    store_tx_close(w->db->store, &t);
    if (st == ST_NOT_FOUND)
        return not_found(err);
    if (st != ST_OK || (st = entry_at(w, at_tx, entry_index, out, err)) != ST_OK)
        return st;
    return entry_refuse_dead(out, w->flags, err);
}

static enum status get_options_check(const immudb_db *db, const immudb_get_options *o, struct err *err)
{
    if (o->at_tx != 0 && (o->at_revision != 0 || o->snapshot != NULL))
        return err_set(err, ST_INVALID, 0, "at_tx excludes at_revision and snapshot");
    if (o->snapshot != NULL && o->snapshot->db != db)
        return err_set(err, ST_INVALID, 0, "the snapshot is of another database");
    return ST_OK;
}

static enum status get(immudb_db *db, const struct key_ref *key, const immudb_get_options *o, struct arena *arena, immudb_entry *out, struct err *err)
{
    struct store_snapshot *own = NULL, *view = o->snapshot != NULL ? o->snapshot->view : NULL;
    struct log_pin pin;
    struct entry_want w = {.db = db, .arena = arena, .pin = &pin, .now_s = db_now_s(db), .flags = o->flags, .is_copy = true};
    enum status st;

    memset(&pin, 0, sizeof pin);
    /* Also for at_tx: references may have to be followed. */
    if (view == NULL && (o->at_tx == 0 || (o->flags & (IMMUDB_RAW | IMMUDB_NO_FOLLOW)) == 0)) {
        if ((st = store_snapshot_open(db->store, 0, &own, err)) != ST_OK)
            return st;
        view = own;
    }
    w.index = view != NULL ? store_snapshot_index(view) : NULL;
    if (o->at_tx != 0)
        st = get_at_tx(&w, key, o->at_tx, out, err);
    else if (o->at_revision != 0)
        st = get_revision(&w, key, o->at_revision, out, err);
    else
        st = get_latest(&w, key, out, err);
    store_pin_release(db->store, &pin);
    store_snapshot_close(own);
    return st;
}

immudb_status immudb_get(immudb_db *db, immudb_bytes key, const immudb_get_options *options, immudb_buffer *buffer, immudb_entry *out,
                         immudb_error *error)
{
    immudb_get_options o;
    struct key_ref k;
    immudb_entry e;
    struct err err;
    enum status st = db == NULL || buffer == NULL ? api_null(&err, db == NULL ? "db" : "buffer") : sized_out_begin(out, false, "immudb_entry", &err);

    if (st != ST_OK || (st = sized_in(&o, sizeof o, options, true, "immudb_get_options", &err)) != ST_OK ||
        (st = get_options_check(db, &o, &err)) != ST_OK || (st = key_open(key, o.flags, &k, &err)) != ST_OK)
        return api_result(st, &err, error);
    if ((st = get(db, &k, &o, arena_of(buffer), &e, &err)) == ST_OK)
        sized_out(out, &e, sizeof e);
    key_close(&k);
    return api_result(st, &err, error);
}

/* --- in a transaction --- */
enum status entry_pending(const struct tx_item *item, int64_t now_s, uint32_t flags, struct arena *arena, immudb_entry *out, struct err *err)
{
    bool is_raw = (flags & IMMUDB_RAW) != 0;
    struct bytes key = item->key;
    struct kv_value v;
    enum status st;

    immudb_entry_init(out);
    if (!is_raw && !kv_key_decode(item->key, &key))
        return err_set(err, ST_INVALID, 0, "the key is of another kind");
    out->key = bytes_out(key);
    out->flags = IMMUDB_ENTRY_PENDING | flags_of(&item->md, now_s);
    out->expires_at = item->md.expires_at;
    out->value_len = item->value.len;
    if ((flags & IMMUDB_NO_VALUE) == 0) {
        if (is_raw)
            out->value = bytes_out(item->value);
        else if (!kv_value_decode(item->value, &v))
            return err_set(err, ST_INVALID, 0, "the value was written raw and has an unknown form");
        else if (v.kind == KV_VALUE_REFERENCE) {
            out->flags |= IMMUDB_ENTRY_REFERENCE;
            out->referenced_key = bytes_out(v.referenced_key);
            out->referenced_tx_id = v.at_tx;
        } else
            out->value = bytes_out(v.value);
    }
    if ((st = copy_bytes(arena, &out->value, err)) != ST_OK)
        return st;
    return entry_copy(arena, out, err);
}

static enum status tx_get(immudb_tx *tx, const struct key_ref *key, uint32_t flags, struct arena *arena, immudb_entry *out, struct err *err)
{
    struct log_pin pin;
    struct entry_want w = {.db = tx->db, .arena = arena, .pin = &pin, .now_s = db_now_s(tx->db), .flags = flags | IMMUDB_NO_FOLLOW, .is_copy = true};
    const struct tx_item *own = tx->mode == IMMUDB_TX_READ_WRITE ? tx_find(tx, key->store_key) : NULL;
    uint32_t at = 0;
    enum status st;

    memset(&pin, 0, sizeof pin);
    if (own != NULL && own->is_written) {
        if ((st = entry_pending(own, w.now_s, flags, arena, out, err)) != ST_OK)
            return st;
        return entry_refuse_dead(out, flags, err);
    }
    if (!key->is_indexed)
        return key_not_indexed(err);
    if ((st = tx_view(tx, err)) != ST_OK)
        return st;
    if (tx->mode == IMMUDB_TX_READ_WRITE && (own == NULL || !own->is_read)) {
        if ((st = tx_count_read(tx, err)) != ST_OK || (st = tx_item(tx, key->store_key, &at, err)) != ST_OK)
            return st;
        tx->items[at].is_read = true;
        tx->read_count++;
    }
    w.index = store_snapshot_index(tx->view);
    st = get_latest(&w, key, out, err);
    store_pin_release(tx->db->store, &pin);
    return st;
}

immudb_status immudb_tx_get(immudb_tx *tx, immudb_bytes key, uint32_t flags, immudb_buffer *buffer, immudb_entry *out, immudb_error *error)
{
    struct key_ref k;
    immudb_entry e;
    struct err err;
    enum status st = tx == NULL || buffer == NULL ? api_null(&err, tx == NULL ? "tx" : "buffer") : sized_out_begin(out, false, "immudb_entry", &err);

    if (st == ST_OK && tx->mode == IMMUDB_TX_WRITE_ONLY)
        st = err_set(&err, ST_INVALID, 0, "a write-only transaction does not read");
    if (st != ST_OK || (st = key_open(key, flags, &k, &err)) != ST_OK)
        return api_result(st, &err, error);
    if ((st = tx_get(tx, &k, flags, arena_of(buffer), &e, &err)) == ST_OK)
        sized_out(out, &e, sizeof e);
    key_close(&k);
    return api_result(st, &err, error);
}
