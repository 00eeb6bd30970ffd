/* Encoding and decoding of MANIFEST. */
#include "index/manifest.h"

#include "base/hash.h"

#include <assert.h>
#include <stdlib.h>

#define HEADER_LEN 64u
#define RUN_LEN 72u
#define MARK_LEN 16u

enum status index_manifest_encode(const struct manifest *m, const uint8_t uuid[16], uint8_t **out, size_t *len, struct err *err)
{
    size_t body_len = m->run_count * RUN_LEN + m->mark_count * MARK_LEN, total = HEADER_LEN + body_len + 4;
    uint8_t *b, *p;
    uint32_t crc;

    *out = NULL;
    if (m->run_count > MANIFEST_RUNS_MAX || m->mark_count > MANIFEST_MARKS_MAX)
        return err_set(err, ST_LIMIT, 0, "index manifest: %zu runs, %zu marks", m->run_count, m->mark_count);
    if ((b = calloc(1, total)) == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory for the index manifest");
    memcpy(b, "IDXMAN01", 8);
    store_u16le(b + 8, MANIFEST_FORMAT_VERSION);
    memcpy(b + 16, uuid, 16);
    store_u64le(b + 32, m->generation);
    store_u64le(b + 40, m->next_run_id);
    store_u32le(b + 48, (uint32_t)m->run_count);
    store_u32le(b + 52, (uint32_t)m->mark_count);
    store_u32le(b + 56, (uint32_t)body_len);
    crc = crc32c(0, b, 60);
    store_u32le(b + 60, crc);
    p = b + HEADER_LEN;
    for (size_t i = 0; i < m->run_count; i++, p += RUN_LEN) {
        const struct manifest_run *r = &m->runs[i];
        store_u64le(p, r->run_id);
        store_u64le(p + 8, r->salt);
        store_u64le(p + 16, r->tx_first);
        store_u64le(p + 24, r->tx_last);
        store_u64le(p + 32, r->file_len);
        store_u64le(p + 40, r->keys);
        store_u64le(p + 48, r->versions);
        store_u32le(p + 56, r->footer_crc);
        store_u32le(p + 60, r->scope);
        p[64] = r->depth;
    }
    for (size_t i = 0; i < m->mark_count; i++, p += MARK_LEN) {
        store_u32le(p, m->marks[i].ns);
        store_u64le(p + 8, m->marks[i].tx_id);
    }
    store_u32le(p, crc32c(crc, b + HEADER_LEN, body_len));
    *out = b;
    *len = total;
    return ST_OK;
}

static bool body_decode(const uint8_t *p, struct manifest *m)
{
    static const uint8_t zero[7];

    for (size_t i = 0; i < m->run_count; i++, p += RUN_LEN) {
        struct manifest_run *r = &m->runs[i];
        *r = (struct manifest_run){load_u64le(p),      load_u64le(p + 8),  load_u64le(p + 16), load_u64le(p + 24), load_u64le(p + 32),
                                   load_u64le(p + 40), load_u64le(p + 48), load_u32le(p + 56), load_u32le(p + 60), p[64]};
        if (r->tx_first == 0 || r->tx_first > r->tx_last || r->scope != MANIFEST_SCOPE_ALL || r->run_id >= m->next_run_id ||
            memcmp(p + 65, zero, 7) != 0 || (i > 0 && r->tx_first <= m->runs[i - 1].tx_last))
            return false;
    }
    for (size_t i = 0; i < m->mark_count; i++, p += MARK_LEN) {
        m->marks[i] = (struct manifest_mark){load_u32le(p), load_u64le(p + 8)};
        if (load_u32le(p + 4) != 0 || (i > 0 && m->marks[i].ns <= m->marks[i - 1].ns))
            return false;
    }
    return true;
}

enum status index_manifest_decode(struct bytes image, const uint8_t uuid[16], struct manifest *out, struct err *err)
{
    const uint8_t *b = image.data;
    struct manifest m = {0};
    size_t body_len;
    uint32_t crc;
    enum status st = ST_OK;

    *out = m;
    if (image.len < HEADER_LEN + 4 || memcmp(b, "IDXMAN01", 8) != 0 || (crc = load_u32le(b + 60)) != crc32c(0, b, 60) ||
        memcmp(b + 16, uuid, 16) != 0)
        return err_set(err, ST_CORRUPT, 0, "index manifest: damaged header");
    if (load_u16le(b + 8) > MANIFEST_FORMAT_VERSION || load_u32le(b + 12) != 0)
        return err_set(err, ST_UNSUPPORTED, 0, "index manifest: format %u with flags %x needs a newer release", load_u16le(b + 8),
                       load_u32le(b + 12));
    m.generation = load_u64le(b + 32);
    m.next_run_id = load_u64le(b + 40);
    m.run_count = load_u32le(b + 48);
    m.mark_count = load_u32le(b + 52);
    body_len = load_u32le(b + 56);
    if (load_u16le(b + 8) == 0 || m.run_count > MANIFEST_RUNS_MAX || m.mark_count > MANIFEST_MARKS_MAX || m.next_run_id == 0 ||
        body_len != m.run_count * RUN_LEN + m.mark_count * MARK_LEN || image.len != HEADER_LEN + body_len + 4 ||
        load_u32le(b + HEADER_LEN + body_len) != crc32c(crc, b + HEADER_LEN, body_len))
        return err_set(err, ST_CORRUPT, 0, "index manifest: damaged body");
    m.runs = calloc(m.run_count + 1, sizeof *m.runs);
    m.marks = calloc(m.mark_count + 1, sizeof *m.marks);
    if (m.runs == NULL || m.marks == NULL)
        st = err_set(err, ST_NOMEM, 0, "no memory for the index manifest");
    else if (!body_decode(b + HEADER_LEN, &m))
        st = err_set(err, ST_CORRUPT, 0, "index manifest: contradictory entries");
    if (st == ST_OK)
        *out = m;
    else
        index_manifest_free(&m);
    return st;
}

void index_manifest_free(struct manifest *m)
{
    free(m->runs);
    free(m->marks);
    *m = (struct manifest){0};
}
