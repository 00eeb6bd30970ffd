/* Scan, Count and History. */
#include "kv/kv_internal.h"

enum status kv_limit(uint64_t asked, uint64_t *limit, struct err *err)
{
    *limit = asked != 0 ? asked : KV_RESULT_MAX;
    if (asked <= KV_RESULT_MAX)
        return ST_OK;
    return err_set(err, ST_LIMIT, 0, "result size limit exceeded: the specified limit (%llu) is larger than the maximum allowed one (%u)",
                   (unsigned long long)asked, KV_RESULT_MAX);
}

/* Cuts a bound to what an index key can be. A longer string sorts right behind its cut form, before any other key: as the lower
 * bound (seek upwards, end downwards) the cut form itself is then outside, as the upper bound inside. */
static void bound_cut(struct bytes *bound, bool *inclusive, bool is_lower)
{
    if (bound->len > INDEX_KEY_LEN_MAX) {
        bound->len = INDEX_KEY_LEN_MAX;
        *inclusive = !is_lower;
    }
}

bool kv_scan_bounds(struct index_scan_options *o)
{
    int order;

    if (o->prefix.len > INDEX_KEY_LEN_MAX)
        return false;
    if (o->seek.len > 0 && !bytes_has_prefix(o->seek, o->prefix)) {
        /* Before the prefix in scan direction: from its edge. Behind it: nothing. */
        order = bytes_compare(o->seek, o->prefix);
        if (o->desc ? order < 0 : order > 0)
            return false;
        o->seek = bytes_of(NULL, 0);
    }
    bound_cut(&o->seek, &o->inclusive_seek, !o->desc);
    bound_cut(&o->end, &o->inclusive_end, o->desc);
    return true;
}

enum status kv_scan_open(struct kv_scan *s, struct kv_reader *r, const struct kv_scan_options *o, struct err *err)
{
    struct index_scan_options io = {.ns = INDEX_NS_KV,
                                    .prefix = o->prefix,
                                    .seek = o->seek,
                                    .end = o->end,
                                    .inclusive_seek = o->inclusive_seek,
                                    .inclusive_end = o->inclusive_end,
                                    .desc = o->desc,
                                    .want_revision = true};

    *s = (struct kv_scan){.reader = r, .skip = o->offset, .left = o->limit};
    if (r->nowait) /* a cursor may wait for the disk */
        return ST_AGAIN;
    if (!kv_scan_bounds(&io))
        return ST_OK;
    return index_scan_open(r->index, &io, &s->cursor, err);
}

enum status kv_scan_next(struct kv_scan *s, struct kv_entry *out, struct err *err)
{
    struct kv_reader *r = s->reader;
    struct index_version version;
    struct tx_entry e;
    struct bytes key, stored;
    enum status st = ST_OK;

    while (s->cursor != NULL && s->left > 0) {
        memset(out, 0, sizeof *out);
        if ((st = index_scan_next(s->cursor, &key, &version, &out->revision, err)) != ST_OK)
            return st == ST_NOT_FOUND ? err_set(err, ST_NOT_FOUND, 0, "%s", "") : st;
        if (kv_version_live(r, &version, NULL) != ST_OK)
            continue;
        if (s->skip > 0) {
            s->skip--;
            continue;
        }
        s->left--;
        if ((st = kv_entry_read(r, 0, version.tx_id, version.entry_index, true, &e, &out->far, err)) != ST_OK ||
            (st = kv_entry_md(&e, &out->md, err)) != ST_OK)
            return st;
        /* The entry's own copy of the key stays as long as its value; the cursor's goes with its next step. */
        if (!kv_key_decode(e.key, &stored) || !bytes_equal(stored, key))
            return err_set(err, ST_CORRUPT, 0, "data is corrupted: the index of tx %llu points to another key", (unsigned long long)version.tx_id);
        out->tx_id = version.tx_id;
        if ((st = kv_resolve(r, stored, &e, out, err)) != ST_NOT_FOUND)
            return st;
    }
    return err_set(err, ST_NOT_FOUND, 0, "%s", "");
}

void kv_scan_close(struct kv_scan *s)
{
    if (s->cursor != NULL)
        index_scan_close(s->cursor);
    s->cursor = NULL;
}

enum status kv_count(struct kv_reader *r, struct bytes prefix, uint64_t *count, struct err *err)
{
    *count = 0;
    if (r->nowait)
        return ST_AGAIN;
    if (prefix.len > INDEX_KEY_LEN_MAX)
        return ST_OK;
    return index_count(r->index, INDEX_NS_KV, prefix, count, err);
}

/* ------------------------------------------------------------ history */

enum status kv_history_open(struct kv_history *h, struct kv_reader *r, struct bytes key, uint64_t offset, int32_t limit, bool desc, struct err *err)
{
    uint64_t total = 0, wanted;
    enum status st;

    *h = (struct kv_history){.reader = r, .key = key, .desc = desc};
    if (r->nowait)
        return ST_AGAIN;
    if (limit < 0)
        return err_set(err, ST_INVALID, 0, "tbtree: illegal arguments");
    wanted = limit == 0 || limit > (int32_t)KV_RESULT_MAX ? KV_RESULT_MAX : (uint64_t)limit;
    if (key.len == 0 || key.len > INDEX_KEY_LEN_MAX)
        return kv_not_found(err);
    if ((st = index_version_count(r->index, INDEX_NS_KV, key, &total, err)) != ST_OK && st != ST_NOT_FOUND)
        return st;
    if (total == 0)
        return kv_not_found(err);
    if (offset == total)
        return err_set(err, ST_INVALID, 0, "tbtree: no more entries");
    if (offset > total)
        return ST_OK;
    if (wanted > total - offset)
        wanted = total - offset;
    if ((h->versions = arena_array(r->arena, (size_t)wanted, sizeof *h->versions)) == NULL)
        return err_set(err, ST_NOMEM, 0, "%llu versions of a key", (unsigned long long)wanted);
    h->first_revision = desc ? total - offset : offset + 1;
    return index_history(r->index, INDEX_NS_KV, key, desc, offset, h->versions, (size_t)wanted, &h->count, &total, err);
}

enum status kv_history_next(struct kv_history *h, struct kv_entry *out, struct err *err)
{
    struct kv_reader *r = h->reader;
    const struct index_version *version;
    struct tx_entry e;
    enum status st;

    memset(out, 0, sizeof *out);
    if (h->at >= h->count)
        return err_set(err, ST_NOT_FOUND, 0, "%s", "");
    version = &h->versions[h->at];
    out->is_expired = version->has_expiry && version->expires_at <= r->now_s;
    if ((st = kv_entry_read(r, 0, version->tx_id, version->entry_index, !out->is_expired, &e, &out->far, err)) != ST_OK ||
        (st = kv_entry_md(&e, &out->md, err)) != ST_OK)
        return st;
    out->tx_id = version->tx_id;
    out->key = h->key;
    out->revision = h->desc ? h->first_revision - h->at : h->first_revision + h->at;
    /* Only the first byte goes: a reference shows as it lies in the store. */
    if (!out->is_expired && e.value.len > 0) {
        out->value = bytes_of(out->far.tx_id != 0 ? NULL : e.value.data + 1, e.value.len - 1);
        out->far.skip = 1;
    }
    h->at++;
    return ST_OK;
}
