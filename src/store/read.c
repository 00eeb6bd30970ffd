/* Reads: snapshots of the index, entries by address, headers and whole transactions. No lock that a writer holds is taken. */
#include "store/store_internal.h"

#include <stdlib.h>

#define VALUE_PIECE_BYTES ((size_t)64 << 10)

/* --- keys and the index --- */
bool store_index_key(struct bytes store_key, uint32_t *ns, struct bytes *index_key)
{
    static const uint8_t catalog[] = {'C', 'T', 'L', '.'};

    if (store_key.len == 0)
        return false;
    switch (store_key.data[0]) {
    case 0x00:
        *ns = INDEX_NS_KV;
        break;
    case 0x01:
        *ns = INDEX_NS_ZSET;
        break;
    case 0x02:
    case 0x03:
        if (store_key.len < 1 + sizeof catalog || memcmp(store_key.data + 1, catalog, sizeof catalog) != 0)
            return false;
        *ns = INDEX_NS_CATALOG;
        *index_key = store_key;
        return true;
    default:
        return false;
    }
    *index_key = bytes_of(store_key.data + 1, store_key.len - 1);
    return true;
}

bool index_entry_of(uint64_t tx_id, uint32_t entry_index, const struct tx_entry *e, const struct kv_metadata *md, struct index_entry *out)
{
    if (md->is_non_indexable || !store_index_key(e->key, &out->ns, &out->key))
        return false;
    out->version = (struct index_version){.tx_id = tx_id,
                                          .entry_index = entry_index,
                                          .value_len = e->value_len,
                                          .expires_at = md->expires_at,
                                          .is_deleted = md->is_deleted,
                                          .has_expiry = md->has_expiry};
    return true;
}

/* --- snapshots --- */
static unsigned shard_of_thread(void)
{
    static _Thread_local char here; /* its address tells threads apart */
    uintptr_t at = (uintptr_t)&here;

    return (unsigned)((at >> 12) ^ (at >> 20)) % SNAPSHOT_SHARDS;
}

/* A reader may have met a damaged run: looked for once a second, so that it is soon replaced. */
static void damage_look(struct store *s, uint64_t now_ns)
{
    uint64_t last_ns = atomic_load_explicit(&s->damage_looked_ns, memory_order_relaxed);

    if (now_ns - last_ns < DAMAGE_LOOK_NS || !atomic_compare_exchange_strong(&s->damage_looked_ns, &last_ns, now_ns))
        return;
    if (index_has_damage(s->index))
        maintenance_kick(s);
}

enum status store_snapshot_open(struct store *s, uint64_t tx_id, struct store_snapshot **out, struct err *err)
{
    struct store_snapshot *sn = NULL;
    struct snapshot_shard *shard;
    enum status st;

    uint64_t visible = atomic_load_explicit(&s->visible_tx, memory_order_acquire), indexed = store_indexed(s);

    *out = NULL;
    if (tx_id > visible || (tx_id == 0 && s->end_is_lost))
        return beyond_error(s, err); /* an older version is no answer to a question for the newest */
    if (tx_id == 0)
        tx_id = visible; /* what is indexed of it, would leave out keys without a word */
    if (tx_id > indexed)
        return rebuilding_error(s, err);
    sn = malloc(sizeof *sn);
    if (sn == NULL)
        return err_set(err, ST_NOMEM, 0, "opening a snapshot");
    if ((st = index_snapshot_open(s->index, tx_id, &sn->index, err)) != ST_OK) {
        free(sn);
        return st;
    }
    sn->store = s;
    atomic_init(&sn->used_ns, env_mono_ns(s->env));
    damage_look(s, sn->used_ns);
    sn->shard = shard_of_thread();
    shard = &s->snapshots[sn->shard];
    pthread_mutex_lock(&shard->lock);
    sn->next = shard->first;
    sn->at = &shard->first;
    if (sn->next != NULL)
        sn->next->at = &sn->next;
    shard->first = sn;
    shard->count++;
    pthread_mutex_unlock(&shard->lock);
    *out = sn;
    return ST_OK;
}

void store_snapshot_close(struct store_snapshot *sn)
{
    struct snapshot_shard *shard;

    if (sn == NULL)
        return;
    shard = &sn->store->snapshots[sn->shard];
    pthread_mutex_lock(&shard->lock);
    *sn->at = sn->next;
    if (sn->next != NULL)
        sn->next->at = sn->at;
    shard->count--;
    pthread_mutex_unlock(&shard->lock);
    index_snapshot_close(sn->index);
    free(sn);
}

uint64_t store_snapshot_tx(const struct store_snapshot *sn) { return index_snapshot_tx(sn->index); }

