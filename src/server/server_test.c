/* The whole server in this process, on free ports and in a fresh folder: what a first start writes and later ones do not, the administrator's password,
 * modes, the lock of the data folder, its identity, failures at every stage of the start, probes over HTTP.
 *
 * Folders are made under TMPDIR. */
#include <arpa/inet.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth/systemdb.h"
#include "base/test.h"
#include "config/config.h"
#include "config/logger.h"
#include "databases/databases.h"
#include "request/server_parts.h"
#include "server/server.h"

static struct logger *logger;
static char folder[256];

static void remove_folder(void)
{
    struct vfs *v = vfs_posix();

    if (folder[0] != '\0')
        assert_int_equal(vfs_remove_tree(v, folder, NULL), ST_OK);
    folder[0] = '\0';
}

static void fresh_folder(void)
{
    const char *tmp = getenv("TMPDIR");

    remove_folder();
    snprintf(folder, sizeof folder, "%s/server_test_XXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(folder));
}

/* The configuration of a start in the folder, with up to three more flags. */
static struct config *configured(const char *a, const char *b, const char *c)
{
    char dir[300];
    char *argv[] = {(char *)(uintptr_t) "immudb",
                    dir,
                    (char *)(uintptr_t) "--port=0",
                    (char *)(uintptr_t) "--metrics-server-port=0",
                    (char *)(uintptr_t) "--address=127.0.0.1",
                    (char *)(uintptr_t) "--reactors=1",
                    NULL,
                    NULL,
                    NULL,
                    NULL};
    struct config_input in = {.argc = 6, .argv = argv};
    struct config *out;
    struct err err;

    snprintf(dir, sizeof dir, "--dir=%s/data", folder);
    if (a != NULL)
        argv[in.argc++] = (char *)(uintptr_t)a;
    if (b != NULL)
        argv[in.argc++] = (char *)(uintptr_t)b;
    if (c != NULL)
        argv[in.argc++] = (char *)(uintptr_t)c;
    if (config_load(&in, &out, &err) != ST_OK)
        fail_msg("%s", err.text);
    return out;
}

struct running {
    struct config *config;
    struct server *server;
};

static struct running start(const char *a, const char *b, const char *c)
{
    struct running r = {configured(a, b, c), NULL};
    struct err err;

    if (server_start(r.config, logger, &r.server, &err) != ST_OK)
        fail_msg("%s", err.text);
    return r;
}

static void stop(struct running r)
{
    server_stop(r.server, false);
    config_free(r.config);
}

static void expect_no_start(const char *a, const char *b, const char *c, const char *text)
{
    struct config *config = configured(a, b, c);
    struct server *server;
    struct err err;

    assert_int_not_equal(server_start(config, logger, &server, &err), ST_OK);
    assert_null(server);
    if (strstr(err.text, text) == NULL)
        fail_msg("expected \"%s\" in \"%s\"", text, err.text);
    config_free(config);
}

static uint64_t systemdb_txs(struct running r)
{
    struct store_state state;

    store_get_state(databases_systemdb(r.server->databases), &state);
    return state.visible_tx_id;
}

static struct user_record *sysadmin(struct running r)
{
    struct user_record *record;
    struct user *user;

    assert_int_equal(users_find(r.server->auth->users, bytes_str("immudb"), true, &user, &record, NULL), ST_OK);
    return record;
}

static void test_first_start(void **state)
{
    struct running r;
    struct user_record *record;
    struct stat info;
    char path[400], uuid[21];

    (void)state;
    fresh_folder();
    r = start(NULL, NULL, NULL);
    assert_int_equal(systemdb_txs(r), 1); /* the sysadmin, and nothing else */
    record = sysadmin(r);
    assert_true(password_matches(bytes_str("immudb"), bytes_str(record->hash)));
    assert_string_equal(record->created_by, "");
    assert_true(record->is_active && record->has_privileges && record->privilege_count == 7);
    user_record_unref(record);
    assert_true(databases_is_single(r.server->databases));
    assert_int_equal(strlen(r.server->datadir.uuid), 20);
    memcpy(uuid, r.server->datadir.uuid, sizeof uuid);
    snprintf(path, sizeof path, "%s/data", folder);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    snprintf(path, sizeof path, "%s/data/immudb.identifier", folder);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_size, 12);
    stop(r);
    r = start("--admin-password=other", NULL, NULL); /* ignored: there is one */
    assert_int_equal(systemdb_txs(r), 1);
    assert_string_equal(r.server->datadir.uuid, uuid);
    record = sysadmin(r);
    assert_true(password_matches(bytes_str("immudb"), bytes_str(record->hash)));
    user_record_unref(record);
    stop(r);
}

