/* Opening a run file and getting at its blocks. */
#include "index/run.h"

#include <assert.h>
#include <stdlib.h>

static enum status damaged(struct run *r, struct err *err, enum status st)
{
    /* a file that is gone is damage: ST_NOT_FOUND would read as "no such key" further up */
    if (st == ST_NOT_FOUND)
        st = err_set(err, ST_CORRUPT, 0, "index run %s: the file is missing", r->path);
    if (st == ST_CORRUPT)
        atomic_store_explicit(&r->is_damaged, true, memory_order_release);
    return st;
}

enum { KNOWN_UNIT = 512 };

static size_t known_words(const struct run *r) { return (size_t)(r->id.file_len / KNOWN_UNIT / 64 + 1); }

/* The word and bit of a block; NULL for blocks that share a unit with others. */
static _Atomic uint64_t *known_at(const struct run *r, uint64_t offset, size_t len, uint64_t *bit)
{
    uint64_t unit = offset / KNOWN_UNIT;

    *bit = (uint64_t)1 << (unit % 64);
    return r->known == NULL || len < KNOWN_UNIT ? NULL : &r->known[unit / 64];
}

/* --- open --- */

static enum status header_check(struct run *r, const uint8_t *h, const uint8_t uuid[16], struct err *err)
{
    struct run_identity *id = &r->id;

    if (memcmp(h, "IDXRUN01", 8) != 0)
        return err_set(err, ST_CORRUPT, 0, "index run %s: not a run file", r->path);
    memcpy(id->uuid, uuid, 16);
    id->run_id = load_u64le(h + 32);
    id->salt = load_u64le(h + 40);
    id->seed = run_seed(uuid, id->salt, id->run_id);
    if (load_u32le(h + 124) != run_checksum(id->seed, 0, h, 124) || memcmp(h + 16, uuid, 16) != 0)
        return err_set(err, ST_CORRUPT, 0, "index run %s: wrong checksum of its header, offset 0", r->path);
    if (load_u16le(h + 8) != RUN_FORMAT_VERSION || load_u32le(h + 12) != 0)
        return err_set(err, ST_CORRUPT, 0, "index run %s: format %u with flags %x is not known", r->path, load_u16le(h + 8), load_u32le(h + 12));
    id->tx_first = load_u64le(h + 48);
    id->tx_last = load_u64le(h + 56);
    if (id->tx_first == 0 || id->tx_first > id->tx_last)
        return err_set(err, ST_CORRUPT, 0, "index run %s: wrong tx range", r->path);
    return ST_OK;
}

static enum status footer_check(struct run *r, const uint8_t *f, const struct run_expect *expect, uint64_t *root_offset, uint32_t *root_len,
                                struct err *err)
{
    uint64_t at = r->id.file_len - RUN_FOOTER_LEN;

    r->footer_crc = load_u32le(f + 124);
    if (r->footer_crc != run_checksum(r->id.seed, at, f, 124) || memcmp(f, "IDXEND01", 8) != 0)
        return err_set(err, ST_CORRUPT, 0, "index run %s: wrong checksum of its footer, offset %llu", r->path, (unsigned long long)at);
    r->keys = load_u64le(f + 48);
    r->versions = load_u64le(f + 56);
    *root_offset = load_u64le(f + 64);
    *root_len = load_u32le(f + 72);
    if (load_u64le(f + 16) != r->id.run_id || load_u64le(f + 24) != r->id.salt || load_u64le(f + 32) != r->id.tx_first ||
        load_u64le(f + 40) != r->id.tx_last || load_u64le(f + 80) != r->id.file_len || *root_offset < RUN_HEADER_LEN || *root_offset > at ||
        *root_len != at - *root_offset || *root_len > ROOT_LEN_MAX)
        return err_set(err, ST_CORRUPT, 0, "index run %s: footer and header disagree", r->path);
    if (expect != NULL && (expect->run_id != r->id.run_id || expect->salt != r->id.salt || expect->footer_crc != r->footer_crc ||
                           expect->keys != r->keys || expect->versions != r->versions))
        return err_set(err, ST_CORRUPT, 0, "index run %s: not the file that the manifest names", r->path);
    return ST_OK;
}

static enum status contents_read(struct run *r, const uint8_t uuid[16], const struct run_expect *expect, struct err *err)
{
    uint8_t h[RUN_HEADER_LEN], f[RUN_FOOTER_LEN];
    uint64_t root_offset = 0;
    uint32_t root_len = 0;
    enum status st;

