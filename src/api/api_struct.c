/* Structs that may grow, statuses, and the error that the caller sees.
 *
 * A sized struct begins with its size as the caller was compiled. Reading: a shorter one is an older caller, what it lacks is zero, and zero means
 * default; a longer one is a newer caller, whose additional fields must be zero, for we would ignore what they ask. Writing: only as much as there is room for. */
#include "api/api_struct.h"

#include <assert.h>
#include <stdio.h>

enum { SIZED_MAX = 65536 /* a larger size was never set */ };

static enum status size_of(const void *theirs, const char *name, size_t *size, struct err *err)
{
    memcpy(size, theirs, sizeof *size);
    if (*size < sizeof *size || *size > SIZED_MAX)
        return err_set(err, ST_INVALID, 0, "size of %s is not set: call %s_init()", name, name);
    return ST_OK;
}

enum status sized_in(void *ours, size_t ours_size, const void *theirs, bool is_optional, const char *name, struct err *err)
{
    size_t size = 0;
    enum status st;

    memset(ours, 0, ours_size);
    if (theirs == NULL)
        return is_optional ? ST_OK : api_null(err, name);
    if ((st = size_of(theirs, name, &size, err)) != ST_OK)
        return st;
    for (size_t i = ours_size; i < size; i++)
        if (((const uint8_t *)theirs)[i] != 0)
            return err_set(err, ST_UNSUPPORTED, 0, "%s has fields that this release does not know", name);
    memcpy(ours, theirs, size < ours_size ? size : ours_size);
    return ST_OK;
}

enum status sized_out_begin(void *theirs, bool is_optional, const char *name, struct err *err)
{
    size_t size = 0;
    enum status st;

    if (theirs == NULL)
        return is_optional ? ST_OK : api_null(err, name);
    if ((st = size_of(theirs, name, &size, err)) != ST_OK)
        return st;
    memset((uint8_t *)theirs + sizeof size, 0, size - sizeof size);
    return ST_OK;
}

void sized_out(void *theirs, void *ours, size_t ours_size)
{
    size_t size;

    if (theirs == NULL)
        return;
    memcpy(&size, theirs, sizeof size);
    assert(size >= sizeof size && size <= SIZED_MAX); /* sized_out_begin() has seen it */
    memcpy(ours, &size, sizeof size);
    memcpy(theirs, ours, size < ours_size ? size : ours_size);
}

enum status api_null(struct err *err, const char *what) { return err_set(err, ST_INVALID, 0, "%s is NULL", what); }

enum status bytes_check(immudb_bytes b, const char *what, struct err *err)
{
    return b.data == NULL && b.len > 0 ? err_set(err, ST_INVALID, 0, "%s has a length but no data", what) : ST_OK;
}

/* --- statuses --- */
static const struct {
    enum status ours;
    immudb_status theirs;
    const char *name;
} STATUSES[] = {
    {ST_OK, IMMUDB_OK, "ok"},
    {ST_NOMEM, IMMUDB_NO_MEMORY, "out of memory"},
    {ST_IO, IMMUDB_IO, "input/output error"},
    {ST_NO_SPACE, IMMUDB_NO_SPACE, "no space left"},
    {ST_CORRUPT, IMMUDB_CORRUPT, "corrupt"},
    {ST_INVALID, IMMUDB_INVALID, "invalid"},
    {ST_NOT_FOUND, IMMUDB_NOT_FOUND, "not found"},
    {ST_EXISTS, IMMUDB_EXISTS, "exists already"},
    {ST_CONFLICT, IMMUDB_CONFLICT, "conflict"},
    {ST_LIMIT, IMMUDB_LIMIT, "limit exceeded"},
    {ST_READ_ONLY, IMMUDB_READ_ONLY, "read-only"},
    {ST_BUSY, IMMUDB_BUSY, "busy"},
    {ST_TIMEOUT, IMMUDB_TIMEOUT, "timeout"},
    {ST_CANCELLED, IMMUDB_CANCELLED, "cancelled"},
    {ST_CLOSED, IMMUDB_CLOSED, "closed"},
    {ST_UNSUPPORTED, IMMUDB_UNSUPPORTED, "unsupported"},
    {ST_AGAIN, IMMUDB_BUSY, "busy"}, /* never leaves the store unless asked for */
};
enum { STATUS_COUNT = sizeof STATUSES / sizeof *STATUSES };
static_assert((int)STATUS_COUNT == (int)ST_COUNT_, "each status has a public one");

immudb_status status_out(enum status st)
{
    for (size_t i = 0; i < STATUS_COUNT; i++)
        if (STATUSES[i].ours == st)
            return STATUSES[i].theirs;
    return IMMUDB_IO;
}

enum status status_in(immudb_status status)
{
    for (size_t i = 0; i < STATUS_COUNT; i++)
        if (STATUSES[i].theirs == status)
            return STATUSES[i].ours;
    return ST_IO;
}

const char *immudb_status_name(immudb_status status)
{
    for (size_t i = 0; i < STATUS_COUNT; i++)
        if (STATUSES[i].theirs == status)
            return STATUSES[i].name;
    return "unknown status";
}

void api_error_fill(enum status st, const struct err *err, immudb_error *out)
{
    static_assert(sizeof out->text >= sizeof err->text, "texts fit");

    out->status = status_out(st);
    out->os_errno = 0;
    out->text[0] = '\0';
    if (st == ST_OK)
        return;
    out->os_errno = err->os_errno;
    memcpy(out->text, err->text, sizeof err->text);
    out->text[sizeof err->text - 1] = '\0';
}

immudb_status api_result(enum status st, const struct err *err, immudb_error *out)
{
    if (out != NULL)
        api_error_fill(st, err, out);
    return status_out(st);
}

/* --- versions --- */
uint32_t immudb_abi_version(void) { return IMMUDB_ABI_VERSION; }
const char *immudb_version(void) { return IMMUDB_RELEASE; }
