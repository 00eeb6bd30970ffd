/* Shared by the files of this folder. */
#ifndef KV_KV_INTERNAL_H
#define KV_KV_INTERNAL_H

#include "kv/kv.h"
#include "store/kv_encoding.h"

enum status kv_not_found(struct err *err);
enum status kv_expired(struct err *err);
enum status kv_illegal_arguments(struct err *err);
uint64_t kv_current_tx(struct store *s);

/* The newest version of key in the snapshot, deleted or not. */
MUST_USE enum status kv_lookup(struct kv_reader *r, struct bytes key, struct index_version *version, uint64_t *revision, struct err *err);
MUST_USE enum status kv_entry_md(const struct tx_entry *e, struct kv_metadata *md, struct err *err);
/* ST_OK, or ST_NOT_FOUND with the text for deleted or expired. */
MUST_USE enum status kv_md_live(const struct kv_reader *r, const struct kv_metadata *md, struct err *err);
MUST_USE enum status kv_version_live(const struct kv_reader *r, const struct index_version *version, struct err *err);
/* store_entry_read() through one of the reader's pins; a removed value is ST_CORRUPT. far tells where the value was left, when it was. */
MUST_USE enum status kv_entry_read(struct kv_reader *r, unsigned pin, uint64_t tx_id, uint32_t entry_index, bool want_value, struct tx_entry *e,
                                   struct kv_far *far, struct err *err);
/* How long values must be from now on to be left where they are; SIZE_MAX: any may be read. */
size_t kv_far_from(const struct kv_reader *r);
/* Leaves the value of e where it is, verified: *far is set, e->value has a length alone. ST_AGAIN without waiting. */
MUST_USE enum status kv_leave(struct kv_reader *r, uint64_t tx_id, uint32_t entry_index, struct tx_entry *e, struct kv_far *far, struct err *err);
/* Fills key and value of out (whose tx_id, revision, md and far are those of e) from e, following a reference. */
MUST_USE enum status kv_resolve(struct kv_reader *r, struct bytes key, const struct tx_entry *e, struct kv_entry *out, struct err *err);
/* Fits the bounds of a scan to the index: seek outside the prefix, strings longer than any key. false: nothing can match. */
bool kv_scan_bounds(struct index_scan_options *o);

/* --- writing --- */
/* key must be live and plain, in at_tx or (0) now; now is watched until the commit. */
MUST_USE enum status kv_check_target(struct store_draft *d, struct arena *arena, struct kv_reader *r, struct bytes key, uint64_t at_tx,
                                     struct err *err);
/* key must not hold a plain value now. */
MUST_USE enum status kv_check_final_key(struct store_draft *d, struct arena *arena, struct kv_reader *r, struct bytes key, struct err *err);
/* Encode and add; bound with at_tx 0 becomes bound to the tx that is written. */
MUST_USE enum status kv_put_ref(struct store_draft *d, struct arena *arena, const struct kv_ref *ref, struct err *err);
MUST_USE enum status kv_put_zadd(struct store_draft *d, struct arena *arena, const struct kv_zadd *z, struct err *err);

#endif
