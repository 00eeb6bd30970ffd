/* Proves what reads of keys, references, lists and sorted sets give on a real store in memory: results and texts.
 *
 * How: small databases, read back case by case; scans of random keys with random bounds are compared with a list filtered straight
 * from the definition. */
#include "kv/kv_fixture.h"

#include <float.h>

static void get_finds_versions(void **state)
{
    struct kv_entry e;

    (void)state;
    put("a", "1");
    put("b", "2");
    put("a", "1bis");
    OK(get(GET(.key = S("a")), &e, &err));
    assert_true(e.tx_id == 3 && e.revision == 2 && is(e.value, "1bis") && is(e.key, "a") && !e.has_reference);
    OK(get(GET(.key = S("a"), .at_tx = 1), &e, &err));
    assert_true(e.tx_id == 1 && e.revision == 0 && is(e.value, "1"));
    OK(get(GET(.key = S("a"), .at_revision = 1), &e, &err));
    assert_true(e.tx_id == 1 && e.revision == 1 && is(e.value, "1"));
    OK(get(GET(.key = S("a"), .at_revision = 2), &e, &err));
    assert_true(e.tx_id == 3 && e.revision == 2);
    OK(get(GET(.key = S("a"), .at_revision = -1), &e, &err));
    assert_true(e.tx_id == 1 && e.revision == 1);
    OK(get(GET(.key = S("a"), .since_tx = 3), &e, &err));
    OK(get(GET(.key = S("a"), .no_wait = true), &e, &err));
}

static void get_says_what_is_wrong(void **state)
{
    struct kv_entry e;
    uint8_t *longest = calloc(1, 70000);

    (void)state;
    put("a", "1");
    put("b", "2");
    FAILS(get(GET(.key = S("")), &e, &err), ST_INVALID, "illegal arguments: empty key");
    FAILS(get(GET(.key = S("a"), .at_tx = 1, .since_tx = 1), &e, &err), ST_INVALID,
          "illegal arguments: SinceTx should not be specified when AtTx is used");
    FAILS(get(GET(.key = S("a"), .at_tx = 1, .at_revision = 1), &e, &err), ST_INVALID,
          "illegal arguments: AtRevision should not be specified when AtTx is used");
    FAILS(get(GET(.key = S("a"), .since_tx = 3), &e, &err), ST_INVALID,
          "illegal arguments: SinceTx must not be greater than the current transaction ID");
    FAILS(get(GET(.key = S("a"), .at_tx = 2), &e, &err), ST_NOT_FOUND, "tbtree: key not found");
    FAILS(get(GET(.key = S("a"), .at_tx = 9), &e, &err), ST_NOT_FOUND, "tx not found");
    FAILS(get(GET(.key = S("zz")), &e, &err), ST_NOT_FOUND, "tbtree: key not found");
    FAILS(get(GET(.key = S("zz"), .at_revision = 1), &e, &err), ST_NOT_FOUND, "tbtree: key not found");
    FAILS(get(GET(.key = S("a"), .at_revision = 2), &e, &err), ST_INVALID, "invalid key revision number");
    FAILS(get(GET(.key = S("a"), .at_revision = -1), &e, &err), ST_INVALID, "invalid key revision number");
    FAILS(get(GET(.key = S("a"), .at_revision = INT64_MIN), &e, &err), ST_INVALID, "invalid key revision number");
    FAILS(get(GET(.key = S("a"), .at_revision = INT64_MAX), &e, &err), ST_INVALID, "invalid key revision number");
    assert_non_null(longest);
    FAILS(get(GET(.key = bytes_of(longest, 70000)), &e, &err), ST_NOT_FOUND, "tbtree: key not found");
    FAILS(get(GET(.key = bytes_of(longest, 70000), .at_tx = 1), &e, &err), ST_NOT_FOUND, "tbtree: key not found");
    free(longest);
}

