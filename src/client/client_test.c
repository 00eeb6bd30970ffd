/* The client against our own gRPC server in this process, over real sockets: all kinds of calls, statuses, headers, deadlines, large messages in both
 * directions, many calls at a time on one connection, a server that drains or goes away, TLS that is accepted and that is not. */
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/test.h"
#include "client/client.h"

static const uint64_t SECOND_NS = 1000000000;

/* --- the server's methods --- */

static void on_echo(struct rpc_call *call) { rpc_reply(call, rpc_request(call)); }
static void on_fail(struct rpc_call *call) { rpc_finish(call, RPC_FAILED_PRECONDITION, "50 % of\nit: \xc3\xa4", bytes_of(NULL, 0)); }
static void on_header(struct rpc_call *call) { rpc_reply(call, rpc_metadata(call, "sessionid")); }

static struct rpc_call *held[64];
static _Atomic size_t held_count;
static void on_hold(struct rpc_call *call) { held[held_count++] = call; }
static void let_go(void)
{
    while (held_count > 0)
        rpc_finish(held[--held_count], RPC_OK, "", bytes_of(NULL, 0));
}

/* As many messages as the request's first number says, of the size of the second. */
static void on_numbers(struct rpc_call *call)
{
    struct bytes request = rpc_request(call);
    uint32_t count = load_u32be(request.data), len = load_u32be(request.data + 4);

    for (uint32_t i = 0; i < count; i++) {
        uint8_t *m = calloc(1, len + 4);

        assert_non_null(m);
        store_u32be(m, i);
        (void)rpc_send_owned(call, m, len + 4);
    }
    rpc_finish(call, RPC_OK, "", bytes_of(NULL, 0));
}

static void sum_message(struct rpc_call *call, struct bytes message) { *(uint64_t *)rpc_state(call) += message.len; }
static void sum_end(struct rpc_call *call)
{
    uint8_t *out;

    if (rpc_is_cancelled(call)) {
        rpc_finish(call, RPC_CANCELLED, "", bytes_of(NULL, 0));
        return;
    }
    assert_non_null(out = rpc_message_alloc(call, 8)); /* lives until it is sent */
    store_u64be(out, *(uint64_t *)rpc_state(call));
    rpc_reply(call, bytes_of(out, 8));
}
static void on_sum(struct rpc_call *call)
{
    uint64_t *sum = arena_zalloc(rpc_arena(call), sizeof *sum);

    assert_non_null(sum);
    rpc_set_state(call, sum);
    rpc_on_stream(call, sum_message, sum_end);
}

static void talk_message(struct rpc_call *call, struct bytes message)
{
    uint8_t *m = malloc(message.len + 1);

    assert_non_null(m);
    if (message.len > 0)
        memcpy(m, message.data, message.len);
    (void)rpc_send_owned(call, m, message.len);
}
static void talk_end(struct rpc_call *call) { rpc_finish(call, RPC_UNKNOWN, "EOF", bytes_of(NULL, 0)); }
static void on_talk(struct rpc_call *call) { rpc_on_stream(call, talk_message, talk_end); }

static const struct rpc_method methods[] = {
    {"/t.S/Echo", RPC_UNARY, on_echo, NULL},
    {"/t.S/Fail", RPC_UNARY, on_fail, NULL},
    {"/t.S/Header", RPC_UNARY, on_header, NULL},
    {"/t.S/Hold", RPC_UNARY, on_hold, NULL},
    {"/t.S/Numbers", RPC_SERVER_STREAM, on_numbers, NULL},
    {"/t.S/Sum", RPC_CLIENT_STREAM, on_sum, NULL},
    {"/t.S/Talk", RPC_BIDI, on_talk, NULL},
};
static const char *const services[] = {"t.S"};

struct place {
    struct budget budget;
    struct rpc_server *server;
    struct client_options o;
};

static struct place *start(SSL_CTX *tls, const struct rpc_limits *limits)
{
    struct place *p = calloc(1, sizeof *p);
    struct rpc_options o = {.address = "127.0.0.1",
                            .reactors = 1,
                            .env = env_system(),
                            .methods = methods,
                            .method_count = sizeof methods / sizeof methods[0],
                            .services = services,
                            .service_count = 1,
                            .header_name = "immudb-uuid",
                            .header_value = "uuid-of-test",
                            .tls = tls};
    struct err err;

