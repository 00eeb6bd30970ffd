/* Proves the proofs: of every entry to every trusted transaction of a small database, that they hold; that with any bit of their bytes flipped they are refused (or
 * prove the very same thing); the single kinds, with their limits; the verified read, and that it notices another database. Only what is on disk is proven. */
#include "api/api_fixture.h"

#include <stdio.h>
#include <stdlib.h>

enum { TXS = 40 };

struct proofs {
    struct fixture f;
    immudb_hash alh[TXS + 1];
    immudb_buffer *bytes_buffer, *decoded_buffer;
};

static void proofs_begin(struct proofs *p)
{
    immudb_pair pairs[9];
    char keys[9][16];
    immudb_header h;

    fixture_begin(&p->f, 0);
    immudb_header_init(&h);
    OK(immudb_buffer_create(&p->bytes_buffer, E));
    OK(immudb_buffer_create(&p->decoded_buffer, E));
    for (int i = 1; i <= TXS; i++) {
        if (i % 7 == 0) {
            OK(immudb_delete(p->f.db, S("key0"), 0, NULL, E));
        } else {
            for (int k = 0; k < 9; k++) {
                snprintf(keys[k], sizeof keys[k], "key%d", k);
                pairs[k] = (immudb_pair){S(keys[k]), S(i % 2 == 0 ? "even" : "odd")};
            }
            OK(immudb_set_many(p->f.db, pairs, (size_t)(1 + i % 9), 0, NULL, E));
        }
        OK(immudb_header_get(p->f.db, (uint64_t)i, &h, &p->alh[i], E));
    }
}

static void proofs_end(struct proofs *p)
{
    immudb_buffer_free(p->bytes_buffer);
    immudb_buffer_free(p->decoded_buffer);
    fixture_end(&p->f);
}

static void test_all_pairs(void **state)
{
    struct proofs p;
    immudb_entry_proof proof, decoded;
    immudb_bytes bytes;
    immudb_hash alh;
    uint64_t tx_id;

    (void)state;
    proofs_begin(&p);
    for (uint64_t tx = 1; tx <= TXS; tx++) {
        for (uint64_t trusted = 0; trusted <= TXS; trusted++) {
            const immudb_hash *trust = trusted == 0 ? NULL : &p.alh[trusted];
            uint64_t newer = tx > trusted ? tx : trusted;

            immudb_entry_proof_init(&proof);
            immudb_entry_proof_init(&decoded);
            OK(immudb_prove_entry(p.f.db, S("key0"), tx, trusted, 0, p.f.buffer, &proof, E));
            OK(immudb_verify_entry_proof(&proof, trusted, trust, &tx_id, &alh, E));
            assert_int_equal(tx_id, newer);
            assert_memory_equal(&alh, &p.alh[newer], sizeof alh);
            OK(immudb_entry_proof_encode(&proof, p.bytes_buffer, &bytes, E));
            OK(immudb_entry_proof_decode(bytes, p.decoded_buffer, &decoded, E));
            OK(immudb_verify_entry_proof(&decoded, trusted, trust, &tx_id, &alh, E));
            BYTES(immudb_plain_key(decoded.store_key), "key0");
            BYTES(immudb_plain_value(decoded.store_value), tx % 7 == 0 ? "" : tx % 2 == 0 ? "even" : "odd");
            /* Somebody who trusts another history. */
            if (trusted != 0) {
                immudb_hash other = p.alh[trusted];

                other.bytes[31] ^= 1;
                IS(IMMUDB_CORRUPT, immudb_verify_entry_proof(&decoded, trusted, &other, NULL, NULL, E));
                IS(IMMUDB_CORRUPT, immudb_verify_entry_proof(&decoded, trusted % TXS + 1, &p.alh[trusted], NULL, NULL, E));
            }
        }
    }
    proofs_end(&p);
}

