/* Proves that header blocks mean the same before and after strings were put in plain form, and that frames keep their borders.
 *
 * Blocks come from nghttp2's encoder (all kinds of representations, table size changes) and from chance; each and its replacement are read by two
 * decoders that live as long as the sequence, so that a wrong step of the tables would show later. Frames are cut into pieces of every size. */
#include "base/alloc_failing.h"
#include "base/test.h"
#include "rpc/grpc_strings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX = 65536 };

struct both {
    nghttp2_hd_deflater *encoder;
    nghttp2_hd_inflater *before, *after;
    struct grpc_strings strings;
};

static void both_open(struct both *b)
{
    memset(b, 0, sizeof *b);
    assert_int_equal(nghttp2_hd_deflate_new(&b->encoder, 4096), 0);
    assert_int_equal(nghttp2_hd_inflate_new(&b->before), 0);
    assert_int_equal(nghttp2_hd_inflate_new(&b->after), 0);
}

static void both_close(struct both *b)
{
    nghttp2_hd_deflate_del(b->encoder);
    nghttp2_hd_inflate_del(b->before);
    nghttp2_hd_inflate_del(b->after);
    grpc_strings_free(&b->strings);
}

/* The block as text, with its end or error. */
static size_t read_block(nghttp2_hd_inflater *decoder, const uint8_t *in, size_t len, uint8_t *out)
{
    size_t at = 0;
    nghttp2_nv nv;
    int flags = 0;
    ssize_t n;

    for (;;) {
        n = nghttp2_hd_inflate_hd2(decoder, &nv, &flags, in, len, 1);
        if (n < 0) {
            at += (size_t)snprintf((char *)out + at, 32, "error");
            return at;
        }
        in += n;
        len -= (size_t)n;
        if (flags & NGHTTP2_HD_INFLATE_EMIT) {
            assert_true(at + nv.namelen + nv.valuelen + 64 < TEXT_MAX);
            at += (size_t)snprintf((char *)out + at, 32, "%zu %zu %d ", nv.namelen, nv.valuelen, nv.flags);
            memcpy(out + at, nv.name, nv.namelen);
            memcpy(out + at + nv.namelen, nv.value, nv.valuelen);
            at += nv.namelen + nv.valuelen;
        }
        if (flags & NGHTTP2_HD_INFLATE_FINAL)
            break;
        if (len == 0 && !(flags & NGHTTP2_HD_INFLATE_EMIT))
            break;
    }
    nghttp2_hd_inflate_end_headers(decoder);
    return at;
}

/* Reads block and its replacement; they must be the same. */
static void compare(struct both *b, const uint8_t *block, size_t len)
{
    static uint8_t rewritten[GRPC_REWRITE_ROOM], x[TEXT_MAX], y[TEXT_MAX];
    size_t n = grpc_strings_rewrite(&b->strings, bytes_of(block, len), rewritten, sizeof rewritten), x_len, y_len;

    x_len = read_block(b->before, block, len, x);
    y_len = n == 0 ? read_block(b->after, block, len, y) : read_block(b->after, rewritten, n, y);
    assert_int_equal(x_len, y_len);
    assert_memory_equal(x, y, x_len);
}

static const char *const VALUES[] = {
    "application/grpc",
    "Bearer v2.public.eyJkYXRhYmFzZSI6IjEiLCJleHAiOiIyMDI2LTExLTIxVDE1OjIyOjM0WiIsInN1YiI6ImltbXVkYiJ9c2lnbmF0dXJlc2lnbmF0dXJlc2lnbmF0dXJl.aW1tdWRi",
    "/immudb.schema.ImmuService/VerifiableGet",
    "localhost:3322",
    "",
    "grpc-c/41.0.0 (linux; chttp2; with a rather long agent string that goes on and on and on and on, as they do)",
};
enum { VALUE_COUNT = sizeof VALUES / sizeof VALUES[0] };

/* A list of random fields, some of which return all the time. */
static size_t make_block(struct both *b, uint64_t *seed, uint8_t *block, size_t room)
{
    static char names[8][24], values[8][700];
    nghttp2_nv nv[8];
    size_t count = 1 + test_random(seed) % 8;
    ssize_t n;

    for (size_t i = 0; i < count; i++) {
        bool is_known = test_random(seed) % 3 > 0;
        size_t which = test_random(seed) % VALUE_COUNT, len = test_random(seed) % 600;

        snprintf(names[i], sizeof names[i], is_known ? "name-%d" : "other-%d", (int)(test_random(seed) % 30));
        if (test_random(seed) % 4 == 0)
            snprintf(names[i], sizeof names[i], "%s", test_random(seed) % 2 ? "authorization" : ":path");
        for (size_t k = 0; k < len; k++)
            values[i][k] = (char)(' ' + test_random(seed) % 95);
        values[i][len] = '\0';
        if (is_known)
            snprintf(values[i], sizeof values[i], "%s", VALUES[which]);
        nv[i] = (nghttp2_nv){(uint8_t *)names[i], (uint8_t *)values[i], strlen(names[i]), strlen(values[i]),
                             test_random(seed) % 4 == 0 ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE};
    }
    if (test_random(seed) % 50 == 0)
        assert_int_equal(nghttp2_hd_deflate_change_table_size(b->encoder, test_random(seed) % 4097), 0);
    n = nghttp2_hd_deflate_hd(b->encoder, block, room, nv, count);
    assert_true(n > 0);
    return (size_t)n;
}

