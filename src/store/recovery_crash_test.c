/* Proves that no power cut, at any operation, loses what was acknowledged or leaves anything half.
 *
 * One point: a workload (chosen by seed) runs on a memory disk until its n-th changing operation, where the machine dies (that operation is done in
 * part if it is a write). The disk is cut in one of three ways - only what was synced, everything written, a random subset with writes torn - then
 * the database is opened again and compared with the model:
 *   - it opens and is healthy: a power cut is never taken for damage
 *   - every tx that was told to be durable is there; what else is there is exactly what was submitted, in order, whole
 *   - headers, chain, roots, values, index and revisions are those of the formulas
 *   - dual proofs from every state ever handed out to the present one hold
 *   - precommitted txs are precommitted again, allowed ones are committed, discarded ones gone
 *   - it can be written again, and that survives a clean close
 * For some points the machine dies again during recovery, at a random operation, before the final open.
 *
 * Workloads: small segments (many switches), txs of several sizes, several txs in a frame, flush, merge, background steps, truncation, clean reopening, lost index
 * and tree folders, in durable mode, asynchronous mode, and with external commit (allow, discard).
 *
 * Arguments (or the environment variable CRASH_TEST): quick | ci | points=N, seed=N, at=N (one operation), verbose. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/store_model.h"
#include "vfs/vfs_faulty.h"
#include "vfs/vfs_memory.h"

enum { STEPS_MAX = 70, STATES_MAX = 256, HELD_MAX = 64, VALUE_MAX = 5000 };
enum mode { MODE_DURABLE, MODE_ASYNC, MODE_EXTERNAL };

struct handed { /* a state that somebody may have kept */
    uint64_t tx_id;
    hash_t alh;
};
struct life {
    uint64_t seed, rng;
    enum mode mode;
    struct test_env env;
    struct vfs *disk, *vfs; /* vfs: the faulty one over disk */
    struct runtime *runtime;
    struct store *store;
    struct model model;
    uint64_t durable_min;      /* committed and durable: must come back committed */
    uint64_t precommitted_min; /* at least precommitted */
    uint64_t committed_max;    /* external commit: nothing above may come back committed */
    uint64_t gone_upto;        /* values that may have been removed */
    uint64_t batch_left;       /* drafts that the running one's callback submits */
    bool is_dead;              /* an operation failed */
    const char *wrong;         /* the workload itself saw something wrong */
    struct handed states[STATES_MAX];
    size_t state_count;
};

static bool is_verbose;

static uint64_t pick(struct life *l, uint64_t n)
{
    uint64_t z = l->rng += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return ((z ^ (z >> 31)) >> 8) % n;
}

/* --- opening --- */
static enum status life_open(struct life *l, struct vfs *vfs, struct err *err)
{
    struct runtime_options ro = {.vfs = vfs, .env = &l->env.env, .memory_limit = 8 << 20, .handles_max = 8};
    struct store_options o = {.dir = "db", .create = true, .tx_version = 1, .memtable_bytes_max = 64 << 10};
    enum status st;

    o.segment_bytes_first = l->seed % 3 == 0 ? 4096 : l->seed % 3 == 1 ? 2048 : 16384;
    o.segment_bytes_max = l->seed % 5 == 0 ? o.segment_bytes_first : 16384;
    o.durability = l->mode == MODE_ASYNC ? STORE_ASYNC : STORE_DURABLE;
    o.async_sync_interval_ns = UINT64_MAX / 4;
    o.sync_inline = true;
    o.external_commit = l->mode == MODE_EXTERNAL;
    if ((st = runtime_create(&ro, &l->runtime, err)) != ST_OK)
        return st;
    o.runtime = l->runtime;
    if ((st = store_open(&o, &l->store, err)) != ST_OK) {
        runtime_destroy(l->runtime);
        l->runtime = NULL;
    }
    return st;
}

static void life_close(struct life *l)
{
    store_close(l->store);
    runtime_destroy(l->runtime);
    l->store = NULL;
    l->runtime = NULL;
}

