/* Measures the store by itself, on the operating system's files: commits of single entries from many threads, batches with sequential keys, the cost of a
 * snapshot, of a point read, of proofs, and of opening.
 *
 * Usage: store_bench DIRECTORY [async N | durable N | batches N | reads | open]...   (default: all, with moderate N) */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/store.h"
#include "vfs/vfs.h"

static struct runtime *runtime;
static char dir[3000];

static double seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void ok(enum status st, const struct err *err)
{
    if (st == ST_OK)
        return;
    fprintf(stderr, "%s\n", err->text);
    exit(1);
}

static struct store *open_fresh(enum store_durability durability)
{
    struct store_options o = {.runtime = runtime, .dir = dir, .create = true, .durability = durability, .tx_version = 1};
    struct store *s;
    struct err err;

    if (vfs_remove_tree(vfs_posix(), dir, NULL) != ST_OK) { /* it was not there */
    }
    ok(store_open(&o, &s, &err), &err);
    return s;
}

struct worker {
    struct store *store;
    uint64_t first, count;
    unsigned entries;
    pthread_t thread;
};

static void *work(void *ctx)
{
    struct worker *w = ctx;
    uint8_t(*keys)[17] = malloc(w->entries * sizeof *keys);
    static const uint8_t value[33] = "\0value value value value value va";
    struct store_result r;
    struct err err;

    for (uint64_t i = 0; i < w->count; i++) {
        struct store_draft *d;

        ok(draft_create(w->store, &d, &err), &err);
        for (unsigned e = 0; e < w->entries; e++) {
            keys[e][0] = 0;
            memset(keys[e] + 1, 0, 8);
            store_u64be(keys[e] + 9, w->first + i * w->entries + e);
            ok(draft_set(d, bytes_of(keys[e], 17), NULL, bytes_of(value, sizeof value), &err), &err);
        }
        ok(store_commit(w->store, d, false, &r, &err), &err);
    }
    free(keys);
    return NULL;
}

static double run(struct store *s, unsigned threads, uint64_t total_txs, unsigned entries)
{
    struct worker *w = calloc(threads, sizeof *w);
    double start = seconds();

    for (unsigned i = 0; i < threads; i++) {
        w[i] = (struct worker){.store = s, .count = total_txs / threads, .entries = entries};
        w[i].first = i * w[i].count * entries;
        pthread_create(&w[i].thread, NULL, work, &w[i]);
    }
    for (unsigned i = 0; i < threads; i++)
        pthread_join(w[i].thread, NULL);
    free(w);
    return seconds() - start;
}

static void stats(struct store *s)
{
    struct store_stats st;

    store_get_stats(s, &st);
    printf("    %" PRIu64 " batches, %" PRIu64 " syncs, mean sync %.0f us, disk %.1f MB, runs %" PRIu64 ", flushes %" PRIu64 ", merges %" PRIu64 "\n",
           st.batches, st.log.syncs, st.log.syncs > 0 ? (double)st.log.sync_ns_total / (double)st.log.syncs / 1e3 : 0, (double)st.disk_bytes / 1e6,
           st.index.runs, st.index.flushes, st.index.merges);
}

static void bench_commits(enum store_durability durability, unsigned threads, uint64_t n)
{
    struct store *s = open_fresh(durability);
    double t = run(s, threads, n, 1);

    printf("%s, %u threads, %" PRIu64 " single-entry txs: %.0f tx/s\n", durability == STORE_ASYNC ? "async" : "durable", threads, n, (double)n / t);
    stats(s);
    t = seconds();
    store_close(s);
    printf("    close %.0f ms\n", (seconds() - t) * 1e3);
}

static void bench_batches(uint64_t n)
{
    struct store *s = open_fresh(STORE_ASYNC);
    struct err err;
    double t = run(s, 16, n / 1000, 1000), start;

    printf("16 writers x batches of 1,000 sequential keys, %" PRIu64 " entries: %.2f M entries/s\n", n,
           (double)(uint64_t)(n / 1000 * 1000) / t / 1e6);
    stats(s);
    start = seconds();
    ok(store_sync(s, &err), &err);
    printf("    final sync %.0f ms\n", (seconds() - start) * 1e3);
    store_close(s);
}

static double each_ns(double start, uint64_t n) { return (seconds() - start) / (double)n * 1e9; }

