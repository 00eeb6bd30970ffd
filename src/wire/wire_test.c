/* Proves that the hand-written encoders give, byte by byte, what protobuf-c packs from the generated structs.
 *
 * How: random headers, entries, proofs and lists (a fixed seed), with every optional part now present and now absent, are encoded
 * by both; sizes are compared with the exact-size functions; the backward writer starts with a buffer that is too small, so that
 * it has to grow. A full arena must fail the writer and not the process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka last */
#include <cmocka.h>

#include "wire/wire.h"

static uint64_t seed = 88172645463325252u;
static uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}
static bool coin(void) { return (rnd() >> 20 & 1) != 0; }
/* Small, huge and zero numbers alike. */
static uint64_t any_u64(void) { return coin() ? 0 : rnd() >> (rnd() % 64); }

static struct arena arena;

static struct bytes any_bytes(size_t len_max)
{
    size_t len = coin() ? 0 : rnd() % (len_max + 1);
    uint8_t *p = arena_alloc(&arena, len + 1);

    assert_non_null(p);
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)rnd();
    return bytes_of(p, len);
}
static hash_t any_hash(void)
{
    hash_t h;

    for (size_t i = 0; i < HASH_LEN; i++)
        h.b[i] = (uint8_t)rnd();
    return h;
}
static ProtobufCBinaryData bin(struct bytes b) { return (ProtobufCBinaryData){b.len, (uint8_t *)(uintptr_t)b.data}; }
static ProtobufCBinaryData bin_hash(const hash_t *h) { return bin(bytes_of(h->b, HASH_LEN)); }
#define NEW(type, init) \
    ({ \
        type *new_ = arena_alloc(&arena, sizeof *new_); \
        assert_non_null(new_); \
        init(new_); \
        new_; \
    })

static void assert_same(struct pb *w, const ProtobufCMessage *m)
{
    size_t len = protobuf_c_message_get_packed_size(m);
    uint8_t *expected = arena_alloc(&arena, len + 1);
    struct bytes got;

    assert_non_null(expected);
    assert_int_equal(protobuf_c_message_pack(m, expected), len);
    assert_int_equal(pb_take(w, &got, NULL), ST_OK);
    assert_int_equal(got.len, len);
    assert_memory_equal(got.data, expected, len);
}

/* --- the same thing twice: ours and the generated struct --- */

static struct kv_metadata any_md(void)
{
    struct kv_metadata md = {coin(), coin(), coin(), 0};

    if (coin())
        memset(&md, 0, sizeof md);
    if (md.has_expiry)
        md.expires_at = (int64_t)any_u64();
    return md;
}
static Immudb__Schema__KVMetadata *pc_md(const struct kv_metadata *md)
{
    Immudb__Schema__KVMetadata *m;

    if (kv_metadata_is_empty(md))
        return NULL;
    m = NEW(Immudb__Schema__KVMetadata, immudb__schema__kvmetadata__init);
    m->deleted = md->is_deleted;
    m->nonindexable = md->is_non_indexable;
    if (md->has_expiry) {
        m->expiration = NEW(Immudb__Schema__Expiration, immudb__schema__expiration__init);
        m->expiration->expiresat = md->expires_at;
    }
    return m;
}

static struct kv_entry any_entry(void)
{
    struct kv_entry e = {.tx_id = any_u64(),
                         .key = any_bytes(40),
                         .value = any_bytes(300),
                         .revision = any_u64(),
                         .md = any_md(),
                         .is_expired = coin(),
                         .has_reference = coin()};

    e.reference = (struct kv_reference){any_u64(), any_bytes(200), any_u64(), any_u64(), any_md()};
    return e;
}
static Immudb__Schema__Entry *pc_entry(const struct kv_entry *e)
{
    Immudb__Schema__Entry *m = NEW(Immudb__Schema__Entry, immudb__schema__entry__init);

    m->tx = e->tx_id;
    m->key = bin(e->key);
    m->value = bin(e->value);
    m->metadata = pc_md(&e->md);
    m->expired = e->is_expired;
    m->revision = e->revision;
    if (e->has_reference) {
        Immudb__Schema__Reference *r = m->referencedby = NEW(Immudb__Schema__Reference, immudb__schema__reference__init);

        r->tx = e->reference.tx_id;
        r->key = bin(e->reference.key);
        r->attx = e->reference.at_tx;
        r->metadata = pc_md(&e->reference.md);
        r->revision = e->reference.revision;
    }
    return m;
}