static void hand_out(struct life *l)
{
    struct store_state s;

    store_get_state(l->store, &s);
    if (s.tx_id > l->durable_min)
        l->durable_min = s.tx_id;
    if (s.precommitted_tx_id > l->precommitted_min && l->mode == MODE_EXTERNAL)
        l->precommitted_min = s.precommitted_tx_id;
    if (l->state_count > 0 && l->states[l->state_count - 1].tx_id == s.tx_id)
        return;
    if (l->state_count < STATES_MAX)
        l->states[l->state_count++] = (struct handed){s.tx_id, s.alh};
}

/* --- steps of the workload --- */
static void fill_draft(struct life *l, struct store_draft *d)
{
    static uint8_t bytes[VALUE_MAX];
    size_t count = 1 + pick(l, pick(l, 8) == 0 ? 12 : 3);
    struct err err;

    model_begin(&l->model);
    for (size_t i = 0; i < VALUE_MAX && bytes[1] == 0; i++)
        bytes[i] = (uint8_t)(i * 31 + 7);
    for (size_t i = 0; i < count; i++) {
        struct kv_metadata md = {
            .is_deleted = pick(l, 10) == 0, .has_expiry = pick(l, 10) == 0, .is_non_indexable = pick(l, 12) == 0, .expires_at = 77};
        char key[32];
        size_t len = pick(l, 10) == 0 ? pick(l, VALUE_MAX) : pick(l, 100);
        const struct model_tx *tx;
        struct model_entry *e;

        key[0] = (char)(pick(l, 6) == 0 ? 1 : 0);
        snprintf(key + 1, sizeof key - 1, "key%lu", pick(l, 25));
        if (pick(l, 20) == 0) {
            key[0] = 2;
            snprintf(key + 1, sizeof key - 1, "CTL.T%lu", pick(l, 4));
        }
        /* The draft borrows the model's copies. */
        model_entry_add(&l->model, bytes_of(key, 1 + strlen(key + 1)), &md,
                        bytes_of(bytes + pick(l, 50), len > VALUE_MAX - 50 ? VALUE_MAX - 50 : len));
        tx = &l->model.txs[l->model.count - 1];
        e = &tx->entries[tx->count - 1];
        if (draft_set(d, bytes_of(e->key, e->key_len), &md, bytes_of(e->value, e->value_len), &err) != ST_OK) { /* twice in one tx */
            struct model_tx *last = &l->model.txs[l->model.count - 1];

            free(e->key);
            free(e->value);
            last->count--;
        }
    }
}

static void draft_done(void *ctx, const struct store_draft *d, const struct store_result *r);

static void submit_one(struct life *l)
{
    struct store_draft *d;
    struct err err;

    if (draft_create(l->store, &d, &err) != ST_OK)
        abort();
    fill_draft(l, d);
    store_submit(l->store, d, l->mode == MODE_ASYNC && pick(l, 6) == 0, STORE_DRIVE_INLINE, draft_done, l);
}

static void draft_done(void *ctx, const struct store_draft *d, const struct store_result *r)
{
    struct life *l = ctx;

    (void)d;
    if (r->status == ST_OK) {
        if (r->header.id > l->model.count)
            l->wrong = "an id beyond what was submitted";
        else {
            struct model_tx *tx = &l->model.txs[r->header.id - 1];

            tx->is_acked = true;
            tx->alh = r->alh;
            if (l->mode != MODE_ASYNC && r->header.id > l->durable_min)
                l->durable_min = r->header.id;
        }
    } else if (r->status != ST_CANCELLED && r->status != ST_CLOSED) {
        l->is_dead = true;
        if (is_verbose)
            fprintf(stderr, "draft: %s\n", r->err.text);
    }
    /* Submitted from here they make one frame together. */
    while (l->batch_left > 0 && !l->is_dead) {
        l->batch_left--;
        submit_one(l);
    }
}

