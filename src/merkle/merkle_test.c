/* Proves that the per-tx tree, the frontier and the verifiers are those of the definition.
 *
 * How: known answers, then all widths to 70 against a tree written from the definition, every proof checked, and every
 * single flipped bit of proof, leaf and root refused. */
#include <stdio.h>
#include <stdlib.h>

#include "base/test.h"
#include "merkle/merkle.h"
#include "merkle/naive_tree.h"

#define LEAVES 200
static hash_t data_of[LEAVES], leaf_of[LEAVES];

static int leaves_make(void **state)
{
    (void)state;
    for (size_t i = 0; i < LEAVES; i++) {
        naive_leaf(1, i, &data_of[i]);
        sha256_leaf(&data_of[i], &leaf_of[i]);
    }
    return 0;
}

static void hash_of_hex(const char *hex, hash_t *out)
{
    for (size_t i = 0; i < HASH_LEN; i++) {
        unsigned byte = 0;

        assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
        out->b[i] = (uint8_t)byte;
    }
}

/* From another implementation. */
static void known_hashes(void **state)
{
    hash_t want, got;

    (void)state;
    hash_of_hex("7f9c9e31ac8256ca2f258583df262dbc7d6f68f2a03043d5c99a4ae5a7396ce9", &want); /* 0x00 and 32 zero bytes */
    sha256_leaf(&HASH_ZERO, &got);
    assert_memory_equal(&want, &got, HASH_LEN);
    htree_root(NULL, 0, NULL, &got);
    assert_memory_equal(&HASH_EMPTY, &got, HASH_LEN);
}

static void htree_like_the_definition(void **state)
{
    hash_t scratch[70], root, want;
    struct merkle_path got, path;

    (void)state;
    for (size_t width = 1; width <= 70; width++) {
        htree_root(data_of, width, scratch, &root);
        naive_root(leaf_of, width, &want);
        assert_memory_equal(&root, &want, HASH_LEN);
        for (size_t i = 0; i < width; i++) {
            assert_int_equal(htree_inclusion(data_of, width, i, scratch, &got, NULL), ST_OK);
            naive_inclusion(leaf_of, i + 1, width, &path);
            assert_true(naive_same(&got, &path));
            assert_true(htree_verify(got.terms, got.term_count, i, width, &data_of[i], &root));
            assert_false(htree_verify(got.terms, got.term_count, i, width, &data_of[i + 1], &root));
        }
        assert_int_equal(htree_inclusion(data_of, width, width, scratch, &got, NULL), ST_INVALID);
    }
    assert_int_equal(htree_inclusion(data_of, 0, 0, scratch, &got, NULL), ST_INVALID);
    assert_false(htree_verify(NULL, 0, 0, 0, &data_of[0], &root));
}

static void frontier_is_the_root(void **state)
{
    struct frontier f;
    hash_t root, want;

    (void)state;
    frontier_init(&f);
    frontier_root(&f, &root);
    assert_memory_equal(&root, &HASH_ZERO, HASH_LEN);
    for (size_t n = 1; n <= LEAVES; n++) {
        frontier_append(&f, &leaf_of[n - 1]);
        assert_int_equal(f.size, n);
        frontier_root(&f, &root);
        naive_root(leaf_of, n, &want);
        assert_memory_equal(&root, &want, HASH_LEN);
    }
}

static void verifiers_accept_all_small_sizes(void **state)
{
    struct merkle_path p;
    hash_t root_i, root_j;

    (void)state;
    for (size_t j = 1; j <= 70; j++) {
        naive_root(leaf_of, j, &root_j);
        for (size_t i = 1; i <= j; i++) {
            naive_root(leaf_of, i, &root_i);
            naive_inclusion(leaf_of, i, j, &p);
            assert_true(inclusion_verify(p.terms, p.term_count, i, j, &data_of[i - 1], &root_j));
            assert_true(inclusion_verify_leaf(p.terms, p.term_count, i, j, &leaf_of[i - 1], &root_j));
            assert_false(inclusion_verify(p.terms, p.term_count, i, j, &data_of[i], &root_j));
            if (i == j)
                assert_true(last_inclusion_verify(p.terms, p.term_count, i, &data_of[i - 1], &root_j));
            naive_consistency(leaf_of, i, j, &p);
            assert_true(consistency_verify(p.terms, p.term_count, i, j, &root_i, &root_j));
            if (i < j) {
                assert_false(consistency_verify(p.terms, 0, i, j, &root_i, &root_j));
                assert_false(consistency_verify(p.terms, p.term_count, j, i, &root_j, &root_i));
            }
        }
    }
    assert_false(inclusion_verify(p.terms, 0, 0, 1, &data_of[0], &root_j));
    assert_false(last_inclusion_verify(p.terms, 0, 0, &data_of[0], &root_j));
    assert_false(consistency_verify(p.terms, 1, 0, 1, &root_j, &root_j));
    assert_true(consistency_verify(NULL, 0, 5, 5, &root_j, &root_j));
    assert_false(consistency_verify(NULL, 0, 5, 5, &root_j, &HASH_ZERO));
}

static void flip(uint8_t *bytes, size_t bit) { bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ (1u << (bit % 8))); }

/* Sizes with all kinds of ragged ends; every bit of every input. */
static void every_flipped_bit_is_refused(void **state)
{
    static const size_t pairs[][2] = {{1, 2}, {3, 5}, {6, 7}, {7, 13}, {8, 13}, {5, 16}, {16, 33}, {21, 42}};

    (void)state;
    for (size_t k = 0; k < sizeof pairs / sizeof pairs[0]; k++) {
        size_t i = pairs[k][0], j = pairs[k][1];
        struct merkle_path in, con;
        hash_t root_i, root_j, leaf = data_of[i - 1];

        naive_root(leaf_of, i, &root_i);
        naive_root(leaf_of, j, &root_j);
        naive_inclusion(leaf_of, i, j, &in);
        naive_consistency(leaf_of, i, j, &con);
        for (size_t bit = 0; bit < in.term_count * 256; bit++) {
            flip(in.terms[0].b, bit);
            assert_false(inclusion_verify(in.terms, in.term_count, i, j, &leaf, &root_j));
            assert_false(htree_verify(in.terms, in.term_count, i - 1, j, &leaf, &root_j));
            flip(in.terms[0].b, bit);
        }
        for (size_t bit = 0; bit < con.term_count * 256; bit++) {
            flip(con.terms[0].b, bit);
            assert_false(consistency_verify(con.terms, con.term_count, i, j, &root_i, &root_j));
            flip(con.terms[0].b, bit);
        }
        for (size_t bit = 0; bit < 256; bit++) {
            flip(leaf.b, bit);
            assert_false(inclusion_verify(in.terms, in.term_count, i, j, &leaf, &root_j));
            flip(leaf.b, bit);
            flip(root_j.b, bit);
            assert_false(inclusion_verify(in.terms, in.term_count, i, j, &leaf, &root_j));
            assert_false(consistency_verify(con.terms, con.term_count, i, j, &root_i, &root_j));
            flip(root_j.b, bit);
            flip(root_i.b, bit);
            assert_false(consistency_verify(con.terms, con.term_count, i, j, &root_i, &root_j));
            flip(root_i.b, bit);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_hashes),
        cmocka_unit_test(htree_like_the_definition),
        cmocka_unit_test(frontier_is_the_root),
        cmocka_unit_test(verifiers_accept_all_small_sizes),
        cmocka_unit_test(every_flipped_bit_is_refused),
    };

    return cmocka_run_group_tests(tests, leaves_make, NULL);
}
