/* Cursors: one handle for the four lists - keys of a view, keys of a transaction (api_scan.c), versions of a key, entries of a transaction.
 *
 * Entries are borrowed: from the pinned block of the log, or from the cursor's arena, which is reset by each call. */
#include "api/api_cursor.h"

#include <stdlib.h>

#include "store/kv_encoding.h"

enum { CURSOR_CHUNK_BYTES = 2048 };

/* --- open and close --- */
enum status cursor_make(immudb_db *db, enum cursor_kind kind, uint32_t flags, immudb_cursor **out, struct err *err)
{
    immudb_cursor *c = calloc(1, sizeof *c);

    *out = NULL;
    if (c == NULL)
        return err_set(err, ST_NOMEM, 0, "opening a cursor");
    c->db = db;
    c->kind = kind;
    c->flags = flags;
    c->now_s = db_now_s(db);
    arena_init(&c->arena, CURSOR_CHUNK_BYTES, 0);
    arena_init(&c->keys, CURSOR_CHUNK_BYTES, 0);
    atomic_fetch_add(&db->handles, 1);
    *out = c;
    return ST_OK;
}

enum status cursor_view(immudb_cursor *c, immudb_snapshot *snapshot, struct err *err)
{
    enum status st;

    if (snapshot != NULL) {
        if (snapshot->db != c->db)
            return err_set(err, ST_INVALID, 0, "the snapshot is of another database");
        c->index = store_snapshot_index(snapshot->view);
        return ST_OK;
    }
    if ((st = store_snapshot_open(c->db->store, 0, &c->own, err)) == ST_OK)
        c->index = store_snapshot_index(c->own);
    return st;
}

enum status cursor_keep(immudb_cursor *c, struct bytes *b, struct err *err)
{
    struct bytes copy = arena_copy(&c->keys, *b);

    if (b->len > 0 && copy.data == NULL)
        return err_set(err, ST_NOMEM, 0, "a cursor's keys");
    *b = b->len > 0 ? copy : bytes_of(NULL, 0);
    return ST_OK;
}

void cursor_unlink(immudb_cursor *c)
{
    if (c->tx == NULL)
        return;
    *c->at = c->next;
    if (c->next != NULL)
        c->next->at = c->at;
    c->tx = NULL;
}

void immudb_cursor_close(immudb_cursor *c)
{
    if (c == NULL)
        return;
    /* Without memory the commit will fail: lost_range. */
    (void)range_note(c, NULL);
    cursor_unlink(c);
    scan_end(c);
    if (c->kind == CURSOR_TX)
        store_tx_close(c->db->store, &c->log_tx);
    store_pin_release(c->db->store, &c->pin);
    store_snapshot_close(c->own);
    free(c->own_writes);
    free(c->passed);
    arena_free(&c->arena);
    arena_free(&c->keys);
    atomic_fetch_sub(&c->db->handles, 1);
    free(c);
}

struct entry_want cursor_want(immudb_cursor *c)
{
    return (struct entry_want){.db = c->db, .index = c->index, .arena = &c->arena, .pin = &c->pin, .now_s = c->now_s, .flags = c->flags};
}

/* --- history --- */
immudb_status immudb_history(immudb_db *db, immudb_snapshot *snapshot, immudb_bytes key, uint64_t offset, uint32_t flags, immudb_cursor **out,
                             immudb_error *error)
{
    immudb_cursor *c = NULL;
    struct key_ref k;
    struct err err;
    enum status st;

    if (db == NULL || out == NULL)
        return api_result(api_null(&err, db == NULL ? "db" : "out"), &err, error);
    *out = NULL;
    if ((st = key_open(key, flags, &k, &err)) != ST_OK)
        return api_result(st, &err, error);
    if (!k.is_indexed)
        st = key_not_indexed(&err);
    else
        st = cursor_make(db, CURSOR_HISTORY, flags | IMMUDB_NO_FOLLOW, &c, &err);
    if (st != ST_OK)
        goto done;
    c->history_ns = k.ns;
    c->history_key = k.index_key;
    c->offset = offset;
    if ((st = cursor_keep(c, &c->history_key, &err)) != ST_OK || (st = cursor_view(c, snapshot, &err)) != ST_OK)
        goto done;
    st = index_version_count(c->index, c->history_ns, c->history_key, &c->total, &err);
    if (st == ST_NOT_FOUND || (st == ST_OK && c->total == 0))
        st = err_set(&err, ST_NOT_FOUND, 0, "key not found");
done:
    key_close(&k);
    if (st != ST_OK)
        immudb_cursor_close(c);
    else
        *out = c;
    return api_result(st, &err, error);
}

