/* Proves that the interface stays an ABI: sizes and offsets of all structs on 64-bit machines and all numbers, as in the first release (fields may only be added at
 * the end of sized structs, and then this test says which); that older and newer callers' structs are understood; that no pointer that is NULL is followed. */
#include "api/api_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#include "api/api_struct.h"

#define SIZE(type, bytes) assert_int_equal(sizeof(type), (bytes))
#define AT(type, field, offset) assert_int_equal(offsetof(type, field), (offset))

static void test_layout(void **state)
{
    (void)state;
    assert_int_equal(immudb_abi_version(), IMMUDB_ABI_VERSION);
    assert_int_equal(IMMUDB_ABI_VERSION >> 16, 0);
    assert_string_equal(immudb_version(), IMMUDB_RELEASE);
    if (sizeof(void *) != 8)
        return;
    SIZE(immudb_error, 256);
    SIZE(immudb_bytes, 16);
    SIZE(immudb_hash, 32);
    SIZE(immudb_hashes, 16);
    SIZE(immudb_pair, 32);
    SIZE(immudb_memory_use, 24);
    SIZE(immudb_header, 408);
    AT(immudb_header, tx_id, 8);
    AT(immudb_header, entry_count, 36);
    AT(immudb_header, prev_alh, 40);
    AT(immudb_header, truncated_upto, 136);
    AT(immudb_header, extra, 148);
    SIZE(immudb_inclusion_proof, 40);
    SIZE(immudb_linear_proof, 40);
    SIZE(immudb_linear_advance_proof, 40);
    SIZE(immudb_dual_proof, 120);
    AT(immudb_dual_proof, target_bl_alh, 56);
    AT(immudb_dual_proof, advance, 112);
    SIZE(immudb_dual_proof_v2, 56);
    SIZE(immudb_entry_proof, 120);
    AT(immudb_entry_proof, value_hash, 56);
    AT(immudb_entry_proof, dual, 112);
    SIZE(immudb_signature, 336);
    SIZE(immudb_runtime_options, 48);
    SIZE(immudb_options, 96);
    AT(immudb_options, flags, 40);
    AT(immudb_options, memtable_bytes_max, 88);
    SIZE(immudb_health, 544);
    SIZE(immudb_entry, 152);
    AT(immudb_entry, flags, 108);
    AT(immudb_entry, value_hash, 120);
    SIZE(immudb_set_options, 24);
    SIZE(immudb_committed, 56);
    SIZE(immudb_tx_options, 32);
    SIZE(immudb_get_options, 40);
    SIZE(immudb_scan_options, 80);
    SIZE(immudb_state, 96);
    SIZE(immudb_stats, 616);
    AT(immudb_stats, memory_cache, 208);
    AT(immudb_stats, sync_ns_histogram, 360);
}

static void test_numbers(void **state)
{
    static const char *const names[] = {
        "ok",       "out of memory",  "input/output error", "no space left", "corrupt", "invalid",   "not found", "exists already",
        "conflict", "limit exceeded", "read-only",          "busy",          "timeout", "cancelled", "closed",    "unsupported"};

    (void)state;
    for (immudb_status i = 0; i <= IMMUDB_UNSUPPORTED; i++) {
        assert_string_equal(immudb_status_name(i), names[i]);
        assert_int_equal(status_out(status_in(i)), i);
    }
    assert_string_equal(immudb_status_name(999), "unknown status");
    assert_int_equal(status_in(999), ST_IO);
    assert_int_equal(IMMUDB_HEADER_V0, 32);
    assert_int_equal(IMMUDB_ENTRY_PENDING, 64);
    assert_int_equal(IMMUDB_EXPIRES, 32);
    assert_int_equal(IMMUDB_WITH_REVISION, 2048);
    assert_int_equal(IMMUDB_READ_ONLY_FAILED, 4);
    assert_int_equal(IMMUDB_TX_READ_ONLY, 2);
    assert_int_equal(IMMUDB_NOT_MODIFIED_AFTER_TX, 2);
    assert_int_equal(IMMUDB_WITH_PRECOMMITTED, 2);
}

/* Callers of other releases. */
struct newer_options {
    immudb_options o;
    uint64_t new_option;
};
struct newer_state {
    immudb_state s;
    uint64_t new_field;
};

