/* Get: one key at its newest version, in a tx, or by revision; references followed one step. */
#include "kv/kv_internal.h"

#include <assert.h>

void kv_reader_init(struct kv_reader *r, struct store *s, struct arena *arena, int64_t now_s, bool nowait)
{
    memset(r, 0, sizeof *r);
    r->store = s;
    r->arena = arena;
    r->now_s = now_s;
    r->nowait = nowait;
}

void kv_reader_far(struct kv_reader *r, size_t far_bytes, size_t keep_max)
{
    r->far_bytes = far_bytes;
    r->keep_max = keep_max;
}

void kv_reader_unpin(struct kv_reader *r)
{
    store_pin_release(r->store, &r->pins[1]);
    store_pin_release(r->store, &r->pins[0]);
}

void kv_reader_close(struct kv_reader *r)
{
    kv_reader_unpin(r);
    index_pins_free(r->pinned);
    r->pinned = NULL;
    if (r->snapshot != NULL)
        store_snapshot_close(r->snapshot);
    r->snapshot = NULL;
}

void kv_reader_many(struct kv_reader *r)
{
    assert(r->snapshot != NULL);
    if (r->pinned == NULL)
        r->pinned = index_pins_create(r->index);
}

enum status kv_not_found(struct err *err) { return err_set(err, ST_NOT_FOUND, 0, KV_TEXT_NOT_FOUND); }
enum status kv_expired(struct err *err) { return err_set(err, ST_NOT_FOUND, 0, KV_TEXT_EXPIRED); }
enum status kv_illegal_arguments(struct err *err) { return err_set(err, ST_INVALID, 0, KV_TEXT_ILLEGAL_ARGUMENTS); }

uint64_t kv_current_tx(struct store *s)
{
    struct store_state state;

    store_get_state(s, &state);
    return state.visible_tx_id;
}

/* Opens the snapshot when the index covers tx_id, of all that it covers: also when that is not the newest, which is rebuilt later. */
static enum status snapshot_covering(struct kv_reader *r, uint64_t tx_id, uint64_t deadline_ns, struct err *err)
{
    uint64_t covered;
    enum status st;

    if (r->snapshot != NULL)
        return ST_OK;
    if (store_indexed(r->store) < tx_id) {
        if (r->nowait)
            return ST_AGAIN;
        if ((st = store_wait(r->store, tx_id, deadline_ns, err)) != ST_OK)
            return st;
    }
    covered = store_indexed(r->store);
    if ((st = store_snapshot_open(r->store, covered < kv_current_tx(r->store) ? covered : 0, &r->snapshot, err)) == ST_OK)
        r->index = store_snapshot_index(r->snapshot);
    return st;
}

enum status kv_reader_snapshot(struct kv_reader *r, uint64_t since_tx, uint64_t deadline_ns, struct err *err)
{
    uint64_t current = kv_current_tx(r->store);

    if (since_tx > current)
        return kv_illegal_arguments(err);
    return snapshot_covering(r, since_tx != 0 ? since_tx : current, deadline_ns, err);
}

/* ------------------------------------------------------------ one version */

enum status kv_entry_md(const struct tx_entry *e, struct kv_metadata *md, struct err *err)
{
    if (e->md.len > 0)
        return kv_metadata_decode(e->md, md, err);
    memset(md, 0, sizeof *md);
    return ST_OK;
}

enum status kv_md_live(const struct kv_reader *r, const struct kv_metadata *md, struct err *err)
{
    if (md->is_deleted)
        return kv_not_found(err);
    return kv_metadata_expired(md, r->now_s) ? kv_expired(err) : ST_OK;
}

enum status kv_lookup(struct kv_reader *r, struct bytes key, struct index_version *version, uint64_t *revision, struct err *err)
{
    enum status st;

    if (key.len > INDEX_KEY_LEN_MAX)
        return kv_not_found(err);
    if ((st = index_get_pinned(r->index, r->pinned, INDEX_NS_KV, key, r->nowait, version, revision, err)) == ST_NOT_FOUND)
        return kv_not_found(err);
    return st;
}

enum status kv_version_live(const struct kv_reader *r, const struct index_version *version, struct err *err)
{
    if (version->is_deleted)
        return kv_not_found(err);
    return version->has_expiry && version->expires_at <= r->now_s ? kv_expired(err) : ST_OK;
}

