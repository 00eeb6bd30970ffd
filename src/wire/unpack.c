/* Decodes protobuf messages by their protobuf-c descriptors into an arena.
 *
 * protobuf-c's own unpacker allocates piece by piece, copies every bytes field, refuses fields of an unexpected wire type and
 * does not look at UTF-8; this one does what the published servers do. Bounds: the input's length, WIRE_DEPTH_MAX levels, and
 * the arena's limit, which also bounds how much larger the structs may be than the bytes that made them. */
#include "wire/wire.h"

#include <assert.h>

#define FIELD_NUMBER_MAX ((1u << 29) - 1)
#define WIRE_GROUP_START 3u
#define WIRE_GROUP_END 4u

struct input {
    const uint8_t *at, *end;
};

struct unpack {
    struct arena *arena;
    enum status status; /* set together with text where a step fails */
    const char *text;
};

static bool fail(struct unpack *u, enum status st, const char *text)
{
    u->status = st;
    u->text = text;
    return false;
}
static bool fail_wire(struct unpack *u) { return fail(u, ST_INVALID, "proto: cannot parse invalid wire-format data"); }
static bool fail_memory(struct unpack *u) { return fail(u, ST_NOMEM, "request does not fit into memory"); }

static bool take_varint_slow(struct unpack *u, struct input *in, uint64_t *out)
{
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 70 && in->at < in->end; shift += 7) {
        uint8_t b = *in->at++;

        if (shift == 63 && b > 1)
            break;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80) {
            *out = v;
            return true;
        }
    }
    return fail_wire(u);
}
static inline bool take_varint(struct unpack *u, struct input *in, uint64_t *out)
{
    if (in->at < in->end && *in->at < 0x80) {
        *out = *in->at++;
        return true;
    }
    return take_varint_slow(u, in, out);
}

static inline bool take_bytes(struct unpack *u, struct input *in, struct bytes *out)
{
    uint64_t len;

    if (!take_varint(u, in, &len))
        return false;
    if (len > (uint64_t)(in->end - in->at))
        return fail_wire(u);
    *out = bytes_of(in->at, (size_t)len);
    in->at += len;
    return true;
}

static bool skip_fixed(struct unpack *u, struct input *in, size_t len)
{
    if (len > (size_t)(in->end - in->at))
        return fail_wire(u);
    in->at += len;
    return true;
}

static inline bool take_tag(struct unpack *u, struct input *in, uint32_t *field, unsigned *type)
{
    uint64_t tag;

    if (!take_varint(u, in, &tag))
        return false;
    if (tag >> 3 == 0 || tag >> 3 > FIELD_NUMBER_MAX)
        return fail_wire(u);
    *field = (uint32_t)(tag >> 3);
    *type = (unsigned)(tag & 7);
    return true;
}

/* Steps over a field whose tag was read. A group ends with its own number; groups nest at most WIRE_DEPTH_MAX deep. */
static bool skip_field(struct unpack *u, struct input *in, uint32_t field, unsigned type)
{
    uint32_t open[WIRE_DEPTH_MAX];
    size_t depth = 0;
    uint64_t number;
    struct bytes ignored;

    for (;;) {
        bool ok;

        switch (type) {
        case PB_VARINT:
            ok = take_varint(u, in, &number);
            break;
        case PB_FIXED64:
            ok = skip_fixed(u, in, 8);
            break;
        case PB_BYTES:
            ok = take_bytes(u, in, &ignored);
            break;
        case PB_FIXED32:
            ok = skip_fixed(u, in, 4);
            break;
        case WIRE_GROUP_START:
            if ((ok = depth < WIRE_DEPTH_MAX))
                open[depth++] = field;
            break;
        case WIRE_GROUP_END:
            ok = depth > 0 && open[--depth] == field;
            break;
        default:
            ok = false;
        }
        if (!ok)
            return fail_wire(u);
        if (depth == 0)
            return true;
        if (!take_tag(u, in, &field, &type))
            return false;
    }
}

