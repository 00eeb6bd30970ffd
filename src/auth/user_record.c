/* Building, changing, reading and writing one user record; see user_record.h. */
#include "auth/user_record.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "auth/base64.h"
#include "base/hash.h"

enum { RECORD_ARENA_CHUNK = 1024, RECORD_ARENA_MAX = 64 << 20, HASH_TEXT_MAX = 80 };

static const char *const PRIVILEGE_NAMES[SQL_PRIVILEGES] = {"SELECT", "CREATE", "INSERT", "UPDATE", "DELETE", "DROP", "ALTER"};

const char *sql_privilege_name(enum sql_privilege p) { return PRIVILEGE_NAMES[p]; }

static bool str_is(const char *s, struct bytes b) { return strlen(s) == b.len && (b.len == 0 || memcmp(s, b.data, b.len) == 0); }

struct user_record *user_record_create(struct bytes name)
{
    struct user_record *r = calloc(1, sizeof *r);

    if (r == NULL)
        return NULL;
    arena_init(&r->arena, RECORD_ARENA_CHUNK, RECORD_ARENA_MAX);
    atomic_init(&r->references, 1);
    r->created_by = "";
    r->created_at = record_time_never();
    if ((r->name = arena_str(&r->arena, name)) == NULL) {
        user_record_unref(r);
        return NULL;
    }
    return r;
}

struct user_record *user_record_ref(struct user_record *r)
{
    atomic_fetch_add_explicit(&r->references, 1, memory_order_relaxed);
    return r;
}

void user_record_unref(struct user_record *r)
{
    if (r == NULL || atomic_fetch_sub_explicit(&r->references, 1, memory_order_acq_rel) != 1)
        return;
    arena_free(&r->arena);
    free(r);
}

/* Room for one more element. Arrays have room for the next power of two above the largest count they ever had, so removals need no care. */
static void *grown(struct arena *a, void *items, size_t count, size_t size)
{
    size_t room;
    void *bigger;

    if (count > 0 && (count & (count - 1)) != 0)
        return items; /* room is the next power of two */
    room = count == 0 ? 1 : count * 2;
    if (count >= USER_GRANTS_MAX || (bigger = arena_array(a, room, size)) == NULL)
        return NULL;
    if (count > 0)
        memcpy(bigger, items, count * size);
    return bigger;
}

static bool permission_append(struct user_record *r, struct bytes database, uint32_t permission)
{
    struct user_permission *items = grown(&r->arena, r->permissions, r->permission_count, sizeof *items);
    const char *name = arena_str(&r->arena, database);

    if (items == NULL || name == NULL)
        return false;
    r->permissions = items;
    items[r->permission_count++] = (struct user_permission){permission, name};
    r->permissions_null = false;
    return true;
}

static bool privilege_append(struct user_record *r, struct bytes database, struct bytes privilege)
{
    struct user_privilege *items = grown(&r->arena, r->privileges, r->privilege_count, sizeof *items);
    const char *name = arena_str(&r->arena, database), *what = arena_str(&r->arena, privilege);

    if (items == NULL || name == NULL || what == NULL)
        return false;
    r->privileges = items;
    items[r->privilege_count++] = (struct user_privilege){what, name};
    r->privileges_null = false;
    return true;
}

struct user_record *user_record_copy(const struct user_record *r)
{
    struct user_record *c = user_record_create(bytes_str(r->name));
    size_t i;

    if (c == NULL)
        return NULL;
    memcpy(c->hash, r->hash, sizeof c->hash);
    c->scram = r->scram;
    c->has_scram = r->has_scram;
    c->has_privileges = r->has_privileges;
    c->is_active = r->is_active;
    c->created_at = r->created_at;
    c->permissions_null = r->permissions_null;
    c->privileges_null = r->privileges_null;
    if ((c->created_by = arena_str(&c->arena, bytes_str(r->created_by))) == NULL)
        goto failed;
    for (i = 0; i < r->permission_count; i++)
        if (!permission_append(c, bytes_str(r->permissions[i].database), r->permissions[i].permission))
            goto failed;
    for (i = 0; i < r->privilege_count; i++)
        if (!privilege_append(c, bytes_str(r->privileges[i].database), bytes_str(r->privileges[i].privilege)))
            goto failed;
    return c;
failed:
    user_record_unref(c);
    return NULL;
}

