/* Options: for every source and every pair of sources the higher one wins; texts of errors; names and forms that must be accepted.
 *
 * Each case is a row: command line, environment, file, and what must come out. Files are made in a fresh folder under TMPDIR. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/test.h"
#include "config/config.h"

static char folder[256];

static void write_file(const char *name, const char *text)
{
    char path[512];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_non_null(f = fopen(path, "w"));
    fputs(text, f);
    fclose(f);
}

static void remove_file(const char *name)
{
    char path[512];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
}

static int setup(void **state)
{
    const char *tmp = getenv("TMPDIR");

    (void)state;
    snprintf(folder, sizeof folder, "%s/config_test_XXXXXX", tmp != NULL ? tmp : "/tmp");
    return mkdtemp(folder) == NULL;
}

static int teardown(void **state)
{
    (void)state;
    return rmdir(folder);
}

#define WORDS_MAX 8
struct given {
    const char *args[WORDS_MAX], *env[WORDS_MAX]; /* NULL at the end */
    const char *file;                             /* immudb.toml in the home folder; NULL: none */
};

static enum status load(const struct given *g, struct config **out, struct err *err)
{
    char *argv[WORDS_MAX + 1] = {(char *)(uintptr_t) "immudb"}, *envp[WORDS_MAX + 1] = {NULL};
    struct config_input in = {.argc = 1, .argv = argv, .envp = envp, .home = folder};
    enum status st;
    size_t i;

    for (i = 0; g->args[i] != NULL; i++)
        argv[in.argc++] = (char *)(uintptr_t)g->args[i];
    for (i = 0; g->env[i] != NULL; i++)
        envp[i] = (char *)(uintptr_t)g->env[i];
    if (g->file != NULL)
        write_file("immudb.toml", g->file);
    st = config_load(&in, out, err);
    remove_file("immudb.toml");
    return st;
}

static struct config *load_good(const struct given *g)
{
    struct config *c;
    struct err err = {0};

    if (load(g, &c, &err) != ST_OK)
        fail_msg("%s", err.text);
    return c;
}

static void expect_error(const struct given *g, const char *text)
{
    struct config *c;
    struct err err = {0};

    assert_int_not_equal(load(g, &c, &err), ST_OK);
    if (strstr(err.text, text) == NULL)
        fail_msg("expected \"%s\" in \"%s\"", text, err.text);
    config_free(c);
}

static void test_defaults(void **state)
{
    struct config *c = load_good(&(struct given){0});

    (void)state;
    assert_string_equal(c->address, "0.0.0.0");
    assert_int_equal(c->port, 3322);
    assert_string_equal(c->admin_password, "immudb");
    assert_true(c->auth);
    assert_true(c->synced);
    assert_true(c->metrics_server);
    assert_int_equal(c->metrics_server_port, 9497);
    assert_int_equal(c->session_timeout, 120000000000);
    assert_int_equal(c->max_session_inactivity_time, 180000000000);
    assert_int_equal(c->token_expiry_time, 1440);
    assert_int_equal(c->max_sessions, 100);
    assert_string_equal(c->file_used, "");
    assert_int_equal(c->warning_count, 0);
    config_free(c);
}

static void test_precedence(void **state)
{
    static const struct {
        struct given given;
        int64_t port;
    } rows[] = {
        {{.file = "port = 3355"}, 3355},
        {{.env = {"IMMUDB_PORT=3356"}}, 3356},
        {{.args = {"--port", "3357"}}, 3357},
        {{.file = "port = 3355", .env = {"IMMUDB_PORT=3356"}}, 3356},
        {{.file = "port = 3355", .args = {"--port=3357"}}, 3357},
        {{.env = {"IMMUDB_PORT=3356"}, .args = {"-p", "3357"}}, 3357},
        {{.file = "port = 3355", .env = {"IMMUDB_PORT=3356"}, .args = {"-p3357"}}, 3357},
        {{.file = "port = 3355", .env = {"IMMUDB_PORT="}}, 3355}, /* an empty variable is none */
        {{.file = "port = \"3355\""}, 3355},                      /* a number as text */
        {{.file = "PORT = 3355"}, 3355},                          /* names of a file ignore case */
        {{.file = "[section]\nport = 3355\n"}, 3322},             /* tables are read over */
        {{.env = {"IMMUDB_PORT=tcp://10.0.0.1:3322"}}, 3322},
        {{.file = "port = 3355", .env = {"IMMUDB_PORT=tcp://10.0.0.1:3322"}}, 3355},
        {{.args = {"--port", "0x10"}}, 16},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config *c = load_good(&rows[i].given);

        assert_int_equal(c->port, rows[i].port);
        config_free(c);
    }
}

