/* An entry proof as bytes.
 *
 *   "IMMUPRF1"
 *   bytes(store key)  bytes(metadata)  u8 value_is_gone, then bytes(store value), or the 32 bytes of its hash
 *   inclusion   u64 entry index  u64 entry count  hashes
 *   header      bytes(serialized header)
 *   u8 has_dual, then
 *     bytes(source header)  bytes(target header)  hashes inclusion  hashes consistency  32 target_bl_alh  hashes last_inclusion
 *     u8 has_linear, then   u64 source  u64 target  hashes
 *     u8 has_advance, then  hashes terms  u32 count, count x hashes
 *
 *   bytes(x) = u32 length, x;   hashes = u32 count, count x 32
 *
 * All integers big-endian. Written twice by the same code: once to measure, once into the buffer. */
#include "api/api_struct.h"

static const uint8_t MAGIC[8] = {'I', 'M', 'M', 'U', 'P', 'R', 'F', '1'};
enum { MAGIC_NAME_BYTES = 7 };

/* --- encoding --- */
struct sink {
    struct writer *w; /* NULL: measuring */
    uint64_t len;
};
static void put(struct sink *s, const void *data, size_t len)
{
    s->len += len;
    if (s->w != NULL)
        writer_put(s->w, data, len);
}
static void put_u8(struct sink *s, uint8_t v) { put(s, &v, 1); }
static void put_u32(struct sink *s, uint32_t v)
{
    uint8_t b[4];

    store_u32be(b, v);
    put(s, b, sizeof b);
}
static void put_u64(struct sink *s, uint64_t v)
{
    uint8_t b[8];

    store_u64be(b, v);
    put(s, b, sizeof b);
}
static void put_bytes(struct sink *s, struct bytes b)
{
    put_u32(s, (uint32_t)b.len);
    put(s, b.data, b.len);
}
static void put_hashes(struct sink *s, struct hash_list l)
{
    put_u32(s, (uint32_t)l.count);
    put(s, l.items, l.count * HASH_LEN);
}
static void put_header(struct sink *s, const struct tx_header *h)
{
    uint8_t buf[TX_HEADER_BYTES_MAX];

    put_bytes(s, bytes_of(buf, tx_header_encode(h, buf)));
}

/* The parts, taken from the caller's structs and checked. */
struct parts {
    immudb_entry_proof p;
    immudb_inclusion_proof inclusion;
    struct tx_header header;
    struct dual_proof dual;
};
static bool list_fits(struct hash_list l) { return l.count <= LINEAR_TERMS_MAX; }

static enum status parts_check(const struct parts *x, struct err *err)
{
    const struct dual_proof *d = &x->dual;
    bool fits = list_fits(list_in(x->inclusion.terms)) && list_fits(d->inclusion) && list_fits(d->consistency) && list_fits(d->last_inclusion) &&
                list_fits(d->linear.terms) && list_fits(d->advance.terms) && d->advance.inclusion_count <= LINEAR_TERMS_MAX;

    for (size_t i = 0; fits && i < d->advance.inclusion_count; i++)
        fits = d->advance.inclusions[i].count <= MERKLE_TERMS_MAX;
    if (!fits || x->p.store_key.len > UINT16_MAX || x->p.metadata.len > KV_METADATA_BYTES_MAX || x->p.store_value.len > UINT32_MAX)
        return err_set(err, ST_INVALID, 0, "the proof has parts of impossible length");
    return ST_OK;
}

static enum status parts_take(const immudb_entry_proof *proof, struct parts *x, struct err *err)
{
    enum status st;

    memset(x, 0, sizeof *x);
    if ((st = sized_in(&x->p, sizeof x->p, proof, false, "immudb_entry_proof", err)) != ST_OK ||
        (st = sized_in(&x->inclusion, sizeof x->inclusion, x->p.inclusion, false, "immudb_inclusion_proof", err)) != ST_OK ||
        (st = header_in(x->p.header, &x->header, err)) != ST_OK)
        return st;
    if (x->p.dual != NULL && (st = dual_in(x->p.dual, &x->dual, err)) != ST_OK)
        return st;
    if ((st = bytes_check(x->p.store_key, "store_key", err)) != ST_OK || (st = bytes_check(x->p.store_value, "store_value", err)) != ST_OK ||
        (st = bytes_check(x->p.metadata, "metadata", err)) != ST_OK)
        return st;
    return parts_check(x, err);
}

