/* Fuzz target: proofs of any shape. Lists, counts, headers and ids come from the input; hashes are few, so that branches
 * which compare them are reached. Nothing is to be accepted or refused in particular: only to end, within its bounds. */
#include <assert.h>
#include <stdlib.h>

#include "proof/proof.h"

#define LISTS 12
#define TERMS_MAX 70

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct input {
    struct reader r;
    hash_t *terms; /* LISTS * TERMS_MAX */
    size_t list_count;
};

static hash_t hash_read(struct input *in)
{
    hash_t h = {{0}};

    h.b[0] = reader_u8(&in->r) & 3;
    return h;
}

static struct hash_list list_read(struct input *in)
{
    size_t count = reader_u8(&in->r) % TERMS_MAX;
    hash_t *items = in->terms + TERMS_MAX * in->list_count++;

    assert(in->list_count <= LISTS);
    for (size_t i = 0; i < count; i++)
        items[i] = hash_read(in);
    return (struct hash_list){count, items};
}

/* Small numbers mostly, sometimes the largest. */
static uint64_t number_read(struct input *in)
{
    uint8_t b = reader_u8(&in->r);

    return b > 250 ? UINT64_MAX - (b - 251u) : b;
}

static void header_read(struct input *in, struct tx_header *h)
{
    memset(h, 0, sizeof *h);
    h->id = number_read(in);
    h->bl_tx_id = number_read(in);
    h->version = reader_u8(&in->r) % 3;
    h->entry_count = reader_u8(&in->r);
    h->md.extra_len = reader_u8(&in->r);
    h->prev_alh = hash_read(in);
    h->bl_root = hash_read(in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct input in = {.r = reader_of(bytes_of(data, len)), .terms = malloc(LISTS * TERMS_MAX * sizeof(hash_t))};
    struct hash_list paths[3];
    struct dual_proof p = {0};
    struct dual_proof_v2 p2 = {0};
    uint64_t source, target;
    uint8_t flags;
    hash_t source_alh, target_alh;

    assert(in.terms != NULL);
    flags = reader_u8(&in.r);
    p.has_source = (flags & 1) == 0;
    p.has_target = (flags & 2) == 0;
    p.has_linear = (flags & 4) == 0;
    p.advance.is_present = (flags & 8) == 0;
    header_read(&in, &p.source);
    header_read(&in, &p.target);
    p.linear.source_tx_id = number_read(&in);
    p.linear.target_tx_id = number_read(&in);
    p.target_bl_alh = hash_read(&in);
    source = (flags & 16) != 0 ? p.source.id : number_read(&in);
    target = (flags & 32) != 0 ? p.target.id : number_read(&in);
    for (size_t i = 0; i < 3; i++)
        paths[i] = list_read(&in);
    p.inclusion = list_read(&in);
    p.consistency = list_read(&in);
    p.last_inclusion = list_read(&in);
    p.linear.terms = list_read(&in);
    p.advance.terms = list_read(&in);
    p.advance.inclusions = paths;
    p.advance.inclusion_count = reader_u8(&in.r) % 4;
    tx_header_alh(&p.source, &source_alh);
    tx_header_alh(&p.target, &target_alh);
    dual_proof_verify(&p, source, target, &source_alh, &target_alh);
    linear_proof_verify(&p.linear, source, target, &p.target_bl_alh, &target_alh);
    linear_advance_verify(&p.advance, source, target, &target_alh, &p.target.bl_root, p.target.bl_tx_id);
    inclusion_verify(p.inclusion.items, p.inclusion.count, source, target, &source_alh, &p.target.bl_root);
    consistency_verify(p.consistency.items, p.consistency.count, source, target, &p.source.bl_root, &p.target.bl_root);
    htree_verify(p.inclusion.items, p.inclusion.count, source, target, &source_alh, &p.target.bl_root);
    p2.has_source = p.has_source;
    p2.has_target = p.has_target;
    p2.source = p.source;
    p2.target = p.target;
    p2.inclusion = p.inclusion;
    p2.consistency = p.consistency;
    if (dual_proof_v2_verify(&p2, source, target, &source_alh, &target_alh, NULL) == ST_OK)
        assert(source <= target && source > 0);
    free(in.terms);
    return 0;
}
