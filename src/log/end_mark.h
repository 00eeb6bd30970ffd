/* log/END: how far the log was known to be durable, told by a place that does not depend on the log's tail.
 *
 * Two slots of 128 bytes at offsets 0 and 4096, written in turn; the one that checks and names the larger batch counts.
 *     0   8  magic "IMMUENDM"
 *     8   4  format version = 1          12   4  incompat flags = 0        16  16  database uuid
 *    32   8  batch number: this batch and all before it were durable before the slot was written
 *    40   4  its header CRC              44   4  flags: bit 0 = written by a clean close
 *    48   8  last tx id up to that batch
 *    56   8  number of the segment in which that batch ended, or of the next one
 *    64   8  file offset behind it       72..124 zero
 *   124   4  CRC of bytes 0..124
 *
 * The mark is a lower bound that stays true for ever: a durable batch is never taken back (a DISCARD is a batch of its own, truncation keeps
 * batch numbers). So it needs no invalidation before the log is written again, a stale one only says less. After each sync it is written without
 * a sync of its own: a killed process leaves it, a power cut may take the newest ones. A clean close syncs it.
 * A missing or damaged one says nothing. */
#ifndef LOG_END_MARK_H
#define LOG_END_MARK_H

#include "log/segment.h"
#include "vfs/vfs.h"

#define END_MARK_BYTES 128u
#define END_MARK_SLOTS 2u
#define END_MARK_SLOT_STEP 4096u
#define END_MARK_FLAG_CLOSE 1u

struct end_mark {
    uint8_t uuid[LOG_UUID_LEN];
    uint64_t batch; /* 0: nothing is known */
    uint32_t chain;
    bool is_close;
    uint64_t tx_id;
    uint64_t segment_no, offset;
};
void end_mark_encode(const struct end_mark *m, uint8_t out[END_MARK_BYTES]);
/* ST_CORRUPT: no mark. ST_UNSUPPORTED: a newer version or unknown incompat flags. */
MUST_USE enum status end_mark_decode(const uint8_t in[END_MARK_BYTES], struct end_mark *out, struct err *err);

/* The mark in dir of the database uuid (NULL: of any one); out->batch 0 when there is none. *slot: where it stands. */
MUST_USE enum status end_mark_load(struct vfs *v, const char *dir, const uint8_t *uuid, struct end_mark *out, unsigned *slot, struct err *err);

/* Writes marks of one log. */
struct end_writer {
    struct vfs_file *file; /* opened with the first mark */
    unsigned slot;         /* where the newest stands */
    uint64_t batch;        /* it tells */
    bool is_durable;       /* that one is synced, its name too */
    bool is_failing;       /* the last attempt failed and was logged */
};
/* Unless a mark says as much already. With sync, durable on return; a mark that was written before becomes it too. */
MUST_USE enum status end_mark_write(struct end_writer *w, struct vfs *v, const char *dir, const struct end_mark *m, bool sync, struct err *err);
void end_writer_close(struct end_writer *w);

#endif
