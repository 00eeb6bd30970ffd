/* Proves that the decoder reads what protobuf-c packs, accepts what the published servers accept, and refuses the rest with the
 * published texts.
 *
 * How: random SetRequests, ExecAllRequests and settings packed by protobuf-c are decoded and packed again; hand-made bytes for
 * each rule (unknown fields, wrong wire types, groups, merging, oneof, packed and unpacked lists, varints, UTF-8, depth, memory);
 * every prefix and every flipped bit of a message is decoded without harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka last */
#include <cmocka.h>

#include "wire/wire.h"

static struct arena arena;

#define LIT(s) bytes_of(s, sizeof(s) - 1)

static void *decode(const ProtobufCMessageDescriptor *d, struct bytes in)
{
    void *m = NULL;
    struct err err;
    enum status st = wire_unpack(d, in, &arena, &m, &err);

    if (st != ST_OK)
        print_error("%s: %s\n", status_name(st), err.text);
    assert_int_equal(st, ST_OK);
    assert_non_null(m);
    return m;
}
static void refuse(const ProtobufCMessageDescriptor *d, struct bytes in, const char *text)
{
    void *m = &arena;
    struct err err;

    assert_int_equal(wire_unpack(d, in, &arena, &m, &err), ST_INVALID);
    assert_null(m);
    assert_string_equal(err.text, text);
}
#define SET &immudb__schema__set_request__descriptor
#define KEY &immudb__schema__key_request__descriptor
#define MALFORMED "proto: cannot parse invalid wire-format data"

static void fields_are_read_and_borrowed(void **state)
{
    struct bytes in = LIT("\x0a\x08\x0a\x02k1\x12\x02v1\x10\x01");
    Immudb__Schema__SetRequest *m = decode(SET, in);

    (void)state;
    assert_int_equal(m->n_kvs, 1);
    assert_int_equal(m->kvs[0]->key.len, 2);
    assert_ptr_equal(m->kvs[0]->key.data, in.data + 4);
    assert_memory_equal(m->kvs[0]->value.data, "v1", 2);
    assert_null(m->kvs[0]->metadata);
    assert_true(m->nowait);
    m = decode(SET, bytes_of(NULL, 0));
    assert_int_equal(m->n_kvs, 0);
}

