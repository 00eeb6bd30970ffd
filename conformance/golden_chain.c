/* Recorded transactions: imported into a chain as a replica would, exported again, and proofs made from the chain. */
#include "golden.h"

#include <stdlib.h>

#include "merkle/naive_tree.h"

#define CHAIN_TXS_MAX 20000
#define VALUE_BYTES_MAX (64u << 20)

bool chain_open(struct golden *g, struct chain *c)
{
    struct tree_options o = {.vfs = g->vfs, .cache = g->cache, .budget = &g->budget, .uuid = {1, 2, 3}};
    char dir[64];

    memset(c, 0, sizeof *c);
    snprintf(dir, sizeof dir, "tree-%u", g->tree_count++);
    o.dir = dir;
    c->headers = calloc(CHAIN_TXS_MAX + 1, sizeof *c->headers);
    c->alhs = calloc(CHAIN_TXS_MAX + 1, sizeof *c->alhs);
    c->leaves = calloc(CHAIN_TXS_MAX + 1, sizeof *c->leaves);
    c->roots = calloc(CHAIN_TXS_MAX + 1, sizeof *c->roots);
    if (c->headers == NULL || c->alhs == NULL || c->leaves == NULL || c->roots == NULL || tree_open(&o, 0, &c->tree, NULL) != ST_OK) {
        golden_check(g, false, "opening a chain", NULL);
        chain_close(c);
        return false;
    }
    c->alhs[0] = HASH_EMPTY;
    frontier_init(&c->frontier);
    return true;
}

void chain_close(struct chain *c)
{
    tree_close(c->tree);
    free(c->headers);
    free(c->alhs);
    free(c->leaves);
    free(c->roots);
    memset(c, 0, sizeof *c);
}

static int key_compare(const void *a, const void *b) { return bytes_compare(((const struct tx_entry *)a)->key, ((const struct tx_entry *)b)->key); }

static bool keys_are_unique(struct golden *g, const struct tx_entry *entries, size_t count)
{
    struct tx_entry *sorted = arena_array(&g->arena, count, sizeof *sorted);

    if (sorted == NULL)
        abort();
    memcpy(sorted, entries, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, key_compare);
    for (size_t i = 1; i < count; i++)
        if (bytes_equal(sorted[i - 1].key, sorted[i].key))
            return false;
    return true;
}

static enum status eh_compute(struct golden *g, uint32_t version, const struct tx_entry *entries, size_t count, hash_t *eh, struct err *err)
{
    hash_t *digests = arena_array(&g->arena, count, 2 * sizeof *digests);
    enum status st = ST_OK;

    if (digests == NULL)
        abort();
    for (size_t i = 0; i < count && st == ST_OK; i++)
        st = entry_digest(version, entries[i].key, entries[i].md, &entries[i].hval, &digests[i], err);
    if (st == ST_OK)
        htree_root(digests, count, digests + count, eh);
    return st;
}

/* The entries written again are the bytes that came in, but for what an old or careless exporter leaves out. */
static bool export_is_same(struct golden *g, const struct tx_header *h, const struct tx_entry *entries, bool skip_integrity, struct bytes blob)
{
    uint64_t size = 0;
    uint8_t *buf = NULL;
    struct writer w;

    if (tx_export_size(h, entries, h->entry_count, &size, NULL) != ST_OK || (buf = arena_alloc(&g->arena, size)) == NULL)
        return false;
    w = writer_of(buf, size);
    if (tx_export(h, entries, h->entry_count, skip_integrity, &w, NULL) != ST_OK || writer_len(&w) != size)
        return false;
    if (blob.len == size)
        return memcmp(buf, blob.data, size) == 0;
    return blob.len + 3 == size && memcmp(buf, blob.data, blob.len) == 0; /* no trailer */
}

static void chain_append(struct golden *g, struct chain *c, const struct tx_header *h)
{
    uint64_t id = ++c->tx_count;

    c->headers[id] = *h;
    tx_header_alh(h, &c->alhs[id]);
    sha256_leaf(&c->alhs[id], &c->leaves[id - 1]);
    frontier_append(&c->frontier, &c->leaves[id - 1]);
    frontier_root(&c->frontier, &c->roots[id]);
    golden_check(g, tree_append(c->tree, &c->leaves[id - 1], 1, NULL) == ST_OK, "appending to the tree", NULL);
}

