/* For tests of the public interface: a database in a directory of its own, and short forms of what every test does. */
#ifndef API_API_FIXTURE_H
#define API_API_FIXTURE_H

#include "base/test.h"
#include <stdbool.h>
#include <string.h>

#include "immudb.h"

struct fixture {
    char dir[256], path[300];
    immudb_options o;
    immudb_db *db;
    immudb_buffer *buffer;
};

void fixture_begin(struct fixture *f, uint32_t flags);
void fixture_open(struct fixture *f);
void fixture_close(struct fixture *f);
void fixture_end(struct fixture *f);
void dir_remove(const char *path);

void status_is(immudb_status got, immudb_status wanted, const immudb_error *err, const char *what, int line);
extern immudb_error fixture_err;
#define E (&fixture_err)
#define IS(status, call) status_is((call), (status), E, #call, __LINE__)
#define OK(call) IS(IMMUDB_OK, call)
#define FAILS(status, text_, call) \
    do { \
        IS(status, call); \
        if (strstr(fixture_err.text, (text_)) == NULL) \
            fail_msg("%d: \"%s\" is not in \"%s\"", __LINE__, (text_), fixture_err.text); \
    } while (0)

#define S(text) immudb_str(text)
void bytes_are(immudb_bytes got, const char *text, int line);
#define BYTES(got, text) bytes_are((got), (text), __LINE__)
uint64_t set(struct fixture *f, const char *key, const char *value);
/* The newest value of key is this one. */
void get_is(struct fixture *f, const char *key, const char *value, int line);
#define GET(f, key, value) get_is((f), (key), (value), __LINE__)
/* Walks and closes the cursor: "key=value key=value " */
const char *listed(immudb_cursor *c);

#endif
