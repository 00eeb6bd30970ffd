/* The framing of streamed values: a call's chunk contents, laid end to end, are a sequence of parts, each its length (8 bytes,
 * big-endian) and its bytes. Where chunks begin and end means nothing when reading. When writing, a part begins a new chunk and
 * is cut after PART_CHUNK_BYTES. Format: docs/grpc.md "Streams". */
#ifndef WIRE_PART_H
#define WIRE_PART_H

#include "wire/wire.h"

#define PART_CHUNK_BYTES 65536u
#define PART_LENGTH_BYTES 8u

/* --- reading --- */
enum part_state { PART_LENGTH = 0, PART_BODY };
struct part_reader {
    struct arena *arena;
    enum part_state state;
    uint8_t length_bytes[PART_LENGTH_BYTES];
    size_t length_got;
    uint64_t len;  /* announced */
    uint8_t *data; /* grows as bytes arrive: an announcement alone costs nothing */
    size_t got, cap;
};
void part_reader_init(struct part_reader *p, struct arena *arena);
/* Takes bytes from *in until a part is whole: *is_whole says so, *part is it (in the arena, with a byte in front that is its taker's too) and the reader is ready
 * for the next.
 * ST_INVALID "illegal arguments"  a length of 2^63 or more
 * ST_LIMIT                        a length above len_max; the caller has the text
 * ST_NOMEM                        the arena is full, for now perhaps: what is left in *in may be fed again later */
MUST_USE enum status part_reader_feed(struct part_reader *p, struct bytes *in, uint64_t len_max, bool *is_whole, struct bytes *part, struct err *err);
/* Nothing of a further part was read. */
static inline bool part_reader_is_between(const struct part_reader *p) { return p->state == PART_LENGTH && p->length_got == 0; }

/* --- writing --- */
/* Number of chunks a part of len bytes takes, at least 1. */
size_t part_chunk_count(size_t len);
/* The message of chunk number index, Chunk{content, metadata}; metadata goes with the first one. Its exact size, and the message
 * itself written into that many bytes. */
size_t part_chunk_size(size_t part_len, size_t index, const struct wire_chunk_metadata *metadata, size_t metadata_count);
/* As part_chunk_write(), but for the bytes of the part: of *len bytes from *from on of it there is room where the result points to. */
uint8_t *part_chunk_begin(size_t part_len, size_t index, const struct wire_chunk_metadata *metadata, size_t metadata_count, uint8_t *to, size_t size,
                          size_t *from, size_t *len);
void part_chunk_write(struct bytes part, size_t index, const struct wire_chunk_metadata *metadata, size_t metadata_count, uint8_t *to, size_t size);

#endif
