/* Reflection requests from a hostile client: any bytes give an answer or a refusal. */
#include <stdlib.h>

#include "observe/reflection.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    uint64_t sent = 0;
    uint8_t *out;
    struct err err;
    size_t out_len;

    if (reflection_answer(bytes_of(data, len), &sent, &out, &out_len, &err) != ST_OK && out != NULL)
        abort();
    free(out);
    return 0;
}
