/* Reads through a snapshot, writes through a draft of one entry; see systemdb.h. */
#include "auth/systemdb.h"

#include <assert.h>

enum { SCAN_ARENA_CHUNK = 4096, PLAIN_PREFIX = 0x00 };
#define INDEX_WAIT_NS 5000000000ull
#define REBUILD_WAIT_NS 60000000000ull

/* 0x00 || key. */
static enum status store_key_of(struct bytes key, uint8_t out[SYSTEMDB_KEY_LEN_MAX + 1], struct err *err)
{
    if (key.len == 0 || key.len > SYSTEMDB_KEY_LEN_MAX)
        return err_set(err, ST_INVALID, 0, "systemdb key of %zu bytes", key.len);
    out[0] = PLAIN_PREFIX;
    memcpy(out + 1, key.data, key.len);
    return ST_OK;
}

/* The logical value of the entry a version points to, in the arena. */
static enum status value_read(struct store *s, const struct index_version *v, struct arena *arena, struct bytes *value, struct err *err)
{
    struct log_pin pin = {0};
    struct tx_entry entry;
    enum status st;

    if ((st = store_entry_read(s, v->tx_id, v->entry_index, false, true, arena, &pin, &entry, err)) != ST_OK)
        goto done;
    if (entry.is_value_gone || entry.value.len < 1 || entry.value.data[0] != PLAIN_PREFIX) {
        st = err_set(err, ST_CORRUPT, 0, "record in tx %llu of systemdb is no plain value", (unsigned long long)v->tx_id);
        goto done;
    }
    *value = arena_copy(arena, bytes_of(entry.value.data + 1, entry.value.len - 1));
    if (value->data == NULL && entry.value.len > 1)
        st = err_set(err, ST_NOMEM, 0, "reading a record of systemdb: out of memory");
done:
    store_pin_release(s, &pin);
    return st;
}

static enum status key_not_found(struct err *err) { return err_set(err, ST_NOT_FOUND, 0, "tbtree: key not found"); }

/* The newest view, also while an index that was lost is rebuilt: an older one would not know users that there are. */
static enum status newest_view(struct store *s, struct store_snapshot **out, struct err *err)
{
    enum status st = store_snapshot_open(s, 0, out, err);
    struct store_state state;

    if (st != ST_BUSY)
        return st;
    store_get_state(s, &state);
    if ((st = store_wait(s, state.visible_tx_id, env_mono_ns(store_env(s)) + REBUILD_WAIT_NS, err)) != ST_OK)
        return st;
    return store_snapshot_open(s, 0, out, err);
}

enum status systemdb_get(struct store *s, struct bytes key, struct arena *arena, struct bytes *value, uint64_t *tx_id, struct err *err)
{
    uint8_t store_key[SYSTEMDB_KEY_LEN_MAX + 1];
    struct store_snapshot *snapshot = NULL;
    struct index_version version;
    struct bytes index_key;
    enum status st;
    uint32_t ns;

    *value = bytes_of(NULL, 0);
    *tx_id = 0;
    if (key.len == 0 || key.len > SYSTEMDB_KEY_LEN_MAX)
        return key_not_found(err);
    if ((st = store_key_of(key, store_key, err)) != ST_OK)
        return st;
    if (!store_index_key(bytes_of(store_key, key.len + 1), &ns, &index_key))
        return key_not_found(err);
    if ((st = newest_view(s, &snapshot, err)) != ST_OK)
        goto done;
    st = index_get(store_snapshot_index(snapshot), ns, index_key, false, &version, NULL, err);
    if (st == ST_NOT_FOUND || (st == ST_OK && version.is_deleted)) {
        st = key_not_found(err);
        goto done;
    }
    if (st != ST_OK || (st = value_read(s, &version, arena, value, err)) != ST_OK)
        goto done;
    *tx_id = version.tx_id;
done:
    if (snapshot != NULL)
        store_snapshot_close(snapshot);
    return st;
}

/* 0x00 || text, in the arena; the draft borrows it. */
static enum status prefixed(struct arena *arena, struct bytes text, struct bytes *out, struct err *err)
{
    uint8_t *copy = arena_alloc(arena, text.len + 1);

    *out = bytes_of(copy, text.len + 1);
    if (copy == NULL)
        return err_set(err, ST_NOMEM, 0, "writing a record of systemdb: out of memory");
    copy[0] = PLAIN_PREFIX;
    if (text.len > 0)
        memcpy(copy + 1, text.data, text.len);
    return ST_OK;
}

/* md: NULL, or a deletion mark, which has no value at all. */
static enum status entry_set(struct store_draft *draft, struct arena *arena, const struct systemdb_record *record, const struct kv_metadata *md,
                             struct err *err)
{
    struct bytes key, value = bytes_of(NULL, 0);
    enum status st;

