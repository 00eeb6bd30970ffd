/* Memtables become runs. */
#include "index/index_internal.h"

#include <assert.h>
#include <stdlib.h>

enum status run_path(const struct index *x, uint64_t run_id, char *path, struct err *err)
{
    return vfs_path(path, err, x->dir, "run-%016llx.idx", (unsigned long long)run_id);
}

enum status index_writer_open(struct index *x, uint64_t first, uint64_t last, struct run_writer **out, uint64_t *run_id, struct err *err)
{
    char path[PATH_BYTES_MAX];
    enum status st;

    *out = NULL;
    *run_id = atomic_fetch_add(&x->next_run_id, 1);
    if ((st = run_path(x, *run_id, path, err)) != ST_OK)
        return st;
    return run_writer_open(x->vfs, x->env, path, x->uuid, *run_id, first, last, out, err);
}

/* How often data of that size would have been merged on its way through memtables. */
uint8_t index_depth_of(const struct index *x, uint64_t bytes)
{
    uint64_t limit = x->memtable_bytes_max;
    uint8_t depth = 0;

    for (; bytes > limit && depth < INDEX_DEPTH_COMPACT; depth++) {
        if (__builtin_mul_overflow(limit, (uint64_t)x->runs_max / 2 + 1, &limit))
            break;
    }
    return depth;
}

enum status index_writer_complete(struct index *x, struct run_writer *w, uint64_t first, uint64_t last, uint8_t depth, struct set_run *out,
                                  struct err *err)
{
    struct run_expect expect = {0};
    struct run *r = NULL;
    char path[PATH_BYTES_MAX];
    bool is_finished = false;
    enum status st;

    *out = (struct set_run){0};
    st = run_writer_finish(w, &expect, err);
    is_finished = st == ST_OK;
    run_writer_close(w);
    if (st != ST_OK)
        goto done;
    if ((st = run_path(x, expect.run_id, path, err)) != ST_OK)
        goto done;
    /* the name is durable before a manifest mentions it */
    if ((st = x->vfs->ops->sync_dir(x->vfs, x->dir, err)) != ST_OK)
        goto done;
    if ((st = run_open(x->vfs, x->cache, &x->run_stats, path, x->uuid, &expect, &r, err)) != ST_OK)
        goto done;
    out->run = r;
    out->info = (struct manifest_run){expect.run_id,     expect.salt,        first, last, expect.file_len, expect.keys, expect.versions,
                                      expect.footer_crc, MANIFEST_SCOPE_ALL, depth};
done:
    if (st != ST_OK && is_finished)
        (void)x->vfs->ops->unlink(x->vfs, path, NULL);
    return st;
}

/* Writes the versions at positions from .. to - 1 of a key. */
static enum status versions_write(struct run_writer *w, const struct memtable *m, const struct mem_key *k, uint64_t from, uint64_t to,
                                  struct err *err)
{
    struct index_version v[INLINE_VERSIONS_MAX];
    enum status st = run_writer_key(w, mem_key_key(k), to - from, err);

    while (from < to && st == ST_OK) {
        size_t n = 0;
        for (; n < INLINE_VERSIONS_MAX && from < to; n++, from++)
            memtable_version_nth(m, k, from, &v[n]);
        st = run_writer_versions(w, v, n, err);
    }
    return st;
}

enum status memtable_write_run(struct index *x, const struct memtable *m, uint64_t first, uint64_t last, bool is_whole, struct set_run *out,
                               struct err *err)
{
    struct run_writer *w = NULL;
    const struct mem_key *k;
    struct mem_iter it;
    uint64_t run_id, bytes;
    enum status st = ST_OK;

    *out = (struct set_run){.info = {.tx_first = first, .tx_last = last, .scope = MANIFEST_SCOPE_ALL}};
    mem_iter_seek(&it, m, (struct index_key){0, {NULL, 0}}, true, false, false);
    while (st == ST_OK && (k = mem_iter_next(&it)) != NULL) {
        uint64_t from = is_whole ? 0 : memtable_versions_upto(m, k, first - 1, NULL);
        uint64_t to = is_whole ? atomic_load_explicit(&k->count, memory_order_acquire) : memtable_versions_upto(m, k, last, NULL);

        if (from == to)
            continue;
        if (w == NULL && (st = index_writer_open(x, first, last, &w, &run_id, err)) != ST_OK)
            break;
        st = versions_write(w, m, k, from, to, err);
    }
    if (st != ST_OK) {
        run_writer_close(w);
        return st;
    }
    if (w == NULL)
        return ST_OK;
    bytes = run_writer_bytes(w);
    return index_writer_complete(x, w, first, last, index_depth_of(x, bytes), out, err);
}

