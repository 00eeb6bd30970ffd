/* Checks every byte against every hash: what was written is what is there, and all of it hangs together.
 *
 *   log      every checksum (log_scrub)
 *   chain    prevAlh of each header = alh of the one before; blRoot = root of the tree at blTxId
 *   entries  Eh = root over the digests; hval = SHA-256 of the value, where it is still there
 *   tree     its root at each 1,024th size and at the end = the root computed from the headers
 *   index    each indexable entry is found under its key as of its tx
 *
 * Reads beside writers, up to the state at its begin. */
#include "store/store_internal.h"

#include <stdio.h>
#include <stdlib.h>

enum { ROOT_STEP = 1024 };

struct verify {
    struct store *store;
    bool (*bad)(void *ctx, uint64_t tx_id, const char *what);
    void *ctx;
    bool is_stopped;
    struct frontier frontier; /* computed from the headers */
    hash_t alh;               /* of the tx before */
    struct arena arena;
    hash_t *digests;
    size_t digest_cap;
    struct index_snapshot *view;
};

static void found(struct verify *v, uint64_t tx_id, const char *what)
{
    if (!v->is_stopped && !v->bad(v->ctx, tx_id, what))
        v->is_stopped = true;
}

static bool log_bad(void *ctx, const char *file, uint64_t offset, uint64_t tx_id, const char *what)
{
    struct verify *v = ctx;
    char text[400];

    snprintf(text, sizeof text, "%s at %s offset %llu", what, file, (unsigned long long)offset);
    found(v, tx_id, text);
    return !v->is_stopped;
}

static void verify_chain(struct verify *v, const struct tx_header *h, uint64_t tx_id)
{
    hash_t root = HASH_ZERO;
    struct err err;

    if (h->id != tx_id)
        found(v, tx_id, "the record holds another transaction id");
    if (!hash_equal(&h->prev_alh, &v->alh))
        found(v, tx_id, "prevAlh is not the alh of the transaction before");
    if (h->bl_tx_id >= tx_id)
        found(v, tx_id, "blTxId is not below the transaction id");
    else if (h->bl_tx_id == v->frontier.size)
        frontier_root(&v->frontier, &root);
    else if (tree_root_at(v->store->tree, h->bl_tx_id, &root, &err) != ST_OK)
        found(v, tx_id, err.text);
    if (h->bl_tx_id < tx_id && !hash_equal(&root, &h->bl_root))
        found(v, tx_id, "blRoot is not the root of the tree at blTxId");
}

static enum status digests_room(struct verify *v, size_t count, struct err *err)
{
    hash_t *grown;

    if (count <= v->digest_cap)
        return ST_OK;
    grown = realloc(v->digests, 2 * count * sizeof *grown);
    if (grown == NULL)
        return err_set(err, ST_NOMEM, 0, "verifying a transaction of %zu entries", count);
    v->digests = grown;
    v->digest_cap = count;
    return ST_OK;
}

static void verify_indexed(struct verify *v, uint64_t tx_id, uint32_t i, const struct tx_entry *e)
{
    struct index_version version;
    struct index_entry item;
    struct kv_metadata md;
    struct err err;
    enum status st;

    if (kv_metadata_decode(e->md, &md, &err) != ST_OK) {
        found(v, tx_id, err.text);
        return;
    }
    if (v->view == NULL || !index_entry_of(tx_id, i, e, &md, &item))
        return;
    st = index_get_at(v->view, item.ns, item.key, tx_id, false, &version, NULL, &err);
    if (st != ST_OK)
        found(v, tx_id, st == ST_NOT_FOUND ? "an entry is missing in the index" : err.text);
    else if (version.tx_id != tx_id || version.entry_index != i || version.is_deleted != md.is_deleted || version.has_expiry != md.has_expiry)
        found(v, tx_id, "the index holds something else for an entry");
}

