/* Sessions, lists and states; see source.h. Transactions: tx_stream.c. */
#include "migrate/source_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "databases/settings.h"
#include "proof/proof.h"
#include "wire/wire.h"

static const uint64_t RECV_SLICE_NS = 200000000;
enum { ARENA_CHUNK_BYTES = 16384, ARENA_BYTES_MAX = 256 << 20, DATABASES_TOTAL_MAX = 65536, PERMISSION_OF_SYSADMIN = 255 };

/* --- failures --- */

enum status source_lost(enum status st)
{
    if (st == ST_CORRUPT) /* no TLS, no HTTP/2, a certificate that is not accepted: nothing is wrong with data */
        return ST_INVALID;
    return st == ST_IO ? ST_CLOSED : st;
}

static bool says(const struct client_status *status, const char *text) { return strstr(status->message, text) != NULL; }

enum status source_failed(const struct source *s, const char *method, const struct client_status *status, struct err *err)
{
    const char *name = strrchr(method, '/');
    enum status st = ST_INVALID;

    (void)s;
    switch (status->code) {
    case RPC_UNAVAILABLE:
    case RPC_CANCELLED:
    case RPC_ABORTED:
        st = ST_CLOSED;
        break;
    case RPC_DEADLINE_EXCEEDED:
        st = ST_TIMEOUT;
        break;
    case RPC_RESOURCE_EXHAUSTED:
        st = ST_BUSY;
        break;
    case RPC_UNIMPLEMENTED:
        st = ST_UNSUPPORTED;
        break;
    case RPC_UNAUTHENTICATED:
        st = ST_READ_ONLY;
        break;
    default:
        if (says(status, "session not found") || says(status, "no session found"))
            st = ST_CLOSED;
        else if (says(status, "max sessions number reached"))
            st = ST_BUSY;
        else if (says(status, "invalid user name or password") || says(status, "permission") || says(status, "user is not active"))
            st = ST_READ_ONLY;
        else if (says(status, "database does not exist") || says(status, "already closed") || says(status, "no new transactions") ||
                 says(status, "tx not found"))
            st = ST_NOT_FOUND;
        break;
    }
    return err_set(err, st, 0, "the source answered %s with: %.120s (code %d)", name != NULL ? name + 1 : method, status->message, (int)status->code);
}

/* --- calls --- */

enum status source_recv(struct source *s, struct client_call *call, struct bytes *message, bool *is_end, struct err *err)
{
    uint64_t seen = client_call_bytes(call), now = env_mono_ns(s->o.env), silent_since = now;
    enum status st;

    for (;;) {
        st = client_call_recv(call, now + RECV_SLICE_NS, message, is_end, err);
        if (st != ST_TIMEOUT)
            return source_lost(st);
        if (s->o.is_stopped(s->o.ctx))
            return err_set(err, ST_CANCELLED, 0, "stopped");
        now = env_mono_ns(s->o.env);
        if (client_call_bytes(call) != seen) {
            seen = client_call_bytes(call);
            silent_since = now;
        } else if (now - silent_since > s->o.silence_ns) {
            return err_set(err, ST_TIMEOUT, 0, "nothing arrived from the source for %llu s", (unsigned long long)(s->o.silence_ns / 1000000000));
        }
    }
}

/* request: a message of protobuf-c, packed here. answer: of kind d, in the source's arena. */
static enum status call(struct source *s, const char *method, const ProtobufCMessage *request, const ProtobufCMessageDescriptor *d, void **answer,
                        struct err *err)
{
    struct client_status status;
    struct bytes packed = bytes_of(NULL, 0), raw;
    uint8_t *room;
    enum status st;

    *answer = NULL;
    if (request != NULL) {
        size_t len = protobuf_c_message_get_packed_size(request);

        if ((room = arena_alloc(&s->arena, len)) == NULL)
            return err_set(err, ST_NOMEM, 0, "%s: out of memory", method);
        packed = bytes_of(room, protobuf_c_message_pack(request, room));
    }
    st = client_unary(s->client, method, packed, env_mono_ns(s->o.env) + s->o.silence_ns, &raw, &status, err);
    if (st != ST_OK)
        return source_lost(st);
    if (status.code != RPC_OK)
        return source_failed(s, method, &status, err);
    if (d != NULL && (st = wire_unpack(d, raw, &s->arena, answer, err)) != ST_OK)
        return st == ST_NOMEM ? st : err_set(err, ST_CORRUPT, 0, "the source answered %s with bytes that are no answer", strrchr(method, '/') + 1);
    return ST_OK;
}

bool source_is_stopped(struct source *s) { return s->o.is_stopped(s->o.ctx); }

/* --- life --- */

enum status source_create(const struct source_options *o, struct source **out, struct err *err)
{
    struct source *s = calloc(1, sizeof *s);

    *out = NULL;
    if (s == NULL)
        return err_set(err, ST_NOMEM, 0, "preparing the source: out of memory");
    s->o = *o;
    arena_init(&s->arena, ARENA_CHUNK_BYTES, ARENA_BYTES_MAX);
    *out = s;
    return ST_OK;
}

