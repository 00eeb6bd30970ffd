/* Proves that a lost or damaged tree keeps nobody waiting but those who need it, and comes back right.
 *
 * The background thread is held by a job of the test's while things are looked at, so that "while it is being rebuilt" is no matter of luck.
 *   - opening returns with the tree short; commits, conditions, reads, headers, the state go on; proofs, old roots and imports that name one are
 *     told the progress, or wait for their deadline
 *   - afterwards every byte hangs together (store_verify: chain, blRoot of every header, tree, index), also after reopening
 *   - the same beside writers and readers; with a close, and with a power cut, in the middle of the rebuild; with one damaged page; with frontiers
 *     in the footers that are damaged, or wrong under a right checksum; with txs that cannot be read
 * Environment TREE_LAG_TXS: how many txs the large one has (default 200,000). */
#include "log/log_internal.h"
#include "store/tree_lag_fixture.h"

static uint64_t large_txs(void)
{
    const char *txs = getenv("TREE_LAG_TXS");

    return txs != NULL ? strtoull(txs, NULL, 10) : 200000;
}

/* --- tests --- */
static void told_progress(struct world *w, const char *begin)
{
    struct store_health health;
    struct store_state state;
    struct dual_proof p;
    struct arena arena;
    struct err err;
    hash_t root;

    arena_init(&arena, 4096, 0);
    store_get_state(w->store, &state);
    assert_int_equal(store_dual_proof(w->store, 1, state.tx_id, &arena, &p, &err), ST_BUSY);
    if (strncmp(err.text, begin, strlen(begin)) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(store_root_at(w->store, state.tx_id - 1, &root, &err), ST_BUSY);
    OK(store_root_at(w->store, 1000, &root, &err)); /* what is there is answered */
    assert_int_equal(store_wait_tree(w->store, state.tx_id, env_mono_ns(&w->env.env) + 1000000, &err), ST_BUSY);
    assert_true(strncmp(err.text, begin, strlen(begin)) == 0);
    OK(store_wait_tree(w->store, 1000, 0, &err));
    store_health(w->store, &health);
    assert_int_equal(health.kind, STORE_REBUILDING);
    assert_non_null(strstr(health.text, "the tree is being rebuilt: 0 of "));
    assert_true(health.tree_to_rebuild > 0 && health.tree_rebuilt == 0);
    arena_free(&arena);
}

static void a_lost_tree(void **state)
{
    static const enum precondition_kind exists = KEY_MUST_EXIST;
    uint64_t txs = large_txs();
    struct store_snapshot *view = NULL;
    struct store_state before, after;
    struct index_version v;
    struct tx_header h;
    uint64_t revision;
    struct world w;
    struct err err;

    (void)state;
    world_begin(&w);
    opened(&w);
    fill(&w, txs);
    OK(store_flush_index(w.store, &err));
    store_get_state(w.store, &before);
    store_close(w.store);
    OK(vfs_remove_tree(w.disk, "db/tree", &err));
    background_stop(&w);
    opened_in_haste(&w);
    store_get_state(w.store, &after);
    assert_true(after.tx_id == txs && hash_equal(&before.alh, &after.alh));
    assert_true(tree_size(w.store->tree) < txs / 2);
    told_progress(&w, "tree of database db is being rebuilt: 0 of ");

    for (uint64_t i = 1; i <= 300; i++) {
        assert_int_equal(put(&w, i, NULL), txs + 2 * i - 1);
        assert_int_equal(put(&w, i, &exists), txs + 2 * i);
    }
    OK(store_sync(w.store, &err));
    store_get_state(w.store, &after);
    assert_int_equal(after.tx_id, txs + 600);
    OK(store_tx_header(w.store, txs + 599, &h, NULL, &err));
    assert_int_equal(h.bl_tx_id, txs + 598);
    OK(store_snapshot_open(w.store, 0, &view, &err));
    OK(index_get(store_snapshot_index(view), INDEX_NS_KV, bytes_str("k300"), false, &v, &revision, &err));
    assert_int_equal(v.tx_id, txs + 600);
    store_snapshot_close(view);
    told_progress(&w, "tree of database db is being rebuilt: 0 of ");

    background_go(&w);
    check_whole(&w);
    assert_int_equal(tree_size(w.store->tree), txs + 600);
    check_proof(&w, 1);
    check_proof(&w, txs / 2);
    check_proof(&w, txs + 3);
    put(&w, 1, NULL);
    store_close(w.store);
    opened(&w);
    check_whole(&w);
    check_proof(&w, 77);
    world_end(&w);
}

struct answer {
    _Atomic bool is_there;
    enum status status;
    char text[224];
};
static void answered(void *ctx, const struct store_draft *d, const struct store_result *r)
{
    struct answer *a = ctx;

    (void)d;
    a->status = r->status;
    snprintf(a->text, sizeof a->text, "%s", r->err.text);
    atomic_store(&a->is_there, true);
}

/* A tx of one entry that continues the chain and names the root of an old size. */
static size_t import_blob(struct world *w, uint64_t bl_tx_id, uint8_t *out, size_t room)
{
    struct tx_entry e = {.key = bytes_of("\0imported", 9), .value = bytes_str("value"), .value_len = 5};
    struct store_state state;
    struct tx_header h;
    struct writer writer = writer_of(out, room);
    hash_t digest, scratch;
    struct err err;

    memset(&h, 0, sizeof h);
    store_get_state(w->store, &state);
    h.id = state.visible_tx_id + 1;
    h.version = 1;
    h.ts = 1800000000;
    h.entry_count = 1;
    h.prev_alh = state.alh;
    h.bl_tx_id = bl_tx_id;
    OK(store_root_at(w->store, bl_tx_id, &h.bl_root, &err));
    sha256(e.value.data, e.value.len, &e.hval);
    OK(entry_digest(1, e.key, e.md, &e.hval, &digest, &err));
    htree_root(&digest, 1, &scratch, &h.eh);
    OK(tx_export(&h, &e, 1, false, &writer, &err));
    return writer_len(&writer);
}

static void imports_wait_for_old_roots(void **state)
{
    enum { TXS = 20000 };
    uint8_t blob[1000];
    struct answer first = {0}, second = {0};
    struct store_state s;
    struct world w;
    struct err err;
    size_t len;

    (void)state;
    world_begin(&w);
    opened(&w);
    fill(&w, TXS);
    OK(store_sync(w.store, &err));
    len = import_blob(&w, TXS - 7000, blob, sizeof blob);
    store_close(w.store);
    OK(vfs_remove_tree(w.disk, "db/tree", &err));
    background_stop(&w);
    opened_in_haste(&w);
    assert_true(tree_size(w.store->tree) < TXS - 7000);
    /* Its deadline passes: told why. */
    store_import_submit(w.store, bytes_of(blob, len), false, env_mono_ns(&w.env.env) + 50000000, STORE_DRIVE_INLINE, answered, &first);
    assert_false(atomic_load(&first.is_there));
    atomic_fetch_add(&w.env.mono_ns, 100000000);
    role_kick(w.store);
    while (!atomic_load(&first.is_there))
        nap();
    assert_int_equal(first.status, ST_BUSY);
    assert_true(strncmp(first.text, "tree of database db is being rebuilt: 0 of ", 43) == 0);
    /* One with time is committed as soon as the tree is there. */
    store_import_submit(w.store, bytes_of(blob, len), false, env_mono_ns(&w.env.env) + 3600000000000ull, STORE_DRIVE_INLINE, answered, &second);
    assert_false(atomic_load(&second.is_there));
    background_go(&w);
    while (!atomic_load(&second.is_there))
        nap();
    if (second.status != ST_OK)
        fail_msg("%s", second.text);
    store_get_state(w.store, &s);
    assert_int_equal(s.visible_tx_id, TXS + 1);
    check_whole(&w);
    world_end(&w);
}

/* --- beside others --- */
struct beside {
    struct world *w;
    _Atomic bool is_over;
    _Atomic uint64_t done, busy;
};

static void *write_on(void *ctx)
{
    struct beside *b = ctx;

    for (uint64_t i = 0; i < 3000; i++) {
        put(b->w, i, NULL);
        atomic_fetch_add(&b->done, 1);
    }
    return NULL;
}

static void *prove_on(void *ctx)
{
    struct beside *b = ctx;
    struct dual_proof p;
    struct arena arena;
    struct err err;
    uint64_t at = 1;

    arena_init(&arena, 4096, 0);
    while (!atomic_load(&b->is_over)) {
        struct store_state state;
        hash_t alh;
        enum status st;

        store_get_state(b->w->store, &state);
        at = at * 31 % state.tx_id + 1;
        OK(store_alh(b->w->store, at, &alh, &err));
        st = store_dual_proof(b->w->store, at, state.tx_id, &arena, &p, &err);
        if (st == ST_BUSY)
            atomic_fetch_add(&b->busy, 1);
        else if (st != ST_OK || !dual_proof_verify(&p, at, state.tx_id, &alh, &state.alh))
            fail_msg("proof from %lu to %lu: %s", at, state.tx_id, st == ST_OK ? "wrong" : err.text);
        arena_reset(&arena);
    }
    arena_free(&arena);
    return NULL;
}

static void beside_writers_and_readers(void **state)
{
    pthread_t writers[2], prover;
    struct beside b = {0};
    struct world w;
    struct err err;

    (void)state;
    world_begin(&w);
    opened(&w);
    fill(&w, 30000);
    store_close(w.store);
    OK(vfs_remove_tree(w.disk, "db/tree", &err));
    opened_in_haste(&w);
    b.w = &w;
    assert_int_equal(pthread_create(&prover, NULL, prove_on, &b), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&writers[i], NULL, write_on, &b), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(writers[i], NULL);
    OK(store_wait_tree(w.store, UINT64_MAX, 0, &err));
    atomic_store(&b.is_over, true);
    pthread_join(prover, NULL);
    check_whole(&w);
    assert_int_equal(tree_size(w.store->tree), 36000);
    world_end(&w);
}

/* --- interrupted --- */
static void closed_in_the_middle(void **state)
{
    struct world w;
    struct err err;

    (void)state;
    world_begin(&w);
    opened(&w);
    fill(&w, 20000);
    store_close(w.store);
    OK(vfs_remove_tree(w.disk, "db/tree", &err));
    for (int i = 0; i < 3; i++) {
        background_stop(&w);
        opened_in_haste(&w);
        if (!tree_is_rebuilding(w.store))
            fail_msg("round %d: tree of %lu", i, tree_size(w.store->tree));
        put(&w, 5, NULL);
        atomic_store(&w.is_released, true); /* closing and the rebuild run against each other */
        store_close(w.store);
        while (atomic_load(&w.is_held))
            nap();
        if (i < 2)
            (void)!vfs_remove_tree(w.disk, "db/tree", &err);
    }
    opened(&w);
    check_whole(&w);
    world_end(&w);
}

static void power_cut_in_the_middle(void **state)
{
    enum { TXS = 10000, ROUNDS = 12 };
    struct vfs *original;
    struct world w;
    struct err err;

    (void)state;
    world_begin(&w);
    opened(&w);
    fill(&w, TXS);
    store_close(w.store);
    OK(vfs_remove_tree(w.disk, "db/tree", &err));
    original = w.disk;
    runtime_destroy(w.runtime);
    for (uint64_t i = 0; i < ROUNDS; i++) {
        struct vfs *cut;
        bool more = true;

        w.disk = vfs_memory_clone(original);
        runtime_begin(&w);
        background_stop(&w);
        opened_in_haste(&w);
        assert_true(tree_is_rebuilding(w.store));
        atomic_store(&w.env.mono_step_ns, 1000000000); /* small steps */
        for (uint64_t k = 0; k < i / 3 && more; k++) {
            OK(store_maintain(w.store, &more, &err));
            put(&w, k, NULL);
            OK(tree_flush(w.store->tree, atomic_load(&w.store->durable_tx), i % 2 == 0, &err));
        }
        OK(store_sync(w.store, &err));
        cut = vfs_memory_clone(w.disk);
        vfs_memory_power_cut(cut, i % 3 == 0 ? POWER_CUT_LOSE_UNSYNCED : i % 3 == 1 ? POWER_CUT_KEEP_ALL : POWER_CUT_RANDOM, i);
        atomic_store(&w.env.mono_step_ns, 1000);
        background_go(&w);
        store_close(w.store);
        runtime_destroy(w.runtime);
        vfs_memory_destroy(w.disk);
        w.disk = cut;
        runtime_begin(&w);
        i % 2 == 0 ? opened_in_haste(&w) : opened(&w);
        check_whole(&w);
        check_proof(&w, TXS / 3);
        store_close(w.store);
        w.store = NULL;
        runtime_destroy(w.runtime);
        vfs_memory_destroy(w.disk);
    }
    vfs_memory_destroy(original);
}

/* --- damaged --- */
static void one_damaged_page(void **state)
{
    enum { TXS = 20000 };
    struct world w;
    struct err err;

    (void)state;
    world_begin(&w);
    opened(&w);
    fill(&w, TXS);
    OK(store_flush_index(w.store, &err));
    store_close(w.store);
    /* The edge of band 1 is made from every page of band 0 here: the tree ends before the damaged one. */
    OK(vfs_memory_flip_bit(w.disk, "db/tree/band-0", (8720 * 3 + 100) * 8, &err));
    background_stop(&w);
    opened_in_haste(&w);
    assert_true(tree_is_rebuilding(w.store));
    assert_true(tree_size(w.store->tree) < TXS / 2);
    told_progress(&w, "tree of database db is being rebuilt: 0 of ");
    put(&w, 3, NULL);
    background_go(&w);
    check_whole(&w);
    check_proof(&w, 800);
    world_end(&w);
}

/* Every sealed segment's frontier is hit: the tree is brought up while opening, as slow as it is. */
static void footers_without_a_frontier(void **state)
{
    enum { TXS = 20000 };
    struct world w;
    struct err err;
    size_t hit = 0;

    (void)state;
    world_begin(&w);
    opened(&w);
    fill(&w, TXS);
    OK(store_flush_index(w.store, &err));
    OK(log_advance_background(w.store->log, &err));
    for (size_t i = 0; i < table_count(w.store->log); i++) {
        const struct segment *s = table_at(w.store->log, i);

        if (!atomic_load(&s->is_sealed) || !s->trailer.has_frontier)
            continue;
        OK(vfs_memory_flip_bit(w.disk, cache_file_path(s->file), (s->trailer.frontier_offset + 40) * 8, &err));
        hit++;
    }
    assert_true(hit >= 2);
    store_close(w.store);
    OK(vfs_remove_tree(w.disk, "db/tree", &err));
    opened_in_haste(&w);
    assert_false(tree_is_rebuilding(w.store));
    assert_int_equal(tree_size(w.store->tree), TXS);
    put(&w, 1, NULL);
    check_proof(&w, 9);
    world_end(&w);
}

/* The frontier in a footer is a wrong one, under a right checksum: the headers behind it say so. */
static void a_wrong_frontier(void **state)
{
    enum { TXS = 20000 };
    struct frontier wrong;
    struct world w;
    struct err err;

    (void)state;
    world_begin(&w);
    opened(&w);
    memset(&wrong, 7, sizeof wrong);
    for (uint64_t i = 0; i < TXS; i++) {
        wrong.size = put(&w, i, NULL);
        log_note_frontier(w.store->log, &wrong);
    }
    OK(store_flush_index(w.store, &err));
    OK(log_advance_background(w.store->log, &err));
    store_close(w.store);
    OK(vfs_remove_tree(w.disk, "db/tree", &err));
    opened_in_haste(&w);
    assert_false(tree_is_rebuilding(w.store));
    assert_int_equal(tree_size(w.store->tree), TXS);
    put(&w, 1, NULL);
    check_whole(&w);
    world_end(&w);
}

/* Two txs in a row cannot be read: the alh of the first is lost. The rebuild ends there, for good, and everybody is told. */
static void damage_ends_the_rebuild(void **state)
{
    enum { TXS = 20000, HIT = 9000 };
    struct store_health health;
    struct store_state before, after;
    struct segment *s = NULL;
    uint64_t offset = 0, end = 0;
    struct dual_proof p;
    struct arena arena;
    struct world w;
    struct err err;

    (void)state;
    world_begin(&w);
    opened(&w);
    fill(&w, TXS);
    OK(store_flush_index(w.store, &err));
    store_get_state(w.store, &before);
    for (uint64_t id = HIT; id <= HIT + 1; id++) {
        OK(log_locate(w.store->log, id, false, &s, &offset, &end, &err));
        assert_true(atomic_load(&s->is_sealed));
        OK(vfs_memory_flip_bit(w.disk, cache_file_path(s->file), (offset + 60) * 8, &err));
        segment_unref(s);
    }
    store_close(w.store);
    OK(vfs_remove_tree(w.disk, "db/tree", &err));
    runtime_destroy(w.runtime);
    runtime_begin(&w);
    background_stop(&w);
    opened_in_haste(&w);
    assert_true(tree_is_rebuilding(w.store));
    background_go(&w);
    OK(store_wait_tree(w.store, TXS, 0, &err));
    assert_int_equal(tree_size(w.store->tree), HIT - 1);
    store_health(w.store, &health);
    assert_int_equal(health.kind, STORE_READ_ONLY_DAMAGED);
    store_get_state(w.store, &after);
    assert_true(after.tx_id == TXS && hash_equal(&before.alh, &after.alh));
    arena_init(&arena, 4096, 0);
    assert_int_equal(store_dual_proof(w.store, 1, TXS, &arena, &p, &err), ST_CORRUPT);
    assert_non_null(strstr(err.text, "the tree ends at tx 8999 because of damage"));
    OK(store_dual_proof(w.store, 1, HIT - 1, &arena, &p, &err));
    arena_free(&arena);
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lost_tree),
        cmocka_unit_test(imports_wait_for_old_roots),
        cmocka_unit_test(beside_writers_and_readers),
        cmocka_unit_test(closed_in_the_middle),
        cmocka_unit_test(power_cut_in_the_middle),
        cmocka_unit_test(one_damaged_page),
        cmocka_unit_test(footers_without_a_frontier),
        cmocka_unit_test(a_wrong_frontier),
        cmocka_unit_test(damage_ends_the_rebuild),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
