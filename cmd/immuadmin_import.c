/* immuadmin import: options, password, exit code; the work is in src/migrate. */
#include "immuadmin.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <termios.h>
#include <unistd.h>

#include "auth/base64.h"
#include "migrate/migrate.h"
#include "options.h"
#include "vfs/vfs.h"

enum { HOST_BYTES_MAX = 256, PASSWORD_BYTES_MAX = 1024, NAMES_MAX = 1024, PORT_DEFAULT = 3322, KEY_FILE_BYTES_MAX = 65536 };

#define TLS_FOLDER "./tools/mtls/"
static const struct option_row ROWS[] = {
    {"from", 0, OPTION_TEXT, NULL, "HOST:PORT", "the server to copy from (default: --immudb-address and --immudb-port)"},
    {"dir", 0, OPTION_TEXT, NULL, "DIR", "the data folder to copy to; made when missing"},
    {"username", 0, OPTION_TEXT, "immudb", "NAME", "user at the source: its system administrator"},
    {"password", 0, OPTION_SECRET, NULL, "TEXT", "password, or enc: and the password in base64; asked for when not given"},
    {"password-file", 0, OPTION_TEXT, NULL, "FILE", "file whose first line is the password"},
    {"databases", 0, OPTION_TEXT, NULL, "A,B,...", "only these (systemdb is always copied)"},
    {"server-signing-pub-key", 0, OPTION_TEXT, NULL, "FILE", "public key (PEM): the source's states must be signed with it"},
    {"timeout", 0, OPTION_DURATION, "60s", "TIME", "a source that sends nothing for so long is given up"},
    {"retries", 0, OPTION_NUMBER, "10", "N", "lost connections in a row, without progress, before giving up"},
    {"max-tx-bytes", 0, OPTION_NUMBER, "1G", "N", "largest transaction taken"},
    {"quiet", 'q', OPTION_BOOL, "false", NULL, "no progress"},
    {"tls", 0, OPTION_BOOL, "false", NULL, "the source is reached by TLS; its certificate is checked"},
    {"mtls", 'm', OPTION_BOOL, "false", NULL, "the same, and this program shows a certificate"},
    {"servername", 0, OPTION_TEXT, NULL, "NAME", "name in the source's certificate (default: the host; with --mtls localhost)"},
    {"certificate", 0, OPTION_TEXT, TLS_FOLDER "4_client/certs/localhost.cert.pem", "FILE", "own certificate for --mtls"},
    {"pkey", 0, OPTION_TEXT, TLS_FOLDER "4_client/private/localhost.key.pem", "FILE", "its private key"},
    {"clientcas", 0, OPTION_TEXT, NULL, "FILE",
     "certificates to trust (default: the system's; with --mtls " TLS_FOLDER "2_intermediate/certs/ca-chain.cert.pem)"},
    {"immudb-address", 'a', OPTION_TEXT, "127.0.0.1", "HOST", "host of the source when --from is not given"},
    {"immudb-port", 'p', OPTION_NUMBER, "3322", "PORT", "its port"},
    {"config", 0, OPTION_TEXT, NULL, "FILE", "file with options"},
};
enum { ROW_COUNT = sizeof ROWS / sizeof ROWS[0] };

void admin_import_help(void)
{
    printf("immuadmin import - copy all databases of a running immudb server into a data folder\n\n"
           "Usage:\n  immuadmin import --from HOST:PORT --dir DIR [options]\n\n"
           "Every transaction is fetched in its exported form, checked against the chain of hashes and the hash that the source's state names, and\n"
           "stored; users, passwords, permissions and settings come with systemdb. The server of the folder must not run meanwhile. Stopping (or a\n"
           "lost connection, or a crash) loses nothing: the same command goes on where the folder stands. Afterwards start the server on DIR.\n\n"
           "Options:\n");
    options_print(ROWS, ROW_COUNT);
    printf("\nEnvironment: " ADMIN_ENVIRONMENT "_FROM, " ADMIN_ENVIRONMENT "_PASSWORD and so on.\n\n"
           "Exit codes:\n"
           "  0  everything was copied\n"
           "  1  wrong options, no permission, folder in use, a transaction beyond a limit, disk or memory, stopped\n"
           "  2  copied, but databases that are not loaded at the source were skipped\n"
           "  3  the folder's history is not the source's, or the source sent data that contradict themselves\n"
           "  4  the source cannot be reached any more; the same command goes on\n");
}

