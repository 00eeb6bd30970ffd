/* Memtable: chunks, version lists of a key, and reading. Insertion is in memtable_insert.c. */
#include "index/memtable_internal.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>

/* --- chunks --- */

#define MEM_CHUNK_BYTES_MIN ((size_t)16 << 10)

/* Chunks double up to 2 MiB, so that an idle database holds little; full-size ones are aligned and ask for huge pages,
 * since a random read otherwise pays for a miss in the page tables as well. */
static void *chunk_create(size_t len)
{
    void *chunk;

    if (len < MEM_CHUNK_BYTES_MAX)
        return malloc(len);
    chunk = aligned_alloc(MEM_CHUNK_BYTES_MAX, len);
    if (chunk != NULL)
        (void)madvise(chunk, len, MADV_HUGEPAGE); /* only advice: without it everything works, slower */
    return chunk;
}

static bool chunk_add(struct memtable *m, size_t need)
{
    size_t len = MEM_CHUNK_BYTES_MIN;

    if (m->chunk_count == MEM_CHUNKS_MAX)
        return false;
    while (len < need || (len < MEM_CHUNK_BYTES_MAX && len < atomic_load_explicit(&m->bytes, memory_order_relaxed)))
        len *= 2;
    assert(len <= MEM_CHUNK_BYTES_MAX);
    if ((m->chunks[m->chunk_count] = chunk_create(len)) == NULL)
        return false;
    budget_take(m->budget, BUDGET_MEMTABLE, len);
    atomic_fetch_add_explicit(&m->bytes, len, memory_order_relaxed);
    m->chunk_used = m->chunk_count == 0 ? 8 : 0;
    m->chunk_len = (uint32_t)len;
    m->chunk_count++;
    return true;
}

uint32_t mem_alloc(struct memtable *m, size_t len)
{
    uint32_t ref;

    len = (len + 7) & ~(size_t)7;
    if (len > m->chunk_len - m->chunk_used && !chunk_add(m, len))
        return 0;
    ref = ((m->chunk_count - 1) << MEM_OFFSET_BITS) | (m->chunk_used >> 3);
    m->chunk_used += (uint32_t)len;
    return ref;
}

enum status memtable_create(struct budget *budget, uint64_t tx_base, struct memtable **out, struct err *err)
{
    struct memtable *m = calloc(1, sizeof *m);
    uint32_t root = 0;

    *out = NULL;
    if (m != NULL) {
        m->budget = budget;
        m->tx_base = tx_base;
        m->flushed_upto = tx_base - 1;
        m->refs = 1;
        root = mem_alloc(m, sizeof(struct mem_node));
    }
    if (root == 0) {
        memtable_destroy(m);
        return err_set(err, ST_NOMEM, 0, "no memory for a memtable");
    }
    memset(mem_at(m, root), 0, sizeof(struct mem_node));
    MEM_STORE(m->root, root);
    *out = m;
    return ST_OK;
}

void memtable_destroy(struct memtable *m)
{
    if (m == NULL)
        return;
    for (uint32_t i = 0; i < m->chunk_count; i++)
        free(m->chunks[i]);
    budget_give(m->budget, BUDGET_MEMTABLE, atomic_load_explicit(&m->bytes, memory_order_relaxed));
    free(m);
}

/* --- nodes --- */

/* Compares beyond the bytes that the heads have decided: key against the record. */
static int key_compare(const struct mem_key *k, struct index_key key) { return index_key_compare(mem_key_key(k), key); }

