/* Start, graceful stop and end of a server; its figures. */
#include "rpc/server.h"

#include <assert.h>
#include <stdlib.h>
#include <time.h>

#define DRAIN_POLL_NS 2000000

static void server_free(struct rpc_server *s)
{
    listener_stop(&s->listener);
    for (unsigned i = 0; i < s->reactor_count; i++)
        if (s->reactors[i].is_started)
            reactor_command(&s->reactors[i], REACTOR_STOP);
    for (unsigned i = 0; i < s->reactor_count; i++)
        reactor_join(&s->reactors[i]);
    free(s->reactors);
    grpc_service_close(s->service);
    SSL_CTX_free(s->tls);
    pthread_mutex_destroy(&s->tls_lock);
    free(s);
}

enum status rpc_server_start(const struct rpc_options *o, struct rpc_server **out, struct err *err)
{
    unsigned count = o->reactors == 0 ? cpu_count() : o->reactors;
    struct rpc_server *s;
    enum status st;

    *out = NULL;
    if (count > 64)
        return err_set(err, ST_INVALID, 0, "%u reactors: at most 64", count);
    if ((s = calloc(1, sizeof(*s))) == NULL)
        return err_set(err, ST_NOMEM, 0, "RPC server");
    s->listener.fd = s->listener.spare_fd = s->listener.stop_fd = -1;
    pthread_mutex_init(&s->tls_lock, NULL);
    rpc_server_set_tls(s, o->tls);
    if ((st = grpc_service_open(o, &s->service, err)) != ST_OK || (st = listener_open(&s->listener, o->address, o->port, err)) != ST_OK)
        goto done;
    if (posix_memalign((void **)&s->reactors, 64, count * sizeof(*s->reactors)) != 0) {
        s->reactors = NULL;
        st = err_set(err, ST_NOMEM, 0, "%u reactors", count);
        goto done;
    }
    memset(s->reactors, 0, count * sizeof(*s->reactors));
    for (unsigned i = 0; i < count && st == ST_OK; i++) {
        s->reactor_count = i + 1;
        st = reactor_start(&s->reactors[i], s, s->service, i, err);
    }
    if (st != ST_OK || (st = listener_start(s, err)) != ST_OK)
        goto done;
    *out = s;
    s = NULL;
done:
    if (s != NULL)
        server_free(s);
    return st == ST_OK ? ST_OK : err_while(err, st, "starting the RPC server");
}

uint16_t rpc_server_port(const struct rpc_server *s) { return s->listener.port; }

void rpc_server_set_tls(struct rpc_server *s, void *ssl_ctx)
{
    SSL_CTX *old;

    if (ssl_ctx != NULL) {
        SSL_CTX_up_ref(ssl_ctx);
        tls_prepare(ssl_ctx);
    }
    pthread_mutex_lock(&s->tls_lock);
    old = s->tls;
    s->tls = ssl_ctx;
    pthread_mutex_unlock(&s->tls_lock);
    SSL_CTX_free(old);
}

static uint64_t calls_left(const struct rpc_server *s)
{
    uint64_t left = 0;

    for (unsigned i = 0; i < s->reactor_count; i++) {
        const struct grpc_counters *c = &s->reactors[i].host.counters;

        left += atomic_load_explicit(&c->streams_open, memory_order_acquire) + atomic_load_explicit(&c->calls_running, memory_order_acquire);
    }
    return left;
}

void rpc_server_drain(struct rpc_server *s, uint64_t drain_ns)
{
    const struct env *env = s->service->options.env;
    const struct timespec pause = {0, DRAIN_POLL_NS};
    uint64_t begin_ns = env_mono_ns(env);

    listener_stop(&s->listener);
    atomic_store_explicit(&s->service->is_draining, true, memory_order_release);
    for (unsigned i = 0; i < s->reactor_count; i++)
        reactor_command(&s->reactors[i], REACTOR_DRAIN);
    while (calls_left(s) > 0 && env_mono_ns(env) - begin_ns < drain_ns)
        nanosleep(&pause, NULL);
}

void rpc_server_stop(struct rpc_server *s)
{
    if (s != NULL)
        server_free(s);
}

void rpc_server_stats(struct rpc_server *s, struct rpc_stats *out)
{
    *out = (struct rpc_stats){.connections_refused = atomic_load(&s->listener.refused)};
    for (unsigned i = 0; i < s->reactor_count; i++) {
        struct grpc_counters *c = &s->reactors[i].host.counters;
        uint64_t longest = atomic_exchange_explicit(&c->turn_ns_max, 0, memory_order_relaxed);

        out->turn_ns_max = longest > out->turn_ns_max ? longest : out->turn_ns_max;
        out->turns += atomic_load_explicit(&c->turns, memory_order_relaxed);
        out->turn_ns_total += atomic_load_explicit(&c->turn_ns_total, memory_order_relaxed);
        out->connections_open += atomic_load_explicit(&c->connections_open, memory_order_relaxed);
        out->connections_total += atomic_load_explicit(&c->connections_total, memory_order_relaxed);
        out->streams_open += atomic_load_explicit(&c->streams_open, memory_order_relaxed);
        out->calls_total += atomic_load_explicit(&c->calls_total, memory_order_relaxed);
        out->calls_running += atomic_load_explicit(&c->calls_running, memory_order_relaxed);
        out->goaways_sent += atomic_load_explicit(&c->goaways_sent, memory_order_relaxed);
        out->resets_received += atomic_load_explicit(&c->resets_received, memory_order_relaxed);
        out->bytes_in += atomic_load_explicit(&c->bytes_in, memory_order_relaxed);
        out->bytes_out += atomic_load_explicit(&c->bytes_out, memory_order_relaxed);
    }
    pthread_mutex_lock(&s->service->admission.lock);
    out->waiting_for_budget = s->service->admission.waiting;
    pthread_mutex_unlock(&s->service->admission.lock);
}
