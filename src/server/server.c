/* Start and stop in order; see server.h.
 *
 * Start: data folder and lock, keys and certificates, identity, listeners (health answers, other calls wait), systemdb and defaultdb, users
 * (the sysadmin at the first start), the other databases, ready. Stop: not ready, no new calls, running ones finish, probes off, password checks and
 * workers drained, databases closed (systemdb last), lock released. */
#include "server/server.h"

#include <errno.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/config.h"
#include "config/logger.h"
#include "databases/databases.h"
#include "databases/datadir.h"
#include "handlers/methods.h"
#include "handlers/txs.h"
#include "observe/access_log.h"
#include "observe/audit_log.h"
#include "observe/health.h"
#include "observe/monitor.h"
#include "observe/plain_methods.h"
#include "request/gate.h"
#include "request/request.h"
#include "request/server_parts.h"
#include "server/housekeeper.h"
#include "server/reload.h"
#include "vfs/vfs.h"

static const uint64_t DRAIN_NS = 10ull * 1000000000;
enum { KEY_FILE_BYTES_MAX = 65536 };

/* What is not for other files: struct server is its first member. */
struct whole {
    struct server server;
    struct reload *reload; /* TLS contexts in force */
    struct housekeeper *housekeeper;
    struct bound_method *bound;
    struct rpc_method *methods;
    size_t method_count;
    _Atomic bool is_hurried;
};

static struct whole *whole_of(struct server *s) { return (struct whole *)(void *)s; }

/* --- keys --- */

