/* Formatting and files of the log; see logger.h.
 *
 * Rotation by size: <file>, <file>.0001, <file>.0002, ...; by age: <name>_<RFC 3339 time>.<extension>. A file that cannot be written is given
 * up for stderr, once, with a line that says so. Lock: logger.lock, a leaf. */
#include "config/logger.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE_MAX = 4096, LINE_MAX_BYTES = LOGGER_LINE_MAX, LOG_PATH_MAX = 4096, SEGMENTS_MAX = 9999 };
static_assert(LOGGER_LINE_MAX >= 6 * MESSAGE_MAX + 1024, "a message of control characters fits into a line");

struct logger {
    struct logger_options options;
    struct env env;
    pthread_mutex_t lock; /* guards all below */
    int fd;
    char *path; /* dir/file; NULL: stderr */
    unsigned segment;
    int64_t bytes, opened_ns;
};

static bool level_find(const char *text, enum log_level *out)
{
    static const struct {
        const char *name;
        enum log_level level;
    } names[] = {{"error", LOG_ERROR}, {"warn", LOG_WARN}, {"warning", LOG_WARN}, {"info", LOG_INFO}, {"debug", LOG_DEBUG}};
    size_t i;

    for (i = 0; text != NULL && i < sizeof names / sizeof names[0]; i++) {
        if (strcasecmp(text, names[i].name) == 0) {
            *out = names[i].level;
            return true;
        }
    }
    return false;
}

enum log_level logger_level_parse(const char *text)
{
    enum log_level level = LOG_INFO;

    (void)level_find(text, &level);
    return level;
}

bool logger_level_is_known(const char *text)
{
    enum log_level ignored;

    return text == NULL || text[0] == '\0' || level_find(text, &ignored);
}

bool logger_wants(const struct logger *l, enum log_level level) { return level <= l->options.level; }

/* --- lines --- */

struct line {
    char *at, *end; /* room for the newline is kept */
};

static void put(struct line *n, const char *s, size_t len)
{
    if (len > (size_t)(n->end - n->at))
        len = (size_t)(n->end - n->at);
    memcpy(n->at, s, len);
    n->at += len;
}

static void put_str(struct line *n, const char *s) { put(n, s, strlen(s)); }

/* Bytes of the UTF-8 character at s, or 0 when there is none; neither what is longer than it need be nor surrogates. */
static size_t utf8_len(const char *s)
{
    const unsigned char *c = (const unsigned char *)s;
    size_t len = c[0] < 0x80 ? 1 : c[0] >= 0xc2 && c[0] < 0xe0 ? 2 : c[0] >= 0xe0 && c[0] < 0xf0 ? 3 : c[0] >= 0xf0 && c[0] < 0xf5 ? 4 : 0, i;

    for (i = 1; i < len; i++)
        if ((c[i] & 0xc0) != 0x80) /* also the end of the text */
            return 0;
    if ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] >= 0xa0) || (c[0] == 0xf0 && c[1] < 0x90) || (c[0] == 0xf4 && c[1] >= 0x90))
        return 0;
    return len;
}

/* The control characters above ASCII, U+0080 to U+009F: terminals take some of them for commands. */
static bool is_c1(const char *s) { return (unsigned char)s[0] == 0xc2 && (unsigned char)s[1] < 0xa0; }

/* Puts a character that is not ASCII, or what stands for it; returns how many bytes it had. Both forms of the log stay UTF-8. */
static size_t put_wide(struct line *n, const char *s)
{
    size_t len = utf8_len(s);
    char escape[8];

    if (len == 0) {
        put_str(n, "\xef\xbf\xbd");
        return 1;
    }
    if (is_c1(s)) {
        snprintf(escape, sizeof escape, "\\u%04x", (unsigned)(unsigned char)s[1]);
        put_str(n, escape);
    } else {
        put(n, s, len);
    }
    return len;
}

/* Text form: nothing below 0x20 reaches the log as it is. */
static void put_plain(struct line *n, const char *s)
{
    char escape[8];

    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;

        if (c >= 0x80) {
            s += put_wide(n, s) - 1;
        } else if (c >= 0x20 && c != 0x7f) {
            put(n, s, 1);
        } else {
            snprintf(escape, sizeof escape, c == '\n' ? "\\n" : c == '\r' ? "\\r" : c == '\t' ? "\\t" : "\\x%02x", c);
            put_str(n, escape);
        }
    }
}

