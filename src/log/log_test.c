/* The log from outside: what is written is read back, by every way of reading, now and after opening again; segments seal; sizes stay small.
 * On vfs_memory, with small segments so that a few hundred txs fill several. */
#include "log/log_fixture.h"

static void written_txs_are_read_back(void **state)
{
    struct fixture f;
    uint64_t id = 1;

    (void)state;
    fixture_init(&f, vfs_memory_create());
    f.big_every = 37;
    assert_int_equal(fixture_open(&f, true), ST_OK);
    assert_true(f.report.was_clean);
    assert_int_equal(f.report.precommitted_upto, 0);
    for (int batch = 0; batch < 60; batch++) {
        uint64_t count = 1 + (uint64_t)batch % 5;

        if (fixture_commit(&f, id, id + count - 1) != ST_OK)
            fail_msg("%s", f.err.text);
        id += count;
        assert_int_equal(log_synced_tx(f.log), id - 1);
        assert_int_equal(log_published(f.log), id - 1);
        if (batch % 7 == 0) {
            assert_int_equal(log_vouch(f.log, &f.err), ST_OK);
            assert_int_equal(log_advance_background(f.log, &f.err), ST_OK);
        }
    }
    fixture_check_range(&f, 1, id - 1, false);
    assert_int_equal(fixture_scrub(&f), 0);
    assert_true(table_count(f.log) > 5);
    fixture_close(&f, true);

    for (int again = 0; again < 3; again++) {
        assert_int_equal(fixture_open(&f, false), ST_OK);
        if (f.report.is_damaged)
            fail_msg("%s", f.report.damage);
        assert_true(f.report.was_clean);
        assert_int_equal(f.report.precommitted_upto, id - 1);
        assert_int_equal(f.report.committed_upto, id - 1);
        assert_int_equal(f.report.torn_bytes, 0);
        fixture_check_range(&f, 1, id - 1, false);
        assert_int_equal(fixture_commit(&f, id, id + 2), ST_OK);
        id += 3;
        fixture_check_range(&f, id - 10, id - 1, false);
        assert_int_equal(fixture_scrub(&f), 0);
        fixture_close(&f, again != 1);
        if (again == 1) { /* not clean: the next open sees it */
            assert_int_equal(fixture_open(&f, false), ST_OK);
            assert_false(f.report.was_clean);
            assert_int_equal(f.report.precommitted_upto, id - 1);
            assert_int_equal(f.report.committed_upto, id - 4); /* no frame says more: an ordinary owner decides */
            log_note_committed(f.log, id - 1);
            fixture_close(&f, true);
        }
    }
    vfs_memory_destroy(f.vfs);
}

static void errors_of_the_caller_are_told(void **state)
{
    struct tx_header header;
    struct log_pin pin = {0};
    struct fixture f;
    struct log_tx t;
    struct tx_entry e;
    struct arena arena;

    (void)state;
    fixture_init(&f, vfs_memory_create());
    arena_init(&arena, 4096, 0);
    assert_int_equal(fixture_open(&f, false), ST_NOT_FOUND);
    assert_null(f.log);
    assert_int_equal(fixture_open(&f, true), ST_OK);
    assert_int_equal(log_tx_header(f.log, 1, &header, &f.err), ST_NOT_FOUND);
    assert_string_equal(f.err.text, "tx not found");
    assert_int_equal(fixture_commit(&f, 1, 3), ST_OK);
    assert_int_equal(log_tx_open(f.log, 0, false, &t, &f.err), ST_NOT_FOUND);
    assert_int_equal(log_tx_open(f.log, 4, false, &t, &f.err), ST_NOT_FOUND);
    assert_int_equal(log_entry_read(f.log, 4, 0, false, true, &arena, &pin, &e, &f.err), ST_NOT_FOUND);
    assert_int_equal(fixture_write(&f, 5, 5, 0), ST_INVALID); /* 4 is next */
    assert_int_equal(fixture_write(&f, 3, 3, 0), ST_INVALID);
    assert_int_equal(fixture_commit(&f, 4, 4), ST_OK);
    fixture_check_range(&f, 1, 4, false);
    fixture_close(&f, true);
    arena_free(&arena);
    vfs_memory_destroy(f.vfs);
}

