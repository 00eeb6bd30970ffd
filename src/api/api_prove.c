/* Making proofs, and the verified read that makes and checks one. */
#include "api/api_internal.h"

#include "store/kv_encoding.h"

static enum status no_memory(struct err *err) { return err_set(err, ST_NOMEM, 0, "a proof"); }

/* --- inclusion of an entry --- */
static enum status inclusion_make(immudb_db *db, struct log_tx *t, uint32_t entry_index, struct arena *arena, immudb_inclusion_proof *out,
                                  struct err *err)
{
    struct merkle_path path;
    hash_t *terms;
    enum status st;

    immudb_inclusion_proof_init(out);
    if ((st = store_entry_inclusion(db->store, t, entry_index, arena, &path, err)) != ST_OK)
        return st;
    if ((terms = arena_array(arena, path.term_count, sizeof *terms)) == NULL)
        return no_memory(err);
    memcpy(terms, path.terms, path.term_count * sizeof *terms);
    out->entry_index = entry_index;
    out->entry_count = t->entry_count;
    out->terms = list_out((struct hash_list){path.term_count, terms});
    return ST_OK;
}

/* Opens a tx that may be proven. */
static enum status provable_open(immudb_db *db, uint64_t tx_id, struct log_tx *t, struct err *err)
{
    struct store_state state;

    store_get_state(db->store, &state);
    if (tx_id == 0 || tx_id > state.tx_id)
        return err_set(err, ST_NOT_FOUND, 0, "tx not found");
    return store_tx_open(db->store, tx_id, false, t, err);
}

static enum status digest_of(struct log_tx *t, const struct tx_entry *e, immudb_hash *out, struct err *err)
{
    hash_t digest;
    enum status st = entry_digest(t->header.version, e->key, e->md, &e->hval, &digest, err);

    if (st == ST_OK)
        *out = hash_out(&digest);
    return st;
}

static enum status prove_inclusion(immudb_db *db, uint64_t tx_id, struct bytes store_key, struct arena *arena, immudb_inclusion_proof *out,
                                   immudb_hash *digest, struct err *err)
{
    uint32_t entry_index = 0;
    struct tx_entry e;
    struct log_tx t;
    enum status st = provable_open(db, tx_id, &t, err);

    if (st != ST_OK)
        return st;
    if ((st = store_tx_find(db->store, &t, store_key, &entry_index, err)) == ST_OK)
        st = inclusion_make(db, &t, entry_index, arena, out, err);
    if (st == ST_OK && digest != NULL && (st = store_tx_entry(db->store, &t, entry_index, &e, err)) == ST_OK)
        st = digest_of(&t, &e, digest, err);
    store_tx_close(db->store, &t);
    return st;
}

immudb_status immudb_prove_inclusion(immudb_db *db, uint64_t tx_id, immudb_bytes key, uint32_t flags, immudb_buffer *buffer,
                                     immudb_inclusion_proof *out, immudb_hash *digest, immudb_error *error)
{
    immudb_inclusion_proof p;
    struct key_ref k;
    struct err err;
    enum status st = db == NULL || buffer == NULL ? api_null(&err, db == NULL ? "db" : "buffer")
                                                  : sized_out_begin(out, false, "immudb_inclusion_proof", &err);

    if (st != ST_OK || (st = key_open(key, flags, &k, &err)) != ST_OK)
        return api_result(st, &err, error);
    if ((st = prove_inclusion(db, tx_id, k.store_key, arena_of(buffer), &p, digest, &err)) == ST_OK)
        sized_out(out, &p, sizeof p);
    key_close(&k);
    return api_result(st, &err, error);
}

/* --- between transactions --- */
immudb_status immudb_prove_dual(immudb_db *db, uint64_t source, uint64_t target, immudb_buffer *buffer, immudb_dual_proof *out, immudb_error *error)
{
    struct dual_proof proof;
    immudb_dual_proof p;
    struct err err;
    struct arena *arena;
    enum status st = db == NULL || buffer == NULL ? api_null(&err, db == NULL ? "db" : "buffer")
                                                  : sized_out_begin(out, false, "immudb_dual_proof", &err);

    if (st != ST_OK)
        return api_result(st, &err, error);
    arena = arena_of(buffer);
    if ((st = store_dual_proof(db->store, source, target, arena, &proof, &err)) == ST_OK && (st = dual_out(&proof, arena, &p, &err)) == ST_OK)
        sized_out(out, &p, sizeof p);
    return api_result(st, &err, error);
}