static enum status history_next(immudb_cursor *c, immudb_entry *out, struct err *err)
{
    bool desc = (c->flags & IMMUDB_DESC) != 0;
    struct entry_want w = cursor_want(c);
    const struct index_version *v;
    uint64_t total = 0;
    enum status st;

    if (c->version_at == c->version_count) {
        if (c->offset >= c->total)
            return ST_NOT_FOUND;
        c->version_at = c->version_count = 0;
        st = index_history(c->index, c->history_ns, c->history_key, desc, c->offset, c->versions, VERSIONS_MAX, &c->version_count, &total, err);
        if (st != ST_OK && st != ST_NOT_FOUND)
            return st;
        if (c->version_count == 0)
            return ST_NOT_FOUND;
    }
    arena_reset(&c->arena);
    v = &c->versions[c->version_at++];
    if ((st = entry_at(&w, v->tx_id, v->entry_index, out, err)) != ST_OK)
        return st;
    out->revision = desc ? c->total - c->offset : c->offset + 1;
    c->offset++;
    return ST_OK;
}

/* --- entries of a transaction --- */
immudb_status immudb_tx_entries(immudb_db *db, uint64_t tx_id, uint32_t flags, immudb_cursor **out, immudb_error *error)
{
    immudb_cursor *c = NULL;
    struct err err;
    enum status st;

    if (db == NULL || out == NULL)
        return api_result(api_null(&err, db == NULL ? "db" : "out"), &err, error);
    *out = NULL;
    if ((st = cursor_make(db, CURSOR_SCAN, flags | IMMUDB_NO_FOLLOW, &c, &err)) != ST_OK)
        return api_result(st, &err, error);
    if ((st = store_tx_open(db->store, tx_id, false, &c->log_tx, &err)) != ST_OK) {
        immudb_cursor_close(c);
    } else {
        c->kind = CURSOR_TX; /* from now on there is a tx to be closed */
        *out = c;
    }
    return api_result(st, &err, error);
}

static enum status tx_entry_next(immudb_cursor *c, immudb_entry *out, struct err *err)
{
    struct entry_want w = cursor_want(c);
    struct bytes user_key;
    struct tx_entry e;
    enum status st;

    for (;;) {
        if (c->entry_at >= c->log_tx.entry_count)
            return ST_NOT_FOUND;
        if ((st = store_tx_entry(c->db->store, &c->log_tx, c->entry_at, &e, err)) != ST_OK)
            return st;
        if ((c->flags & IMMUDB_RAW) != 0 || kv_key_decode(e.key, &user_key))
            break;
        c->entry_at++;
    }
    arena_reset(&c->arena);
    st = entry_at(&w, c->log_tx.header.id, c->entry_at, out, err);
    c->entry_at++;
    return st;
}

/* --- all of them --- */
immudb_status immudb_cursor_next(immudb_cursor *c, immudb_entry *out, immudb_error *error)
{
    immudb_entry e;
    struct err err;
    enum status st = c == NULL ? api_null(&err, "cursor") : sized_out_begin(out, false, "immudb_entry", &err);

    if (st != ST_OK)
        return api_result(st, &err, error);
    if (c->is_failed)
        return api_result(err_set(&err, ST_INVALID, 0, "the cursor has failed before"), &err, error);
    switch (c->kind) {
    case CURSOR_SCAN:
        st = c->is_ended && !c->was_in_tx ? ST_NOT_FOUND : scan_next(c, &e, &err);
        break;
    case CURSOR_HISTORY:
        st = history_next(c, &e, &err);
        break;
    case CURSOR_TX:
        st = tx_entry_next(c, &e, &err);
        break;
    }
    if (st == ST_OK)
        sized_out(out, &e, sizeof e);
    else if (st == ST_NOT_FOUND) {
        c->is_ended = true;
        err_set(&err, ST_NOT_FOUND, 0, "%s", "");
    } else
        c->is_failed = true;
    return api_result(st, &err, error);
}
