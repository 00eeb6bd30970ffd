/* See options.h. */
#include "options.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/toml.h"
#include "vfs/vfs.h"

enum { FILE_BYTES_MAX = 1 << 20, NAME_BYTES_MAX = 128, HELP_COLUMN = 38 };

static size_t row_find(const struct options *o, const char *name, size_t len)
{
    size_t i;

    for (i = 0; i < o->count; i++)
        if (strlen(o->rows[i].name) == len && memcmp(o->rows[i].name, name, len) == 0)
            break;
    return i;
}

static enum status set(struct options *o, size_t row, const char *value, enum option_source source, struct err *err)
{
    char *copy;
    bool ignored;

    if (o->rows[row].kind == OPTION_BOOL && flag_parse_bool(value, &ignored) != ST_OK)
        return err_set(err, ST_INVALID, 0, "--%s is either true or false", o->rows[row].name);
    if (o->values[row] != NULL && o->sources[row] > source)
        return ST_OK;
    if ((copy = strdup(value)) == NULL)
        return err_set(err, ST_NOMEM, 0, "out of memory");
    free(o->values[row]);
    o->values[row] = copy;
    o->sources[row] = source;
    return ST_OK;
}

/* --- sources, the strongest first --- */

/* argv[*i] begins with '-'; its value may be the next word. */
static enum status flag_take(struct options *o, int argc, char **argv, int *i, struct err *err)
{
    char *word = argv[*i], *value = NULL, *equals = NULL;
    size_t row = o->count;
    enum status st;

    if (word[1] == '-') {
        equals = strchr(word, '=');
        row = row_find(o, word + 2, equals != NULL ? (size_t)(equals - word - 2) : strlen(word + 2));
        value = equals != NULL ? equals + 1 : NULL;
    } else {
        for (row = 0; row < o->count && o->rows[row].letter != word[1]; row++) {}
        if (row < o->count && word[2] != '\0')
            value = word[2] == '=' ? word + 3 : word + 2;
    }
    if (row == o->count)
        return err_set(err, ST_INVALID, 0, word[1] == '-' ? "unknown flag: %.60s" : "unknown shorthand flag: %.60s", word);
    if (value == NULL && o->rows[row].kind == OPTION_BOOL)
        return set(o, row, "true", OPTION_BY_FLAG, err);
    if (value == NULL) {
        if (*i + 1 >= argc)
            return err_set(err, ST_INVALID, 0, "flag needs an argument: %.60s", word);
        value = argv[++*i];
    }
    st = set(o, row, value, OPTION_BY_FLAG, err);
    if (o->rows[row].kind == OPTION_SECRET)
        memset(value, '*', strlen(value)); /* others can read the arguments of a process */
    return st;
}

static enum status flags_read(struct options *o, int argc, char **argv, struct err *err)
{
    enum status st = ST_OK;

    for (int i = 1; i < argc && st == ST_OK; i++) {
        if (argv[i][0] == '-' && argv[i][1] != '\0')
            st = flag_take(o, argc, argv, &i, err);
        else if (o->word_count == WORDS_MAX)
            st = err_set(err, ST_INVALID, 0, "too many arguments");
        else
            o->words[o->word_count++] = argv[i];
    }
    return st;
}

static enum status environment_read(struct options *o, const char *prefix, struct err *err)
{
    char name[NAME_BYTES_MAX];
    enum status st = ST_OK;
    const char *value;

    for (size_t row = 0; row < o->count && st == ST_OK; row++) {
        snprintf(name, sizeof name, "%s_%s", prefix, o->rows[row].name);
        for (char *p = name; *p != '\0'; p++)
            *p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
        if ((value = getenv(name)) != NULL && value[0] != '\0')
            st = set(o, row, value, OPTION_BY_ENVIRONMENT, err);
    }
    return st;
}

static enum status file_pair(void *ctx, const char *key, enum toml_kind kind, const char *text, struct err *err)
{
    struct options *o = ctx;
    size_t row = row_find(o, key, strlen(key));