static void test_container_links_warn(void **state)
{
    struct config *c = load_good(&(struct given){.env = {"IMMUDB_PORT=tcp://10.0.0.1:3322", "IMMUDB_METRICS_SERVER_PORT=tcp://10.0.0.1:9497"}});

    (void)state;
    assert_int_equal(c->warning_count, 2);
    assert_int_equal(c->metrics_server_port, 9497);
    assert_non_null(strstr(c->warnings[1], "IMMUDB_PORT=tcp://10.0.0.1:3322 is ignored"));
    config_free(c);
}

static void test_forms(void **state)
{
    struct config *c;

    (void)state;
    c = load_good(&(struct given){.args = {"-s=false", "--maintenance", "--session-timeout", "1m30s", "--log-rotation-size=1G", "--synced=0"}});
    assert_false(c->auth);
    assert_true(c->maintenance);
    assert_false(c->synced);
    assert_int_equal(c->session_timeout, 90000000000);
    assert_int_equal(c->log_rotation_size, 1 << 30);
    config_free(c);
    c = load_good(&(struct given){.args = {"-sd"}}); /* letters together */
    assert_true(c->auth && c->detached);
    config_free(c);
    c = load_good(&(struct given){.env = {"IMMUDB_SIGNING_KEY=/a"}});
    assert_string_equal(c->signing_key, "/a");
    config_free(c);
    c = load_good(&(struct given){.env = {"IMMUDB_SIGNING_KEY=/a", "IMMUDB_SIGNINGKEY=/b"}});
    assert_string_equal(c->signing_key, "/b");
    config_free(c);
}

static void test_old_names(void **state)
{
    struct config *c = load_good(
        &(struct given){.args = {"--replication-enabled", "--replication-master-address=h", "--replication-follower-password=enc:cHc="},
                        .file = "replication-master-port = 7\nreplication-follower-username = 'u'"});

    (void)state;
    assert_true(c->replication_is_replica);
    assert_string_equal(c->replication_primary_host, "h");
    assert_string_equal(c->replication_primary_password, "pw");
    assert_string_equal(c->replication_primary_username, "u");
    assert_int_equal(c->replication_primary_port, 7);
    assert_true(config_is_given(c, "replication-primary-host"));
    assert_int_equal(c->warning_count, 5); /* replication does not exist yet */
    config_free(c);
}

static void test_passwords(void **state)
{
    struct config *c = load_good(&(struct given){.file = "admin-password = \"enc:QWRtaW5AMTIz\""});

    (void)state;
    assert_string_equal(c->admin_password, "Admin@123");
    config_free(c);
    expect_error(&(struct given){.args = {"--admin-password", "enc:###"}},
                 "error decoding password from base64 string ###: illegal base64 data at input byte 0");
    expect_error(&(struct given){.args = {"--admin-password="}}, "Admin password cannot be empty");
}

