/* Long answers: bytes of which some lie in memory and some where large values were left, read from the first to the last.
 *
 * An answer that holds large values is never in memory as a whole: it is sent in blocks, each filled from the log when the client has taken the one before the last. */
#ifndef HANDLERS_ROPE_H
#define HANDLERS_ROPE_H

#include "store/store.h"
#include "wire/wire.h"

struct request;

struct rope_reader {
    struct store *store;
    const struct rope *rope;
    size_t at; /* of rope->bytes */
    size_t cut_index;
    struct log_value value; /* of the cut that is being read */
};
void rope_reader_init(struct rope_reader *r, struct store *s, const struct rope *rope);
/* The next len bytes, which are there. Waits for the disk. The checksum of a value is verified before its last bytes are given out. */
MUST_USE enum status rope_read(struct rope_reader *r, uint8_t *to, size_t len, struct err *err);
void rope_reader_close(struct rope_reader *r);

/* What a stream may have queued: less when memory is short, so that many slow readers stay cheap. */
size_t rope_stream_bytes(const struct request *rq);
#define ROPE_STREAM_LOW_BYTES ((size_t)64 << 10)
/* Sends chunk number index of the part that r reads, of len bytes, from a buffer of its own; chunks of a part are sent in order. *queued tells how much waits to be
 * taken. */
MUST_USE enum status rope_send_chunk(struct request *rq, struct rope_reader *r, size_t index, const struct wire_chunk_metadata *metadata,
                                     size_t metadata_count, size_t *queued, struct err *err);

/* Answers with a message, which lives in the request's arena as far as it is in memory. On a worker unless it is there as a whole. */
void rope_reply(struct request *rq, const struct rope *message);

#endif
