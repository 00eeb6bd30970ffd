/* Any bytes as a settings record: a verdict; what is read can be written and read again with the same meaning. */
#include <assert.h>

#include "databases/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct json_text first = {0}, second = {0};
    struct database_settings s, again;
    struct err err;

    settings_defaults(&s, "x");
    if (settings_decode(bytes_of(data, len), &s, &err) != ST_OK)
        return 0;
    (void)!settings_validate(&s, &err);
    if (settings_encode(&s, &first, NULL) == ST_OK) {
        enum status st;

        settings_defaults(&again, "x");
        st = settings_decode(bytes_of(first.text, first.len), &again, NULL);
        assert(st == ST_OK);
        st = settings_encode(&again, &second, NULL);
        assert(st == ST_OK && bytes_equal(bytes_of(first.text, first.len), bytes_of(second.text, second.len)));
    }
    json_text_free(&first);
    json_text_free(&second);
    return 0;
}