static void blocks_mean_the_same(void **state)
{
    uint8_t block[8192];
    uint64_t seed = 3;
    struct both b;

    (void)state;
    both_open(&b);
    for (int i = 0; i < 20000; i++)
        compare(&b, block, make_block(&b, &seed, block, sizeof block));
    assert_true(b.strings.replaced > 20000); /* the known values did take the short way */
    both_close(&b);
}

/* Damaged blocks are passed on, or fail as they would have. */
static void damaged_blocks_fail_alike(void **state)
{
    uint8_t block[8192];
    uint64_t seed = 5;

    (void)state;
    for (int round = 0; round < 300; round++) {
        struct both b;
        size_t len;

        both_open(&b);
        for (int i = 0; i < 12; i++)
            compare(&b, block, make_block(&b, &seed, block, sizeof block));
        len = make_block(&b, &seed, block, sizeof block);
        switch (test_random(&seed) % 3) {
        case 0:
            block[test_random(&seed) % len] ^= (uint8_t)(1 + test_random(&seed) % 255);
            break;
        case 1:
            len = test_random(&seed) % len;
            break;
        default:
            test_random_fill(&seed, block, len = test_random(&seed) % 400);
        }
        /* twice, so that a damaged string would be remembered if it could */
        grpc_strings_rewrite(&b.strings, bytes_of(block, len), (uint8_t[GRPC_REWRITE_ROOM]){0}, GRPC_REWRITE_ROOM);
        compare(&b, block, len);
        both_close(&b);
    }
}

/* A token of the usual form is replaced from its third time on, whatever stands around it. */
static void tokens_are_decoded_once(void **state)
{
    nghttp2_nv nv = {(uint8_t *)(uintptr_t) "authorization", (uint8_t *)(uintptr_t)VALUES[1], 13, strlen(VALUES[1]), NGHTTP2_NV_FLAG_NO_INDEX};
    uint8_t block[1024], out[GRPC_REWRITE_ROOM];
    struct both b;
    ssize_t n;

    (void)state;
    both_open(&b);
    n = nghttp2_hd_deflate_hd(b.encoder, block, sizeof block, &nv, 1);
    assert_true(n > 0);
    assert_int_equal(grpc_strings_rewrite(&b.strings, bytes_of(block, (size_t)n), out, sizeof out), 0);
    for (int i = 0; i < 3; i++) {
        size_t len = grpc_strings_rewrite(&b.strings, bytes_of(block, (size_t)n), out, sizeof out);

        assert_true(len > (size_t)n);
        assert_memory_equal(out + len - nv.valuelen, VALUES[1], nv.valuelen);
    }
    /* no room for it: passed on */
    assert_int_equal(grpc_strings_rewrite(&b.strings, bytes_of(block, (size_t)n), out, nv.valuelen), 0);
    both_close(&b);
}

static void no_memory_passes_on(void **state)
{
    nghttp2_nv nv = {(uint8_t *)(uintptr_t) "authorization", (uint8_t *)(uintptr_t)VALUES[1], 13, strlen(VALUES[1]), NGHTTP2_NV_FLAG_NO_INDEX};
    uint8_t block[1024], out[GRPC_REWRITE_ROOM];
    struct both b;
    ssize_t n;

    (void)state;
    for (long at = 1; at <= 2; at++) {
        both_open(&b);
        n = nghttp2_hd_deflate_hd(b.encoder, block, sizeof block, &nv, 1);
        alloc_fail_arm(at, true);
        for (int i = 0; i < 3; i++)
            assert_int_equal(grpc_strings_rewrite(&b.strings, bytes_of(block, (size_t)n), out, sizeof out), 0);
        assert_true(alloc_fail_disarm());
        grpc_strings_rewrite(&b.strings, bytes_of(block, (size_t)n), out, sizeof out);
        assert_true(grpc_strings_rewrite(&b.strings, bytes_of(block, (size_t)n), out, sizeof out) > 0);
        both_close(&b);
    }
}

/* --- frames --- */

struct stream {
    uint8_t *bytes;
    size_t len, room;
};

