/* What the database does inside a program, through the public interface alone.
 *
 *   embedded async     [TXS] [THREADS]   one-entry transactions, asynchronous, blocking calls
 *   embedded durable   [TXS] [THREADS]   the same, each on disk when it answers
 *   embedded tickets   [TXS] [THREADS]   durable, up to 256 commits in flight per thread
 *   embedded sequential|random [ENTRIES] [THREADS]   transactions of 1,000 entries, asynchronous; the clock stops when all is indexed
 *   embedded fill      [TXS] [THREADS]   as async; then the process is ended with SIGKILL, the database opened again, checked and read
 *
 * Keys and values of 32 bytes. THREADS: 128, or 16 for the batches. Environment: BENCH_DIR (default /tmp), BENCH_MEMORY_MB (default 1024). Prints the rate, the
 * clock's and the CPU's seconds, resident memory, and bytes on disk per entry after closing. A new database each time, removed at the end. */
#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <immudb.h>

enum { BATCH = 1000, KEY_BYTES = 32, VALUE_BYTES = 32, IN_FLIGHT = 256, GRAB = 64 };

static immudb_db *db;
static _Atomic uint64_t given; /* entries or transactions handed out to threads */
static uint64_t total;
static bool is_random;

static void must(immudb_status status, const immudb_error *err, const char *what)
{
    if (status == IMMUDB_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, err->text);
    exit(1);
}

static double now_s(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void fill(uint64_t n, uint8_t key[KEY_BYTES], uint8_t value[VALUE_BYTES])
{
    uint64_t k = is_random ? mix(n) : n;

    memset(key, 'k', KEY_BYTES);
    for (int i = 0; i < 8; i++)
        key[KEY_BYTES - 8 + i] = (uint8_t)(k >> (56 - 8 * i));
    for (int i = 0; i < VALUE_BYTES / 8; i++) {
        uint64_t v = mix(n * 4 + (uint64_t)i);

        memcpy(value + 8 * i, &v, 8);
    }
}

static void *run_single(void *arg)
{
    uint8_t key[KEY_BYTES], value[VALUE_BYTES];
    immudb_error err;
    uint64_t at;

    (void)arg;
    while ((at = atomic_fetch_add(&given, GRAB)) < total) {
        for (uint64_t n = at; n < at + GRAB && n < total; n++) {
            fill(n, key, value);
            must(immudb_set(db, immudb_bytes_of(key, KEY_BYTES), immudb_bytes_of(value, VALUE_BYTES), NULL, NULL, &err), &err, "set");
        }
    }
    return NULL;
}

static void *run_tickets(void *arg)
{
    immudb_ticket *tickets[IN_FLIGHT] = {NULL};
    uint8_t key[KEY_BYTES], value[VALUE_BYTES];
    immudb_tx_options o;
    immudb_error err;
    immudb_tx *tx;
    uint64_t at, count = 0;

    (void)arg;
    immudb_tx_options_init(&o);
    o.mode = IMMUDB_TX_WRITE_ONLY;
    while ((at = atomic_fetch_add(&given, GRAB)) < total) {
        for (uint64_t n = at; n < at + GRAB && n < total; n++) {
            immudb_ticket **slot = &tickets[count++ % IN_FLIGHT];

            if (*slot != NULL) {
                must(immudb_ticket_wait(*slot, IMMUDB_FOREVER, NULL, &err), &err, "waiting");
                immudb_ticket_free(*slot);
            }
            fill(n, key, value);
            must(immudb_tx_begin(db, &o, &tx, &err), &err, "begin");
            must(immudb_tx_set(tx, immudb_bytes_of(key, KEY_BYTES), immudb_bytes_of(value, VALUE_BYTES), NULL, &err), &err, "set");
            must(immudb_tx_commit_ticket(tx, slot, &err), &err, "commit");
        }
    }
    for (size_t i = 0; i < IN_FLIGHT; i++) {
        if (tickets[i] != NULL)
            must(immudb_ticket_wait(tickets[i], IMMUDB_FOREVER, NULL, &err), &err, "waiting");
        immudb_ticket_free(tickets[i]);
    }
    return NULL;
}

struct batch {
    uint8_t keys[BATCH][KEY_BYTES], values[BATCH][VALUE_BYTES];
    immudb_pair pairs[BATCH];
};

static void *run_batches(void *arg)
{
    struct batch *b = malloc(sizeof *b);
    immudb_error err;
    uint64_t at;

    (void)arg;
    if (b == NULL)
        exit(1);
    while ((at = atomic_fetch_add(&given, BATCH)) < total) {
        for (uint64_t i = 0; i < BATCH; i++) {
            fill(at + i, b->keys[i], b->values[i]);
            b->pairs[i] = (immudb_pair){immudb_bytes_of(b->keys[i], KEY_BYTES), immudb_bytes_of(b->values[i], VALUE_BYTES)};
        }
        must(immudb_set_many(db, b->pairs, BATCH, 0, NULL, &err), &err, "set_many");
    }
    free(b);
    return NULL;
}

static uint64_t tree_bytes(const char *path, bool remove_it)
{
    char name[4096];
    uint64_t sum = 0;
    struct dirent *e;
    struct stat st;
    DIR *d = opendir(path);

    while (d != NULL && (e = readdir(d)) != NULL) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (snprintf(name, sizeof name, "%s/%s", path, e->d_name) >= (int)sizeof name || lstat(name, &st) != 0)
            continue;
        if (S_ISDIR(st.st_mode))
            sum += tree_bytes(name, remove_it);
        else {
            sum += (uint64_t)st.st_blocks * 512;
            if (remove_it)
                unlink(name);
        }
    }
    if (d != NULL)
        closedir(d);
    if (remove_it)
        rmdir(path);
    return sum;
}

