/* Scans: the latest version of each key of a range, in order, and the number of keys with a prefix. */
#include "index/index_internal.h"

#include <assert.h>
#include <stdlib.h>

/* Where a scan ends, in its direction. */
struct bound {
    bool is_open; /* no key: to the edge of the namespace */
    bool inclusive;
    struct bytes key;
};

struct index_cursor {
    uint64_t upto;
    bool want_revision, is_done;
    struct bound stop;
    struct multi *walk;
};

/* The lowest string above everything with that prefix, into out (prefix.len bytes); false when there is none. */
static bool prefix_successor(struct bytes prefix, uint8_t *out, size_t *len)
{
    size_t n = prefix.len;

    while (n > 0 && prefix.data[n - 1] == 0xff)
        n--;
    if (n == 0)
        return false;
    memcpy(out, prefix.data, n);
    out[n - 1]++;
    *len = n;
    return true;
}

struct limits {
    struct bound low, high;
};

/* The range as two bounds. successor: room for prefix.len bytes. */
static struct limits limits_of(const struct index_scan_options *o, uint8_t *successor)
{
    struct bytes low = o->desc ? o->end : o->seek, high = o->desc ? o->seek : o->end;
    bool low_inclusive = o->desc ? o->inclusive_end : o->inclusive_seek, high_inclusive = o->desc ? o->inclusive_seek : o->inclusive_end;
    struct limits l = {{.is_open = false, .inclusive = true, .key = o->prefix}, {.is_open = true}};
    size_t len = 0;

    if (prefix_successor(o->prefix, successor, &len))
        l.high = (struct bound){false, false, bytes_of(successor, len)};
    if (low.len > 0) {
        int c = bytes_compare(low, l.low.key);
        if (c >= 0)
            l.low = (struct bound){false, low_inclusive, low};
    }
    if (high.len > 0 && (l.high.is_open || bytes_compare(high, l.high.key) < 0))
        l.high = (struct bound){false, high_inclusive, high};
    return l;
}

static bool is_empty_range(const struct limits *l)
{
    int c;

    if (l->high.is_open)
        return false;
    c = bytes_compare(l->low.key, l->high.key);
    return c > 0 || (c == 0 && !(l->low.inclusive && l->high.inclusive));
}

/* Bytes that all keys within the limits share, in the string of mem_head(). */
static uint32_t shared_len(const struct limits *l)
{
    struct bytes a = l->low.key, b = l->high.key;
    uint32_t i = 0;

    if (l->high.is_open)
        return 2;
    while (i < a.len && i < b.len && a.data[i] == b.data[i])
        i++;
    return i + 2;
}

static enum status cursor_start(struct index_cursor *c, struct index_snapshot *s, const struct index_scan_options *o, const struct limits *l,
                                struct err *err)
{
    struct multi_range range = {.desc = o->desc, .in_ns = true, .ns = o->ns, .skip = shared_len(l)};

    if (o->desc && l->high.is_open) {
        /* from the end of the namespace: strictly below the first key of the next one */
        range.start = (struct index_key){o->ns + 1, {NULL, 0}};
        range.last = o->ns + 1 == INDEX_NAMESPACES_MAX;
        range.inclusive = false;
    } else {
        const struct bound *from = o->desc ? &l->high : &l->low;
        range.start = (struct index_key){o->ns, from->key};
        range.inclusive = from->inclusive;
    }
    c->stop = o->desc ? l->low : l->high;
    range.has_stop = !c->stop.is_open;
    range.stop_inclusive = c->stop.inclusive;
    range.stop = c->stop.key;
    return multi_open(s->set->mems, s->set->mem_count, s->set->sources, s->set->source_count, &range, false, &c->walk, err);
}

enum status index_scan_open(struct index_snapshot *s, const struct index_scan_options *o, struct index_cursor **out, struct err *err)
{
    size_t len = o->prefix.len * 2 + o->seek.len + o->end.len;
    struct index_scan_options own = *o;
    struct index_cursor *c;
    struct limits l;
    uint8_t *p;
    enum status st = ST_OK;

