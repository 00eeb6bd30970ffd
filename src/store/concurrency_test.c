/* Proves that threads do not disturb each other; made for the thread sanitizer.
 *
 * Together on one store: writers that increment shared counters by read-modify-write with a read set (every success counts exactly once), writers of pairs
 * of keys in one tx, drafts submitted to the pool, readers whose snapshots must always show both keys of a pair alike, a prover who checks that each
 * state extends the one before, and somebody who flushes, compacts, truncates and syncs. In durable mode, asynchronous mode, and with external
 * commit under a thread that allows. At the end: sums, verification of every hash. Then closing with a full queue: every callback comes, and what was
 * acknowledged is there after reopening.
 *
 * Argument: seconds per mode (default 1). */
#include "base/test.h"
#include "store/store.h"
#include "vfs/vfs_memory.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { COUNTERS = 4, PAIRS = 8, WRITERS = 3 };

static struct store *store;
static struct runtime *runtime;
static struct store_options options;
static _Atomic bool is_over;
static _Atomic uint64_t increments, conflicts, submitted, finished, acked;
static _Atomic uint64_t acked_tx;
static double run_seconds = 1;

static void ok_(enum status st, const struct err *err, const char *what, int line)
{
    if (st == ST_OK)
        return;
    fprintf(stderr, "line %d: %s: %s\n", line, what, err->text);
    abort();
}
#define OK(call) ok_((call), &err, #call, __LINE__)

static void log_nothing(void *ctx, enum log_level level, const char *text)
{
    (void)ctx;
    (void)level;
    (void)text;
}
static struct env test_env;

/* Value of a key in a view, 0 when it was never set. */
static uint64_t read_number(struct store_snapshot *view, const uint8_t *key, size_t len)
{
    struct log_pin pin = {.tx_id = 0};
    struct index_version v;
    struct arena arena;
    struct tx_entry e;
    struct err err;
    uint64_t out = 0;
    enum status st = index_get(store_snapshot_index(view), INDEX_NS_KV, bytes_of(key + 1, len - 1), false, &v, NULL, &err);

    if (st == ST_NOT_FOUND)
        return 0;
    OK(st);
    arena_init(&arena, 256, 0);
    OK(store_entry_read(store, v.tx_id, v.entry_index, false, true, &arena, &pin, &e, &err));
    if (e.value.len == 8)
        out = load_u64be(e.value.data);
    store_pin_release(store, &pin);
    arena_free(&arena);
    return out;
}

static void *increment(void *ctx)
{
    uint64_t rng = (uint64_t)(uintptr_t)ctx;

    while (!atomic_load(&is_over)) {
        uint8_t key[3] = {0, 'c', (uint8_t)(test_random(&rng) % COUNTERS)}, value[8];
        struct store_snapshot *view;
        struct store_result r;
        struct store_draft *d;
        struct err err;
        enum status st;

        OK(store_snapshot_open(store, 0, &view, &err));
        store_u64be(value, read_number(view, key, 3) + 1);
        OK(draft_create(store, &d, &err));
        OK(draft_set(d, bytes_of(key, 3), NULL, bytes_of(value, 8), &err));
        if (test_random(&rng) % 2 == 0)
            OK(draft_read_point(d, bytes_of(key, 3), store_snapshot_tx(view), &err));
        else
            OK(draft_read_range(d, bytes_of(key, 3), bytes_of(key, 3), store_snapshot_tx(view), &err));
        store_snapshot_close(view);
        st = store_commit(store, d, test_random(&rng) % 4 == 0, &r, &err);
        if (st == ST_CONFLICT) {
            atomic_fetch_add(&conflicts, 1);
            continue;
        }
        if (st == ST_LIMIT || st == ST_CLOSED)
            continue; /* external commit: too many at once */
        OK(st);
        atomic_fetch_add(&increments, 1);
    }
    return NULL;
}

static void pair_fill(struct store_draft *d, uint8_t a[4], uint8_t b[4], uint8_t value[8])
{
    struct err err;

    OK(draft_set(d, bytes_of(a, 4), NULL, bytes_of(value, 8), &err));
    OK(draft_set(d, bytes_of(b, 4), NULL, bytes_of(value, 8), &err));
}

struct pair_draft { /* bytes of a submitted draft, until it is done */
    uint8_t a[4], b[4], value[8];
};

static void pair_done(void *ctx, const struct store_draft *d, const struct store_result *r)
{
    uint64_t seen = atomic_load(&acked_tx);

    (void)d;
    if (r->status == ST_OK) {
        atomic_fetch_add(&acked, 1);
        while (r->header.id > seen && !atomic_compare_exchange_weak(&acked_tx, &seen, r->header.id)) {}
    } else if (r->status != ST_CLOSED && r->status != ST_LIMIT) {
        fprintf(stderr, "submitted: %s\n", r->err.text);
        abort();
    }
    free(ctx);
    atomic_fetch_add(&finished, 1);
}

