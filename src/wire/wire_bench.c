/* Nanoseconds per encoded answer and per decoded request, one core, warm caches. */
#include <stdio.h>
#include <stdlib.h>

#include "base/env.h"
#include "wire/wire.h"

#define ROUNDS 1000000u

static struct arena arena;
static volatile size_t sink;

static double per_round(uint64_t start, unsigned rounds) { return (double)(env_mono_ns(env_system()) - start) / rounds; }

static void bench_entry(void)
{
    uint8_t key[16] = "key-000000000001", value[64] = "value";
    struct kv_entry e = {.tx_id = 123456, .key = bytes_of(key, 16), .value = bytes_of(value, 64), .revision = 3};
    uint64_t start = env_mono_ns(env_system());
    struct pb_list l;

    for (unsigned i = 0; i < ROUNDS; i++) {
        struct pb w;

        e.tx_id += i;
        pb_init(&w, &arena, 128);
        wire_entry(&w, &e);
        sink += pb_len(&w);
        arena_reset(&arena);
    }
    printf("entry encode              %8.1f ns\n", per_round(start, ROUNDS));
    start = env_mono_ns(env_system());
    for (unsigned i = 0; i < ROUNDS / 1000; i++) {
        pb_list_init(&l, &arena, 65536);
        for (unsigned k = 0; k < 1000; k++)
            wire_list_entry(&l, &e);
        sink += l.len;
        arena_reset(&arena);
    }
    printf("entry appended to a list  %8.1f ns\n", per_round(start, ROUNDS));
}

static void bench_verifiable(size_t entry_count, unsigned rounds)
{
    static hash_t hashes[64];
    struct tx_header h = {.id = 1000000, .ts = 1800000000, .bl_tx_id = 999999, .version = 1, .entry_count = (uint32_t)entry_count};
    struct tx_entry *entries = calloc(entry_count, sizeof *entries);
    struct dual_proof p = {.has_source = true,
                           .has_target = true,
                           .source = h,
                           .target = h,
                           .inclusion = {10, hashes},
                           .consistency = {20, hashes},
                           .last_inclusion = {20, hashes},
                           .has_linear = true,
                           .linear = {1, 2, {2, hashes}}};
    struct merkle_path path = {.term_count = entry_count > 1 ? 9 : 0};
    struct kv_entry e = {
        .tx_id = 1000000, .key = bytes_str("key-000000000001"), .value = bytes_str("0123456789012345678901234567890123456789"), .revision = 1};
    struct kv_tx tx = {&h, entries, entry_count, NULL, 0, NULL, 0};
    struct wire_verifiable_tx v = {&tx, &p, false, true, NULL};
    uint64_t start;
    size_t len = 0;

    for (size_t i = 0; i < entry_count; i++)
        entries[i] = (struct tx_entry){.key = bytes_of("\0key-000000000001", 17), .value_len = 65};
    start = env_mono_ns(env_system());
    for (unsigned i = 0; i < rounds; i++) {
        struct pb w;

        pb_init(&w, &arena, wire_tx_hint(&tx) + wire_proof_hint(&p) + 512);
        wire_verifiable_entry(&w, &e, &v, 0, (uint32_t)entry_count, &path);
        sink += len = pb_len(&w);
        arena_reset(&arena);
    }
    printf("VerifiableEntry, %3zu entries, %5zu bytes: %8.1f ns\n", entry_count, len, per_round(start, rounds));
    free(entries);
}

static void bench_decode(const char *name, const ProtobufCMessageDescriptor *d, struct bytes in)
{
    uint64_t start = env_mono_ns(env_system());
    void *m;

    for (unsigned i = 0; i < ROUNDS; i++) {
        if (wire_unpack(d, in, &arena, &m, NULL) != ST_OK)
            abort();
        arena_reset(&arena);
    }
    printf("%-12s decode, ours       %8.1f ns\n", name, per_round(start, ROUNDS));
    start = env_mono_ns(env_system());
    for (unsigned i = 0; i < ROUNDS; i++)
        protobuf_c_message_free_unpacked(protobuf_c_message_unpack(d, NULL, in.len, in.data), NULL);
    printf("%-12s decode, protobuf-c %8.1f ns\n", name, per_round(start, ROUNDS));
}

int main(void)
{
    static const char set[] = "\x0a\x54\x0a\x10key-000000000001\x12\x40"
                              "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    static uint8_t keys[100 * 18];

    arena_init(&arena, 1 << 17, 0);
    for (size_t i = 0; i < sizeof keys; i += 18) {
        keys[i] = 0x0a;
        keys[i + 1] = 16;
    }
    bench_entry();
    bench_verifiable(1, ROUNDS);
    bench_verifiable(500, ROUNDS / 50);
    bench_decode("Set", &immudb__schema__set_request__descriptor, bytes_of(set, sizeof set - 1));
    bench_decode("Get", &immudb__schema__key_request__descriptor, bytes_of(set + 2, 18));
    bench_decode("GetAll x100", &immudb__schema__key_list_request__descriptor, bytes_of(keys, sizeof keys));
    arena_free(&arena);
    return 0;
}