enum status memtable_freeze(struct index *x, uint64_t end, struct err *err)
{
    struct memtable *m = NULL;
    struct set_edit e = {0};
    enum status st;

    assert(end >= x->live->tx_base && end >= x->live->tx_last);
    if ((st = memtable_create(x->budget, end + 1, &m, err)) != ST_OK)
        return st;
    e.add_mem = m;
    if ((st = index_set_change(x, &e, err)) != ST_OK) {
        memtable_destroy(m);
        return st;
    }
    x->live = m;
    return ST_OK;
}

/* Freezes the live memtable when all that was inserted is published; else it stays and is flushed in place. */
static enum status live_freeze(struct index *x, struct err *err)
{
    enum status st = ST_OK;
    uint64_t published;

    pthread_mutex_lock(&x->write);
    published = index_published(x);
    if (x->live->tx_last <= published && x->live->tx_last > 0 && published >= x->live->tx_base)
        st = memtable_freeze(x, published, err);
    pthread_mutex_unlock(&x->write);
    return st;
}

struct flush_work {
    struct memtable *mem;
    uint64_t first, last;
    bool is_whole; /* nothing of the memtable is left after it */
};

static bool flush_work_find(struct index *x, const struct index_set *s, uint64_t upto, bool everything, struct flush_work *out)
{
    struct memtable *m = s->mems[s->mem_count - 1];
    bool is_live;

    pthread_mutex_lock(&x->sets);
    is_live = m->tx_end == 0;
    *out = (struct flush_work){m, m->flushed_upto + 1, is_live || m->tx_end > upto ? upto : m->tx_end, !is_live && m->tx_end <= upto};
    pthread_mutex_unlock(&x->sets);
    return (!is_live || everything) && (out->first <= out->last || out->is_whole);
}

/* A range without versions needs no file: the run before it takes it over, else it gets a bare line in the manifest. */
static struct set_run *widened(struct index *x, struct index_set *s, const struct flush_work *work, struct set_run *added)
{
    struct set_run *last = s->run_count == 0 ? NULL : &s->runs[s->run_count - 1];
    bool is_merging = false;

    if (added->run != NULL || last == NULL || last->info.tx_last + 1 != work->first)
        return NULL;
    if (last->run != NULL) {
        pthread_mutex_lock(&x->sets);
        is_merging = last->run->is_merging;
        pthread_mutex_unlock(&x->sets);
    }
    if (is_merging)
        return NULL;
    *added = *last;
    added->info.tx_last = work->last;
    return last;
}

static enum status flush_one(struct index *x, const struct flush_work *work, struct err *err)
{
    struct set_run added = {0}, *wide, *removed[1];
    struct set_edit e = {.flushed_mem = work->mem, .flushed_upto = work->last, .remove_mem = work->is_whole ? work->mem : NULL};
    struct index_set *s;
    struct run *fresh;
    enum status st;

    if (work->first <= work->last) {
        if ((st = memtable_write_run(x, work->mem, work->first, work->last, work->is_whole && work->first <= work->mem->tx_base, &added, err)) !=
            ST_OK)
            return st;
        e.add_run = &added;
    }
    fresh = added.run;
    index_role_take(x);
    s = index_set_hold(x);
    if (e.add_run != NULL && (wide = widened(x, s, work, &added)) != NULL) {
        removed[0] = wide;
        e.remove_runs = removed;
        e.remove_count = 1;
    }
    st = index_set_commit(x, &e, err);
    index_set_release(x, s);
    index_role_release(x);
    run_release(x, fresh);
    if (st == ST_OK) {
        atomic_fetch_add(&x->flushes, 1);
        atomic_fetch_add(&x->flush_bytes, fresh == NULL ? 0 : added.info.file_len);
        x->merge_owed += fresh == NULL ? 0 : added.info.file_len * MERGE_PER_FLUSH;
    }
    return st;
}

enum status index_flush(struct index *x, uint64_t upto, bool everything, struct err *err)
{
    uint64_t published;
    enum status st = ST_OK;
    bool again = true;

    if (everything && (st = live_freeze(x, err)) != ST_OK)
        return st;
    published = index_published(x);
    if (upto > published)
        upto = published;
    while (again && st == ST_OK) {
        struct index_set *s = index_set_hold(x);
        struct flush_work work;

        again = flush_work_find(x, s, upto, everything, &work);
        if (again)
            st = flush_one(x, &work, err);
        index_set_release(x, s);
    }
    index_graveyard_reap(x);
    return st == ST_OK ? ST_OK : err_while(err, st, "flushing the index in %s", x->dir);
}

bool index_wants_flush(const struct index *x)
{
    return atomic_load_explicit(&x->frozen_bytes, memory_order_relaxed) > 0 || atomic_load_explicit(&x->has_dead, memory_order_relaxed);
}
