/* gRPC reflection; see reflection.h. A request and an answer are tiny messages: both are taken apart and built by hand.
 *
 *   request   1 host; one of: 3 file by name, 4 file of a symbol, 5 file of an extension {1 type, 2 number}, 6 extension numbers of a type, 7 services
 *   answer    1 host, 2 the request; one of: 4 {1 files}, 5 {1 type, 2 numbers}, 6 {1 {1 name}}, 7 {1 code, 2 text} */
#include "observe/reflection.h"

#include <stdlib.h>
#include <string.h>

#include "observe/reflection_data.h"
#include "wire/pb.h"
#include "wire/wire.h"

enum { ASKED_FILE = 3, ASKED_SYMBOL, ASKED_EXTENSION, ASKED_NUMBERS, ASKED_SERVICES };
enum { FILES_MAX = 64, FIELD_ROOM = 32, SENT_HIGH_BYTES = 256 * 1024, SENT_LOW_BYTES = 64 * 1024 };
static const char NOT_FOUND_TEXT[] = "proto: not found";

struct question {
    struct bytes host, text; /* text: a name; of an extension its type */
    uint32_t asked;          /* 0: nothing */
};

/* --- requests --- */

static bool field_skip(struct reader *r, unsigned kind)
{
    switch (kind) {
    case PB_VARINT:
        (void)reader_varint(r);
        break;
    case PB_FIXED64:
        (void)reader_take(r, 8);
        break;
    case PB_FIXED32:
        (void)reader_take(r, 4);
        break;
    case PB_BYTES:
        (void)reader_bytes(r, (size_t)reader_varint(r));
        break;
    default:
        return false;
    }
    return !r->failed;
}

/* The type of an ExtensionRequest; its number does not matter: there are no extensions. */
static bool extension_decode(struct bytes message, struct bytes *type)
{
    struct reader r = reader_of(message);

    *type = bytes_of(NULL, 0);
    while (!r.failed && reader_left(&r) > 0) {
        uint64_t tag = reader_varint(&r);

        if (tag == (1 << 3 | PB_BYTES))
            *type = reader_bytes(&r, (size_t)reader_varint(&r));
        else if (tag >> 3 == 0 || !field_skip(&r, (unsigned)(tag & 7)))
            return false;
    }
    return reader_done(&r) && utf8_is_valid(*type);
}

static bool question_decode(struct bytes request, struct question *q)
{
    struct reader r = reader_of(request);
    struct bytes text;

    *q = (struct question){0};
    while (!r.failed && reader_left(&r) > 0) {
        uint64_t tag = reader_varint(&r), field = tag >> 3;

        if (field == 0)
            return false;
        if ((tag & 7) != PB_BYTES || (field != 1 && (field < ASKED_FILE || field > ASKED_SERVICES))) {
            if (!field_skip(&r, (unsigned)(tag & 7)))
                return false;
            continue;
        }
        text = reader_bytes(&r, (size_t)reader_varint(&r));
        if (r.failed)
            return false;
        if (field == ASKED_EXTENSION) {
            if (!extension_decode(text, &text))
                return false;
        } else if (!utf8_is_valid(text)) {
            return false;
        }
        if (field == 1) {
            q->host = text;
        } else {
            q->asked = (uint32_t)field;
            q->text = text;
        }
    }
    return reader_done(&r);
}

/* --- looking up --- */

