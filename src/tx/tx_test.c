/* Proves that metadata, headers, digests and export blobs are the published bytes, and that no bytes from outside do harm.
 *
 * How: known answers of the published protocol; every field round trip; every cut and every flipped bit of a blob either
 * refused or read as something that writes itself the same way; the published texts; every allocation failing. */
#include <stdio.h>
#include <stdlib.h>

#include "base/test.h"
#include "tx/tx.h"

static size_t unhex(const char *hex, uint8_t *out)
{
    size_t n = 0;

    for (; hex[0] != 0 && hex[1] != 0; hex += 2) {
        unsigned byte = 0;

        if (hex[0] == ' ') {
            hex--;
            continue;
        }
        assert_int_equal(sscanf(hex, "%2x", &byte), 1);
        out[n++] = (uint8_t)byte;
    }
    return n;
}

static void hash_is(const hash_t *got, const char *hex)
{
    uint8_t want[HASH_LEN];

    assert_int_equal(unhex(hex, want), HASH_LEN);
    assert_memory_equal(got->b, want, HASH_LEN);
}

static void kv_metadata_bytes(void **state)
{
    static const struct {
        const char *in, *out; /* out NULL: refused */
    } cases[] = {
        {"", ""},
        {"00", "00"},
        {"02", "02"},
        {"0000", "00"},
        {"0200", "0002"},
        {"000000", "00"},
        {"010000000000000009", "010000000000000009"},
        {"01000000000000000500", "00010000000000000005"},
        {"0001000000006553f10002", "0001000000006553f10002"},
        {"03", NULL},
        {"ff", NULL},
        {"01", NULL},
        {"0100000000000000", NULL},
        {"0003", NULL},
        {"0209", NULL},
        {"000100000000000000010200", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t in[32], want[32], got[KV_METADATA_BYTES_MAX];
        struct kv_metadata md;
        size_t len = unhex(cases[i].in, in);
        enum status st = kv_metadata_decode(bytes_of(in, len), &md, NULL);

        assert_int_equal(st, cases[i].out == NULL ? ST_INVALID : ST_OK);
        if (cases[i].out != NULL) {
            assert_int_equal(kv_metadata_encode(&md, got), unhex(cases[i].out, want));
            assert_memory_equal(got, want, strlen(cases[i].out) / 2);
        } else {
            assert_true(kv_metadata_is_empty(&md));
        }
    }
    assert_int_equal(kv_metadata_decode(bytes_of(NULL, 0), &(struct kv_metadata){0}, NULL), ST_OK);
}

static void expiry(void **state)
{
    struct kv_metadata md = {.has_expiry = true, .expires_at = -5}, back;
    uint8_t buf[KV_METADATA_BYTES_MAX];

    (void)state;
    assert_int_equal(kv_metadata_encode(&md, buf), 9);
    assert_int_equal(kv_metadata_decode(bytes_of(buf, 9), &back, NULL), ST_OK);
    assert_int_equal(back.expires_at, -5);
    assert_true(kv_metadata_expired(&md, -5));
    assert_false(kv_metadata_expired(&md, -6));
    md.has_expiry = false;
    assert_false(kv_metadata_expired(&md, 0));
}

static void tx_metadata_bytes(void **state)
{
    uint8_t in[400] = {0x01, 0x01, 0x00}, out[TX_METADATA_BYTES_MAX];
    struct tx_metadata md;

    (void)state;
    assert_int_equal(tx_metadata_decode(bytes_of(in, 3 + 256), &md, NULL), ST_OK);
    assert_int_equal(md.extra_len, 256);
    assert_int_equal(tx_metadata_encode(&md, out), 3 + 256);
    assert_memory_equal(in, out, 3 + 256);
    in[2] = 1; /* 257 bytes of extra: over the limit though they are there */
    assert_int_equal(tx_metadata_decode(bytes_of(in, 3 + 257), &md, NULL), ST_INVALID);
    assert_true(tx_metadata_is_empty(&md));
    assert_int_equal(tx_metadata_decode(bytes_of(in, sizeof in), &md, NULL), ST_INVALID);
    assert_int_equal(tx_metadata_decode(bytes_of("\x02", 1), &md, NULL), ST_INVALID);
    assert_int_equal(tx_metadata_decode(bytes_of("\x00\x01\x02\x03", 4), &md, NULL), ST_INVALID);
    assert_int_equal(tx_metadata_decode(bytes_of("\x01\x00\x01\x41\x00\0\0\0\0\0\0\0\x01", 13), &md, NULL), ST_OK);
    assert_int_equal(tx_metadata_encode(&md, out), 13);
    assert_memory_equal(out, "\x00\0\0\0\0\0\0\0\x01\x01\x00\x01\x41", 13);
    md.truncated_upto = UINT64_MAX;
    md.extra_len = TX_EXTRA_BYTES_MAX;
    assert_int_equal(tx_metadata_encode(&md, out), TX_METADATA_BYTES_MAX);
}

/* Known answers of the published protocol. */
static void known_digest_and_header(void **state)
{
    uint8_t md[16], value[2] = {0x27, 0x3a}, bytes[TX_HEADER_BYTES_MAX];
    struct tx_header h = {.id = 1, .ts = 1264366356, .version = 1, .entry_count = 824, .prev_alh = HASH_EMPTY, .md = {.truncated_upto = 0x16e}}, back;
    hash_t hval, digest, alh;
    size_t len = unhex("0001000000006553f100", md);

    (void)state;
    sha256(value, 0, &hval);
    hash_is(&hval, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_int_equal(entry_digest(0, bytes_of("\x01", 1), bytes_of(md, len), &hval, &digest, NULL), ST_INVALID);
    assert_int_equal(entry_digest(2, bytes_of("\x01", 1), bytes_of(NULL, 0), &hval, &digest, NULL), ST_INVALID);
    assert_int_equal(entry_digest(0, bytes_of("abc", 3), bytes_of(NULL, 0), &hval, &digest, NULL), ST_OK);
    {
        uint8_t message[3 + HASH_LEN] = "abc";
        hash_t want;

        memcpy(message + 3, hval.b, HASH_LEN);
        sha256(message, sizeof message, &want);
        assert_memory_equal(&digest, &want, HASH_LEN);
    }
    unhex("83b2a45a5a461c97ecce50b903f1df1b12da8bbd273b19bd84f3040a24cff6f7", h.eh.b);
    tx_header_alh(&h, &alh);
    hash_is(&alh, "64081472a05470b28f7386253e65e907e927df7a3886cd253101adcee7fcccbf");
    len = tx_header_encode(&h, bytes);
    assert_int_equal(len, 128 + 9);
    assert_int_equal(tx_header_decode(bytes_of(bytes, len), &back, NULL), ST_OK);
    tx_header_alh(&back, &alh);
    hash_is(&alh, "64081472a05470b28f7386253e65e907e927df7a3886cd253101adcee7fcccbf");
}

/* The buffered and the streamed way give the same digest on both sides of the limit. */
static void digest_of_long_keys(void **state)
{
    static uint8_t key[2000], message[2 + 11 + 2 + 2000 + HASH_LEN];

    (void)state;
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)(i * 7);
    for (size_t len = 1020; len < 1030; len++) {
        struct writer w = writer_of(message, sizeof message);
        hash_t got, want;

        writer_u16be(&w, 1);
        writer_u8(&w, 0);
        writer_u16be(&w, (uint16_t)len);
        writer_put(&w, key, len);
        writer_put(&w, HASH_EMPTY.b, HASH_LEN);
        sha256(message, writer_len(&w), &want);
        assert_int_equal(entry_digest(1, bytes_of(key, len), bytes_of("\0", 1), &HASH_EMPTY, &got, NULL), ST_OK);
        assert_memory_equal(&got, &want, HASH_LEN);
        assert_int_equal(entry_digest(0, bytes_of(key, len), bytes_of(NULL, 0), &HASH_EMPTY, &got, NULL), ST_OK);
        memcpy(message, key, len);
        memcpy(message + len, HASH_EMPTY.b, HASH_LEN);
        sha256(message, len + HASH_LEN, &want);
        assert_memory_equal(&got, &want, HASH_LEN);
    }
    assert_int_equal(entry_digest(1, bytes_of(key, 70000), bytes_of(NULL, 0), &HASH_EMPTY, &(hash_t){0}, NULL), ST_INVALID);
}

static void header_refusals(void **state)
{
    struct tx_header h = {.id = 7, .version = 1, .entry_count = 1, .bl_tx_id = 6}, back;
    uint8_t good[TX_HEADER_BYTES_MAX], bad[TX_HEADER_BYTES_MAX + 1];
    size_t len = tx_header_encode(&h, good);
    struct err err;

    (void)state;
    assert_int_equal(len, 128);
    assert_int_equal(tx_header_decode(bytes_of(good, len), &back, NULL), ST_OK);
    for (size_t cut = 0; cut < len; cut++)
        assert_int_equal(tx_header_decode(bytes_of(good, cut), &back, NULL), ST_INVALID);
    memcpy(bad, good, len);
    bad[len] = 0;
    assert_int_equal(tx_header_decode(bytes_of(bad, len + 1), &back, NULL), ST_INVALID);
    bad[7] = 0;
    assert_int_equal(tx_header_decode(bytes_of(bad, len), &back, &err), ST_INVALID);
    assert_string_equal(err.text, "illegal arguments: invalid tx ID");
    memcpy(bad, good, len);
    bad[49] = 2;
    assert_int_equal(tx_header_decode(bytes_of(bad, len), &back, &err), ST_INVALID);
    assert_string_equal(err.text, "tx created with a newer version or data is corrupted");
    memcpy(bad, good, len);
    bad[len - 33] = 7;
    assert_int_equal(tx_header_decode(bytes_of(bad, len), &back, &err), ST_INVALID);
    assert_string_equal(err.text, "illegal arguments: invalid BlTxID");
    memcpy(bad, good, len);
    bad[55] = 0; /* no entries */
    assert_int_equal(tx_header_decode(bytes_of(bad, len), &back, &err), ST_INVALID);
    assert_string_equal(err.text, "illegal arguments");
    h.md.truncated_upto = 3; /* but the record of a truncation may be without */
    h.entry_count = 0;
    len = tx_header_encode(&h, bad);
    assert_int_equal(tx_header_decode(bytes_of(bad, len), &back, &err), ST_OK);
    assert_int_equal(back.entry_count, 0);
    assert_int_equal(back.md.truncated_upto, 3);
}

static struct tx_entry entry_of(const char *key, const char *value, const char *md, size_t md_len)
{
    struct tx_entry e = {.key = bytes_str(key), .md = bytes_of(md, md_len), .value = bytes_str(value), .value_len = (uint32_t)strlen(value)};

    sha256(value, strlen(value), &e.hval);
    return e;
}

static size_t blob_make(uint8_t *buf, size_t len, bool is_truncated)
{
    struct tx_header h = {.id = 9, .version = 1, .entry_count = 3, .bl_tx_id = 8};
    struct tx_entry entries[3] = {entry_of("key one", "value one", NULL, 0), entry_of("k2", "", "\0", 1), entry_of("third", "3", "\2", 1)};
    struct writer w = writer_of(buf, len);
    uint64_t size = 0;

    for (size_t i = 0; i < 3 && is_truncated; i++) {
        entries[i].is_value_gone = true;
        entries[i].value = bytes_of(NULL, 0);
    }
    assert_int_equal(tx_export_size(&h, entries, 3, &size, NULL), ST_OK);
    assert_int_equal(tx_export(&h, entries, 3, false, &w, NULL), ST_OK);
    assert_int_equal(writer_len(&w), size);
    return writer_len(&w);
}

static enum status import(struct bytes blob, struct arena *a, struct tx_header *h, struct tx_entry **entries, struct err *err)
{
    return tx_import(blob, a, 1024, 1024, 1 << 20, h, entries, err);
}

static void export_and_import(void **state)
{
    struct arena a;

    (void)state;
    arena_init(&a, 4096, 0);
    for (unsigned truncated = 0; truncated < 2; truncated++) {
        uint8_t blob[600], again[600];
        size_t len = blob_make(blob, sizeof blob, truncated == 1);
        struct tx_entry *entries = NULL;
        struct tx_header h;
        struct writer w = writer_of(again, sizeof again);
        hash_t hval;

        assert_int_equal(import(bytes_of(blob, len), &a, &h, &entries, NULL), ST_OK);
        assert_int_equal(h.entry_count, 3);
        assert_true(bytes_equal(entries[0].key, bytes_str("key one")));
        sha256("value one", 9, &hval);
        assert_memory_equal(&entries[0].hval, &hval, HASH_LEN);
        assert_int_equal(entries[0].is_value_gone, truncated == 1);
        assert_int_equal(entries[0].value_len, truncated == 1 ? 0 : 9);
        assert_int_equal(tx_export(&h, entries, 3, false, &w, NULL), ST_OK);
        assert_true(bytes_equal(bytes_of(blob, len), bytes_of(again, writer_len(&w))));
        /* Without the trailer it is a blob of an old exporter: values are there. */
        assert_int_equal(import(bytes_of(blob, len - 3), &a, &h, &entries, NULL), ST_OK);
        assert_false(entries[0].is_value_gone);
        for (size_t cut = 0; cut < len; cut++)
            if (cut != len - 3) {
                assert_int_equal(import(bytes_of(blob, cut), &a, &h, &entries, NULL), ST_INVALID);
                assert_null(entries);
            }
        w = writer_of(again, len - 1);
        assert_int_equal(import(bytes_of(blob, len), &a, &h, &entries, NULL), ST_OK);
        assert_int_equal(tx_export(&h, entries, 3, false, &w, NULL), ST_LIMIT);
    }
    arena_free(&a);
}

/* What a flipped bit leaves readable must at least be written again as it was read. */
static void flipped_bits(void **state)
{
    uint8_t blob[600], again[700];
    size_t len = blob_make(blob, sizeof blob, false), accepted = 0;
    struct arena a;

    (void)state;
    arena_init(&a, 4096, 0);
    for (size_t bit = 0; bit < len * 8; bit++) {
        struct tx_entry *entries = NULL;
        struct tx_header h;
        struct writer w = writer_of(again, sizeof again);

        blob[bit / 8] = (uint8_t)(blob[bit / 8] ^ (1u << bit % 8));
        if (import(bytes_of(blob, len), &a, &h, &entries, NULL) == ST_OK) {
            accepted++;
            assert_int_equal(tx_export(&h, entries, h.entry_count, false, &w, NULL), ST_OK);
            assert_true(bytes_equal(bytes_of(blob, len), bytes_of(again, writer_len(&w))));
        }
        blob[bit / 8] = (uint8_t)(blob[bit / 8] ^ (1u << bit % 8));
        arena_reset(&a);
    }
    assert_true(accepted > 0 && accepted < len * 8);
    arena_free(&a);
}

static void export_and_import_refusals(void **state)
{
    struct tx_header h = {.id = 9, .version = 1, .entry_count = 2, .bl_tx_id = 8};
    struct tx_entry pair[2] = {entry_of("a", "1", NULL, 0), entry_of("b", "2", NULL, 0)}, *entries = NULL;
    uint8_t blob[600];
    struct writer w = writer_of(blob, sizeof blob);
    struct err err = {0};
    struct arena a;
    size_t len;

    (void)state;
    arena_init(&a, 4096, 0);
    pair[1].is_value_gone = true;
    assert_int_equal(tx_export(&h, pair, 2, false, &w, &err), ST_CORRUPT);
    assert_string_equal(err.text, "partially truncated transaction");
    assert_int_equal(tx_export(&h, pair, 1, false, &w, NULL), ST_INVALID);
    len = blob_make(blob, sizeof blob, false);
    assert_int_equal(tx_import(bytes_of(blob, len), &a, 2, 1024, 1024, &h, &entries, &err), ST_LIMIT);
    assert_string_equal(err.text, "max number of entries per tx exceeded");
    assert_int_equal(tx_import(bytes_of(blob, len), &a, 3, 6, 1024, &h, &entries, &err), ST_LIMIT);
    assert_string_equal(err.text, "max key length exceeded");
    assert_int_equal(tx_import(bytes_of(blob, len), &a, 3, 7, 8, &h, &entries, &err), ST_LIMIT);
    assert_string_equal(err.text, "max value length exceeded");
    blob[len - 1] = 2;
    assert_int_equal(import(bytes_of(blob, len), &a, &h, &entries, &err), ST_INVALID);
    assert_string_equal(err.text, "illegal arguments: invalid truncation info");
    blob[len - 1] = 1; /* values are not hashes */
    assert_int_equal(import(bytes_of(blob, len), &a, &h, &entries, &err), ST_INVALID);
    blob[len - 1] = 0;
    blob[len] = 0;
    assert_int_equal(import(bytes_of(blob, len + 1), &a, &h, &entries, &err), ST_INVALID);
    assert_string_equal(err.text, "illegal arguments");
    store_u32be(blob + 4 + 52, 0xffffffff); /* a count that nothing backs: no allocation for it */
    assert_int_equal(tx_import(bytes_of(blob, len), &a, UINT32_MAX, 1024, 1024, &h, &entries, &err), ST_INVALID);
    arena_free(&a);
}

/* Non-canonical metadata is hashed and kept in its canonical form. */
static void import_writes_metadata_canonically(void **state)
{
    struct tx_header h = {.id = 9, .version = 1, .entry_count = 1, .bl_tx_id = 8};
    struct tx_entry e = entry_of("a", "1", "\2\0", 2), *entries = NULL;
    uint8_t blob[300];
    struct writer w = writer_of(blob, sizeof blob);
    struct arena a;

    (void)state;
    arena_init(&a, 4096, 0);
    assert_int_equal(tx_export(&h, &e, 1, false, &w, NULL), ST_OK);
    assert_int_equal(import(bytes_of(blob, writer_len(&w)), &a, &h, &entries, NULL), ST_OK);
    assert_true(bytes_equal(entries[0].md, bytes_of("\0\2", 2)));
    arena_free(&a);
    arena_init(&a, 256, 1); /* no room at all */
    assert_int_equal(import(bytes_of(blob, writer_len(&w)), &a, &h, &entries, NULL), ST_NOMEM);
    assert_null(entries);
    arena_free(&a);
}

static void skipped_integrity_leaves_eh_out(void **state)
{
    struct tx_header h = {.id = 9, .version = 1, .entry_count = 1, .bl_tx_id = 8, .eh = HASH_EMPTY}, back;
    struct tx_entry e = entry_of("a", "1", NULL, 0), *entries = NULL;
    uint8_t blob[300];
    struct writer w = writer_of(blob, sizeof blob);
    struct arena a;

    (void)state;
    arena_init(&a, 4096, 0);
    assert_int_equal(tx_export(&h, &e, 1, true, &w, NULL), ST_OK);
    assert_int_equal(import(bytes_of(blob, writer_len(&w)), &a, &back, &entries, NULL), ST_OK);
    assert_memory_equal(&back.eh, &HASH_ZERO, HASH_LEN);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kv_metadata_bytes),
        cmocka_unit_test(expiry),
        cmocka_unit_test(tx_metadata_bytes),
        cmocka_unit_test(known_digest_and_header),
        cmocka_unit_test(digest_of_long_keys),
        cmocka_unit_test(header_refusals),
        cmocka_unit_test(export_and_import),
        cmocka_unit_test(flipped_bits),
        cmocka_unit_test(export_and_import_refusals),
        cmocka_unit_test(import_writes_metadata_canonically),
        cmocka_unit_test(skipped_integrity_leaves_eh_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
