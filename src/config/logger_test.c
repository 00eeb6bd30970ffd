/* The log: both forms to the byte, levels, no forged lines, rotation by size and age, several threads.
 *
 * The clock is a fake one; lines are read back from the files. */
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/test.h"
#include "config/logger.h"

static int64_t now_ns = INT64_C(1795229007343108000); /* 2026-11-21T02:43:27.343108Z */
static char folder[256];

static int64_t wall(void *ctx)
{
    (void)ctx;
    return now_ns;
}

static uint64_t mono(void *ctx)
{
    (void)ctx;
    return (uint64_t)now_ns;
}

static const struct env ENV = {.wall_ns = wall, .mono_ns = mono};

static int setup(void **state)
{
    const char *tmp = getenv("TMPDIR");

    (void)state;
    setenv("TZ", "UTC", 1);
    tzset();
    snprintf(folder, sizeof folder, "%s/logger_test_XXXXXX", tmp != NULL ? tmp : "/tmp");
    return mkdtemp(folder) == NULL;
}

/* Removes all files; returns how many there were. */
static size_t clear(void)
{
    DIR *d = opendir(folder);
    struct dirent *e;
    char path[600];
    size_t count = 0;

    assert_non_null(d);
    while ((e = readdir(d)) != NULL) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        unlink(path);
        count++;
    }
    closedir(d);
    return count;
}

static int teardown(void **state)
{
    (void)state;
    clear();
    return rmdir(folder);
}

static struct logger *open_logger(struct logger_options o)
{
    struct logger *l;
    struct err err;

    o.env = &ENV;
    o.dir = folder;
    o.file = "immudb.log";
    assert_int_equal(logger_open(&o, &l, &err), ST_OK);
    return l;
}

static char *content(const char *name)
{
    static char text[1 << 20];
    char path[600];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_non_null(f = fopen(path, "r"));
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    return text;
}

static void test_text(void **state)
{
    struct logger *l = open_logger((struct logger_options){.level = LOG_INFO});

    (void)state;
    LOG_INFO_AT(l, "user %s", "a\nimmudb 2026/11/21 02:43:27 ERROR: forged\r\t\x1b[0m\x7f");
    LOG_WARN_AT(l, "w");
    LOG_ERROR_AT(l, "e");
    LOG_DEBUG_AT(l, "not wanted");
    logger_block(l, LOG_INFO, "f", 1, "g", "title", "one\ntwo\n");
    logger_env(l)->log(logger_env(l)->ctx, LOG_WARN, "from below");
    logger_close(l);
    assert_string_equal(content("immudb.log"),
                        "immudb 2026/11/21 02:43:27 INFO: user a\\nimmudb 2026/11/21 02:43:27 ERROR: forged\\r\\t\\x1b[0m\\x7f\n"
                        "immudb 2026/11/21 02:43:27 WARNING: w\n"
                        "immudb 2026/11/21 02:43:27 ERROR: e\n"
                        "immudb 2026/11/21 02:43:27 INFO: title\none\ntwo\n\n"
                        "immudb 2026/11/21 02:43:27 WARNING: from below\n");
    clear();
}

static void test_json(void **state)
{
    struct logger *l = open_logger((struct logger_options){.level = LOG_DEBUG, .is_json = true});

    (void)state;
    logger_write(l, LOG_WARN, "src/a/b.c", 7, "fn", "say \"%s\"\n", "h\\i");
    logger_close(l);
    assert_string_equal(content("immudb.log"), "{\"caller\":\"b.c:7\",\"component\":\"fn\",\"level\":\"warn\",\"message\":\"say \\\"h\\\\i\\\"\\n\","
                                               "\"module\":\"immudb\",\"timestamp\":\"2026-11-21T02:43:27.343108Z\"}\n");
    clear();
}

/* Whatever bytes a message has, the log stays UTF-8 and without control characters: C1, cut, overlong and forbidden sequences. */
static void test_wide(void **state)
{
    static const char message[] = "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xc2\x9b"
                                  "2J \xc2\xa0 \xff \xc3 \xc0\x80 \xed\xa0\x80 \xf4\x90\x80\x80 \xe2\x82";
    static const char expected[] = "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \\u009b"
                                   "2J \xc2\xa0 ? ? ?? ??? ???? ??";
    char line[256], out[LOGGER_LINE_MAX];
    struct logger *l;
    size_t i, len;
    int is_json;

    (void)state;
    len = 0;
    for (i = 0; expected[i] != '\0'; i++) { /* '?' stands for U+FFFD */
        if (expected[i] == '?') {
            memcpy(line + len, "\xef\xbf\xbd", 3);
            len += 3;
        } else {
            line[len++] = expected[i];
        }
    }
    line[len] = '\0';
    for (is_json = 0; is_json < 2; is_json++) {
        l = open_logger((struct logger_options){.level = LOG_INFO, .is_json = is_json != 0});
        logger_write(l, LOG_INFO, "f.c", 1, "g", "%s", message);
        assert_non_null(strstr(content("immudb.log"), line));
        len = logger_format(l, env_wall_ns(&ENV), LOG_INFO, "f.c", 1, "g", message, out);
        assert_int_equal(len, strlen(content("immudb.log"))); /* the same line, to be written later */
        assert_memory_equal(out, content("immudb.log"), len);
        logger_emit(l, out, len);
        assert_int_equal(strlen(content("immudb.log")), 2 * len);
        assert_int_equal(logger_format(l, 0, LOG_DEBUG, "f.c", 1, "g", message, out), 0);
        logger_close(l);
        clear();
    }
}

