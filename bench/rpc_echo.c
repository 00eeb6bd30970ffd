/* A gRPC server that does nothing but answer: what the RPC layer itself costs.
 *
 *   rpc_echo [port [reactors [certificate.pem key.pem]]]
 *
 * Methods of the service bench.Echo, all byte strings in and out:
 *   Set     unary; reads the request as a protobuf message with one bytes field per key and value and answers like a
 *           transaction header: 150 bytes
 *   Echo    unary; the request is the answer
 *   Pool    unary; as Set, but answered by a worker thread
 *   Count   server stream; the request's first four bytes (big-endian) say how many messages of 1 KiB
 *   Bidi    bidirectional; each message comes back
 *
 * For example, Set with the body of `printf '\0\0\0\0\14\12\12\12\3key\22\3abc' > set.bin`:
 *   h2load -t1 -c8 -m16 -n2000000 -d set.bin -H 'content-type: application/grpc' -H 'te: trailers' http://127.0.0.1:3399/bench.Echo/Set
 * Ends at SIGINT or SIGTERM and prints its figures. */
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "rpc/rpc.h"

struct bench {
    struct pool *pool;
};
static struct bench bench; /* handlers get no other way to it than the method's user pointer */

/* Walks the fields as a decoder would. */
static bool fields_are_good(struct bytes message, size_t *byte_count)
{
    struct reader r = reader_of(message);

    while (reader_left(&r) > 0 && !r.failed) {
        uint64_t key = reader_varint(&r);

        if ((key & 7) == 2)
            *byte_count += reader_bytes(&r, (size_t)reader_varint(&r)).len;
        else if ((key & 7) == 0)
            (void)reader_varint(&r);
        else
            return false;
    }
    return reader_done(&r);
}

static void set_answer(struct rpc_call *call)
{
    size_t byte_count = 0;
    uint8_t *answer;

    if (!fields_are_good(rpc_request(call), &byte_count)) {
        rpc_finish_early(call, RPC_INTERNAL, "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data");
        return;
    }
    if ((answer = rpc_message_alloc(call, 150)) == NULL) {
        rpc_finish(call, RPC_RESOURCE_EXHAUSTED, "out of memory", bytes_of(NULL, 0));
        return;
    }
    memset(answer, (int)(byte_count & 0x7f), 150);
    rpc_reply(call, bytes_of(answer, 150));
}

static void on_set(struct rpc_call *call) { set_answer(call); }
static void on_echo(struct rpc_call *call) { rpc_reply(call, rpc_request(call)); }

static void run_job(struct pool_job *job) { set_answer(rpc_call_of_job(job)); }
static void on_pool(struct rpc_call *call)
{
    const struct bench *b = rpc_method(call)->user;
    struct pool_job *job = rpc_job(call);

    job->run = run_job;
    pool_submit(b->pool, job);
}

struct counting {
    uint32_t left;
};
static void produce(struct rpc_call *call)
{
    struct counting *c = rpc_state(call);
    size_t queued = 0;

    while (c->left > 0 && queued < 65536 && !rpc_is_cancelled(call)) {
        uint8_t *message = calloc(1, 1024);

        if (message == NULL)
            break;
        store_u32be(message, c->left--);
        queued = rpc_send_owned(call, message, 1024);
    }
    if (c->left == 0 || queued == 0 || rpc_is_cancelled(call))
        rpc_finish(call, RPC_OK, "", bytes_of(NULL, 0));
    else
        rpc_on_drained(call, 32768, produce);
}
static void on_count(struct rpc_call *call)
{
    struct bytes request = rpc_request(call);
    struct counting *c = arena_zalloc(rpc_arena(call), sizeof(*c));

    if (c == NULL || request.len < 4) {
        rpc_finish(call, RPC_INVALID_ARGUMENT, "four bytes are wanted", bytes_of(NULL, 0));
        return;
    }
    c->left = load_u32be(request.data);
    rpc_set_state(call, c);
    produce(call);
}

static void bidi_message(struct rpc_call *call, struct bytes message)
{
    uint8_t *copy = malloc(message.len + 1);

    if (copy == NULL)
        return;
    if (message.len > 0)
        memcpy(copy, message.data, message.len);
    (void)rpc_send_owned(call, copy, message.len);
}
static void bidi_end(struct rpc_call *call) { rpc_finish(call, RPC_OK, "", bytes_of(NULL, 0)); }
static void on_bidi(struct rpc_call *call) { rpc_on_stream(call, bidi_message, bidi_end); }

static SSL_CTX *tls_context(const char *certificate, const char *key)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    if (ctx == NULL || SSL_CTX_use_certificate_chain_file(ctx, certificate) != 1 || SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1) {
        fprintf(stderr, "can not use %s and %s\n", certificate, key);
        exit(1);
    }
    return ctx;
}

static void print_figures(struct rpc_server *server)
{
    struct rpc_stats stats;
    struct rusage use;
    double cpu_s;

    rpc_server_stats(server, &stats);
    getrusage(RUSAGE_SELF, &use);
    cpu_s = (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) + (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
    printf("%llu calls, %llu connections, %.2f s CPU, %.2f us per call, %ld KiB at most\n", (unsigned long long)stats.calls_total,
           (unsigned long long)stats.connections_total, cpu_s, stats.calls_total == 0 ? 0 : cpu_s * 1e6 / (double)stats.calls_total, use.ru_maxrss);
}

int main(int argc, char **argv)
{
    static const struct rpc_method methods[] = {
        {"/bench.Echo/Set", RPC_UNARY, on_set, NULL},     {"/bench.Echo/Echo", RPC_UNARY, on_echo, NULL},
        {"/bench.Echo/Pool", RPC_UNARY, on_pool, &bench}, {"/bench.Echo/Count", RPC_SERVER_STREAM, on_count, NULL},
        {"/bench.Echo/Bidi", RPC_BIDI, on_bidi, NULL},
    };
    static const char *const services[] = {"bench.Echo"};
    struct budget budget;
    struct rpc_options o = {
        .address = "127.0.0.1",
        .port = 3399,
        .reactors = 1,
        .env = env_system(),
        .budget = &budget,
        .methods = methods,
        .method_count = sizeof(methods) / sizeof(methods[0]),
        .services = services,
        .service_count = 1,
        .header_name = "immudb-uuid",
        .header_value = "c0000000000000000000",
    };
    struct rpc_server *server;
    struct err err;
    sigset_t ends;
    int signal_number;

    if (argc > 1)
        o.port = (uint16_t)atoi(argv[1]);
    if (argc > 2)
        o.reactors = (unsigned)atoi(argv[2]);
    if (argc > 4)
        o.tls = tls_context(argv[3], argv[4]);
    budget_init(&budget, (size_t)1 << 30);
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &ends, NULL);
    if (pool_create("echo", 1, 0, 1000, &bench.pool, &err) != ST_OK || rpc_server_start(&o, &server, &err) != ST_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    printf("port %u\n", rpc_server_port(server));
    fflush(stdout);
    sigwait(&ends, &signal_number);
    print_figures(server);
    rpc_server_stop(server);
    pool_destroy(bench.pool);
    SSL_CTX_free(o.tls);
    return 0;
}
