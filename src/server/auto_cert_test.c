/* The pair of --auto-cert on a file system in memory, the clock set by hand: made once, kept, made again when it ends, is damaged or does not belong
 * together; what stands in the certificate; every failing file operation leaves a state the next start gets along with. */
#include "server/auto_cert.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "base/test.h"
#include "vfs/vfs_faulty.h"
#include "vfs/vfs_memory.h"

static const int64_t DAY_NS = INT64_C(86400) * 1000000000;
static int64_t now_ns;

static int64_t wall(void *ctx)
{
    (void)ctx;
    return now_ns;
}
static void random_bytes(void *ctx, void *out, size_t len)
{
    (void)ctx;
    env_system()->random(NULL, out, len);
}
static const struct env ENV = {.wall_ns = wall, .random = random_bytes};

static struct vfs *folder_new(void)
{
    struct vfs *v = vfs_memory_create();

    assert_non_null(v);
    assert_int_equal(v->ops->mkdir(v, "d", NULL), ST_OK);
    now_ns = INT64_C(1795234979) * 1000000000;
    return v;
}

static bool ensure(struct vfs *v, const char *address, struct auto_cert *a)
{
    bool was_made;
    struct err err;

    if (auto_cert_ensure(v, &ENV, "d", address, a, &was_made, &err) != ST_OK)
        fail_msg("%s", err.text);
    return was_made;
}

static X509 *certificate_of(struct vfs *v)
{
    uint8_t *pem = NULL;
    size_t len = 0;
    X509 *cert;
    BIO *bio;

    assert_int_equal(vfs_read_all(v, "d/immudb-cert.pem", 65536, &pem, &len, NULL), ST_OK);
    assert_non_null(bio = BIO_new_mem_buf(pem, (int)len));
    assert_non_null(cert = PEM_read_bio_X509(bio, NULL, NULL, NULL));
    BIO_free(bio);
    free(pem);
    return cert;
}

static void test_life(void **state)
{
    struct vfs *v = folder_new();
    struct auto_cert a;
    uint64_t i;

    (void)state;
    assert_true(ensure(v, "", &a));
    assert_string_equal(a.certificate, "d/immudb-cert.pem");
    assert_string_equal(a.pkey, "d/immudb-key.pem");
    for (i = 0; i < 334; i += 30) {
        now_ns += i == 0 ? 0 : 30 * DAY_NS;
        assert_false(ensure(v, "", &a));
    }
    now_ns += 5 * DAY_NS; /* 335 days: 30 are left */
    assert_true(ensure(v, "", &a));
    assert_false(ensure(v, "", &a));
    now_ns += 400 * DAY_NS;
    assert_true(ensure(v, "", &a));
    now_ns -= 800 * DAY_NS; /* not valid yet: the clock was wrong when it was made */
    assert_true(ensure(v, "", &a));
    vfs_memory_destroy(v);
}

static void test_damage(void **state)
{
    static const char *const paths[] = {"d/immudb-cert.pem", "d/immudb-key.pem"};
    struct vfs *v = folder_new();
    struct auto_cert a;
    uint8_t *old_key = NULL;
    size_t i, len = 0;

    (void)state;
    assert_true(ensure(v, "", &a));
    for (i = 0; i < 2; i++) {
        assert_int_equal(vfs_replace(v, "d", paths[i], "nonsense", 8, NULL), ST_OK);
        assert_true(ensure(v, "", &a));
        assert_int_equal(vfs_replace(v, "d", paths[i], "", 0, NULL), ST_OK);
        assert_true(ensure(v, "", &a));
        assert_int_equal(v->ops->unlink(v, paths[i], NULL), ST_OK);
        assert_true(ensure(v, "", &a));
        assert_false(ensure(v, "", &a));
    }
    assert_int_equal(vfs_read_all(v, paths[1], 65536, &old_key, &len, NULL), ST_OK);
    assert_int_equal(v->ops->unlink(v, paths[1], NULL), ST_OK);
    assert_true(ensure(v, "", &a));
    assert_int_equal(vfs_replace(v, "d", paths[1], old_key, len, NULL), ST_OK); /* the key of another certificate */
    assert_true(ensure(v, "", &a));
    free(old_key);
    vfs_memory_destroy(v);
}

static void test_content(void **state)
{
    static const unsigned char here[4] = {10, 1, 2, 3};
    struct vfs *v = folder_new();
    struct auto_cert a;
    X509 *cert, *other;

    (void)state;
    assert_true(ensure(v, "10.1.2.3", &a));
    cert = certificate_of(v);
    assert_int_equal(X509_check_host(cert, "localhost", 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(cert, "example.com", 0, 0, NULL), 0);
    assert_int_equal(X509_check_ip_asc(cert, "127.0.0.1", 0), 1);
    assert_int_equal(X509_check_ip_asc(cert, "::1", 0), 1);
    assert_int_equal(X509_check_ip(cert, here, sizeof here, 0), 1);
    assert_int_equal(X509_check_ip_asc(cert, "10.1.2.4", 0), 0);
    assert_int_equal(X509_verify(cert, X509_get0_pubkey(cert)), 1);
    assert_int_equal(X509_check_ca(cert), 0);
    assert_int_equal(EVP_PKEY_get_bits(X509_get0_pubkey(cert)), 256);
    assert_int_equal(v->ops->unlink(v, "d/immudb-cert.pem", NULL), ST_OK);
    assert_true(ensure(v, "0.0.0.0,DNS:evil", &a)); /* no address: it stays out */
    other = certificate_of(v);
    assert_int_equal(X509_check_host(other, "evil", 0, 0, NULL), 0);
    assert_int_not_equal(ASN1_INTEGER_cmp(X509_get0_serialNumber(cert), X509_get0_serialNumber(other)), 0);
    X509_free(cert);
    X509_free(other);
    vfs_memory_destroy(v);
}

/* A failure of each writing operation in turn, then a start on a sound disk. */
static void test_failures(void **state)
{
    uint64_t n;
    bool was_made, failed = true;

    (void)state;
    for (n = 1; failed; n++) {
        struct vfs *v = folder_new(), *faulty = vfs_faulty_create(v);
        struct auto_cert a;
        struct err err;

        assert_non_null(faulty);
        vfs_faulty_arm(faulty, FAULT_EIO, n, n);
        failed = auto_cert_ensure(faulty, &ENV, "d", "", &a, &was_made, &err) != ST_OK;
        assert_int_equal(failed, vfs_faulty_fired(faulty));
        vfs_faulty_destroy(faulty);
        (void)ensure(v, "", &a);
        assert_false(ensure(v, "", &a));
        vfs_memory_destroy(v);
        assert_true(n < 100);
    }
    assert_true(n > 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_life), cmocka_unit_test(test_damage), cmocka_unit_test(test_content),
                                       cmocka_unit_test(test_failures)};

    return cmocka_run_group_tests_name("auto_cert", tests, NULL, NULL);
}