static bool add_size(void *ctx, const char *name, bool is_dir)
{
    (void)name, (void)is_dir;
    ++*(int *)ctx;
    return true;
}

static void a_new_log_is_small(void **state)
{
    struct log_stats stats;
    struct fixture f;
    int files = 0;

    (void)state;
    fixture_init(&f, vfs_memory_create());
    f.segment_bytes_first = f.segment_bytes_max = 0;
    assert_int_equal(fixture_open(&f, true), ST_OK);
    for (uint64_t id = 1; id <= 50; id++) {
        assert_int_equal(fixture_commit(&f, id, id), ST_OK);
        fixture_ns += 200000000; /* five a second: idle */
        assert_int_equal(log_advance_background(f.log, &f.err), ST_OK);
    }
    log_stats(f.log, &stats);
    assert_true(stats.bytes < 64 * 1024);
    assert_int_equal(stats.bytes_zeroed_ahead, 0);
    assert_int_equal(stats.segments, 1);
    assert_int_equal(f.vfs->ops->list(f.vfs, FIXTURE_DIR, add_size, &files, &f.err), ST_OK);
    assert_int_equal(files, 3); /* MANIFEST, END, one segment */
    fixture_close(&f, true);
    vfs_memory_destroy(f.vfs);
}

/* While a sync carries much, zeros would only be a second write; they come with syncs that carry little. */
static void no_zeros_for_large_syncs(void **state)
{
    struct log_stats stats;
    struct fixture f;
    uint64_t id = 1;

    (void)state;
    fixture_init(&f, vfs_memory_create());
    f.segment_bytes_first = f.segment_bytes_max = 0;
    f.value_max = 4000;
    assert_int_equal(fixture_open(&f, true), ST_OK);
    for (int i = 0; i < 400; i++, id += 8) {
        assert_int_equal(fixture_write(&f, id, id + 7, id - 1), ST_OK);
        fixture_ns += 10000000;
        if (i % 100 == 0)
            assert_int_equal(log_advance_background(f.log, &f.err), ST_OK);
    }
    log_stats(f.log, &stats);
    assert_true(stats.bytes > 4u << 20);
    assert_int_equal(stats.bytes_zeroed_ahead, 0);
    for (int i = 0; i < 100 && stats.bytes_zeroed_ahead == 0; i++, id++) {
        assert_int_equal(fixture_commit(&f, id, id), ST_OK);
        fixture_ns += 10000000;
        assert_int_equal(log_advance_background(f.log, &f.err), ST_OK);
        log_stats(f.log, &stats);
    }
    assert_true(stats.bytes_zeroed_ahead > 0);
    log_publish(f.log, id - 1);
    fixture_check_range(&f, 1, id - 1, false);
    fixture_close(&f, true);
    vfs_memory_destroy(f.vfs);
}

