/* A segment file made of a good one and the fuzzer's patches, opened on vfs_memory: it must open (perhaps damaged), answer every read with the tx or a status,
 * scrub, and when it was accepted go on being written and be accepted again.
 *
 * Byte 0: bit 0 = make the frame checksums right again, bit 1 = those of the records too (so that the fields behind them are reached), bit 2 = the rest is the
 * file behind the segment header instead of patches, bit 3 = the manifest is gone. A patch is u16 offset, u16 bytes to write there. */
#include <assert.h>
#include <stdlib.h>

#include "log/log_internal.h"
#include "vfs/vfs_memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define PATH "log/seg-00000001.0"

static int64_t wall(void *ctx)
{
    (void)ctx;
    return 1700000000000000000;
}
static uint64_t mono(void *ctx)
{
    (void)ctx;
    return 1;
}
static void no_random(void *ctx, void *out, size_t n)
{
    (void)ctx;
    memset(out, 0x5a, n);
}
static void no_log(void *ctx, enum log_level level, const char *text) { (void)ctx, (void)level, (void)text; }
static const struct env env = {NULL, wall, mono, no_random, no_log};

static uint8_t *good;
static size_t good_len;
static struct segment_header good_header;

struct opened {
    struct vfs *vfs;
    struct cache *cache;
    struct budget budget;
    struct log *log;
    struct log_report report;
};

static enum status open_on(struct opened *o, struct vfs *v)
{
    struct log_options options = {.vfs = v, .budget = &o->budget, .env = &env, .dir = "log", .create = true};
    enum status st;

    memset(o, 0, sizeof *o);
    o->vfs = v;
    budget_init(&o->budget, 64u << 20);
    if (cache_create(v, &o->budget, 4, &o->cache, NULL) != ST_OK)
        abort();
    options.cache = o->cache;
    if ((st = log_open(&options, &o->log, &o->report, NULL)) != ST_OK) {
        cache_destroy(o->cache);
        o->cache = NULL;
    }
    return st;
}

static void close_it(struct opened *o, bool clean)
{
    log_close(o->log, clean);
    cache_destroy(o->cache);
}

static bool add_txs(struct opened *o, uint64_t first, uint32_t count)
{
    uint8_t value[200] = "a value of some length";
    struct tx_entry e[3] = {{.key = bytes_str("key"), .value = bytes_of(value, 10)},
                            {.key = bytes_str("another"), .value = bytes_of(value, 200)},
                            {.key = bytes_str("c")}};
    hash_t alh = HASH_ZERO;
    bool ok = log_batch_begin(o->log, NULL) == ST_OK;

    for (uint32_t i = 0; i < count && ok; i++) {
        struct tx_header h = {.id = first + i, .version = 1, .entry_count = 1 + i % 3, .ts = (int64_t)i};
        struct tx_body *b = NULL;

        h.md.extra_len = (uint16_t)(i % 2 * 5);
        ok = tx_body_encode(e, h.entry_count, &b, NULL) == ST_OK && log_batch_tx(o->log, &h, b, NULL) == ST_OK;
        tx_body_free(b);
    }
    ok = ok && log_batch_commit(o->log, first + count - 1, &alh, NULL) == ST_OK && log_batch_write(o->log, first - 1, NULL) == ST_OK &&
         log_sync(o->log, NULL) == ST_OK && log_vouch(o->log, NULL) == ST_OK;
    if (!ok)
        log_batch_abort(o->log);
    return ok;
}

static void make_good(void)
{
    struct vfs *v = vfs_memory_create();
    struct opened o;
    hash_t alh = HASH_ZERO;

    if (v == NULL || open_on(&o, v) != ST_OK || !add_txs(&o, 1, 3) || !add_txs(&o, 4, 2))
        abort();
    if (log_batch_begin(o.log, NULL) != ST_OK || log_batch_discard(o.log, 5, &alh, NULL) != ST_OK || log_batch_write(o.log, 3, NULL) != ST_OK ||
        log_sync(o.log, NULL) != ST_OK)
        abort();
    log_cut(o.log, 5);
    if (!add_txs(&o, 6, 4))
        abort();
    close_it(&o, true);
    if (vfs_read_all(v, PATH, 1 << 20, &good, &good_len, NULL) != ST_OK || segment_header_decode(good, &good_header, NULL) != ST_OK)
        abort();
    vfs_memory_destroy(v);
}

static void fix_records(uint8_t *p, size_t len)
{
    uint32_t seed = record_seed(good_header.uuid);

    while (len >= MARK_RECORD_BYTES) {
        size_t record = load_u32le(p + 4), head = p[8] == RECORD_TX && len >= TX_FIXED_BYTES ? tx_head_len(p) : MARK_RECORD_BYTES;

        if (record < MARK_RECORD_BYTES || record > len || head > record)
            return;
        if (p[8] == RECORD_TX) {
            uint64_t values_at = head + (uint64_t)load_u32le(p + 12) * TX_ROW_BYTES + load_u32le(p + 48);

            if (values_at <= record)
                store_u32le(p + 40, crc32c(load_u32le(p + 44), p + head, (size_t)values_at - head));
        }
        store_u32le(p, crc32c(seed, p + 4, head - 4));
        record = (size_t)record_align(record);
        if (record >= len)
            return;
        p += record;
        len -= record;
    }
}

