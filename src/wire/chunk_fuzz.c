/* Fuzz target: chunks. Any bytes as a Chunk: our short decoder and the general one agree on the content. The same bytes as a part:
 * cut into chunks with metadata, each chunk has the size that was foretold, decodes, and the parts read back are the same. */
#include <stdlib.h>

#include "wire/part.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void require(bool is_so)
{
    if (!is_so)
        abort();
}

/* The short decoder does not look at what it skips (metadata): it may take what the general one refuses. */
static void decoders_agree(struct bytes in)
{
    struct bytes content;
    struct arena arena;
    void *message = NULL;
    enum status st_short = wire_unpack_chunk(in, &content, NULL), st;

    arena_init(&arena, 4096, 64u << 20);
    st = wire_unpack(&immudb__schema__chunk__descriptor, in, &arena, &message, NULL);
    if (st == ST_OK) {
        const Immudb__Schema__Chunk *c = message;

        require(st_short == ST_OK && bytes_equal(content, bytes_of(c->content.data, c->content.len)));
    }
    if (st_short == ST_OK && content.len > 0)
        require(content.data >= in.data && content.data + content.len <= in.data + in.len);
    arena_free(&arena);
}

static void written_reads_back(struct bytes part, struct bytes again, struct wire_chunk_metadata *md, size_t md_count)
{
    struct bytes both[2] = {part, again}, got;
    struct part_reader p;
    struct arena arena;
    size_t found = 0;
    bool is_whole;

    arena_init(&arena, 4096, 64u << 20);
    part_reader_init(&p, &arena);
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; i < part_chunk_count(both[k].len); i++) {
            size_t size = part_chunk_size(both[k].len, i, md, md_count);
            uint8_t *message = malloc(size);
            struct bytes content;

            require(message != NULL);
            part_chunk_write(both[k], i, md, md_count, message, size);
            require(wire_unpack_chunk(bytes_of(message, size), &content, NULL) == ST_OK && content.len <= PART_CHUNK_BYTES);
            decoders_agree(bytes_of(message, size));
            while (content.len > 0) {
                require(part_reader_feed(&p, &content, both[k].len, &is_whole, &got, NULL) == ST_OK);
                if (is_whole)
                    require(found < 2 && bytes_equal(got, both[found++]));
            }
            free(message);
        }
    }
    require(found == 2 && part_reader_is_between(&p));
    arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct wire_chunk_metadata md[2];
    uint8_t *large;
    size_t times;

    if (len < 2)
        return 0;
    decoders_agree(bytes_of(data + 2, len - 2));
    /* Parts of every length around the cuts: the input again and again. */
    times = 1 + data[0] % 16 * (1 + (len < 4000 ? 16000 / len : 0));
    if ((large = malloc(times * len + 1)) == NULL)
        abort();
    for (size_t i = 0; i < times; i++)
        memcpy(large + i * len, data, len);
    md[0] = (struct wire_chunk_metadata){"committed-txid-bin", bytes_of(data, len < 8 ? len : 8)};
    md[1] = (struct wire_chunk_metadata){"may-commit-up-to-alh-bin", bytes_of(data, len)};
    written_reads_back(bytes_of(large, times * len - data[1] % len), bytes_of(data, data[1] % len), md, data[1] % 3);
    free(large);
    return 0;
}