static void zeros_follow_the_write_rate(void **state)
{
    struct log_stats stats;
    struct fixture f;
    uint64_t id = 1;

    (void)state;
    fixture_init(&f, vfs_memory_create());
    f.segment_bytes_first = f.segment_bytes_max = 0;
    f.value_max = 4000;
    assert_int_equal(fixture_open(&f, true), ST_OK);
    for (int i = 0; i < 400; i++, id += 8) {
        assert_int_equal(fixture_commit(&f, id, id + 7), ST_OK);
        fixture_ns += 10000000; /* well above a megabyte a second */
        assert_int_equal(log_advance_background(f.log, &f.err), ST_OK);
        log_stats(f.log, &stats);
        assert_true(stats.bytes_zeroed_ahead <= (4u << 20) + (1u << 20));
    }
    assert_true(stats.bytes_zeroed_ahead > 0);
    assert_true(stats.segments > 1);
    for (int i = 0; i < 30; i++) {
        fixture_ns += 1000000000;
        assert_int_equal(log_advance_background(f.log, &f.err), ST_OK);
    }
    log_stats(f.log, &stats);
    {
        uint64_t before = stats.bytes;

        assert_int_equal(fixture_commit(&f, id, id), ST_OK);
        id++;
        fixture_ns += 1000000000;
        assert_int_equal(log_advance_background(f.log, &f.err), ST_OK);
        log_stats(f.log, &stats);
        assert_true(stats.bytes <= before + 8192); /* idle: nothing more is zeroed */
    }
    fixture_check_range(&f, 1, id - 1, false);
    assert_int_equal(fixture_scrub(&f), 0);
    fixture_close(&f, false);
    assert_int_equal(fixture_open(&f, false), ST_OK);
    assert_false(f.report.is_damaged);
    assert_int_equal(f.report.torn_bytes, 0);
    assert_int_equal(f.report.precommitted_upto, id - 1);
    fixture_close(&f, true);
    vfs_memory_destroy(f.vfs);
}

/* Values that are left where they are, and read in pieces: the same bytes. */
static void pieces_check(struct fixture *f, uint64_t tx_id, const struct tx_entry *entries, uint32_t count, uint64_t *random)
{
    struct log_pin pin = {.far_bytes = 80};
    uint8_t buf[4096];
    struct tx_entry got;
    struct log_value v;
    struct arena arena;

    arena_init(&arena, 4096, 0);
    for (uint32_t i = 0; i < count; i += 7) {
        assert_int_equal(log_entry_read(f->log, tx_id, i, false, true, &arena, &pin, &got, &f->err), ST_OK);
        assert_true(bytes_equal(got.key, entries[i].key));
        assert_int_equal(got.value_len, entries[i].value.len);
        if (got.value_len < 80 || got.value.data != NULL)
            assert_true(bytes_equal(got.value, entries[i].value));
        assert_int_equal(log_value_open(f->log, tx_id, i, &v, &f->err), ST_OK);
        assert_int_equal(v.len, entries[i].value.len);
        while (v.at < v.len) {
            size_t at = v.at, n = 1 + test_random(random) % (v.len - v.at < sizeof buf ? v.len - v.at : sizeof buf);

            assert_int_equal(log_value_read(f->log, &v, buf, n, &f->err), ST_OK);
            assert_memory_equal(buf, entries[i].value.data + at, n);
        }
        log_value_close(&v);
        log_value_close(&v);
    }
    /* The last piece of a damaged value is not given out, whichever part of the entry is damaged. */
    for (uint32_t i = 3; i < count; i += 211) {
        const struct segment *s;
        uint64_t at;

        assert_int_equal(log_value_open(f->log, tx_id, i, &v, &f->err), ST_OK);
        if (v.len < 3) {
            log_value_close(&v);
            continue;
        }
        s = v.segment_;
        at = (v.offset_ + test_random(random) % v.len) * 8 + test_random(random) % 8;
        assert_int_equal(vfs_memory_flip_bit(f->vfs, cache_file_path(s->file), at, &f->err), ST_OK);
        assert_int_equal(log_value_read(f->log, &v, buf, v.len - 1, &f->err), ST_OK);
        assert_int_equal(log_value_read(f->log, &v, buf, 1, &f->err), ST_CORRUPT);
        assert_non_null(strstr(f->err.text, "wrong checksum"));
        assert_int_equal(vfs_memory_flip_bit(f->vfs, cache_file_path(s->file), at, &f->err), ST_OK);
        log_value_close(&v);
    }
    assert_int_equal(log_value_open(f->log, tx_id, count, &v, &f->err), ST_NOT_FOUND);
    assert_int_equal(log_value_open(f->log, tx_id + 1, 0, &v, &f->err), ST_NOT_FOUND);
    log_pin_release(f->log, &pin);
    arena_free(&arena);
}

