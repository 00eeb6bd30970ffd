/* Opening, closing, inserting, what is covered, figures. */
#include "index/index_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* --- open --- */

struct orphan_scan {
    struct index *x;
    const struct manifest *manifest;
    char (*names)[64];
    size_t count, cap;
    uint64_t run_id_max;
    bool is_out_of_memory;
};

/* "run-<16 hex>.idx"; false for other names. */
static bool run_name_parse(const char *name, uint64_t *run_id)
{
    char again[64];

    if (sscanf(name, "run-%16lx.idx", run_id) != 1)
        return false;
    (void)snprintf(again, sizeof again, "run-%016llx.idx", (unsigned long long)*run_id);
    return strcmp(again, name) == 0;
}

static bool orphan_visit(void *ctx, const char *name, bool is_dir)
{
    struct orphan_scan *o = ctx;
    uint64_t run_id = 0;
    bool is_run = run_name_parse(name, &run_id), is_named = false;

    if (is_dir || (!is_run && strcmp(name, MANIFEST_NAME ".tmp") != 0))
        return true;
    if (is_run && run_id > o->run_id_max)
        o->run_id_max = run_id;
    for (size_t i = 0; is_run && i < o->manifest->run_count; i++)
        is_named |= o->manifest->runs[i].run_id == run_id;
    if (is_named)
        return true;
    if (o->count == o->cap) {
        size_t cap = o->cap == 0 ? 8 : o->cap * 2;
        char(*names)[64] = realloc(o->names, cap * sizeof *names);
        if (names == NULL) {
            o->is_out_of_memory = true;
            return false;
        }
        o->names = names;
        o->cap = cap;
    }
    (void)snprintf(o->names[o->count++], sizeof o->names[0], "%s", name);
    return true;
}

/* Removes files that the manifest does not name. It may be newer than what the disk holds (a killed process), so its folder is
 * synced first. A file that cannot be removed only takes room. */
static enum status orphans_remove(struct index *x, const struct manifest *m, struct err *err)
{
    struct orphan_scan o = {.x = x, .manifest = m};
    char path[PATH_BYTES_MAX];
    enum status st;

    if ((st = x->vfs->ops->list(x->vfs, x->dir, orphan_visit, &o, err)) == ST_OK && o.is_out_of_memory)
        st = err_set(err, ST_NOMEM, 0, "no memory for listing %s", x->dir);
    if (st == ST_OK && o.count > 0)
        st = x->vfs->ops->sync_dir(x->vfs, x->dir, err);
    for (size_t i = 0; i < o.count && st == ST_OK; i++) {
        if ((st = vfs_path(path, err, x->dir, "%s", o.names[i])) != ST_OK)
            break;
        if (x->vfs->ops->unlink(x->vfs, path, NULL) != ST_OK)
            env_log(x->env, LOG_WARN, "index %s: cannot remove the unused file %s", x->dir, o.names[i]);
    }
    if (o.run_id_max >= atomic_load(&x->next_run_id))
        atomic_store(&x->next_run_id, o.run_id_max + 1);
    free(o.names);
    return st;
}

/* Makes the name of the index's folder durable. */
static enum status folder_sync(struct index *x, struct err *err)
{
    char parent[PATH_BYTES_MAX];
    const char *slash = strrchr(x->dir, '/');
    size_t len = slash == NULL ? 0 : (size_t)(slash - x->dir);

    if (len >= sizeof parent)
        return err_set(err, ST_LIMIT, 0, "path too long");
    memcpy(parent, x->dir, len);
    parent[len] = 0;
    return x->vfs->ops->sync_dir(x->vfs, slash == NULL ? "." : len == 0 ? "/" : parent, err);
}

/* Reads the manifest; one that is missing or damaged leaves *m empty. */
static enum status manifest_load(struct index *x, struct manifest *m, struct err *err)
{
    char path[PATH_BYTES_MAX];
    uint8_t *image = NULL;
    size_t len = 0;
    enum status st;
    struct err why = {0};

