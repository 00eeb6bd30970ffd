/* Reflection without a network: every method of the server is described; each kind of question gets its answer; imports are sent once per stream; no
 * bytes that are not a question do harm (every cut and every flipped bit of good ones, under the sanitizers). */
#include <stdlib.h>
#include <string.h>

#include "base/test.h"
#include "handlers/methods.h"
#include "observe/plain_methods.h"
#include "observe/reflection.h"
#include "observe/reflection_data.h"
#include "wire/pb.h"

static const struct descriptor_symbol *symbol_of(const char *name)
{
    size_t i;

    for (i = 0; i < DESCRIPTOR_SYMBOL_COUNT; i++)
        if (strcmp(DESCRIPTOR_SYMBOLS[i].name, name) == 0)
            return &DESCRIPTOR_SYMBOLS[i];
    return NULL;
}

/* "/p.S/M" is described as the method "p.S.M". */
static void check_described(const char *path)
{
    char name[128];
    const struct descriptor_symbol *symbol;

    assert_true(strlen(path) < sizeof name);
    strcpy(name, path + 1);
    *strchr(name, '/') = '.';
    symbol = symbol_of(name);
    if (symbol == NULL || symbol->kind != SYMBOL_METHOD)
        fail_msg("%s is not described", path);
}

static void test_tables(void **state)
{
    size_t i, methods = 0, services = 0;

    (void)state;
    assert_in_range(DESCRIPTOR_FILE_COUNT, 1, 64);
    for (i = 0; i < DESCRIPTOR_SYMBOL_COUNT; i++) {
        const struct descriptor_symbol *s = &DESCRIPTOR_SYMBOLS[i];

        assert_true(s->file < DESCRIPTOR_FILE_COUNT);
        assert_true(i == 0 || strcmp(DESCRIPTOR_SYMBOLS[i - 1].name, s->name) < 0);
        methods += s->kind == SYMBOL_METHOD;
        services += s->kind == SYMBOL_SERVICE;
    }
    for (i = 0; i < METHOD_COUNT; i++)
        check_described(METHODS[i].path);
    for (i = 0; i < PLAIN_METHOD_COUNT; i++)
        check_described(PLAIN_METHODS[i].path);
    for (i = 0; i < SERVICE_COUNT; i++)
        assert_int_equal(symbol_of(SERVICE_NAMES[i])->kind, SYMBOL_SERVICE);
    assert_int_equal(methods, METHOD_COUNT + PLAIN_METHOD_COUNT);
    assert_int_equal(services, SERVICE_COUNT);
}

/* A request with one field. */
static struct bytes question(uint32_t field, const char *text, uint8_t buf[256])
{
    struct pb w;

    pb_init_fixed(&w, buf, 256);
    pb_bytes_item(&w, field, bytes_str(text));
    assert_false(w.failed);
    return bytes_of(w.at, pb_len(&w));
}

/* Fields of a message, in order; returns their number. */
static size_t split(struct bytes message, uint32_t *fields, struct bytes *values, size_t max)
{
    struct reader r = reader_of(message);
    size_t count = 0;

    while (reader_left(&r) > 0) {
        uint64_t tag = reader_varint(&r), number;

        assert_true(count < max);
        fields[count] = (uint32_t)(tag >> 3);
        if ((tag & 7) == PB_BYTES) {
            values[count] = reader_bytes(&r, (size_t)reader_varint(&r));
        } else {
            assert_int_equal(tag & 7, PB_VARINT);
            number = reader_varint(&r);
            values[count] = bytes_of(NULL, (size_t)number);
        }
        assert_false(r.failed);
        count++;
    }
    return count;
}

struct answer {
    uint8_t *bytes;
    uint32_t field;      /* of the answer proper */
    struct bytes inside; /* its message */
};

static struct answer ask(uint32_t field, const char *text, uint64_t *sent)
{
    uint8_t buf[256];
    struct bytes request = question(field, text, buf), values[4];
    uint32_t fields[4];
    struct answer a;
    struct err err;
    size_t len, n;

    assert_int_equal(reflection_answer(request, sent, &a.bytes, &len, &err), ST_OK);
    n = split(bytes_of(a.bytes, len), fields, values, 4);
    assert_int_equal(n, 2);
    assert_int_equal(fields[0], 2);
    assert_true(bytes_equal(values[0], request)); /* echoed */
    a.field = fields[1];
    a.inside = values[1];
    return a;
}

