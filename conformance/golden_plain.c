/* Vectors that stand for themselves: digests, metadata, both trees, headers, state signatures. */
#include "golden.h"

#include <stdlib.h>

#include "merkle/naive_tree.h"

static bool bytes_are(struct golden *g, const void *data, size_t len, const json_t *hex)
{
    return bytes_equal(bytes_of(data, len), golden_hex_of(g, hex));
}

static bool hash_is(struct golden *g, const hash_t *h, const json_t *hex) { return bytes_are(g, h->b, HASH_LEN, hex); }

static void entry_vector(struct golden *g, const json_t *v)
{
    struct bytes key = golden_hex(g, v, "key"), value = golden_hex(g, v, "value"), md;
    const json_t *want_v0 = json_object_get(v, "digestV0");
    uint8_t buf[KV_METADATA_BYTES_MAX];
    struct kv_metadata attributes;
    hash_t hval, digest;
    enum status st;

    golden_kv_metadata(json_object_get(v, "metadata"), &attributes);
    md = bytes_of(buf, kv_metadata_encode(&attributes, buf));
    golden_check(g, bytes_are(g, md.data, md.len, json_object_get(v, "metadataBytes")), "entry metadata bytes", v);
    sha256(value.data, value.len, &hval);
    golden_check(g, hash_is(g, &hval, json_object_get(v, "valueHash")), "value hash", v);
    st = entry_digest(1, key, md, &hval, &digest, NULL);
    golden_check(g, st == ST_OK && hash_is(g, &digest, json_object_get(v, "digestV1")), "entry digest, version 1", v);
    st = entry_digest(0, key, md, &hval, &digest, NULL);
    if (json_is_null(want_v0))
        golden_check(g, st == ST_INVALID, "entry digest, version 0 with metadata", v);
    else
        golden_check(g, st == ST_OK && hash_is(g, &digest, want_v0), "entry digest, version 0", v);
}

static void kv_parse_vector(struct golden *g, const json_t *v)
{
    uint8_t buf[KV_METADATA_BYTES_MAX];
    struct kv_metadata md;
    bool is_valid = kv_metadata_decode(golden_hex(g, v, "bytes"), &md, NULL) == ST_OK;

    golden_check(g, is_valid == golden_true(v, "valid"), "entry metadata parsed", v);
    if (is_valid)
        golden_check(g, bytes_are(g, buf, kv_metadata_encode(&md, buf), json_object_get(v, "reserialized")), "entry metadata written again", v);
}

static void tx_parse_vector(struct golden *g, const json_t *v)
{
    uint8_t buf[TX_METADATA_BYTES_MAX];
    struct tx_metadata md;
    bool is_valid = tx_metadata_decode(golden_hex(g, v, "bytes"), &md, NULL) == ST_OK;

    golden_check(g, is_valid == golden_true(v, "valid"), "tx metadata parsed", v);
    if (is_valid)
        golden_check(g, bytes_are(g, buf, tx_metadata_encode(&md, buf), json_object_get(v, "reserialized")), "tx metadata written again", v);
}

void golden_entry_digests(struct golden *g, const json_t *root)
{
    const json_t *v;
    size_t i;

    json_array_foreach(json_object_get(root, "entries"), i, v)
    {
        entry_vector(g, v);
        arena_reset(&g->arena);
    }
    json_array_foreach(json_object_get(root, "kvMetadataParse"), i, v) kv_parse_vector(g, v);
    json_array_foreach(json_object_get(root, "txMetadataParse"), i, v) tx_parse_vector(g, v);
    json_array_foreach(json_object_get(root, "txMetadata"), i, v)
    {
        uint8_t buf[TX_METADATA_BYTES_MAX];
        struct tx_metadata md;

        golden_tx_metadata(g, json_object_get(v, "metadata"), &md);
        golden_check(g, bytes_are(g, buf, tx_metadata_encode(&md, buf), json_object_get(v, "metadataBytes")), "tx metadata bytes", v);
    }
}