    return row == o->count || kind == TOML_OTHER ? ST_OK : set(o, row, text, OPTION_BY_FILE, err);
}

static enum status file_read(struct options *o, const char *path, struct err *err)
{
    uint8_t *text = NULL;
    size_t len;
    enum status st;

    if (path == NULL)
        return ST_OK;
    if ((st = vfs_read_all(vfs_posix(), path, FILE_BYTES_MAX, &text, &len, err)) == ST_NOT_FOUND)
        return err_set(err, ST_NOT_FOUND, 0, "open %.150s: no such file or directory", path);
    if (st == ST_OK)
        st = toml_read(bytes_of(text, len), file_pair, o, err);
    free(text);
    return st;
}

static enum status defaults(struct options *o, struct err *err)
{
    enum status st = ST_OK;

    for (size_t row = 0; row < o->count && st == ST_OK; row++)
        if (o->rows[row].value != NULL)
            st = set(o, row, o->rows[row].value, OPTION_BY_DEFAULT, err);
    return st;
}

enum status options_read(const struct option_row *rows, size_t count, const char *prefix, int argc, char **argv, struct options *out, struct err *err)
{
    enum status st;

    memset(out, 0, sizeof *out);
    out->rows = rows;
    out->count = count < OPTIONS_MAX ? count : OPTIONS_MAX;
    if ((st = flags_read(out, argc, argv, err)) == ST_OK && (st = environment_read(out, prefix, err)) == ST_OK &&
        (st = file_read(out, option_text(out, "config"), err)) == ST_OK)
        st = defaults(out, err);
    if (st != ST_OK)
        options_free(out);
    return st;
}

void options_free(struct options *o)
{
    for (size_t row = 0; row < o->count; row++) {
        if (o->values[row] != NULL && o->rows[row].kind == OPTION_SECRET)
            explicit_bzero(o->values[row], strlen(o->values[row]));
        free(o->values[row]);
        o->values[row] = NULL;
    }
}

/* --- values --- */

const char *option_text(const struct options *o, const char *name)
{
    size_t row = row_find(o, name, strlen(name));

    return row == o->count ? NULL : o->values[row];
}

bool option_is_given(const struct options *o, const char *name)
{
    size_t row = row_find(o, name, strlen(name));

    return row < o->count && o->values[row] != NULL && o->sources[row] != OPTION_BY_DEFAULT;
}

bool option_bool(const struct options *o, const char *name)
{
    const char *text = option_text(o, name);
    bool value = false;

    return text != NULL && flag_parse_bool(text, &value) == ST_OK && value;
}

enum status option_number(const struct options *o, const char *name, int64_t min, int64_t max, int64_t *out, struct err *err)
{
    const char *text = option_text(o, name);

    if (text == NULL || flag_parse_int(text, true, out) != ST_OK || *out < min || *out > max)
        return err_set(err, ST_INVALID, 0, "--%s must be a number from %lld to %lld", name, (long long)min, (long long)max);
    return ST_OK;
}

enum status option_duration(const struct options *o, const char *name, int64_t *out, struct err *err)
{
    const char *text = option_text(o, name);

    if (text == NULL || duration_parse(text, out, NULL) != ST_OK || *out <= 0)
        return err_set(err, ST_INVALID, 0, "--%s must be a time like 30s or 2m", name);
    return ST_OK;
}

void options_print(const struct option_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int len = rows[i].letter != 0 ? printf("  -%c, --%s", rows[i].letter, rows[i].name) : printf("      --%s", rows[i].name);

        if (rows[i].shown != NULL)
            len += printf(" %s", rows[i].shown);
        printf("%*s%s", len < HELP_COLUMN ? HELP_COLUMN - len : 1, "", rows[i].help);
        if (rows[i].value != NULL && rows[i].value[0] != '\0' && rows[i].kind != OPTION_BOOL)
            printf(" (default %s)", rows[i].value);
        printf("\n");
    }
}
