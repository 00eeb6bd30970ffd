/* The oracle of the index tests: all versions of all keys, written from the definition, and checks of an index against it. Tests only. */
#ifndef INDEX_MODEL_H
#define INDEX_MODEL_H

#include "index/index.h"

struct model_key {
    uint32_t ns;
    uint8_t *key;
    size_t key_len;
    struct index_version *versions; /* ascending tx ids */
    size_t count, cap;
};
struct model {
    struct model_key **keys; /* sorted by (namespace, key) */
    size_t count, cap;
    uint64_t tx_last;
};

uint64_t model_random(uint64_t *state);
static inline uint64_t model_below(uint64_t *state, uint64_t n) { return model_random(state) % n; }

void model_free(struct model *m);
void model_add(struct model *m, const struct index_entry *e);
struct model_key *model_find(const struct model *m, uint32_t ns, struct bytes key);
/* Number of versions with tx id <= upto. */
size_t model_upto(const struct model_key *k, uint64_t upto);

/* A key of one of several families: empty, prefixes of each other, zero and 0xff bytes, counters with a common prefix, random, long. */
struct bytes model_key_make(uint64_t *state, uint32_t key_space, uint8_t *buf); /* buf: INDEX_KEY_LEN_MAX bytes */
uint32_t model_ns_make(uint64_t *state);

/* Inserts the tx `m->tx_last + 1` with up to entries_max random entries into model and index (not published). NULL index: model only. */
void model_tx_insert(struct model *m, struct index *x, uint64_t *state, uint32_t key_space, size_t entries_max);
/* Feeds the model's versions with first <= tx id <= last to sink in log order. */
void model_replay(const struct model *m, uint64_t first, uint64_t last, void (*sink)(void *ctx, const struct index_entry *e, size_t count),
                  void *ctx);
/* Fills what index_missing() names: holes through index_rebuild_*, the end through index_insert(). */
void model_repair(const struct model *m, struct index *x, uint64_t tx_id_max);

/* Random comparisons of a snapshot with the model; each aborts the test on a difference. The number of calls made. */
size_t model_check_point(const struct model *m, struct index_snapshot *s, uint64_t *state, uint32_t key_space);
size_t model_check_scan(const struct model *m, struct index_snapshot *s, uint64_t *state, uint32_t key_space, size_t keys_max);
/* Everything in the snapshot, both ways, all versions. */
void model_check_all(const struct model *m, struct index_snapshot *s);

/* An index on its own vfs and cache. */
struct bed {
    struct vfs *vfs;
    struct budget budget;
    struct cache *cache;
    struct index *x;
    struct index_options options;
};
void bed_open(struct bed *b, struct vfs *vfs, size_t memtable_bytes_max, unsigned runs_max, uint64_t tx_id_max);
void bed_close(struct bed *b);
const struct env *bed_env(void); /* system clock, silent log, random bytes from a counter */

#endif
