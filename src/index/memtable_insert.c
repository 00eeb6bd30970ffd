/* The writer's side of the memtable: new keys, new versions of known keys, splits.
 *
 * A node is changed only between node_lock() and node_unlock(). A leaf is split together with its parent (both locked), so
 * that a reader who came through the parent either sees both or starts over; full inner nodes are split on the way down, which
 * keeps it at two locked nodes. Everything that can fail (memory) is done before the first change. */
#include "index/memtable_internal.h"

/* The writer reads its own stores. */
#define OWN(field) atomic_load_explicit(&(field), memory_order_relaxed)

static void counter_add(_Atomic uint64_t *counter) { atomic_store_explicit(counter, OWN(*counter) + 1, memory_order_relaxed); }

static void node_prefetch(const struct mem_node *n)
{
    for (size_t at = 0; at < sizeof *n; at += 64)
        __builtin_prefetch((const char *)n + at, 1);
}

static void node_lock(struct mem_node *n) { MEM_STORE(n->seq, OWN(n->seq) + 1); }
static void node_unlock(struct mem_node *n) { MEM_STORE(n->seq, OWN(n->seq) + 1); }

/* --- versions --- */

/* Fills v; false when there is no memory for the expiry part. */
static bool version_encode(struct memtable *m, const struct index_version *from, struct mem_version *v)
{
    v->tx_delta = (uint32_t)(from->tx_id - m->tx_base);
    v->entry = from->entry_index << 2 | (from->has_expiry ? 2u : 0) | (from->is_deleted ? 1u : 0);
    v->value_len = from->value_len;
    if (from->has_expiry) {
        struct mem_expiry *x;
        uint32_t ref = mem_alloc(m, sizeof *x);

        if (ref == 0)
            return false;
        x = mem_at(m, ref);
        x->expires_at = from->expires_at;
        x->value_len = from->value_len;
        v->value_len = ref;
    }
    return true;
}

static bool version_same(const struct index_version *a, const struct index_version *b)
{
    return a->tx_id == b->tx_id && a->entry_index == b->entry_index && a->value_len == b->value_len && a->is_deleted == b->is_deleted &&
           a->has_expiry == b->has_expiry && (!a->has_expiry || a->expires_at == b->expires_at);
}

/* A new segment behind the newest one, twice as big; jump pointers as in a skew-binary list. */
static uint32_t segment_create(struct memtable *m, uint32_t prev_ref, uint32_t first)
{
    const struct mem_segment *prev = prev_ref == 0 ? NULL : mem_at(m, prev_ref);
    uint32_t cap = prev == NULL ? 2 : prev->cap < MEM_SEGMENT_CAP_MAX ? prev->cap * 2u : MEM_SEGMENT_CAP_MAX;
    uint32_t ref = mem_alloc(m, sizeof(struct mem_segment) + cap * sizeof(struct mem_version));
    struct mem_segment *s;

    if (ref == 0)
        return 0;
    s = mem_at(m, ref);
    s->first = first;
    s->cap = (uint16_t)cap;
    s->prev = prev == NULL ? ref : prev_ref;
    s->jump = s->prev;
    s->depth = prev == NULL ? 0 : (uint16_t)(prev->depth + 1);
    if (prev != NULL) {
        const struct mem_segment *j = mem_at(m, prev->jump), *jj = mem_at(m, j->jump);
        if (prev->depth - j->depth == j->depth - jj->depth)
            s->jump = prev->jump == prev_ref ? prev_ref : j->jump;
    }
    return ref;
}

static enum status version_append(struct memtable *m, struct mem_key *k, const struct index_entry *e, struct err *err)
{
    uint32_t count = OWN(k->count), more = OWN(k->more), segment = more;
    struct index_version newest;
    struct mem_version v;
    struct mem_segment *s;

    memtable_version_nth(m, k, count - 1, &newest);
    if (e->version.tx_id <= newest.tx_id) {
        struct index_version same;
        if (memtable_versions_upto(m, k, e->version.tx_id, &same) > 0 && version_same(&same, &e->version))
            return ST_OK; /* the caller repeats what ran out of memory half way */
        return err_set(err, ST_INVALID, 0, "index: tx %llu inserted after tx %llu of the same key", (unsigned long long)e->version.tx_id,
                       (unsigned long long)newest.tx_id);
    }
    if (count == UINT32_MAX)
        return err_set(err, ST_LIMIT, 0, "index: too many versions of one key in one memtable");
    s = more == 0 ? NULL : mem_at(m, more);
    if (s == NULL || count - s->first == s->cap) {
        if ((segment = segment_create(m, more, count)) == 0)
            return err_set(err, ST_NOMEM, 0, "no memory for index versions");
        s = mem_at(m, segment);
    }
    if (!version_encode(m, &e->version, &v))
        return err_set(err, ST_NOMEM, 0, "no memory for an index version");
    s->versions[count - s->first] = v;
    if (segment != more)
        MEM_STORE(k->more, segment);
    MEM_STORE(k->count, count + 1);
    counter_add(&m->entry_count);
    return ST_OK;
}