static void test_sizes(void **state)
{
    struct fixture f;
    struct newer_options newer;
    struct newer_state newer_state;
    immudb_options o;
    immudb_db *db = NULL;
    struct {
        size_t size;
        uint64_t tx_id, guard;
    } older_state = {16, 99, 0x5555};
    immudb_entry e;

    (void)state;
    fixture_begin(&f, 0);
    set(&f, "a", "1");
    /* Output: no more than there is room for; what we do not know is zero. */
    OK(immudb_state_get(f.db, (immudb_state *)&older_state, E));
    assert_int_equal(older_state.tx_id, 1);
    assert_int_equal(older_state.guard, 0x5555);
    assert_int_equal(older_state.size, 16);
    memset(&newer_state, 0xff, sizeof newer_state);
    newer_state.s.size = sizeof newer_state;
    OK(immudb_state_get(f.db, &newer_state.s, E));
    assert_int_equal(newer_state.new_field, 0);
    assert_int_equal(newer_state.s.tx_id, 1);
    assert_int_equal(newer_state.s.size, sizeof newer_state);
    /* Never set. */
    memset(&e, 0, sizeof e);
    FAILS(IMMUDB_INVALID, "immudb_entry_init()", immudb_get(f.db, S("a"), NULL, f.buffer, &e, E));
    e.size = SIZE_MAX;
    IS(IMMUDB_INVALID, immudb_get(f.db, S("a"), NULL, f.buffer, &e, E));
    fixture_close(&f);
    /* Input: an option of a later release is only accepted when it is not used. */
    memset(&newer, 0, sizeof newer);
    newer.o.size = sizeof newer;
    newer.new_option = 1;
    FAILS(IMMUDB_UNSUPPORTED, "does not know", immudb_open(f.path, &newer.o, &db, E));
    newer.new_option = 0;
    OK(immudb_open(f.path, &newer.o, &db, E));
    OK(immudb_close(db, E));
    memset(&o, 0xff, sizeof o); /* only its head is looked at */
    o.size = offsetof(immudb_options, runtime_options);
    o.runtime = NULL;
    OK(immudb_open(f.path, &o, &db, E));
    OK(immudb_close(db, E));
    fixture_open(&f);
    fixture_end(&f);
}

#define NULLS(call) \
    do { \
        IS(IMMUDB_INVALID, call); \
        assert_non_null(strstr(E->text, "NULL")); \
    } while (0)