enum status chain_import(struct golden *g, struct chain *c, struct bytes blob, bool skip_integrity, struct err *err)
{
    struct tx_entry *entries = NULL;
    struct tx_header h;
    hash_t eh;
    enum status st = tx_import(blob, &g->arena, 1 << 20, 1024, VALUE_BYTES_MAX, &h, &entries, err);

    if (st != ST_OK)
        return st;
    if (!keys_are_unique(g, entries, h.entry_count))
        return err_set(err, ST_INVALID, 0, "duplicated key");
    if ((st = eh_compute(g, h.version, entries, h.entry_count, &eh, err)) != ST_OK)
        return st;
    if (!skip_integrity && !hash_equal(&eh, &h.eh))
        return err_set(err, ST_INVALID, 0, "illegal arguments: entries hash (Eh) differs");
    if (h.id <= c->tx_count)
        return err_set(err, ST_EXISTS, 0, "tx already committed");
    if (h.id != c->tx_count + 1 || h.id > CHAIN_TXS_MAX)
        return err_set(err, ST_LIMIT, 0, "max active transactions limit exceeded");
    if (!hash_equal(&h.bl_root, &c->roots[h.bl_tx_id]))
        return err_set(err, ST_INVALID, 0, "illegal arguments: attempt to commit a tx with invalid blRoot");
    if (!hash_equal(&h.prev_alh, &c->alhs[c->tx_count]))
        return err_set(err, ST_INVALID, 0, "illegal arguments: attempt to commit a tx with invalid prevAlh");
    golden_check(g, export_is_same(g, &h, entries, skip_integrity && hash_equal(&h.eh, &HASH_ZERO), blob), "export written again", NULL);
    h.eh = eh;
    chain_append(g, c, &h);
    return ST_OK;
}

static enum status source_header(void *ctx, uint64_t tx_id, struct tx_header *out, struct err *err)
{
    struct chain *c = ctx;

    if (tx_id == 0 || tx_id > c->tx_count)
        return err_set(err, ST_NOT_FOUND, 0, "tx not found");
    *out = c->headers[tx_id];
    return ST_OK;
}

static enum status source_alh(void *ctx, uint64_t tx_id, hash_t *out, struct err *err)
{
    struct chain *c = ctx;

    if (tx_id > c->tx_count)
        return err_set(err, ST_NOT_FOUND, 0, "tx not found");
    *out = c->alhs[tx_id];
    return ST_OK;
}

static enum status source_inclusion(void *ctx, uint64_t i, uint64_t j, struct merkle_path *out, struct err *err)
{
    return tree_inclusion(((struct chain *)ctx)->tree, i, j, out, err);
}

static enum status source_consistency(void *ctx, uint64_t i, uint64_t j, struct merkle_path *out, struct err *err)
{
    return tree_consistency(((struct chain *)ctx)->tree, i, j, out, err);
}

static enum status naive_source_inclusion(void *ctx, uint64_t i, uint64_t j, struct merkle_path *out, struct err *err)
{
    (void)err;
    naive_inclusion(((struct chain *)ctx)->leaves, i, j, out);
    return ST_OK;
}

static enum status naive_source_consistency(void *ctx, uint64_t i, uint64_t j, struct merkle_path *out, struct err *err)
{
    (void)err;
    naive_consistency(((struct chain *)ctx)->leaves, i, j, out);
    return ST_OK;
}

struct proof_source chain_source(struct chain *c, bool is_naive)
{
    return (struct proof_source){c, source_header, source_alh, is_naive ? naive_source_inclusion : source_inclusion,
                                 is_naive ? naive_source_consistency : source_consistency};
}

static bool advance_is(const struct linear_advance_proof *got, const struct linear_advance_proof *want)
{
    if (got->is_present != want->is_present || !golden_list_is(&got->terms, &want->terms) || got->inclusion_count != want->inclusion_count)
        return false;
    for (size_t i = 0; i < got->inclusion_count; i++)
        if (!golden_list_is(&got->inclusions[i], &want->inclusions[i]))
            return false;
    return true;
}

