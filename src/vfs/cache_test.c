/* Proves that the cache serves what the file holds, keeps its bound and the bound of handles, pins and drops correctly,
 * keeps nothing that failed its check, accounts every byte, and does all that with several threads at once and with failing
 * allocations. The last test prints what a hit and a miss cost. */
#include "base/alloc_failing.h"
#include "base/test.h"
#include "vfs/cache.h"
#include "vfs/vfs_faulty.h"
#include "vfs/vfs_memory.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { PAGE = 4096, PAGES = 64 };

struct fixture {
    struct vfs *memory, *v; /* v counts the reads */
    struct budget budget;
    struct cache *c;
};

/* What page `page` of file `file` holds. */
static void page_fill(uint8_t *out, unsigned file, size_t page)
{
    memset(out, (int)(file * 31 + page), PAGE);
    store_u64le(out, file * 1000 + page);
}

static void file_make(struct fixture *x, unsigned file)
{
    char path[20];
    static uint8_t data[PAGE];
    struct vfs_file *f;

    snprintf(path, sizeof path, "f%u", file);
    assert_int_equal(x->memory->ops->open(x->memory, path, VFS_WRITE | VFS_CREATE, &f, NULL), ST_OK);
    for (size_t page = 0; page < PAGES; page++) {
        page_fill(data, file, page);
        assert_int_equal(vfs_write_at(f, page * PAGE, data, PAGE, NULL), ST_OK);
    }
    f->ops->close(f);
}

static struct cache_file *file_open(struct fixture *x, unsigned file)
{
    struct cache_file *f;
    char path[20];

    snprintf(path, sizeof path, "f%u", file);
    assert_int_equal(cache_file_open(x->c, path, &f, NULL), ST_OK);
    assert_string_equal(cache_file_path(f), path);
    return f;
}

static struct fixture *fixture_new(size_t share, unsigned handles_max, unsigned files)
{
    struct fixture *x = calloc(1, sizeof *x);

    assert_non_null(x);
    x->memory = vfs_memory_create();
    x->v = vfs_faulty_create(x->memory);
    budget_init(&x->budget, share / 3 * 8);
    x->budget.share[BUDGET_CACHE] = share;
    x->budget.limit = share; /* nothing to borrow */
    for (unsigned i = 0; i < files; i++)
        file_make(x, i);
    assert_int_equal(cache_create(x->v, &x->budget, handles_max, &x->c, NULL), ST_OK);
    return x;
}

static void fixture_free(struct fixture *x)
{
    cache_destroy(x->c);
    assert_int_equal(budget_used(&x->budget, BUDGET_CACHE), 0);
    vfs_faulty_destroy(x->v);
    vfs_memory_destroy(x->memory);
    free(x);
}

static enum status check_page(void *ctx, uint64_t offset, const uint8_t *data, size_t len, struct err *err)
{
    unsigned *calls = ctx;

    if (calls != NULL)
        ++*calls;
    if (len != PAGE || load_u64le(data) % 1000 != offset / PAGE)
        return err_set(err, ST_CORRUPT, 0, "page damaged");
    return ST_OK;
}

static bool page_is_right(const struct cache_block *b, unsigned file, size_t page)
{
    uint8_t expected[PAGE];

    page_fill(expected, file, page);
    return b->len == PAGE && memcmp(b->data, expected, PAGE) == 0;
}

