/* Building a draft, and everything about it that needs no order: limits, duplicates, value hashes, digests, Eh, the record's body.
 *
 * Runs on the thread of whoever makes the draft; only the late fields wait for the committer (draft_finish_late). Keys and values are
 * borrowed from the caller until the draft is completed, except those with a late field, which are copied. */
#include "store/store_internal.h"

#include <assert.h>
#include <stdlib.h>

enum { TABLE_FROM = 8 /* entries from which on duplicates are found by table */, ENTRIES_FIRST = 8 /* room of the first own arrays */ };

/* What glibc keeps per thread: beyond it, making and freeing drafts on many threads takes the allocator's locks. */
static_assert(sizeof(struct store_draft) <= 1032, "a draft is a small allocation");

enum status array_grow(void **items, uint32_t *cap, uint32_t count, size_t item_bytes, void *inline_items, struct err *err)
{
    uint32_t wanted = *cap < 4 ? 8 : *cap * 2;
    void *grown;

    if (count < *cap)
        return ST_OK;
    if (wanted < *cap || (size_t)wanted > SIZE_MAX / item_bytes)
        return err_set(err, ST_LIMIT, 0, "too many items in a transaction");
    grown = realloc(*items == inline_items ? NULL : *items, wanted * item_bytes);
    if (grown == NULL)
        return err_set(err, ST_NOMEM, 0, "a transaction of %u items", count);
    if (*items == inline_items && count > 0)
        memcpy(grown, inline_items, count * item_bytes);
    *items = grown;
    *cap = wanted;
    return ST_OK;
}

enum status draft_make(struct store *s, enum draft_kind kind, struct store_draft **out, struct err *err)
{
    struct store_draft *d = malloc(sizeof *d); /* small enough for the allocator's per-thread lists, which calloc() goes past */

    *out = NULL;
    if (d == NULL)
        return err_set(err, ST_NOMEM, 0, "creating a draft");
    memset(d, 0, offsetof(struct store_draft, entries_inline));
    d->store = s;
    d->kind = kind;
    d->entries = d->entries_inline;
    d->mds = d->mds_inline;
    d->metas = d->metas_inline;
    d->digests = d->digests_inline;
    d->entry_cap = DRAFT_INLINE;
    arena_init(&d->arena, 1024, 0);
    *out = d;
    return ST_OK;
}

enum status draft_create(struct store *s, struct store_draft **out, struct err *err) { return draft_make(s, DRAFT_TX, out, err); }

void draft_free(struct store_draft *d)
{
    if (d == NULL)
        return;
    if (d->entries != d->entries_inline) {
        free(d->entries);
        free(d->mds);
        free(d->metas);
    }
    if (d->digests != d->digests_inline)
        free(d->digests);
    free(d->table);
    free(d->lates);
    free(d->conditions);
    free(d->reads);
    tx_body_free(d->body);
    arena_free(&d->arena);
    if (d->budget_bytes > 0)
        budget_give(&d->store->runtime->budget, BUDGET_QUEUE, d->budget_bytes - d->borrowed_bytes);
    free(d);
}

/* --- entries --- */
static enum status entries_grow(struct store_draft *d, struct err *err)
{
    uint32_t cap = d->entry_cap == DRAFT_INLINE ? ENTRIES_FIRST : d->entry_cap * 2;
    struct tx_entry *entries = NULL;
    struct kv_metadata *mds = NULL;
    struct draft_meta *metas = NULL;

    if (d->entry_count < d->entry_cap)
        return ST_OK;
    entries = malloc(cap * sizeof *entries);
    mds = malloc(cap * sizeof *mds);
    metas = malloc(cap * sizeof *metas);
    if (entries == NULL || mds == NULL || metas == NULL) {
        free(entries);
        free(mds);
        free(metas);
        return err_set(err, ST_NOMEM, 0, "a transaction of %u entries", d->entry_count);
    }
    memcpy(entries, d->entries, d->entry_count * sizeof *entries);
    memcpy(mds, d->mds, d->entry_count * sizeof *mds);
    memcpy(metas, d->metas, d->entry_count * sizeof *metas);
    if (d->entries != d->entries_inline) {
        free(d->entries);
        free(d->mds);
        free(d->metas);
    }
    d->entries = entries;
    d->mds = mds;
    d->metas = metas;
    d->entry_cap = cap;
    return ST_OK;
}