static bool header_is(const struct tx_header *got, const struct tx_header *want)
{
    uint8_t a[TX_HEADER_BYTES_MAX], b[TX_HEADER_BYTES_MAX];

    return bytes_equal(bytes_of(a, tx_header_encode(got, a)), bytes_of(b, tx_header_encode(want, b)));
}

static bool dual_is(const struct dual_proof *got, const struct dual_proof *want)
{
    return header_is(&got->source, &want->source) && header_is(&got->target, &want->target) && golden_list_is(&got->inclusion, &want->inclusion) &&
           golden_list_is(&got->consistency, &want->consistency) && hash_equal(&got->target_bl_alh, &want->target_bl_alh) &&
           golden_list_is(&got->last_inclusion, &want->last_inclusion) && got->linear.source_tx_id == want->linear.source_tx_id &&
           got->linear.target_tx_id == want->linear.target_tx_id && golden_list_is(&got->linear.terms, &want->linear.terms) &&
           advance_is(&got->advance, &want->advance);
}

static void dual_vector(struct golden *g, struct chain *c, const json_t *v)
{
    uint64_t source = golden_u64(v, "sourceTxId"), target = golden_u64(v, "targetTxId");
    struct dual_proof proof, made;
    hash_t source_alh, target_alh;

    golden_dual(g, json_object_get(v, "proof"), &proof);
    golden_hash(g, v, "sourceAlh", &source_alh);
    golden_hash(g, v, "targetAlh", &target_alh);
    golden_check(g, dual_proof_verify(&proof, source, target, &source_alh, &target_alh) == golden_true(v, "valid"), "dual proof", v);
    for (unsigned naive = 0; naive < 2 && golden_text(v, "note")[0] == 0 && target <= c->tx_count; naive++) {
        struct proof_source s = chain_source(c, naive == 1);

        golden_check(g, dual_proof_make(&s, source, target, &g->arena, &made, NULL) == ST_OK && dual_is(&made, &proof), "dual proof made", v);
    }
}

static void dual_v2_vector(struct golden *g, struct chain *c, const json_t *v)
{
    uint64_t source = golden_u64(v, "sourceTxId"), target = golden_u64(v, "targetTxId");
    struct dual_proof_v2 proof, made;
    hash_t source_alh, target_alh;
    struct err err = {0};
    enum status st;

    golden_dual_v2(g, json_object_get(v, "proof"), &proof);
    golden_hash(g, v, "sourceAlh", &source_alh);
    golden_hash(g, v, "targetAlh", &target_alh);
    st = dual_proof_v2_verify(&proof, source, target, &source_alh, &target_alh, &err);
    golden_check(g, (st == ST_OK) == golden_true(v, "valid"), "dual proof v2", v);
    if (!golden_check(g, st == ST_OK || strcmp(err.text, golden_text(v, "error")) == 0, "text of a refused dual proof v2", v))
        fprintf(stderr, "   got '%s', want '%s'\n", err.text, golden_text(v, "error"));
    for (unsigned naive = 0; naive < 2 && golden_text(v, "note")[0] == 0 && target <= c->tx_count; naive++) {
        struct proof_source s = chain_source(c, naive == 1);

        golden_check(g,
                     dual_proof_v2_make(&s, source, target, &g->arena, &made, NULL) == ST_OK && header_is(&made.source, &proof.source) &&
                         header_is(&made.target, &proof.target) && golden_list_is(&made.inclusion, &proof.inclusion) &&
                         golden_list_is(&made.consistency, &proof.consistency),
                     "dual proof v2 made", v);
    }
}