static void hit_and_miss(void **state)
{
    struct fixture *x = fixture_new(1 << 20, 4, 1);
    struct cache_file *f = file_open(x, 0);
    struct cache_block a, b;
    struct cache_stats stats;
    unsigned calls = 0;
    uint64_t length;
    uint8_t data[8];
    struct err err;

    (void)state;
    cache_stats(x->c, &stats);
    assert_int_equal(stats.handles_open, 0); /* opened on first use */
    assert_int_equal(cache_get(x->c, f, 3 * PAGE, PAGE, false, check_page, &calls, &a, &err), ST_OK);
    assert_true(page_is_right(&a, 0, 3));
    assert_int_equal(cache_get(x->c, f, 3 * PAGE, PAGE, true, check_page, &calls, &b, &err), ST_OK);
    assert_ptr_equal(a.data, b.data);
    assert_int_equal(calls, 1);
    assert_int_equal(vfs_faulty_read_count(x->v), 1);
    cache_unpin(x->c, &a);
    assert_null(a.data);
    cache_unpin(x->c, &a); /* nothing is pinned any longer: does nothing */
    cache_unpin(x->c, &b);
    assert_true(cache_lookup(x->c, cache_file_id(f), 3 * PAGE, &a));
    assert_true(page_is_right(&a, 0, 3));
    cache_unpin(x->c, &a);
    assert_false(cache_lookup(x->c, cache_file_id(f), 4 * PAGE, &a));
    assert_null(a.data);
    cache_stats(x->c, &stats);
    assert_int_equal(stats.hits, 2);
    assert_int_equal(stats.misses, 2);
    assert_int_equal(stats.blocks, 1);
    assert_int_equal(stats.bytes, budget_used(&x->budget, BUDGET_CACHE));
    assert_int_equal(stats.handles_open, 1);
    /* Another length at the same place is served as asked, beside the block. */
    assert_int_equal(cache_get(x->c, f, 3 * PAGE, 8, false, NULL, NULL, &a, &err), ST_OK);
    assert_int_equal(a.len, 8);
    assert_int_equal(load_u64le(a.data), 3);
    cache_unpin(x->c, &a);
    assert_true(cache_lookup(x->c, cache_file_id(f), 3 * PAGE, &a));
    assert_int_equal(a.len, PAGE);
    cache_unpin(x->c, &a);
    /* Beyond the end, and around the cache. */
    assert_int_equal(cache_get(x->c, f, PAGES * PAGE, PAGE, false, check_page, NULL, &a, &err), ST_CORRUPT);
    assert_null(a.data);
    assert_int_equal(cache_file_length(x->c, f, &length, &err), ST_OK);
    assert_int_equal(length, PAGES * PAGE);
    assert_int_equal(cache_file_read(x->c, f, 5 * PAGE, data, 8, &err), ST_OK);
    assert_int_equal(load_u64le(data), 5);
    assert_int_equal(cache_file_read(x->c, f, PAGES * PAGE, data, 8, &err), ST_CORRUPT);
    cache_file_close(x->c, f);
    cache_file_close(x->c, NULL);
    cache_stats(x->c, &stats);
    assert_int_equal(stats.handles_open, 0);
    f = file_open(x, 0); /* another file as far as blocks go */
    assert_false(cache_lookup(x->c, cache_file_id(f), 3 * PAGE, &a));
    cache_file_close(x->c, f);
    fixture_free(x);
}

static void failures_are_not_cached(void **state)
{
    struct fixture *x = fixture_new(1 << 20, 4, 1);
    struct cache_file *f = file_open(x, 0), *missing;
    struct cache_block b;
    struct cache_stats stats;
    unsigned calls = 0;
    struct err err;

    (void)state;
    /* The cache's open handle sees the same file, so damage and repair show at the next read. */
    assert_int_equal(vfs_memory_flip_bit(x->memory, "f0", 8 * 2 * PAGE, NULL), ST_OK);
    for (unsigned i = 1; i <= 2; i++) {
        assert_int_equal(cache_get(x->c, f, 2 * PAGE, PAGE, false, check_page, &calls, &b, &err), ST_CORRUPT);
        assert_non_null(strstr(err.text, "page damaged; while reading f0 at 8192"));
        assert_null(b.data);
        assert_int_equal(calls, i);
    }
    assert_int_equal(vfs_memory_flip_bit(x->memory, "f0", 8 * 2 * PAGE, NULL), ST_OK);
    assert_int_equal(cache_get(x->c, f, 2 * PAGE, PAGE, false, check_page, &calls, &b, &err), ST_OK);
    cache_unpin(x->c, &b);
    vfs_faulty_arm(x->v, FAULT_EIO_READ, 1, 0);
    assert_int_equal(cache_get(x->c, f, 0, PAGE, false, check_page, &calls, &b, &err), ST_IO);
    assert_int_equal(cache_get(x->c, f, 0, PAGE, false, check_page, &calls, &b, &err), ST_OK);
    cache_unpin(x->c, &b);
    assert_int_equal(cache_file_open(x->c, "missing", &missing, &err), ST_OK);                 /* nothing is opened */
    assert_int_equal(cache_get(x->c, missing, 0, PAGE, true, NULL, NULL, &b, &err), ST_AGAIN); /* opening would wait */
    assert_int_equal(cache_get(x->c, missing, 0, PAGE, false, NULL, NULL, &b, &err), ST_NOT_FOUND);
    cache_stats(x->c, &stats);
    assert_int_equal(stats.blocks, 2);
    assert_int_equal(stats.handles_open, 1); /* the failed open gave its slot back */
    cache_file_close(x->c, missing);
    cache_file_close(x->c, f);
    fixture_free(x);
}