static struct kv_zentry any_zentry(void)
{
    static const double scores[] = {0, 1, 1.5, -2, 1e300};

    return (struct kv_zentry){any_bytes(10), any_bytes(20), scores[rnd() % 5], any_u64(), coin(), any_entry()};
}
static Immudb__Schema__ZEntry *pc_zentry(const struct kv_zentry *z)
{
    Immudb__Schema__ZEntry *m = NEW(Immudb__Schema__ZEntry, immudb__schema__zentry__init);

    m->set = bin(z->set);
    m->key = bin(z->key);
    m->score = z->score;
    m->attx = z->at_tx;
    m->entry = z->has_entry ? pc_entry(&z->entry) : NULL;
    return m;
}

static struct tx_header any_header(void)
{
    struct tx_header h = {.id = any_u64(),
                          .ts = (int64_t)any_u64(),
                          .bl_tx_id = any_u64(),
                          .version = (uint32_t)(rnd() % 2),
                          .entry_count = (uint32_t)(rnd() % 2000),
                          .prev_alh = any_hash(),
                          .eh = any_hash(),
                          .bl_root = any_hash()};

    if (coin())
        h.md.truncated_upto = any_u64();
    if (coin()) {
        h.md.extra_len = (uint16_t)(rnd() % (TX_EXTRA_BYTES_MAX + 1));
        for (size_t i = 0; i < h.md.extra_len; i++)
            h.md.extra[i] = (uint8_t)rnd();
    }
    return h;
}
static Immudb__Schema__TxHeader *pc_header(const struct tx_header *h, bool with_metadata)
{
    Immudb__Schema__TxHeader *m = NEW(Immudb__Schema__TxHeader, immudb__schema__tx_header__init);

    m->id = h->id;
    m->prevalh = bin_hash(&h->prev_alh);
    m->ts = h->ts;
    m->nentries = (int32_t)h->entry_count;
    m->eh = bin_hash(&h->eh);
    m->bltxid = h->bl_tx_id;
    m->blroot = bin_hash(&h->bl_root);
    m->version = (int32_t)h->version;
    if (with_metadata || !tx_metadata_is_empty(&h->md)) {
        m->metadata = NEW(Immudb__Schema__TxMetadata, immudb__schema__tx_metadata__init);
        m->metadata->truncatedtxid = h->md.truncated_upto;
        m->metadata->extra = bin(bytes_of(h->md.extra, h->md.extra_len));
    }
    return m;
}

static struct tx_entry any_tx_entry(void)
{
    struct kv_metadata md = any_md();
    uint8_t *bytes = arena_alloc(&arena, KV_METADATA_BYTES_MAX);

    assert_non_null(bytes);
    return (struct tx_entry){.key = any_bytes(60),
                             .md = bytes_of(bytes, kv_metadata_encode(&md, bytes)),
                             .value = any_bytes(100),
                             .hval = any_hash(),
                             .value_len = (uint32_t)(rnd() >> (33 + rnd() % 31))};
}
static Immudb__Schema__TxEntry *pc_tx_entry(const struct tx_entry *e)
{
    Immudb__Schema__TxEntry *m = NEW(Immudb__Schema__TxEntry, immudb__schema__tx_entry__init);
    struct kv_metadata md;

    assert_int_equal(kv_metadata_decode(e->md, &md, NULL), ST_OK);
    m->key = bin(e->key);
    m->hvalue = bin_hash(&e->hval);
    m->vlen = (int32_t)e->value_len;
    m->metadata = pc_md(&md);
    m->value = bin(e->value);
    return m;
}

static struct kv_tx any_tx(const struct tx_header *h)
{
    size_t n = rnd() % 9, k = rnd() % 4, z = rnd() % 4;
    struct tx_entry *entries = arena_array(&arena, n + 1, sizeof *entries);
    struct kv_entry *kv = arena_array(&arena, k + 1, sizeof *kv);
    struct kv_zentry *zs = arena_array(&arena, z + 1, sizeof *zs);

