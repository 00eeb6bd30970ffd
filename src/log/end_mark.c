/* log/END: layout and meaning in end_mark.h. */
#include "log/end_mark.h"

#include <stdlib.h>

static const uint8_t end_magic[8] = {'I', 'M', 'M', 'U', 'E', 'N', 'D', 'M'};
enum { END_CRC_AT = 124, END_FILE_BYTES_MAX = END_MARK_SLOT_STEP * END_MARK_SLOTS };

void end_mark_encode(const struct end_mark *m, uint8_t out[END_MARK_BYTES])
{
    memset(out, 0, END_MARK_BYTES);
    memcpy(out, end_magic, sizeof end_magic);
    store_u32le(out + 8, LOG_FORMAT_VERSION);
    memcpy(out + 16, m->uuid, LOG_UUID_LEN);
    store_u64le(out + 32, m->batch);
    store_u32le(out + 40, m->chain);
    store_u32le(out + 44, m->is_close ? END_MARK_FLAG_CLOSE : 0);
    store_u64le(out + 48, m->tx_id);
    store_u64le(out + 56, m->segment_no);
    store_u64le(out + 64, m->offset);
    store_u32le(out + END_CRC_AT, crc32c(0, out, END_CRC_AT));
}

enum status end_mark_decode(const uint8_t in[END_MARK_BYTES], struct end_mark *out, struct err *err)
{
    memset(out, 0, sizeof *out);
    if (memcmp(in, end_magic, sizeof end_magic) != 0 || load_u32le(in + END_CRC_AT) != crc32c(0, in, END_CRC_AT))
        return err_set(err, ST_CORRUPT, 0, "no mark of the log's end");
    if (load_u32le(in + 8) > LOG_FORMAT_VERSION || load_u32le(in + 12) != 0)
        return err_set(err, ST_UNSUPPORTED, 0, "log/END has format version %u with incompat flags 0x%x, the newest known version is %u",
                       load_u32le(in + 8), load_u32le(in + 12), LOG_FORMAT_VERSION);
    memcpy(out->uuid, in + 16, LOG_UUID_LEN);
    out->batch = load_u64le(in + 32);
    out->chain = load_u32le(in + 40);
    out->is_close = (load_u32le(in + 44) & END_MARK_FLAG_CLOSE) != 0;
    out->tx_id = load_u64le(in + 48);
    out->segment_no = load_u64le(in + 56);
    out->offset = load_u64le(in + 64);
    if (out->batch == 0 || out->batch == UINT64_MAX || out->tx_id >= UINT64_MAX - 1) {
        memset(out, 0, sizeof *out);
        return err_set(err, ST_CORRUPT, 0, "a mark of the log's end with fields out of range");
    }
    return ST_OK;
}

enum status end_mark_load(struct vfs *v, const char *dir, const uint8_t *uuid, struct end_mark *out, unsigned *slot, struct err *err)
{
    char path[PATH_BYTES_MAX];
    uint8_t *file = NULL;
    struct end_mark m;
    size_t len = 0;
    enum status st;

    memset(out, 0, sizeof *out);
    *slot = END_MARK_SLOTS - 1;
    if ((st = vfs_path(path, err, dir, "END")) != ST_OK)
        return st;
    st = vfs_read_all(v, path, END_FILE_BYTES_MAX, &file, &len, err);
    for (unsigned i = 0; i < END_MARK_SLOTS && st == ST_OK; i++) {
        if (len < i * END_MARK_SLOT_STEP + END_MARK_BYTES)
            break;
        st = end_mark_decode(file + i * END_MARK_SLOT_STEP, &m, err);
        if (st == ST_OK && m.batch > out->batch && (uuid == NULL || memcmp(m.uuid, uuid, LOG_UUID_LEN) == 0)) {
            *out = m;
            *slot = i;
        }
        st = st == ST_CORRUPT ? ST_OK : st;
    }
    free(file);
    /* A file that cannot be read says nothing. */
    return st == ST_NOMEM || st == ST_UNSUPPORTED ? st : ST_OK;
}

static enum status end_file_open(struct end_writer *w, struct vfs *v, const char *dir, struct err *err)
{
    char path[PATH_BYTES_MAX];
    enum status st;

    if (w->file != NULL)
        return ST_OK;
    if ((st = vfs_path(path, err, dir, "END")) != ST_OK)
        return st;
    return v->ops->open(v, path, VFS_WRITE | VFS_CREATE, &w->file, err);
}

enum status end_mark_write(struct end_writer *w, struct vfs *v, const char *dir, const struct end_mark *m, bool sync, struct err *err)
{
    unsigned slot = (w->slot + 1) % END_MARK_SLOTS;
    uint8_t bytes[END_MARK_BYTES];
    enum status st;

    if (m->batch < w->batch || (m->batch == w->batch && (w->is_durable || !sync)))
        return ST_OK;
    if ((st = end_file_open(w, v, dir, err)) != ST_OK)
        return st;
    if (m->batch > w->batch) {
        end_mark_encode(m, bytes);
        if ((st = vfs_write_at(w->file, (uint64_t)slot * END_MARK_SLOT_STEP, bytes, sizeof bytes, err)) != ST_OK)
            return st;
        w->slot = slot;
        w->batch = m->batch;
        w->is_durable = false;
    }
    if (sync && (st = w->file->ops->sync(w->file, err)) == ST_OK && (st = v->ops->sync_dir(v, dir, err)) == ST_OK)
        w->is_durable = true;
    return st;
}

void end_writer_close(struct end_writer *w)
{
    if (w->file != NULL)
        w->file->ops->close(w->file);
    w->file = NULL;
}
