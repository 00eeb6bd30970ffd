/* What all connections of a server share; see grpc_service.h. */
#include "rpc/grpc_service.h"

#include <assert.h>
#include <stdlib.h>

#include "base/hash.h"
#include "rpc/grpc_session.h"
#include "rpc/grpc_wire.h"

#define WINDOW_FRACTION 64 /* of the memory for requests */

#define DEFAULT_TO(field, value) \
    do { \
        if ((field) == 0) \
            (field) = (value); \
    } while (0)

static void limits_complete(struct rpc_limits *l)
{
    DEFAULT_TO(l->message_bytes_max, (size_t)32 << 20);
    DEFAULT_TO(l->streams_per_conn_max, 250);
    DEFAULT_TO(l->header_list_bytes_max, 65536);
    DEFAULT_TO(l->conn_window_bytes, (uint32_t)16 << 20);
    DEFAULT_TO(l->connections_max, 10000);
    DEFAULT_TO(l->files_reserved, 512);
    DEFAULT_TO(l->pings_per_10s_max, 100);
    DEFAULT_TO(l->keepalive_idle_ns, UINT64_C(7200000000000));
    DEFAULT_TO(l->keepalive_timeout_ns, UINT64_C(20000000000));
    DEFAULT_TO(l->handshake_timeout_ns, UINT64_C(10000000000));
    DEFAULT_TO(l->write_stall_timeout_ns, UINT64_C(60000000000));
    DEFAULT_TO(l->budget_wait_ns, UINT64_C(30000000000));
    DEFAULT_TO(l->arena_bytes_max, 4 * l->message_bytes_max + ((size_t)1 << 20));
    DEFAULT_TO(l->held_notice_ns, UINT64_C(5000000000));
}

/* The default window of streams, so that some of them fit into little memory. */
static void window_fit(struct rpc_limits *l, size_t share)
{
    uint32_t most = share / WINDOW_FRACTION < ((uint32_t)1 << 20) ? (uint32_t)(share / WINDOW_FRACTION) : (uint32_t)1 << 20;

    DEFAULT_TO(l->stream_window_bytes, most < 65536 ? 65536 : most);
}

static enum status limits_check(const struct rpc_limits *l, struct err *err)
{
    if (l->message_bytes_max > UINT32_MAX - GRPC_PREFIX_LEN)
        return err_set(err, ST_INVALID, 0, "message limit of %zu bytes", l->message_bytes_max);
    if (l->stream_window_bytes < 65535 || l->stream_window_bytes > INT32_MAX || l->conn_window_bytes < 65535 || l->conn_window_bytes > INT32_MAX)
        return err_set(err, ST_INVALID, 0, "windows of %u and %u bytes: 65535 to 2147483647 are possible", l->stream_window_bytes,
                       l->conn_window_bytes);
    return ST_OK;
}

static enum status table_fill(struct grpc_service *s, struct err *err)
{
    size_t slots = 16;

    while (slots < 2 * s->options.method_count)
        slots *= 2;
    if ((s->table = calloc(slots, sizeof(*s->table))) == NULL)
        return err_set(err, ST_NOMEM, 0, "table of %zu methods", s->options.method_count);
    s->table_mask = slots - 1;
    for (size_t m = 0; m < s->options.method_count; m++) {
        const struct rpc_method *method = &s->options.methods[m];
        size_t i = hash64(s->table_seed, method->path, strlen(method->path)) & s->table_mask;

        if (method->path[0] != '/' || method->handler == NULL)
            return err_set(err, ST_INVALID, 0, "method %s: no path or no handler", method->path);
        while (s->table[i] != NULL) {
            if (strcmp(s->table[i]->path, method->path) == 0)
                return err_set(err, ST_INVALID, 0, "method %s is there twice", method->path);
            i = (i + 1) & s->table_mask;
        }
        s->table[i] = method;
    }
    return ST_OK;
}

static nghttp2_nv nv_of(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name), strlen(value),
                        NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
}

