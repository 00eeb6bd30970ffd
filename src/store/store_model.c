/* See store_model.h. */
#include "store/store_model.h"

#include <stdio.h>
#include <stdlib.h>

/* --- formulas --- */
static size_t put_be(uint8_t *out, uint64_t v, size_t width)
{
    for (size_t i = 0; i < width; i++)
        out[i] = (uint8_t)(v >> (8 * (width - 1 - i)));
    return width;
}

static size_t put(uint8_t *out, const void *data, size_t len)
{
    if (len > 0)
        memcpy(out, data, len);
    return len;
}

void naive_alh(const struct tx_header *h, hash_t *out)
{
    uint8_t b[1024], md[512];
    size_t n = 0, md_len = 0;
    hash_t inner;

    if (h->md.truncated_upto != 0) {
        md[md_len++] = 0;
        md_len += put_be(md + md_len, h->md.truncated_upto, 8);
    }
    if (h->md.extra_len != 0) {
        md[md_len++] = 1;
        md_len += put_be(md + md_len, h->md.extra_len, 2);
        md_len += put(md + md_len, h->md.extra, h->md.extra_len);
    }
    n += put_be(b + n, (uint64_t)h->ts, 8);
    n += put_be(b + n, h->version, 2);
    if (h->version == 0) {
        n += put_be(b + n, h->entry_count, 2);
    } else {
        n += put_be(b + n, md_len, 2);
        n += put(b + n, md, md_len);
        n += put_be(b + n, h->entry_count, 4);
    }
    n += put(b + n, h->eh.b, 32);
    n += put_be(b + n, h->bl_tx_id, 8);
    n += put(b + n, h->bl_root.b, 32);
    sha256(b, n, &inner);
    n = put_be(b, h->id, 8);
    n += put(b + n, h->prev_alh.b, 32);
    n += put(b + n, inner.b, 32);
    sha256(b, n, out);
}

void naive_root(const hash_t *leaf_data, size_t count, hash_t *out)
{
    uint8_t b[65];
    hash_t left, right;
    size_t k = 1;

    if (count == 1) {
        b[0] = 0;
        memcpy(b + 1, leaf_data->b, 32);
        sha256(b, 33, out);
        return;
    }
    while (k * 2 < count)
        k *= 2;
    naive_root(leaf_data, k, &left);
    naive_root(leaf_data + k, count - k, &right);
    b[0] = 1;
    memcpy(b + 1, left.b, 32);
    memcpy(b + 33, right.b, 32);
    sha256(b, 65, out);
}

static size_t naive_md(const struct kv_metadata *md, uint8_t out[16])
{
    size_t n = 0;

    if (md->is_deleted)
        out[n++] = 0;
    if (md->has_expiry) {
        out[n++] = 1;
        n += put_be(out + n, (uint64_t)md->expires_at, 8);
    }
    if (md->is_non_indexable)
        out[n++] = 2;
    return n;
}

static void naive_digest(const struct model_entry *e, hash_t *out)
{
    uint8_t md[16], *b = malloc(e->key_len + 64);
    size_t md_len = naive_md(&e->md, md), n = 0;

    n += put_be(b + n, md_len, 2);
    n += put(b + n, md, md_len);
    n += put_be(b + n, e->key_len, 2);
    n += put(b + n, e->key, e->key_len);
    n += put(b + n, e->hval.b, 32);
    sha256(b, n, out);
    free(b);
}

/* --- the list --- */
void model_init(struct model *m) { memset(m, 0, sizeof *m); }

static void tx_free(struct model_tx *tx)
{
    for (size_t i = 0; i < tx->count; i++) {
        free(tx->entries[i].key);
        free(tx->entries[i].value);
    }
    free(tx->entries);
}

void model_cut(struct model *m, size_t count)
{
    while (m->count > count)
        tx_free(&m->txs[--m->count]);
}

void model_free(struct model *m)
{
    model_cut(m, 0);
    free(m->txs);
}

