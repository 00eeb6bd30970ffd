/* Set, Delete, SetReference, ZAdd: what goes into a draft, and which reads it depends on.
 *
 * A check that looks at a current value reads it in the reader's snapshot and leaves a read point in the draft, so that the commit
 * fails with ST_CONFLICT when the key got another version meanwhile; the caller builds the draft anew then. */
#include "kv/kv_internal.h"

#include <assert.h>

#define COPIED_BYTES_MAX 4096u /* longer values are not copied when they need not be */

static struct writer room(struct arena *arena, size_t len)
{
    uint8_t *p = arena_alloc(arena, len);

    return writer_of(p, p == NULL ? 0 : len);
}
static struct bytes written(const struct writer *w) { return bytes_of(w->start, writer_len(w)); }
static enum status no_memory(struct err *err, size_t len) { return err_set(err, ST_NOMEM, 0, "a write of %zu bytes", len); }

enum status kv_store_key(struct arena *arena, struct bytes key, struct bytes *out, struct err *err)
{
    struct writer w = room(arena, kv_key_len(key.len));

    kv_key_write(&w, key);
    *out = written(&w);
    return w.failed ? no_memory(err, key.len) : ST_OK;
}

static enum status published(enum status st, struct err *err)
{
    return st == ST_EXISTS ? err_set(err, ST_EXISTS, 0, "duplicated keys are not supported in single batch transaction") : st;
}

/* value: with its prefix. */
static enum status set(struct store_draft *d, struct arena *arena, struct bytes key, const struct kv_metadata *md, struct bytes value,
                       struct err *err)
{
    struct bytes store_key;
    enum status st;

    if ((st = kv_store_key(arena, key, &store_key, err)) != ST_OK)
        return st;
    return published(draft_set(d, store_key, md, value, err), err);
}

enum status kv_draft_set(struct store_draft *d, struct arena *arena, struct bytes key, const struct kv_metadata *md, struct bytes value,
                         struct err *err)
{
    struct writer v;

    if (key.len == 0)
        return kv_illegal_arguments(err);
    v = room(arena, kv_value_len(value.len));
    kv_value_write(&v, value);
    return v.failed ? no_memory(err, value.len) : set(d, arena, key, md, written(&v), err);
}

enum status kv_draft_set_in_place(struct store_draft *d, struct arena *arena, struct bytes key, const struct kv_metadata *md, struct bytes value,
                                  struct err *err)
{
    uint8_t *prefix;

    if (value.len < COPIED_BYTES_MAX)
        return kv_draft_set(d, arena, key, md, value, err);
    if (key.len == 0)
        return kv_illegal_arguments(err);
    prefix = (uint8_t *)(uintptr_t)value.data - 1;
    *prefix = VALUE_PREFIX_PLAIN;
    return set(d, arena, key, md, bytes_of(prefix, value.len + 1), err);
}

/* ------------------------------------------------------------ preconditions */

static enum status precondition_add(struct store_draft *d, struct arena *arena, const struct kv_precondition *p, bool is_nested, struct err *err)
{
    struct err cause = {0};
    struct bytes key;
    enum status st;

    if (!p->is_given)
        return err_set(err, ST_INVALID, 0, "invalid precondition: null");
    if (p->key.len == 0)
        return err_set(err, ST_INVALID, 0, "invalid precondition: null key");
    if ((st = kv_store_key(arena, p->key, &key, err)) != ST_OK)
        return st;
    if ((st = draft_precondition(d, p->kind, key, p->tx_id, &cause)) == ST_LIMIT || st == ST_INVALID) {
        /* Their number is looked at last, outside of the step that doubles the prefix. */
        is_nested = is_nested && strcmp(cause.text, "too many preconditions") != 0;
        return err_set(err, ST_INVALID, 0, "invalid precondition: %s%s", is_nested ? "invalid precondition: " : "", cause.text);
    }
    if (st != ST_OK && err != NULL)
        *err = cause;
    return st;
}

enum status kv_draft_preconditions(struct store_draft *d, struct arena *arena, const struct kv_precondition *p, size_t count, bool is_nested,
                                   struct err *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < count && st == ST_OK; i++)
        st = precondition_add(d, arena, &p[i], is_nested, err);
    return st;
}

/* ------------------------------------------------------------ delete */

static enum status depends_on(struct store_draft *d, struct kv_reader *r, struct bytes store_key, struct err *err)
{
    return draft_read_point(d, store_key, store_snapshot_tx(r->snapshot), err);
}

enum status kv_draft_delete(struct store_draft *d, struct arena *arena, struct kv_reader *r, struct bytes key, struct err *err)
{
    static const struct kv_metadata deleted = {.is_deleted = true};
    struct index_version version;
    struct bytes store_key;
    enum status st;

    if (key.len == 0)
        return kv_illegal_arguments(err);
    if ((st = kv_lookup(r, key, &version, NULL, err)) != ST_OK || (st = kv_version_live(r, &version, err)) != ST_OK)
        return st;
    if ((st = kv_store_key(arena, key, &store_key, err)) != ST_OK || (st = depends_on(d, r, store_key, err)) != ST_OK)
        return st;
    st = draft_set(d, store_key, &deleted, bytes_of(NULL, 0), err);
    return st == ST_EXISTS ? kv_not_found(err) : st; /* deleted a moment ago, in this very draft */
}

