/* golden_proofs DIR: judges recorded vectors of the published protocol with this tree's own code.
 *
 * Every file of a known name in DIR is read; missing ones are fine as long as there is one. Positive vectors must be
 * accepted and made again byte for byte, negative ones judged as recorded. Prints "N passed, M failed"; exit status 1 when
 * something failed or nothing was checked.
 *
 * What the layers above encode (rows, documents, sorted sets) is taken from the vectors; encodings.json and the row lists of
 * sql_rows.json are theirs to judge. */
#include "golden.h"

#include <stdio.h>
#include <string.h>

#include "vfs/vfs_memory.h"

#define MEMORY_BYTES ((size_t)256 << 20)

static const struct plain_file {
    const char *name;
    void (*judge)(struct golden *g, const json_t *root);
} plain_files[] = {
    {"entry_digests.json", golden_entry_digests},
    {"htree.json", golden_htree},
    {"aht.json", golden_aht},
    {"tx_headers.json", golden_tx_headers},
    {"state_signatures.json", golden_signatures},
    {"import_sequence.json", golden_import_sequence},
    {"sdk_calls.json", golden_calls},
    {"sql_rows.json", golden_calls},
    {"documents.json", golden_documents},
};

static const char *const chains[] = {"plain", "lag", "stall", "server"};

static void report(const struct golden *g, const char *file, size_t passed_before, size_t failed_before)
{
    printf("%-28s %6zu passed, %zu failed\n", file, g->passed - passed_before, g->failed - failed_before);
}

static void dir_judge(struct golden *g)
{
    for (size_t i = 0; i < sizeof plain_files / sizeof plain_files[0]; i++) {
        size_t passed = g->passed, failed = g->failed;
        json_t *root = golden_load(g, plain_files[i].name);

        if (root != NULL)
            plain_files[i].judge(g, root);
        if (g->passed + g->failed > passed + failed)
            report(g, plain_files[i].name, passed, failed);
        json_decref(root);
        arena_reset(&g->arena);
    }
    for (size_t i = 0; i < sizeof chains / sizeof chains[0]; i++) {
        size_t passed = g->passed, failed = g->failed;
        char file[64];
        json_t *root = NULL;

        snprintf(file, sizeof file, "%s_chain.json", chains[i]);
        root = golden_load(g, file);
        golden_chain_file(g, chains[i], root);
        if (g->passed + g->failed > passed + failed)
            report(g, chains[i], passed, failed); /* the chain and the proofs that belong to it */
        json_decref(root);
        arena_reset(&g->arena);
    }
}

int main(int argc, char **argv)
{
    struct golden g = {0};
    struct err err = {0};

    if (argc != 2) {
        fprintf(stderr, "usage: golden_proofs DIR\n");
        return 2;
    }
    g.dir = argv[1];
    budget_init(&g.budget, MEMORY_BYTES);
    arena_init(&g.arena, 65536, 0);
    g.vfs = vfs_memory_create();
    if (g.vfs == NULL || cache_create(g.vfs, &g.budget, 64, &g.cache, &err) != ST_OK) {
        fprintf(stderr, "golden_proofs: %s\n", err.text);
        return 2;
    }
    dir_judge(&g);
    cache_destroy(g.cache);
    vfs_memory_destroy(g.vfs);
    arena_free(&g.arena);
    printf("%zu passed, %zu failed\n", g.passed, g.failed);
    return g.failed > 0 || g.passed == 0 ? 1 : 0;
}
