/* Sets: which memtables and runs count, and how that changes in memory and on disk. */
#include "index/index_internal.h"

#include <assert.h>
#include <stdlib.h>

/* --- holding and letting go --- */

struct index_set *index_set_hold(struct index *x)
{
    struct index_set *s;

    pthread_mutex_lock(&x->sets);
    s = x->current;
    s->refs++;
    pthread_mutex_unlock(&x->sets);
    return s;
}

static void run_unref_locked(struct index *x, struct run *r)
{
    if (r != NULL && --r->refs == 0) {
        r->next_dead = x->dead_runs;
        x->dead_runs = r;
        atomic_store_explicit(&x->has_dead, true, memory_order_relaxed);
    }
}

static void mem_unref_locked(struct index *x, struct memtable *m)
{
    if (--m->refs == 0) {
        m->next_dead = x->dead_mems;
        x->dead_mems = m;
        atomic_store_explicit(&x->has_dead, true, memory_order_relaxed);
    }
}

static void set_release_locked(struct index *x, struct index_set *s)
{
    if (--s->refs > 0)
        return;
    for (size_t i = 0; i < s->mem_count; i++)
        mem_unref_locked(x, s->mems[i]);
    for (size_t i = 0; i < s->run_count; i++)
        run_unref_locked(x, s->runs[i].run);
    s->next_dead = x->dead_sets;
    x->dead_sets = s;
    atomic_store_explicit(&x->has_dead, true, memory_order_relaxed);
}

void index_set_release(struct index *x, struct index_set *s)
{
    pthread_mutex_lock(&x->sets);
    set_release_locked(x, s);
    pthread_mutex_unlock(&x->sets);
}

void run_release(struct index *x, struct run *r)
{
    pthread_mutex_lock(&x->sets);
    run_unref_locked(x, r);
    pthread_mutex_unlock(&x->sets);
}

void index_graveyard_reap(struct index *x)
{
    struct index_set *sets;
    struct memtable *mems;
    struct run *runs;

    pthread_mutex_lock(&x->sets);
    sets = x->dead_sets;
    mems = x->dead_mems;
    runs = x->dead_runs;
    x->dead_sets = NULL;
    x->dead_mems = NULL;
    x->dead_runs = NULL;
    atomic_store_explicit(&x->has_dead, false, memory_order_relaxed);
    pthread_mutex_unlock(&x->sets);
    while (sets != NULL) {
        struct index_set *next = sets->next_dead;
        free(sets);
        sets = next;
    }
    while (mems != NULL) {
        struct memtable *next = mems->next_dead;
        memtable_destroy(mems);
        mems = next;
    }
    while (runs != NULL) {
        struct run *next = runs->next_dead;
        run_close(runs);
        runs = next;
    }
}

/* --- building --- */

static struct index_set *set_alloc(size_t mem_count, size_t run_count)
{
    struct index_set *s = malloc(sizeof *s + mem_count * sizeof *s->mems + run_count * (sizeof *s->runs + sizeof *s->sources));

    if (s == NULL)
        return NULL;
    *s = (struct index_set){.refs = 1};
    s->runs = (struct set_run *)(void *)(s + 1);
    s->mems = (struct memtable **)(void *)(s->runs + run_count);
    s->sources = (struct run **)(void *)(s->mems + mem_count);
    return s;
}

/* Derives what follows from mems and runs. */
static void set_complete(struct index_set *s)
{
    uint64_t base = s->mems[s->mem_count - 1]->tx_base, next = 1;

    s->source_count = 0;
    for (size_t i = s->run_count; i-- > 0;) {
        /* a run made of a memtable that is still here repeats it */
        if (s->runs[i].run != NULL && s->runs[i].info.tx_first < base)
            s->sources[s->source_count++] = s->runs[i].run;
    }
    s->has_gap = false;
    for (size_t i = 0; i < s->run_count; i++) {
        assert(i == 0 || s->runs[i].info.tx_first > s->runs[i - 1].info.tx_last);
        if (s->runs[i].info.tx_first >= base)
            break;
        s->has_gap |= s->runs[i].info.tx_first != next;
        next = s->runs[i].info.tx_last + 1;
    }
    s->has_gap |= next < base;
}

static bool is_removed(const struct set_edit *e, const struct set_run *r)
{
    for (size_t i = 0; i < e->remove_count; i++) {
        if (e->remove_runs[i]->info.tx_first == r->info.tx_first && e->remove_runs[i]->run == r->run)
            return true;
    }
    return false;
}

/* Copies the runs of the current set with the edit applied; room for one more. */
static size_t runs_edit(const struct index_set *from, const struct set_edit *e, struct set_run *out)
{
    size_t n = 0;
    bool added = e->add_run == NULL;

    for (size_t i = 0; i < from->run_count; i++) {
        if (is_removed(e, &from->runs[i]))
            continue;
        if (!added && e->add_run->info.tx_first < from->runs[i].info.tx_first) {
            out[n++] = *e->add_run;
            added = true;
        }
        out[n++] = from->runs[i];
    }
    if (!added)
        out[n++] = *e->add_run;
    return n;
}

