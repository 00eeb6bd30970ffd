/* Brings the index of a missing range back, beside everything else: a memtable of its own, spilled as runs of the range. */
#include "index/index_internal.h"

#include <assert.h>
#include <stdlib.h>

struct index_rebuild {
    struct index *x;
    struct index_range range;
    uint64_t first; /* of what is not yet in runs */
    struct memtable *mem;
};

/* No run has any of it, and it lies below what the memtables cover. */
static bool is_missing(struct index *x, struct index_range range)
{
    struct index_set *s = index_set_hold(x);
    bool missing = range.first > 0 && range.first <= range.last && range.last < s->mems[s->mem_count - 1]->tx_base;

    for (size_t i = 0; i < s->run_count; i++)
        missing &= range.last < s->runs[i].info.tx_first || range.first > s->runs[i].info.tx_last;
    index_set_release(x, s);
    return missing;
}

enum status index_rebuild_begin(struct index *x, struct index_range range, struct index_rebuild **out, struct err *err)
{
    struct index_rebuild *r;
    enum status st;

    *out = NULL;
    if (!is_missing(x, range))
        return err_set(err, ST_INVALID, 0, "index: transactions %llu to %llu are not a hole", (unsigned long long)range.first,
                       (unsigned long long)range.last);
    if ((r = calloc(1, sizeof *r)) == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory for rebuilding the index");
    if ((st = memtable_create(x->budget, range.first, &r->mem, err)) != ST_OK) {
        free(r);
        return st;
    }
    r->x = x;
    r->range = range;
    r->first = range.first;
    *out = r;
    return ST_OK;
}

/* Turns what has come so far, up to tx id last, into a run. */
static enum status spill(struct index_rebuild *r, uint64_t last, struct err *err)
{
    struct memtable *fresh = NULL;
    struct set_run added = {0};
    struct set_edit e = {.add_run = &added};
    struct index *x = r->x;
    enum status st;

    if ((st = memtable_create(x->budget, last + 1, &fresh, err)) != ST_OK)
        goto done;
    if ((st = memtable_write_run(x, r->mem, r->first, last, true, &added, err)) != ST_OK)
        goto done;
    index_role_take(x);
    st = index_set_commit(x, &e, err);
    index_role_release(x);
    run_release(x, added.run);
    if (st != ST_OK)
        goto done;
    memtable_destroy(r->mem);
    r->mem = fresh;
    fresh = NULL;
    r->first = last + 1;
done:
    memtable_destroy(fresh);
    return st;
}

enum status index_rebuild_add(struct index_rebuild *r, const struct index_entry *entries, size_t count, struct err *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < count; i++) {
        const struct index_entry *e = &entries[i];
        if (e->version.tx_id < r->range.first || e->version.tx_id > r->range.last || e->ns >= INDEX_NAMESPACES_MAX ||
            e->key.len > INDEX_KEY_LEN_MAX || e->version.entry_index > INDEX_ENTRY_INDEX_MAX || (i > 0 && e->version.tx_id < e[-1].version.tx_id))
            return err_set(err, ST_INVALID, 0, "index: tx %llu does not belong here in the rebuilt range", (unsigned long long)e->version.tx_id);
    }
    for (size_t i = 0; i < count && st == ST_OK;) {
        uint64_t tx_id = entries[i].version.tx_id;
        size_t n = index_slice_len(entries + i, count - i);

        if (tx_id < r->first) {
            i++; /* a repeated call: this tx is in a run already */
            continue;
        }
        if (tx_id > r->mem->tx_last && tx_id > r->first &&
            (atomic_load_explicit(&r->mem->bytes, memory_order_relaxed) >= r->x->memtable_bytes_max || !memtable_takes_tx(r->mem, tx_id))) {
            st = spill(r, tx_id - 1, err);
            continue;
        }
        if (!memtable_takes_tx(r->mem, entries[i + n - 1].version.tx_id))
            n = 1; /* ids far apart */
        st = memtable_insert(r->mem, entries + i, n, err);
        i += n;
    }
    return st == ST_OK ? ST_OK
                       : err_while(err, st, "rebuilding transactions %llu to %llu of the index", (unsigned long long)r->range.first,
                                   (unsigned long long)r->range.last);
}

enum status index_rebuild_finish(struct index_rebuild *r, struct err *err)
{
    enum status st = r->first <= r->range.last ? spill(r, r->range.last, err) : ST_OK;

    index_rebuild_abort(r);
    return st;
}

void index_rebuild_abort(struct index_rebuild *r)
{
    if (r == NULL)
        return;
    memtable_destroy(r->mem);
    free(r);
}