static inline const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *d, uint32_t id)
{
    unsigned low = 0, high = d->n_fields;

    if (id - 1 < d->n_fields && d->fields[id - 1].id == id) /* numbers without gaps: nearly always */
        return &d->fields[id - 1];
    while (low < high) {
        unsigned mid = low + (high - low) / 2;

        if (d->fields[mid].id == id)
            return &d->fields[mid];
        if (d->fields[mid].id < id)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

static unsigned wire_type_of(ProtobufCType t)
{
    switch (t) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return PB_BYTES;
    case PROTOBUF_C_TYPE_DOUBLE:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return PB_FIXED64;
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return PB_FIXED32;
    default:
        return PB_VARINT;
    }
}

static size_t element_size(ProtobufCType t)
{
    switch (t) {
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    default:
        return 4;
    }
}

static bool take_string(struct unpack *u, struct input *in, char **out)
{
    struct bytes s;
    char *copy;

    if (!take_bytes(u, in, &s))
        return false;
    if (!utf8_is_valid(s))
        return fail(u, ST_INVALID, "string field contains invalid UTF-8");
    if (s.len > 0 && memchr(s.data, 0, s.len) != NULL)
        return fail(u, ST_INVALID, "string field contains a zero byte");
    if ((copy = arena_str(u->arena, s)) == NULL)
        return fail_memory(u);
    *out = copy;
    return true;
}

static bool take_scalar(struct unpack *u, struct input *in, ProtobufCType t, void *to)
{
    uint64_t v = 0;
    uint32_t v32;
    int32_t boolean;

    switch (wire_type_of(t)) {
    case PB_FIXED64:
        if (in->end - in->at < 8)
            return fail_wire(u);
        v = load_u64le(in->at);
        in->at += 8;
        memcpy(to, &v, 8);
        return true;
    case PB_FIXED32:
        if (in->end - in->at < 4)
            return fail_wire(u);
        v32 = load_u32le(in->at);
        in->at += 4;
        memcpy(to, &v32, 4);
        return true;
    default:
        break;
    }
    if (!take_varint(u, in, &v))
        return false;
    switch (t) {
    case PROTOBUF_C_TYPE_BOOL:
        boolean = v != 0;
        memcpy(to, &boolean, sizeof(protobuf_c_boolean));
        return true;
    case PROTOBUF_C_TYPE_SINT64:
        v = v >> 1 ^ (0 - (v & 1));
        break;
    case PROTOBUF_C_TYPE_SINT32:
        v = (uint32_t)v >> 1 ^ (0 - ((uint32_t)v & 1));
        break;
    default:
        break;
    }
    if (element_size(t) == 8) {
        memcpy(to, &v, 8);
        return true;
    }
    v32 = (uint32_t)v;
    memcpy(to, &v32, 4);
    return true;
}

/* A place for one more element of a repeated field. The room of an array follows from its count: 4, then powers of two. */
static void *repeated_room(struct unpack *u, void *message, const ProtobufCFieldDescriptor *f)
{
    size_t *count = (size_t *)(void *)((uint8_t *)message + f->quantifier_offset);
    void **items = (void **)(void *)((uint8_t *)message + f->offset);
    size_t size = element_size(f->type);

    if (*count == 0 || (*count >= 4 && (*count & (*count - 1)) == 0)) {
        void *bigger = arena_array(u->arena, *count == 0 ? 4 : *count * 2, size);

        if (bigger == NULL) {
            fail_memory(u);
            return NULL;
        }
        if (*count > 0)
            memcpy(bigger, *items, *count * size);
        *items = bigger;
    }
    return (uint8_t *)*items + (*count)++ * size;
}

static bool take_message(struct unpack *u, const ProtobufCMessageDescriptor *d, void *message, struct bytes body, unsigned depth);

static bool take_value(struct unpack *u, struct input *in, const ProtobufCFieldDescriptor *f, void *to, unsigned depth)
{
    struct bytes b;
    ProtobufCBinaryData binary;
    void *inner;

    switch (f->type) {
    case PROTOBUF_C_TYPE_BYTES:
        if (!take_bytes(u, in, &b))
            return false;
        binary = (ProtobufCBinaryData){b.len, (uint8_t *)(uintptr_t)b.data};
        memcpy(to, &binary, sizeof binary);
        return true;
    case PROTOBUF_C_TYPE_STRING:
        return take_string(u, in, to);
    case PROTOBUF_C_TYPE_MESSAGE: {
        const ProtobufCMessageDescriptor *d = f->descriptor;

        if (!take_bytes(u, in, &b))
            return false;
        memcpy(&inner, to, sizeof inner);
        if (inner == NULL) { /* seen before: merged into it */
            if ((inner = arena_alloc(u->arena, d->sizeof_message)) == NULL)
                return fail_memory(u);
            d->message_init(inner);
            memcpy(to, &inner, sizeof inner);
        }
        return take_message(u, d, inner, b, depth + 1);
    }
    default:
        return take_scalar(u, in, f->type, to);
    }
}

static bool take_repeated(struct unpack *u, struct input *in, const ProtobufCFieldDescriptor *f, void *message, unsigned type, unsigned depth)
{
    struct bytes b;
    struct input packed;
    void *to;

    if (type == wire_type_of(f->type)) {
        if ((to = repeated_room(u, message, f)) == NULL)
            return false;
        memset(to, 0, element_size(f->type));
        return take_value(u, in, f, to, depth);
    }
    if (!take_bytes(u, in, &b))
        return false;
    packed = (struct input){b.data, b.data + b.len};
    while (packed.at < packed.end) {
        if ((to = repeated_room(u, message, f)) == NULL || !take_scalar(u, &packed, f->type, to))
            return false;
    }
    return true;
}

static bool take_field(struct unpack *u, struct input *in, const ProtobufCFieldDescriptor *f, void *message, unsigned type, unsigned depth)
{
    uint8_t *to = (uint8_t *)message + f->offset;

    if (f->label == PROTOBUF_C_LABEL_REPEATED)
        return take_repeated(u, in, f, message, type, depth);
    if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        uint32_t *chosen = (uint32_t *)(void *)((uint8_t *)message + f->quantifier_offset);

        if (*chosen != f->id) {
            memset(to, 0, f->type == PROTOBUF_C_TYPE_MESSAGE ? sizeof(void *) : element_size(f->type));
            *chosen = f->id;
        }
    }
    return take_value(u, in, f, to, depth);
}

