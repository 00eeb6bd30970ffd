/* For the tests of the log alone: a log on some vfs, and txs whose whole contents follow from (seed, tx id), so that a reader can check every byte. */
#ifndef LOG_LOG_FIXTURE_H
#define LOG_LOG_FIXTURE_H

#include "base/test.h"

#include "log/log_internal.h"
#include "vfs/vfs_faulty.h"
#include "vfs/vfs_memory.h"

#include <stdio.h>
#include <stdlib.h>

#define FIXTURE_DIR "db/log"
#define FIXTURE_ENTRIES_MAX 12u

struct fixture {
    struct vfs *vfs;
    struct cache *cache;
    struct budget budget;
    struct log *log;
    struct log_report report;
    struct err err;
    uint64_t segment_bytes_first, segment_bytes_max;
    uint64_t vouched_tx_id;
    uint64_t seed;      /* of contents */
    uint64_t value_max; /* bound of ordinary values; 0 = 300 */
    uint64_t big_every; /* every n-th tx has a value above TX_BODY_BORROW_BYTES; 0 = none */
    hash_t alh;         /* of the last tx made */
};

/* A clock that the tests move, quiet logging. */
static uint64_t fixture_ns = 1700000000000000000u;
static uint64_t fixture_random_state = 1;
static bool fixture_is_loud; /* set it while looking for a cause */
static inline int64_t fixture_wall(void *ctx)
{
    (void)ctx;
    return (int64_t)__atomic_load_n(&fixture_ns, __ATOMIC_RELAXED);
}
static inline uint64_t fixture_mono(void *ctx)
{
    (void)ctx;
    return __atomic_load_n(&fixture_ns, __ATOMIC_RELAXED);
}
static inline void fixture_random(void *ctx, void *out, size_t len)
{
    uint64_t state = __atomic_fetch_add(&fixture_random_state, 0x632be59bd9b4e019u, __ATOMIC_RELAXED);

    (void)ctx;
    test_random_fill(&state, out, len);
}
static inline void fixture_log(void *ctx, enum log_level level, const char *text)
{
    (void)ctx;
    if (fixture_is_loud)
        fprintf(stderr, "[%d] %s\n", (int)level, text);
}
static const struct env fixture_env = {NULL, fixture_wall, fixture_mono, fixture_random, fixture_log};

static inline void fixture_init(struct fixture *f, struct vfs *vfs)
{
    memset(f, 0, sizeof *f);
    f->vfs = vfs;
    f->seed = 7;
    f->segment_bytes_first = f->segment_bytes_max = 8192;
    f->alh = HASH_EMPTY;
    budget_init(&f->budget, (size_t)256 << 20);
}

static inline enum status fixture_open(struct fixture *f, bool create)
{
    struct log_options o = {.vfs = f->vfs,
                            .budget = &f->budget,
                            .env = &fixture_env,
                            .dir = FIXTURE_DIR,
                            .create = create,
                            .segment_bytes_first = f->segment_bytes_first,
                            .segment_bytes_max = f->segment_bytes_max,
                            .vouched_tx_id = f->vouched_tx_id};
    enum status st;

    memset(&f->err, 0, sizeof f->err);
    if (create && (st = f->vfs->ops->mkdir(f->vfs, "db", &f->err)) != ST_OK && st != ST_EXISTS)
        return st;
    if (create && (st = f->vfs->ops->sync_dir(f->vfs, ".", &f->err)) != ST_OK)
        return st;
    if ((st = cache_create(f->vfs, &f->budget, 16, &f->cache, &f->err)) != ST_OK)
        return st;
    o.cache = f->cache;
    if ((st = log_open(&o, &f->log, &f->report, &f->err)) != ST_OK) {
        cache_destroy(f->cache);
        f->cache = NULL;
    }
    return st;
}

static inline void fixture_close(struct fixture *f, bool clean)
{
    if (f->log != NULL)
        log_close(f->log, clean);
    f->log = NULL;
    if (f->cache != NULL)
        cache_destroy(f->cache);
    f->cache = NULL;
}

/* --- contents --- */

static inline uint64_t content_state(uint64_t seed, uint64_t tx_id) { return seed * 0x9e3779b97f4a7c15u + tx_id * 0xd1342543de82ef95u; }

struct content {
    struct tx_header header; /* prev_alh and eh included */
    struct tx_entry entries[FIXTURE_ENTRIES_MAX];
    hash_t digests[FIXTURE_ENTRIES_MAX];
    uint8_t *memory;
};