static void verify_entry(struct verify *v, struct log_tx *t, uint64_t tx_id, uint32_t i)
{
    struct tx_entry e;
    struct bytes value;
    hash_t hval;
    struct err err;

    if (log_tx_entry(v->store->log, t, i, &e, &err) != ST_OK) {
        found(v, tx_id, err.text);
        return;
    }
    if (!e.is_value_gone) {
        if (log_tx_value(v->store->log, t, i, &v->arena, &value, &err) != ST_OK) {
            found(v, tx_id, err.text);
        } else {
            sha256(value.data, value.len, &hval);
            if (!hash_equal(&hval, &e.hval))
                found(v, tx_id, "a value does not have its hash");
        }
    }
    verify_indexed(v, tx_id, i, &e);
}

static enum status verify_entries(struct verify *v, uint64_t tx_id, struct err *err)
{
    struct log_tx t;
    struct err why;
    hash_t eh;
    enum status st = log_tx_open(v->store->log, tx_id, false, &t, &why);

    if (st == ST_NOMEM)
        return err_set(err, st, 0, "%s", why.text);
    if (st != ST_OK) {
        found(v, tx_id, why.text);
        return ST_OK;
    }
    if ((st = digests_room(v, t.entry_count, err)) != ST_OK)
        goto done;
    if (log_tx_digests(v->store->log, &t, v->digests, &why) != ST_OK) {
        found(v, tx_id, why.text);
    } else {
        htree_root(v->digests, t.entry_count, v->digests == NULL ? NULL : v->digests + v->digest_cap, &eh);
        if (!hash_equal(&eh, &t.header.eh))
            found(v, tx_id, "Eh is not the root of the entries");
    }
    for (uint32_t i = 0; i < t.entry_count && !v->is_stopped; i++)
        verify_entry(v, &t, tx_id, i);
    arena_reset(&v->arena);
done:
    log_tx_close(v->store->log, &t);
    return st;
}

static void verify_root(struct verify *v, uint64_t size)
{
    hash_t computed, stored;
    struct err err;

    frontier_root(&v->frontier, &computed);
    if (tree_root_at(v->store->tree, size, &stored, &err) != ST_OK)
        found(v, size, err.text);
    else if (!hash_equal(&computed, &stored))
        found(v, size, "the tree has another root");
}

static enum status verify_txs(struct verify *v, uint64_t upto, struct err *err)
{
    struct tx_header h;
    struct err why;
    hash_t leaf;
    enum status st;

    for (uint64_t id = 1; id <= upto && !v->is_stopped; id++) {
        st = log_tx_header(v->store->log, id, &h, &why);
        if (st == ST_NOMEM)
            return err_set(err, st, 0, "%s", why.text);
        if (st != ST_OK) {
            found(v, id, why.text);
            return ST_OK; /* nothing after it can be judged */
        }
        verify_chain(v, &h, id);
        tx_header_alh(&h, &v->alh);
        sha256_leaf(&v->alh, &leaf);
        frontier_append(&v->frontier, &leaf);
        if ((st = verify_entries(v, id, err)) != ST_OK)
            return st;
        if (id % ROOT_STEP == 0 || id == upto)
            verify_root(v, id);
    }
    return ST_OK;
}

enum status store_verify(struct store *s, bool (*bad)(void *ctx, uint64_t tx_id, const char *what), void *ctx, struct err *err)
{
    struct verify *v = calloc(1, sizeof *v);
    struct store_state state;
    enum status st;

    if (v == NULL)
        return err_set(err, ST_NOMEM, 0, "verifying");
    store_use(s);
    store_get_state(s, &state);
    v->store = s;
    v->bad = bad;
    v->ctx = ctx;
    v->alh = HASH_EMPTY;
    frontier_init(&v->frontier);
    arena_init(&v->arena, 65536, 0);
    if ((st = store_wait_tree(s, state.tx_id, 0, err)) != ST_OK)
        goto done;
    if (store_indexed(s) >= state.tx_id && state.tx_id > 0 && (st = index_snapshot_open(s->index, state.tx_id, &v->view, err)) != ST_OK)
        goto done;
    if ((st = log_scrub(s->log, log_bad, v, err)) == ST_OK)
        st = verify_txs(v, state.tx_id, err);
    if (st == ST_OK && !v->is_stopped && !hash_equal(&v->alh, &state.alh))
        found(v, state.tx_id, "the state has another alh");
done:
    if (v->view != NULL)
        index_snapshot_close(v->view);
    arena_free(&v->arena);
    free(v->digests);
    free(v);
    store_unuse(s);
    return st;
}
