/* Where values come from: command line over environment over file over defaults; see config.h. */
#include "config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth/base64.h"
#include "config/toml.h"

enum { PATH_MAX_LEN = 4096, VALUE_LEN_MAX = 65536 };
#define MEMORY_LIMIT_MIN (INT64_C(16) << 20)
#define MEMORY_PER_MESSAGE 8 /* a quarter of the limit is for requests, half of that for uploads */

static char **text_at(struct config *c, const struct flag *f) { return (char **)(void *)((char *)c + f->offset); }
static bool *bool_at(struct config *c, const struct flag *f) { return (bool *)(void *)((char *)c + f->offset); }
static int64_t *int_at(struct config *c, const struct flag *f) { return (int64_t *)(void *)((char *)c + f->offset); }

static char *text_copy(const char *text)
{
    size_t len = strlen(text);
    char *copy = malloc(len + 1);

    if (copy != NULL)
        memcpy(copy, text, len + 1);
    return copy;
}

static void warn(struct config *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void warn(struct config *c, const char *fmt, ...)
{
    va_list args;
    char *text = NULL;
    int len;

    va_start(args, fmt);
    len = vasprintf(&text, fmt, args);
    va_end(args);
    if (len >= 0 && c->warning_count < CONFIG_WARNINGS_MAX)
        c->warnings[c->warning_count++] = text;
    else if (len >= 0)
        free(text);
}

void config_free(struct config *c)
{
    size_t i;

    if (c == NULL)
        return;
    for (i = 0; i < FLAG_COUNT; i++) {
        char **text = text_at(c, &FLAGS[i]);

        if (FLAGS[i].type != FLAG_STRING || *text == NULL)
            continue;
        if ((FLAGS[i].traits & FLAG_SECRET) != 0)
            explicit_bzero(*text, strlen(*text));
        free(*text);
    }
    for (i = 0; i < c->warning_count; i++)
        free(c->warnings[i]);
    free(c->file_used);
    free(c->command_text);
    free(c);
}

bool config_is_given(const struct config *c, const char *name)
{
    const struct flag *f = flag_find(name);

    return f != NULL && c->source[f - FLAGS] != SOURCE_DEFAULT;
}

/* --- one value --- */

static enum status no_memory(struct err *err) { return err_set(err, ST_NOMEM, 0, "reading the options: out of memory"); }

static enum status text_set(struct config *c, const struct flag *f, const char *value, struct err *err)
{
    size_t len = strlen(value), decoded_len;
    char **at = text_at(c, f), *copy;
    struct err cause;

    if (len > VALUE_LEN_MAX)
        return err_set(err, ST_INVALID, 0, "invalid argument for \"--%s\": longer than %d bytes", f->name, VALUE_LEN_MAX);
    if ((f->traits & FLAG_PASSWORD) != 0 && strncmp(value, "enc:", 4) == 0) {
        if ((copy = malloc(base64_decoded_max(len) + 1)) == NULL)
            return no_memory(err);
        if (base64_decode(BASE64_STD, bytes_of(value + 4, len - 4), (uint8_t *)copy, &decoded_len, &cause) != ST_OK) {
            err_set(err, ST_INVALID, 0, "error decoding password from base64 string %s: %s", value + 4, cause.text);
            free(copy);
            return ST_INVALID;
        }
        copy[decoded_len] = '\0';
        while (decoded_len > 0 && (copy[decoded_len - 1] == '\n' || copy[decoded_len - 1] == '\r')) /* `echo x | base64` */
            copy[--decoded_len] = '\0';
    } else if ((copy = text_copy(value)) == NULL) {
        return no_memory(err);
    }
    free(*at);
    *at = copy;
    return ST_OK;
}

/* "-p, --port" or "--dir", as error texts name a flag. */
static void flag_label(const struct flag *f, char out[64])
{
    if (f->letter != 0)
        snprintf(out, 64, "-%c, --%s", f->letter, f->name);
    else
        snprintf(out, 64, "--%s", f->name);
}

static enum status value_set(struct config *c, const struct flag *f, const char *value, struct err *err)
{
    char label[64], text[120];
    int64_t v = 0;
    struct err cause;

    flag_label(f, label);
    snprintf(text, sizeof text, "%s", value);
    switch (f->type) {
    case FLAG_STRING:
        return text_set(c, f, value, err);
    case FLAG_BOOL:
        if (flag_parse_bool(value, bool_at(c, f)) != ST_OK)
            return err_set(err, ST_INVALID, 0, "invalid argument \"%s\" for \"%s\" flag: strconv.ParseBool: parsing \"%s\": invalid syntax", text,
                           label, text);
        return ST_OK;
    case FLAG_INT:
        if (flag_parse_int(value, (f->traits & FLAG_SIZE) != 0, &v) != ST_OK)
            return err_set(err, ST_INVALID, 0, "invalid argument \"%s\" for \"%s\" flag: strconv.ParseInt: parsing \"%s\": invalid syntax", text,
                           label, text);
        break;
    case FLAG_DURATION:
        if (duration_parse(value, &v, &cause) != ST_OK)
            return err_set(err, ST_INVALID, 0, "invalid argument \"%s\" for \"%s\" flag: %s", text, label, cause.text);
        break;
    }
    if (v < f->min || v > f->max)
        return f->max == INT64_MAX
                   ? err_set(err, ST_INVALID, 0, "invalid argument \"%s\" for \"%s\" flag: at least %lld", text, label, (long long)f->min)
                   : err_set(err, ST_INVALID, 0, "invalid argument \"%s\" for \"%s\" flag: %lld to %lld", text, label, (long long)f->min,
                             (long long)f->max);
    *int_at(c, f) = v;
    return ST_OK;
}

/* Sets the value unless a higher source did; NULL leaves the flag alone. */
static enum status source_set(struct config *c, const struct flag *f, enum config_source source, const char *value, struct err *err)
{
    enum status st;

    if (c->source[f - FLAGS] > source)
        return ST_OK;
    if ((st = value_set(c, f, value, err)) == ST_OK)
        c->source[f - FLAGS] = source;
    return st;
}

/* --- command line --- */

static const struct flag *flag_of_letter(char letter)
{
    size_t i;

    for (i = 0; i < FLAG_COUNT; i++)
        if (FLAGS[i].letter == letter)
            return &FLAGS[i];
    return NULL;
}

/* --name, --name=value, --name value. */
static enum status long_flag(struct config *c, const struct config_input *in, int *i, struct err *err)
{
    const char *arg = in->argv[*i] + 2, *equals = strchr(arg, '=');
    size_t len = equals != NULL ? (size_t)(equals - arg) : strlen(arg);
    const struct flag *f;
    char name[128];

    if (len == 0 || arg[0] == '-')
        return err_set(err, ST_INVALID, 0, "bad flag syntax: %.100s", in->argv[*i]);
    snprintf(name, sizeof name, "%.*s", (int)(len < sizeof name ? len : sizeof name - 1), arg);
    if (strcmp(name, "help") == 0) {
        c->command = COMMAND_HELP;
        return ST_OK;
    }
    if ((f = flag_find(name)) == NULL)
        return err_set(err, ST_INVALID, 0, "unknown flag: --%s", name);
    if (equals != NULL)
        return source_set(c, f, SOURCE_FLAG, equals + 1, err);
    if (f->type == FLAG_BOOL)
        return source_set(c, f, SOURCE_FLAG, "true", err);
    if (*i + 1 >= in->argc)
        return err_set(err, ST_INVALID, 0, "flag needs an argument: --%s", name);
    return source_set(c, f, SOURCE_FLAG, in->argv[++*i], err);
}

/* -p 1, -p1, -p=1, -sd. */
static enum status short_flags(struct config *c, const struct config_input *in, int *i, struct err *err)
{
    const char *at = in->argv[*i] + 1;
    enum status st = ST_OK;

    for (; *at != '\0' && st == ST_OK; at++) {
        const struct flag *f = flag_of_letter(*at);

        if (*at == 'h') {
            c->command = COMMAND_HELP;
            return ST_OK;
        }
        if (f == NULL)
            return err_set(err, ST_INVALID, 0, "unknown shorthand flag: '%c' in %.60s", *at, in->argv[*i]);
        if (at[1] == '=')
            return source_set(c, f, SOURCE_FLAG, at + 2, err);
        if (f->type == FLAG_BOOL) {
            st = source_set(c, f, SOURCE_FLAG, "true", err);
            continue;
        }
        if (at[1] != '\0')
            return source_set(c, f, SOURCE_FLAG, at + 1, err);
        if (*i + 1 >= in->argc)
            return err_set(err, ST_INVALID, 0, "flag needs an argument: '%c' in %.60s", *at, in->argv[*i]);
        return source_set(c, f, SOURCE_FLAG, in->argv[++*i], err);
    }
    return st;
}

static enum status command_word(struct config *c, const char *word, struct err *err)
{
    static const struct {
        const char *word;
        enum config_command command;
    } commands[] = {{"help", COMMAND_HELP},
                    {"version", COMMAND_VERSION},
                    {"completion", COMMAND_COMPLETION},
                    {"mangen", COMMAND_MANGEN},
                    {"service", COMMAND_SERVICE}};
    char *text;
    size_t i;

    if (c->command != COMMAND_RUN) { /* words of the command */
        if (asprintf(&text, "%s%s%.200s", c->command_text, c->command_text[0] != '\0' ? " " : "", word) < 0)
            return no_memory(err);
        free(c->command_text);
        c->command_text = text;
        return ST_OK;
    }
    for (i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(commands[i].word, word) == 0) {
            c->command = commands[i].command;
            return ST_OK;
        }
    }
    return err_set(err, ST_INVALID, 0, "unknown command \"%.100s\" for \"immudb\"", word);
}

