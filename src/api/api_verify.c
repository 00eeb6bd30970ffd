/* Hashes and verification: thin over merkle, tx and proof. A proof that does not prove is IMMUDB_CORRUPT. */
#include "api/api_struct.h"

static enum status judged(bool holds, struct err *err, const char *what)
{
    return holds ? ST_OK : err_set(err, ST_CORRUPT, 0, "%s does not verify", what);
}

/* --- hashes --- */
void immudb_sha256(immudb_bytes data, immudb_hash *out)
{
    hash_t h;

    sha256(data.data, data.len, &h);
    *out = hash_out(&h);
}

static immudb_bytes plain(immudb_bytes b, size_t len_min)
{
    const uint8_t *data = b.data;

    if (data == NULL || b.len < len_min || data[0] != 0x00)
        return immudb_bytes_of(NULL, 0);
    return immudb_bytes_of(data + 1, b.len - 1);
}
immudb_bytes immudb_plain_key(immudb_bytes store_key) { return plain(store_key, 2); }
immudb_bytes immudb_plain_value(immudb_bytes store_value) { return plain(store_value, 1); }

immudb_status immudb_header_alh(const immudb_header *header, immudb_hash *out, immudb_error *error)
{
    struct tx_header h;
    struct err err;
    hash_t alh;
    enum status st = out == NULL ? api_null(&err, "out") : header_in(header, &h, &err);

    if (st == ST_OK) {
        tx_header_alh(&h, &alh);
        *out = hash_out(&alh);
    }
    return api_result(st, &err, error);
}

immudb_status immudb_entry_digest(uint32_t version, immudb_bytes store_key, immudb_bytes metadata, const immudb_hash *value_hash, immudb_hash *out,
                                  immudb_error *error)
{
    struct err err;
    hash_t digest;
    enum status st;

    if (value_hash == NULL || out == NULL)
        st = api_null(&err, value_hash == NULL ? "value_hash" : "out");
    else if (version > TX_VERSION_MAX)
        st = err_set(&err, ST_UNSUPPORTED, 0, "tx created with a newer version or data is corrupted");
    else if (store_key.data == NULL || store_key.len == 0 || store_key.len > UINT16_MAX || metadata.len > KV_METADATA_BYTES_MAX)
        st = err_set(&err, ST_INVALID, 0, "a key of %zu and metadata of %zu bytes", store_key.len, metadata.len);
    else if ((st = bytes_check(metadata, "metadata", &err)) == ST_OK)
        st = entry_digest(version, bytes_in(store_key), bytes_in(metadata), hash_in(value_hash), &digest, &err);
    if (st == ST_OK)
        *out = hash_out(&digest);
    return api_result(st, &err, error);
}

/* --- proofs --- */
immudb_status immudb_verify_inclusion(const immudb_inclusion_proof *proof, const immudb_hash *digest, const immudb_hash *eh, immudb_error *error)
{
    immudb_inclusion_proof p;
    struct err err;
    struct hash_list terms;
    enum status st = sized_in(&p, sizeof p, proof, false, "immudb_inclusion_proof", &err);

    if (st == ST_OK && (digest == NULL || eh == NULL))
        st = api_null(&err, digest == NULL ? "digest" : "eh");
    if (st == ST_OK) {
        terms = list_in(p.terms);
        st = judged(htree_verify(terms.items, terms.count, p.entry_index, p.entry_count, hash_in(digest), hash_in(eh)), &err,
                    "inclusion of the entry");
    }
    return api_result(st, &err, error);
}

immudb_status immudb_verify_linear(const immudb_linear_proof *proof, uint64_t source, uint64_t target, const immudb_hash *source_alh,
                                   const immudb_hash *target_alh, immudb_error *error)
{
    immudb_linear_proof p;
    struct linear_proof ours;
    struct err err;
    enum status st = sized_in(&p, sizeof p, proof, false, "immudb_linear_proof", &err);

    if (st == ST_OK && (source_alh == NULL || target_alh == NULL))
        st = api_null(&err, "alh");
    if (st == ST_OK) {
        ours = (struct linear_proof){p.source_tx_id, p.target_tx_id, list_in(p.terms)};
        st = judged(linear_proof_verify(&ours, source, target, hash_in(source_alh), hash_in(target_alh)), &err, "linear proof");
    }
    return api_result(st, &err, error);
}

