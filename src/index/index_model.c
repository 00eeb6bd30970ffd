/* The oracle: see index_model.h. */
#include "index/index_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

/* Not cmocka's own macro: some of this runs on other threads. */
#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort(); \
        } \
    } while (0)

uint64_t model_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static int key_compare(uint32_t ns, struct bytes key, const struct model_key *k)
{
    return ns != k->ns ? (ns < k->ns ? -1 : 1) : bytes_compare(key, bytes_of(k->key, k->key_len));
}

/* Position of the first key at or above. */
static size_t position(const struct model *m, uint32_t ns, struct bytes key)
{
    size_t low = 0, high = m->count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (key_compare(ns, key, m->keys[mid]) > 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

struct model_key *model_find(const struct model *m, uint32_t ns, struct bytes key)
{
    size_t i = position(m, ns, key);
    return i < m->count && key_compare(ns, key, m->keys[i]) == 0 ? m->keys[i] : NULL;
}

size_t model_upto(const struct model_key *k, uint64_t upto)
{
    size_t low = 0, high = k == NULL ? 0 : k->count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (k->versions[mid].tx_id <= upto)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

void model_free(struct model *m)
{
    for (size_t i = 0; i < m->count; i++) {
        free(m->keys[i]->key);
        free(m->keys[i]->versions);
        free(m->keys[i]);
    }
    free(m->keys);
    *m = (struct model){0};
}

void model_add(struct model *m, const struct index_entry *e)
{
    size_t i = position(m, e->ns, e->key);
    struct model_key *k;

    if (i == m->count || key_compare(e->ns, e->key, m->keys[i]) != 0) {
        if (m->count == m->cap) {
            m->cap = m->cap == 0 ? 64 : m->cap * 2;
            m->keys = realloc(m->keys, m->cap * sizeof(struct model_key *));
            CHECK(m->keys != NULL);
        }
        CHECK((k = calloc(1, sizeof *k)) != NULL && (k->key = malloc(e->key.len + 1)) != NULL);
        k->ns = e->ns;
        k->key_len = e->key.len;
        if (e->key.len > 0)
            memcpy(k->key, e->key.data, e->key.len);
        memmove(m->keys + i + 1, m->keys + i, (m->count - i) * sizeof(struct model_key *));
        m->keys[i] = k;
        m->count++;
    }
    k = m->keys[i];
    if (k->count == k->cap) {
        k->cap = k->cap == 0 ? 2 : k->cap * 2;
        k->versions = realloc(k->versions, k->cap * sizeof *k->versions);
        CHECK(k->versions != NULL);
    }
    CHECK(k->count == 0 || k->versions[k->count - 1].tx_id < e->version.tx_id);
    k->versions[k->count++] = e->version;
    if (e->version.tx_id > m->tx_last)
        m->tx_last = e->version.tx_id;
}

/* --- making keys and transactions --- */

struct bytes model_key_make(uint64_t *state, uint32_t key_space, uint8_t *buf)
{
    uint64_t n = model_below(state, key_space), r = model_below(state, 100);
    size_t len = 0;

    if (r < 8) { /* prefixes of each other, with zero and 0xff */
        static const uint8_t letters[] = {'a', 0, 0xff, 'b'};
        for (len = model_below(state, 5); len > 0 && buf[0] != 0xfe; len--)
            buf[len - 1] = letters[model_below(state, 4)];
        len = model_below(state, 5);
        for (size_t i = 0; i < len; i++)
            buf[i] = letters[model_below(state, 4)];
    } else if (r < 40) {
        len = (size_t)snprintf((char *)buf, 64, "user:%012llu:profile", (unsigned long long)n);
    } else if (r < 98) {
        uint64_t seed = n;
        len = 1 + n % 40;
        for (size_t i = 0; i < len; i++)
            buf[i] = (uint8_t)model_random(&seed);
    } else if (r < 99) {
        (void)snprintf((char *)buf, 8, "hot%u", (unsigned)model_below(state, 2));
        len = 4;
    } else { /* long ones, few of them, that share nearly everything */
        static const size_t lens[] = {300, 1024, 4000, 65535};
        len = lens[model_below(state, 4)];
        memset(buf, 'L', len);
        buf[len - 1] = (uint8_t)model_below(state, 8);
        if (len == 65535 && model_below(state, 20) != 0)
            len = 1024;
    }
    return bytes_of(buf, len);
}

uint32_t model_ns_make(uint64_t *state)
{
    static const uint32_t spaces[] = {0, 0, 0, 0, 1, 2, 16, 255, 256, 65535};
    return spaces[model_below(state, 10)];
}

void model_tx_insert(struct model *m, struct index *x, uint64_t *state, uint32_t key_space, size_t entries_max)
{
    static _Thread_local uint8_t buf[INDEX_KEY_LEN_MAX + 1];
    size_t n = model_below(state, entries_max + 1), made = 0;
    struct index_entry *entries = calloc(n + 1, sizeof *entries);
    uint64_t tx_id = m->tx_last + 1;

    CHECK(entries != NULL);
    for (size_t i = 0; i < n; i++) {
        struct index_entry e = {.ns = model_ns_make(state), .key = model_key_make(state, key_space, buf)};
        struct model_key *k = model_find(m, e.ns, e.key);

        if (k != NULL && k->versions[k->count - 1].tx_id == tx_id)
            continue; /* a key at most once per tx */
        e.version.tx_id = tx_id;
        e.version.entry_index = (uint32_t)i;
        e.version.value_len = (uint32_t)(model_below(state, 4) == 0 ? model_random(state) : model_below(state, 300));
        e.version.is_deleted = model_below(state, 10) == 0;
        e.version.has_expiry = model_below(state, 10) == 0;
        e.version.expires_at = e.version.has_expiry ? (int64_t)model_random(state) : 0;
        model_add(m, &e);
        k = model_find(m, e.ns, e.key);
        e.key = bytes_of(k->key, k->key_len);
        entries[made++] = e;
    }
    m->tx_last = tx_id;
    if (x != NULL)
        CHECK(index_insert(x, entries, made, NULL) == ST_OK);
    free(entries);
}

static int entry_order(const void *a, const void *b)
{
    const struct index_entry *x = a, *y = b;
    if (x->version.tx_id != y->version.tx_id)
        return x->version.tx_id < y->version.tx_id ? -1 : 1;
    return x->version.entry_index < y->version.entry_index ? -1 : x->version.entry_index > y->version.entry_index;
}

void model_replay(const struct model *m, uint64_t first, uint64_t last, void (*sink)(void *ctx, const struct index_entry *e, size_t count), void *ctx)
{
    struct index_entry *all;
    size_t n = 0, total = 0;

    for (size_t i = 0; i < m->count; i++)
        total += m->keys[i]->count;
    CHECK((all = calloc(total + 1, sizeof *all)) != NULL);
    for (size_t i = 0; i < m->count; i++) {
        const struct model_key *k = m->keys[i];
        for (size_t v = model_upto(k, first - 1); v < k->count && k->versions[v].tx_id <= last; v++)
            all[n++] = (struct index_entry){k->ns, bytes_of(k->key, k->key_len), k->versions[v]};
    }
    qsort(all, n, sizeof *all, entry_order);
    for (size_t from = 0; from < n;) {
        size_t to = from + 1;
        while (to < n && (to - from < 100 || all[to].version.tx_id == all[to - 1].version.tx_id))
            to++;
        sink(ctx, all + from, to - from);
        from = to;
    }
    free(all);
}

static void sink_insert(void *ctx, const struct index_entry *e, size_t count)
{
    CHECK(index_insert(ctx, e, count, NULL) == ST_OK);
    index_publish(ctx, e[count - 1].version.tx_id);
}

static void sink_rebuild(void *ctx, const struct index_entry *e, size_t count) { CHECK(index_rebuild_add(ctx, e, count, NULL) == ST_OK); }

void model_repair(const struct model *m, struct index *x, uint64_t tx_id_max)
{
    struct index_range missing[64];
    size_t n = index_missing(x, tx_id_max, missing, 64);

    for (size_t i = 0; i < n; i++) {
        if (missing[i].first == index_published(x) + 1) {
            model_replay(m, missing[i].first, missing[i].last, sink_insert, x);
            index_publish(x, missing[i].last);
        } else {
            struct index_rebuild *r = NULL;
            struct err err = {0};
            if (index_rebuild_begin(x, missing[i], &r, &err) != ST_OK) {
                (void)fprintf(stderr, "%s\n", err.text);
                abort();
            }
            model_replay(m, missing[i].first, missing[i].last, sink_rebuild, r);
            CHECK(index_rebuild_finish(r, NULL) == ST_OK);
        }
    }
    CHECK(index_missing(x, tx_id_max, missing, 64) == 0);
}

/* --- comparing --- */

static bool version_equal(const struct index_version *a, const struct index_version *b)
{
    return a->tx_id == b->tx_id && a->entry_index == b->entry_index && a->value_len == b->value_len && a->is_deleted == b->is_deleted &&
           a->has_expiry == b->has_expiry && a->expires_at == b->expires_at;
}

static void ok(enum status st, const struct err *err)
{
    if (st != ST_OK) {
        (void)fprintf(stderr, "%s: %s\n", status_name(st), err->text);
        abort();
    }
}

static size_t check_history(const struct model_key *k, struct index_snapshot *s, uint32_t ns, struct bytes key, uint64_t *state)
{
    struct index_version v[40];
    size_t count = model_upto(k, index_snapshot_tx(s)), n = 0, max = model_below(state, 41);
    uint64_t total = 0, offset = model_below(state, 5) == 0 ? model_below(state, count + 3) : model_below(state, 3);
    bool desc = model_below(state, 2) == 0;
    struct err err = {0};

    ok(index_history(s, ns, key, desc, offset, v, max, &n, &total, &err), &err);
    CHECK(total == count);
    CHECK(n == (offset >= count ? 0 : count - offset < max ? count - offset : max));
    for (size_t i = 0; i < n; i++)
        CHECK(version_equal(&v[i], &k->versions[desc ? count - 1 - offset - i : offset + i]));
    return 1;
}

size_t model_check_point(const struct model *m, struct index_snapshot *s, uint64_t *state, uint32_t key_space)
{
    static _Thread_local uint8_t buf[INDEX_KEY_LEN_MAX + 1];
    uint32_t ns = model_ns_make(state);
    struct bytes key = model_key_make(state, key_space, buf);
    const struct model_key *k = model_find(m, ns, key);
    uint64_t tx_id = index_snapshot_tx(s), upto = model_below(state, 3) == 0 ? model_below(state, tx_id + 2) : tx_id, revision = 0, all = 0;
    bool want = model_below(state, 2) == 0, nowait = model_below(state, 4) == 0;
    size_t count = model_upto(k, upto < tx_id ? upto : tx_id), calls = 2;
    struct index_version v;
    struct err err = {0};
    enum status st = index_get_at(s, ns, key, upto, nowait, &v, want ? &revision : NULL, &err);

    if (st == ST_AGAIN)
        st = index_get_at(s, ns, key, upto, false, &v, want ? &revision : NULL, &err);
    if (count == 0) {
        CHECK(st == ST_NOT_FOUND);
    } else {
        ok(st, &err);
        CHECK(version_equal(&v, &k->versions[count - 1]));
        CHECK(!want || revision == count);
    }
    ok(index_version_count(s, ns, key, &all, &err), &err);
    CHECK(all == model_upto(k, tx_id));
    if (model_below(state, 4) == 0) {
        revision = model_below(state, all + 2);
        st = index_get_revision(s, ns, key, revision, &v, &err);
        if (revision == 0 || revision > all) {
            CHECK(st == ST_NOT_FOUND);
        } else {
            ok(st, &err);
            CHECK(version_equal(&v, &k->versions[revision - 1]));
        }
        calls++;
    }
    if (model_below(state, 4) == 0)
        calls += check_history(k, s, ns, key, state);
    return calls;
}

/* Does the scan, by its definition, give this key? */
static bool in_range(const struct index_scan_options *o, const struct model_key *k)
{
    struct bytes key = bytes_of(k->key, k->key_len), low = o->desc ? o->end : o->seek, high = o->desc ? o->seek : o->end;
    bool low_inclusive = o->desc ? o->inclusive_end : o->inclusive_seek, high_inclusive = o->desc ? o->inclusive_seek : o->inclusive_end;
    int c;

    if (k->ns != o->ns || !bytes_has_prefix(key, o->prefix))
        return false;
    if (low.len > 0 && ((c = bytes_compare(key, low)) < 0 || (c == 0 && !low_inclusive)))
        return false;
    return high.len == 0 || (c = bytes_compare(key, high)) < 0 || (c == 0 && high_inclusive);
}

size_t model_check_scan(const struct model *m, struct index_snapshot *s, uint64_t *state, uint32_t key_space, size_t keys_max)
{
    static _Thread_local uint8_t buf[3][INDEX_KEY_LEN_MAX + 1];
    struct index_scan_options o = {.ns = model_ns_make(state), .desc = model_below(state, 2) == 0, .want_revision = model_below(state, 2) == 0};
    uint64_t tx_id = index_snapshot_tx(s), upto;
    struct index_cursor *c = NULL;
    struct err err = {0};
    size_t i, steps = 0;

    if (model_below(state, 2) == 0) {
        o.prefix = model_key_make(state, key_space, buf[0]);
        o.prefix.len = o.prefix.len > 0 ? model_below(state, o.prefix.len + 1) : 0;
        if (model_below(state, 4) == 0)
            o.prefix = bytes_of("\xff\xff", model_below(state, 3));
    }
    if (model_below(state, 2) == 0)
        o.seek = model_key_make(state, key_space, buf[1]);
    if (model_below(state, 3) == 0)
        o.end = model_key_make(state, key_space, buf[2]);
    o.inclusive_seek = model_below(state, 2) == 0;
    o.inclusive_end = model_below(state, 2) == 0;
    o.upto = model_below(state, 3) == 0 ? model_below(state, tx_id + 2) : 0;
    upto = o.upto == 0 || o.upto > tx_id ? tx_id : o.upto;
    ok(index_scan_open(s, &o, &c, &err), &err);
    for (i = 0; i <= m->count && steps < keys_max; i++) {
        const struct model_key *k = i == m->count ? NULL : m->keys[o.desc ? m->count - 1 - i : i];
        struct index_version v;
        struct bytes key;
        uint64_t revision = 0;
        size_t count = model_upto(k, upto);
        enum status st;

        if (k != NULL && (count == 0 || !in_range(&o, k)))
            continue;
        st = index_scan_next(c, &key, &v, &revision, &err);
        steps++;
        if (k == NULL) {
            CHECK(st == ST_NOT_FOUND);
            break;
        }
        ok(st, &err);
        CHECK(bytes_equal(key, bytes_of(k->key, k->key_len)));
        CHECK(version_equal(&v, &k->versions[count - 1]));
        CHECK(!o.want_revision || revision == count);
    }
    index_scan_close(c);
    if (model_below(state, 4) == 0) {
        uint64_t count = 0, expected = 0;
        ok(index_count(s, o.ns, o.prefix, &count, &err), &err);
        o.seek.len = o.end.len = 0;
        for (i = 0; i < m->count; i++)
            expected += model_upto(m->keys[i], tx_id) > 0 && in_range(&o, m->keys[i]);
        CHECK(count == expected);
        steps++;
    }
    return steps + 1;
}

void model_check_all(const struct model *m, struct index_snapshot *s)
{
    uint64_t tx_id = index_snapshot_tx(s);
    struct err err = {0};

    for (size_t i = 0; i < m->count;) { /* a namespace at a time */
        size_t to = i;
        while (to < m->count && m->keys[to]->ns == m->keys[i]->ns)
            to++;
        for (int desc = 0; desc < 2; desc++) {
            struct index_scan_options o = {.ns = m->keys[i]->ns, .desc = desc != 0, .want_revision = true};
            struct index_cursor *c = NULL;
            struct index_version v;
            struct bytes key;
            uint64_t revision;

            ok(index_scan_open(s, &o, &c, &err), &err);
            for (size_t n = 0; n < to - i; n++) {
                const struct model_key *k = m->keys[desc ? to - 1 - n : i + n];
                size_t count = model_upto(k, tx_id);
                if (count == 0)
                    continue;
                ok(index_scan_next(c, &key, &v, &revision, &err), &err);
                CHECK(bytes_equal(key, bytes_of(k->key, k->key_len)) && version_equal(&v, &k->versions[count - 1]) && revision == count);
            }
            CHECK(index_scan_next(c, &key, &v, &revision, &err) == ST_NOT_FOUND);
            index_scan_close(c);
        }
        i = to;
    }
    for (size_t i = 0; i < m->count; i++) {
        const struct model_key *k = m->keys[i];
        size_t count = model_upto(k, tx_id), n = 0;
        struct index_version *v = calloc(count + 1, sizeof *v);
        uint64_t total = 0;

        CHECK(v != NULL);
        ok(index_history(s, k->ns, bytes_of(k->key, k->key_len), false, 0, v, count + 1, &n, &total, &err), &err);
        CHECK(n == count && total == count);
        for (size_t j = 0; j < count; j++)
            CHECK(version_equal(&v[j], &k->versions[j]));
        free(v);
    }
}

/* --- bed --- */

static int64_t bed_wall(void *ctx)
{
    (void)ctx;
    return 1700000000ll * 1000000000ll;
}
static uint64_t bed_mono(void *ctx)
{
    (void)ctx;
    return 1;
}
static void bed_log(void *ctx, enum log_level level, const char *text)
{
    (void)ctx;
    (void)level;
    (void)text;
}
static void bed_random(void *ctx, void *out, size_t len)
{
    static _Atomic uint64_t counter = 1;
    uint64_t seed = counter++;
    uint8_t *p = out;
    (void)ctx;
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)model_random(&seed);
}
const struct env *bed_env(void)
{
    static const struct env env = {NULL, bed_wall, bed_mono, bed_random, bed_log};
    return &env;
}

void bed_open(struct bed *b, struct vfs *vfs, size_t memtable_bytes_max, unsigned runs_max, uint64_t tx_id_max)
{
    struct err err = {0};

    *b = (struct bed){.vfs = vfs};
    budget_init(&b->budget, (size_t)64 << 20);
    ok(cache_create(vfs, &b->budget, 16, &b->cache, &err), &err);
    b->options = (struct index_options){.vfs = vfs,
                                        .cache = b->cache,
                                        .budget = &b->budget,
                                        .env = bed_env(),
                                        .dir = "index",
                                        .uuid = "0123456789abcde",
                                        .memtable_bytes_max = memtable_bytes_max,
                                        .runs_max = runs_max};
    ok(index_open(&b->options, tx_id_max, &b->x, &err), &err);
}

void bed_close(struct bed *b)
{
    index_close(b->x);
    cache_destroy(b->cache);
    CHECK(budget_used(&b->budget, BUDGET_MEMTABLE) == 0);
}
