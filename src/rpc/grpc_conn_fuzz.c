/* Fuzz target: a connection that is fed anything.
 *
 * The input is a script: byte 0 says how the handlers behave, byte 1 into pieces of what size the rest is cut; then come the
 * client's bytes as they are (with the preface put in front when bit 7 of byte 0 is set, so that the fuzzer need not find it).
 * Between the pieces output is pulled, time passes, and calls that are held are answered, paused, resumed and finished by a
 * schedule drawn from the input. Afterwards nothing may be left: no call, no byte of budget. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "rpc/grpc_call.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define HELD_MAX 1024

struct world {
    uint64_t now_ns, random;
    uint8_t behaviour;
    struct rpc_call *held[HELD_MAX];
    size_t held_count;
    bool is_unused;
    uint64_t ended;
};
static struct world *world; /* one at a time */

static uint64_t world_mono(void *ctx) { return ((struct world *)ctx)->now_ns; }
static int64_t world_wall(void *ctx) { return (int64_t)((struct world *)ctx)->now_ns; }
static void world_random(void *ctx, void *out, size_t len)
{
    (void)ctx;
    memset(out, 1, len);
}
static void world_log(void *ctx, enum log_level level, const char *text)
{
    (void)ctx;
    (void)level;
    (void)text;
}
static unsigned roll(unsigned n)
{
    world->random = world->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (unsigned)(world->random >> 33) % n;
}

static void drop(struct rpc_call *call)
{
    for (size_t i = 0; i < world->held_count; i++)
        if (world->held[i] == call) {
            world->held[i] = world->held[--world->held_count];
            return;
        }
}

static void hold(struct rpc_call *call)
{
    assert(world->held_count < HELD_MAX);
    world->held[world->held_count++] = call;
}

static void answer(struct rpc_call *call)
{
    static const uint8_t some[70000];
    struct err err;
    uint8_t *owned;

    switch (roll(7)) {
    case 0:
        rpc_reply(call, bytes_of(some, roll(sizeof(some))));
        break;
    case 1:
        rpc_finish(call, RPC_NOT_FOUND, "text\n%", bytes_of(some, roll(30)));
        break;
    case 2:
        rpc_finish_early(call, RPC_INTERNAL, "early");
        break;
    case 3:
        rpc_send(call, bytes_of(some, roll(100)));
        rpc_send(call, bytes_of(some, roll(20000)));
        rpc_finish(call, RPC_OK, "", bytes_of(NULL, 0));
        break;
    case 4:
        if ((owned = calloc(1, 500)) != NULL)
            rpc_send_owned(call, owned, 500);
        hold(call);
        return;
    case 5:
        (void)!rpc_trailer(call, "x-bin", bytes_of(some, 10), &err);
        rpc_finish(call, RPC_ABORTED, NULL, bytes_of(NULL, 0));
        break;
    default:
        hold(call);
        return;
    }
}

static void on_drained(struct rpc_call *call) { rpc_send(call, bytes_str("more")); }
static void on_message(struct rpc_call *call, struct bytes message)
{
    uint8_t sum = 0;

    for (size_t i = 0; i < message.len; i++) /* every byte must be readable */
        sum = (uint8_t)(sum + message.data[i]);
    if ((sum + roll(8)) % 8 == 0)
        rpc_pause(call);
    if (roll(16) == 0) {
        drop(call);
        answer(call);
    }
}
static void on_half_close(struct rpc_call *call)
{
    (void)rpc_is_cancelled(call);
    if (roll(2) == 0) {
        drop(call);
        answer(call);
    }
}
static void on_cancel(struct rpc_call *call)
{
    if (roll(2) == 0) {
        drop(call);
        rpc_finish(call, RPC_OK, "", bytes_of(NULL, 0));
    }
}
static void on_unary(struct rpc_call *call)
{
    struct bytes request = rpc_request(call);
    volatile uint8_t last = request.len > 0 ? request.data[request.len - 1] : 0;

    (void)last;
    (void)rpc_metadata(call, "x-bin");
    if (world->behaviour & 1)
        rpc_on_cancel(call, on_cancel);
    if (world->behaviour & 2)
        rpc_on_drained(call, 100, on_drained);
    if (world->behaviour & 4)
        hold(call);
    else
        answer(call);
}
static void on_stream(struct rpc_call *call)
{
    rpc_on_stream(call, on_message, on_half_close);
    if (world->behaviour & 1)
        rpc_on_cancel(call, on_cancel);
    hold(call);
}

