/* Opening and closing a database; its state, health and signature. */
#include "api/api_internal.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    FLAGS_KNOWN = IMMUDB_CREATE | IMMUDB_OPEN_READ_ONLY | IMMUDB_ASYNC | IMMUDB_EXTERNAL_COMMIT | IMMUDB_EXCLUDE_COMMIT_TIME | IMMUDB_HEADER_V0,
    KEY_LEN_DEFAULT = 1024,
    TX_ENTRIES_DEFAULT = 1024,
    READ_SET_DEFAULT = 100000
};
static const uint32_t VALUE_LEN_DEFAULT = 32u << 20;

static enum status options_check(const char *path, const immudb_options *o, struct err *err)
{
    if (path == NULL)
        return api_null(err, "path");
    if ((o->flags & ~(uint32_t)FLAGS_KNOWN) != 0)
        return err_set(err, ST_UNSUPPORTED, 0, "unknown flags 0x%x", o->flags & ~(uint32_t)FLAGS_KNOWN);
    if (o->name != NULL && (o->name[0] == '\0' || strlen(o->name) > STATE_DB_LEN_MAX))
        return err_set(err, ST_INVALID, 0, "a database name has 1 to %d bytes", STATE_DB_LEN_MAX);
    if (o->runtime != NULL && o->runtime_options != NULL)
        return err_set(err, ST_INVALID, 0, "runtime and runtime_options exclude each other");
    if (o->batch_bytes_max > SIZE_MAX || o->memtable_bytes_max > SIZE_MAX)
        return err_set(err, ST_INVALID, 0, "sizes above the address space");
    return ST_OK;
}

static struct store_options store_options_of(const char *path, const immudb_options *o, struct runtime *runtime)
{
    return (struct store_options){
        .runtime = runtime,
        .dir = path,
        .create = (o->flags & IMMUDB_CREATE) != 0,
        .read_only = (o->flags & IMMUDB_OPEN_READ_ONLY) != 0,
        .durability = (o->flags & IMMUDB_ASYNC) != 0 && (o->flags & IMMUDB_EXTERNAL_COMMIT) == 0 ? STORE_ASYNC : STORE_DURABLE,
        .external_commit = (o->flags & IMMUDB_EXTERNAL_COMMIT) != 0,
        .tx_version = (o->flags & IMMUDB_HEADER_V0) != 0 ? 0 : 1,
        .exclude_commit_time = (o->flags & IMMUDB_EXCLUDE_COMMIT_TIME) != 0,
        .tx_entries_max = o->tx_entries_max,
        .key_len_max = o->key_len_max,
        .value_len_max = o->value_len_max,
        .read_set_max = o->read_set_max,
        .waiters_max = o->waiters_max,
        .tx_bytes_max = o->tx_bytes_max,
        .batch_bytes_max = (size_t)o->batch_bytes_max,
        .batch_txs_max = o->batch_txs_max,
        .async_sync_interval_ns = (uint64_t)o->async_sync_interval_ms * 1000000,
        .memtable_bytes_max = (size_t)o->memtable_bytes_max,
    };
}

static void db_fill(immudb_db *db, const immudb_options *o)
{
    db->is_async = (o->flags & IMMUDB_ASYNC) != 0 && (o->flags & IMMUDB_EXTERNAL_COMMIT) == 0;
    db->key_len_max = o->key_len_max != 0 ? o->key_len_max : KEY_LEN_DEFAULT;
    db->value_len_max = o->value_len_max != 0 ? o->value_len_max : VALUE_LEN_DEFAULT;
    db->tx_entries_max = o->tx_entries_max != 0 ? o->tx_entries_max : TX_ENTRIES_DEFAULT;
    db->read_set_max = o->read_set_max != 0 ? o->read_set_max : READ_SET_DEFAULT;
    db->signer = o->signer;
    snprintf(db->name, sizeof db->name, "%s", o->name != NULL ? o->name : "defaultdb");
}

