/* Walking frames, walking header blocks, and the table of decoded strings; see grpc_strings.h.
 *
 * A string is decoded when it is met the second time in a row at its place of the table, so that strings that never return cost a hash and no more.
 * Two strings with the same place take turns at worst. */
#include "rpc/grpc_strings.h"

#include <assert.h>
#include <stdlib.h>

#include "base/hash.h"

enum { PLACES_LOG2 = 6, FLAG_END_HEADERS = 0x4, FLAG_PADDED = 0x8, FLAG_PRIORITY = 0x20, PRIORITY_LEN = 5, INT_BYTES_MAX = 4 };
static_assert(1 << PLACES_LOG2 == GRPC_STRINGS, "a place is taken from the top bits of the hash");
/* The shortest code has five bits. */
#define PLAIN_MAX (GRPC_STRING_MAX * 8 / 5)

struct known_string {
    uint64_t seen;  /* hash of the last string met here */
    uint64_t hash;  /* of the one kept */
    uint8_t *bytes; /* coded, then plain; NULL: none */
    uint16_t coded_len, plain_len;
};

struct grpc_string_table {
    struct known_string places[GRPC_STRINGS];
    nghttp2_hd_inflater *decoder;
    uint8_t frame[GRPC_REWRITE_ROOM];
};

static struct grpc_string_table *table_of(struct grpc_strings *s)
{
    struct grpc_string_table *t = s->table;

    if (t != NULL || (t = calloc(1, sizeof *t)) == NULL)
        return t;
    if (nghttp2_hd_inflate_new(&t->decoder) != 0) {
        free(t);
        return NULL;
    }
    return s->table = t;
}

void grpc_strings_free(struct grpc_strings *s)
{
    if (s->table != NULL) {
        for (size_t i = 0; i < GRPC_STRINGS; i++)
            free(s->table->places[i].bytes);
        nghttp2_hd_inflate_del(s->table->decoder);
        free(s->table);
    }
    s->table = NULL;
}

/* --- integers and strings of HPACK --- */

/* An integer behind a prefix of `bits`; false when it is cut short or larger than any we care for. */
static bool int_get(const uint8_t **at, const uint8_t *end, unsigned bits, size_t *out)
{
    const uint8_t *p = *at;
    size_t mask = ((size_t)1 << bits) - 1, v;
    unsigned shift = 0;

    if (p == end)
        return false;
    v = *p++ & mask;
    if (v == mask)
        do {
            if (p == end || shift == 7 * INT_BYTES_MAX)
                return false;
            v += (size_t)(*p & 0x7f) << shift;
            shift += 7;
        } while (*p++ & 0x80);
    *at = p;
    *out = v;
    return true;
}

/* The length of a plain string. */
static uint8_t *len_put(uint8_t *p, size_t len)
{
    if (len < 0x7f) {
        *p++ = (uint8_t)len;
        return p;
    }
    *p++ = 0x7f;
    for (len -= 0x7f; len >= 0x80; len >>= 7)
        *p++ = (uint8_t)(len | 0x80);
    *p++ = (uint8_t)len;
    return p;
}

/* Decodes a string as the value of a field that touches no table. Its length, or 0 when it is no good. */
static size_t decode(nghttp2_hd_inflater *decoder, struct bytes coded, uint8_t *out)
{
    uint8_t block[8 + GRPC_STRING_MAX] = {0x00, 0x01, 'x'}, *p = block + 3;
    size_t len = 0, left;
    nghttp2_nv nv;
    int flags = 0;
    ssize_t n;

    p = len_put(p, coded.len);
    block[3] |= 0x80;
    memcpy(p, coded.data, coded.len);
    left = (size_t)(p - block) + coded.len;
    p = block;
    do {
        n = nghttp2_hd_inflate_hd2(decoder, &nv, &flags, p, left, 1);
        if (n < 0)
            break;
        p += n;
        left -= (size_t)n;
        if ((flags & NGHTTP2_HD_INFLATE_EMIT) && nv.valuelen <= PLAIN_MAX) {
            memcpy(out, nv.value, nv.valuelen);
            len = nv.valuelen;
        }
    } while (!(flags & NGHTTP2_HD_INFLATE_FINAL) && (n > 0 || (flags & NGHTTP2_HD_INFLATE_EMIT)));
    nghttp2_hd_inflate_end_headers(decoder);
    return n < 0 ? 0 : len;
}

