/* Chunk: a piece of a stream of parts, with metadata in the first piece of an exported transaction. */
#include "wire/wire.h"

void wire_chunk_metadata_entry(struct pb *w, const struct wire_chunk_metadata *metadata)
{
    pb_bytes_item(w, 2, metadata->value);
    pb_bytes_item(w, 1, bytes_str(metadata->name));
}

/* Chunk: 1 content, 2 metadata, a map whose entries are {1 name, 2 value}. */
void wire_chunk(struct pb *w, struct bytes content, const struct wire_chunk_metadata *metadata, size_t metadata_count)
{
    for (size_t i = metadata_count; i-- > 0;) {
        size_t mark = pb_len(w);

        wire_chunk_metadata_entry(w, &metadata[i]);
        pb_message(w, 2, mark);
    }
    pb_bytes(w, 1, content);
}