static uint32_t *table_slot(const struct store_draft *d, struct bytes key)
{
    uint32_t at = (uint32_t)hash64((uint64_t)(uintptr_t)d, key.data, key.len) & (d->table_cap - 1);

    while (d->table[at] != 0 && !bytes_equal(d->entries[d->table[at] - 1].key, key))
        at = (at + 1) & (d->table_cap - 1);
    return &d->table[at];
}

/* Keeps the table at most half full. */
static enum status table_grow(struct store_draft *d, struct err *err)
{
    uint32_t cap = d->table_cap == 0 ? 64 : d->table_cap * 2;
    uint32_t *old = d->table;

    if (d->entry_count < TABLE_FROM || (d->table_cap != 0 && d->entry_count + 1 < d->table_cap / 2))
        return ST_OK;
    while (cap / 2 <= d->entry_count + 1)
        cap *= 2;
    d->table = calloc(cap, sizeof *d->table);
    if (d->table == NULL) {
        d->table = old;
        return err_set(err, ST_NOMEM, 0, "a transaction of %u entries", d->entry_count);
    }
    free(old);
    d->table_cap = cap;
    for (uint32_t i = 0; i < d->entry_count; i++)
        *table_slot(d, d->entries[i].key) = i + 1;
    return ST_OK;
}

static bool key_is_there(const struct store_draft *d, struct bytes key)
{
    if (d->table != NULL)
        return *table_slot(d, key) != 0;
    for (uint32_t i = 0; i < d->entry_count; i++)
        if (bytes_equal(d->entries[i].key, key))
            return true;
    return false;
}

static enum status entry_limits(const struct store_draft *d, struct bytes key, size_t value_len, struct err *err)
{
    const struct store_options *o = &d->store->o;

    if (key.len == 0)
        return err_set(err, ST_INVALID, 0, "null key");
    if (key.len > (d->is_internal ? UINT16_MAX : o->key_len_max))
        return err_set(err, ST_LIMIT, 0, "max key length exceeded");
    if (value_len > (d->is_internal ? UINT32_MAX : o->value_len_max))
        return err_set(err, ST_LIMIT, 0, "max value length exceeded");
    if (!d->is_internal && d->entry_count >= o->tx_entries_max)
        return err_set(err, ST_LIMIT, 0, "max number of entries per tx exceeded");
    if (!d->is_internal && d->value_bytes + key.len + value_len > o->tx_bytes_max)
        return err_set(err, ST_LIMIT, 0, "max transaction size of %llu bytes exceeded", (unsigned long long)o->tx_bytes_max);
    return ST_OK;
}

enum status draft_add_entry(struct store_draft *d, const struct tx_entry *e, const struct kv_metadata *md, struct err *err)
{
    static const struct kv_metadata none = {false, false, false, 0};
    enum status st;
    uint32_t i;

    assert(!d->is_submitted);
    if ((st = entry_limits(d, e->key, e->value.len, err)) != ST_OK)
        return st;
    if ((st = entries_grow(d, err)) != ST_OK || (st = table_grow(d, err)) != ST_OK)
        return st;
    if (key_is_there(d, e->key))
        return err_set(err, ST_EXISTS, 0, "duplicated key");
    i = d->entry_count++;
    d->entries[i] = *e;
    d->mds[i] = md != NULL ? *md : none;
    d->metas[i].md_len = (uint8_t)kv_metadata_encode(&d->mds[i], d->metas[i].md_bytes);
    d->value_bytes += e->key.len + e->value.len;
    if (d->table != NULL)
        *table_slot(d, e->key) = i + 1;
    return ST_OK;
}

enum status draft_set(struct store_draft *d, struct bytes key, const struct kv_metadata *md, struct bytes value, struct err *err)
{
    struct tx_entry e = {.key = key, .value = value, .value_len = (uint32_t)value.len};

    return draft_add_entry(d, &e, md, err);
}

/* A field is patched in a copy of ours. */
static enum status late_copy(struct store_draft *d, struct bytes *b, struct err *err)
{
    struct bytes copy = arena_copy(&d->arena, *b);

    if (copy.data == NULL)
        return err_set(err, ST_NOMEM, 0, "a field of %zu bytes", b->len);
    *b = copy;
    return ST_OK;
}

enum status draft_late_tx_id(struct store_draft *d, bool in_key, size_t offset, struct err *err)
{
    struct tx_entry *e;
    struct bytes *field;
    enum status st;