static enum status command_line(struct config *c, const struct config_input *in, struct err *err)
{
    bool only_words = false;
    enum status st = ST_OK;
    int i;

    for (i = 1; i < in->argc && st == ST_OK; i++) {
        const char *arg = in->argv[i];

        if (only_words || arg[0] != '-' || arg[1] == '\0')
            st = command_word(c, arg, err);
        else if (strcmp(arg, "--") == 0)
            only_words = true;
        else if (c->command == COMMAND_SERVICE && strcmp(arg, "--help") != 0 && strcmp(arg, "-h") != 0)
            st = command_word(c, arg, err); /* service has flags of its own */
        else if (arg[1] == '-')
            st = long_flag(c, in, &i, err);
        else
            st = short_flags(c, in, &i, err);
    }
    return st;
}

/* --- environment --- */

/* IMMUDB_ and the flag's name in capitals, '-' as '_'. */
static void environment_name(const char *flag_name, char out[96])
{
    size_t i;

    snprintf(out, 96, "IMMUDB_%s", flag_name);
    for (i = 0; out[i] != '\0'; i++)
        out[i] = out[i] == '-' ? '_' : out[i] >= 'a' && out[i] <= 'z' ? (char)(out[i] - 'a' + 'A') : out[i];
}

/* NULL when unset or empty: an empty variable counts as none. */
static const char *environment_value(const struct config_input *in, const char *name)
{
    size_t len = strlen(name), i;

    for (i = 0; in->envp != NULL && in->envp[i] != NULL; i++)
        if (strncmp(in->envp[i], name, len) == 0 && in->envp[i][len] == '=')
            return in->envp[i][len + 1] != '\0' ? in->envp[i] + len + 1 : NULL;
    return NULL;
}

