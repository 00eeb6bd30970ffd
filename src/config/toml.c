/* A recursive-descent reader over a borrowed buffer; see toml.h. */
#include "config/toml.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

enum { NESTING_MAX = 16 };

struct toml {
    const uint8_t *at, *end;
    unsigned line;
    struct err *err;
    char key[TOML_VALUE_LEN_MAX + 1], text[TOML_VALUE_LEN_MAX + 1];
    size_t len; /* of the text being collected */
    enum toml_kind kind;
};

static enum status bad(struct toml *t, const char *what) { return err_set(t->err, ST_INVALID, 0, "line %u: %s", t->line, what); }

static int peek(const struct toml *t) { return t->at < t->end ? *t->at : -1; }

static void skip_blanks(struct toml *t)
{
    while (t->at < t->end && (*t->at == ' ' || *t->at == '\t'))
        t->at++;
}

static void skip_comment(struct toml *t)
{
    if (peek(t) == '#')
        while (t->at < t->end && *t->at != '\n')
            t->at++;
}

/* Blanks, comments and line ends: what may stand between the elements of an array. */
static void skip_lines(struct toml *t)
{
    for (;;) {
        skip_blanks(t);
        skip_comment(t);
        if (peek(t) == '\n')
            t->line++;
        else if (peek(t) != '\r')
            return;
        t->at++;
    }
}

static enum status collect(struct toml *t, char *out, uint8_t c)
{
    if (t->len >= TOML_VALUE_LEN_MAX)
        return bad(t, "text is too long");
    if (c == 0)
        return bad(t, "zero byte in a text");
    out[t->len++] = (char)c;
    return ST_OK;
}

static enum status collect_code_point(struct toml *t, char *out, uint32_t c)
{
    uint8_t utf8[4];
    size_t len, i;

    if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return bad(t, "escape is no character");
    if (c < 0x80) {
        len = 1;
        utf8[0] = (uint8_t)c;
    } else if (c < 0x800) {
        len = 2;
        utf8[0] = (uint8_t)(0xc0 | c >> 6);
    } else if (c < 0x10000) {
        len = 3;
        utf8[0] = (uint8_t)(0xe0 | c >> 12);
    } else {
        len = 4;
        utf8[0] = (uint8_t)(0xf0 | c >> 18);
    }
    for (i = 1; i < len; i++)
        utf8[i] = (uint8_t)(0x80 | ((c >> (6 * (len - 1 - i))) & 0x3f));
    for (i = 0; i < len; i++)
        if (collect(t, out, utf8[i]) != ST_OK)
            return ST_INVALID;
    return ST_OK;
}

static enum status read_escape(struct toml *t, char *out)
{
    static const char letters[] = "btnfre\"\\", meanings[] = "\b\t\n\f\r\033\"\\";
    int c = peek(t);
    const char *at;
    uint32_t v = 0;
    int digits, i;

    if (c < 0)
        return bad(t, "unfinished string");
    t->at++;
    if (c != 0 && (at = strchr(letters, c)) != NULL)
        return collect(t, out, (uint8_t)meanings[at - letters]);
    if (c != 'u' && c != 'U')
        return bad(t, "unknown escape");
    digits = c == 'u' ? 4 : 8;
    for (i = 0; i < digits; i++) {
        int d = peek(t);

        if (d >= '0' && d <= '9')
            v = v << 4 | (uint32_t)(d - '0');
        else if ((d | 0x20) >= 'a' && (d | 0x20) <= 'f')
            v = v << 4 | (uint32_t)((d | 0x20) - 'a' + 10);
        else
            return bad(t, "escape needs hexadecimal digits");
        t->at++;
    }
    return collect_code_point(t, out, v);
}

/* A string in either kind of quotes, at its opening one. */
static enum status read_string(struct toml *t, char *out)
{
    uint8_t quote = *t->at;

    t->len = 0;
    if (t->end - t->at >= 3 && t->at[1] == quote && t->at[2] == quote)
        return bad(t, "strings over several lines are not supported");
    for (t->at++;;) {
        int c = peek(t);

        if (c < 0 || c == '\n' || c == '\r')
            return bad(t, "unfinished string");
        t->at++;
        if (c == quote)
            break;
        if ((c == '\\' && quote == '"' ? read_escape(t, out) : collect(t, out, (uint8_t)c)) != ST_OK)
            return ST_INVALID;
    }
    out[t->len] = '\0';
    return ST_OK;
}

static bool is_bare(int c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '+' || c == '.' || c == ':';
}

/* A name, into key or, inside an inline table, where nobody looks. */
static enum status read_key(struct toml *t, char *out)
{
    if (peek(t) == '"' || peek(t) == '\'')
        return read_string(t, out);
    t->len = 0;
    while (is_bare(peek(t)))
        if (collect(t, out, *t->at++) != ST_OK)
            return ST_INVALID;
    out[t->len] = '\0';
    return t->len > 0 ? ST_OK : bad(t, "a name was expected");
}

static enum status read_value(struct toml *t, unsigned depth);

/* [ ... ] or { ... }, read over. */
static enum status read_nested(struct toml *t, unsigned depth)
{
    uint8_t close = *t->at == '[' ? ']' : '}';