static void put_json(struct line *n, const char *s)
{
    char escape[8];

    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;

        if (c == '"' || c == '\\') {
            put(n, "\\", 1);
            put(n, s, 1);
        } else if (c >= 0x80) {
            s += put_wide(n, s) - 1;
        } else if (c >= 0x20 && c != 0x7f) {
            put(n, s, 1);
        } else {
            snprintf(escape, sizeof escape, c == '\n' ? "\\n" : c == '\r' ? "\\r" : c == '\t' ? "\\t" : "\\u%04x", c);
            put_str(n, escape);
        }
    }
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

static void line_text(struct line *n, int64_t now_ns, enum log_level level, const char *title, const char *message, bool is_block)
{
    static const char *const names[] = {"ERROR", "WARNING", "INFO", "DEBUG"};
    time_t now = (time_t)(now_ns / 1000000000);
    char stamp[64];
    struct tm tm;

    localtime_r(&now, &tm);
    strftime(stamp, sizeof stamp, "immudb %Y/%m/%d %H:%M:%S ", &tm);
    put_str(n, stamp);
    put_str(n, names[level]);
    put_str(n, ": ");
    put_plain(n, title);
    if (is_block) {
        put(n, "\n", 1);
        put_str(n, message);
    }
}

static void line_json(struct line *n, int64_t now_ns, enum log_level level, const char *file, int line, const char *function, const char *title,
                      const char *message, bool is_block)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    time_t now = (time_t)(now_ns / 1000000000);
    char text[64];
    struct tm tm;
    size_t len;

    put_str(n, "{\"caller\":\"");
    put_json(n, base_name(file));
    snprintf(text, sizeof text, ":%d\",\"component\":\"", line);
    put_str(n, text);
    put_json(n, function);
    put_str(n, "\",\"level\":\"");
    put_str(n, names[level]);
    put_str(n, "\",\"message\":\"");
    put_json(n, title);
    if (is_block) {
        put_str(n, "\\n");
        put_json(n, message);
    }
    gmtime_r(&now, &tm);
    len = strftime(text, sizeof text, "\",\"module\":\"immudb\",\"timestamp\":\"%Y-%m-%dT%H:%M:%S", &tm);
    put(n, text, len);
    snprintf(text, sizeof text, ".%06lldZ\"}", (long long)(now_ns % 1000000000 / 1000));
    put_str(n, text);
}

/* --- files --- */

static enum status file_open(struct logger *l, const char *path, struct err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);

    if (fd < 0) {
        int code = errno;

        return err_set(err, status_from_errno(code), code, "log file %s: %s", path, strerror(code));
    }
    if (l->fd >= 0 && l->fd != STDERR_FILENO)
        close(l->fd);
    l->fd = fd;
    l->bytes = 0;
    l->opened_ns = env_wall_ns(l->options.env);
    return ST_OK;
}

/* Name of the segment that begins now. */
static void segment_path(const struct logger *l, char out[LOG_PATH_MAX])
{
    if (l->options.rotation_age_ns > 0) {
        time_t now = (time_t)env_wall_s(l->options.env);
        const char *dot = strrchr(base_name(l->path), '.');
        size_t stem = dot != NULL ? (size_t)(dot - l->path) : strlen(l->path);
        char stamp[40];
        struct tm tm;

        gmtime_r(&now, &tm);
        strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", &tm);
        snprintf(out, LOG_PATH_MAX, "%.*s_%s%s", (int)stem, l->path, stamp, dot != NULL ? dot : "");
    } else if (l->segment > 0) {
        snprintf(out, LOG_PATH_MAX, "%s.%04u", l->path, l->segment % (SEGMENTS_MAX + 1));
    } else {
        snprintf(out, LOG_PATH_MAX, "%s", l->path);
    }
}

/* Under the lock. */
static void rotate(struct logger *l, size_t len)
{
    bool by_size = l->options.rotation_bytes > 0 && l->bytes > 0 && l->bytes + (int64_t)len > l->options.rotation_bytes;
    bool by_age = l->options.rotation_age_ns > 0 && env_wall_ns(l->options.env) - l->opened_ns >= l->options.rotation_age_ns;
    char path[LOG_PATH_MAX];

    if (l->path == NULL || (!by_size && !by_age))
        return;
    l->segment++;
    segment_path(l, path);
    if (file_open(l, path, NULL) != ST_OK)
        l->bytes = 0; /* go on in the old one, try again after as many bytes */
}

static void emit(struct logger *l, const char *text, size_t len)
{
    pthread_mutex_lock(&l->lock);
    rotate(l, len);
    while (len > 0) {
        ssize_t wrote = write(l->fd, text, len);

        if (wrote > 0) {
            text += wrote;
            len -= (size_t)wrote;
            l->bytes += wrote;
        } else if (wrote < 0 && errno != EINTR) {
            if (l->fd == STDERR_FILENO)
                break; /* nobody is left to tell */
            close(l->fd);
            l->fd = STDERR_FILENO;
            dprintf(STDERR_FILENO, "immudb: log file %s cannot be written, going on with stderr\n", l->path);
            free(l->path);
            l->path = NULL;
        }
    }
    pthread_mutex_unlock(&l->lock);
}