/* Large entries: own segment, partial reads, warm loading. */
static void large_txs(void **state)
{
    enum { COUNT = 400 };
    struct tx_entry *entries = calloc(COUNT, sizeof *entries), got;
    struct tx_body *body = NULL;
    struct tx_header h = {.version = 1, .entry_count = COUNT, .ts = 5};
    struct log_pin pin = {0};
    struct arena arena;
    struct fixture f;
    struct log_tx t;
    struct bytes value;
    uint64_t random = 3;
    uint8_t *memory = malloc((size_t)COUNT * 3000);

    (void)state;
    assert_true(entries != NULL && memory != NULL);
    fixture_init(&f, vfs_memory_create());
    arena_init(&arena, 65536, 0);
    assert_int_equal(fixture_open(&f, true), ST_OK);
    assert_int_equal(fixture_commit(&f, 1, 2), ST_OK);
    for (int round = 0; round < 3; round++) { /* small values; large ones; a key area above META_CACHE_MAX */
        uint8_t *at = memory;

        for (size_t i = 0; i < COUNT; i++) {
            size_t key_len = round == 2 ? 900 + i : 20, value_len = round == 0 ? i % 65 : 100 + i * 4;

            test_random_fill(&random, at, key_len + value_len);
            entries[i] = (struct tx_entry){
                .key = bytes_of(at, key_len), .value = bytes_of(at + key_len, value_len), .value_len = (uint32_t)value_len};
            sha256(at + key_len, value_len, &entries[i].hval);
            at += key_len + value_len;
        }
        h.id = 3 + (uint64_t)round;
        assert_int_equal(tx_body_encode(entries, COUNT, &body, &f.err), ST_OK);
        assert_int_equal(log_batch_begin(f.log, &f.err), ST_OK);
        assert_int_equal(log_batch_tx(f.log, &h, body, &f.err), ST_OK);
        tx_body_free(body);
        assert_int_equal(log_batch_write(f.log, h.id - 1, &f.err), ST_OK);
        assert_int_equal(log_sync(f.log, &f.err), ST_OK);
        log_publish(f.log, h.id);
        for (int pass = 0; pass < 4; pass++)
            for (size_t i = 0; i < COUNT; i += 1 + (size_t)pass * 13) {
                if (log_entry_read(f.log, h.id, (uint32_t)i, false, true, &arena, &pin, &got, &f.err) != ST_OK)
                    fail_msg("%s", f.err.text);
                assert_true(bytes_equal(got.key, entries[i].key));
                assert_true(bytes_equal(got.value, entries[i].value));
                if (pass == 1)
                    log_pin_release(f.log, &pin);
            }
        log_pin_release(f.log, &pin);
        pieces_check(&f, h.id, entries, COUNT, &random);
        assert_int_equal(log_tx_open(f.log, h.id, false, &t, &f.err), ST_OK);
        for (uint32_t i = 0; i < COUNT; i++) {
            assert_int_equal(log_tx_entry(f.log, &t, i, &got, &f.err), ST_OK);
            assert_memory_equal(got.hval.b, entries[i].hval.b, HASH_LEN);
            assert_int_equal(log_tx_value(f.log, &t, i, &arena, &value, &f.err), ST_OK);
            assert_true(bytes_equal(value, entries[i].value));
        }
        log_tx_close(f.log, &t);
        arena_reset(&arena);
    }
    assert_int_equal(fixture_commit(&f, 6, 9), ST_OK);
    assert_int_equal(fixture_scrub(&f), 0);
    fixture_close(&f, true);
    assert_int_equal(fixture_open(&f, false), ST_OK);
    assert_int_equal(f.report.precommitted_upto, 9);
    fixture_check_range(&f, 1, 2, false);
    fixture_check_range(&f, 6, 9, false);
    fixture_close(&f, true);
    free(entries);
    free(memory);
    arena_free(&arena);
    vfs_memory_destroy(f.vfs);
}