    assert_true(entries != NULL && kv != NULL && zs != NULL);
    for (size_t i = 0; i < n; i++)
        entries[i] = any_tx_entry();
    for (size_t i = 0; i < k; i++)
        kv[i] = any_entry();
    for (size_t i = 0; i < z; i++)
        zs[i] = any_zentry();
    return (struct kv_tx){h, entries, n, kv, k, zs, z};
}
static Immudb__Schema__Tx *pc_tx(const struct kv_tx *tx)
{
    Immudb__Schema__Tx *m = NEW(Immudb__Schema__Tx, immudb__schema__tx__init);

    m->header = pc_header(tx->header, true);
    m->n_entries = tx->entry_count;
    m->entries = arena_array(&arena, m->n_entries + 1, sizeof(void *));
    m->n_kventries = tx->kv_entry_count;
    m->kventries = arena_array(&arena, m->n_kventries + 1, sizeof(void *));
    m->n_zentries = tx->z_entry_count;
    m->zentries = arena_array(&arena, m->n_zentries + 1, sizeof(void *));
    assert_true(m->entries != NULL && m->kventries != NULL && m->zentries != NULL);
    for (size_t i = 0; i < m->n_entries; i++)
        m->entries[i] = pc_tx_entry(&tx->entries[i]);
    for (size_t i = 0; i < m->n_kventries; i++)
        m->kventries[i] = pc_entry(&tx->kv_entries[i]);
    for (size_t i = 0; i < m->n_zentries; i++)
        m->zentries[i] = pc_zentry(&tx->z_entries[i]);
    return m;
}

static struct hash_list any_hashes(void)
{
    size_t n = rnd() % 6;
    hash_t *items = arena_array(&arena, n + 1, sizeof *items);

    assert_non_null(items);
    for (size_t i = 0; i < n; i++)
        items[i] = any_hash();
    return (struct hash_list){n, items};
}
static void pc_hashes(const struct hash_list *l, size_t *n, ProtobufCBinaryData **out)
{
    *n = l->count;
    *out = arena_array(&arena, l->count + 1, sizeof **out);
    assert_non_null(*out);
    for (size_t i = 0; i < l->count; i++)
        (*out)[i] = bin_hash(&l->items[i]);
}

static struct dual_proof any_proof(void)
{
    struct dual_proof p = {.has_source = coin(),
                           .has_target = coin(),
                           .source = any_header(),
                           .target = any_header(),
                           .inclusion = any_hashes(),
                           .consistency = any_hashes(),
                           .target_bl_alh = any_hash(),
                           .last_inclusion = any_hashes(),
                           .has_linear = coin()};
    struct hash_list *lists = arena_array(&arena, 3, sizeof *lists);

    assert_non_null(lists);
    p.linear = (struct linear_proof){any_u64(), any_u64(), any_hashes()};
    for (size_t i = 0; i < 3; i++)
        lists[i] = any_hashes();
    p.advance = (struct linear_advance_proof){coin(), any_hashes(), rnd() % 4, lists};
    return p;
}
static Immudb__Schema__DualProof *pc_proof(const struct dual_proof *p, bool source_md, bool target_md)
{
    Immudb__Schema__DualProof *m = NEW(Immudb__Schema__DualProof, immudb__schema__dual_proof__init);

    m->sourcetxheader = p->has_source ? pc_header(&p->source, source_md) : NULL;
    m->targettxheader = p->has_target ? pc_header(&p->target, target_md) : NULL;
    pc_hashes(&p->inclusion, &m->n_inclusionproof, &m->inclusionproof);
    pc_hashes(&p->consistency, &m->n_consistencyproof, &m->consistencyproof);
    pc_hashes(&p->last_inclusion, &m->n_lastinclusionproof, &m->lastinclusionproof);
    m->targetbltxalh = bin_hash(&p->target_bl_alh);
    if (p->has_linear) {
        m->linearproof = NEW(Immudb__Schema__LinearProof, immudb__schema__linear_proof__init);
        m->linearproof->sourcetxid = p->linear.source_tx_id;
        m->linearproof->targettxid = p->linear.target_tx_id;
        pc_hashes(&p->linear.terms, &m->linearproof->n_terms, &m->linearproof->terms);
    }
    if (p->advance.is_present) {
        Immudb__Schema__LinearAdvanceProof *a = NEW(Immudb__Schema__LinearAdvanceProof, immudb__schema__linear_advance_proof__init);

        m->linearadvanceproof = a;
        pc_hashes(&p->advance.terms, &a->n_linearproofterms, &a->linearproofterms);
        a->n_inclusionproofs = p->advance.inclusion_count;
        a->inclusionproofs = arena_array(&arena, a->n_inclusionproofs + 1, sizeof(void *));
        assert_non_null(a->inclusionproofs);
        for (size_t i = 0; i < a->n_inclusionproofs; i++) {
            a->inclusionproofs[i] = NEW(Immudb__Schema__InclusionProof, immudb__schema__inclusion_proof__init);
            pc_hashes(&p->advance.inclusions[i], &a->inclusionproofs[i]->n_terms, &a->inclusionproofs[i]->terms);
        }
    }
    return m;
}

