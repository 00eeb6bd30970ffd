/* Snapshots and what is read of one key: latest, as of a tx, by revision, history.
 *
 * Sources are ordered by age and their tx ranges do not overlap, so a version's revision is its ordinal in its source plus the counts of
 * the key in all older sources. The latter sum is kept at the key's record in the memtable once it is known. */
#include "index/index_internal.h"

#include <assert.h>
#include <stdlib.h>

enum status index_snapshot_open(struct index *x, uint64_t tx_id, struct index_snapshot **out, struct err *err)
{
    uint64_t published = index_published(x); /* before the set is taken: the set then holds all of it */
    struct index_snapshot *s;

    *out = NULL;
    if (tx_id > published)
        return err_set(err, ST_INVALID, 0, "index: no snapshot as of tx %llu, %llu is the latest", (unsigned long long)tx_id,
                       (unsigned long long)published);
    if ((s = malloc(sizeof *s)) == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory for an index snapshot");
    s->x = x;
    s->tx_id = tx_id == 0 ? published : tx_id;
    s->set = index_set_hold(x);
    atomic_fetch_add_explicit(&x->snapshots_open, 1, memory_order_relaxed);
    *out = s;
    return ST_OK;
}

void index_snapshot_close(struct index_snapshot *s)
{
    if (s == NULL)
        return;
    index_set_release(s->x, s->set);
    atomic_fetch_sub_explicit(&s->x->snapshots_open, 1, memory_order_relaxed);
    free(s);
}

uint64_t index_snapshot_tx(const struct index_snapshot *s) { return s->tx_id; }

/* --- a key through the sources, newest first --- */

struct probe {
    const struct index_set *set;
    struct index_key key;
    uint64_t hash;
    bool has_hash, nowait;
    size_t at;             /* next source: memtables, then runs */
    struct run_pins *pins; /* may be NULL */
    struct key_versions versions;
    struct run_block block; /* what versions borrows */
};

static void probe_init(struct probe *p, const struct index_snapshot *s, uint32_t ns, struct bytes key, bool nowait, struct run_pins *pins)
{
    *p = (struct probe){.set = s->set, .key = {ns, key}, .nowait = nowait, .pins = pins};
}

static void probe_close(struct probe *p)
{
    if (p->block.is_pinned)
        run_block_put(p->versions.run.run, &p->block);
}

/* Moves to the next older source that has the key; ST_NOT_FOUND when none is left. */
static enum status probe_next(struct probe *p, struct err *err)
{
    size_t mems = p->set->mem_count;

    probe_close(p);
    for (; p->at < mems; p->at++) {
        const struct mem_key *k = memtable_find(p->set->mems[p->at], p->key);
        if (k != NULL) {
            p->versions.mem = p->set->mems[p->at++];
            p->versions.record = k;
            return ST_OK;
        }
    }
    if (!p->has_hash && p->set->source_count > 0) {
        p->hash = index_key_hash(p->key);
        p->has_hash = true;
    }
    for (; p->at < mems + p->set->source_count; p->at++) {
        bool found;
        enum status st = run_find(p->set->sources[p->at - mems], p->key, p->hash, p->nowait, p->pins, &found, &p->versions.run, &p->block, err);

        if (st != ST_OK)
            return st;
        if (found) {
            p->versions.mem = NULL;
            p->at++;
            return ST_OK;
        }
    }
    return ST_NOT_FOUND;
}

/* Number of versions in the source the probe stands at. All of them are older than anything found before. */
static uint64_t probe_count(const struct probe *p)
{
    return p->versions.mem != NULL ? atomic_load_explicit(&p->versions.record->count, memory_order_acquire) : p->versions.run.payload.count;
}

/* Adds the versions in all sources older than the one the probe stands at. */
static enum status older_count(struct probe *p, uint64_t *sum, struct err *err)
{
    const struct mem_key *record = p->versions.mem == NULL ? NULL : p->versions.record;
    /* With a hole in the index the sum is not the whole one, and must agree with what else is read meanwhile. */
    bool may_keep = record != NULL && !p->set->has_gap;
    uint64_t older = may_keep ? atomic_load_explicit(&record->older, memory_order_relaxed) : 0;
    enum status st;

    *sum = 0;
    if (older > 0) {
        *sum = older - 1;
        return ST_OK;
    }
    while ((st = probe_next(p, err)) == ST_OK)
        *sum += probe_count(p);
    if (st != ST_NOT_FOUND)
        return st;
    if (may_keep && *sum < UINT32_MAX) /* it never changes */
        atomic_store_explicit((_Atomic uint32_t *)(uintptr_t)&record->older, (uint32_t)*sum + 1, memory_order_relaxed);
    return ST_OK;
}

static enum status key_get(const struct index_snapshot *s, struct run_pins *pins, uint32_t ns, struct bytes key, uint64_t upto, bool nowait,
                           struct index_version *out, uint64_t *revision, struct err *err)
{
    uint64_t count = 0, older = 0;
    struct probe p;
    enum status st;

