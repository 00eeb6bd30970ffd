/* The writer's escapes and number forms, and RFC 3339 times; see json_text.h. */
#include "auth/json_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool room_for(struct json_text *j, size_t len)
{
    size_t room = j->room == 0 ? 512 : j->room;
    char *text;

    if (j->failed || len > JSON_TEXT_BYTES_MAX - j->len) {
        j->failed = true;
        return false;
    }
    while (room - j->len < len)
        room *= 2;
    if (room == j->room)
        return true;
    if ((text = realloc(j->text, room)) == NULL) {
        j->failed = true;
        return false;
    }
    j->text = text;
    j->room = room;
    return true;
}

static void put(struct json_text *j, const char *s, size_t len)
{
    if (room_for(j, len)) {
        memcpy(j->text + j->len, s, len);
        j->len += len;
    }
}

/* The comma before a value or name that is not the first of its bracket. */
static void separate(struct json_text *j)
{
    if (j->needs_comma)
        put(j, ",", 1);
    j->needs_comma = true;
}

void json_text_free(struct json_text *j)
{
    free(j->text);
    *j = (struct json_text){0};
}

void json_put_open(struct json_text *j, char bracket)
{
    separate(j);
    put(j, &bracket, 1);
    j->needs_comma = false;
}

void json_put_close(struct json_text *j, char bracket)
{
    put(j, &bracket, 1);
    j->needs_comma = true;
}

/* U+2028 and U+2029 are line ends for some readers, so they are escaped as well. */
static bool is_line_separator(struct bytes s, size_t i)
{
    return i + 2 < s.len && s.data[i] == 0xe2 && s.data[i + 1] == 0x80 && (s.data[i + 2] == 0xa8 || s.data[i + 2] == 0xa9);
}

static void put_escaped(struct json_text *j, struct bytes s)
{
    static const char hex[] = "0123456789abcdef";
    size_t i;

    for (i = 0; i < s.len; i++) {
        uint8_t c = s.data[i];
        char escape[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
        char plain = (char)c;

        switch (c) {
        case '"':
        case '\\':
            put(j, (const char[2]){'\\', plain}, 2);
            break;
        case '\n':
            put(j, "\\n", 2);
            break;
        case '\r':
            put(j, "\\r", 2);
            break;
        case '\t':
            put(j, "\\t", 2);
            break;
        case '\b':
            put(j, "\\b", 2);
            break;
        case '\f':
            put(j, "\\f", 2);
            break;
        case '<':
        case '>':
        case '&':
            put(j, escape, sizeof escape);
            break;
        default:
            if (c < 0x20) {
                put(j, escape, sizeof escape);
            } else if (is_line_separator(s, i)) {
                put(j, s.data[i + 2] == 0xa8 ? "\\u2028" : "\\u2029", 6);
                i += 2;
            } else {
                put(j, &plain, 1);
            }
        }
    }
}

void json_put_str(struct json_text *j, struct bytes s)
{
    separate(j);
    put(j, "\"", 1);
    put_escaped(j, s);
    put(j, "\"", 1);
}

void json_put_name(struct json_text *j, const char *name)
{
    json_put_str(j, bytes_str(name));
    put(j, ":", 1);
    j->needs_comma = false;
}

void json_put_int(struct json_text *j, int64_t v)
{
    char text[24];
    int len = snprintf(text, sizeof text, "%lld", (long long)v);

    separate(j);
    put(j, text, (size_t)len);
}

void json_put_bool(struct json_text *j, bool v)
{
    separate(j);
    put(j, v ? "true" : "false", v ? 4 : 5);
}

void json_put_null(struct json_text *j)
{
    separate(j);
    put(j, "null", 4);
}

void json_put_float(struct json_text *j, float v)
{
    char text[48] = "0";
    int digits;

    separate(j);
    for (digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)v);
        if (strtof(text, NULL) == v)
            break;
    }
    if (strchr(text, 'e') != NULL && v < 1e21f && v > -1e21f && (v > 1e-6f || v < -1e-6f)) /* plain digits where the exponent is small */
        snprintf(text, sizeof text, "%.0f", (double)v);
    put(j, text, strlen(text));
}

void json_put_time(struct json_text *j, const struct record_time *t)
{
    char text[RECORD_TIME_TEXT_MAX];
    size_t len = record_time_format(t, text);

    json_put_str(j, bytes_of(text, len));
}