/* Keeps the string; a decoder that met nonsense is not used again. */
static void remember(struct grpc_string_table *t, struct known_string *k, uint64_t hash, struct bytes coded)
{
    uint8_t plain[PLAIN_MAX], *bytes;
    size_t len;

    if (t->decoder == NULL)
        return;
    len = decode(t->decoder, coded, plain);
    if (len == 0) {
        nghttp2_hd_inflate_del(t->decoder);
        if (nghttp2_hd_inflate_new(&t->decoder) != 0)
            t->decoder = NULL;
        return;
    }
    if ((bytes = malloc(coded.len + len)) == NULL)
        return;
    memcpy(bytes, coded.data, coded.len);
    memcpy(bytes + coded.len, plain, len);
    free(k->bytes);
    *k = (struct known_string){hash, hash, bytes, (uint16_t)coded.len, (uint16_t)len};
}

/* The plain form of a coded string, empty when it is not known. */
static struct bytes plain_of(struct grpc_strings *s, struct bytes coded)
{
    struct grpc_string_table *t = table_of(s);
    struct known_string *k;
    uint64_t hash;

    if (t == NULL)
        return bytes_of(NULL, 0);
    hash = hash64(0, coded.data, coded.len);
    k = &t->places[hash >> (64 - PLACES_LOG2)];
    if (k->bytes == NULL || k->hash != hash || k->coded_len != coded.len || memcmp(k->bytes, coded.data, coded.len) != 0) {
        if (k->seen != hash) {
            k->seen = hash;
            return bytes_of(NULL, 0);
        }
        remember(t, k, hash, coded);
        if (k->hash != hash || k->bytes == NULL || k->coded_len != coded.len || memcmp(k->bytes, coded.data, coded.len) != 0)
            return bytes_of(NULL, 0);
    }
    k->seen = hash;
    return bytes_of(k->bytes + k->coded_len, k->plain_len);
}

/* --- a header block --- */

struct rewrite {
    struct grpc_strings *strings;
    const uint8_t *at, *end, *copied; /* of the block; copied: up to where it is in the output */
    uint8_t *to, *to_end;
};

static bool copy_upto(struct rewrite *r, const uint8_t *end, size_t more)
{
    size_t len = (size_t)(end - r->copied);

    if (len + more > (size_t)(r->to_end - r->to))
        return false;
    memcpy(r->to, r->copied, len);
    r->to += len;
    r->copied = end;
    return true;
}

/* Steps over a string, or puts its plain form into the output. */
static bool string_step(struct rewrite *r)
{
    const uint8_t *start = r->at;
    struct bytes plain;
    bool is_coded;
    size_t len;

    if (r->at == r->end)
        return false;
    is_coded = (*r->at & 0x80) != 0;
    if (!int_get(&r->at, r->end, 7, &len) || len > (size_t)(r->end - r->at))
        return false;
    r->at += len;
    if (!is_coded || len < GRPC_STRING_MIN || len > GRPC_STRING_MAX)
        return true;
    plain = plain_of(r->strings, bytes_of(r->at - len, len));
    if (plain.len == 0)
        return true;
    if (!copy_upto(r, start, plain.len + INT_BYTES_MAX))
        return false;
    r->to = len_put(r->to, plain.len);
    memcpy(r->to, plain.data, plain.len);
    r->to += plain.len;
    r->copied = r->at;
    r->strings->replaced++;
    return true;
}

