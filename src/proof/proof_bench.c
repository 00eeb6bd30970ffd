/* Measures what a commit and a verified answer cost in hashes and signatures, in nanoseconds, one thread:
 * entry digests, inner hash and alh, dual proofs from a tree in memory, signing and verifying states.
 *
 *   proof_bench [txs]      default 1,000,000 */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/env.h"
#include "merkle/merkle_tree.h"
#include "proof/proof.h"
#include "vfs/vfs_memory.h"

struct chain {
    uint64_t count;
    hash_t *alhs;
    struct tree *tree;
};

static double now_ns(void) { return (double)env_mono_ns(env_system()); }

static void check(bool is_ok, const char *what)
{
    if (!is_ok) {
        fprintf(stderr, "proof_bench: %s failed\n", what);
        exit(1);
    }
}

static void header_of(const struct chain *c, uint64_t id, struct tx_header *h)
{
    memset(h, 0, sizeof *h);
    h->id = id;
    h->version = 1;
    h->entry_count = 1;
    h->ts = (int64_t)id;
    h->prev_alh = c->alhs[id - 1];
    h->bl_tx_id = id - 1;
}

static enum status source_header(void *ctx, uint64_t tx_id, struct tx_header *out, struct err *err)
{
    struct chain *c = ctx;

    header_of(c, tx_id, out);
    return tree_root_at(c->tree, tx_id - 1, &out->bl_root, err);
}

static enum status source_alh(void *ctx, uint64_t tx_id, hash_t *out, struct err *err)
{
    (void)err;
    *out = ((struct chain *)ctx)->alhs[tx_id];
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

/* Headers without the root, to see what the proof alone costs. */
static enum status source_header_cheap(void *ctx, uint64_t tx_id, struct tx_header *out, struct err *err)
{
    (void)err;
    header_of(ctx, tx_id, out);
    return ST_OK;
}

static void hashes(void)
{
    const unsigned count = 2000000;
    struct tx_header h = {.id = 1, .version = 1, .entry_count = 1};
    uint8_t key[19] = "a key of 19 bytes.";
    hash_t hval = HASH_EMPTY, digest;
    double begin = now_ns();

    for (unsigned k = 0; k < count; k++) {
        key[0] = (uint8_t)k;
        check(entry_digest(1, bytes_of(key, sizeof key), bytes_of(NULL, 0), &hval, &digest, NULL) == ST_OK, "digest");
        hval.b[0] = digest.b[0];
    }
    printf("entry digest, 19-byte key    %8.1f ns\n", (now_ns() - begin) / count);
    begin = now_ns();
    for (unsigned k = 0; k < count; k++) {
        tx_header_alh(&h, &h.prev_alh);
        h.id++;
    }
    printf("inner hash and alh           %8.1f ns\n", (now_ns() - begin) / count);
}

static void chain_build(struct chain *c, uint64_t count)
{
    struct frontier f;

    frontier_init(&f);
    c->count = count;
    c->alhs = calloc(count + 1, sizeof *c->alhs);
    check(c->alhs != NULL, "memory");
    c->alhs[0] = HASH_EMPTY;
    for (uint64_t id = 1; id <= count; id++) {
        struct tx_header h;
        hash_t leaf;

        header_of(c, id, &h);
        frontier_root(&f, &h.bl_root);
        tx_header_alh(&h, &c->alhs[id]);
        sha256_leaf(&c->alhs[id], &leaf);
        frontier_append(&f, &leaf);
        check(tree_append(c->tree, &leaf, 1, NULL) == ST_OK, "append");
        if (id % 65536 == 0)
            check(tree_flush(c->tree, id, false, NULL) == ST_OK, "flush");
    }
}

static void proofs(struct chain *c, bool is_cheap)
{
    const unsigned count = 50000;
    struct proof_source s = {c, is_cheap ? source_header_cheap : source_header, source_alh, source_inclusion, source_consistency};
    uint64_t r = 88172645463325252u;
    struct arena arena;
    struct dual_proof p;
    double begin, verifying = 0;

    arena_init(&arena, 16384, 0);
    begin = now_ns();
    for (unsigned k = 0; k < count; k++) {
        uint64_t target = c->count - k % 100, source;

        r ^= r << 13;
        r ^= r >> 7;
        r ^= r << 17;
        source = 1 + r % target;
        check(dual_proof_make(&s, source, target, &arena, &p, NULL) == ST_OK, "proof");
        if (!is_cheap) {
            double mid = now_ns();

            check(dual_proof_verify(&p, source, target, &c->alhs[source], &c->alhs[target]), "verification");
            verifying += now_ns() - mid;
        }
        arena_reset(&arena);
    }
    if (is_cheap)
        printf("dual proof made              %8.0f ns (old source, one of the newest as target)\n", (now_ns() - begin) / count);
    else
        printf("dual proof verified          %8.0f ns\n", verifying / count);
    arena_free(&arena);
}

static void signatures(void)
{
    const unsigned count = 20000;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    BIO *bio = BIO_new(BIO_s_mem());
    struct state_signature out;
    struct signer *signer = NULL;
    char *pem = NULL;
    long len = 0;
    double begin;

    check(key != NULL && bio != NULL && PEM_write_bio_PrivateKey_traditional(bio, key, NULL, NULL, 0, NULL, NULL) == 1, "key");
    len = BIO_get_mem_data(bio, &pem);
    check(signer_open(bytes_of(pem, (size_t)len), &signer, NULL) == ST_OK, "signer");
    begin = now_ns();
    for (unsigned k = 0; k < count; k++)
        check(signer_sign(signer, bytes_str("defaultdb"), k, &HASH_EMPTY, &out, NULL) == ST_OK, "signing");
    printf("state signed, P-256          %8.0f ns (%.0f in a second)\n", (now_ns() - begin) / count, count * 1e9 / (now_ns() - begin));
    begin = now_ns();
    for (unsigned k = 0; k < count / 10; k++)
        check(state_signature_verify(bytes_of(out.public_key, out.public_key_len), bytes_of(out.signature, out.signature_len), bytes_str("defaultdb"),
                                     count - 1, &HASH_EMPTY),
              "signature");
    printf("state signature verified     %8.0f ns\n", (now_ns() - begin) / (double)(uint64_t)(count / 10));
    signer_close(signer);
    BIO_free(bio);
    EVP_PKEY_free(key);
}

int main(int argc, char **argv)
{
    uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
    struct budget budget;
    struct tree_options o = {.budget = &budget, .dir = "tree", .uuid = "bench"};
    struct chain c = {0};

    budget_init(&budget, (size_t)4 << 30);
    o.vfs = vfs_memory_create();
    check(o.vfs != NULL && cache_create(o.vfs, &budget, 16, &o.cache, NULL) == ST_OK && tree_open(&o, 0, &c.tree, NULL) == ST_OK, "tree");
    hashes();
    chain_build(&c, count < 200 ? 200 : count);
    proofs(&c, true);
    proofs(&c, false);
    signatures();
    tree_close(c.tree);
    cache_destroy(o.cache);
    vfs_memory_destroy(o.vfs);
    free(c.alhs);
    return 0;
}