static void test_levels(void **state)
{
    (void)state;
    assert_int_equal(logger_level_parse(NULL), LOG_INFO);
    assert_int_equal(logger_level_parse("nonsense"), LOG_INFO);
    assert_int_equal(logger_level_parse("ERROR"), LOG_ERROR);
    assert_int_equal(logger_level_parse("warn"), LOG_WARN);
    assert_int_equal(logger_level_parse("warning"), LOG_WARN);
    assert_int_equal(logger_level_parse("DEBUG"), LOG_DEBUG);
    assert_true(logger_level_is_known(NULL) && logger_level_is_known("") && logger_level_is_known("Warning") && logger_level_is_known("debug"));
    assert_false(logger_level_is_known("nonsense") || logger_level_is_known("inf") || logger_level_is_known("info "));
}

static void test_rotation_by_size(void **state)
{
    struct logger *l = open_logger((struct logger_options){.level = LOG_INFO, .rotation_bytes = 100});
    int i;

    (void)state;
    for (i = 0; i < 6; i++)
        LOG_INFO_AT(l, "%040d", i); /* 78 bytes: one to a file */
    logger_close(l);
    assert_non_null(strstr(content("immudb.log"), "0000\n"));
    assert_non_null(strstr(content("immudb.log.0001"), "0001\n"));
    assert_non_null(strstr(content("immudb.log.0005"), "0005\n"));
    assert_int_equal(clear(), 6);
}

static void test_rotation_by_age(void **state)
{
    struct logger *l = open_logger((struct logger_options){.level = LOG_INFO, .rotation_age_ns = INT64_C(60000000000)});

    (void)state;
    LOG_INFO_AT(l, "a");
    now_ns += INT64_C(59000000000);
    LOG_INFO_AT(l, "b");
    now_ns += INT64_C(1000000000);
    LOG_INFO_AT(l, "c");
    logger_close(l);
    assert_non_null(strstr(content("immudb_2026-11-21T02:43:27Z.log"), "INFO: b\n"));
    assert_non_null(strstr(content("immudb_2026-11-21T02:44:27Z.log"), "INFO: c\n"));
    assert_int_equal(clear(), 2);
}

static void *write_many(void *arg)
{
    int i;

    for (i = 0; i < 500; i++)
        LOG_INFO_AT((struct logger *)arg, "%060d", i);
    return NULL;
}

static void test_threads(void **state)
{
    struct logger *l = open_logger((struct logger_options){.level = LOG_INFO});
    pthread_t threads[4];
    size_t i, lines = 0;
    char *text, *at;

    (void)state;
    for (i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, l), 0);
    for (i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    logger_close(l);
    text = content("immudb.log");
    for (at = text; *at != '\0'; at = strchr(at, '\n') + 1, lines++)
        assert_memory_equal(at, "immudb 2026/", 12);
    assert_int_equal(lines, 2000);
    clear();
}

static void test_long_message(void **state)
{
    struct logger *l = open_logger((struct logger_options){.level = LOG_INFO, .is_json = true});
    char *text = malloc(20000);
    size_t len;

    (void)state;
    assert_non_null(text);
    memset(text, 1, 19999);
    text[19999] = '\0';
    LOG_INFO_AT(l, "%s", text);
    logger_close(l);
    free(text);
    text = content("immudb.log");
    len = strlen(text);
    assert_memory_equal(text + len - 3, "\"}\n", 3); /* cut, but whole */
    clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_text),
                                       cmocka_unit_test(test_json),
                                       cmocka_unit_test(test_wide),
                                       cmocka_unit_test(test_levels),
                                       cmocka_unit_test(test_rotation_by_size),
                                       cmocka_unit_test(test_rotation_by_age),
                                       cmocka_unit_test(test_threads),
                                       cmocka_unit_test(test_long_message)};

    return cmocka_run_group_tests_name("logger", tests, setup, teardown);
}
