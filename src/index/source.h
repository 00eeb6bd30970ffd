/* Sources of keys (memtables and runs) seen as one: the versions of a key in one source, and a walk over many sources. */
#ifndef INDEX_SOURCE_H
#define INDEX_SOURCE_H

#include "index/run.h"

/* The versions of one key in one source. */
struct key_versions {
    const struct memtable *mem; /* NULL: in a run */
    const struct mem_key *record;
    struct run_versions run;
};

/* Number of versions with tx id <= upto, and the newest of them when there is one. */
static inline enum status key_versions_upto(const struct key_versions *v, uint64_t upto, bool nowait, uint64_t *count, struct index_version *out,
                                            struct err *err)
{
    if (v->mem == NULL)
        return run_versions_upto(&v->run, upto, nowait, count, out, err);
    *count = memtable_versions_upto(v->mem, v->record, upto, out);
    return ST_OK;
}
MUST_USE enum status key_versions_copy(const struct key_versions *v, uint64_t from, size_t count, struct index_version *out, struct err *err);

/* --- walking several sources (multi.c) --- */

struct multi_source {
    uint64_t head; /* 8 bytes of the current key behind `skip`, for quick comparison */
    struct index_key key;
    bool is_mem, is_done;
    struct key_versions versions;
    union {
        struct mem_iter mem;
        struct run_iter run;
    } iter;
};

/* One key at a time over all sources, in order; sources are numbered newest first. */
struct multi {
    bool desc;
    bool in_ns, has_stop, stop_inclusive;
    uint32_t ns;
    struct bytes stop;
    enum status failed; /* a source could not be read: nothing more comes */
    uint32_t skip;      /* bytes that all keys share (see mem_head) */
    uint32_t count;
    uint32_t heap_len;
    uint32_t member_count; /* sources that have the current key, newest first */
    uint32_t *heap, *members;
    struct multi_source *sources;
};

struct multi_range {
    bool desc, inclusive, last; /* as for mem_iter_seek() */
    struct index_key start;
    bool in_ns; /* only keys of this namespace; else all, and nothing below applies */
    uint32_t ns;
    bool has_stop, stop_inclusive;
    struct bytes stop; /* where it ends in its direction; borrowed as long as the walk lives */
    uint32_t skip;     /* bytes of mem_head()'s string that all keys of the range share */
};
/* mems and runs newest first; a NULL run is skipped. direct: runs are read around the cache. The sources are borrowed. */
MUST_USE enum status multi_open(struct memtable *const *mems, size_t mem_count, struct run *const *runs, size_t run_count,
                                const struct multi_range *range, bool direct, struct multi **out, struct err *err);
/* Steps to the next key; ST_NOT_FOUND at the end. */
MUST_USE enum status multi_next(struct multi *m, struct err *err);
static inline struct index_key multi_key(const struct multi *m) { return m->sources[m->members[0]].key; }
static inline const struct key_versions *multi_member(const struct multi *m, uint32_t i) { return &m->sources[m->members[i]].versions; }
/* Before multi_next(): steps over whole data blocks that only one source has a part in, when all their keys are below `limit`
 * (NULL: no limit) and all their versions at or below upto. The number of keys stepped over, 0 when that is not possible. asc only. */
uint64_t multi_skip_blocks(struct multi *m, const struct index_key *limit, uint64_t upto);
void multi_close(struct multi *m);

#endif