static void pair_submit(uint64_t *rng, enum store_drive drive)
{
    struct pair_draft *p = calloc(1, sizeof *p);
    struct store_draft *d;
    struct err err;

    p->a[1] = p->b[1] = 'p';
    p->a[2] = p->b[2] = (uint8_t)(test_random(rng) % PAIRS);
    p->b[3] = 1;
    store_u64be(p->value, test_random(rng));
    OK(draft_create(store, &d, &err));
    pair_fill(d, p->a, p->b, p->value);
    atomic_fetch_add(&submitted, 1);
    store_submit(store, d, test_random(rng) % 8 == 0, drive, pair_done, p);
}

static void *submit_pairs(void *ctx)
{
    uint64_t rng = (uint64_t)(uintptr_t)ctx;

    while (!atomic_load(&is_over)) {
        pair_submit(&rng, test_random(&rng) % 2 == 0 ? STORE_DRIVE_POOL : STORE_DRIVE_INLINE);
        while (atomic_load(&submitted) - atomic_load(&finished) > 200 && !atomic_load(&is_over))
            sched_yield();
    }
    return NULL;
}

static void *read_pairs(void *ctx)
{
    uint64_t rng = (uint64_t)(uintptr_t)ctx;

    while (!atomic_load(&is_over)) {
        struct store_snapshot *view;
        struct err err;

        OK(store_snapshot_open(store, 0, &view, &err));
        for (int i = 0; i < 20; i++) {
            uint8_t a[4] = {0, 'p', (uint8_t)(test_random(&rng) % PAIRS), 0}, b[4] = {0, 'p', a[2], 1};

            if (read_number(view, a, 4) != read_number(view, b, 4)) {
                fprintf(stderr, "a snapshot shows half of a transaction\n");
                abort();
            }
        }
        store_snapshot_close(view);
    }
    return NULL;
}

static void *prove(void *ctx)
{
    struct store_state last, now;
    struct dual_proof p;
    struct arena arena;
    struct err err;

    (void)ctx;
    arena_init(&arena, 16384, 0);
    store_get_state(store, &last);
    while (!atomic_load(&is_over)) {
        store_get_state(store, &now);
        if (now.tx_id < last.tx_id || now.visible_tx_id < now.tx_id) {
            fprintf(stderr, "the state went back\n");
            abort();
        }
        if (last.tx_id > 0) {
            OK(store_dual_proof(store, last.tx_id, now.tx_id, &arena, &p, &err));
            if (!dual_proof_verify(&p, last.tx_id, now.tx_id, &last.alh, &now.alh)) {
                fprintf(stderr, "proof %lu to %lu does not hold\n", last.tx_id, now.tx_id);
                abort();
            }
            arena_reset(&arena);
        }
        last = now;
    }
    arena_free(&arena);
    return NULL;
}

static void *maintain(void *ctx)
{
    uint64_t rng = (uint64_t)(uintptr_t)ctx, freed;
    struct store_health health;
    struct store_stats stats;
    struct err err;
    bool more;

    while (!atomic_load(&is_over)) {
        switch (test_random(&rng) % 6) {
        case 0:
            OK(store_flush_index(store, &err));
            break;
        case 1:
            OK(store_maintain(store, &more, &err));
            break;
        case 2:
            OK(store_sync(store, &err));
            break;
        case 3:
            store_get_stats(store, &stats);
            store_health(store, &health);
            break;
        case 4:
            OK(store_wait(store, store_indexed(store), 0, &err));
            break;
        default:
            if (test_random(&rng) % 8 == 0)
                OK(store_compact_index(store, &err));
            (void)freed;
        }
        sched_yield();
    }
    return NULL;
}

static void *allow(void *ctx)
{
    struct store_state s;
    struct err err;

    (void)ctx;
    /* goes on until nothing is submitted any more: waiting writers depend on it */
    while (!atomic_load(&is_over) || atomic_load(&submitted) != atomic_load(&finished)) {
        store_get_state(store, &s);
        if (s.precommitted_tx_id > s.tx_id)
            OK(store_allow_commit(store, s.precommitted_tx_id, &s.precommitted_alh, &err));
        else
            sched_yield();
    }
    return NULL;
}

static bool bad(void *ctx, uint64_t tx_id, const char *what)
{
    (void)ctx;
    fprintf(stderr, "tx %lu: %s\n", tx_id, what);
    abort();
}

static void open_store(void)
{
    struct err err;

    OK(store_open(&options, &store, &err));
}