static size_t used(const struct fixture *x) { return budget_used(&x->budget, BUDGET_CACHE); }

static void bound_holds(void **state)
{
    enum { ALL = 4 * PAGES, KEPT_MAX = 128 };
    struct fixture *x = fixture_new(KEPT_MAX * PAGE, 4, 4);
    static struct cache_block pinned[ALL];
    struct cache_file *f[4];
    struct cache_block b;
    struct cache_stats stats;
    uint64_t rng = 1;

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        f[i] = file_open(x, i);
    for (int i = 0; i < 6000; i++) {
        unsigned file = (unsigned)(test_random(&rng) % 4);
        size_t page = (size_t)(test_random(&rng) % PAGES);

        assert_int_equal(cache_get(x->c, f[file], page * PAGE, PAGE, false, check_page, NULL, &b, NULL), ST_OK);
        assert_true(page_is_right(&b, file, page));
        assert_true(used(x) <= x->budget.share[BUDGET_CACHE]);
        cache_unpin(x->c, &b);
    }
    cache_stats(x->c, &stats);
    assert_true(stats.evictions > 1000);
    assert_in_range(stats.blocks, KEPT_MAX / 2, KEPT_MAX);
    assert_int_equal(stats.bytes, used(x));
    assert_true(stats.hits > 1500);
    /* Pins may exceed the bound; what found no room goes with its pin. */
    for (size_t i = 0; i < ALL; i++)
        assert_int_equal(cache_get(x->c, f[i / PAGES], i % PAGES * PAGE, PAGE, false, check_page, NULL, &pinned[i], NULL), ST_OK);
    assert_true(used(x) > ALL * PAGE);
    for (size_t i = 0; i < ALL; i++) {
        assert_true(page_is_right(&pinned[i], (unsigned)(i / PAGES), i % PAGES));
        cache_unpin(x->c, &pinned[i]);
    }
    assert_true(used(x) <= x->budget.share[BUDGET_CACHE]);
    for (unsigned i = 0; i < 4; i++)
        cache_file_close(x->c, f[i]);
    fixture_free(x);
}

/* Blocks of all sizes, large ones among them, put, pinned, dropped and looked up against a model: what is found has the right bytes, the bound
 * holds whatever is pinned for a while, and the memory is the same after a million of them as after ten thousand. */
static void all_sizes(void **state)
{
    enum { KEYS = 4000, PINS = 40, ROUNDS = 300000 };
    struct fixture *x = fixture_new(8 << 20, 4, 0);
    static uint8_t data[300000];
    struct cache_block pinned[PINS] = {0}, b;
    uint64_t rng = 7, id = cache_new_id(x->c), found = 0;
    struct cache_stats stats;

    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t key = test_random(&rng) % KEYS, what = test_random(&rng) % 100;
        size_t len = key % 50 == 0 ? (size_t)key * 73 : key % 3 == 0 ? 4096 : (size_t)key % 700, slot = (size_t)(test_random(&rng) % PINS);

        if (what < 3) {
            cache_drop(x->c, id, key);
            assert_false(cache_lookup(x->c, id, key, &b));
            continue;
        }
        if (!cache_lookup(x->c, id, key, &b)) {
            memset(data, (int)key, len);
            assert_true(cache_put(x->c, id, key, data, len, &b));
        } else {
            found++;
        }
        assert_int_equal(b.len, len);
        assert_true(len == 0 || (b.data[0] == (uint8_t)key && b.data[len / 2] == (uint8_t)key && b.data[len - 1] == (uint8_t)key));
        if (what < 20) { /* kept for a while */
            if (pinned[slot].data != NULL)
                cache_unpin(x->c, &pinned[slot]);
            pinned[slot] = b;
        } else {
            cache_unpin(x->c, &b);
        }
    }
    assert_true(found > ROUNDS / 4);
    for (size_t i = 0; i < PINS; i++)
        cache_unpin(x->c, &pinned[i]);
    cache_stats(x->c, &stats);
    assert_true(stats.bytes <= x->budget.share[BUDGET_CACHE]);
    assert_true(stats.bytes > x->budget.share[BUDGET_CACHE] / 2);
    assert_int_equal(stats.bytes, used(x));
    fixture_free(x);
}

