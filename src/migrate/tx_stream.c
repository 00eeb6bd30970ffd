/* Exported transactions in order, with many requests under way; see source.h.
 *
 * Transaction number n travels on lane (n - first) % lanes, so that reading lane after lane gives the order. With streamExportTx a lane is one call
 * that has up to LANE_DEPTH requests under way; with exportTx it is one call for each transaction. What lanes have received ahead waits in their
 * windows: memory is bounded by lanes x (window + one transaction). */
#include "migrate/source_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "wire/part.h"
#include "wire/wire.h"

enum { STREAM_LANES = 4, LANE_DEPTH = 64, SINGLE_LANES = 16, LANE_ARENA_BYTES = 65536, REQUEST_BYTES = 16, HEADER_LEN_BYTES = 4 };

struct lane {
    struct client_call *call;
    uint64_t next_asked, next_read; /* ids; beyond the last: nothing more on this lane */
    struct part_reader parts;
    struct arena arena; /* of a transaction that came in several chunks */
    struct bytes rest;  /* of the last chunk, not read yet; borrowed from the call */
};

struct tx_stream {
    struct source *source;
    uint64_t first, next, last;
    unsigned lane_count;
    struct lane lanes[SINGLE_LANES];
};

static_assert(STREAM_LANES <= SINGLE_LANES, "lanes of both kinds fit");

enum status exported_header(struct bytes blob, uint64_t tx_id, struct tx_header *out, struct err *err)
{
    struct reader r = reader_of(blob);
    struct bytes header = reader_bytes(&r, reader_u32be(&r));
    struct err cause;

    memset(out, 0, sizeof *out);
    if (r.failed || tx_header_decode(header, out, &cause) != ST_OK)
        return err_set(err, ST_CORRUPT, 0, "the source's export of it has a header that cannot be read: %s",
                       r.failed ? "it is cut short" : cause.text);
    if (out->id != tx_id)
        return err_set(err, ST_CORRUPT, 0, "the source sent tx %llu in its place", (unsigned long long)out->id);
    return ST_OK;
}

/* --- lanes --- */

static void lane_stop(struct lane *l)
{
    client_call_free(l->call);
    l->call = NULL;
    l->rest = bytes_of(NULL, 0);
}

static enum status lane_call(struct tx_stream *t, struct lane *l, struct err *err)
{
    struct source *s = t->source;

    arena_reset(&l->arena);
    part_reader_init(&l->parts, &l->arena);
    l->rest = bytes_of(NULL, 0);
    return source_lost(client_call_open(s->client, s->has_no_stream ? SERVICE "exportTx" : SERVICE "streamExportTx", UINT64_MAX, &l->call, err));
}

/* ExportTxRequest{tx}. */
static enum status ask_for(struct tx_stream *t, struct lane *l, uint64_t tx_id, struct err *err)
{
    uint8_t room[REQUEST_BYTES];
    struct pb w;

    pb_init_fixed(&w, room, sizeof room);
    pb_u64(&w, 1, tx_id);
    return source_lost(client_call_send(l->call, bytes_of(w.at, pb_len(&w)), env_mono_ns(t->source->o.env) + t->source->o.silence_ns, err));
}

/* Asks for as many as may be under way. */
static enum status lane_fill(struct tx_stream *t, struct lane *l, struct err *err)
{
    bool is_single = t->source->has_no_stream;
    enum status st;

    while (l->next_asked <= t->last) {
        if (is_single ? l->call != NULL : (l->next_asked - l->next_read) / t->lane_count >= LANE_DEPTH)
            return ST_OK;
        if (l->call == NULL && (st = lane_call(t, l, err)) != ST_OK)
            return st;
        if ((st = ask_for(t, l, l->next_asked, err)) != ST_OK)
            return st;
        if (is_single && (st = source_lost(client_call_finish(l->call, err))) != ST_OK)
            return st;
        if (__builtin_add_overflow(l->next_asked, t->lane_count, &l->next_asked))
            l->next_asked = UINT64_MAX;
    }
    return ST_OK;
}

/* Puts the lanes so that t->next is read first. */
static enum status lanes_start(struct tx_stream *t, struct err *err)
{
    enum status st = ST_OK;

    t->lane_count = t->source->has_no_stream ? SINGLE_LANES : STREAM_LANES;
    t->first = t->next;
    for (unsigned i = 0; i < t->lane_count && st == ST_OK; i++) {
        struct lane *l = &t->lanes[i];

        if (i > t->last - t->next) {
            l->next_asked = l->next_read = UINT64_MAX;
            continue;
        }
        l->next_asked = l->next_read = t->next + i;
        st = lane_fill(t, l, err);
    }
    return st;
}

enum status tx_stream_open(struct source *s, uint64_t first, uint64_t last, struct tx_stream **out, struct err *err)
{
    struct tx_stream *t = calloc(1, sizeof *t);
    enum status st;

    assert(first >= 1 && first <= last && last < UINT64_MAX);
    *out = NULL;
    if (t == NULL)
        return err_set(err, ST_NOMEM, 0, "fetching transactions: out of memory");
    t->source = s;
    t->next = first;
    t->last = last;
    for (unsigned i = 0; i < SINGLE_LANES; i++)
        arena_init(&t->lanes[i].arena, LANE_ARENA_BYTES, 0); /* a transaction's limit bounds it */
    if ((st = lanes_start(t, err)) != ST_OK) {
        tx_stream_close(t);
        return st;
    }
    *out = t;
    return ST_OK;
}

