/* Figures of one database. Nothing here waits for a writer. */
#include "store/store_internal.h"

static void snapshot_stats(struct store *s, struct store_stats *out)
{
    uint64_t now_ns = env_mono_ns(s->env);

    for (unsigned i = 0; i < SNAPSHOT_SHARDS; i++) {
        struct snapshot_shard *shard = &s->snapshots[i];

        pthread_mutex_lock(&shard->lock);
        out->snapshots_open += shard->count;
        for (const struct store_snapshot *sn = shard->first; sn != NULL; sn = sn->next) {
            uint64_t used_ns = atomic_load_explicit(&sn->used_ns, memory_order_relaxed);

            out->snapshots_idle += now_ns > used_ns && now_ns - used_ns > SNAPSHOT_IDLE_NS;
        }
        pthread_mutex_unlock(&shard->lock);
    }
}

void store_get_stats(struct store *s, struct store_stats *out)
{
    memset(out, 0, sizeof *out);
    log_stats(s->log, &out->log);
    tree_stats(s->tree, &out->tree);
    index_stats(s->index, &out->index);
    snapshot_stats(s, out);
    out->txs = atomic_load(&s->visible_tx);
    out->commits = atomic_load(&s->commit_count);
    out->batches = atomic_load(&s->batch_count);
    out->conflicts = atomic_load(&s->conflict_count);
    out->clock_jumps = atomic_load(&s->clock_jumps);
    out->queue_length = atomic_load(&s->queue_length);
    out->queue_bytes = atomic_load(&s->queue_bytes);
    out->waiters = atomic_load(&s->waiters);
    out->disk_bytes = out->log.bytes + out->tree.disk_bytes + out->index.run_bytes;
    for (unsigned i = 0; i < 32; i++)
        out->sync_ns_histogram[i] = atomic_load_explicit(&s->sync_ns_histogram[i], memory_order_relaxed);
    out->memory_bytes = sizeof *s + out->tree.memory_bytes + out->index.memtable_bytes + out->queue_bytes;
}