void source_drop(struct source *s)
{
    client_close(s->client);
    s->client = NULL;
    free(s->database);
    s->database = NULL;
}

static void session_end(struct source *s)
{
    struct err err;
    void *none;

    if (s->database == NULL)
        return;
    arena_reset(&s->arena);
    if (call(s, SERVICE "CloseSession", NULL, NULL, &none, &err) != ST_OK)
        source_drop(s); /* the server ends sessions that nobody uses */
    free(s->database);
    s->database = NULL;
}

void source_free(struct source *s)
{
    if (s == NULL)
        return;
    session_end(s);
    source_drop(s);
    arena_free(&s->arena);
    free(s);
}

static enum status connect_client(struct source *s, struct err *err)
{
    struct client_options o = {.host = s->o.host, .port = s->o.port, .tls = s->o.tls, .env = s->o.env, .connect_timeout_ns = s->o.silence_ns};

    return source_lost(client_open(&o, &s->client, err));
}

static struct ProtobufCBinaryData binary(const char *text) { return (struct ProtobufCBinaryData){strlen(text), (uint8_t *)(uintptr_t)text}; }

enum status source_select(struct source *s, const char *database, struct err *err)
{
    Immudb__Schema__OpenSessionRequest request = IMMUDB__SCHEMA__OPEN_SESSION_REQUEST__INIT;
    Immudb__Schema__OpenSessionResponse *response;
    void *answer;
    enum status st;

    session_end(s);
    if (s->client == NULL && (st = connect_client(s, err)) != ST_OK)
        return st;
    arena_reset(&s->arena);
    request.username = binary(s->o.username);
    request.password = binary(s->o.password);
    request.databasename = (char *)(uintptr_t)database;
    if ((st = client_metadata_set(s->client, "sessionid", NULL, err)) != ST_OK ||
        (st = call(s, SERVICE "OpenSession", &request.base, &immudb__schema__open_session_response__descriptor, &answer, err)) != ST_OK)
        return st;
    response = answer;
    /* It becomes a header: nothing may be in it that ends one. */
    for (const char *p = response->sessionid; *p != '\0'; p++)
        if (*p <= ' ' || *p > '~')
            return err_set(err, ST_CORRUPT, 0, "the source gave a session id that is none");
    if ((st = client_metadata_set(s->client, "sessionid", response->sessionid, err)) != ST_OK)
        return st;
    if ((s->database = strdup(database)) == NULL)
        return err_set(err, ST_NOMEM, 0, "selecting database %s: out of memory", database);
    return ST_OK;
}

/* --- what is there --- */

enum status source_version(struct source *s, char out[64], struct err *err)
{
    Immudb__Schema__ServerInfoRequest request = IMMUDB__SCHEMA__SERVER_INFO_REQUEST__INIT;
    Immudb__Schema__ServerInfoResponse *response;
    void *answer;
    enum status st;

    out[0] = '\0';
    arena_reset(&s->arena);
    st = call(s, SERVICE "ServerInfo", &request.base, &immudb__schema__server_info_response__descriptor, &answer, err);
    if (st != ST_OK)
        return st == ST_CLOSED || st == ST_TIMEOUT || st == ST_NOMEM ? st : ST_OK; /* only for show */
    response = answer;
    for (size_t i = 0; i < 63 && response->version[i] > ' ' && response->version[i] <= '~'; i++) {
        out[i] = response->version[i];
        out[i + 1] = '\0';
    }
    return ST_OK;
}

enum status source_check_sysadmin(struct source *s, struct err *err)
{
    Immudb__Schema__UserList *list;
    void *answer;
    enum status st;

    arena_reset(&s->arena);
    if ((st = call(s, SERVICE "ListUsers", NULL, &immudb__schema__user_list__descriptor, &answer, err)) != ST_OK)
        return st;
    list = answer;
    for (size_t i = 0; i < list->n_users; i++) {
        const Immudb__Schema__User *u = list->users[i];

        if (!bytes_equal(bytes_of(u->user.data, u->user.len), bytes_str(s->o.username)))
            continue;
        for (size_t p = 0; p < u->n_permissions; p++)
            if (u->permissions[p]->permission == PERMISSION_OF_SYSADMIN)
                return ST_OK;
    }
    return err_set(err, ST_READ_ONLY, 0, "user %s is not the system administrator of the source: importing needs every database, systemdb included",
                   s->o.username);
}

static enum status databases_add(struct source_databases *d, const char *name, bool is_loaded, uint64_t txs, uint64_t disk_bytes, struct err *err)
{
    struct source_database *bigger;