static void chain_tx(struct golden *g, struct chain *c, const json_t *v)
{
    struct err err = {0};
    struct tx_header h;
    hash_t alh;
    enum status st = chain_import(g, c, golden_hex(g, v, "export"), false, &err);

    if (!golden_check(g, st == ST_OK, "tx imported", v)) {
        fprintf(stderr, "   %s\n", err.text);
        return;
    }
    golden_hash(g, v, "alh", &alh);
    golden_check(g, c->tx_count == golden_u64(v, "txId") && hash_equal(&c->alhs[c->tx_count], &alh), "alh after import", v);
    golden_header(g, json_object_get(v, "header"), &h);
    golden_check(g, header_is(&h, &c->headers[c->tx_count]), "header after import", v);
}

/* The whole past of the chain once more, from the finished tree: every root against the frontier's. */
static void roots_check(struct golden *g, struct chain *c)
{
    for (uint64_t n = 0; n <= c->tx_count; n++) {
        hash_t root;

        golden_check(g, tree_root_at(c->tree, n, &root, NULL) == ST_OK && hash_equal(&root, &c->roots[n]), "root of a past size", NULL);
    }
}

/* name_chain.json, and name_dualproof_v1.json, name_dualproof_v2.json where they exist. Without the chain (root NULL) proofs
 * are verified, but cannot be made. */
void golden_chain_file(struct golden *g, const char *name, const json_t *root)
{
    const json_t *v, *final = json_object_get(root, "finalState");
    struct chain c;
    hash_t initial;
    size_t i;

    if (!chain_open(g, &c))
        return;
    if (root != NULL) {
        golden_hash(g, root, "initialAlh", &initial);
        golden_check(g, hash_equal(&initial, &HASH_EMPTY), "initial alh", NULL);
    }
    json_array_foreach(json_object_get(root, "txs"), i, v)
    {
        chain_tx(g, &c, v);
        arena_reset(&g->arena);
    }
    if (root != NULL)
        roots_check(g, &c);
    if (final != NULL) {
        hash_t alh;

        golden_hash(g, final, "txHash", &alh);
        golden_check(g, c.tx_count == golden_u64(final, "txId") && hash_equal(&c.alhs[c.tx_count], &alh), "final state", NULL);
    }
    for (unsigned version = 1; version <= 2; version++) {
        char file[128];
        json_t *proofs = NULL;

        snprintf(file, sizeof file, "%s_dualproof_v%u.json", name, version);
        proofs = golden_load(g, file);
        json_array_foreach(json_object_get(proofs, "vectors"), i, v)
        {
            if (version == 1)
                dual_vector(g, &c, v);
            else
                dual_v2_vector(g, &c, v);
            arena_reset(&g->arena);
        }
        json_decref(proofs);
    }
    chain_close(&c);
}

/* The steps as this layer judges them: every verdict, every published text, every state. struct chain stands in for a
 * replica's store; a check that feeds the store itself has a program of its own and shares golden_json.c with this one. */
void golden_import_sequence(struct golden *g, const json_t *root)
{
    const json_t *v;
    struct chain c;
    size_t i;

    if (!chain_open(g, &c))
        return;
    json_array_foreach(json_object_get(root, "steps"), i, v)
    {
        const json_t *after = json_object_get(v, "stateAfter");
        struct err err = {0};
        struct tx_header h;
        hash_t alh;
        enum status st = chain_import(g, &c, golden_hex(g, v, "export"), golden_true(v, "skipIntegrityCheck"), &err);

        golden_check(g, (st == ST_OK) == golden_true(v, "accepted"), "import", v);
        if (st != ST_OK) {
            if (!golden_check(g, strcmp(err.text, golden_text(v, "error")) == 0, "text of a refused import", v))
                fprintf(stderr, "   got '%s', want '%s'\n", err.text, golden_text(v, "error"));
        } else {
            golden_header(g, json_object_get(v, "header"), &h);
            golden_hash(g, v, "alh", &alh);
            golden_check(g, hash_equal(&c.alhs[c.tx_count], &alh) && header_is(&h, &c.headers[c.tx_count]), "header after import", v);
        }
        golden_hash(g, after, "alh", &alh);
        golden_check(g, c.tx_count == golden_u64(after, "txId") && hash_equal(&c.alhs[c.tx_count], &alh), "state after import", v);
        arena_reset(&g->arena);
    }
    roots_check(g, &c);
    chain_close(&c);
}
