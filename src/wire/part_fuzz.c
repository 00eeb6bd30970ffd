/* Any bytes cut into chunks at any place: the parts found do not depend on the cuts, and memory stays bounded. The first byte of
 * the input seeds the cuts. */
#include <stdlib.h>

#include "wire/part.h"

#define LEN_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Feeds the input in pieces; returns a hash over all parts, and their number. */
static uint64_t run(struct bytes in, uint8_t cut_seed, size_t *count, enum status *st)
{
    struct arena arena;
    struct part_reader p;
    struct bytes piece, part;
    uint64_t sum = 0;
    bool is_whole;
    unsigned state = cut_seed;

    arena_init(&arena, 1024, 16u << 20);
    part_reader_init(&p, &arena);
    *count = 0;
    *st = ST_OK;
    while (in.len > 0 && *st == ST_OK) {
        size_t cut;

        state = state * 1103515245u + 12345u;
        cut = cut_seed == 0 ? in.len : 1 + (state >> 16) % 20;
        piece = bytes_of(in.data, cut < in.len ? cut : in.len);
        in = bytes_of(in.data + piece.len, in.len - piece.len);
        while (piece.len > 0 && (*st = part_reader_feed(&p, &piece, LEN_MAX, &is_whole, &part, NULL)) == ST_OK) {
            if (!is_whole)
                break;
            sum = hash64(sum, part.data, part.len);
            ++*count;
        }
    }
    arena_free(&arena);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    size_t count_a, count_b;
    enum status st_a, st_b;
    uint64_t a, b;

    if (len < 1)
        return 0;
    a = run(bytes_of(data + 1, len - 1), 0, &count_a, &st_a);
    b = run(bytes_of(data + 1, len - 1), (uint8_t)(data[0] | 1), &count_b, &st_b);
    if (a != b || count_a != count_b || st_a != st_b)
        abort();
    return 0;
}