    probe_init(&p, s, ns, key, nowait, pins);
    while ((st = probe_next(&p, err)) == ST_OK) {
        if ((st = key_versions_upto(&p.versions, upto, nowait, &count, out, err)) != ST_OK || count > 0)
            break;
    }
    if (st == ST_OK && revision != NULL) {
        st = older_count(&p, &older, err);
        *revision = count + older;
    }
    probe_close(&p);
    return st;
}

enum status index_get_at(struct index_snapshot *s, uint32_t ns, struct bytes key, uint64_t upto, bool nowait, struct index_version *out,
                         uint64_t *revision, struct err *err)
{
    return key_get(s, NULL, ns, key, upto < s->tx_id ? upto : s->tx_id, nowait, out, revision, err);
}

enum status index_get(struct index_snapshot *s, uint32_t ns, struct bytes key, bool nowait, struct index_version *out, uint64_t *revision,
                      struct err *err)
{
    return key_get(s, NULL, ns, key, s->tx_id, nowait, out, revision, err);
}

struct index_pins {
    struct index_snapshot *snapshot;
    struct run_pins runs;
};

struct index_pins *index_pins_create(struct index_snapshot *s)
{
    struct index_pins *pins = calloc(1, sizeof *pins);

    if (pins != NULL)
        pins->snapshot = s;
    return pins;
}

void index_pins_free(struct index_pins *pins)
{
    if (pins == NULL)
        return;
    run_pins_release(&pins->runs);
    free(pins);
}

enum status index_get_pinned(struct index_snapshot *s, struct index_pins *pins, uint32_t ns, struct bytes key, bool nowait, struct index_version *out,
                             uint64_t *revision, struct err *err)
{
    assert(pins == NULL || pins->snapshot == s);
    return key_get(s, pins == NULL ? NULL : &pins->runs, ns, key, s->tx_id, nowait, out, revision, err);
}

enum status index_version_count(struct index_snapshot *s, uint32_t ns, struct bytes key, uint64_t *count, struct err *err)
{
    struct index_version v;
    enum status st = key_get(s, NULL, ns, key, s->tx_id, false, &v, count, err);

    if (st != ST_NOT_FOUND)
        return st;
    *count = 0;
    return ST_OK;
}

/* Versions from .. to - 1 of the key, counted from 0, oldest first, into out. They lie in the snapshot; total is its count. */
static enum status versions_range(const struct index_snapshot *s, struct index_key key, uint64_t total, uint64_t from, uint64_t to,
                                  struct index_version *out, struct err *err)
{
    uint64_t end = total; /* of the source at hand, in ordinals of the key */
    struct index_version v;
    uint64_t count;
    struct probe p;
    enum status st = ST_OK;

    probe_init(&p, s, key.ns, key.key, false, NULL);
    while (end > from && (st = probe_next(&p, err)) == ST_OK) {
        uint64_t start, low, high;

        if ((st = key_versions_upto(&p.versions, s->tx_id, false, &count, &v, err)) != ST_OK)
            break;
        assert(count <= end);
        start = end - count;
        low = from > start ? from : start;
        high = to < end ? to : end;
        if (low < high && (st = key_versions_copy(&p.versions, low - start, (size_t)(high - low), out + (low - from), err)) != ST_OK)
            break;
        end = start;
    }
    probe_close(&p);
    return st;
}

enum status index_get_revision(struct index_snapshot *s, uint32_t ns, struct bytes key, uint64_t revision, struct index_version *out, struct err *err)
{
    uint64_t total;
    enum status st = index_version_count(s, ns, key, &total, err);

    if (st != ST_OK)
        return st;
    if (revision == 0 || revision > total)
        return ST_NOT_FOUND;
    return versions_range(s, (struct index_key){ns, key}, total, revision - 1, revision, out, err);
}

enum status index_history(struct index_snapshot *s, uint32_t ns, struct bytes key, bool desc, uint64_t offset, struct index_version *out,
                          size_t out_max, size_t *out_count, uint64_t *total, struct err *err)
{
    uint64_t all, n, from;
    enum status st;

    *out_count = 0;
    *total = 0;
    if ((st = index_version_count(s, ns, key, &all, err)) != ST_OK)
        return st;
    *total = all;
    if (offset >= all || out_max == 0)
        return ST_OK;
    n = all - offset < out_max ? all - offset : out_max;
    from = desc ? all - offset - n : offset;
    if ((st = versions_range(s, (struct index_key){ns, key}, all, from, from + n, out, err)) != ST_OK)
        return st;
    for (uint64_t i = 0; desc && i < n / 2; i++) {
        struct index_version v = out[i];
        out[i] = out[n - 1 - i];
        out[n - 1 - i] = v;
    }
    *out_count = (size_t)n;
    return ST_OK;
}