/* --- writing --- */

static void grants_encode(const struct user_record *r, struct json_text *out)
{
    size_t i;

    json_put_name(out, "permissions");
    if (r->permissions_null && r->permission_count == 0) {
        json_put_null(out);
    } else {
        json_put_open(out, '[');
        for (i = 0; i < r->permission_count; i++) {
            json_put_open(out, '{');
            json_put_name(out, "permission");
            json_put_int(out, r->permissions[i].permission);
            json_put_name(out, "database");
            json_put_str(out, bytes_str(r->permissions[i].database));
            json_put_close(out, '}');
        }
        json_put_close(out, ']');
    }
    json_put_name(out, "sqlPrivileges");
    if (r->privileges_null && r->privilege_count == 0) {
        json_put_null(out);
    } else {
        json_put_open(out, '[');
        for (i = 0; i < r->privilege_count; i++) {
            json_put_open(out, '{');
            json_put_name(out, "privilege");
            json_put_str(out, bytes_str(r->privileges[i].privilege));
            json_put_name(out, "database");
            json_put_str(out, bytes_str(r->privileges[i].database));
            json_put_close(out, '}');
        }
        json_put_close(out, ']');
    }
}

enum status user_record_encode(const struct user_record *r, struct json_text *out, struct err *err)
{
    char hash[HASH_TEXT_MAX + 4];
    size_t hash_len = base64_encode(BASE64_STD, bytes_str(r->hash), hash);

    json_put_open(out, '{');
    json_put_name(out, "username");
    json_put_str(out, bytes_str(r->name));
    json_put_name(out, "hashedpassword");
    json_put_str(out, bytes_of(hash, hash_len));
    grants_encode(r, out);
    json_put_name(out, "hasPrivileges");
    json_put_bool(out, r->has_privileges);
    json_put_name(out, "active");
    json_put_bool(out, r->is_active);
    json_put_name(out, "createdBy");
    json_put_str(out, bytes_str(r->created_by));
    json_put_name(out, "createdat");
    json_put_time(out, &r->created_at);
    json_put_close(out, '}');
    return out->failed ? err_set(err, ST_NOMEM, 0, "writing the record of user %s: out of memory", r->name) : ST_OK;
}

/* --- reading --- */

static enum status wrong_type(struct err *err, const char *field)
{
    return err_set(err, ST_INVALID, 0, "user record: field %s has the wrong type", field);
}

/* Text of a member; empty when absent. */
static enum status text_of(const json_t *object, const char *field, struct bytes *out, struct err *err)
{
    const json_t *v = json_member(object, field);

    *out = bytes_of("", 0);
    if (v == NULL)
        return ST_OK;
    if (!json_is_string(v))
        return wrong_type(err, field);
    *out = bytes_of(json_string_value(v), json_string_length(v));
    return ST_OK;
}

static enum status flag_of(const json_t *object, const char *field, bool *out, struct err *err)
{
    const json_t *v = json_member(object, field);

    *out = false;
    if (v == NULL)
        return ST_OK;
    if (!json_is_boolean(v))
        return wrong_type(err, field);
    *out = json_is_true(v);
    return ST_OK;
}

/* permissions or sqlPrivileges; is_null tells a missing or null list from an empty one. */
static enum status list_of(const json_t *object, const char *field, const json_t **out, bool *is_null, struct err *err)
{
    *out = json_member(object, field);
    *is_null = *out == NULL;
    if (*out != NULL && (!json_is_array(*out) || json_array_size(*out) > USER_GRANTS_MAX))
        return wrong_type(err, field);
    return ST_OK;
}

