/* Recovery after a crash at every single operation that changes the disk.
 *
 * A workload (by seed) runs on a faulty vfs over vfs_memory with segments of 2 KiB, so that every few batches open, seal or truncate one. For n = 1, 2, 3,
 * ... the machine dies at operation n (a write may be half done), the power goes in every mode, and the log is opened again; sometimes the machine dies
 * once more during that. The workload keeps a list of its frames. What the log holds afterwards must be exactly the result of a prefix of
 * that list which contains everything that was synced: nothing acknowledged is missing, nothing is invented, nothing is half there; and the log goes on
 * working. */
#include "log/log_fixture.h"

enum { STEPS = 26, FRAMES_MAX = 256, IDS_MAX = 2048 };

enum kind { ORDINARY = 0, ASYNC, REPLICATED, KINDS };

struct done_frame {
    bool is_discard;
    uint64_t first, last; /* txs; or last = discard after */
    uint64_t seed;
    uint64_t committed; /* largest tx known committed once this frame is durable */
};

struct model {
    struct done_frame frames[FRAMES_MAX];
    size_t begun, synced; /* frames handed to log_batch_write, and those that a sync covered */
    uint64_t last, committed, seed;
    uint64_t truncated; /* a truncation up to here returned */
};

/* --- the workload; every failure ends it --- */

static bool put_frame(struct fixture *f, struct model *m, const struct done_frame *d)
{
    hash_t alh = HASH_ZERO;
    enum status st;

    m->frames[m->begun++] = *d;
    if (d->is_discard) {
        if (log_batch_begin(f->log, &f->err) != ST_OK)
            return false;
        st = log_batch_discard(f->log, d->last, &alh, &f->err);
        if (st == ST_OK)
            st = log_batch_write(f->log, d->committed, &f->err);
        if (st != ST_OK)
            log_batch_abort(f->log);
        return st == ST_OK;
    }
    if (d->first == 0) { /* COMMIT alone */
        if (log_batch_begin(f->log, &f->err) != ST_OK)
            return false;
        st = log_batch_commit(f->log, d->committed, &alh, &f->err);
        if (st == ST_OK)
            st = log_batch_write(f->log, 0, &f->err);
        if (st != ST_OK)
            log_batch_abort(f->log);
        return st == ST_OK;
    }
    f->seed = d->seed;
    return fixture_write(f, d->first, d->last, d->committed) == ST_OK;
}

static bool sync_all(struct fixture *f, struct model *m)
{
    size_t begun = m->begun;

    if (log_sync(f->log, &f->err) != ST_OK)
        return false;
    m->synced = begun;
    return true;
}

static bool add_txs(struct fixture *f, struct model *m, uint64_t count)
{
    struct done_frame d = {.first = m->last + 1, .last = m->last + count, .seed = m->seed, .committed = m->committed};

    if (!put_frame(f, m, &d))
        return false;
    m->last = d.last;
    return true;
}

static bool step_ordinary(struct fixture *f, struct model *m, uint64_t *random, bool is_async)
{
    struct frontier frontier = {.size = 0};

    if (!add_txs(f, m, 1 + test_random(random) % 4))
        return false;
    if (is_async && test_random(random) % 4 != 0) {
        log_publish(f->log, m->last); /* visible, not durable */
        return test_random(random) % 5 != 0 || log_vouch(f->log, &f->err) == ST_OK;
    }
    if (!sync_all(f, m))
        return false;
    m->committed = m->last;
    log_note_committed(f->log, m->last);
    log_publish(f->log, m->last);
    frontier.size = m->last;
    log_note_frontier(f->log, &frontier);
    return test_random(random) % 2 != 0 || log_vouch(f->log, &f->err) == ST_OK;
}

static bool step_replicated(struct fixture *f, struct model *m, uint64_t *random)
{
    struct done_frame d = {0};

    switch (test_random(random) % 4) {
    case 0: /* COMMIT of some */
        if (m->committed == m->last)
            return true;
        m->committed += 1 + test_random(random) % (m->last - m->committed);
        d.committed = m->committed;
        if (!put_frame(f, m, &d) || !sync_all(f, m))
            return false;
        log_publish(f->log, m->committed);
        return true;
    case 1: /* DISCARD of the rest */
        if (m->committed == m->last)
            return true;
        d = (struct done_frame){.is_discard = true, .last = m->committed + test_random(random) % (m->last - m->committed), .committed = m->committed};
        if (!put_frame(f, m, &d) || !sync_all(f, m))
            return false;
        log_cut(f->log, d.last);
        m->last = d.last;
        m->seed++;
        return true;
    default:
        return add_txs(f, m, 1 + test_random(random) % 5) && sync_all(f, m);
    }
}