static struct state_signature any_signature(void)
{
    struct state_signature s = {.signature_len = rnd() % SIGNATURE_BYTES_MAX, .public_key_len = rnd() % PUBLIC_KEY_BYTES_MAX};

    for (size_t i = 0; i < s.signature_len; i++)
        s.signature[i] = (uint8_t)rnd();
    for (size_t i = 0; i < s.public_key_len; i++)
        s.public_key[i] = (uint8_t)rnd();
    return s;
}
static Immudb__Schema__Signature *pc_signature(const struct state_signature *s)
{
    Immudb__Schema__Signature *m = NEW(Immudb__Schema__Signature, immudb__schema__signature__init);

    m->signature = bin(bytes_of(s->signature, s->signature_len));
    m->publickey = bin(bytes_of(s->public_key, s->public_key_len));
    return m;
}

/* --- tests --- */

static void lists_equal_packed(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        struct pb_list l, lz;
        struct rope got;
        Immudb__Schema__Entries *m = NEW(Immudb__Schema__Entries, immudb__schema__entries__init);
        Immudb__Schema__ZEntries *mz = NEW(Immudb__Schema__ZEntries, immudb__schema__zentries__init);
        size_t n = rnd() % 20;
        struct pb w;

        pb_list_init(&l, &arena, 1);
        pb_list_init(&lz, &arena, 1);
        m->n_entries = mz->n_entries = n;
        m->entries = arena_array(&arena, n + 1, sizeof(void *));
        mz->entries = arena_array(&arena, n + 1, sizeof(void *));
        for (size_t i = 0; i < n; i++) {
            struct kv_entry e = any_entry();
            struct kv_zentry z = any_zentry();

            m->entries[i] = pc_entry(&e);
            mz->entries[i] = pc_zentry(&z);
            wire_list_entry(&l, &e);
            wire_list_zentry(&lz, &z);
            pb_init(&w, &arena, 0);
            wire_entry(&w, &e);
            assert_int_equal(pb_len(&w), wire_entry_size(&e));
            assert_same(&w, &m->entries[i]->base);
        }
        assert_int_equal(pb_list_take(&l, &got, NULL), ST_OK);
        pb_init(&w, &arena, 0);
        pb_raw(&w, got.bytes.data, got.bytes.len);
        assert_same(&w, &m->base);
        assert_int_equal(pb_list_take(&lz, &got, NULL), ST_OK);
        pb_init(&w, &arena, 0);
        pb_raw(&w, got.bytes.data, got.bytes.len);
        assert_same(&w, &mz->base);
        arena_reset(&arena);
    }
}