/* --- stopping --- */

static _Atomic bool stop_asked;

static void on_signal(int signo)
{
    (void)signo;
    atomic_store_explicit(&stop_asked, true, memory_order_relaxed);
}

static void signals_take(void)
{
    struct sigaction a = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND}; /* the second one ends the program */

    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
}

/* --- options --- */

static int error(const struct err *err)
{
    fprintf(stderr, "Error: %s\n", err->text);
    return 1;
}

/* "host", "host:port", "[address]:port". */
static enum status address_parse(const char *text, char host[HOST_BYTES_MAX], uint16_t *port, struct err *err)
{
    const char *colon = strrchr(text, ':'), *start = text, *end = text + strlen(text);
    unsigned long number = PORT_DEFAULT;
    char *rest;

    if (text[0] == '[') {
        start = text + 1;
        if ((end = strchr(text, ']')) == NULL)
            return err_set(err, ST_INVALID, 0, "--from %.80s: there is no ']'", text);
        colon = end[1] == ':' ? end + 1 : NULL;
        if (end[1] != ':' && end[1] != '\0')
            return err_set(err, ST_INVALID, 0, "--from %.80s: HOST:PORT is expected", text);
    } else if (colon != NULL && strchr(text, ':') != colon) {
        return err_set(err, ST_INVALID, 0, "--from %.80s: an IPv6 address stands in brackets", text);
    } else if (colon != NULL) {
        end = colon;
    }
    if (colon != NULL) {
        errno = 0;
        number = strtoul(colon + 1, &rest, 10);
        if (errno != 0 || rest == colon + 1 || *rest != '\0' || number < 1 || number > 65535)
            return err_set(err, ST_INVALID, 0, "--from %.80s: the port is a number from 1 to 65535", text);
    }
    if (end == start || end - start >= HOST_BYTES_MAX)
        return err_set(err, ST_INVALID, 0, "--from %.80s: HOST:PORT is expected", text);
    memcpy(host, start, (size_t)(end - start));
    host[end - start] = '\0';
    *port = (uint16_t)number;
    return ST_OK;
}

static enum status source_address(const struct options *o, char host[HOST_BYTES_MAX], uint16_t *port, struct err *err)
{
    int64_t number;
    enum status st;

    if (option_is_given(o, "from"))
        return address_parse(option_text(o, "from"), host, port, err);
    if (!option_is_given(o, "immudb-address") && !option_is_given(o, "immudb-port"))
        return err_set(err, ST_INVALID, 0, "--from HOST:PORT is missing: the server to copy from");
    if ((st = option_number(o, "immudb-port", 1, 65535, &number, err)) != ST_OK)
        return st;
    *port = (uint16_t)number;
    if (strlen(option_text(o, "immudb-address")) >= HOST_BYTES_MAX)
        return err_set(err, ST_INVALID, 0, "--immudb-address is too long");
    memcpy(host, option_text(o, "immudb-address"), strlen(option_text(o, "immudb-address")) + 1);
    return ST_OK;
}

/* --- password --- */

static enum status password_copy(const char *text, size_t len, char out[PASSWORD_BYTES_MAX], struct err *err)
{
    if (len >= PASSWORD_BYTES_MAX || memchr(text, '\0', len) != NULL)
        return err_set(err, ST_INVALID, 0, "the password is too long or holds a zero byte");
    memcpy(out, text, len);
    out[len] = '\0';
    return ST_OK;
}

static enum status password_decode(const char *text, char out[PASSWORD_BYTES_MAX], struct err *err)
{
    uint8_t raw[PASSWORD_BYTES_MAX * 2];
    struct err cause;
    size_t len = 0;
    enum status st;