static void begin(struct vfs *vfs, enum store_durability durability, bool external)
{
    struct runtime_options ro = {.vfs = vfs, .env = &test_env, .memory_limit = 64 << 20};
    struct err err;

    OK(runtime_create(&ro, &runtime, &err));
    options = (struct store_options){.runtime = runtime,
                                     .dir = "db",
                                     .create = true,
                                     .tx_version = 1,
                                     .durability = durability,
                                     .external_commit = external,
                                     .segment_bytes_first = 64 << 10,
                                     .segment_bytes_max = 256 << 10,
                                     .memtable_bytes_max = 128 << 10,
                                     .async_sync_interval_ns = 2000000};
    open_store();
}

static void together(enum store_durability durability, bool external)
{
    struct vfs *vfs = vfs_memory_create();
    pthread_t threads[16];
    int count = 0;
    struct timespec pause = {(time_t)run_seconds, (long)((run_seconds - (double)(time_t)run_seconds) * 1e9)};
    struct store_snapshot *view;
    struct store_state s;
    uint64_t sum = 0;
    struct err err;

    atomic_store(&is_over, false);
    atomic_store(&increments, 0);
    begin(vfs, durability, external);
    if (external)
        pthread_create(&threads[count++], NULL, allow, NULL);
    for (uintptr_t i = 0; i < WRITERS; i++)
        pthread_create(&threads[count++], NULL, increment, (void *)(i + 1));
    pthread_create(&threads[count++], NULL, submit_pairs, (void *)(uintptr_t)11);
    pthread_create(&threads[count++], NULL, read_pairs, (void *)(uintptr_t)12);
    pthread_create(&threads[count++], NULL, read_pairs, (void *)(uintptr_t)13);
    pthread_create(&threads[count++], NULL, prove, NULL);
    pthread_create(&threads[count++], NULL, maintain, (void *)(uintptr_t)14);
    nanosleep(&pause, NULL);
    atomic_store(&is_over, true);
    /* With external commit writers may be waiting for an allowance that the ended thread did not give. */
    for (int i = external ? 1 : 0; i < count; i++) {
        while (external && pthread_tryjoin_np(threads[i], NULL) != 0) {
            store_get_state(store, &s);
            if (s.precommitted_tx_id > s.tx_id)
                OK(store_allow_commit(store, s.precommitted_tx_id, NULL, &err));
            sched_yield();
        }
        if (!external)
            pthread_join(threads[i], NULL);
    }
    while (atomic_load(&submitted) != atomic_load(&finished)) {
        if (external) {
            store_get_state(store, &s);
            if (s.precommitted_tx_id > s.tx_id)
                OK(store_allow_commit(store, s.precommitted_tx_id, NULL, &err));
        }
        sched_yield();
    }
    if (external)
        pthread_join(threads[0], NULL);
    OK(store_sync(store, &err));
    OK(store_snapshot_open(store, 0, &view, &err));
    for (int i = 0; i < COUNTERS; i++)
        sum += read_number(view, (const uint8_t[]){0, 'c', (uint8_t)i}, 3);
    store_snapshot_close(view);
    if (sum != atomic_load(&increments)) {
        fprintf(stderr, "%lu increments were acknowledged, the counters say %lu\n", atomic_load(&increments), sum);
        abort();
    }
    store_get_state(store, &s);
    OK(store_verify(store, bad, NULL, &err));
    printf("%s: %lu txs, %lu increments, %lu conflicts\n",
           external                    ? "external"
           : durability == STORE_ASYNC ? "async"
                                       : "durable",
           s.tx_id, sum, atomic_load(&conflicts));
    store_close(store);
    runtime_destroy(runtime);
    vfs_memory_destroy(vfs);
}

static void closing(enum store_durability durability)
{
    struct vfs *vfs = vfs_memory_create();
    struct store_state s;
    uint64_t rng = 5;

    begin(vfs, durability, false);
    for (int round = 0; round < 20; round++) {
        atomic_store(&acked_tx, 0);
        for (int i = 0; i < 100; i++)
            pair_submit(&rng, STORE_DRIVE_POOL);
        store_close(store);
        if (atomic_load(&submitted) != atomic_load(&finished)) {
            fprintf(stderr, "closed with %lu drafts unanswered\n", atomic_load(&submitted) - atomic_load(&finished));
            abort();
        }
        open_store();
        store_get_state(store, &s);
        if (s.tx_id < atomic_load(&acked_tx)) {
            fprintf(stderr, "tx %lu was acknowledged, the store ends at %lu\n", atomic_load(&acked_tx), s.tx_id);
            abort();
        }
    }
    store_close(store);
    runtime_destroy(runtime);
    vfs_memory_destroy(vfs);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        run_seconds = atof(argv[1]);
    test_env = *env_system();
    test_env.log = log_nothing;
    together(STORE_DURABLE, false);
    together(STORE_ASYNC, false);
    together(STORE_DURABLE, true);
    closing(STORE_DURABLE);
    closing(STORE_ASYNC);
    return 0;
}