static void verifiable_answers_equal_packed(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 500; round++) {
        struct tx_header h = any_header();
        struct kv_tx tx = any_tx(&h);
        struct dual_proof p = any_proof();
        struct state_signature s = any_signature();
        struct kv_entry e = any_entry();
        struct merkle_path path = {rnd() % 5, {{{0}}}};
        struct hash_list path_list;
        uint32_t leaf = (uint32_t)(rnd() % 3), width = leaf + 1;
        bool source_md = coin(), target_md = coin(), with_signature = coin();
        struct wire_verifiable_tx v = {&tx, &p, source_md, target_md, with_signature ? &s : NULL};
        Immudb__Schema__VerifiableEntry *m = NEW(Immudb__Schema__VerifiableEntry, immudb__schema__verifiable_entry__init);
        Immudb__Schema__VerifiableTx *mv = NEW(Immudb__Schema__VerifiableTx, immudb__schema__verifiable_tx__init);
        struct pb w;

        for (size_t i = 0; i < path.term_count; i++)
            path.terms[i] = any_hash();
        path_list = (struct hash_list){path.term_count, path.terms};
        mv->tx = pc_tx(&tx);
        mv->dualproof = pc_proof(&p, source_md, target_md);
        mv->signature = with_signature ? pc_signature(&s) : NULL;
        m->entry = pc_entry(&e);
        m->verifiabletx = mv;
        m->inclusionproof = NEW(Immudb__Schema__InclusionProof, immudb__schema__inclusion_proof__init);
        m->inclusionproof->leaf = (int32_t)leaf;
        m->inclusionproof->width = (int32_t)width;
        pc_hashes(&path_list, &m->inclusionproof->n_terms, &m->inclusionproof->terms);

        pb_init(&w, &arena, coin() ? 0 : wire_tx_hint(&tx) + wire_proof_hint(&p));
        wire_verifiable_entry(&w, &e, &v, leaf, width, &path);
        assert_same(&w, &m->base);
        arena_reset(&arena);
    }
}

static void proof_v2_equals_packed(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 100; round++) {
        struct dual_proof p = any_proof();
        struct dual_proof_v2 p2 = {p.has_source, p.has_target, p.source, p.target, p.inclusion, p.consistency};
        Immudb__Schema__DualProofV2 *m = NEW(Immudb__Schema__DualProofV2, immudb__schema__dual_proof_v2__init);
        struct pb w;

        m->sourcetxheader = p.has_source ? pc_header(&p.source, true) : NULL;
        m->targettxheader = p.has_target ? pc_header(&p.target, false) : NULL;
        pc_hashes(&p.inclusion, &m->n_inclusionproof, &m->inclusionproof);
        pc_hashes(&p.consistency, &m->n_consistencyproof, &m->consistencyproof);
        pb_init(&w, &arena, 0);
        wire_dual_proof_v2(&w, &p2, true, false);
        assert_same(&w, &m->base);
        arena_reset(&arena);
    }
}

static void states_and_chunks_equal_packed(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 200; round++) {
        Immudb__Schema__ImmutableState *m = NEW(Immudb__Schema__ImmutableState, immudb__schema__immutable_state__init);
        Immudb__Schema__Chunk *c = NEW(Immudb__Schema__Chunk, immudb__schema__chunk__init);
        Immudb__Schema__Chunk__MetadataEntry *items[2];
        struct wire_chunk_metadata md[2] = {{"committed-txid-bin", any_bytes(8)}, {"x", any_bytes(40)}};
        struct state_signature s = any_signature();
        hash_t a = any_hash(), b = any_hash();
        uint64_t id = any_u64(), pre = any_u64();
        bool with_signature = coin();
        struct pb w;

        m->db = (char *)(uintptr_t) "defaultdb";
        m->txid = id;
        m->txhash = bin_hash(&a);
        m->precommittedtxid = pre;
        m->precommittedtxhash = bin_hash(&b);
        m->signature = with_signature ? pc_signature(&s) : NULL;
        pb_init(&w, &arena, 0);
        wire_state(&w, bytes_str("defaultdb"), id, &a, with_signature ? &s : NULL, pre, &b);
        assert_same(&w, &m->base);

        c->content = bin(any_bytes(500));
        c->n_metadata = rnd() % 3;
        c->metadata = items;
        for (size_t i = 0; i < 2; i++) {
            items[i] = NEW(Immudb__Schema__Chunk__MetadataEntry, immudb__schema__chunk__metadata_entry__init);
            items[i]->key = (char *)(uintptr_t)md[i].name;
            items[i]->value = bin(md[i].value);
        }
        pb_init(&w, &arena, 0);
        wire_chunk(&w, bytes_of(c->content.data, c->content.len), md, c->n_metadata);
        /* protobuf-c leaves out an empty value of a map, others write it: only full ones are compared byte by byte */
        if (md[0].value.len > 0 && md[1].value.len > 0)
            assert_same(&w, &c->base);
        arena_reset(&arena);
    }
}

