/* Options of the command line tools: a table of names, values from command line, environment, file and defaults, in this order.
 *
 * "--name value", "--name=value", "-n value"; booleans stand alone or carry =true or =false. Environment: PREFIX_NAME in capitals with '_' for '-'.
 * The file (--config) is flat TOML with the same names; names it does not know are left alone. Words that are no options are collected. */
#ifndef CMD_OPTIONS_H
#define CMD_OPTIONS_H

#include "base/err.h"

enum option_kind { OPTION_TEXT = 0, OPTION_BOOL, OPTION_NUMBER, OPTION_DURATION, OPTION_SECRET };
enum option_source { OPTION_BY_DEFAULT = 0, OPTION_BY_FILE, OPTION_BY_ENVIRONMENT, OPTION_BY_FLAG };

struct option_row {
    const char *name;
    char letter; /* 0 = none */
    enum option_kind kind;
    const char *value; /* default; NULL: not given */
    const char *shown; /* what the help calls its value */
    const char *help;
};

enum { OPTIONS_MAX = 64, WORDS_MAX = 16 };
struct options {
    const struct option_row *rows;
    size_t count;
    char *values[OPTIONS_MAX]; /* NULL: not given */
    enum option_source sources[OPTIONS_MAX];
    const char *words[WORDS_MAX]; /* borrowed from argv */
    size_t word_count;
};

/* argv[0] is the command's own word. Secrets given on the command line are overwritten in argv. ST_INVALID with a text for the user. */
MUST_USE enum status options_read(const struct option_row *rows, size_t count, const char *prefix, int argc, char **argv, struct options *out,
                                  struct err *err);
void options_free(struct options *o);
const char *option_text(const struct options *o, const char *name); /* NULL: not given */
bool option_bool(const struct options *o, const char *name);
bool option_is_given(const struct options *o, const char *name); /* by anybody */
/* Within [min, max]; sizes may carry K, M, G. */
MUST_USE enum status option_number(const struct options *o, const char *name, int64_t min, int64_t max, int64_t *out, struct err *err);
/* "30s", "2m", in nanoseconds. */
MUST_USE enum status option_duration(const struct options *o, const char *name, int64_t *out, struct err *err);
/* The table as the help shows it. */
void options_print(const struct option_row *rows, size_t count);

#endif
