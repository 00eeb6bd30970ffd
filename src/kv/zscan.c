/* ZScan: members of a sorted set in the byte order of their keys. */
#include "kv/kv_internal.h"

#include <float.h>

/* Index keys of the namespace lack the first byte of the store key. */
static struct bytes without_prefix(const struct writer *w) { return bytes_of(w->start + 1, writer_len(w) - 1); }

/* set and, unless from the edge, where to begin. */
static enum status zscan_seek(struct kv_reader *r, const struct kv_zscan_options *o, struct index_scan_options *io, struct err *err)
{
    struct zset_member from = {o->set, o->seek_score, o->seek_key, o->seek_at_tx};
    size_t prefix_len = zset_prefix_len(o->set.len);
    size_t seek_len = o->seek_key.len > 0 ? zset_key_len(o->set.len, o->seek_key.len) : prefix_len + 8;
    uint8_t *buf = arena_alloc(r->arena, prefix_len + seek_len);
    struct writer prefix, seek;

    if (buf == NULL)
        return err_set(err, ST_NOMEM, 0, "a set name of %zu bytes", o->set.len);
    prefix = writer_of(buf, prefix_len);
    zset_prefix_write(&prefix, o->set);
    io->prefix = without_prefix(&prefix);
    seek = writer_of(buf + prefix_len, seek_len);
    if (o->seek_key.len > 0) {
        zset_key_write(&seek, &from);
    } else {
        zset_prefix_write(&seek, o->set);
        if (o->desc)
            writer_u64be(&seek, zset_score_bits(o->has_max ? o->max : DBL_MAX));
        else if (o->has_min)
            writer_u64be(&seek, zset_score_bits(o->min));
    }
    io->seek = without_prefix(&seek);
    return ST_OK;
}

enum status kv_zscan_open(struct kv_zscan *s, struct kv_reader *r, const struct kv_zscan_options *o, struct err *err)
{
    struct index_scan_options io = {.ns = INDEX_NS_ZSET, .inclusive_seek = o->inclusive_seek, .desc = o->desc};
    enum status st;

    *s = (struct kv_zscan){.reader = r,
                           .skip = o->offset,
                           .left = o->limit,
                           .set = o->set,
                           .has_min = o->has_min,
                           .has_max = o->has_max,
                           .min = o->min,
                           .max = o->max,
                           .arena = r->arena};
    if (r->nowait)
        return ST_AGAIN;
    if (o->set.len >= INDEX_KEY_LEN_MAX || o->seek_key.len >= INDEX_KEY_LEN_MAX)
        return ST_OK;
    if ((st = zscan_seek(r, o, &io, err)) != ST_OK)
        return st;
    if (!kv_scan_bounds(&io))
        return ST_OK;
    return index_scan_open(r->index, &io, &s->cursor, err);
}

/* The member of the cursor's key, copied: the cursor's bytes go with its next step, and the entry is read before the caller sees
 * it. */
static enum status member_of(struct kv_zscan *s, struct bytes index_key, struct zset_member *m, struct err *err)
{
    struct writer w;
    size_t len = index_key.len + 1;

    if (len > s->member_key_cap) {
        s->member_key_cap = len < 256 ? 256 : len * 2;
        if ((s->member_key = arena_alloc(s->arena, s->member_key_cap)) == NULL)
            return err_set(err, ST_NOMEM, 0, "a set member of %zu bytes", len);
    }
    w = writer_of(s->member_key, len);
    writer_u8(&w, KEY_PREFIX_ZSET);
    writer_put(&w, index_key.data, index_key.len);
    if (!zset_key_decode(bytes_of(s->member_key, len), m))
        return err_set(err, ST_CORRUPT, 0, "data is corrupted: a member of a sorted set has an unknown form");
    return ST_OK;
}

enum status kv_zscan_next(struct kv_zscan *s, struct kv_zentry *out, struct err *err)
{
    struct index_version version;
    struct zset_member m;
    struct bytes key;
    uint64_t revision;
    enum status st;

    while (s->cursor != NULL && s->left > 0) {
        if ((st = index_scan_next(s->cursor, &key, &version, &revision, err)) != ST_OK)
            return st == ST_NOT_FOUND ? err_set(err, ST_NOT_FOUND, 0, "%s", "") : st;
        if (kv_version_live(s->reader, &version, NULL) != ST_OK)
            continue;
        if (s->skip > 0) {
            s->skip--;
            continue;
        }
        s->left--;
        if ((st = member_of(s, key, &m, err)) != ST_OK)
            return st;
        if ((s->has_min && m.score < s->min) || (s->has_max && m.score > s->max))
            continue;
        *out = (struct kv_zentry){.set = s->set, .key = m.key, .score = m.score, .at_tx = m.at_tx, .has_entry = true};
        st = m.at_tx == 0 ? kv_get_latest(s->reader, m.key, &out->entry, err) : kv_get_at(s->reader, m.key, m.at_tx, &out->entry, err);
        if (st != ST_NOT_FOUND)
            return st;
    }
    return err_set(err, ST_NOT_FOUND, 0, "%s", "");
}

void kv_zscan_close(struct kv_zscan *s)
{
    if (s->cursor != NULL)
        index_scan_close(s->cursor);
    s->cursor = NULL;
}