static void must(struct life *l, enum status st, const struct err *err)
{
    if (st == ST_OK)
        return;
    if (is_verbose)
        fprintf(stderr, "step: %s\n", err->text);
    if (!vfs_faulty_fired(l->vfs)) {
        fprintf(stderr, "a step failed on a healthy machine: %s\n", err->text);
        l->wrong = "a step failed on a healthy machine";
    }
    l->is_dead = true;
}

static void step_commit(struct life *l)
{
    struct store_state s;

    store_get_state(l->store, &s);
    if (l->mode == MODE_EXTERNAL && s.precommitted_tx_id - s.tx_id > HELD_MAX)
        return;
    /* with external commit callbacks come late; several drafts per frame are left to the other modes */
    l->batch_left = l->mode != MODE_EXTERNAL && pick(l, 4) == 0 ? pick(l, 5) : 0;
    submit_one(l);
}

static void step_allow(struct life *l)
{
    struct store_state s;
    struct err err;
    uint64_t upto;
    enum status st;

    store_get_state(l->store, &s);
    if (s.precommitted_tx_id == s.tx_id)
        return;
    upto = s.tx_id + 1 + pick(l, s.precommitted_tx_id - s.tx_id);
    if (upto > l->committed_max)
        l->committed_max = upto; /* already when it is asked for */
    st = store_allow_commit(l->store, upto, NULL, &err);
    must(l, st, &err);
    if (st == ST_OK && upto > l->durable_min)
        l->durable_min = upto;
}

static void step_discard(struct life *l)
{
    struct store_state s;
    struct err err;
    uint64_t after;
    enum status st;

    store_get_state(l->store, &s);
    if (s.precommitted_tx_id == s.tx_id)
        return;
    after = s.tx_id + pick(l, s.precommitted_tx_id - s.tx_id);
    l->precommitted_min = after; /* from now on they may be gone */
    st = store_discard(l->store, after, &err);
    must(l, st, &err);
    if (st == ST_OK)
        model_cut(&l->model, after);
}

static void step_truncate(struct life *l)
{
    struct store_state s;
    struct store_snapshot *view;
    struct index_scan_options o = {.ns = INDEX_NS_CATALOG};
    struct index_cursor *cursor;
    struct index_version v;
    struct bytes key;
    uint64_t upto, freed, revision, before = l->model.count;
    struct err err;
    enum status st;

    store_get_state(l->store, &s);
    if (s.tx_id == 0 || l->mode == MODE_EXTERNAL)
        return;
    upto = 1 + pick(l, s.tx_id);
    /* What it will write first: copies of the live catalog. */
    if (store_snapshot_open(l->store, 0, &view, &err) != ST_OK) {
        must(l, ST_IO, &err);
        return;
    }
    if (index_scan_open(store_snapshot_index(view), &o, &cursor, &err) != ST_OK) {
        store_snapshot_close(view);
        must(l, ST_IO, &err);
        return;
    }
    model_begin(&l->model);
    while ((st = index_scan_next(cursor, &key, &v, &revision, &err)) == ST_OK) {
        const struct model_entry *e = &l->model.txs[v.tx_id - 1].entries[v.entry_index];

        if (!v.is_deleted && !v.has_expiry)
            model_entry_add(&l->model, key, NULL, bytes_of(e->value, e->value_len));
    }
    index_scan_close(cursor);
    store_snapshot_close(view);
    if (st != ST_NOT_FOUND) {
        l->is_dead = true;
        model_cut(&l->model, before);
        return;
    }
    if (l->model.txs[l->model.count - 1].count == 0)
        model_cut(&l->model, before);
    if (upto > l->gone_upto)
        l->gone_upto = upto;
    st = store_truncate(l->store, upto, &freed, &err);
    if (st == ST_NOT_FOUND && strstr(err.text, "truncated") != NULL) { /* a catalog value that is gone already: nothing was written */
        model_cut(&l->model, before);
        return;
    }
    must(l, st, &err);
}