static uint32_t key_create(struct memtable *m, const struct index_entry *e)
{
    uint32_t ref = mem_alloc(m, sizeof(struct mem_key) + e->key.len);
    struct mem_key *k;

    if (ref == 0)
        return 0;
    k = mem_at(m, ref);
    k->ns = (uint16_t)e->ns;
    k->key_len = (uint16_t)e->key.len;
    atomic_init(&k->count, 1);
    atomic_init(&k->more, 0);
    atomic_init(&k->older, 0);
    if (e->key.len > 0)
        memcpy(k->key, e->key.data, e->key.len);
    return version_encode(m, &e->version, &k->first) ? ref : 0;
}

/* --- nodes --- */

static void slot_put(struct mem_node *n, uint32_t i, uint64_t head, uint32_t ref)
{
    uint32_t count = OWN(n->count);

    for (uint32_t j = count; j > i; j--) {
        MEM_STORE(n->heads[j], OWN(n->heads[j - 1]));
        MEM_STORE(n->refs[j], OWN(n->refs[j - 1]));
    }
    MEM_STORE(n->heads[i], head);
    MEM_STORE(n->refs[i], ref);
    MEM_STORE(n->count, count + 1);
}

/* Length of the common prefix of two fences' virtual strings; 0 when one is open. */
static uint32_t fence_skip(const struct memtable *m, uint32_t low, uint32_t high)
{
    const struct mem_key *a, *b;
    uint32_t i = 0, len;

    if (low == 0 || high == 0)
        return 0;
    a = mem_key_at(m, low);
    b = mem_key_at(m, high);
    if (a->ns != b->ns)
        return (a->ns >> 8) == (b->ns >> 8) ? 1 : 0;
    len = a->key_len < b->key_len ? a->key_len : b->key_len;
    while (i < len && a->key[i] == b->key[i])
        i++;
    return i + 2;
}

/* Heads follow the fences; recomputing reads every key, so only when four bytes or more are gained. */
static void node_reskip(const struct memtable *m, struct mem_node *n)
{
    uint32_t skip = fence_skip(m, n->low, OWN(n->high));

    if (skip < OWN(n->skip) + 4)
        return;
    MEM_STORE(n->skip, skip);
    for (uint32_t i = 0; i < OWN(n->count); i++)
        MEM_STORE(n->heads[i], mem_head(mem_key_key(mem_key_at(m, OWN(n->refs[i]))), skip));
}

/* Moves the slots from `from` on to the fresh node right; the key `fence` becomes the border. */
static void node_divide(struct mem_node *left, struct mem_node *right, uint32_t from, uint32_t fence)
{
    uint32_t count = OWN(left->count);

    for (uint32_t i = from; i < count; i++) {
        atomic_init(&right->heads[i - from], OWN(left->heads[i]));
        atomic_init(&right->refs[i - from], OWN(left->refs[i]));
    }
    atomic_init(&right->count, count - from);
    atomic_init(&right->skip, OWN(left->skip));
    atomic_init(&right->high, OWN(left->high));
    right->low = fence;
    MEM_STORE(left->count, from);
    MEM_STORE(left->high, fence);
}

static void parent_link(const struct memtable *m, struct mem_node *parent, uint32_t i, uint32_t fence, uint32_t child)
{
    struct mem_inner *p = mem_inner_of(parent);

    for (uint32_t j = OWN(parent->count) + 1; j > i + 1; j--)
        MEM_STORE(p->children[j], OWN(p->children[j - 1]));
    MEM_STORE(p->children[i + 1], child);
    slot_put(parent, i, mem_head(mem_key_key(mem_key_at(m, fence)), OWN(parent->skip)), fence);
}

static uint32_t node_create(struct memtable *m, bool is_inner)
{
    size_t len = is_inner ? sizeof(struct mem_inner) : sizeof(struct mem_node);
    uint32_t ref = mem_alloc(m, len);

    if (ref != 0) {
        struct mem_node *n = mem_at(m, ref);
        memset(n, 0, len);
        n->is_inner = is_inner;
    }
    return ref;
}