size_t kv_far_from(const struct kv_reader *r)
{
    if (r->far_bytes == 0)
        return SIZE_MAX;
    return r->kept_bytes > r->keep_max && KV_FAR_BYTES_MIN < r->far_bytes ? KV_FAR_BYTES_MIN : r->far_bytes;
}

enum status kv_leave(struct kv_reader *r, uint64_t tx_id, uint32_t entry_index, struct tx_entry *e, struct kv_far *far, struct err *err)
{
    uint8_t first = 0;
    enum status st;

    if (r->nowait)
        return ST_AGAIN;
    if (e->value.data != NULL) /* in a block that was verified when it was filled */
        first = e->value.data[0];
    else if ((st = store_value_check(r->store, tx_id, entry_index, &first, err)) != ST_OK)
        return st;
    *far = (struct kv_far){.tx_id = tx_id, .entry_index = entry_index, .prefix = first};
    e->value = bytes_of(NULL, e->value_len);
    return ST_OK;
}

enum status kv_entry_read(struct kv_reader *r, unsigned pin, uint64_t tx_id, uint32_t entry_index, bool want_value, struct tx_entry *e,
                          struct kv_far *far, struct err *err)
{
    size_t far_from = want_value ? kv_far_from(r) : SIZE_MAX;
    enum status st;

    *far = (struct kv_far){.tx_id = 0};
    r->pins[pin].far_bytes = far_from != SIZE_MAX ? far_from : 0;
    st = store_entry_read(r->store, tx_id, entry_index, r->nowait, want_value, r->arena, &r->pins[pin], e, err);
    if (st == ST_OK && want_value && !e->is_value_gone) {
        if (e->value_len >= far_from && (st = kv_leave(r, tx_id, entry_index, e, far, err)) == ST_OK && far->prefix == VALUE_PREFIX_REFERENCE) {
            *far = (struct kv_far){.tx_id = 0}; /* to be followed: it is wanted itself */
            r->pins[pin].far_bytes = 0;
            st = store_entry_read(r->store, tx_id, entry_index, r->nowait, want_value, r->arena, &r->pins[pin], e, err);
        }
        if (far->tx_id == 0)
            r->kept_bytes += e->value_len;
    }
    /* Not the same as a missing key: lists must not pass over it in silence. */
    if (st == ST_NOT_FOUND || (st == ST_OK && want_value && e->is_value_gone))
        return err_set(err, ST_CORRUPT, 0, "data is corrupted: internal value consistency error - missing value prefix");
    return st;
}

/* The live entry of a version, read through pin. */
static enum status read_version(struct kv_reader *r, unsigned pin, const struct index_version *version, struct tx_entry *e, struct kv_entry *out,
                                struct err *err)
{
    enum status st;

    if ((st = kv_version_live(r, version, err)) != ST_OK ||
        (st = kv_entry_read(r, pin, version->tx_id, version->entry_index, true, e, &out->far, err)) != ST_OK)
        return st;
    out->tx_id = version->tx_id;
    return kv_entry_md(e, &out->md, err);
}

/* The newest live version of key. */
static enum status read_latest(struct kv_reader *r, unsigned pin, struct bytes key, struct tx_entry *e, struct kv_entry *out, struct err *err)
{
    struct index_version version;
    enum status st;

    if ((st = kv_lookup(r, key, &version, &out->revision, err)) != ST_OK)
        return st;
    return read_version(r, pin, &version, e, out, err);
}

static enum status find_in_tx(struct kv_reader *r, struct log_tx *t, struct bytes key, uint32_t *entry_index, struct err *err)
{
    uint8_t small[128], *store_key = small;
    struct writer w;
    enum status st;

    if (key.len > INDEX_KEY_LEN_MAX)
        return kv_not_found(err);
    if (kv_key_len(key.len) > sizeof small && (store_key = arena_alloc(r->arena, kv_key_len(key.len))) == NULL)
        return err_set(err, ST_NOMEM, 0, "a key of %zu bytes", key.len);
    w = writer_of(store_key, kv_key_len(key.len));
    kv_key_write(&w, key);
    st = store_tx_find(r->store, t, bytes_of(store_key, writer_len(&w)), entry_index, err);
    return st == ST_NOT_FOUND ? kv_not_found(err) : st;
}