void tx_stream_close(struct tx_stream *t)
{
    if (t == NULL)
        return;
    for (unsigned i = 0; i < SINGLE_LANES; i++) {
        lane_stop(&t->lanes[i]);
        arena_free(&t->lanes[i].arena);
    }
    free(t);
}

/* --- reading --- */

/* Takes a whole part from l->rest when it is there: in place when one chunk holds it, otherwise put together in the arena. */
static enum status part_take(struct tx_stream *t, struct lane *l, bool *is_whole, struct bytes *blob, struct err *err)
{
    uint64_t len_max = t->source->o.tx_bytes_max, len;
    enum status st;

    *is_whole = false;
    if (l->rest.len == 0)
        return ST_OK;
    if (part_reader_is_between(&l->parts) && l->rest.len >= PART_LENGTH_BYTES) {
        len = load_u64be(l->rest.data);
        if (len <= l->rest.len - PART_LENGTH_BYTES && len <= len_max) {
            *blob = bytes_of(l->rest.data + PART_LENGTH_BYTES, (size_t)len);
            l->rest = bytes_of(l->rest.data + PART_LENGTH_BYTES + len, l->rest.len - PART_LENGTH_BYTES - (size_t)len);
            *is_whole = true;
            return ST_OK;
        }
    }
    if (part_reader_is_between(&l->parts))
        arena_reset(&l->arena);
    st = part_reader_feed(&l->parts, &l->rest, len_max, is_whole, blob, err);
    if (st == ST_LIMIT)
        return err_set(err, ST_LIMIT, 0, "it has %llu bytes, at most %llu are taken: raise --max-tx-bytes", (unsigned long long)l->parts.len,
                       (unsigned long long)len_max);
    return st == ST_INVALID ? err_set(err, ST_CORRUPT, 0, "the source announced %llu bytes", (unsigned long long)l->parts.len) : st;
}

/* The call ended, though more was to come. */
static enum status lane_ended(struct tx_stream *t, struct lane *l, struct err *err)
{
    const struct client_status *status = client_call_status(l->call);
    const char *method = t->source->has_no_stream ? SERVICE "exportTx" : SERVICE "streamExportTx";

    if (status->code == RPC_OK)
        return err_set(err, ST_CLOSED, 0, "the source ended %s before the transaction was whole", strrchr(method, '/') + 1);
    /* Asked for are only transactions that its state has named as committed: waiting, or going on without them, would be wrong. */
    if (strstr(status->message, "no new transactions") != NULL || strstr(status->message, "tx not found") != NULL)
        return err_set(err, ST_CORRUPT, 0, "the source has no such transaction (%.80s), though its state names it or a later one", status->message);
    return source_failed(t->source, method, status, err);
}

static enum status lane_read(struct tx_stream *t, struct lane *l, struct bytes *blob, struct err *err)
{
    struct bytes message;
    bool is_whole, is_end;
    enum status st;

    for (;;) {
        if ((st = part_take(t, l, &is_whole, blob, err)) != ST_OK || is_whole)
            return st;
        if (source_is_stopped(t->source))
            return err_set(err, ST_CANCELLED, 0, "stopped");
        if ((st = source_recv(t->source, l->call, &message, &is_end, err)) != ST_OK)
            return st;
        if (is_end)
            return lane_ended(t, l, err);
        if (wire_unpack_chunk(message, &l->rest, err) != ST_OK)
            return err_set(err, ST_CORRUPT, 0, "the source sent a chunk that cannot be read");
    }
}

enum status tx_stream_next(struct tx_stream *t, struct bytes *blob, bool *is_end, struct err *err)
{
    struct lane *l;
    enum status st;

    *blob = bytes_of(NULL, 0);
    *is_end = t->next > t->last;
    if (*is_end)
        return ST_OK;
    /* A single call is over once its transaction was read; the blob of the last call was borrowed from it until now. */
    if (t->next > t->first) {
        l = &t->lanes[(t->next - 1 - t->first) % t->lane_count];
        if (part_reader_is_between(&l->parts))
            arena_reset(&l->arena); /* a large one goes now, not when this lane's turn comes again */
        if (t->source->has_no_stream)
            lane_stop(l);
        if ((st = lane_fill(t, l, err)) != ST_OK)
            return st;
    }
    l = &t->lanes[(t->next - t->first) % t->lane_count];
    assert(l->next_read == t->next && l->call != NULL);
    st = lane_read(t, l, blob, err);
    if (st == ST_UNSUPPORTED && !t->source->has_no_stream) {
        t->source->has_no_stream = true;
        for (unsigned i = 0; i < t->lane_count; i++)
            lane_stop(&t->lanes[i]);
        if ((st = lanes_start(t, err)) != ST_OK)
            return st;
        l = &t->lanes[0];
        st = lane_read(t, l, blob, err);
    }
    if (st != ST_OK)
        return st;
    if (__builtin_add_overflow(l->next_read, t->lane_count, &l->next_read))
        l->next_read = UINT64_MAX;
    t->next++;
    return ST_OK;
}
