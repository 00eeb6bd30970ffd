/* Writes in one call: no transaction handle, and no copy that can be avoided. */
#include "api/api_internal.h"

#include <stdlib.h>

#include "store/kv_encoding.h"

enum { SCRATCH_BYTES = 1024, DRAFT_FLAGS = IMMUDB_RAW | IMMUDB_NON_INDEXABLE };

static enum status pair_check(const immudb_pair *p, struct err *err)
{
    enum status st = bytes_check(p->key, "key", err);

    if (st == ST_OK)
        st = bytes_check(p->value, "value", err);
    if (st == ST_OK && p->key.len == 0)
        st = err_set(err, ST_INVALID, 0, "empty key");
    return st;
}

/* Room for all keys and values with their first bytes. */
static enum status room_of(const immudb_pair *pairs, size_t count, size_t *out, struct err *err)
{
    size_t room = 0;
    enum status st;

    for (size_t i = 0; i < count; i++) {
        if ((st = pair_check(&pairs[i], err)) != ST_OK)
            return st;
        if (__builtin_add_overflow(room, pairs[i].key.len, &room) || __builtin_add_overflow(room, pairs[i].value.len, &room) ||
            __builtin_add_overflow(room, 2, &room))
            return err_set(err, ST_LIMIT, 0, "max transaction size exceeded");
    }
    *out = room;
    return ST_OK;
}

static enum status draft_fill(struct store_draft *d, const immudb_pair *pairs, size_t count, uint32_t flags, const struct kv_metadata *md,
                              struct writer *w, struct err *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < count && st == ST_OK; i++) {
        struct bytes key = bytes_in(pairs[i].key), value = bytes_in(pairs[i].value);

        if ((flags & IMMUDB_RAW) == 0) {
            const uint8_t *start = w->at;

            kv_key_write(w, key);
            kv_value_write(w, value);
            key = bytes_of(start, kv_key_len(key.len));
            value = bytes_of(start + key.len, kv_value_len(value.len));
            assert(!w->failed);
        }
        st = draft_set(d, key, md, value, err);
    }
    return st;
}

static enum status write_pairs(immudb_db *db, const immudb_pair *pairs, size_t count, uint32_t flags, const struct kv_metadata *md,
                               struct store_result *r, struct err *err)
{
    uint8_t scratch[SCRATCH_BYTES], *big = NULL;
    struct store_draft *d = NULL;
    struct writer w;
    size_t room = 0;
    enum status st;

    if (count > db->tx_entries_max)
        return err_set(err, ST_LIMIT, 0, "max number of entries per tx exceeded");
    if ((st = room_of(pairs, count, &room, err)) != ST_OK)
        return st;
    if ((flags & IMMUDB_RAW) == 0 && room > sizeof scratch && (big = malloc(room)) == NULL)
        return err_set(err, ST_NOMEM, 0, "a transaction of %zu bytes", room);
    w = writer_of(big != NULL ? big : scratch, big != NULL ? room : sizeof scratch);
    if ((st = draft_create(db->store, &d, err)) == ST_OK && (st = draft_fill(d, pairs, count, flags, md, &w, err)) == ST_OK) {
        st = store_commit(db->store, d, false, r, err);
        d = NULL;
    }
    draft_free(d);
    free(big);
    return st;
}

static immudb_status write_call(immudb_db *db, const immudb_pair *pairs, size_t count, uint32_t flags, const struct kv_metadata *md,
                                immudb_committed *committed, immudb_error *error)
{
    struct store_result r;
    immudb_committed c;
    struct err err;
    enum status st = db == NULL ? api_null(&err, "db") : sized_out_begin(committed, true, "immudb_committed", &err);

    if (st == ST_OK && (st = write_pairs(db, pairs, count, flags, md, &r, &err)) == ST_OK && committed != NULL) {
        result_out(&r, &c);
        sized_out(committed, &c, sizeof c);
    }
    return api_result(st, &err, error);
}

immudb_status immudb_set(immudb_db *db, immudb_bytes key, immudb_bytes value, const immudb_set_options *options, immudb_committed *committed,
                         immudb_error *error)
{
    const uint32_t known = IMMUDB_RAW | IMMUDB_NON_INDEXABLE | IMMUDB_EXPIRES;
    immudb_pair pair = {key, value};
    struct kv_metadata md = {false, false, false, 0};
    immudb_set_options o;
    struct err err;
    enum status st = sized_in(&o, sizeof o, options, true, "immudb_set_options", &err);

    if (st == ST_OK && (o.flags & ~known) != 0)
        st = err_set(&err, ST_UNSUPPORTED, 0, "unknown flags 0x%x", o.flags & ~known);
    if (st != ST_OK)
        return api_result(st, &err, error);
    md.is_non_indexable = (o.flags & IMMUDB_NON_INDEXABLE) != 0;
    if ((o.flags & IMMUDB_EXPIRES) != 0) {
        md.has_expiry = true;
        md.expires_at = o.expires_at;
    }
    return write_call(db, &pair, 1, o.flags, &md, committed, error);
}

immudb_status immudb_set_many(immudb_db *db, const immudb_pair *pairs, size_t pair_count, uint32_t flags, immudb_committed *committed,
                              immudb_error *error)
{
    struct kv_metadata md = {.is_non_indexable = (flags & IMMUDB_NON_INDEXABLE) != 0};
    struct err err;

    if (pairs == NULL && pair_count > 0)
        return api_result(api_null(&err, "pairs"), &err, error);
    if ((flags & ~(uint32_t)DRAFT_FLAGS) != 0)
        return api_result(err_set(&err, ST_UNSUPPORTED, 0, "unknown flags 0x%x", flags & ~(uint32_t)DRAFT_FLAGS), &err, error);
    return write_call(db, pairs, pair_count, flags, &md, committed, error);
}

immudb_status immudb_delete(immudb_db *db, immudb_bytes key, uint32_t flags, immudb_committed *committed, immudb_error *error)
{
    immudb_tx *tx = NULL;
    immudb_status status = immudb_tx_begin(db, NULL, &tx, error);

    if (status == IMMUDB_OK && (status = immudb_tx_delete(tx, key, flags, error)) == IMMUDB_OK) {
        status = immudb_tx_commit(tx, committed, error);
        tx = NULL;
    }
    immudb_tx_cancel(tx);
    return status;
}
