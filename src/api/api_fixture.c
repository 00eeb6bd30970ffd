/* See api_fixture.h. */
#include "api/api_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "vfs/vfs.h"

immudb_error fixture_err;

void status_is(immudb_status got, immudb_status wanted, const immudb_error *err, const char *what, int line)
{
    if (got != wanted)
        fail_msg("%d: %s: %s (%s), expected %s", line, what, immudb_status_name(got), err->text, immudb_status_name(wanted));
    if (err->status != got)
        fail_msg("%d: %s: the error says %d, the call %d", line, what, err->status, got);
}

void bytes_are(immudb_bytes got, const char *text, int line)
{
    if (got.len != strlen(text) || (got.len > 0 && memcmp(got.data, text, got.len) != 0))
        fail_msg("%d: \"%.*s\", expected \"%s\"", line, (int)got.len, got.len > 0 ? (const char *)got.data : "", text);
}

void dir_remove(const char *path)
{
    struct err err;

    if (vfs_remove_tree(vfs_posix(), path, &err) != ST_OK)
        fail_msg("removing %s: %s", path, err.text);
}

void fixture_begin(struct fixture *f, uint32_t flags)
{
    const char *base = getenv("TMPDIR");

    memset(f, 0, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "%s/immudb-api-XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/db", f->dir);
    immudb_options_init(&f->o);
    f->o.flags = IMMUDB_CREATE | flags;
    OK(immudb_buffer_create(&f->buffer, E));
    fixture_open(f);
}

void fixture_open(struct fixture *f) { OK(immudb_open(f->path, &f->o, &f->db, E)); }

void fixture_close(struct fixture *f)
{
    OK(immudb_close(f->db, E));
    f->db = NULL;
}

void fixture_end(struct fixture *f)
{
    fixture_close(f);
    immudb_buffer_free(f->buffer);
    dir_remove(f->dir);
}

uint64_t set(struct fixture *f, const char *key, const char *value)
{
    immudb_committed c;

    immudb_committed_init(&c);
    OK(immudb_set(f->db, S(key), S(value), NULL, &c, E));
    return c.tx_id;
}

void get_is(struct fixture *f, const char *key, const char *value, int line)
{
    immudb_entry e;
    immudb_status st;

    immudb_entry_init(&e);
    st = immudb_get(f->db, S(key), NULL, f->buffer, &e, E);
    if (value == NULL) {
        status_is(st, IMMUDB_NOT_FOUND, E, key, line);
        return;
    }
    status_is(st, IMMUDB_OK, E, key, line);
    bytes_are(e.key, key, line);
    bytes_are(e.value, value, line);
}

const char *listed(immudb_cursor *c)
{
    static char text[4096];
    size_t len = 0;
    immudb_entry e;
    immudb_status st;

    text[0] = '\0';
    immudb_entry_init(&e);
    while ((st = immudb_cursor_next(c, &e, E)) == IMMUDB_OK) {
        len += (size_t)snprintf(text + len, sizeof text - len, "%.*s=%.*s ", (int)e.key.len, e.key.len > 0 ? (const char *)e.key.data : "",
                                (int)e.value.len, e.value.len > 0 ? (const char *)e.value.data : "");
        assert_true(len < sizeof text);
    }
    status_is(st, IMMUDB_NOT_FOUND, E, "the end of a list", __LINE__);
    assert_string_equal(E->text, "");
    /* It stays at its end. */
    IS(IMMUDB_NOT_FOUND, immudb_cursor_next(c, &e, E));
    immudb_cursor_close(c);
    return text;
}