immudb_status immudb_prove_dual_v2(immudb_db *db, uint64_t source, uint64_t target, immudb_buffer *buffer, immudb_dual_proof_v2 *out,
                                   immudb_error *error)
{
    struct dual_proof_v2 proof;
    immudb_dual_proof_v2 p;
    struct err err;
    struct arena *arena;
    enum status st = db == NULL || buffer == NULL ? api_null(&err, db == NULL ? "db" : "buffer")
                                                  : sized_out_begin(out, false, "immudb_dual_proof_v2", &err);

    if (st != ST_OK)
        return api_result(st, &err, error);
    arena = arena_of(buffer);
    immudb_dual_proof_v2_init(&p);
    if ((st = store_dual_proof_v2(db->store, source, target, arena, &proof, &err)) != ST_OK ||
        (st = header_copy(&proof.source, arena, &p.source, &err)) != ST_OK || (st = header_copy(&proof.target, arena, &p.target, &err)) != ST_OK)
        return api_result(st, &err, error);
    p.inclusion = list_out(proof.inclusion);
    p.consistency = list_out(proof.consistency);
    sized_out(out, &p, sizeof p);
    return api_result(ST_OK, NULL, error);
}

immudb_status immudb_prove_linear(immudb_db *db, uint64_t source, uint64_t target, immudb_buffer *buffer, immudb_linear_proof *out,
                                  immudb_error *error)
{
    struct linear_proof proof;
    immudb_linear_proof p;
    struct err err;
    enum status st = db == NULL || buffer == NULL ? api_null(&err, db == NULL ? "db" : "buffer")
                                                  : sized_out_begin(out, false, "immudb_linear_proof", &err);

    if (st == ST_OK && (st = store_linear_proof(db->store, source, target, arena_of(buffer), &proof, &err)) == ST_OK) {
        immudb_linear_proof_init(&p);
        p.source_tx_id = proof.source_tx_id;
        p.target_tx_id = proof.target_tx_id;
        p.terms = list_out(proof.terms);
        sized_out(out, &p, sizeof p);
    }
    return api_result(st, &err, error);
}

immudb_status immudb_prove_linear_advance(immudb_db *db, uint64_t start, uint64_t end, uint64_t tree_size, immudb_buffer *buffer,
                                          immudb_linear_advance_proof *out, immudb_error *error)
{
    struct linear_advance_proof proof;
    immudb_linear_advance_proof p;
    struct err err;
    enum status st = db == NULL || buffer == NULL ? api_null(&err, db == NULL ? "db" : "buffer")
                                                  : sized_out_begin(out, false, "immudb_linear_advance_proof", &err);

    if (st == ST_OK && (st = store_linear_advance(db->store, start, end, tree_size, arena_of(buffer), &proof, &err)) == ST_OK) {
        immudb_linear_advance_proof_init(&p);
        p.terms = list_out(proof.terms);
        p.inclusions = (const immudb_hashes *)proof.inclusions;
        p.inclusion_count = proof.inclusion_count;
        sized_out(out, &p, sizeof p);
    }
    return api_result(st, &err, error);
}

immudb_status immudb_tree_root(immudb_db *db, uint64_t tree_size, immudb_hash *out, immudb_error *error)
{
    struct err err;
    hash_t root;
    enum status st = db == NULL || out == NULL ? api_null(&err, db == NULL ? "db" : "out") : store_root_at(db->store, tree_size, &root, &err);

    if (st == ST_OK)
        *out = hash_out(&root);
    return api_result(st, &err, error);
}

/* --- one entry and all that proves it --- */
/* tx_id 0 becomes the newest tx on disk that has written the key. */
static enum status newest_tx(immudb_db *db, const struct key_ref *key, uint64_t *tx_id, uint64_t *revision, struct err *err)
{
    struct store_snapshot *view = NULL;
    struct index_version version;
    struct store_state state;
    enum status st;