void model_begin(struct model *m)
{
    if (m->count == m->cap) {
        m->cap = m->cap == 0 ? 64 : m->cap * 2;
        m->txs = realloc(m->txs, m->cap * sizeof *m->txs);
    }
    memset(&m->txs[m->count++], 0, sizeof *m->txs);
}

static uint8_t *copy_of(struct bytes b)
{
    uint8_t *out = malloc(b.len + 1);

    if (b.len > 0)
        memcpy(out, b.data, b.len);
    return out;
}

void model_entry_add(struct model *m, struct bytes key, const struct kv_metadata *md, struct bytes value)
{
    struct model_tx *tx = &m->txs[m->count - 1];
    struct model_entry *e;

    tx->entries = realloc(tx->entries, (tx->count + 1) * sizeof *tx->entries);
    e = &tx->entries[tx->count++];
    memset(e, 0, sizeof *e);
    if (md != NULL)
        e->md = *md;
    e->key = copy_of(key);
    e->key_len = key.len;
    e->value = copy_of(value);
    e->value_len = value.len;
    sha256(value.data, value.len, &e->hval);
}

/* --- comparing --- */
#define FAIL(...) \
    do { \
        snprintf(why, 512, __VA_ARGS__); \
        goto bad; \
    } while (0)

static bool check_tx(const struct model_tx *tx, struct store *s, uint64_t id, bool may_be_gone, struct tx_header *h, char why[512])
{
    hash_t digests[64], *digest = tx->count <= 64 ? digests : malloc(tx->count * sizeof *digest), eh;
    uint8_t md[16];
    struct log_tx t = {.entry_count = 0};
    struct arena arena;
    struct tx_entry e;
    struct bytes value;
    struct err err = {.text = ""};
    bool is_open = false;
    enum status st;

    arena_init(&arena, 4096, 0);
    if (store_tx_open(s, id, false, &t, &err) != ST_OK)
        FAIL("tx %lu: %s", id, err.text);
    is_open = true;
    *h = t.header;
    if (t.entry_count != tx->count || h->entry_count != tx->count)
        FAIL("tx %lu has %u entries instead of %zu", id, t.entry_count, tx->count);
    for (uint32_t i = 0; i < tx->count; i++) {
        const struct model_entry *want = &tx->entries[i];
        size_t md_len = naive_md(&want->md, md);

        if (store_tx_entry(s, &t, i, &e, &err) != ST_OK)
            FAIL("tx %lu entry %u: %s", id, i, err.text);
        if (!bytes_equal(e.key, bytes_of(want->key, want->key_len)) || !bytes_equal(e.md, bytes_of(md, md_len)) || !hash_equal(&e.hval, &want->hval))
            FAIL("tx %lu entry %u differs", id, i);
        naive_digest(want, &digest[i]);
        st = store_tx_value(s, &t, i, &arena, &value, &err);
        if (st == ST_NOT_FOUND && may_be_gone)
            continue;
        if (st != ST_OK)
            FAIL("tx %lu value %u: %s", id, i, err.text);
        if (!bytes_equal(value, bytes_of(want->value, want->value_len)))
            FAIL("tx %lu value %u differs", id, i);
    }
    if (tx->count > 0) {
        naive_root(digest, tx->count, &eh);
        if (!hash_equal(&eh, &h->eh))
            FAIL("tx %lu: another Eh", id);
    }
    st = ST_OK;
    goto done;
bad:
    st = ST_CORRUPT;
done:
    if (is_open)
        store_tx_close(s, &t);
    arena_free(&arena);
    if (digest != digests)
        free(digest);
    return st == ST_OK;
}

static bool check_chain(const struct tx_header *h, uint64_t id, const hash_t *alhs, char why[512])
{
    hash_t root = HASH_ZERO;

    if (h->id != id)
        FAIL("tx %lu says it is %lu", id, h->id);
    if (!hash_equal(&h->prev_alh, id == 1 ? &HASH_EMPTY : &alhs[id - 2]))
        FAIL("tx %lu: another prevAlh", id);
    if (h->bl_tx_id != id - 1)
        FAIL("tx %lu: blTxId %lu", id, h->bl_tx_id);
    if (id > 1)
        naive_root(alhs, id - 1, &root);
    if (!hash_equal(&h->bl_root, &root))
        FAIL("tx %lu: another blRoot", id);
    return true;
bad:
    return false;
}