/* The live entry of key in tx at_tx. */
static enum status read_at(struct kv_reader *r, unsigned pin, struct bytes key, uint64_t at_tx, struct tx_entry *e, struct kv_entry *out,
                           struct err *err)
{
    struct log_tx t;
    uint32_t entry_index = 0;
    enum status st;

    if (at_tx > kv_current_tx(r->store))
        return err_set(err, ST_NOT_FOUND, 0, "tx not found");
    if ((st = store_tx_open(r->store, at_tx, r->nowait, &t, err)) != ST_OK)
        return st;
    st = find_in_tx(r, &t, key, &entry_index, err);
    store_tx_close(r->store, &t);
    if (st != ST_OK)
        return st;
    if ((st = kv_entry_read(r, pin, at_tx, entry_index, false, e, &out->far, err)) != ST_OK || (st = kv_entry_md(e, &out->md, err)) != ST_OK ||
        (st = kv_md_live(r, &out->md, err)) != ST_OK)
        return st;
    out->tx_id = at_tx;
    return kv_entry_read(r, pin, at_tx, entry_index, true, e, &out->far, err);
}

/* far: where the value of e was left. References are not. */
static enum status value_of(const struct tx_entry *e, struct kv_far *far, struct kv_value *v, struct err *err)
{
    if (far->tx_id != 0 && far->prefix == VALUE_PREFIX_PLAIN) {
        *v = (struct kv_value){.kind = KV_VALUE_PLAIN, .value = bytes_of(NULL, e->value.len - 1)};
        far->skip = 1;
        return ST_OK;
    }
    if (far->tx_id != 0 || !kv_value_decode(e->value, v))
        return err_set(err, ST_CORRUPT, 0, "data is corrupted: value of a key has an unknown form");
    return ST_OK;
}

/* The target of a reference in its own tx (bound) or at its newest version. It must hold a plain value. */
static enum status read_target(struct kv_reader *r, const struct kv_value *v, struct kv_entry *out, struct err *err)
{
    struct tx_entry e;
    struct kv_value target;
    enum status st;

    assert(r->snapshot != NULL);
    if (v->at_tx == 0)
        st = read_latest(r, 1, v->referenced_key, &e, out, err);
    else
        st = read_at(r, 1, v->referenced_key, v->at_tx, &e, out, err);
    if (st != ST_OK)
        return st;
    if ((st = value_of(&e, &out->far, &target, err)) != ST_OK)
        return st;
    if (target.kind == KV_VALUE_REFERENCE)
        return err_set(err, ST_LIMIT, 0, "max key resolution limit reached. It may be due to cyclic references");
    out->key = v->referenced_key;
    out->value = target.value;
    return ST_OK;
}

enum status kv_resolve(struct kv_reader *r, struct bytes key, const struct tx_entry *e, struct kv_entry *out, struct err *err)
{
    struct kv_value v;
    enum status st;

    if ((st = value_of(e, &out->far, &v, err)) != ST_OK)
        return st;
    out->key = key;
    out->value = v.value;
    if (v.kind != KV_VALUE_REFERENCE)
        return ST_OK;
    out->reference = (struct kv_reference){out->tx_id, key, v.at_tx, out->revision, out->md};
    out->has_reference = true;
    out->revision = 0;
    return read_target(r, &v, out, err);
}

enum status kv_get_latest(struct kv_reader *r, struct bytes key, struct kv_entry *out, struct err *err)
{
    struct tx_entry e;
    enum status st;

    memset(out, 0, sizeof *out);
    if ((st = read_latest(r, 0, key, &e, out, err)) != ST_OK)
        return st;
    return kv_resolve(r, key, &e, out, err);
}

enum status kv_get_at(struct kv_reader *r, struct bytes key, uint64_t at_tx, struct kv_entry *out, struct err *err)
{
    struct tx_entry e;
    enum status st;

    memset(out, 0, sizeof *out);
    if ((st = read_at(r, 0, key, at_tx, &e, out, err)) != ST_OK)
        return st;
    /* A snapshot is only needed to follow a reference. */
    if (r->snapshot == NULL && e.value.data != NULL && e.value.len > 0 && e.value.data[0] == VALUE_PREFIX_REFERENCE &&
        (st = snapshot_covering(r, 0, UINT64_MAX, err)) != ST_OK)
        return st;
    return kv_resolve(r, key, &e, out, err);
}