/* Every bit, one at a time. What is left accepted must say the same about the same entry. */
static void test_flipped_bits(void **state)
{
    struct proofs p;
    immudb_entry_proof proof, decoded;
    immudb_bytes bytes;
    immudb_status st;
    uint8_t *copy;
    size_t accepted = 0;

    (void)state;
    proofs_begin(&p);
    immudb_entry_proof_init(&proof);
    OK(immudb_prove_entry(p.f.db, S("key3"), 13, 30, 0, p.f.buffer, &proof, E));
    OK(immudb_entry_proof_encode(&proof, p.bytes_buffer, &bytes, E));
    copy = malloc(bytes.len);
    assert_non_null(copy);
    for (size_t bit = 0; bit < bytes.len * 8; bit++) {
        memcpy(copy, bytes.data, bytes.len);
        copy[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        immudb_entry_proof_init(&decoded);
        st = immudb_entry_proof_decode(immudb_bytes_of(copy, bytes.len), p.decoded_buffer, &decoded, E);
        if (st == IMMUDB_OK)
            st = immudb_verify_entry_proof(&decoded, 30, &p.alh[30], NULL, NULL, E);
        if (st == IMMUDB_OK) {
            accepted++;
            BYTES(immudb_plain_key(decoded.store_key), "key3");
            BYTES(immudb_plain_value(decoded.store_value), "odd");
            assert_int_equal(decoded.header->tx_id, 13);
        } else if (st != IMMUDB_CORRUPT && st != IMMUDB_UNSUPPORTED && st != IMMUDB_INVALID) {
            fail_msg("bit %zu: %s", bit, immudb_status_name(st));
        }
    }
    assert_int_equal(accepted, 0);
    for (size_t len = 0; len < bytes.len; len++)
        assert_int_not_equal(immudb_entry_proof_decode(immudb_bytes_of(bytes.data, len), p.decoded_buffer, &decoded, E), IMMUDB_OK);
    free(copy);
    proofs_end(&p);
}

static void test_kinds(void **state)
{
    struct proofs p;
    immudb_inclusion_proof inclusion;
    immudb_dual_proof dual;
    immudb_dual_proof_v2 v2;
    immudb_linear_proof linear;
    immudb_linear_advance_proof advance;
    immudb_header h;
    immudb_hash digest, eh, root, bad, other;

    (void)state;
    proofs_begin(&p);
    immudb_header_init(&h);
    for (uint64_t s = 1; s <= TXS; s++) {
        for (uint64_t t = s; t <= TXS; t += 3) {
            other = p.alh[s];
            other.bytes[9] ^= 16;
            immudb_dual_proof_init(&dual);
            OK(immudb_prove_dual(p.f.db, s, t, p.f.buffer, &dual, E));
            OK(immudb_verify_dual(&dual, s, t, &p.alh[s], &p.alh[t], E));
            IS(IMMUDB_CORRUPT, immudb_verify_dual(&dual, s, t, &other, &p.alh[t], E));
            immudb_dual_proof_v2_init(&v2);
            OK(immudb_prove_dual_v2(p.f.db, s, t, p.f.buffer, &v2, E));
            OK(immudb_verify_dual_v2(&v2, s, t, &p.alh[s], &p.alh[t], E));
            IS(IMMUDB_CORRUPT, immudb_verify_dual_v2(&v2, s, t, &other, &p.alh[t], E));
            immudb_linear_proof_init(&linear);
            OK(immudb_prove_linear(p.f.db, s, t, p.f.buffer, &linear, E));
            OK(immudb_verify_linear(&linear, s, t, &p.alh[s], &p.alh[t], E));
            IS(IMMUDB_CORRUPT, immudb_verify_linear(&linear, s, t, &other, &p.alh[t], E));
            immudb_linear_advance_proof_init(&advance);
            OK(immudb_prove_linear_advance(p.f.db, s, t, TXS, p.f.buffer, &advance, E));
            OK(immudb_tree_root(p.f.db, TXS, &root, E));
            OK(immudb_verify_linear_advance(&advance, s, t, &p.alh[t], &root, TXS, E));
            bad = root;
            bad.bytes[0] ^= 1;
            if (t - s > 1)
                IS(IMMUDB_CORRUPT, immudb_verify_linear_advance(&advance, s, t, &p.alh[t], &bad, TXS, E));
        }
        immudb_inclusion_proof_init(&inclusion);
        OK(immudb_header_get(p.f.db, s, &h, NULL, E));
        OK(immudb_prove_inclusion(p.f.db, s, S("key0"), 0, p.f.buffer, &inclusion, &digest, E));
        OK(immudb_verify_inclusion(&inclusion, &digest, &h.eh, E));
        eh = h.eh;
        eh.bytes[5] ^= 4;
        IS(IMMUDB_CORRUPT, immudb_verify_inclusion(&inclusion, &digest, &eh, E));
    }
    FAILS(IMMUDB_INVALID, "newer than target", immudb_prove_dual(p.f.db, 5, 4, p.f.buffer, &dual, E));
    FAILS(IMMUDB_NOT_FOUND, "tx not found", immudb_prove_dual(p.f.db, 5, TXS + 1, p.f.buffer, &dual, E));
    IS(IMMUDB_NOT_FOUND, immudb_prove_inclusion(p.f.db, 1, S("none"), 0, p.f.buffer, &inclusion, NULL, E));
    IS(IMMUDB_NOT_FOUND, immudb_prove_inclusion(p.f.db, 0, S("key0"), 0, p.f.buffer, &inclusion, NULL, E));
    IS(IMMUDB_NOT_FOUND, immudb_tree_root(p.f.db, TXS + 1, &root, E));
    OK(immudb_tree_root(p.f.db, 0, &root, E));
    h.version = 2;
    IS(IMMUDB_UNSUPPORTED, immudb_header_alh(&h, &root, E));
    proofs_end(&p);
}

/* The tree's own proofs: the inclusion and consistency parts of a dual proof, by themselves. */
static void test_tree(void **state)
{
    struct proofs p;
    immudb_dual_proof dual;
    immudb_hash old_root, new_root;

    (void)state;
    proofs_begin(&p);
    immudb_dual_proof_init(&dual);
    OK(immudb_prove_dual(p.f.db, 10, 37, p.f.buffer, &dual, E));
    OK(immudb_tree_root(p.f.db, dual.source->bl_tx_id, &old_root, E));
    OK(immudb_tree_root(p.f.db, dual.target->bl_tx_id, &new_root, E));
    assert_memory_equal(&old_root, &dual.source->bl_root, sizeof old_root);
    OK(immudb_verify_tree_inclusion(dual.inclusion, 10, dual.target->bl_tx_id, &p.alh[10], &new_root, E));
    IS(IMMUDB_CORRUPT, immudb_verify_tree_inclusion(dual.inclusion, 11, dual.target->bl_tx_id, &p.alh[10], &new_root, E));
    OK(immudb_verify_tree_consistency(dual.consistency, dual.source->bl_tx_id, dual.target->bl_tx_id, &old_root, &new_root, E));
    IS(IMMUDB_CORRUPT, immudb_verify_tree_consistency(dual.consistency, dual.source->bl_tx_id, dual.target->bl_tx_id, &new_root, &new_root, E));
    proofs_end(&p);
}

static void test_verified_get(void **state)
{
    struct fixture f, g;
    immudb_state trusted, before;
    immudb_entry e;
    uint64_t first;

    (void)state;
    fixture_begin(&f, IMMUDB_ASYNC);
    fixture_begin(&g, 0);
    immudb_state_init(&trusted);
    immudb_entry_init(&e);
    IS(IMMUDB_NOT_FOUND, immudb_verified_get(f.db, S("k"), 0, 0, &trusted, f.buffer, &e, E));
    assert_int_equal(trusted.tx_id, 0);
    first = set(&f, "k", "one");
    set(&f, "k", "two");
    OK(immudb_sync(f.db, E));
    OK(immudb_verified_get(f.db, S("k"), first, 0, &trusted, f.buffer, &e, E));
    BYTES(e.value, "one");
    assert_int_equal(trusted.tx_id, 1);
    OK(immudb_verified_get(f.db, S("k"), 0, 0, &trusted, f.buffer, &e, E));
    BYTES(e.value, "two");
    BYTES(e.key, "k");
    assert_int_equal(e.revision, 2);
    assert_int_equal(trusted.tx_id, 2);
    for (int i = 0; i < 300; i++)
        set(&f, "other", "x");
    OK(immudb_sync(f.db, E));
    OK(immudb_verified_get(f.db, S("k"), 0, 0, &trusted, f.buffer, &e, E));
    assert_int_equal(trusted.tx_id, 2); /* nothing newer was proven */
    OK(immudb_verified_get(f.db, S("other"), 0, 0, &trusted, f.buffer, &e, E));
    assert_int_equal(trusted.tx_id, 302);
    OK(immudb_delete(f.db, S("k"), 0, NULL, E));
    OK(immudb_sync(f.db, E));
    IS(IMMUDB_NOT_FOUND, immudb_verified_get(f.db, S("k"), 0, 0, &trusted, f.buffer, &e, E));
    assert_int_equal(trusted.tx_id, 303); /* the deletion was proven */
    OK(immudb_verified_get(f.db, S("k"), 0, IMMUDB_WITH_DELETED, &trusted, f.buffer, &e, E));
    assert_int_equal(e.flags, IMMUDB_ENTRY_DELETED);

    /* Another database, shorter and then longer. */
    before = trusted;
    set(&g, "k", "forged");
    FAILS(IMMUDB_CORRUPT, "not there", immudb_verified_get(g.db, S("k"), 0, 0, &trusted, f.buffer, &e, E));
    trusted.tx_id = 1;
    FAILS(IMMUDB_CORRUPT, "does not verify", immudb_verified_get(g.db, S("k"), 0, 0, &trusted, f.buffer, &e, E));
    assert_int_equal(trusted.tx_id, 1);
    assert_memory_equal(&trusted.alh, &before.alh, sizeof before.alh);
    fixture_end(&g);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_pairs), cmocka_unit_test(test_flipped_bits), cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_tree),      cmocka_unit_test(test_verified_get),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