static uint64_t number(const char *text, uint64_t missing) { return text == NULL || text[0] == '\0' ? missing : strtoull(text, NULL, 10); }

static void database_open(const char *dir, bool is_async)
{
    immudb_runtime_options ro;
    immudb_options o;
    immudb_error err;

    immudb_runtime_options_init(&ro);
    ro.memory_limit = number(getenv("BENCH_MEMORY_MB"), 1024) << 20;
    immudb_options_init(&o);
    o.runtime_options = &ro;
    o.flags = IMMUDB_CREATE | (is_async ? IMMUDB_ASYNC : 0u);
    must(immudb_open(dir, &o, &db, &err), &err, "open");
}

static void report(const char *what, unsigned threads, double seconds, double cpu_s, double load)
{
    struct rusage usage;
    immudb_stats s;
    immudb_error err;

    immudb_stats_init(&s);
    must(immudb_stats_get(db, &s, &err), &err, "stats");
    getrusage(RUSAGE_SELF, &usage);
    printf("%-10s %u threads: %.0f %s/s  (%" PRIu64 " in %.2f s, CPU %.2f s = %.2f us each, %" PRIu64 " batches, %" PRIu64
           " syncs, load before %.1f)\n",
           what, threads, (double)total / seconds, strcmp(what, "sequential") == 0 || strcmp(what, "random") == 0 ? "entries" : "tx", total, seconds,
           cpu_s, cpu_s * 1e6 / (double)total, s.batches, s.syncs, load);
    printf("           resident at most %ld MiB; index runs %" PRIu64 ", flushes %" PRIu64 ", merges %" PRIu64 "\n", usage.ru_maxrss / 1024,
           s.index_runs, s.index_flushes, s.index_merges);
}

/* A line of /proc/self/status in MiB, e.g. "VmRSS:"; 0 when there is none. */
static long status_mib(const char *name)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    long kib = 0;

    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            kib = strtol(line + strlen(name), NULL, 10);
    if (f != NULL)
        fclose(f);
    return kib / 1024;
}

static double load_now(void)
{
    double load = 0;

    return getloadavg(&load, 1) == 1 ? load : 0;
}

static void threads_run(unsigned threads, void *(*run)(void *))
{
    pthread_t *ids = calloc(threads, sizeof *ids);
    immudb_error err;

    if (ids == NULL)
        exit(1);
    for (unsigned i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, run, NULL) != 0)
            exit(1);
    for (unsigned i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    must(immudb_wait_indexed(db, 0, IMMUDB_FOREVER, &err), &err, "waiting for the index");
    free(ids);
}

/* --- fill: an abrupt end --- */

/* The process that will be killed: says so through the pipe when all is acknowledged, with the database open and nothing closed. */
static void fill_child(const char *dir, unsigned threads, int ready)
{
    double load = load_now(), start, cpu;

    database_open(dir, true);
    start = now_s(CLOCK_MONOTONIC);
    cpu = now_s(CLOCK_PROCESS_CPUTIME_ID);
    threads_run(threads, run_single);
    report("fill", threads, now_s(CLOCK_MONOTONIC) - start, now_s(CLOCK_PROCESS_CPUTIME_ID) - cpu, load);
    printf("           resident at the end %ld MiB\n", status_mib("VmRSS:"));
    fflush(stdout);
    if (write(ready, "", 1) != 1)
        exit(1);
    for (;;)
        pause();
}