static void deleted_expired_and_unindexed(void **state)
{
    struct kv_entry e;

    (void)state;
    put("a", "1");
    del("a");
    FAILS(get(GET(.key = S("a")), &e, &err), ST_NOT_FOUND, "tbtree: key not found");
    FAILS(get(GET(.key = S("a"), .at_tx = 2), &e, &err), ST_NOT_FOUND, "tbtree: key not found");
    FAILS(get(GET(.key = S("a"), .at_revision = 2), &e, &err), ST_NOT_FOUND, "tbtree: key not found");
    put("a", "again");
    OK(get(GET(.key = S("a")), &e, &err));
    assert_int_equal(e.revision, 3);
    put_md("e", "v", (struct kv_metadata){.has_expiry = true, .expires_at = NOW});
    FAILS(get(GET(.key = S("e")), &e, &err), ST_NOT_FOUND, "tbtree: key not found: expired entry");
    FAILS(get(GET(.key = S("e"), .at_tx = 4), &e, &err), ST_NOT_FOUND, "tbtree: key not found: expired entry");
    FAILS(get(GET(.key = S("e"), .at_revision = 1), &e, &err), ST_NOT_FOUND, "tbtree: key not found: expired entry");
    OK(get_at_time(GET(.key = S("e")), NOW - 1, &e, &err));
    assert_true(e.md.has_expiry && e.md.expires_at == NOW);
    put_md("n", "v", (struct kv_metadata){.is_non_indexable = true});
    FAILS(get(GET(.key = S("n")), &e, &err), ST_NOT_FOUND, "tbtree: key not found");
    OK(get(GET(.key = S("n"), .at_tx = 5), &e, &err));
    assert_true(e.md.is_non_indexable && is(e.value, "v"));
}

static void references_are_followed_once(void **state)
{
    struct kv_entry e;
    uint64_t ignored;

    (void)state;
    put("k", "v1");
    put("k", "v2");
    put_ref("r", "k", 0);
    put_ref("b", "k", 1);
    OK(get(GET(.key = S("r")), &e, &err));
    assert_true(e.tx_id == 2 && is(e.key, "k") && is(e.value, "v2") && e.revision == 2 && e.has_reference);
    assert_true(e.reference.tx_id == 3 && e.reference.at_tx == 0 && e.reference.revision == 1);
    OK(get(GET(.key = S("b")), &e, &err));
    assert_true(e.tx_id == 1 && is(e.value, "v1") && e.revision == 0 && e.reference.at_tx == 1 && e.reference.revision == 1);
    OK(get(GET(.key = S("r"), .at_tx = 3), &e, &err));
    assert_true(e.tx_id == 2 && e.reference.revision == 0);
    FAILS(try_ref("x", "missing", 0, &ignored, &err), ST_NOT_FOUND, "tbtree: key not found");
    FAILS(try_ref("x", "k", 3, &ignored, &err), ST_NOT_FOUND, "tbtree: key not found");
    FAILS(try_ref("x", "k", 99, &ignored, &err), ST_NOT_FOUND, "tx not found");
    FAILS(try_ref("x", "r", 0, &ignored, &err), ST_INVALID, "referenced key cannot be a reference");
    FAILS(try_ref("k", "k", 0, &ignored, &err), ST_INVALID, "final key cannot be converted into a reference");
    FAILS(try_ref("", "k", 0, &ignored, &err), ST_INVALID, "illegal arguments");
    FAILS(try_ref("x", "", 0, &ignored, &err), ST_INVALID, "illegal arguments");
    put("other", "o");
    put_ref("r", "other", 0); /* may be pointed elsewhere */
    OK(get(GET(.key = S("r")), &e, &err));
    assert_true(is(e.value, "o") && e.reference.revision == 2);
    del("other");
    FAILS(get(GET(.key = S("r")), &e, &err), ST_NOT_FOUND, "tbtree: key not found");
    put_ref("other", "k", 0); /* deleted: may become a reference, and r leads to it */
    FAILS(get(GET(.key = S("r")), &e, &err), ST_LIMIT, "max key resolution limit reached. It may be due to cyclic references");
    put("r", "plain"); /* a reference may be overwritten */
    OK(get(GET(.key = S("r")), &e, &err));
    assert_false(e.has_reference);
}

