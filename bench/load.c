/* Load generator for an immudb-compatible gRPC server: spread and cold keys, any sizes, any concurrency.
 *
 * One thread, one epoll loop, nghttp2's client side over plaintext HTTP/2. Requests are encoded by hand (a dozen small messages), so that the
 * generator takes as little CPU as it can from the server it shares the machine with. It works against any server that speaks the protocol.
 *
 *   load --port 3322 --op set --connections 8 --streams 16 --seconds 4 --keys 1000000 --key-bytes 18 --value-bytes 128 --order random
 *
 * op         what one call does
 *   set, vset, get, vget    one key, of --keys
 *   set-batch, getall       --batch different keys
 *   fill                    sequential set-batch of all keys, once
 *   scan                    --batch entries from a key on
 *   zscan                   --batch members of a sorted set, which is made first
 *   history                 --batch versions of one key, which are written first
 *   stream-set, stream-get  one value of --value-bytes, in pieces of 64 KiB
 *   state                   the current state (signed when the server has a key)
 *   sessions                opens --sessions sessions once and holds them; with --pid the server's memory per session is printed
 *
 * Prints one line: op, calls/s, entries/s, latency p50 p90 p99 p99.9 max in microseconds, failed calls by gRPC status. Ends with 1 when no call
 * succeeded. */
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

enum op {
    OP_SET,
    OP_SET_BATCH,
    OP_VSET,
    OP_GET,
    OP_VGET,
    OP_GETALL,
    OP_SCAN,
    OP_FILL,
    OP_ZSCAN,
    OP_HISTORY,
    OP_STREAM_SET,
    OP_STREAM_GET,
    OP_STATE,
    OP_SESSIONS,
    OP_COUNT
};
static const struct {
    const char *name, *method;
} OPS[OP_COUNT] = {{"set", "Set"},
                   {"set-batch", "Set"},
                   {"vset", "VerifiableSet"},
                   {"get", "Get"},
                   {"vget", "VerifiableGet"},
                   {"getall", "GetAll"},
                   {"scan", "Scan"},
                   {"fill", "Set"},
                   {"zscan", "ZScan"},
                   {"history", "History"},
                   {"stream-set", "streamSet"},
                   {"stream-get", "streamGet"},
                   {"state", "CurrentState"},
                   {"sessions", "OpenSession"}};

enum { PIECE_BYTES = 1 << 16, VALUE_BYTES_MAX = 1 << 20, STREAM_BYTES_MAX = 1 << 25, KEY_ROOM = 1100 };

