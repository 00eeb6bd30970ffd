/* Speed of the log on a real disk: appending in batches with and without sync, encoding, random reads of cached and uncached entries, scans through a pin,
 * walking, opening with a long unsealed tail.
 *
 *   log_bench DIR [TXS]      DIR must not exist: it is made and removed; TXS (default 300000) txs of one entry, key 32 and value 100 bytes
 * One line per measurement; run it three times and take the median. */
#include "log/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static struct vfs *vfs;
static struct cache *cache;
static struct budget budget;
static struct log *log_;
static char dir[4000];
static uint64_t sink;

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void must(enum status st, const struct err *err)
{
    if (st != ST_OK) {
        fprintf(stderr, "%s\n", err->text);
        exit(1);
    }
}

static void open_log(size_t memory, uint64_t segment_first)
{
    struct log_options o = {.vfs = vfs, .budget = &budget, .env = env_system(), .dir = dir, .create = true, .segment_bytes_first = segment_first};
    struct log_report report;
    struct err err;
    uint64_t begin;

    budget_init(&budget, memory);
    must(cache_create(vfs, &budget, 64, &cache, &err), &err);
    o.cache = cache;
    begin = now_ns();
    must(log_open(&o, &log_, &report, &err), &err);
    if (report.precommitted_upto > 0)
        printf("%-44s %8.2f ms (%llu txs in the log)\n", report.was_clean ? "open, clean" : "open, not clean", (double)(now_ns() - begin) / 1e6,
               (unsigned long long)report.precommitted_upto);
}

static void close_log(bool clean)
{
    log_close(log_, clean);
    cache_destroy(cache);
}

static struct tx_body *make_body(uint64_t id)
{
    uint8_t key[32] = {0}, value[100];
    struct tx_entry e = {.key = {key, sizeof key}, .value = {value, sizeof value}};
    struct tx_body *b;
    struct err err;

    for (size_t i = 0; i < sizeof value; i++)
        value[i] = (uint8_t)(id * 31 + i);
    store_u64be(key, id * 0x9e3779b97f4a7c15u);
    store_u64be(e.hval.b, id); /* any hval: nobody verifies here */
    must(tx_body_encode(&e, 1, &b, &err), &err);
    return b;
}

/* bytes of value per tx stay the same; encode_ns excludes making the bodies. */
static void append(uint64_t first, uint64_t count, uint64_t per_batch, bool sync, bool vouch)
{
    struct tx_body **bodies = calloc(per_batch, sizeof *bodies);
    struct tx_header h = {.version = 1, .entry_count = 1, .ts = 1700000000};
    uint64_t begin = now_ns(), encode = 0, made = 0, worst = 0, at;
    char what[80];
    struct err err;

    for (uint64_t id = first; id < first + count; id += per_batch) {
        at = now_ns();
        for (uint64_t i = 0; i < per_batch; i++)
            bodies[i] = make_body(id + i);
        made += now_ns() - at;
        at = now_ns();
        must(log_batch_begin(log_, &err), &err);
        for (uint64_t i = 0; i < per_batch; i++) {
            h.id = id + i;
            h.bl_tx_id = h.id - 1;
            must(log_batch_tx(log_, &h, bodies[i], &err), &err);
        }
        encode += now_ns() - at;
        must(log_batch_write(log_, id - 1, &err), &err);
        if (sync)
            must(log_sync(log_, &err), &err);
        if (vouch)
            must(log_vouch(log_, &err), &err);
        at = now_ns() - at;
        worst = at > worst ? at : worst;
        log_publish(log_, id + per_batch - 1);
        for (uint64_t i = 0; i < per_batch; i++)
            tx_body_free(bodies[i]);
        if (log_wants_background(log_)) {
            at = now_ns();
            must(log_advance_background(log_, &err), &err);
            made += now_ns() - at;
        }
    }
    begin = now_ns() - begin - made;
    snprintf(what, sizeof what, "append, %llu per batch, %s%s", (unsigned long long)per_batch, sync ? "sync" : "no sync", vouch ? ", vouch" : "");
    printf("%-44s %8.0f k tx/s  encode %5.0f ns/tx  write+sync %8.1f us/batch  worst %7.2f ms\n", what, (double)count / (double)begin * 1e6,
           (double)encode / (double)count, (double)(begin - encode) / ((double)count / (double)per_batch) / 1e3, (double)worst / 1e6);
    free(bodies);
}

static void read_random(uint64_t first, uint64_t last, uint64_t count, const char *what, bool nowait)
{
    uint64_t random = 88172645463325252u, begin, waits = 0;
    struct log_pin pin = {0};
    struct tx_entry e;
    struct arena arena;
    struct err err;

    arena_init(&arena, 65536, 0);
    begin = now_ns();
    for (uint64_t i = 0; i < count; i++) {
        enum status st;

        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        st = log_entry_read(log_, first + random % (last - first + 1), 0, nowait, true, &arena, &pin, &e, &err);
        if (st == ST_AGAIN)
            waits++;
        else
            must(st, &err);
        sink += e.value.data[0];
    }
    begin = now_ns() - begin;
    log_pin_release(log_, &pin);
    arena_free(&arena);
    printf("%-44s %8.0f ns/entry%s\n", what, (double)begin / (double)count, waits > 0 ? " (some would have waited)" : "");
}

