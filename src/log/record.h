/* Records inside a frame. Pure encoding and checking, no I/O.
 *
 * Every record starts at a multiple of 8 from the end of the frame header, the gap before the next one is zero:
 *     0   4  header CRC: bytes 4.. to the end of the head (below), seeded with CRC-32C(uuid)
 *     4   4  record length, without the gap
 *     8   1  type
 *
 * Type 1, TX. Head = fixed part and late part:
 *     9   1  tx header version, 0 or 1
 *    10   2  flags: bit 0 = Eh stored (exactly when the entry count is not 1), bit 1 = a value is removed
 *    12   4  entry count, from 0
 *    16   8  tx id
 *    24   8  ts, unix seconds
 *    32   8  blTxId
 *    40   4  meta CRC: entry table and key area, seeded with the body seed
 *    44   4  body seed: seeds the checksums of meta and entries
 *    48   4  length of the key area
 *    52   2  length of the tx metadata, 0..268
 *    54   2  zero
 *    56  32  prevAlh
 *    88  32  blRoot
 *   120      late part: Eh (32 bytes, if stored), tx metadata
 * then the entry table, 16 bytes per entry:
 *     0   4  end of this entry's key part, from the start of the key area
 *     4   4  end of this entry's value, from the start of the value area (removed: that of the one before)
 *     8   4  entry CRC, seeded with the body seed: u32 entry index, bytes 0..8 and 12..16 of this row, key part, value
 *    12   2  key length, 1..65535
 *    14   1  metadata length, 0..11
 *    15   1  flags: bit 0 = hval stored, bit 1 = value removed (hval is stored then)
 * then the key area: key || metadata || hval (if stored) of each entry; then the value area: the values one after another.
 *
 * hval is stored for values longer than 64 bytes and for removed ones; otherwise it is SHA-256(value).
 * The body (table, keys, values) and its checksums do not depend on the tx id, so that it is encoded before the tx is ordered. What binds a
 * body to its tx is the body seed in the head: the writer derives it from all keys and hvals, so that bodies with different contents have
 * different seeds and an entry read from a wrong place does not pass, unless it is the same entry.
 *
 * Type 2, COMMIT and type 3, DISCARD, 56 bytes: 9 7 zero, 16 8 tx id, 24 32 alh of that tx. */
#ifndef LOG_RECORD_H
#define LOG_RECORD_H

#include "log/log.h"

#define RECORD_ALIGN 8u
#define RECORD_HEAD_MIN 16u /* enough to know type and length */
enum record_type { RECORD_TX = 1, RECORD_COMMIT = 2, RECORD_DISCARD = 3 };

#define TX_FIXED_BYTES 120u
#define TX_HEAD_BYTES_MAX (TX_FIXED_BYTES + HASH_LEN + TX_METADATA_BYTES_MAX)
#define TX_ROW_BYTES 16u
#define TX_HVAL_INLINE_MAX 64u /* values up to this length are hashed again instead of storing hval */
#define MARK_RECORD_BYTES 56u

static inline uint64_t record_align(uint64_t len) { return (len + RECORD_ALIGN - 1) & ~(uint64_t)(RECORD_ALIGN - 1); }
/* Seed of record heads. */
uint32_t record_seed(const uint8_t uuid[16]);

/* --- TX --- */
struct body_piece {
    const uint8_t *data;
    size_t len;
    bool is_borrowed; /* the caller's, alive until the batch was written; others are copied into the batch */
};
struct tx_body {
    uint32_t entry_count;
    uint32_t seed, meta_crc;
    uint32_t key_bytes;   /* length of the key area */
    uint64_t value_bytes; /* length of the value area */
    bool values_removed;
    size_t meta_bytes;   /* entry table and key area */
    size_t memory_bytes; /* of this object */
    size_t piece_count;  /* the value area in order: inside this object or the caller's */
    struct body_piece *pieces;
    uint8_t *meta;
};

/* The head of a TX record, for h->entry_count == b->entry_count. Returns its length. ST_LIMIT when the record gets too long. */
MUST_USE enum status tx_record_head_encode(const struct tx_header *h, const struct tx_body *b, uint32_t seed, uint8_t out[TX_HEAD_BYTES_MAX],
                                           size_t *head_len, struct err *err);

/* Where the parts of a record are; offsets from its start. Made from a checked head. */
struct tx_layout {
    uint64_t tx_id;
    int64_t ts;
    uint32_t record_len;
    uint32_t entry_count;
    uint32_t meta_crc, body_seed;
    uint32_t rows_at, keys_at, values_at; /* values_at is the length of everything but the values */
    uint16_t flags;
    bool has_eh;
};
enum { TX_FLAG_EH = 1, TX_FLAG_VALUES_REMOVED = 2 };
enum { ROW_FLAG_HVAL = 1, ROW_FLAG_REMOVED = 2 };

/* Bytes of the head of the record that begins at p (at least TX_FIXED_BYTES readable), not yet checked: at most TX_HEAD_BYTES_MAX. */
size_t tx_head_len(const uint8_t *p);
/* Checks a head of which len bytes are at hand; everything in *out is consistent afterwards (rows and keys are not looked at). */
MUST_USE enum status tx_layout_decode(const uint8_t *head, size_t len, uint32_t seed, struct tx_layout *out, struct err *err);
/* The tx header from a checked head. eh is zero when it is not stored. ST_CORRUPT: metadata. */
MUST_USE enum status tx_head_to_header(const uint8_t *head, const struct tx_layout *x, struct tx_header *out, struct err *err);
/* Checks meta CRC and structure of table and key area; meta holds the record up to values_at. */
MUST_USE enum status tx_meta_check(const uint8_t *meta, const struct tx_layout *x, struct err *err);
/* Checks the CRC of every entry of a whole record whose meta was checked. */
MUST_USE enum status tx_values_check(const uint8_t *record, const struct tx_layout *x, struct err *err);

/* One row, decoded. */
struct tx_row {
    uint32_t key_at, value_at; /* from the start of the key and the value area */
    uint32_t value_len;
    uint32_t entry_crc;
    uint16_t key_len;
    uint8_t md_len;
    bool has_hval, is_removed;
    uint32_t key_part_len; /* key, metadata, hval */
};
/* row: 16 bytes; value_start: end of the value before (0 for the first entry). False when the row contradicts itself. */
bool tx_row_decode(const uint8_t *row, uint32_t value_start, struct tx_row *out);
/* Entry CRC over parts read from anywhere. */
uint32_t tx_entry_crc(uint32_t body_seed, uint32_t entry_index, const uint8_t *row, struct bytes key_part, struct bytes value);

/* --- marks --- */
struct mark_record {
    enum record_type type;
    uint64_t tx_id;
    hash_t alh;
};
void mark_record_encode(const struct mark_record *m, uint32_t seed, uint8_t out[MARK_RECORD_BYTES]);
MUST_USE enum status mark_record_decode(const uint8_t in[MARK_RECORD_BYTES], uint32_t seed, struct mark_record *out, struct err *err);

#endif
