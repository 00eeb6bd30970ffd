/* Proves that proofs between transactions are made and judged right, also for chains whose tree lags behind.
 *
 * How: three chains of headers (tree always up to date, lagging at random, stalled for a while), proofs made for every pair
 * from a naive tree and verified; then every bit of every used hash flipped, every header changed, every list cut. */
#include <stdlib.h>

#include "base/test.h"
#include "merkle/naive_tree.h"
#include "proof/proof.h"

#define TXS 48

enum lag { LAG_NONE, LAG_RANDOM, LAG_STALLED };

struct chain {
    struct tx_header headers[TXS + 1];
    hash_t alhs[TXS + 1], leaves[TXS];
    uint64_t calls_left; /* of the source's functions; then they fail */
    struct arena arena;
};

/* Leaves in the tree when the header of tx id is made; before is that of the tx before. */
static uint64_t tree_size_for(enum lag lag, uint64_t id, uint64_t before)
{
    switch (lag) {
    case LAG_NONE:
        return id - 1;
    case LAG_RANDOM: /* moves on at every fifth tx, not always to the end */
        return id % 5 == 0 ? id - 1 - id % 3 : before;
    default:
        return id < 10 || id > 40 ? id - 1 : before;
    }
}

static void chain_make(struct chain *c, enum lag lag)
{
    uint64_t bl = 0;

    memset(c, 0, sizeof *c);
    c->calls_left = UINT64_MAX;
    arena_init(&c->arena, 65536, 0);
    c->alhs[0] = HASH_EMPTY;
    for (uint64_t id = 1; id <= TXS; id++) {
        struct tx_header *h = &c->headers[id];

        bl = tree_size_for(lag, id, bl);
        *h = (struct tx_header){
            .id = id, .ts = (int64_t)id * 10, .version = (uint32_t)(id % 4 != 0), .entry_count = 1, .prev_alh = c->alhs[id - 1], .bl_tx_id = bl};
        if (h->version == 1 && id % 3 == 0)
            h->md.truncated_upto = id;
        naive_leaf(5, id, &h->eh);
        naive_root(c->leaves, bl, &h->bl_root);
        tx_header_alh(h, &c->alhs[id]);
        sha256_leaf(&c->alhs[id], &c->leaves[id - 1]);
    }
}

static enum status call_counted(struct chain *c, struct err *err) { return c->calls_left-- == 0 ? err_set(err, ST_IO, 5, "told to fail") : ST_OK; }

static enum status source_header(void *ctx, uint64_t tx_id, struct tx_header *out, struct err *err)
{
    struct chain *c = ctx;

    if (tx_id == 0 || tx_id > TXS)
        return err_set(err, ST_NOT_FOUND, 0, "tx not found");
    *out = c->headers[tx_id];
    return call_counted(c, err);
}

static enum status source_alh(void *ctx, uint64_t tx_id, hash_t *out, struct err *err)
{
    struct chain *c = ctx;

    *out = c->alhs[tx_id];
    return call_counted(c, err);
}

static enum status source_inclusion(void *ctx, uint64_t i, uint64_t j, struct merkle_path *out, struct err *err)
{
    struct chain *c = ctx;

    naive_inclusion(c->leaves, i, j, out);
    return call_counted(c, err);
}

static enum status source_consistency(void *ctx, uint64_t i, uint64_t j, struct merkle_path *out, struct err *err)
{
    struct chain *c = ctx;

    naive_consistency(c->leaves, i, j, out);
    return call_counted(c, err);
}

static struct proof_source source_of(struct chain *c)
{
    return (struct proof_source){c, source_header, source_alh, source_inclusion, source_consistency};
}

