/* One user as stored in systemdb under 0x01 || name: a JSON record shared with the published server (docs/systemdb.md).
 *
 * A record is immutable once built; it is one malloc'ed object behind a reference count. Any thread. */
#ifndef AUTH_USER_RECORD_H
#define AUTH_USER_RECORD_H

#include "auth/json_text.h"
#include "auth/password.h"
#include "auth/scram.h"
#include "base/arena.h"

#define USER_NAME_LEN_MAX 63
#define USER_SYSADMIN "immudb"
#define USER_GRANTS_MAX 100000 /* permissions or privileges in one record */

enum permission { PERMISSION_NONE = 0, PERMISSION_READ = 1, PERMISSION_READ_WRITE = 2, PERMISSION_ADMIN = 254, PERMISSION_SYSADMIN = 255 };

enum sql_privilege { SQL_SELECT = 0, SQL_CREATE, SQL_INSERT, SQL_UPDATE, SQL_DELETE, SQL_DROP, SQL_ALTER, SQL_PRIVILEGES };
const char *sql_privilege_name(enum sql_privilege p);

struct user_permission {
    uint32_t permission;
    const char *database;
};
struct user_privilege {
    const char *privilege; /* as stored: an unknown one is kept */
    const char *database;
};

struct user_record {
    _Atomic unsigned references;
    const char *name;
    char hash[PASSWORD_HASH_LEN + 1]; /* "" when the record holds none: no password matches */
    struct user_permission *permissions;
    size_t permission_count;
    struct user_privilege *privileges; /* as stored; has_privileges false: see user_record_privileges_now() */
    size_t privilege_count;
    bool has_privileges, is_active;
    const char *created_by;
    struct record_time created_at;
    struct scram_verifier scram;            /* of the password that hash is of; not part of the shared record */
    bool has_scram, scram_is_new;           /* scram_is_new: to be written with the record */
    bool permissions_null, privileges_null; /* written back as null */
    struct arena arena;                     /* of everything above */
};

/* An empty record (inactive, never). NULL when out of memory. One reference, the caller's. */
struct user_record *user_record_create(struct bytes name);
struct user_record *user_record_ref(struct user_record *r);
void user_record_unref(struct user_record *r); /* NULL is allowed */
/* A copy to be changed before it is published. */
struct user_record *user_record_copy(const struct user_record *r);

/* Bytes of the record as stored. */
MUST_USE enum status user_record_encode(const struct user_record *r, struct json_text *out, struct err *err);
/* Tolerant: missing fields are empty, names match without case, unknown ones are ignored. ST_INVALID for no JSON or a wrong type. */
MUST_USE enum status user_record_decode(struct bytes name, struct bytes json, struct user_record **out, struct err *err);

/* What is kept under SYSTEMDB_VERIFIER_PREFIX || name: {"username":N,"scram":TEXT,"of":D}, D = base64 of the first 16 bytes of SHA-256(hash), which
 * ties the verifier to one password. */
MUST_USE enum status user_verifier_encode(const struct user_record *r, struct json_text *out, struct err *err);
/* Sets has_scram when json is the verifier of r's password; anything else is as good as none. ST_NOMEM is the only failure. */
MUST_USE enum status user_verifier_decode(struct bytes json, struct user_record *r, struct err *err);

/* --- changes, on a record nobody else holds; false when out of memory --- */
/* Hash and verifier of a password; errors as password_hash(). */
MUST_USE enum status user_record_set_password(struct user_record *r, const struct env *env, struct bytes password, unsigned cost, struct err *err);
/* The verifier alone, for the password that the record has already. */
MUST_USE enum status user_record_add_verifier(struct user_record *r, const struct env *env, struct bytes password, struct err *err);
/* The password of from, made with user_record_set_password(). */
void user_record_take_password(struct user_record *to, const struct user_record *from);
bool user_record_set_creator(struct user_record *r, struct bytes who, int64_t now_ns);
bool user_record_grant(struct user_record *r, struct bytes database, uint32_t permission); /* removes the old one, appends */
void user_record_revoke(struct user_record *r, struct bytes database);
bool user_record_default_privileges(struct user_record *r, struct bytes database, uint32_t permission); /* replaces all */
/* Old records say nothing about privileges: writes down the ones in force. */
bool user_record_settle_privileges(struct user_record *r);
bool user_record_grant_privilege(struct user_record *r, struct bytes database, const char *privilege);
void user_record_revoke_privilege(struct user_record *r, struct bytes database, const char *privilege);

/* --- questions --- */
bool user_is_sysadmin(const struct user_record *r);
/* Permission on a database: 255 for the sysadmin, PERMISSION_NONE without one. */
uint32_t user_permission_on(const struct user_record *r, struct bytes database);
/* Admin of any database, or sysadmin. */
bool user_is_admin_anywhere(const struct user_record *r);
/* 1, 2 or 254 (or sysadmin): may select the database. */
bool user_may_use(const struct user_record *r, struct bytes database);
/* Privileges in force: the stored ones, and for old records the defaults of each permission added. Calls visit for each. */
void user_privileges_each(const struct user_record *r, void (*visit)(void *ctx, const char *privilege, const char *database), void *ctx);
bool user_name_is_valid(struct bytes name); /* 1..63 of [A-Za-z0-9_] */

#endif
