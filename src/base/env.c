/* The operating system's clocks, random bytes, and a log on stderr. */
#include "base/env.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

enum { LOG_LINE_MAX = 1024 };

static int64_t system_wall_ns(void *ctx)
{
    struct timespec ts;

    (void)ctx;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static uint64_t system_mono_ns(void *ctx)
{
    struct timespec ts;

    (void)ctx;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Weak keys are worse than no process: without random bytes there is no way on. */
static void system_random(void *ctx, void *out, size_t len)
{
    uint8_t *at = out;

    (void)ctx;
    while (len > 0) {
        ssize_t got = getrandom(at, len < 256 ? len : 256, 0);

        if (got > 0) {
            at += got;
            len -= (size_t)got;
        } else if (got < 0 && errno != EINTR) {
            perror("getrandom");
            abort();
        }
    }
}

/* One write(2) for each line, so that lines of several threads do not mix. */
static void system_log(void *ctx, enum log_level level, const char *text)
{
    static const char *const names[] = {"ERROR", "WARN", "INFO", "DEBUG"};
    char line[LOG_LINE_MAX + 64];
    struct timespec ts;
    struct tm tm;
    size_t len;
    int printed;

    (void)ctx;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    len = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &tm);
    printed = snprintf(line + len, sizeof line - len - 1, ".%03ldZ %s ", ts.tv_nsec / 1000000,
                       (unsigned)level < sizeof names / sizeof names[0] ? names[level] : "?");
    len += printed > 0 ? (size_t)printed : 0;
    /* Control bytes would let logged data forge lines. */
    for (; *text != '\0' && len < sizeof line - 1; text++)
        line[len++] = (unsigned char)*text < 0x20 || *text == 0x7f ? ' ' : *text;
    line[len++] = '\n';
    if (write(STDERR_FILENO, line, len) < 0)
        return; /* nobody is left to tell */
}

const struct env *env_system(void)
{
    static const struct env system = {.wall_ns = system_wall_ns, .mono_ns = system_mono_ns, .random = system_random, .log = system_log};

    return &system;
}

void env_log(const struct env *e, enum log_level level, const char *fmt, ...)
{
    char text[LOG_LINE_MAX];
    va_list args;

    va_start(args, fmt);
    if (vsnprintf(text, sizeof text, fmt, args) < 0)
        text[0] = '\0';
    va_end(args);
    e->log(e->ctx, level, text);
}
