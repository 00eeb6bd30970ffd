/* log/MANIFEST: which segment generations make up the log, and the database's uuid.
 *
 *   0   8  magic "IMMUMANI"
 *   8   4  format version = 1
 *  12   4  incompat flags = 0
 *  16  16  database uuid
 *  32   8  number of this rewrite, from 1
 *  60   4  CRC of bytes 0..60
 *  64      records of 96 bytes:
 *            0  4  CRC of bytes 4..96, seeded with CRC(uuid || rewrite number u64 || record index u64)
 *            4  1  type: 1 = segment added, 2 = sealed, 3 = switched to another (sealed) generation
 *            5  3  zero
 *            8  8  segment number          16  4  generation         20  4  flags: bit 0 = values removed
 *           24  8  first tx id             32  8  last tx id         40  8  last batch number     (these and the next: zero in type 1)
 *           48  8  file length             56  4  chain end          60  4  zero
 *           64  8  salt of the segment     72  8  end tx id (segment.h)   80..96 zero
 *
 * Records are appended and synced; a record that does not check with nothing valid behind it is a torn append and ignored (what it said is
 * found again in the segments). Anything else wrong = damaged: rebuilt from the segment headers by the owner and replaced as a whole.
 * A segment is added only after its file and name are durable, and used only after its record is: so a file that is gone is noticed.
 *
 * Threads: one at a time (log.manifest lock). */
#ifndef LOG_MANIFEST_H
#define LOG_MANIFEST_H

#include "log/segment.h"
#include "vfs/vfs.h"

#define MANIFEST_HEADER_BYTES 64u
#define MANIFEST_RECORD_BYTES 96u
#define MANIFEST_BYTES_MAX ((size_t)256 << 20)

enum manifest_type { MANIFEST_ADDED = 1, MANIFEST_SEALED = 2, MANIFEST_SWITCHED = 3 };
struct manifest_entry {
    uint64_t segment_no;
    uint32_t generation;
    bool is_sealed, values_removed;
    uint64_t first_tx_id, last_tx_id, end_tx_id, last_batch, file_bytes; /* of sealed ones */
    uint32_t chain_end;
    uint8_t salt[LOG_SALT_LEN];
};

struct manifest {
    uint8_t uuid[LOG_UUID_LEN];
    uint64_t rewrite_no;
    uint64_t record_count; /* in the file */
    size_t count, capacity;
    struct manifest_entry *entries; /* entries[n - 1] is segment n */
};

void manifest_init(struct manifest *m);
void manifest_free(struct manifest *m);

enum manifest_state { MANIFEST_GOOD = 0, MANIFEST_MISSING, MANIFEST_DAMAGED };
/* Parses a whole file. ST_CORRUPT: damaged. ST_UNSUPPORTED: newer. m is empty after a failure. */
MUST_USE enum status manifest_parse(struct bytes file, struct manifest *m, struct err *err);
/* Reads log/MANIFEST; a missing or damaged one is told by *state, not by a failure. */
MUST_USE enum status manifest_load(struct vfs *v, const char *dir, struct manifest *m, enum manifest_state *state, struct err *err);
/* Replaces the file by one record (or two) per entry, atomically. */
MUST_USE enum status manifest_rewrite(struct manifest *m, struct vfs *v, const char *dir, struct err *err);
/* Appends what became of one segment, syncs, then takes it over. The file is rewritten instead when it holds many outdated records. */
MUST_USE enum status manifest_append(struct manifest *m, struct vfs *v, const char *dir, const struct manifest_entry *e, struct err *err);
/* Takes an entry over in memory only: segment_no at most count + 1. */
MUST_USE enum status manifest_put(struct manifest *m, const struct manifest_entry *e, struct err *err);

#endif
