/* Readers beside the writer, a second thread that syncs, the background thread and truncation: for a second or so everything at once with small segments,
 * each read checked byte for byte. Meant to be run under the thread sanitizer as well. */
#include "log/log_fixture.h"

#include <pthread.h>
#include <sched.h>

enum { TXS = 4000, READERS = 3 };

struct shared {
    struct fixture *f;
    _Atomic bool is_over;
    _Atomic uint64_t committed, truncated, reads;
};

/* For one thread: its own error text. */
static struct fixture view(const struct fixture *f) { return (struct fixture){.log = f->log, .seed = f->seed, .big_every = f->big_every}; }

static void *run_writer(void *ctx)
{
    struct shared *s = ctx;
    struct fixture f = view(s->f);

    for (uint64_t id = 1; id <= TXS;) {
        uint64_t count = 1 + id % 7;

        if (fixture_write(&f, id, id + count - 1, atomic_load(&s->committed)) != ST_OK)
            fail_msg("%s", f.err.text);
        id += count;
        if (id % 3 == 0) {
            assert_int_equal(log_sync(f.log, &f.err), ST_OK);
            log_note_committed(f.log, id - 1);
            assert_int_equal(log_vouch(f.log, &f.err), ST_OK);
            atomic_store(&s->committed, id - 1);
        }
        log_publish(f.log, id - 1);
        __atomic_fetch_add(&fixture_ns, 1000000, __ATOMIC_RELAXED);
    }
    atomic_store(&s->is_over, true);
    return NULL;
}

static void *run_syncer(void *ctx)
{
    struct shared *s = ctx;
    struct err err;

    while (!atomic_load(&s->is_over)) {
        assert_int_equal(log_sync(s->f->log, &err), ST_OK);
        (void)log_synced_tx(s->f->log);
        sched_yield();
    }
    return NULL;
}

static void *run_background(void *ctx)
{
    struct shared *s = ctx;
    struct log_stats stats;
    struct err err;

    while (!atomic_load(&s->is_over)) {
        if (log_wants_background(s->f->log))
            assert_int_equal(log_advance_background(s->f->log, &err), ST_OK);
        log_stats(s->f->log, &stats);
        sched_yield();
    }
    return NULL;
}

static void *run_truncation(void *ctx)
{
    struct shared *s = ctx;
    uint64_t freed, upto, bad = 0;
    struct err err;

    while (!atomic_load(&s->is_over)) {
        uint64_t committed = atomic_load(&s->committed);

        if (committed > atomic_load(&s->truncated) + 500) {
            assert_int_equal(log_truncate(s->f->log, committed - 300, &freed, &upto, &err), ST_OK);
            if (upto > atomic_load(&s->truncated))
                atomic_store(&s->truncated, upto);
            assert_int_equal(log_scrub(s->f->log, fixture_count_bad, &bad, &err), ST_OK);
            assert_int_equal(bad, 0);
        }
        sched_yield();
    }
    return NULL;
}

/* The value must be right or, below the truncation, gone; after truncated was seen above the tx it must be gone. */
static void read_one(struct shared *s, const struct fixture *f, uint64_t tx_id, struct log_pin *pin, struct arena *arena)
{
    bool must_be_gone = tx_id <= atomic_load(&s->truncated);
    struct content c;
    struct tx_entry e;
    struct log_tx t;
    struct bytes value;
    struct err err;
    enum status st;

    content_make(f, tx_id, &c);
    if (must_be_gone)
        log_pin_release(f->log, pin); /* a pin may go on seeing what it saw */
    for (uint32_t i = 0; i < c.header.entry_count; i++) {
        st = log_entry_read(f->log, tx_id, i, false, true, arena, pin, &e, &err);
        if (st == ST_NOT_FOUND) {
            assert_string_equal(err.text, "value was truncated");
            assert_true(tx_id <= atomic_load(&s->committed));
        } else {
            if (st != ST_OK)
                fail_msg("%s", err.text);
            assert_false(must_be_gone);
            assert_true(bytes_equal(e.value, c.entries[i].value));
        }
        assert_true(bytes_equal(e.key, c.entries[i].key));
    }
    st = log_tx_open(f->log, tx_id, false, &t, &err);
    if (st != ST_OK)
        fail_msg("%s", err.text);
    assert_memory_equal(t.header.eh.b, c.header.eh.b, HASH_LEN);
    for (uint32_t i = 0; i < t.entry_count; i++) {
        st = log_tx_value(f->log, &t, i, arena, &value, &err);
        assert_true(st == ST_OK ? bytes_equal(value, c.entries[i].value) && !must_be_gone : st == ST_NOT_FOUND);
    }
    log_tx_close(f->log, &t);
    arena_reset(arena);
    content_free(&c);
}

