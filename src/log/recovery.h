/* Shared by recovery_files.c (which files make up the log), recovery.c (what is in them, where it ends) and recovery_salvage.c (what can still be read
 * of a damaged log). */
#ifndef LOG_RECOVERY_H
#define LOG_RECOVERY_H

#include "log/log_internal.h"
#include "log/scan.h"

struct recovery {
    struct log *l;
    const struct log_options *o;
    struct log_report *report;
    struct window w;
    enum manifest_state manifest_state;
    struct end_mark end; /* batch 0: nothing known */
    struct file_list {
        struct file_name {
            uint64_t no;
            uint32_t generation;
        } * items;
        size_t count, capacity;
        bool is_out_of_memory;
    } files;

    /* what the next frame must be */
    uint64_t next_batch, next_tx;
    uint32_t chain;
    /* facts from the frames so far */
    uint64_t committed;
    uint64_t proven;       /* largest synced_batch */
    uint64_t data_batch;   /* last batch with records */
    uint64_t last_vouched; /* synced_batch of the last frame */
    bool last_is_close;
    bool tail_has_footer;
    struct segment *tail; /* last one with frames, or sealed */
    struct segment *at;   /* being scanned */
    uint64_t known_tx;    /* of a damaged log: largest tx id that any good frame header speaks of */
    bool was_rewritten;   /* frames that nobody vouched for were made durable */
    const char *nonsense; /* a record whose checksum holds contradicts the rest */
};

/* Notes damage: the log will be opened read-only. Only the first few texts fit. */
void recovery_damage(struct recovery *r, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Reads directory and manifest, makes the segment objects and the table. ST_NOT_FOUND: there is no log (and none is to be made). */
MUST_USE enum status recovery_files(struct recovery *r, struct err *err);
/* Unlinks files that are no part of the log; writes the manifest again when it was rebuilt. */
MUST_USE enum status recovery_tidy(struct recovery *r, struct err *err);

/* Adds the tx whose record stands at offset to the segment. */
MUST_USE enum status recovery_add_tx(struct segment *s, const struct tx_layout *x, uint64_t offset, struct err *err);
/* Takes what is still readable from offset `from` of s on, txs up to limit; r->next_* move behind it. */
MUST_USE enum status salvage_rest(struct recovery *r, struct segment *s, uint64_t from, uint64_t limit, struct err *err);
/* A sealed segment without a usable footer: finds its txs (the manifest says which) by reading it. */
MUST_USE enum status salvage_sealed(struct recovery *r, struct segment *s, const struct manifest_entry *e, struct err *err);

#endif