static void bench_reads(void)
{
    enum { N = 200000 };
    struct store *s = open_fresh(STORE_ASYNC);
    struct store_snapshot *sn;
    struct store_state state;
    struct arena arena;
    struct log_pin pin = {.tx_id = 0};
    struct err err;
    double start;
    uint64_t rng = 1;

    run(s, 1, N, 1);
    run(s, 1, 10, 500);
    ok(store_sync(s, &err), &err);
    arena_init(&arena, 65536, 0);
    start = seconds();
    for (int i = 0; i < N; i++) {
        ok(store_snapshot_open(s, 0, &sn, &err), &err);
        store_snapshot_close(sn);
    }
    printf("snapshot open + close: %.0f ns\n", each_ns(start, N));
    start = seconds();
    for (int i = 0; i < N; i++)
        store_get_state(s, &state);
    printf("state: %.0f ns\n", each_ns(start, N));
    ok(store_snapshot_open(s, 0, &sn, &err), &err);
    for (int round = 0; round < 2; round++) {
        start = seconds();
        for (int i = 0; i < N; i++) {
            struct index_version v;
            struct tx_entry e;
            uint8_t key[16] = {0};

            rng = rng * 6364136223846793005u + 1442695040888963407u;
            store_u64be(key + 8, (rng >> 33) % N);
            ok(index_get(store_snapshot_index(sn), INDEX_NS_KV, bytes_of(key, 16), false, &v, NULL, &err), &err);
            ok(store_entry_read(s, v.tx_id, v.entry_index, false, true, &arena, &pin, &e, &err), &err);
            arena_reset(&arena);
        }
        printf("random get with value: %.0f ns (%s)\n", each_ns(start, N), round == 0 ? "first" : "again");
    }
    store_pin_release(s, &pin);
    store_snapshot_close(sn);
    start = seconds();
    for (int i = 0; i < N / 10; i++) {
        struct dual_proof proof;

        rng = rng * 6364136223846793005u + 1442695040888963407u;
        ok(store_dual_proof(s, 1 + (rng >> 33) % (N - 1), state.tx_id, &arena, &proof, &err), &err);
        arena_reset(&arena);
    }
    printf("dual proof: %.0f ns\n", each_ns(start, N / 10));
    start = seconds();
    for (int i = 0; i < N / 10; i++) {
        struct merkle_path path;
        struct log_tx t;

        ok(store_tx_open(s, N + 1 + (uint64_t)i % 10, false, &t, &err), &err);
        ok(store_entry_inclusion(s, &t, (uint32_t)i % 500, &arena, &path, &err), &err);
        store_tx_close(s, &t);
        arena_reset(&arena);
    }
    printf("inclusion of an entry in a tx of 500: %.0f ns\n", each_ns(start, N / 10));
    arena_free(&arena);
    store_close(s);
}

static void bench_open(void)
{
    struct store_options o = {.runtime = runtime, .dir = dir, .durability = STORE_ASYNC, .tx_version = 1};
    struct store *s = open_fresh(STORE_ASYNC);
    struct err err;
    double start;

    run(s, 16, 1000000, 1);
    store_close(s);
    for (int i = 0; i < 2; i++) {
        start = seconds();
        ok(store_open(&o, &s, &err), &err);
        printf("open with 1,000,000 txs: %.0f ms, indexed %" PRIu64 "\n", (seconds() - start) * 1e3, store_indexed(s));
        store_close(s);
    }
}

int main(int argc, char **argv)
{
    struct runtime_options ro = {.memory_limit = (size_t)1 << 30};
    struct err err;

    if (argc < 2) {
        fprintf(stderr, "usage: %s DIRECTORY [async N | durable N | batches N | reads | open]\n", argv[0]);
        return 2;
    }
    snprintf(dir, sizeof dir, "%s/store_bench.db", argv[1]);
    ok(runtime_create(&ro, &runtime, &err), &err);
    if (argc == 2) {
        bench_commits(STORE_ASYNC, 128, 1000000);
        bench_commits(STORE_ASYNC, 1, 500000);
        bench_commits(STORE_DURABLE, 128, 500000);
        bench_commits(STORE_DURABLE, 1, 10000);
        bench_batches(10000000);
        bench_reads();
        bench_open();
    }
    for (int i = 2; i < argc; i++) {
        uint64_t n = i + 1 < argc ? strtoull(argv[i + 1], NULL, 10) : 0;

        if (strcmp(argv[i], "async") == 0)
            bench_commits(STORE_ASYNC, 128, n), i++;
        else if (strcmp(argv[i], "durable") == 0)
            bench_commits(STORE_DURABLE, 128, n), i++;
        else if (strcmp(argv[i], "batches") == 0)
            bench_batches(n), i++;
        else if (strcmp(argv[i], "reads") == 0)
            bench_reads();
        else if (strcmp(argv[i], "open") == 0)
            bench_open();
    }
    if (vfs_remove_tree(vfs_posix(), dir, NULL) != ST_OK) { /* it was not there */
    }
    runtime_destroy(runtime);
    return 0;
}
