/* Writes protobuf messages backwards: the last field first, so that the length of an inner message is known when its tag is
 * written, and nothing is computed twice.
 *
 * A writer owns a buffer in an arena and moves to a bigger one when it is full. Fields are written in descending order of their
 * numbers, which gives ascending order on the wire. proto3 rules: the plain functions leave out zero and empty values.
 * Once memory is short the writer has failed for good; pb_take() says so. */
#ifndef WIRE_PB_H
#define WIRE_PB_H

#include "base/arena.h"
#include "base/err.h"
#include "base/hash.h"
#include "kv/kv_types.h"

/* Bytes of which some lie in memory and some where large values were left: behind `at` of the bytes in memory belong len bytes of a value. */
struct rope_cut {
    size_t at, len;
    struct kv_far from;
};
struct rope {
    struct bytes bytes;
    const struct rope_cut *cuts; /* in order */
    size_t cut_count;
    size_t len; /* with all values */
};

struct pb {
    uint8_t *start, *at, *end; /* written: at .. end */
    struct arena *arena;       /* NULL: a fixed buffer, does not grow */
    bool failed;
    struct rope_cut *cuts; /* the last one first; at: bytes in memory behind it. NULL until the first, unless the caller gave room for some */
    size_t cut_count, cut_cap;
    size_t far_len; /* of the cuts */
};

enum pb_wire { PB_VARINT = 0, PB_FIXED64 = 1, PB_BYTES = 2, PB_FIXED32 = 5 };

#define PB_VARINT_BYTES_MAX 10u
#define PB_MESSAGE_BYTES_MAX ((size_t)1 << 31) /* protobuf's own bound: lengths are below 2 GiB */

/* bytes_hint: size of the first buffer; a good guess saves copying. */
void pb_init(struct pb *w, struct arena *arena, size_t bytes_hint);
/* Writes into the caller's buffer, of exactly the right size or bigger. */
static inline void pb_init_fixed(struct pb *w, void *buf, size_t len)
{
    *w = (struct pb){.start = (uint8_t *)buf, .at = (uint8_t *)buf + len, .end = (uint8_t *)buf + len};
}
/* Makes room for len more bytes; false (and failed) when there is none. */
bool pb_grow(struct pb *w, size_t len);

/* Length of what was written, values that are left elsewhere included. */
static inline size_t pb_len(const struct pb *w) { return (size_t)(w->end - w->at) + w->far_len; }
/* The message, in the arena, without cuts. ST_NOMEM when the writer failed. */
MUST_USE enum status pb_take(struct pb *w, struct bytes *out, struct err *err);
/* The message with its cuts. The writer is used up. */
MUST_USE enum status pb_take_rope(struct pb *w, struct rope *out, struct err *err);
/* A value that is left where it lies, as a bytes field. */
void pb_far(struct pb *w, uint32_t field, size_t len, const struct kv_far *from);

static inline uint8_t *pb_room(struct pb *w, size_t len)
{
    if (__builtin_expect(len > (size_t)(w->at - w->start), 0) && !pb_grow(w, len))
        return NULL;
    w->at -= len;
    return w->at;
}

static inline size_t pb_varint_len(uint64_t v) { return (size_t)(63 - __builtin_clzll(v | 1)) / 7 + 1; }

static inline void pb_varint(struct pb *w, uint64_t v)
{
    size_t len = pb_varint_len(v);
    uint8_t *p = pb_room(w, len);

    if (p == NULL)
        return;
    while (len > 1) {
        *p++ = (uint8_t)(v | 0x80);
        v >>= 7;
        len--;
    }
    *p = (uint8_t)v;
}
static inline void pb_tag(struct pb *w, uint32_t field, enum pb_wire type) { pb_varint(w, (uint64_t)field << 3 | type); }

static inline void pb_raw(struct pb *w, const void *data, size_t len)
{
    uint8_t *p = pb_room(w, len);
    if (p != NULL && len > 0)
        memcpy(p, data, len);
}

/* --- fields --- */
static inline void pb_u64(struct pb *w, uint32_t field, uint64_t v)
{
    if (v == 0)
        return;
    pb_varint(w, v);
    pb_tag(w, field, PB_VARINT);
}
static inline void pb_i64(struct pb *w, uint32_t field, int64_t v) { pb_u64(w, field, (uint64_t)v); }
/* Negative 32-bit numbers are sign-extended to ten bytes. */
static inline void pb_i32(struct pb *w, uint32_t field, int32_t v) { pb_u64(w, field, (uint64_t)(int64_t)v); }
static inline void pb_bool(struct pb *w, uint32_t field, bool v) { pb_u64(w, field, v); }
/* Left out when all bits are zero: -0.0 is written. */
static inline void pb_double(struct pb *w, uint32_t field, double v)
{
    uint64_t bits;
    uint8_t *p;

    memcpy(&bits, &v, 8);
    if (bits == 0)
        return;
    if ((p = pb_room(w, 8)) != NULL)
        store_u64le(p, bits);
    pb_tag(w, field, PB_FIXED64);
}
/* An element of a repeated field: written also when empty. */
static inline void pb_bytes_item(struct pb *w, uint32_t field, struct bytes b)
{
    pb_raw(w, b.data, b.len);
    pb_varint(w, b.len);
    pb_tag(w, field, PB_BYTES);
}
static inline void pb_bytes(struct pb *w, uint32_t field, struct bytes b)
{
    if (b.len > 0)
        pb_bytes_item(w, field, b);
}
static inline void pb_hash(struct pb *w, uint32_t field, const hash_t *h)
{
    uint8_t *p;

    if (field >= 16) {
        pb_bytes_item(w, field, bytes_of(h->b, HASH_LEN));
        return;
    }
    if ((p = pb_room(w, HASH_LEN + 2)) == NULL)
        return;
    p[0] = (uint8_t)(field << 3 | PB_BYTES);
    p[1] = HASH_LEN;
    memcpy(p + 2, h->b, HASH_LEN);
}
/* Closes an inner message: what was written since pb_len() was mark becomes its body. */
static inline void pb_message(struct pb *w, uint32_t field, size_t mark)
{
    pb_varint(w, pb_len(w) - mark);
    pb_tag(w, field, PB_BYTES);
}

/* --- a list of messages, built forwards --- */
/* Repeated messages of one field, appended one by one: an answer whose parts are read one after the other. */
struct pb_list {
    struct arena *arena;
    uint8_t *buf;
    size_t len, cap;
    bool failed;
    struct rope_cut *cuts;
    size_t cut_count, cut_cap;
    size_t far_len;
};
void pb_list_init(struct pb_list *l, struct arena *arena, size_t bytes_hint);
/* Tag and length of the next message, and room for its body of exactly len bytes, but for those of its cut_count cuts, which are in order and counted from
 * the body's beginning; NULL when out of memory. */
uint8_t *pb_list_add(struct pb_list *l, uint32_t field, size_t len, const struct rope_cut *cuts, size_t cut_count);
MUST_USE enum status pb_list_take(struct pb_list *l, struct rope *out, struct err *err);

#endif