immudb_status immudb_open(const char *path, const immudb_options *options, immudb_db **out, immudb_error *error)
{
    immudb_options o;
    struct store_options so;
    immudb_db *db = NULL;
    struct err err;
    enum status st;

    if (out == NULL)
        return api_result(api_null(&err, "out"), &err, error);
    *out = NULL;
    if ((st = sized_in(&o, sizeof o, options, true, "immudb_options", &err)) != ST_OK || (st = options_check(path, &o, &err)) != ST_OK)
        return api_result(st, &err, error);
    if ((db = calloc(1, sizeof *db)) == NULL)
        return api_result(err_set(&err, ST_NOMEM, 0, "opening a database"), &err, error);
    db_fill(db, &o);
    db->runtime = o.runtime;
    if (o.runtime == NULL) {
        immudb_error why;
        immudb_status created = immudb_runtime_create(o.runtime_options, &db->runtime, &why);

        if (created != IMMUDB_OK) {
            free(db);
            return api_result(err_set(&err, status_in(created), why.os_errno, "%s", why.text), &err, error);
        }
        db->owns_runtime = true;
    }
    so = store_options_of(path, &o, db->runtime->runtime);
    if ((st = store_open(&so, &db->store, &err)) != ST_OK) {
        if (db->owns_runtime)
            (void)immudb_runtime_free(db->runtime, NULL);
        free(db);
    } else {
        atomic_fetch_add(&db->runtime->dbs, 1);
        *out = db;
    }
    return api_result(st, &err, error);
}

immudb_status immudb_close(immudb_db *db, immudb_error *error)
{
    struct err err;
    uint32_t handles;

    if (db == NULL)
        return api_result(ST_OK, NULL, error);
    if ((handles = atomic_load(&db->handles)) > 0)
        return api_result(err_set(&err, ST_BUSY, 0, "%u transactions, snapshots or cursors are still open", handles), &err, error);
    store_close(db->store);
    atomic_fetch_sub(&db->runtime->dbs, 1);
    if (db->owns_runtime)
        (void)immudb_runtime_free(db->runtime, NULL);
    free(db);
    return api_result(ST_OK, NULL, error);
}

immudb_status immudb_uuid(immudb_db *db, uint8_t out[16], immudb_error *error)
{
    struct err err;

    if (db == NULL || out == NULL)
        return api_result(api_null(&err, db == NULL ? "db" : "out"), &err, error);
    memcpy(out, store_uuid(db->store), 16);
    return api_result(ST_OK, NULL, error);
}

immudb_status immudb_health_get(immudb_db *db, immudb_health *out, immudb_error *error)
{
    static const int32_t KINDS[] = {[STORE_HEALTHY] = IMMUDB_HEALTHY,
                                    [STORE_REBUILDING] = IMMUDB_REBUILDING,
                                    [STORE_DEGRADED] = IMMUDB_OUT_OF_SPACE,
                                    [STORE_READ_ONLY_DAMAGED] = IMMUDB_READ_ONLY_DAMAGED,
                                    [STORE_READ_ONLY_FAILED] = IMMUDB_READ_ONLY_FAILED};
    struct store_health health;
    immudb_health h;
    struct err err;
    enum status st = db == NULL ? api_null(&err, "db") : sized_out_begin(out, false, "immudb_health", &err);

    if (st != ST_OK)
        return api_result(st, &err, error);
    store_health(db->store, &health);
    immudb_health_init(&h);
    h.kind = KINDS[health.kind];
    h.rebuilt = health.rebuilt;
    h.to_rebuild = health.to_rebuild;
    static_assert(sizeof h.text == sizeof health.text, "texts fit");
    memcpy(h.text, health.text, sizeof h.text);
    sized_out(out, &h, sizeof h);
    return api_result(ST_OK, NULL, error);
}

/* --- state --- */
static void state_fill(immudb_db *db, immudb_state *out)
{
    struct store_state s;

    store_get_state(db->store, &s);
    immudb_state_init(out);
    out->tx_id = s.tx_id;
    out->alh = hash_out(s.tx_id == 0 ? &HASH_EMPTY : &s.alh);
    out->visible_tx_id = s.visible_tx_id;
    out->precommitted_tx_id = s.precommitted_tx_id;
    out->precommitted_alh = hash_out(s.precommitted_tx_id == 0 ? &HASH_EMPTY : &s.precommitted_alh);
}

immudb_status immudb_state_get(immudb_db *db, immudb_state *out, immudb_error *error)
{
    immudb_state s;
    struct err err;
    enum status st = db == NULL ? api_null(&err, "db") : sized_out_begin(out, false, "immudb_state", &err);

    if (st == ST_OK)
        st = store_end_check(db->store, &err);
    if (st == ST_OK) {
        state_fill(db, &s);
        sized_out(out, &s, sizeof s);
    }
    return api_result(st, &err, error);
}

