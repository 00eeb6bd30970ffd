/* Statuses and texts of the layers below, as clients know them: one table from text to code, then one by status.
 *
 * The innermost cause of a struct err is the published text; what was added on the way up ("; while ...") is for the log. */
#include <stdio.h>
#include <string.h>

#include "config/logger.h"
#include "request/request.h"
#include "request/server_parts.h"

enum match { WHOLE, PREFIX };

static const struct known_error {
    enum match match;
    const char *text;
    enum rpc_code code;
    const char *info_code; /* NULL: plain */
} KNOWN[] = {
    {WHOLE, "illegal arguments", RPC_INVALID_ARGUMENT, NULL},
    {WHOLE, "illegal state", RPC_INVALID_ARGUMENT, NULL},
    {WHOLE, "tx read conflict", RPC_UNKNOWN, "25P02"},
    {PREFIX, "precondition failed: ", RPC_FAILED_PRECONDITION, "23000"},
    {WHOLE, "the server is stopping", RPC_UNAVAILABLE, NULL},
    {PREFIX, "no space left on device", RPC_RESOURCE_EXHAUSTED, NULL}, /* of every write; the store has told the log, once */
    {WHOLE, "permission denied", RPC_INTERNAL, "XX000"},
    {WHOLE, "database is reserved", RPC_INTERNAL, "XX000"},
    {WHOLE, "operation not supported", RPC_INTERNAL, "XX000"},
    {WHOLE, "database already loaded", RPC_INTERNAL, "XX000"},
    {WHOLE, "replication already in progress", RPC_INTERNAL, "XX000"},
    {WHOLE, "duplicated keys are not supported in single batch transaction", RPC_INVALID_ARGUMENT, NULL},
    {WHOLE, "username can only contain letters, digits and underscores", RPC_INVALID_ARGUMENT, NULL},
    {WHOLE, "max transaction values length exceeded", RPC_FAILED_PRECONDITION, "22000"},
};

static enum rpc_code code_of(enum status st)
{
    switch (st) {
    case ST_NOMEM:
    case ST_NO_SPACE:
        return RPC_RESOURCE_EXHAUSTED;
    case ST_TIMEOUT:
        return RPC_DEADLINE_EXCEEDED;
    case ST_CANCELLED:
        return RPC_CANCELLED;
    case ST_UNSUPPORTED:
        return RPC_UNIMPLEMENTED;
    case ST_INVALID:
    case ST_NOT_FOUND:
    case ST_EXISTS:
    case ST_CONFLICT:
    case ST_LIMIT:
    case ST_READ_ONLY:
    case ST_BUSY:
    case ST_CLOSED:
        return RPC_UNKNOWN;
    default:
        return RPC_INTERNAL;
    }
}

/* Length of the innermost cause. */
static size_t cause_len(const char *text)
{
    const char *more = strstr(text, "; while ");

    return more != NULL ? (size_t)(more - text) : strlen(text);
}

/* The whole chain of causes; the client sees the innermost alone. */
static void log_failure(struct request *rq, const struct err *err)
{
    char id[REQUEST_ID_MAX + 1];

    (void)request_id_of(rq, id);
    LOG_ERROR_AT(rq->server->logger, "%s: %s (request=%s)", rq->method->path, err->text, id);
}

void request_fail_err(struct request *rq, enum status st, const struct err *err)
{
    char text[sizeof err->text];
    size_t i, len = cause_len(err->text);
    enum rpc_code code = code_of(st);

    memcpy(text, err->text, len);
    text[len] = '\0';
    for (i = 0; i < sizeof KNOWN / sizeof KNOWN[0]; i++) {
        const struct known_error *k = &KNOWN[i];

        if (k->match == WHOLE ? strcmp(k->text, text) != 0 : strncmp(k->text, text, strlen(k->text)) != 0)
            continue;
        if (k->info_code != NULL)
            request_fail_coded(rq, k->code, k->info_code, NULL, text);
        else
            request_fail(rq, k->code, "%s", text);
        return;
    }
    if (st == ST_TIMEOUT)
        snprintf(text, sizeof text, "context deadline exceeded");
    else if (st == ST_CANCELLED)
        snprintf(text, sizeof text, "context canceled");
    else if (code == RPC_INTERNAL || st == ST_NO_SPACE)
        log_failure(rq, err);
    request_fail(rq, code, "%s", text);
}