/* While nobody else wants memory the cache takes more than its share; it gives it back at once when somebody does. */
static void borrows_and_gives_back(void **state)
{
    enum { MIB = 1 << 20, LIMIT = 32 * MIB, SHARE = 12 * MIB };
    struct fixture *x = fixture_new(SHARE, 4, 0);
    uint64_t id = cache_new_id(x->c);
    static uint8_t data[PAGE];
    struct cache_block b, pinned;
    size_t lent;

    (void)state;
    x->budget.limit = LIMIT;
    for (uint64_t i = 0; i < 4 * LIMIT / PAGE; i++) {
        memset(data, (int)i, 8);
        assert_true(cache_put(x->c, id, i, data, PAGE, NULL));
        assert_true(used(x) <= budget_cache_goal(&x->budget));
    }
    lent = used(x);
    assert_true(lent > LIMIT / 4 * 3);
    assert_true(cache_lookup(x->c, id, 4 * LIMIT / PAGE - 1, &pinned));
    budget_take(&x->budget, BUDGET_OTHER, MIB); /* small ups and downs move nothing */
    assert_int_equal(used(x), lent);
    for (unsigned i = 0; i < 22; i++) {
        assert_true(i % 2 == 0 ? budget_try_take(&x->budget, BUDGET_REQUEST, MIB / 2) : (budget_take(&x->budget, BUDGET_MEMTABLE, MIB), true));
        assert_true(used(x) <= budget_cache_bound(&x->budget));
        assert_true(budget_total(&x->budget) <= LIMIT);
    }
    assert_true(used(x) <= SHARE);
    assert_int_equal(pinned.data[0], (uint8_t)(4 * LIMIT / PAGE - 1)); /* what is pinned stays */
    cache_unpin(x->c, &pinned);
    budget_give(&x->budget, BUDGET_REQUEST, 11 * MIB / 2);
    budget_give(&x->budget, BUDGET_MEMTABLE, 11 * MIB);
    budget_give(&x->budget, BUDGET_OTHER, MIB);
    for (uint64_t i = 0; i < 4 * LIMIT / PAGE; i++)
        assert_true(cache_put(x->c, id, i, data, PAGE, NULL));
    assert_int_equal(used(x), lent); /* and it comes again */
    assert_true(cache_lookup(x->c, id, 4 * LIMIT / PAGE - 1, &b));
    cache_unpin(x->c, &b);
    fixture_free(x);
}

/* A block that is used again and again outlives a scan of everything else. */
static void clock_keeps_what_is_used(void **state)
{
    struct fixture *x = fixture_new(100 * PAGE, 4, 4);
    struct cache_file *f[4];
    struct cache_block b;
    unsigned hot_calls = 0;

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        f[i] = file_open(x, i);
    for (size_t k = 0; k < 4 * PAGES; k++) {
        assert_int_equal(cache_get(x->c, f[0], 0, PAGE, false, check_page, &hot_calls, &b, NULL), ST_OK);
        cache_unpin(x->c, &b);
        assert_int_equal(cache_get(x->c, f[k / PAGES], k % PAGES * PAGE, PAGE, false, check_page, NULL, &b, NULL), ST_OK);
        cache_unpin(x->c, &b);
    }
    assert_int_equal(hot_calls, 1);
    for (unsigned i = 0; i < 4; i++)
        cache_file_close(x->c, f[i]);
    fixture_free(x);
}

static void warm_when_asked_again(void **state)
{
    enum { ASKED = 100000 };
    struct fixture *x = fixture_new(1 << 20, 4, 0);
    uint64_t id = cache_new_id(x->c), other = cache_new_id(x->c);
    unsigned mistaken = 0;

    (void)state;
    for (uint64_t key = 1; key <= 3; key++)
        assert_false(cache_is_warm(x->c, id, key));
    for (uint64_t key = 1; key <= 3; key++)
        assert_true(cache_is_warm(x->c, id, key));
    assert_false(cache_is_warm(x->c, other, 1));
    for (uint64_t key = 10; key < ASKED; key++) /* others, each once */
        mistaken += cache_is_warm(x->c, id, key);
    assert_true(mistaken < ASKED / 1000);
    assert_false(cache_is_warm(x->c, id, 2)); /* forgotten meanwhile */
    fixture_free(x);
}