static void put(struct stream *s, const void *data, size_t len)
{
    assert_true(len <= s->room - s->len);
    memcpy(s->bytes + s->len, data, len);
    s->len += len;
}

static void put_frame(struct stream *s, uint8_t type, uint8_t flags, uint32_t id, const uint8_t *payload, size_t len)
{
    uint8_t head[9] = {(uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len, type, flags, 0, 0, (uint8_t)(id >> 8), (uint8_t)id};

    put(s, head, sizeof head);
    put(s, payload, len);
}

static void make_frames(struct both *b, uint64_t *seed, struct stream *s)
{
    uint8_t payload[8192] = {0};

    put(s, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", GRPC_CLIENT_PREFACE_LEN);
    for (uint32_t i = 0; i < 200; i++) {
        uint8_t flags = 0x4;
        size_t len;

        switch (test_random(seed) % 4) {
        case 0: /* anything that is no header block */
            len = test_random(seed) % 3000;
            test_random_fill(seed, payload, len);
            put_frame(s, (uint8_t)(test_random(seed) % 2 ? 0 : 2 + test_random(seed) % 6), (uint8_t)test_random(seed), i, payload, len);
            break;
        case 1: /* with a priority in front */
            test_random_fill(seed, payload, 5);
            len = 5 + make_block(b, seed, payload + 5, sizeof payload - 5);
            put_frame(s, 1, 0x24, i, payload, len);
            break;
        default:
            len = make_block(b, seed, payload, sizeof payload);
            put_frame(s, 1, flags, i, payload, len);
        }
    }
}

/* Both streams hold the same frames, header blocks of the same meaning. */
static void compare_frames(struct both *b, const struct stream *x, const struct stream *y)
{
    static uint8_t x_text[TEXT_MAX], y_text[TEXT_MAX];
    const uint8_t *p = x->bytes + GRPC_CLIENT_PREFACE_LEN, *q = y->bytes + GRPC_CLIENT_PREFACE_LEN;

    assert_memory_equal(x->bytes, y->bytes, GRPC_CLIENT_PREFACE_LEN);
    while (p < x->bytes + x->len) {
        size_t p_len = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2], q_len = (size_t)q[0] << 16 | (size_t)q[1] << 8 | q[2];

        assert_true(q + 9 + q_len <= y->bytes + y->len);
        assert_memory_equal(p + 3, q + 3, 6);
        p += 9;
        q += 9;
        if (p[-6] != 1) {
            assert_int_equal(p_len, q_len);
            assert_memory_equal(p, q, p_len);
        } else {
            size_t skip = p[-5] & 0x20 ? 5 : 0, x_len, y_len;

            assert_memory_equal(p, q, skip);
            x_len = read_block(b->before, p + skip, p_len - skip, x_text);
            y_len = read_block(b->after, q + skip, q_len - skip, y_text);
            assert_int_equal(x_len, y_len);
            assert_memory_equal(x_text, y_text, x_len);
        }
        p += p_len;
        q += q_len;
    }
    assert_ptr_equal(q, y->bytes + y->len);
}

static void frames_keep_their_borders(void **state)
{
    static const size_t PIECES[] = {1, 7, 9, 100, 1000, 65536};
    uint64_t seed = 11;

    (void)state;
    for (size_t k = 0; k < 6; k++)
        for (int round = 0; round < 3; round++) {
            struct stream x = {malloc(1 << 22), 0, 1 << 22}, y = {malloc(1 << 22), 0, 1 << 22};
            struct grpc_frame_walk walk = grpc_frame_walk_begin();
            struct both b;

            both_open(&b);
            make_frames(&b, &seed, &x);
            for (size_t at = 0; at < x.len;) {
                size_t piece = 1 + test_random(&seed) % PIECES[k], as_is, taken, end;
                struct bytes instead;

                if (piece > x.len - at)
                    piece = x.len - at;
                for (end = at + piece; at < end; at += as_is + taken) {
                    as_is = grpc_strings_next(&b.strings, &walk, x.bytes + at, end - at, &instead, &taken);
                    assert_true(as_is + taken <= end - at && as_is + taken > 0 && (taken > 0) == (instead.len > 0));
                    assert_true(taken > 0 || as_is == end - at);
                    put(&y, x.bytes + at, as_is);
                    if (taken > 0)
                        put(&y, instead.data, instead.len);
                }
            }
            compare_frames(&b, &x, &y);
            if (PIECES[k] > 5000)
                assert_true(b.strings.replaced > 20);
            both_close(&b);
            free(x.bytes);
            free(y.bytes);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_mean_the_same), cmocka_unit_test(damaged_blocks_fail_alike), cmocka_unit_test(tokens_are_decoded_once),
        cmocka_unit_test(no_memory_passes_on),  cmocka_unit_test(frames_keep_their_borders),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