static enum status grants_decode(const json_t *object, struct user_record *r, struct err *err)
{
    const json_t *list, *item, *code;
    struct bytes database, privilege;
    enum status st;
    size_t i;

    if ((st = list_of(object, "permissions", &list, &r->permissions_null, err)) != ST_OK)
        return st;
    for (i = 0; list != NULL && i < json_array_size(list); i++) {
        item = json_array_get(list, i);
        if (!json_is_object(item))
            return wrong_type(err, "permissions");
        code = json_member(item, "permission");
        if (code != NULL && (!json_is_integer(code) || json_integer_value(code) < 0 || json_integer_value(code) > UINT32_MAX))
            return wrong_type(err, "permission");
        if ((st = text_of(item, "database", &database, err)) != ST_OK)
            return st;
        if (!permission_append(r, database, code == NULL ? 0 : (uint32_t)json_integer_value(code)))
            goto no_memory;
    }
    if ((st = list_of(object, "sqlPrivileges", &list, &r->privileges_null, err)) != ST_OK)
        return st;
    for (i = 0; list != NULL && i < json_array_size(list); i++) {
        item = json_array_get(list, i);
        if (!json_is_object(item))
            return wrong_type(err, "sqlPrivileges");
        if ((st = text_of(item, "privilege", &privilege, err)) != ST_OK || (st = text_of(item, "database", &database, err)) != ST_OK)
            return st;
        if (!privilege_append(r, database, privilege))
            goto no_memory;
    }
    return ST_OK;
no_memory:
    return err_set(err, ST_NOMEM, 0, "reading a user record: out of memory");
}

static enum status hash_decode(const json_t *object, struct user_record *r, struct err *err)
{
    uint8_t hash[HASH_TEXT_MAX / 4 * 3 + 3];
    struct bytes text;
    size_t len = 0;
    enum status st;

    if ((st = text_of(object, "hashedpassword", &text, err)) != ST_OK)
        return st;
    if (text.len == 0)
        return ST_OK;
    /* Anything but 60 bytes is no bcrypt hash: the user exists, and no password matches. */
    if (text.len != HASH_TEXT_MAX)
        return base64_decoded_max(text.len) > 4096 ? wrong_type(err, "hashedpassword") : ST_OK;
    if ((st = base64_decode(BASE64_STD, text, hash, &len, err)) != ST_OK)
        return st;
    if (len == PASSWORD_HASH_LEN && memchr(hash, '\0', len) == NULL)
        memcpy(r->hash, hash, PASSWORD_HASH_LEN);
    return ST_OK;
}

enum status user_record_decode(struct bytes name, struct bytes json, struct user_record **out, struct err *err)
{
    struct user_record *r = NULL;
    json_t *object = NULL;
    struct bytes text;
    enum status st;

    *out = NULL;
    if ((st = json_read(json, &object, err)) != ST_OK)
        goto done;
    if (!json_is_object(object)) {
        st = err_set(err, ST_INVALID, 0, "user record: no JSON object");
        goto done;
    }
    if ((r = user_record_create(name)) == NULL)
        goto no_memory;
    if ((st = hash_decode(object, r, err)) != ST_OK || (st = grants_decode(object, r, err)) != ST_OK ||
        (st = flag_of(object, "hasPrivileges", &r->has_privileges, err)) != ST_OK || (st = flag_of(object, "active", &r->is_active, err)) != ST_OK)
        goto done;
    if ((st = text_of(object, "createdBy", &text, err)) != ST_OK)
        goto done;
    if ((r->created_by = arena_str(&r->arena, text)) == NULL)
        goto no_memory;
    if ((st = text_of(object, "createdat", &text, err)) != ST_OK || (text.len > 0 && (st = record_time_parse(text, &r->created_at, err)) != ST_OK))
        goto done;
    *out = r;
    r = NULL;
    goto done;
no_memory:
    st = err_set(err, ST_NOMEM, 0, "reading a user record: out of memory");
done:
    user_record_unref(r);
    json_decref(object);
    return st == ST_OK ? ST_OK : err_while(err, st, "reading the record of user %.*s", (int)(name.len < 64 ? name.len : 64), (const char *)name.data);
}