static bool visit_next(void *ctx, struct log_tx *t)
{
    uint64_t *expected = ctx;

    assert_int_equal(t->header.id, *expected);
    ++*expected;
    return true;
}

static void walking_and_times(void **state)
{
    struct fixture f;
    uint64_t expected = 1, tx_id, at;
    struct frontier frontier = {0};

    (void)state;
    fixture_init(&f, vfs_memory_create());
    f.big_every = 29;
    assert_int_equal(fixture_open(&f, true), ST_OK);
    for (uint64_t id = 1; id <= 300; id += 5) {
        assert_int_equal(fixture_commit(&f, id, id + 4), ST_OK);
        frontier.size = id + 4;
        memset(frontier.nodes, (int)id, sizeof frontier.nodes);
        log_note_frontier(f.log, &frontier);
        if (id == 201)
            assert_int_equal(log_advance_background(f.log, &f.err), ST_OK);
    }
    assert_int_equal(log_walk(f.log, 1, 300, visit_next, &expected, &f.err), ST_OK);
    assert_int_equal(expected, 301);
    assert_int_equal(log_walk(f.log, 299, 301, visit_next, &(uint64_t){299}, &f.err), ST_NOT_FOUND);
    for (int64_t ts = 990; ts <= 1105; ts++) {
        uint64_t naive = 1;

        while (naive <= 300 && (naive % 11 == 0 || (int64_t)(1000 + naive / 3) < ts))
            naive++;
        assert_int_equal(log_tx_since(f.log, ts, &tx_id, &f.err), ST_OK);
        assert_int_equal(tx_id, naive);
    }
    assert_int_equal(log_frontier_before(f.log, 300, &frontier, &at, &f.err), ST_OK);
    assert_true(at > 100 && at <= 205);
    assert_int_equal(frontier.size, at);
    assert_int_equal(frontier.nodes[__builtin_ctzll(at)].b[0], (uint8_t)(at - 4));
    assert_int_equal(log_frontier_before(f.log, at - 1, &frontier, &tx_id, &f.err), ST_OK);
    assert_true(tx_id < at);
    assert_int_equal(log_frontier_before(f.log, 1, &frontier, &tx_id, &f.err), ST_OK);
    assert_int_equal(tx_id, 0);
    fixture_close(&f, true);
    vfs_memory_destroy(f.vfs);
}

/* Txs enough for several offset pages per segment, read before and after sealing, opening and truncating; also without waiting for the disk. */
static void many_small_txs(void **state)
{
    enum { TXS = 12000, BATCH = 400 };
    struct log_pin pin = {0};
    struct content c;
    struct arena arena;
    struct fixture f;
    struct tx_entry e;
    uint64_t at, freed, upto = 0;

    (void)state;
    fixture_init(&f, vfs_memory_create());
    arena_init(&arena, 4096, 0);
    f.segment_bytes_first = f.segment_bytes_max = 1500000;
    f.value_max = 20;
    assert_int_equal(fixture_open(&f, true), ST_OK);
    for (uint64_t id = 1; id <= TXS; id += BATCH)
        assert_int_equal(fixture_commit(&f, id, id + BATCH - 1), ST_OK);
    assert_true(table_count(f.log) >= 2);
    assert_true(atomic_load(&table_at(f.log, 0)->tx_count) > 4 * OFFSET_PAGE_TXS);
    for (int round = 0; round < 4; round++) {
        for (uint64_t id = 1; id <= TXS; id++) {
            content_make(&f, id, &c);
            for (uint32_t i = 0; i < c.header.entry_count; i++) {
                enum status st = log_entry_read(f.log, id, i, round % 2 == 0, true, &arena, &pin, &e, &f.err);

                if (st == ST_AGAIN)
                    st = log_entry_read(f.log, id, i, false, true, &arena, &pin, &e, &f.err);
                if (id <= upto) {
                    assert_int_equal(st, ST_NOT_FOUND);
                    assert_true(e.is_value_gone);
                } else {
                    assert_int_equal(st, ST_OK);
                    assert_true(bytes_equal(e.value, c.entries[i].value));
                }
                assert_true(bytes_equal(e.key, c.entries[i].key));
            }
            content_free(&c);
        }
        log_pin_release(f.log, &pin);
        for (uint64_t id = 100; id < TXS; id += 1013) {
            assert_int_equal(log_tx_since(f.log, (int64_t)(1000 + id / 3), &at, &f.err), ST_OK);
            assert_true(at >= id - 3 && at <= id + 1);
        }
        if (round == 0) {
            assert_int_equal(log_advance_background(f.log, &f.err), ST_OK);
            assert_true(atomic_load(&table_at(f.log, 0)->is_sealed));
            assert_null(atomic_load(&table_at(f.log, 0)->map));
        } else if (round == 1) {
            fixture_close(&f, true);
            assert_int_equal(fixture_open(&f, false), ST_OK);
            assert_int_equal(f.report.precommitted_upto, TXS);
        } else if (round == 2) {
            assert_int_equal(log_truncate(f.log, TXS - 1, &freed, &upto, &f.err), ST_OK);
            assert_true(upto > 4 * OFFSET_PAGE_TXS);
        }
    }
    assert_int_equal(fixture_scrub(&f), 0);
    arena_free(&arena);
    fixture_close(&f, true);
    vfs_memory_destroy(f.vfs);
}

