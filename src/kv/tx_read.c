/* A transaction for an answer: its entries as digests, with raw values, or decoded. */
#include "kv/kv_internal.h"

#include <assert.h>

struct lists {
    struct tx_entry *entries;
    struct kv_far *fars; /* of entries; made for the first value that is left where it is */
    struct kv_entry *kv;
    struct kv_zentry *z;
};

static enum kv_shape shape_of(const struct kv_tx_spec *spec, struct bytes key)
{
    if (!spec->is_given)
        return KV_DIGEST;
    switch (key.len > 0 ? key.data[0] : KEY_PREFIX_DOCUMENT) {
    case KEY_PREFIX_KV:
        return spec->kv;
    case KEY_PREFIX_ZSET:
        return spec->zset;
    case KEY_PREFIX_SQL:
        return spec->sql;
    default:
        return KV_EXCLUDE;
    }
}

static enum status value_missing(enum status st, struct err *err)
{
    return st == ST_NOT_FOUND ? err_set(err, ST_CORRUPT, 0, "data is corrupted: internal value consistency error - missing value prefix") : st;
}

/* The value of an entry, or, when it is large, the place where it is left. */
static enum status value_take(struct kv_tx_read *t, struct tx_entry *e, uint32_t entry_index, bool is_resolved, struct kv_far *far, struct err *err)
{
    struct kv_reader *r = t->reader;
    enum status st;

    *far = (struct kv_far){.tx_id = 0};
    if (e->value_len >= kv_far_from(r)) {
        if ((st = kv_leave(r, t->log_tx.header.id, entry_index, e, far, err)) != ST_OK || !is_resolved || far->prefix != VALUE_PREFIX_REFERENCE)
            return value_missing(st, err);
        *far = (struct kv_far){.tx_id = 0};
    }
    r->kept_bytes += e->value_len;
    return value_missing(store_tx_value(r->store, &t->log_tx, entry_index, r->arena, &e->value, err), err);
}

static enum status far_note(struct kv_tx_read *t, struct lists *l, const struct kv_far *far, struct err *err)
{
    if (far->tx_id == 0)
        return ST_OK;
    if (l->fars == NULL && (l->fars = arena_zalloc(t->reader->arena, t->log_tx.entry_count * sizeof *l->fars)) == NULL)
        return err_set(err, ST_NOMEM, 0, "a transaction of %u entries", t->log_tx.entry_count);
    t->tx.entry_fars = l->fars;
    l->fars[t->tx.entry_count] = *far;
    return ST_OK;
}

static enum status raw_entry(struct kv_tx_read *t, struct lists *l, const struct tx_entry *e, uint32_t entry_index, bool want_value, struct err *err)
{
    struct tx_entry *to = &l->entries[t->tx.entry_count];
    struct kv_metadata md;
    struct kv_far far;
    enum status st;

    *to = *e;
    if (!want_value)
        to->value = bytes_of(NULL, 0);
    if (want_value) {
        if ((st = kv_entry_md(e, &md, err)) != ST_OK)
            return st;
        if (kv_metadata_expired(&md, t->reader->now_s))
            return ST_OK;
        if ((st = value_take(t, to, entry_index, false, &far, err)) != ST_OK || (st = far_note(t, l, &far, err)) != ST_OK)
            return st;
    }
    t->tx.entry_count++;
    return ST_OK;
}

/* Bytes that have to outlive the pins of the reader. */
static enum status keep(struct kv_reader *r, struct bytes *b, struct err *err)
{
    if (b->len == 0 || b->data == NULL) /* left where it is */
        return ST_OK;
    *b = arena_copy(r->arena, *b);
    return b->data != NULL ? ST_OK : err_set(err, ST_NOMEM, 0, "a transaction's entries do not fit into memory");
}

static enum status keep_entry(struct kv_reader *r, struct kv_entry *e, struct err *err)
{
    enum status st;

    if ((st = keep(r, &e->key, err)) != ST_OK || (st = keep(r, &e->value, err)) != ST_OK)
        return st;
    return e->has_reference ? keep(r, &e->reference.key, err) : ST_OK;
}

/* Plain entries of the tx have no revision; references are followed in the snapshot, or shown as they are. */
static enum status resolved_kv(struct kv_tx_read *t, struct lists *l, const struct tx_entry *e, uint32_t entry_index, bool keep_references,
                               struct err *err)
{
    struct kv_entry *to = &l->kv[t->tx.kv_entry_count];
    struct tx_entry with_value = *e;
    struct kv_value v;
    struct bytes key;
    enum status st;

    memset(to, 0, sizeof *to);
    if ((st = kv_entry_md(e, &to->md, err)) != ST_OK)
        return st;
    if (!kv_key_decode(e->key, &key) || kv_md_live(t->reader, &to->md, NULL) != ST_OK)
        return ST_OK;
    if ((st = value_take(t, &with_value, entry_index, true, &to->far, err)) != ST_OK)
        return st;
    to->tx_id = t->log_tx.header.id;
    if (keep_references && to->far.tx_id == 0 && kv_value_decode(with_value.value, &v) && v.kind == KV_VALUE_REFERENCE) {
        to->reference = (struct kv_reference){to->tx_id, key, v.at_tx, 0, to->md};
        to->has_reference = true;
        to->tx_id = v.at_tx;
        to->key = v.referenced_key;
        memset(&to->md, 0, sizeof to->md);
    } else if ((st = kv_resolve(t->reader, key, &with_value, to, err)) != ST_OK) {
        return st == ST_NOT_FOUND ? ST_OK : st; /* leads nowhere */
    }
    if (to->has_reference && (st = keep_entry(t->reader, to, err)) != ST_OK)
        return st;
    t->tx.kv_entry_count++;
    return ST_OK;
}

