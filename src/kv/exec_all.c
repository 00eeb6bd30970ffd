/* ExecAll: pairs, references and set members in one transaction; later operations see the pairs before them. */
#include "kv/kv_internal.h"

/* A set of byte strings, at most half full; none is stored twice. */
struct seen {
    const struct bytes **slots; /* NULL = free */
    size_t mask;
};

static enum status seen_init(struct seen *s, size_t count, struct arena *arena, struct err *err)
{
    size_t slots = 8;

    while (slots < count * 2)
        slots *= 2;
    s->mask = slots - 1;
    s->slots = arena_array(arena, slots, sizeof *s->slots);
    if (s->slots == NULL)
        return err_set(err, ST_NOMEM, 0, "%zu operations", count);
    memset(s->slots, 0, slots * sizeof *s->slots);
    return ST_OK;
}

static const struct bytes **seen_slot(const struct seen *s, struct bytes key)
{
    size_t at = (size_t)hash64((uint64_t)(uintptr_t)s->slots, key.data, key.len) & s->mask;

    while (s->slots[at] != NULL && !bytes_equal(*s->slots[at], key))
        at = (at + 1) & s->mask;
    return &s->slots[at];
}

static bool seen_before(struct seen *s, const struct bytes *key)
{
    const struct bytes **slot = seen_slot(s, *key);

    if (*slot != NULL)
        return true;
    *slot = key;
    return false;
}

/* What makes a set member unique in a request: everything but the score. */
static enum status member_identity(const struct kv_zadd *z, struct arena *arena, struct bytes **out, struct err *err)
{
    size_t len = 8 + z->set.len + z->key.len + 8;
    struct bytes *identity = arena_alloc(arena, sizeof *identity);
    uint8_t *buf = arena_alloc(arena, len);
    struct writer w = writer_of(buf, buf == NULL ? 0 : len);

    *out = identity;
    writer_u64be(&w, z->set.len);
    writer_put(&w, z->set.data, z->set.len);
    writer_put(&w, z->key.data, z->key.len);
    writer_u64be(&w, z->at_tx);
    if (identity == NULL || w.failed)
        return err_set(err, ST_NOMEM, 0, "a set member of %zu bytes", len);
    *identity = bytes_of(buf, len);
    return ST_OK;
}

static enum status duplicate_key(struct bytes key, struct err *err)
{
    return err_set(err, ST_EXISTS, 0,
                   "rpc error: code = InvalidArgument desc = duplicated keys are not supported in single batch transaction: "
                   "key/reference '%.*s'",
                   (int)(key.len < 200 ? key.len : 200), (const char *)key.data);
}

enum status kv_ops_check(const struct kv_op *ops, size_t count, struct arena *arena, struct err *err)
{
    struct seen keys, members;
    struct bytes *identity;
    enum status st;

    if (count == 0)
        return err_set(err, ST_INVALID, 0, "empty set");
    if ((st = seen_init(&keys, count, arena, err)) != ST_OK || (st = seen_init(&members, count, arena, err)) != ST_OK)
        return st;
    for (size_t i = 0; i < count; i++) {
        const struct kv_op *op = &ops[i];

        switch (op->kind) {
        case KV_OP_SET:
            if (seen_before(&keys, &op->key))
                return duplicate_key(op->key, err);
            break;
        case KV_OP_REF:
            if (seen_before(&keys, &op->ref.key))
                return duplicate_key(op->ref.key, err);
            break;
        case KV_OP_ZADD:
            if ((st = member_identity(&op->zadd, arena, &identity, err)) != ST_OK)
                return st;
            if (seen_before(&members, identity))
                return err_set(err, ST_EXISTS, 0, "duplicated index inside zAdd insertions are not supported in single batch transaction");
            break;
        default:
            return err_set(err, ST_INVALID, 0, "operation is not set");
        }
    }
    return ST_OK;
}

/* Without waiting for the index nothing outside the call may be looked at. */
static enum status self_contained(bool is_bound, uint64_t at_tx, bool is_set_here, const char *otherwise, struct err *err)
{
    if (at_tx != 0 || !is_bound)
        return err_set(err, ST_INVALID, 0,
                       "no wait operation must be self-contained: illegal arguments: can only set references to keys added within "
                       "same transaction, "
                       "please use bound references with AtTx set to 0");
    if (!is_set_here)
        return err_set(err, ST_INVALID, 0, "no wait operation must be self-contained: illegal arguments: %s", otherwise);
    return ST_OK;
}

struct exec {
    struct store_draft *draft;
    struct arena *arena;
    struct kv_reader *reader;
    struct seen written; /* keys of the pairs so far */
    bool no_wait;
};

static enum status exec_ref(struct exec *x, const struct kv_ref *ref, struct err *err)
{
    bool is_set_here = *seen_slot(&x->written, ref->referenced_key) != NULL;
    enum status st;

    if (ref->key.len == 0 || ref->referenced_key.len == 0 || (ref->at_tx > 0 && !ref->is_bound))
        return kv_illegal_arguments(err);
    if (x->no_wait)
        st = self_contained(ref->is_bound, ref->at_tx, is_set_here, "can not create a reference to a key that was not set in the same transaction",
                            err);
    else if ((st = kv_check_final_key(x->draft, x->arena, x->reader, ref->key, err)) == ST_OK && (!is_set_here || ref->at_tx > 0))
        st = kv_check_target(x->draft, x->arena, x->reader, ref->referenced_key, ref->at_tx, err);
    return st == ST_OK ? kv_put_ref(x->draft, x->arena, ref, err) : st;
}

static enum status exec_zadd(struct exec *x, const struct kv_zadd *z, struct err *err)
{
    bool is_set_here = *seen_slot(&x->written, z->key) != NULL;
    enum status st = ST_OK;

    if (z->set.len == 0 || z->key.len == 0 || (z->at_tx > 0 && !z->is_bound))
        return kv_illegal_arguments(err);
    if (x->no_wait)
        st = self_contained(z->is_bound, z->at_tx, is_set_here,
                            "can not create a reference into a set for a key that was not set in the same transaction", err);
    else if (!is_set_here || z->at_tx > 0)
        st = kv_check_target(x->draft, x->arena, x->reader, z->key, z->at_tx, err);
    return st == ST_OK ? kv_put_zadd(x->draft, x->arena, z, err) : st;
}

enum status kv_draft_ops(struct store_draft *d, struct arena *arena, struct kv_reader *r, const struct kv_op *ops, size_t count, bool no_wait,
                         struct err *err)
{
    struct exec x = {.draft = d, .arena = arena, .reader = r, .no_wait = no_wait};
    enum status st;

    if ((st = seen_init(&x.written, count, arena, err)) != ST_OK)
        return st;
    for (size_t i = 0; i < count && st == ST_OK; i++) {
        const struct kv_op *op = &ops[i];

        switch (op->kind) {
        case KV_OP_SET:
            st = kv_draft_set_in_place(d, arena, op->key, &op->md, op->value, err);
            (void)seen_before(&x.written, &op->key);
            break;
        case KV_OP_REF:
            st = exec_ref(&x, &op->ref, err);
            break;
        case KV_OP_ZADD:
            st = exec_zadd(&x, &op->zadd, err);
            break;
        default:
            st = err_set(err, ST_INVALID, 0, "operation is not set");
        }
    }
    return st;
}
