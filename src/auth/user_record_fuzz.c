/* Any bytes as a user record: a verdict; what is read can be written and read again with the same meaning. */
#include <assert.h>

#include "auth/user_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct json_text first = {0}, second = {0};
    struct user_record *r, *again;

    if (user_record_decode(bytes_str("u"), bytes_of(data, len), &r, NULL) != ST_OK)
        return 0;
    if (user_record_encode(r, &first, NULL) == ST_OK) {
        enum status st = user_record_decode(bytes_str("u"), bytes_of(first.text, first.len), &again, NULL);

        assert(st == ST_OK);
        st = user_record_encode(again, &second, NULL);
        assert(st == ST_OK && bytes_equal(bytes_of(first.text, first.len), bytes_of(second.text, second.len)));
        user_record_unref(again);
    }
    json_text_free(&first);
    json_text_free(&second);
    user_record_unref(r);
    return 0;
}