static enum status resolved_z(struct kv_tx_read *t, struct lists *l, const struct tx_entry *e, bool keep_references, struct err *err)
{
    struct kv_zentry *to = &l->z[t->tx.z_entry_count];
    struct zset_member m;
    enum status st = ST_OK;

    if (!zset_key_decode(e->key, &m))
        return err_set(err, ST_CORRUPT, 0, "data is corrupted: a member of a sorted set has an unknown form");
    *to = (struct kv_zentry){.set = m.set, .key = m.key, .score = m.score, .at_tx = m.at_tx, .has_entry = !keep_references};
    if (!keep_references) {
        st = m.at_tx == 0 ? kv_get_latest(t->reader, m.key, &to->entry, err) : kv_get_at(t->reader, m.key, m.at_tx, &to->entry, err);
        if (st != ST_OK)
            return st == ST_NOT_FOUND ? ST_OK : st;
        if ((st = keep_entry(t->reader, &to->entry, err)) != ST_OK)
            return st;
    }
    t->tx.z_entry_count++;
    return ST_OK;
}

static enum status resolved(struct kv_tx_read *t, struct lists *l, const struct tx_entry *e, uint32_t entry_index, const struct kv_tx_spec *spec,
                            struct err *err)
{
    if (e->key.data[0] == KEY_PREFIX_KV)
        return resolved_kv(t, l, e, entry_index, spec->keep_references, err);
    if (e->key.data[0] == KEY_PREFIX_ZSET)
        return resolved_z(t, l, e, spec->keep_references, err);
    return err_set(err, ST_INVALID, 0, "illegal arguments: sql entry resolution is not supported");
}

static enum status lists_alloc(struct kv_tx_read *t, struct lists *l, const struct kv_tx_spec *spec, struct err *err)
{
    struct arena *a = t->reader->arena;
    size_t count = t->log_tx.entry_count;
    bool is_ok = true;

    memset(l, 0, sizeof *l);
    if (!spec->is_given || (spec->kv | spec->zset | spec->sql) != KV_EXCLUDE)
        is_ok = (l->entries = arena_array(a, count, sizeof *l->entries)) != NULL;
    if (spec->is_given && spec->kv == KV_RESOLVE)
        is_ok = is_ok && (l->kv = arena_array(a, count, sizeof *l->kv)) != NULL;
    if (spec->is_given && spec->zset == KV_RESOLVE)
        is_ok = is_ok && (l->z = arena_array(a, count, sizeof *l->z)) != NULL;
    t->tx = (struct kv_tx){.header = &t->log_tx.header, .entries = l->entries, .kv_entries = l->kv, .z_entries = l->z};
    return is_ok ? ST_OK : err_set(err, ST_NOMEM, 0, "a transaction of %zu entries", count);
}

static enum status fill(struct kv_tx_read *t, const struct kv_tx_spec *spec, struct err *err)
{
    struct lists l;
    struct tx_entry e;
    enum status st;

    if ((st = lists_alloc(t, &l, spec, err)) != ST_OK)
        return st;
    for (uint32_t i = 0; i < t->log_tx.entry_count && st == ST_OK; i++) {
        enum kv_shape shape;

        if ((st = store_tx_entry(t->reader->store, &t->log_tx, i, &e, err)) != ST_OK)
            break;
        shape = shape_of(spec, e.key);
        if (shape == KV_DIGEST || shape == KV_RAW)
            st = raw_entry(t, &l, &e, i, shape == KV_RAW, err);
        else if (shape == KV_RESOLVE)
            st = resolved(t, &l, &e, i, spec, err);
    }
    return st;
}

enum status kv_tx_open(struct kv_tx_read *t, struct kv_reader *r, uint64_t tx_id, const struct kv_tx_spec *spec, struct err *err)
{
    enum status st;

    memset(t, 0, sizeof *t);
    t->reader = r;
    if (tx_id == 0)
        return kv_illegal_arguments(err);
    if (tx_id > kv_current_tx(r->store))
        return err_set(err, ST_NOT_FOUND, 0, "tx not found");
    /* Values may be cold where the rest is not: only digests are read without waiting. */
    if (r->nowait && spec->is_given && (spec->kv >= KV_RAW || spec->zset >= KV_RAW || spec->sql >= KV_RAW))
        return ST_AGAIN;
    if ((st = store_tx_open(r->store, tx_id, r->nowait, &t->log_tx, err)) != ST_OK)
        return st;
    t->is_open = true;
    if ((st = fill(t, spec, err)) != ST_OK)
        kv_tx_close(t);
    return st;
}

void kv_tx_close(struct kv_tx_read *t)
{
    if (t->is_open)
        store_tx_close(t->reader->store, &t->log_tx);
    t->is_open = false;
}