static void run_workload(struct fixture *f, struct model *m, enum kind kind, uint64_t seed)
{
    uint64_t random = seed, freed, upto;
    bool ok = true;

    m->seed = 7;
    for (int i = 0; i < STEPS && ok; i++) {
        ok = kind == REPLICATED ? step_replicated(f, m, &random) : step_ordinary(f, m, &random, kind == ASYNC);
        fixture_ns += 100000000;
        if (ok && i % 3 == 2)
            ok = log_advance_background(f->log, &f->err) == ST_OK;
        if (ok && i % 9 == 7) {
            ok = log_truncate(f->log, m->committed - m->committed / 3, &freed, &upto, &f->err) == ST_OK;
            if (ok && upto > m->truncated)
                m->truncated = upto;
        }
        if (ok && i == STEPS / 2 && test_random(&random) % 2 == 0) { /* closed and opened in the middle */
            fixture_close(f, test_random(&random) % 2 == 0);
            m->synced = m->begun; /* closing clean synced; opening after the other one makes durable what it finds */
            ok = fixture_open(f, true) == ST_OK;
            if (!ok)
                m->synced = 0;
        }
    }
}

/* --- what may be there --- */

struct outcome {
    uint64_t last, committed;
    uint64_t seeds[IDS_MAX];
};

static void apply_frames(const struct model *m, size_t count, struct outcome *o)
{
    memset(o, 0, sizeof *o);
    for (size_t i = 0; i < count; i++) {
        const struct done_frame *d = &m->frames[i];

        for (uint64_t id = d->first; d->first != 0 && id <= d->last; id++)
            o->seeds[id] = d->seed;
        if (d->is_discard || d->first != 0)
            o->last = d->last;
        o->committed = d->committed > o->committed ? d->committed : o->committed;
    }
}

static bool tx_has_seed(struct fixture *f, uint64_t tx_id, uint64_t seed)
{
    struct tx_header h;
    struct content c;
    bool same;

    f->seed = seed;
    content_make(f, tx_id, &c);
    f->err.text[0] = '\0';
    same = log_tx_header(f->log, tx_id, &h, &f->err) == ST_OK && hash_equal(&h.prev_alh, &c.header.prev_alh);
    content_free(&c);
    return same;
}

static bool is_gone(struct fixture *f, uint64_t tx_id)
{
    struct tx_entry e;
    struct log_tx t;
    bool gone;

    assert_int_equal(log_tx_open(f->log, tx_id, false, &t, &f->err), ST_OK);
    gone = t.entry_count == 0 || (log_tx_entry(f->log, &t, 0, &e, &f->err) == ST_OK && e.is_value_gone);
    log_tx_close(f->log, &t);
    return gone;
}

static bool outcome_fits(struct fixture *f, const struct outcome *o)
{
    if (f->report.precommitted_upto != o->last)
        return false;
    for (uint64_t id = 1; id <= o->last; id++)
        if (!tx_has_seed(f, id, o->seeds[id]))
            return false;
    return true;
}

static void check_recovered(struct fixture *f, const struct model *m, const char *where, uint64_t n)
{
    static struct outcome o;
    bool fits = false;

    if (f->report.is_damaged)
        fail_msg("%s, operation %llu: damaged: %s", where, (unsigned long long)n, f->report.damage);
    for (size_t k = m->synced; k <= m->begun && !fits; k++) {
        apply_frames(m, k, &o);
        fits = outcome_fits(f, &o);
    }
    for (size_t k = 0; k < m->begun && !fits; k++)
        print_message("frame %zu%s: %s %llu..%llu seed %llu committed %llu\n", k, k < m->synced ? "" : " (not synced)",
                      m->frames[k].is_discard ? "discard" : "txs", (unsigned long long)m->frames[k].first, (unsigned long long)m->frames[k].last,
                      (unsigned long long)m->frames[k].seed, (unsigned long long)m->frames[k].committed);
    if (!fits)
        fail_msg("%s, operation %llu: %llu txs found, %zu frames synced of %zu; %s", where, (unsigned long long)n,
                 (unsigned long long)f->report.precommitted_upto, m->synced, m->begun, f->err.text);
    for (uint64_t id = 1; id <= o.last; id++) {
        bool gone = is_gone(f, id);

        if (id <= m->truncated)
            assert_true(gone);
        f->seed = o.seeds[id];
        if (gone)
            fixture_check_tx(f, id, true);
        else
            fixture_check_tx(f, id, false);
    }
    apply_frames(m, m->synced, &o);
    assert_true(f->report.committed_upto >= o.committed);
    assert_true(f->report.committed_upto <= f->report.precommitted_upto);
    assert_int_equal(fixture_scrub(f), 0);
}

