/* Any bytes as log/MANIFEST. Byte 0: bit 0 = make header and record checksums right. What is accepted is a list of segments 1..n, rewrites to a file that parses
 * to the same list, and opens as a log without any segment file (all of them missing: damaged, not shorter). */
#include <assert.h>
#include <stdlib.h>

#include "log/manifest.h"
#include "vfs/vfs_memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void fix(uint8_t *p, size_t len)
{
    uint8_t place[16];

    if (len < MANIFEST_HEADER_BYTES)
        return;
    memcpy(p, "IMMUMANI", 8);
    store_u64le(p + 8, 1);
    store_u32le(p + 60, crc32c(0, p, 60));
    for (size_t i = 0; MANIFEST_HEADER_BYTES + (i + 1) * MANIFEST_RECORD_BYTES <= len; i++) {
        uint8_t *r = p + MANIFEST_HEADER_BYTES + i * MANIFEST_RECORD_BYTES;

        memcpy(place, p + 32, 8);
        store_u64le(place + 8, i);
        store_u32le(r, crc32c(crc32c(crc32c(0, p + 16, 16), place, 16), r + 4, MANIFEST_RECORD_BYTES - 4));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct manifest m, again;
    enum manifest_state state;
    struct err err;
    struct vfs *v;
    uint8_t *p;

    if (len < 1 || (p = malloc(len)) == NULL)
        return 0;
    len--;
    memcpy(p, data + 1, len);
    if ((data[0] & 1) != 0)
        fix(p, len);
    if (manifest_parse(bytes_of(p, len), &m, &err) == ST_OK) {
        enum status st;

        for (size_t i = 0; i < m.count; i++)
            assert(m.entries[i].segment_no == i + 1);
        v = vfs_memory_create();
        if (v == NULL || v->ops->mkdir(v, "m", NULL) != ST_OK)
            abort();
        st = manifest_rewrite(&m, v, "m", &err);
        assert(st == ST_OK);
        st = manifest_load(v, "m", &again, &state, &err);
        assert(st == ST_OK && state == MANIFEST_GOOD && again.count == m.count);
        for (size_t i = 0; i < m.count; i++)
            assert(again.entries[i].generation == m.entries[i].generation && again.entries[i].is_sealed == m.entries[i].is_sealed &&
                   again.entries[i].last_tx_id == m.entries[i].last_tx_id);
        manifest_free(&again);
        vfs_memory_destroy(v);
    }
    manifest_free(&m);
    free(p);
    return 0;
}