    if ((st = cache_file_length(r->cache, r->file, &r->id.file_len, err)) != ST_OK)
        return st;
    if (r->id.file_len < RUN_HEADER_LEN + RUN_FOOTER_LEN || (expect != NULL && expect->file_len != r->id.file_len))
        return err_set(err, ST_CORRUPT, 0, "index run %s: %llu bytes long", r->path, (unsigned long long)r->id.file_len);
    if ((st = cache_file_read(r->cache, r->file, 0, h, sizeof h, err)) != ST_OK || (st = header_check(r, h, uuid, err)) != ST_OK)
        return st;
    if ((st = cache_file_read(r->cache, r->file, r->id.file_len - RUN_FOOTER_LEN, f, sizeof f, err)) != ST_OK ||
        (st = footer_check(r, f, expect, &root_offset, &root_len, err)) != ST_OK)
        return st;
    if ((r->root = malloc(root_len < BLOCK_HEADER_LEN ? BLOCK_HEADER_LEN : root_len)) == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory for the root of index run %s", r->path);
    if ((st = cache_file_read(r->cache, r->file, root_offset, r->root, root_len, err)) != ST_OK)
        return st;
    return run_block_check(&r->id, BLOCK_ROOT, root_offset, r->root, root_len, err);
}

enum status run_open(struct vfs *vfs, struct cache *cache, struct run_stats *stats, const char *path, const uint8_t uuid[16],
                     const struct run_expect *expect, struct run **out, struct err *err)
{
    struct run *r = calloc(1, sizeof *r);
    enum status st = ST_OK;

    *out = NULL;
    if (r == NULL || (r->path = strdup(path)) == NULL) {
        st = err_set(err, ST_NOMEM, 0, "no memory for an index run");
        goto done;
    }
    r->refs = 1;
    r->vfs = vfs;
    r->cache = cache;
    r->stats = stats;
    r->id.path = r->path;
    if ((st = cache_file_open(cache, path, &r->file, err)) != ST_OK)
        goto done;
    if ((st = contents_read(r, uuid, expect, err)) != ST_OK) {
        st = damaged(r, err, st);
        goto done;
    }
    r->known = calloc(known_words(r), sizeof *r->known); /* does without */
    *out = r;
    r = NULL;
done:
    run_close(r);
    return st;
}

void run_close(struct run *r)
{
    if (r == NULL)
        return;
    cache_file_close(r->cache, r->file);
    if (atomic_load_explicit(&r->is_obsolete, memory_order_acquire))
        (void)r->vfs->ops->unlink(r->vfs, r->path, NULL); /* what stays is removed as an orphan at the next open */
    free(r->known);
    free(r->root);
    free(r->path);
    free(r);
}

/* --- blocks --- */

struct check_ctx {
    struct run *run;
    enum block_kind kind;
};

static enum status check_block(void *ctx, uint64_t offset, const uint8_t *data, size_t len, struct err *err)
{
    struct check_ctx *c = ctx;

    uint64_t bit;
    _Atomic uint64_t *word = known_at(c->run, offset, len, &bit);
    enum status st;

    atomic_fetch_add_explicit(&c->run->stats->block_reads, 1, memory_order_relaxed);
    if (word != NULL && (atomic_load_explicit(word, memory_order_relaxed) & bit) != 0)
        return run_block_check_again(&c->run->id, c->kind, offset, data, len, err);
    if ((st = run_block_check(&c->run->id, c->kind, offset, data, len, err)) == ST_OK && word != NULL)
        atomic_fetch_or_explicit(word, bit, memory_order_relaxed);
    return st;
}

/* Moves the stream's window so that it holds len bytes at offset. */
static enum status stream_seek(struct run *r, struct run_stream *s, uint64_t offset, size_t len, struct err *err)
{
    uint64_t left = r->id.file_len - offset;
    size_t want = len > RUN_WRITE_BYTES ? len : left < RUN_WRITE_BYTES ? (size_t)left : RUN_WRITE_BYTES;
    enum status st;

    if (offset >= s->offset && offset - s->offset <= s->len && len <= s->len - (offset - s->offset))
        return ST_OK;
    if (want > s->cap) {
        uint8_t *data = realloc(s->data, want);
        if (data == NULL)
            return err_set(err, ST_NOMEM, 0, "no memory for reading an index run");
        s->data = data;
        s->cap = want;
    }
    s->len = 0;
    s->offset = offset;
    st = cache_file_read(r->cache, r->file, offset, s->data, want, err);
    s->len = st == ST_OK ? want : 0;
    return st;
}

void run_stream_free(struct run_stream *s)
{
    free(s->data);
    *s = (struct run_stream){NULL, 0, 0, 0};
}

enum status run_block_get(struct run *r, struct run_stream *stream, enum block_kind kind, uint64_t offset, size_t len, bool nowait,
                          struct run_block *out, struct err *err)
{
    struct check_ctx ctx = {r, kind};
    enum status st;

    *out = (struct run_block){NULL, {NULL, 0, NULL}, false};
    if (len < BLOCK_HEADER_LEN || len > BLOCK_LEN_MAX || offset > r->id.file_len || len > r->id.file_len - offset)
        return damaged(
            r, err,
            err_set(err, ST_CORRUPT, 0, "index run %s: a block of %zu bytes at offset %llu is outside", r->path, len, (unsigned long long)offset));
    if (stream != NULL) {
        if ((st = stream_seek(r, stream, offset, len, err)) != ST_OK ||
            (st = check_block(&ctx, offset, stream->data + (offset - stream->offset), len, err)) != ST_OK)
            return damaged(r, err, st);
        out->data = stream->data + (offset - stream->offset);
        return ST_OK;
    }
    if ((st = cache_get(r->cache, r->file, offset, len, nowait, check_block, &ctx, &out->pin, err)) != ST_OK)
        return damaged(r, err, st);
    out->data = out->pin.data;
    out->is_pinned = true;
    /* found in the cache under the same offset, but read as something else before: two pointers of the run contradict */
    if (out->pin.len != len || out->data[4] != (uint8_t)kind) {
        run_block_put(r, out);
        return damaged(r, err,
                       err_set(err, ST_CORRUPT, 0, "index run %s: no %c block of %zu bytes at offset %llu", r->path, (char)kind, len,
                               (unsigned long long)offset));
    }
    return ST_OK;
}

void run_block_put(struct run *r, struct run_block *b)
{
    if (b->is_pinned)
        cache_unpin(r->cache, &b->pin);
    *b = (struct run_block){NULL, {NULL, 0, NULL}, false};
}
