/* Recorded verified calls, checked as the published clients check them: state before, request, answer -> state after, or
 * refusal. Keys and values are encoded here by the few rules a client needs. */
#include "golden.h"

#include <stdlib.h>

#define BUF_BYTES ((size_t)1 << 20)

struct state {
    uint64_t tx_id;
    hash_t alh;
};

/* What one call is checked with. */
struct call {
    struct golden *g;
    const json_t *request, *response;
    struct bytes db, public_pem;
    struct state before, after;
};

static struct writer buf_make(struct golden *g)
{
    uint8_t *buf = arena_alloc(&g->arena, BUF_BYTES);

    if (buf == NULL)
        abort();
    return writer_of(buf, BUF_BYTES);
}

static struct bytes buf_done(const struct writer *w) { return bytes_of(w->start, writer_len(w)); }

static uint64_t double_bits(double d)
{
    uint64_t bits;

    memcpy(&bits, &d, sizeof bits);
    return bits;
}

static struct bytes prefixed(struct golden *g, uint8_t prefix, struct bytes b)
{
    struct writer w = buf_make(g);

    writer_u8(&w, prefix);
    writer_put(&w, b.data, b.len);
    return buf_done(&w);
}

static struct bytes reference_value(struct golden *g, struct bytes key, uint64_t at_tx)
{
    struct writer w = buf_make(g);

    writer_u8(&w, 1);
    writer_u64be(&w, at_tx);
    writer_u8(&w, 0);
    writer_put(&w, key.data, key.len);
    return buf_done(&w);
}

static struct bytes zset_key(struct golden *g, const json_t *r)
{
    struct bytes set = golden_hex(g, r, "set"), key = golden_hex(g, r, "key");
    struct writer w = buf_make(g);

    writer_u8(&w, 1);
    writer_u64be(&w, set.len);
    writer_put(&w, set.data, set.len);
    writer_u64be(&w, double_bits(json_number_value(json_object_get(r, "score"))));
    writer_u64be(&w, key.len + 1);
    writer_u8(&w, 0);
    writer_put(&w, key.data, key.len);
    writer_u64be(&w, golden_u64(r, "atTx"));
    return buf_done(&w);
}

static struct bytes metadata_bytes(struct golden *g, const json_t *metadata)
{
    struct writer w = buf_make(g);
    struct kv_metadata md;
    uint8_t buf[KV_METADATA_BYTES_MAX];

    golden_kv_metadata(metadata, &md);
    writer_put(&w, buf, kv_metadata_encode(&md, buf));
    return buf_done(&w);
}

static bool value_digest(uint32_t version, struct bytes key, struct bytes md, struct bytes value, hash_t *digest)
{
    hash_t hval;

    sha256(value.data, value.len, &hval);
    return entry_digest(version, key, md, &hval, digest, NULL) == ST_OK;
}

/* Digests of tx.entries with the answer's hValue; NULL when the version cannot be hashed. */
static hash_t *entries_digest(struct golden *g, const json_t *tx, uint32_t version, size_t *count)
{
    const json_t *entries = json_object_get(tx, "entries"), *e;
    hash_t *digests = arena_array(&g->arena, json_array_size(entries) + 1, 2 * sizeof *digests);
    size_t i;

    if (digests == NULL)
        abort();
    *count = json_array_size(entries);
    json_array_foreach(entries, i, e)
    {
        hash_t hval;

        golden_hash(g, e, "hValue", &hval);
        if (entry_digest(version, golden_hex(g, e, "key"), metadata_bytes(g, json_object_get(e, "metadata")), &hval, &digests[i], NULL) != ST_OK)
            return NULL;
    }
    return digests;
}

static bool signature_holds(struct call *c, const json_t *verifiable_tx)
{
    struct bytes signature = golden_hex(c->g, json_object_get(verifiable_tx, "signature"), "signature");

    return state_signature_verify(c->public_pem, signature, c->db, c->after.tx_id, &c->after.alh);
}