static void h2_limits(struct grpc_service *s)
{
    nghttp2_option_set_no_auto_window_update(s->h2_option, 1);
    nghttp2_option_set_no_closed_streams(s->h2_option, 1);
    /* Clients send "authorization: Bearer " with nothing behind it. */
    nghttp2_option_set_no_rfc9113_leading_and_trailing_ws_validation(s->h2_option, 1);
    nghttp2_option_set_max_outbound_ack(s->h2_option, GRPC_OUTBOUND_ACK_MAX);
    /* Ours, which works with every version of the library, has the first say: see grpc_conn.c. */
#ifdef HAVE_NGHTTP2_RESET_RATE_LIMIT
    nghttp2_option_set_stream_reset_rate_limit(s->h2_option, 2 * GRPC_RESET_BURST, 2 * GRPC_RESETS_PER_S);
#endif
#ifdef HAVE_NGHTTP2_MAX_CONTINUATIONS
    nghttp2_option_set_max_continuations(s->h2_option, GRPC_CONTINUATIONS_MAX);
#endif
}

enum status grpc_service_open(const struct rpc_options *options, struct grpc_service **out, struct err *err)
{
    struct grpc_service *s = NULL;
    enum status st;
    size_t windows;

    *out = NULL;
    if (options->env == NULL || options->budget == NULL || (options->method_count > 0 && options->methods == NULL))
        return err_set(err, ST_INVALID, 0, "RPC server without clock, budget or methods");
    if ((s = calloc(1, sizeof(*s))) == NULL)
        return err_set(err, ST_NOMEM, 0, "RPC service");
    pthread_mutex_init(&s->admission.lock, NULL);
    s->options = *options;
    window_fit(&s->options.limits, options->budget->share[BUDGET_REQUEST]);
    limits_complete(&s->options.limits);
    env_random(options->env, &s->table_seed, sizeof(s->table_seed));
    if ((st = limits_check(&s->options.limits, err)) != ST_OK || (st = table_fill(s, err)) != ST_OK)
        goto done;
    if (nghttp2_option_new(&s->h2_option) != 0 || (st = grpc_session_callbacks(&s->callbacks)) != ST_OK) {
        st = err_set(err, ST_NOMEM, 0, "HTTP/2 options");
        goto done;
    }
    h2_limits(s);
    s->initial[s->initial_len++] = nv_of(":status", "200");
    s->initial[s->initial_len++] = nv_of("content-type", "application/grpc");
    if (options->header_name != NULL)
        s->initial[s->initial_len++] = nv_of(options->header_name, options->header_value);
    /* One connection may fill a quarter of what requests may use, and always one greatest message and its streams' first windows. */
    windows = (size_t)s->options.limits.streams_per_conn_max * (GRPC_FIRST_WINDOW_BYTES + 1);
    s->conn_bytes_max = s->options.limits.message_bytes_max + ((size_t)1 << 20) + windows;
    if (options->budget->share[BUDGET_REQUEST] / 4 > s->conn_bytes_max)
        s->conn_bytes_max = options->budget->share[BUDGET_REQUEST] / 4;
    s->conn_large_bytes_max = s->conn_bytes_max - windows;
    s->conn_arena_bytes_max = s->options.limits.arena_bytes_max;
    if (options->budget->share[BUDGET_REQUEST] / 4 > s->conn_arena_bytes_max)
        s->conn_arena_bytes_max = options->budget->share[BUDGET_REQUEST] / 4;
    *out = s;
    s = NULL;
done:
    grpc_service_close(s);
    return st == ST_OK ? ST_OK : err_while(err, st, "setting up the RPC service");
}

void grpc_service_close(struct grpc_service *s)
{
    if (s == NULL)
        return;
    assert(s->admission.oldest == NULL && s->admission.reserve_of == NULL && atomic_load(&s->arena_reserve_of) == NULL);
    nghttp2_session_callbacks_del(s->callbacks);
    nghttp2_option_del(s->h2_option);
    pthread_mutex_destroy(&s->admission.lock);
    free(s->table);
    free(s);
}

const struct rpc_method *grpc_service_method(const struct grpc_service *s, struct bytes path)
{
    size_t i = hash64(s->table_seed, path.data, path.len) & s->table_mask;

    for (; s->table[i] != NULL; i = (i + 1) & s->table_mask)
        if (strncmp(s->table[i]->path, (const char *)path.data, path.len) == 0 && s->table[i]->path[path.len] == '\0')
            return s->table[i];
    return NULL;
}

bool grpc_service_has(const struct grpc_service *s, struct bytes name)
{
    for (size_t i = 0; i < s->options.service_count; i++)
        if (bytes_equal(bytes_str(s->options.services[i]), name))
            return true;
    return false;
}
