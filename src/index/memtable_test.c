/* Proves that the memtable's tree holds and orders whatever pattern keys come in (ascending, descending, several streams, random, keys
 * with long common prefixes), finds n-th and latest versions of keys with few and very many of them, and stays within its room per entry. */
#include "index/index_model.h"
#include "index/memtable.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum pattern { ASCENDING, DESCENDING, STREAMS, RANDOM, PREFIXED, PATTERNS };

static size_t key_make(enum pattern pattern, uint32_t i, uint32_t total, uint8_t *key)
{
    uint64_t seed = i;

    switch (pattern) {
    case ASCENDING:
        return (size_t)snprintf((char *)key, 64, "user:%027u", i);
    case DESCENDING:
        return (size_t)snprintf((char *)key, 64, "user:%027u", total - i);
    case STREAMS:
        return (size_t)snprintf((char *)key, 64, "stream %02u:%022u", i % 16, i / 16);
    case RANDOM:
        for (size_t at = 0; at < 32; at += 8)
            store_u64le(key + at, model_random(&seed));
        return 32;
    default: /* a prefix longer than a head, then few differing bytes, lengths vary */
        memset(key, 'x', 40);
        store_u32be(key + 40, (uint32_t)model_random(&seed) % 100000);
        return 40 + i % 5;
    }
}

static void insert_one(struct memtable *m, struct bytes key, uint64_t tx_id)
{
    struct index_entry e = {3, key, {tx_id, (uint32_t)(tx_id % 100), (uint32_t)tx_id, (int64_t)tx_id, tx_id % 3 == 0, tx_id % 5 == 0}};
    assert_int_equal(memtable_insert(m, &e, 1, NULL), ST_OK);
}

static void check_walk(const struct memtable *m, bool desc, size_t count)
{
    const struct mem_key *before = NULL, *k;
    struct mem_iter it;
    size_t n = 0;

    mem_iter_seek(&it, m, (struct index_key){0, {NULL, 0}}, true, desc, desc);
    for (; (k = mem_iter_next(&it)) != NULL; n++, before = k) {
        if (before != NULL) {
            int c = index_key_compare(mem_key_key(before), mem_key_key(k));
            assert_true(desc ? c > 0 : c < 0);
        }
    }
    assert_int_equal(n, count);
}

static void test_patterns(void **state)
{
    enum { TOTAL = 60000 };
    static uint8_t key[128], other[128];

    (void)state;
    for (int p = 0; p < PATTERNS; p++) {
        struct budget budget;
        struct memtable *m = NULL;
        uint64_t rng = 5;
        size_t distinct;

        budget_init(&budget, (size_t)1 << 30);
        assert_int_equal(memtable_create(&budget, 1, &m, NULL), ST_OK);
        for (uint32_t i = 0; i < TOTAL; i++) {
            size_t len = key_make((enum pattern)p, i, TOTAL, key);
            insert_one(m, bytes_of(key, len), i + 1);
        }
        distinct = (size_t)m->key_count;
        assert_true(m->entry_count == TOTAL && (p == PREFIXED || distinct == TOTAL));
        check_walk(m, false, distinct);
        check_walk(m, true, distinct);
        for (uint32_t i = 0; i < TOTAL; i++) {
            size_t len = key_make((enum pattern)p, i, TOTAL, key);
            const struct mem_key *k = memtable_find(m, (struct index_key){3, bytes_of(key, len)});
            struct index_version v;

            assert_non_null(k);
            assert_true(memtable_versions_upto(m, k, i + 1, &v) >= 1 && v.tx_id == i + 1 && v.value_len == i + 1);
            assert_true(v.is_deleted == (v.tx_id % 3 == 0) && v.has_expiry == (v.tx_id % 5 == 0) &&
                        v.expires_at == (v.has_expiry ? (int64_t)v.tx_id : 0));
            assert_null(memtable_find(m, (struct index_key){2, bytes_of(key, len)}));
        }
        for (int i = 0; i < 3000; i++) { /* seeks: the neighbour found from either side is the same */
            size_t len = key_make((enum pattern)p, (uint32_t)model_below(&rng, TOTAL), TOTAL, key);
            bool inclusive = i % 2 == 0;
            struct mem_iter up, down;
            const struct mem_key *a, *b;

            if (i % 3 == 0)
                key[len - 1] ^= 1;
            mem_iter_seek(&up, m, (struct index_key){3, bytes_of(key, len)}, inclusive, false, false);
            a = mem_iter_next(&up);
            mem_iter_seek(&down, m, (struct index_key){3, bytes_of(key, len)}, !inclusive, true, false);
            b = mem_iter_next(&down);
            assert_true(a == NULL || index_key_compare(mem_key_key(a), (struct index_key){3, bytes_of(key, len)}) >= !inclusive);
            assert_true(b == NULL || index_key_compare(mem_key_key(b), (struct index_key){3, bytes_of(key, len)}) <= -(int)inclusive);
            if (a != NULL) {
                memcpy(other, a->key, a->key_len);
                mem_iter_seek(&down, m, (struct index_key){3, bytes_of(other, a->key_len)}, false, true, false);
                assert_ptr_equal(mem_iter_next(&down), b);
            }
        }
        if (p != PREFIXED)
            assert_true((double)m->bytes / TOTAL < 110); /* with a fifth of the entries carrying an expiry */
        memtable_destroy(m);
        assert_int_equal(budget_used(&budget, BUDGET_MEMTABLE), 0);
    }
}

static void test_versions(void **state)
{
    enum { VERSIONS = 200000 };
    struct budget budget;
    struct memtable *m = NULL;
    const struct mem_key *k = NULL;
    struct index_version v;
    uint64_t rng = 9;

    (void)state;
    budget_init(&budget, (size_t)1 << 30);
    assert_int_equal(memtable_create(&budget, 1000, &m, NULL), ST_OK);
    for (uint64_t i = 0; i < VERSIONS; i++) {
        insert_one(m, bytes_str("hot"), 1000 + 2 * i);
        if (k == NULL)
            k = memtable_find(m, (struct index_key){3, bytes_str("hot")});
        if (i < 300 || i % 1000 == 0) { /* and all earlier ones at every small count */
            uint64_t nth = model_below(&rng, i + 1);
            memtable_version_nth(m, k, nth, &v);
            assert_true(v.tx_id == 1000 + 2 * nth);
            assert_true(memtable_versions_upto(m, k, 1000 + 2 * nth, &v) == nth + 1 && v.tx_id == 1000 + 2 * nth);
            assert_true(memtable_versions_upto(m, k, 1001 + 2 * nth, &v) == nth + 1 && v.tx_id == 1000 + 2 * nth);
        }
    }
    assert_int_equal(memtable_versions_upto(m, k, 999, &v), 0);
    assert_int_equal(memtable_versions_upto(m, k, UINT64_MAX, &v), VERSIONS);
    memtable_destroy(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_patterns), cmocka_unit_test(test_versions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