/* --- the verifier --- */

enum { DIGEST_BYTES = 16, DIGEST_TEXT_LEN = 24 };

static void hash_digest(const struct user_record *r, char out[DIGEST_TEXT_LEN + 1])
{
    hash_t digest;

    sha256(r->hash, strlen(r->hash), &digest);
    out[base64_encode(BASE64_STD, bytes_of(digest.b, DIGEST_BYTES), out)] = '\0';
}

enum status user_verifier_encode(const struct user_record *r, struct json_text *out, struct err *err)
{
    char text[SCRAM_TEXT_MAX], of[DIGEST_TEXT_LEN + 1];

    hash_digest(r, of);
    json_put_open(out, '{');
    json_put_name(out, "username");
    json_put_str(out, bytes_str(r->name));
    json_put_name(out, "scram");
    json_put_str(out, bytes_str(scram_encode(&r->scram, text)));
    json_put_name(out, "of");
    json_put_str(out, bytes_str(of));
    json_put_close(out, '}');
    return out->failed ? err_set(err, ST_NOMEM, 0, "writing the verifier of user %s: out of memory", r->name) : ST_OK;
}

enum status user_verifier_decode(struct bytes json, struct user_record *r, struct err *err)
{
    char of[DIGEST_TEXT_LEN + 1];
    struct scram_verifier v;
    json_t *object = NULL;
    struct bytes text, digest;
    enum status st;

    hash_digest(r, of);
    st = json_read(json, &object, err);
    if (st == ST_OK && json_is_object(object) && text_of(object, "scram", &text, NULL) == ST_OK && text_of(object, "of", &digest, NULL) == ST_OK &&
        str_is(of, digest) && scram_decode(text, &v)) {
        r->scram = v;
        r->has_scram = true;
    }
    json_decref(object);
    return st == ST_NOMEM ? st : ST_OK;
}

/* --- changes --- */

enum status user_record_add_verifier(struct user_record *r, const struct env *env, struct bytes password, struct err *err)
{
    enum status st = ST_OK;

    r->has_scram = scram_takes(password);
    r->scram_is_new = r->has_scram;
    if (r->has_scram && (st = scram_create(env, password, &r->scram, err)) != ST_OK)
        r->has_scram = r->scram_is_new = false;
    return st;
}

void user_record_take_password(struct user_record *to, const struct user_record *from)
{
    memcpy(to->hash, from->hash, sizeof to->hash);
    to->scram = from->scram;
    to->has_scram = from->has_scram;
    to->scram_is_new = from->scram_is_new;
}

enum status user_record_set_password(struct user_record *r, const struct env *env, struct bytes password, unsigned cost, struct err *err)
{
    enum status st;

    if ((st = password_hash(env, password, cost, r->hash, err)) != ST_OK)
        return st;
    return user_record_add_verifier(r, env, password, err);
}

bool user_record_set_creator(struct user_record *r, struct bytes who, int64_t now_ns)
{
    const char *name = arena_str(&r->arena, who);

    if (name == NULL)
        return false;
    r->created_by = name;
    r->created_at = record_time_of(now_ns);
    return true;
}

void user_record_revoke(struct user_record *r, struct bytes database)
{
    size_t i, kept = 0;

    for (i = 0; i < r->permission_count; i++)
        if (!str_is(r->permissions[i].database, database))
            r->permissions[kept++] = r->permissions[i];
    r->permission_count = kept;
    r->permissions_null = false;
}

bool user_record_grant(struct user_record *r, struct bytes database, uint32_t permission)
{
    user_record_revoke(r, database);
    return permission_append(r, database, permission);
}

