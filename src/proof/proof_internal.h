/* Shared by proof/ alone: EC keys as they come in files. */
#ifndef PROOF_PROOF_INTERNAL_H
#define PROOF_PROOF_INTERNAL_H

#include <openssl/evp.h>

#include "proof/proof.h"

/* Longest private scalar: P-521. */
#define EC_SCALAR_BYTES_MAX 66

struct ec_curve {
    const char *group; /* OpenSSL's name */
    size_t scalar_len;
    size_t point_len; /* uncompressed */
    size_t oid_len;
    uint8_t oid[9]; /* content of the DER object identifier */
};
/* NULL when unknown. */
const struct ec_curve *ec_curve_by_oid(struct bytes oid);
const struct ec_curve *ec_curve_by_point_len(size_t len);

/* The DER of a SEC1 ECPrivateKey. The texts of refusals are the published ones. scalar is borrowed from der. */
MUST_USE enum status sec1_parse(struct bytes der, const struct ec_curve **curve, struct bytes *scalar, struct err *err);

#endif
