/* Replays recorded chains through the store: every exported transaction of the reference must import to the same alh, export again to the same bytes, and the
 * dual proofs made from the imported chain must equal the recorded ones, term by term. The recorded import sequence must be accepted and refused step
 * by step with the same texts.
 *
 * Usage: golden_store DIRECTORY (with plain_chain.json, ...). */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/store.h"
#include "store/store_model.h"
#include "vfs/vfs_memory.h"

static char dir[4000];
static int failures, checks;

#define EXPECT(cond, ...) \
    do { \
        checks++; \
        if (!(cond)) { \
            failures++; \
            fprintf(stderr, "%s:%d: ", __FILE__, __LINE__); \
            fprintf(stderr, __VA_ARGS__); \
            fputc('\n', stderr); \
        } \
    } while (0)

static json_t *load(const char *name)
{
    char path[4200];
    json_error_t error;
    json_t *j;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    j = json_load_file(path, 0, &error);
    if (j == NULL) {
        fprintf(stderr, "%s: %s\n", path, error.text);
        exit(1);
    }
    return j;
}

static struct bytes unhex(struct arena *arena, const char *hex)
{
    size_t len = hex == NULL ? 0 : strlen(hex) / 2;
    uint8_t *out = arena_alloc(arena, len);
    unsigned v;

    for (size_t i = 0; i < len; i++) {
        sscanf(hex + 2 * i, "%2x", &v);
        out[i] = (uint8_t)v;
    }
    return bytes_of(out, len);
}

static const char *hash_text(const hash_t *h)
{
    static char ring[4][65];
    static unsigned at;
    char *out = ring[at++ % 4];

    for (size_t i = 0; i < HASH_LEN; i++)
        snprintf(out + 2 * i, 3, "%02x", h->b[i]);
    return out;
}

static bool is_hash(const json_t *j, const hash_t *h) { return json_is_string(j) && strcmp(json_string_value(j), hash_text(h)) == 0; }

static bool is_list(const json_t *j, const struct hash_list *l)
{
    if (json_array_size(j) != l->count)
        return false;
    for (size_t i = 0; i < l->count; i++)
        if (!is_hash(json_array_get(j, i), &l->items[i]))
            return false;
    return true;
}

/* --- a replica --- */
struct replica {
    struct vfs *vfs;
    struct test_env env;
    struct runtime *runtime;
    struct store *store;
};

static void replica_open(struct replica *r)
{
    struct runtime_options ro = {.memory_limit = 64 << 20};
    struct store_options o = {.dir = "db", .create = true, .tx_version = 1, .tx_entries_max = 1u << 20, .value_len_max = 64u << 20};
    struct err err;

    r->vfs = vfs_memory_create();
    test_env_init(&r->env, 1);
    ro.vfs = r->vfs;
    ro.env = &r->env.env;
    if (runtime_create(&ro, &r->runtime, &err) != ST_OK)
        abort();
    o.runtime = r->runtime;
    if (store_open(&o, &r->store, &err) != ST_OK)
        abort();
}

static void replica_close(struct replica *r)
{
    store_close(r->store);
    runtime_destroy(r->runtime);
    vfs_memory_destroy(r->vfs);
}

/* --- chains --- */
static void chain_import(struct replica *r, const char *name)
{
    json_t *file = load(name), *tx;
    size_t i;
    struct arena arena;
    struct err err;

    arena_init(&arena, 1 << 16, 0);
    json_array_foreach(json_object_get(file, "txs"), i, tx)
    {
        struct bytes blob = unhex(&arena, json_string_value(json_object_get(tx, "export"))), again;
        struct store_result result;
        enum status st = store_import(r->store, blob, false, 0, &result, &err);

        EXPECT(st == ST_OK, "%s: tx %zu: %s", name, i + 1, err.text);
        if (st != ST_OK)
            break;
        EXPECT(is_hash(json_object_get(tx, "alh"), &result.alh), "%s: tx %zu has another alh", name, i + 1);
        st = store_export(r->store, result.header.id, false, false, &arena, &again, &err);
        EXPECT(st == ST_OK && bytes_equal(blob, again), "%s: tx %zu exports differently (%s)", name, i + 1, st == ST_OK ? "bytes" : err.text);
        arena_reset(&arena);
    }
    arena_free(&arena);
    json_decref(file);
}

