/* Encoding of segment header, offset pages, frontier block and trailer: layouts in segment.h. */
#include "log/segment.h"

#include "log/frame.h"

#include <assert.h>

static const uint8_t header_magic[8] = {'I', 'M', 'M', 'U', 'L', 'O', 'G', '1'};
static const uint8_t trailer_magic[8] = {'I', 'M', 'M', 'U', 'S', 'E', 'A', 'L'};

enum { HEADER_VALUES_REMOVED = 1 };
enum { TRAILER_HAS_FRONTIER = 1, TRAILER_VALUES_REMOVED = 2 };

void segment_header_encode(const struct segment_header *h, uint8_t out[SEGMENT_HEADER_BYTES])
{
    memset(out, 0, SEGMENT_HEADER_BYTES);
    memcpy(out, header_magic, sizeof header_magic);
    store_u32le(out + 8, LOG_FORMAT_VERSION);
    store_u32le(out + 20, SEGMENT_HEADER_BYTES);
    memcpy(out + 24, h->uuid, LOG_UUID_LEN);
    store_u64le(out + 40, h->segment_no);
    store_u32le(out + 48, h->generation);
    store_u32le(out + 52, h->values_removed ? HEADER_VALUES_REMOVED : 0);
    store_u64le(out + 56, h->first_tx_id);
    store_u64le(out + 64, h->epoch);
    memcpy(out + 72, h->salt, LOG_SALT_LEN);
    store_u64le(out + 80, (uint64_t)h->created_ns);
    store_u32le(out + 508, crc32c(0, out, 508));
}

enum status segment_header_decode(const uint8_t in[SEGMENT_HEADER_BYTES], struct segment_header *out, struct err *err)
{
    uint32_t version = load_u32le(in + 8), incompat = load_u32le(in + 12), flags = load_u32le(in + 52);

    memset(out, 0, sizeof *out);
    if (memcmp(in, header_magic, sizeof header_magic) != 0)
        return err_set(err, ST_CORRUPT, 0, "no segment header (wrong magic)");
    if (load_u32le(in + 508) != crc32c(0, in, 508))
        return err_set(err, ST_CORRUPT, 0, "segment header has a wrong checksum");
    /* Magic, version, flags and checksum keep their places in every later version. */
    if (version > LOG_FORMAT_VERSION || incompat != 0)
        return err_set(err, ST_UNSUPPORTED, 0, "segment has format version %u with incompat flags 0x%x, the newest known version is %u", version,
                       incompat, LOG_FORMAT_VERSION);
    memcpy(out->uuid, in + 24, LOG_UUID_LEN);
    memcpy(out->salt, in + 72, LOG_SALT_LEN);
    out->segment_no = load_u64le(in + 40);
    out->generation = load_u32le(in + 48);
    out->values_removed = (flags & HEADER_VALUES_REMOVED) != 0;
    out->first_tx_id = load_u64le(in + 56);
    out->epoch = load_u64le(in + 64);
    out->created_ns = (int64_t)load_u64le(in + 80);
    if (version == 0 || load_u32le(in + 20) != SEGMENT_HEADER_BYTES || out->segment_no == 0 || out->segment_no > SEGMENT_NO_MAX)
        return err_set(err, ST_CORRUPT, 0, "segment header has fields out of range");
    return ST_OK;
}

uint32_t segment_seed(const uint8_t uuid[LOG_UUID_LEN], const uint8_t salt[LOG_SALT_LEN], uint64_t segment_no)
{
    uint8_t no[8];

    store_u64le(no, segment_no);
    return crc32c(crc32c(crc32c(0, uuid, LOG_UUID_LEN), salt, LOG_SALT_LEN), no, sizeof no);
}

uint32_t segment_place_seed(uint32_t seed, uint64_t offset)
{
    uint8_t at[8];

    store_u64le(at, offset);
    return crc32c(seed, at, sizeof at);
}

void offset_page_encode(uint8_t out[OFFSET_PAGE_BYTES], int64_t ts_max, const uint32_t *units, size_t count, uint32_t end_unit, uint32_t place_seed)
{
    assert(count > 0 && count <= OFFSET_PAGE_TXS);
    store_u64le(out, (uint64_t)ts_max);
    for (size_t i = 0; i < OFFSET_PAGE_TXS; i++)
        store_u32le(out + 8 + 4 * i, i < count ? units[i] : end_unit);
    store_u32le(out + 4088, end_unit);
    store_u32le(out + 4092, crc32c(place_seed, out, 4092));
}

bool offset_page_is_valid(const uint8_t in[OFFSET_PAGE_BYTES], uint32_t place_seed) { return load_u32le(in + 4092) == crc32c(place_seed, in, 4092); }

void frontier_block_encode(uint8_t out[FRONTIER_BLOCK_BYTES], const struct frontier *f, uint32_t place_seed)
{
    memset(out, 0, FRONTIER_BLOCK_BYTES);
    store_u64le(out, f->size);
    for (size_t k = 0; k < 64; k++)
        if (((f->size >> k) & 1) != 0)
            memcpy(out + 8 + HASH_LEN * k, f->nodes[k].b, HASH_LEN);
    store_u32le(out + 2056, crc32c(place_seed, out, 2056));
}