static void htree_tree(struct golden *g, const json_t *t)
{
    struct hash_list digests = golden_hashes(g, json_object_get(t, "digests"));
    hash_t *scratch = arena_array(&g->arena, digests.count + 1, sizeof *scratch), root;
    const json_t *p;
    size_t i;

    htree_root(digests.items, digests.count, scratch, &root);
    golden_check(g, hash_is(g, &root, json_object_get(t, "root")), "root of a per-tx tree", t);
    json_array_foreach(json_object_get(t, "proofs"), i, p)
    {
        struct hash_list want = golden_hashes(g, json_object_get(p, "terms")), got;
        uint64_t leaf = golden_u64(p, "leaf"), width = golden_u64(p, "width");
        struct merkle_path path;
        enum status st = htree_inclusion(digests.items, digests.count, leaf, scratch, &path, NULL);

        got = (struct hash_list){path.term_count, path.terms};
        golden_check(g, st == ST_OK && width == digests.count && golden_list_is(&got, &want), "per-tx inclusion proof made", p);
        golden_check(g, leaf < digests.count && htree_verify(want.items, want.count, leaf, width, &digests.items[leaf], &root),
                     "per-tx inclusion proof verified", p);
    }
}

void golden_htree(struct golden *g, const json_t *root)
{
    const json_t *v;
    hash_t empty;
    size_t i;

    htree_root(NULL, 0, NULL, &empty);
    golden_check(g, hash_is(g, &empty, json_object_get(root, "emptyRoot")), "root of no entries", NULL);
    json_array_foreach(json_object_get(root, "trees"), i, v)
    {
        htree_tree(g, v);
        arena_reset(&g->arena);
    }
    json_array_foreach(json_object_get(root, "tampered"), i, v)
    {
        struct hash_list terms = golden_hashes(g, json_object_get(v, "terms"));
        hash_t digest, tampered_root;

        golden_hash(g, v, "digest", &digest);
        golden_hash(g, v, "root", &tampered_root);
        golden_check(g,
                     htree_verify(terms.items, terms.count, golden_u64(v, "leaf"), golden_u64(v, "width"), &digest, &tampered_root) ==
                         golden_true(v, "valid"),
                     "tampered per-tx inclusion proof", v);
        arena_reset(&g->arena);
    }
}

/* The growing tree three times: struct tree, the frontier, and the definition. */
struct grown {
    struct tree *tree;
    size_t size;
    const hash_t *alhs;
    hash_t *leaves;
    struct hash_list roots;
};

static bool path_is(const struct merkle_path *path, const struct hash_list *want)
{
    struct hash_list got = {path->term_count, path->terms};

    return golden_list_is(&got, want);
}

static void aht_grow(struct golden *g, const json_t *root, struct grown *t)
{
    struct hash_list want = golden_hashes(g, json_object_get(root, "leaves"));
    struct frontier f;

    frontier_init(&f);
    for (size_t n = 0; n < t->size; n++) {
        hash_t leaf, frontier, at, naive;
        bool is_ok;

        sha256_leaf(&t->alhs[n], &leaf);
        t->leaves[n] = leaf;
        golden_check(g, n < want.count && hash_equal(&leaf, &want.items[n]), "leaf hash", NULL);
        frontier_append(&f, &leaf);
        frontier_root(&f, &frontier);
        naive_root(t->leaves, n + 1, &naive);
        is_ok = tree_append(t->tree, &leaf, 1, NULL) == ST_OK && tree_root_at(t->tree, n + 1, &at, NULL) == ST_OK;
        golden_check(g, is_ok && n < t->roots.count && hash_equal(&at, &t->roots.items[n]) && hash_equal(&frontier, &at) && hash_equal(&naive, &at),
                     "root of the growing tree", NULL);
    }
    for (size_t n = 1; n <= t->size; n++) {
        hash_t at;
        bool is_ok = tree_root_at(t->tree, n, &at, NULL) == ST_OK;

        golden_check(g, is_ok && n <= t->roots.count && hash_equal(&at, &t->roots.items[n - 1]), "root of a past size", NULL);
    }
}