/* Splits the full inner node `n`, child i of parent. */
static bool inner_split(struct memtable *m, struct mem_node *parent, uint32_t i, struct mem_node *n)
{
    /* at the right edge keys tend to ascend: leave the left one nearly full */
    uint32_t mid = OWN(n->high) == 0 ? MEM_NODE_SLOTS - 4 : MEM_NODE_SLOTS / 2, fence = OWN(n->refs[mid]);
    uint32_t ref = node_create(m, true);
    struct mem_inner *right;

    if (ref == 0)
        return false;
    right = mem_at(m, ref);
    node_lock(parent);
    node_lock(n);
    for (uint32_t j = mid + 1; j <= MEM_NODE_SLOTS; j++)
        atomic_init(&right->children[j - mid - 1], OWN(mem_inner_of(n)->children[j]));
    node_divide(n, &right->node, mid + 1, fence);
    MEM_STORE(n->count, mid); /* the separator itself moves up */
    node_reskip(m, n);
    node_reskip(m, &right->node);
    parent_link(m, parent, i, fence, ref);
    node_unlock(n);
    node_unlock(parent);
    return true;
}

/* A root above the present one, which becomes its only child. */
static bool root_grow(struct memtable *m)
{
    uint32_t ref = node_create(m, true);
    struct mem_inner *root;

    if (ref == 0)
        return false;
    root = mem_at(m, ref);
    atomic_init(&root->children[0], OWN(m->root));
    MEM_STORE(m->root, ref);
    return true;
}

/* The leaf of key, all inner nodes above it with room for one more; *parent and *at where the leaf hangs. */
static bool descend_splitting(struct memtable *m, struct index_key key, struct mem_node **parent, uint32_t *at, struct mem_node **leaf)
{
    struct mem_node *up = NULL, *n = mem_node_at(m, OWN(m->root));
    uint32_t i = 0;

    if (!n->is_inner || OWN(n->count) == MEM_NODE_SLOTS) {
        if (!root_grow(m))
            return false;
        up = mem_node_at(m, OWN(m->root));
    }
    while (n->is_inner || up == NULL) {
        bool equal;

        if (OWN(n->count) == MEM_NODE_SLOTS && n->is_inner) {
            if (!inner_split(m, up, i, n))
                return false;
            n = up;
        }
        up = n;
        i = mem_node_search(m, n, key, &equal) + (equal ? 1 : 0);
        n = mem_node_at(m, OWN(mem_inner_of(n)->children[i]));
    }
    *parent = up;
    *at = i;
    *leaf = n;
    return true;
}

/* Splits the full leaf of key and puts record `ref` in. pos: where it belongs in the unsplit leaf. */
static bool leaf_split(struct memtable *m, struct index_key key, uint32_t ref, uint32_t pos, bool ascending)
{
    struct mem_node *parent, *leaf, *right;
    uint32_t i, right_ref, from = MEM_NODE_SLOTS / 2, fence;

    m->splits++;
    if ((right_ref = node_create(m, false)) == 0 || !descend_splitting(m, key, &parent, &i, &leaf))
        return false;
    right = mem_node_at(m, right_ref);
    /* In a stream of ascending (or descending) keys cut where it writes, so that what is left behind is full. */
    if (pos == MEM_NODE_SLOTS || ascending)
        from = pos;
    fence = from == MEM_NODE_SLOTS ? ref : OWN(leaf->refs[from]);
    node_lock(parent);
    node_lock(leaf);
    node_divide(leaf, right, from, fence);
    node_reskip(m, leaf);
    node_reskip(m, right);
    if (pos > from || from == MEM_NODE_SLOTS)
        slot_put(right, pos - from, mem_head(key, OWN(right->skip)), ref);
    else
        slot_put(leaf, pos, mem_head(key, OWN(leaf->skip)), ref);
    parent_link(m, parent, i, fence, right_ref);
    node_unlock(leaf);
    node_unlock(parent);
    if (pos > from || from == MEM_NODE_SLOTS) {
        m->last_leaf = right_ref;
        m->last_pos = pos - from;
    } else {
        m->last_pos = pos;
    }
    return true;
}

/* The leaf of key, without looking at sequence numbers: only the writer changes nodes. */
static uint32_t leaf_find(const struct memtable *m, struct index_key key)
{
    uint32_t ref = OWN(m->root);
    struct mem_node *n = mem_node_at(m, ref);

    while (n->is_inner) {
        bool equal;
        uint32_t i = mem_node_search(m, n, key, &equal);

        ref = OWN(mem_inner_of(n)->children[equal ? i + 1 : i]);
        n = mem_node_at(m, ref);
        node_prefetch(n);
    }
    return ref;
}