    /* It becomes the name of a folder, and a text on a terminal. */
    if (database_name_check(bytes_str(name), NULL) != ST_OK)
        return err_set(err, ST_CORRUPT, 0, "the source lists a database whose name is none");
    for (size_t i = 0; i < d->count; i++)
        if (strcmp(d->items[i].name, name) == 0)
            return ST_OK;
    if (d->count == DATABASES_TOTAL_MAX)
        return err_set(err, ST_LIMIT, 0, "the source has more than %d databases", DATABASES_TOTAL_MAX);
    if ((bigger = realloc(d->items, (d->count + 1) * sizeof *bigger)) == NULL)
        return err_set(err, ST_NOMEM, 0, "listing databases: out of memory");
    d->items = bigger;
    d->items[d->count] = (struct source_database){strdup(name), is_loaded, txs, disk_bytes};
    if (d->items[d->count].name == NULL)
        return err_set(err, ST_NOMEM, 0, "listing databases: out of memory");
    d->count++;
    return ST_OK;
}

/* Servers before DatabaseListV2: names alone. */
static enum status list_old(struct source *s, struct source_databases *out, struct err *err)
{
    Immudb__Schema__DatabaseListResponse *response;
    void *answer;
    enum status st;

    if ((st = call(s, SERVICE "DatabaseList", NULL, &immudb__schema__database_list_response__descriptor, &answer, err)) != ST_OK)
        return st;
    response = answer;
    for (size_t i = 0; i < response->n_databases && st == ST_OK; i++)
        st = databases_add(out, response->databases[i]->databasename, true, 0, 0, err);
    return st;
}

enum status source_list(struct source *s, struct source_databases *out, struct err *err)
{
    Immudb__Schema__DatabaseListRequestV2 request = IMMUDB__SCHEMA__DATABASE_LIST_REQUEST_V2__INIT;
    Immudb__Schema__DatabaseListResponseV2 *response;
    void *answer;
    enum status st;

    memset(out, 0, sizeof *out);
    arena_reset(&s->arena);
    if ((st = databases_add(out, "systemdb", true, 0, 0, err)) != ST_OK) /* lists do not show it */
        goto done;
    st = call(s, SERVICE "DatabaseListV2", &request.base, &immudb__schema__database_list_response_v2__descriptor, &answer, err);
    if (st == ST_UNSUPPORTED) {
        st = list_old(s, out, err);
        goto done;
    }
    if (st != ST_OK)
        goto done;
    response = answer;
    for (size_t i = 0; i < response->n_databases && st == ST_OK; i++) {
        const Immudb__Schema__DatabaseInfo *d = response->databases[i];

        st = databases_add(out, d->name, d->loaded != 0, d->numtransactions, d->disksize, err);
    }
done:
    if (st != ST_OK)
        source_databases_free(out);
    return st;
}

void source_databases_free(struct source_databases *d)
{
    for (size_t i = 0; i < d->count; i++)
        free(d->items[i].name);
    free(d->items);
    memset(d, 0, sizeof *d);
}

/* --- states --- */

enum status source_state(struct source *s, struct source_state *out, struct err *err)
{
    Immudb__Schema__ImmutableState *state;
    struct bytes signature = bytes_of(NULL, 0);
    void *answer;
    enum status st;

    memset(out, 0, sizeof *out);
    arena_reset(&s->arena);
    if ((st = call(s, SERVICE "CurrentState", NULL, &immudb__schema__immutable_state__descriptor, &answer, err)) != ST_OK)
        return st;
    state = answer;
    if (state->txhash.len != HASH_LEN)
        return err_set(err, ST_CORRUPT, 0, "the source's state has a hash of %zu bytes", state->txhash.len);
    if (strcmp(state->db, s->database) != 0)
        return err_set(err, ST_CORRUPT, 0, "the source gave the state of another database");
    if (state->txid > INT64_MAX)
        return err_set(err, ST_CORRUPT, 0, "the source's state names tx %llu", (unsigned long long)state->txid);
    out->tx_id = state->txid;
    memcpy(out->alh.b, state->txhash.data, HASH_LEN);
    if (s->o.public_key.len == 0)
        return ST_OK;
    if (state->signature != NULL)
        signature = bytes_of(state->signature->signature.data, state->signature->signature.len);
    if (signature.len == 0)
        return err_set(err, ST_CORRUPT, 0, "the source does not sign its states");
    if (!state_signature_verify(s->o.public_key, signature, bytes_str(s->database), out->tx_id, &out->alh))
        return err_set(err, ST_CORRUPT, 0, "the signature of the source's state at tx %llu does not hold", (unsigned long long)out->tx_id);
    return ST_OK;
}

enum status source_alh(struct source *s, uint64_t tx_id, hash_t *alh, struct err *err)
{
    struct tx_stream *t = NULL;
    struct tx_header header;
    struct bytes blob;
    bool is_end = false;
    enum status st;

    memset(alh, 0, sizeof *alh);
    if ((st = tx_stream_open(s, tx_id, tx_id, &t, err)) != ST_OK || (st = tx_stream_next(t, &blob, &is_end, err)) != ST_OK)
        goto done;
    assert(!is_end);
    if ((st = exported_header(blob, tx_id, &header, err)) == ST_OK)
        tx_header_alh(&header, alh);
done:
    tx_stream_close(t);
    return st;
}