static enum status sign_by_key(immudb_db *db, const immudb_state *s, immudb_signature *out, struct err *err)
{
    struct state_signature sig;
    enum status st = signer_sign(db->signer->key, bytes_str(db->name), s->tx_id, hash_in(&s->alh), &sig, err);

    static_assert(sizeof out->signature >= SIGNATURE_BYTES_MAX && sizeof out->public_key >= PUBLIC_KEY_BYTES_MAX, "signatures fit");
    if (st != ST_OK)
        return st;
    out->signature_len = (uint32_t)sig.signature_len;
    out->public_key_len = (uint32_t)sig.public_key_len;
    memcpy(out->signature, sig.signature, sig.signature_len);
    memcpy(out->public_key, sig.public_key, sig.public_key_len);
    return ST_OK;
}

static enum status sign_by_callback(immudb_db *db, const immudb_state *s, immudb_signature *out, struct err *err)
{
    uint8_t payload[STATE_DB_LEN_MAX + 64];
    size_t len = state_payload(bytes_str(db->name), s->tx_id, hash_in(&s->alh), payload);
    immudb_error why;
    immudb_status status;

    memset(&why, 0, sizeof why);
    status = db->signer->fn(db->signer->ctx, immudb_bytes_of(payload, len), out, &why);
    why.text[sizeof why.text - 1] = '\0';
    if (status != IMMUDB_OK)
        return err_set(err, status_in(status), why.os_errno, "%s", why.text[0] != '\0' ? why.text : "the signer refused");
    if (out->signature_len == 0 || out->signature_len > sizeof out->signature || out->public_key_len > sizeof out->public_key)
        return err_set(err, ST_INVALID, 0, "the signer answered a signature of %u bytes", out->signature_len);
    return ST_OK;
}

immudb_status immudb_state_sign(immudb_db *db, immudb_state *out, immudb_signature *signature, immudb_error *error)
{
    immudb_state s;
    immudb_signature sig;
    struct err err;
    enum status st = db == NULL ? api_null(&err, "db") : sized_out_begin(out, false, "immudb_state", &err);

    if (st != ST_OK || (st = sized_out_begin(signature, false, "immudb_signature", &err)) != ST_OK ||
        (st = store_end_check(db->store, &err)) != ST_OK)
        return api_result(st, &err, error);
    if (db->signer == NULL)
        return api_result(err_set(&err, ST_INVALID, 0, "the database was opened without a signer"), &err, error);
    state_fill(db, &s);
    immudb_signature_init(&sig);
    st = db->signer->key != NULL ? sign_by_key(db, &s, &sig, &err) : sign_by_callback(db, &s, &sig, &err);
    if (st == ST_OK) {
        sized_out(out, &s, sizeof s);
        sized_out(signature, &sig, sizeof sig);
    }
    return api_result(st, &err, error);
}

static enum status signer_make(immudb_signer **out, struct err *err)
{
    *out = calloc(1, sizeof **out);
    return *out != NULL ? ST_OK : err_set(err, ST_NOMEM, 0, "creating a signer");
}

immudb_status immudb_signer_from_pem(immudb_bytes pem, immudb_signer **out, immudb_error *error)
{
    immudb_signer *s = NULL;
    struct err err;
    enum status st;

    if (out == NULL)
        return api_result(api_null(&err, "out"), &err, error);
    *out = NULL;
    if ((st = bytes_check(pem, "pem", &err)) != ST_OK || (st = signer_make(&s, &err)) != ST_OK)
        return api_result(st, &err, error);
    if ((st = signer_open(bytes_in(pem), &s->key, &err)) == ST_OK)
        *out = s;
    else
        free(s);
    return api_result(st, &err, error);
}

immudb_status immudb_signer_from_callback(immudb_sign_fn fn, void *ctx, immudb_signer **out, immudb_error *error)
{
    struct err err;
    enum status st;

    if (out == NULL)
        return api_result(api_null(&err, "out"), &err, error);
    *out = NULL;
    if (fn == NULL)
        return api_result(api_null(&err, "fn"), &err, error);
    if ((st = signer_make(out, &err)) == ST_OK) {
        (*out)->fn = fn;
        (*out)->ctx = ctx;
    }
    return api_result(st, &err, error);
}

void immudb_signer_free(immudb_signer *s)
{
    if (s == NULL)
        return;
    if (s->key != NULL)
        signer_close(s->key);
    free(s);
}
