/* One pair of contexts behind a lock; see reload.h. */
#include "server/reload.h"

#include <pthread.h>
#include <stdlib.h>

#include "config/config.h"
#include "config/logger.h"
#include "observe/monitor.h"
#include "server/auto_cert.h"
#include "server/tls.h"

enum { HOUR_S = 3600, DAY_S = 86400 };

struct reload {
    struct server *server;
    pthread_mutex_t lock; /* level 8: one change at a time, across file work; guards the rest */
    void *rpc, *http;     /* SSL_CTX, NULL without TLS */
    struct auto_cert auto_cert;
    int64_t look_at_s, warn_at_s;
};

/* Certificates that the user named win over --auto-cert. */
static bool is_auto(const struct config *c) { return c->auto_cert && c->certificate[0] == '\0'; }

/* Under the lock. Both contexts from the files; NULL without TLS. */
static enum status contexts_make(struct reload *r, void **rpc, void **http, struct err *err)
{
    const struct config *c = r->server->config;
    struct tls_options o = {.certificate = c->certificate, .pkey = c->pkey, .clientcas = c->clientcas};
    bool was_made = false;
    enum status st;

    *rpc = *http = NULL;
    if (is_auto(c)) {
        if ((st = auto_cert_ensure(r->server->runtime->vfs, r->server->env, c->dir, r->server->address, &r->auto_cert, &was_made, err)) != ST_OK)
            return st;
        if (was_made)
            LOG_INFO_AT(r->server->logger, "self-signed certificate written to %s", r->auto_cert.certificate);
        o.certificate = r->auto_cert.certificate;
        o.pkey = r->auto_cert.pkey;
    }
    if (o.certificate[0] == '\0')
        return ST_OK;
    o.clients = !c->mtls ? TLS_CLIENTS_UNASKED : c->mtls_strict ? TLS_CLIENTS_DEMANDED : TLS_CLIENTS_IF_GIVEN;
    if ((st = tls_context(&o, rpc, err)) != ST_OK)
        return st;
    if (o.clients == TLS_CLIENTS_DEMANDED)
        o.clients = TLS_CLIENTS_IF_GIVEN;
    if ((st = tls_context(&o, http, err)) != ST_OK) {
        tls_context_free(*rpc);
        *rpc = NULL;
    }
    return st;
}

/* Under the lock. */
static void warn_of_end(struct reload *r, int64_t now_s)
{
    int64_t left_s;

    if (r->rpc == NULL || now_s < r->warn_at_s)
        return;
    r->warn_at_s = now_s + DAY_S;
    left_s = tls_context_expiry_s(r->rpc) - now_s;
    if (left_s <= 0)
        LOG_WARN_AT(r->server->logger, "the TLS certificate has expired: clients refuse it");
    else if (left_s < (int64_t)AUTO_CERT_RENEW_DAYS * DAY_S)
        LOG_WARN_AT(r->server->logger, "the TLS certificate expires in %lld day(s)", (long long)(left_s / DAY_S));
}

enum status reload_open(struct server *s, struct reload **out, struct err *err)
{
    struct reload *r = calloc(1, sizeof *r);
    enum status st;

    *out = NULL;
    if (r == NULL || pthread_mutex_init(&r->lock, NULL) != 0) {
        free(r);
        return err_set(err, ST_NOMEM, 0, "preparing TLS: out of memory");
    }
    r->server = s;
    if ((st = contexts_make(r, &r->rpc, &r->http, err)) != ST_OK) {
        reload_free(r);
        return st;
    }
    r->look_at_s = env_wall_s(s->env) + HOUR_S;
    warn_of_end(r, env_wall_s(s->env));
    *out = r;
    return ST_OK;
}

void reload_free(struct reload *r)
{
    if (r == NULL)
        return;
    tls_context_free(r->rpc);
    tls_context_free(r->http);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

void *reload_tls_rpc(const struct reload *r) { return r->rpc; }
void *reload_tls_http(const struct reload *r) { return r->http; }

/* Under the lock. */
static void contexts_replace(struct reload *r)
{
    struct server *s = r->server;
    void *rpc, *http;
    struct err err;

    if (contexts_make(r, &rpc, &http, &err) != ST_OK) {
        LOG_ERROR_AT(s->logger, "the TLS certificate stays as it is, the new one cannot be used: %s", err.text);
        return;
    }
    rpc_server_set_tls(s->rpc, rpc);
    monitor_set_tls(s->monitor, http);
    tls_context_free(r->rpc);
    tls_context_free(r->http);
    r->rpc = rpc;
    r->http = http;
    r->warn_at_s = 0;
    warn_of_end(r, env_wall_s(s->env));
    LOG_INFO_AT(s->logger, "TLS certificate and key were read again");
}

void reload_now(struct reload *r)
{
    pthread_mutex_lock(&r->lock);
    if (r->rpc != NULL) /* whether there is TLS is decided at the start */
        contexts_replace(r);
    pthread_mutex_unlock(&r->lock);
}

void reload_tick(struct reload *r, int64_t now_s)
{
    pthread_mutex_lock(&r->lock);
    if (r->rpc != NULL && now_s >= r->look_at_s) {
        r->look_at_s = now_s + HOUR_S;
        if (is_auto(r->server->config) && tls_context_expiry_s(r->rpc) - now_s < (int64_t)AUTO_CERT_RENEW_DAYS * DAY_S)
            contexts_replace(r);
        else
            warn_of_end(r, now_s);
    }
    pthread_mutex_unlock(&r->lock);
}