static const struct descriptor_symbol *symbol_find(struct bytes name)
{
    size_t low = 0, high = DESCRIPTOR_SYMBOL_COUNT;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct bytes at = bytes_str(DESCRIPTOR_SYMBOLS[middle].name);
        int order = memcmp(at.data, name.data, at.len < name.len ? at.len : name.len);

        if (order == 0 && at.len == name.len)
            return &DESCRIPTOR_SYMBOLS[middle];
        if (order < 0 || (order == 0 && at.len < name.len))
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* The position of the file asked for, or DESCRIPTOR_FILE_COUNT. */
static size_t file_find(const struct question *q)
{
    const struct descriptor_symbol *symbol;
    size_t i;

    if (q->text.len == 0)
        return DESCRIPTOR_FILE_COUNT;
    if (q->asked == ASKED_SYMBOL)
        return (symbol = symbol_find(q->text)) != NULL ? symbol->file : DESCRIPTOR_FILE_COUNT;
    for (i = 0; q->asked == ASKED_FILE && i < DESCRIPTOR_FILE_COUNT; i++)
        if (bytes_equal(bytes_str(DESCRIPTOR_FILES[i].name), q->text))
            return i;
    return DESCRIPTOR_FILE_COUNT;
}

/* The file, always, and what it imports as far as the stream has not had it: breadth first. */
static size_t files_collect(size_t first, uint64_t *sent, size_t out[FILES_MAX])
{
    uint64_t queued = (uint64_t)1 << first;
    size_t count = 1, at, i;

    out[0] = first;
    for (at = 0; at < count; at++) {
        const struct descriptor_file *f = &DESCRIPTOR_FILES[out[at]];

        for (i = 0; i < f->import_count; i++) {
            uint64_t bit = (uint64_t)1 << f->imports[i];

            if (((queued | *sent) & bit) == 0) {
                queued |= bit;
                out[count++] = f->imports[i];
            }
        }
    }
    *sent |= queued;
    return count;
}

/* --- answers; fields in descending order, see pb.h --- */

static void put_not_found(struct pb *w)
{
    size_t mark = pb_len(w);

    pb_bytes(w, 2, bytes_str(NOT_FOUND_TEXT));
    pb_u64(w, 1, RPC_NOT_FOUND);
    pb_message(w, 7, mark);
}

static void put_files(struct pb *w, size_t first, uint64_t *sent)
{
    size_t files[FILES_MAX], count = files_collect(first, sent, files), mark = pb_len(w);

    while (count-- > 0)
        pb_bytes_item(w, 1, bytes_of(DESCRIPTOR_FILES[files[count]].bytes, DESCRIPTOR_FILES[files[count]].len));
    pb_message(w, 4, mark);
}

static void put_services(struct pb *w)
{
    size_t outer = pb_len(w), inner, i;

    for (i = DESCRIPTOR_SYMBOL_COUNT; i-- > 0;) {
        if (DESCRIPTOR_SYMBOLS[i].kind != SYMBOL_SERVICE)
            continue;
        inner = pb_len(w);
        pb_bytes(w, 1, bytes_str(DESCRIPTOR_SYMBOLS[i].name));
        pb_message(w, 1, inner);
    }
    pb_message(w, 6, outer);
}

static void put_numbers(struct pb *w, struct bytes type)
{
    const struct descriptor_symbol *symbol = type.len > 0 ? symbol_find(type) : NULL;
    size_t mark = pb_len(w);

    if (symbol == NULL || symbol->kind != SYMBOL_MESSAGE) {
        put_not_found(w);
        return;
    }
    pb_bytes(w, 1, type);
    pb_message(w, 5, mark);
}

/* More than any answer takes. */
static size_t answer_room(struct bytes request)
{
    size_t room = 2 * request.len + 4 * FIELD_ROOM, i;

    for (i = 0; i < DESCRIPTOR_FILE_COUNT; i++)
        room += DESCRIPTOR_FILES[i].len + FIELD_ROOM;
    return room;
}

enum status reflection_answer(struct bytes request, uint64_t *sent, uint8_t **out, size_t *len, struct err *err)
{
    struct question q;
    struct pb w;
    uint8_t *buf, *fitted;
    size_t file;

    *out = NULL;
    *len = 0;
    if (request.len > REFLECTION_REQUEST_BYTES_MAX)
        return err_set(err, ST_INVALID, 0, "reflection request of %zu bytes: at most %d", request.len, REFLECTION_REQUEST_BYTES_MAX);
    if (!question_decode(request, &q))
        return err_set(err, ST_INVALID, 0, "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data");
    if (q.asked == 0)
        return err_set(err, ST_INVALID, 0, "invalid MessageRequest: <nil>");
    if ((buf = malloc(answer_room(request))) == NULL)
        return err_set(err, ST_NOMEM, 0, "reflection: out of memory");
    pb_init_fixed(&w, buf, answer_room(request));
    file = file_find(&q);
    if (q.asked == ASKED_SERVICES)
        put_services(&w);
    else if (q.asked == ASKED_NUMBERS)
        put_numbers(&w, q.text);
    else if (file < DESCRIPTOR_FILE_COUNT)
        put_files(&w, file, sent);
    else
        put_not_found(&w);
    pb_bytes_item(&w, 2, request);
    pb_bytes(&w, 1, q.host);
    if (w.failed) {
        free(buf);
        return err_set(err, ST_LIMIT, 0, "reflection: the answer is too long");
    }
    *len = pb_len(&w);
    memmove(buf, w.at, *len);
    /* What waits to be sent holds no more memory than it is counted for. */
    if ((fitted = realloc(buf, *len)) == NULL) {
        free(buf);
        return err_set(err, ST_NOMEM, 0, "reflection: out of memory");
    }
    *out = fitted;
    return ST_OK;
}

/* --- the stream --- */

static void on_drained(struct rpc_call *call) { rpc_resume(call); }

static void on_message(struct rpc_call *call, struct bytes message)
{
    uint64_t *sent = rpc_state(call);
    uint8_t *answer;
    struct err err;
    size_t len;
    enum status st = reflection_answer(message, sent, &answer, &len, &err);

    if (st != ST_OK) {
        rpc_pause(call); /* nothing more is taken */
        rpc_finish(call, st == ST_NOMEM ? RPC_RESOURCE_EXHAUSTED : RPC_INVALID_ARGUMENT, err.text, bytes_of(NULL, 0));
    } else if (rpc_send_owned(call, answer, len) > SENT_HIGH_BYTES) {
        rpc_pause(call);
        rpc_on_drained(call, SENT_LOW_BYTES, on_drained);
    }
}

static void on_half_close(struct rpc_call *call) { rpc_finish(call, RPC_OK, "", bytes_of(NULL, 0)); }

void reflection_entry(struct rpc_call *call)
{
    uint64_t *sent = arena_zalloc(rpc_arena(call), sizeof *sent);

    if (sent == NULL) {
        rpc_finish(call, RPC_RESOURCE_EXHAUSTED, "the server is short of memory for this request", bytes_of(NULL, 0));
        return;
    }
    rpc_set_state(call, sent);
    rpc_on_stream(call, on_message, on_half_close);
}
