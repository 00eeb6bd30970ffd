/* Views: snapshots, counts, waiting for the index. */
#include "api/api_internal.h"

#include <stdlib.h>

immudb_status immudb_snapshot_open(immudb_db *db, uint64_t tx_id, immudb_snapshot **out, immudb_error *error)
{
    immudb_snapshot *s;
    struct err err;
    enum status st;

    if (db == NULL || out == NULL)
        return api_result(api_null(&err, db == NULL ? "db" : "out"), &err, error);
    *out = NULL;
    if ((s = malloc(sizeof *s)) == NULL)
        return api_result(err_set(&err, ST_NOMEM, 0, "opening a snapshot"), &err, error);
    s->db = db;
    if ((st = store_snapshot_open(db->store, tx_id, &s->view, &err)) == ST_OK) {
        atomic_fetch_add(&db->handles, 1);
        *out = s;
    } else {
        free(s);
    }
    return api_result(st, &err, error);
}

uint64_t immudb_snapshot_tx(const immudb_snapshot *s) { return s == NULL ? 0 : store_snapshot_tx(s->view); }

void immudb_snapshot_close(immudb_snapshot *s)
{
    if (s == NULL)
        return;
    store_snapshot_close(s->view);
    atomic_fetch_sub(&s->db->handles, 1);
    free(s);
}

immudb_status immudb_count(immudb_db *db, immudb_snapshot *snapshot, immudb_bytes prefix, uint32_t flags, uint64_t *out, immudb_error *error)
{
    struct store_snapshot *own = NULL;
    struct bytes index_prefix = bytes_in(prefix);
    uint32_t ns = INDEX_NS_KV;
    struct err err;
    enum status st;

    if (db == NULL || out == NULL)
        return api_result(api_null(&err, db == NULL ? "db" : "out"), &err, error);
    *out = 0;
    if ((st = bytes_check(prefix, "prefix", &err)) != ST_OK)
        return api_result(st, &err, error);
    if (snapshot != NULL && snapshot->db != db)
        return api_result(err_set(&err, ST_INVALID, 0, "the snapshot is of another database"), &err, error);
    if ((flags & IMMUDB_RAW) != 0 && !store_index_key(bytes_in(prefix), &ns, &index_prefix))
        return api_result(key_not_indexed(&err), &err, error);
    if (snapshot == NULL)
        st = store_snapshot_open(db->store, 0, &own, &err);
    if (st == ST_OK)
        st = index_count(store_snapshot_index(snapshot != NULL ? snapshot->view : own), ns, index_prefix, out, &err);
    store_snapshot_close(own);
    return api_result(st, &err, error);
}

immudb_status immudb_wait_indexed(immudb_db *db, uint64_t tx_id, uint64_t timeout_ms, immudb_error *error)
{
    struct store_state state;
    struct err err;

    if (db == NULL)
        return api_result(api_null(&err, "db"), &err, error);
    if (tx_id == 0) {
        store_get_state(db->store, &state);
        tx_id = state.visible_tx_id;
    }
    return api_result(store_wait(db->store, tx_id, deadline_after_ms(db, timeout_ms), &err), &err, error);
}