/* A record that is read for the first time takes no room in the cache; one that is read again soon does, and is not read from the file a third time. */
static void records_read_once_are_not_kept(void **state)
{
    enum { TXS = 1000, STEP = 50 };
    struct cache_stats before, after;
    struct log_pin pin = {0};
    struct content c;
    struct arena arena;
    struct fixture f;
    struct tx_entry e;

    (void)state;
    fixture_init(&f, vfs_memory_create());
    arena_init(&arena, 4096, 0);
    f.value_max = 100;
    assert_int_equal(fixture_open(&f, true), ST_OK);
    assert_int_equal(fixture_commit(&f, 1, TXS), ST_OK);
    cache_stats(f.cache, &before);
    for (unsigned round = 0; round < 3; round++) {
        uint64_t read = atomic_load(&f.log->records_read);

        for (uint64_t id = STEP; id <= TXS; id += STEP) {
            content_make(&f, id, &c);
            assert_int_equal(log_entry_read(f.log, id, 0, false, true, &arena, &pin, &e, &f.err), ST_OK);
            assert_true(bytes_equal(e.key, c.entries[0].key) && bytes_equal(e.value, c.entries[0].value) && bytes_equal(e.md, c.entries[0].md));
            content_free(&c);
        }
        log_pin_release(f.log, &pin);
        cache_stats(f.cache, &after);
        assert_int_equal(after.blocks - before.blocks, round == 0 ? 0 : TXS / STEP);
        assert_int_equal(atomic_load(&f.log->records_read) - read, round == 2 ? 0 : TXS / STEP);
    }
    arena_free(&arena);
    fixture_close(&f, true);
    vfs_memory_destroy(f.vfs);
}