bool frontier_block_decode(const uint8_t in[FRONTIER_BLOCK_BYTES], uint32_t place_seed, struct frontier *out)
{
    memset(out, 0, sizeof *out);
    if (load_u32le(in + 2056) != crc32c(place_seed, in, 2056))
        return false;
    out->size = load_u64le(in);
    for (size_t k = 0; k < 64; k++)
        memcpy(out->nodes[k].b, in + 8 + HASH_LEN * k, HASH_LEN);
    return true;
}

static uint64_t trailer_tx_count(const struct segment_trailer *t) { return t->last_tx_id + 1 - t->first_tx_id; }

void segment_trailer_layout(struct segment_trailer *t)
{
    uint64_t pages = (trailer_tx_count(t) + OFFSET_PAGE_TXS - 1) / OFFSET_PAGE_TXS;

    assert(pages <= UINT32_MAX);
    t->page_count = (uint32_t)pages;
    t->pages_offset = t->body_end;
    t->frontier_offset = t->pages_offset + pages * OFFSET_PAGE_BYTES;
    t->file_bytes = t->frontier_offset + (t->has_frontier ? FRONTIER_BLOCK_BYTES : 0) + SEGMENT_TRAILER_BYTES;
}

void segment_trailer_encode(const struct segment_trailer *t, uint8_t out[SEGMENT_TRAILER_BYTES], uint32_t place_seed)
{
    memset(out, 0, SEGMENT_TRAILER_BYTES);
    memcpy(out, trailer_magic, sizeof trailer_magic);
    store_u32le(out + 12, (t->has_frontier ? TRAILER_HAS_FRONTIER : 0u) | (t->values_removed ? TRAILER_VALUES_REMOVED : 0u));
    store_u64le(out + 16, t->segment_no);
    store_u32le(out + 24, t->generation);
    store_u32le(out + 28, t->page_count);
    store_u64le(out + 32, t->first_tx_id);
    store_u64le(out + 40, t->last_tx_id);
    store_u64le(out + 48, t->first_batch);
    store_u64le(out + 56, t->last_batch);
    store_u32le(out + 64, t->chain_begin);
    store_u32le(out + 68, t->chain_end);
    store_u64le(out + 72, t->body_end);
    store_u64le(out + 80, t->pages_offset);
    store_u64le(out + 88, t->frontier_offset);
    store_u64le(out + 96, (uint64_t)t->ts_min);
    store_u64le(out + 104, (uint64_t)t->ts_max);
    memcpy(out + 112, t->body_sha256.b, HASH_LEN);
    store_u64le(out + 144, (uint64_t)t->sealed_ns);
    store_u64le(out + 152, t->file_bytes);
    store_u64le(out + 160, t->end_tx_id);
    store_u32le(out + 8, crc32c(place_seed, out + 12, SEGMENT_TRAILER_BYTES - 12));
}

bool segment_trailer_decode(const uint8_t in[SEGMENT_TRAILER_BYTES], uint32_t place_seed, uint64_t offset, struct segment_trailer *out)
{
    uint32_t flags = load_u32le(in + 12);
    struct segment_trailer layout;

    memset(out, 0, sizeof *out);
    if (memcmp(in, trailer_magic, sizeof trailer_magic) != 0 || load_u32le(in + 8) != crc32c(place_seed, in + 12, SEGMENT_TRAILER_BYTES - 12))
        return false;
    out->has_frontier = (flags & TRAILER_HAS_FRONTIER) != 0;
    out->values_removed = (flags & TRAILER_VALUES_REMOVED) != 0;
    out->segment_no = load_u64le(in + 16);
    out->generation = load_u32le(in + 24);
    out->page_count = load_u32le(in + 28);
    out->first_tx_id = load_u64le(in + 32);
    out->last_tx_id = load_u64le(in + 40);
    out->first_batch = load_u64le(in + 48);
    out->last_batch = load_u64le(in + 56);
    out->chain_begin = load_u32le(in + 64);
    out->chain_end = load_u32le(in + 68);
    out->body_end = load_u64le(in + 72);
    out->pages_offset = load_u64le(in + 80);
    out->frontier_offset = load_u64le(in + 88);
    out->ts_min = (int64_t)load_u64le(in + 96);
    out->ts_max = (int64_t)load_u64le(in + 104);
    memcpy(out->body_sha256.b, in + 112, HASH_LEN);
    out->sealed_ns = (int64_t)load_u64le(in + 144);
    out->file_bytes = load_u64le(in + 152);
    out->end_tx_id = load_u64le(in + 160);
    /* Bounds first, so that the layout below cannot overflow. */
    if (out->first_tx_id == 0 || out->last_tx_id + 1 < out->first_tx_id || trailer_tx_count(out) > UINT32_MAX ||
        out->last_batch + 1 < out->first_batch || out->end_tx_id < out->last_tx_id || out->end_tx_id == UINT64_MAX ||
        out->body_end < SEGMENT_HEADER_BYTES || out->body_end % FRAME_ALIGN != 0 || out->body_end > SEGMENT_OFFSET_MAX * 2)
        return false;
    layout = *out;
    segment_trailer_layout(&layout);
    return layout.page_count == out->page_count && layout.pages_offset == out->pages_offset && layout.frontier_offset == out->frontier_offset &&
           layout.file_bytes == out->file_bytes && out->file_bytes == offset + SEGMENT_TRAILER_BYTES;
}