struct index_snapshot *store_snapshot_index(struct store_snapshot *sn)
{
    atomic_store_explicit(&sn->used_ns, env_mono_ns(sn->store->env), memory_order_relaxed);
    return sn->index;
}

/* --- the log --- */
static enum status visible_check(struct store *s, uint64_t tx_id, struct err *err)
{
    /* The log's mark, not visible_tx: a snapshot may show a tx a moment before the state does. */
    if (tx_id == 0)
        return err_set(err, ST_NOT_FOUND, 0, "tx not found");
    return tx_id <= log_published(s->log) ? ST_OK : beyond_error(s, err);
}

enum status store_entry_read(struct store *s, uint64_t tx_id, uint32_t entry_index, bool nowait, bool want_value, struct arena *arena,
                             struct log_pin *pin, struct tx_entry *out, struct err *err)
{
    enum status st = visible_check(s, tx_id, err);

    return st != ST_OK ? st : log_entry_read(s->log, tx_id, entry_index, nowait, want_value, arena, pin, out, err);
}

void store_pin_release(struct store *s, struct log_pin *pin) { log_pin_release(s->log, pin); }

enum status store_value_open(struct store *s, uint64_t tx_id, uint32_t entry_index, struct log_value *out, struct err *err)
{
    return log_value_open(s->log, tx_id, entry_index, out, err);
}

enum status store_value_read(struct store *s, struct log_value *v, uint8_t *out, size_t len, struct err *err)
{
    return log_value_read(s->log, v, out, len, err);
}

void store_value_close(struct log_value *v) { log_value_close(v); }

enum status store_value_check(struct store *s, uint64_t tx_id, uint32_t entry_index, uint8_t *first, struct err *err)
{
    struct log_value v;
    uint8_t *piece;
    enum status st;

    *first = 0;
    if ((piece = malloc(VALUE_PIECE_BYTES)) == NULL)
        return err_set(err, ST_NOMEM, 0, "reading a value");
    st = log_value_open(s->log, tx_id, entry_index, &v, err);
    while (st == ST_OK && v.at < v.len) {
        size_t left = v.len - v.at;
        bool is_first = v.at == 0;

        st = log_value_read(s->log, &v, piece, left < VALUE_PIECE_BYTES ? left : VALUE_PIECE_BYTES, err);
        if (is_first)
            *first = piece[0];
    }
    log_value_close(&v);
    free(piece);
    return st;
}

enum status store_tx_header(struct store *s, uint64_t tx_id, struct tx_header *out, hash_t *alh, struct err *err)
{
    enum status st = visible_check(s, tx_id, err);

    if (st == ST_OK)
        st = log_tx_header(s->log, tx_id, out, err);
    if (st == ST_OK && alh != NULL)
        tx_header_alh(out, alh);
    return st;
}

enum status store_tx_open(struct store *s, uint64_t tx_id, bool nowait, struct log_tx *out, struct err *err)
{
    enum status st = visible_check(s, tx_id, err);

    if (st != ST_OK) {
        memset(out, 0, sizeof *out);
        return st;
    }
    return log_tx_open(s->log, tx_id, nowait, out, err);
}

enum status store_tx_entry(struct store *s, struct log_tx *t, uint32_t entry_index, struct tx_entry *out, struct err *err)
{
    return log_tx_entry(s->log, t, entry_index, out, err);
}

enum status store_tx_value(struct store *s, struct log_tx *t, uint32_t entry_index, struct arena *arena, struct bytes *out, struct err *err)
{
    return log_tx_value(s->log, t, entry_index, arena, out, err);
}

void store_tx_close(struct store *s, struct log_tx *t) { log_tx_close(s->log, t); }

enum status store_tx_find(struct store *s, struct log_tx *t, struct bytes key, uint32_t *entry_index, struct err *err)
{
    struct tx_entry e;
    enum status st;

    for (uint32_t i = 0; i < t->entry_count; i++) {
        if ((st = log_tx_entry(s->log, t, i, &e, err)) != ST_OK)
            return st;
        if (bytes_equal(e.key, key)) {
            *entry_index = i;
            return ST_OK;
        }
    }
    return err_set(err, ST_NOT_FOUND, 0, "key not found in the transaction");
}

enum status store_tx_since(struct store *s, int64_t ts_s, uint64_t *tx_id, struct err *err)
{
    uint64_t visible = atomic_load(&s->visible_tx);
    enum status st = log_tx_since(s->log, ts_s, tx_id, err);

    if (st == ST_OK && *tx_id > visible)
        *tx_id = visible + 1;
    return st;
}