size_t logger_format(const struct logger *l, int64_t when_ns, enum log_level level, const char *file, int line, const char *function,
                     const char *message, char out[LOGGER_LINE_MAX])
{
    struct line n = {out, out + LINE_MAX_BYTES - 1};

    if (!logger_wants(l, level))
        return 0;
    if (l->options.is_json)
        line_json(&n, when_ns, level, file, line, function, message, NULL, false);
    else
        line_text(&n, when_ns, level, message, NULL, false);
    *n.at++ = '\n';
    return (size_t)(n.at - out);
}

void logger_emit(struct logger *l, const char *lines, size_t len) { emit(l, lines, len); }

static void message_write(struct logger *l, enum log_level level, const char *file, int line, const char *function, const char *title,
                          const char *block)
{
    char buf[LINE_MAX_BYTES];
    struct line n = {buf, buf + sizeof buf - 1};
    int64_t now_ns = env_wall_ns(l->options.env);

    if (l->options.is_json)
        line_json(&n, now_ns, level, file, line, function, title, block, block != NULL);
    else
        line_text(&n, now_ns, level, title, block, block != NULL);
    *n.at++ = '\n';
    emit(l, buf, (size_t)(n.at - buf));
}

void logger_write(struct logger *l, enum log_level level, const char *file, int line, const char *function, const char *fmt, ...)
{
    char message[MESSAGE_MAX];
    va_list args;

    if (!logger_wants(l, level))
        return;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    message_write(l, level, file, line, function, message, NULL);
}

void logger_block(struct logger *l, enum log_level level, const char *file, int line, const char *function, const char *title, const char *lines)
{
    if (logger_wants(l, level))
        message_write(l, level, file, line, function, title, lines);
}

/* --- as an env --- */

static int64_t env_wall(void *ctx) { return env_wall_ns(((struct logger *)ctx)->options.env); }
static uint64_t env_mono(void *ctx) { return env_mono_ns(((struct logger *)ctx)->options.env); }
static void env_fill(void *ctx, void *out, size_t len) { env_random(((struct logger *)ctx)->options.env, out, len); }
static void env_message(void *ctx, enum log_level level, const char *text) { logger_write(ctx, level, "store", 0, "store", "%s", text); }

const struct env *logger_env(struct logger *l) { return &l->env; }

static enum status folder_make(const char *dir, struct err *err)
{
    char path[LOG_PATH_MAX];
    size_t i, len = strlen(dir);

    if (len >= sizeof path)
        return err_set(err, ST_LIMIT, 0, "log folder: path is too long");
    memcpy(path, dir, len + 1);
    for (i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        path[i] = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST) {
            int code = errno;

            return err_set(err, status_from_errno(code), code, "log folder %s: %s", path, strerror(code));
        }
        path[i] = dir[i];
    }
    return ST_OK;
}

enum status logger_open(const struct logger_options *o, struct logger **out, struct err *err)
{
    struct logger *l = calloc(1, sizeof *l);
    char path[LOG_PATH_MAX];
    enum status st = ST_OK;

    *out = NULL;
    if (l == NULL || pthread_mutex_init(&l->lock, NULL) != 0) {
        free(l);
        return err_set(err, ST_NOMEM, 0, "opening the log: out of memory");
    }
    l->options = *o;
    l->fd = STDERR_FILENO;
    l->env = (struct env){.ctx = l, .wall_ns = env_wall, .mono_ns = env_mono, .random = env_fill, .log = env_message};
    if (o->file != NULL && o->file[0] != '\0') {
        if ((st = folder_make(o->dir, err)) != ST_OK)
            goto done;
        if (asprintf(&l->path, "%s/%s", o->dir, o->file) < 0) {
            l->path = NULL;
            st = err_set(err, ST_NOMEM, 0, "opening the log: out of memory");
            goto done;
        }
        segment_path(l, path);
        if ((st = file_open(l, path, err)) != ST_OK)
            goto done;
    }
    l->options.dir = l->options.file = NULL; /* borrowed for the call */
    *out = l;
    l = NULL;
done:
    logger_close(l);
    return st;
}

void logger_close(struct logger *l)
{
    if (l == NULL)
        return;
    if (l->fd != STDERR_FILENO)
        close(l->fd);
    pthread_mutex_destroy(&l->lock);
    free(l->path);
    free(l);
}
