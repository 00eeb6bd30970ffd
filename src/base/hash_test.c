/* Proves SHA-256 with the published vectors and against OpenSSL for random lengths and splits; every implementation that
 * runs on this CPU against the portable one; nodes and leaves against their definition; CRC-32C with the published
 * vectors and chained at every split; and that hash64 depends on every bit of its input. */
#include "base/hash_internal.h"
#include "base/test.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

static const struct sha256_impl *const *shas(size_t *count)
{
    static const struct sha256_impl *list[2];

    *count = 0;
    list[(*count)++] = &sha256_portable;
#if defined(__x86_64__)
    if (sha256_x86_usable())
        list[(*count)++] = &sha256_x86;
#elif defined(__aarch64__)
    if (sha256_armv8_usable())
        list[(*count)++] = &sha256_armv8;
#endif
    return list;
}

static const struct crc32c_impl *const *crcs(size_t *count)
{
    static const struct crc32c_impl *list[2];

    *count = 0;
    list[(*count)++] = &crc32c_portable;
#if defined(__x86_64__)
    if (crc32c_x86_usable())
        list[(*count)++] = &crc32c_x86;
#elif defined(__aarch64__)
    if (crc32c_armv8_usable())
        list[(*count)++] = &crc32c_armv8;
#endif
    return list;
}

static void hex_equal(const hash_t *h, const char *hex)
{
    char text[65];

    for (int i = 0; i < 32; i++)
        snprintf(text + 2 * i, 3, "%02x", h->b[i]);
    assert_string_equal(text, hex);
}

