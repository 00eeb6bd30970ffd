/* Failed logins, and who has to wait because of them (why it is so: docs/configuration.md, "Login attempts").
 *
 * Three allowances, each a bucket that fills evenly: a pair of address and user N failures a minute, an address 4 N over all users, a user 4 N over
 * all addresses. An attempt is charged before its check and given back when it was right, so that attempts at the same time count, too. Without
 * allowance an attempt is refused, right or wrong: that of the pair binds always; that of the address only pairs that did not log in during the last
 * day; that of the user leaves such pairs one attempt a minute, never none: nobody can lock a user out from elsewhere.
 *
 * A table of fixed size; entries that matter least make room. Not thread-safe: the caller's lock. */
#ifndef AUTH_ATTEMPTS_H
#define AUTH_ATTEMPTS_H

#include "base/bytes.h"
#include "base/env.h"

#define ATTEMPTS_SLOTS 8192
#define ATTEMPTS_WAYS 8
#define ATTEMPTS_ADDRESS_MAX 64
#define ATTEMPTS_SHARED_FACTOR 4 /* of an address and of a user, over the pair's */

struct attempt_slot {
    uint64_t id;               /* 0 = free */
    uint64_t charged_until_ns; /* the bucket is full again at this time */
    uint64_t known_until_ns;   /* pairs: logged in before; 0 = never */
};
struct attempts {
    uint64_t seed, interval_ns; /* interval_ns: of a pair's allowance; 0 = no limits */
    uint64_t burst;
    struct attempt_slot slots[ATTEMPTS_SLOTS];
};

/* per_minute: N; 0 switches the limits off. */
void attempts_init(struct attempts *a, const struct env *env, uint32_t per_minute);
/* 0: an attempt may be made now. Otherwise when it is worth trying again. address: of attempts_address(). */
uint64_t attempts_wait_ns(struct attempts *a, struct bytes address, struct bytes user, uint64_t now_ns);
void attempts_charge(struct attempts *a, struct bytes address, struct bytes user, uint64_t now_ns);
/* The charged attempt was right, or never made. */
void attempts_give_back(struct attempts *a, struct bytes address, struct bytes user, uint64_t now_ns);
/* The pair has logged in. */
void attempts_known(struct attempts *a, struct bytes address, struct bytes user, uint64_t now_ns);
/* Whom "host:port" stands for: the address without the port, and an IPv6 address without its last 64 bits, which its owner chooses freely. */
struct bytes attempts_address(const char *peer, char out[ATTEMPTS_ADDRESS_MAX]);

#endif