struct options {
    const char *host, *user, *password, *database;
    int port, connections, streams, batch;
    double seconds;
    uint64_t keys, sessions;
    int pid; /* of the server, 0 = not given */
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
    uint8_t *body; /* messages with their prefixes */
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
    uint64_t measure_from_ns, end_ns, issued; /* issued: keys of fill, sessions */
    uint64_t stride;                          /* between the keys of one call */
    uint8_t *stream_body;                     /* StreamSet's, shared by all calls */
    size_t stream_len;
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

static bool is_once(const struct bench *b) { return b->o.op == OP_FILL || b->o.op == OP_SESSIONS; }
static bool is_stream(const struct bench *b) { return b->o.op == OP_STREAM_SET || b->o.op == OP_STREAM_GET; }

static uint64_t gcd(uint64_t a, uint64_t b) { return b == 0 ? a : gcd(b, a % b); }

/* A step that visits all keys before it comes back to the first, and leaps about: keys of one call must differ, and should not be neighbours. */
static uint64_t stride_of(uint64_t keys)
{
    uint64_t stride = (uint64_t)((double)keys * 0.6180339887) | 1;
    while (gcd(stride, keys) != 1)
        stride++;
    return stride;
}

static uint64_t pick_key(struct bench *b) { return b->o.is_random ? random_next(&b->rng) % b->o.keys : b->next_key++ % b->o.keys; }

/* The e-th key of a call whose first is `first`. */
static uint64_t key_of_call(struct bench *b, uint64_t first, uint64_t e)
{
    return b->o.is_random ? (first + e * b->stride) % b->o.keys : e == 0 ? first : pick_key(b);
}

static const uint8_t *value_bytes(void)
{
    static uint8_t value[VALUE_BYTES_MAX];
    memset(value, 'v', 16);
    return value;
}

/* A key-value pair of the given key as field 1. */
static uint8_t *put_pair(const struct options *o, uint8_t *p, const uint8_t *key, size_t key_len)
{
    uint8_t pair_head[16];
    uint8_t *h = put_varint(pair_head, key_len);
    size_t key_head = 1 + (size_t)(h - pair_head);
    h = put_varint(pair_head, o->value_bytes);
    size_t value_head = 1 + (size_t)(h - pair_head);
    p = put_varint(p, 1 << 3 | 2);
    p = put_varint(p, key_head + key_len + value_head + o->value_bytes);
    p = put_bytes(p, 1, key, key_len);
    return put_bytes(p, 2, value_bytes(), o->value_bytes);
}

static uint8_t *put_kv(struct bench *b, uint8_t *p, uint64_t i)
{
    uint8_t key[KEY_ROOM];
    size_t key_len = make_key(&b->o, i, key);
    return put_pair(&b->o, p, key, key_len);
}

static size_t request_room(const struct options *o)
{
    size_t entry = (o->op == OP_STREAM_SET || o->op == OP_STREAM_GET ? 0 : o->value_bytes) + (o->key_bytes < 24 ? 24 : o->key_bytes) + 64;
    return 256 + entry * (size_t)(o->batch < 1 ? 1 : o->batch);
}

/* Of one call. */
static uint64_t entries_of(const struct bench *b)
{
    switch (b->o.op) {
    case OP_SET_BATCH:
    case OP_FILL:
    case OP_GETALL:
    case OP_SCAN:
    case OP_ZSCAN:
    case OP_HISTORY:
        return (uint64_t)b->o.batch;
    default:
        return 1;
    }
}

static size_t make_request(struct bench *b, uint8_t *out)
{
    const struct options *o = &b->o;
    uint8_t *p = out, key[KEY_ROOM], inner[2048];
    uint64_t first, entries = entries_of(b);
    size_t len;
    switch (o->op) {
    case OP_SET:
    case OP_SET_BATCH:
        first = pick_key(b);
        for (uint64_t e = 0; e < entries; e++)
            p = put_kv(b, p, key_of_call(b, first, e));
        break;
    case OP_FILL:
        for (uint64_t e = 0; e < entries; e++)
            p = put_kv(b, p, b->issued++ % o->keys);
        break;
    case OP_VSET: {
        uint8_t *kv = malloc(request_room(o)), *q = put_kv(b, kv, pick_key(b));
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
        first = pick_key(b);
        for (uint64_t e = 0; e < entries; e++) {
            len = make_key(o, key_of_call(b, first, e), key);
            p = put_bytes(p, 1, key, len);
        }
        break;
    case OP_SCAN:
        len = make_key(o, pick_key(b), key);
        p = put_bytes(p, 1, key, len);
        p = put_varint(p, 4 << 3);
        p = put_varint(p, (uint64_t)o->batch);
        p = put_varint(p, 8 << 3);
        p = put_varint(p, 1);
        break;
    case OP_ZSCAN:
        p = put_bytes(p, 1, "load set", 8);
        p = put_varint(p, 6 << 3);
        p = put_varint(p, entries);
        break;
    case OP_HISTORY:
        p = put_bytes(p, 1, "load history", 12);
        p = put_varint(p, 3 << 3);
        p = put_varint(p, entries);
        break;
    case OP_STREAM_GET:
        p = put_bytes(p, 1, "load stream", 11);
        break;
    case OP_SESSIONS:
        b->issued++;
        p = put_bytes(p, 1, o->user, strlen(o->user));
        p = put_bytes(p, 2, o->password, strlen(o->password));
        p = put_bytes(p, 3, o->database, strlen(o->database));
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

/* The prefix of a gRPC message. */
static void put_prefix(uint8_t *p, size_t len)
{
    p[0] = 0;
    p[1] = (uint8_t)(len >> 24), p[2] = (uint8_t)(len >> 16), p[3] = (uint8_t)(len >> 8), p[4] = (uint8_t)len;
}

static void submit(struct conn *k, struct call *c, const char *path)
{
    struct bench *b = k->bench;
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
    if (b->is_stopping || (is_once(b) && b->issued >= (b->o.op == OP_FILL ? b->o.keys : b->o.sessions))) {
        c->is_used = false;
        return;
    }
    if (b->o.op == OP_STREAM_SET) {
        c->body = b->stream_body;
        c->body_len = b->stream_len;
    } else {
        if (c->body == NULL && (c->body = malloc(c->body_room = request_room(&b->o) + 5)) == NULL)
            die("out of memory");
        c->body_len = 5 + make_request(b, c->body + 5);
        put_prefix(c->body, c->body_len - 5);
    }
    submit(k, c, b->path);
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
    } else if (c->started_ns >= b->measure_from_ns && (now <= b->end_ns || is_once(b))) {
        b->calls_done++;
        b->entries_done += entries_of(b);
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

/* One call on the first connection; its body is set. */
static void call_wait(struct bench *b, const char *method, struct call *c)
{
    struct conn *k = &b->conns[0];
    char path[128];
    snprintf(path, sizeof path, "/immudb.schema.ImmuService/%s", method);
    b->keep_answers = true;
    submit(k, c, path);
    while (c->is_used) {
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
    if (c->status != 0) {
        fprintf(stderr, "load: %s failed with status %d\n", method, c->status);
        exit(1);
    }
}

/* The same with one message, its answer copied out. */
static size_t call_once(struct bench *b, const char *method, const uint8_t *message, size_t len, uint8_t *answer, size_t room)
{
    struct call c = {.body = malloc(len + 5), .body_len = len + 5};
    size_t n = 0;
    if (c.body == NULL)
        die("out of memory");
    put_prefix(c.body, len);
    memcpy(c.body + 5, message, len);
    call_wait(b, method, &c);
    if (c.answer_len > 5 && (n = c.answer_len - 5) <= room && answer != NULL)
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

/* --- what has to be there before --- */

/* --batch members with their keys, a hundred per transaction. */
static void make_set(struct bench *b)
{
    uint8_t *message = malloc(100 * (request_room(&b->o) + 2 * KEY_ROOM)), *op = malloc(request_room(&b->o) + KEY_ROOM), key[KEY_ROOM], zadd[2048];
    if (message == NULL || op == NULL)
        die("out of memory");
    for (int at = 0; at < b->o.batch;) {
        uint8_t *p = message;
        for (int i = 0; i < 100 && at < b->o.batch; i++, at++) {
            double score = at;
            size_t len = make_key(&b->o, (uint64_t)at, key);
            uint8_t *q = put_pair(&b->o, op, key, len), *z = put_bytes(zadd, 1, "load set", 8);
            p = put_bytes(p, 1, op, (size_t)(q - op));
            z = put_varint(z, 2 << 3 | 1);
            memcpy(z, &score, 8); /* little-endian, as on the wire */
            z = put_bytes(z + 8, 3, key, len);
            q = put_bytes(op, 2, zadd, (size_t)(z - zadd));
            p = put_bytes(p, 1, op, (size_t)(q - op));
        }
        call_once(b, "ExecAll", message, (size_t)(p - message), NULL, 0);
    }
    free(message);
    free(op);
}

static void make_history(struct bench *b)
{
    uint8_t *message = malloc(request_room(&b->o) + KEY_ROOM);
    if (message == NULL)
        die("out of memory");
    for (int i = 0; i < b->o.batch; i++) {
        uint8_t *p = put_pair(&b->o, message, (const uint8_t *)"load history", 12);
        call_once(b, "Set", message, (size_t)(p - message), NULL, 0);
    }
    free(message);
}

static uint8_t *put_u64be(uint8_t *p, uint64_t v)
{
    for (int shift = 56; shift >= 0; shift -= 8)
        *p++ = (uint8_t)(v >> shift);
    return p;
}

/* Key and value, each behind its length, cut into messages. */
static void make_stream(struct bench *b)
{
    size_t len = 8 + 11 + 8 + b->o.value_bytes;
    uint8_t *bytes = malloc(len), *p;
    b->stream_body = malloc(len + (len / PIECE_BYTES + 1) * 16);
    if (bytes == NULL || b->stream_body == NULL)
        die("out of memory");
    p = put_u64be(bytes, 11);
    memcpy(p, "load stream", 11);
    p = put_u64be(p + 11, b->o.value_bytes);
    memset(p, 'v', b->o.value_bytes);
    p = b->stream_body;
    for (size_t at = 0; at < len; at += PIECE_BYTES) {
        uint8_t *end = put_bytes(p + 5, 1, bytes + at, len - at < PIECE_BYTES ? len - at : PIECE_BYTES);
        put_prefix(p, (size_t)(end - p - 5));
        p = end;
    }
    b->stream_len = (size_t)(p - b->stream_body);
    free(bytes);
}

static void prepare(struct bench *b)
{
    struct call c = {0};
    b->stride = stride_of(b->o.keys);
    if (b->o.op == OP_ZSCAN)
        make_set(b);
    if (b->o.op == OP_HISTORY)
        make_history(b);
    if (is_stream(b))
        make_stream(b);
    if (b->o.op == OP_STREAM_GET) {
        c.body = b->stream_body;
        c.body_len = b->stream_len;
        call_wait(b, "streamSet", &c);
        free(c.answer);
    }
    if (b->o.op == OP_SESSIONS)
        b->authorization[0] = '\0';
}

/* Resident memory of the server in KiB; 0 when it can not be read. */
static long rss_kib(int pid)
{
    char path[64], line[256];
    long kib = 0;
    FILE *f;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    if (pid == 0 || (f = fopen(path, "r")) == NULL)
        return 0;
    while (kib == 0 && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, "VmRSS:", 6) == 0)
            kib = atol(line + 6);
    fclose(f);
    return kib;
}

static void run(struct bench *b)
{
    int ep = epoll_create1(0);
    struct epoll_event events[64];
    uint64_t start = now_ns(), warm = is_once(b) ? 0 : 500000000u;
    b->measure_from_ns = start + warm;
    b->end_ns = is_once(b) ? UINT64_MAX : b->measure_from_ns + (uint64_t)(b->o.seconds * 1e9);
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
    if (is_once(b))
        b->o.seconds = (double)(now_ns() - start) / 1e9;
    close(ep);
}

static void report(const struct bench *b)
{
    uint64_t failed = 0;
    for (int i = 0; i < 17; i++)
        failed += b->failed[i];
    printf("%-10s c%-4d %10.0f calls/s %12.0f entries/s  p50 %.0f p90 %.0f p99 %.0f p99.9 %.0f max %.0f us  failed %llu", OPS[b->o.op].name,
           b->o.connections * b->o.streams, (double)b->calls_done / b->o.seconds, (double)b->entries_done / b->o.seconds,
           histogram_us(&b->latency, 0.5), histogram_us(&b->latency, 0.9), histogram_us(&b->latency, 0.99), histogram_us(&b->latency, 0.999),
           (double)b->latency.max_ns / 1000.0, (unsigned long long)failed);
    for (int i = 0; i < 17; i++)
        if (b->failed[i] > 0)
            printf(" status%d:%llu", i, (unsigned long long)b->failed[i]);
    if (is_stream(b))
        printf("  %.0f MiB/s", (double)b->calls_done * (double)b->o.value_bytes / b->o.seconds / 1048576.0);
}

int main(int argc, char **argv)
{
    static const struct option names[] = {{"host", 1, 0, 'h'},     {"port", 1, 0, 'p'},  {"user", 1, 0, 'u'},        {"password", 1, 0, 'w'},
                                          {"database", 1, 0, 'd'}, {"op", 1, 0, 'o'},    {"connections", 1, 0, 'c'}, {"streams", 1, 0, 'm'},
                                          {"seconds", 1, 0, 's'},  {"keys", 1, 0, 'k'},  {"key-bytes", 1, 0, 'K'},   {"value-bytes", 1, 0, 'V'},
                                          {"order", 1, 0, 'r'},    {"batch", 1, 0, 'b'}, {"seed", 1, 0, 'S'},        {"sessions", 1, 0, 'n'},
                                          {"pid", 1, 0, 'P'},      {0, 0, 0, 0}};
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
                                   .sessions = 100,
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
        case 'n':
            b.o.sessions = strtoull(optarg, NULL, 10);
            break;
        case 'P':
            b.o.pid = atoi(optarg);
            break;
        case 'o':
            for (b.o.op = 0; b.o.op < OP_COUNT && strcmp(optarg, OPS[b.o.op].name) != 0; b.o.op++)
                ;
            break;
        default:
            return 2;
        }
    }
    if (b.o.op == OP_COUNT || b.o.connections < 1 || b.o.streams < 1 || b.o.keys < 1 || b.o.batch < 1 || b.o.key_bytes > 1023 ||
        b.o.value_bytes > (is_stream(&b) ? STREAM_BYTES_MAX : VALUE_BYTES_MAX) || b.o.sessions < 1) {
        fprintf(stderr, "load: an option is out of range (op, connections, streams, keys, batch, sessions >= 1; key-bytes <= 1023; value-bytes <= "
                        "1048576, of streams 33554432)\n");
        return 2;
    }
    if ((b.o.op == OP_SET_BATCH || b.o.op == OP_FILL) && (uint64_t)b.o.batch > b.o.keys) {
        fprintf(stderr, "load: --batch is more than --keys, but the keys of one call must differ\n");
        return 2;
    }
    b.rng = b.o.seed;
    snprintf(b.path, sizeof b.path, "/immudb.schema.ImmuService/%s", OPS[b.o.op].method);
    snprintf(b.authority, sizeof b.authority, "%s:%d", b.o.host, b.o.port);
    b.conns = calloc((size_t)b.o.connections, sizeof *b.conns);
    for (int i = 0; i < b.o.connections; i++)
        conn_open(&b, &b.conns[i]);
    log_in(&b);
    prepare(&b);
    long before = rss_kib(b.o.pid);
    run(&b);
    report(&b);
    long after = rss_kib(b.o.pid);
    if (b.o.op == OP_SESSIONS && before > 0 && b.calls_done > 0)
        printf("  %llu sessions held: RSS %ld -> %ld KiB, %.2f KiB each", (unsigned long long)b.calls_done, before, after,
               (double)(after - before) / (double)b.calls_done);
    printf("\n");
    return b.calls_done > 0 ? 0 : 1;
}
