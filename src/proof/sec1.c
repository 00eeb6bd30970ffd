/* The private key format that a server's key file must have, SEC1 in DER:
 *
 *   SEQUENCE { INTEGER 1, OCTET STRING scalar, [0] { OBJECT IDENTIFIER curve }, [1] { BIT STRING point } OPTIONAL }
 *
 * Parsed here and not by the library, because other formats it would accept must be refused, each with its published text.
 * The public point is ignored: it is computed from the scalar. */
#include "proof/proof_internal.h"

enum der_tag { DER_INTEGER = 0x02, DER_OCTETS = 0x04, DER_OID = 0x06, DER_SEQUENCE = 0x30, DER_CONTEXT_0 = 0xa0 };

static const struct ec_curve curves[] = {
    {"P-224", 28, 57, 5, {0x2b, 0x81, 0x04, 0x00, 0x21}},
    {"P-256", 32, 65, 8, {0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}},
    {"P-384", 48, 97, 5, {0x2b, 0x81, 0x04, 0x00, 0x22}},
    {"P-521", 66, 133, 5, {0x2b, 0x81, 0x04, 0x00, 0x23}},
};
#define CURVE_COUNT (sizeof curves / sizeof curves[0])

const struct ec_curve *ec_curve_by_oid(struct bytes oid)
{
    for (size_t i = 0; i < CURVE_COUNT; i++)
        if (bytes_equal(oid, bytes_of(curves[i].oid, curves[i].oid_len)))
            return &curves[i];
    return NULL;
}

const struct ec_curve *ec_curve_by_point_len(size_t len)
{
    for (size_t i = 0; i < CURVE_COUNT; i++)
        if (curves[i].point_len == len)
            return &curves[i];
    return NULL;
}

/* The content of the next element when it has this tag; otherwise the reader has failed. Definite lengths below 2^16. */
static struct bytes der_take(struct reader *r, uint8_t tag)
{
    uint8_t len = 0;
    size_t content_len = 0;

    if (reader_u8(r) != tag)
        r->failed = true;
    len = reader_u8(r);
    if (len < 0x80)
        content_len = len;
    else if (len == 0x81)
        content_len = reader_u8(r);
    else if (len == 0x82)
        content_len = reader_u16be(r);
    else
        r->failed = true;
    return reader_bytes(r, content_len);
}

static bool der_next_is(const struct reader *r, uint8_t tag) { return !r->failed && reader_left(r) > 0 && r->at[0] == tag; }

/* SEQUENCE { INTEGER, SEQUENCE { OID ... }, OCTET STRING ... } */
static bool is_pkcs8(struct bytes der)
{
    struct reader r = reader_of(der), algorithm;
    struct bytes body = der_take(&r, DER_SEQUENCE);

    if (body.data == NULL)
        return false;
    r = reader_of(body);
    der_take(&r, DER_INTEGER);
    body = der_take(&r, DER_SEQUENCE);
    if (body.data == NULL || !der_next_is(&r, DER_OCTETS))
        return false;
    algorithm = reader_of(body);
    return der_next_is(&algorithm, DER_OID);
}

/* SEQUENCE { INTEGER version, INTEGER modulus, INTEGER exponent ... } */
static bool is_pkcs1(struct bytes der)
{
    struct reader r = reader_of(der);
    struct bytes body = der_take(&r, DER_SEQUENCE);

    if (body.data == NULL)
        return false;
    r = reader_of(body);
    der_take(&r, DER_INTEGER);
    der_take(&r, DER_INTEGER);
    return der_next_is(&r, DER_INTEGER);
}

static enum status refuse(struct bytes der, struct err *err)
{
    if (is_pkcs8(der))
        return err_set(err, ST_INVALID, 0, "x509: failed to parse private key (use ParsePKCS8PrivateKey instead for this key format)");
    if (is_pkcs1(der))
        return err_set(err, ST_INVALID, 0, "x509: failed to parse private key (use ParsePKCS1PrivateKey instead for this key format)");
    return err_set(err, ST_INVALID, 0, "x509: failed to parse EC private key: asn1: structure error");
}

/* A scalar may be written with leading zeros, or without those it should have: out has the curve's length either way. */
static enum status scalar_check(const struct ec_curve *curve, struct bytes *scalar, struct err *err)
{
    while (scalar->len > curve->scalar_len) {
        if (scalar->data[0] != 0)
            return err_set(err, ST_INVALID, 0, "x509: invalid private key length");
        scalar->data++;
        scalar->len--;
    }
    return ST_OK;
}

enum status sec1_parse(struct bytes der, const struct ec_curve **curve, struct bytes *scalar, struct err *err)
{
    struct reader r, params;
    struct bytes body, version, oid = bytes_of(NULL, 0);

    *curve = NULL;
    *scalar = bytes_of(NULL, 0);
    if (der.len == 0)
        return refuse(der, err);
    r = reader_of(der);
    body = der_take(&r, DER_SEQUENCE);
    if (r.failed || body.len == 0)
        return refuse(der, err);
    r = reader_of(body);
    version = der_take(&r, DER_INTEGER);
    *scalar = der_take(&r, DER_OCTETS);
    if (r.failed || version.len == 0)
        return refuse(der, err);
    if (version.len != 1 || version.data[0] != 1)
        return err_set(err, ST_INVALID, 0, "x509: unknown EC private key version");
    if (der_next_is(&r, DER_CONTEXT_0)) {
        body = der_take(&r, DER_CONTEXT_0);
        if (r.failed || body.len == 0)
            return refuse(der, err);
        params = reader_of(body);
        oid = der_take(&params, DER_OID);
    }
    *curve = ec_curve_by_oid(oid);
    if (*curve == NULL)
        return err_set(err, ST_INVALID, 0, "x509: unknown elliptic curve");
    return scalar_check(*curve, scalar, err);
}