    *m = (struct manifest){0};
    if ((st = vfs_path(path, err, x->dir, "%s", MANIFEST_NAME)) != ST_OK)
        return st;
    st = vfs_read_all(x->vfs, path, MANIFEST_BYTES_MAX, &image, &len, &why);
    if (st == ST_OK)
        st = index_manifest_decode(bytes_of(image, len), x->uuid, m, &why);
    free(image);
    if (st == ST_NOMEM || st == ST_UNSUPPORTED)
        return err_set(err, st, why.os_errno, "%s; while reading %s", why.text, path);
    if (st == ST_NOT_FOUND) /* the folder is new, or a process died before anything in it counted */
        return folder_sync(x, err);
    if (st != ST_OK) {
        env_log(x->env, LOG_ERROR, "index %s: %s: all of it is to be rebuilt", x->dir, why.text);
        atomic_fetch_add(&x->damaged_runs, 1);
    }
    return ST_OK;
}

/* Opens the runs that may be used; *dropped when one may not, *is_ghost when one ends above tx_id_max. */
static enum status runs_load(struct index *x, const struct manifest *m, uint64_t tx_id_max, struct set_run *runs, size_t *run_count,
                             bool *dropped, bool *is_ghost, struct err *err)
{
    char path[PATH_BYTES_MAX];
    enum status st;

    for (size_t i = 0; i < m->run_count; i++) {
        const struct manifest_run *info = &m->runs[i];
        struct run_expect expect = {info->run_id, info->salt, info->file_len, info->keys, info->versions, info->footer_crc};
        struct err why = {0};
        struct run *r = NULL;

        if (info->tx_last > tx_id_max) {
            env_log(x->env, LOG_WARN, "index %s: run %016llx holds transactions %llu to %llu, the log ends at %llu: not used", x->dir,
                    (unsigned long long)info->run_id, (unsigned long long)info->tx_first, (unsigned long long)info->tx_last,
                    (unsigned long long)tx_id_max);
            *dropped = *is_ghost = true;
            continue;
        }
        if (info->run_id != 0) {
            if ((st = run_path(x, info->run_id, path, err)) != ST_OK)
                return st;
            st = run_open(x->vfs, x->cache, &x->run_stats, path, x->uuid, &expect, &r, &why);
            if (st == ST_OK && (r->id.tx_first < info->tx_first || r->id.tx_last > info->tx_last)) {
                run_close(r);
                st = err_set(&why, ST_CORRUPT, 0, "index run %s: not the tx range that the manifest names", path);
            }
            if (st == ST_NOMEM)
                return err_set(err, st, 0, "%s", why.text);
            if (st != ST_OK) {
                env_log(x->env, LOG_ERROR, "index %s: %s: transactions %llu to %llu are to be indexed again", x->dir, why.text,
                        (unsigned long long)info->tx_first, (unsigned long long)info->tx_last);
                atomic_fetch_add(&x->damaged_runs, 1);
                *dropped = true;
                continue;
            }
        }
        runs[(*run_count)++] = (struct set_run){r, *info};
    }
    return ST_OK;
}

/* Brings what is on disk into use. */
static enum status contents_load(struct index *x, uint64_t tx_id_max, struct err *err)
{
    struct manifest m = {0}, used = {0};
    struct set_run *runs = NULL;
    struct memtable *live = NULL;
    size_t run_count = 0;
    bool dropped = false, is_ghost = false;
    uint64_t last;
    enum status st;

    if ((st = manifest_load(x, &m, err)) != ST_OK)
        goto done;
    x->generation = m.generation;
    atomic_store(&x->next_run_id, m.next_run_id == 0 ? 1 : m.next_run_id);
    x->marks = m.marks;
    x->mark_count = m.mark_count;
    m.marks = NULL;
    if ((runs = calloc(m.run_count + 1, sizeof *runs)) == NULL || (used.runs = calloc(m.run_count + 1, sizeof *used.runs)) == NULL) {
        st = err_set(err, ST_NOMEM, 0, "no memory for the index");
        goto done;
    }
    if ((st = runs_load(x, &m, tx_id_max, runs, &run_count, &dropped, &is_ghost, err)) != ST_OK)
        goto done;
    /* A run above the log's end must never come back when other transactions have got its ids: not without a durable manifest
     * that leaves it out. For damage alone that can wait. */
    if (dropped && (st = index_manifest_write(x, runs, run_count, err)) != ST_OK) {
        if (is_ghost)
            goto done;
        env_log(x->env, LOG_WARN, "index %s: %s", x->dir, err == NULL ? "cannot replace the manifest" : err->text);
        for (size_t i = 0; i < m.run_count; i++) /* it still names them */
            used.runs[used.run_count++] = m.runs[i];
    } else {
        for (size_t i = 0; i < run_count; i++)
            used.runs[used.run_count++] = runs[i].info;
    }
    if ((st = orphans_remove(x, &used, err)) != ST_OK)
        goto done;
    last = run_count == 0 ? 0 : runs[run_count - 1].info.tx_last;
    if ((st = memtable_create(x->budget, last + 1, &live, err)) != ST_OK)
        goto done;
    if ((st = index_set_create(x, runs, run_count, live, err)) != ST_OK)
        goto done;
    atomic_store_explicit(&x->published, last, memory_order_release);
    x->live = live;
    run_count = 0;
    live = NULL;
done:
    memtable_destroy(live);
    for (size_t i = 0; runs != NULL && i < run_count; i++)
        run_close(runs[i].run);
    free(runs);
    index_manifest_free(&used);
    index_manifest_free(&m);
    return st;
}

