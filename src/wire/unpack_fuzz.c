/* Any bytes, decoded as each kind of request: no crash, no read beyond the input, memory bounded by the arena; what was accepted
 * is packed by protobuf-c, decoded again and must come out the same. */
#include <stdlib.h>

#include "wire/wire.h"

static const ProtobufCMessageDescriptor *const KINDS[] = {
    &immudb__schema__set_request__descriptor,
    &immudb__schema__key_request__descriptor,
    &immudb__schema__key_list_request__descriptor,
    &immudb__schema__verifiable_set_request__descriptor,
    &immudb__schema__exec_all_request__descriptor,
    &immudb__schema__scan_request__descriptor,
    &immudb__schema__zscan_request__descriptor,
    &immudb__schema__zadd_request__descriptor,
    &immudb__schema__tx_scan_request__descriptor,
    &immudb__schema__sqlquery_request__descriptor,
    &immudb__schema__create_database_request__descriptor,
    &immudb__schema__export_tx_request__descriptor,
    &immudb__model__insert_documents_request__descriptor,
    &immudb__model__search_documents_request__descriptor,
    &immudb__schema__chunk__descriptor,
    &immudb__schema__verifiable_sqlentry__descriptor,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void one(const ProtobufCMessageDescriptor *d, struct bytes in)
{
    struct arena arena;
    void *message = NULL, *again = NULL;

    arena_init(&arena, 4096, 8u << 20);
    if (wire_unpack(d, in, &arena, &message, NULL) == ST_OK) {
        size_t packed_len = protobuf_c_message_get_packed_size(message);
        uint8_t *first = malloc(packed_len + 1), *second = malloc(packed_len + 1);

        if (first == NULL || second == NULL)
            abort();
        if (protobuf_c_message_pack(message, first) != packed_len)
            abort();
        if (wire_unpack(d, bytes_of(first, packed_len), &arena, &again, NULL) == ST_OK) {
            if (protobuf_c_message_get_packed_size(again) != packed_len || protobuf_c_message_pack(again, second) != packed_len ||
                memcmp(first, second, packed_len) != 0)
                abort();
        } else if (arena.bytes_used < 4u << 20) {
            abort();
        }
        free(first);
        free(second);
    }
    arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bytes content;

    if (len < 1)
        return 0;
    one(KINDS[data[0] % (sizeof KINDS / sizeof KINDS[0])], bytes_of(data + 1, len - 1));
    if (wire_unpack_chunk(bytes_of(data + 1, len - 1), &content, NULL) == ST_OK && content.len > len)
        abort();
    return 0;
}
