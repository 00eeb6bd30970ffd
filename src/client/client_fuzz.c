/* Answers of a peer to a unary call and a stream. An even first byte: the rest is what the peer sends, byte by byte. An odd one: the rest describes
 * frames of the two streams (kind, flags, length, payload), so that the mutations land in messages, headers and statuses. */
#include "client/client_script.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void frames(struct reader r)
{
    static const char *const names[] = {":status", "grpc-status", "grpc-message", "content-type", "x", "grpc-status-details-bin", "a-bin", "te"};

    script_frame(FRAME_SETTINGS, 0, 0, NULL, 0);
    script_frame(FRAME_SETTINGS, 1, 0, NULL, 0); /* acknowledges the client's */
    while (reader_left(&r) >= 2) {
        uint8_t kind = reader_u8(&r), flags = reader_u8(&r);
        uint32_t stream_id = kind & 0x80 ? 3 : 1;
        size_t want = reader_u8(&r);
        struct bytes payload = reader_bytes(&r, want < reader_left(&r) ? want : reader_left(&r));
        uint8_t block[600];

        if (kind % 4 == 0)
            script_frame(FRAME_DATA, flags & END_STREAM, stream_id, payload.data, payload.len);
        else if (kind % 4 == 1)
            script_frame(FRAME_HEADERS, END_HEADERS | (flags & END_STREAM), stream_id, block,
                         script_header(block, names[flags >> 4 & 7], payload.data, payload.len));
        else if (kind % 4 == 2)
            script_answer(stream_id, "200");
        else
            script_frame(flags & 15, flags >> 4, flags & 1 ? stream_id : 0, payload.data, payload.len);
    }
}

static void use(struct client *c)
{
    struct client_call *call = NULL;
    struct client_status status;
    struct bytes answer, message;
    struct err err;
    bool is_end = false;

    (void)!client_unary(c, "/t.S/M", bytes_str("request"), UINT64_MAX, &answer, &status, &err);
    if (client_call_open(c, "/t.S/Stream", UINT64_MAX, &call, &err) != ST_OK)
        return;
    if (client_call_send(call, bytes_str("request"), UINT64_MAX, &err) == ST_OK)
        while (!is_end && client_call_recv(call, UINT64_MAX, &message, &is_end, &err) == ST_OK) {}
    if (is_end)
        (void)client_call_status(call);
    (void)client_call_metadata(call, "grpc-message");
    client_call_free(call);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct client_options o = {.host = "h", .port = 1, .env = env_system(), .message_bytes_max = 1 << 16, .stream_window_bytes = 1 << 17};
    struct client *c = NULL;
    struct err err;

    if (len < 2)
        return 0;
    script_begin();
    script.piece = (size_t)data[1] * 16 + 1;
    if (data[0] % 2 == 0)
        script_raw(data + 2, len - 2);
    else
        frames(reader_of(bytes_of(data + 2, len - 2)));
    if (client_open(&o, &c, &err) != ST_OK)
        return 0;
    use(c);
    client_close(c);
    return 0;
}
