/* How long a database takes to open with its tree whole and with its tree lost; how long the rebuild takes, and what a commit costs meanwhile.
 *
 *   tree_rebuild_bench DIRECTORY [TXS]     (default 3,000,000; the directory is removed first) */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "store/store.h"
#include "vfs/vfs.h"

static struct runtime *runtime;
static const char *dir;

static double seconds_of(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}
static double seconds(void) { return seconds_of(CLOCK_MONOTONIC); }

static void ok(enum status st, const struct err *err)
{
    if (st == ST_OK)
        return;
    fprintf(stderr, "%s\n", err->text);
    exit(1);
}

static void commit(struct store *s, uint64_t n)
{
    struct store_draft *d = NULL;
    struct store_result r;
    uint8_t key[9] = {0};
    struct err err;

    store_u64be(key + 1, n % 1000);
    ok(draft_create(s, &d, &err), &err);
    ok(draft_set(d, bytes_of(key, sizeof key), NULL, bytes_of(key, 1), &err), &err);
    ok(store_commit(s, d, false, &r, &err), &err);
}

static struct store *opened(const char *what)
{
    struct store_options o = {.runtime = runtime, .dir = dir, .create = true, .durability = STORE_ASYNC, .tx_version = 1};
    double start = seconds(), cpu = seconds_of(CLOCK_THREAD_CPUTIME_ID);
    struct store_state state;
    struct store_health h;
    struct store *s;
    struct err err;

    ok(store_open(&o, &s, &err), &err);
    store_get_state(s, &state);
    store_health(s, &h);
    printf("%-32s %8.1f ms (%.1f ms of processor time), %lu txs%s%s\n", what, (seconds() - start) * 1e3,
           (seconds_of(CLOCK_THREAD_CPUTIME_ID) - cpu) * 1e3, state.tx_id, h.text[0] == '\0' ? "" : ", ", h.text);
    return s;
}

int main(int argc, char **argv)
{
    struct runtime_options ro = {.vfs = vfs_posix(), .memory_limit = (size_t)512 << 20};
    uint64_t txs = argc > 2 ? strtoull(argv[2], NULL, 10) : 3000000, n = 0;
    double start, slowest = 0;
    struct store_state state;
    char path[3000];
    struct store *s;
    struct err err;

    if (argc < 2)
        return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    dir = argv[1];
    snprintf(path, sizeof path, "%.2900s/tree", dir);
    (void)!vfs_remove_tree(vfs_posix(), dir, NULL);
    ok(runtime_create(&ro, &runtime, &err), &err);
    s = opened("new");
    start = seconds();
    for (uint64_t i = 0; i < txs; i++)
        commit(s, i);
    printf("%lu commits, one entry each       %8.1f ms\n", txs, (seconds() - start) * 1e3);
    store_close(s);
    store_close(opened("tree whole"));
    ok(vfs_remove_tree(vfs_posix(), path, &err), &err);
    s = opened("tree lost");
    start = seconds();
    store_get_state(s, &state);
    for (;;) {
        double before = seconds();
        struct store_health h;

        store_health(s, &h);
        if (h.kind != STORE_REBUILDING)
            break;
        commit(s, n++);
        slowest = seconds() - before > slowest ? seconds() - before : slowest;
    }
    printf("rebuilt after                    %8.1f ms; %lu commits meanwhile, the slowest %.1f ms\n", (seconds() - start) * 1e3, n, slowest * 1e3);
    store_close(s);
    store_close(opened("again"));
    runtime_destroy(runtime);
    return 0;
}