static void published_vectors(void **state)
{
    static uint8_t million[1000000];
    hash_t h;

    (void)state;
    sha256("", 0, &h);
    hex_equal(&h, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_true(hash_equal(&h, &HASH_EMPTY));
    sha256(NULL, 0, &h);
    assert_true(hash_equal(&h, &HASH_EMPTY));
    sha256("abc", 3, &h);
    hex_equal(&h, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, &h);
    hex_equal(&h, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    sha256("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu", 112, &h);
    hex_equal(&h, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
    memset(million, 'a', sizeof million);
    sha256(million, sizeof million, &h);
    hex_equal(&h, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    for (int i = 0; i < 32; i++)
        assert_int_equal(HASH_ZERO.b[i], 0);
}

static void openssl_hash(const void *data, size_t len, hash_t *out) { assert_int_equal(EVP_Digest(data, len, out->b, NULL, EVP_sha256(), NULL), 1); }

/* Every length up to 600 at different alignments, then random long ones, whole and in random pieces. */
static void lengths_and_splits(void **state)
{
    static uint8_t data[20000];
    uint64_t rng = 42;
    hash_t expected, got;

    (void)state;
    test_random_fill(&rng, data, sizeof data);
    for (size_t i = 0; i < 900; i++) {
        size_t start = i % 17, len = i < 600 ? i : (size_t)(test_random(&rng) % (sizeof data - 17)), at = 0;
        struct sha256 s;

        openssl_hash(data + start, len, &expected);
        sha256(data + start, len, &got);
        assert_memory_equal(&got, &expected, 32);
        sha256_init(&s);
        while (at < len) {
            size_t piece = (size_t)(test_random(&rng) % (i % 3 == 0 ? 10 : 300));

            piece = piece < len - at ? piece : len - at;
            sha256_update(&s, data + start + at, piece);
            at += piece;
        }
        sha256_final(&s, &got);
        assert_memory_equal(&got, &expected, 32);
    }
}

static void implementations_agree(void **state)
{
    static uint8_t data[64 * 20 + 3];
    uint64_t rng = 7;
    size_t count;
    const struct sha256_impl *const *list = shas(&count);

    (void)state;
    print_message("sha256 runs as %s, %zu implementations tested\n", sha256_backend(), count);
#if defined(SHA_EVP)
    assert_non_null(strstr(sha256_backend(), "openssl-evp"));
#else
    assert_string_equal(sha256_backend(), list[count - 1]->name);
#endif
    for (int round = 0; round < 200; round++) {
        size_t blocks = (size_t)(test_random(&rng) % 21), start = (size_t)(test_random(&rng) % 4);
        uint32_t seed[8], expected[8], got[8];

        test_random_fill(&rng, data, sizeof data);
        test_random_fill(&rng, seed, sizeof seed);
        memcpy(expected, seed, sizeof seed);
        sha256_portable.blocks(expected, data + start, blocks);
        for (size_t i = 1; i < count; i++) {
            memcpy(got, seed, sizeof seed);
            list[i]->blocks(got, data + start, blocks);
            assert_memory_equal(got, expected, sizeof got);
        }
    }
}

static void define_node(const uint8_t *left, const uint8_t *right, hash_t *out)
{
    uint8_t message[65] = {0x01};

    memcpy(message + 1, left, 32);
    memcpy(message + 33, right, 32);
    openssl_hash(message, 65, out);
}

/* Against SHA-256 of the bytes spelled out; also where out is one of the inputs. */
static void nodes_and_leaves(void **state)
{
    enum { PAIRS = 9 };
    uint64_t rng = 9;
    size_t count;
    const struct sha256_impl *const *list = shas(&count);

    (void)state;
    for (int round = 0; round < 100; round++) {
        hash_t in[2 * PAIRS], out[PAIRS], expected[PAIRS], h;
        uint8_t leaf[33] = {0x00};

        test_random_fill(&rng, in, sizeof in);
        memcpy(leaf + 1, in[0].b, 32);
        openssl_hash(leaf, 33, &h);
        for (size_t k = 0; k < PAIRS; k++)
            define_node(in[2 * k].b, in[2 * k + 1].b, &expected[k]);
        for (size_t i = 0; i < count; i++) {
            list[i]->leaf(in[0].b, out[0].b);
            assert_memory_equal(&out[0], &h, 32);
            list[i]->node(in[0].b, in[1].b, out[0].b);
            assert_memory_equal(&out[0], &expected[0], 32);
            for (size_t pairs = 1; pairs <= PAIRS; pairs++) {
                hash_t copy[2 * PAIRS];

                list[i]->nodes(in[0].b, pairs, out[0].b);
                assert_memory_equal(out, expected, 32 * pairs);
                memcpy(copy, in, sizeof copy);
                list[i]->nodes(copy[0].b, pairs, copy[0].b);
                assert_memory_equal(copy, expected, 32 * pairs);
            }
        }
        sha256_nodes(in, 0, out);
        h = in[1];
        sha256_node(&in[0], &h, &h);
        assert_memory_equal(&h, &expected[0], 32);
        h = in[0];
        sha256_node(&h, &in[1], &h);
        assert_memory_equal(&h, &expected[0], 32);
        h = in[0];
        sha256_leaf(&h, &h);
        openssl_hash(leaf, 33, &out[0]);
        assert_memory_equal(&h, &out[0], 32);
        sha256(in, 64, in); /* out may overlap data */
    }
}

static uint32_t crc_by_bits(uint32_t seed, const uint8_t *data, size_t len)
{
    uint32_t crc = ~seed;

    for (size_t i = 0; i < len; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static void crc_vectors(void **state)
{
    uint8_t data[32];

    (void)state;
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c(0, NULL, 0), 0);
    assert_int_equal(crc32c(77, NULL, 0), 77);
    memset(data, 0, 32); /* RFC 3720 B.4 */
    assert_int_equal(crc32c(0, data, 32), 0x8a9136aa);
    memset(data, 0xff, 32);
    assert_int_equal(crc32c(0, data, 32), 0x62a8ab43);
    for (uint8_t i = 0; i < 32; i++)
        data[i] = i;
    assert_int_equal(crc32c(0, data, 32), 0x46dd794e);
}

/* All lengths over the borders of the lanes, several alignments and seeds, each implementation; chained at any split. */
static void crc_lengths_and_splits(void **state)
{
    static uint8_t data[9000];
    uint64_t rng = 3;
    size_t count;
    const struct crc32c_impl *const *list = crcs(&count);

    (void)state;
    print_message("%zu implementations of crc32c tested\n", count);
    test_random_fill(&rng, data, sizeof data);
    for (size_t len = 0; len < 8990; len += len < 1300 ? 1 : 37) {
        uint32_t seed = (uint32_t)test_random(&rng);
        size_t start = len % 9, split = len == 0 ? 0 : (size_t)(test_random(&rng) % len);
        uint32_t expected = crc_by_bits(seed, data + start, len);

        for (size_t i = 0; i < count; i++)
            assert_int_equal(~list[i]->update(~seed, data + start, len), expected);
        assert_int_equal(crc32c(crc32c(seed, data + start, split), data + start + split, len - split), expected);
    }
}

/* Flipping any one bit, or the seed, or the length changes about half of the bits. */
static void hash64_mixes(void **state)
{
    uint64_t rng = 5, worst = 64;
    uint8_t data[100];

    (void)state;
    test_random_fill(&rng, data, sizeof data);
    for (size_t len = 0; len <= sizeof data; len++) {
        uint64_t h = hash64(1, data, len);

        assert_true(h == hash64(1, data, len));
        assert_true(h != hash64(2, data, len));
        for (size_t bit = 0; bit < 8 * len; bit++) {
            uint64_t distance;

            data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
            distance = (uint64_t)__builtin_popcountll(h ^ hash64(1, data, len));
            data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
            worst = distance < worst ? distance : worst;
        }
    }
    assert_true(worst >= 8);
    for (size_t len = 1; len <= 40; len++) { /* no bytes make the seed irrelevant, those of the constants neither */
        static const uint64_t odd[4] = {0x9e3779b97f4a7c15u, 0xbf58476d1ce4e5b9u, 0x94d049bb133111ebu, 0xd6e8feb86659fd93u};

        for (unsigned k = 0; k < 4; k++) {
            for (size_t i = 0; i < 5; i++)
                memcpy(data + 8 * i, &odd[k], 8);
            assert_true(hash64(1, data, len) != hash64(2, data, len));
        }
    }
    memset(data, 0, sizeof data); /* strings of zeros differ by their length alone */
    for (size_t a = 0; a <= sizeof data; a++)
        for (size_t b = 0; b < a; b++)
            assert_true(hash64(1, data, a) != hash64(1, data, b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_vectors), cmocka_unit_test(lengths_and_splits), cmocka_unit_test(implementations_agree),
        cmocka_unit_test(nodes_and_leaves),  cmocka_unit_test(crc_vectors),        cmocka_unit_test(crc_lengths_and_splits),
        cmocka_unit_test(hash64_mixes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
