/* The merge of several sources: a binary heap over the current key of each, equal keys in the order of the sources' age.
 *
 * A source is moved on only when the next key is asked for, so that key and versions of the current one stay readable. */
#include "index/source.h"

#include "index/memtable_internal.h"

#include <assert.h>
#include <stdlib.h>

enum status key_versions_copy(const struct key_versions *v, uint64_t from, size_t count, struct index_version *out, struct err *err)
{
    if (v->mem == NULL)
        return run_versions_copy(&v->run, from, count, out, err);
    for (size_t i = 0; i < count; i++)
        memtable_version_nth(v->mem, v->record, from + i, &out[i]);
    return ST_OK;
}

/* Does source a come before b? */
static bool before(const struct multi *m, uint32_t a, uint32_t b)
{
    const struct multi_source *x = &m->sources[a], *y = &m->sources[b];
    int c = x->head != y->head ? (x->head < y->head ? -1 : 1) : index_key_compare(x->key, y->key);

    if (c == 0)
        return a < b;
    return m->desc ? c > 0 : c < 0;
}

static void sift_down(struct multi *m, uint32_t i)
{
    uint32_t moving = m->heap[i];

    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= m->heap_len)
            break;
        if (child + 1 < m->heap_len && before(m, m->heap[child + 1], m->heap[child]))
            child++;
        if (!before(m, m->heap[child], moving))
            break;
        m->heap[i] = m->heap[child];
        i = child;
    }
    m->heap[i] = moving;
}

