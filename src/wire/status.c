/* google.rpc.Status with immudb.schema details: what travels in grpc-status-details-bin. */
#include "wire/wire.h"

/* google.protobuf.Any: 1 type_url, 2 value (written since mark). */
static void put_any(struct pb *w, uint32_t field, const char *type_url, size_t mark)
{
    size_t len = pb_len(w) - mark;

    if (len > 0) {
        pb_varint(w, len);
        pb_tag(w, 2, PB_BYTES);
    }
    pb_bytes(w, 1, bytes_str(type_url));
    pb_message(w, field, mark);
}

/* Status: 1 code, 2 message, 3 details. ErrorInfo: 1 code, 2 cause. RetryInfo: 1 retry_delay, always 0: an empty message. */
void wire_status_details(struct pb *w, uint32_t grpc_code, struct bytes message, struct bytes info_code, struct bytes cause)
{
    size_t mark = pb_len(w);

    put_any(w, 3, "type.googleapis.com/immudb.schema.RetryInfo", mark);
    mark = pb_len(w);
    pb_bytes(w, 2, cause);
    pb_bytes(w, 1, info_code);
    put_any(w, 3, "type.googleapis.com/immudb.schema.ErrorInfo", mark);
    pb_bytes(w, 2, message);
    pb_u64(w, 1, grpc_code);
}