static void test_null(void **state)
{
    struct fixture f;
    immudb_entry e;
    immudb_state s;
    immudb_cursor *cursor;
    immudb_snapshot *snapshot;
    immudb_ticket *ticket;
    immudb_signature sig;
    immudb_health health;
    immudb_stats stats;
    immudb_header h;
    immudb_entry_proof proof;
    immudb_dual_proof dual;
    immudb_bytes b;
    immudb_hash hash;
    immudb_db *db;
    immudb_tx *tx;
    uint64_t n;
    uint8_t uuid[16];

    (void)state;
    fixture_begin(&f, 0);
    immudb_entry_init(&e);
    immudb_state_init(&s);
    immudb_signature_init(&sig);
    immudb_health_init(&health);
    immudb_stats_init(&stats);
    immudb_header_init(&h);
    immudb_entry_proof_init(&proof);
    immudb_dual_proof_init(&dual);
    memset(&hash, 0, sizeof hash);
    NULLS(immudb_open(NULL, NULL, &db, E));
    NULLS(immudb_open("x", NULL, NULL, E));
    NULLS(immudb_runtime_create(NULL, NULL, E));
    NULLS(immudb_buffer_create(NULL, E));
    NULLS(immudb_uuid(NULL, uuid, E));
    NULLS(immudb_uuid(f.db, NULL, E));
    NULLS(immudb_health_get(NULL, &health, E));
    NULLS(immudb_health_get(f.db, NULL, E));
    NULLS(immudb_set(NULL, S("a"), S("b"), NULL, NULL, E));
    NULLS(immudb_set_many(f.db, NULL, 1, 0, NULL, E));
    NULLS(immudb_delete(NULL, S("a"), 0, NULL, E));
    NULLS(immudb_tx_begin(NULL, NULL, &tx, E));
    NULLS(immudb_tx_begin(f.db, NULL, NULL, E));
    NULLS(immudb_tx_set(NULL, S("a"), S("b"), NULL, E));
    NULLS(immudb_tx_delete(NULL, S("a"), 0, E));
    NULLS(immudb_tx_precondition(NULL, 0, S("a"), 0, 0, E));
    NULLS(immudb_tx_set_extra(NULL, S("a"), E));
    NULLS(immudb_tx_get(NULL, S("a"), 0, f.buffer, &e, E));
    OK(immudb_tx_begin(f.db, NULL, &tx, E));
    NULLS(immudb_tx_get(tx, S("a"), 0, NULL, &e, E));
    NULLS(immudb_tx_get(tx, S("a"), 0, f.buffer, NULL, E));
    NULLS(immudb_tx_scan(tx, NULL, NULL, E));
    NULLS(immudb_tx_commit_ticket(tx, NULL, E)); /* takes it all the same */
    NULLS(immudb_tx_commit_ticket(NULL, &ticket, E));
    OK(immudb_tx_begin(f.db, NULL, &tx, E));
    immudb_tx_commit_async(tx, NULL, NULL); /* nobody to tell: given up */
    NULLS(immudb_tx_commit(NULL, NULL, E));
    NULLS(immudb_tx_scan(NULL, NULL, &cursor, E));
    NULLS(immudb_ticket_wait(NULL, 0, NULL, E));
    NULLS(immudb_snapshot_open(NULL, 0, &snapshot, E));
    NULLS(immudb_snapshot_open(f.db, 0, NULL, E));
    assert_int_equal(immudb_snapshot_tx(NULL), 0);
    NULLS(immudb_wait_indexed(NULL, 0, 0, E));
    NULLS(immudb_get(NULL, S("a"), NULL, f.buffer, &e, E));
    NULLS(immudb_get(f.db, S("a"), NULL, NULL, &e, E));
    NULLS(immudb_get(f.db, S("a"), NULL, f.buffer, NULL, E));
    NULLS(immudb_scan(NULL, NULL, &cursor, E));
    NULLS(immudb_scan(f.db, NULL, NULL, E));
    NULLS(immudb_history(NULL, NULL, S("a"), 0, 0, &cursor, E));
    NULLS(immudb_history(f.db, NULL, S("a"), 0, 0, NULL, E));
    NULLS(immudb_tx_entries(NULL, 1, 0, &cursor, E));
    NULLS(immudb_tx_entries(f.db, 1, 0, NULL, E));
    NULLS(immudb_cursor_next(NULL, &e, E));
    NULLS(immudb_count(NULL, NULL, S(""), 0, &n, E));
    NULLS(immudb_count(f.db, NULL, S(""), 0, NULL, E));
    NULLS(immudb_header_get(NULL, 1, &h, NULL, E));
    NULLS(immudb_header_get(f.db, 1, NULL, NULL, E));
    NULLS(immudb_tx_since(f.db, 1, NULL, E));
    NULLS(immudb_state_get(NULL, &s, E));
    NULLS(immudb_state_get(f.db, NULL, E));
    NULLS(immudb_state_sign(f.db, &s, NULL, E));
    NULLS(immudb_signer_from_pem(S("x"), NULL, E));
    NULLS(immudb_signer_from_callback(NULL, NULL, &f.o.signer, E));
    NULLS(immudb_prove_inclusion(f.db, 1, S("a"), 0, f.buffer, NULL, NULL, E));
    NULLS(immudb_prove_dual(f.db, 1, 1, NULL, &dual, E));
    NULLS(immudb_prove_dual_v2(f.db, 1, 1, f.buffer, NULL, E));
    NULLS(immudb_prove_linear(NULL, 1, 1, f.buffer, NULL, E));
    NULLS(immudb_prove_linear_advance(f.db, 1, 1, 1, f.buffer, NULL, E));
    NULLS(immudb_prove_entry(f.db, S("a"), 0, 0, 0, NULL, &proof, E));
    NULLS(immudb_tree_root(f.db, 0, NULL, E));
    NULLS(immudb_verified_get(f.db, S("a"), 0, 0, NULL, f.buffer, &e, E));
    NULLS(immudb_export(f.db, 1, 0, NULL, &b, E));
    NULLS(immudb_import(NULL, S("x"), 0, 0, NULL, E));
    NULLS(immudb_allow_commit(f.db, 1, NULL, E));
    NULLS(immudb_discard(NULL, 1, E));
    NULLS(immudb_sync(NULL, E));
    NULLS(immudb_flush_index(NULL, E));
    NULLS(immudb_compact_index(NULL, E));
    NULLS(immudb_truncate(NULL, 1, NULL, E));
    NULLS(immudb_store_verify(NULL, NULL, NULL, NULL, E));
    NULLS(immudb_stats_get(f.db, NULL, E));
    NULLS(immudb_header_alh(NULL, &hash, E));
    NULLS(immudb_header_alh(&h, NULL, E));
    NULLS(immudb_entry_digest(1, S("k"), S(""), NULL, &hash, E));
    NULLS(immudb_verify_inclusion(NULL, &hash, &hash, E));
    NULLS(immudb_verify_linear(NULL, 1, 1, &hash, &hash, E));
    NULLS(immudb_verify_linear_advance(NULL, 1, 1, &hash, &hash, 1, E));
    NULLS(immudb_verify_dual(NULL, 1, 1, &hash, &hash, E));
    NULLS(immudb_verify_dual(&dual, 1, 1, &hash, &hash, E)); /* its headers */
    NULLS(immudb_verify_dual_v2(NULL, 1, 1, &hash, &hash, E));
    NULLS(immudb_verify_tree_inclusion((immudb_hashes){0, NULL}, 1, 1, NULL, &hash, E));
    NULLS(immudb_verify_tree_consistency((immudb_hashes){0, NULL}, 1, 1, NULL, &hash, E));
    NULLS(immudb_verify_entry_proof(NULL, 0, NULL, NULL, NULL, E));
    NULLS(immudb_verify_entry_proof(&proof, 0, NULL, NULL, NULL, E)); /* its inclusion */
    NULLS(immudb_entry_proof_encode(&proof, NULL, &b, E));
    NULLS(immudb_entry_proof_decode(S("x"), NULL, &proof, E));
    NULLS(immudb_verify_signature(S("x"), S("y"), NULL, 1, &hash, E));
    immudb_cursor_close(NULL);
    immudb_snapshot_close(NULL);
    immudb_buffer_free(NULL);
    immudb_buffer_reset(NULL);
    immudb_signer_free(NULL);
    /* Nobody wants the text. */
    assert_int_equal(immudb_set(f.db, S(""), S(""), NULL, NULL, NULL), IMMUDB_INVALID);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_layout), cmocka_unit_test(test_numbers), cmocka_unit_test(test_sizes),
                                       cmocka_unit_test(test_null)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
