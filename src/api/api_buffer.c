/* Buffers: an arena in a handle. */
#include "api/api_struct.h"

#include <stdlib.h>

enum { BUFFER_CHUNK_BYTES = 4096 };

immudb_status immudb_buffer_create(immudb_buffer **out, immudb_error *error)
{
    struct err err;
    immudb_buffer *b;

    if (out == NULL)
        return api_result(api_null(&err, "out"), &err, error);
    b = malloc(sizeof *b);
    *out = b;
    if (b == NULL)
        return api_result(err_set(&err, ST_NOMEM, 0, "creating a buffer"), &err, error);
    arena_init(&b->arena, BUFFER_CHUNK_BYTES, 0);
    return api_result(ST_OK, NULL, error);
}

void immudb_buffer_reset(immudb_buffer *b)
{
    if (b != NULL)
        arena_reset(&b->arena);
}

void immudb_buffer_free(immudb_buffer *b)
{
    if (b == NULL)
        return;
    arena_free(&b->arena);
    free(b);
}