static void step_reopen(struct life *l, bool lose_derived)
{
    struct err err;
    enum status st = ST_OK;

    life_close(l);
    /* A clean close makes everything durable, unless the machine died meanwhile. */
    if (!vfs_faulty_fired(l->vfs)) {
        if (l->mode == MODE_ASYNC || l->mode == MODE_DURABLE)
            l->durable_min = l->model.count;
        if (lose_derived)
            st = vfs_remove_tree(l->vfs, pick(l, 2) == 0 ? "db/index" : "db/tree", &err);
    }
    if (st == ST_NOT_FOUND)
        st = ST_OK;
    if (st == ST_OK)
        st = life_open(l, l->vfs, &err);
    must(l, st, &err);
}

static void step(struct life *l)
{
    struct err err;
    bool more;

    switch (pick(l, 20)) {
    case 0:
        must(l, store_flush_index(l->store, &err), &err);
        break;
    case 1:
        must(l, store_maintain(l->store, &more, &err), &err);
        break;
    case 2:
        pick(l, 3) == 0 ? must(l, store_compact_index(l->store, &err), &err) : (void)0;
        break;
    case 3:
        step_truncate(l);
        break;
    case 4:
        must(l, store_sync(l->store, &err), &err);
        break;
    case 5:
        pick(l, 2) == 0 ? step_reopen(l, pick(l, 4) == 0) : (void)0;
        break;
    case 6:
    case 7:
    case 8:
        l->mode == MODE_EXTERNAL ? step_allow(l) : step_commit(l);
        break;
    case 9:
        l->mode == MODE_EXTERNAL ? step_discard(l) : step_commit(l);
        break;
    default:
        step_commit(l);
    }
}

/* --- a life until its end --- */
static void life_begin(struct life *l, uint64_t seed)
{
    memset(l, 0, sizeof *l);
    l->seed = seed;
    l->rng = seed * 77 + 1;
    l->mode = (enum mode)(seed % 8 < 4 ? MODE_DURABLE : seed % 8 < 6 ? MODE_ASYNC : MODE_EXTERNAL);
    test_env_init(&l->env, seed);
    l->env.is_verbose = is_verbose;
    l->disk = vfs_memory_create();
    l->vfs = vfs_faulty_create(l->disk);
    model_init(&l->model);
}

static void life_end(struct life *l)
{
    model_free(&l->model);
    vfs_faulty_destroy(l->vfs);
    vfs_memory_destroy(l->disk);
}

/* Runs until the machine dies at operation die_at (0: never). */
static void life_run(struct life *l, uint64_t die_at)
{
    struct err err;

    if (die_at > 0)
        vfs_faulty_arm(l->vfs, l->seed % 2 == 0 ? FAULT_STOP_TORN : FAULT_STOP, die_at, l->seed + die_at);
    must(l, life_open(l, l->vfs, &err), &err);
    for (int i = 0; i < STEPS_MAX && !l->is_dead && l->wrong == NULL; i++) {
        step(l);
        if (l->store != NULL && !l->is_dead)
            hand_out(l);
    }
    if (l->store != NULL)
        life_close(l);
}