/* A write: Eh is computed from the answer's entries, never taken from the header. */
static bool write_check(struct call *c, struct bytes key, struct bytes md, struct bytes value)
{
    struct golden *g = c->g;
    const json_t *tx = json_object_get(c->response, "tx"), *entries = json_object_get(tx, "entries");
    struct merkle_path path;
    struct dual_proof proof;
    struct tx_header h;
    hash_t *digests, digest, eh;
    size_t count = 0, at = 0;

    golden_header(g, json_object_get(tx, "header"), &h);
    digests = entries_digest(g, tx, h.version, &count);
    while (at < count && !bytes_equal(golden_hex(g, json_array_get(entries, at), "key"), key))
        at++;
    if (h.entry_count != 1 || digests == NULL || at == count || !value_digest(h.version, key, md, value, &digest))
        return false;
    htree_root(digests, count, digests + count, &eh);
    if (htree_inclusion(digests, count, at, digests + count, &path, NULL) != ST_OK ||
        !htree_verify(path.terms, path.term_count, at, count, &digest, &eh))
        return false;
    h.eh = eh;
    golden_dual(g, json_object_get(c->response, "dualProof"), &proof);
    c->after.tx_id = h.id;
    tx_header_alh(&h, &c->after.alh);
    return hash_equal(&eh, &proof.target.eh) &&
           (c->before.tx_id == 0 || dual_proof_verify(&proof, c->before.tx_id, h.id, &c->before.alh, &c->after.alh)) &&
           signature_holds(c, c->response);
}

static bool set_check(struct call *c)
{
    struct golden *g = c->g;
    const json_t *kv = json_array_get(json_object_get(json_object_get(c->request, "setRequest"), "KVs"), 0);
    const json_t *entries = json_object_get(json_object_get(c->response, "tx"), "entries");
    const json_t *metadata = json_object_get(json_array_get(entries, 0), "metadata");

    return json_array_size(entries) == 1 && !golden_true(metadata, "deleted") &&
           write_check(c, prefixed(g, 0, golden_hex(g, kv, "key")), metadata_bytes(g, metadata), prefixed(g, 0, golden_hex(g, kv, "value")));
}

static bool reference_check(struct call *c)
{
    struct golden *g = c->g;
    const json_t *r = json_object_get(c->request, "referenceRequest");

    return write_check(c, prefixed(g, 0, golden_hex(g, r, "key")), bytes_of("", 0),
                       reference_value(g, golden_hex(g, r, "referencedKey"), golden_u64(r, "atTx")));
}

static bool zadd_check(struct call *c)
{
    return write_check(c, zset_key(c->g, json_object_get(c->request, "zAddRequest")), bytes_of("", 0), bytes_of("", 0));
}

/* The common part of reads of tx id read_tx: the new state, the Eh to use, the dual proof, the signature. */
static bool read_check(struct call *c, const json_t *verifiable_tx, uint64_t read_tx, hash_t *eh)
{
    struct dual_proof proof;
    struct state read = {read_tx, {{0}}};
    bool is_newer = c->before.tx_id <= read_tx;
    const struct tx_header *h = is_newer ? &proof.target : &proof.source;
    const struct state *from = is_newer ? &c->before : &read, *to = is_newer ? &read : &c->before;

    golden_dual(c->g, json_object_get(verifiable_tx, "dualProof"), &proof);
    if (h->version > TX_VERSION_MAX)
        return false;
    tx_header_alh(h, &read.alh);
    *eh = h->eh;
    c->after = *to;
    return (c->before.tx_id == 0 || dual_proof_verify(&proof, from->tx_id, to->tx_id, &from->alh, &to->alh)) && signature_holds(c, verifiable_tx);
}

static bool inclusion_check(struct call *c, const hash_t *digest, const hash_t *eh)
{
    const json_t *p = json_object_get(c->response, "inclusionProof");
    struct hash_list terms = golden_hashes(c->g, json_object_get(p, "terms"));

    return htree_verify(terms.items, terms.count, golden_u64(p, "leaf"), golden_u64(p, "width"), digest, eh);
}

static uint32_t tx_version(const json_t *verifiable_tx)
{
    return (uint32_t)golden_u64(json_object_get(json_object_get(verifiable_tx, "tx"), "header"), "version");
}