    if ((st = store_end_check(db->store, err)) != ST_OK)
        return st; /* an older version is not the newest */
    store_get_state(db->store, &state);
    if (state.tx_id == 0)
        return err_set(err, ST_NOT_FOUND, 0, "key not found");
    if (!key->is_indexed)
        return key_not_indexed(err);
    if ((st = store_snapshot_open(db->store, state.tx_id, &view, err)) != ST_OK)
        return st;
    st = index_get(store_snapshot_index(view), key->ns, key->index_key, false, &version, revision, err);
    store_snapshot_close(view);
    if (st == ST_OK)
        *tx_id = version.tx_id;
    return st == ST_NOT_FOUND ? err_set(err, ST_NOT_FOUND, 0, "key not found") : st;
}

/* The entry itself, in the arena. */
static enum status proof_entry(immudb_db *db, struct log_tx *t, uint32_t entry_index, struct arena *arena, immudb_entry_proof *out, struct err *err)
{
    struct bytes key, md, value = bytes_of(NULL, 0);
    struct tx_entry e;
    enum status st;

    if ((st = store_tx_entry(db->store, t, entry_index, &e, err)) != ST_OK)
        return st;
    if (!e.is_value_gone && (st = store_tx_value(db->store, t, entry_index, arena, &value, err)) != ST_OK)
        return st;
    key = arena_copy(arena, e.key);
    md = arena_copy(arena, e.md);
    value = arena_copy(arena, value);
    if (key.data == NULL || md.data == NULL || value.data == NULL)
        return no_memory(err);
    out->store_key = bytes_out(key);
    out->metadata = bytes_out(md);
    out->value_is_gone = e.is_value_gone;
    out->value_hash = hash_out(&e.hval);
    if (!e.is_value_gone)
        out->store_value = bytes_out(value);
    return ST_OK;
}

static enum status proof_dual(immudb_db *db, uint64_t tx_id, uint64_t trusted, struct arena *arena, immudb_entry_proof *out, struct err *err)
{
    immudb_dual_proof *d = arena_alloc(arena, sizeof *d);
    struct dual_proof dual;
    enum status st;

    if (d == NULL)
        return no_memory(err);
    st = store_dual_proof(db->store, tx_id < trusted ? tx_id : trusted, tx_id < trusted ? trusted : tx_id, arena, &dual, err);
    if (st == ST_OK && (st = dual_out(&dual, arena, d, err)) == ST_OK)
        out->dual = d;
    return st;
}

static enum status prove_entry(immudb_db *db, struct bytes store_key, uint64_t tx_id, uint64_t trusted, struct arena *arena, immudb_entry_proof *out,
                               struct err *err)
{
    immudb_inclusion_proof *inclusion = arena_alloc(arena, sizeof *inclusion);
    uint32_t entry_index = 0;
    struct log_tx t;
    enum status st;

    immudb_entry_proof_init(out);
    if (inclusion == NULL)
        return no_memory(err);
    if ((st = provable_open(db, tx_id, &t, err)) != ST_OK)
        return st;
    if ((st = store_tx_find(db->store, &t, store_key, &entry_index, err)) != ST_OK ||
        (st = proof_entry(db, &t, entry_index, arena, out, err)) != ST_OK ||
        (st = inclusion_make(db, &t, entry_index, arena, inclusion, err)) != ST_OK ||
        (st = header_copy(&t.header, arena, &out->header, err)) != ST_OK)
        goto done;
    out->inclusion = inclusion;
    if (trusted != 0)
        st = proof_dual(db, tx_id, trusted, arena, out, err);
done:
    store_tx_close(db->store, &t);
    return st;
}

immudb_status immudb_prove_entry(immudb_db *db, immudb_bytes key, uint64_t tx_id, uint64_t trusted_tx_id, uint32_t flags, immudb_buffer *buffer,
                                 immudb_entry_proof *out, immudb_error *error)
{
    immudb_entry_proof p;
    struct key_ref k;
    struct err err;
    uint64_t revision = 0;
    enum status st = db == NULL || buffer == NULL ? api_null(&err, db == NULL ? "db" : "buffer")
                                                  : sized_out_begin(out, false, "immudb_entry_proof", &err);

    if (st != ST_OK || (st = key_open(key, flags, &k, &err)) != ST_OK)
        return api_result(st, &err, error);
    if (tx_id == 0)
        st = newest_tx(db, &k, &tx_id, &revision, &err);
    if (st == ST_OK && (st = prove_entry(db, k.store_key, tx_id, trusted_tx_id, arena_of(buffer), &p, &err)) == ST_OK)
        sized_out(out, &p, sizeof p);
    key_close(&k);
    return api_result(st, &err, error);
}

