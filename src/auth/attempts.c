/* Buckets by their theoretical arrival time, in a set-associative table; see attempts.h. */
#include "auth/attempts.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"

static const uint64_t MINUTE_NS = UINT64_C(60) * 1000000000, KNOWN_NS = UINT64_C(86400) * 1000000000;
enum { KEY_MAX = 192 };
enum bucket { BUCKET_PAIR = 'p', BUCKET_ADDRESS = 'a', BUCKET_USER = 'u' };

void attempts_init(struct attempts *a, const struct env *env, uint32_t per_minute)
{
    *a = (struct attempts){.burst = per_minute, .interval_ns = per_minute > 0 ? MINUTE_NS / per_minute : 0};
    env_random(env, &a->seed, sizeof a->seed);
}

/* kind || len(address) || address || user. Names longer than a user can have are cut: they only share their allowance. */
static uint64_t id_of(const struct attempts *a, enum bucket kind, struct bytes address, struct bytes user)
{
    uint8_t key[KEY_MAX];
    size_t address_len = address.len < 64 ? address.len : 64, user_len = user.len < 120 ? user.len : 120, len = 2;
    uint64_t id;

    key[0] = (uint8_t)kind;
    key[1] = (uint8_t)address_len;
    if (address_len > 0)
        memcpy(key + len, address.data, address_len);
    len += address_len;
    if (user_len > 0)
        memcpy(key + len, user.data, user_len);
    id = hash64(a->seed, key, len + user_len);
    return id != 0 ? id : 1;
}

/* The one of the id, or one that takes the place of what matters least: free, then not in debt for longest, known pairs last. */
static struct attempt_slot *slot_of(struct attempts *a, uint64_t id, uint64_t now_ns)
{
    struct attempt_slot *set = &a->slots[id % (ATTEMPTS_SLOTS / ATTEMPTS_WAYS) * ATTEMPTS_WAYS], *victim = set;
    size_t i;

    for (i = 0; i < ATTEMPTS_WAYS; i++) {
        bool is_known = set[i].known_until_ns > now_ns, victim_is_known = victim->known_until_ns > now_ns;

        if (set[i].id == id)
            return &set[i];
        if (victim->id == 0)
            continue;
        if (set[i].id == 0 || (victim_is_known && !is_known) ||
            (victim_is_known == is_known &&
             (is_known ? set[i].known_until_ns < victim->known_until_ns : set[i].charged_until_ns < victim->charged_until_ns)))
            victim = &set[i];
    }
    *victim = (struct attempt_slot){.id = id};
    return victim;
}

/* How long until one attempt more fits into a bucket of that many intervals; 0 = it fits now. */
static uint64_t wait_of(const struct attempt_slot *s, uint64_t interval_ns, uint64_t burst, uint64_t now_ns)
{
    uint64_t room_ns = interval_ns * (burst - 1);

    return s->charged_until_ns > now_ns + room_ns ? s->charged_until_ns - now_ns - room_ns : 0;
}

static void charge(struct attempt_slot *s, uint64_t interval_ns, uint64_t now_ns)
{
    s->charged_until_ns = (s->charged_until_ns > now_ns ? s->charged_until_ns : now_ns) + interval_ns;
}

struct buckets {
    struct attempt_slot *pair, *address, *user;
};

/* Looking one up may take another's place: looked up again until all three are there at once (they lie in at most three sets of eight). */
static struct buckets buckets_of(struct attempts *a, struct bytes address, struct bytes user, uint64_t now_ns)
{
    uint64_t pair_id = id_of(a, BUCKET_PAIR, address, user), address_id = id_of(a, BUCKET_ADDRESS, address, bytes_of(NULL, 0)),
             user_id = id_of(a, BUCKET_USER, bytes_of(NULL, 0), user);
    struct buckets b;
    int round;

