/* The data folder that data goes to: opened as the server opens it, without its edges.
 *
 * While it is open the folder is locked: no server can be started on it, and none may be running. One thread at a time. */
#ifndef MIGRATE_TARGET_H
#define MIGRATE_TARGET_H

#include "base/env.h"
#include "store/store.h"

struct target;
struct database;

/* Makes the folder when missing. ST_BUSY: a server runs on it. ST_UNSUPPORTED: the original's files lie there. */
MUST_USE enum status target_open(const char *dir, const struct env *env, struct target **out, struct err *err);
void target_close(struct target *t); /* everything durable, lock released; NULL is allowed */
/* Its store, pinned; made when missing with the settings that systemdb holds for it: so systemdb goes first. */
MUST_USE enum status target_pin(struct target *t, const char *name, struct database **out, struct store **store, struct err *err);
void target_unpin(struct database *db);

#endif