/* One representation (RFC 7541, 6). */
static bool field_step(struct rewrite *r)
{
    uint8_t first = *r->at;
    size_t index;

    if (first & 0x80)
        return int_get(&r->at, r->end, 7, &index);
    if ((first & 0xe0) == 0x20)
        return int_get(&r->at, r->end, 5, &index);
    if (!int_get(&r->at, r->end, first & 0x40 ? 6 : 4, &index))
        return false;
    return (index != 0 || string_step(r)) && string_step(r);
}

size_t grpc_strings_rewrite(struct grpc_strings *s, struct bytes block, uint8_t *out, size_t room)
{
    struct rewrite r = {s, block.data, block.data + block.len, block.data, out, out + room};

    while (r.at < r.end)
        if (!field_step(&r))
            return 0;
    if (r.copied == block.data || !copy_upto(&r, r.end, 0))
        return 0;
    return (size_t)(r.to - out);
}

/* --- frames --- */

static uint32_t frame_len(const uint8_t *head) { return (uint32_t)head[0] << 16 | (uint32_t)head[1] << 8 | head[2]; }

/* A HEADERS frame that is there as a whole: its replacement, or nothing. */
static struct bytes frame_rewrite(struct grpc_strings *s, const uint8_t *frame, size_t len)
{
    size_t skip = GRPC_FRAME_HEAD_LEN + (frame[4] & FLAG_PRIORITY ? PRIORITY_LEN : 0), n;
    struct grpc_string_table *t = table_of(s);
    uint8_t *out;

    if (t == NULL || len <= skip || (frame[4] & FLAG_PADDED))
        return bytes_of(NULL, 0);
    out = t->frame;
    n = grpc_strings_rewrite(s, bytes_of(frame + skip, len - skip), out + skip, sizeof t->frame - skip);
    if (n == 0)
        return bytes_of(NULL, 0);
    memcpy(out, frame, skip);
    n += skip - GRPC_FRAME_HEAD_LEN;
    out[0] = (uint8_t)(n >> 16);
    out[1] = (uint8_t)(n >> 8);
    out[2] = (uint8_t)n;
    return bytes_of(out, n + GRPC_FRAME_HEAD_LEN);
}

/* Steps over what belongs to the frame (or the head) that is under way. */
static size_t frame_rest(struct grpc_frame_walk *w, const uint8_t *data, size_t len)
{
    size_t n = 0;

    if (w->left > 0) {
        n = w->left < len ? w->left : len;
        w->left -= (uint32_t)n;
        return n;
    }
    while (n < len && w->head_len < GRPC_FRAME_HEAD_LEN)
        w->head[w->head_len++] = data[n++];
    if (w->head_len == GRPC_FRAME_HEAD_LEN) {
        w->left = frame_len(w->head);
        w->head_len = 0;
    }
    return n;
}

size_t grpc_strings_next(struct grpc_strings *s, struct grpc_frame_walk *w, const uint8_t *data, size_t len, struct bytes *instead, size_t *taken)
{
    size_t at = 0, whole;

    *instead = bytes_of(NULL, 0);
    *taken = 0;
    while (at < len) {
        if (w->left > 0 || w->head_len > 0 || len - at < GRPC_FRAME_HEAD_LEN) {
            at += frame_rest(w, data + at, len - at);
            continue;
        }
        whole = GRPC_FRAME_HEAD_LEN + (size_t)frame_len(data + at);
        if (data[at + 3] == NGHTTP2_HEADERS && (data[at + 4] & FLAG_END_HEADERS) && whole <= GRPC_REWRITE_MAX && whole <= len - at) {
            *instead = frame_rewrite(s, data + at, whole);
            if (instead->len > 0) {
                *taken = whole;
                return at;
            }
        }
        w->left = (uint32_t)(whole - GRPC_FRAME_HEAD_LEN);
        at += GRPC_FRAME_HEAD_LEN;
    }
    return at;
}