static void sift_up(struct multi *m, uint32_t i)
{
    uint32_t moving = m->heap[i];

    while (i > 0 && before(m, moving, m->heap[(i - 1) / 2])) {
        m->heap[i] = m->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    m->heap[i] = moving;
}

static bool is_beyond(const struct multi *m, struct index_key key)
{
    int c;

    if (key.ns != m->ns)
        return true;
    if (!m->has_stop)
        return false;
    c = m->desc ? bytes_compare(m->stop, key.key) : bytes_compare(key.key, m->stop);
    return c > 0 || (c == 0 && !m->stop_inclusive);
}

/* Reads the source's next key. */
static enum status source_next(struct multi *m, struct multi_source *s, struct err *err)
{
    enum status st;

    if (s->is_mem) {
        const struct mem_key *k = mem_iter_next(&s->iter.mem);
        s->is_done = k == NULL;
        if (k == NULL)
            return ST_OK;
        s->versions.record = k;
        s->key = mem_key_key(k);
    } else {
        st = run_iter_next(&s->iter.run, err);
        s->is_done = st == ST_NOT_FOUND;
        if (st != ST_OK)
            return s->is_done ? ST_OK : st;
        s->key = s->iter.run.key;
        s->versions.run = s->iter.run.versions;
    }
    if (m->in_ns && is_beyond(m, s->key))
        s->is_done = true; /* what is left in the heap shares `skip` bytes */
    else
        s->head = mem_head(s->key, m->skip);
    return ST_OK;
}

static enum status source_start(struct multi *m, uint32_t i, const struct multi_range *range, struct err *err)
{
    struct multi_source *s = &m->sources[i];
    enum status st = ST_OK;

    if (s->is_mem)
        mem_iter_seek(&s->iter.mem, s->versions.mem, range->start, range->inclusive, range->desc, range->last);
    else
        st = run_iter_seek(&s->iter.run, range->start, range->inclusive, range->last, err);
    if (st != ST_OK || (st = source_next(m, s, err)) != ST_OK)
        return st;
    if (!s->is_done) {
        m->heap[m->heap_len] = i;
        sift_up(m, m->heap_len++);
    }
    return ST_OK;
}

enum status multi_open(struct memtable *const *mems, size_t mem_count, struct run *const *runs, size_t run_count, const struct multi_range *range,
                       bool direct, struct multi **out, struct err *err)
{
    size_t count = mem_count + run_count;
    struct multi *m = malloc(sizeof *m + count * (sizeof *m->sources + 2 * sizeof *m->heap));
    enum status st = ST_OK;

    *out = NULL;
    if (m == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory for walking the index");
    *m = (struct multi){.desc = range->desc,
                        .in_ns = range->in_ns,
                        .has_stop = range->has_stop,
                        .stop_inclusive = range->stop_inclusive,
                        .ns = range->ns,
                        .stop = range->stop,
                        .skip = range->skip};
    m->sources = (struct multi_source *)(void *)(m + 1);
    m->heap = (uint32_t *)(void *)(m->sources + count);
    m->members = m->heap + count;
    for (size_t i = 0; i < mem_count; i++) {
        struct multi_source *s = &m->sources[m->count++];
        s->is_mem = true;
        s->is_done = false;
        s->versions.mem = mems[i];
    }
    for (size_t i = 0; i < run_count; i++) {
        struct multi_source *s = &m->sources[m->count];
        if (runs[i] == NULL)
            continue;
        m->count++;
        s->is_mem = false;
        s->is_done = false;
        s->versions.mem = NULL;
        s->versions.record = NULL;
        run_iter_init(&s->iter.run, runs[i], range->desc, direct);
    }
    for (uint32_t i = 0; i < m->count && st == ST_OK; i++)
        st = source_start(m, i, range, err);
    if (st == ST_OK)
        *out = m;
    else
        multi_close(m);
    return st;
}

void multi_close(struct multi *m)
{
    if (m == NULL)
        return;
    for (uint32_t i = 0; i < m->count; i++) {
        if (!m->sources[i].is_mem)
            run_iter_close(&m->sources[i].iter.run);
    }
    free(m);
}

/* Moves the sources of the key that was current on. Only the heap's top can be among them, one after the other. */
static enum status members_leave(struct multi *m, struct err *err)
{
    for (; m->member_count > 0; m->member_count--) {
        uint32_t i = m->members[m->member_count - 1];
        enum status st = source_next(m, &m->sources[i], err);

        if (st != ST_OK)
            return st;
        if (!m->sources[i].is_done) {
            m->heap[m->heap_len] = i;
            sift_up(m, m->heap_len++);
        }
    }
    return ST_OK;
}

/* The usual case, a key in a single source, keeps the source at the heap's top and sifts it down once. */
static enum status single_leave(struct multi *m, struct err *err)
{
    uint32_t i = m->members[0];
    enum status st = source_next(m, &m->sources[i], err);

    m->member_count = 0;
    if (st != ST_OK)
        return st;
    if (m->sources[i].is_done)
        m->heap[0] = m->heap[--m->heap_len];
    if (m->heap_len > 1)
        sift_down(m, 0);
    return ST_OK;
}

static bool top_is(const struct multi *m, const struct multi_source *s)
{
    const struct multi_source *top = &m->sources[m->heap[0]];

    return top->head == s->head && index_key_compare(top->key, s->key) == 0;
}

/* Is there a second source with the key of the heap's top? Its children in the heap would show it. */
static bool top_repeats(const struct multi *m)
{
    const struct multi_source *top = &m->sources[m->heap[0]];

    for (uint32_t i = 1; i <= 2 && i < m->heap_len; i++) {
        const struct multi_source *s = &m->sources[m->heap[i]];
        if (s->head == top->head && index_key_compare(s->key, top->key) == 0)
            return true;
    }
    return false;
}

enum status multi_next(struct multi *m, struct err *err)
{
    enum status st = m->failed;

    if (st != ST_OK)
        return err_set(err, st, 0, "walking the index failed before");
    if (m->member_count == 1 && m->heap_len > 0 && m->heap[0] == m->members[0])
        st = single_leave(m, err);
    else if (m->member_count > 0)
        st = members_leave(m, err);
    if (st != ST_OK)
        return m->failed = st;
    if (m->heap_len == 0)
        return ST_NOT_FOUND;
    m->members[m->member_count++] = m->heap[0];
    if (!top_repeats(m))
        return ST_OK;
    do { /* take all that have it out of the heap, newest first */
        m->members[m->member_count - 1] = m->heap[0];
        m->heap[0] = m->heap[--m->heap_len];
        if (m->heap_len > 1)
            sift_down(m, 0);
        m->member_count++;
    } while (m->heap_len > 0 && top_is(m, &m->sources[m->members[m->member_count - 2]]));
    m->member_count--;
    return ST_OK;
}

uint64_t multi_skip_blocks(struct multi *m, const struct index_key *limit, uint64_t upto)
{
    struct multi_source *s;
    struct run_iter *it;
    uint32_t count, below;
    struct index_key next = {0};
    bool has_next = false;
    uint64_t keys;

    if (m->failed != ST_OK || m->desc || m->member_count != 1 || m->heap_len == 0 || m->heap[0] != m->members[0])
        return 0;
    s = &m->sources[m->heap[0]];
    it = &s->iter.run;
    if (s->is_mem || it->is_done || it->run->id.tx_last > upto ||
        it->entry != block_count(it->block.data)) /* the current key must be the block's last */
        return 0;
    count = block_items(it->fence.data);
    for (uint32_t i = 1; i <= 2 && i < m->heap_len; i++) { /* the lowest key of all other sources */
        struct index_key k = m->sources[m->heap[i]].key;
        if (!has_next || index_key_compare(k, next) < 0)
            next = k;
        has_next = true;
    }
    if (limit != NULL && (!has_next || index_key_compare(*limit, next) < 0)) {
        next = *limit;
        has_next = true;
    }
    /* blocks that end at or below `next`: those before the last whose separator is not above it */
    below = has_next ? fence_search(it->fence.data, next, false) : count;
    for (keys = 0; it->at + 2 < below; keys += fence_item_at(it->fence.data, it->at).keys)
        it->at++;
    return keys;
}
