/* Inserting, what is covered, damage, marks, figures. */
#include "index/index_internal.h"

#include <assert.h>
#include <stdlib.h>

/* --- writing --- */

static enum status entries_check(const struct index *x, const struct index_entry *entries, size_t count, struct err *err)
{
    uint64_t published = atomic_load_explicit(&x->published, memory_order_relaxed), last = published + 1;

    for (size_t i = 0; i < count; i++) {
        const struct index_entry *e = &entries[i];
        if (e->ns >= INDEX_NAMESPACES_MAX || e->key.len > INDEX_KEY_LEN_MAX || e->version.entry_index > INDEX_ENTRY_INDEX_MAX)
            return err_set(err, ST_INVALID, 0, "index: namespace %u, key of %zu bytes, entry %u: out of range", e->ns, e->key.len,
                           e->version.entry_index);
        if (e->version.tx_id < last)
            return err_set(err, ST_INVALID, 0, "index: tx %llu inserted, %llu expected at least", (unsigned long long)e->version.tx_id,
                           (unsigned long long)last);
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
            (atomic_load_explicit(&live->bytes, memory_order_relaxed) >= x->memtable_bytes_max ||
             !memtable_takes_tx(live, entries[i + n - 1].version.tx_id))) {
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
        if (r->run == NULL || !atomic_load_explicit(&r->run->is_damaged, memory_order_acquire) ||
            r->info.tx_first >= s->mems[s->mem_count - 1]->tx_base)
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