static void fix_frames(uint8_t *file, size_t len, bool records)
{
    uint32_t seed = segment_seed(good_header.uuid, good_header.salt, 1), chain = 0;

    for (size_t at = SEGMENT_HEADER_BYTES; at + FRAME_HEADER_BYTES <= len; at += FRAME_ALIGN) {
        uint8_t *p = file + at;
        uint64_t frame = load_u64le(p + 16);

        if (load_u32le(p) != FRAME_MAGIC || frame < FRAME_HEADER_BYTES || frame > len - at)
            continue;
        if (records)
            fix_records(p + FRAME_HEADER_BYTES, (size_t)frame - FRAME_HEADER_BYTES);
        store_u32le(p + 8, crc32c(0, p + FRAME_HEADER_BYTES, (size_t)frame - FRAME_HEADER_BYTES));
        store_u32le(p + 12, chain);
        chain = crc32c(segment_place_seed(seed, at), p + 8, FRAME_HEADER_BYTES - 8);
        store_u32le(p + 4, chain);
        at += (size_t)frame_align(frame) - FRAME_ALIGN;
    }
}

static bool count_bad(void *ctx, const char *file, uint64_t offset, uint64_t tx_id, const char *what)
{
    (void)file, (void)offset, (void)tx_id, (void)what;
    return ++*(unsigned *)ctx < 1000;
}

static void read_all(struct opened *o)
{
    uint64_t last = o->report.precommitted_upto < 2000 ? o->report.precommitted_upto : 2000, at;
    struct log_pin pin = {0};
    struct frontier frontier;
    struct tx_header h;
    struct arena arena;
    struct tx_entry e;
    struct bytes value;
    struct log_tx t;
    unsigned bad = 0;

    arena_init(&arena, 4096, 1 << 20);
    for (uint64_t id = 1; id <= last + 1; id++) {
        (void)!log_tx_header(o->log, id, &h, NULL);
        for (uint32_t i = 0; i < 4; i++)
            (void)!log_entry_read(o->log, id, i, false, i % 2 == 0, &arena, &pin, &e, NULL);
        if (log_tx_open(o->log, id, false, &t, NULL) != ST_OK)
            continue;
        for (uint32_t i = 0; i < t.entry_count && i < 100; i++)
            if (log_tx_entry(o->log, &t, i, &e, NULL) == ST_OK)
                (void)!log_tx_value(o->log, &t, i, &arena, &value, NULL);
        log_tx_close(o->log, &t);
    }
    (void)!log_tx_since(o->log, 1, &at, NULL);
    (void)!log_frontier_before(o->log, last, &frontier, &at, NULL);
    (void)!log_scrub(o->log, count_bad, &bad, NULL);
    log_pin_release(o->log, &pin);
    arena_free(&arena);
}

static void put_file(struct vfs *v, const char *path, const uint8_t *bytes, size_t len)
{
    struct vfs_file *f;

    if (v->ops->open(v, path, VFS_WRITE | VFS_CREATE | VFS_TRUNCATE, &f, NULL) != ST_OK || vfs_write_at(f, 0, bytes, len, NULL) != ST_OK)
        abort();
    f->ops->close(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static uint8_t file[1 << 16];
    size_t file_len;
    struct vfs *v;
    struct opened o;

    if (good == NULL)
        make_good();
    if (len < 1 || len > sizeof file - SEGMENT_HEADER_BYTES)
        return 0;
    if ((data[0] & 4) != 0) {
        memcpy(file, good, SEGMENT_HEADER_BYTES);
        memcpy(file + SEGMENT_HEADER_BYTES, data + 1, len - 1);
        file_len = SEGMENT_HEADER_BYTES + len - 1;
    } else {
        memcpy(file, good, good_len);
        file_len = good_len;
        for (size_t i = 1; i + 4 <= len; i += 4) {
            size_t at = load_u16le(data + i) % (good_len - 1);

            memcpy(file + at, data + i + 2, 2);
        }
    }
    if ((data[0] & 1) != 0)
        fix_frames(file, file_len, (data[0] & 2) != 0);
    if ((v = vfs_memory_create()) == NULL || v->ops->mkdir(v, "log", NULL) != ST_OK)
        abort();
    put_file(v, PATH, file, file_len);
    if ((data[0] & 8) == 0) {
        struct manifest m;
        struct manifest_entry e = {.segment_no = 1};

        manifest_init(&m);
        memcpy(m.uuid, good_header.uuid, LOG_UUID_LEN);
        memcpy(e.salt, good_header.salt, LOG_SALT_LEN);
        if (manifest_put(&m, &e, NULL) != ST_OK || manifest_rewrite(&m, v, "log", NULL) != ST_OK)
            abort();
        manifest_free(&m);
    }
    if (open_on(&o, v) == ST_OK) {
        uint64_t last = o.report.precommitted_upto;

        read_all(&o);
        if (!o.report.is_damaged && last < UINT64_MAX - 10) {
            bool added = add_txs(&o, last + 1, 2);

            assert(added);
            close_it(&o, true);
            if (open_on(&o, v) != ST_OK)
                abort();
            assert(!o.report.is_damaged && o.report.precommitted_upto == last + 2);
        }
        close_it(&o, false);
    }
    vfs_memory_destroy(v);
    return 0;
}
