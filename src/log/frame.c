/* Frame headers: layout in frame.h. */
#include "log/frame.h"

#include "base/hash.h"

void frame_header_encode(struct frame_header *h, uint32_t place_seed, uint8_t out[FRAME_HEADER_BYTES])
{
    store_u32le(out, FRAME_MAGIC);
    store_u32le(out + 8, h->body_crc);
    store_u32le(out + 12, h->prev_crc);
    store_u64le(out + 16, h->len);
    store_u64le(out + 24, h->batch);
    store_u64le(out + 32, h->first_tx_id);
    store_u64le(out + 40, h->last_tx_id);
    store_u64le(out + 48, h->committed_upto);
    store_u64le(out + 56, h->synced_batch);
    store_u64le(out + 64, h->epoch);
    store_u32le(out + 72, h->record_count);
    store_u32le(out + 76, h->flags);
    h->header_crc = crc32c(place_seed, out + 8, FRAME_HEADER_BYTES - 8);
    store_u32le(out + 4, h->header_crc);
}

static bool fields_agree(const struct frame_header *h)
{
    if (h->len < FRAME_HEADER_BYTES || h->len > FRAME_BYTES_MAX || h->batch == 0 || h->synced_batch >= h->batch)
        return false;
    if ((h->first_tx_id == 0) != (h->last_tx_id == 0) || h->first_tx_id > h->last_tx_id)
        return false;
    return (h->record_count == 0) == (h->len == FRAME_HEADER_BYTES);
}

bool frame_header_decode(const uint8_t in[FRAME_HEADER_BYTES], uint32_t place_seed, struct frame_header *out)
{
    if (load_u32le(in) != FRAME_MAGIC)
        return false;
    out->header_crc = load_u32le(in + 4);
    if (out->header_crc != crc32c(place_seed, in + 8, FRAME_HEADER_BYTES - 8))
        return false;
    out->body_crc = load_u32le(in + 8);
    out->prev_crc = load_u32le(in + 12);
    out->len = load_u64le(in + 16);
    out->batch = load_u64le(in + 24);
    out->first_tx_id = load_u64le(in + 32);
    out->last_tx_id = load_u64le(in + 40);
    out->committed_upto = load_u64le(in + 48);
    out->synced_batch = load_u64le(in + 56);
    out->epoch = load_u64le(in + 64);
    out->record_count = load_u32le(in + 72);
    out->flags = load_u32le(in + 76);
    return fields_agree(out);
}
