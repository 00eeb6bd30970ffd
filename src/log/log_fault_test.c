/* Failing disks and failing allocations.
 *
 * Running out of space is a status: at every operation of a workload the disk gets full, everything that was reported as written stays, the refused
 * batch is not there, and once there is space again the same batch goes through. Any other failed write or sync at every operation: the log refuses
 * writes for good, keeps answering reads of what was synced, and the next open is clean. Every allocation of a workload fails once: nothing is lost,
 * nothing leaks (under a leak checker), and the call can be repeated. */
#include "log/log_fixture.h"

#include "base/alloc_failing.h"

enum { STEPS = 30 };

static void small_segments(struct fixture *f, struct vfs *v)
{
    fixture_init(f, v);
    f->segment_bytes_first = f->segment_bytes_max = 2048;
}

/* Commits txs until *id reaches upto; *id is the next one to commit. Stops at a failure. */
static enum status work(struct fixture *f, uint64_t *id, uint64_t upto)
{
    uint64_t freed, truncated;
    enum status st = ST_OK;

    while (*id <= upto) {
        uint64_t count = 1 + *id % 3;

        if ((st = fixture_commit(f, *id, *id + count - 1)) != ST_OK)
            return st;
        *id += count;
        fixture_ns += 100000000;
        if (*id % 4 == 0 && (st = log_vouch(f->log, &f->err)) != ST_OK)
            return st;
        if (*id % 5 == 0 && (st = log_advance_background(f->log, &f->err)) != ST_OK)
            return st;
        if (*id % 13 == 0 && (st = log_truncate(f->log, *id / 2, &freed, &truncated, &f->err)) != ST_OK)
            return st;
    }
    return ST_OK;
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

static void check_all(struct fixture *f, uint64_t last)
{
    for (uint64_t id = 1; id <= last; id++)
        fixture_check_tx(f, id, is_gone(f, id));
}

static void no_space_heals(void **state)
{
    bool fired = true;

    (void)state;
    for (uint64_t n = 1; fired; n++) {
        struct vfs *memory = vfs_memory_create(), *faulty = vfs_faulty_create(memory);
        uint64_t id = 1, before;
        struct fixture f;
        enum status st;

        small_segments(&f, faulty);
        vfs_faulty_arm(faulty, FAULT_NO_SPACE, n, n);
        st = fixture_open(&f, true);
        if (st != ST_OK) {
            assert_int_equal(st, ST_NO_SPACE);
            fired = vfs_faulty_fired(faulty);
            vfs_faulty_heal(faulty);
            assert_int_equal(fixture_open(&f, true), ST_OK);
        }
        st = work(&f, &id, STEPS * 2);
        fired = fired && (vfs_faulty_fired(faulty) || st == ST_NO_SPACE || id == 1);
        if (st != ST_OK) {
            if (st != ST_NO_SPACE)
                fail_msg("operation %llu: %s: %s", (unsigned long long)n, status_name(st), f.err.text);
            before = log_published(f.log);
            for (int again = 0; again < 3; again++) /* still full */
                assert_int_equal(fixture_commit(&f, id, id + 5), ST_NO_SPACE);
            check_all(&f, before);
            if (n % 3 == 0) { /* dies while the disk is full */
                struct vfs *copy = vfs_memory_clone(memory);
                struct fixture g;

                vfs_memory_power_cut(copy, n % 2 == 0 ? POWER_CUT_KEEP_ALL : POWER_CUT_RANDOM, n);
                small_segments(&g, copy);
                assert_int_equal(fixture_open(&g, true), ST_OK);
                assert_false(g.report.is_damaged);
                assert_int_equal(g.report.precommitted_upto, before);
                fixture_close(&g, true);
                vfs_memory_destroy(copy);
            }
            vfs_faulty_heal(faulty);
            if (work(&f, &id, STEPS * 2) != ST_OK)
                fail_msg("operation %llu, healed: %s", (unsigned long long)n, f.err.text);
        }
        check_all(&f, id - 1);
        assert_int_equal(fixture_scrub(&f), 0);
        fixture_close(&f, true);
        assert_int_equal(fixture_open(&f, false), ST_OK);
        assert_false(f.report.is_damaged);
        assert_int_equal(f.report.precommitted_upto, id - 1);
        check_all(&f, id - 1);
        fixture_close(&f, true);
        vfs_faulty_destroy(faulty);
        vfs_memory_destroy(memory);
        if (!fired)
            assert_true(n > 60);
    }
}

/* The write that is refused may have left bytes behind: they must not come back as a tx. */
static void a_refused_batch_never_comes_back(void **state)
{
    (void)state;
    for (uint64_t room = 0; room < 3000; room += 61) {
        struct vfs *memory = vfs_memory_create();
        struct fixture f;
        uint64_t id = 1;

        small_segments(&f, memory);
        assert_int_equal(fixture_open(&f, true), ST_OK);
        assert_int_equal(work(&f, &id, 10), ST_OK);
        vfs_memory_set_capacity(memory, 6000 + room);
        while (fixture_commit(&f, id, id + 1) == ST_OK)
            id += 2;
        assert_int_equal(f.err.status, ST_NO_SPACE);
        fixture_close(&f, false);
        vfs_memory_set_capacity(memory, 0);
        vfs_memory_power_cut(memory, POWER_CUT_KEEP_ALL, room);
        assert_int_equal(fixture_open(&f, true), ST_OK);
        assert_false(f.report.is_damaged);
        assert_int_equal(f.report.precommitted_upto, id - 1);
        fixture_close(&f, true);
        vfs_memory_destroy(memory);
    }
}

static void failed_writes_and_syncs_are_final(void **state)
{
    bool fired = true;

    (void)state;
    for (uint64_t n = 1; fired; n++) {
        struct vfs *memory = vfs_memory_create(), *faulty = vfs_faulty_create(memory);
        uint64_t id = 1, acknowledged;
        struct fixture f;
        enum status st;

        small_segments(&f, faulty);
        vfs_faulty_arm(faulty, FAULT_EIO, n, n * 3);
        if ((st = fixture_open(&f, true)) == ST_OK) {
            st = work(&f, &id, STEPS * 2);
            fired = vfs_faulty_fired(faulty);
            acknowledged = log_published(f.log);
            if (st != ST_OK && atomic_load(&f.log->is_failed)) {
                assert_int_equal(log_batch_begin(f.log, &f.err), ST_READ_ONLY);
                assert_int_equal(log_sync(f.log, &f.err), ST_READ_ONLY);
                assert_int_equal(log_advance_background(f.log, &f.err), ST_READ_ONLY);
                assert_non_null(strstr(f.err.text, "injected"));
            }
            check_all(&f, acknowledged);
            fixture_close(&f, n % 2 == 0);
        } else {
            fired = vfs_faulty_fired(faulty);
            acknowledged = 0;
        }
        vfs_faulty_destroy(faulty);
        for (int cut = 0; cut < 3; cut++) {
            struct vfs *copy = vfs_memory_clone(memory);

            vfs_memory_power_cut(copy, (enum power_cut_mode)cut, n);
            small_segments(&f, copy);
            if (fixture_open(&f, true) != ST_OK)
                fail_msg("operation %llu: %s", (unsigned long long)n, f.err.text);
            if (f.report.is_damaged)
                fail_msg("operation %llu: %s", (unsigned long long)n, f.report.damage);
            assert_true(f.report.precommitted_upto >= acknowledged);
            assert_true(f.report.precommitted_upto < id + 3);
            check_all(&f, f.report.precommitted_upto);
            assert_int_equal(fixture_scrub(&f), 0);
            id = f.report.precommitted_upto + 1;
            assert_int_equal(work(&f, &id, id + 5), ST_OK);
            fixture_close(&f, true);
            vfs_memory_destroy(copy);
            id += 1000; /* only the first copy knows where it was */
        }
        vfs_memory_destroy(memory);
    }
}

static void failed_reads_are_told(void **state)
{
    struct vfs *memory = vfs_memory_create(), *faulty = vfs_faulty_create(memory);
    bool fired = true;
    struct fixture f;
    uint64_t id = 1;

    (void)state;
    small_segments(&f, memory);
    assert_int_equal(fixture_open(&f, true), ST_OK);
    assert_int_equal(work(&f, &id, 60), ST_OK);
    fixture_close(&f, false);
    for (uint64_t n = 1; fired; n++) {
        enum status st;

        small_segments(&f, faulty);
        vfs_faulty_arm(faulty, FAULT_EIO_READ, n, n);
        st = fixture_open(&f, false);
        if (st == ST_OK) {
            struct tx_header h;

            assert_false(f.report.is_damaged);
            assert_int_equal(f.report.precommitted_upto, id - 1);
            for (uint64_t i = 1; i < id; i++) {
                st = log_tx_header(f.log, i, &h, &f.err);
                assert_true(st == ST_OK || st == ST_IO);
            }
            fixture_close(&f, false);
        } else {
            assert_int_equal(st, ST_IO);
            assert_null(f.log);
        }
        fired = vfs_faulty_fired(faulty);
        vfs_faulty_heal(faulty);
    }
    small_segments(&f, memory);
    assert_int_equal(fixture_open(&f, false), ST_OK);
    check_all(&f, id - 1);
    fixture_close(&f, true);
    vfs_faulty_destroy(faulty);
    vfs_memory_destroy(memory);
}

/* One call that must either work or say ST_NOMEM and work when repeated. */
#define REPEATED(call) \
    do { \
        st_ = (call); \
        if (st_ == ST_NOMEM && alloc_fail_disarm()) \
            st_ = (call); \
    } while (0)

static void work_without_memory(struct fixture *f, long n)
{
    struct log_pin pin = {0};
    uint64_t freed, upto, last = 0;
    struct arena arena;
    struct tx_entry e;
    struct log_tx t;
    enum status st_;
    bool is_dead = false;

    arena_init(&arena, 4096, 0);
    alloc_fail_arm(n, false);
    REPEATED(fixture_open(f, true));
    assert_int_equal(st_, ST_OK);
    for (uint64_t id = 1; id <= 24; id += 2) {
        struct content c[2];
        struct tx_body *body;

        alloc_fail_at = 0;
        content_make(f, id, &c[0]);
        content_make(f, id + 1, &c[1]);
        alloc_fail_arm(n > 100 + (long)id * 4 ? n - 100 - (long)id * 4 : 0, false);
        REPEATED(log_batch_begin(f->log, &f->err));
        assert_int_equal(st_, ST_OK);
        for (int i = 0; i < 2; i++) {
            REPEATED(tx_body_encode(c[i].entries, c[i].header.entry_count, &body, &f->err));
            assert_int_equal(st_, ST_OK);
            REPEATED(log_batch_tx(f->log, &c[i].header, body, &f->err));
            assert_int_equal(st_, ST_OK);
            tx_body_free(body);
        }
        REPEATED(log_batch_write(f->log, id - 1, &f->err));
        if (st_ == ST_OK)
            REPEATED(log_sync(f->log, &f->err));
        if (st_ != ST_OK) { /* the disk in memory could not sync for want of memory: that is final like any failed sync */
            assert_true(st_ == ST_READ_ONLY || atomic_load(&f->log->is_failed));
            log_batch_abort(f->log);
            content_free(&c[0]);
            content_free(&c[1]);
            is_dead = true;
            break;
        }
        last = id + 1;
        log_note_committed(f->log, id + 1);
        log_publish(f->log, id + 1);
        REPEATED(log_advance_background(f->log, &f->err));
        assert_true(st_ == ST_OK || atomic_load(&f->log->is_failed));
        REPEATED(log_tx_open(f->log, id, false, &t, &f->err));
        assert_int_equal(st_, ST_OK);
        log_tx_close(f->log, &t);
        if (c[1].header.entry_count > 0) {
            REPEATED(log_entry_read(f->log, id + 1, 0, false, true, &arena, &pin, &e, &f->err));
            assert_int_equal(st_, ST_OK);
        }
        content_free(&c[0]);
        content_free(&c[1]);
    }
    log_pin_release(f->log, &pin);
    alloc_fail_arm(n, false);
    REPEATED(log_truncate(f->log, 16, &freed, &upto, &f->err));
    assert_true((st_ == ST_OK && upto > 0) || atomic_load(&f->log->is_failed));
    alloc_fail_disarm();
    check_all(f, last);
    assert_int_equal(fixture_scrub(f), 0);
    fixture_close(f, n % 2 == 0);
    alloc_fail_arm(n, false);
    REPEATED(fixture_open(f, false));
    assert_int_equal(st_, ST_OK);
    alloc_fail_disarm();
    assert_false(f->report.is_damaged);
    assert_true(f->report.precommitted_upto == last || (is_dead && f->report.precommitted_upto == last + 2));
    check_all(f, last);
    fixture_close(f, true);
    arena_free(&arena);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    for (long n = 1; n < 260; n++) {
        struct vfs *memory = vfs_memory_create();
        struct fixture f;

        small_segments(&f, memory);
        work_without_memory(&f, n);
        alloc_fail_disarm();
        vfs_memory_destroy(memory);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_space_heals),
        cmocka_unit_test(a_refused_batch_never_comes_back),
        cmocka_unit_test(failed_writes_and_syncs_are_final),
        cmocka_unit_test(failed_reads_are_told),
        cmocka_unit_test(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
