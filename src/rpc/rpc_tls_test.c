/* Proves TLS over real sockets: calls of all sizes, ALPN offered, absent and wrong, old protocol versions and plain text refused, a new
 * certificate for new connections, and more handshakes at once than begin in one go. Certificates are made on the spot. */
#include <openssl/x509.h>

#include "rpc/rpc_server_rig.h"

static SSL_CTX *make_context(const char *name)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_NAME *subject;

    assert_true(ctx != NULL && key != NULL && cert != NULL);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    subject = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(cert, subject);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    assert_int_equal(SSL_CTX_use_certificate(ctx, cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
    X509_free(cert);
    EVP_PKEY_free(key);
    return ctx;
}

static void tls_calls(void **state)
{
    SSL_CTX *ctx = make_context("one"), *other = make_context("two");
    struct fixture *f = start(NULL, 2, ctx);
    struct client *c = client_open(f);
    uint8_t *m = rig_message_of(5 << 20, 6);
    struct rig_stream *s;
    const unsigned char *chosen;
    unsigned chosen_len;
    X509 *peer;
    char name[64];

    (void)state;
    SSL_CTX_free(ctx); /* the server has its own reference */
    assert_false(c->is_dead);
    SSL_get0_alpn_selected(c->ssl, &chosen, &chosen_len);
    assert_true(chosen_len == 2 && memcmp(chosen, "h2", 2) == 0);
    for (int i = 0; i < 20; i++)
        assert_status(client_call(c, i % 2 == 0 ? "/t.S/Echo" : "/t.S/Pool", "\0\0\0\0\1x", 6), "0", "");
    s = client_call(c, "/t.S/Echo", m, GRPC_PREFIX_LEN + (5 << 20));
    assert_status(s, "0", "");
    assert_int_equal(s->down_len, GRPC_PREFIX_LEN + (5 << 20));
    assert_memory_equal(s->down, m, s->down_len);
    assert_int_equal(client_call(c, "/t.S/Stream", "\0\0\0\0\0", 5)->down_len, 1000 * 10005);
    client_close(c);
    f->alpn = NULL; /* an old client that does not know ALPN */
    c = client_open(f);
    assert_status(client_call(c, "/t.S/Echo", "\0\0\0\0\1x", 6), "0", "");
    client_close(c);
    f->alpn = "\10http/1.1\2h2";
    c = client_open(f);
    assert_status(client_call(c, "/t.S/Echo", "\0\0\0\0\1x", 6), "0", "");
    client_close(c);
    f->alpn = "\10http/1.1"; /* one that can not speak HTTP/2 */
    c = client_open(f);
    assert_true(c->is_dead);
    client_close(c);
    /* A new certificate serves new connections. */
    f->alpn = "\2h2";
    c = client_open(f);
    rpc_server_set_tls(f->server, other);
    SSL_CTX_free(other);
    assert_status(client_call(c, "/t.S/Echo", "\0\0\0\0\1x", 6), "0", "");
    client_close(c);
    c = client_open(f);
    peer = SSL_get1_peer_certificate(c->ssl);
    X509_NAME_get_text_by_NID(X509_get_subject_name(peer), NID_commonName, name, sizeof(name));
    assert_string_equal(name, "two");
    X509_free(peer);
    client_close(c);
    free(m);
    stop(f);
}

static int accept_any(int is_good, X509_STORE_CTX *ctx)
{
    (void)is_good;
    (void)ctx;
    return 1;
}

/* A handler sees the certificate of its client, also when the connection is gone. */
static void client_certificates(void **state)
{
    SSL_CTX *ctx = make_context("server"), *of_client = make_context("client");
    struct fixture *f;
    struct client *c;
    struct rig_stream *s;
    char name[64];

    (void)state;
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, accept_any);
    f = start(NULL, 1, ctx);
    SSL_CTX_free(ctx);
    c = client_open(f);
    s = client_call(c, "/t.S/Peer", "\0\0\0\0\0", 5);
    assert_non_null(memmem(s->down, s->down_len, " 1 none", 7));
    client_close(c);
    f->client_cert = SSL_CTX_get0_certificate(of_client);
    f->client_key = SSL_CTX_get0_privatekey(of_client);
    c = client_open(f);
    s = client_call(c, "/t.S/Peer", "\0\0\0\0\0", 5);
    assert_non_null(memmem(s->down, s->down_len, " 1 cert", 7));
    client_begin(c, "/t.S/Hold", "\0\0\0\0\0", 5, NULL);
    eventually(take_held(0) != NULL);
    client_close(c);
    eventually(rpc_is_cancelled(take_held(0)));
    X509_NAME_get_text_by_NID(X509_get_subject_name(rpc_tls_peer_cert(take_held(0))), NID_commonName, name, sizeof(name));
    assert_string_equal(name, "client");
    rpc_finish(take_held(0), RPC_OK, "", bytes_of(NULL, 0));
    SSL_CTX_free(of_client);
    stop(f);
}

static void tls_misuse(void **state)
{
    const struct rpc_limits limits = {.handshake_timeout_ns = 300 * MS};
    SSL_CTX *ctx = make_context("one"), *old;
    struct fixture *f = start(&limits, 1, ctx);
    int plain, silent;
    SSL *ssl;
    char byte;

    (void)state;
    SSL_CTX_free(ctx);
    plain = dial(rpc_server_port(f->server)); /* HTTP/2 without TLS */
    silent = dial(rpc_server_port(f->server));
    assert_true(send(plain, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN, MSG_NOSIGNAL) > 0);
    while (recv(plain, &byte, 1, 0) > 0)
        ;
    close(plain);
    old = SSL_CTX_new(TLS_client_method()); /* TLS 1.1 */
    SSL_CTX_set_security_level(old, 0);
    SSL_CTX_set_min_proto_version(old, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(old, TLS1_1_VERSION);
    ssl = SSL_new(old);
    plain = dial(rpc_server_port(f->server));
    SSL_set_fd(ssl, plain);
    assert_int_not_equal(SSL_connect(ssl), 1);
    SSL_free(ssl);
    SSL_CTX_free(old);
    close(plain);
    assert_true(recv(silent, &byte, 1, 0) <= 0); /* the handshake timeout */
    close(silent);
    eventually(stats_of(f).connections_open == 0);
    stop(f);
}

/* More handshakes at once than begin in one go: they wait their turn, none is lost. */
static void tls_storm(void **state)
{
    SSL_CTX *ctx = make_context("one");
    struct fixture *f = start(NULL, 1, ctx);
    struct load loads[4];
    pthread_t threads[4];

    (void)state;
    SSL_CTX_free(ctx);
    for (int round = 0; round < 15; round++) {
        for (size_t i = 0; i < 4; i++) {
            loads[i] = (struct load){f, "/t.S/Echo", 3, 0};
            assert_int_equal(pthread_create(&threads[i], NULL, run_load, &loads[i]), 0);
        }
        for (size_t i = 0; i < 4; i++) {
            pthread_join(threads[i], NULL);
            assert_int_equal(loads[i].good, 3);
        }
    }
    stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(tls_calls), cmocka_unit_test(client_certificates), cmocka_unit_test(tls_misuse),
                                       cmocka_unit_test(tls_storm)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