static void boundness_and_at_tx_belong_together(void **state)
{
    struct kv_ref ref = {S("x"), S("k"), 0, true};
    struct kv_zadd z = {S("s"), S("k"), 1, 1, false};

    (void)state;
    FAILS(kv_ref_check(&ref, &err), ST_INVALID, "illegal arguments");
    ref = (struct kv_ref){S("x"), S("k"), 1, false};
    FAILS(kv_ref_check(&ref, &err), ST_INVALID, "illegal arguments");
    FAILS(kv_zadd_check(&z, &err), ST_INVALID, "illegal arguments");
    z = (struct kv_zadd){S(""), S("k"), 1, 0, false};
    FAILS(kv_zadd_check(&z, &err), ST_INVALID, "illegal arguments");
}

/* ------------------------------------------------------------ lists */

/* The keys found, separated by blanks. */
static const char *scan(struct kv_scan_options o)
{
    static char out[4096];
    struct kv_reader r = reader_now();
    struct kv_scan s;
    struct kv_entry e;
    struct err err;
    enum status st;
    size_t len = 0;

    if (o.limit == 0)
        o.limit = KV_RESULT_MAX;
    check_ok(kv_scan_open(&s, &r, &o, &err), &err, "kv_scan_open");
    while ((st = kv_scan_next(&s, &e, &err)) == ST_OK) {
        struct bytes key = e.has_reference ? e.reference.key : e.key;

        len += (size_t)snprintf(out + len, sizeof out - len, "%s%.*s", len > 0 ? " " : "", (int)key.len, (const char *)key.data);
    }
    assert_int_equal(st, ST_NOT_FOUND);
    assert_string_equal(err.text, "");
    out[len] = 0;
    kv_scan_close(&s);
    kv_reader_close(&r);
    return out;
}
#define SCAN(...) scan((struct kv_scan_options){__VA_ARGS__})

static void scans_as_published(void **state)
{
    (void)state;
    put("a", "1");
    put("b", "2");
    put("c", "3");
    put("ca", "4");
    assert_string_equal(SCAN(.limit = 0), "a b c ca");
    assert_string_equal(SCAN(.desc = true), "ca c b a");
    assert_string_equal(SCAN(.prefix = S("c")), "c ca");
    assert_string_equal(SCAN(.prefix = S("c"), .desc = true), "ca c");
    assert_string_equal(SCAN(.limit = 2, .offset = 1), "b c");
    assert_string_equal(SCAN(.offset = 10), "");
    assert_string_equal(SCAN(.seek = S("b")), "c ca");
    assert_string_equal(SCAN(.seek = S("b"), .inclusive_seek = true), "b c ca");
    assert_string_equal(SCAN(.seek = S("b"), .desc = true), "a");
    assert_string_equal(SCAN(.seek = S("b"), .desc = true, .inclusive_seek = true), "b a");
    assert_string_equal(SCAN(.end = S("c")), "a b");
    assert_string_equal(SCAN(.end = S("c"), .inclusive_end = true), "a b c");
    assert_string_equal(SCAN(.seek = S("a"), .end = S("ca")), "b c");
    assert_string_equal(SCAN(.seek = S("z"), .end = S("a")), "");
    assert_string_equal(SCAN(.seek = S("ca"), .end = S("a"), .desc = true, .inclusive_seek = true, .inclusive_end = true), "ca c b a");
    assert_string_equal(SCAN(.prefix = S("b"), .seek = S("a")), "b");
    assert_string_equal(SCAN(.prefix = S("b"), .seek = S("c")), "");
    assert_string_equal(SCAN(.prefix = S("b"), .seek = S("c"), .desc = true), "b");
    put_ref("ra", "a", 0);
    put_ref("rb", "b", 0);
    put_md("x", "", (struct kv_metadata){.has_expiry = true, .expires_at = 5});
    del("a");
    assert_string_equal(SCAN(.limit = 0), "b c ca rb");
    assert_string_equal(SCAN(.limit = 4), "b c ca"); /* ra leads nowhere but counts */
    assert_string_equal(SCAN(.offset = 3), "rb");
}