    if (strncmp(text, "enc:", 4) != 0)
        return password_copy(text, strlen(text), out, err);
    if (base64_decoded_max(strlen(text + 4)) > sizeof raw)
        return err_set(err, ST_INVALID, 0, "the password is too long");
    if (base64_decode(BASE64_STD, bytes_str(text + 4), raw, &len, &cause) != ST_OK)
        return err_set(err, ST_INVALID, 0, "error decoding password from base64 string ###: %s", cause.text);
    st = password_copy((const char *)raw, len, out, err);
    explicit_bzero(raw, sizeof raw);
    return st;
}

static enum status password_from_file(const char *path, char out[PASSWORD_BYTES_MAX], struct err *err)
{
    uint8_t *text = NULL;
    size_t len = 0;
    enum status st;

    if ((st = vfs_read_all(vfs_posix(), path, PASSWORD_BYTES_MAX * 2, &text, &len, err)) != ST_OK)
        return err_while(err, st, "reading --password-file %s", path);
    for (size_t i = 0; i < len; i++)
        if (text[i] == '\n' || text[i] == '\r')
            len = i;
    st = password_copy((const char *)text, len, out, err);
    explicit_bzero(text, len);
    free(text);
    return st;
}

static enum status password_ask(const char *user, char out[PASSWORD_BYTES_MAX], struct err *err)
{
    struct termios shown, hidden;
    enum status st = ST_OK;
    char *line;

    if (isatty(STDIN_FILENO) != 1 || tcgetattr(STDIN_FILENO, &shown) != 0)
        return err_set(err, ST_INVALID, 0, "no password: give --password-file, or run this on a terminal");
    fprintf(stderr, "Password of %s: ", user);
    fflush(stderr);
    hidden = shown;
    hidden.c_lflag &= ~(tcflag_t)ECHO;
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden);
    line = fgets(out, PASSWORD_BYTES_MAX, stdin);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
    fputc('\n', stderr);
    if (line == NULL)
        st = err_set(err, ST_INVALID, 0, "no password was given");
    else
        out[strcspn(out, "\r\n")] = '\0';
    return st;
}

static enum status password_get(const struct options *o, char out[PASSWORD_BYTES_MAX], struct err *err)
{
    if (option_is_given(o, "password") && option_is_given(o, "password-file"))
        return err_set(err, ST_INVALID, 0, "--password and --password-file exclude each other");
    if (option_is_given(o, "password-file"))
        return password_from_file(option_text(o, "password-file"), out, err);
    if (option_is_given(o, "password"))
        return password_decode(option_text(o, "password"), out, err);
    return password_ask(option_text(o, "username"), out, err);
}

/* --- the rest --- */

static const struct client_tls *tls_get(const struct options *o, struct client_tls *tls)
{
    bool is_mutual = option_bool(o, "mtls");

    if (!is_mutual && !option_bool(o, "tls"))
        return NULL;
    tls->server_name = option_is_given(o, "servername") ? option_text(o, "servername") : is_mutual ? "localhost" : NULL;
    tls->ca_file = option_is_given(o, "clientcas") ? option_text(o, "clientcas")
                   : is_mutual                     ? TLS_FOLDER "2_intermediate/certs/ca-chain.cert.pem"
                                                   : NULL;
    tls->certificate = is_mutual ? option_text(o, "certificate") : NULL;
    tls->key = is_mutual ? option_text(o, "pkey") : NULL;
    return tls;
}

/* Cuts the list at its commas; the pieces end with NULL. */
static enum status names_split(char *list, char **names, struct err *err)
{
    size_t count = 0;

    for (char *at = list; at != NULL;) {
        char *comma = strchr(at, ',');

        if (comma != NULL)
            *comma = '\0';
        if (*at == '\0')
            return err_set(err, ST_INVALID, 0, "--databases: a name is missing");
        if (count + 1 == NAMES_MAX)
            return err_set(err, ST_INVALID, 0, "--databases: at most %d names", NAMES_MAX - 1);
        names[count++] = at;
        at = comma != NULL ? comma + 1 : NULL;
    }
    names[count] = NULL;
    return ST_OK;
}