static void put_and_drop(void **state)
{
    struct fixture *x = fixture_new(20 * PAGE, 4, 0);
    uint64_t id = cache_new_id(x->c), other = cache_new_id(x->c);
    static uint8_t data[20 * PAGE];
    struct cache_block a, b;
    struct cache_stats stats;
    size_t before;

    (void)state;
    assert_true(id != other);
    memset(data, 7, sizeof data);
    assert_true(cache_put(x->c, id, 1, data, 100, NULL));
    assert_true(cache_put(x->c, id, 2, data, 0, &a)); /* empty blocks are blocks */
    assert_int_equal(a.len, 0);
    cache_unpin(x->c, &a);
    assert_true(cache_lookup(x->c, id, 1, &a));
    assert_int_equal(a.len, 100);
    assert_memory_equal(a.data, data, 100);
    assert_false(cache_lookup(x->c, other, 1, &b));
    assert_true(cache_put(x->c, id, 1, data, 100, &b)); /* already there: the same block */
    assert_ptr_equal(a.data, b.data);
    cache_unpin(x->c, &b);
    cache_drop(x->c, id, 1); /* pinned: it goes with the pin, but nobody finds it any longer */
    assert_false(cache_lookup(x->c, id, 1, &b));
    assert_memory_equal(a.data, data, 100);
    assert_true(cache_put(x->c, id, 1, data, 50, &b)); /* a new one may take its place meanwhile */
    assert_int_equal(b.len, 50);
    cache_unpin(x->c, &a);
    cache_unpin(x->c, &b);
    cache_drop(x->c, id, 1);
    cache_drop(x->c, id, 1);
    cache_drop(x->c, id, 2);
    cache_stats(x->c, &stats);
    assert_int_equal(stats.blocks, 0);
    before = used(x);
    /* Too large to be worth the rest of the cache: pinned, not kept. */
    assert_true(cache_put(x->c, id, 3, data, 10 * PAGE, &a));
    assert_int_equal(a.len, 10 * PAGE);
    assert_false(cache_lookup(x->c, id, 3, &b));
    cache_unpin(x->c, &a);
    assert_int_equal(used(x), before);
    /* Memory short because of pins: pinned, not kept. */
    struct cache_block pinned[19];
    for (uint64_t i = 0; i < 19; i++)
        assert_true(cache_put(x->c, id, 100 + i, data, PAGE, &pinned[i]));
    assert_true(cache_put(x->c, id, 200, data, 4 * PAGE, &a));
    assert_false(cache_lookup(x->c, id, 200, &b));
    assert_true(cache_put(x->c, id, 201, data, 4 * PAGE, NULL));
    assert_false(cache_lookup(x->c, id, 201, &b));
    cache_unpin(x->c, &a);
    for (uint64_t i = 0; i < 19; i++)
        cache_unpin(x->c, &pinned[i]);
    fixture_free(x);
}

static void handles_are_bounded(void **state)
{
    enum { FILES = 20 };
    struct fixture *x = fixture_new(PAGE, 3, FILES); /* next to nothing is kept: each get reads */
    struct cache_file *f[FILES];
    struct cache_block b;
    struct cache_stats stats;
    uint64_t rng = 1, before;

    (void)state;
    for (unsigned i = 0; i < FILES; i++)
        f[i] = file_open(x, i);
    for (int i = 0; i < 500; i++) {
        unsigned file = (unsigned)(test_random(&rng) % FILES);

        assert_int_equal(cache_get(x->c, f[file], 0, PAGE, false, check_page, NULL, &b, NULL), ST_OK);
        assert_true(page_is_right(&b, file, 0));
        cache_unpin(x->c, &b);
        cache_stats(x->c, &stats);
        assert_true(stats.handles_open <= 3);
    }
    assert_int_equal(stats.handles_open, 3);
    assert_true(stats.handle_opens > 100);
    before = stats.handle_opens;
    for (int i = 0; i < 30; i++) { /* three files stay open */
        assert_int_equal(cache_get(x->c, f[i % 3], 0, PAGE, false, NULL, NULL, &b, NULL), ST_OK);
        cache_unpin(x->c, &b);
    }
    cache_stats(x->c, &stats);
    assert_true(stats.handle_opens <= before + 3);
    /* Least use: file 0 was used last before file 5 comes, so file 1 goes. */
    before = stats.handle_opens;
    assert_int_equal(cache_get(x->c, f[0], 0, PAGE, false, NULL, NULL, &b, NULL), ST_OK);
    cache_unpin(x->c, &b);
    assert_int_equal(cache_get(x->c, f[5], 0, PAGE, false, NULL, NULL, &b, NULL), ST_OK);
    cache_unpin(x->c, &b);
    assert_int_equal(cache_get(x->c, f[0], 0, PAGE, false, NULL, NULL, &b, NULL), ST_OK);
    cache_unpin(x->c, &b);
    cache_stats(x->c, &stats);
    assert_int_equal(stats.handle_opens, before + 1);
    for (unsigned i = 0; i < FILES; i++)
        cache_file_close(x->c, f[i]);
    fixture_free(x);
}

