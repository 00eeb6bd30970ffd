/* The part of the index that is in memory: a B+tree of key records with their versions. docs/design/002-memtable.md.
 *
 * One writer (memtable_insert), any number of readers, no locks: every node carries a sequence number that is odd while the
 * writer changes it; a reader validates it after reading and starts over when it moved (optimistic lock coupling). Nodes
 * and records live in chunks that are freed together, so whatever a reader holds stays readable as long as the memtable does.
 * A key record never moves; its versions are appended behind an atomic count.
 *
 * Order: the virtual string (namespace as 2 bytes big-endian || key), by memcmp, then length.
 *
 * A reader that wants the state as of tx T must have learnt of T (acquire) after the writer inserted T (release): then
 * everything up to T is found; what is newer may or may not be and is filtered by tx id. */
#ifndef INDEX_MEMTABLE_H
#define INDEX_MEMTABLE_H

#include "index/index.h"
#include <assert.h>
#include <stdatomic.h>

#define MEM_CHUNK_BYTES_MAX ((size_t)2 << 20)
#define MEM_CHUNKS_MAX 2048u /* 4 GiB: memtable_bytes_max and one oversized tx */
#define MEM_NODE_SLOTS 64u
#define MEM_TX_DELTA_MAX UINT32_MAX

/* A key in the index's order. */
struct index_key {
    uint32_t ns;
    struct bytes key;
};
static inline int index_key_compare(struct index_key a, struct index_key b)
{
    return a.ns != b.ns ? (a.ns < b.ns ? -1 : 1) : bytes_compare(a.key, b.key);
}

/* One version, 12 bytes. entry: entry index << 2 | has_expiry << 1 | is_deleted. With has_expiry, value_len is a reference
 * to a struct mem_expiry. */
struct mem_version {
    uint32_t tx_delta; /* tx id - memtable's tx_base */
    uint32_t entry;
    uint32_t value_len;
};
struct mem_expiry {
    int64_t expires_at;
    uint32_t value_len;
};

/* A key and its oldest version here; later ones hang on `more`. Written before it is linked, then only the atomics change. */
struct mem_key {
    uint16_t ns, key_len;
    struct mem_version first;
    _Atomic uint32_t count; /* versions in this memtable, at least 1 */
    _Atomic uint32_t more;  /* newest struct mem_segment or 0 */
    _Atomic uint32_t older; /* 1 + versions older than the memtable, once somebody counted them; 0 = not known */
    uint8_t key[];
};

/* Versions first .. first + cap - 1 (counted from 0) of a key. jump leads far back, so that any one is found in O(log). */
struct mem_segment {
    uint32_t prev, jump;
    uint32_t first;
    uint16_t depth, cap;
    struct mem_version versions[];
};
#define MEM_SEGMENT_CAP_MAX 16384u

struct memtable {
    struct budget *budget;
    uint64_t tx_base; /* no version is below it */
    uint64_t tx_last; /* of the newest version; writer's */
    _Atomic uint32_t root;
    _Atomic uint64_t entry_count;
    _Atomic uint64_t key_count;
    _Atomic size_t bytes; /* chunks held */
    /* writer's own */
    uint32_t chunk_count, chunk_used, chunk_len; /* of the newest chunk */
    uint32_t last_leaf, last_pos;
    uint32_t splits;
    int hint_credit;
    /* the index's, under its set lock */
    uint64_t tx_end;       /* frozen: the last tx id covered; live: 0 */
    uint64_t flushed_upto; /* versions up to here are in runs already */
    uint32_t refs;
    struct memtable *next_dead;
    uint8_t *chunks[MEM_CHUNKS_MAX];
};

MUST_USE enum status memtable_create(struct budget *budget, uint64_t tx_base, struct memtable **out, struct err *err);
void memtable_destroy(struct memtable *m);
/* Room left for tx ids: false when tx_id cannot be stored relative to tx_base. */
static inline bool memtable_takes_tx(const struct memtable *m, uint64_t tx_id)
{
    return tx_id >= m->tx_base && tx_id - m->tx_base <= MEM_TX_DELTA_MAX;
}
/* Adds versions in the order given. The same version again is ST_OK and changes nothing; another one with the same or a lower
 * tx id than the key's newest is ST_INVALID. ST_NOMEM, ST_LIMIT: those before it are in, the call may be repeated. */
MUST_USE enum status memtable_insert(struct memtable *m, const struct index_entry *entries, size_t count, struct err *err);

/* The record of a key, NULL when there is none. */
const struct mem_key *memtable_find(const struct memtable *m, struct index_key key);
/* Number of versions with tx id <= upto (they are the first ones); *out the newest of them when there is one and out is not NULL. */
uint64_t memtable_versions_upto(const struct memtable *m, const struct mem_key *k, uint64_t upto, struct index_version *out);
/* The version at position nth, counted from 0, below a count seen before. */
void memtable_version_nth(const struct memtable *m, const struct mem_key *k, uint64_t nth, struct index_version *out);

static inline struct index_key mem_key_key(const struct mem_key *k) { return (struct index_key){k->ns, bytes_of(k->key, k->key_len)}; }

/* Walks key records in order, either way; keys inserted meanwhile may or may not be seen. Holds a copy of one leaf. */
struct mem_iter {
    const struct memtable *m;
    bool desc;
    uint32_t count, pos; /* items of refs, next one */
    uint32_t fence;      /* key where the next leaf in this direction begins (asc) or this one began (desc); 0 = edge */
    const struct mem_key *keys[MEM_NODE_SLOTS];
};
/* Positions before the first key at or above (asc) or at or below (desc) the given one; inclusive false: strictly.
 * last: desc only, from the very last key of the memtable, key ignored. */
void mem_iter_seek(struct mem_iter *it, const struct memtable *m, struct index_key key, bool inclusive, bool desc, bool last);
/* The next record, NULL at the end. */
const struct mem_key *mem_iter_next_leaf(struct mem_iter *it);
static inline const struct mem_key *mem_iter_next(struct mem_iter *it)
{
    if (it->pos < it->count) {
        if (it->pos + 8 < it->count)
            __builtin_prefetch(it->keys[it->pos + 8]);
        return it->keys[it->pos++];
    }
    return mem_iter_next_leaf(it);
}

#endif
