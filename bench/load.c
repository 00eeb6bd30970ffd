/* Load generator for an immudb-compatible gRPC server: spread and cold keys, any sizes, any concurrency.
 *
 * One thread, one epoll loop, nghttp2's client side over plaintext HTTP/2. Requests are encoded by hand (seven small messages), so that the
 * generator takes as little CPU as it can from the server it shares the machine with. It works against any server that speaks the protocol.
 *
 *   load --port 3322 --op set --connections 8 --streams 16 --seconds 4 --keys 1000000 --key-bytes 18 --value-bytes 128 --order random
 *
 * op: set, set-batch (--batch entries per call), vset, get, vget, getall (--batch keys), scan (--batch entries), fill (sequential set-batch of all
 * keys once). Prints one line: op, calls/s, entries/s, latency p50 p90 p99 p99.9 max in microseconds, failed calls by gRPC status. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum op { OP_SET, OP_SET_BATCH, OP_VSET, OP_GET, OP_VGET, OP_GETALL, OP_SCAN, OP_FILL, OP_COUNT };
static const char *const OP_NAMES[OP_COUNT] = {"set", "set-batch", "vset", "get", "vget", "getall", "scan", "fill"};
static const char *const OP_METHODS[OP_COUNT] = {"Set", "Set", "VerifiableSet", "Get", "VerifiableGet", "GetAll", "Scan", "Set"};

struct options {
    const char *host, *user, *password, *database;
    int port, connections, streams, batch;
    double seconds;
    uint64_t keys;
    size_t key_bytes, value_bytes;
    bool is_random;
    enum op op;
    uint64_t seed;
};

/* Latencies in buckets of 1/16 of a power of two: error below 7 %. */
#define BUCKETS 1024
struct histogram {
    uint64_t counts[BUCKETS], total, max_ns;
};

struct call {
    uint8_t *body; /* frame header and message */
    size_t body_len, body_sent, body_room;
    uint64_t started_ns;
    int status;      /* grpc-status, -1 = none seen */
    uint8_t *answer; /* kept only during login */
    size_t answer_len;
    bool is_used;
};

struct conn {
    int fd;
    nghttp2_session *h2;
    struct call *calls;
    struct bench *bench;
    bool wants_write;
};