immudb_status immudb_verify_linear_advance(const immudb_linear_advance_proof *proof, uint64_t start, uint64_t end, const immudb_hash *end_alh,
                                           const immudb_hash *tree_root, uint64_t tree_size, immudb_error *error)
{
    struct linear_advance_proof p;
    struct err err;
    enum status st = advance_in(proof, &p, &err);

    if (st == ST_OK && (end_alh == NULL || tree_root == NULL))
        st = api_null(&err, end_alh == NULL ? "end_alh" : "tree_root");
    if (st == ST_OK)
        st = judged(linear_advance_verify(&p, start, end, hash_in(end_alh), hash_in(tree_root), tree_size), &err, "linear advance proof");
    return api_result(st, &err, error);
}

immudb_status immudb_verify_dual(const immudb_dual_proof *proof, uint64_t source, uint64_t target, const immudb_hash *source_alh,
                                 const immudb_hash *target_alh, immudb_error *error)
{
    struct dual_proof p;
    struct err err;
    enum status st = dual_in(proof, &p, &err);

    if (st == ST_OK && (source_alh == NULL || target_alh == NULL))
        st = api_null(&err, "alh");
    if (st == ST_OK)
        st = judged(dual_proof_verify(&p, source, target, hash_in(source_alh), hash_in(target_alh)), &err, "dual proof");
    return api_result(st, &err, error);
}

immudb_status immudb_verify_dual_v2(const immudb_dual_proof_v2 *proof, uint64_t source, uint64_t target, const immudb_hash *source_alh,
                                    const immudb_hash *target_alh, immudb_error *error)
{
    immudb_dual_proof_v2 p;
    struct dual_proof_v2 ours;
    struct err err, why;
    enum status st = sized_in(&p, sizeof p, proof, false, "immudb_dual_proof_v2", &err);

    memset(&ours, 0, sizeof ours);
    if (st == ST_OK && (source_alh == NULL || target_alh == NULL))
        st = api_null(&err, "alh");
    if (st != ST_OK || (st = header_in(p.source, &ours.source, &err)) != ST_OK || (st = header_in(p.target, &ours.target, &err)) != ST_OK)
        return api_result(st, &err, error);
    ours.has_source = ours.has_target = true;
    ours.inclusion = list_in(p.inclusion);
    ours.consistency = list_in(p.consistency);
    if (dual_proof_v2_verify(&ours, source, target, hash_in(source_alh), hash_in(target_alh), &why) != ST_OK)
        st = err_set(&err, ST_CORRUPT, 0, "dual proof does not verify: %s", why.text);
    return api_result(st, &err, error);
}

immudb_status immudb_verify_tree_inclusion(immudb_hashes terms, uint64_t tx_id, uint64_t tree_size, const immudb_hash *alh,
                                           const immudb_hash *tree_root, immudb_error *error)
{
    struct hash_list l = list_in(terms);
    struct err err;
    enum status st = ST_OK;

    if (alh == NULL || tree_root == NULL)
        st = api_null(&err, alh == NULL ? "alh" : "tree_root");
    if (st == ST_OK)
        st = judged(inclusion_verify(l.items, l.count, tx_id, tree_size, hash_in(alh), hash_in(tree_root)), &err, "inclusion in the tree");
    return api_result(st, &err, error);
}

immudb_status immudb_verify_tree_consistency(immudb_hashes terms, uint64_t old_size, uint64_t new_size, const immudb_hash *old_root,
                                             const immudb_hash *new_root, immudb_error *error)
{
    struct hash_list l = list_in(terms);
    struct err err;
    enum status st = ST_OK;

    if (old_root == NULL || new_root == NULL)
        st = api_null(&err, "root");
    if (st == ST_OK)
        st = judged(consistency_verify(l.items, l.count, old_size, new_size, hash_in(old_root), hash_in(new_root)), &err, "consistency of the trees");
    return api_result(st, &err, error);
}

immudb_status immudb_verify_signature(immudb_bytes public_key, immudb_bytes signature, const char *db_name, uint64_t tx_id, const immudb_hash *alh,
                                      immudb_error *error)
{
    struct err err;
    struct bytes name = db_name == NULL ? bytes_of(NULL, 0) : bytes_str(db_name);
    enum status st;

    if (db_name == NULL || alh == NULL)
        st = api_null(&err, db_name == NULL ? "db_name" : "alh");
    else if (name.len > STATE_DB_LEN_MAX)
        st = err_set(&err, ST_INVALID, 0, "a database name of %zu bytes", name.len);
    else if ((st = bytes_check(public_key, "public_key", &err)) == ST_OK && (st = bytes_check(signature, "signature", &err)) == ST_OK)
        st = judged(state_signature_verify(bytes_in(public_key), bytes_in(signature), name, tx_id, hash_in(alh)), &err, "signature of the state");
    return api_result(st, &err, error);
}