/* ------------------------------------------------------------ references and set members */

enum status kv_ref_check(const struct kv_ref *ref, struct err *err)
{
    if (ref->key.len == 0 || ref->referenced_key.len == 0 || ref->is_bound != (ref->at_tx > 0))
        return kv_illegal_arguments(err);
    return ST_OK;
}

enum status kv_zadd_check(const struct kv_zadd *z, struct err *err)
{
    if (z->set.len == 0 || z->key.len == 0 || z->is_bound != (z->at_tx > 0))
        return kv_illegal_arguments(err);
    return ST_OK;
}

/* A key that has a version in the snapshot or none: both may change until the commit. */
static enum status presence_now(struct store_draft *d, struct arena *arena, struct kv_reader *r, struct bytes key, enum kv_presence *out,
                                struct err *err)
{
    struct bytes store_key;
    enum status st, presence;

    presence = kv_presence(r, key, 0, out, err);
    if (presence != ST_OK && presence != ST_NOT_FOUND)
        return presence;
    if ((st = kv_store_key(arena, key, &store_key, NULL)) != ST_OK)
        return no_memory(err, key.len);
    /* A key that is too long to exist needs no watching. */
    if ((st = depends_on(d, r, store_key, presence == ST_OK ? err : NULL)) != ST_OK && st != ST_LIMIT)
        return st;
    return presence;
}

enum status kv_check_target(struct store_draft *d, struct arena *arena, struct kv_reader *r, struct bytes key, uint64_t at_tx, struct err *err)
{
    enum kv_presence presence;
    enum status st;

    /* What a tx holds never changes: only the newest version is watched. */
    st = at_tx > 0 ? kv_presence(r, key, at_tx, &presence, err) : presence_now(d, arena, r, key, &presence, err);
    if (st == ST_OK && presence == KV_REFERENCE)
        st = err_set(err, ST_INVALID, 0, "referenced key cannot be a reference");
    return st;
}

enum status kv_check_final_key(struct store_draft *d, struct arena *arena, struct kv_reader *r, struct bytes key, struct err *err)
{
    enum kv_presence presence;
    enum status st = presence_now(d, arena, r, key, &presence, err);

    if (st == ST_NOT_FOUND)
        return ST_OK;
    if (st == ST_OK && presence == KV_PLAIN)
        st = err_set(err, ST_INVALID, 0, "final key cannot be converted into a reference");
    return st;
}

enum status kv_put_ref(struct store_draft *d, struct arena *arena, const struct kv_ref *ref, struct err *err)
{
    struct writer k = room(arena, kv_key_len(ref->key.len)), v = room(arena, kv_reference_len(ref->referenced_key.len));
    enum status st;

    kv_key_write(&k, ref->key);
    kv_reference_write(&v, ref->at_tx, ref->referenced_key);
    if (k.failed || v.failed)
        return no_memory(err, ref->key.len + ref->referenced_key.len);
    if ((st = published(draft_set(d, written(&k), NULL, written(&v), err), err)) != ST_OK)
        return st;
    return ref->is_bound && ref->at_tx == 0 ? draft_late_tx_id(d, false, KV_REFERENCE_AT_TX_OFFSET, err) : ST_OK;
}

enum status kv_put_zadd(struct store_draft *d, struct arena *arena, const struct kv_zadd *z, struct err *err)
{
    struct zset_member m = {z->set, z->score, z->key, z->at_tx};
    struct writer k = room(arena, zset_key_len(z->set.len, z->key.len));
    enum status st;

    zset_key_write(&k, &m);
    if (k.failed)
        return no_memory(err, z->set.len + z->key.len);
    if ((st = published(draft_set(d, written(&k), NULL, bytes_of(NULL, 0), err), err)) != ST_OK)
        return st;
    return z->is_bound && z->at_tx == 0 ? draft_late_tx_id(d, true, zset_key_at_tx_offset(z->set.len, z->key.len), err) : ST_OK;
}

enum status kv_draft_ref(struct store_draft *d, struct arena *arena, struct kv_reader *r, const struct kv_ref *ref, struct err *err)
{
    enum status st;

    if ((st = kv_ref_check(ref, err)) != ST_OK || (st = kv_check_final_key(d, arena, r, ref->key, err)) != ST_OK ||
        (st = kv_check_target(d, arena, r, ref->referenced_key, ref->at_tx, err)) != ST_OK)
        return st;
    return kv_put_ref(d, arena, ref, err);
}

enum status kv_draft_zadd(struct store_draft *d, struct arena *arena, struct kv_reader *r, const struct kv_zadd *z, struct err *err)
{
    enum status st;

    if ((st = kv_zadd_check(z, err)) != ST_OK || (st = kv_check_target(d, arena, r, z->key, z->at_tx, err)) != ST_OK)
        return st;
    return kv_put_zadd(d, arena, z, err);
}