struct bench {
    struct options o;
    char authorization[1024];
    char path[128], authority[64];
    struct conn *conns;
    struct histogram latency;
    uint64_t calls_done, entries_done, failed[17], next_key, in_flight, state_tx, rng;
    uint64_t measure_from_ns, end_ns, issued_fill;
    bool is_stopping, keep_answers;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
    fprintf(stderr, "load: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

static void histogram_add(struct histogram *h, uint64_t ns)
{
    unsigned top = ns < 16 ? 0 : 59u - (unsigned)__builtin_clzll(ns);
    size_t bucket = ns < 16 ? (size_t)ns : (size_t)(top + 1) * 16 + ((ns >> top) & 15);
    h->counts[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    h->total++;
    if (ns > h->max_ns)
        h->max_ns = ns;
}

static double histogram_us(const struct histogram *h, double quantile)
{
    uint64_t rank = (uint64_t)((double)h->total * quantile), seen = 0;
    for (size_t b = 0; b < BUCKETS; b++) {
        seen += h->counts[b];
        if (seen > rank)
            return (b < 16 ? (double)b : (double)((16 + (b & 15)) << (b / 16 - 1))) / 1000.0;
    }
    return (double)h->max_ns / 1000.0;
}

/* --- requests --- */
static uint64_t random_next(uint64_t *s)
{
    uint64_t z = (*s += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint8_t *put_varint(uint8_t *p, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        *p++ = (uint8_t)(v | 0x80);
    *p++ = (uint8_t)v;
    return p;
}

static uint8_t *put_bytes(uint8_t *p, unsigned field, const void *data, size_t len)
{
    p = put_varint(p, field << 3 | 2);
    p = put_varint(p, len);
    memcpy(p, data, len);
    return p + len;
}

/* Key number i: digits in front so that numbers sort, then filler to the wanted length. A random order spreads the numbers by a bijection. */
static size_t make_key(const struct options *o, uint64_t i, uint8_t *out)
{
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%012llu", (unsigned long long)i);
    size_t len = o->key_bytes < (size_t)n ? (size_t)n : o->key_bytes;
    memset(out, 'k', len);
    memcpy(out + (len - (size_t)n), digits, (size_t)n);
    return len;
}

static uint64_t pick_key(struct bench *b) { return b->o.is_random ? random_next(&b->rng) % b->o.keys : b->next_key++ % b->o.keys; }

static uint8_t *put_kv(struct bench *b, uint8_t *p, uint64_t i, const uint8_t *value)
{
    uint8_t key[1100], pair_head[16];
    size_t key_len = make_key(&b->o, i, key);
    uint8_t *h = pair_head;
    h = put_varint(h, key_len);
    size_t key_head = 1 + (size_t)(h - pair_head);
    h = put_varint(pair_head, b->o.value_bytes);
    size_t value_head = 1 + (size_t)(h - pair_head);
    p = put_varint(p, 1 << 3 | 2);
    p = put_varint(p, key_head + key_len + value_head + b->o.value_bytes);
    p = put_bytes(p, 1, key, key_len);
    return put_bytes(p, 2, value, b->o.value_bytes);
}

static size_t request_room(const struct options *o)
{
    size_t entry = o->value_bytes + (o->key_bytes < 24 ? 24 : o->key_bytes) + 64;
    return 256 + entry * (size_t)(o->batch < 1 ? 1 : o->batch);
}

static size_t make_request(struct bench *b, uint8_t *out, size_t *entries)
{
    static uint8_t value[1 << 20];
    const struct options *o = &b->o;
    uint8_t *p = out, key[1100], inner[2048];
    size_t len;
    *entries = 1;
    switch (o->op) {
    case OP_SET:
    case OP_SET_BATCH:
    case OP_FILL:
        *entries = o->op == OP_SET ? 1 : (size_t)o->batch;
        for (size_t e = 0; e < *entries; e++) {
            uint64_t i = o->op == OP_FILL ? b->issued_fill++ % o->keys : pick_key(b);
            memset(value, 'v', o->value_bytes < 16 ? o->value_bytes : 16);
            p = put_kv(b, p, i, value);
        }
        break;
    case OP_VSET: {
        uint8_t *kv = malloc(request_room(o)), *q = put_kv(b, kv, pick_key(b), value);
        p = put_bytes(p, 1, kv, (size_t)(q - kv));
        p = put_varint(p, 2 << 3);
        p = put_varint(p, b->state_tx);
        free(kv);
        break;
    }
    case OP_GET:
        len = make_key(o, pick_key(b), key);
        p = put_bytes(p, 1, key, len);
        break;
    case OP_VGET: {
        len = make_key(o, pick_key(b), key);
        uint8_t *q = put_bytes(inner, 1, key, len);
        p = put_bytes(p, 1, inner, (size_t)(q - inner));
        p = put_varint(p, 2 << 3);
        p = put_varint(p, b->state_tx);
        break;
    }
    case OP_GETALL:
        *entries = (size_t)o->batch;
        for (int e = 0; e < o->batch; e++) {
            len = make_key(o, pick_key(b), key);
            p = put_bytes(p, 1, key, len);
        }
        break;
    case OP_SCAN:
        *entries = (size_t)o->batch;
        len = make_key(o, pick_key(b), key);
        p = put_bytes(p, 1, key, len);
        p = put_varint(p, 4 << 3);
        p = put_varint(p, (uint64_t)o->batch);
        p = put_varint(p, 8 << 3);
        p = put_varint(p, 1);
        break;
    default:
        break;
    }
    return (size_t)(p - out);
}

/* --- HTTP/2 --- */
#define NV(n, v) \
    { \
        (uint8_t *)(uintptr_t)(n), (uint8_t *)(uintptr_t)(v), sizeof(n) - 1, strlen(v), NGHTTP2_NV_FLAG_NONE \
    }

static ssize_t on_body(nghttp2_session *s, int32_t id, uint8_t *buf, size_t room, uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct call *c = source->ptr;
    size_t left = c->body_len - c->body_sent, n = left < room ? left : room;
    (void)s, (void)id, (void)user;
    memcpy(buf, c->body + c->body_sent, n);
    c->body_sent += n;
    if (c->body_sent == c->body_len)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

static void submit(struct conn *k, struct call *c, const char *path, size_t message_len)
{
    struct bench *b = k->bench;
    c->body[0] = 0;
    c->body[1] = (uint8_t)(message_len >> 24), c->body[2] = (uint8_t)(message_len >> 16), c->body[3] = (uint8_t)(message_len >> 8),
    c->body[4] = (uint8_t)message_len;
    c->body_len = message_len + 5;
    c->body_sent = 0;
    c->status = -1;
    c->is_used = true;
    c->started_ns = now_ns();
    nghttp2_nv head[] = {NV(":method", "POST"),
                         NV(":scheme", "http"),
                         NV(":path", path),
                         NV(":authority", b->authority),
                         NV("content-type", "application/grpc"),
                         NV("te", "trailers"),
                         NV("authorization", b->authorization)};
    nghttp2_data_provider body = {.source.ptr = c, .read_callback = on_body};
    if (nghttp2_submit_request(k->h2, NULL, head, b->authorization[0] ? 7 : 6, &body, c) < 0)
        die("cannot submit a request");
    b->in_flight++;
}

static void issue(struct conn *k, struct call *c)
{
    struct bench *b = k->bench;
    size_t entries, len;
    if (b->is_stopping || (b->o.op == OP_FILL && b->issued_fill >= b->o.keys)) {
        c->is_used = false;
        return;
    }
    if (c->body == NULL && (c->body = malloc(c->body_room = request_room(&b->o) + 5)) == NULL)
        die("out of memory");
    len = make_request(b, c->body + 5, &entries);
    submit(k, c, b->path, len);
}

static int on_header(nghttp2_session *s, const nghttp2_frame *f, const uint8_t *name, size_t name_len, const uint8_t *value, size_t value_len,
                     uint8_t flags, void *user)
{
    struct call *c = nghttp2_session_get_stream_user_data(s, f->hd.stream_id);
    (void)flags, (void)user;
    if (c != NULL && name_len == 11 && memcmp(name, "grpc-status", 11) == 0 && value_len > 0)
        c->status = atoi((const char *)value);
    return 0;
}

static int on_data(nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *data, size_t len, void *user)
{
    struct conn *k = user;
    struct call *c = nghttp2_session_get_stream_user_data(s, id);
    (void)flags;
    if (c != NULL && k->bench->keep_answers) {
        c->answer = realloc(c->answer, c->answer_len + len);
        memcpy(c->answer + c->answer_len, data, len);
        c->answer_len += len;
    }
    return 0;
}

static int on_close(nghttp2_session *s, int32_t id, uint32_t code, void *user)
{
    struct conn *k = user;
    struct bench *b = k->bench;
    struct call *c = nghttp2_session_get_stream_user_data(s, id);
    uint64_t now = now_ns();
    (void)code;
    if (c == NULL)
        return 0;
    b->in_flight--;
    c->is_used = false;
    if (b->keep_answers)
        return 0;
    if (c->status != 0) {
        b->failed[c->status > 0 && c->status < 17 ? c->status : 2]++;
    } else if (c->started_ns >= b->measure_from_ns && (now <= b->end_ns || b->o.op == OP_FILL)) {
        b->calls_done++;
        b->entries_done += b->o.op == OP_SET || b->o.op == OP_VSET || b->o.op == OP_GET || b->o.op == OP_VGET ? 1 : (uint64_t)b->o.batch;
        histogram_add(&b->latency, now - c->started_ns);
    }
    issue(k, c);
    return 0;
}

static void conn_open(struct bench *b, struct conn *k)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)b->o.port)};
    nghttp2_session_callbacks *cb;
    int one = 1;
    k->bench = b;
    if (inet_pton(AF_INET, b->o.host, &a.sin_addr) != 1)
        die("--host must be a numeric IPv4 address");
    if ((k->fd = socket(AF_INET, SOCK_STREAM, 0)) < 0 || connect(k->fd, (struct sockaddr *)&a, sizeof a) < 0)
        die("cannot connect");
    setsockopt(k->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(k->fd, F_SETFL, O_NONBLOCK);
    nghttp2_session_callbacks_new(&cb);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
    nghttp2_session_client_new(&k->h2, cb, k);
    nghttp2_session_callbacks_del(cb);
    nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 24}, {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1000}};
    nghttp2_submit_settings(k->h2, NGHTTP2_FLAG_NONE, settings, 2);
    nghttp2_session_set_local_window_size(k->h2, NGHTTP2_FLAG_NONE, 0, 1 << 28);
    k->calls = calloc((size_t)b->o.streams, sizeof *k->calls);
}

static void conn_write(struct conn *k)
{
    for (;;) {
        static uint8_t out[1 << 17];
        size_t used = 0;
        const uint8_t *piece;
        ssize_t n;
        while (used < sizeof out - 20000 && (n = nghttp2_session_mem_send(k->h2, &piece)) > 0) {
            if (used + (size_t)n > sizeof out)
                die("frame too large");
            memcpy(out + used, piece, (size_t)n);
            used += (size_t)n;
        }
        if (used == 0)
            return;
        for (size_t at = 0; at < used;) {
            n = write(k->fd, out + at, used - at);
            if (n < 0 && errno == EAGAIN) {
                fd_set set;
                FD_ZERO(&set);
                FD_SET(k->fd, &set);
                select(k->fd + 1, NULL, &set, NULL, NULL);
            } else if (n < 0) {
                die("write");
            } else {
                at += (size_t)n;
            }
        }
    }
}

static void conn_read(struct conn *k)
{
    static uint8_t in[1 << 18];
    ssize_t n = read(k->fd, in, sizeof in);
    if (n == 0)
        die("the server closed a connection");
    if (n < 0 && errno != EAGAIN)
        die("read");
    if (n > 0 && nghttp2_session_mem_recv(k->h2, in, (size_t)n) < 0)
        die("protocol error in an answer");
}

/* One call on the first connection, its answer copied out. */
static size_t call_once(struct bench *b, const char *method, const uint8_t *message, size_t len, uint8_t *answer, size_t room)
{
    struct conn *k = &b->conns[0];
    struct call c = {.body = malloc(len + 5)};
    char path[128];
    size_t n = 0;
    snprintf(path, sizeof path, "/immudb.schema.ImmuService/%s", method);
    memcpy(c.body + 5, message, len);
    b->keep_answers = true;
    submit(k, &c, path, len);
    while (c.is_used) {
        conn_write(k);
        struct timeval t = {10, 0};
        fd_set set;
        FD_ZERO(&set);
        FD_SET(k->fd, &set);
        if (select(k->fd + 1, &set, NULL, NULL, &t) <= 0)
            die("no answer to a call");
        conn_read(k);
    }
    b->keep_answers = false;
    if (c.status != 0) {
        fprintf(stderr, "load: %s failed with status %d\n", method, c.status);
        exit(1);
    }
    if (c.answer_len > 5 && (n = c.answer_len - 5) <= room)
        memcpy(answer, c.answer + 5, n);
    free(c.answer);
    free(c.body);
    return n;
}

/* Field number's bytes in a flat message. */
static size_t find_field(const uint8_t *m, size_t len, unsigned field, const uint8_t **out, uint64_t *number)
{
    for (size_t at = 0; at < len;) {
        unsigned tag = m[at++];
        uint64_t v = 0;
        for (unsigned shift = 0; at < len && shift < 64; shift += 7) {
            v |= (uint64_t)(m[at] & 0x7f) << shift;
            if (!(m[at++] & 0x80))
                break;
        }
        if ((tag & 7) == 2) {
            if (tag >> 3 == field) {
                *out = m + at;
                return (size_t)v;
            }
            at += (size_t)v;
        } else if (tag >> 3 == field) {
            *number = v;
            return 0;
        }
    }
    return 0;
}

static void log_in(struct bench *b)
{
    uint8_t message[512], answer[4096], *p = message;
    const uint8_t *token = NULL;
    uint64_t number = 0;
    size_t n;
    p = put_bytes(p, 1, b->o.user, strlen(b->o.user));
    p = put_bytes(p, 2, b->o.password, strlen(b->o.password));
    n = call_once(b, "Login", message, (size_t)(p - message), answer, sizeof answer);
    n = find_field(answer, n, 1, &token, &number);
    snprintf(b->authorization, sizeof b->authorization, "Bearer %.*s", (int)n, token == NULL ? "" : (const char *)token);
    p = put_bytes(message, 1, b->o.database, strlen(b->o.database));
    n = call_once(b, "UseDatabase", message, (size_t)(p - message), answer, sizeof answer);
    n = find_field(answer, n, 1, &token, &number);
    snprintf(b->authorization, sizeof b->authorization, "Bearer %.*s", (int)n, token == NULL ? "" : (const char *)token);
    n = call_once(b, "CurrentState", message, 0, answer, sizeof answer);
    find_field(answer, n, 2, &token, &b->state_tx);
}

static void run(struct bench *b)
{
    int ep = epoll_create1(0);
    struct epoll_event events[64];
    uint64_t start = now_ns(), warm = b->o.op == OP_FILL ? 0 : 500000000u;
    b->measure_from_ns = start + warm;
    b->end_ns = b->o.op == OP_FILL ? UINT64_MAX : b->measure_from_ns + (uint64_t)(b->o.seconds * 1e9);
    for (int i = 0; i < b->o.connections; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &b->conns[i]};
        epoll_ctl(ep, EPOLL_CTL_ADD, b->conns[i].fd, &e);
        for (int s = 0; s < b->o.streams; s++)
            issue(&b->conns[i], &b->conns[i].calls[s]);
        conn_write(&b->conns[i]);
    }
    while (b->in_flight > 0) {
        int n = epoll_wait(ep, events, 64, 1000);
        uint64_t now = now_ns();
        if (now >= b->end_ns)
            b->is_stopping = true;
        if (b->is_stopping && now > b->end_ns + 30000000000u)
            die("calls were not answered within 30 s");
        for (int i = 0; i < n; i++) {
            conn_read(events[i].data.ptr);
            conn_write(events[i].data.ptr);
        }
    }
    if (b->o.op == OP_FILL)
        b->o.seconds = (double)(now_ns() - start) / 1e9;
    close(ep);
}

