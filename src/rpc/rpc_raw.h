/* For tests alone: a client that writes its frames by hand, whatever they are, to the connection of an rpc_rig. */
#ifndef RPC_RPC_RAW_H
#define RPC_RPC_RAW_H

#include "rpc/rpc_rig.h"

struct raw {
    struct rig *rig;
    uint8_t bytes[1 << 17];
    size_t len;
    uint32_t goaway_error;
    bool has_goaway;
    unsigned frames[16], rst_refused; /* what came back, by type */
    uint32_t rst_code, rst_stream;
};

static inline void raw_frame(struct raw *w, uint8_t type, uint8_t flags, uint32_t stream, const void *payload, size_t len)
{
    uint8_t *p = w->bytes + w->len;

    assert_true(w->len + 9 + len <= sizeof(w->bytes));
    p[0] = (uint8_t)(len >> 16);
    p[1] = (uint8_t)(len >> 8);
    p[2] = (uint8_t)len;
    p[3] = type;
    p[4] = flags;
    store_u32be(p + 5, stream);
    if (len > 0)
        memcpy(p + 9, payload, len);
    w->len += 9 + len;
}

/* Feeds what was written; reads the frames that come back when `reads`. False once the server gave up. */
static inline bool raw_flush(struct raw *w, bool reads)
{
    static uint8_t buf[1 << 17];
    struct rig *r = w->rig;
    bool is_good = grpc_conn_feed(&r->conn, w->bytes, w->len);
    size_t n;

    w->len = 0;
    while (reads && (n = grpc_conn_pull(&r->conn, buf, sizeof(buf))) > 0)
        for (size_t at = 0; at + 9 <= n;) {
            size_t len = (size_t)buf[at] << 16 | (size_t)buf[at + 1] << 8 | buf[at + 2];

            w->frames[buf[at + 3] & 15]++;
            if (buf[at + 3] == NGHTTP2_GOAWAY) {
                w->has_goaway = true;
                w->goaway_error = load_u32be(buf + at + 9 + 4);
            } else if (buf[at + 3] == NGHTTP2_RST_STREAM) {
                w->rst_code = load_u32be(buf + at + 9);
                w->rst_stream = load_u32be(buf + at + 5);
                w->rst_refused += w->rst_code == NGHTTP2_REFUSED_STREAM;
            }
            at += 9 + len;
        }
    grpc_conn_untouch(&r->conn);
    return is_good && !r->conn.is_broken;
}

static inline struct raw *raw_open_unsettled(const struct rpc_limits *limits)
{
    struct raw *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    w->rig = rig_open_with(limits, (size_t)1 << 30);
    rig_connect(w->rig, NULL, 0);
    memcpy(w->bytes, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
    w->len = NGHTTP2_CLIENT_MAGIC_LEN;
    raw_frame(w, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
    assert_true(raw_flush(w, true));
    return w;
}
static inline struct raw *raw_open_with(const struct rpc_limits *limits)
{
    struct raw *w = raw_open_unsettled(limits);

    raw_frame(w, NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, NULL, 0);
    assert_true(raw_flush(w, true));
    return w;
}
static inline struct raw *raw_open(void) { return raw_open_with(NULL); }

static inline void raw_close(struct raw *w)
{
    rig_close(w->rig);
    free(w);
}

/* The header block of a call, without an encoder: literals without indexing. */
static inline size_t put_header(uint8_t *to, const char *name, const char *value)
{
    size_t name_len = strlen(name), value_len = strlen(value);

    assert_true(name_len < 127 && value_len < 127);
    to[0] = 0;
    to[1] = (uint8_t)name_len;
    memcpy(to + 2, name, name_len);
    to[2 + name_len] = (uint8_t)value_len;
    memcpy(to + 3 + name_len, value, value_len);
    return 3 + name_len + value_len;
}

static inline size_t put_call(uint8_t *to, const char *path)
{
    size_t n = put_header(to, ":method", "POST");

    n += put_header(to + n, ":scheme", "http");
    n += put_header(to + n, ":path", path);
    n += put_header(to + n, ":authority", "h");
    return n + put_header(to + n, "content-type", "application/grpc");
}

static inline void raw_call(struct raw *w, uint32_t stream, const char *path)
{
    uint8_t block[512];

    raw_frame(w, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, stream, block, put_call(block, path));
}

static inline void raw_reset(struct raw *w, uint32_t stream) { raw_frame(w, NGHTTP2_RST_STREAM, 0, stream, "\0\0\0\x08", 4); }

#endif