    if (depth >= NESTING_MAX)
        return bad(t, "nested too deeply");
    for (t->at++;;) {
        skip_lines(t);
        if (peek(t) == close)
            break;
        if (close == '}') {
            if (read_key(t, t->text) != ST_OK)
                return ST_INVALID;
            skip_blanks(t);
            if (peek(t) != '=')
                return bad(t, "'=' was expected");
            t->at++;
            skip_blanks(t);
        }
        if (read_value(t, depth + 1) != ST_OK)
            return ST_INVALID;
        skip_lines(t);
        if (peek(t) == ',')
            t->at++;
        else if (peek(t) != close)
            return bad(t, "',' or the closing bracket was expected");
    }
    t->at++;
    t->kind = TOML_OTHER;
    t->text[0] = '\0';
    return ST_OK;
}

static enum status read_value(struct toml *t, unsigned depth)
{
    int c = peek(t);

    if (c == '"' || c == '\'') {
        t->kind = TOML_STRING;
        return read_string(t, t->text);
    }
    if (c == '[' || c == '{')
        return read_nested(t, depth);
    t->len = 0;
    while (is_bare(peek(t)))
        if (collect(t, t->text, *t->at++) != ST_OK)
            return ST_INVALID;
    t->text[t->len] = '\0';
    if (t->len == 0)
        return bad(t, "a value was expected");
    t->kind = strcmp(t->text, "true") == 0 || strcmp(t->text, "false") == 0 ? TOML_BOOL : TOML_NUMBER;
    if (t->kind == TOML_NUMBER && strchr("+-0123456789", t->text[0]) == NULL && strcmp(t->text, "inf") != 0 && strcmp(t->text, "nan") != 0)
        return bad(t, "texts need quotes");
    if (t->kind == TOML_NUMBER) { /* 1_000 */
        size_t i, kept = 0;

        for (i = 0; i < t->len; i++)
            if (t->text[i] != '_')
                t->text[kept++] = t->text[i];
        t->text[kept] = '\0';
    }
    return ST_OK;
}

/* The rest of a line behind a pair or a header. */
static enum status end_line(struct toml *t)
{
    skip_blanks(t);
    skip_comment(t);
    if (peek(t) == '\r')
        t->at++;
    if (peek(t) >= 0 && peek(t) != '\n')
        return bad(t, "the end of the line was expected");
    return ST_OK;
}

static enum status read_header(struct toml *t)
{
    while (t->at < t->end && *t->at != ']' && *t->at != '\n')
        t->at++;
    if (peek(t) != ']')
        return bad(t, "a table's name needs a closing bracket");
    while (peek(t) == ']')
        t->at++;
    return end_line(t);
}

enum status toml_read(struct bytes file, enum status (*visit)(void *ctx, const char *key, enum toml_kind kind, const char *text, struct err *err),
                      void *ctx, struct err *err)
{
    struct toml *t = calloc(1, sizeof *t);
    bool in_table = false;
    enum status st = ST_OK;

    if (t == NULL)
        return err_set(err, ST_NOMEM, 0, "reading the configuration: out of memory");
    t->at = file.data != NULL ? file.data : (const uint8_t *)"";
    t->end = t->at + file.len;
    t->line = 1;
    t->err = err;
    if (file.len >= 3 && memcmp(t->at, "\xef\xbb\xbf", 3) == 0) /* byte order mark */
        t->at += 3;
    while (st == ST_OK) {
        skip_lines(t);
        if (peek(t) < 0)
            break;
        if (peek(t) == '[') {
            in_table = true;
            st = read_header(t);
            continue;
        }
        if ((st = read_key(t, t->key)) != ST_OK)
            break;
        skip_blanks(t);
        if (peek(t) != '=') {
            st = bad(t, "'=' was expected");
            break;
        }
        t->at++;
        skip_blanks(t);
        if ((st = read_value(t, 0)) == ST_OK && (st = end_line(t)) == ST_OK && !in_table)
            st = visit(ctx, t->key, t->kind, t->text, err);
    }
    free(t);
    return st;
}

enum status config_json_read(struct bytes file,
                             enum status (*visit)(void *ctx, const char *key, enum toml_kind kind, const char *text, struct err *err), void *ctx,
                             struct err *err)
{
    enum status st = ST_OK;
    json_error_t e;
    json_t *object = json_loadb(file.data != NULL ? (const char *)file.data : "", file.len, JSON_REJECT_DUPLICATES, &e), *value;
    const char *key;
    char number[40];

    if (object == NULL)
        return err_set(err, ST_INVALID, 0, "line %d: %s", e.line, e.text);
    if (!json_is_object(object)) {
        json_decref(object);
        return err_set(err, ST_INVALID, 0, "line 1: an object was expected");
    }
    json_object_foreach(object, key, value)
    {
        if (json_is_string(value)) {
            st = visit(ctx, key, TOML_STRING, json_string_value(value), err);
        } else if (json_is_boolean(value)) {
            st = visit(ctx, key, TOML_BOOL, json_is_true(value) ? "true" : "false", err);
        } else if (json_is_integer(value)) {
            snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
            st = visit(ctx, key, TOML_NUMBER, number, err);
        } else if (json_is_real(value)) {
            snprintf(number, sizeof number, "%.17g", json_real_value(value));
            st = visit(ctx, key, TOML_NUMBER, number, err);
        } else if (!json_is_null(value)) {
            st = visit(ctx, key, TOML_OTHER, "", err);
        }
        if (st != ST_OK)
            break;
    }
    json_decref(object);
    return st;
}