enum status index_open(const struct index_options *o, uint64_t tx_id_max, struct index **out, struct err *err)
{
    struct index *x;
    enum status st;

    *out = NULL;
    if (o->memtable_bytes_max < (64u << 10) || o->memtable_bytes_max > (1u << 30) || o->runs_max < 2 || o->runs_max > 64)
        return err_set(err, ST_INVALID, 0, "index: memtable_bytes_max or runs_max out of range");
    if ((x = calloc(1, sizeof *x)) == NULL || (x->dir = strdup(o->dir)) == NULL) {
        free(x);
        return err_set(err, ST_NOMEM, 0, "no memory for the index");
    }
    x->vfs = o->vfs;
    x->cache = o->cache;
    x->budget = o->budget;
    x->env = o->env;
    memcpy(x->uuid, o->uuid, sizeof x->uuid);
    x->memtable_bytes_max = o->memtable_bytes_max;
    x->runs_max = o->runs_max;
    pthread_mutex_init(&x->write, NULL);
    pthread_mutex_init(&x->role, NULL);
    pthread_mutex_init(&x->sets, NULL);
    pthread_cond_init(&x->role_free, NULL);
    st = x->vfs->ops->mkdir(x->vfs, x->dir, err);
    if (st == ST_OK || st == ST_EXISTS)
        st = contents_load(x, tx_id_max, err);
    if (st != ST_OK) {
        index_close(x);
        return err_while(err, st, "opening the index in %s", o->dir);
    }
    *out = x;
    return ST_OK;
}

void index_close(struct index *x)
{
    if (x == NULL)
        return;
    assert(atomic_load(&x->snapshots_open) == 0);
    index_merge_abandon(x);
    if (x->current != NULL)
        index_set_release(x, x->current);
    index_graveyard_reap(x);
    pthread_cond_destroy(&x->role_free);
    pthread_mutex_destroy(&x->sets);
    pthread_mutex_destroy(&x->role);
    pthread_mutex_destroy(&x->write);
    free(x->marks);
    free(x->dir);
    free(x);
}

/* --- writing --- */

static enum status entries_check(const struct index *x, const struct index_entry *entries, size_t count, struct err *err)
{
    uint64_t published = atomic_load_explicit(&x->published, memory_order_relaxed), last = published + 1;

    for (size_t i = 0; i < count; i++) {
        const struct index_entry *e = &entries[i];
        if (e->ns >= INDEX_NAMESPACES_MAX || e->key.len > INDEX_KEY_LEN_MAX || e->version.entry_index > INDEX_ENTRY_INDEX_MAX)
            return err_set(err, ST_INVALID, 0, "index: namespace %u, key of %zu bytes, entry %u: out of range", e->ns, e->key.len, e->version.entry_index);
        if (e->version.tx_id < last)
            return err_set(err, ST_INVALID, 0, "index: tx %llu inserted, %llu expected at least", (unsigned long long)e->version.tx_id, (unsigned long long)last);
        last = e->version.tx_id;
    }
    return ST_OK;
}

size_t index_slice_len(const struct index_entry *entries, size_t count)
{
    size_t len = count < 256 ? count : 256, end = len;

    if (len == count)
        return len;
    while (end > 0 && entries[end].version.tx_id == entries[end - 1].version.tx_id)
        end--;
    return end == 0 ? len : end;
}