static void report(const struct bench *b)
{
    uint64_t failed = 0;
    for (int i = 0; i < 17; i++)
        failed += b->failed[i];
    printf("%-10s c%-4d %10.0f calls/s %12.0f entries/s  p50 %.0f p90 %.0f p99 %.0f p99.9 %.0f max %.0f us  failed %llu", OP_NAMES[b->o.op],
           b->o.connections * b->o.streams, (double)b->calls_done / b->o.seconds, (double)b->entries_done / b->o.seconds,
           histogram_us(&b->latency, 0.5), histogram_us(&b->latency, 0.9), histogram_us(&b->latency, 0.99), histogram_us(&b->latency, 0.999),
           (double)b->latency.max_ns / 1000.0, (unsigned long long)failed);
    for (int i = 0; i < 17; i++)
        if (b->failed[i] > 0)
            printf(" status%d:%llu", i, (unsigned long long)b->failed[i]);
    printf("\n");
}

int main(int argc, char **argv)
{
    static const struct option names[] = {{"host", 1, 0, 'h'},     {"port", 1, 0, 'p'},  {"user", 1, 0, 'u'},        {"password", 1, 0, 'w'},
                                          {"database", 1, 0, 'd'}, {"op", 1, 0, 'o'},    {"connections", 1, 0, 'c'}, {"streams", 1, 0, 'm'},
                                          {"seconds", 1, 0, 's'},  {"keys", 1, 0, 'k'},  {"key-bytes", 1, 0, 'K'},   {"value-bytes", 1, 0, 'V'},
                                          {"order", 1, 0, 'r'},    {"batch", 1, 0, 'b'}, {"seed", 1, 0, 'S'},        {0, 0, 0, 0}};
    static struct bench b = {.o = {.host = "127.0.0.1",
                                   .user = "immudb",
                                   .password = "immudb",
                                   .database = "defaultdb",
                                   .port = 3322,
                                   .connections = 1,
                                   .streams = 1,
                                   .batch = 1000,
                                   .seconds = 4,
                                   .keys = 10000,
                                   .key_bytes = 18,
                                   .value_bytes = 128,
                                   .is_random = true,
                                   .op = OP_GET,
                                   .seed = 1}};
    int c;
    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (c) {
        case 'h':
            b.o.host = optarg;
            break;
        case 'p':
            b.o.port = atoi(optarg);
            break;
        case 'u':
            b.o.user = optarg;
            break;
        case 'w':
            b.o.password = optarg;
            break;
        case 'd':
            b.o.database = optarg;
            break;
        case 'c':
            b.o.connections = atoi(optarg);
            break;
        case 'm':
            b.o.streams = atoi(optarg);
            break;
        case 's':
            b.o.seconds = atof(optarg);
            break;
        case 'k':
            b.o.keys = strtoull(optarg, NULL, 10);
            break;
        case 'K':
            b.o.key_bytes = strtoull(optarg, NULL, 10);
            break;
        case 'V':
            b.o.value_bytes = strtoull(optarg, NULL, 10);
            break;
        case 'r':
            b.o.is_random = strcmp(optarg, "random") == 0;
            break;
        case 'b':
            b.o.batch = atoi(optarg);
            break;
        case 'S':
            b.o.seed = strtoull(optarg, NULL, 10);
            break;
        case 'o':
            for (b.o.op = 0; b.o.op < OP_COUNT && strcmp(optarg, OP_NAMES[b.o.op]) != 0; b.o.op++)
                ;
            break;
        default:
            return 2;
        }
    }
    if (b.o.op == OP_COUNT || b.o.connections < 1 || b.o.streams < 1 || b.o.keys < 1 || b.o.batch < 1 || b.o.key_bytes > 1023 ||
        b.o.value_bytes > 1 << 20) {
        fprintf(stderr, "load: an option is out of range (op, connections, streams, keys, batch >= 1; key-bytes <= 1023; value-bytes <= 1048576)\n");
        return 2;
    }
    b.rng = b.o.seed;
    snprintf(b.path, sizeof b.path, "/immudb.schema.ImmuService/%s", OP_METHODS[b.o.op]);
    snprintf(b.authority, sizeof b.authority, "%s:%d", b.o.host, b.o.port);
    b.conns = calloc((size_t)b.o.connections, sizeof *b.conns);
    for (int i = 0; i < b.o.connections; i++)
        conn_open(&b, &b.conns[i]);
    log_in(&b);
    run(&b);
    report(&b);
    return 0;
}