static enum status environment_flag(struct config *c, const struct config_input *in, const struct flag *f, const char *variable, struct err *err)
{
    const char *value = environment_value(in, variable);
    struct err cause;
    enum status st;

    if (value == NULL)
        return ST_OK;
    /* A service called immudb makes Kubernetes set IMMUDB_PORT=tcp://10.0.0.1:3322 in every pod. */
    if ((f->type == FLAG_INT || f->type == FLAG_DURATION) && strstr(value, "://") != NULL) {
        warn(c, "%s=%.80s is ignored: it is a link of the container environment, not a number", variable, value);
        return ST_OK;
    }
    if ((st = source_set(c, f, SOURCE_ENVIRONMENT, value, &cause)) != ST_OK)
        return err_set(err, st, 0, "environment variable %s: %s", variable, cause.text);
    return ST_OK;
}

static enum status environment(struct config *c, const struct config_input *in, struct err *err)
{
    char name[96];
    enum status st = ST_OK;
    size_t i;

    for (i = 0; i < FLAG_COUNT && st == ST_OK; i++) {
        environment_name(FLAGS[i].name, name);
        st = environment_flag(c, in, &FLAGS[i], name, err);
        if (st == ST_OK && strcmp(FLAGS[i].name, "signingKey") == 0 && environment_value(in, name) == NULL) /* the documented spelling */
            st = environment_flag(c, in, &FLAGS[i], "IMMUDB_SIGNING_KEY", err);
    }
    return st;
}

/* --- file --- */

static enum status file_pair(void *ctx, const char *key, enum toml_kind kind, const char *text, struct err *err)
{
    struct config *c = ctx;
    const struct flag *f = NULL;
    struct err cause;
    enum status st;
    size_t i;