    assert(!d->is_submitted);
    if (d->entry_count == 0)
        return err_set(err, ST_INVALID, 0, "a late field needs an entry");
    e = &d->entries[d->entry_count - 1];
    field = in_key ? &e->key : &e->value;
    if (field->len < 8 || offset > field->len - 8)
        return err_set(err, ST_INVALID, 0, "a late field at %zu does not fit into %zu bytes", offset, field->len);
    if ((st = array_grow((void **)&d->lates, &d->late_cap, d->late_count, sizeof *d->lates, NULL, err)) != ST_OK)
        return st;
    if ((st = late_copy(d, field, err)) != ST_OK)
        return st;
    d->lates[d->late_count++] = (struct draft_late){d->entry_count - 1, in_key, offset};
    return ST_OK;
}

void draft_set_extra(struct store_draft *d, struct bytes extra)
{
    assert(extra.len <= TX_EXTRA_BYTES_MAX);
    d->header.md.extra_len = (uint16_t)extra.len;
    if (extra.len > 0)
        memcpy(d->header.md.extra, extra.data, extra.len);
}

void draft_set_deadline(struct store_draft *d, uint64_t deadline_mono_ns) { d->deadline_ns = deadline_mono_ns; }

void draft_set_cancel(struct store_draft *d, bool (*is_cancelled)(void *ctx), void *ctx)
{
    d->is_cancelled = is_cancelled;
    d->cancel_ctx = ctx;
}

void draft_set_hasty(struct store_draft *d) { d->is_hasty = true; }

/* --- conditions --- */
static enum status condition_key(struct store_draft *d, struct bytes key, struct bytes *copy, struct err *err)
{
    if (key.len == 0)
        return err_set(err, ST_INVALID, 0, "null key");
    if (key.len > d->store->o.key_len_max)
        return err_set(err, ST_LIMIT, 0, "max key length exceeded");
    *copy = arena_copy(&d->arena, key);
    return copy->data != NULL ? ST_OK : err_set(err, ST_NOMEM, 0, "a condition");
}

enum status draft_precondition(struct store_draft *d, enum precondition_kind kind, struct bytes key, uint64_t tx_id, struct err *err)
{
    struct bytes copy;
    uint32_t ns;
    struct bytes index_key;
    enum status st;

    if ((st = condition_key(d, key, &copy, err)) != ST_OK)
        return st;
    if (kind == KEY_NOT_MODIFIED_AFTER_TX && tx_id == 0)
        return err_set(err, ST_INVALID, 0, "invalid transaction ID");
    if (!store_index_key(key, &ns, &index_key))
        return err_set(err, ST_INVALID, 0, "a precondition needs an indexed key");
    if (d->condition_count >= d->store->o.tx_entries_max)
        return err_set(err, ST_LIMIT, 0, "too many preconditions");
    if ((st = array_grow((void **)&d->conditions, &d->condition_cap, d->condition_count, sizeof *d->conditions, NULL, err)) != ST_OK)
        return st;
    d->conditions[d->condition_count++] = (struct draft_condition){.kind = kind, .key = copy, .tx_id = tx_id};
    return ST_OK;
}

static enum status read_add(struct store_draft *d, struct draft_read read, struct err *err)
{
    enum status st;

    if (d->read_count >= d->store->o.read_set_max)
        return err_set(err, ST_LIMIT, 0, "read set limit of %u exceeded", d->store->o.read_set_max);
    if ((st = array_grow((void **)&d->reads, &d->read_cap, d->read_count, sizeof *d->reads, NULL, err)) != ST_OK)
        return st;
    d->reads[d->read_count++] = read;
    return ST_OK;
}

enum status draft_read_point(struct store_draft *d, struct bytes key, uint64_t read_tx_id, struct err *err)
{
    struct bytes copy;
    enum status st = condition_key(d, key, &copy, err);

    return st != ST_OK ? st : read_add(d, (struct draft_read){.first = copy, .read_tx_id = read_tx_id}, err);
}

enum status draft_read_range(struct store_draft *d, struct bytes first, struct bytes last, uint64_t read_tx_id, struct err *err)
{
    struct draft_read read = {.is_range = true, .read_tx_id = read_tx_id};
    enum status st;

    if (first.len == 0 || (last.len > 0 && last.data[0] != first.data[0]))
        return err_set(err, ST_INVALID, 0, "a range lies within one key prefix");
    read.first = arena_copy(&d->arena, first);
    read.last = arena_copy(&d->arena, last);
    if (read.first.data == NULL || (last.len > 0 && read.last.data == NULL))
        return err_set(err, ST_NOMEM, 0, "a condition");
    st = read_add(d, read, err);
    return st;
}