static bool get_check(struct call *c)
{
    struct golden *g = c->g;
    const json_t *verifiable_tx = json_object_get(c->response, "verifiableTx"), *kr = json_object_get(c->request, "keyRequest");
    const json_t *e = json_object_get(c->response, "entry"), *by = json_object_get(e, "referencedBy");
    struct bytes key = prefixed(g, 0, golden_hex(g, kr, "key")), value;
    uint64_t read_tx = golden_u64(kr, "atTx");
    hash_t digest, eh;

    if (by != NULL)
        value = reference_value(g, golden_hex(g, e, "key"), golden_u64(by, "atTx"));
    else
        value = prefixed(g, 0, golden_hex(g, e, "value"));
    if (read_tx == 0)
        read_tx = golden_u64(by != NULL ? by : e, "tx");
    return value_digest(tx_version(verifiable_tx), key, metadata_bytes(g, json_object_get(by != NULL ? by : e, "metadata")), value, &digest) &&
           read_check(c, verifiable_tx, read_tx, &eh) && inclusion_check(c, &digest, &eh);
}

static bool tx_by_id_check(struct call *c)
{
    hash_t eh;

    return read_check(c, c->response, golden_u64(c->request, "tx"), &eh);
}

/* Primary key value of a request in its ordered encoding. */
static void pk_write(struct golden *g, struct writer *w, const char *type, uint64_t len_max, const json_t *v)
{
    uint64_t bits = 0;

    writer_u8(w, 0x80);
    if (strcmp(type, "VARCHAR") == 0 || strcmp(type, "BLOB") == 0) {
        const char *text = golden_text(v, "s");
        struct bytes b = json_object_get(v, "s") != NULL ? bytes_str(text) : golden_hex(g, v, "bs");

        writer_put(w, b.data, b.len);
        for (uint64_t i = b.len; i < len_max && !w->failed; i++)
            writer_u8(w, 0);
        writer_u32be(w, (uint32_t)b.len);
    } else if (strcmp(type, "BOOLEAN") == 0) {
        writer_u8(w, golden_true(v, "b"));
    } else if (strcmp(type, "FLOAT") == 0) {
        bits = double_bits(json_number_value(json_object_get(v, "f")));
        writer_u64be(w, bits >> 63 != 0 ? ~bits : bits ^ (uint64_t)1 << 63);
    } else if (strcmp(type, "UUID") == 0) {
        char hex[33] = {0};
        size_t n = 0;

        for (const char *s = golden_text(v, "s"); *s != 0 && n < 32; s++)
            if (*s != '-')
                hex[n++] = *s;
        json_t *text = json_string(hex);
        struct bytes b = json_object_get(v, "s") != NULL ? golden_hex_of(g, text) : golden_hex(g, v, "bs");

        writer_put(w, b.data, b.len);
        json_decref(text);
    } else { /* INTEGER, and TIMESTAMP: microseconds in the request, nanoseconds in the key */
        bits = strcmp(type, "TIMESTAMP") == 0 ? golden_u64(v, "ts") * 1000 : golden_u64(v, "n");
        writer_u64be(w, bits ^ (uint64_t)1 << 63);
    }
}

static struct bytes pk_encode(struct call *c)
{
    const json_t *values = json_object_get(json_object_get(c->request, "sqlGetRequest"), "pkValues"), *v;
    struct writer w = buf_make(c->g);
    size_t i;

    json_array_foreach(values, i, v)
    {
        char column[24];

        snprintf(column, sizeof column, "%lld", (long long)json_integer_value(json_array_get(json_object_get(c->response, "PKIDs"), i)));
        pk_write(c->g, &w, golden_text(json_object_get(c->response, "ColTypesById"), column),
                 golden_u64(json_object_get(c->response, "ColLenById"), column), v);
    }
    return buf_done(&w);
}

static struct bytes row_key(struct call *c)
{
    struct bytes pk = pk_encode(c);
    struct writer w = buf_make(c->g);

    writer_put(&w, "\x02R.", 3);
    writer_u32be(&w, (uint32_t)golden_u64(c->response, "DatabaseId"));
    writer_u32be(&w, (uint32_t)golden_u64(c->response, "TableId"));
    writer_u32be(&w, 0);
    writer_put(&w, pk.data, pk.len);
    return buf_done(&w);
}