/* --- afterwards --- */
static bool recovered_check(struct life *l, bool is_thorough, char why[512])
{
    struct store_health health;
    struct store_state s;
    struct err err;

    store_health(l->store, &health);
    store_get_state(l->store, &s);
    if (health.kind != STORE_HEALTHY && health.kind != STORE_REBUILDING) {
        snprintf(why, 512, "unhealthy: %.400s", health.text);
        return false;
    }
    for (int i = 0; i < 100 && health.kind == STORE_REBUILDING; i++) {
        bool more;

        if (store_maintain(l->store, &more, &err) != ST_OK) {
            snprintf(why, 512, "rebuilding: %s", err.text);
            return false;
        }
        store_health(l->store, &health);
    }
    if (health.kind != STORE_HEALTHY) {
        snprintf(why, 512, "the rebuild does not end");
        return false;
    }
    if (s.tx_id < l->durable_min || s.visible_tx_id != s.tx_id) {
        snprintf(why, 512, "tx %lu was acknowledged, the store ends at %lu (visible %lu)", l->durable_min, s.tx_id, s.visible_tx_id);
        return false;
    }
    if (l->mode == MODE_EXTERNAL && (s.tx_id > l->committed_max || s.precommitted_tx_id < l->precommitted_min)) {
        snprintf(why, 512, "committed %lu (allowed %lu), precommitted %lu (at least %lu)", s.tx_id, l->committed_max, s.precommitted_tx_id,
                 l->precommitted_min);
        return false;
    }
    if (!model_check(&l->model, l->store, s.tx_id, l->gone_upto, why))
        return false;
    for (size_t i = 0; i < l->state_count; i++)
        if ((is_thorough || i + 3 > l->state_count) && !model_check_proof(l->store, l->states[i].tx_id, &l->states[i].alh, why))
            return false;
    if (l->mode == MODE_EXTERNAL && s.precommitted_tx_id > s.tx_id) {
        /* They are what was submitted: committing them must give the model. */
        if (s.precommitted_tx_id > l->model.count) {
            snprintf(why, 512, "precommitted %lu of %zu", s.precommitted_tx_id, l->model.count);
            return false;
        }
        if (store_allow_commit(l->store, s.precommitted_tx_id, &s.precommitted_alh, &err) != ST_OK) {
            snprintf(why, 512, "allowing %lu: %s", s.precommitted_tx_id, err.text);
            return false;
        }
        return model_check(&l->model, l->store, s.precommitted_tx_id, l->gone_upto, why);
    }
    return true;
}

/* The store goes on: one more tx, a clean close, and all is there. */
static bool goes_on(struct life *l, struct vfs *vfs, char why[512])
{
    static const uint8_t key[] = {0, 'n', 'e', 'w'};
    struct store_draft *d;
    struct store_result r;
    struct store_state before, after;
    struct err err = {.text = ""};

    store_get_state(l->store, &before);
    if (l->mode == MODE_EXTERNAL)
        return true;
    if (draft_create(l->store, &d, &err) != ST_OK || draft_set(d, bytes_of(key, sizeof key), NULL, bytes_str("x"), &err) != ST_OK)
        abort();
    if (store_commit(l->store, d, true, &r, &err) != ST_OK || r.header.id != before.tx_id + 1) {
        snprintf(why, 512, "writing afterwards: %s", err.text);
        return false;
    }
    life_close(l);
    if (life_open(l, vfs, &err) != ST_OK) {
        snprintf(why, 512, "opening once more: %s", err.text);
        return false;
    }
    store_get_state(l->store, &after);
    if (after.tx_id != before.tx_id + 1 || !hash_equal(&after.alh, &r.alh)) {
        snprintf(why, 512, "after a clean close the store ends at %lu instead of %lu", after.tx_id, before.tx_id + 1);
        return false;
    }
    return model_check_proof(l->store, before.tx_id, &before.alh, why);
}

/* One cut of what the dead machine left. */
static bool point(struct life *l, enum power_cut_mode cut, uint64_t cut_seed, char why[512])
{
    struct vfs *disk = vfs_memory_clone(l->disk), *faulty = NULL;
    struct err err;
    bool ok = false;

    vfs_memory_power_cut(disk, cut, cut_seed);
    if (cut_seed % 4 == 1) { /* dies again while recovering */
        faulty = vfs_faulty_create(disk);
        vfs_faulty_arm(faulty, FAULT_STOP_TORN, 1 + cut_seed / 4 % 24, cut_seed);
        if (life_open(l, faulty, &err) == ST_OK)
            life_close(l);
        vfs_faulty_destroy(faulty);
        vfs_memory_power_cut(disk, (enum power_cut_mode)(cut_seed / 128 % 3), cut_seed);
    }
    if (life_open(l, disk, &err) != ST_OK) {
        snprintf(why, 512, "open: %s", err.text);
        goto done;
    }
    ok = recovered_check(l, cut_seed % 8 == 0, why) && (cut_seed % 4 != 2 || goes_on(l, disk, why));
    if (l->store != NULL)
        life_close(l);
done:
    vfs_memory_destroy(disk);
    return ok;
}