/* --- hashes and the record --- */
static enum status digests_make_room(struct store_draft *d, struct err *err)
{
    hash_t *digests;

    if (d->entry_count <= DRAFT_INLINE || d->digests != d->digests_inline)
        return ST_OK;
    /* The second half is the tree's scratch. */
    digests = malloc((size_t)d->entry_count * 2 * sizeof *digests);
    if (digests == NULL)
        return err_set(err, ST_NOMEM, 0, "digests of %u entries", d->entry_count);
    d->digests = digests;
    return ST_OK;
}

/* What the draft holds is accounted once it is complete, in one step: of `bytes`, what is borrowed counts where it belongs to. */
static void draft_account(struct store_draft *d, size_t bytes, size_t borrowed)
{
    struct budget *b = &d->store->runtime->budget;

    if (d->budget_bytes > 0)
        budget_give(b, BUDGET_QUEUE, d->budget_bytes - d->borrowed_bytes);
    d->budget_bytes = bytes;
    d->borrowed_bytes = borrowed;
    budget_take(b, BUDGET_QUEUE, bytes - borrowed);
}

static enum status body_make(struct store_draft *d, struct err *err)
{
    hash_t scratch[DRAFT_INLINE];
    enum status st;

    tx_body_free(d->body);
    d->body = NULL;
    htree_root(d->digests, d->entry_count, d->entry_count <= DRAFT_INLINE ? scratch : d->digests + d->entry_count, &d->eh);
    if ((st = tx_body_encode(d->entries, d->entry_count, &d->body, err)) != ST_OK)
        return st;
    draft_account(d, sizeof *d + tx_body_bytes(d->body), tx_body_borrowed(d->body));
    return ST_OK;
}

static enum status entry_hash(struct store_draft *d, uint32_t version, uint32_t i, struct err *err)
{
    struct tx_entry *e = &d->entries[i];

    if (!e->is_value_gone && d->kind != DRAFT_IMPORT) /* an import brings its hashes along */
        sha256(e->value.data, e->value.len, &e->hval);
    return entry_digest(version, e->key, e->md, &e->hval, &d->digests[i], err);
}

enum status draft_prepare(struct store_draft *d, struct err *err)
{
    uint32_t version = d->kind == DRAFT_IMPORT ? d->header.version : d->store->o.tx_version;
    enum status st;

    if (d->entry_count == 0 && d->header.md.truncated_upto == 0)
        return err_set(err, ST_INVALID, 0, "no entries provided");
    if (version == 0 && !tx_metadata_is_empty(&d->header.md))
        return err_set(err, ST_INVALID, 0, "transactions of version 0 have no metadata");
    if ((st = digests_make_room(d, err)) != ST_OK)
        return st;
    for (uint32_t i = 0; i < d->entry_count; i++) {
        d->entries[i].md = bytes_of(d->metas[i].md_bytes, d->metas[i].md_len);
        if ((st = entry_hash(d, version, i, err)) != ST_OK)
            return st;
    }
    if (d->late_count == 0)
        return body_make(d, err);
    draft_account(d, sizeof *d + (size_t)d->value_bytes, 0);
    return ST_OK;
}

enum status draft_finish_late(struct store_draft *d, uint64_t tx_id, struct err *err)
{
    enum status st;

    if (d->late_count == 0)
        return ST_OK;
    for (uint32_t i = 0; i < d->late_count; i++) {
        const struct draft_late *late = &d->lates[i];
        struct tx_entry *e = &d->entries[late->entry_index];

        /* The bytes are our own copy, made by draft_late_tx_id(). */
        store_u64be((uint8_t *)(uintptr_t)(late->in_key ? e->key.data : e->value.data) + late->offset, tx_id);
    }
    for (uint32_t i = 0; i < d->late_count; i++)
        if ((st = entry_hash(d, d->store->o.tx_version, d->lates[i].entry_index, err)) != ST_OK)
            return st;
    return body_make(d, err);
}

size_t draft_entry_count(const struct store_draft *d) { return d->entry_count; }

void draft_entry(const struct store_draft *d, size_t entry_index, struct tx_entry *out)
{
    assert(entry_index < d->entry_count);
    *out = d->entries[entry_index];
}

const hash_t *draft_digests(const struct store_draft *d) { return d->digests; }
