/* Fuzz target: an export blob from outside. What is accepted must be written again as a blob that reads the same. */
#include <assert.h>
#include <stdlib.h>

#include "tx/tx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void written_reads_the_same(const struct tx_header *h, const struct tx_entry *entries, struct arena *arena)
{
    uint64_t size = 0;
    uint8_t *buf = NULL;
    struct tx_header again;
    struct tx_entry *list = NULL;
    struct writer w;

    assert(tx_export_size(h, entries, h->entry_count, &size, NULL) == ST_OK);
    buf = malloc(size);
    assert(buf != NULL);
    w = writer_of(buf, size);
    assert(tx_export(h, entries, h->entry_count, false, &w, NULL) == ST_OK && writer_len(&w) == size);
    assert(tx_import(bytes_of(buf, size), arena, 4096, 65535, UINT32_MAX, &again, &list, NULL) == ST_OK);
    assert(again.entry_count == h->entry_count);
    for (uint32_t i = 0; i < h->entry_count; i++) {
        hash_t a, b;

        assert(bytes_equal(entries[i].key, list[i].key) && bytes_equal(entries[i].md, list[i].md) && bytes_equal(entries[i].value, list[i].value));
        assert(hash_equal(&entries[i].hval, &list[i].hval) && entries[i].is_value_gone == list[i].is_value_gone);
        assert(entry_digest(1, entries[i].key, entries[i].md, &entries[i].hval, &a, NULL) == ST_OK);
        assert(entry_digest(1, list[i].key, list[i].md, &list[i].hval, &b, NULL) == ST_OK && hash_equal(&a, &b));
    }
    free(buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct tx_entry *entries = NULL;
    struct tx_header h;
    struct arena arena;

    arena_init(&arena, 4096, 0);
    if (tx_import(bytes_of(data, len), &arena, 4096, 65535, UINT32_MAX, &h, &entries, NULL) == ST_OK)
        written_reads_the_same(&h, entries, &arena);
    else
        assert(entries == NULL);
    arena_free(&arena);
    return 0;
}
