/* Configuration files: flat "name = value" pairs of TOML, and the same of JSON.
 *
 * The subset of TOML that configuration files of this product use: comments, bare and quoted keys, basic and literal strings, integers, floats,
 * booleans. Arrays, inline tables and everything below a [table] header are read over. Bounded: files up to CONFIG_FILE_BYTES_MAX, nesting 16. */
#ifndef CONFIG_TOML_H
#define CONFIG_TOML_H

#include "base/bytes.h"
#include "base/err.h"

#define CONFIG_FILE_BYTES_MAX (1u << 20)
#define TOML_VALUE_LEN_MAX 4096

/* What a value looked like; its text is handed on for the option's own type to judge. */
enum toml_kind { TOML_STRING, TOML_NUMBER, TOML_BOOL, TOML_OTHER /* array or table: text is empty */ };

/* Calls visit for each pair before the first table, in order; key and text are NUL-terminated and borrowed for the call. visit stops the reading by
 * returning something else than ST_OK. ST_INVALID "line N: ..." for what is no TOML. */
MUST_USE enum status toml_read(struct bytes file,
                               enum status (*visit)(void *ctx, const char *key, enum toml_kind kind, const char *text, struct err *err), void *ctx,
                               struct err *err);
/* The members of one JSON object; nested ones are handed on as TOML_OTHER. */
MUST_USE enum status config_json_read(struct bytes file,
                                      enum status (*visit)(void *ctx, const char *key, enum toml_kind kind, const char *text, struct err *err),
                                      void *ctx, struct err *err);

#endif