/* prev_alh, bl_root are derived from the id alone: the log does not check them. */
static inline void content_make(const struct fixture *f, uint64_t tx_id, struct content *c)
{
    uint64_t state = content_state(f->seed, tx_id);
    uint64_t value_max = f->value_max != 0 ? f->value_max : 300;
    bool is_big = f->big_every != 0 && tx_id % f->big_every == 0;
    uint32_t count = (uint32_t)(test_random(&state) % 4 == 0 ? test_random(&state) % (FIXTURE_ENTRIES_MAX + 1) : 1);
    hash_t scratch[FIXTURE_ENTRIES_MAX];
    uint8_t *at;

    memset(c, 0, sizeof *c);
    c->memory = at = malloc(FIXTURE_ENTRIES_MAX * (64 + 11 + value_max + 1) + (is_big ? TX_BODY_BORROW_BYTES * 2 : 0));
    assert_non_null(at);
    for (uint32_t i = 0; i < count; i++) {
        struct tx_entry *e = &c->entries[i];
        size_t key_len = 1 + (size_t)(test_random(&state) % 63), value_len = (size_t)(test_random(&state) % (value_max + 1));
        size_t md_len = test_random(&state) % 3 == 0 ? 1 : 0;

        if (test_random(&state) % 2 == 0)
            value_len %= 80;
        if (is_big && i == 0)
            value_len = TX_BODY_BORROW_BYTES + (size_t)(test_random(&state) % TX_BODY_BORROW_BYTES);
        test_random_fill(&state, at, key_len);
        e->key = bytes_of(at, key_len);
        at += key_len;
        at[0] = 0; /* deleted */
        e->md = bytes_of(at, md_len);
        at += md_len;
        test_random_fill(&state, at, value_len);
        e->value = bytes_of(at, value_len);
        at += value_len;
        e->value_len = (uint32_t)value_len;
        sha256(e->value.data, e->value.len, &e->hval);
        if (entry_digest(1, e->key, e->md, &e->hval, &c->digests[i], NULL) != ST_OK)
            abort();
    }
    c->header.id = tx_id;
    c->header.ts = (int64_t)(1000 + tx_id / 3);
    if (tx_id % 11 == 0)
        c->header.ts = 0;
    c->header.bl_tx_id = tx_id - 1;
    c->header.version = 1;
    c->header.entry_count = count;
    test_random_fill(&state, &c->header.prev_alh, sizeof(hash_t));
    test_random_fill(&state, &c->header.bl_root, sizeof(hash_t));
    if (tx_id % 5 == 0) {
        c->header.md.extra_len = (uint16_t)(1 + tx_id % 200);
        test_random_fill(&state, c->header.md.extra, c->header.md.extra_len);
    }
    if (tx_id % 7 == 0)
        c->header.md.truncated_upto = tx_id / 2 + 1;
    htree_root(c->digests, count, scratch, &c->header.eh);
}

static inline void content_free(struct content *c) { free(c->memory); }

/* Adds txs first..last to a begun batch. */
static inline enum status fixture_add(struct fixture *f, uint64_t first, uint64_t last)
{
    enum status st = ST_OK;

    for (uint64_t id = first; id <= last && st == ST_OK; id++) {
        struct tx_body *body = NULL;
        struct content c;

        content_make(f, id, &c);
        st = tx_body_encode(c.entries, c.header.entry_count, &body, &f->err);
        if (st == ST_OK)
            st = log_batch_tx(f->log, &c.header, body, &f->err);
        tx_body_free(body);
        /* Borrowed values must outlive the batch: big contents are only used through fixture_commit(). */
        content_free(&c);
    }
    return st;
}

/* One batch with txs first..last, written; bodies and values live until then. */
static inline enum status fixture_write(struct fixture *f, uint64_t first, uint64_t last, uint64_t committed_upto)
{
    size_t count = (size_t)(last + 1 - first), made = 0;
    struct content *c = calloc(count, sizeof *c);
    struct tx_body *body;
    enum status st;

    assert_non_null(c);
    if ((st = log_batch_begin(f->log, &f->err)) != ST_OK)
        goto done;
    for (; made < count && st == ST_OK; made++) {
        content_make(f, first + made, &c[made]);
        body = NULL;
        if ((st = tx_body_encode(c[made].entries, c[made].header.entry_count, &body, &f->err)) == ST_OK)
            st = log_batch_tx(f->log, &c[made].header, body, &f->err);
        tx_body_free(body);
    }
    if (st == ST_OK)
        st = log_batch_write(f->log, committed_upto, &f->err);
    if (st != ST_OK)
        log_batch_abort(f->log);
done:
    for (size_t i = 0; i < made; i++)
        content_free(&c[i]);
    free(c);
    return st;
}

/* Writes and syncs and publishes; ordinary database: what is synced is committed. */
static inline enum status fixture_commit(struct fixture *f, uint64_t first, uint64_t last)
{
    enum status st = fixture_write(f, first, last, first - 1);

    if (st == ST_OK)
        st = log_sync(f->log, &f->err);
    if (st == ST_OK) {
        log_note_committed(f->log, last);
        log_publish(f->log, last);
    }
    return st;
}