/* Everything that options hold open. */
struct setting {
    struct options options;
    char host[HOST_BYTES_MAX], password[PASSWORD_BYTES_MAX];
    char *list;
    char *names[NAMES_MAX];
    uint8_t *key;
    struct client_tls tls;
    struct migrate_options migrate;
};

static enum status numbers_get(const struct options *o, struct migrate_options *m, struct err *err)
{
    int64_t timeout, retries, bytes;
    enum status st;

    if ((st = option_duration(o, "timeout", &timeout, err)) != ST_OK || (st = option_number(o, "retries", 0, 1000000, &retries, err)) != ST_OK ||
        (st = option_number(o, "max-tx-bytes", 1 << 20, INT64_C(1) << 40, &bytes, err)) != ST_OK)
        return st;
    m->silence_ns = (uint64_t)timeout;
    m->retries = (unsigned)retries;
    m->tx_bytes_max = (uint64_t)bytes;
    return ST_OK;
}

static enum status setting_make(struct setting *s, struct err *err)
{
    const struct options *o = &s->options;
    struct migrate_options *m = &s->migrate;
    size_t key_len = 0;
    enum status st;

    if (o->word_count > 0)
        return err_set(err, ST_INVALID, 0, "unknown argument: %.80s", o->words[0]);
    if (!option_is_given(o, "dir"))
        return err_set(err, ST_INVALID, 0, "--dir DIR is missing: the data folder to copy to");
    if ((st = source_address(o, s->host, &m->port, err)) != ST_OK || (st = numbers_get(o, m, err)) != ST_OK)
        return st;
    if (option_is_given(o, "databases")) {
        if ((s->list = strdup(option_text(o, "databases"))) == NULL)
            return err_set(err, ST_NOMEM, 0, "out of memory");
        if ((st = names_split(s->list, s->names, err)) != ST_OK)
            return st;
        m->databases = s->names;
    }
    if (option_is_given(o, "server-signing-pub-key")) {
        st = vfs_read_all(vfs_posix(), option_text(o, "server-signing-pub-key"), KEY_FILE_BYTES_MAX, &s->key, &key_len, err);
        if (st != ST_OK || key_len == 0)
            return st != ST_OK ? err_while(err, st, "reading --server-signing-pub-key")
                               : err_set(err, ST_INVALID, 0, "the public key's file is empty");
        m->public_key = bytes_of(s->key, key_len);
    }
    m->host = s->host;
    m->tls = tls_get(o, &s->tls);
    m->username = option_text(o, "username");
    m->dir = option_text(o, "dir");
    m->is_quiet = option_bool(o, "quiet");
    m->progress = stderr;
    m->report = stdout;
    m->env = env_system();
    m->stop = &stop_asked;
    if ((st = password_get(o, s->password, err)) != ST_OK)
        return st;
    m->password = s->password;
    return ST_OK;
}

int admin_import(int argc, char **argv)
{
    struct setting *s = calloc(1, sizeof *s);
    enum migrate_end end;
    struct err err;
    int code = 1;

    if (s == NULL) {
        fputs("Error: out of memory\n", stderr);
        return 1;
    }
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* the password stays out of core dumps */
    if (options_read(ROWS, ROW_COUNT, ADMIN_ENVIRONMENT, argc, argv, &s->options, &err) != ST_OK) {
        code = error(&err);
        fputs("Run 'immuadmin help import' for usage.\n", stderr);
        goto done;
    }
    if (setting_make(s, &err) != ST_OK) {
        code = error(&err);
        goto done;
    }
    signals_take();
    end = migrate_run(&s->migrate, &err);
    code = (int)end;
    if (end != MIGRATE_DONE && end != MIGRATE_SKIPPED)
        error(&err);
done:
    options_free(&s->options);
    explicit_bzero(s->password, sizeof s->password);
    free(s->list);
    free(s->key);
    free(s);
    return code;
}
