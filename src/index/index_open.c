/* Opening what is on disk, and closing. docs/format-index.md par. 4 has the rules. */
#include "index/index_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

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
static enum status runs_load(struct index *x, const struct manifest *m, uint64_t tx_id_max, struct set_run *runs, size_t *run_count, bool *dropped,
                             bool *is_ghost, struct err *err)
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