    for (i = 0; i < FLAG_COUNT && f == NULL; i++)
        if (strcasecmp(FLAGS[i].name, key) == 0)
            f = &FLAGS[i];
    if (f == NULL)
        f = flag_find(key); /* old names */
    if (f == NULL || strcmp(f->name, "config") == 0)
        return ST_OK; /* "network", "dbname", ... of older files */
    if (kind == TOML_OTHER)
        return err_set(err, ST_INVALID, 0, "%s: a list or table was given", key);
    if ((st = source_set(c, f, SOURCE_FILE, text, &cause)) != ST_OK)
        return err_set(err, st, 0, "%s", cause.text);
    return ST_OK;
}

/* The whole file, malloc'ed. ST_NOT_FOUND when there is none. */
static enum status file_load(const char *path, uint8_t **out, size_t *len, struct err *err)
{
    uint8_t *buf = NULL;
    struct stat info;
    enum status st;
    ssize_t got;
    int fd;

    *out = NULL;
    *len = 0;
    if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0) {
        int code = errno;

        return err_set(err, status_from_errno(code), code, "open %s: %s", path, code == ENOENT ? "no such file or directory" : strerror(code));
    }
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size > CONFIG_FILE_BYTES_MAX) {
        st = err_set(err, ST_INVALID, 0, "read %s: not a file of at most %u bytes", path, CONFIG_FILE_BYTES_MAX);
        goto done;
    }
    if ((buf = malloc(CONFIG_FILE_BYTES_MAX)) == NULL) {
        st = no_memory(err);
        goto done;
    }
    while ((got = read(fd, buf + *len, CONFIG_FILE_BYTES_MAX - *len)) > 0 || (got < 0 && errno == EINTR))
        *len += got > 0 ? (size_t)got : 0;
    if (got < 0) {
        int code = errno;

        st = err_set(err, ST_IO, code, "read %s: %s", path, strerror(code));
        goto done;
    }
    *out = buf;
    buf = NULL;
    st = ST_OK;
done:
    free(buf);
    close(fd);
    return st;
}

static enum status file_read(struct config *c, const char *path, struct err *err)
{
    const char *dot = strrchr(path, '.');
    uint8_t *text = NULL;
    struct err cause;
    enum status st;
    size_t len;

    if (dot != NULL &&
        (strcasecmp(dot, ".yaml") == 0 || strcasecmp(dot, ".yml") == 0 || strcasecmp(dot, ".ini") == 0 || strcasecmp(dot, ".properties") == 0))
        return err_set(err, ST_INVALID, 0, "%s: configuration files are read in the forms .toml and .json only", path);
    if ((st = file_load(path, &text, &len, err)) != ST_OK)
        return st;
    if (dot != NULL && strcasecmp(dot, ".json") == 0)
        st = config_json_read(bytes_of(text, len), file_pair, c, &cause);
    else
        st = toml_read(bytes_of(text, len), file_pair, c, &cause);
    if (st != ST_OK) {
        err_set(err, st, 0, "%s: %s", path, cause.text);
    } else if ((c->file_used = text_copy(path)) == NULL) {
        st = no_memory(err);
    }
    explicit_bzero(text, len);
    free(text);
    return st;
}

/* immudb.<extension> in a folder; *found when there was one. */
static enum status folder_search(struct config *c, const char *folder, bool *found, struct err *err)
{
    static const char *const extensions[] = {"json", "toml", "yaml", "yml", "properties", "ini"};
    char path[PATH_MAX_LEN];
    size_t i;

    for (i = 0; i < sizeof extensions / sizeof extensions[0]; i++) {
        int len = snprintf(path, sizeof path, "%s/immudb.%s", folder, extensions[i]);

        if (len > 0 && (size_t)len < sizeof path && access(path, F_OK) == 0) {
            *found = true;
            return file_read(c, path, err);
        }
    }
    return ST_OK;
}

static enum status file(struct config *c, const struct config_input *in, struct err *err)
{
    const char *go_path = environment_value(in, "GOPATH");
    char folder[PATH_MAX_LEN];
    bool found = false;
    enum status st = ST_OK;

    if (c->config_file[0] != '\0')
        return file_read(c, c->config_file, err);
    if (in->home != NULL)
        st = folder_search(c, in->home, &found, err);
    if (st == ST_OK && !found)
        st = folder_search(c, "../src/configs", &found, err);
    if (st == ST_OK && !found && go_path != NULL) {
        snprintf(folder, sizeof folder, "%.4000s/src/configs", go_path);
        st = folder_search(c, folder, &found, err);
    }
    if (st == ST_OK && !found && in->is_installed)
        st = folder_search(c, "/etc/immudb", &found, err);
    return st;
}

/* --- all together --- */