static void status_details_are_as_recorded(void **state)
{
    /* {code 2, message "m", details [ErrorInfo{"28000", "c"}, RetryInfo{}]}, written by hand from the definition */
    static const char expected[] = "\x08\x02\x12\x01m"
                                   "\x1a\x39\x0a\x2btype.googleapis.com/immudb.schema.ErrorInfo\x12\x0a\x0a\x05"
                                   "28000\x12\x01"
                                   "c"
                                   "\x1a\x2d\x0a\x2btype.googleapis.com/immudb.schema.RetryInfo";
    struct pb w;
    struct bytes got;

    (void)state;
    pb_init(&w, &arena, 0);
    wire_status_details(&w, 2, bytes_str("m"), bytes_str("28000"), bytes_str("c"));
    assert_int_equal(pb_take(&w, &got, NULL), ST_OK);
    assert_int_equal(got.len, sizeof expected - 1);
    assert_memory_equal(got.data, expected, got.len);
}

static void minus_zero_is_written(void **state)
{
    struct kv_zentry z = {.score = -0.0};
    struct pb w;

    (void)state;
    pb_init(&w, &arena, 0);
    wire_zentry(&w, &z);
    assert_int_equal(pb_len(&w), 9);
    assert_int_equal(wire_zentry_size(&z), 9);
}

/* Of random entries some leave their value where it lies. With the values put in, bytes are those of the encoding with all values in memory. */
static struct kv_entry leave_value(struct kv_entry e, struct bytes *values, uint64_t *left)
{
    if (e.value.len == 0 || rnd() % 2 == 0)
        return e;
    values[*left] = e.value;
    e.far = (struct kv_far){.tx_id = ++*left, .entry_index = 7, .skip = 1};
    e.value.data = NULL;
    return e;
}

static struct bytes whole_of(const struct rope *rope, const struct bytes *values)
{
    uint8_t *out = arena_alloc(&arena, rope->len);
    size_t at = 0, len = 0;

    for (size_t i = 0; i <= rope->cut_count; i++) {
        size_t upto = i < rope->cut_count ? rope->cuts[i].at : rope->bytes.len;

        assert_true(upto >= at && upto <= rope->bytes.len);
        if (upto > at)
            memcpy(out + len, rope->bytes.data + at, upto - at);
        len += upto - at;
        at = upto;
        if (i < rope->cut_count) {
            struct bytes value = values[rope->cuts[i].from.tx_id - 1];

            assert_true(rope->cuts[i].from.entry_index == 7 && rope->cuts[i].from.skip == 1);
            assert_int_equal(rope->cuts[i].len, value.len);
            memcpy(out + len, value.data, value.len);
            len += value.len;
        }
    }
    assert_int_equal(len, rope->len);
    return bytes_of(out, len);
}

