/* Measures the key index: index_bench DIR [entries] [memtable MiB] [cache MiB]
 *
 * 32-byte keys, one version each, transactions of 1,000 entries; ascending ("user:" and a number) and random keys. First with all in
 * memory (no flush), then with a background thread that flushes and merges on the disk under DIR. DIR is made and emptied. */
#include "index/index.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TX_ENTRIES 1000u
#define KEY_LEN 32u

static uint64_t mix(uint64_t z)
{
    z = (z + 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static void key_make(uint8_t *key, uint64_t i, bool is_random)
{
    if (is_random) {
        for (unsigned j = 0; j < KEY_LEN; j += 8)
            store_u64be(key + j, mix(i * 4 + j));
    } else {
        char text[64];
        (void)snprintf(text, sizeof text, "user:%027llu", (unsigned long long)i);
        memcpy(key, text, KEY_LEN);
    }
}

static double seconds(void) { return (double)env_mono_ns(env_system()) * 1e-9; }

static void must(enum status st, const struct err *err)
{
    if (st != ST_OK) {
        (void)fprintf(stderr, "%s: %s\n", status_name(st), err->text);
        exit(1);
    }
}

static enum status dir_remove(const char *dir, struct err *err)
{
    enum status st = vfs_remove_tree(vfs_posix(), dir, err);
    return st == ST_NOT_FOUND ? ST_OK : st;
}

static size_t rss_mib(void)
{
    unsigned long long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f == NULL)
        return 0;
    if (fscanf(f, "%llu %llu", &size, &resident) != 2)
        resident = 0;
    (void)fclose(f);
    return (size_t)(resident * (unsigned long long)sysconf(_SC_PAGESIZE) >> 20);
}

struct background {
    struct index *x;
    _Atomic bool stop;
    pthread_t thread;
};

static void *background_run(void *ctx)
{
    struct background *b = ctx;
    struct err err = {0};
    bool more = false;

    while (!atomic_load(&b->stop)) {
        if (index_wants_flush(b->x))
            must(index_flush(b->x, index_published(b->x), false, &err), &err);
        must(index_merge(b->x, &more, &err), &err);
        if (!more && !index_wants_flush(b->x))
            usleep(1000);
    }
    return NULL;
}

static double insert_all(struct index *x, uint64_t entries, bool is_random)
{
    static uint8_t keys[TX_ENTRIES][KEY_LEN];
    static struct index_entry batch[TX_ENTRIES];
    struct err err = {0};
    double spent = 0;

    for (uint64_t i = 0; i < entries; i += TX_ENTRIES) {
        uint64_t tx_id = i / TX_ENTRIES + 1;
        double start;

        for (uint32_t j = 0; j < TX_ENTRIES; j++) {
            key_make(keys[j], i + j, is_random);
            batch[j] = (struct index_entry){0, bytes_of(keys[j], KEY_LEN), {tx_id, j, 64, 0, false, false}};
        }
        start = seconds();
        while (index_is_behind(x))
            usleep(200);
        must(index_insert(x, batch, TX_ENTRIES, &err), &err);
        index_publish(x, tx_id);
        spent += seconds() - start;
    }
    return spent;
}

static void reads_measure(struct index *x, uint64_t entries, bool is_random, const char *what)
{
    enum { GETS = 300000, SCANS = 2000, SCAN_KEYS = 1000 };
    struct index_snapshot *s = NULL;
    struct index_version v;
    uint64_t revision, sum = 0;
    struct err err = {0};
    uint8_t key[KEY_LEN];
    double start, key_cost, open_cost;

    start = seconds();
    for (uint64_t i = 0; i < GETS; i++) {
        key_make(key, mix(i) % entries, is_random);
        sum += key[31];
    }
    key_cost = (seconds() - start) / GETS;
    start = seconds();
    for (uint64_t i = 0; i < GETS; i++) {
        must(index_snapshot_open(x, 0, &s, &err), &err);
        index_snapshot_close(s);
    }
    open_cost = (seconds() - start) / GETS;
    must(index_snapshot_open(x, 0, &s, &err), &err);
    for (int round = 0; round < 4; round++) { /* the first warms the cache */
        start = seconds();
        for (uint64_t i = 0; i < GETS; i++) {
            key_make(key, mix(i + (round == 3 ? 1000000000u : 0)) % entries, is_random);
            if (round == 3)
                key[3] ^= 0x80; /* a key that is not there */
            enum status st = index_get(s, 0, bytes_of(key, KEY_LEN), false, &v, round == 2 ? &revision : NULL, &err);
            if (round < 3)
                must(st, &err);
            sum += v.tx_id;
        }
        if (round > 0)
            (void)printf("  %s: %s %.0f ns\n", what,
                         round == 1   ? "get"
                         : round == 2 ? "get with revision"
                                      : "get of a missing key",
                         ((seconds() - start) / GETS - key_cost) * 1e9);
    }
    (void)printf("  %s: snapshot open and close %.0f ns\n", what, open_cost * 1e9);
    for (int round = 0; round < 4; round++) {
        struct index_scan_options o = {.desc = round == 3, .want_revision = round == 2, .inclusive_seek = true};
        uint64_t count = 0;

        start = seconds();
        for (uint64_t i = 0; i < SCANS; i++) {
            struct index_cursor *c = NULL;
            struct bytes found;

            key_make(key, mix(i) % entries, is_random);
            o.seek = bytes_of(key, KEY_LEN);
            must(index_scan_open(s, &o, &c, &err), &err);
            for (unsigned k = 0; k < SCAN_KEYS && index_scan_next(c, &found, &v, &revision, &err) == ST_OK; k++)
                count++;
            index_scan_close(c);
        }
        if (round > 0)
            (void)printf("  %s: scan of 1,000 keys%s %.1f us (%.2f M keys/s)\n", what,
                         round == 2   ? " with revision"
                         : round == 3 ? " descending"
                                      : "",
                         (seconds() - start) / SCANS * 1e6, (double)count / (seconds() - start) / 1e6);
    }
    {
        struct index_scan_options o = {.ns = 0};
        struct index_cursor *c = NULL;
        struct bytes found;
        uint64_t count = 0;

        start = seconds();
        must(index_scan_open(s, &o, &c, &err), &err);
        while (index_scan_next(c, &found, &v, &revision, &err) == ST_OK)
            count++;
        index_scan_close(c);
        (void)printf("  %s: full scan %.2f M keys/s\n", what, (double)count / (seconds() - start) / 1e6);
        start = seconds();
        must(index_count(s, 0, bytes_of(NULL, 0), &count, &err), &err);
        (void)printf("  %s: count of %llu keys %.2f ms\n", what, (unsigned long long)count, (seconds() - start) * 1e3);
    }
    index_snapshot_close(s);
    if (sum == 42)
        (void)printf("\n");
}

static void run(const char *dir, uint64_t entries, size_t memtable, size_t cache_bytes, bool is_random, bool is_memory)
{
    struct budget budget;
    struct cache *cache = NULL;
    struct index *x = NULL;
    struct background b = {0};
    struct index_stats stats;
    struct err err = {0};
    double start, spent, total;
    struct index_options o = {.vfs = vfs_posix(),
                              .budget = &budget,
                              .env = env_system(),
                              .dir = dir,
                              .uuid = "bench",
                              .memtable_bytes_max = is_memory ? (size_t)1 << 30 : memtable,
                              .runs_max = 12};

    must(dir_remove(dir, &err), &err);
    budget_init(&budget, cache_bytes * 8 / 3);
    must(cache_create(vfs_posix(), &budget, 64, &cache, &err), &err);
    o.cache = cache;
    must(index_open(&o, UINT64_MAX, &x, &err), &err);
    b.x = x;
    (void)printf("%s keys, %llu entries, %s\n", is_random ? "random" : "ascending", (unsigned long long)entries,
                 is_memory ? "in memory" : "flushed and merged");
    if (!is_memory)
        (void)pthread_create(&b.thread, NULL, background_run, &b);
    start = seconds();
    spent = insert_all(x, entries, is_random);
    total = seconds() - start;
    index_stats(x, &stats);
    (void)printf("  insert %.0f ns, %.2f M/s (with making the keys %.2f M/s); memtables %.1f bytes per entry held, rss %zu MiB\n",
                 spent / (double)entries * 1e9, (double)entries / spent / 1e6, (double)entries / total / 1e6,
                 stats.memtable_entries == 0 ? 0 : (double)stats.memtable_bytes / (double)stats.memtable_entries, rss_mib());
    if (!is_memory) {
        while (index_wants_flush(x) || index_wants_merge(x))
            usleep(1000);
        atomic_store(&b.stop, true);
        (void)pthread_join(b.thread, NULL);
        must(index_flush(x, index_published(x), true, &err), &err);
        total = seconds() - start;
        index_stats(x, &stats);
        (void)printf("  all in runs after %.2f s: %.2f M/s; %llu runs, %llu merges, %.1f bytes per entry kept, %.1f written\n", total,
                     (double)entries / total / 1e6, (unsigned long long)stats.runs, (unsigned long long)stats.merges,
                     (double)stats.run_bytes / (double)entries, (double)(stats.flush_bytes + stats.merge_bytes) / (double)entries);
    }
    reads_measure(x, entries, is_random, is_memory ? "memory" : "runs");
    if (!is_memory) {
        start = seconds();
        must(index_compact(x, &err), &err);
        index_stats(x, &stats);
        (void)printf("  compact %.2f s, %.1f bytes per entry\n", seconds() - start, (double)stats.run_bytes / (double)entries);
        reads_measure(x, entries, is_random, "one run");
    }
    index_close(x);
    start = seconds();
    must(index_open(&o, UINT64_MAX, &x, &err), &err);
    if (!is_memory)
        (void)printf("  reopen %.2f ms, rss %zu MiB\n", (seconds() - start) * 1e3, rss_mib());
    index_close(x);
    cache_destroy(cache);
    must(dir_remove(dir, &err), &err);
}

int main(int argc, char **argv)
{
    uint64_t entries = argc > 2 ? strtoull(argv[2], NULL, 10) : 1000000;
    size_t memtable = (argc > 3 ? strtoull(argv[3], NULL, 10) : 64) << 20, cache_bytes = (argc > 4 ? strtoull(argv[4], NULL, 10) : 512) << 20;

    if (argc < 2 || entries < TX_ENTRIES) {
        (void)fprintf(stderr, "usage: index_bench DIR [entries] [memtable MiB] [cache MiB]\n");
        return 2;
    }
    entries -= entries % TX_ENTRIES;
    for (int is_random = 0; is_random < 2; is_random++) {
        if (entries <= 5000000)
            run(argv[1], entries, memtable, cache_bytes, is_random != 0, true);
        run(argv[1], entries, memtable, cache_bytes, is_random != 0, false);
    }
    return 0;
}
