/* Headers and whole transactions by id; export and import; commits that wait for somebody else's word. */
#include "api/api_internal.h"

immudb_status immudb_header_get(immudb_db *db, uint64_t tx_id, immudb_header *out, immudb_hash *alh, immudb_error *error)
{
    struct tx_header header;
    immudb_header h;
    struct err err;
    hash_t hash;
    enum status st = db == NULL ? api_null(&err, "db") : sized_out_begin(out, false, "immudb_header", &err);

    if (st == ST_OK && (st = store_tx_header(db->store, tx_id, &header, &hash, &err)) == ST_OK) {
        header_out(&header, &h);
        sized_out(out, &h, sizeof h);
        if (alh != NULL)
            *alh = hash_out(&hash);
    }
    return api_result(st, &err, error);
}

immudb_status immudb_tx_since(immudb_db *db, int64_t ts, uint64_t *tx_id, immudb_error *error)
{
    struct store_state state;
    struct err err;
    enum status st;

    if (db == NULL || tx_id == NULL)
        return api_result(api_null(&err, db == NULL ? "db" : "tx_id"), &err, error);
    store_get_state(db->store, &state);
    st = store_tx_since(db->store, ts, tx_id, &err);
    if (st == ST_OK && *tx_id > state.visible_tx_id)
        st = err_set(&err, ST_NOT_FOUND, 0, "tx not found");
    if (st != ST_OK)
        *tx_id = 0;
    return api_result(st, &err, error);
}

immudb_status immudb_export(immudb_db *db, uint64_t tx_id, uint32_t flags, immudb_buffer *buffer, immudb_bytes *out, immudb_error *error)
{
    const uint32_t known = IMMUDB_SKIP_INTEGRITY | IMMUDB_WITH_PRECOMMITTED;
    struct bytes blob;
    struct err err;
    enum status st;

    if (db == NULL || buffer == NULL || out == NULL)
        return api_result(api_null(&err, db == NULL ? "db" : buffer == NULL ? "buffer" : "out"), &err, error);
    *out = immudb_bytes_of(NULL, 0);
    if ((flags & ~known) != 0)
        return api_result(err_set(&err, ST_UNSUPPORTED, 0, "unknown flags 0x%x", flags & ~known), &err, error);
    st = store_export(db->store, tx_id, (flags & IMMUDB_WITH_PRECOMMITTED) != 0, (flags & IMMUDB_SKIP_INTEGRITY) != 0, arena_of(buffer), &blob, &err);
    if (st == ST_OK)
        *out = bytes_out(blob);
    return api_result(st, &err, error);
}

immudb_status immudb_import(immudb_db *db, immudb_bytes blob, uint32_t flags, uint64_t timeout_ms, immudb_committed *committed, immudb_error *error)
{
    const uint32_t known = IMMUDB_SKIP_INTEGRITY;
    struct store_result r;
    immudb_committed c;
    struct err err;
    enum status st = db == NULL ? api_null(&err, "db") : sized_out_begin(committed, true, "immudb_committed", &err);

    if (st == ST_OK && (flags & ~known) != 0)
        st = err_set(&err, ST_UNSUPPORTED, 0, "unknown flags 0x%x", flags & ~known);
    if (st == ST_OK && (st = bytes_check(blob, "blob", &err)) == ST_OK)
        st = store_import(db->store, bytes_in(blob), (flags & IMMUDB_SKIP_INTEGRITY) != 0, timeout_ms == 0 ? 0 : deadline_after_ms(db, timeout_ms),
                          &r, &err);
    if (st == ST_OK) {
        result_out(&r, &c);
        sized_out(committed, &c, sizeof c);
    }
    return api_result(st, &err, error);
}

immudb_status immudb_allow_commit(immudb_db *db, uint64_t tx_id, const immudb_hash *alh, immudb_error *error)
{
    struct err err;

    if (db == NULL || alh == NULL)
        return api_result(api_null(&err, db == NULL ? "db" : "alh"), &err, error);
    return api_result(store_allow_commit(db->store, tx_id, hash_in(alh), &err), &err, error);
}

immudb_status immudb_discard(immudb_db *db, uint64_t tx_id, immudb_error *error)
{
    struct err err;

    return api_result(db == NULL ? api_null(&err, "db") : store_discard(db->store, tx_id, &err), &err, error);
}
