/* The seam between the public structs and ours: sizes that differ between releases, statuses, bytes and hashes.
 *
 * Used by both libraries; knows base, merkle, tx and proof alone. */
#ifndef API_API_STRUCT_H
#define API_API_STRUCT_H

#include <assert.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/hash.h"
#include "immudb_verify.h"
#include "proof/proof.h"

struct immudb_buffer {
    struct arena arena;
};

/* --- sized structs --- */
/* Copies a struct of the caller's release into one of ours: what it lacks is zero; what we do not know must be zero (ST_UNSUPPORTED). NULL gives all zeros
 * when is_optional. name is for the error text. */
MUST_USE enum status sized_in(void *ours, size_t ours_size, const void *theirs, bool is_optional, const char *name, struct err *err);
/* Before the work: may it be written later? Empties it. */
MUST_USE enum status sized_out_begin(void *theirs, bool is_optional, const char *name, struct err *err);
/* Writes as much as the caller has room for; NULL is allowed. ours->size becomes the caller's. */
void sized_out(void *theirs, void *ours, size_t ours_size);

/* --- errors --- */
immudb_status status_out(enum status st);
/* What a callback of the caller answered. */
enum status status_in(immudb_status status);
/* The end of every public function: fills *out (may be NULL) from err, returns the public status. */
immudb_status api_result(enum status st, const struct err *err, immudb_error *out);
void api_error_fill(enum status st, const struct err *err, immudb_error *out);
MUST_USE enum status api_null(struct err *err, const char *what);

/* --- bytes --- */
static_assert(sizeof(immudb_hash) == sizeof(hash_t) && _Alignof(immudb_hash) == _Alignof(hash_t), "hashes are handed over as they are");
static inline struct bytes bytes_in(immudb_bytes b) { return bytes_of(b.data, b.data == NULL ? 0 : b.len); }
static inline immudb_bytes bytes_out(struct bytes b) { return immudb_bytes_of(b.data, b.len); }
static inline const hash_t *hash_in(const immudb_hash *h) { return (const hash_t *)h; }
static inline immudb_hash hash_out(const hash_t *h)
{
    immudb_hash out;

    memcpy(out.bytes, h->b, sizeof out.bytes);
    return out;
}
static inline struct hash_list list_in(immudb_hashes l) { return (struct hash_list){l.items == NULL ? 0 : l.count, (const hash_t *)l.items}; }
static inline immudb_hashes list_out(struct hash_list l) { return (immudb_hashes){l.count, (const immudb_hash *)l.items}; }
static_assert(sizeof(immudb_hashes) == sizeof(struct hash_list) && offsetof(immudb_hashes, items) == offsetof(struct hash_list, items),
              "arrays of lists are handed over as they are");
/* Bytes with a length but no address are refused. */
MUST_USE enum status bytes_check(immudb_bytes b, const char *what, struct err *err);

/* --- headers and proofs --- */
MUST_USE enum status header_in(const immudb_header *from, struct tx_header *to, struct err *err);
void header_out(const struct tx_header *from, immudb_header *to); /* to->size is set to ours */
/* The public form in the arena, headers included; lists of terms are borrowed. */
MUST_USE enum status dual_out(const struct dual_proof *from, struct arena *arena, immudb_dual_proof *to, struct err *err);
MUST_USE enum status header_copy(const struct tx_header *from, struct arena *arena, const immudb_header **to, struct err *err);
/* Borrows all lists. */
MUST_USE enum status dual_in(const immudb_dual_proof *from, struct dual_proof *to, struct err *err);
MUST_USE enum status advance_in(const immudb_linear_advance_proof *from, struct linear_advance_proof *to, struct err *err);

#endif