enum status kv_presence(struct kv_reader *r, struct bytes key, uint64_t at_tx, enum kv_presence *out, struct err *err)
{
    struct kv_entry entry = {0};
    struct tx_entry e;
    struct kv_value v;
    enum status st;

    *out = KV_ABSENT;
    if (r->far_bytes == 0) /* only its kind matters */
        kv_reader_far(r, KV_FAR_BYTES, SIZE_MAX);
    st = at_tx == 0 ? read_latest(r, 0, key, &e, &entry, err) : read_at(r, 0, key, at_tx, &e, &entry, err);
    if (st != ST_OK || (st = value_of(&e, &entry.far, &v, err)) != ST_OK)
        return st;
    *out = v.kind == KV_VALUE_REFERENCE ? KV_REFERENCE : KV_PLAIN;
    return ST_OK;
}

/* ------------------------------------------------------------ Get */

/* Version number at_revision; *revision becomes its absolute number. */
static enum status find_revision(struct kv_reader *r, struct bytes key, int64_t at_revision, struct index_version *version, uint64_t *revision,
                                 struct err *err)
{
    uint64_t total, back = 0 - (uint64_t)at_revision; /* also right for the smallest number */
    enum status st;

    if (key.len > INDEX_KEY_LEN_MAX)
        return kv_not_found(err);
    if (r->nowait) /* what follows may wait for the disk */
        return ST_AGAIN;
    if ((st = index_version_count(r->index, INDEX_NS_KV, key, &total, err)) != ST_OK && st != ST_NOT_FOUND)
        return st;
    if (st == ST_NOT_FOUND || total == 0)
        return kv_not_found(err);
    if (at_revision > 0 ? (uint64_t)at_revision > total : back >= total)
        return err_set(err, ST_INVALID, 0, "invalid key revision number");
    *revision = at_revision > 0 ? (uint64_t)at_revision : total - back;
    return index_get_revision(r->index, INDEX_NS_KV, key, *revision, version, err);
}

static enum status get_revision(struct kv_reader *r, struct bytes key, int64_t at_revision, struct kv_entry *out, struct err *err)
{
    struct index_version version;
    struct tx_entry e;
    enum status st;

    memset(out, 0, sizeof *out);
    if ((st = find_revision(r, key, at_revision, &version, &out->revision, err)) != ST_OK ||
        (st = read_version(r, 0, &version, &e, out, err)) != ST_OK)
        return st;
    return kv_resolve(r, key, &e, out, err);
}

static enum status get_options_check(struct store *s, const struct kv_get_options *o, struct err *err)
{
    if (o->key.len == 0)
        return err_set(err, ST_INVALID, 0, "illegal arguments: empty key");
    if (o->at_tx > 0 && o->since_tx > 0)
        return err_set(err, ST_INVALID, 0, "illegal arguments: SinceTx should not be specified when AtTx is used");
    if (o->at_tx > 0 && o->at_revision != 0)
        return err_set(err, ST_INVALID, 0, "illegal arguments: AtRevision should not be specified when AtTx is used");
    if (o->since_tx > kv_current_tx(s))
        return err_set(err, ST_INVALID, 0, "illegal arguments: SinceTx must not be greater than the current transaction ID");
    return ST_OK;
}

enum status kv_get(struct kv_reader *r, const struct kv_get_options *o, struct kv_entry *out, struct err *err)
{
    uint64_t wait_for;
    enum status st;

    if ((st = get_options_check(r->store, o, err)) != ST_OK)
        return st;
    if (o->at_tx > 0)
        return kv_get_at(r, o->key, o->at_tx, out, err);
    wait_for = o->no_wait ? 0 : o->since_tx != 0 ? o->since_tx : kv_current_tx(r->store);
    if ((st = snapshot_covering(r, wait_for, o->deadline_ns, err)) != ST_OK)
        return st;
    return o->at_revision == 0 ? kv_get_latest(r, o->key, out, err) : get_revision(r, o->key, o->at_revision, out, err);
}