static bool visit_order(void *ctx, struct log_tx *t) { return t->header.id == (*(uint64_t *)ctx)++; }

static void *run_reader(void *ctx)
{
    struct shared *s = ctx;
    struct fixture f = view(s->f);
    struct log_pin pin = {0};
    struct frontier frontier;
    struct tx_header h;
    struct arena arena;
    uint64_t random = (uint64_t)(uintptr_t)&random, last, at, expected;

    arena_init(&arena, 65536, 0);
    while (!atomic_load(&s->is_over)) {
        if ((last = log_published(f.log)) == 0)
            continue;
        for (int i = 0; i < 20; i++) {
            uint64_t id = i % 3 == 0 ? last : 1 + test_random(&random) % last;

            read_one(s, &f, id, &pin, &arena);
            assert_int_equal(log_tx_header(f.log, id, &h, &f.err), ST_OK);
            assert_int_equal(h.id, id);
            atomic_fetch_add(&s->reads, 1);
        }
        expected = last > 30 ? last - 30 : 1;
        assert_int_equal(log_walk(f.log, expected, last, visit_order, &expected, &f.err), ST_OK);
        assert_int_equal(expected, last + 1);
        assert_int_equal(log_tx_since(f.log, (int64_t)(1000 + last / 6), &at, &f.err), ST_OK);
        assert_true(at <= last + 1000);
        assert_int_equal(log_frontier_before(f.log, last, &frontier, &at, &f.err), ST_OK);
    }
    log_pin_release(f.log, &pin);
    arena_free(&arena);
    return NULL;
}

static void everything_at_once(void **state)
{
    struct vfs *memory = vfs_memory_create();
    pthread_t threads[4 + READERS];
    struct shared s = {0};
    struct fixture f;

    (void)state;
    fixture_init(&f, memory);
    f.segment_bytes_first = 4096;
    f.segment_bytes_max = 32768;
    f.big_every = 97;
    budget_init(&f.budget, (size_t)4 << 20); /* a cache too small for all of it */
    assert_int_equal(fixture_open(&f, true), ST_OK);
    s.f = &f;
    assert_int_equal(pthread_create(&threads[0], NULL, run_writer, &s), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, run_syncer, &s), 0);
    assert_int_equal(pthread_create(&threads[2], NULL, run_background, &s), 0);
    assert_int_equal(pthread_create(&threads[3], NULL, run_truncation, &s), 0);
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&threads[4 + i], NULL, run_reader, &s), 0);
    for (size_t i = 0; i < sizeof threads / sizeof threads[0]; i++)
        pthread_join(threads[i], NULL);
    assert_true(atomic_load(&s.reads) > 100);
    assert_true(atomic_load(&s.truncated) > 0);
    assert_int_equal(fixture_scrub(&f), 0);
    fixture_close(&f, true);
    assert_int_equal(fixture_open(&f, false), ST_OK);
    assert_false(f.report.is_damaged);
    assert_true(f.report.precommitted_upto >= TXS);
    fixture_check_range(&f, atomic_load(&s.committed) - 100, f.report.precommitted_upto, false);
    fixture_close(&f, true);
    vfs_memory_destroy(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(everything_at_once)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