static void test_errors(void **state)
{
    static const struct {
        struct given given;
        const char *text;
    } rows[] = {
        {{.args = {"--nope"}}, "unknown flag: --nope"},
        {{.args = {"-z"}}, "unknown shorthand flag: 'z' in -z"},
        {{.args = {"--port"}}, "flag needs an argument: --port"},
        {{.args = {"-p"}}, "flag needs an argument: 'p' in -p"},
        {{.args = {"--port", "x"}}, "invalid argument \"x\" for \"-p, --port\" flag: strconv.ParseInt: parsing \"x\": invalid syntax"},
        {{.args = {"--port", "65536"}}, "invalid argument \"65536\" for \"-p, --port\" flag: 0 to 65535"},
        {{.args = {"--auth=maybe"}}, "strconv.ParseBool"},
        {{.args = {"--session-timeout", "5"}}, "time: invalid duration \"5\""},
        {{.args = {"frobnicate"}}, "unknown command \"frobnicate\" for \"immudb\""},
        {{.args = {"--config", "/nonexistent.toml"}}, "open /nonexistent.toml: no such file or directory"},
        {{.args = {"--logformat", "xml"}}, "invalid logger type \"xml\": --logformat is either text or json"},
        {{.args = {"--audit-log-events", "foo"}}, "invalid argument \"foo\" for \"--audit-log-events\" flag: all, write or admin"},
        {{.env = {"IMMUDB_AUDIT_LOG_EVENTS=writes"}}, "invalid argument \"writes\" for \"--audit-log-events\" flag: all, write or admin"},
        {{.args = {"--log-rotation-age", "1s"}}, "log rotation age must be greater than 1m0s"},
        {{.args = {"--maintenance"}}, "authentication must be disabled when restoring systemdb"},
        {{.args = {"--certificate", "a"}}, "both certificate and private key paths must be specified or neither"},
        {{.args = {"--mtls"}}, "in order to enable MTLS a certificate and private key are required"},
        {{.env = {"IMMUDB_PORT=abc"}}, "environment variable IMMUDB_PORT"},
        {{.file = "port = [1]"}, "a list or table was given"},
        {{.file = "port = 1 2"}, "line 1: the end of the line was expected"},
        {{.file = "a = 1\nport 3"}, "line 2: '=' was expected"},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++)
        expect_error(&rows[i].given, rows[i].text);
}

static void test_files(void **state)
{
    char argument[600];
    struct config *c;

    (void)state;
    write_file("x.json", "{\"port\": 3399, \"auth\": \"false\", \"session-timeout\": \"1m\", \"other\": {\"a\": [1]}}");
    snprintf(argument, sizeof argument, "--config=%s/x.json", folder);
    c = load_good(&(struct given){.args = {argument}});
    assert_int_equal(c->port, 3399);
    assert_false(c->auth);
    assert_int_equal(c->session_timeout, 60000000000);
    config_free(c);
    remove_file("x.json");
    /* A configuration in a form that is not read must not be passed over silently. */
    write_file("immudb.yaml", "port: 1\n");
    expect_error(&(struct given){0}, "configuration files are read in the forms .toml and .json only");
    remove_file("immudb.yaml");
    /* Names of older files are no options. */
    c = load_good(&(struct given){.file = "network = 'tcp'\ndbname = 'data'\nconsistency-check = true\n"});
    config_free(c);
}

static void test_commands(void **state)
{
    static const struct {
        const char *words[WORDS_MAX];
        enum config_command command;
        const char *text;
    } rows[] = {
        {{"version"}, COMMAND_VERSION, ""},
        {{"help"}, COMMAND_HELP, ""},
        {{"--port", "1", "--help"}, COMMAND_HELP, ""},
        {{"service", "install", "-t", "3"}, COMMAND_SERVICE, "install -t 3"},
        {{"completion", "bash"}, COMMAND_COMPLETION, "bash"},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct given g = {0};
        struct config *c;

        memcpy(g.args, rows[i].words, sizeof g.args);
        c = load_good(&g);
        assert_int_equal(c->command, rows[i].command);
        assert_string_equal(c->command_text, rows[i].text);
        config_free(c);
    }
}