static enum status defaults(struct config *c, struct err *err)
{
    enum status st = ST_OK;
    size_t i;

    for (i = 0; i < FLAG_COUNT && st == ST_OK; i++)
        st = value_set(c, &FLAGS[i], FLAGS[i].value, err);
    if (st == ST_OK && (c->command_text = text_copy("")) == NULL)
        st = no_memory(err);
    return st;
}

static void warn_about_later_parts(struct config *c)
{
    size_t i;

    for (i = 0; i < FLAG_COUNT; i++) {
        const struct flag *f = &FLAGS[i];

        if ((f->traits & FLAG_LATER) == 0 || c->source[i] == SOURCE_DEFAULT)
            continue;
        if (f->type == FLAG_BOOL && !*bool_at(c, f)) /* switched off: as it is */
            continue;
        warn(c, "option --%s has no effect yet", f->name);
    }
}

static bool is_one_of(const char *value, const char *a, const char *b, const char *d)
{
    return strcmp(value, a) == 0 || strcmp(value, b) == 0 || strcmp(value, d) == 0;
}

/* What is right by itself, and does nothing with the other options as they are. */
static void warn_about_idle_options(struct config *c)
{
    if (c->clientcas[0] != '\0' && !c->mtls)
        warn(c, "--clientcas %.200s has no effect without --mtls: no client is asked for a certificate", c->clientcas);
}

/* Messages beyond what uploads may hold are taken all the same, one at a time. */
static void warn_about_memory(struct config *c)
{
    int64_t whole = c->max_recv_msg_size * MEMORY_PER_MESSAGE;

    if (c->memory_limit != 0 && c->memory_limit < whole)
        warn(
            c,
            "--memory-limit %lld holds no message of --max-recv-msg-size (%lld bytes): such messages are taken one at a time, and go beyond the limit by their size; from %lld on they do not",
            (long long)c->memory_limit, (long long)c->max_recv_msg_size, (long long)whole);
}

/* Rules between options. */
static enum status check(const struct config *c, struct err *err)
{
    if (!is_one_of(c->logformat, "", "text", "json"))
        return err_set(err, ST_INVALID, 0, "invalid logger type \"%.60s\": --logformat is either text or json", c->logformat);
    if (!is_one_of(c->audit_log_events, "all", "write", "admin"))
        return err_set(err, ST_INVALID, 0, "invalid argument \"%.60s\" for \"--audit-log-events\" flag: all, write or admin", c->audit_log_events);
    if (c->log_rotation_age != 0 && c->log_rotation_age < (int64_t)60 * 1000000000)
        return err_set(err, ST_INVALID, 0, "log rotation age must be greater than 1m0s");
    if (c->memory_limit != 0 && c->memory_limit < MEMORY_LIMIT_MIN)
        return err_set(err, ST_INVALID, 0, "invalid argument \"%lld\" for \"--memory-limit\" flag: at least %lld (16M), or 0",
                       (long long)c->memory_limit, (long long)MEMORY_LIMIT_MIN);
    if (c->maintenance && c->auth)
        return err_set(err, ST_INVALID, 0, "authentication must be disabled when restoring systemdb");
    if (c->admin_password[0] == '\0')
        return err_set(err, ST_INVALID, 0, "Admin password cannot be empty");
    if ((c->certificate[0] == '\0') != (c->pkey[0] == '\0'))
        return err_set(err, ST_INVALID, 0, "both certificate and private key paths must be specified or neither");
    if (c->mtls && c->certificate[0] == '\0' && !c->auto_cert)
        return err_set(err, ST_INVALID, 0, "in order to enable MTLS a certificate and private key are required");
    return ST_OK;
}

enum status config_load(const struct config_input *in, struct config **out, struct err *err)
{
    struct config *c = calloc(1, sizeof *c);
    enum status st;

    *out = c;
    if (c == NULL)
        return no_memory(err);
    if ((st = defaults(c, err)) != ST_OK || (st = command_line(c, in, err)) != ST_OK || c->command != COMMAND_RUN)
        goto done;
    if ((st = environment(c, in, err)) != ST_OK || (st = file(c, in, err)) != ST_OK)
        goto done;
    if (c->file_used == NULL && (c->file_used = text_copy("")) == NULL)
        st = no_memory(err);
    if (st == ST_OK && (st = check(c, err)) == ST_OK) {
        warn_about_later_parts(c);
        warn_about_idle_options(c);
        warn_about_memory(c);
    }
done:
    if (st == ST_NOMEM) {
        config_free(c);
        *out = NULL;
    }
    return st;
}
