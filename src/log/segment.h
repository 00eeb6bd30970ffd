/* A segment file: its header, and the footer that it gets when it seals. Pure encoding and checking, no I/O.
 *
 *   0            segment header, 512 bytes
 *   512          frames, each at a multiple of 64 (frame.h)
 *   body end     (first multiple of 64 after the last frame; only when sealed)
 *                offset pages, 4,096 bytes each
 *                frontier block, 2,064 bytes, when a frontier is known
 *                trailer, 256 bytes, the last of the file
 *
 * Every checksum except the header's own is seeded with the segment seed = CRC-32C(uuid || salt || segment number u64), so that
 * nothing of another database, segment or generation is ever taken for a part of this one. All integers little-endian.
 *
 * Segment header
 *     0   8  magic "IMMULOG1"            12  4  incompat flags = 0       24 16  database uuid
 *     8   4  format version = 1          16  4  compat flags = 0         40  8  segment number, from 1
 *                                        20  4  header length = 512
 *    48   4  generation, from 0          52  4  flags: bit 0 = values removed
 *    56   8  first tx id; 0 in generation 0, whose header is written before that is known
 *    64   8  epoch of the writer, 0      72  8  salt, random            80  8  creation time, unix ns
 *   508   4  CRC of bytes 0..508
 *
 * Offset page: the places of up to 1,020 consecutive txs
 *     0   8  largest ts of any tx of this segment up to the end of this page (i64; 0 when none has a ts)
 *     8 4080 record offsets in the file divided by 8, one u32 each; behind the last tx all equal the end (next field)
 *  4088   4  end: offset of what follows the page's last record, divided by 8 (an upper bound of that record's end)
 *  4092   4  CRC of bytes 0..4092, seeded with CRC(segment seed, page's file offset u64)
 *
 * Frontier block
 *     0   8  size of the tree            8 2048  64 nodes (merkle.h)     2056  4  CRC of 0..2056, seeded as a page     2060 4 zero
 *
 * Trailer
 *     0   8  magic "IMMUSEAL"             8  4  CRC of bytes 12..256, seeded as a page
 *    12   4  flags: bit 0 = has frontier, bit 1 = values removed
 *    16   8  segment number              24  4  generation              28  4  offset page count
 *    32   8  first tx id                 40  8  last tx id; first - 1 when the segment holds none
 *    48   8  first batch number          56  8  last batch number; first - 1 when none
 *    64   4  header CRC of the batch before the first one (chain begin)
 *    68   4  header CRC that the next segment's first frame refers to (chain end)
 *    72   8  body end                    80  8  file offset of the pages 88  8  file offset of the frontier block
 *    96   8  smallest ts (0: none)      104  8  largest ts
 *   112  32  SHA-256 of bytes 512..body end
 *   144   8  sealed at, unix ns         152  8  file length
 *   160   8  end tx id: the frame behind this segment begins with the next one. Above the last tx id when txs at the end were discarded by
 *            a DISCARD in a later segment
 *   168..256 zero
 */
#ifndef LOG_SEGMENT_H
#define LOG_SEGMENT_H

#include "base/err.h"
#include "base/hash.h"
#include "merkle/merkle.h"

#define LOG_FORMAT_VERSION 1u
#define LOG_UUID_LEN 16u
#define LOG_SALT_LEN 8u

#define SEGMENT_HEADER_BYTES 512u
#define SEGMENT_NO_MAX 99999999u /* eight digits */
struct segment_header {
    uint8_t uuid[LOG_UUID_LEN];
    uint8_t salt[LOG_SALT_LEN];
    uint64_t segment_no;
    uint32_t generation;
    bool values_removed;
    uint64_t first_tx_id;
    uint64_t epoch;
    int64_t created_ns;
};
void segment_header_encode(const struct segment_header *h, uint8_t out[SEGMENT_HEADER_BYTES]);
/* ST_CORRUPT: magic, checksum or a field out of range. ST_UNSUPPORTED: a newer version or unknown incompat flags; the text names the version
 * found and the newest one known. */
MUST_USE enum status segment_header_decode(const uint8_t in[SEGMENT_HEADER_BYTES], struct segment_header *out, struct err *err);

uint32_t segment_seed(const uint8_t uuid[LOG_UUID_LEN], const uint8_t salt[LOG_SALT_LEN], uint64_t segment_no);
/* Seed of whatever stands at a file offset of that segment. */
uint32_t segment_place_seed(uint32_t seed, uint64_t offset);

#define OFFSET_PAGE_BYTES 4096u
#define OFFSET_PAGE_TXS 1020u
#define OFFSET_UNIT 8u                                          /* offsets are stored divided by it */
#define SEGMENT_OFFSET_MAX ((uint64_t)UINT32_MAX * OFFSET_UNIT) /* largest offset of a record */
/* units: count offsets (1..OFFSET_PAGE_TXS), already divided. */
void offset_page_encode(uint8_t out[OFFSET_PAGE_BYTES], int64_t ts_max, const uint32_t *units, size_t count, uint32_t end_unit, uint32_t place_seed);
bool offset_page_is_valid(const uint8_t in[OFFSET_PAGE_BYTES], uint32_t place_seed);
static inline int64_t offset_page_ts_max(const uint8_t *page) { return (int64_t)load_u64le(page); }
/* slot 0..OFFSET_PAGE_TXS: the last one is the end. */
static inline uint64_t offset_page_at(const uint8_t *page, size_t slot) { return (uint64_t)load_u32le(page + 8 + 4 * slot) * OFFSET_UNIT; }

#define FRONTIER_BLOCK_BYTES 2064u
void frontier_block_encode(uint8_t out[FRONTIER_BLOCK_BYTES], const struct frontier *f, uint32_t place_seed);
bool frontier_block_decode(const uint8_t in[FRONTIER_BLOCK_BYTES], uint32_t place_seed, struct frontier *out);

#define SEGMENT_TRAILER_BYTES 256u
struct segment_trailer {
    bool has_frontier, values_removed;
    uint64_t segment_no;
    uint32_t generation;
    uint32_t page_count;
    uint64_t first_tx_id, last_tx_id;
    uint64_t first_batch, last_batch;
    uint32_t chain_begin, chain_end;
    uint64_t body_end, pages_offset, frontier_offset;
    int64_t ts_min, ts_max;
    hash_t body_sha256;
    int64_t sealed_ns;
    uint64_t file_bytes;
    uint64_t end_tx_id;
};
/* Fills in page_count, all offsets and file_bytes from first_tx_id, last_tx_id, body_end and has_frontier. */
void segment_trailer_layout(struct segment_trailer *t);
void segment_trailer_encode(const struct segment_trailer *t, uint8_t out[SEGMENT_TRAILER_BYTES], uint32_t place_seed);
/* False: damaged, or the fields contradict each other. offset: where the trailer stands; file length = offset + 256. */
bool segment_trailer_decode(const uint8_t in[SEGMENT_TRAILER_BYTES], uint32_t place_seed, uint64_t offset, struct segment_trailer *out);

#endif