static void limits(void **state)
{
    uint64_t limit;

    (void)state;
    OK(kv_limit(0, &limit, &err));
    assert_int_equal(limit, 2500);
    OK(kv_limit(2500, &limit, &err));
    FAILS(kv_limit(2501, &limit, &err), ST_LIMIT,
          "result size limit exceeded: the specified limit (2501) is larger than the maximum allowed one (2500)");
}

/* --- random keys and bounds against the definition --- */
enum { KEYS = 200 };
static char keys[KEYS][6];
static int by_bytes(const void *a, const void *b) { return strcmp(a, b); }

static uint64_t seed = 12345;
static unsigned rnd(unsigned below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % below;
}
static void random_word(char *out)
{
    unsigned len = rnd(4);

    for (unsigned i = 0; i < len; i++)
        out[i] = (char)('a' + rnd(3));
    out[len] = 0;
}

/* Is key between seek and end, and has the prefix? A seek outside the prefix means the prefix' own edge, or nothing behind it. */
static bool belongs(const char *key, const struct kv_scan_options *o)
{
    struct bytes k = S(key);
    int seek, end;

    if (!bytes_has_prefix(k, o->prefix))
        return false;
    if (o->seek.len > 0) {
        seek = bytes_compare(k, o->seek);
        seek = o->desc ? -seek : seek;
        if (seek < 0 || (seek == 0 && !o->inclusive_seek))
            return false;
    }
    if (o->end.len > 0) {
        end = bytes_compare(k, o->end);
        end = o->desc ? -end : end;
        if (end > 0 || (end == 0 && !o->inclusive_end))
            return false;
    }
    return true;
}

static void scans_equal_the_definition(void **state)
{
    struct store_draft *d = draft();
    size_t count = 0;

    (void)state;
    for (unsigned i = 0; i < 60; i++) {
        struct err err;

        do
            random_word(keys[count]);
        while (keys[count][0] == 0);
        if (kv_draft_set(d, &f.arena, S(keys[count]), NULL, S("v"), &err) == ST_OK)
            count++;
    }
    commit(d);
    qsort(keys, count, sizeof keys[0], by_bytes);
    for (unsigned round = 0; round < 2000; round++) {
        char prefix[6], seek[6], stop[6], expected[4096] = "";
        struct kv_scan_options o = {.desc = rnd(2), .inclusive_seek = rnd(2), .inclusive_end = rnd(2)};
        size_t len = 0;

        random_word(prefix);
        random_word(seek);
        random_word(stop);
        prefix[rnd(3)] = 0;
        o.prefix = S(prefix);
        o.seek = S(seek);
        o.end = S(stop);
        for (size_t i = 0; i < count; i++) {
            const char *key = keys[o.desc ? count - 1 - i : i];

            if (belongs(key, &o))
                len += (size_t)snprintf(expected + len, sizeof expected - len, "%s%s", len > 0 ? " " : "", key);
        }
        assert_string_equal(scan(o), expected);
    }
}

static void bounds_longer_than_any_key(void **state)
{
    char *longer = calloc(1, 70000);
    struct bytes b = bytes_of(longer, 70000);

    (void)state;
    assert_non_null(longer);
    memset(longer, 'b', 70000);
    put("a", "1");
    put("bb", "2");
    put("c", "3");
    assert_string_equal(SCAN(.seek = b), "c");
    assert_string_equal(SCAN(.seek = b, .inclusive_seek = true), "c");
    assert_string_equal(SCAN(.seek = b, .desc = true), "bb a");
    assert_string_equal(SCAN(.end = b), "a bb");
    assert_string_equal(SCAN(.end = b, .desc = true), "c");
    assert_string_equal(SCAN(.prefix = b), "");
    free(longer);
}