    if (record->key.len == 0 || record->key.len > SYSTEMDB_KEY_LEN_MAX)
        return err_set(err, ST_INVALID, 0, "systemdb key of %zu bytes", record->key.len);
    if ((st = prefixed(arena, record->key, &key, err)) != ST_OK || (md == NULL && (st = prefixed(arena, record->value, &value, err)) != ST_OK))
        return st;
    return draft_set(draft, key, md, value, err);
}

/* It is written, so it has succeeded whatever comes of the waiting: an index that is being rebuilt knows of it later. */
static void wait_indexed(struct store *s, uint64_t tx_id)
{
    uint64_t deadline_ns = env_mono_ns(store_env(s)) + INDEX_WAIT_NS;
    struct err ignored;

    if (store_wait(s, tx_id, deadline_ns, &ignored) != ST_OK)
        env_log(store_env(s), LOG_WARN, "systemdb: tx %llu is written, but not in the index yet: %s", (unsigned long long)tx_id, ignored.text);
}

/* Whoever writes here holds up others who want to, and a worker. */
static enum status commit_all(struct store *s, const struct systemdb_record *records, size_t count, const struct kv_metadata *md, struct bytes extra,
                              const struct systemdb_caller *caller, struct err *err)
{
    struct store_draft *draft = NULL, *submitted;
    struct store_result result;
    struct arena arena;
    enum status st;
    size_t i;

    arena_init(&arena, SCAN_ARENA_CHUNK, 0);
    if ((st = draft_create(s, &draft, err)) != ST_OK)
        goto done;
    for (i = 0; i < count; i++)
        if ((st = entry_set(draft, &arena, &records[i], md, err)) != ST_OK)
            goto done;
    if (extra.len > 0)
        draft_set_extra(draft, extra);
    draft_set_hasty(draft);
    if (caller != NULL) {
        draft_set_deadline(draft, caller->deadline_ns);
        draft_set_cancel(draft, caller->is_cancelled, caller->ctx);
    }
    submitted = draft;
    draft = NULL;
    if ((st = store_commit(s, submitted, true, &result, err)) == ST_OK)
        wait_indexed(s, result.header.id);
done:
    if (draft != NULL)
        draft_free(draft);
    arena_free(&arena);
    return st;
}

enum status systemdb_put_all(struct store *s, const struct systemdb_record *records, size_t count, struct bytes extra,
                             const struct systemdb_caller *caller, struct err *err)
{
    assert(count > 0 && count <= SYSTEMDB_RECORDS_MAX);
    return commit_all(s, records, count, NULL, extra, caller, err);
}

enum status systemdb_put(struct store *s, struct bytes key, struct bytes value, struct bytes extra, struct err *err)
{
    return systemdb_put_all(s, &(struct systemdb_record){key, value}, 1, extra, NULL, err);
}

enum status systemdb_delete(struct store *s, struct bytes key, struct err *err)
{
    const struct kv_metadata deleted = {.is_deleted = true};

    return commit_all(s, &(struct systemdb_record){.key = key}, 1, &deleted, bytes_of(NULL, 0), NULL, err);
}

enum status systemdb_scan(struct store *s, struct bytes prefix,
                          enum status (*visit)(void *ctx, struct bytes key, struct bytes value, uint64_t tx_id, struct err *err), void *ctx,
                          struct err *err)
{
    struct index_scan_options o = {.ns = INDEX_NS_KV, .prefix = prefix};
    struct store_snapshot *snapshot = NULL;
    struct index_cursor *cursor = NULL;
    struct index_version version;
    struct arena arena;
    struct bytes key, value;
    enum status st;

    arena_init(&arena, SCAN_ARENA_CHUNK, 0);
    if ((st = newest_view(s, &snapshot, err)) != ST_OK)
        goto done;
    if ((st = index_scan_open(store_snapshot_index(snapshot), &o, &cursor, err)) != ST_OK)
        goto done;
    while ((st = index_scan_next(cursor, &key, &version, NULL, err)) == ST_OK) {
        if (version.is_deleted)
            continue;
        arena_reset(&arena);
        if ((st = value_read(s, &version, &arena, &value, err)) != ST_OK || (st = visit(ctx, key, value, version.tx_id, err)) != ST_OK)
            goto done;
    }
    if (st == ST_NOT_FOUND)
        st = ST_OK;
done:
    if (cursor != NULL)
        index_scan_close(cursor);
    if (snapshot != NULL)
        store_snapshot_close(snapshot);
    arena_free(&arena);
    return st;
}