    *out = NULL;
    if (o->ns >= INDEX_NAMESPACES_MAX || o->prefix.len > INDEX_KEY_LEN_MAX || o->seek.len > INDEX_KEY_LEN_MAX + 1 ||
        o->end.len > INDEX_KEY_LEN_MAX + 1)
        return err_set(err, ST_INVALID, 0, "index: namespace or length of a bound out of range");
    if ((c = calloc(1, sizeof *c + len)) == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory for an index scan");
    c->upto = o->upto == 0 || o->upto > s->tx_id ? s->tx_id : o->upto;
    c->want_revision = o->want_revision;
    /* the bounds outlive the call */
    p = (uint8_t *)(c + 1);
    own.prefix.data = p;
    own.seek.data = p + own.prefix.len;
    own.end.data = own.seek.data + own.seek.len;
    if (o->prefix.len > 0)
        memcpy(p, o->prefix.data, o->prefix.len);
    if (o->seek.len > 0)
        memcpy(p + o->prefix.len, o->seek.data, o->seek.len);
    if (o->end.len > 0)
        memcpy(p + o->prefix.len + o->seek.len, o->end.data, o->end.len);
    l = limits_of(&own, p + o->prefix.len + o->seek.len + o->end.len);
    c->is_done = is_empty_range(&l);
    if (!c->is_done)
        st = cursor_start(c, s, &own, &l, err);
    if (st == ST_OK)
        *out = c;
    else
        index_scan_close(c);
    return st;
}

/* The latest version of the current key at or below upto, and its revision. *found is false when there is none. */
static enum status current_read(const struct index_cursor *c, struct index_version *version, uint64_t *revision, bool *found, struct err *err)
{
    const struct multi *m = c->walk;
    uint64_t count = 0;
    uint32_t i = 0;
    enum status st = ST_OK;

    for (; i < m->member_count && count == 0 && st == ST_OK; i++)
        st = key_versions_upto(multi_member(m, i), c->upto, false, &count, version, err);
    *found = count > 0;
    if (st == ST_OK && c->want_revision && revision != NULL) {
        for (; i < m->member_count; i++) {
            const struct key_versions *v = multi_member(m, i);
            count += v->mem != NULL ? atomic_load_explicit(&v->record->count, memory_order_acquire) : v->run.payload.count;
        }
        *revision = count;
    }
    return st;
}

enum status index_scan_next(struct index_cursor *c, struct bytes *key, struct index_version *version, uint64_t *revision, struct err *err)
{
    bool found = false;

    while (!c->is_done) {
        enum status st = multi_next(c->walk, err);

        c->is_done = st == ST_NOT_FOUND;
        if (st == ST_OK)
            st = current_read(c, version, revision, &found, err);
        if (st == ST_OK && found)
            *key = multi_key(c->walk).key;
        if (st != ST_OK || found)
            return st;
    }
    return ST_NOT_FOUND;
}

void index_scan_close(struct index_cursor *c)
{
    if (c == NULL)
        return;
    multi_close(c->walk);
    free(c);
}

enum status index_count(struct index_snapshot *s, uint32_t ns, struct bytes prefix, uint64_t *count, struct err *err)
{
    struct index_scan_options o = {.ns = ns, .prefix = prefix, .inclusive_seek = true, .inclusive_end = true};
    struct index_cursor *c = NULL;
    struct index_key stop;
    struct index_version v;
    struct bytes key;
    enum status st;

    *count = 0;
    if ((st = index_scan_open(s, &o, &c, err)) != ST_OK)
        return st;
    stop = c->stop.is_open ? (struct index_key){ns + 1, {NULL, 0}} : (struct index_key){ns, c->stop.key};
    while ((st = index_scan_next(c, &key, &v, NULL, err)) == ST_OK)
        *count += 1 + multi_skip_blocks(c->walk, &stop, c->upto);
    index_scan_close(c);
    return st == ST_NOT_FOUND ? ST_OK : st;
}