static void current_replace_locked(struct index *x, struct index_set *s)
{
    struct index_set *old = x->current;
    size_t frozen = 0;

    for (size_t i = 1; i < s->mem_count; i++)
        frozen += atomic_load_explicit(&s->mems[i]->bytes, memory_order_relaxed);
    atomic_store_explicit(&x->frozen_bytes, frozen, memory_order_relaxed);
    atomic_store_explicit(&x->run_count, s->run_count, memory_order_relaxed);
    x->current = s;
    if (old != NULL)
        set_release_locked(x, old);
}

enum status index_set_create(struct index *x, struct set_run *runs, size_t run_count, struct memtable *live, struct err *err)
{
    struct index_set *s = set_alloc(1, run_count);

    if (s == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory for the index");
    s->mems[0] = live;
    s->mem_count = 1;
    if (run_count > 0)
        memcpy(s->runs, runs, run_count * sizeof *runs);
    s->run_count = run_count;
    set_complete(s);
    pthread_mutex_lock(&x->sets);
    current_replace_locked(x, s);
    pthread_mutex_unlock(&x->sets);
    return ST_OK;
}

enum status index_set_change(struct index *x, const struct set_edit *e, struct err *err)
{
    struct index_set *s, *old;
    enum status st = ST_OK;

    pthread_mutex_lock(&x->sets);
    old = x->current;
    if ((s = set_alloc(old->mem_count + 1, old->run_count + 1)) == NULL) {
        st = err_set(err, ST_NOMEM, 0, "no memory for the index");
        goto done;
    }
    if (e->add_mem != NULL) {
        s->mems[s->mem_count++] = e->add_mem; /* its first reference is the set's */
        old->mems[0]->tx_end = e->add_mem->tx_base - 1;
    }
    for (size_t i = 0; i < old->mem_count; i++) {
        if (old->mems[i] == e->remove_mem)
            continue;
        s->mems[s->mem_count++] = old->mems[i];
        old->mems[i]->refs++;
    }
    s->run_count = runs_edit(old, e, s->runs);
    for (size_t i = 0; i < s->run_count; i++) {
        if (s->runs[i].run != NULL)
            s->runs[i].run->refs++;
    }
    if (e->flushed_mem != NULL)
        e->flushed_mem->flushed_upto = e->flushed_upto;
    for (size_t i = 0; i < e->remove_count; i++) {
        struct run *r = e->remove_runs[i]->run;
        if (r != NULL && (e->add_run == NULL || r != e->add_run->run))
            atomic_store_explicit(&r->is_obsolete, true, memory_order_release);
    }
    set_complete(s);
    current_replace_locked(x, s);
done:
    pthread_mutex_unlock(&x->sets);
    return st;
}

/* --- disk --- */

void index_role_take(struct index *x)
{
    pthread_mutex_lock(&x->role);
    while (x->role_taken)
        pthread_cond_wait(&x->role_free, &x->role);
    x->role_taken = true;
    pthread_mutex_unlock(&x->role);
}

void index_role_release(struct index *x)
{
    pthread_mutex_lock(&x->role);
    x->role_taken = false;
    pthread_cond_signal(&x->role_free);
    pthread_mutex_unlock(&x->role);
}

enum status index_manifest_write(struct index *x, const struct set_run *runs, size_t run_count, struct err *err)
{
    struct manifest m = {
        .generation = x->generation + 1, .next_run_id = atomic_load(&x->next_run_id), .marks = x->marks, .mark_count = x->mark_count};
    char path[PATH_BYTES_MAX];
    uint8_t *image = NULL;
    size_t len = 0;
    enum status st;

    if ((m.runs = calloc(run_count + 1, sizeof *m.runs)) == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory for the index manifest");
    for (size_t i = 0; i < run_count; i++)
        m.runs[m.run_count++] = runs[i].info;
    if ((st = vfs_path(path, err, x->dir, "%s", MANIFEST_NAME)) == ST_OK && (st = index_manifest_encode(&m, x->uuid, &image, &len, err)) == ST_OK)
        st = vfs_replace(x->vfs, x->dir, path, image, len, err);
    if (st == ST_OK)
        x->generation++;
    free(image);
    free(m.runs);
    return st == ST_OK ? ST_OK : err_while(err, st, "replacing the index manifest in %s", x->dir);
}

enum status index_set_commit(struct index *x, const struct set_edit *e, struct err *err)
{
    struct index_set *s = index_set_hold(x);
    struct set_run *runs = calloc(s->run_count + 1, sizeof *runs);
    enum status st;

    if (runs == NULL)
        st = err_set(err, ST_NOMEM, 0, "no memory for the index");
    else
        st = index_manifest_write(x, runs, runs_edit(s, e, runs), err);
    /* only the writer's freezing may have come in between, and it leaves the runs alone */
    if (st == ST_OK)
        st = index_set_change(x, e, err);
    free(runs);
    index_set_release(x, s);
    return st;
}
