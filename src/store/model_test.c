/* Random operations on a store against a naive model: for each key a plain list of all its versions.
 *
 * Operations: transactions of one to some entries (sets, deletions, expiring and non-indexable ones), conditional transactions whose outcome the model predicts, reads of
 * the newest version, of the one as of a past tx, by revision, history in both directions with offsets, scans with bounds in both directions as of past txs, values by address;
 * between them flushes, merges, background steps, syncs, reopening, snapshots kept open over all of it and asked again later.
 *
 * Arguments: number of operations (default 60,000; or "ci" = 1,200,000), seed. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/test.h"
#include "store/store.h"
#include "vfs/vfs.h"

enum { KEYS = 150, SNAPSHOTS = 4 };

struct version {
    uint64_t tx_id;
    uint32_t entry_index;
    bool is_deleted, is_expired, is_indexed;
    uint64_t value;
};
struct key {
    char name[12]; /* store key without its prefix */
    size_t len;
    struct version *versions;
    size_t count, cap;
};
struct kept { /* a snapshot kept open */
    struct store_snapshot *view;
    uint64_t tx_id;
};

static struct key keys[KEYS]; /* in order */
static struct kept kept[SNAPSHOTS];
static uint64_t rng, last_tx, operations;
static struct store *store;
static struct runtime *runtime;
static struct store_options options;
static struct env test_env;
static char dir[64];
static uint64_t seed = 1;

static uint64_t pick(uint64_t n) { return (test_random(&rng) >> 8) % n; }

#define MUST(cond, ...) \
    do { \
        if (!(cond)) { \
            fprintf(stderr, "seed %lu, operation %lu, line %d: ", seed, operations, __LINE__); \
            fprintf(stderr, __VA_ARGS__); \
            fputc('\n', stderr); \
            abort(); \
        } \
    } while (0)