bool user_record_default_privileges(struct user_record *r, struct bytes database, uint32_t permission)
{
    size_t i, count = permission == PERMISSION_READ ? 1 : SQL_PRIVILEGES;

    r->privileges = NULL;
    r->privilege_count = 0;
    r->has_privileges = true;
    for (i = 0; i < count; i++)
        if (!privilege_append(r, database, bytes_str(PRIVILEGE_NAMES[i])))
            return false;
    return true;
}

static size_t privilege_find(const struct user_record *r, struct bytes database, const char *privilege)
{
    size_t i;

    for (i = 0; i < r->privilege_count; i++)
        if (strcmp(r->privileges[i].privilege, privilege) == 0 && str_is(r->privileges[i].database, database))
            break;
    return i;
}

bool user_record_grant_privilege(struct user_record *r, struct bytes database, const char *privilege)
{
    return privilege_find(r, database, privilege) < r->privilege_count || privilege_append(r, database, bytes_str(privilege));
}

bool user_record_settle_privileges(struct user_record *r)
{
    size_t i, p;

    for (i = 0; !r->has_privileges && i < r->permission_count; i++)
        for (p = 0; p < (r->permissions[i].permission == PERMISSION_READ ? 1 : (size_t)SQL_PRIVILEGES); p++)
            if (!user_record_grant_privilege(r, bytes_str(r->permissions[i].database), PRIVILEGE_NAMES[p]))
                return false;
    r->has_privileges = true;
    return true;
}

/* The first element takes the place of the removed one: the published order. */
void user_record_revoke_privilege(struct user_record *r, struct bytes database, const char *privilege)
{
    size_t i = privilege_find(r, database, privilege);

    r->privileges_null = false;
    if (i == r->privilege_count)
        return;
    r->privileges[i] = r->privileges[0];
    r->privilege_count--;
    memmove(r->privileges, r->privileges + 1, r->privilege_count * sizeof *r->privileges);
}

/* --- questions --- */

bool user_is_sysadmin(const struct user_record *r) { return strcmp(r->name, USER_SYSADMIN) == 0; }

uint32_t user_permission_on(const struct user_record *r, struct bytes database)
{
    size_t i;

    if (user_is_sysadmin(r))
        return PERMISSION_SYSADMIN;
    for (i = 0; i < r->permission_count; i++)
        if (str_is(r->permissions[i].database, database))
            return r->permissions[i].permission;
    return PERMISSION_NONE;
}

bool user_is_admin_anywhere(const struct user_record *r)
{
    size_t i;

    for (i = 0; i < r->permission_count; i++)
        if (r->permissions[i].permission == PERMISSION_ADMIN)
            return true;
    return user_is_sysadmin(r);
}

bool user_may_use(const struct user_record *r, struct bytes database)
{
    uint32_t p = user_permission_on(r, database);

    return user_is_sysadmin(r) || p == PERMISSION_READ || p == PERMISSION_READ_WRITE || p == PERMISSION_ADMIN;
}

void user_privileges_each(const struct user_record *r, void (*visit)(void *ctx, const char *privilege, const char *database), void *ctx)
{
    size_t i, p;

    for (i = 0; i < r->privilege_count; i++)
        visit(ctx, r->privileges[i].privilege, r->privileges[i].database);
    for (i = 0; !r->has_privileges && i < r->permission_count; i++)
        for (p = 0; p < (r->permissions[i].permission == PERMISSION_READ ? 1 : (size_t)SQL_PRIVILEGES); p++)
            visit(ctx, PRIVILEGE_NAMES[p], r->permissions[i].database);
}

bool user_name_is_valid(struct bytes name)
{
    size_t i;

    if (name.len < 1 || name.len > USER_NAME_LEN_MAX)
        return false;
    for (i = 0; i < name.len; i++) {
        uint8_t c = name.data[i];

        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'))
            return false;
    }
    return true;
}