static void every_pair(void **state)
{
    static struct chain c;
    size_t with_advance = 0, with_long_chain = 0;

    (void)state;
    for (enum lag lag = LAG_NONE; lag <= LAG_STALLED; lag++) {
        struct proof_source s = source_of(&c);

        chain_make(&c, lag);
        for (uint64_t from = 1; from <= TXS; from++) {
            for (uint64_t to = from; to <= TXS; to++) {
                struct dual_proof p;

                assert_int_equal(dual_proof_make(&s, from, to, &c.arena, &p, NULL), ST_OK);
                assert_true(dual_proof_verify(&p, from, to, &c.alhs[from], &c.alhs[to]));
                assert_false(dual_proof_verify(&p, from, to, &c.alhs[from - 1], &c.alhs[to]));
                assert_false(dual_proof_verify(&p, from, to, &c.alhs[from], &c.alhs[from - 1]));
                with_advance += p.advance.is_present;
                with_long_chain += p.linear.terms.count > 2;
                assert_true(lag != LAG_NONE || (!p.advance.is_present && p.linear.terms.count <= 2));
                arena_reset(&c.arena);
            }
        }
        arena_free(&c.arena);
    }
    assert_true(with_advance > 50 && with_long_chain > 50);
}

static void list_bits_flip(const struct hash_list *l, const struct dual_proof *p, struct chain *c, uint64_t from, uint64_t to)
{
    hash_t *items = (hash_t *)(uintptr_t)l->items; /* made by us in the arena */

    for (size_t bit = 0; bit < l->count * 256; bit++) {
        uint8_t *byte = &items[bit / 256].b[bit % 256 / 8];

        *byte = (uint8_t)(*byte ^ (1u << bit % 8));
        assert_false(dual_proof_verify(p, from, to, &c->alhs[from], &c->alhs[to]));
        *byte = (uint8_t)(*byte ^ (1u << bit % 8));
    }
}

/* Each list of the proof one term shorter. */
static void lists_cut(const struct dual_proof *p, struct chain *c, uint64_t from, uint64_t to)
{
    struct dual_proof cut = *p;
    struct hash_list *lists[] = {&cut.inclusion, &cut.consistency, &cut.last_inclusion, &cut.linear.terms, &cut.advance.terms};

    for (size_t k = 0; k < sizeof lists / sizeof lists[0]; k++) {
        if (lists[k]->count == 0)
            continue;
        lists[k]->count--;
        assert_false(dual_proof_verify(&cut, from, to, &c->alhs[from], &c->alhs[to]));
        lists[k]->count++;
    }
    cut.has_linear = false;
    assert_false(dual_proof_verify(&cut, from, to, &c->alhs[from], &c->alhs[to]));
    cut = *p;
    cut.has_source = false;
    assert_false(dual_proof_verify(&cut, from, to, &c->alhs[from], &c->alhs[to]));
    cut = *p;
    cut.has_target = false;
    assert_false(dual_proof_verify(&cut, from, to, &c->alhs[from], &c->alhs[to]));
    cut = *p;
    if (cut.advance.is_present) {
        cut.advance.is_present = false;
        assert_false(dual_proof_verify(&cut, from, to, &c->alhs[from], &c->alhs[to]));
        cut = *p;
        cut.advance.inclusion_count--;
        assert_false(dual_proof_verify(&cut, from, to, &c->alhs[from], &c->alhs[to]));
    }
}

static void headers_changed(const struct dual_proof *p, struct chain *c, uint64_t from, uint64_t to)
{
    for (unsigned which = 0; which < 2; which++) {
        for (unsigned field = 0; field < 8; field++) {
            struct dual_proof changed = *p;
            struct tx_header *h = which == 0 ? &changed.source : &changed.target;

            switch (field) {
            case 0:
                h->id++;
                break;
            case 1:
                h->ts++;
                break;
            case 2:
                h->bl_tx_id++;
                break;
            case 3:
                h->version ^= 1;
                break;
            case 4:
                h->entry_count++;
                break;
            case 5:
                h->prev_alh.b[3] ^= 1;
                break;
            case 6:
                h->eh.b[3] ^= 1;
                break;
            default:
                h->bl_root.b[3] ^= 1;
            }
            assert_false(dual_proof_verify(&changed, from, to, &c->alhs[from], &c->alhs[to]));
            changed = *p;
            h->version = 2 + field;
            assert_false(dual_proof_verify(&changed, from, to, &c->alhs[from], &c->alhs[to]));
        }
    }
}