static void check_goes_on(struct fixture *f, const char *where, uint64_t n, uint64_t seed)
{
    uint64_t last = f->report.precommitted_upto;

    f->seed = 4711;
    assert_int_equal(fixture_commit(f, last + 1, last + 3), ST_OK);
    assert_int_equal(log_vouch(f->log, &f->err), ST_OK);
    fixture_check_range(f, last + 1, last + 3, false);
    fixture_close(f, true);
    assert_int_equal(fixture_open(f, false), ST_OK);
    if (f->report.is_damaged)
        fail_msg("%s, operation %llu, seed %llu: opened after going on: %s", where, (unsigned long long)n, (unsigned long long)seed,
                 f->report.damage);
    assert_true(f->report.was_clean);
    assert_int_equal(f->report.precommitted_upto, last + 3);
    assert_int_equal(fixture_scrub(f), 0);
    fixture_check_range(f, last + 1, last + 3, false);
}

static void reopen_and_check(const struct fixture *made, struct vfs *memory, const struct model *m, const char *where, uint64_t n, uint64_t seed)
{
    struct fixture f = *made;
    struct vfs *faulty = NULL;
    uint64_t random = seed;
    enum status st;

    f.vfs = memory;
    if (test_random(&random) % 3 == 0) { /* dies again while recovering */
        f.vfs = faulty = vfs_faulty_create(memory);
        vfs_faulty_arm(faulty, FAULT_STOP_TORN, 1 + test_random(&random) % 12, random);
        st = fixture_open(&f, true);
        fixture_close(&f, false);
        vfs_faulty_destroy(faulty);
        vfs_memory_power_cut(memory, (enum power_cut_mode)(test_random(&random) % 3), random);
        f.vfs = memory;
    }
    if ((st = fixture_open(&f, true)) != ST_OK)
        fail_msg("%s, operation %llu: %s", where, (unsigned long long)n, f.err.text);
    check_recovered(&f, m, where, n);
    check_goes_on(&f, where, n, seed);
    fixture_close(&f, true);
}

static void crash_everywhere(enum kind kind, uint64_t seed, const char *where)
{
    static struct model m;
    bool fired = true;

    for (uint64_t n = 1; fired; n++) {
        struct vfs *memory = vfs_memory_create(), *faulty = vfs_faulty_create(memory);
        struct fixture f;

        fixture_init(&f, faulty);
        f.segment_bytes_first = f.segment_bytes_max = 2048;
        memset(&m, 0, sizeof m);
        fixture_random_state = seed;
        fixture_ns = 1700000000000000000u;
        vfs_faulty_arm(faulty, n % 2 == 0 ? FAULT_STOP : FAULT_STOP_TORN, n, seed + n);
        if (fixture_open(&f, true) == ST_OK)
            run_workload(&f, &m, kind, seed);
        fired = vfs_faulty_fired(faulty);
        fixture_close(&f, false);
        vfs_faulty_destroy(faulty);
        for (uint64_t cut = 0; cut < 4; cut++) {
            struct vfs *copy = vfs_memory_clone(memory);

            assert_non_null(copy);
            vfs_memory_power_cut(copy,
                                 cut == 0   ? POWER_CUT_LOSE_UNSYNCED
                                 : cut == 1 ? POWER_CUT_KEEP_ALL
                                            : POWER_CUT_RANDOM,
                                 seed * 31 + n * 7 + cut);
            reopen_and_check(&f, copy, &m, where, n, seed + n * 13 + cut);
            vfs_memory_destroy(copy);
        }
        vfs_memory_destroy(memory);
    }
}

/* LOG_CRASH_FIRST_SEED, LOG_CRASH_SEEDS: which workloads of each kind, and how many. */
static unsigned number(const char *name)
{
    const char *text = getenv(name);

    return text != NULL ? (unsigned)strtoul(text, NULL, 10) : 1;
}
static unsigned first_seed(void) { return number("LOG_CRASH_FIRST_SEED"); }
static unsigned end_seed(void) { return first_seed() + number("LOG_CRASH_SEEDS"); }

static void crash_with_durable_commits(void **state)
{
    (void)state;
    for (unsigned s = first_seed(); s < end_seed(); s++)
        crash_everywhere(ORDINARY, s, "durable");
}

static void crash_with_asynchronous_commits(void **state)
{
    (void)state;
    for (unsigned s = first_seed(); s < end_seed(); s++)
        crash_everywhere(ASYNC, s, "asynchronous");
}

static void crash_with_marks_and_discards(void **state)
{
    (void)state;
    for (unsigned s = first_seed(); s < end_seed(); s++)
        crash_everywhere(REPLICATED, s, "replicated");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crash_with_durable_commits),
        cmocka_unit_test(crash_with_asynchronous_commits),
        cmocka_unit_test(crash_with_marks_and_discards),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