    assert_non_null(p);
    budget_init(&p->budget, (size_t)1 << 30);
    o.budget = &p->budget;
    if (limits != NULL)
        o.limits = *limits;
    if (rpc_server_start(&o, &p->server, &err) != ST_OK)
        fail_msg("%s", err.text);
    p->o = (struct client_options){.host = "127.0.0.1", .port = rpc_server_port(p->server), .env = env_system()};
    return p;
}

static void stop(struct place *p)
{
    if (p->server != NULL)
        rpc_server_stop(p->server);
    free(p);
}

static struct client *dial(const struct place *p)
{
    struct client *c = NULL;
    struct err err;

    if (client_open(&p->o, &c, &err) != ST_OK)
        fail_msg("%s", err.text);
    return c;
}

static uint64_t in(uint64_t ns) { return env_mono_ns(env_system()) + ns; }

/* --- calls --- */

static void unary(void **state)
{
    struct place *p = start(NULL, NULL);
    struct client *c = dial(p);
    struct client_status status;
    struct bytes answer;
    struct err err;
    uint8_t *big = malloc(20 << 20);
    uint64_t seed = 3;

    (void)state;
    assert_non_null(big);
    test_random_fill(&seed, big, 1 << 20);
    for (size_t i = 1; i < 20; i++)
        memcpy(big + (i << 20), big, 1 << 20);
    for (size_t len = 0; len <= 20 << 20; len = len * 3 + 1) {
        if (client_unary(c, "/t.S/Echo", bytes_of(big, len), in(20 * SECOND_NS), &answer, &status, &err) != ST_OK)
            fail_msg("%zu: %s", len, err.text);
        assert_int_equal(status.code, RPC_OK);
        assert_true(bytes_equal(answer, bytes_of(big, len)));
    }
    free(big);
    assert_int_equal(client_unary(c, "/t.S/Fail", bytes_str("x"), UINT64_MAX, &answer, &status, &err), ST_OK);
    assert_int_equal(status.code, RPC_FAILED_PRECONDITION);
    assert_string_equal(status.message, "50 % of it: \xc3\xa4");
    assert_int_equal(answer.len, 0);
    assert_int_equal(client_unary(c, "/t.S/Nothing", bytes_str("x"), UINT64_MAX, &answer, &status, &err), ST_OK);
    assert_int_equal(status.code, RPC_UNIMPLEMENTED);
    assert_int_equal(client_metadata_set(c, "sessionid", "one", &err), ST_OK);
    assert_int_equal(client_unary(c, "/t.S/Header", bytes_str("x"), UINT64_MAX, &answer, &status, &err), ST_OK);
    assert_true(bytes_equal(answer, bytes_str("one")));
    assert_int_equal(client_metadata_set(c, "sessionid", NULL, &err), ST_OK);
    assert_int_equal(client_unary(c, "/t.S/Header", bytes_str("x"), UINT64_MAX, &answer, &status, &err), ST_OK);
    assert_int_equal(answer.len, 0);
    client_close(c);
    stop(p);
}

static void deadlines(void **state)
{
    struct place *p = start(NULL, NULL);
    struct client *c = dial(p);
    struct client_status status;
    struct bytes answer;
    struct err err;
    uint64_t begun = env_mono_ns(env_system());
    enum status st = client_unary(c, "/t.S/Hold", bytes_str("x"), in(SECOND_NS / 5), &answer, &status, &err);

    (void)state;
    /* The server knows the deadline as well: whoever is first. */
    assert_true(st == ST_TIMEOUT || (st == ST_OK && status.code == RPC_DEADLINE_EXCEEDED));
    assert_true(env_mono_ns(env_system()) - begun < 5 * SECOND_NS);
    assert_int_equal(client_unary(c, "/t.S/Echo", bytes_str("x"), in(20 * SECOND_NS), &answer, &status, &err), ST_OK);
    assert_true(bytes_equal(answer, bytes_str("x")));
    client_close(c);
    let_go();
    stop(p);
}

