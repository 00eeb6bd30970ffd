/* Parts of streamed values: see part.h. */
#include "wire/part.h"

#include <assert.h>

#define PART_FIRST_BYTES 65536u           /* first room of a part; then twice as much ... */
#define PART_MORE_BYTES ((size_t)1 << 20) /* ... but no more than this at once: memory for what has not come yet is others' */

void part_reader_init(struct part_reader *p, struct arena *arena)
{
    memset(p, 0, sizeof *p);
    p->arena = arena;
}

static enum status take_length(struct part_reader *p, struct bytes *in, uint64_t len_max, struct err *err)
{
    size_t take = PART_LENGTH_BYTES - p->length_got;

    if (take > in->len)
        take = in->len;
    if (take > 0)
        memcpy(p->length_bytes + p->length_got, in->data, take);
    p->length_got += take;
    *in = bytes_of(in->data + take, in->len - take);
    if (p->length_got < PART_LENGTH_BYTES)
        return ST_OK;
    p->len = load_u64be(p->length_bytes);
    if (p->len > INT64_MAX)
        return err_set(err, ST_INVALID, 0, "illegal arguments");
    if (p->len > len_max)
        return err_set(err, ST_LIMIT, 0, "part of %llu bytes, at most %llu are taken", (unsigned long long)p->len, (unsigned long long)len_max);
    p->state = PART_BODY;
    p->data = NULL;
    p->got = p->cap = 0;
    return ST_OK;
}

/* Room for at least want bytes of the body, want <= len. */
static enum status body_room(struct part_reader *p, size_t want, struct err *err)
{
    size_t cap = p->cap == 0 ? PART_FIRST_BYTES : p->cap;
    uint8_t *bigger;

    if (want <= p->cap && p->data != NULL)
        return ST_OK;
    if (cap < want)
        cap = want + (want < PART_MORE_BYTES ? want : PART_MORE_BYTES);
    if (cap > p->len)
        cap = (size_t)p->len;
    /* One byte in front. */
    bigger = p->data == NULL ? arena_alloc(p->arena, 1 + cap) : arena_grow(p->arena, p->data - 1, 1 + p->cap, 1 + cap);
    if (bigger == NULL)
        return err_set(err, ST_NOMEM, 0, "part of %llu bytes does not fit into memory", (unsigned long long)p->len);
    p->data = bigger + 1;
    p->cap = cap;
    return ST_OK;
}

enum status part_reader_feed(struct part_reader *p, struct bytes *in, uint64_t len_max, bool *is_whole, struct bytes *part, struct err *err)
{
    size_t take;
    enum status st;

    *is_whole = false;
    *part = bytes_of(NULL, 0);
    if (in->data == NULL) /* an empty chunk; no arithmetic with NULL below */
        *in = bytes_of("", 0);
    if (p->state == PART_LENGTH && (st = take_length(p, in, len_max, err)) != ST_OK)
        return st;
    if (p->state == PART_LENGTH)
        return ST_OK;
    take = p->len - p->got < in->len ? (size_t)(p->len - p->got) : in->len;
    if ((st = body_room(p, p->got + take, err)) != ST_OK)
        return st;
    if (take > 0)
        memcpy(p->data + p->got, in->data, take);
    p->got += take;
    *in = bytes_of(in->data + take, in->len - take);
    if (p->got < p->len)
        return ST_OK;
    *is_whole = true;
    *part = bytes_of(p->data, p->got);
    p->state = PART_LENGTH;
    p->length_got = 0;
    return ST_OK;
}

size_t part_chunk_count(size_t len)
{
    /* Bytes of the first chunk are the length and the first bytes of the part. */
    return len <= PART_CHUNK_BYTES - PART_LENGTH_BYTES ? 1
                                                       : 1 + (len - (PART_CHUNK_BYTES - PART_LENGTH_BYTES) + PART_CHUNK_BYTES - 1) / PART_CHUNK_BYTES;
}

/* Which bytes of the part chunk number index carries. */
static size_t chunk_range(size_t part_len, size_t index, size_t *from)
{
    size_t room = index == 0 ? PART_CHUNK_BYTES - PART_LENGTH_BYTES : PART_CHUNK_BYTES;

    *from = index == 0 ? 0 : index * PART_CHUNK_BYTES - PART_LENGTH_BYTES;
    assert(*from <= part_len);
    return part_len - *from < room ? part_len - *from : room;
}

static size_t field_size(size_t len) { return 1 + pb_varint_len(len) + len; }

size_t part_chunk_size(size_t part_len, size_t index, const struct wire_chunk_metadata *metadata, size_t metadata_count)
{
    size_t from, len = chunk_range(part_len, index, &from), size = field_size(index == 0 ? PART_LENGTH_BYTES + len : len);

    for (size_t i = 0; index == 0 && i < metadata_count; i++)
        size += field_size(field_size(strlen(metadata[i].name)) + field_size(metadata[i].value.len));
    return size;
}

uint8_t *part_chunk_begin(size_t part_len, size_t index, const struct wire_chunk_metadata *metadata, size_t metadata_count, uint8_t *to, size_t size,
                          size_t *from, size_t *len)
{
    size_t mark;
    struct pb w;
    uint8_t *room, *p;

    *len = chunk_range(part_len, index, from);
    pb_init_fixed(&w, to, size);
    for (size_t i = metadata_count; index == 0 && i-- > 0;) {
        mark = pb_len(&w);
        wire_chunk_metadata_entry(&w, &metadata[i]);
        pb_message(&w, 2, mark);
    }
    mark = pb_len(&w);
    room = pb_room(&w, *len);
    if (index == 0 && (p = pb_room(&w, PART_LENGTH_BYTES)) != NULL)
        store_u64be(p, part_len);
    pb_message(&w, 1, mark);
    assert(!w.failed && w.at == w.start);
    return room;
}

void part_chunk_write(struct bytes part, size_t index, const struct wire_chunk_metadata *metadata, size_t metadata_count, uint8_t *to, size_t size)
{
    size_t from, len;
    uint8_t *room = part_chunk_begin(part.len, index, metadata, metadata_count, to, size, &from, &len);

    if (len > 0)
        memcpy(room, part.data + from, len);
}