/* Newest version and number of versions of a key, by walking everything. */
static uint64_t naive_versions(const struct model *m, uint64_t upto, const struct model_entry *key, uint64_t *tx_id, uint32_t *entry_index,
                               bool *is_deleted)
{
    uint64_t count = 0;

    for (uint64_t id = 1; id <= upto; id++) {
        const struct model_tx *tx = &m->txs[id - 1];

        for (size_t i = 0; i < tx->count; i++) {
            const struct model_entry *e = &tx->entries[i];

            if (e->md.is_non_indexable || e->key_len != key->key_len || memcmp(e->key, key->key, e->key_len) != 0)
                continue;
            count++;
            *tx_id = id;
            *entry_index = (uint32_t)i;
            *is_deleted = e->md.is_deleted;
        }
    }
    return count;
}

static bool check_key(const struct model *m, struct store *s, struct store_snapshot *view, uint64_t upto, uint64_t gone_upto,
                      const struct model_entry *key, char why[512])
{
    struct index_version v;
    struct log_pin pin = {.tx_id = 0};
    struct arena arena;
    struct tx_entry e;
    struct bytes index_key;
    uint32_t ns, entry_index = 0;
    uint64_t tx_id = 0, revision = 0, count;
    bool is_deleted = false;
    struct err err;
    enum status st;

    arena_init(&arena, 4096, 0);
    if (!store_index_key(bytes_of(key->key, key->key_len), &ns, &index_key))
        return true;
    count = naive_versions(m, upto, key, &tx_id, &entry_index, &is_deleted);
    st = index_get(store_snapshot_index(view), ns, index_key, false, &v, &revision, &err);
    if (count == 0) {
        if (st != ST_NOT_FOUND)
            FAIL("a key that was never indexed is found");
        return true;
    }
    if (st != ST_OK)
        FAIL("key of tx %lu: %s", tx_id, err.text);
    if (v.tx_id != tx_id || v.entry_index != entry_index || v.is_deleted != is_deleted || revision != count)
        FAIL("key of tx %lu entry %u revision %lu: index says %lu %u %lu", tx_id, entry_index, count, v.tx_id, v.entry_index, revision);
    st = store_entry_read(s, v.tx_id, v.entry_index, false, true, &arena, &pin, &e, &err);
    if (st == ST_OK && !e.is_value_gone) {
        const struct model_entry *want = &m->txs[tx_id - 1].entries[entry_index];

        if (!bytes_equal(e.value, bytes_of(want->value, want->value_len)))
            FAIL("value by address of tx %lu entry %u differs", tx_id, entry_index);
    } else if ((st != ST_OK && st != ST_NOT_FOUND) || tx_id > gone_upto) {
        FAIL("value by address of tx %lu entry %u: %s", tx_id, entry_index, st == ST_OK ? "gone" : err.text);
    }
    store_pin_release(s, &pin);
    arena_free(&arena);
    return true;
bad:
    store_pin_release(s, &pin);
    arena_free(&arena);
    return false;
}

static bool check_index(const struct model *m, struct store *s, uint64_t upto, uint64_t gone_upto, char why[512])
{
    struct store_snapshot *view = NULL;
    struct err err;
    bool ok = true;

    if (store_snapshot_open(s, upto, &view, &err) != ST_OK)
        FAIL("snapshot at %lu: %s", upto, err.text);
    /* Each key once: where it was written last. */
    for (uint64_t id = 1; id <= upto && ok; id++) {
        const struct model_tx *tx = &m->txs[id - 1];

        for (size_t i = 0; i < tx->count && ok; i++) {
            uint64_t last = 0;
            uint32_t at = 0;
            bool is_deleted;

            if (naive_versions(m, upto, &tx->entries[i], &last, &at, &is_deleted) == 0 || last == id)
                ok = check_key(m, s, view, upto, gone_upto, &tx->entries[i], why);
        }
    }
    store_snapshot_close(view);
    return ok;
bad:
    return false;
}