static void proof_v1(struct replica *r, const char *name, const json_t *v)
{
    uint64_t source = (uint64_t)json_integer_value(json_object_get(v, "sourceTxId")),
             target = (uint64_t)json_integer_value(json_object_get(v, "targetTxId"));
    const json_t *p = json_object_get(v, "proof"), *advance = json_object_get(p, "linearAdvanceProof"), *linear = json_object_get(p, "linearProof"),
                 *lists;
    struct dual_proof made;
    struct arena arena;
    struct err err;
    enum status st;

    arena_init(&arena, 1 << 16, 0);
    st = store_dual_proof(r->store, source, target, &arena, &made, &err);
    EXPECT(st == ST_OK, "%s: %" PRIu64 " to %" PRIu64 ": %s", name, source, target, err.text);
    if (st == ST_OK) {
        EXPECT(is_list(json_object_get(p, "inclusionProof"), &made.inclusion), "%s: %" PRIu64 " to %" PRIu64 ": inclusion", name, source, target);
        EXPECT(is_list(json_object_get(p, "consistencyProof"), &made.consistency), "%s: %" PRIu64 " to %" PRIu64 ": consistency", name, source,
               target);
        EXPECT(is_list(json_object_get(p, "lastInclusionProof"), &made.last_inclusion), "%s: %" PRIu64 " to %" PRIu64 ": last inclusion", name,
               source, target);
        EXPECT(is_hash(json_object_get(p, "targetBlTxAlh"), &made.target_bl_alh), "%s: %" PRIu64 " to %" PRIu64 ": targetBlTxAlh", name, source,
               target);
        EXPECT(is_list(json_object_get(linear, "terms"), &made.linear.terms), "%s: %" PRIu64 " to %" PRIu64 ": linear", name, source, target);
        EXPECT(made.advance.is_present == (json_is_object(advance) != 0), "%s: %" PRIu64 " to %" PRIu64 ": advance", name, source, target);
        if (made.advance.is_present && json_is_object(advance)) {
            lists = json_object_get(advance, "inclusionProofs");
            EXPECT(is_list(json_object_get(advance, "linearProofTerms"), &made.advance.terms), "%s: %" PRIu64 " to %" PRIu64 ": advance terms", name,
                   source, target);
            EXPECT(json_array_size(lists) == made.advance.inclusion_count, "%s: %" PRIu64 " to %" PRIu64 ": advance lists", name, source, target);
            for (size_t i = 0; i < made.advance.inclusion_count; i++)
                EXPECT(is_list(json_array_get(lists, i), &made.advance.inclusions[i]), "%s: %" PRIu64 " to %" PRIu64 ": advance list %zu", name,
                       source, target, i);
        }
    }
    arena_free(&arena);
}

static void proof_v2(struct replica *r, const char *name, const json_t *v)
{
    uint64_t source = (uint64_t)json_integer_value(json_object_get(v, "sourceTxId")),
             target = (uint64_t)json_integer_value(json_object_get(v, "targetTxId"));
    const json_t *p = json_object_get(v, "proof");
    struct dual_proof_v2 made;
    struct arena arena;
    struct err err;
    enum status st;

    arena_init(&arena, 1 << 16, 0);
    st = store_dual_proof_v2(r->store, source, target, &arena, &made, &err);
    EXPECT(st == ST_OK, "%s: %" PRIu64 " to %" PRIu64 ": %s", name, source, target, err.text);
    if (st == ST_OK) {
        EXPECT(is_list(json_object_get(p, "inclusionProof"), &made.inclusion), "%s: %" PRIu64 " to %" PRIu64 ": inclusion", name, source, target);
        EXPECT(is_list(json_object_get(p, "consistencyProof"), &made.consistency), "%s: %" PRIu64 " to %" PRIu64 ": consistency", name, source,
               target);
    }
    arena_free(&arena);
}

/* Untouched vectors that the reference accepts must be made identically. */
static void proofs_make(struct replica *r, const char *name, void (*make)(struct replica *r, const char *name, const json_t *v))
{
    json_t *file = load(name), *v;
    size_t i;

    json_array_foreach(json_object_get(file, "vectors"), i, v)
    {
        const char *note = json_string_value(json_object_get(v, "note"));

        if (note != NULL && note[0] == '\0' && json_is_true(json_object_get(v, "valid")))
            make(r, name, v);
    }
    json_decref(file);
}

static void chain(const char *name, const char *v1, const char *v2)
{
    struct replica r;

    replica_open(&r);
    chain_import(&r, name);
    if (v1 != NULL)
        proofs_make(&r, v1, proof_v1);
    if (v2 != NULL)
        proofs_make(&r, v2, proof_v2);
    replica_close(&r);
}

static void import_sequence(void)
{
    json_t *file = load("import_sequence.json"), *step;
    struct replica r;
    struct arena arena;
    struct err err;
    size_t i;

    replica_open(&r);
    arena_init(&arena, 1 << 16, 0);
    json_array_foreach(json_object_get(file, "steps"), i, step)
    {
        struct bytes blob = unhex(&arena, json_string_value(json_object_get(step, "export")));
        const char *text = json_string_value(json_object_get(step, "error")), *note = json_string_value(json_object_get(step, "note"));
        const json_t *after = json_object_get(step, "stateAfter");
        struct store_result result;
        struct store_state state;
        enum status st = store_import(r.store, blob, json_is_true(json_object_get(step, "skipIntegrityCheck")), env_mono_ns(&r.env.env) + 1000000000,
                                      &result, &err);

        EXPECT((st == ST_OK) == (json_is_true(json_object_get(step, "accepted")) != 0), "step %zu (%s): %s", i, note,
               st == ST_OK ? "accepted" : err.text);
        if (st != ST_OK && text != NULL)
            EXPECT(strcmp(text, err.text) == 0, "step %zu (%s): \"%s\" instead of \"%s\"", i, note, err.text, text);
        store_get_state(r.store, &state);
        EXPECT(state.tx_id == (uint64_t)json_integer_value(json_object_get(after, "txId")) && is_hash(json_object_get(after, "alh"), &state.alh),
               "step %zu (%s): another state", i, note);
        arena_reset(&arena);
    }
    arena_free(&arena);
    replica_close(&r);
    json_decref(file);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: golden_store DIRECTORY\n");
        return 2;
    }
    snprintf(dir, sizeof dir, "%s", argv[1]);
    chain("plain_chain.json", "plain_dualproof_v1.json", "plain_dualproof_v2.json");
    chain("lag_chain.json", "lag_dualproof_v1.json", NULL);
    chain("stall_chain.json", "stall_dualproof_v1.json", NULL);
    chain("server_chain.json", NULL, NULL);
    import_sequence();
    printf("%d passed, %d failed\n", checks - failures, failures);
    return failures == 0 && checks > 0 ? 0 : 1;
}