/* Scans read pages of the file: of a bad one the tx that is hit is named, its neighbours are served, and so is the tx itself once the file reads well again. */
static void a_page_read_badly_is_not_kept(void **state)
{
    enum { TXS = 12000, HIT = 1000 };
    struct log_pin pin = {0};
    uint64_t offset, end;
    struct arena arena;
    struct fixture f;
    struct segment *s;
    struct tx_entry e;
    char path[200];

    (void)state;
    fixture_init(&f, vfs_memory_create());
    arena_init(&arena, 4096, 0);
    f.segment_bytes_first = f.segment_bytes_max = 1500000;
    f.value_max = 20;
    assert_int_equal(fixture_open(&f, true), ST_OK);
    for (uint64_t id = 1; id <= TXS; id += 400)
        assert_int_equal(fixture_commit(&f, id, id + 399), ST_OK);
    assert_int_equal(log_advance_background(f.log, &f.err), ST_OK);
    assert_int_equal(log_locate(f.log, HIT, false, &s, &offset, &end, &f.err), ST_OK);
    assert_true(atomic_load(&s->is_sealed));
    snprintf(path, sizeof path, "%s", cache_file_path(s->file));
    segment_unref(s);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(vfs_memory_flip_bit(f.vfs, path, (offset + 20) * 8, &f.err), ST_OK); /* and back again */
        for (uint64_t id = HIT - 3; id <= HIT + 3; id++) {
            enum status st = log_entry_read(f.log, id, 0, false, false, &arena, &pin, &e, &f.err);

            assert_int_equal(st, round == 0 && id == HIT ? ST_CORRUPT : ST_OK);
            if (st != ST_OK)
                assert_non_null(strstr(f.err.text, "reading tx 1000 from "));
        }
    }
    log_pin_release(f.log, &pin);
    arena_free(&arena);
    fixture_close(&f, true);
    vfs_memory_destroy(f.vfs);
}

/* Values too large for any block, walked over and read while the cache is far too small. */
static void values_beyond_the_cache(void **state)
{
    enum { LEN = 3 << 20 };
    uint8_t *value = malloc(LEN);
    struct tx_entry e = {.key = bytes_str("big"), .value = bytes_of(value, LEN), .value_len = LEN}, got;
    struct tx_header h = {.id = 2, .version = 1, .entry_count = 1}, back;
    struct log_pin pin = {0};
    struct tx_body *body;
    struct arena arena;
    struct fixture f;
    uint64_t random = 1, expected = 1;

    (void)state;
    assert_non_null(value);
    test_random_fill(&random, value, LEN);
    sha256(value, LEN, &e.hval);
    fixture_init(&f, vfs_memory_create());
    budget_init(&f.budget, (size_t)1 << 20);
    arena_init(&arena, 65536, 0);
    assert_int_equal(fixture_open(&f, true), ST_OK);
    assert_int_equal(fixture_commit(&f, 1, 1), ST_OK);
    assert_int_equal(tx_body_encode(&e, 1, &body, &f.err), ST_OK);
    assert_int_equal(log_batch_begin(f.log, &f.err), ST_OK);
    assert_int_equal(log_batch_tx(f.log, &h, body, &f.err), ST_OK);
    assert_int_equal(log_batch_write(f.log, 1, &f.err), ST_OK);
    tx_body_free(body);
    assert_int_equal(log_sync(f.log, &f.err), ST_OK);
    log_publish(f.log, 2);
    assert_int_equal(fixture_commit(&f, 3, 5), ST_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(log_entry_read(f.log, 2, 0, i == 1, true, &arena, &pin, &got, &f.err), ST_OK);
        assert_true(bytes_equal(got.value, e.value));
        assert_int_equal(log_tx_header(f.log, 2, &back, &f.err), ST_OK);
        log_pin_release(f.log, &pin);
        arena_reset(&arena);
    }
    assert_int_equal(log_walk(f.log, 1, 5, visit_next, &expected, &f.err), ST_OK);
    assert_int_equal(expected, 6);
    fixture_close(&f, true);
    free(value);
    arena_free(&arena);
    vfs_memory_destroy(f.vfs);
}