#define OK(call) \
    do { \
        enum status st_ = (call); \
        MUST(st_ == ST_OK, "%s: %s", #call, err.text); \
    } while (0)

static void log_nothing(void *ctx, enum log_level level, const char *text)
{
    (void)ctx;
    (void)level;
    (void)text;
}

static int by_bytes(const void *a, const void *b)
{
    const struct key *x = a, *y = b;

    return bytes_compare(bytes_of(x->name, x->len), bytes_of(y->name, y->len));
}

static void keys_make(void)
{
    for (unsigned i = 0; i < KEYS; i++) {
        /* many are prefixes of each other, some hold 0x00 and 0xff */
        keys[i].len = 1 + (size_t)snprintf(keys[i].name + 1, 8, "%u", i) - 0;
        keys[i].name[0] = (char)(i % 5 == 0 ? 0xff : i % 7 == 0 ? 0 : 'k');
    }
    qsort(keys, KEYS, sizeof keys[0], by_bytes);
}

static void store_key(const struct key *k, uint8_t out[16], struct bytes *b)
{
    out[0] = 0;
    memcpy(out + 1, k->name, k->len);
    *b = bytes_of(out, k->len + 1);
}

static void version_add(struct key *k, struct version v)
{
    if (k->count == k->cap) {
        k->cap = k->cap == 0 ? 8 : k->cap * 2;
        k->versions = realloc(k->versions, k->cap * sizeof *k->versions);
    }
    k->versions[k->count++] = v;
}

/* Newest indexed version as of tx; its revision. */
static const struct version *newest(const struct key *k, uint64_t upto, uint64_t *revision)
{
    const struct version *found = NULL;

    *revision = 0;
    for (size_t i = 0; i < k->count && k->versions[i].tx_id <= upto; i++) {
        if (!k->versions[i].is_indexed)
            continue;
        found = &k->versions[i];
        ++*revision;
    }
    return found;
}

static void opened(void)
{
    struct runtime_options ro = {.env = &test_env, .memory_limit = 16 << 20};
    struct err err;

    OK(runtime_create(&ro, &runtime, &err));
    options = (struct store_options){.runtime = runtime,
                                     .dir = dir,
                                     .create = true,
                                     .tx_version = 1,
                                     .durability = STORE_ASYNC,
                                     .segment_bytes_first = 64 << 10,
                                     .segment_bytes_max = 1 << 20,
                                     .memtable_bytes_max = 96 << 10};
    OK(store_open(&options, &store, &err));
}

static void closed(void)
{
    for (int i = 0; i < SNAPSHOTS; i++) {
        store_snapshot_close(kept[i].view);
        kept[i].view = NULL;
    }
    store_close(store);
    runtime_destroy(runtime);
}

/* --- writing --- */
static void write_tx(bool is_conditional)
{
    unsigned count = 1 + (unsigned)pick(pick(20) == 0 ? 40 : 3), taken[48];
    uint8_t names[48][16], values[48][8];
    struct version versions[48];
    struct store_draft *d;
    struct store_result r;
    bool holds = true;
    struct bytes key;
    struct err err;
    enum status st;
    unsigned n = 0;

    OK(draft_create(store, &d, &err));
    for (unsigned i = 0; i < count; i++) {
        unsigned k = (unsigned)pick(KEYS);
        struct kv_metadata md = {.is_deleted = pick(12) == 0, .has_expiry = pick(12) == 0, .is_non_indexable = pick(15) == 0, .expires_at = 5};

        store_key(&keys[k], names[n], &key);
        store_u64be(values[n], test_random(&rng));
        st = draft_set(d, key, &md, bytes_of(values[n], 8), &err);
        if (st == ST_EXISTS)
            continue;
        OK(st);
        taken[n] = k;
        versions[n] = (struct version){last_tx + 1, n, md.is_deleted, md.has_expiry, !md.is_non_indexable, load_u64be(values[n])};
        n++;
    }
    if (is_conditional) {
        uint64_t revision, at = last_tx == 0 ? 0 : last_tx - pick(last_tx < 50 ? last_tx : 50);
        const struct key *k = &keys[pick(KEYS)];
        const struct version *v = newest(k, UINT64_MAX, &revision);
        bool exists = v != NULL && !v->is_deleted && !v->is_expired;
        uint8_t name[16];

        store_key(k, name, &key);
        switch (pick(4)) {
        case 0:
            OK(draft_precondition(d, KEY_MUST_EXIST, key, 0, &err));
            holds = exists;
            break;
        case 1:
            OK(draft_precondition(d, KEY_MUST_NOT_EXIST, key, 0, &err));
            holds = !exists;
            break;
        case 2:
            OK(draft_precondition(d, KEY_NOT_MODIFIED_AFTER_TX, key, at + 1, &err));
            holds = v == NULL || v->tx_id <= at + 1;
            break;
        default:
            OK(draft_read_point(d, key, at, &err));
            holds = v == NULL || v->tx_id <= at;
        }
    }
    st = store_commit(store, d, pick(200) == 0, &r, &err);
    if (!holds) {
        MUST(st == ST_CONFLICT, "a condition does not hold, but %s", status_name(st));
        return;
    }
    OK(st);
    last_tx++;
    MUST(r.header.id == last_tx, "tx %lu instead of %lu", r.header.id, last_tx);
    for (unsigned i = 0; i < n; i++)
        version_add(&keys[taken[i]], versions[i]);
}

/* --- reading --- */
static void same(const struct index_version *v, const struct version *want)
{
    MUST(v->tx_id == want->tx_id && v->entry_index == want->entry_index && v->is_deleted == want->is_deleted && v->has_expiry == want->is_expired,
         "version %lu/%u instead of %lu/%u", v->tx_id, v->entry_index, want->tx_id, want->entry_index);
}

static void read_value(const struct version *want)
{
    struct log_pin pin = {.tx_id = 0};
    struct arena arena;
    struct tx_entry e;
    struct err err;

    arena_init(&arena, 256, 0);
    OK(store_entry_read(store, want->tx_id, want->entry_index, false, true, &arena, &pin, &e, &err));
    MUST(e.value.len == 8 && load_u64be(e.value.data) == want->value, "a wrong value");
    store_pin_release(store, &pin);
    arena_free(&arena);
}

static void read_newest(struct store_snapshot *view, uint64_t view_tx)
{
    const struct key *k = &keys[pick(KEYS)];
    uint64_t upto = pick(2) == 0 || view_tx == 0 ? view_tx : 1 + pick(view_tx), want_revision, revision;
    const struct version *want = newest(k, upto, &want_revision);
    struct index_version v;
    struct err err;
    enum status st = upto == view_tx
                         ? index_get(store_snapshot_index(view), INDEX_NS_KV, bytes_of(k->name, k->len), false, &v, &revision, &err)
                         : index_get_at(store_snapshot_index(view), INDEX_NS_KV, bytes_of(k->name, k->len), upto, false, &v, &revision, &err);

    if (want == NULL) {
        MUST(st == ST_NOT_FOUND, "found what was never written");
        return;
    }
    OK(st);
    same(&v, want);
    MUST(revision == want_revision, "revision %lu instead of %lu", revision, want_revision);
    read_value(want);
}

static void read_history(struct store_snapshot *view, uint64_t view_tx)
{
    const struct key *k = &keys[pick(KEYS)];
    struct index_version v[8];
    uint64_t count, total = 0, offset;
    const struct version *all[8];
    bool desc = pick(2) == 0;
    size_t out = 0, want = 0;
    struct err err;
    enum status st;

    newest(k, view_tx, &count);
    OK(index_version_count(store_snapshot_index(view), INDEX_NS_KV, bytes_of(k->name, k->len), &total, &err));
    MUST(total == count, "%lu versions instead of %lu", total, count);
    if (count == 0)
        return;
    offset = pick(count);
    st = index_history(store_snapshot_index(view), INDEX_NS_KV, bytes_of(k->name, k->len), desc, offset, v, 8, &out, &total, &err);
    OK(st);
    for (size_t i = 0, seen = 0; i < k->count && want < 8; i++) {
        size_t at = desc ? k->count - 1 - i : i;

        if (!k->versions[at].is_indexed || k->versions[at].tx_id > view_tx || seen++ < offset)
            continue;
        all[want++] = &k->versions[at];
    }
    MUST(out == want && total == count, "history of %zu instead of %zu", out, want);
    for (size_t i = 0; i < out; i++)
        same(&v[i], all[i]);
    OK(index_get_revision(store_snapshot_index(view), INDEX_NS_KV, bytes_of(k->name, k->len), 1 + offset, &v[0], &err));
    MUST(desc || v[0].tx_id == all[0]->tx_id, "another revision");
}

static void read_scan(struct store_snapshot *view, uint64_t view_tx)
{
    unsigned a = (unsigned)pick(KEYS), b = (unsigned)pick(KEYS), low = a < b ? a : b, high = a < b ? b : a;
    struct index_scan_options o = {
        .ns = INDEX_NS_KV, .desc = pick(2) == 0, .inclusive_seek = pick(2) == 0, .inclusive_end = pick(2) == 0, .want_revision = true};
    struct bytes lowb = bytes_of(keys[low].name, keys[low].len), highb = bytes_of(keys[high].name, keys[high].len);
    bool low_in = o.desc ? o.inclusive_end : o.inclusive_seek, high_in = o.desc ? o.inclusive_seek : o.inclusive_end;
    struct index_cursor *cursor;
    struct index_version v;
    uint64_t revision, want_revision;
    struct bytes key;
    struct err err;

    o.seek = o.desc ? highb : lowb;
    o.end = o.desc ? lowb : highb;
    OK(index_scan_open(store_snapshot_index(view), &o, &cursor, &err));
    for (unsigned i = 0; i <= high - low; i++) {
        unsigned at = o.desc ? high - i : low + i;
        const struct version *want = newest(&keys[at], view_tx, &want_revision);

        if (want == NULL || (at == low && !low_in) || (at == high && !high_in))
            continue;
        OK(index_scan_next(cursor, &key, &v, &revision, &err));
        MUST(bytes_equal(key, bytes_of(keys[at].name, keys[at].len)), "another key");
        same(&v, want);
        MUST(revision == want_revision, "revision");
    }
    MUST(index_scan_next(cursor, &key, &v, &revision, &err) == ST_NOT_FOUND, "more keys than expected");
    index_scan_close(cursor);
}

static void read_something(void)
{
    struct store_snapshot *view, *own = NULL;
    uint64_t view_tx;
    struct err err;
    int k = (int)pick(SNAPSHOTS * 2);

    if (k < SNAPSHOTS && kept[k].view != NULL) {
        view = kept[k].view;
        view_tx = kept[k].tx_id;
    } else {
        OK(store_snapshot_open(store, 0, &own, &err));
        view = own;
        view_tx = store_snapshot_tx(view);
        MUST(view_tx == last_tx, "a new snapshot shows tx %lu instead of %lu", view_tx, last_tx);
    }
    switch (pick(12)) {
    case 0:
        read_scan(view, view_tx);
        break;
    case 1:
    case 2:
        read_history(view, view_tx);
        break;
    default:
        read_newest(view, view_tx);
    }
    store_snapshot_close(own);
}

static void upkeep(void)
{
    struct err err;
    bool more;
    int k = (int)pick(SNAPSHOTS);

    switch (pick(10)) {
    case 0:
        OK(store_flush_index(store, &err));
        break;
    case 1:
        if (pick(20) == 0)
            OK(store_compact_index(store, &err));
        break;
    case 2:
    case 3:
        OK(store_maintain(store, &more, &err));
        break;
    case 4:
        OK(store_sync(store, &err));
        break;
    case 5:
        if (pick(10) == 0) {
            closed();
            opened();
        }
        break;
    default:
        store_snapshot_close(kept[k].view);
        kept[k].tx_id = last_tx == 0 ? 0 : 1 + pick(last_tx);
        kept[k].view = NULL;
        if (last_tx > 0)
            OK(store_snapshot_open(store, kept[k].tx_id, &kept[k].view, &err));
    }
}

static bool bad(void *ctx, uint64_t tx_id, const char *what)
{
    (void)ctx;
    MUST(false, "tx %lu: %s", tx_id, what);
    return false;
}

int main(int argc, char **argv)
{
    uint64_t wanted = argc > 1 && strcmp(argv[1], "ci") == 0 ? 1200000 : argc > 1 ? strtoull(argv[1], NULL, 10) : 60000;
    struct err err;

    seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    rng = seed;
    test_env = *env_system();
    test_env.log = log_nothing;
    snprintf(dir, sizeof dir, "%s/immudb-model-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (mkdtemp(dir) == NULL)
        return 1;
    keys_make();
    opened();
    for (operations = 1; operations <= wanted; operations++) {
        uint64_t what = pick(1000);

        if (what < 150)
            write_tx(false);
        else if (what < 200)
            write_tx(true);
        else if (what < 203)
            upkeep();
        else
            read_something();
    }
    OK(store_sync(store, &err));
    OK(store_verify(store, bad, NULL, &err));
    printf("%lu operations, %lu txs, seed %lu: as the model\n", wanted, last_tx, seed);
    closed();
    OK(vfs_remove_tree(vfs_posix(), dir, &err));
    for (unsigned i = 0; i < KEYS; i++)
        free(keys[i].versions);
    return 0;
}