    for (round = 0; round < 3; round++) {
        b = (struct buckets){slot_of(a, pair_id, now_ns), slot_of(a, address_id, now_ns), slot_of(a, user_id, now_ns)};
        if (b.pair->id == pair_id && b.address->id == address_id)
            break;
    }
    return b;
}

uint64_t attempts_wait_ns(struct attempts *a, struct bytes address, struct bytes user, uint64_t now_ns)
{
    uint64_t shared_ns = a->interval_ns / ATTEMPTS_SHARED_FACTOR, shared_burst = a->burst * ATTEMPTS_SHARED_FACTOR, wait, longest;
    struct buckets b;

    if (a->interval_ns == 0)
        return 0;
    b = buckets_of(a, address, user, now_ns);
    longest = wait_of(b.pair, a->interval_ns, a->burst, now_ns);
    if (b.pair->known_until_ns > now_ns)
        return longest;
    if ((wait = wait_of(b.address, shared_ns, shared_burst, now_ns)) > longest)
        longest = wait;
    if (wait_of(b.user, shared_ns, shared_burst, now_ns) > 0 && b.pair->charged_until_ns > 0) {
        uint64_t minute_over_ns = b.pair->charged_until_ns + (MINUTE_NS - a->interval_ns);

        if (minute_over_ns > now_ns && minute_over_ns - now_ns > longest)
            longest = minute_over_ns - now_ns;
    }
    return longest;
}

void attempts_charge(struct attempts *a, struct bytes address, struct bytes user, uint64_t now_ns)
{
    struct buckets b;

    if (a->interval_ns == 0)
        return;
    b = buckets_of(a, address, user, now_ns);
    charge(b.pair, a->interval_ns, now_ns);
    charge(b.address, a->interval_ns / ATTEMPTS_SHARED_FACTOR, now_ns);
    charge(b.user, a->interval_ns / ATTEMPTS_SHARED_FACTOR, now_ns);
}

static void give_back(struct attempt_slot *s, uint64_t interval_ns)
{
    s->charged_until_ns = s->charged_until_ns > interval_ns ? s->charged_until_ns - interval_ns : 0;
}

void attempts_give_back(struct attempts *a, struct bytes address, struct bytes user, uint64_t now_ns)
{
    struct buckets b;

    if (a->interval_ns == 0)
        return;
    b = buckets_of(a, address, user, now_ns);
    give_back(b.pair, a->interval_ns);
    give_back(b.address, a->interval_ns / ATTEMPTS_SHARED_FACTOR);
    give_back(b.user, a->interval_ns / ATTEMPTS_SHARED_FACTOR);
}

void attempts_known(struct attempts *a, struct bytes address, struct bytes user, uint64_t now_ns)
{
    if (a->interval_ns > 0)
        slot_of(a, id_of(a, BUCKET_PAIR, address, user), now_ns)->known_until_ns = now_ns + KNOWN_NS;
}

struct bytes attempts_address(const char *peer, char out[ATTEMPTS_ADDRESS_MAX])
{
    const char *colon = strrchr(peer, ':');
    size_t len = colon != NULL ? (size_t)(colon - peer) : strlen(peer);
    struct in6_addr v6;

    if (len >= 2 && len < ATTEMPTS_ADDRESS_MAX && peer[0] == '[' && peer[len - 1] == ']') {
        memcpy(out, peer + 1, len - 2);
        out[len - 2] = '\0';
        if (inet_pton(AF_INET6, out, &v6) == 1) {
            memset(v6.s6_addr + 8, 0, 8);
            if (inet_ntop(AF_INET6, &v6, out, ATTEMPTS_ADDRESS_MAX) != NULL)
                return bytes_str(out);
        }
    }
    if (len > ATTEMPTS_ADDRESS_MAX - 1)
        len = ATTEMPTS_ADDRESS_MAX - 1;
    memcpy(out, peer, len);
    out[len] = '\0';
    return bytes_of(out, len);
}