static size_t files_in(uint32_t field, const char *text, uint64_t *sent)
{
    struct answer a = ask(field, text, sent);
    struct bytes values[64];
    uint32_t fields[64];
    size_t n, i, f;

    assert_int_equal(a.field, 4);
    n = split(a.inside, fields, values, 64);
    for (i = 0; i < n; i++) {
        for (f = 0; f < DESCRIPTOR_FILE_COUNT; f++)
            if (bytes_equal(bytes_of(DESCRIPTOR_FILES[f].bytes, DESCRIPTOR_FILES[f].len), values[i]))
                break;
        assert_true(f < DESCRIPTOR_FILE_COUNT);
    }
    free(a.bytes);
    return n;
}

static void check_not_found(uint32_t field, const char *text)
{
    uint64_t sent = 0;
    struct answer a = ask(field, text, &sent);
    struct bytes values[2];
    uint32_t fields[2];

    assert_int_equal(a.field, 7);
    assert_int_equal(split(a.inside, fields, values, 2), 2);
    assert_int_equal(values[0].len, RPC_NOT_FOUND);
    assert_true(bytes_equal(values[1], bytes_str("proto: not found")));
    assert_int_equal(sent, 0);
    free(a.bytes);
}

static void test_questions(void **state)
{
    uint64_t sent = 0;
    struct answer a;

    (void)state;
    assert_int_equal(files_in(3, "schema.proto", &sent), 3); /* with empty and struct */
    assert_int_equal(files_in(3, "schema.proto", &sent), 1); /* what the stream has is not sent again, but for the file itself */
    sent = 0;
    assert_int_equal(files_in(4, "immudb.model.DocumentService.SearchDocuments", &sent), 4);
    assert_int_equal(files_in(4, "immudb.schema.ReadOnly", &sent), 1); /* an enum's value stands beside it */
    sent = 0;
    assert_int_equal(files_in(4, "immudb.schema.Op.operation", &sent), 3);
    check_not_found(3, "nope.proto");
    check_not_found(3, "");
    check_not_found(4, "immudb.schema");
    check_not_found(4, ".immudb.schema.Key");
    check_not_found(4, "immudb.schema.TxMode.ReadOnly");
    check_not_found(5, "");
    check_not_found(6, "immudb.schema.ImmuService");
    check_not_found(6, "nope");
    a = ask(6, "immudb.schema.Key", &sent); /* a message without extensions */
    assert_int_equal(a.field, 5);
    free(a.bytes);
    a = ask(7, "*", &sent);
    assert_int_equal(a.field, 6);
    free(a.bytes);
}

static void try_bytes(struct bytes request)
{
    uint8_t *copy = malloc(request.len == 0 ? 1 : request.len), *out;
    uint64_t sent = 0;
    struct err err;
    size_t len;

    assert_non_null(copy);
    if (request.len > 0)
        memcpy(copy, request.data, request.len); /* exactly as long: the sanitizer sees a byte too many */
    if (reflection_answer(bytes_of(copy, request.len), &sent, &out, &len, &err) == ST_OK)
        assert_true(len > 0);
    free(out);
    free(copy);
}

static void test_broken(void **state)
{
    static const uint8_t extension[] = {0x2a, 0x0e, 0x0a, 0x0a, 'i', 'm',  'm', 'u', 'd',  'b', '.', 'x', '.', 'y',
                                        0x10, 0x05, 0x0a, 0x01, 'h', 0xa8, 1,   7,   0xa5, 1,   1,   2,   3,   4};
    uint8_t buf[sizeof extension], *out;
    uint64_t sent = 0;
    struct err err;
    size_t i, len;

    (void)state;
    for (i = 0; i <= sizeof extension; i++)
        try_bytes(bytes_of(extension, i));
    for (i = 0; i < 8 * sizeof extension; i++) {
        memcpy(buf, extension, sizeof buf);
        buf[i / 8] ^= (uint8_t)(1u << i % 8);
        try_bytes(bytes_of(buf, sizeof buf));
    }
    assert_int_equal(reflection_answer(bytes_of("", 0), &sent, &out, &len, &err), ST_INVALID);
    assert_string_equal(err.text, "invalid MessageRequest: <nil>");
    assert_int_equal(reflection_answer(bytes_of("\x22\x02\xff\xfe", 4), &sent, &out, &len, &err), ST_INVALID); /* not UTF-8 */
    assert_null(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tables), cmocka_unit_test(test_questions), cmocka_unit_test(test_broken)};

    return cmocka_run_group_tests_name("reflection", tests, NULL, NULL);
}
