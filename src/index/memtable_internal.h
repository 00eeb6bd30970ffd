/* Nodes and chunks of the memtable, for memtable*.c alone. */
#ifndef INDEX_MEMTABLE_INTERNAL_H
#define INDEX_MEMTABLE_INTERNAL_H

#include "index/memtable.h"

/* References are 32 bits: chunk number << 18 | offset / 8. 0 is nothing (the first chunk starts with a spare word). */
#define MEM_OFFSET_BITS 18
static_assert(MEM_CHUNK_BYTES_MAX / 8 == 1u << MEM_OFFSET_BITS, "an offset fills its bits");

static inline void *mem_at(const struct memtable *m, uint32_t ref)
{
    return m->chunks[ref >> MEM_OFFSET_BITS] + ((size_t)(ref & ((1u << MEM_OFFSET_BITS) - 1)) << 3);
}
static inline const struct mem_key *mem_key_at(const struct memtable *m, uint32_t ref) { return mem_at(m, ref); }

/* A leaf: refs are key records. An inner node: refs are the separators, key records too; child i + 1 holds keys >= refs[i].
 * heads[i] = 8 bytes of the key's virtual string from byte `skip` on, zero padded, as a big-endian number; all keys that can be
 * in the node share their first `skip` bytes (those shared by its fences). low and high: fences, low <= key < high, 0 = none.
 * All fields but is_inner and low change under an odd seq. Every access is an acquire load or a release store, so that no
 * load passes the check of seq behind it and no store passes the odd seq before it. */
struct mem_node {
    _Atomic uint32_t seq;
    _Atomic uint32_t count;
    _Atomic uint32_t high;
    _Atomic uint32_t skip;
    uint32_t low;
    bool is_inner;
    _Atomic uint64_t heads[MEM_NODE_SLOTS];
    _Atomic uint32_t refs[MEM_NODE_SLOTS];
};
struct mem_inner {
    struct mem_node node;
    _Atomic uint32_t children[MEM_NODE_SLOTS + 1];
};

#define MEM_LOAD(field) atomic_load_explicit(&(field), memory_order_acquire)
#define MEM_STORE(field, value) atomic_store_explicit(&(field), (value), memory_order_release)

static inline struct mem_node *mem_node_at(const struct memtable *m, uint32_t ref) { return mem_at(m, ref); }
static inline struct mem_inner *mem_inner_of(struct mem_node *n) { return (struct mem_inner *)(void *)n; }

/* 8 bytes of ns || key from byte skip on, zero padded. */
static inline uint64_t mem_head(struct index_key k, uint32_t skip)
{
    uint8_t buf[8] = {0};
    size_t at = 0, from = 0;

    if (skip >= 2 && (size_t)skip - 2 + 8 <= k.key.len)
        return load_u64be(k.key.data + skip - 2);
    for (; skip + at < 2 && at < 8; at++)
        buf[at] = (uint8_t)(k.ns >> (skip + at == 0 ? 8 : 0));
    from = skip + at - 2;
    if (from < k.key.len) {
        size_t len = k.key.len - from < 8 - at ? k.key.len - from : 8 - at;
        memcpy(buf + at, k.key.data + from, len);
    }
    return load_u64be(buf);
}

/* Where key belongs in a node: the number of slots whose key is below it; *equal when the slot there is the key itself.
 * Under a changing node the answer may be nonsense but every access stays inside the memtable. */
uint32_t mem_node_search(const struct memtable *m, const struct mem_node *n, struct index_key key, bool *equal);
/* Waits until no change is under way; the sequence number to validate with. */
uint32_t mem_node_begin(const struct mem_node *n);
static inline bool mem_node_valid(const struct mem_node *n, uint32_t seq) { return MEM_LOAD(n->seq) == seq; }

/* len bytes, 8-aligned; 0 when out of memory or references. */
uint32_t mem_alloc(struct memtable *m, size_t len);

#endif