/* --- several threads --- */

enum { WORKERS = 4, SHARED_FILES = 6 };
struct worker {
    struct fixture *x;
    struct cache_file **files;
    uint64_t rng, put_id;
    const char *failure;
};

static const char *worker_step(struct worker *w)
{
    unsigned file = (unsigned)(test_random(&w->rng) % SHARED_FILES);
    size_t page = (size_t)(test_random(&w->rng) % PAGES);
    struct cache_block b, c;
    uint8_t data[40];
    enum status st;

    switch (test_random(&w->rng) % 8) {
    case 0:
        cache_drop(w->x->c, cache_file_id(w->files[file]), page * PAGE);
        return NULL;
    case 1:
        memset(data, (int)page, sizeof data);
        if (!cache_put(w->x->c, w->put_id, page, data, sizeof data, &b))
            return "put failed";
        if (memcmp(b.data, data, sizeof data) != 0)
            return "put gave other bytes";
        cache_unpin(w->x->c, &b);
        return NULL;
    case 2: /* a file of its own, with the blocks of others around */
        if (cache_file_open(w->x->c, "f0", &w->files[SHARED_FILES], NULL) != ST_OK ||
            cache_get(w->x->c, w->files[SHARED_FILES], page * PAGE, PAGE, false, check_page, NULL, &b, NULL) != ST_OK)
            return "own file failed";
        if (!page_is_right(&b, 0, page))
            return "own page wrong";
        cache_unpin(w->x->c, &b);
        cache_file_close(w->x->c, w->files[SHARED_FILES]);
        return NULL;
    default:
        st = cache_get(w->x->c, w->files[file], page * PAGE, PAGE, page % 5 == 0, check_page, NULL, &b, NULL);
        if (st == ST_AGAIN && page % 5 == 0)
            return NULL;
        if (st != ST_OK)
            return "get failed";
        if (cache_lookup(w->x->c, cache_file_id(w->files[file]), page * PAGE, &c)) {
            if (!page_is_right(&c, file, page))
                return "looked up a wrong page";
            cache_unpin(w->x->c, &c);
        }
        if (!page_is_right(&b, file, page))
            return "wrong page";
        cache_unpin(w->x->c, &b);
        return NULL;
    }
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;

    for (int i = 0; i < 4000 && w->failure == NULL; i++)
        w->failure = worker_step(w);
    return NULL;
}

static void many_threads(void **state)
{
    static const struct {
        size_t share;
        unsigned handles_max;
    } settings[] = {{30 * PAGE, 2}, {1 << 20, 1}, {PAGE, 3}};

    (void)state;
    for (size_t k = 0; k < 3; k++) {
        struct fixture *x = fixture_new(settings[k].share, settings[k].handles_max, SHARED_FILES);
        struct cache_file *files[WORKERS][SHARED_FILES + 1];
        struct worker workers[WORKERS];
        pthread_t threads[WORKERS];
        struct cache_stats stats;
        uint64_t put_id = cache_new_id(x->c);

        for (unsigned i = 0; i < SHARED_FILES; i++) {
            files[0][i] = file_open(x, i);
            for (unsigned t = 1; t < WORKERS; t++)
                files[t][i] = files[0][i];
        }
        for (unsigned t = 0; t < WORKERS; t++) {
            workers[t] = (struct worker){.x = x, .files = files[t], .rng = t, .put_id = put_id};
            assert_int_equal(pthread_create(&threads[t], NULL, worker_main, &workers[t]), 0);
        }
        for (unsigned t = 0; t < WORKERS; t++) {
            pthread_join(threads[t], NULL);
            if (workers[t].failure != NULL)
                fail_msg("%s", workers[t].failure);
        }
        cache_stats(x->c, &stats);
        assert_true(stats.handles_open <= settings[k].handles_max);
        assert_true(budget_used(&x->budget, BUDGET_CACHE) == stats.bytes); /* nothing leaked, nothing pinned */
        assert_true(stats.bytes <= settings[k].share + WORKERS * (PAGE + 200));
        for (unsigned i = 0; i < SHARED_FILES; i++)
            cache_file_close(x->c, files[0][i]);
        fixture_free(x);
    }
}

