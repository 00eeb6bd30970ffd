/* Proves that readers beside the writer and beside flush see whole trees only, and that nobody races (under tsan).
 *
 * How: one thread appends and sometimes cuts back and goes on with other leaves, one flushes, three read proofs of published
 * sizes and verify them. Below what is never cut every answer must come and verify, cut or not; beyond it a reader whose
 * answers span a cut throws them away. */
#include <pthread.h>
#include <stdatomic.h>

#include "merkle/tree_fixture.h"

#define SIZE 40000
#define READERS 3

struct shared {
    struct fixture *f;
    _Atomic uint64_t life;      /* raised before and after each cut */
    _Atomic uint64_t flushable; /* never cut below this */
    _Atomic bool is_over;
    _Atomic uint64_t proofs;
};

static bool proof_is_good(struct shared *s, uint64_t random)
{
    struct tree *t = s->f->tree;
    bool is_lasting = random % 2 == 0;
    uint64_t life = atomic_load(&s->life), size = is_lasting ? atomic_load(&s->flushable) : tree_size(t), i, j;
    struct merkle_path in, con;
    hash_t leaf, root_i, root_j;

    if (size == 0)
        return true;
    j = random % 3 == 0 ? size : 1 + random / 3 % size;
    i = 1 + random / 7 % j;
    if (tree_leaf(t, i, &leaf, NULL) != ST_OK || tree_root_at(t, i, &root_i, NULL) != ST_OK || tree_root_at(t, j, &root_j, NULL) != ST_OK ||
        tree_inclusion(t, i, j, &in, NULL) != ST_OK || tree_consistency(t, i, j, &con, NULL) != ST_OK)
        return !is_lasting && (life % 2 == 1 || atomic_load(&s->life) != life);
    if (inclusion_verify_leaf(in.terms, in.term_count, i, j, &leaf, &root_j) &&
        consistency_verify(con.terms, con.term_count, i, j, &root_i, &root_j)) {
        atomic_fetch_add(&s->proofs, 1);
        return true;
    }
    return !is_lasting && (life % 2 == 1 || atomic_load(&s->life) != life);
}

static void *reader(void *ctx)
{
    struct shared *s = ctx;
    uint64_t random = (uint64_t)(uintptr_t)&random | 1, bad = 0;

    while (!atomic_load(&s->is_over)) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        bad += !proof_is_good(s, random >> 8);
    }
    return (void *)(uintptr_t)bad;
}

static void *flusher(void *ctx)
{
    struct shared *s = ctx;
    uintptr_t bad = 0;

    while (!atomic_load(&s->is_over))
        bad += tree_flush(s->f->tree, atomic_load(&s->flushable), false, NULL) != ST_OK;
    return (void *)bad;
}

static void cut_somewhere(struct shared *s)
{
    struct fixture *f = s->f;
    size_t lowest = atomic_load(&s->flushable), to = lowest + fixture_random(f, f->size - lowest + 1);

    atomic_fetch_add(&s->life, 1);
    assert_int_equal(tree_cut(f->tree, to, NULL), ST_OK);
    f->size = to;
    f->salt++;
    atomic_fetch_add(&s->life, 1);
}

static void readers_beside_writer_and_flush(void **state)
{
    struct fixture *f = fixture_make(SIZE, 21);
    struct shared s = {.f = f};
    pthread_t threads[READERS + 1];

    (void)state;
    f->options.alh_of = NULL; /* nothing may ever be missing */
    fixture_open(f, 0);
    for (unsigned k = 0; k < READERS; k++)
        assert_int_equal(pthread_create(&threads[k], NULL, reader, &s), 0);
    assert_int_equal(pthread_create(&threads[READERS], NULL, flusher, &s), 0);
    while (f->size < SIZE) {
        size_t batch = 1 + fixture_random(f, 300), left = SIZE - f->size;

        fixture_append(f, batch < left ? batch : left);
        if (fixture_random(f, 10) == 0)
            cut_somewhere(&s);
        if (fixture_random(f, 3) == 0)
            atomic_store(&s.flushable, f->size - fixture_random(f, f->size - atomic_load(&s.flushable) + 1));
    }
    atomic_store(&s.is_over, true);
    for (unsigned k = 0; k <= READERS; k++) {
        void *bad = NULL;

        assert_int_equal(pthread_join(threads[k], &bad), 0);
        assert_null(bad);
    }
    assert_true(atomic_load(&s.proofs) > 100);
    assert_int_equal(tree_flush(f->tree, f->size, true, NULL), ST_OK);
    fixture_sample_check(f, 100);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(readers_beside_writer_and_flush)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
