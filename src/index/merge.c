/* Runs become fewer: merging of neighbours, in steps.
 *
 * Which ones: each run has a depth, how often its data was merged. When there are more than runs_max, the newest stretch of at least two
 * neighbouring runs of the smallest possible depth D or less becomes one run of depth D + 1. With k runs allowed an entry is
 * written about d times where C(k + d, d) flushes came in: 12 runs and 450 flushes, 3 times and once at flush. Runs much larger than what
 * would be merged with them are left out. Neighbours that are small together (hot keys leave such runs: the log's growth flushes them, not
 * their own size) are merged at once: every read of a key with its revision asks every run, and merging them costs next to nothing.
 *
 * Only neighbours whose ranges touch are merged (a merged range must not cover a hole), and none that repeats a memtable.
 * A merge goes on step by step, so that the same thread can flush in between, and a smaller merge of newer runs may be
 * started before a large one is done: writers never wait for gigabytes. A step grows with what was flushed before it: else merges, which write
 * an entry about twice, fall behind for as long as flushes follow each other. */
#include "index/index_internal.h"

#include <assert.h>
#include <stdlib.h>

#define MERGE_STEP_BYTES ((uint64_t)4 << 20)
#define MERGE_STEP_BYTES_MAX ((uint64_t)32 << 20)
#define MERGES_OPEN_MAX 4u
#define MERGE_SIZE_RATIO 8u
#define MERGE_SMALL_BYTES ((uint64_t)4 << 20)

struct merge_job {
    struct merge_job *next;
    struct set_run *inputs; /* ascending; each with a reference of ours */
    size_t input_count;
    uint8_t depth;
    struct multi *walk;
    struct run_writer *writer;
    uint64_t run_id;
    struct index_version *versions; /* VERSION_PAGE_MAX */
};

/* --- choosing --- */

static bool is_free(const struct set_run *r) { return r->run == NULL || !r->run->is_merging; }

static bool touches(const struct set_run *older, const struct set_run *newer) { return older->info.tx_last + 1 == newer->info.tx_first; }

/* Runs that may take part: those below the oldest memtable. */
static size_t visible_count(const struct index_set *s)
{
    uint64_t base = s->mems[s->mem_count - 1]->tx_base;
    size_t n = s->run_count;

    while (n > 0 && s->runs[n - 1].info.tx_first >= base)
        n--;
    return n;
}

/* The newest stretch [*from, *to) of free neighbours no deeper than depth, at least two. */
static bool stretch_find(const struct index_set *s, uint8_t depth, size_t *from, size_t *to)
{
    size_t end = visible_count(s);

    while (end >= 2) {
        size_t first = end;

        while (first > 0 && is_free(&s->runs[first - 1]) && s->runs[first - 1].info.depth <= depth &&
               (first == end || touches(&s->runs[first - 1], &s->runs[first])))
            first--;
        if (end - first >= 2) {
            *from = first;
            *to = end;
            return true;
        }
        end = first == end ? end - 1 : first;
    }
    return false;
}

/* Leaves out the oldest ones while they dwarf the rest. */
static size_t stretch_trim(const struct index_set *s, size_t from, size_t to)
{
    uint64_t rest = 0;

    for (size_t i = from; i < to; i++)
        rest += s->runs[i].info.file_len;
    while (to - from > 2) {
        rest -= s->runs[from].info.file_len;
        if (s->runs[from].info.file_len / MERGE_SIZE_RATIO <= rest)
            break;
        from++;
    }
    return from;
}

/* The newest stretch of at least two free neighbours that are small together. */
static bool small_find(const struct index_set *s, size_t *from, size_t *to, uint64_t *bytes)
{
    for (size_t end = visible_count(s); end >= 2; end--) {
        size_t first = end;

        *bytes = 0;
        while (first > 0 && is_free(&s->runs[first - 1]) && *bytes + s->runs[first - 1].info.file_len <= MERGE_SMALL_BYTES &&
               (first == end || touches(&s->runs[first - 1], &s->runs[first])))
            *bytes += s->runs[--first].info.file_len;
        if (end - first >= 2) {
            *from = first;
            *to = end;
            return true;
        }
    }
    return false;
}

