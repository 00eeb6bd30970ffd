/* Growth of the backward writer and of lists. */
#include "wire/pb.h"

#include <assert.h>

#define PB_BYTES_MIN 64u
#define LIST_DOUBLED_MAX ((size_t)1 << 20) /* larger lists grow by half: room that is never used counts as memory of the call */

void pb_init(struct pb *w, struct arena *arena, size_t bytes_hint)
{
    size_t len = bytes_hint < PB_BYTES_MIN ? PB_BYTES_MIN : bytes_hint;

    *w = (struct pb){.arena = arena};
    if (len > PB_MESSAGE_BYTES_MAX || (w->start = arena_alloc(arena, len)) == NULL) {
        w->failed = true;
        return;
    }
    w->at = w->end = w->start + len;
}

bool pb_grow(struct pb *w, size_t len)
{
    size_t used = pb_len(w), want;
    uint8_t *bigger = NULL;

    if (!w->failed && w->arena != NULL && len <= PB_MESSAGE_BYTES_MAX && used <= PB_MESSAGE_BYTES_MAX - len) {
        want = used + len;
        want += want / 2 + PB_BYTES_MIN;
        bigger = arena_alloc(w->arena, want);
    }
    if (bigger == NULL) {
        w->failed = true;
        w->start = w->at; /* no further byte fits */
        return false;
    }
    if (used > 0)
        memcpy(bigger + want - used, w->at, used);
    w->start = bigger;
    w->end = bigger + want;
    w->at = w->end - used;
    return true;
}

enum status pb_take(struct pb *w, struct bytes *out, struct err *err)
{
    *out = bytes_of(NULL, 0);
    if (w->failed)
        return err_set(err, ST_NOMEM, 0, "answer does not fit into memory");
    *out = bytes_of(w->at, pb_len(w));
    return ST_OK;
}

void pb_list_init(struct pb_list *l, struct arena *arena, size_t bytes_hint)
{
    *l = (struct pb_list){.arena = arena, .cap = bytes_hint < PB_BYTES_MIN ? PB_BYTES_MIN : bytes_hint};
    if ((l->buf = arena_alloc(arena, l->cap)) == NULL)
        l->failed = true;
}

static bool list_room(struct pb_list *l, size_t len)
{
    size_t want;
    uint8_t *bigger;

    if (l->failed || len > PB_MESSAGE_BYTES_MAX || l->len > PB_MESSAGE_BYTES_MAX - len) {
        l->failed = true;
        return false;
    }
    if (len <= l->cap - l->len)
        return true;
    want = l->len + len;
    want += want < LIST_DOUBLED_MAX ? want : want / 2;
    if ((bigger = arena_grow(l->arena, l->buf, l->cap, want)) == NULL) {
        l->failed = true;
        return false;
    }
    l->buf = bigger;
    l->cap = want;
    return true;
}

uint8_t *pb_list_add(struct pb_list *l, uint32_t field, size_t len)
{
    uint64_t tag = (uint64_t)field << 3 | PB_BYTES;
    size_t head = pb_varint_len(tag) + pb_varint_len(len);
    struct pb w;
    uint8_t *body;

    if (len > PB_MESSAGE_BYTES_MAX || !list_room(l, head + len)) {
        l->failed = true;
        return NULL;
    }
    pb_init_fixed(&w, l->buf + l->len, head);
    pb_varint(&w, len);
    pb_varint(&w, tag);
    assert(!w.failed && pb_len(&w) == head);
    body = l->buf + l->len + head;
    l->len += head + len;
    return body;
}

enum status pb_list_take(struct pb_list *l, struct bytes *out, struct err *err)
{
    *out = bytes_of(NULL, 0);
    if (l->failed)
        return err_set(err, ST_NOMEM, 0, "answer does not fit into memory");
    *out = bytes_of(l->buf, l->len);
    return ST_OK;
}