static void dual_put(struct sink *s, const struct dual_proof *d)
{
    put_header(s, &d->source);
    put_header(s, &d->target);
    put_hashes(s, d->inclusion);
    put_hashes(s, d->consistency);
    put(s, d->target_bl_alh.b, HASH_LEN);
    put_hashes(s, d->last_inclusion);
    put_u8(s, d->has_linear);
    if (d->has_linear) {
        put_u64(s, d->linear.source_tx_id);
        put_u64(s, d->linear.target_tx_id);
        put_hashes(s, d->linear.terms);
    }
    put_u8(s, d->advance.is_present);
    if (!d->advance.is_present)
        return;
    put_hashes(s, d->advance.terms);
    put_u32(s, (uint32_t)d->advance.inclusion_count);
    for (size_t i = 0; i < d->advance.inclusion_count; i++)
        put_hashes(s, d->advance.inclusions[i]);
}

static void parts_put(struct sink *s, const struct parts *x)
{
    put(s, MAGIC, sizeof MAGIC);
    put_bytes(s, bytes_in(x->p.store_key));
    put_bytes(s, bytes_in(x->p.metadata));
    put_u8(s, x->p.value_is_gone != 0);
    if (x->p.value_is_gone)
        put(s, x->p.value_hash.bytes, HASH_LEN);
    else
        put_bytes(s, bytes_in(x->p.store_value));
    put_u64(s, x->inclusion.entry_index);
    put_u64(s, x->inclusion.entry_count);
    put_hashes(s, list_in(x->inclusion.terms));
    put_header(s, &x->header);
    put_u8(s, x->p.dual != NULL);
    if (x->p.dual != NULL)
        dual_put(s, &x->dual);
}

immudb_status immudb_entry_proof_encode(const immudb_entry_proof *proof, immudb_buffer *buffer, immudb_bytes *out, immudb_error *error)
{
    struct parts x;
    struct sink measure = {NULL, 0}, sink;
    struct writer w;
    struct err err;
    uint8_t *data;
    enum status st;

    if (buffer == NULL || out == NULL)
        return api_result(api_null(&err, buffer == NULL ? "buffer" : "out"), &err, error);
    *out = immudb_bytes_of(NULL, 0);
    if ((st = parts_take(proof, &x, &err)) != ST_OK)
        return api_result(st, &err, error);
    parts_put(&measure, &x);
    arena_reset(&buffer->arena);
    data = measure.len <= SIZE_MAX ? arena_alloc(&buffer->arena, (size_t)measure.len) : NULL;
    if (data == NULL)
        return api_result(err_set(&err, ST_NOMEM, 0, "a proof of %llu bytes", (unsigned long long)measure.len), &err, error);
    w = writer_of(data, (size_t)measure.len);
    sink = (struct sink){&w, 0};
    parts_put(&sink, &x);
    assert(!w.failed && sink.len == measure.len);
    *out = immudb_bytes_of(data, (size_t)measure.len);
    return api_result(ST_OK, NULL, error);
}

/* --- decoding --- */
static struct bytes take_bytes(struct reader *r) { return reader_bytes(r, reader_u32be(r)); }

/* Borrowed: hashes have no alignment. */
static immudb_hashes take_hashes(struct reader *r)
{
    uint32_t count = reader_u32be(r);
    const uint8_t *p;

    if (r->failed || count > reader_left(r) / HASH_LEN) {
        r->failed = true;
        return (immudb_hashes){0, NULL};
    }
    p = reader_take(r, (size_t)count * HASH_LEN);
    return (immudb_hashes){count, (const immudb_hash *)p};
}

static bool take_flag(struct reader *r)
{
    uint8_t v = reader_u8(r);

    if (v > 1)
        r->failed = true;
    return v == 1;
}

static enum status take_header(struct reader *r, struct arena *arena, const immudb_header **out, struct err *err)
{
    struct bytes b = take_bytes(r);
    struct tx_header h;
    enum status st;

    *out = NULL;
    if (r->failed)
        return ST_OK; /* said at the end */
    if ((st = tx_header_decode(b, &h, err)) != ST_OK)
        return st == ST_INVALID ? err_set(err, ST_CORRUPT, 0, "a header in the proof is malformed") : st;
    return header_copy(&h, arena, out, err);
}

static enum status take_advance(struct reader *r, struct arena *arena, const immudb_linear_advance_proof **out, struct err *err)
{
    immudb_linear_advance_proof *a = arena_alloc(arena, sizeof *a);
    immudb_hashes *inclusions;
    uint32_t count;

    if (a == NULL)
        return err_set(err, ST_NOMEM, 0, "a proof");
    immudb_linear_advance_proof_init(a);
    a->terms = take_hashes(r);
    count = reader_u32be(r);
    if (r->failed || count > reader_left(r) / 4) { /* each takes at least its count */
        r->failed = true;
        return ST_OK;
    }
    if ((inclusions = arena_array(arena, count, sizeof *inclusions)) == NULL)
        return err_set(err, ST_NOMEM, 0, "a proof of %u inclusions", count);
    for (uint32_t i = 0; i < count; i++)
        inclusions[i] = take_hashes(r);
    a->inclusions = inclusions;
    a->inclusion_count = count;
    *out = a;
    return ST_OK;
}

