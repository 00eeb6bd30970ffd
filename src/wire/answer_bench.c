/* Microseconds per answer from a store in memory to encoded bytes, without a server around it: Get, GetAll, Scan, VerifiableGet.
 * Arguments: number of keys (default 200000). */
#include <stdio.h>
#include <stdlib.h>

#include "kv/kv.h"
#include "vfs/vfs_memory.h"
#include "wire/wire.h"

enum { WIDE = 500, VALUE_BYTES = 64 };

static bool nowait; /* the first pass reads everything into memory */
static struct store *store;
static struct arena arena;
static volatile size_t sink;

static void check(enum status st, const struct err *err, const char *what)
{
    if (st == ST_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, err->text);
    exit(1);
}
#define OK(call) check((call), &err, #call)

static uint64_t now(void) { return env_mono_ns(env_system()); }

static struct bytes key_of(unsigned i, char out[16])
{
    snprintf(out, 16, "key-%010u", i);
    return bytes_of(out, 14);
}

static void fill(unsigned first, unsigned count, unsigned per_tx)
{
    static uint8_t value[VALUE_BYTES];
    struct err err;

    for (unsigned i = first; i < first + count; i += per_tx) {
        struct store_draft *d;
        struct store_result r;

        OK(draft_create(store, &d, &err));
        for (unsigned k = i; k < i + per_tx; k++) {
            char *key = arena_alloc(&arena, 16);

            OK(kv_draft_set(d, &arena, key_of(k, key), NULL, bytes_of(value, sizeof value), &err));
        }
        OK(store_commit(store, d, false, &r, &err));
        arena_reset(&arena);
    }
}

static unsigned next_random(unsigned below)
{
    static uint64_t state = 1;

    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((state >> 33) % below);
}

static void get_once(unsigned key_index)
{
    struct kv_get_options o = {.deadline_ns = UINT64_MAX};
    struct kv_reader r;
    struct kv_entry e;
    struct err err;
    struct pb w;
    char key[16];

    o.key = key_of(key_index, key);
    kv_reader_init(&r, store, &arena, 0, nowait);
    OK(kv_get(&r, &o, &e, &err));
    pb_init(&w, &arena, wire_entry_size(&e));
    wire_entry(&w, &e);
    sink += pb_len(&w);
    kv_reader_close(&r);
    arena_reset(&arena);
}

static void get_all_once(unsigned keys)
{
    struct kv_reader r;
    struct pb_list list;
    struct err err;
    char key[16];

    kv_reader_init(&r, store, &arena, 0, nowait);
    OK(kv_reader_snapshot(&r, 0, 0, &err));
    pb_list_init(&list, &arena, 100 * 96);
    for (unsigned i = 0; i < 100; i++) {
        struct kv_entry e;

        OK(kv_get_latest(&r, key_of(next_random(keys), key), &e, &err));
        wire_list_entry(&list, &e);
    }
    sink += list.len;
    kv_reader_close(&r);
    arena_reset(&arena);
}

static void scan_once(unsigned keys)
{
    struct kv_scan_options o = {.limit = 1000};
    struct kv_reader r;
    struct pb_list list;
    struct kv_scan s;
    struct kv_entry e;
    struct err err;
    char key[16];

    kv_reader_init(&r, store, &arena, 0, false);
    OK(kv_reader_snapshot(&r, 0, 0, &err));
    o.seek = key_of(next_random(keys - 1000), key);
    OK(kv_scan_open(&s, &r, &o, &err));
    pb_list_init(&list, &arena, 4096);
    while (kv_scan_next(&s, &e, &err) == ST_OK)
        wire_list_entry(&list, &e);
    sink += list.len;
    kv_scan_close(&s);
    kv_reader_close(&r);
    arena_reset(&arena);
}

/* The proof of a key's newest version; sink counts bytes. */
static size_t verifiable_once(unsigned key_index)
{
    static const struct kv_tx_spec spec = {.is_given = false};
    struct kv_get_options o = {.deadline_ns = UINT64_MAX};
    struct kv_tx_read t;
    struct kv_reader r;
    struct kv_entry e;
    struct dual_proof p;
    struct merkle_path path;
    struct wire_verifiable_tx v;
    struct bytes store_key;
    uint32_t leaf;
    struct err err;
    struct pb w;
    char key[16];
    size_t len;

    o.key = key_of(key_index, key);
    kv_reader_init(&r, store, &arena, 0, nowait);
    OK(kv_get(&r, &o, &e, &err));
    OK(kv_tx_open(&t, &r, e.tx_id, &spec, &err));
    OK(kv_store_key(&arena, o.key, &store_key, &err));
    OK(store_tx_find(store, &t.log_tx, store_key, &leaf, &err));
    OK(store_entry_inclusion(store, &t.log_tx, leaf, &arena, &path, &err));
    OK(store_dual_proof(store, 1 + e.tx_id / 2, e.tx_id, &arena, &p, &err));
    v = (struct wire_verifiable_tx){&t.tx, &p, false, true, NULL};
    pb_init(&w, &arena, wire_tx_hint(&t.tx) + wire_proof_hint(&p) + 1024);
    wire_verifiable_entry(&w, &e, &v, leaf, t.log_tx.entry_count, &path);
    len = pb_len(&w);
    kv_tx_close(&t);
    kv_reader_close(&r);
    arena_reset(&arena);
    return len;
}

#define MEASURE(name, rounds, call) \
    do { \
        uint64_t start_ = now(); \
        for (unsigned i_ = 0; i_ < (rounds); i_++) \
            call; \
        printf("%-34s %9.3f us\n", name, (double)(now() - start_) / 1000 / (rounds)); \
    } while (0)

int main(int argc, char **argv)
{
    unsigned keys = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 200000;
    struct vfs *vfs = vfs_memory_create();
    struct runtime_options ro = {.vfs = vfs, .memory_limit = 1u << 30};
    struct store_options o = {.tx_version = 1, .dir = "db", .create = true, .durability = STORE_ASYNC};
    struct err err;

    keys = keys / WIDE * WIDE;
    OK(runtime_create(&ro, &o.runtime, &err));
    OK(store_open(&o, &store, &err));
    arena_init(&arena, 1 << 17, 0);
    fill(0, keys, 1);
    fill(keys, keys / 10, WIDE);
    OK(store_sync(store, &err));
    for (unsigned i = 0; i < keys + keys / 10; i++)
        get_once(i);
    for (unsigned i = 0; i < keys / 10; i++)
        verifiable_once(i * 10);
    nowait = true;
    MEASURE("Get", 300000, get_once(next_random(keys)));
    MEASURE("GetAll, 100 keys", 5000, get_all_once(keys));
    MEASURE("Scan, 1000 entries of as many txs", 500, scan_once(keys));
    MEASURE("VerifiableGet, tx of 1 entry", 50000, sink += verifiable_once(next_random(keys)));
    MEASURE("VerifiableGet, one tx of 500", 5000, sink += verifiable_once(keys + next_random(WIDE)));
    MEASURE("VerifiableGet, many txs of 500", 5000, sink += verifiable_once(keys + next_random(keys / 10)));
    store_close(store);
    runtime_destroy(o.runtime);
    vfs_memory_destroy(vfs);
    arena_free(&arena);
    return 0;
}
