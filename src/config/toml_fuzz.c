/* Any bytes as a configuration file: a verdict, and texts within their bounds. */
#include <assert.h>
#include <string.h>

#include "config/toml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static enum status visit(void *ctx, const char *key, enum toml_kind kind, const char *text, struct err *err)
{
    (void)ctx;
    (void)kind;
    (void)err;
    assert(strlen(key) <= TOML_VALUE_LEN_MAX && strlen(text) <= TOML_VALUE_LEN_MAX);
    return ST_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct err err;

    (void)!toml_read(bytes_of(data, len), visit, NULL, &err);
    return 0;
}
