/* Status names and error texts. A text is never longer than its field and never ends inside a UTF-8 sequence. */
#include "base/err.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Length of text once an UTF-8 sequence that was cut at its end is taken away. Bytes that are no UTF-8 stay. */
static size_t utf8_whole_len(const char *text, size_t len)
{
    size_t back, lead_at, need;
    uint8_t lead;

    for (back = 1; back <= 4 && back <= len; back++) {
        lead_at = len - back;
        lead = (uint8_t)text[lead_at];
        if ((lead & 0xc0) == 0x80)
            continue;
        need = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
        return need > back ? lead_at : len;
    }
    return len;
}

/* Formats behind the first `at` bytes of the text and cuts cleanly. */
static void text_append(struct err *err, size_t at, const char *fmt, va_list args)
{
    size_t room = sizeof err->text - at;
    int wanted = vsnprintf(err->text + at, room, fmt, args);

    if (wanted < 0)
        err->text[at] = '\0';
    else if ((size_t)wanted >= room)
        err->text[utf8_whole_len(err->text, sizeof err->text - 1)] = '\0';
}

enum status err_set(struct err *err, enum status st, int os_errno, const char *fmt, ...)
{
    va_list args;

    assert(st > ST_OK && st < ST_COUNT_);
    if (err != NULL) {
        err->status = st;
        err->os_errno = os_errno;
        va_start(args, fmt);
        text_append(err, 0, fmt, args);
        va_end(args);
    }
    return st;
}

enum status err_while(struct err *err, enum status st, const char *fmt, ...)
{
    static const char joint[] = "; while ";
    va_list args;
    size_t at;

    assert(st > ST_OK && st < ST_COUNT_);
    if (err == NULL)
        return st;
    if (err->status == ST_OK) { /* a callee that failed without saying why: keep at least the status */
        err->status = st;
        err->os_errno = 0;
        snprintf(err->text, sizeof err->text, "%s", status_name(st));
    }
    at = strnlen(err->text, sizeof err->text - 1);
    if (at + sizeof joint < sizeof err->text) {
        memcpy(err->text + at, joint, sizeof joint);
        va_start(args, fmt);
        text_append(err, at + sizeof joint - 1, fmt, args);
        va_end(args);
    }
    return err->status;
}

enum status status_from_errno(int os_errno)
{
    switch (os_errno) {
    case ENOSPC:
    case EDQUOT:
        return ST_NO_SPACE;
    case ENOMEM:
        return ST_NOMEM;
    case ENOENT:
        return ST_NOT_FOUND;
    case EEXIST:
        return ST_EXISTS;
    default:
        return ST_IO;
    }
}

const char *status_name(enum status st)
{
    static const char *const names[ST_COUNT_] = {
        [ST_OK] = "ok",
        [ST_NOMEM] = "out of memory",
        [ST_IO] = "input/output error",
        [ST_NO_SPACE] = "no space left on disk",
        [ST_CORRUPT] = "corrupted data",
        [ST_INVALID] = "invalid argument",
        [ST_NOT_FOUND] = "not found",
        [ST_EXISTS] = "already exists",
        [ST_CONFLICT] = "conflict",
        [ST_LIMIT] = "limit exceeded",
        [ST_READ_ONLY] = "read only",
        [ST_BUSY] = "busy",
        [ST_TIMEOUT] = "deadline exceeded",
        [ST_CANCELLED] = "cancelled",
        [ST_CLOSED] = "closed",
        [ST_UNSUPPORTED] = "unsupported",
        [ST_AGAIN] = "would block",
    };

    return (unsigned)st < ST_COUNT_ ? names[st] : "unknown status";
}