static void numbers(void **state)
{
    Immudb__Schema__KeyRequest *k = decode(
        KEY, LIT("\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x20\x96\x01"));
    Immudb__Schema__HistoryRequest *h;

    (void)state;
    assert_true(k->attx == UINT64_MAX);
    assert_true(k->atrevision == -1);
    assert_int_equal(k->nowait, 1); /* any non-zero number is true */
    h = decode(&immudb__schema__history_request__descriptor, LIT("\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"));
    assert_int_equal(h->limit, -1);
    k = decode(KEY, LIT("\x10\x81\x80\x00")); /* longer than needed is fine */
    assert_true(k->attx == 1);
    refuse(KEY, LIT("\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), MALFORMED);     /* above 64 bits */
    refuse(KEY, LIT("\x10\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"), MALFORMED); /* 11 bytes */
    refuse(KEY, LIT("\x10\x80"), MALFORMED);
}

static void unknown_and_misplaced_fields_are_skipped(void **state)
{
    Immudb__Schema__KeyRequest *k;

    (void)state;
    /* 100: varint, 101: 64 bit, 102: bytes, 103: 32 bit, 104: group with a group inside, then key */
    k = decode(KEY, LIT("\xa0\x06\x05\xa9\x06\x01\x02\x03\x04\x05\x06\x07\x08\xb2\x06\x02xx\xbd\x06\x01\x02\x03\x04"
                        "\xc3\x06\x08\x01\x13\x14\xc4\x06\x0a\x01k"));
    assert_int_equal(k->key.len, 1);
    k = decode(KEY, LIT("\x08\x01\x12\x01z\x0a\x01k")); /* key as number, atTx as bytes: both unknown */
    assert_int_equal(k->key.len, 1);
    assert_int_equal(k->attx, 0);
    refuse(KEY, LIT("\xc3\x06\x08\x01"), MALFORMED);          /* group without end */
    refuse(KEY, LIT("\xc3\x06\xcc\x06"), MALFORMED);          /* ended by another number */
    refuse(KEY, LIT("\xc4\x06"), MALFORMED);                  /* end without start */
    refuse(KEY, LIT("\x0e"), MALFORMED);                      /* wire type 6 */
    refuse(KEY, LIT("\x02\x01x"), MALFORMED);                 /* field 0 */
    refuse(KEY, LIT("\x82\x80\x80\x80\x10\x01x"), MALFORMED); /* field 2^29 */
    refuse(KEY, LIT("\x0a\x05k"), MALFORMED);                 /* longer than the rest */
    refuse(KEY, LIT("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01k"), MALFORMED);
}

static void last_wins_and_messages_merge(void **state)
{
    Immudb__Schema__KeyRequest *k = decode(KEY, LIT("\x0a\x01"
                                                    "a\x0a\x01"
                                                    "b\x10\x01\x10\x02"));
    Immudb__Schema__VerifiableSetRequest *v;
    Immudb__Schema__Op *op;

    (void)state;
    assert_memory_equal(k->key.data, "b", 1);
    assert_int_equal(k->attx, 2);
    v = decode(&immudb__schema__verifiable_set_request__descriptor, LIT("\x0a\x05\x0a\x03\x0a\x01"
                                                                        "a\x0a\x07\x0a\x03\x0a\x01"
                                                                        "b\x10\x01"));
    assert_int_equal(v->setrequest->n_kvs, 2); /* lists of both halves follow each other */
    assert_true(v->setrequest->nowait);
    /* Op: kv, then ref: the last member of the choice counts */
    op = decode(&immudb__schema__op__descriptor, LIT("\x0a\x03\x0a\x01k\x1a\x03\x0a\x01r"));
    assert_int_equal(op->operation_case, IMMUDB__SCHEMA__OP__OPERATION_REF);
    assert_int_equal(op->ref->key.len, 1);
    op = decode(&immudb__schema__op__descriptor, LIT("\x0a\x03\x0a\x01k\x0a\x03\x12\x01v")); /* same member twice: merged */
    assert_int_equal(op->operation_case, IMMUDB__SCHEMA__OP__OPERATION_KV);
    assert_int_equal(op->kv->key.len, 1);
    assert_int_equal(op->kv->value.len, 1);
}

static void choice_of_scalars_switches(void **state)
{
    /* SQLValue: n = 5, then s = "x", then f = 1.5 */
    Immudb__Schema__SQLValue *v = decode(&immudb__schema__sqlvalue__descriptor, LIT("\x10\x05\x1a\x01x"));

    (void)state;
    assert_int_equal(v->value_case, IMMUDB__SCHEMA__SQLVALUE__VALUE_S);
    assert_string_equal(v->s, "x");
    v = decode(&immudb__schema__sqlvalue__descriptor, LIT("\x1a\x01x\x39\x00\x00\x00\x00\x00\x00\xf8\x3f"));
    assert_int_equal(v->value_case, IMMUDB__SCHEMA__SQLVALUE__VALUE_F);
    assert_true(v->f == 1.5);
}

static void lists_grow_and_may_be_packed(void **state)
{
    /* VerifiableSQLEntry.PKIDs (16, repeated uint32): packed 1,2,3 then single 4 */
    uint8_t many[3 * 1000], *p = many;
    Immudb__Schema__KeyListRequest *l;
    Immudb__Schema__VerifiableSQLEntry *e = decode(&immudb__schema__verifiable_sqlentry__descriptor, LIT("\x82\x01\x03\x01\x02\x03\x80\x01\x04"));

    (void)state;
    assert_int_equal(e->n_pkids, 4);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(e->pkids[i], i + 1);
    refuse(&immudb__schema__verifiable_sqlentry__descriptor, LIT("\x82\x01\x02\x01\x80"), MALFORMED); /* cut inside the list */
    for (unsigned i = 0; i < 1000; i++) {
        *p++ = 0x0a;
        *p++ = 1;
        *p++ = (uint8_t)i;
    }
    l = decode(&immudb__schema__key_list_request__descriptor, bytes_of(many, sizeof many));
    assert_int_equal(l->n_keys, 1000);
    for (unsigned i = 0; i < 1000; i++)
        assert_true(l->keys[i].len == 1 && l->keys[i].data[0] == (uint8_t)i);
}

static void strings_are_checked(void **state)
{
    static const char *const good[] = {"",
                                       "abc",
                                       "\xc3\xa9",
                                       "\xe2\x82\xac",
                                       "\xf0\x9f\x98\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xf4\x8f\xbf\xbf",
                                       ("12345678\xc3\xa9"
                                        "12345678")};
    static const char *const bad[] = {"\x80",
                                      "\xc3",
                                      "\xc0\xaf",
                                      "\xe0\x80\x80",
                                      "\xed\xa0\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "a\xff",
                                      "\xe2\x82",
                                      "\xe2\x28\xa1",
                                      "12345678\xf0\x9f\x98",
                                      ("\xc3"
                                       "12345678")};
    uint8_t in[64];

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        size_t len = strlen(good[i]);
        Immudb__Schema__Database *d;

        in[0] = 0x0a;
        in[1] = (uint8_t)len;
        memcpy(in + 2, good[i], len);
        d = decode(&immudb__schema__database__descriptor, bytes_of(in, len + 2));
        assert_string_equal(d->databasename, good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        size_t len = strlen(bad[i]);

        in[0] = 0x0a;
        in[1] = (uint8_t)len;
        memcpy(in + 2, bad[i], len);
        refuse(&immudb__schema__database__descriptor, bytes_of(in, len + 2), "string field contains invalid UTF-8");
    }
    refuse(&immudb__schema__database__descriptor,
           LIT("\x0a\x03"
               "a\0b"),
           "string field contains a zero byte");
}

static void depth_is_bounded(void **state)
{
    /* google.protobuf.Value in ListValue in Value ...: each level "32 len 0a len" */
    enum { LEVELS = 2000, ROOM = LEVELS * 8 };
    static uint8_t buf[ROOM];
    void *m = NULL;

    (void)state;
    for (int levels = 400; levels <= LEVELS; levels += LEVELS - 400) {
        struct pb w;

        pb_init_fixed(&w, buf, ROOM);
        for (int i = 0; i < levels; i++) {
            pb_message(&w, 1, 0);
            pb_message(&w, 6, 0);
        }
        assert_false(w.failed);
        assert_int_equal(wire_unpack(&google__protobuf__value__descriptor, bytes_of(w.at, pb_len(&w)), &arena, &m, NULL),
                         levels == 400 ? ST_OK : ST_INVALID);
    }
    memset(buf, 0x0b, sizeof buf); /* groups only */
    assert_int_equal(wire_unpack(KEY, bytes_of(buf, sizeof buf), &arena, &m, NULL), ST_INVALID);
}

static void memory_is_bounded(void **state)
{
    static uint8_t many[20000];
    struct arena small;
    void *m = &small;

    (void)state;
    for (size_t i = 0; i < sizeof many; i += 2)
        many[i] = 0x0a; /* 10,000 empty pairs */
    arena_init(&small, 1024, 50000);
    assert_int_equal(wire_unpack(SET, bytes_of(many, sizeof many), &small, &m, NULL), ST_NOMEM);
    assert_null(m);
    arena_free(&small);
}

static uint64_t seed = 2463534242;
static uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* A random ExecAllRequest, packed by protobuf-c. */
static size_t random_request(uint8_t *out, size_t out_max)
{
    static uint8_t text[64] = "the quick brown fox jumps over the lazy dog 0123456789";
    Immudb__Schema__ExecAllRequest r;
    Immudb__Schema__Op ops[6], *op_list[6];
    Immudb__Schema__KeyValue kv[6];
    Immudb__Schema__ZAddRequest z[6];
    Immudb__Schema__ReferenceRequest ref[6];
    Immudb__Schema__KVMetadata md[6];
    Immudb__Schema__Expiration ex[6];
    size_t len;

    immudb__schema__exec_all_request__init(&r);
    r.n_operations = rnd() % 7;
    r.operations = op_list;
    r.nowait = rnd() % 2;
    for (size_t i = 0; i < 6; i++) {
        op_list[i] = &ops[i];
        immudb__schema__op__init(&ops[i]);
        switch (rnd() % 4) {
        case 0:
            immudb__schema__key_value__init(&kv[i]);
            kv[i].key = (ProtobufCBinaryData){rnd() % 40, text};
            kv[i].value = (ProtobufCBinaryData){rnd() % 40, text + 10};
            if (rnd() % 2) {
                immudb__schema__kvmetadata__init(&md[i]);
                immudb__schema__expiration__init(&ex[i]);
                ex[i].expiresat = (int64_t)rnd();
                md[i].expiration = rnd() % 2 ? &ex[i] : NULL;
                md[i].deleted = rnd() % 2;
                kv[i].metadata = &md[i];
            }
            ops[i].operation_case = IMMUDB__SCHEMA__OP__OPERATION_KV;
            ops[i].kv = &kv[i];
            break;
        case 1:
            immudb__schema__zadd_request__init(&z[i]);
            z[i].set = (ProtobufCBinaryData){rnd() % 10, text};
            z[i].score = (double)(rnd() % 1000) / 8;
            z[i].attx = rnd() >> (rnd() % 64);
            ops[i].operation_case = IMMUDB__SCHEMA__OP__OPERATION_Z_ADD;
            ops[i].zadd = &z[i];
            break;
        case 2:
            immudb__schema__reference_request__init(&ref[i]);
            ref[i].key = (ProtobufCBinaryData){rnd() % 10, text};
            ref[i].referencedkey = (ProtobufCBinaryData){rnd() % 10, text + 5};
            ref[i].boundref = rnd() % 2;
            ops[i].operation_case = IMMUDB__SCHEMA__OP__OPERATION_REF;
            ops[i].ref = &ref[i];
            break;
        default:
            break;
        }
    }
    len = immudb__schema__exec_all_request__get_packed_size(&r);
    assert_true(len <= out_max);
    return immudb__schema__exec_all_request__pack(&r, out);
}

static void packed_decoded_packed_is_the_same(void **state)
{
    uint8_t in[2048], out[2048];

    (void)state;
    for (unsigned round = 0; round < 2000; round++) {
        size_t len = random_request(in, sizeof in);
        ProtobufCMessage *m = decode(&immudb__schema__exec_all_request__descriptor, bytes_of(in, len));

        assert_int_equal(protobuf_c_message_get_packed_size(m), len);
        protobuf_c_message_pack(m, out);
        assert_memory_equal(in, out, len);
        arena_reset(&arena);
    }
}

static void cut_and_flipped_bytes_do_no_harm(void **state)
{
    uint8_t in[2048];

    (void)state;
    for (unsigned round = 0; round < 20; round++) {
        size_t len = random_request(in, sizeof in);

        for (size_t i = 0; i < len; i++) {
            uint8_t *cut = malloc(i + 1); /* a block of its own: reading past it is seen */
            void *m;

            assert_non_null(cut);
            memcpy(cut, in, i);
            (void)!wire_unpack(&immudb__schema__exec_all_request__descriptor, bytes_of(cut, i), &arena, &m, NULL);
            free(cut);
            for (unsigned bit = 0; bit < 8; bit++) {
                in[i] ^= (uint8_t)(1u << bit);
                (void)!wire_unpack(&immudb__schema__exec_all_request__descriptor, bytes_of(in, len), &arena, &m, NULL);
                in[i] ^= (uint8_t)(1u << bit);
            }
            arena_reset(&arena);
        }
    }
}

static void chunk_content(void **state)
{
    struct bytes content;
    struct err err;

    (void)state;
    assert_int_equal(wire_unpack_chunk(LIT("\x12\x02\x0a\x00\x0a\x03"
                                           "abc\x98\x06\x01"),
                                       &content, &err),
                     ST_OK);
    assert_true(bytes_equal(content, bytes_str("abc")));
    assert_int_equal(wire_unpack_chunk(bytes_of(NULL, 0), &content, &err), ST_OK);
    assert_int_equal(content.len, 0);
    assert_int_equal(wire_unpack_chunk(LIT("\x0a\x04"
                                           "abc"),
                                       &content, &err),
                     ST_INVALID);
    assert_string_equal(err.text, MALFORMED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_read_and_borrowed),
        cmocka_unit_test(numbers),
        cmocka_unit_test(unknown_and_misplaced_fields_are_skipped),
        cmocka_unit_test(last_wins_and_messages_merge),
        cmocka_unit_test(choice_of_scalars_switches),
        cmocka_unit_test(lists_grow_and_may_be_packed),
        cmocka_unit_test(strings_are_checked),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(packed_decoded_packed_is_the_same),
        cmocka_unit_test(cut_and_flipped_bytes_do_no_harm),
        cmocka_unit_test(chunk_content),
    };
    int failed;

    arena_init(&arena, 1 << 16, 0);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_free(&arena);
    return failed;
}
