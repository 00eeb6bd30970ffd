/* JSON records exactly as the published server writes them: field order given by the caller, no white space, its escapes and its times.
 *
 * The writer grows a malloc'ed buffer up to a bound; once it fails it stays failed. Reading is jansson's work (json_member: tolerant lookups). */
#ifndef AUTH_JSON_TEXT_H
#define AUTH_JSON_TEXT_H

#include <jansson.h>

#include "base/bytes.h"
#include "base/err.h"

#define JSON_TEXT_BYTES_MAX (4u << 20) /* of one record */

struct json_text {
    char *text;
    size_t len, room;
    bool failed; /* out of memory or beyond the bound */
    bool needs_comma;
};

void json_text_free(struct json_text *j);
void json_put_open(struct json_text *j, char bracket);  /* '{' or '[' */
void json_put_close(struct json_text *j, char bracket); /* '}' or ']' */
/* Name of the next value. */
void json_put_name(struct json_text *j, const char *name);
void json_put_str(struct json_text *j, struct bytes s);
void json_put_int(struct json_text *j, int64_t v);
void json_put_bool(struct json_text *j, bool v);
void json_put_null(struct json_text *j);
/* The shortest decimal that gives the same 32-bit float. */
void json_put_float(struct json_text *j, float v);
struct record_time;
/* RFC 3339 with nanoseconds, trailing zeros dropped. */
void json_put_time(struct json_text *j, const struct record_time *t);

/* --- times --- */
/* A moment as records carry it: unix time, nanoseconds, and the zone's offset it was written with. */
struct record_time {
    int64_t unix_s; /* 0001-01-01T00:00:00Z ("never") is RECORD_TIME_NEVER_S */
    int32_t nanosecond;
    int32_t zone_s; /* east positive */
};
#define RECORD_TIME_NEVER_S (-62135596800)
static inline bool record_time_is_never(const struct record_time *t) { return t->unix_s == RECORD_TIME_NEVER_S && t->nanosecond == 0; }
struct record_time record_time_of(int64_t unix_ns);
static inline struct record_time record_time_never(void) { return (struct record_time){.unix_s = RECORD_TIME_NEVER_S}; }
#define RECORD_TIME_TEXT_MAX 48
/* As in records: "2026-11-21T05:26:19.668903517+01:00". */
size_t record_time_format(const struct record_time *t, char out[RECORD_TIME_TEXT_MAX]);
/* As users see it: "2026-11-21 02:52:26.931226829 +0000 UTC", "2020-01-02 03:04:05.5 +0200 +0200". */
size_t record_time_display(const struct record_time *t, char out[RECORD_TIME_TEXT_MAX]);
MUST_USE enum status record_time_parse(struct bytes text, struct record_time *out, struct err *err);
/* Civil date from days since 1970-01-01 (proleptic Gregorian). */
struct civil_time {
    int64_t year;
    unsigned month, day, hour, minute, second;
};
struct civil_time civil_of(int64_t unix_s);

/* --- reading --- */
/* Parses a whole record; duplicate names: the last wins. NULL and ST_INVALID/ST_NOMEM with err on failure. */
MUST_USE enum status json_read(struct bytes text, json_t **out, struct err *err);
/* The member of that name: exact match first, else ignoring case. NULL when absent or null. */
json_t *json_member(const json_t *object, const char *name);

#endif
