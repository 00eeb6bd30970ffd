/* The users of a server: records cached from systemdb, their login state, and changes that take effect at once.
 *
 * A struct user stands for a name and lives until users_close(): it may be kept (sessions, tokens, memos do). Its epoch grows with every change
 * of the record and every loss of its token keys: who remembered something about the user compares epochs, one atomic load.
 *
 * Locks: users.change (one change of a record at a time, held across the commit in systemdb, workers only), then users.lock (short, leaf). */
#ifndef AUTH_USERS_H
#define AUTH_USERS_H

#include <openssl/evp.h>

#include "auth/user_record.h"
#include "store/store.h"

struct users;
struct user;

/* On a replica users_add_verifier() writes nothing: a transaction of its own would part it from its primary. Before any login. */
void users_set_replica(struct users *u, bool is_replica);
MUST_USE enum status users_open(struct store *systemdb, const struct env *env, struct users **out, struct err *err);
void users_close(struct users *u);

const char *user_name(const struct user *user);
static inline bool user_name_is_sysadmin(const char *name) { return strcmp(name, USER_SYSADMIN) == 0; }
/* acquire */
uint64_t user_epoch(const struct user *user);

/* By name, reading systemdb when it is not cached or may_block says so; *record (may be NULL) comes with a reference.
 * ST_NOT_FOUND "tbtree: key not found"; ST_AGAIN when it is not cached and may_block is false. */
MUST_USE enum status users_find(struct users *u, struct bytes name, bool may_block, struct user **out, struct user_record **record, struct err *err);
/* The current record of a user that was found before; NULL for the nameless one. With a reference. */
struct user_record *users_record(struct users *u, struct user *user);
/* Calls visit for every user in order of names; blocking. A record that cannot be read fails the whole. */
MUST_USE enum status users_each(struct users *u, enum status (*visit)(void *ctx, const struct user_record *r, struct err *err), void *ctx,
                                struct err *err);
/* True when somebody beside immudb exists; blocking. */
MUST_USE enum status users_any_other(struct users *u, bool *out, struct err *err);

/* One change at a time: read the record, copy, change, put. */
void users_change_begin(struct users *u);
void users_change_end(struct users *u);
/* Writes the record (takes the caller's reference, also on failure) and makes it the current one. extra: tx metadata. When it fails nothing
 * was written. */
MUST_USE enum status users_put(struct users *u, struct user_record *record, struct bytes extra, struct err *err);
/* The same for a caller who may give up before: then nothing is written. */
struct systemdb_caller; /* auth/systemdb.h */
MUST_USE enum status users_put_for(struct users *u, struct user_record *record, struct bytes extra, const struct systemdb_caller *caller,
                                   struct err *err);
/* ST_NO_SPACE or ST_NOMEM: users cannot be written now, as somebody found out just before. For those who have work to do first. */
MUST_USE enum status users_writable(struct users *u, struct err *err);
/* A password was right, and record (as it was then) has no verifier of it: makes and writes one, unless the password was changed meanwhile. Nobody
 * has to log in again. Tried once per user, silently: a replica, for instance, cannot write. Blocking, about 10 ms. */
void users_add_verifier(struct users *u, struct user *user, const struct user_record *record, struct bytes password);

/* --- tokens: logins are counted; the key pair lives from the first to the last --- */
/* The user without a name, for tokens in maintenance mode. */
struct user *users_nameless(struct users *u);
/* Counts a login; *key with a reference. */
MUST_USE enum status users_login(struct users *u, struct user *user, EVP_PKEY **key, struct err *err);
/* The key without counting a login; made when there is none. With a reference; NULL when OpenSSL fails. */
EVP_PKEY *users_token_key(struct users *u, struct user *user);
/* The key of a logged-in user with a reference, or NULL. *epoch is the one this key belongs to. */
EVP_PKEY *users_key(struct users *u, struct user *user, uint64_t *epoch);
/* A known (cached) user of that name, or NULL: does not read systemdb. */
struct user *users_known(struct users *u, const char *name);
/* One login less; the last drops the key. false when there was none. */
bool users_logout(struct users *u, struct user *user);
/* Drops key and count. */
void users_forget_logins(struct users *u, struct user *user);

#endif