/* --- verified read --- */
/* Shows what was proven, from the proof alone. */
static enum status proof_show(immudb_db *db, const immudb_entry_proof *p, uint32_t flags, immudb_entry *out, struct err *err)
{
    struct entry_want w = {.db = db, .now_s = db_now_s(db), .flags = flags};
    struct tx_entry e = {.key = bytes_in(p->store_key),
                         .md = bytes_in(p->metadata),
                         .value = bytes_in(p->store_value),
                         .hval = *hash_in(&p->value_hash),
                         .value_len = (uint32_t)p->store_value.len,
                         .is_value_gone = p->value_is_gone != 0};
    struct kv_value v;
    enum status st = entry_describe(&w, p->header->tx_id, (uint32_t)p->inclusion->entry_index, &e, out, err);

    if (st != ST_OK)
        return st;
    if (e.is_value_gone) {
        ;
    } else if ((flags & IMMUDB_RAW) != 0) {
        out->value = p->store_value;
    } else if (!kv_value_decode(e.value, &v)) {
        return err_set(err, ST_CORRUPT, 0, "the value of transaction %llu has an unknown form", (unsigned long long)out->tx_id);
    } else if (v.kind == KV_VALUE_REFERENCE) {
        out->flags |= IMMUDB_ENTRY_REFERENCE;
        out->referenced_key = bytes_out(v.referenced_key);
        out->referenced_tx_id = v.at_tx;
    } else {
        out->value = bytes_out(v.value);
    }
    return entry_refuse_dead(out, flags, err);
}

static enum status verified_get(immudb_db *db, const struct key_ref *key, uint64_t tx_id, uint32_t flags, immudb_state *trusted, struct arena *arena,
                                immudb_entry *out, struct err *err)
{
    immudb_entry_proof p;
    immudb_error why;
    struct store_state state;
    uint64_t revision = 0;
    immudb_status status;
    enum status st;

    store_get_state(db->store, &state);
    if (trusted->tx_id > state.tx_id)
        return err_set(err, ST_CORRUPT, 0, "the trusted transaction %llu is not there", (unsigned long long)trusted->tx_id);
    if (tx_id == 0 && (st = newest_tx(db, key, &tx_id, &revision, err)) != ST_OK)
        return st;
    if ((st = prove_entry(db, key->store_key, tx_id, trusted->tx_id, arena, &p, err)) != ST_OK)
        return st;
    status = immudb_verify_entry_proof(&p, trusted->tx_id, &trusted->alh, &trusted->tx_id, &trusted->alh, &why);
    if (status != IMMUDB_OK)
        return err_set(err, status_in(status), 0, "%s", why.text);
    st = proof_show(db, &p, flags, out, err);
    out->revision = revision;
    return st;
}

immudb_status immudb_verified_get(immudb_db *db, immudb_bytes key, uint64_t tx_id, uint32_t flags, immudb_state *trusted, immudb_buffer *buffer,
                                  immudb_entry *out, immudb_error *error)
{
    immudb_state now, before;
    struct key_ref k;
    immudb_entry e;
    struct err err;
    enum status st = db == NULL || buffer == NULL ? api_null(&err, db == NULL ? "db" : "buffer") : sized_out_begin(out, false, "immudb_entry", &err);

    if (st != ST_OK || (st = sized_in(&now, sizeof now, trusted, false, "immudb_state", &err)) != ST_OK ||
        (st = key_open(key, flags, &k, &err)) != ST_OK)
        return api_result(st, &err, error);
    before = now;
    st = verified_get(db, &k, tx_id, flags, &now, arena_of(buffer), &e, &err);
    key_close(&k);
    /* A proof of a deletion moves the trust on as well. */
    if (now.tx_id != before.tx_id) {
        now.visible_tx_id = now.precommitted_tx_id = 0;
        memset(&now.precommitted_alh, 0, sizeof now.precommitted_alh);
        sized_out(trusted, &now, sizeof now);
    }
    if (st == ST_OK)
        sized_out(out, &e, sizeof e);
    return api_result(st, &err, error);
}