static void aht_vector(struct golden *g, const struct grown *t, const json_t *v, const char *kind)
{
    struct hash_list terms = golden_hashes(g, json_object_get(v, "terms"));
    uint64_t i = golden_u64(v, "i"), j = json_object_get(v, "j") == NULL ? i : golden_u64(v, "j");
    bool is_consistency = strcmp(kind, "consistency") == 0, is_last = strcmp(kind, "lastInclusion") == 0;
    struct merkle_path path, naive;
    bool is_made = false, is_valid = false;

    if (!golden_check(g, i >= 1 && i <= j && j <= t->size, "range of a vector", v))
        return;
    if (is_consistency) {
        is_made = tree_consistency(t->tree, i, j, &path, NULL) == ST_OK;
        naive_consistency(t->leaves, i, j, &naive);
        is_valid = consistency_verify(terms.items, terms.count, i, j, &t->roots.items[i - 1], &t->roots.items[j - 1]);
    } else {
        is_made = tree_inclusion(t->tree, i, j, &path, NULL) == ST_OK;
        naive_inclusion(t->leaves, i, j, &naive);
        is_valid = is_last ? last_inclusion_verify(terms.items, terms.count, i, &t->alhs[i - 1], &t->roots.items[j - 1])
                           : inclusion_verify(terms.items, terms.count, i, j, &t->alhs[i - 1], &t->roots.items[j - 1]);
    }
    golden_check(g, is_made && path_is(&path, &terms), "proof made by the tree", v);
    golden_check(g, path_is(&naive, &terms), "proof made from the definition", v);
    golden_check(g, is_valid, "proof verified", v);
    arena_reset(&g->arena);
}

static void aht_tampered(struct golden *g, const json_t *v)
{
    struct hash_list terms = golden_hashes(g, json_object_get(v, "terms"));
    uint64_t i = golden_u64(v, "i"), j = golden_u64(v, "j");
    const char *kind = golden_text(v, "kind");
    hash_t leaf, root, root_i, root_j;
    bool is_valid = false;

    golden_hash(g, v, "leaf", &leaf);
    golden_hash(g, v, "root", &root);
    golden_hash(g, v, "iRoot", &root_i);
    golden_hash(g, v, "jRoot", &root_j);
    if (strcmp(kind, "inclusion") == 0)
        is_valid = inclusion_verify_leaf(terms.items, terms.count, i, j, &leaf, &root);
    else if (strcmp(kind, "consistency") == 0)
        is_valid = consistency_verify(terms.items, terms.count, i, j, &root_i, &root_j);
    else
        is_valid = last_inclusion_verify_leaf(terms.items, terms.count, i, &leaf, &root);
    golden_check(g, is_valid == golden_true(v, "valid"), "tampered proof", v);
    arena_reset(&g->arena);
}

void golden_aht(struct golden *g, const json_t *root)
{
    static const char *const kinds[] = {"inclusion", "consistency", "lastInclusion"};
    struct arena keep;
    struct grown t = {0};
    struct chain c;
    const json_t *v;
    size_t i;

    if (!chain_open(g, &c)) /* for its tree */
        return;
    t.tree = c.tree;
    t.size = json_array_size(json_object_get(root, "data"));
    t.alhs = golden_hashes(g, json_object_get(root, "data")).items;
    t.roots = golden_hashes(g, json_object_get(root, "roots"));
    t.leaves = arena_array(&g->arena, t.size + 1, sizeof *t.leaves);
    aht_grow(g, root, &t);
    keep = g->arena; /* the vectors below work in an arena of their own */
    arena_init(&g->arena, 65536, 0);
    for (size_t k = 0; k < 3; k++)
        json_array_foreach(json_object_get(root, kinds[k]), i, v) aht_vector(g, &t, v, kinds[k]);
    json_array_foreach(json_object_get(root, "tampered"), i, v) aht_tampered(g, v);
    arena_free(&g->arena);
    g->arena = keep;
    chain_close(&c);
}