/* Reads count messages of len bytes. */
static void take_numbers(struct client_call *call, uint32_t count, size_t len)
{
    struct bytes message;
    struct err err;
    bool is_end;

    for (uint32_t i = 0; i <= count; i++) {
        if (client_call_recv(call, in(20 * SECOND_NS), &message, &is_end, &err) != ST_OK)
            fail_msg("%s", err.text);
        assert_int_equal(is_end, i == count);
        if (is_end)
            break;
        assert_int_equal(message.len, len + 4);
        assert_int_equal(load_u32be(message.data), i);
    }
    assert_int_equal(client_call_status(call)->code, RPC_OK);
    assert_true(bytes_equal(client_call_metadata(call, "immudb-uuid"), bytes_str("uuid-of-test")));
    assert_null(client_call_metadata(call, "nothing").data);
}

static struct client_call *ask_numbers(struct client *c, uint32_t count, uint32_t len)
{
    struct client_call *call = NULL;
    uint8_t request[8];
    struct err err;

    store_u32be(request, count);
    store_u32be(request + 4, len);
    assert_int_equal(client_call_open(c, "/t.S/Numbers", UINT64_MAX, &call, &err), ST_OK);
    assert_int_equal(client_call_send(call, bytes_of(request, 8), UINT64_MAX, &err), ST_OK);
    assert_int_equal(client_call_finish(call, &err), ST_OK);
    return call;
}

static void server_streams(void **state)
{
    struct place *p = start(NULL, NULL);
    struct client *c = dial(p);
    struct client_call *calls[8], *call;

    (void)state;
    call = ask_numbers(c, 0, 0);
    take_numbers(call, 0, 0);
    client_call_free(call);
    call = ask_numbers(c, 20000, 10);
    take_numbers(call, 20000, 10);
    client_call_free(call);
    call = ask_numbers(c, 20, 3000000);
    take_numbers(call, 20, 3000000);
    client_call_free(call);
    /* Eight at a time, read one after the other: the later ones wait in their windows; the last two are given up. */
    for (int i = 0; i < 8; i++)
        calls[i] = ask_numbers(c, 300, 50000);
    for (int i = 5; i >= 0; i--)
        take_numbers(calls[i], 300, 50000);
    for (int i = 0; i < 8; i++)
        client_call_free(calls[i]);
    call = ask_numbers(c, 10, 10);
    take_numbers(call, 10, 10);
    client_call_free(call);
    client_close(c);
    stop(p);
}

static void client_streams(void **state)
{
    struct place *p = start(NULL, NULL);
    struct client *c = dial(p);
    struct client_call *call;
    struct bytes message;
    uint8_t *piece = calloc(1, 100000);
    uint64_t sum = 0;
    struct err err;
    bool is_end;

    (void)state;
    assert_non_null(piece);
    assert_int_equal(client_call_open(c, "/t.S/Sum", in(60 * SECOND_NS), &call, &err), ST_OK);
    for (size_t i = 0; i < 400; i++) { /* 40 MB: more than is queued */
        size_t len = i % 7 == 0 ? 0 : 100000;

        if (client_call_send(call, bytes_of(piece, len), in(20 * SECOND_NS), &err) != ST_OK)
            fail_msg("%s", err.text);
        sum += len;
    }
    assert_int_equal(client_call_finish(call, &err), ST_OK);
    assert_int_equal(client_call_recv(call, in(20 * SECOND_NS), &message, &is_end, &err), ST_OK);
    assert_int_equal(message.len, 8);
    assert_int_equal(load_u64be(message.data), sum);
    assert_int_equal(client_call_recv(call, in(20 * SECOND_NS), &message, &is_end, &err), ST_OK);
    assert_true(is_end);
    client_call_free(call);
    client_close(c);
    free(piece);
    stop(p);
}

