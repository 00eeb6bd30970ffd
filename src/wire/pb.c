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
    size_t used = (size_t)(w->end - w->at), want;
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
    assert(w->cut_count == 0);
    *out = bytes_of(w->at, pb_len(w));
    return ST_OK;
}

/* Room for one more cut. */
static bool cut_room(struct arena *arena, struct rope_cut **cuts, size_t count, size_t *cap)
{
    size_t want = *cap == 0 ? 4 : 2 * *cap;
    struct rope_cut *bigger;

    if (count < *cap)
        return true;
    if (arena == NULL || (bigger = arena_array(arena, want, sizeof *bigger)) == NULL)
        return false;
    if (count > 0)
        memcpy(bigger, *cuts, count * sizeof *bigger);
    *cuts = bigger;
    *cap = want;
    return true;
}

void pb_far(struct pb *w, uint32_t field, size_t len, const struct kv_far *from)
{
    if (w->failed || len > PB_MESSAGE_BYTES_MAX || pb_len(w) > PB_MESSAGE_BYTES_MAX - len ||
        !cut_room(w->arena, &w->cuts, w->cut_count, &w->cut_cap)) {
        w->failed = true;
        w->start = w->at; /* no further byte fits */
        return;
    }
    w->cuts[w->cut_count++] = (struct rope_cut){(size_t)(w->end - w->at), len, *from};
    w->far_len += len;
    pb_varint(w, len);
    pb_tag(w, field, PB_BYTES);
}

/* Turns cuts that were noted from the end into ones in order, counted from the beginning. */
static void cuts_turn(struct rope_cut *cuts, size_t count, size_t memory_len)
{
    for (size_t i = 0; i < count / 2; i++) {
        struct rope_cut first = cuts[i];

        cuts[i] = cuts[count - 1 - i];
        cuts[count - 1 - i] = first;
    }
    for (size_t i = 0; i < count; i++)
        cuts[i].at = memory_len - cuts[i].at;
}

enum status pb_take_rope(struct pb *w, struct rope *out, struct err *err)
{
    size_t memory_len = (size_t)(w->end - w->at);

    *out = (struct rope){.len = 0};
    if (w->failed)
        return err_set(err, ST_NOMEM, 0, "answer does not fit into memory");
    cuts_turn(w->cuts, w->cut_count, memory_len);
    *out = (struct rope){bytes_of(w->at, memory_len), w->cuts, w->cut_count, pb_len(w)};
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

static bool list_cuts(struct pb_list *l, const struct rope_cut *cuts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!cut_room(l->arena, &l->cuts, l->cut_count, &l->cut_cap))
            return false;
        l->cuts[l->cut_count] = cuts[i];
        l->cuts[l->cut_count++].at += l->len;
        l->far_len += cuts[i].len;
    }
    return true;
}

uint8_t *pb_list_add(struct pb_list *l, uint32_t field, size_t len, const struct rope_cut *cuts, size_t cut_count)
{
    uint64_t tag = (uint64_t)field << 3 | PB_BYTES;
    size_t head = pb_varint_len(tag) + pb_varint_len(len), far = 0;
    struct pb w;
    uint8_t *body;

    for (size_t i = 0; i < cut_count; i++)
        far += cuts[i].len;
    if (len > PB_MESSAGE_BYTES_MAX || l->len + l->far_len > PB_MESSAGE_BYTES_MAX - len || !list_room(l, head + len - far)) {
        l->failed = true;
        return NULL;
    }
    pb_init_fixed(&w, l->buf + l->len, head);
    pb_varint(&w, len);
    pb_varint(&w, tag);
    assert(!w.failed && pb_len(&w) == head);
    l->len += head;
    if (!list_cuts(l, cuts, cut_count)) {
        l->failed = true;
        return NULL;
    }
    body = l->buf + l->len;
    l->len += len - far;
    return body;
}

enum status pb_list_take(struct pb_list *l, struct rope *out, struct err *err)
{
    *out = (struct rope){.len = 0};
    if (l->failed)
        return err_set(err, ST_NOMEM, 0, "answer does not fit into memory");
    *out = (struct rope){bytes_of(l->buf, l->len), l->cuts, l->cut_count, l->len + l->far_len};
    return ST_OK;
}
