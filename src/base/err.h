/* Status codes to act on, and an error text to read.
 *
 * Every fallible function returns an enum status and, on failure, fills the caller's struct err: the innermost cause
 * first, then "; while ..." parts added on the way up. A struct err may be NULL where only the status matters.
 * errno is read right after the failing call, stored in os_errno, and stops there. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt_index, args_index) __attribute__((format(printf, fmt_index, args_index)))

enum status {
    ST_OK = 0,
    ST_NOMEM,       /* an allocation failed, or the memory budget is exhausted */
    ST_IO,          /* the operating system reported a failure; os_errno says which */
    ST_NO_SPACE,    /* the disk is full: heals by itself when space returns */
    ST_CORRUPT,     /* stored or received bytes contradict themselves */
    ST_INVALID,     /* the caller's arguments are not acceptable */
    ST_NOT_FOUND,   /* what was asked for does not exist */
    ST_EXISTS,      /* what was to be made exists already */
    ST_CONFLICT,    /* a concurrent change won, or a precondition does not hold */
    ST_LIMIT,       /* a named limit is exceeded */
    ST_READ_ONLY,   /* the object refuses writes (replica, damaged, failed sync) */
    ST_BUSY,        /* locked by somebody else, or not possible right now */
    ST_TIMEOUT,     /* the deadline passed before the work was done; nothing was done */
    ST_CANCELLED,   /* the caller gave up before the work was begun */
    ST_CLOSED,      /* the object is closed or closing */
    ST_UNSUPPORTED, /* a format or request from the future, or one that this build leaves out */
    ST_AGAIN,       /* would block: data is not in memory (only from calls that say so) */
    ST_COUNT_
};

struct err {
    enum status status;
    int os_errno;   /* 0 when no system call was involved */
    char text[224]; /* NUL terminated, cut at a UTF-8 boundary when too long */
};

/* Fills err (may be NULL) and returns st, so that failing reads `return err_set(err, ST_X, 0, "...");`. */
enum status err_set(struct err *err, enum status st, int os_errno, const char *fmt, ...) PRINTF_LIKE(4, 5);

/* Appends "; while ..." to an error already set; returns its status. With err == NULL returns st. */
enum status err_while(struct err *err, enum status st, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Turns an errno into a status: ENOSPC and EDQUOT are ST_NO_SPACE, ENOMEM is ST_NOMEM, ENOENT is ST_NOT_FOUND,
 * EEXIST is ST_EXISTS, everything else is ST_IO. */
enum status status_from_errno(int os_errno);

/* "ok", "not found", ...: for logs and tests. */
const char *status_name(enum status st);

#endif