static void values_left_in_the_log(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 500; round++) {
        struct bytes values[64], plain;
        struct kv_entry entries[20], far[20];
        struct kv_zentry zs[20], zfar[20];
        size_t n = rnd() % 20;
        uint64_t left = 0;
        struct rope rope, expected;
        struct pb_list l, lf;
        struct tx_header h = {.id = 5, .entry_count = 3, .version = 1};
        struct kv_tx tx = {.header = &h, .kv_entries = entries, .kv_entry_count = n, .z_entries = zs, .z_entry_count = n};
        struct pb w;

        pb_list_init(&l, &arena, 1);
        pb_list_init(&lf, &arena, 1);
        for (size_t i = 0; i < n; i++) {
            entries[i] = any_entry();
            far[i] = leave_value(entries[i], values, &left);
            wire_list_entry(&l, &entries[i]);
            wire_list_entry(&lf, &far[i]);
        }
        assert_int_equal(pb_list_take(&l, &expected, NULL), ST_OK);
        assert_int_equal(pb_list_take(&lf, &rope, NULL), ST_OK);
        assert_int_equal(rope.cut_count, left);
        assert_true(bytes_equal(whole_of(&rope, values), expected.bytes));
        pb_list_init(&l, &arena, 1);
        pb_list_init(&lf, &arena, 1);
        for (size_t i = 0; i < n; i++) {
            zs[i] = any_zentry();
            zfar[i] = zs[i];
            if (zs[i].has_entry)
                zfar[i].entry = leave_value(zs[i].entry, values, &left);
            wire_list_zentry(&l, &zs[i]);
            wire_list_zentry(&lf, &zfar[i]);
        }
        assert_int_equal(pb_list_take(&l, &expected, NULL), ST_OK);
        assert_int_equal(pb_list_take(&lf, &rope, NULL), ST_OK);
        assert_true(bytes_equal(whole_of(&rope, values), expected.bytes));
        /* a tx, whose parts nest */
        pb_init(&w, &arena, 0);
        wire_tx(&w, &tx);
        assert_int_equal(pb_take(&w, &plain, NULL), ST_OK);
        tx.kv_entries = far;
        tx.z_entries = zfar;
        pb_init(&w, &arena, wire_tx_hint(&tx));
        wire_tx(&w, &tx);
        assert_int_equal(pb_take_rope(&w, &rope, NULL), ST_OK);
        assert_int_equal(rope.cut_count, left);
        assert_true(bytes_equal(whole_of(&rope, values), plain));
        /* and the same inside of a list */
        pb_list_init(&lf, &arena, 1);
        for (int k = 0; k < 2; k++) {
            uint8_t *body = pb_list_add(&lf, 1, rope.len, rope.cuts, rope.cut_count);

            assert_non_null(body);
            memcpy(body, rope.bytes.data, rope.bytes.len);
        }
        assert_int_equal(pb_list_take(&lf, &rope, NULL), ST_OK);
        pb_init(&w, &arena, 0);
        pb_bytes_item(&w, 1, plain);
        pb_bytes_item(&w, 1, plain);
        assert_true(bytes_equal(whole_of(&rope, values), bytes_of(w.at, pb_len(&w))));
        arena_reset(&arena);
    }
}

static void full_arena_fails_the_writer(void **state)
{
    struct arena small;
    struct kv_entry e = {.tx_id = 1, .key = bytes_of("k", 1), .value = bytes_of(calloc(1, 5000), 5000)};
    struct bytes got;
    struct rope rope;
    struct pb_list l;
    struct pb w;

    (void)state;
    arena_init(&small, 256, 600);
    pb_init(&w, &small, 64);
    wire_entry(&w, &e);
    assert_true(w.failed);
    assert_int_equal(pb_take(&w, &got, NULL), ST_NOMEM);
    assert_null(got.data);
    pb_list_init(&l, &small, 64);
    wire_list_entry(&l, &e);
    assert_int_equal(pb_list_take(&l, &rope, NULL), ST_NOMEM);
    arena_free(&small);
    free((void *)(uintptr_t)e.value.data);
}

static void broken_metadata_fails_the_writer(void **state)
{
    struct tx_entry e = {.key = bytes_of("\0k", 2), .md = bytes_of("\x07", 1)};
    struct bytes got;
    struct pb w;

    (void)state;
    pb_init(&w, &arena, 0);
    wire_tx_entry(&w, &e, NULL);
    assert_int_equal(pb_take(&w, &got, NULL), ST_NOMEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_equal_packed),
        cmocka_unit_test(verifiable_answers_equal_packed),
        cmocka_unit_test(proof_v2_equals_packed),
        cmocka_unit_test(states_and_chunks_equal_packed),
        cmocka_unit_test(status_details_are_as_recorded),
        cmocka_unit_test(minus_zero_is_written),
        cmocka_unit_test(full_arena_fails_the_writer),
        cmocka_unit_test(values_left_in_the_log),
        cmocka_unit_test(broken_metadata_fails_the_writer),
    };
    int failed;

    arena_init(&arena, 1 << 16, 0);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_free(&arena);
    return failed;
}
