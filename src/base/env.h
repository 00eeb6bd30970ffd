/* Time, randomness and the log as parameters.
 *
 * Nothing below the edges asks the operating system for the time or for random bytes by itself: it gets a struct env.
 * A simulation passes its own. All members may be called from any thread. */
#ifndef BASE_ENV_H
#define BASE_ENV_H

#include "base/err.h"

enum log_level { LOG_ERROR = 0, LOG_WARN, LOG_INFO, LOG_DEBUG };

struct env {
    void *ctx;
    int64_t (*wall_ns)(void *ctx);                                  /* unix time in nanoseconds; may step backwards */
    uint64_t (*mono_ns)(void *ctx);                                 /* never steps backwards; origin unspecified */
    void (*random)(void *ctx, void *out, size_t len);               /* cryptographically secure, never fails */
    void (*log)(void *ctx, enum log_level level, const char *text); /* one line without newline; borrowed */
};

/* The operating system's clock and getrandom(2); log goes to stderr. A static object, never freed. */
const struct env *env_system(void);

static inline int64_t env_wall_s(const struct env *e)
{
    int64_t ns = e->wall_ns(e->ctx);
    return ns / 1000000000 - (ns % 1000000000 < 0);
}
static inline int64_t env_wall_ns(const struct env *e) { return e->wall_ns(e->ctx); }
static inline uint64_t env_mono_ns(const struct env *e) { return e->mono_ns(e->ctx); }
static inline void env_random(const struct env *e, void *out, size_t len) { e->random(e->ctx, out, len); }
void env_log(const struct env *e, enum log_level level, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