static void warn_about_mode(struct server *s, const char *path)
{
    struct stat info;

    if (path[0] != '\0' && stat(path, &info) == 0 && (info.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        LOG_WARN_AT(s->logger, "private key %s can be read by others than its owner (mode %03o)", path, info.st_mode & 0777);
}

static enum status signer_load(struct server *s, struct err *err)
{
    const char *path = s->config->signing_key, *advice;
    uint8_t *pem = NULL;
    struct err cause;
    size_t len = 0;
    enum status st;
    bool is_read;

    if (path[0] == '\0')
        return ST_OK;
    st = vfs_read_all(s->runtime->vfs, path, KEY_FILE_BYTES_MAX, &pem, &len, &cause);
    if ((is_read = st == ST_OK))
        st = signer_open(bytes_of(pem, len), &s->signer, &cause);
    else if (st == ST_NOT_FOUND)
        err_set(&cause, st, 0, "open %s: no such file or directory", path);
    if (pem != NULL)
        explicit_bzero(pem, len);
    free(pem);
    if (st != ST_OK && !is_read)
        return err_set(err, ST_INVALID, 0, "unable to configure the cryptographic signer: %s (--signingKey)", cause.text);
    if (st != ST_OK) {
        /* The published texts advise to use another function of a library: nothing a user can do. */
        advice = strstr(cause.text, " (use ");
        return err_set(err, ST_INVALID, 0,
                       "unable to configure the cryptographic signer: %.60s: %.*s: an EC private key in SEC 1 form (BEGIN EC PRIVATE KEY) is wanted",
                       path, advice != NULL ? (int)(advice - cause.text) : (int)strlen(cause.text), cause.text);
    }
    warn_about_mode(s, path);
    return ST_OK;
}

/* Keys stay out of core dumps and of other processes' sight. */
static enum status keys_load(struct whole *w, struct err *err)
{
    struct server *s = &w->server;
    enum status st;

    if ((st = signer_load(s, err)) != ST_OK || (st = reload_open(s, &w->reload, err)) != ST_OK)
        return st;
    warn_about_mode(s, s->config->pkey);
    if ((s->signer != NULL || reload_tls_rpc(w->reload) != NULL) && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        LOG_WARN_AT(s->logger, "core dumps could not be switched off: %s", strerror(errno));
    return ST_OK;
}

/* --- listeners --- */

static enum status methods_bind(struct whole *w, struct err *err)
{
    bool has_reflection = w->server.config->grpc_reflection;
    size_t i;

    w->bound = calloc(METHOD_COUNT + 1, sizeof *w->bound);
    w->methods = calloc(METHOD_COUNT + PLAIN_METHOD_COUNT, sizeof *w->methods);
    if (w->bound == NULL || w->methods == NULL)
        return err_set(err, ST_NOMEM, 0, "starting the server: out of memory");
    for (i = 0; i < METHOD_COUNT; i++) {
        w->bound[i] = (struct bound_method){&METHODS[i], &w->server, i};
        w->methods[i] = (struct rpc_method){METHODS[i].path, METHODS[i].kind, request_entry, &w->bound[i]};
    }
    w->method_count = METHOD_COUNT;
    w->bound[METHOD_COUNT].server = &w->server;
    for (i = 0; i < PLAIN_METHOD_COUNT; i++) {
        const struct plain_method *m = &PLAIN_METHODS[i];

        if (has_reflection || !m->is_reflection)
            w->methods[w->method_count++] = (struct rpc_method){m->path, m->kind, m->handler, &w->bound[METHOD_COUNT]};
    }
    return ST_OK;
}

/* --address may be a name: both listeners take the same numeric form of it, IPv4 first. */
static enum status address_resolve(struct server *s, struct err *err)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL, *a, *best;
    int code;

    if (s->config->address[0] == '\0')
        return ST_OK;
    if ((code = getaddrinfo(s->config->address, NULL, &hints, &found)) != 0)
        return err_set(err, ST_INVALID, 0, "--address %s: %s", s->config->address, gai_strerror(code));
    best = found;
    for (a = found; a != NULL; a = a->ai_next) {
        if (a->ai_family == AF_INET) {
            best = a;
            break;
        }
    }
    code = getnameinfo(best->ai_addr, best->ai_addrlen, s->address, sizeof s->address, NULL, 0, NI_NUMERICHOST);
    freeaddrinfo(found);
    return code == 0 ? ST_OK : err_set(err, ST_INVALID, 0, "--address %s: %s", s->config->address, gai_strerror(code));
}

static enum status listen_all(struct whole *w, struct err *err)
{
    struct server *s = &w->server;
    const struct config *c = s->config;
    struct rpc_options o = {.address = s->address,
                            .port = (uint16_t)c->port,
                            .reactors = (unsigned)c->reactors,
                            .env = s->env,
                            .budget = &s->runtime->budget,
                            .limits = {.message_bytes_max = (size_t)c->max_recv_msg_size},
                            .methods = w->methods,
                            .method_count = w->method_count,
                            .services = SERVICE_NAMES,
                            .service_count = SERVICE_COUNT - (c->grpc_reflection ? 0 : SERVICE_REFLECTION_COUNT),
                            .header_name = "immudb-uuid",
                            .header_value = s->datadir.uuid,
                            .tls = reload_tls_rpc(w->reload),
                            .slot_free = credentials_slot_free,
                            .on_end = monitor_call_ended,
                            .ctx = s->monitor};
    enum status st;

    if ((st = rpc_server_start(&o, &s->rpc, err)) != ST_OK || (st = monitor_listen(s->monitor, reload_tls_http(w->reload), err)) != ST_OK)
        return st;
    if (c->metrics_server)
        LOG_INFO_AT(s->logger, "metrics server enabled on %s:%u (%s)", c->address, monitor_port(s->monitor),
                    reload_tls_rpc(w->reload) != NULL ? "https" : "http");
    return ST_OK;
}

/* --- databases --- */

static bool let_go(void *ctx, const struct database *db)
{
    struct server *s = ctx;

    txs_cut(s->txs, db);
    return atomic_load_explicit(&s->readiness, memory_order_acquire) != SERVER_STOPPING;
}

static enum status databases_begin(struct server *s, struct err *err)
{
    struct databases_options o = {.config = s->config, .env = s->env, .logger = s->logger, .runtime = s->runtime, .let_go = let_go, .ctx = s};

    return databases_open(&o, &s->databases, err);
}

/* --- users --- */

static enum status sysadmin_create(struct server *s, struct err *err)
{
    struct user_record *r = user_record_create(bytes_str(USER_SYSADMIN));
    enum status st = ST_NOMEM;

    if (r == NULL || !user_record_grant(r, bytes_str("*"), PERMISSION_SYSADMIN) ||
        !user_record_default_privileges(r, bytes_str("*"), PERMISSION_SYSADMIN)) {
        err_set(err, st, 0, "creating the admin user: out of memory");
        goto done;
    }
    r->is_active = true;
    r->created_at = record_time_of(env_wall_ns(s->env));
    if ((st = user_record_set_password(r, s->env, bytes_str(s->config->admin_password), PASSWORD_COST, err)) != ST_OK)
        goto done;
    st = users_put(s->auth->users, r, bytes_of(NULL, 0), err);
    r = NULL;
    if (st == ST_OK)
        LOG_INFO_AT(s->logger, "admin user '%s' successfully created", USER_SYSADMIN);
done:
    user_record_unref(r);
    return st;
}

/* --force-admin-password: one tx, only when the stored hash is of another password; who and when stay. */
static enum status sysadmin_force(struct server *s, const struct user_record *stored, struct err *err)
{
    struct user_record *changed;
    enum status st;

    if (password_matches(bytes_str(s->config->admin_password), bytes_str(stored->hash)))
        return ST_OK;
    if ((changed = user_record_copy(stored)) == NULL)
        return err_set(err, ST_NOMEM, 0, "changing the admin password: out of memory");
    if ((st = user_record_set_password(changed, s->env, bytes_str(s->config->admin_password), PASSWORD_COST, err)) != ST_OK) {
        user_record_unref(changed);
        return st;
    }
    if ((st = users_put(s->auth->users, changed, bytes_of(NULL, 0), err)) == ST_OK)
        LOG_WARN_AT(s->logger, "the password of user '%s' was set by --force-admin-password", USER_SYSADMIN);
    return st;
}

static enum status sysadmin_check(struct server *s, struct err *err)
{
    struct user_record *stored = NULL;
    struct store_state state;
    struct user *user;
    enum status st;

    store_get_state(databases_systemdb(s->databases), &state);
    if (s->config->replication_is_replica) /* users are the primary's */
        return s->config->force_admin_password ? err_set(err, ST_INVALID, 0, "can not reset admin password, database is running as a replica")
                                               : ST_OK;
    if (state.visible_tx_id == 0)
        return sysadmin_create(s, err);
    if (!s->config->force_admin_password)
        return ST_OK;
    if ((st = users_find(s->auth->users, bytes_str(USER_SYSADMIN), true, &user, &stored, err)) == ST_OK)
        st = sysadmin_force(s, stored, err);
    user_record_unref(stored);
    return st;
}

static enum status users_start(struct server *s, struct err *err)
{
    const struct config *c = s->config;
    struct sessions_options o = {.env = s->env,
                                 .sessions_max = (uint32_t)c->max_sessions,
                                 .idle_max_ns = (uint64_t)c->session_timeout,
                                 .age_max_ns = (uint64_t)c->max_session_age_time,
                                 .inactivity_ns = (uint64_t)c->max_session_inactivity_time};
    struct auth_options a = {.login_attempts_per_minute = (uint32_t)c->login_attempts_per_minute, .is_replica = c->replication_is_replica};
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    enum status st;

    a.login_threads = cpus > 2 ? (unsigned)cpus / 2 : 1;
    if ((st = auth_open(databases_systemdb(s->databases), &o, &a, &s->auth, err)) != ST_OK)
        return st;
    return sysadmin_check(s, err);
}

/* Several databases or users end single-database mode, and forbid to go without authentication. */
static enum status modes_check(struct server *s, struct err *err)
{
    bool has_users = false;
    enum status st;

    if ((st = users_any_other(s->auth->users, &has_users, err)) != ST_OK)
        return st;
    if (!s->config->auth && (has_users || databases_count(s->databases) > 1))
        return err_set(err, ST_INVALID, 0, "authentication must be on");
    if (has_users)
        databases_set_multiple(s->databases);
    return ST_OK;
}

/* --- logs of calls --- */

/* Before the first call: they take events at once. */
static enum status logs_create(struct server *s, struct err *err)
{
    const struct config *c = s->config;
    enum status st;

    if (c->log_access && (st = access_log_start(s->logger, &s->access_log, err)) != ST_OK)
        return st;
    if (c->audit_log && (st = audit_log_create(s->logger, c->audit_log_events, &s->audit_log, err)) != ST_OK)
        return st;
    return txs_create(s->env, &s->txs, err);
}

static enum status audit_begin(struct server *s, struct err *err)
{
    if (s->audit_log == NULL)
        return ST_OK;
    return audit_log_start(s->audit_log, s->config->replication_is_replica ? NULL : databases_systemdb(s->databases), err);
}

/* --- start --- */

static enum status start(struct whole *w, struct server_start *how, struct err *err)
{
    struct server *s = &w->server;
    struct runtime_options o = {.env = s->env, .memory_limit = (size_t)s->config->memory_limit};
    enum status st;

    how->stage = START_FOLDER;
    if ((st = runtime_create(&o, &s->runtime, err)) != ST_OK || (st = address_resolve(s, err)) != ST_OK ||
        (st = datadir_open(s->runtime->vfs, s->config->dir, &s->datadir, err)) != ST_OK)
        return st;
    how->stage = START_KEYS;
    if ((st = keys_load(w, err)) != ST_OK)
        return st;
    how->stage = START_LISTENERS;
    if ((st = datadir_identify(&s->datadir, s->env, err)) != ST_OK || (st = gate_create(&s->gate, err)) != ST_OK ||
        (st = health_create(SERVICE_NAMES, SERVICE_COUNT - (s->config->grpc_reflection ? 0 : SERVICE_REFLECTION_COUNT), &s->health, err)) != ST_OK)
        return st;
    if ((st = logs_create(s, err)) != ST_OK || (st = monitor_create(s, &s->monitor, err)) != ST_OK)
        return st;
    s->call_metrics = monitor_call_metrics(s->monitor);
    if ((st = methods_bind(w, err)) != ST_OK || (st = listen_all(w, err)) != ST_OK)
        return st;
    how->stage = START_DATABASES;
    if ((st = databases_begin(s, err)) != ST_OK || (st = users_start(s, err)) != ST_OK || (st = databases_scan(s->databases, err)) != ST_OK ||
        (st = modes_check(s, err)) != ST_OK || (st = audit_begin(s, err)) != ST_OK)
        return st;
    if ((st = housekeeper_start(s, w->reload, &w->housekeeper, err)) != ST_OK)
        return st;
    if (how->may_open != NULL && !how->may_open(how->ctx))
        return err_set(err, ST_CANCELLED, 0, "the start was called off");
    LOG_INFO_AT(s->logger, "sessions guard started");
    atomic_store_explicit(&s->readiness, SERVER_READY, memory_order_release);
    health_set(s->health, SERVER_READY);
    gate_open(s->gate);
    return ST_OK;
}

enum status server_start(const struct config *config, struct logger *logger, struct server **out, struct err *err)
{
    struct server_start how = {0};

    return server_start_with(config, logger, &how, out, err);
}

enum status server_start_with(const struct config *config, struct logger *logger, struct server_start *how, struct server **out, struct err *err)
{
    struct whole *w = calloc(1, sizeof *w);
    enum status st;

    *out = NULL;
    if (w == NULL)
        return err_set(err, ST_NOMEM, 0, "starting the server: out of memory");
    w->server.config = config;
    w->server.logger = logger;
    w->server.env = logger_env(logger);
    w->server.started_s = env_wall_s(w->server.env);
    if ((st = start(w, how, err)) != ST_OK)
        server_stop(&w->server, true);
    else
        *out = &w->server;
    return st;
}

/* --- stop --- */

void server_hurry(struct server *s) { atomic_store_explicit(&whole_of(s)->is_hurried, true, memory_order_release); }

void server_drain(struct server *s)
{
    const uint64_t slice_ns = 50000000;
    int ready = SERVER_READY;
    struct rpc_stats stats;
    uint64_t start;

    /* A server that never was ready has no users and databases: its calls must go on being refused. */
    if (!atomic_compare_exchange_strong_explicit(&s->readiness, &ready, SERVER_STOPPING, memory_order_acq_rel, memory_order_relaxed))
        return;
    health_set(s->health, SERVER_STOPPING);
    runtime_stop_waiting(s->runtime);
    start = env_mono_ns(s->env);
    rpc_server_drain(s->rpc, slice_ns); /* in slices, so that a second signal is noticed */
    for (;;) {
        rpc_server_stats(s->rpc, &stats);
        if ((stats.calls_running == 0 && stats.streams_open == 0) || env_mono_ns(s->env) - start > DRAIN_NS ||
            atomic_load_explicit(&whole_of(s)->is_hurried, memory_order_acquire))
            return;
        usleep((useconds_t)(slice_ns / 10000));
    }
}

void server_stop(struct server *s, bool hurry)
{
    struct whole *w = s != NULL ? whole_of(s) : NULL;

    if (w == NULL)
        return;
    if (!hurry)
        server_drain(s);
    if (s->runtime != NULL)
        runtime_stop_waiting(s->runtime);
    if (s->gate != NULL)
        gate_shut(s->gate); /* nobody is there, unless the start failed */
    if (s->health != NULL)
        health_set(s->health, SERVER_STOPPING);
    if (s->monitor != NULL)
        monitor_stop_listening(s->monitor); /* before what it tells about is taken apart */
    if (s->rpc != NULL)
        rpc_server_stop(s->rpc);
    housekeeper_stop(w->housekeeper);
    txs_free(s->txs);
    s->txs = NULL;
    access_log_stop(s->access_log);
    audit_log_stop(s->audit_log);
    auth_close(s->auth);
    databases_close(s->databases);
    monitor_free(s->monitor);
    gate_free(s->gate);
    health_free(s->health);
    signer_close(s->signer);
    reload_free(w->reload);
    datadir_close(&s->datadir);
    if (s->runtime != NULL)
        runtime_destroy(s->runtime);
    free(w->methods);
    free(w->bound);
    free(w);
}

void server_reload(struct server *s) { reload_now(whole_of(s)->reload); }

uint16_t server_port(const struct server *s) { return rpc_server_port(s->rpc); }
uint16_t server_metrics_port(const struct server *s) { return monitor_port(s->monitor); }