/* Called with x->sets held. */
static bool choose_locked(struct index *x, const struct index_set *s, size_t *from, size_t *to, uint8_t *depth)
{
    size_t merging = 0, jobs = 0, visible = visible_count(s);
    uint64_t bytes;

    if (small_find(s, from, to, &bytes)) {
        *depth = index_depth_of(x, bytes);
        return true;
    }
    for (size_t i = 0; i < visible; i++) {
        if (!is_free(&s->runs[i])) {
            merging++;
            jobs += i == 0 || is_free(&s->runs[i - 1]) || !touches(&s->runs[i - 1], &s->runs[i]);
        }
    }
    if (visible - merging + jobs <= x->runs_max)
        return false;
    for (unsigned d = 0; d <= UINT8_MAX; d++) {
        if (stretch_find(s, (uint8_t)d, from, to)) {
            *from = stretch_trim(s, *from, *to);
            *depth = d < UINT8_MAX ? (uint8_t)(d + 1) : UINT8_MAX;
            return true;
        }
    }
    return false;
}

bool index_wants_merge(const struct index *x)
{
    struct index *own = (struct index *)(uintptr_t)x;
    size_t from, to;
    uint8_t depth;
    bool wants;

    if (atomic_load_explicit(&x->is_merging, memory_order_relaxed))
        return true;
    if (atomic_load_explicit(&x->run_count, memory_order_relaxed) < 2)
        return false;
    pthread_mutex_lock(&own->sets);
    wants = choose_locked(own, own->current, &from, &to, &depth);
    pthread_mutex_unlock(&own->sets);
    return wants;
}

/* --- jobs --- */

static void job_free(struct index *x, struct merge_job *j)
{
    if (j == NULL)
        return;
    multi_close(j->walk);
    run_writer_close(j->writer);
    pthread_mutex_lock(&x->sets);
    for (size_t i = 0; i < j->input_count; i++) {
        if (j->inputs[i].run != NULL)
            j->inputs[i].run->is_merging = false;
    }
    pthread_mutex_unlock(&x->sets);
    for (size_t i = 0; i < j->input_count; i++)
        run_release(x, j->inputs[i].run);
    free(j->inputs);
    free(j->versions);
    free(j);
}

static void job_drop(struct index *x, struct merge_job *j)
{
    struct merge_job **at = &x->merges_open;

    while (*at != j)
        at = &(*at)->next;
    *at = j->next;
    atomic_store(&x->is_merging, x->merges_open != NULL);
    job_free(x, j);
}

void index_merge_abandon(struct index *x)
{
    while (x->merges_open != NULL)
        job_drop(x, x->merges_open);
}

/* Takes the runs [from, to) of s as inputs. Called with x->sets held. */
static struct merge_job *job_claim_locked(const struct index_set *s, size_t from, size_t to, uint8_t depth)
{
    struct merge_job *j = calloc(1, sizeof *j);

    if (j == NULL || (j->inputs = calloc(to - from, sizeof *j->inputs)) == NULL ||
        (j->versions = calloc(VERSION_PAGE_MAX, sizeof *j->versions)) == NULL) {
        if (j != NULL)
            free(j->inputs);
        free(j);
        return NULL;
    }
    j->depth = depth;
    for (size_t i = from; i < to; i++) {
        j->inputs[j->input_count++] = s->runs[i];
        if (s->runs[i].run != NULL) {
            s->runs[i].run->refs++;
            s->runs[i].run->is_merging = true;
        }
    }
    return j;
}

static enum status key_keep(struct grow *to, uint32_t *ns, struct index_key from, struct err *err)
{
    to->len = 0;
    if (!grow_reserve(to, from.key.len + 1))
        return err_set(err, ST_NOMEM, 0, "no memory for an index merge");
    if (from.key.len > 0)
        memcpy(to->data, from.key.data, from.key.len);
    to->len = from.key.len;
    *ns = from.ns;
    return ST_OK;
}

/* The lowest and the highest key of all inputs so far. */
struct key_span {
    struct grow low, high;
    uint32_t low_ns, high_ns;
    bool has;
};

static enum status span_widen(struct key_span *span, struct run *r, bool desc, struct err *err)
{
    struct index_key low = {span->low_ns, bytes_of(span->low.data, span->low.len)}, high = {span->high_ns, bytes_of(span->high.data, span->high.len)};
    struct run_iter it;
    enum status st;

    run_iter_init(&it, r, desc, false);
    st = run_iter_seek(&it, (struct index_key){0, {NULL, 0}}, true, desc, err);
    if (st == ST_OK && (st = run_iter_next(&it, err)) == ST_OK) {
        if (!desc && (!span->has || index_key_compare(it.key, low) < 0))
            st = key_keep(&span->low, &span->low_ns, it.key, err);
        if (desc && (!span->has || index_key_compare(it.key, high) > 0))
            st = key_keep(&span->high, &span->high_ns, it.key, err);
    }
    run_iter_close(&it);
    return st == ST_NOT_FOUND ? ST_OK : st;
}