static const char *history(const char *key, uint64_t offset, int32_t limit, bool desc, enum status *st, struct err *err)
{
    static char out[512];
    struct kv_reader r = reader_now();
    struct kv_history h;
    struct kv_entry e;
    size_t len = 0;

    out[0] = 0;
    err->text[0] = 0;
    if ((*st = kv_history_open(&h, &r, S(key), offset, limit, desc, err)) == ST_OK) {
        while ((*st = kv_history_next(&h, &e, err)) == ST_OK)
            len += (size_t)snprintf(out + len, sizeof out - len, "%s%llu:%llu=%.*s%s%s", len > 0 ? " " : "", (unsigned long long)e.revision,
                                    (unsigned long long)e.tx_id, (int)e.value.len, (const char *)e.value.data, e.md.is_deleted ? "!" : "",
                                    e.is_expired ? "?" : "");
        if (*st == ST_NOT_FOUND && err->text[0] == 0)
            *st = ST_OK;
    }
    kv_reader_close(&r);
    return out;
}

static void histories(void **state)
{
    static const struct {
        const char *key;
        uint64_t offset;
        int32_t limit;
        bool desc;
        enum status st;
        const char *text;
    } cases[] = {
        {"a", 0, 0, false, ST_OK, "1:1=x 2:2=! 3:3=y 4:4=?"},
        {"a", 0, 0, true, ST_OK, "4:4=? 3:3=y 2:2=! 1:1=x"},
        {"a", 1, 2, false, ST_OK, "2:2=! 3:3=y"},
        {"a", 1, 2, true, ST_OK, "3:3=y 2:2=!"},
        {"a", 3, 9, false, ST_OK, "4:4=?"},
        {"a", 4, 0, false, ST_INVALID, "tbtree: no more entries"},
        {"a", 5, 0, false, ST_OK, ""},
        {"a", 0, -1, false, ST_INVALID, "tbtree: illegal arguments"},
        {"none", 0, 0, false, ST_NOT_FOUND, "tbtree: key not found"},
        {"", 0, 0, false, ST_NOT_FOUND, "tbtree: key not found"},
    };

    (void)state;
    put("a", "x");
    del("a");
    put("a", "y");
    put_md("a", "z", (struct kv_metadata){.has_expiry = true, .expires_at = 1});
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err err;
        enum status st;
        const char *got = history(cases[i].key, cases[i].offset, cases[i].limit, cases[i].desc, &st, &err);

        assert_int_equal(st, cases[i].st);
        assert_string_equal(st == ST_OK ? got : err.text, cases[i].text);
    }
}

/* ------------------------------------------------------------ sorted sets */

