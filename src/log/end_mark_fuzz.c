/* Fuzz target: log/END of any bytes is a mark that its encoding gives back, or none; loading it finds one of its slots or nothing. */
#include "log/end_mark.h"
#include "vfs/vfs_memory.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    uint8_t slot[END_MARK_BYTES] = {0}, again[END_MARK_BYTES];
    struct vfs *v = vfs_memory_create();
    struct vfs_file *f = NULL;
    struct end_mark m, loaded;
    unsigned at = 0;
    enum status st;

    if (v == NULL)
        abort();
    memcpy(slot, data, len < sizeof slot ? len : sizeof slot);
    store_u32le(slot + 124, crc32c(0, slot, 124));
    if (end_mark_decode(slot, &m, NULL) == ST_OK) {
        assert(m.batch > 0);
        end_mark_encode(&m, again);
        assert(memcmp(slot + 16, again + 16, 28) == 0 && memcmp(slot + 48, again + 48, 24) == 0);
    }
    if (v->ops->open(v, "END", VFS_WRITE | VFS_CREATE, &f, NULL) != ST_OK)
        abort();
    if (len > 0 && (vfs_write_at(f, 0, data, len, NULL) != ST_OK || vfs_write_at(f, len % 5000, slot, sizeof slot, NULL) != ST_OK))
        abort();
    f->ops->close(f);
    st = end_mark_load(v, ".", NULL, &loaded, &at, NULL);
    assert((st == ST_OK || st == ST_UNSUPPORTED || st == ST_NOMEM) && at < END_MARK_SLOTS);
    vfs_memory_destroy(v);
    return 0;
}
