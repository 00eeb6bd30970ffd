/* Fuzz target: band files with changed bytes, lengths and places. The input is a list of changes to the files of a tree of
 * 66,000 leaves; whatever they do, roots and proofs are the true ones, rebuilt from the log where need be. */
#include <assert.h>
#include <stdlib.h>

#include "merkle/merkle_internal.h"
#include "merkle/naive_tree.h"
#include "vfs/vfs_memory.h"

#define LEAVES 66000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Made once: the tree's files, its leaves, its roots at some sizes. */
static struct {
    struct vfs *vfs;
    hash_t *alhs, *leaves;
    hash_t root;
} whole;

static enum status alh_of(void *ctx, uint64_t n, hash_t *out, struct err *err)
{
    (void)ctx, (void)err;
    assert(n >= 1 && n <= LEAVES);
    *out = whole.alhs[n - 1];
    return ST_OK;
}

static struct tree_options options_of(struct vfs *v, struct budget *budget, struct cache *cache)
{
    return (struct tree_options){.vfs = v, .cache = cache, .budget = budget, .dir = "tree", .uuid = "fuzz", .alh_of = alh_of};
}

static void whole_make(void)
{
    struct budget budget;
    struct cache *cache = NULL;
    struct tree *t = NULL;
    struct tree_options o;

    budget_init(&budget, (size_t)64 << 20);
    whole.vfs = vfs_memory_create();
    whole.alhs = calloc(LEAVES, sizeof(hash_t));
    whole.leaves = calloc(LEAVES, sizeof(hash_t));
    assert(whole.vfs != NULL && whole.alhs != NULL && whole.leaves != NULL);
    for (size_t i = 0; i < LEAVES; i++) {
        naive_leaf(1, i, &whole.alhs[i]);
        sha256_leaf(&whole.alhs[i], &whole.leaves[i]);
    }
    naive_root(whole.leaves, LEAVES, &whole.root);
    assert(cache_create(whole.vfs, &budget, 4, &cache, NULL) == ST_OK);
    o = options_of(whole.vfs, &budget, cache);
    assert(tree_open(&o, 0, &t, NULL) == ST_OK && tree_append(t, whole.leaves, LEAVES, NULL) == ST_OK);
    assert(tree_flush(t, LEAVES, true, NULL) == ST_OK);
    tree_close(t);
    cache_destroy(cache);
}

/* One change: 8 bytes of input. */
static void file_change(struct vfs *v, struct reader *r)
{
    uint8_t kind = reader_u8(r), value = reader_u8(r);
    uint64_t at = reader_u32le(r), page = reader_u16le(r);
    struct vfs_file *file = NULL;
    uint8_t buf[PAGE_BYTES];
    uint64_t length = 0;

    if (v->ops->open(v, kind & 1 ? "tree/band-1" : "tree/band-0", VFS_WRITE, &file, NULL) != ST_OK)
        return;
    assert(file->ops->length(file, &length, NULL) == ST_OK);
    if ((kind & 6) == 0 && length > 0) {
        assert(vfs_write_at(file, at % length, &value, 1, NULL) == ST_OK);
    } else if ((kind & 6) == 2) {
        assert(file->ops->truncate(file, at % (length + 1), NULL) == ST_OK);
    } else if (length >= PAGE_BYTES) { /* a page over another, or beyond the end */
        assert(file->ops->read(file, at % (length / PAGE_BYTES) * PAGE_BYTES, buf, sizeof buf, NULL) == ST_OK);
        assert(vfs_write_at(file, page % (length / PAGE_BYTES + 2) * PAGE_BYTES, buf, sizeof buf, NULL) == ST_OK);
    }
    file->ops->close(file);
}

static void tree_is_true(struct tree *t, struct reader *asked)
{
    hash_t root;

    assert(tree_root_at(t, LEAVES, &root, NULL) == ST_OK && hash_equal(&root, &whole.root));
    for (unsigned k = 0; k < 20; k++) {
        uint64_t i = 1 + (reader_u32le(asked) + k * 3301u) % LEAVES;
        struct merkle_path p;
        hash_t old;

        assert(tree_inclusion(t, i, LEAVES, &p, NULL) == ST_OK);
        assert(inclusion_verify(p.terms, p.term_count, i, LEAVES, &whole.alhs[i - 1], &whole.root));
        assert(tree_root_at(t, i, &old, NULL) == ST_OK && tree_consistency(t, i, LEAVES, &p, NULL) == ST_OK);
        assert(consistency_verify(p.terms, p.term_count, i, LEAVES, &old, &whole.root));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct reader r = reader_of(bytes_of(data, len)), asked = r;
    struct tree_options o;
    struct budget budget;
    struct cache *cache = NULL;
    struct tree *t = NULL;
    struct vfs *v = NULL;
    uint64_t size;

    if (whole.vfs == NULL)
        whole_make();
    if (len == 0 || len > 256)
        return 0;
    budget_init(&budget, (size_t)64 << 20);
    v = vfs_memory_clone(whole.vfs);
    assert(v != NULL && cache_create(v, &budget, 4, &cache, NULL) == ST_OK);
    while (reader_left(&r) >= 8)
        file_change(v, &r);
    o = options_of(v, &budget, cache);
    assert(tree_open(&o, LEAVES, &t, NULL) == ST_OK);
    size = tree_size(t);
    assert(size <= LEAVES && size % 256 == 0);
    assert(tree_append(t, whole.leaves + size, LEAVES - size, NULL) == ST_OK);
    tree_is_true(t, &asked);
    assert(tree_flush(t, LEAVES, true, NULL) == ST_OK);
    tree_close(t);
    cache_destroy(cache);
    vfs_memory_destroy(v);
    return 0;
}