/* Each allocation fails once: ST_NOMEM or a block that is not kept, and all bytes are given back. */
static void failing_allocations(void **state)
{
    bool has_failed = true;

    (void)state;
    for (long n = 1; has_failed; n++) {
        struct fixture *x = fixture_new(2 << 20, 4, 1);
        struct cache *c = NULL;
        struct cache_file *f = NULL;
        struct cache_block b;
        size_t own = used(x);
        bool is_done = true;

        alloc_fail_arm(n, false);
        if (cache_create(x->v, &x->budget, 4, &c, NULL) != ST_OK) {
            has_failed = alloc_fail_disarm();
            assert_true(has_failed);
            assert_null(c);
            fixture_free(x);
            continue;
        }
        if (cache_file_open(c, "f0", &f, NULL) == ST_OK) {
            for (uint64_t i = 0; i < 1200 && is_done; i++) /* enough to let the tables grow */
                is_done = cache_put(c, cache_file_id(f), i << 30, "x", 1, NULL);
            for (size_t page = 0; page < 3 && is_done; page++) {
                is_done = cache_get(c, f, page * PAGE, PAGE, false, check_page, NULL, &b, NULL) == ST_OK;
                if (is_done)
                    cache_unpin(c, &b);
            }
        }
        has_failed = alloc_fail_disarm();
        assert_true(has_failed || (is_done && f != NULL));
        if (f != NULL) {
            assert_int_equal(cache_get(c, f, 0, PAGE, false, check_page, NULL, &b, NULL), ST_OK);
            assert_true(page_is_right(&b, 0, 0));
            cache_unpin(c, &b);
        }
        cache_file_close(c, f);
        cache_destroy(c);
        assert_int_equal(used(x), own); /* what the fixture's cache holds */
        fixture_free(x);
        if (n > 60 && n < 1200)
            n += 16; /* one put is like the other */
        assert_true(n < 3000);
    }
}

static double now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

/* 4,096 cached pages in random order; figures are for reading, not asserted. */
static void cost(void **state)
{
    enum { BLOCKS = 4096, ROUNDS = 400000 };
    struct fixture *x = fixture_new(64 << 20, 4, 1);
    struct cache_file *f = file_open(x, 0);
    static uint8_t data[PAGE];
    struct cache_block b;
    uint64_t rng = 1, id = cache_new_id(x->c);
    double start, hit, miss;

    (void)state;
    for (uint64_t i = 0; i < BLOCKS; i++)
        assert_true(cache_put(x->c, id, i * PAGE, data, PAGE, NULL));
    start = now_ns();
    for (int i = 0; i < ROUNDS; i++) {
        if (!cache_lookup(x->c, id, test_random(&rng) % BLOCKS * PAGE, &b))
            fail();
        cache_unpin(x->c, &b);
    }
    hit = (now_ns() - start) / ROUNDS;
    start = now_ns();
    for (size_t i = 0; i < PAGES; i++) {
        if (cache_get(x->c, f, i * PAGE, PAGE, false, NULL, NULL, &b, NULL) != ST_OK)
            fail();
        cache_unpin(x->c, &b);
    }
    miss = (now_ns() - start) / PAGES;
    print_message("hit %.0f ns, miss from memory %.0f ns\n", hit, miss);
    cache_file_close(x->c, f);
    fixture_free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hit_and_miss),
        cmocka_unit_test(failures_are_not_cached),
        cmocka_unit_test(bound_holds),
        cmocka_unit_test(all_sizes),
        cmocka_unit_test(borrows_and_gives_back),
        cmocka_unit_test(clock_keeps_what_is_used),
        cmocka_unit_test(warm_when_asked_again),
        cmocka_unit_test(put_and_drop),
        cmocka_unit_test(handles_are_bounded),
        cmocka_unit_test(many_threads),
        cmocka_unit_test(failing_allocations),
        cmocka_unit_test(cost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