static bool take_message(struct unpack *u, const ProtobufCMessageDescriptor *d, void *message, struct bytes body, unsigned depth)
{
    struct input in = {body.data, body.data + body.len};

    if (depth > WIRE_DEPTH_MAX)
        return fail_wire(u);
    while (in.at < in.end) {
        const ProtobufCFieldDescriptor *f;
        uint32_t field;
        unsigned type;

        if (!take_tag(u, &in, &field, &type))
            return false;
        f = find_field(d, field);
        if (f != NULL && (type == wire_type_of(f->type) || (type == PB_BYTES && f->label == PROTOBUF_C_LABEL_REPEATED))) {
            if (!take_field(u, &in, f, message, type, depth))
                return false;
        } else if (!skip_field(u, &in, field, type)) {
            return false;
        }
    }
    return true;
}

enum status wire_unpack(const ProtobufCMessageDescriptor *d, struct bytes in, struct arena *arena, void **out, struct err *err)
{
    struct unpack u = {.arena = arena};
    void *message;

    assert(d->message_init != NULL);
    *out = NULL;
    if (in.data == NULL)
        in = bytes_of("", 0);
    if ((message = arena_alloc(arena, d->sizeof_message)) == NULL)
        return err_set(err, ST_NOMEM, 0, "request does not fit into memory");
    d->message_init(message);
    if (!take_message(&u, d, message, in, 0))
        return err_set(err, u.status, 0, "%s", u.text);
    *out = message;
    return ST_OK;
}

enum status wire_unpack_chunk(struct bytes in, struct bytes *content, struct err *err)
{
    struct unpack u = {0};
    struct input at;
    uint32_t field;
    unsigned type;

    *content = bytes_of(NULL, 0);
    if (in.data == NULL)
        return ST_OK;
    at = (struct input){in.data, in.data + in.len};
    while (at.at < at.end) {
        if (!take_tag(&u, &at, &field, &type) || !(field == 1 && type == PB_BYTES ? take_bytes(&u, &at, content) : skip_field(&u, &at, field, type)))
            return err_set(err, u.status, 0, "%s", u.text);
    }
    return ST_OK;
}