static void sorted_sets(void **state)
{
    (void)state;
    put("k1", "v1");
    put("k2", "v2");
    put("k3", "v3");
    put("k4", "v4");
    put("k5", "v5");
    zadd("z", 3.5, "k1", 0);
    zadd("z", 1, "k2", 0);
    zadd("z", 2, "k3", 0);
    zadd("z", 2, "k4", 0);
    zadd("z", 10, "k5", 0);
    zadd("zz", 1, "k1", 0); /* another set */
    assert_string_equal(ZSCAN(.limit = 0), "k2:1@0 k3:2@0 k4:2@0 k1:3.5@0 k5:10@0");
    assert_string_equal(ZSCAN(.desc = true), "k5:10@0 k1:3.5@0 k4:2@0 k3:2@0 k2:1@0");
    assert_string_equal(ZSCAN(.limit = 2, .offset = 2), "k4:2@0 k1:3.5@0");
    assert_string_equal(ZSCAN(.has_min = true, .min = 2), "k3:2@0 k4:2@0 k1:3.5@0 k5:10@0");
    assert_string_equal(ZSCAN(.has_max = true, .max = 2), "k2:1@0 k3:2@0 k4:2@0");
    assert_string_equal(ZSCAN(.has_min = true, .min = 2, .has_max = true, .max = 3.5), "k3:2@0 k4:2@0 k1:3.5@0");
    assert_string_equal(ZSCAN(.has_min = true, .min = 2, .has_max = true, .max = 3.5, .desc = true), "k4:2@0 k3:2@0");
    assert_string_equal(ZSCAN(.has_min = true, .min = 9, .has_max = true, .max = 1), "");
    assert_string_equal(ZSCAN(.has_max = true, .max = 2, .limit = 1, .desc = true), "k2:1@0");
    assert_string_equal(ZSCAN(.seek_key = S("k3"), .seek_score = 2), "k4:2@0 k1:3.5@0 k5:10@0");
    assert_string_equal(ZSCAN(.seek_key = S("k3"), .seek_score = 2, .inclusive_seek = true), "k3:2@0 k4:2@0 k1:3.5@0 k5:10@0");
    assert_string_equal(ZSCAN(.seek_key = S("k3"), .seek_score = 2, .inclusive_seek = true, .desc = true), "k3:2@0 k2:1@0");
    assert_string_equal(ZSCAN(.seek_key = S("k3"), .seek_score = 2, .desc = true), "k2:1@0");
    del("k2");
    assert_string_equal(ZSCAN(.limit = 2), "k3:2@0"); /* the member of a deleted key is passed over but counts */
}

static void scores_sort_by_their_bits(void **state)
{
    (void)state;
    put("k1", "v1");
    put("k1", "v1b");
    put("k2", "v2");
    zadd("z", -1, "k1", 0);
    zadd("z", -2, "k2", 0);
    zadd("z", 0, "k2", 0);
    zadd("z", 1, "k1", 1);
    zadd("z", 1, "k1", 0);
    zadd("z", DBL_MAX, "k1", 0);
    assert_string_equal(ZSCAN(.has_max = true, .max = 5), "k2:0@0 k1:1@0 k1:1@1 k1:-1@0 k2:-2@0");
    assert_string_equal(ZSCAN(.desc = true), "k1:1@1 k1:1@0 k2:0@0");
    assert_string_equal(ZSCAN(.has_min = true, .min = -5), "");
    assert_string_equal(ZSCAN(.has_min = true, .min = -1), "k1:-1@0");
}

static void zadd_checks_its_key(void **state)
{
    char set[1100];

    (void)state;
    put("k", "v");
    put_ref("r", "k", 0);
    memset(set, 's', sizeof set - 1);
    set[sizeof set - 1] = 0;
    FAILS(try_zadd("z", 1, "none", 0, &err), ST_NOT_FOUND, "tbtree: key not found");
    FAILS(try_zadd("z", 1, "r", 0, &err), ST_INVALID, "referenced key cannot be a reference");
    FAILS(try_zadd(set, 1, "k", 0, &err), ST_LIMIT, "max key length exceeded");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(get_finds_versions, begin, end),
        cmocka_unit_test_setup_teardown(get_says_what_is_wrong, begin, end),
        cmocka_unit_test_setup_teardown(deleted_expired_and_unindexed, begin, end),
        cmocka_unit_test_setup_teardown(references_are_followed_once, begin, end),
        cmocka_unit_test_setup_teardown(boundness_and_at_tx_belong_together, begin, end),
        cmocka_unit_test_setup_teardown(scans_as_published, begin, end),
        cmocka_unit_test_setup_teardown(limits, begin, end),
        cmocka_unit_test_setup_teardown(scans_equal_the_definition, begin, end),
        cmocka_unit_test_setup_teardown(bounds_longer_than_any_key, begin, end),
        cmocka_unit_test_setup_teardown(histories, begin, end),
        cmocka_unit_test_setup_teardown(sorted_sets, begin, end),
        cmocka_unit_test_setup_teardown(scores_sort_by_their_bits, begin, end),
        cmocka_unit_test_setup_teardown(zadd_checks_its_key, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