/* How many bytes of mem_head()'s string all keys of the inputs share: the heads of the walk then hold the bytes that differ. */
static enum status shared_bytes(const struct merge_job *j, uint32_t *out, struct err *err)
{
    struct key_span span = {0};
    enum status st = ST_OK;
    size_t len, i = 0;

    *out = 0;
    for (size_t r = 0; r < j->input_count && st == ST_OK; r++) {
        if (j->inputs[r].run == NULL)
            continue;
        if ((st = span_widen(&span, j->inputs[r].run, false, err)) == ST_OK)
            st = span_widen(&span, j->inputs[r].run, true, err);
        span.has = true;
    }
    if (st == ST_OK && span.low.data != NULL && span.high.data != NULL && span.low_ns == span.high_ns) {
        len = span.low.len < span.high.len ? span.low.len : span.high.len;
        while (i < len && span.low.data[i] == span.high.data[i])
            i++;
        *out = (uint32_t)i + 2;
    }
    grow_free(&span.low);
    grow_free(&span.high);
    return st;
}

static enum status job_start(struct index *x, struct merge_job *j, struct err *err)
{
    struct multi_range all = {.inclusive = true};
    struct run **newest_first = calloc(j->input_count, sizeof(struct run *));
    enum status st;

    if (newest_first == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory for an index merge");
    for (size_t i = 0; i < j->input_count; i++)
        newest_first[i] = j->inputs[j->input_count - 1 - i].run;
    st = shared_bytes(j, &all.skip, err);
    if (st == ST_OK)
        st = multi_open(NULL, 0, newest_first, j->input_count, &all, true, &j->walk, err);
    if (st == ST_OK)
        st = index_writer_open(x, j->inputs[0].info.tx_first, j->inputs[j->input_count - 1].info.tx_last, &j->writer, &j->run_id, err);
    free(newest_first);
    return st;
}

static enum status key_merge(struct merge_job *j, struct err *err)
{
    struct multi *m = j->walk;
    uint64_t total = 0;
    enum status st;

    for (uint32_t i = 0; i < m->member_count; i++)
        total += multi_member(m, i)->run.payload.count;
    st = run_writer_key(j->writer, multi_key(m), total, err);
    for (uint32_t i = m->member_count; i-- > 0 && st == ST_OK;) { /* the oldest first */
        const struct key_versions *v = multi_member(m, i);
        uint64_t count = v->run.payload.count;

        for (uint64_t at = 0; at < count && st == ST_OK;) {
            size_t n = count - at < VERSION_PAGE_MAX ? (size_t)(count - at) : VERSION_PAGE_MAX;

            if ((st = key_versions_copy(v, at, n, j->versions, err)) == ST_OK)
                st = run_writer_versions(j->writer, j->versions, n, err);
            at += n;
        }
    }
    return st;
}

/* The inputs as they stand in the current set now: a neighbour may have been widened, or one quarantined. */
static bool inputs_current(const struct index_set *s, const struct merge_job *j, struct set_run **out)
{
    size_t at = 0;

    while (at < s->run_count && s->runs[at].info.tx_first != j->inputs[0].info.tx_first)
        at++;
    for (size_t i = 0; i < j->input_count; i++, at++) {
        if (at >= s->run_count || s->runs[at].run != j->inputs[i].run || s->runs[at].info.tx_first != j->inputs[i].info.tx_first)
            return false;
        out[i] = &s->runs[at];
    }
    return true;
}

static enum status job_finish(struct index *x, struct merge_job *j, struct err *err)
{
    uint64_t first = j->inputs[0].info.tx_first, last = j->inputs[j->input_count - 1].info.tx_last;
    struct set_run added = {.info = {.tx_first = first, .tx_last = last, .scope = MANIFEST_SCOPE_ALL, .depth = j->depth}};
    struct set_run **removed = calloc(j->input_count, sizeof(struct set_run *));
    struct set_edit e = {.add_run = &added, .remove_runs = removed, .remove_count = j->input_count};
    struct run_writer *w = j->writer;
    struct index_set *s;
    enum status st = ST_OK;

