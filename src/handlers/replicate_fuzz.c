/* Fuzz target: replicateTx fed any chunks: one answer, memory bounded by the call's arena, and the transaction that reaches the store
 * does not depend on where the chunks are cut (but the first must hold a length). What arrives is decoded as the store does it. */
#include "handlers/stream_rig.h"

#include "tx/tx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

bool __wrap_database_is_replica(const struct database *db);
void __wrap_database_settings_get(struct database *db, struct database_settings *out);
struct bytes __wrap_rpc_metadata(const struct rpc_call *call, const char *name);
uint64_t __wrap_kv_deadline_ns(const struct request *rq);
void __wrap_rpc_pause(struct rpc_call *call);
void __wrap_pool_submit(struct pool *p, struct pool_job *job);
void __wrap_store_get_state(struct store *s, struct store_state *out);
enum status __wrap_store_import(struct store *s, struct bytes blob, bool skip_integrity, uint64_t deadline_mono_ns, struct store_result *out,
                                struct err *err);
void __wrap_kv_reply(struct request *rq, struct pb *w);

bool __wrap_database_is_replica(const struct database *db)
{
    (void)db;
    return true;
}
void __wrap_database_settings_get(struct database *db, struct database_settings *out)
{
    (void)db;
    memset(out, 0, sizeof *out);
}
struct bytes __wrap_rpc_metadata(const struct rpc_call *call, const char *name)
{
    (void)call;
    (void)name;
    return bytes_of(NULL, 0);
}
uint64_t __wrap_kv_deadline_ns(const struct request *rq)
{
    (void)rq;
    return UINT64_MAX;
}
void __wrap_rpc_pause(struct rpc_call *call) { (void)call; }
void __wrap_pool_submit(struct pool *p, struct pool_job *job)
{
    (void)p;
    assert(rig->job == NULL);
    rig->job = job;
}
/* So much is there that no import comes too early. */
void __wrap_store_get_state(struct store *s, struct store_state *out)
{
    (void)s;
    memset(out, 0, sizeof *out);
    out->precommitted_tx_id = UINT64_MAX - 1;
}
enum status __wrap_store_import(struct store *s, struct bytes blob, bool skip_integrity, uint64_t deadline_mono_ns, struct store_result *out,
                                struct err *err)
{
    struct tx_entry *entries = NULL;
    struct arena arena;
    enum status st;

    (void)s;
    (void)skip_integrity;
    (void)deadline_mono_ns;
    memset(out, 0, sizeof *out);
    rig->outcome.hash = hash64(rig->outcome.hash, blob.data, blob.len);
    arena_init(&arena, 4096, 0);
    st = tx_import(blob, &arena, 1024, 1024, 32u << 20, &out->header, &entries, err);
    for (uint32_t i = 0; st == ST_OK && i < out->header.entry_count; i++)
        rig->outcome.hash = hash64(rig->outcome.hash, entries[i].key.data, entries[i].key.len);
    arena_free(&arena);
    return st;
}
void __wrap_kv_reply(struct request *rq, struct pb *w)
{
    struct bytes message;

    (void)rq;
    assert(pb_take(w, &message, NULL) == ST_OK);
    rig->outcome.hash = hash64(rig->outcome.hash, message.data, message.len);
    rig_answer("reply", 0, "");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len >= 2)
        rig_run(data, len, handle_replicate_tx, 8);
    return 0;
}