uint32_t mem_node_search(const struct memtable *m, const struct mem_node *n, struct index_key key, bool *equal)
{
    uint32_t count = MEM_LOAD(n->count);
    uint64_t head = mem_head(key, MEM_LOAD(n->skip));
    uint32_t low = 0, len = count, high;

    *equal = false;
    /* lower bound by heads, without branches that cannot be predicted */
    while (len > 1) {
        uint32_t half = len / 2;
        low += MEM_LOAD(n->heads[low + half - 1]) < head ? half : 0;
        len -= half;
    }
    if (len == 1 && MEM_LOAD(n->heads[low]) < head)
        low++;
    if (low >= count || MEM_LOAD(n->heads[low]) != head)
        return low;
    /* equal heads: [low, high), looked at by whole keys; ascending insertion ends behind them */
    if (MEM_LOAD(n->heads[count - 1]) == head) {
        uint32_t ref = MEM_LOAD(n->refs[count - 1]);
        int c = ref == 0 ? 0 : key_compare(mem_key_at(m, ref), key);
        if (c < 0)
            return count;
        if (c == 0) {
            *equal = true;
            return count - 1;
        }
        high = count - 1;
    } else {
        for (high = low + 1; high < count && MEM_LOAD(n->heads[high]) == head; high++)
            ;
    }
    while (low < high) {
        uint32_t mid = (low + high) / 2, ref = MEM_LOAD(n->refs[mid]);
        int c = ref == 0 ? 0 : key_compare(mem_key_at(m, ref), key); /* 0 only in a torn read, validated away */
        if (c == 0) {
            *equal = true;
            return mid;
        }
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

uint32_t mem_node_begin(const struct mem_node *n)
{
    for (unsigned spins = 1;; spins++) {
        uint32_t seq = MEM_LOAD(n->seq);
        if ((seq & 1) == 0)
            return seq;
        if (spins % 64 == 0) /* the writer lost its CPU inside a change of some 50 ns */
            sched_yield();
    }
}

static void node_prefetch(const struct mem_node *n)
{
    const char *p = (const char *)n;
    for (size_t at = 0; at < sizeof(struct mem_node); at += 64)
        __builtin_prefetch(p + at);
}

/* Follows key down to its leaf; false when the writer got in between. With below, to the leaf of the keys just below key. */
static bool descend(const struct memtable *m, struct index_key key, bool below, bool last, struct mem_node **leaf, uint32_t *seq)
{
    uint32_t root = MEM_LOAD(m->root);
    struct mem_node *n = mem_node_at(m, root);
    uint32_t v = mem_node_begin(n);

    if (MEM_LOAD(m->root) != root)
        return false;
    while (n->is_inner) {
        bool equal;
        uint32_t i, ref, child_v;
        struct mem_node *child;

        i = last ? MEM_LOAD(n->count) : mem_node_search(m, n, key, &equal);
        if (!last && equal && !below)
            i++; /* keys at or above a separator are right of it */
        ref = MEM_LOAD(mem_inner_of(n)->children[i]);
        if (ref == 0 || !mem_node_valid(n, v))
            return false;
        child = mem_node_at(m, ref);
        node_prefetch(child);
        child_v = mem_node_begin(child);
        if (!mem_node_valid(n, v))
            return false;
        n = child;
        v = child_v;
    }
    *leaf = n;
    *seq = v;
    return true;
}

const struct mem_key *memtable_find(const struct memtable *m, struct index_key key)
{
    for (;;) {
        struct mem_node *leaf;
        uint32_t seq, i, ref;
        bool equal;

        if (!descend(m, key, false, false, &leaf, &seq))
            continue;
        i = mem_node_search(m, leaf, key, &equal);
        ref = equal ? MEM_LOAD(leaf->refs[i]) : 0;
        if (mem_node_valid(leaf, seq))
            return equal ? mem_key_at(m, ref) : NULL;
    }
}

/* --- versions --- */

static void version_decode(const struct memtable *m, const struct mem_version *v, struct index_version *out)
{
    out->tx_id = m->tx_base + v->tx_delta;
    out->entry_index = v->entry >> 2;
    out->is_deleted = (v->entry & 1) != 0;
    out->has_expiry = (v->entry & 2) != 0;
    out->value_len = v->value_len;
    out->expires_at = 0;
    if (out->has_expiry) {
        const struct mem_expiry *x = mem_at(m, v->value_len);
        out->value_len = x->value_len;
        out->expires_at = x->expires_at;
    }
}

/* The newest segment that starts at or below the nth version, nth >= 1. */
static const struct mem_segment *segment_of(const struct memtable *m, const struct mem_key *k, uint32_t nth)
{
    const struct mem_segment *s = mem_at(m, MEM_LOAD(k->more));

    while (s->first > nth) {
        const struct mem_segment *far = mem_at(m, s->jump);
        s = far->first > nth ? far : mem_at(m, s->prev);
    }
    return s;
}

static const struct mem_version *version_at(const struct memtable *m, const struct mem_key *k, uint32_t nth)
{
    const struct mem_segment *s;

    if (nth == 0)
        return &k->first;
    s = segment_of(m, k, nth);
    return &s->versions[nth - s->first];
}

void memtable_version_nth(const struct memtable *m, const struct mem_key *k, uint64_t nth, struct index_version *out)
{
    assert(nth < MEM_LOAD(k->count));
    version_decode(m, version_at(m, k, (uint32_t)nth), out);
}

uint64_t memtable_versions_upto(const struct memtable *m, const struct mem_key *k, uint64_t upto, struct index_version *out)
{
    uint32_t count = MEM_LOAD(k->count), low, high, delta;
    const struct mem_segment *s;
    const struct mem_version *v;

    if (upto < m->tx_base)
        return 0;
    delta = upto - m->tx_base > MEM_TX_DELTA_MAX ? MEM_TX_DELTA_MAX : (uint32_t)(upto - m->tx_base);
    if (k->first.tx_delta > delta)
        return 0;
    v = version_at(m, k, count - 1);
    if (v->tx_delta > delta) {
        /* the first version is in, the last is not: so there is a segment */
        for (s = segment_of(m, k, count - 1); s->versions[0].tx_delta > delta && s->first > 1;) {
            const struct mem_segment *far = mem_at(m, s->jump);
            s = far->versions[0].tx_delta > delta ? far : mem_at(m, s->prev);
        }
        low = 0; /* versions of s in the view */
        high = count - s->first < s->cap ? count - s->first : s->cap;
        while (low < high) {
            uint32_t mid = (low + high) / 2;
            if (s->versions[mid].tx_delta <= delta)
                low = mid + 1;
            else
                high = mid;
        }
        count = s->first + low;
        v = low == 0 ? &k->first : &s->versions[low - 1];
        if (low == 0)
            assert(s->first == 1);
    }
    if (out != NULL)
        version_decode(m, v, out);
    return count;
}

/* --- walking --- */

/* Copies the leaf that key leads to; positions are set so that the keys on the wanted side of key come next. */
static bool leaf_copy(struct mem_iter *it, struct index_key key, bool inclusive, bool last)
{
    const struct memtable *m = it->m;
    struct mem_node *leaf;
    uint32_t seq, i, n, refs[MEM_NODE_SLOTS];
    bool equal = false, below = it->desc && !inclusive;

    if (!descend(m, key, below, last, &leaf, &seq))
        return false;
    n = MEM_LOAD(leaf->count);
    i = last ? n : mem_node_search(m, leaf, key, &equal);
    if (n > MEM_NODE_SLOTS || i > n)
        return false;
    if (equal && inclusive == it->desc)
        i++; /* asc: skip the key itself; desc: take it too */
    it->fence = it->desc ? leaf->low : MEM_LOAD(leaf->high);
    for (uint32_t k = it->desc ? 0 : i; k < (it->desc ? i : n); k++)
        refs[k] = MEM_LOAD(leaf->refs[k]);
    if (!mem_node_valid(leaf, seq))
        return false;
    it->pos = 0;
    it->count = it->desc ? i : n - i;
    for (uint32_t k = 0; k < it->count; k++)
        it->keys[k] = mem_key_at(m, it->desc ? refs[i - 1 - k] : refs[i + k]);
    for (uint32_t k = 0; k < it->count && k < 8; k++)
        __builtin_prefetch(it->keys[k]);
    return true;
}

void mem_iter_seek(struct mem_iter *it, const struct memtable *m, struct index_key key, bool inclusive, bool desc, bool last)
{
    it->m = m;
    it->desc = desc;
    while (!leaf_copy(it, key, inclusive, last))
        ;
}

const struct mem_key *mem_iter_next_leaf(struct mem_iter *it)
{
    while (it->pos == it->count) {
        struct index_key fence;

        if (it->fence == 0)
            return NULL;
        fence = mem_key_key(mem_key_at(it->m, it->fence));
        /* asc: the next leaf begins at the fence; desc: the leaf before holds what is strictly below it */
        while (!leaf_copy(it, fence, !it->desc, false))
            ;
    }
    return it->keys[it->pos++];
}