static bool sql_get_check(struct call *c)
{
    const json_t *verifiable_tx = json_object_get(c->response, "verifiableTx"), *e = json_object_get(c->response, "sqlEntry");
    hash_t digest, eh;

    return value_digest(tx_version(verifiable_tx), row_key(c), bytes_of("", 0), golden_hex(c->g, e, "value"), &digest) &&
           read_check(c, verifiable_tx, golden_u64(e, "tx"), &eh) && inclusion_check(c, &digest, &eh);
}

static const struct method {
    const char *name;
    bool (*check)(struct call *c);
} methods[] = {
    {"VerifiableSet", set_check}, {"VerifiableSetReference", reference_check}, {"VerifiableZAdd", zadd_check},
    {"VerifiableGet", get_check}, {"VerifiableTxById", tx_by_id_check},        {"VerifiableSQLGet", sql_get_check},
};

/* What an untouched answer must be even where clients do not look: entries under Eh, the tx one end of the proof. */
static void answer_check(struct golden *g, const json_t *v)
{
    const json_t *response = json_object_get(v, "response"), *verifiable_tx = json_object_get(response, "verifiableTx"), *tx;
    struct dual_proof proof;
    struct tx_header h;
    hash_t *digests, eh, alh, source, target;
    size_t count = 0;

    if (verifiable_tx == NULL)
        verifiable_tx = response;
    tx = json_object_get(verifiable_tx, "tx");
    golden_header(g, json_object_get(tx, "header"), &h);
    golden_dual(g, json_object_get(verifiable_tx, "dualProof"), &proof);
    digests = entries_digest(g, tx, h.version, &count);
    if (!golden_check(g, digests != NULL, "digests of an answer", v))
        return;
    htree_root(digests, count, digests + count, &eh);
    tx_header_alh(&h, &alh);
    tx_header_alh(&proof.source, &source);
    tx_header_alh(&proof.target, &target);
    golden_check(g, count == h.entry_count && hash_equal(&eh, &h.eh), "entries of an answer under its Eh", v);
    golden_check(g, hash_equal(&alh, &source) || hash_equal(&alh, &target), "tx of an answer in its proof", v);
    golden_check(g, dual_proof_verify(&proof, proof.source.id, proof.target.id, &source, &target), "whole proof of an answer", v);
}

static void call_judge(struct golden *g, const json_t *root, const json_t *v)
{
    const json_t *before = json_object_get(v, "stateBefore"), *after = json_object_get(v, "newState");
    struct call c = {.g = g,
                     .request = json_object_get(v, "request"),
                     .response = json_object_get(v, "response"),
                     .db = bytes_str(golden_text(root, "db")),
                     .public_pem = bytes_str(golden_text(root, "publicPEM"))};
    const struct method *method = NULL;
    bool is_valid = false;
    hash_t alh;

    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (strcmp(methods[i].name, golden_text(v, "method")) == 0)
            method = &methods[i];
    if (!golden_check(g, method != NULL, "known method", v))
        return;
    c.before.tx_id = golden_u64(before, "txId");
    golden_hash(g, before, "txHash", &c.before.alh);
    is_valid = method->check(&c);
    golden_check(g, is_valid == golden_true(v, "valid"), method->name, v);
    if (is_valid && golden_true(v, "valid")) {
        golden_hash(g, after, "txHash", &alh);
        golden_check(g, c.after.tx_id == golden_u64(after, "txId") && hash_equal(&c.after.alh, &alh), "state after a call", v);
    }
    if (golden_text(v, "note")[0] == 0)
        answer_check(g, v);
}

void golden_calls(struct golden *g, const json_t *root)
{
    const json_t *v, *state = json_object_get(root, "currentState");
    size_t i;

    json_array_foreach(json_object_get(root, "calls"), i, v)
    {
        call_judge(g, root, v);
        arena_reset(&g->arena);
    }
    if (state != NULL) {
        struct bytes signature = golden_hex(g, json_object_get(state, "signature"), "signature");
        hash_t alh;

        golden_hash(g, state, "txHash", &alh);
        golden_check(g,
                     state_signature_verify(bytes_str(golden_text(root, "publicPEM")), signature, bytes_str(golden_text(state, "db")),
                                            golden_u64(state, "txId"), &alh),
                     "signed current state", NULL);
    }
}
