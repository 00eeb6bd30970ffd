/* Any bytes as a token: a verdict. */
#include "auth/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct arena arena;
    struct token t;

    arena_init(&arena, 4096, 1 << 20);
    (void)!token_parse(bytes_of(data, len), &arena, &t, NULL);
    arena_free(&arena);
    return 0;
}