/* Every flag of the published list is there, and its default survives a round through its own text. */
static void test_table(void **state)
{
    /* clang-format off */
    static const char *const published[] = {
        "address", "admin-password", "audit-log", "audit-log-events", "auth", "auto-cert", "certificate", "clientcas", "config", "detached", "devmode", "dir",
        "force-admin-password", "grpc-reflection", "log-access", "log-request-metadata", "log-rotation-age", "log-rotation-size", "logdir", "logfile",
        "logformat", "maintenance", "max-active-databases", "max-key-length", "max-recv-msg-size", "max-session-age-time", "max-session-inactivity-time",
        "max-sessions", "metrics-server", "metrics-server-port", "mtls", "no-histograms", "pgsql-server", "pgsql-server-port", "pidfile", "pkey", "port",
        "pprof", "replication-allow-tx-discarding", "replication-commit-concurrency", "replication-is-replica", "replication-prefetch-tx-buffer-size",
        "replication-primary-host", "replication-primary-password", "replication-primary-port", "replication-primary-username",
        "replication-skip-integrity-check", "replication-sync-acks", "replication-sync-enabled", "replication-wait-for-indexing", "s3-access-key-id",
        "s3-bucket-name", "s3-endpoint", "s3-external-identifier", "s3-instance-metadata-url", "s3-location", "s3-path-prefix", "s3-role",
        "s3-role-enabled", "s3-secret-key", "s3-server-side-encryption", "s3-sse-kms-key-id", "s3-storage", "s3-use-fargate-credentials",
        "session-timeout", "signingKey", "swaggerui", "synced", "token-expiry-time", "web-server", "web-server-port", "replication-enabled",
        "sessions-guard-check-interval"};
    /* clang-format on */
    char *help = config_help();
    size_t i;

    (void)state;
    for (i = 0; i < sizeof published / sizeof published[0]; i++)
        if (flag_find(published[i]) == NULL)
            fail_msg("flag %s is missing", published[i]);
    assert_non_null(help);
    for (i = 0; i < FLAG_COUNT; i++) {
        char shown[96];

        snprintf(shown, sizeof shown, "--%s ", FLAGS[i].name);
        assert_true((strstr(help, shown) == NULL) == ((FLAGS[i].traits & FLAG_HIDDEN) != 0));
        assert_true(i == 0 || strcmp(FLAGS[i - 1].name, FLAGS[i].name) < 0); /* sorted */
    }
    free(help);
}

static void test_durations(void **state)
{
    static const struct {
        const char *text;
        int64_t ns;
        const char *shown;
    } rows[] = {{"0", 0, "0s"},
                {"300ms", 300000000, "300ms"},
                {"1m", 60000000000, "1m0s"},
                {"24h0m0s", 86400000000000, "24h0m0s"},
                {"1.5h", 5400000000000, "1h30m0s"},
                {"20us", 20000, "20\xc2\xb5s"},
                {"-2s", -2000000000, "-2s"},
                {"1h2m3.5s", 3723500000000, "1h2m3.5s"},
                {"7ns", 7, "7ns"}};
    static const char *const wrong[] = {"", "1", "m", "1x", "1m1", "--1s", ".s", "1.2.3s", "99999999999h", "1 s"};
    char shown[32];
    int64_t ns;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(duration_parse(rows[i].text, &ns, NULL), ST_OK);
        assert_int_equal(ns, rows[i].ns);
        duration_format(ns, shown);
        assert_string_equal(shown, rows[i].shown);
    }
    for (i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(duration_parse(wrong[i], &ns, NULL), ST_INVALID);
}

static void test_block(void **state)
{
    struct config *c = load_good(&(struct given){.args = {"--dir", "a\nb", "--metrics-server=false", "--pidfile", "p"}});
    char *block = config_block(c, true);

    (void)state;
    assert_non_null(block);
    assert_non_null(strstr(block, "Data dir         : a b\n")); /* no forged lines */
    assert_null(strstr(block, "Metrics address"));
    assert_non_null(strstr(block, "PID file         : p\n"));
    assert_non_null(strstr(block, "   Password      : immudb\n"));
    free(block);
    block = config_block(c, false); /* another one may be in force by now */
    assert_null(strstr(block, "Superadmin"));
    free(block);
    config_free(c);
    c = load_good(&(struct given){.args = {"--admin-password", "secret"}});
    block = config_block(c, true);
    assert_null(strstr(block, "secret"));
    assert_null(strstr(block, "Superadmin"));
    free(block);
    config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_precedence), cmocka_unit_test(test_container_links_warn),
        cmocka_unit_test(test_forms),    cmocka_unit_test(test_old_names),  cmocka_unit_test(test_passwords),
        cmocka_unit_test(test_errors),   cmocka_unit_test(test_files),      cmocka_unit_test(test_commands),
        cmocka_unit_test(test_table),    cmocka_unit_test(test_durations),  cmocka_unit_test(test_block)};

    return cmocka_run_group_tests_name("config", tests, setup, teardown);
}