enum status index_insert(struct index *x, const struct index_entry *entries, size_t count, struct err *err)
{
    enum status st;

    pthread_mutex_lock(&x->write);
    st = entries_check(x, entries, count, err);
    for (size_t i = 0; i < count && st == ST_OK;) {
        struct memtable *live = x->live;
        uint64_t tx_id = entries[i].version.tx_id;
        size_t n = index_slice_len(entries + i, count - i);

        if (tx_id < live->tx_base) {
            i++; /* a repeated call, and this tx is in a frozen memtable already */
            continue;
        }
        /* a memtable ends where a tx ends */
        if (tx_id > live->tx_last && tx_id > live->tx_base &&
            (atomic_load_explicit(&live->bytes, memory_order_relaxed) >= x->memtable_bytes_max || !memtable_takes_tx(live, entries[i + n - 1].version.tx_id))) {
            st = memtable_freeze(x, tx_id - 1, err);
            continue;
        }
        if (!memtable_takes_tx(live, entries[i + n - 1].version.tx_id)) {
            n = 1; /* ids far apart: one by one */
            if (!memtable_takes_tx(live, tx_id)) {
                st = err_set(err, ST_LIMIT, 0, "index: tx %llu is too far above %llu", (unsigned long long)tx_id, (unsigned long long)live->tx_base);
                continue;
            }
        }
        st = memtable_insert(live, entries + i, n, err);
        i += n;
    }
    pthread_mutex_unlock(&x->write);
    return st;
}

void index_publish(struct index *x, uint64_t tx_id)
{
    assert(tx_id >= atomic_load_explicit(&x->published, memory_order_relaxed));
    atomic_store_explicit(&x->published, tx_id, memory_order_release);
}

uint64_t index_published(const struct index *x) { return atomic_load_explicit(&x->published, memory_order_acquire); }

bool index_is_behind(const struct index *x)
{
    size_t frozen = atomic_load_explicit(&x->frozen_bytes, memory_order_relaxed);

    return atomic_load_explicit(&x->run_count, memory_order_relaxed) > x->runs_max + 4 || frozen > 4 * x->memtable_bytes_max ||
           (frozen > 0 && budget_pressure(x->budget, BUDGET_MEMTABLE) > 100);
}

/* --- coverage --- */

size_t index_missing(struct index *x, uint64_t tx_id_max, struct index_range *out, size_t ranges_max)
{
    uint64_t published = index_published(x), next = 1;
    struct index_set *s = index_set_hold(x);
    uint64_t base = s->mems[s->mem_count - 1]->tx_base;
    size_t n = 0;

    for (size_t i = 0; i <= s->run_count; i++) {
        uint64_t first = i < s->run_count && s->runs[i].info.tx_first < base ? s->runs[i].info.tx_first : base;
        uint64_t last = first - 1 < tx_id_max ? first - 1 : tx_id_max;

        if (next <= last && n < ranges_max)
            out[n++] = (struct index_range){next, last};
        if (first == base)
            break;
        next = s->runs[i].info.tx_last + 1;
    }
    /* from base on the memtables have what is published */
    next = published + 1 > base ? published + 1 : base;
    if (next <= tx_id_max && n < ranges_max) {
        if (n > 0 && out[n - 1].last + 1 == next)
            out[n - 1].last = tx_id_max;
        else
            out[n++] = (struct index_range){next, tx_id_max};
    }
    index_set_release(x, s);
    return n;
}

uint64_t index_flushed(const struct index *x)
{
    struct index *own = (struct index *)(uintptr_t)x; /* the lock is not part of what the caller sees as constant */
    struct index_set *s = index_set_hold(own);
    uint64_t last = 0;

    for (size_t i = 0; i < s->run_count && s->runs[i].info.tx_first == last + 1; i++)
        last = s->runs[i].info.tx_last;
    index_set_release(own, s);
    return last;
}

/* --- damage --- */

bool index_has_damage(struct index *x)
{
    struct index_set *s = index_set_hold(x);
    bool found = false;

    for (size_t i = 0; i < s->source_count; i++)
        found |= atomic_load_explicit(&s->sources[i]->is_damaged, memory_order_acquire);
    index_set_release(x, s);
    return found;
}