static void every_flipped_bit_is_refused(void **state)
{
    static const uint64_t pairs[][2] = {{1, 1}, {1, 2}, {5, 6}, {9, 47}, {12, 12}, {12, 30}, {20, 45}, {38, 44}, {47, 48}};
    static struct chain c;

    (void)state;
    for (enum lag lag = LAG_NONE; lag <= LAG_STALLED; lag++) {
        struct proof_source s = source_of(&c);

        chain_make(&c, lag);
        for (size_t k = 0; k < sizeof pairs / sizeof pairs[0]; k++) {
            uint64_t from = pairs[k][0], to = pairs[k][1];
            struct dual_proof p;

            assert_int_equal(dual_proof_make(&s, from, to, &c.arena, &p, NULL), ST_OK);
            list_bits_flip(&p.inclusion, &p, &c, from, to);
            list_bits_flip(&p.consistency, &p, &c, from, to);
            list_bits_flip(&p.last_inclusion, &p, &c, from, to);
            list_bits_flip(&p.linear.terms, &p, &c, from, to);
            list_bits_flip(&p.advance.terms, &p, &c, from, to);
            for (size_t i = 0; i < p.advance.inclusion_count; i++)
                list_bits_flip(&p.advance.inclusions[i], &p, &c, from, to);
            lists_cut(&p, &c, from, to);
            headers_changed(&p, &c, from, to);
            assert_true(dual_proof_verify(&p, from, to, &c.alhs[from], &c.alhs[to]));
            arena_reset(&c.arena);
        }
        arena_free(&c.arena);
    }
}

static void v2(void **state)
{
    static struct chain c;
    struct proof_source s = source_of(&c);
    struct dual_proof_v2 p;
    struct err err;

    (void)state;
    chain_make(&c, LAG_NONE);
    for (uint64_t from = 1; from <= TXS; from++) {
        for (uint64_t to = from; to <= TXS; to++) {
            assert_int_equal(dual_proof_v2_make(&s, from, to, &c.arena, &p, NULL), ST_OK);
            assert_int_equal(dual_proof_v2_verify(&p, from, to, &c.alhs[from], &c.alhs[to], NULL), ST_OK);
            arena_reset(&c.arena);
        }
    }
    assert_int_equal(dual_proof_v2_make(&s, 5, 4, &c.arena, &p, &err), ST_INVALID);
    assert_string_equal(err.text, "source tx is newer than target tx");
    assert_int_equal(dual_proof_v2_make(&s, 4, 9, &c.arena, &p, NULL), ST_OK);
    assert_int_equal(dual_proof_v2_verify(&p, 5, 9, &c.alhs[4], &c.alhs[9], &err), ST_INVALID);
    assert_string_equal(err.text, "illegal arguments");
    assert_int_equal(dual_proof_v2_verify(&p, 4, 9, &c.alhs[5], &c.alhs[9], &err), ST_INVALID);
    assert_string_equal(err.text, "illegal arguments");
    p.consistency.count--;
    assert_int_equal(dual_proof_v2_verify(&p, 4, 9, &c.alhs[4], &c.alhs[9], &err), ST_INVALID);
    assert_string_equal(err.text, "consistency proof does NOT validate");
    p.inclusion.count = 0;
    assert_int_equal(dual_proof_v2_verify(&p, 4, 9, &c.alhs[4], &c.alhs[9], &err), ST_INVALID);
    assert_string_equal(err.text, "inclusion proof does NOT validate");
    assert_int_equal(dual_proof_v2_make(&s, 9, 9, &c.arena, &p, NULL), ST_OK);
    p.source = c.headers[4];
    p.target = c.headers[3];
    assert_int_equal(dual_proof_v2_verify(&p, 4, 3, &c.alhs[4], &c.alhs[3], &err), ST_INVALID);
    assert_string_equal(err.text, "source tx is newer than target tx");
    arena_free(&c.arena);
    chain_make(&c, LAG_STALLED);
    assert_int_equal(dual_proof_v2_make(&s, 4, 30, &c.arena, &p, &err), ST_INVALID);
    assert_string_equal(err.text, "unexpected linking error");
    p = (struct dual_proof_v2){.has_source = true, .has_target = true, .source = c.headers[30], .target = c.headers[31]};
    assert_int_equal(dual_proof_v2_verify(&p, 30, 31, &c.alhs[30], &c.alhs[31], &err), ST_INVALID);
    assert_string_equal(err.text, "internal inconsistency between linear and binary linking");
    arena_free(&c.arena);
}

