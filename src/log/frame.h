/* A frame: one batch, one write, one sync. Pure encoding and checking of its header.
 *
 * Frame header, 80 bytes, at a multiple of 64 in the segment; records follow, each at a multiple of 8 from the end of the header.
 *     0   4  magic 0x4d415246 ("FRAM")
 *     4   4  header CRC: bytes 8..80, seeded with CRC(segment seed, frame's file offset u64)
 *     8   4  body CRC: everything behind the header up to the frame's end, seed 0
 *    12   4  header CRC of the batch before this one (0 for batch 1)
 *    16   8  length of the frame: header and records, without the zeros up to the next multiple of 64
 *    24   8  batch number: 1, 2, 3, ... through the life of the log, across segments
 *    32   8  first tx id in the frame; 0 when it holds none
 *    40   8  last tx id in the frame; 0 when it holds none
 *    48   8  committed_upto: largest tx id known committed when this frame was written
 *    56   8  synced_batch: largest batch number known durable when this frame was written
 *    64   8  epoch of the writer, 0
 *    72   4  record count
 *    76   4  flags: bit 0 = empty frame (vouches for those before), bit 1 = close mark
 *
 * The header has a checksum of its own so that a frame whose body is torn or damaged still tells its batch, its tx ids, and what it knew to
 * be durable; and so that a search through unknown bytes never has to read a body. The salt inside the seed is shown to nobody: bytes stored
 * by a client cannot imitate a header. */
#ifndef LOG_FRAME_H
#define LOG_FRAME_H

#include "base/bytes.h"

#define FRAME_MAGIC 0x4d415246u
#define FRAME_HEADER_BYTES 80u
#define FRAME_ALIGN 64u
#define FRAME_FLAG_EMPTY 1u
#define FRAME_FLAG_CLOSE 2u
#define FRAME_BYTES_MAX ((uint64_t)1 << 35) /* no frame is ever longer: bound for lengths read from disk */

struct frame_header {
    uint32_t header_crc; /* filled in by encode and decode */
    uint32_t body_crc;
    uint32_t prev_crc;
    uint64_t len;
    uint64_t batch;
    uint64_t first_tx_id, last_tx_id;
    uint64_t committed_upto;
    uint64_t synced_batch;
    uint64_t epoch;
    uint32_t record_count;
    uint32_t flags;
};

static inline uint64_t frame_align(uint64_t offset) { return (offset + FRAME_ALIGN - 1) & ~(uint64_t)(FRAME_ALIGN - 1); }
/* place_seed: segment_place_seed(segment seed, file offset of the frame). Sets h->header_crc. */
void frame_header_encode(struct frame_header *h, uint32_t place_seed, uint8_t out[FRAME_HEADER_BYTES]);
/* False when this is no frame header of that place, or its fields contradict each other. */
bool frame_header_decode(const uint8_t in[FRAME_HEADER_BYTES], uint32_t place_seed, struct frame_header *out);

#endif