/* --- times --- */

struct record_time record_time_of(int64_t unix_ns)
{
    struct record_time t = {.unix_s = unix_ns / 1000000000, .nanosecond = (int32_t)(unix_ns % 1000000000)};

    if (t.nanosecond < 0) {
        t.nanosecond += 1000000000;
        t.unix_s--;
    }
    return t;
}

struct civil_time civil_of(int64_t unix_s)
{
    int64_t days = unix_s / 86400, rest = unix_s % 86400, era, year;
    unsigned doe, yoe, doy, mp;
    struct civil_time c;

    if (rest < 0) {
        rest += 86400;
        days--;
    }
    days += 719468; /* from 0000-03-01 */
    era = (days >= 0 ? days : days - 146096) / 146097;
    doe = (unsigned)(days - era * 146097);
    yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    year = (int64_t)yoe + era * 400;
    doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    mp = (5 * doy + 2) / 153;
    c.day = doy - (153 * mp + 2) / 5 + 1;
    c.month = mp < 10 ? mp + 3 : mp - 9;
    c.year = year + (c.month <= 2);
    c.hour = (unsigned)(rest / 3600);
    c.minute = (unsigned)(rest / 60 % 60);
    c.second = (unsigned)(rest % 60);
    return c;
}

static int64_t unix_of_civil(const struct civil_time *c)
{
    int64_t year = c->month <= 2 ? c->year - 1 : c->year;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    unsigned yoe = (unsigned)(year - era * 400);
    unsigned doy = (153 * (c->month > 2 ? c->month - 3 : c->month + 9) + 2) / 5 + c->day - 1;
    unsigned doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    int64_t days = era * 146097 + (int64_t)doe - 719468;

    return days * 86400 + c->hour * 3600 + c->minute * 60 + c->second;
}

/* ".5", "" for 0. */
static size_t fraction_format(int32_t nanosecond, char out[12])
{
    size_t len;

    if (nanosecond == 0)
        return 0;
    len = (size_t)snprintf(out, 12, ".%09d", (int)nanosecond);
    while (out[len - 1] == '0')
        len--;
    return len;
}

size_t record_time_format(const struct record_time *t, char out[RECORD_TIME_TEXT_MAX])
{
    struct civil_time c = civil_of(t->unix_s + t->zone_s);
    char fraction[12];
    size_t fraction_len = fraction_format(t->nanosecond, fraction);
    int zone = t->zone_s < 0 ? -t->zone_s : t->zone_s, len;

    if (t->zone_s == 0)
        len = snprintf(out, RECORD_TIME_TEXT_MAX, "%04lld-%02u-%02uT%02u:%02u:%02u%.*sZ", (long long)c.year, c.month, c.day, c.hour, c.minute,
                       c.second, (int)fraction_len, fraction);
    else
        len = snprintf(out, RECORD_TIME_TEXT_MAX, "%04lld-%02u-%02uT%02u:%02u:%02u%.*s%c%02d:%02d", (long long)c.year, c.month, c.day, c.hour,
                       c.minute, c.second, (int)fraction_len, fraction, t->zone_s < 0 ? '-' : '+', zone / 3600, zone / 60 % 60);
    return len < RECORD_TIME_TEXT_MAX ? (size_t)len : RECORD_TIME_TEXT_MAX - 1;
}

size_t record_time_display(const struct record_time *t, char out[RECORD_TIME_TEXT_MAX])
{
    struct civil_time c = civil_of(t->unix_s + t->zone_s);
    char fraction[12], offset[8];
    size_t fraction_len = fraction_format(t->nanosecond, fraction);
    int zone = t->zone_s < 0 ? -t->zone_s : t->zone_s, len;

    snprintf(offset, sizeof offset, "%c%02d%02d", t->zone_s < 0 ? '-' : '+', zone / 3600 % 100, zone / 60 % 60);
    len = snprintf(out, RECORD_TIME_TEXT_MAX, "%04lld-%02u-%02u %02u:%02u:%02u%.*s %s %s", (long long)c.year, c.month, c.day, c.hour, c.minute,
                   c.second, (int)fraction_len, fraction, offset, t->zone_s == 0 ? "UTC" : offset);
    return len < RECORD_TIME_TEXT_MAX ? (size_t)len : RECORD_TIME_TEXT_MAX - 1;
}

