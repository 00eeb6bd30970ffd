/* Measures the tree: appending per leaf beside the bare hashing, roots and proofs in memory and from a warm cache, opening.
 *
 *   merkle_bench [leaves] [directory]      default 10,000,000 leaves on a file system in memory
 *
 * Prints nanoseconds; also compares the final root with the frontier's, so sizes beyond the tests' are checked too. */
#include <stdio.h>
#include <stdlib.h>

#include "base/env.h"
#include "merkle/merkle_tree.h"
#include "vfs/vfs_memory.h"

#define BATCH 256

static double now_ns(void) { return (double)env_mono_ns(env_system()); }

static uint64_t next_random(uint64_t *r)
{
    *r ^= *r << 13;
    *r ^= *r >> 7;
    *r ^= *r << 17;
    return *r;
}

static void leaves_fill(hash_t *leaves, uint64_t from, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        memset(&leaves[i], 0, sizeof leaves[i]);
        store_u64le(leaves[i].b, (from + i) * 0x9e3779b97f4a7c15u);
        store_u64le(leaves[i].b + 8, from + i);
    }
}

static void check(enum status st, const struct err *err)
{
    if (st != ST_OK) {
        fprintf(stderr, "merkle_bench: %s\n", err->text);
        exit(1);
    }
}

static void hashing(void)
{
    static hash_t level[4096];
    double t = now_ns();

    for (unsigned k = 0; k < 200; k++)
        sha256_nodes(level, 2048, level);
    t = (now_ns() - t) / (200 * 2048);
    printf("node hash in a row           %8.1f ns (%s)\n", t, sha256_backend());
    t = now_ns();
    for (unsigned k = 0; k < 400000; k++)
        sha256_node(&level[0], &level[1], &level[0]);
    printf("node hash alone              %8.1f ns\n", (now_ns() - t) / 400000);
}

static void proofs(struct tree *t, uint64_t size, const char *what, bool is_newest)
{
    const unsigned count = 100000;
    struct merkle_path p;
    struct err err = {0};
    uint64_t r = 88172645463325252u;
    double took[3];
    hash_t root;

    for (unsigned kind = 0; kind < 3; kind++) {
        double begin = now_ns();

        for (unsigned k = 0; k < count; k++) {
            uint64_t j = is_newest ? size - next_random(&r) % 200 : 1 + next_random(&r) % size, i = 1 + next_random(&r) % j;

            if (kind == 0)
                check(tree_inclusion(t, i, j, &p, &err), &err);
            else if (kind == 1)
                check(tree_consistency(t, i, j, &p, &err), &err);
            else
                check(tree_root_at(t, j, &root, &err), &err);
        }
        took[kind] = (now_ns() - begin) / count;
    }
    printf("%-28s %8.0f ns inclusion, %.0f consistency, %.0f root\n", what, took[0], took[1], took[2]);
}

int main(int argc, char **argv)
{
    uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 10000000;
    static hash_t leaves[BATCH];
    struct budget budget;
    struct tree_options o = {.budget = &budget, .dir = argc > 2 ? argv[2] : "tree", .uuid = "bench"};
    struct err err = {0};
    struct tree *t = NULL;
    struct frontier f;
    struct tree_stats stats;
    double appending = 0, flushing = 0, frontier = 0, opening;
    hash_t root, want;

    budget_init(&budget, (size_t)4 << 30);
    o.vfs = argc > 2 ? vfs_posix() : vfs_memory_create();
    hashing();
    check(cache_create(o.vfs, &budget, 64, &o.cache, &err), &err);
    check(tree_open(&o, 0, &t, &err), &err);
    if (tree_size(t) != 0) {
        fprintf(stderr, "merkle_bench: the directory is in use\n");
        return 1;
    }
    frontier_init(&f);
    for (uint64_t n = 0; n < count; n += BATCH) {
        size_t part = count - n < BATCH ? (size_t)(count - n) : BATCH;
        double begin, mid;

        leaves_fill(leaves, n, part);
        begin = now_ns();
        check(tree_append(t, leaves, part, &err), &err);
        mid = now_ns();
        for (size_t i = 0; i < part; i++)
            frontier_append(&f, &leaves[i]);
        frontier += now_ns() - mid;
        appending += mid - begin;
        begin = now_ns();
        if (n / BATCH % 256 == 255)
            check(tree_flush(t, n, false, &err), &err);
        flushing += now_ns() - begin;
    }
    printf("append in batches of %u     %8.1f ns a leaf (frontier alone %.1f), flush %.1f\n", BATCH, appending / (double)count,
           frontier / (double)count, flushing / (double)count);
    check(tree_root_at(t, count, &root, &err), &err);
    frontier_root(&f, &want);
    if (!hash_equal(&root, &want)) {
        fprintf(stderr, "merkle_bench: the root is wrong\n");
        return 1;
    }
    proofs(t, count, "random pairs, first time", false);
    proofs(t, count, "random pairs, warm cache", false);
    proofs(t, count, "into one of the newest", true);
    check(tree_flush(t, count, true, &err), &err);
    tree_stats(t, &stats);
    printf("on disk %.1f bytes a leaf, in memory %zu KiB\n", (double)stats.disk_bytes / (double)count, stats.memory_bytes / 1024);
    tree_close(t);
    opening = now_ns();
    check(tree_open(&o, count, &t, &err), &err);
    printf("open                         %8.2f ms\n", (now_ns() - opening) / 1e6);
    check(tree_append(t, leaves, 1, &err), &err);
    {
        double begin = now_ns();

        for (unsigned k = 0; k < 1000000; k++)
            check(tree_append(t, leaves, 1, &err), &err);
        printf("append one by one            %8.1f ns a leaf\n", (now_ns() - begin) / 1e6);
    }
    tree_close(t);
    cache_destroy(o.cache);
    return 0;
}