static void both_ways(void **state)
{
    struct place *p = start(NULL, NULL);
    struct client *c = dial(p);
    struct client_call *calls[4];
    struct bytes message;
    struct err err;
    bool is_end;
    char text[32];

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(client_call_open(c, "/t.S/Talk", UINT64_MAX, &calls[i], &err), ST_OK);
    for (int round = 0; round < 50; round++) {
        for (int n = 0; n < 4 * 16; n++) {
            snprintf(text, sizeof text, "%d-%d", round, n);
            assert_int_equal(client_call_send(calls[n % 4], bytes_str(text), in(20 * SECOND_NS), &err), ST_OK);
        }
        for (int n = 0; n < 4 * 16; n++) {
            snprintf(text, sizeof text, "%d-%d", round, n);
            assert_int_equal(client_call_recv(calls[n % 4], in(20 * SECOND_NS), &message, &is_end, &err), ST_OK);
            assert_false(is_end);
            assert_true(bytes_equal(message, bytes_str(text)));
        }
    }
    assert_int_equal(client_call_recv(calls[0], in(SECOND_NS / 10), &message, &is_end, &err), ST_TIMEOUT); /* nothing was said */
    assert_int_equal(client_call_finish(calls[0], &err), ST_OK);
    assert_int_equal(client_call_recv(calls[0], in(20 * SECOND_NS), &message, &is_end, &err), ST_OK);
    assert_true(is_end);
    assert_int_equal(client_call_status(calls[0])->code, RPC_UNKNOWN);
    assert_string_equal(client_call_status(calls[0])->message, "EOF");
    for (int i = 0; i < 4; i++)
        client_call_free(calls[i]);
    client_close(c);
    stop(p);
}

/* --- ends --- */

static void server_ends(void **state)
{
    struct place *p = start(NULL, NULL);
    struct client *c = dial(p);
    struct client_call *call;
    struct client_status status;
    struct bytes answer;
    struct err err;
    bool is_end;
    enum status st;

    (void)state;
    assert_int_equal(client_call_open(c, "/t.S/Talk", UINT64_MAX, &call, &err), ST_OK);
    assert_int_equal(client_call_send(call, bytes_str("x"), UINT64_MAX, &err), ST_OK);
    assert_int_equal(client_call_recv(call, in(20 * SECOND_NS), &answer, &is_end, &err), ST_OK);
    rpc_server_drain(p->server, SECOND_NS / 5);
    /* The running call goes on; new ones are refused one way or the other. */
    assert_int_equal(client_call_send(call, bytes_str("y"), UINT64_MAX, &err), ST_OK);
    assert_int_equal(client_call_recv(call, in(20 * SECOND_NS), &answer, &is_end, &err), ST_OK);
    assert_true(bytes_equal(answer, bytes_str("y")));
    st = client_unary(c, "/t.S/Echo", bytes_str("x"), in(20 * SECOND_NS), &answer, &status, &err);
    assert_true(st == ST_CLOSED || (st == ST_OK && status.code == RPC_UNAVAILABLE));
    rpc_server_stop(p->server);
    p->server = NULL;
    st = client_call_recv(call, in(20 * SECOND_NS), &answer, &is_end, &err);
    assert_true(st == ST_CLOSED || st == ST_IO || (st == ST_OK && is_end));
    assert_int_not_equal(client_unary(c, "/t.S/Echo", bytes_str("x"), in(20 * SECOND_NS), &answer, &status, &err), ST_OK);
    client_call_free(call);
    client_close(c);
    stop(p);
}

static void nobody_there(void **state)
{
    struct place *p = start(NULL, NULL);
    struct client_options o = p->o;
    struct client *c = NULL;
    struct err err;

    (void)state;
    stop(p);
    assert_int_equal(client_open(&o, &c, &err), ST_IO);
    assert_null(c);
    assert_non_null(strstr(err.text, "refused"));
    o.host = "host.invalid";
    assert_int_equal(client_open(&o, &c, &err), ST_IO);
    assert_non_null(strstr(err.text, "host.invalid"));
}

/* --- TLS --- */

struct identity {
    X509 *cert;
    EVP_PKEY *key;
    char cert_path[64], key_path[64];
};