/* Reads count digits; *failed is set when there are others. */
static unsigned digits_read(struct reader *r, size_t count, bool *failed)
{
    const uint8_t *p = reader_take(r, count);
    unsigned v = 0;
    size_t i;

    for (i = 0; p != NULL && i < count; i++) {
        if (p[i] < '0' || p[i] > '9')
            *failed = true;
        v = v * 10 + (unsigned)(p[i] - '0');
    }
    *failed |= p == NULL;
    return v;
}

static void expect(struct reader *r, char c, bool *failed)
{
    const uint8_t *p = reader_take(r, 1);

    *failed |= p == NULL || *p != (uint8_t)c;
}

static int32_t fraction_read(struct reader *r, bool *failed)
{
    int32_t v = 0;
    size_t count = 0;

    reader_take(r, 1); /* the point */
    for (; reader_left(r) > 0 && r->at[0] >= '0' && r->at[0] <= '9'; count++) {
        uint8_t c = reader_u8(r);

        if (count < 9)
            v = v * 10 + (c - '0');
    }
    *failed |= count == 0;
    for (; count < 9; count++)
        v *= 10;
    return v;
}

static int32_t zone_read(struct reader *r, bool *failed)
{
    const uint8_t *sign = reader_take(r, 1);
    unsigned hour, minute;

    if (sign != NULL && (*sign == 'Z' || *sign == 'z'))
        return 0;
    *failed |= sign == NULL || (*sign != '+' && *sign != '-');
    hour = digits_read(r, 2, failed);
    expect(r, ':', failed);
    minute = digits_read(r, 2, failed);
    *failed |= hour > 23 || minute > 59;
    return *failed ? 0 : (*sign == '-' ? -1 : 1) * (int32_t)(hour * 3600 + minute * 60);
}

enum status record_time_parse(struct bytes text, struct record_time *out, struct err *err)
{
    struct reader r = reader_of(text);
    struct civil_time c = {0};
    struct record_time t = {0};
    bool failed = false;

    *out = record_time_never();
    c.year = digits_read(&r, 4, &failed);
    expect(&r, '-', &failed);
    c.month = digits_read(&r, 2, &failed);
    expect(&r, '-', &failed);
    c.day = digits_read(&r, 2, &failed);
    expect(&r, 'T', &failed);
    c.hour = digits_read(&r, 2, &failed);
    expect(&r, ':', &failed);
    c.minute = digits_read(&r, 2, &failed);
    expect(&r, ':', &failed);
    c.second = digits_read(&r, 2, &failed);
    if (!failed && reader_left(&r) > 0 && r.at[0] == '.')
        t.nanosecond = fraction_read(&r, &failed);
    if (!failed)
        t.zone_s = zone_read(&r, &failed);
    if (failed || !reader_done(&r) || c.month < 1 || c.month > 12 || c.day < 1 || c.day > 31 || c.hour > 23 || c.minute > 59 || c.second > 60)
        return err_set(err, ST_INVALID, 0, "time \"%.*s\" is not in RFC 3339 form", (int)(text.len < 40 ? text.len : 40),
                       text.data != NULL ? (const char *)text.data : "");
    t.unix_s = unix_of_civil(&c) - t.zone_s;
    *out = t;
    return ST_OK;
}

/* --- reading --- */

enum status json_read(struct bytes text, json_t **out, struct err *err)
{
    json_error_t e;

    *out = json_loadb(text.data != NULL ? (const char *)text.data : "", text.len, 0, &e);
    if (*out != NULL)
        return ST_OK;
    if (json_error_code(&e) == json_error_out_of_memory)
        return err_set(err, ST_NOMEM, 0, "reading JSON: out of memory");
    return err_set(err, ST_INVALID, 0, "reading JSON: %s at byte %d", e.text, e.position);
}

json_t *json_member(const json_t *object, const char *name)
{
    json_t *exact = json_object_get(object, name), *loose = NULL, *value;
    const char *key;

    if (exact == NULL) {
        for (void *it = json_object_iter((json_t *)(uintptr_t)object); it != NULL; it = json_object_iter_next((json_t *)(uintptr_t)object, it)) {
            key = json_object_iter_key(it);
            value = json_object_iter_value(it);
            if (strcasecmp(key, name) == 0)
                loose = value;
        }
    }
    value = exact != NULL ? exact : loose;
    return value != NULL && !json_is_null(value) ? value : NULL;
}