    if (removed == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory for an index merge");
    j->writer = NULL;
    if (run_writer_keys(w) == 0)
        run_writer_close(w); /* bare ranges only */
    else
        st = index_writer_complete(x, w, first, last, j->depth, &added, err);
    if (st != ST_OK)
        goto done;
    index_role_take(x);
    s = index_set_hold(x);
    if (inputs_current(s, j, removed)) {
        added.info.tx_last = removed[j->input_count - 1]->info.tx_last;
        st = index_set_commit(x, &e, err);
    } else {
        if (added.run != NULL)
            atomic_store_explicit(&added.run->is_obsolete, true, memory_order_release);
        st = ST_CANCELLED; /* an input is gone: what is left is merged anew */
    }
    index_set_release(x, s);
    index_role_release(x);
    run_release(x, added.run);
    if (st == ST_OK) {
        atomic_fetch_add(&x->merge_count, 1);
        atomic_fetch_add(&x->merge_bytes, added.info.file_len);
    }
done:
    free(removed);
    return st;
}

/* Goes on with a job for about one step; *done when it is finished. */
static enum status job_step(struct index *x, struct merge_job *j, bool *done, struct err *err)
{
    uint64_t owed = x->merge_owed < MERGE_STEP_BYTES_MAX ? x->merge_owed : MERGE_STEP_BYTES_MAX;
    uint64_t until = run_writer_bytes(j->writer) + (owed > MERGE_STEP_BYTES ? owed : MERGE_STEP_BYTES);
    enum status st = ST_OK;

    *done = false;
    x->merge_owed = 0;
    while (st == ST_OK && run_writer_bytes(j->writer) < until) {
        if (atomic_load_explicit(&x->is_cancelled, memory_order_relaxed))
            return ST_OK; /* the next call says so */
        if ((st = multi_next(j->walk, err)) == ST_OK)
            st = key_merge(j, err);
    }
    if (st != ST_NOT_FOUND)
        return st;
    *done = true;
    return job_finish(x, j, err);
}

static enum status job_open(struct index *x, struct merge_job *j, struct err *err)
{
    enum status st;

    if (j == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory for an index merge");
    j->next = x->merges_open;
    x->merges_open = j;
    atomic_store(&x->is_merging, true);
    if ((st = job_start(x, j, err)) != ST_OK)
        job_drop(x, j);
    return st;
}

/* Starts a merge when there are too many runs. */
static enum status job_begin_wanted(struct index *x, struct err *err)
{
    struct merge_job *j = NULL;
    size_t from, to, open = 0;
    uint8_t depth;
    bool wanted;

    for (struct merge_job *i = x->merges_open; i != NULL; i = i->next)
        open++;
    if (open >= MERGES_OPEN_MAX)
        return ST_OK;
    pthread_mutex_lock(&x->sets);
    wanted = choose_locked(x, x->current, &from, &to, &depth);
    if (wanted)
        j = job_claim_locked(x->current, from, to, depth);
    pthread_mutex_unlock(&x->sets);
    return wanted ? job_open(x, j, err) : ST_OK;
}

enum status index_merge(struct index *x, bool *more, struct err *err)
{
    enum status st;
    bool done = false;

    *more = false;
    index_graveyard_reap(x);
    if (atomic_load(&x->is_cancelled))
        return err_set(err, ST_CANCELLED, 0, "index: closing");
    if ((st = job_begin_wanted(x, err)) != ST_OK)
        goto failed;
    if (x->merges_open != NULL) { /* the newest is the smallest */
        struct merge_job *j = x->merges_open;

        st = job_step(x, j, &done, err);
        if (done || st != ST_OK)
            job_drop(x, j);
        if (done && st == ST_CANCELLED)
            st = ST_OK;
    }
    index_graveyard_reap(x);
    *more = st == ST_OK && index_wants_merge(x);
failed:
    return st == ST_OK ? ST_OK : err_while(err, st, "merging index runs in %s", x->dir);
}

enum status index_compact_begin(struct index *x, struct err *err)
{
    struct merge_job *j;
    enum status st = ST_OK;
    size_t visible, from = 0, to;

    if (atomic_load(&x->is_cancelled))
        return err_set(err, ST_CANCELLED, 0, "index: closing");
    index_merge_abandon(x);
    /* one job for each stretch of touching runs; holes between them are rare and few */
    for (;; from = to) {
        pthread_mutex_lock(&x->sets);
        visible = visible_count(x->current);
        j = NULL;
        for (; from < visible; from = to) {
            for (to = from + 1; to < visible && touches(&x->current->runs[to - 1], &x->current->runs[to]);)
                to++;
            if (to - from >= 2)
                break;
        }
        if (from < visible)
            j = job_claim_locked(x->current, from, to, INDEX_DEPTH_COMPACT);
        pthread_mutex_unlock(&x->sets);
        if (from >= visible)
            break;
        if ((st = job_open(x, j, err)) != ST_OK)
            break;
    }
    return st == ST_OK ? ST_OK : err_while(err, st, "compacting the index in %s", x->dir);
}

enum status index_compact(struct index *x, struct err *err)
{
    enum status st = index_compact_begin(x, err);

    while (st == ST_OK && x->merges_open != NULL) {
        bool more;
        st = index_merge(x, &more, err);
    }
    return st;
}