static void read_pinned(uint64_t tx_id, uint32_t entries, uint64_t rounds)
{
    struct log_pin pin = {0};
    struct tx_entry e;
    struct arena arena;
    struct err err;
    uint64_t begin;

    arena_init(&arena, 65536, 0);
    must(log_entry_read(log_, tx_id, 0, false, true, &arena, &pin, &e, &err), &err);
    begin = now_ns();
    for (uint64_t r = 0; r < rounds; r++)
        for (uint32_t i = 0; i < entries; i++) {
            must(log_entry_read(log_, tx_id, i, false, true, &arena, &pin, &e, &err), &err);
            sink += e.value.data[0];
        }
    begin = now_ns() - begin;
    log_pin_release(log_, &pin);
    arena_free(&arena);
    printf("%-44s %8.0f ns/entry\n", "entries of a pinned tx", (double)begin / (double)(rounds * entries));
}

static void append_wide(uint64_t id, uint32_t entries)
{
    struct tx_entry *e = calloc(entries, sizeof *e);
    uint8_t *memory = calloc(entries, 132);
    struct tx_header h = {.id = id, .version = 1, .entry_count = entries};
    struct tx_body *b;
    struct err err;

    for (uint32_t i = 0; i < entries; i++) {
        store_u32be(memory + (size_t)i * 132, i);
        e[i].key = bytes_of(memory + (size_t)i * 132, 32);
        e[i].value = bytes_of(memory + (size_t)i * 132 + 32, 100);
    }
    must(tx_body_encode(e, entries, &b, &err), &err);
    must(log_batch_begin(log_, &err), &err);
    must(log_batch_tx(log_, &h, b, &err), &err);
    must(log_batch_write(log_, 0, &err), &err);
    must(log_sync(log_, &err), &err);
    log_publish(log_, id);
    tx_body_free(b);
    free(e);
    free(memory);
}

static bool visit(void *ctx, struct log_tx *t)
{
    *(uint64_t *)ctx += t->entry_count;
    return true;
}

static void drop_page_cache(void)
{
    FILE *f;

    sync();
    f = fopen("/proc/sys/vm/drop_caches", "w");
    if (f != NULL) {
        fputs("1", f);
        fclose(f);
    }
}

int main(int argc, char **argv)
{
    uint64_t txs = argc > 2 ? strtoull(argv[2], NULL, 10) : 300000, id = 1, entries = 0, begin;
    char inner[4096];
    struct err err;

    if (argc < 2) {
        fprintf(stderr, "usage: log_bench DIR [TXS]\n");
        return 2;
    }
    vfs = vfs_posix();
    snprintf(inner, sizeof inner, "%s", argv[1]);
    must(vfs->ops->mkdir(vfs, inner, &err), &err);
    snprintf(dir, sizeof dir, "%.3980s/log", argv[1]);
    open_log((size_t)1 << 30, 0);
    append(id, 3000, 1, true, false);
    id += 3000;
    append(id, 3000, 1, true, true);
    id += 3000;
    append(id, 3000, 1, true, false);
    id += 3000;
    append(id, 3000, 1, true, true);
    id += 3000;
    append(id, 16000, 16, true, true);
    id += 16000;
    append(id, 128000, 128, true, true);
    id += 128000;
    append(id, txs / 10, 1, false, false);
    id += txs / 10;
    append(id, txs / 16 * 16, 16, false, false);
    id += txs / 16 * 16;
    append(id, txs / 128 * 128, 128, false, false);
    id += txs / 128 * 128;
    must(log_sync(log_, &err), &err);
    append_wide(id, 60);
    log_note_committed(log_, id);
    read_random(1, 50000, 200000, "random entry, mostly not in the cache", false);
    read_random(1, 50000, 1000000, "random entry, cached (50,000 txs)", true);
    read_random(1, 1000, 1000000, "random entry, cached (1,000 txs)", true);
    read_pinned(id, 60, 20000);
    begin = now_ns();
    must(log_walk(log_, 1, id, visit, &entries, &err), &err);
    printf("%-44s %8.0f ns/tx\n", "walk", (double)(now_ns() - begin) / (double)id);
    close_log(false);
    open_log((size_t)16 << 20, 0);
    read_random(1, id - 1, 200000, "random entry, cache of 6 MiB, page cache", false);
    drop_page_cache();
    read_random(1, id - 1, 5000, "random entry, cold disk", false);
    close_log(true);
    open_log((size_t)16 << 20, 0);
    close_log(true);
    /* One long unsealed tail: the largest segment, full. */
    must(vfs_remove_tree(vfs, inner, &err), &err);
    must(vfs->ops->mkdir(vfs, inner, &err), &err);
    open_log((size_t)1 << 30, (uint64_t)64 << 20);
    append(1, 230000 / 128 * 128, 128, false, false);
    must(log_sync(log_, &err), &err);
    must(log_vouch(log_, &err), &err);
    close_log(false);
    open_log((size_t)1 << 30, (uint64_t)64 << 20);
    close_log(true);
    must(vfs_remove_tree(vfs, inner, &err), &err);
    return sink == 42 ? 3 : 0;
}
