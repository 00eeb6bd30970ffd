/* Any bytes as a user record, and as a verifier: a verdict; what is read can be written and read again with the same meaning. */
#include <assert.h>

#include "auth/user_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void verifier(struct bytes json)
{
    struct user_record *r = user_record_create(bytes_str("u"));
    struct scram_verifier v, again;
    char text[SCRAM_TEXT_MAX];
    enum status st;

    assert(r != NULL);
    st = user_verifier_decode(json, r, NULL);
    assert(st == ST_OK);
    user_record_unref(r);
    if (scram_decode(json, &v)) {
        bool is_good = scram_decode(bytes_str(scram_encode(&v, text)), &again);

        assert(is_good && memcmp(&v, &again, sizeof v) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct json_text first = {0}, second = {0};
    struct user_record *r, *again;

    verifier(bytes_of(data, len));
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
