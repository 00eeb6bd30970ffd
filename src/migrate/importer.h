/* Feeds exported transactions to a store, many under way at a time; the store checks each of them against its predecessor.
 *
 * One thread feeds; completions come on the store's threads. After the first failure everything later is refused with it. */
#ifndef MIGRATE_IMPORTER_H
#define MIGRATE_IMPORTER_H

#include "store/store.h"

struct importer;

MUST_USE enum status importer_create(struct store *store, const struct env *env, struct importer **out, struct err *err);
/* Waits for what is under way. NULL is allowed. */
void importer_free(struct importer *im);
/* Takes the next transaction (borrowed for the call). Waits while too much is under way. Returns the failure of this one or of an earlier one. */
MUST_USE enum status importer_feed(struct importer *im, uint64_t tx_id, struct bytes blob, struct err *err);
/* Waits until everything is committed and durable; the first failure, with the number of its transaction in *tx_id (untouched otherwise). */
MUST_USE enum status importer_wait(struct importer *im, uint64_t *tx_id, struct err *err);

#endif