/* Every transaction that was answered must be there: the newest, and a sample of all. */
static void fill_check(uint64_t reads)
{
    immudb_buffer *buffer = NULL;
    double start, first_s = 0;
    immudb_error err;

    must(immudb_buffer_create(&buffer, &err), &err, "a buffer");
    start = now_s(CLOCK_MONOTONIC);
    for (uint64_t i = 0; i < reads; i++) {
        uint8_t key[KEY_BYTES], value[VALUE_BYTES];
        immudb_entry entry;

        fill(i == 0 ? total - 1 : mix(i) % total, key, value);
        immudb_entry_init(&entry);
        must(immudb_get(db, immudb_bytes_of(key, KEY_BYTES), NULL, buffer, &entry, &err), &err, "an acknowledged key after the abrupt end");
        if (entry.value.len != VALUE_BYTES || memcmp(entry.value.data, value, VALUE_BYTES) != 0) {
            fprintf(stderr, "a wrong value after the abrupt end\n");
            exit(1);
        }
        if (i == 0)
            first_s = now_s(CLOCK_MONOTONIC) - start;
    }
    printf("           first read after %.2f ms; %.0f random reads/s on one thread; resident %ld MiB\n", first_s * 1e3,
           (double)(reads - 1) / (now_s(CLOCK_MONOTONIC) - start - first_s), status_mib("VmRSS:"));
    immudb_buffer_free(buffer);
}

static int fill_run(const char *dir, unsigned threads)
{
    int ready[2], status;
    immudb_error err;
    double start;
    pid_t child;
    char byte;

    if (pipe(ready) != 0 || (child = fork()) < 0)
        return 1;
    if (child == 0)
        fill_child(dir, threads, ready[1]);
    close(ready[1]);
    if (read(ready[0], &byte, 1) != 1) {
        fprintf(stderr, "the filling process failed\n");
        return 1;
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    close(ready[0]);
    printf("           killed; %.1f bytes on disk per entry\n", (double)tree_bytes(dir, false) / (double)total);
    start = now_s(CLOCK_MONOTONIC);
    database_open(dir, true);
    printf("           opened again in %.0f ms\n", (now_s(CLOCK_MONOTONIC) - start) * 1e3);
    fill_check(total < 200000 ? total : 200000);
    start = now_s(CLOCK_MONOTONIC);
    must(immudb_close(db, &err), &err, "close");
    printf("           closed in %.0f ms\n", (now_s(CLOCK_MONOTONIC) - start) * 1e3);
    start = now_s(CLOCK_MONOTONIC);
    database_open(dir, true);
    printf("           opened after that in %.0f ms\n", (now_s(CLOCK_MONOTONIC) - start) * 1e3);
    must(immudb_close(db, &err), &err, "close");
    tree_bytes(dir, true);
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "async", *base = getenv("BENCH_DIR") != NULL ? getenv("BENCH_DIR") : "/tmp";
    bool is_batch = strcmp(what, "sequential") == 0 || strcmp(what, "random") == 0, is_tickets = strcmp(what, "tickets") == 0;
    bool is_fill = strcmp(what, "fill") == 0;
    unsigned threads = (unsigned)number(argc > 3 ? argv[3] : NULL, is_batch ? 16 : 128);
    void *(*run)(void *) = is_batch ? run_batches : is_tickets ? run_tickets : run_single;
    char dir[4096];
    immudb_error err;
    double start, cpu, load = load_now();

    if ((!is_batch && !is_tickets && !is_fill && strcmp(what, "async") != 0 && strcmp(what, "durable") != 0) || threads == 0 || threads > 1024) {
        fprintf(stderr, "usage: %s async|durable|tickets|sequential|random|fill [COUNT] [THREADS]\n", argv[0]);
        return 2;
    }
    is_random = strcmp(what, "random") == 0;
    total = number(argc > 2 ? argv[2] : NULL, is_fill ? 10000000 : 1000000);
    if (total == 0)
        return 2;
    snprintf(dir, sizeof dir, "%s/embedded-bench-%ld", base, (long)getpid());
    if (is_fill)
        return fill_run(dir, threads);
    database_open(dir, is_batch || strcmp(what, "async") == 0);
    start = now_s(CLOCK_MONOTONIC);
    cpu = now_s(CLOCK_PROCESS_CPUTIME_ID);
    threads_run(threads, run);
    report(what, threads, now_s(CLOCK_MONOTONIC) - start, now_s(CLOCK_PROCESS_CPUTIME_ID) - cpu, load);
    must(immudb_close(db, &err), &err, "close");
    printf("           closed after %.2f s; %.1f bytes on disk per entry\n", now_s(CLOCK_MONOTONIC) - start,
           (double)tree_bytes(dir, true) / (double)total);
    return 0;
}