static void discard_gives_ids_out_again(void **state)
{
    struct fixture f;
    hash_t alh = HASH_ZERO;
    struct log_tx t;

    (void)state;
    fixture_init(&f, vfs_memory_create());
    assert_int_equal(fixture_open(&f, true), ST_OK);
    assert_int_equal(fixture_commit(&f, 1, 10), ST_OK);
    for (uint64_t round = 0; round < 5; round++) {
        uint64_t base = 10 + round * 10;

        f.seed = 100;
        assert_int_equal(fixture_write(&f, base + 1, base + 60, base), ST_OK); /* goes over segments */
        assert_int_equal(log_sync(f.log, &f.err), ST_OK);
        assert_int_equal(log_tx_open(f.log, base + 5, false, &t, &f.err), ST_OK); /* the owner may read precommitted txs */
        log_tx_close(f.log, &t);
        fixture_check_range(&f, base + 1, base + 60, false);
        assert_int_equal(log_batch_begin(f.log, &f.err), ST_OK);
        assert_int_equal(log_batch_discard(f.log, base + 61, &alh, &f.err), ST_INVALID);
        assert_int_equal(log_batch_discard(f.log, base - 1, &alh, &f.err), ST_INVALID);
        assert_int_equal(log_batch_discard(f.log, base, &alh, &f.err), ST_OK);
        assert_int_equal(log_batch_write(f.log, base, &f.err), ST_OK);
        assert_int_equal(log_sync(f.log, &f.err), ST_OK);
        log_cut(f.log, base);
        assert_int_equal(log_tx_open(f.log, base + 1, false, &t, &f.err), ST_NOT_FOUND);
        f.seed = 7;
        assert_int_equal(fixture_commit(&f, base + 1, base + 10), ST_OK);
        fixture_check_range(&f, 1, base + 10, false); /* never a discarded one */
        assert_int_equal(log_advance_background(f.log, &f.err), ST_OK);
    }
    fixture_check_range(&f, 1, 60, false);
    assert_int_equal(fixture_scrub(&f), 0);
    fixture_close(&f, true);
    assert_int_equal(fixture_open(&f, false), ST_OK);
    assert_false(f.report.is_damaged);
    assert_int_equal(f.report.precommitted_upto, 60);
    fixture_check_range(&f, 1, 60, false);
    fixture_close(&f, true);
    vfs_memory_destroy(f.vfs);
}

static void commit_marks_tell_what_is_committed(void **state)
{
    struct fixture f;
    hash_t alh = HASH_ZERO;

    (void)state;
    fixture_init(&f, vfs_memory_create());
    assert_int_equal(fixture_open(&f, true), ST_OK);
    assert_int_equal(fixture_write(&f, 1, 20, 0), ST_OK);
    assert_int_equal(log_sync(f.log, &f.err), ST_OK);
    fixture_close(&f, false);
    assert_int_equal(fixture_open(&f, false), ST_OK);
    assert_int_equal(f.report.precommitted_upto, 20);
    assert_int_equal(f.report.committed_upto, 0);
    assert_int_equal(log_published(f.log), 0);
    assert_int_equal(log_batch_begin(f.log, &f.err), ST_OK);
    assert_int_equal(log_batch_commit(f.log, 21, &alh, &f.err), ST_INVALID);
    assert_int_equal(log_batch_commit(f.log, 12, &alh, &f.err), ST_OK);
    assert_int_equal(log_batch_write(f.log, 0, &f.err), ST_OK);
    assert_int_equal(log_sync(f.log, &f.err), ST_OK);
    fixture_close(&f, false);
    assert_int_equal(fixture_open(&f, false), ST_OK);
    assert_int_equal(f.report.precommitted_upto, 20);
    assert_int_equal(f.report.committed_upto, 12);
    assert_int_equal(log_published(f.log), 12);
    fixture_close(&f, true);
    vfs_memory_destroy(f.vfs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_txs_are_read_back),
        cmocka_unit_test(errors_of_the_caller_are_told),
        cmocka_unit_test(a_new_log_is_small),
        cmocka_unit_test(zeros_follow_the_write_rate),
        cmocka_unit_test(no_zeros_for_large_syncs),
        cmocka_unit_test(large_txs),
        cmocka_unit_test(walking_and_times),
        cmocka_unit_test(many_small_txs),
        cmocka_unit_test(records_read_once_are_not_kept),
        cmocka_unit_test(a_page_read_badly_is_not_kept),
        cmocka_unit_test(values_beyond_the_cache),
        cmocka_unit_test(discard_gives_ids_out_again),
        cmocka_unit_test(commit_marks_tell_what_is_committed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
