/* Fuzz target: any bytes as a manifest, as they are and with right checksums. What is accepted must come out the same when encoded
 * and decoded again. */
#include "base/hash.h"
#include "index/manifest.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void again(const struct manifest *m, const uint8_t uuid[16])
{
    struct manifest twin = {0};
    uint8_t *image = NULL;
    size_t len = 0;

    if (index_manifest_encode(m, uuid, &image, &len, NULL) != ST_OK)
        return;
    if (index_manifest_decode(bytes_of(image, len), uuid, &twin, NULL) != ST_OK || twin.run_count != m->run_count ||
        twin.mark_count != m->mark_count || twin.generation != m->generation || twin.next_run_id != m->next_run_id)
        abort();
    for (size_t i = 0; i < m->run_count; i++) {
        if (twin.runs[i].tx_first != m->runs[i].tx_first || twin.runs[i].tx_last != m->runs[i].tx_last || twin.runs[i].salt != m->runs[i].salt)
            abort();
    }
    index_manifest_free(&twin);
    free(image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const uint8_t uuid[16] = "fuzz";
    struct manifest m = {0};
    uint8_t *image;

    if (len > (1 << 20) || (image = malloc(len + 1)) == NULL)
        return 0;
    memcpy(image, data, len);
    if (index_manifest_decode(bytes_of(image, len), uuid, &m, NULL) == ST_OK) {
        again(&m, uuid);
        index_manifest_free(&m);
    }
    if (len >= 68) {
        uint32_t crc;
        memcpy(image, "IDXMAN01", 8);
        memcpy(image + 16, uuid, 16);
        store_u32le(image + 56, (uint32_t)len - 68);
        crc = crc32c(0, image, 60);
        store_u32le(image + 60, crc);
        store_u32le(image + len - 4, crc32c(crc, image + 64, len - 68));
        if (index_manifest_decode(bytes_of(image, len), uuid, &m, NULL) == ST_OK) {
            again(&m, uuid);
            index_manifest_free(&m);
        }
    }
    free(image);
    return 0;
}