static void on_end(void *ctx, struct rpc_call *call, enum rpc_code code, const char *message)
{
    (void)call;
    assert(code <= RPC_UNAUTHENTICATED && message != NULL);
    ((struct world *)ctx)->ended++;
}
static void on_unused(struct grpc_conn *c)
{
    (void)c;
    world->is_unused = true;
}

static const struct rpc_method methods[] = {
    {"/s/u", RPC_UNARY, on_unary, NULL},
    {"/s/s", RPC_SERVER_STREAM, on_unary, NULL},
    {"/s/c", RPC_CLIENT_STREAM, on_stream, NULL},
    {"/s/b", RPC_BIDI, on_stream, NULL},
};
static const char *const services[] = {"s"};

/* Something happens on the server's side. */
static void stir(struct grpc_host *h, struct grpc_conn *c)
{
    if (world->held_count > 0) {
        struct rpc_call *call = world->held[roll((unsigned)world->held_count)];

        switch (roll(4)) {
        case 0:
            rpc_resume(call);
            break;
        case 1:
            rpc_pause(call);
            break;
        case 2:
            drop(call);
            answer(call);
            break;
        default:
            break;
        }
    }
    grpc_host_run_posted(h);
    if (roll(8) == 0) {
        world->now_ns += roll(2) == 0 ? UINT64_C(5000000) : UINT64_C(40000000000);
        h->now_ns = world->now_ns;
        timers_run(&h->timers, h->now_ns);
        (void)grpc_conn_watch(c);
    }
    if (roll(64) == 0)
        grpc_conn_drain(c);
}

static void converse(struct grpc_host *h, struct grpc_conn *c, const uint8_t *data, size_t len, size_t piece)
{
    static uint8_t out[100000];
    bool is_good = true;

    while (is_good && len > 0) {
        size_t n = len < piece ? len : piece;

        is_good = grpc_conn_feed(c, data, n);
        data += n;
        len -= n;
        stir(h, c);
        if (roll(4) != 0)
            while (grpc_conn_pull(c, out, sizeof(out)) > 0)
                ;
        grpc_conn_untouch(c);
    }
    while (grpc_conn_pull(c, out, sizeof(out)) > 0)
        ;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const char preface[] = NGHTTP2_CLIENT_MAGIC "\0\0\0\4\0\0\0\0\0";
    struct world w = {.now_ns = UINT64_C(1000000000000), .random = 1};
    struct env env = {&w, world_wall, world_mono, world_random, world_log};
    struct grpc_service *service = NULL;
    struct grpc_host host = {0};
    struct grpc_conn conn = {0};
    struct budget budget;
    struct err err;

    if (len < 2)
        return 0;
    world = &w;
    w.behaviour = data[0];
    for (size_t i = 0; i < len; i++)
        w.random = w.random * 31 + data[i];
    /* A small budget now and then: waiting, refusals and the reserve. */
    budget_init(&budget, (data[0] & 8) ? (size_t)2 << 20 : (size_t)1 << 30);
    struct rpc_options o = {
        .env = &env,
        .budget = &budget,
        .methods = methods,
        .method_count = 4,
        .services = services,
        .service_count = 1,
        .header_name = "immudb-uuid",
        .header_value = "c0000000000000000000",
        .on_end = on_end,
        .ctx = &w,
        .limits = {.message_bytes_max = 300000, .stream_window_bytes = 100000},
    };
    if (grpc_service_open(&o, &service, &err) != ST_OK || grpc_host_open(&host, service, 0, NULL, &err) != ST_OK)
        abort();
    conn.on_unused = on_unused;
    if (grpc_conn_open(&conn, &host, &err) != ST_OK)
        abort();
    if (data[0] & 0x80)
        (void)grpc_conn_feed(&conn, (const uint8_t *)preface, sizeof(preface) - 1);
    converse(&host, &conn, data + 2, len - 2, data[1] == 0 ? SIZE_MAX : data[1]);
    grpc_conn_close(&conn);
    while (w.held_count > 0) {
        struct rpc_call *call = w.held[w.held_count - 1];

        w.held_count--;
        rpc_finish(call, RPC_OK, "", bytes_of(NULL, 0));
        grpc_host_run_posted(&host);
    }
    grpc_host_run_posted(&host);
    if (!w.is_unused || host.counters.calls_running != 0 || host.counters.streams_open != 0)
        abort();
    grpc_host_close(&host);
    if (budget_total(&budget) != 0)
        abort();
    grpc_service_close(service);
    return 0;
}
