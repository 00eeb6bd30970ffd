/* See progress.h. */
#include "migrate/progress.h"

#include <stdarg.h>
#include <string.h>
#include <unistd.h>

static const uint64_t TERMINAL_NS = 1000000000, PLAIN_NS = 10ull * 1000000000;

void progress_init(struct progress *p, const struct env *env, FILE *out, bool is_quiet)
{
    memset(p, 0, sizeof *p);
    p->env = env;
    p->out = out;
    p->is_quiet = is_quiet;
    p->is_terminal = isatty(fileno(out)) == 1;
}

void progress_bytes(uint64_t bytes, char out[32])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    double value = (double)bytes;
    size_t unit = 0;

    while (value >= 1000 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1000;
        unit++;
    }
    snprintf(out, 32, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

void progress_begin(struct progress *p, const char *database, uint64_t first, uint64_t last)
{
    p->database = database;
    p->first = first;
    p->now = first == 0 ? 0 : first - 1;
    p->last = last;
    p->bytes = 0;
    p->started_ns = p->shown_ns = env_mono_ns(p->env);
}

static void line_clear(struct progress *p)
{
    if (p->has_line)
        fputs("\r\033[K", p->out);
    p->has_line = false;
}

static void show(struct progress *p, uint64_t now_ns)
{
    double seconds = (double)(now_ns - p->started_ns) / 1e9;
    uint64_t done = p->now + 1 - p->first, left = p->last - p->now;
    double rate = seconds > 0 ? (double)done / seconds : 0;
    uint64_t eta_s = rate > 0 ? (uint64_t)((double)left / rate) : 0;
    char bytes[32];

    line_clear(p);
    progress_bytes(p->bytes, bytes);
    fprintf(p->out, "%s: tx %llu of %llu, %s, %.0f tx/s", p->database, (unsigned long long)p->now, (unsigned long long)p->last, bytes, rate);
    if (rate > 0)
        fprintf(p->out, ", %llu:%02llu:%02llu left", (unsigned long long)(eta_s / 3600), (unsigned long long)(eta_s / 60 % 60),
                (unsigned long long)(eta_s % 60));
    if (!p->is_terminal)
        fputc('\n', p->out);
    p->has_line = p->is_terminal;
    fflush(p->out);
}

void progress_tick(struct progress *p)
{
    uint64_t now_ns;

    if (p->is_quiet || p->database == NULL)
        return;
    now_ns = env_mono_ns(p->env);
    if (now_ns - p->shown_ns < (p->is_terminal ? TERMINAL_NS : PLAIN_NS))
        return;
    p->shown_ns = now_ns;
    show(p, now_ns);
}

void progress_end(struct progress *p)
{
    line_clear(p);
    fflush(p->out);
    p->database = NULL;
}

void progress_note(struct progress *p, const char *fmt, ...)
{
    va_list args;

    line_clear(p);
    va_start(args, fmt);
    vfprintf(p->out, fmt, args);
    va_end(args);
    fputc('\n', p->out);
    fflush(p->out);
}
