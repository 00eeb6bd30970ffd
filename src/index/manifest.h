/* The list of runs that count, replaced as a whole. docs/format-index.md par. 3. */
#ifndef INDEX_MANIFEST_H
#define INDEX_MANIFEST_H

#include "base/bytes.h"
#include "vfs/vfs.h"

#define MANIFEST_NAME "MANIFEST"
#define MANIFEST_FORMAT_VERSION 1u
#define MANIFEST_RUNS_MAX 65536u
#define MANIFEST_MARKS_MAX 65536u
#define MANIFEST_BYTES_MAX ((size_t)64 + 72 * (size_t)MANIFEST_RUNS_MAX + 16 * (size_t)MANIFEST_MARKS_MAX + 4)
#define MANIFEST_SCOPE_ALL UINT32_MAX

struct manifest_run {
    uint64_t run_id; /* 0: no version in the range, no file */
    uint64_t salt;
    uint64_t tx_first, tx_last;
    uint64_t file_len, keys, versions;
    uint32_t footer_crc, scope;
    uint8_t depth;
};
struct manifest_mark {
    uint32_t ns;
    uint64_t tx_id;
};
struct manifest {
    uint64_t generation, next_run_id;
    struct manifest_run *runs; /* ascending, disjoint */
    size_t run_count;
    struct manifest_mark *marks; /* ascending by namespace */
    size_t mark_count;
};

/* A malloc'ed file image. */
MUST_USE enum status index_manifest_encode(const struct manifest *m, const uint8_t uuid[16], uint8_t **out, size_t *len, struct err *err);
/* ST_CORRUPT: damage; ST_UNSUPPORTED: written by a newer release. *out is to be freed by index_manifest_free() on ST_OK. */
MUST_USE enum status index_manifest_decode(struct bytes image, const uint8_t uuid[16], struct manifest *out, struct err *err);
void index_manifest_free(struct manifest *m);

#endif