static void test_forced_password(void **state)
{
    struct user_record *before, *after;
    struct running r;

    (void)state;
    fresh_folder();
    r = start("--admin-password=First@1", NULL, NULL);
    before = sysadmin(r);
    stop(r);
    r = start("--admin-password=First@1", "--force-admin-password", NULL);
    assert_int_equal(systemdb_txs(r), 1); /* it matches: nothing is written */
    stop(r);
    r = start("--admin-password=Forced@123", "--force-admin-password", NULL);
    assert_int_equal(systemdb_txs(r), 2);
    after = sysadmin(r);
    assert_true(password_matches(bytes_str("Forced@123"), bytes_str(after->hash)));
    assert_int_equal(after->created_at.unix_s, before->created_at.unix_s); /* who and when stay */
    assert_int_equal(after->created_at.nanosecond, before->created_at.nanosecond);
    assert_string_equal(after->created_by, before->created_by);
    user_record_unref(before);
    user_record_unref(after);
    stop(r);
}

static void add_user(struct running r, const char *name)
{
    struct user_record *record = user_record_create(bytes_str(name));

    assert_non_null(record);
    assert_int_equal(users_put(r.server->auth->users, record, bytes_of(NULL, 0), NULL), ST_OK);
}

static void test_modes(void **state)
{
    struct database_settings settings;
    struct database *db;
    struct running r;

    (void)state;
    fresh_folder();
    stop(start("--auth=false", NULL, NULL));
    stop(start("--auth=false", "--maintenance", NULL));
    r = start(NULL, NULL, NULL);
    add_user(r, "x");
    assert_true(databases_is_single(r.server->databases)); /* until the next start */
    stop(r);
    expect_no_start("--auth=false", NULL, NULL, "authentication must be on");
    r = start(NULL, NULL, NULL);
    assert_false(databases_is_single(r.server->databases));
    stop(r);
    fresh_folder();
    r = start(NULL, NULL, NULL);
    settings_defaults(&settings, "db1");
    assert_int_equal(databases_create(r.server->databases, &settings, &db, NULL), ST_OK);
    stop(r);
    expect_no_start("--auth=false", NULL, NULL, "authentication must be on");
}

static void write_file(const char *name, const char *text)
{
    char path[400];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_non_null(f = fopen(path, "w"));
    fputs(text, f);
    fclose(f);
}

static void test_refusals(void **state)
{
    char flag[400], second[400], path[400];
    struct running r;

    (void)state;
    fresh_folder();
    r = start(NULL, NULL, NULL);
    expect_no_start(NULL, NULL, NULL, "is in use by another immudb, process ");
    snprintf(flag, sizeof flag, "--metrics-server-port=%u", server_metrics_port(r.server));
    snprintf(second, sizeof second, "--dir=%s/other", folder);
    expect_no_start(second, flag, NULL, "address already in use");
    snprintf(flag, sizeof flag, "--port=%u", server_port(r.server));
    expect_no_start(second, flag, NULL, "use");
    stop(r);
    snprintf(flag, sizeof flag, "--signingKey=%s/none.pem", folder);
    expect_no_start(flag, NULL, NULL, "unable to configure the cryptographic signer: open ");
    write_file("bad.pem", "nonsense");
    snprintf(flag, sizeof flag, "--signingKey=%s/bad.pem", folder);
    expect_no_start(flag, NULL, NULL, "unable to configure the cryptographic signer: ");
    snprintf(flag, sizeof flag, "--certificate=%s/bad.pem", folder);
    snprintf(second, sizeof second, "--pkey=%s/bad.pem", folder);
    expect_no_start(flag, second, NULL, "failed to read client certificate or private key: ");
    expect_no_start("--dir=/dev/null/x", NULL, NULL, "data folder");
    write_file("data/immudb.identifier", "short");
    expect_no_start(NULL, NULL, NULL, "immudb.identifier has 5 bytes instead of 12");
    /* Files of the original server. */
    fresh_folder();
    snprintf(path, sizeof path, "%s/data", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/data/systemdb", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/data/systemdb/tx", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    expect_no_start(NULL, NULL, NULL, "was written by the original immudb");
}

static void ask(uint16_t port, const char *path, char answer[8192])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char request[128];
    int fd = socket(AF_INET, SOCK_STREAM, 0), len;
    size_t got = 0;
    ssize_t n;

    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    len = snprintf(request, sizeof request, "GET %s HTTP/1.0\r\n\r\n", path);
    assert_int_equal(write(fd, request, (size_t)len), len);
    while (got < 8191 && (n = read(fd, answer + got, 8191 - got)) > 0)
        got += (size_t)n;
    answer[got] = '\0';
    close(fd);
}

