/* The server's log: one line per message, as text or JSON, on stderr or in a file that is rotated.
 *
 * text: "immudb 2026/11/21 02:42:43 INFO: message" (local time); json: {"caller":..,"component":..,"level":..,"message":..,"module":"immudb",
 * "timestamp":..}. Control characters of a message are escaped, so that no user's name can forge a line. Any thread; one write(2) per line.
 * Secrets are the caller's duty: nothing here can tell them. */
#ifndef CONFIG_LOGGER_H
#define CONFIG_LOGGER_H

#include "base/env.h"

struct logger;

struct logger_options {
    const struct env *env; /* clock */
    bool is_json;
    enum log_level level;    /* messages above it are dropped */
    const char *dir, *file;  /* file empty or NULL: stderr; dir is made (0700) when missing */
    int64_t rotation_bytes;  /* 0 = never */
    int64_t rotation_age_ns; /* 0 = never */
};

MUST_USE enum status logger_open(const struct logger_options *o, struct logger **out, struct err *err);
void logger_close(struct logger *l);
/* Level of LOG_LEVEL's value: error, warn, warning, info, debug in small or capital letters; anything else and NULL: info. */
enum log_level logger_level_parse(const char *text);
bool logger_level_is_known(const char *text); /* or not given: NULL or empty */
/* What system clock and random bytes are to env, with messages going to this logger. Lives as long as the logger. */
const struct env *logger_env(struct logger *l);
bool logger_wants(const struct logger *l, enum log_level level);

void logger_write(struct logger *l, enum log_level level, const char *file, int line, const char *function, const char *fmt, ...) PRINTF_LIKE(6, 7);
/* A text of several lines that the program made itself (its values must be clean): one message. */
void logger_block(struct logger *l, enum log_level level, const char *file, int line, const char *function, const char *title, const char *lines);

/* For writers of many lines: the line that logger_write() would write for a message that was made at when_ns, with its newline, and its length; 0 when
 * the level is not wanted. logger_emit() writes finished lines at once. */
#define LOGGER_LINE_MAX (6 * 4096 + 1024)
size_t logger_format(const struct logger *l, int64_t when_ns, enum log_level level, const char *file, int line, const char *function,
                     const char *message, char out[LOGGER_LINE_MAX]);
void logger_emit(struct logger *l, const char *lines, size_t len);

#define LOG_AT(l, level, ...) logger_write(l, level, __FILE__, __LINE__, __func__, __VA_ARGS__)
#define LOG_ERROR_AT(l, ...) LOG_AT(l, LOG_ERROR, __VA_ARGS__)
#define LOG_WARN_AT(l, ...) LOG_AT(l, LOG_WARN, __VA_ARGS__)
#define LOG_INFO_AT(l, ...) LOG_AT(l, LOG_INFO, __VA_ARGS__)
#define LOG_DEBUG_AT(l, ...) LOG_AT(l, LOG_DEBUG, __VA_ARGS__)

#endif