enum status index_quarantine(struct index *x, size_t *dropped, struct err *err)
{
    struct index_set *s;
    struct set_run **bad = NULL;
    struct set_edit e = {0};
    enum status st = ST_OK;

    *dropped = 0;
    index_role_take(x);
    s = index_set_hold(x);
    if ((bad = calloc(s->run_count + 1, sizeof(struct set_run *))) == NULL)
        st = err_set(err, ST_NOMEM, 0, "no memory for the index");
    for (size_t i = 0; i < s->run_count && st == ST_OK; i++) {
        struct set_run *r = &s->runs[i];
        if (r->run == NULL || !atomic_load_explicit(&r->run->is_damaged, memory_order_acquire) || r->info.tx_first >= s->mems[s->mem_count - 1]->tx_base)
            continue;
        env_log(x->env, LOG_ERROR, "index run %s is damaged: transactions %llu to %llu are to be indexed again", r->run->path,
                (unsigned long long)r->info.tx_first, (unsigned long long)r->info.tx_last);
        bad[e.remove_count++] = r;
    }
    e.remove_runs = bad;
    if (st == ST_OK && e.remove_count > 0)
        st = index_set_commit(x, &e, err);
    if (st == ST_OK) {
        *dropped = e.remove_count;
        atomic_fetch_add(&x->damaged_runs, e.remove_count);
    }
    index_set_release(x, s);
    index_role_release(x);
    free(bad);
    index_graveyard_reap(x);
    return st;
}

/* --- namespace marks --- */

uint64_t index_mark(struct index *x, uint32_t ns)
{
    uint64_t tx_id = 0;

    index_role_take(x);
    for (size_t i = 0; i < x->mark_count; i++) {
        if (x->marks[i].ns == ns)
            tx_id = x->marks[i].tx_id;
    }
    index_role_release(x);
    return tx_id;
}

enum status index_mark_set(struct index *x, uint32_t ns, uint64_t tx_id, struct err *err)
{
    struct manifest_mark *marks, *old;
    struct set_edit e = {0};
    size_t i = 0, old_count;
    enum status st;

    index_role_take(x);
    old = x->marks;
    old_count = x->mark_count;
    if ((marks = calloc(old_count + 1, sizeof *marks)) == NULL) {
        st = err_set(err, ST_NOMEM, 0, "no memory for the index");
        goto done;
    }
    while (i < old_count && old[i].ns < ns)
        i++;
    if (old_count > 0)
        memcpy(marks, old, i * sizeof *marks);
    marks[i] = (struct manifest_mark){ns, tx_id};
    x->mark_count = i + 1;
    for (size_t j = i < old_count && old[i].ns == ns ? i + 1 : i; j < old_count; j++)
        marks[x->mark_count++] = old[j];
    x->marks = marks;
    if ((st = index_set_commit(x, &e, err)) != ST_OK) {
        x->marks = old;
        x->mark_count = old_count;
        old = marks;
    }
    free(old);
done:
    index_role_release(x);
    return st;
}

/* --- figures --- */

void index_cancel(struct index *x) { atomic_store(&x->is_cancelled, true); }

void index_stats(struct index *x, struct index_stats *out)
{
    struct index_set *s = index_set_hold(x);

    *out = (struct index_stats){0};
    for (size_t i = 0; i < s->run_count; i++) {
        out->runs++;
        out->run_bytes += s->runs[i].info.file_len;
        out->run_entries += s->runs[i].info.versions;
    }
    for (size_t i = 0; i < s->mem_count; i++) {
        out->memtable_entries += atomic_load_explicit(&s->mems[i]->entry_count, memory_order_relaxed);
        out->memtable_bytes += atomic_load_explicit(&s->mems[i]->bytes, memory_order_relaxed);
    }
    index_set_release(x, s);
    out->flushes = atomic_load(&x->flushes);
    out->flush_bytes = atomic_load(&x->flush_bytes);
    out->merges = atomic_load(&x->merge_count);
    out->merge_bytes = atomic_load(&x->merge_bytes);
    out->damaged_runs = atomic_load(&x->damaged_runs);
    out->bloom_skips = atomic_load(&x->run_stats.bloom_skips);
    out->block_reads = atomic_load(&x->run_stats.block_reads);
    out->snapshots_open = atomic_load(&x->snapshots_open);
}