static bool leaf_covers(const struct memtable *m, const struct mem_node *leaf, struct index_key key)
{
    uint32_t high = OWN(leaf->high);

    return (leaf->low == 0 || index_key_compare(mem_key_key(mem_key_at(m, leaf->low)), key) <= 0) &&
           (high == 0 || index_key_compare(mem_key_key(mem_key_at(m, high)), key) > 0);
}

static void leaf_noted(struct memtable *m, uint32_t leaf)
{
    if (leaf == m->last_leaf)
        m->hint_credit = m->hint_credit < 4 ? m->hint_credit + 1 : 4;
    else
        m->hint_credit = m->hint_credit > -4 ? m->hint_credit - 1 : -4;
}

/* Where the last key went is where the next one goes, while that keeps being true. */
static uint32_t leaf_find_hinted(struct memtable *m, struct index_key key)
{
    uint32_t ref;

    if (m->hint_credit > 0 && m->last_leaf != 0 && leaf_covers(m, mem_node_at(m, m->last_leaf), key))
        return m->last_leaf;
    ref = leaf_find(m, key);
    leaf_noted(m, ref);
    return ref;
}

static enum status insert_at(struct memtable *m, const struct index_entry *e, uint32_t leaf_ref, struct err *err)
{
    struct index_key key = {e->ns, e->key};
    struct mem_node *leaf = mem_node_at(m, leaf_ref);
    uint32_t pos, ref;
    bool equal, ascending;

    assert(memtable_takes_tx(m, e->version.tx_id));
    pos = mem_node_search(m, leaf, key, &equal);
    if (equal) {
        struct mem_key *k = mem_at(m, OWN(leaf->refs[pos]));
        enum status st = version_append(m, k, e, err);
        if (st == ST_OK && e->version.tx_id > m->tx_last)
            m->tx_last = e->version.tx_id;
        return st;
    }
    if ((ref = key_create(m, e)) == 0)
        return err_set(err, ST_NOMEM, 0, "no memory for an index key");
    ascending = leaf_ref == m->last_leaf && (pos == m->last_pos + 1 || (pos == 0 && m->last_pos == 0));
    m->last_leaf = leaf_ref;
    if (OWN(leaf->count) == MEM_NODE_SLOTS) {
        if (!leaf_split(m, key, ref, pos, ascending))
            return err_set(err, ST_NOMEM, 0, "no memory for an index node");
    } else {
        m->last_pos = pos;
        node_lock(leaf);
        slot_put(leaf, pos, mem_head(key, OWN(leaf->skip)), ref);
        node_unlock(leaf);
    }
    if (e->version.tx_id > m->tx_last)
        m->tx_last = e->version.tx_id;
    counter_add(&m->key_count);
    counter_add(&m->entry_count);
    return ST_OK;
}

#define INSERT_GROUP 16u

/* The leaves of several keys at once, level by level: their cache misses overlap instead of adding up, which is worth a
 * factor of two for random keys. All leaves are at the same depth. */
static void leaves_find(const struct memtable *m, const struct index_entry *entries, size_t count, uint32_t *leaves)
{
    for (size_t i = 0; i < count; i++)
        leaves[i] = OWN(m->root);
    while (mem_node_at(m, leaves[0])->is_inner) {
        for (size_t i = 0; i < count; i++) {
            struct mem_node *n = mem_node_at(m, leaves[i]);
            bool equal;
            uint32_t at = mem_node_search(m, n, (struct index_key){entries[i].ns, entries[i].key}, &equal);

            leaves[i] = OWN(mem_inner_of(n)->children[equal ? at + 1 : at]);
            node_prefetch(mem_node_at(m, leaves[i]));
        }
    }
}

enum status memtable_insert(struct memtable *m, const struct index_entry *entries, size_t count, struct err *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < count && st == ST_OK;) {
        size_t group = count - i < INSERT_GROUP ? count - i : INSERT_GROUP;
        uint32_t leaves[INSERT_GROUP], splits = m->splits;
        bool grouped = group > 1 && m->hint_credit <= 0;

        if (grouped)
            leaves_find(m, entries + i, group, leaves);
        for (size_t j = 0; j < group && st == ST_OK; j++, i++) {
            /* a split may have moved keys away from a leaf found before it; then look again */
            if (grouped && m->splits == splits)
                leaf_noted(m, leaves[j]);
            else
                leaves[j] = leaf_find_hinted(m, (struct index_key){entries[i].ns, entries[i].key});
            st = insert_at(m, &entries[i], leaves[j], err);
        }
    }
    return st;
}
