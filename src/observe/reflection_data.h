/* What the .proto files say, for gRPC reflection: made at build time by proto/descriptors.py. Read-only. */
#ifndef OBSERVE_REFLECTION_DATA_H
#define OBSERVE_REFLECTION_DATA_H

#include <stddef.h>
#include <stdint.h>

struct descriptor_file {
    const char *name;
    const uint8_t *bytes; /* a serialized google.protobuf.FileDescriptorProto */
    size_t len;
    const uint8_t *imports; /* positions in DESCRIPTOR_FILES */
    size_t import_count;
};
extern const struct descriptor_file DESCRIPTOR_FILES[]; /* at most 64 */
extern const size_t DESCRIPTOR_FILE_COUNT;

enum symbol_kind { SYMBOL_MESSAGE, SYMBOL_SERVICE, SYMBOL_METHOD, SYMBOL_OTHER };
struct descriptor_symbol {
    const char *name; /* full, without a leading dot */
    enum symbol_kind kind;
    size_t file;
};
extern const struct descriptor_symbol DESCRIPTOR_SYMBOLS[]; /* sorted by name, bytewise */
extern const size_t DESCRIPTOR_SYMBOL_COUNT;

#endif