static void test_probes(void **state)
{
    struct running r;
    char answer[8192];

    (void)state;
    fresh_folder();
    r = start(NULL, NULL, NULL);
    ask(server_metrics_port(r.server), "/readyz", answer);
    assert_non_null(strstr(answer, " 200 "));
    assert_non_null(strstr(answer, "Access-Control-Allow-Origin: *"));
    ask(server_metrics_port(r.server), "/version", answer);
    assert_non_null(strstr(answer, "{\"component\":\"immudb\",\"version\":\"1.11.1-"));
    ask(server_metrics_port(r.server), "/metrics", answer);
    assert_non_null(strstr(answer, "version=0.0.4"));
    assert_non_null(strstr(answer, "immudb_uptime_hours "));
    ask(server_metrics_port(r.server), "/nothing", answer);
    assert_non_null(strstr(answer, "404 page not found"));
    server_drain(r.server);
    ask(server_metrics_port(r.server), "/readyz", answer);
    assert_non_null(strstr(answer, " 503 "));
    ask(server_metrics_port(r.server), "/livez", answer);
    assert_non_null(strstr(answer, " 200 "));
    ask(server_metrics_port(r.server), "/metrics", answer); /* also then */
    assert_non_null(strstr(answer, " 200 "));
    stop(r);
    r = start("--metrics-server=false", NULL, NULL);
    assert_int_equal(server_metrics_port(r.server), 0);
    stop(r);
}

static int teardown(void **state)
{
    (void)state;
    remove_folder();
    return 0;
}

static bool refuse_to_open(void *ctx)
{
    ++*(int *)ctx;
    return false;
}

/* A start that is called off leaves a folder that the next one opens; where a start failed is told. */
static void test_called_off(void **state)
{
    struct server_start how = {.may_open = refuse_to_open};
    struct config *config;
    struct server *server;
    int asked = 0;
    struct err err;

    (void)state;
    fresh_folder();
    how.ctx = &asked;
    config = configured(NULL, NULL, NULL);
    assert_int_equal(server_start_with(config, logger, &how, &server, &err), ST_CANCELLED);
    assert_null(server);
    assert_int_equal(asked, 1);
    assert_int_equal(how.stage, START_DATABASES);
    config_free(config);
    stop(start(NULL, NULL, NULL));
    config = configured("--certificate=/nonexistent", "--pkey=/nonexistent", NULL);
    assert_int_equal(server_start_with(config, logger, &how, &server, &err), ST_INVALID);
    assert_int_equal(how.stage, START_KEYS);
    config_free(config);
    config = configured("--address=192.0.2.1", NULL, NULL);
    assert_int_equal(server_start_with(config, logger, &how, &server, &err), ST_IO);
    assert_int_equal(how.stage, START_LISTENERS);
    config_free(config);
}

/* Reloading without TLS and with a certificate of the server's own; the second start has the same one. */
static void test_reload(void **state)
{
    struct running r;
    char path[300];

    (void)state;
    fresh_folder();
    r = start(NULL, NULL, NULL);
    server_reload(r.server);
    stop(r);
    r = start("--auto-cert", NULL, NULL);
    server_reload(r.server);
    server_reload(r.server);
    snprintf(path, sizeof path, "%s/data/immudb-key.pem", folder);
    assert_int_equal(unlink(path), 0);
    server_reload(r.server); /* made again */
    assert_int_equal(access(path, F_OK), 0);
    stop(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_first_start), cmocka_unit_test(test_forced_password), cmocka_unit_test(test_modes),
                                       cmocka_unit_test(test_refusals),    cmocka_unit_test(test_probes),          cmocka_unit_test(test_called_off),
                                       cmocka_unit_test(test_reload)};
    struct logger_options o = {.env = env_system(), .level = getenv("LOG_LEVEL") != NULL ? logger_level_parse(getenv("LOG_LEVEL")) : LOG_ERROR};
    int failed;

    if (logger_open(&o, &logger, NULL) != ST_OK)
        return 2;
    failed = cmocka_run_group_tests_name("server", tests, NULL, teardown);
    logger_close(logger);
    return failed;
}