/* --- one entry and all that proves it --- */
static enum status entry_digest_of(const immudb_entry_proof *p, uint32_t version, hash_t *digest, struct err *err)
{
    hash_t hval = *hash_in(&p->value_hash);

    if (p->store_key.data == NULL || p->store_key.len == 0 || p->store_key.len > UINT16_MAX || p->metadata.len > KV_METADATA_BYTES_MAX)
        return err_set(err, ST_INVALID, 0, "a key of %zu and metadata of %zu bytes", p->store_key.len, p->metadata.len);
    if (!p->value_is_gone)
        sha256(p->store_value.data, p->store_value.data == NULL ? 0 : p->store_value.len, &hval);
    return entry_digest(version, bytes_in(p->store_key), bytes_in(p->metadata), &hval, digest, err);
}

/* The header is the one of the dual proof's end that is not the trusted one. */
static enum status bind_to_trusted(const immudb_entry_proof *p, const struct tx_header *h, const hash_t *alh, uint64_t trusted_tx_id,
                                   const hash_t *trusted_alh, uint64_t *new_tx_id, hash_t *new_alh, struct err *err)
{
    bool is_newer = h->id >= trusted_tx_id;
    const hash_t *source_alh = is_newer ? trusted_alh : alh, *target_alh = is_newer ? alh : trusted_alh;
    struct dual_proof dual;
    enum status st;

    *new_tx_id = is_newer ? h->id : trusted_tx_id;
    *new_alh = *target_alh;
    if (trusted_tx_id == 0)
        return ST_OK;
    if (p->dual == NULL)
        return err_set(err, ST_CORRUPT, 0, "the proof does not lead to the trusted transaction %llu", (unsigned long long)trusted_tx_id);
    if ((st = dual_in(p->dual, &dual, err)) != ST_OK)
        return st;
    return judged(dual_proof_verify(&dual, is_newer ? trusted_tx_id : h->id, *new_tx_id, source_alh, target_alh), err, "dual proof");
}

static enum status entry_proof_verify(const immudb_entry_proof *p, uint64_t trusted_tx_id, const hash_t *trusted_alh, uint64_t *new_tx_id,
                                      hash_t *new_alh, struct err *err)
{
    immudb_inclusion_proof inclusion;
    struct tx_header h;
    struct hash_list terms;
    hash_t digest, alh;
    enum status st;

    if ((st = bytes_check(p->store_value, "store_value", err)) != ST_OK || (st = bytes_check(p->metadata, "metadata", err)) != ST_OK ||
        (st = sized_in(&inclusion, sizeof inclusion, p->inclusion, false, "immudb_inclusion_proof", err)) != ST_OK ||
        (st = header_in(p->header, &h, err)) != ST_OK || (st = entry_digest_of(p, h.version, &digest, err)) != ST_OK)
        return st;
    terms = list_in(inclusion.terms);
    if (h.id == 0 || inclusion.entry_count != h.entry_count ||
        !htree_verify(terms.items, terms.count, inclusion.entry_index, inclusion.entry_count, &digest, &h.eh))
        return judged(false, err, "inclusion of the entry");
    tx_header_alh(&h, &alh);
    return bind_to_trusted(p, &h, &alh, trusted_tx_id, trusted_alh, new_tx_id, new_alh, err);
}

immudb_status immudb_verify_entry_proof(const immudb_entry_proof *proof, uint64_t trusted_tx_id, const immudb_hash *trusted_alh, uint64_t *new_tx_id,
                                        immudb_hash *new_alh, immudb_error *error)
{
    immudb_entry_proof p;
    struct err err;
    uint64_t tx_id = 0;
    hash_t alh;
    enum status st = sized_in(&p, sizeof p, proof, false, "immudb_entry_proof", &err);

    if (st == ST_OK && trusted_tx_id != 0 && trusted_alh == NULL)
        st = api_null(&err, "trusted_alh");
    if (st == ST_OK)
        st = entry_proof_verify(&p, trusted_tx_id, hash_in(trusted_alh), &tx_id, &alh, &err);
    if (st == ST_OK && new_tx_id != NULL)
        *new_tx_id = tx_id;
    if (st == ST_OK && new_alh != NULL)
        *new_alh = hash_out(&alh);
    return api_result(st, &err, error);
}