bool model_check(const struct model *m, struct store *s, uint64_t upto, uint64_t gone_upto, char why[512])
{
    hash_t *alhs = malloc((upto + 1) * sizeof *alhs), root, stored;
    struct store_state state;
    struct tx_header h;
    struct err err;
    bool ok = true;

    store_get_state(s, &state);
    if (upto > m->count)
        FAIL("%lu txs, but only %zu were ever submitted", upto, m->count);
    for (uint64_t id = 1; id <= upto && ok; id++) {
        ok = check_tx(&m->txs[id - 1], s, id, id <= gone_upto, &h, why) && check_chain(&h, id, alhs, why);
        naive_alh(&h, &alhs[id - 1]);
        if (ok && m->txs[id - 1].is_acked && !hash_equal(&m->txs[id - 1].alh, &alhs[id - 1]))
            FAIL("tx %lu was acknowledged with another alh", id);
    }
    if (!ok)
        goto bad;
    if (state.tx_id > 0 && state.tx_id <= upto && !hash_equal(&state.alh, &alhs[state.tx_id - 1]))
        FAIL("state %lu has another alh", state.tx_id);
    if (state.tx_id == 0 && !hash_equal(&state.alh, &HASH_EMPTY))
        FAIL("state of an empty database");
    if (upto > 0 && upto <= state.tx_id) {
        naive_root(alhs, upto, &root);
        if (store_root_at(s, upto, &stored, &err) != ST_OK)
            FAIL("root at %lu: %s", upto, err.text);
        if (!hash_equal(&root, &stored))
            FAIL("root at %lu differs", upto);
    }
    ok = upto == 0 || check_index(m, s, upto, gone_upto, why);
    free(alhs);
    return ok;
bad:
    free(alhs);
    return false;
}

bool model_check_proof(struct store *s, uint64_t source, const hash_t *alh, char why[512])
{
    struct store_state state;
    struct dual_proof proof;
    struct arena arena;
    struct err err;

    store_get_state(s, &state);
    if (source == 0)
        return true;
    if (source > state.tx_id) {
        snprintf(why, 512, "state %lu was handed out, now the store ends at %lu", source, state.tx_id);
        return false;
    }
    arena_init(&arena, 16384, 0);
    if (store_dual_proof(s, source, state.tx_id, &arena, &proof, &err) != ST_OK)
        FAIL("dual proof %lu to %lu: %s", source, state.tx_id, err.text);
    if (!dual_proof_verify(&proof, source, state.tx_id, alh, &state.alh))
        FAIL("dual proof %lu to %lu does not hold", source, state.tx_id);
    arena_free(&arena);
    return true;
bad:
    arena_free(&arena);
    return false;
}

/* --- environment --- */
static int64_t env_wall(void *ctx) { return atomic_fetch_add(&((struct test_env *)ctx)->wall_ns, 1000000); }
static uint64_t env_mono(void *ctx)
{
    struct test_env *e = ctx;

    return atomic_fetch_add(&e->mono_ns, atomic_load(&e->mono_step_ns));
}

static void env_fill(void *ctx, void *out, size_t len)
{
    struct test_env *e = ctx;
    uint64_t z = atomic_fetch_add(&e->rng, 0x9e3779b97f4a7c15u);

    for (size_t i = 0; i < len; i++) {
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u + i;
        ((uint8_t *)out)[i] = (uint8_t)(z >> 32);
    }
}

static void env_line(void *ctx, enum log_level level, const char *text)
{
    if (((struct test_env *)ctx)->is_verbose)
        fprintf(stderr, "[%d] %s\n", (int)level, text);
}

void test_env_init(struct test_env *e, uint64_t seed)
{
    memset(e, 0, sizeof *e);
    e->env = (struct env){e, env_wall, env_mono, env_fill, env_line};
    atomic_init(&e->mono_ns, 1000000000);
    atomic_init(&e->mono_step_ns, 1000);
    atomic_init(&e->wall_ns, 1700000000000000000);
    atomic_init(&e->rng, seed);
}
