/* Borrowed byte strings, a bounds-checked reader, a bounded writer, and fixed-width integers.
 *
 * Hashed data and wire formats that must equal the published ones are big-endian (be); our own files are
 * little-endian (le). No function here allocates; all are safe from any thread on distinct objects. */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes {
    const uint8_t *data; /* may be NULL when len is 0 */
    size_t len;
};

static inline struct bytes bytes_of(const void *data, size_t len) { return (struct bytes){(const uint8_t *)data, len}; }
static inline struct bytes bytes_str(const char *s) { return (struct bytes){(const uint8_t *)s, strlen(s)}; }
static inline bool bytes_equal(struct bytes a, struct bytes b) { return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0); }
/* memcmp order, the shorter of two equal prefixes first: <0, 0, >0. */
static inline int bytes_compare(struct bytes a, struct bytes b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int c = common == 0 ? 0 : memcmp(a.data, b.data, common);
    return c != 0 ? c : (a.len > b.len) - (a.len < b.len);
}
static inline bool bytes_has_prefix(struct bytes s, struct bytes prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.data, prefix.data, prefix.len) == 0);
}

static inline uint16_t load_u16be(const uint8_t *p) { return (uint16_t)((p[0] << 8) | p[1]); }
static inline uint32_t load_u32be(const uint8_t *p) { return ((uint32_t)p[0] << 24) | ((uint32_t)p[1] << 16) | ((uint32_t)p[2] << 8) | p[3]; }
static inline uint64_t load_u64be(const uint8_t *p) { return ((uint64_t)load_u32be(p) << 32) | load_u32be(p + 4); }
static inline uint16_t load_u16le(const uint8_t *p) { return (uint16_t)(p[0] | (p[1] << 8)); }
static inline uint32_t load_u32le(const uint8_t *p) { return p[0] | ((uint32_t)p[1] << 8) | ((uint32_t)p[2] << 16) | ((uint32_t)p[3] << 24); }
static inline uint64_t load_u64le(const uint8_t *p) { return load_u32le(p) | ((uint64_t)load_u32le(p + 4) << 32); }
static inline void store_u16be(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}
static inline void store_u32be(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}
static inline void store_u64be(uint8_t *p, uint64_t v)
{
    store_u32be(p, (uint32_t)(v >> 32));
    store_u32be(p + 4, (uint32_t)v);
}
static inline void store_u16le(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}
static inline void store_u32le(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    p[2] = (uint8_t)(v >> 16);
    p[3] = (uint8_t)(v >> 24);
}
static inline void store_u64le(uint8_t *p, uint64_t v)
{
    store_u32le(p, (uint32_t)v);
    store_u32le(p + 4, (uint32_t)(v >> 32));
}

/* Reads forward over borrowed bytes. Once a read asks for more than is left the reader has failed for good: every
 * later read gives 0 or NULL, so a parser checks once, at its end. */
struct reader {
    const uint8_t *at, *end;
    bool failed;
};

/* An empty string may have no address; the reader needs one, for arithmetic on NULL is undefined. */
static inline struct reader reader_of(struct bytes b)
{
    const uint8_t *start = b.data != NULL ? b.data : (const uint8_t *)"";
    return (struct reader){start, start + b.len, false};
}
static inline size_t reader_left(const struct reader *r) { return (size_t)(r->end - r->at); }

/* The next len bytes, borrowed from the buffer, or NULL when fewer are left. */
static inline const uint8_t *reader_take(struct reader *r, size_t len)
{
    if (r->failed || len > (size_t)(r->end - r->at)) {
        r->failed = true;
        return NULL;
    }
    r->at += len;
    return r->at - len;
}
static inline struct bytes reader_bytes(struct reader *r, size_t len)
{
    const uint8_t *p = reader_take(r, len);
    return bytes_of(p, p == NULL ? 0 : len);
}
#define READER_INT_(name, type, width, load) \
    static inline type name(struct reader *r) \
    { \
        const uint8_t *p = reader_take(r, width); \
        return p == NULL ? 0 : load(p); \
    }
static inline uint8_t load_u8_(const uint8_t *p) { return p[0]; }
READER_INT_(reader_u8, uint8_t, 1, load_u8_)
READER_INT_(reader_u16be, uint16_t, 2, load_u16be)
READER_INT_(reader_u32be, uint32_t, 4, load_u32be)
READER_INT_(reader_u64be, uint64_t, 8, load_u64be)
READER_INT_(reader_u16le, uint16_t, 2, load_u16le)
READER_INT_(reader_u32le, uint32_t, 4, load_u32le)
READER_INT_(reader_u64le, uint64_t, 8, load_u64le)
#undef READER_INT_
/* LEB128, at most 10 bytes, as in protobuf. An overlong or overflowing number fails the reader. */
uint64_t reader_varint(struct reader *r);
/* True when everything was read and nothing failed. */
static inline bool reader_done(const struct reader *r) { return !r->failed && r->at == r->end; }

/* Writes forward into a buffer of fixed size. Once something does not fit the writer has failed for good. */
struct writer {
    uint8_t *start, *at, *end;
    bool failed;
};

static inline struct writer writer_of(void *buf, size_t bytes_max) /* NULL: nothing fits */
{
    return (struct writer){(uint8_t *)buf, (uint8_t *)buf, buf == NULL ? NULL : (uint8_t *)buf + bytes_max, false};
}
static inline size_t writer_len(const struct writer *w) { return (size_t)(w->at - w->start); }
/* Room for len bytes to be filled by the caller, or NULL when they do not fit. */
static inline uint8_t *writer_reserve(struct writer *w, size_t len)
{
    if (w->failed || len > (size_t)(w->end - w->at)) {
        w->failed = true;
        return NULL;
    }
    w->at += len;
    return w->at - len;
}
static inline void writer_put(struct writer *w, const void *data, size_t len)
{
    uint8_t *p = writer_reserve(w, len);
    if (p != NULL && len > 0)
        memcpy(p, data, len);
}
#define WRITER_INT_(name, type, width, store) \
    static inline void name(struct writer *w, type v) \
    { \
        uint8_t *p = writer_reserve(w, width); \
        if (p != NULL) \
            store(p, v); \
    }
static inline void store_u8_(uint8_t *p, uint8_t v) { p[0] = v; }
WRITER_INT_(writer_u8, uint8_t, 1, store_u8_)
WRITER_INT_(writer_u16be, uint16_t, 2, store_u16be)
WRITER_INT_(writer_u32be, uint32_t, 4, store_u32be)
WRITER_INT_(writer_u64be, uint64_t, 8, store_u64be)
WRITER_INT_(writer_u16le, uint16_t, 2, store_u16le)
WRITER_INT_(writer_u32le, uint32_t, 4, store_u32le)
WRITER_INT_(writer_u64le, uint64_t, 8, store_u64le)
#undef WRITER_INT_
void writer_varint(struct writer *w, uint64_t v);

#endif