static inline void check_entry(const struct tx_entry *want, const struct tx_entry *got, bool value_gone, bool with_hval)
{
    assert_true(bytes_equal(want->key, got->key));
    assert_true(bytes_equal(want->md, got->md));
    if (with_hval)
        assert_memory_equal(want->hval.b, got->hval.b, HASH_LEN);
    assert_int_equal(got->is_value_gone, value_gone);
    assert_int_equal(got->value_len, value_gone ? 0 : want->value_len);
}

/* Every way to read the tx gives the same. */
static inline void fixture_check_tx(struct fixture *f, uint64_t tx_id, bool value_gone)
{
    struct log_pin pin = {0};
    struct tx_header header;
    struct arena arena;
    struct content c;
    struct log_tx t;
    struct bytes value;
    struct err err = {0};
    struct tx_entry e;
    hash_t digests[FIXTURE_ENTRIES_MAX];
    enum status st;

    arena_init(&arena, 4096, 0);
    content_make(f, tx_id, &c);
    st = log_tx_header(f->log, tx_id, &header, &err);
    if (st != ST_OK)
        fail_msg("tx %llu: %s", (unsigned long long)tx_id, err.text);
    assert_int_equal(header.id, tx_id);
    assert_memory_equal(header.eh.b, c.header.eh.b, HASH_LEN);
    assert_memory_equal(header.prev_alh.b, c.header.prev_alh.b, HASH_LEN);
    assert_memory_equal(header.bl_root.b, c.header.bl_root.b, HASH_LEN);
    assert_int_equal(header.ts, c.header.ts);
    assert_int_equal(header.bl_tx_id, c.header.bl_tx_id);
    assert_int_equal(header.version, c.header.version);
    assert_int_equal(header.entry_count, c.header.entry_count);
    assert_int_equal(header.md.extra_len, c.header.md.extra_len);
    assert_int_equal(header.md.truncated_upto, c.header.md.truncated_upto);
    assert_memory_equal(header.md.extra, c.header.md.extra, c.header.md.extra_len);

    assert_int_equal(log_tx_open(f->log, tx_id, false, &t, &err), ST_OK);
    assert_int_equal(t.entry_count, c.header.entry_count);
    assert_memory_equal(t.header.eh.b, c.header.eh.b, HASH_LEN);
    assert_int_equal(log_tx_digests(f->log, &t, digests, &err), ST_OK);
    assert_memory_equal(digests, c.digests, t.entry_count * HASH_LEN);
    for (uint32_t i = 0; i < t.entry_count; i++) {
        assert_int_equal(log_tx_entry(f->log, &t, i, &e, &err), ST_OK);
        check_entry(&c.entries[i], &e, value_gone, true);
        st = log_tx_value(f->log, &t, i, &arena, &value, &err);
        assert_int_equal(st, value_gone ? ST_NOT_FOUND : ST_OK);
        if (st == ST_OK)
            assert_true(bytes_equal(value, c.entries[i].value));
        else
            assert_string_equal(err.text, "value was truncated");
    }
    assert_int_equal(log_tx_entry(f->log, &t, t.entry_count, &e, &err), ST_NOT_FOUND);
    log_tx_close(f->log, &t);

    for (uint32_t i = 0; i < c.header.entry_count; i++) {
        assert_int_equal(log_entry_read(f->log, tx_id, i, false, false, &arena, &pin, &e, &err), ST_OK);
        check_entry(&c.entries[i], &e, value_gone, false);
        st = log_entry_read(f->log, tx_id, i, false, true, &arena, &pin, &e, &err);
        assert_int_equal(st, value_gone ? ST_NOT_FOUND : ST_OK);
        check_entry(&c.entries[i], &e, value_gone, false);
        if (st == ST_OK)
            assert_true(bytes_equal(e.value, c.entries[i].value));
    }
    assert_int_equal(log_entry_read(f->log, tx_id, c.header.entry_count, false, true, &arena, &pin, &e, &err), ST_NOT_FOUND);
    log_pin_release(f->log, &pin);
    content_free(&c);
    arena_free(&arena);
}

static inline void fixture_check_range(struct fixture *f, uint64_t first, uint64_t last, bool value_gone)
{
    for (uint64_t id = first; id <= last; id++)
        fixture_check_tx(f, id, value_gone);
}

static inline bool fixture_count_bad(void *ctx, const char *file, uint64_t offset, uint64_t tx_id, const char *what)
{
    if (fixture_is_loud)
        fprintf(stderr, "scrub: %s %llu tx %llu: %s\n", file, (unsigned long long)offset, (unsigned long long)tx_id, what);
    ++*(uint64_t *)ctx;
    return true;
}

static inline uint64_t fixture_scrub(struct fixture *f)
{
    uint64_t bad = 0;

    assert_int_equal(log_scrub(f->log, fixture_count_bad, &bad, &f->err), ST_OK);
    return bad;
}

#endif