static enum status take_dual(struct reader *r, struct arena *arena, const immudb_dual_proof **out, struct err *err)
{
    immudb_dual_proof *d = arena_alloc(arena, sizeof *d);
    immudb_linear_proof *linear;
    const uint8_t *p;
    enum status st;

    if (d == NULL)
        return err_set(err, ST_NOMEM, 0, "a proof");
    immudb_dual_proof_init(d);
    if ((st = take_header(r, arena, &d->source, err)) != ST_OK || (st = take_header(r, arena, &d->target, err)) != ST_OK)
        return st;
    d->inclusion = take_hashes(r);
    d->consistency = take_hashes(r);
    if ((p = reader_take(r, HASH_LEN)) != NULL)
        memcpy(d->target_bl_alh.bytes, p, HASH_LEN);
    d->last_inclusion = take_hashes(r);
    if (take_flag(r)) {
        if ((linear = arena_alloc(arena, sizeof *linear)) == NULL)
            return err_set(err, ST_NOMEM, 0, "a proof");
        immudb_linear_proof_init(linear);
        linear->source_tx_id = reader_u64be(r);
        linear->target_tx_id = reader_u64be(r);
        linear->terms = take_hashes(r);
        d->linear = linear;
    }
    *out = d;
    return take_flag(r) ? take_advance(r, arena, &d->advance, err) : ST_OK;
}

static enum status decode(struct bytes in, struct arena *arena, immudb_entry_proof *out, struct err *err)
{
    struct reader r = reader_of(in);
    const uint8_t *magic = reader_take(&r, sizeof MAGIC), *p;
    immudb_inclusion_proof *inclusion = arena_alloc(arena, sizeof *inclusion);
    enum status st;

    if (inclusion == NULL)
        return err_set(err, ST_NOMEM, 0, "a proof");
    if (magic == NULL || memcmp(magic, MAGIC, MAGIC_NAME_BYTES) != 0)
        return err_set(err, ST_CORRUPT, 0, "this is no entry proof");
    if (magic[MAGIC_NAME_BYTES] != MAGIC[MAGIC_NAME_BYTES])
        return err_set(err, ST_UNSUPPORTED, 0, "an entry proof of format %c",
                       magic[MAGIC_NAME_BYTES] >= ' ' && magic[MAGIC_NAME_BYTES] < 127 ? magic[MAGIC_NAME_BYTES] : '?');
    immudb_inclusion_proof_init(inclusion);
    out->store_key = bytes_out(take_bytes(&r));
    out->metadata = bytes_out(take_bytes(&r));
    out->value_is_gone = take_flag(&r);
    if (!out->value_is_gone)
        out->store_value = bytes_out(take_bytes(&r));
    else if ((p = reader_take(&r, HASH_LEN)) != NULL)
        memcpy(out->value_hash.bytes, p, HASH_LEN);
    inclusion->entry_index = reader_u64be(&r);
    inclusion->entry_count = reader_u64be(&r);
    inclusion->terms = take_hashes(&r);
    out->inclusion = inclusion;
    if ((st = take_header(&r, arena, &out->header, err)) != ST_OK)
        return st;
    if (take_flag(&r) && (st = take_dual(&r, arena, &out->dual, err)) != ST_OK)
        return st;
    if (!reader_done(&r))
        return err_set(err, ST_CORRUPT, 0, "an entry proof of %zu bytes is malformed", in.len);
    if (!out->value_is_gone) {
        hash_t hval;

        sha256(out->store_value.data, out->store_value.len, &hval);
        out->value_hash = hash_out(&hval);
    }
    return ST_OK;
}

immudb_status immudb_entry_proof_decode(immudb_bytes in, immudb_buffer *buffer, immudb_entry_proof *out, immudb_error *error)
{
    immudb_entry_proof p;
    struct err err;
    enum status st;

    if (buffer == NULL)
        return api_result(api_null(&err, "buffer"), &err, error);
    if ((st = sized_out_begin(out, false, "immudb_entry_proof", &err)) != ST_OK || (st = bytes_check(in, "in", &err)) != ST_OK)
        return api_result(st, &err, error);
    arena_reset(&buffer->arena);
    immudb_entry_proof_init(&p);
    if ((st = decode(bytes_in(in), &buffer->arena, &p, &err)) == ST_OK)
        sized_out(out, &p, sizeof p);
    return api_result(st, &err, error);
}