static void identity_make(struct identity *id, const char *name)
{
    X509_NAME *subject;
    X509_EXTENSION *ext;
    char names[128];
    FILE *f;

    id->cert = X509_new();
    id->key = EVP_EC_gen("P-256");
    X509_set_version(id->cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(id->cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(id->cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(id->cert), 3600);
    X509_set_pubkey(id->cert, id->key);
    subject = X509_get_subject_name(id->cert);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(id->cert, subject);
    snprintf(names, sizeof names, "DNS:%s,IP:127.0.0.1", name);
    ext = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);
    X509_add_ext(id->cert, ext, -1);
    X509_EXTENSION_free(ext);
    assert_true(X509_sign(id->cert, id->key, EVP_sha256()) > 0);
    snprintf(id->cert_path, sizeof id->cert_path, "/tmp/client-test-%ld-%s.cert", (long)getpid(), name);
    snprintf(id->key_path, sizeof id->key_path, "/tmp/client-test-%ld-%s.key", (long)getpid(), name);
    assert_non_null(f = fopen(id->cert_path, "w"));
    PEM_write_X509(f, id->cert);
    fclose(f);
    assert_non_null(f = fopen(id->key_path, "w"));
    PEM_write_PrivateKey(f, id->key, NULL, NULL, 0, NULL, NULL);
    fclose(f);
}

static void identity_free(struct identity *id)
{
    unlink(id->cert_path);
    unlink(id->key_path);
    X509_free(id->cert);
    EVP_PKEY_free(id->key);
}

static void expect_refused(const struct client_options *o, enum status st, const char *text)
{
    struct client *c = NULL;
    struct err err;

    assert_int_equal(client_open(o, &c, &err), st);
    if (strstr(err.text, text) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", text, err.text);
}

static void encrypted(void **state)
{
    struct identity server, own;
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    struct client_tls tls = {.ca_file = server.cert_path};
    struct client_status status;
    struct client_call *call;
    struct bytes answer;
    struct client *c;
    struct place *p;
    struct err err;

    (void)state;
    identity_make(&server, "server.test");
    identity_make(&own, "client.test");
    SSL_CTX_use_certificate(ctx, server.cert);
    SSL_CTX_use_PrivateKey(ctx, server.key);
    SSL_CTX_load_verify_locations(ctx, own.cert_path, NULL);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    p = start(ctx, NULL);
    p->o.tls = &tls;
    tls.certificate = own.cert_path;
    tls.key = own.key_path;
    for (int i = 0; i < 2; i++) { /* by its address, then by its name */
        tls.server_name = i == 0 ? NULL : "server.test";
        c = dial(p);
        assert_int_equal(client_unary(c, "/t.S/Echo", bytes_str("secret"), in(20 * SECOND_NS), &answer, &status, &err), ST_OK);
        assert_true(bytes_equal(answer, bytes_str("secret")));
        call = ask_numbers(c, 30, 1000000);
        take_numbers(call, 30, 1000000);
        client_call_free(call);
        client_close(c);
    }
    tls.server_name = "other.test";
    expect_refused(&p->o, ST_CORRUPT, "other.test");
    tls.server_name = NULL;
    tls.ca_file = own.cert_path;
    expect_refused(&p->o, ST_CORRUPT, "certificate");
    tls.ca_file = "/nowhere/ca.pem";
    expect_refused(&p->o, ST_INVALID, "/nowhere/ca.pem");
    tls.ca_file = server.cert_path;
    tls.key = server.key_path;
    expect_refused(&p->o, ST_INVALID, "private key");
    tls.certificate = "/nowhere/cert.pem";
    expect_refused(&p->o, ST_INVALID, "/nowhere/cert.pem");
    tls.certificate = NULL; /* refused after the handshake of TLS 1.3: at the first use at the latest */
    if (client_open(&p->o, &c, &err) == ST_OK) {
        assert_int_not_equal(client_unary(c, "/t.S/Echo", bytes_str("x"), in(20 * SECOND_NS), &answer, &status, &err), ST_OK);
        client_close(c);
    }
    stop(p);
    SSL_CTX_free(ctx);
    identity_free(&server);
    identity_free(&own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unary),     cmocka_unit_test(deadlines),   cmocka_unit_test(server_streams), cmocka_unit_test(client_streams),
        cmocka_unit_test(both_ways), cmocka_unit_test(server_ends), cmocka_unit_test(nobody_there),   cmocka_unit_test(encrypted),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