static void refusals_and_failures(void **state)
{
    static struct chain c;
    struct proof_source s = source_of(&c);
    struct dual_proof p;
    struct linear_proof linear;
    struct linear_advance_proof advance;
    struct err err;
    enum status st = ST_IO;

    (void)state;
    chain_make(&c, LAG_STALLED);
    assert_int_equal(dual_proof_make(&s, 3, 2, &c.arena, &p, &err), ST_INVALID);
    assert_string_equal(err.text, "source tx is newer than target tx");
    assert_false(p.has_source);
    assert_int_equal(dual_proof_make(&s, 0, 2, &c.arena, &p, NULL), ST_INVALID);
    assert_int_equal(dual_proof_make(&s, 3, TXS + 1, &c.arena, &p, NULL), ST_NOT_FOUND);
    assert_int_equal(linear_proof_make(&s, 1, LINEAR_TERMS_MAX + 1, &c.arena, &linear, NULL), ST_LIMIT);
    assert_int_equal(linear_proof_make(&s, 0, 1, &c.arena, &linear, NULL), ST_INVALID);
    assert_int_equal(linear_proof_make(&s, 3, 20, &c.arena, &linear, NULL), ST_OK);
    assert_true(linear_proof_verify(&linear, 3, 20, &c.alhs[3], &c.alhs[20]));
    assert_int_equal(linear_advance_make(&s, 5, 4, 20, &c.arena, &advance, NULL), ST_INVALID);
    assert_int_equal(linear_advance_make(&s, 5, 6, 20, &c.arena, &advance, NULL), ST_OK);
    assert_false(advance.is_present);
    assert_true(linear_advance_verify(&advance, 5, 6, &c.alhs[6], &HASH_ZERO, 20));
    assert_false(linear_advance_verify(&advance, 6, 5, &c.alhs[6], &HASH_ZERO, 20));
    /* Each call of the source fails once; each time nothing but a status comes out. */
    for (uint64_t n = 0; st != ST_OK; n++) {
        assert_true(n < 500);
        c.calls_left = n;
        st = dual_proof_make(&s, 20, 45, &c.arena, &p, NULL);
        assert_true(st == ST_OK || (st == ST_IO && !p.has_source && p.inclusion.count == 0));
    }
    c.calls_left = UINT64_MAX;
    for (size_t room = 0; room < 8192; room += 64) {
        struct arena tight;

        arena_init(&tight, 256, room + 1);
        st = dual_proof_make(&s, 20, 45, &tight, &p, NULL);
        assert_true(st == ST_NOMEM || dual_proof_verify(&p, 20, 45, &c.alhs[20], &c.alhs[45]));
        arena_free(&tight);
    }
    arena_free(&c.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair),
        cmocka_unit_test(every_flipped_bit_is_refused),
        cmocka_unit_test(v2),
        cmocka_unit_test(refusals_and_failures),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