void golden_tx_headers(struct golden *g, const json_t *root)
{
    const json_t *v;
    size_t i;

    json_array_foreach(json_object_get(root, "headers"), i, v)
    {
        struct bytes want = golden_hex(g, v, "bytes");
        uint8_t buf[TX_HEADER_BYTES_MAX];
        struct tx_header h, parsed;
        hash_t inner, alh;

        golden_header(g, json_object_get(v, "header"), &h);
        golden_check(g, bytes_equal(bytes_of(buf, tx_header_encode(&h, buf)), want), "header bytes", v);
        tx_header_inner(&h, &inner);
        golden_check(g, hash_is(g, &inner, json_object_get(v, "innerHash")), "inner hash", v);
        tx_header_alh(&h, &alh);
        golden_check(g, hash_is(g, &alh, json_object_get(v, "alh")), "alh", v);
        if (golden_check(g, tx_header_decode(want, &parsed, NULL) == ST_OK, "header parsed", v)) {
            tx_header_alh(&parsed, &alh);
            golden_check(g, hash_is(g, &alh, json_object_get(v, "alh")) && bytes_equal(bytes_of(buf, tx_header_encode(&parsed, buf)), want),
                         "header written again", v);
        }
        for (size_t len = 0; len < want.len; len++)
            golden_check(g, tx_header_decode(bytes_of(want.data, len), &parsed, NULL) == ST_INVALID, "header cut short", v);
        arena_reset(&g->arena);
    }
}

/* The key pair itself: opens, has the recorded public point, and what it signs verifies. */
static void key_vector(struct golden *g, const json_t *k)
{
    struct bytes point = golden_hex(g, k, "publicPoint"), db = bytes_str("defaultdb");
    struct state_signature signature;
    struct signer *signer = NULL;
    bool is_ok = signer_open(bytes_str(golden_text(k, "privatePEM")), &signer, NULL) == ST_OK;

    golden_check(g, is_ok, "private key opened", k);
    if (!is_ok)
        return;
    is_ok = signer_sign(signer, db, 7, &HASH_EMPTY, &signature, NULL) == ST_OK;
    golden_check(g, is_ok && bytes_equal(bytes_of(signature.public_key, signature.public_key_len), point), "public point", k);
    golden_check(g, is_ok && state_signature_verify(point, bytes_of(signature.signature, signature.signature_len), db, 7, &HASH_EMPTY),
                 "own signature by the point", k);
    golden_check(g,
                 is_ok && state_signature_verify(bytes_str(golden_text(k, "publicPEM")), bytes_of(signature.signature, signature.signature_len), db,
                                                 7, &HASH_EMPTY),
                 "own signature by the PEM", k);
    signer_close(signer);
}

void golden_signatures(struct golden *g, const json_t *root)
{
    const json_t *keys = json_object_get(root, "keys"), *v;
    size_t i;

    json_array_foreach(keys, i, v) key_vector(g, v);
    json_array_foreach(json_object_get(root, "vectors"), i, v)
    {
        const json_t *key = json_array_get(keys, golden_u64(v, "key"));
        struct bytes db = bytes_str(golden_text(v, "db")), signature = golden_hex(g, v, "signature"), point = golden_hex(g, key, "publicPoint");
        uint8_t payload[STATE_DB_LEN_MAX + 64];
        uint64_t tx_id = golden_u64(v, "txId");
        hash_t alh;

        golden_hash(g, v, "txHash", &alh);
        golden_check(g, bytes_are(g, payload, state_payload(db, tx_id, &alh, payload), json_object_get(v, "payload")), "signed payload", v);
        golden_check(g, state_signature_verify(bytes_str(golden_text(key, "publicPEM")), signature, db, tx_id, &alh) == golden_true(v, "valid"),
                     "state signature by the PEM", v);
        golden_check(g, state_signature_verify(point, signature, db, tx_id, &alh) == golden_true(v, "valid"), "state signature by the point", v);
        arena_reset(&g->arena);
    }
}