struct totals {
    uint64_t points, lives, operations;
};

/* All cuts after the machine died at operation die_at of the workload; *done when it had fewer operations. */
static bool die_at_all_cuts(uint64_t seed, uint64_t die_at, struct totals *t, bool *done)
{
    static const struct {
        enum power_cut_mode cut;
        int count;
    } cuts[] = {{POWER_CUT_LOSE_UNSYNCED, 1}, {POWER_CUT_KEEP_ALL, 1}, {POWER_CUT_RANDOM, 6}};
    struct life *l = calloc(1, sizeof *l);
    char why[512] = "";
    bool ok = true;
    uint64_t cut_seed = seed * 1000003 + die_at * 31;

    life_begin(l, seed);
    life_run(l, die_at);
    *done = !vfs_faulty_fired(l->vfs);
    if (l->wrong != NULL) {
        snprintf(why, sizeof why, "%s", l->wrong);
        ok = false;
    }
    for (size_t i = 0; i < 3 && ok; i++) {
        for (int k = 0; k < cuts[i].count && ok; k++) {
            ok = point(l, cuts[i].cut, ++cut_seed, why);
            t->points++;
            if (!ok)
                fprintf(stderr, "cut mode %d, cut seed %lu: ", (int)cuts[i].cut, cut_seed);
        }
    }
    if (!ok)
        fprintf(stderr, "FAILED seed=%lu at=%lu: %s\n", seed, die_at, why);
    t->operations += vfs_faulty_op_count(l->vfs);
    t->lives++;
    life_end(l);
    free(l);
    return ok;
}

static double seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    const char *env = getenv("CRASH_TEST");
    uint64_t points_wanted = 20000, seed = 1, at = 0;
    struct totals t = {0, 0, 0};
    double start = seconds();
    int failures = 0;
    bool is_single = false;

    for (int i = 0; i < argc; i++) {
        const char *arg = i == 0 ? (env != NULL ? env : "quick") : argv[i];

        if (strcmp(arg, "quick") == 0)
            points_wanted = 20000;
        else if (strcmp(arg, "ci") == 0)
            points_wanted = 100000;
        else if (strncmp(arg, "points=", 7) == 0)
            points_wanted = strtoull(arg + 7, NULL, 10);
        else if (strncmp(arg, "seed=", 5) == 0)
            seed = strtoull(arg + 5, NULL, 10), is_single = true;
        else if (strncmp(arg, "at=", 3) == 0)
            at = strtoull(arg + 3, NULL, 10);
        else if (strcmp(arg, "verbose") == 0)
            is_verbose = true;
        else {
            fprintf(stderr, "unknown argument %s\n", arg);
            return 2;
        }
    }
    if (at > 0) {
        bool done;

        return die_at_all_cuts(seed, at, &t, &done) ? 0 : 1;
    }
    /* Each workload's operations from a start that moves with the seed, so that a small number of points still sees all of them. */
    for (; t.points < points_wanted && failures < 5; seed++) {
        bool done = false;
        uint64_t step_by = points_wanted < 50000 && !is_single ? 7 : 1;

        for (uint64_t n = 1 + seed % step_by; !done && t.points < points_wanted; n += step_by)
            if (!die_at_all_cuts(seed, n, &t, &done) && ++failures >= 5)
                break;
    }
    printf("%lu crash points in %lu lives, %lu changing operations, last seed %lu, %.1f s: %s\n", t.points, t.lives, t.operations, seed - 1,
           seconds() - start, failures == 0 ? "all recovered" : "FAILED");
    return failures == 0 ? 0 : 1;
}
