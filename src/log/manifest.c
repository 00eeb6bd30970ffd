/* log/MANIFEST: layout and rules in manifest.h. */
#include "log/manifest.h"

#include <assert.h>
#include <stdlib.h>

static const uint8_t manifest_magic[8] = {'I', 'M', 'M', 'U', 'M', 'A', 'N', 'I'};
enum { ENTRY_VALUES_REMOVED = 1 };
enum { OUTDATED_RECORDS_MAX = 4096 }; /* beyond twice the number of entries: then the file is rewritten */

void manifest_init(struct manifest *m) { memset(m, 0, sizeof *m); }

void manifest_free(struct manifest *m)
{
    free(m->entries);
    manifest_init(m);
}

static uint32_t record_place_seed(const struct manifest *m, uint64_t index)
{
    uint8_t place[16];

    store_u64le(place, m->rewrite_no);
    store_u64le(place + 8, index);
    return crc32c(crc32c(0, m->uuid, LOG_UUID_LEN), place, sizeof place);
}

static void header_encode(const struct manifest *m, uint8_t out[MANIFEST_HEADER_BYTES])
{
    memset(out, 0, MANIFEST_HEADER_BYTES);
    memcpy(out, manifest_magic, sizeof manifest_magic);
    store_u32le(out + 8, LOG_FORMAT_VERSION);
    memcpy(out + 16, m->uuid, LOG_UUID_LEN);
    store_u64le(out + 32, m->rewrite_no);
    store_u32le(out + 60, crc32c(0, out, 60));
}

static void record_encode(const struct manifest *m, uint64_t index, enum manifest_type type, const struct manifest_entry *e,
                          uint8_t out[MANIFEST_RECORD_BYTES])
{
    memset(out, 0, MANIFEST_RECORD_BYTES);
    out[4] = (uint8_t)type;
    store_u64le(out + 8, e->segment_no);
    store_u32le(out + 16, e->generation);
    store_u32le(out + 20, e->values_removed ? ENTRY_VALUES_REMOVED : 0);
    if (type != MANIFEST_ADDED) {
        store_u64le(out + 24, e->first_tx_id);
        store_u64le(out + 32, e->last_tx_id);
        store_u64le(out + 40, e->last_batch);
        store_u64le(out + 48, e->file_bytes);
        store_u32le(out + 56, e->chain_end);
        store_u64le(out + 72, e->end_tx_id);
    }
    memcpy(out + 64, e->salt, LOG_SALT_LEN);
    store_u32le(out, crc32c(record_place_seed(m, index), out + 4, MANIFEST_RECORD_BYTES - 4));
}

static bool record_is_valid(const struct manifest *m, uint64_t index, const uint8_t *in)
{
    return load_u32le(in) == crc32c(record_place_seed(m, index), in + 4, MANIFEST_RECORD_BYTES - 4);
}

enum status manifest_put(struct manifest *m, const struct manifest_entry *e, struct err *err)
{
    assert(e->segment_no > 0 && e->segment_no <= m->count + 1);
    if (e->segment_no > m->capacity) {
        size_t capacity = m->capacity == 0 ? 16 : m->capacity * 2;
        struct manifest_entry *grown = realloc(m->entries, capacity * sizeof *grown);

        if (grown == NULL)
            return err_set(err, ST_NOMEM, 0, "no memory for the list of %zu segments", capacity);
        m->entries = grown;
        m->capacity = capacity;
    }
    m->entries[e->segment_no - 1] = *e;
    if (e->segment_no > m->count)
        m->count = (size_t)e->segment_no;
    return ST_OK;
}

/* One record whose checksum holds. */
static enum status record_apply(struct manifest *m, const uint8_t *in, struct err *err)
{
    struct manifest_entry e = {.segment_no = load_u64le(in + 8),
                               .generation = load_u32le(in + 16),
                               .is_sealed = in[4] != MANIFEST_ADDED,
                               .values_removed = (load_u32le(in + 20) & ENTRY_VALUES_REMOVED) != 0};
    bool is_new = e.segment_no == (uint64_t)m->count + 1;

    if (e.is_sealed) {
        e.first_tx_id = load_u64le(in + 24);
        e.last_tx_id = load_u64le(in + 32);
        e.last_batch = load_u64le(in + 40);
        e.file_bytes = load_u64le(in + 48);
        e.chain_end = load_u32le(in + 56);
        e.end_tx_id = load_u64le(in + 72);
    }
    memcpy(e.salt, in + 64, LOG_SALT_LEN);
    if (in[4] < MANIFEST_ADDED || in[4] > MANIFEST_SWITCHED || e.segment_no == 0 || e.segment_no > (uint64_t)m->count + 1 ||
        e.segment_no > SEGMENT_NO_MAX || is_new != (in[4] == MANIFEST_ADDED))
        return err_set(err, ST_CORRUPT, 0, "manifest holds a record out of order");
    if (e.is_sealed && (e.first_tx_id == 0 || e.last_tx_id == UINT64_MAX || e.last_tx_id + 1 < e.first_tx_id || e.end_tx_id < e.last_tx_id ||
                        e.end_tx_id == UINT64_MAX))
        return err_set(err, ST_CORRUPT, 0, "manifest holds a record with fields out of range");
    return manifest_put(m, &e, err);
}

enum status manifest_parse(struct bytes file, struct manifest *m, struct err *err)
{
    enum status st = ST_OK;
    uint64_t index, slots;
    const uint8_t *records;

    manifest_init(m);
    if (file.len < MANIFEST_HEADER_BYTES || memcmp(file.data, manifest_magic, sizeof manifest_magic) != 0 ||
        load_u32le(file.data + 60) != crc32c(0, file.data, 60))
        return err_set(err, ST_CORRUPT, 0, "manifest has a wrong header");
    if (load_u32le(file.data + 8) > LOG_FORMAT_VERSION || load_u32le(file.data + 12) != 0)
        return err_set(err, ST_UNSUPPORTED, 0, "log/MANIFEST has format version %u with incompat flags 0x%x, the newest known version is %u",
                       load_u32le(file.data + 8), load_u32le(file.data + 12), LOG_FORMAT_VERSION);
    memcpy(m->uuid, file.data + 16, LOG_UUID_LEN);
    m->rewrite_no = load_u64le(file.data + 32);
    records = file.data + MANIFEST_HEADER_BYTES;
    slots = (file.len - MANIFEST_HEADER_BYTES) / MANIFEST_RECORD_BYTES;
    for (index = 0; index < slots && record_is_valid(m, index, records + index * MANIFEST_RECORD_BYTES); index++)
        if ((st = record_apply(m, records + index * MANIFEST_RECORD_BYTES, err)) != ST_OK)
            goto done;
    m->record_count = index;
    for (index++; index < slots; index++)
        if (record_is_valid(m, index, records + index * MANIFEST_RECORD_BYTES)) {
            st = err_set(err, ST_CORRUPT, 0, "manifest has a damaged record %llu", (unsigned long long)m->record_count);
            goto done;
        }
done:
    if (st != ST_OK)
        manifest_free(m);
    return st;
}

enum status manifest_load(struct vfs *v, const char *dir, struct manifest *m, enum manifest_state *state, struct err *err)
{
    char path[PATH_BYTES_MAX];
    uint8_t *file = NULL;
    size_t len = 0;
    enum status st;

    manifest_init(m);
    *state = MANIFEST_MISSING;
    if ((st = vfs_path(path, err, dir, "MANIFEST")) != ST_OK)
        return st;
    st = vfs_read_all(v, path, MANIFEST_BYTES_MAX, &file, &len, err);
    if (st == ST_NOT_FOUND)
        return ST_OK;
    if (st == ST_OK)
        st = manifest_parse(bytes_of(file, len), m, err);
    free(file);
    if (st == ST_CORRUPT || st == ST_LIMIT) {
        *state = MANIFEST_DAMAGED;
        return ST_OK;
    }
    if (st == ST_OK)
        *state = MANIFEST_GOOD;
    return st;
}

enum status manifest_rewrite(struct manifest *m, struct vfs *v, const char *dir, struct err *err)
{
    size_t len = MANIFEST_HEADER_BYTES + m->count * 2 * MANIFEST_RECORD_BYTES;
    char path[PATH_BYTES_MAX];
    uint64_t records = 0;
    uint8_t *file = NULL;
    enum status st;

    if ((st = vfs_path(path, err, dir, "MANIFEST")) != ST_OK)
        return st;
    if ((file = malloc(len)) == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory for a manifest of %zu bytes", len);
    m->rewrite_no++;
    header_encode(m, file);
    for (size_t i = 0; i < m->count; i++) {
        const struct manifest_entry *e = &m->entries[i];

        record_encode(m, records, MANIFEST_ADDED, e, file + MANIFEST_HEADER_BYTES + records * MANIFEST_RECORD_BYTES);
        records++;
        if (e->is_sealed) {
            record_encode(m, records, MANIFEST_SEALED, e, file + MANIFEST_HEADER_BYTES + records * MANIFEST_RECORD_BYTES);
            records++;
        }
    }
    st = vfs_replace(v, dir, path, file, (size_t)(MANIFEST_HEADER_BYTES + records * MANIFEST_RECORD_BYTES), err);
    if (st == ST_OK)
        m->record_count = records;
    else
        m->rewrite_no--; /* without space the old file is still in use, and its records are seeded with its number */
    free(file);
    return st;
}

static enum status record_append(const struct manifest *m, struct vfs *v, const char *dir, const uint8_t *record, struct err *err)
{
    char path[PATH_BYTES_MAX];
    struct vfs_file *f = NULL;
    enum status st;

    if ((st = vfs_path(path, err, dir, "MANIFEST")) != ST_OK)
        goto done;
    if ((st = v->ops->open(v, path, VFS_WRITE, &f, err)) != ST_OK)
        goto done;
    if ((st = vfs_write_at(f, MANIFEST_HEADER_BYTES + m->record_count * MANIFEST_RECORD_BYTES, record, MANIFEST_RECORD_BYTES, err)) != ST_OK)
        goto done;
    st = f->ops->sync(f, err);
done:
    if (f != NULL)
        f->ops->close(f);
    return st == ST_OK ? ST_OK : err_while(err, st, "appending to log/MANIFEST");
}

enum status manifest_append(struct manifest *m, struct vfs *v, const char *dir, const struct manifest_entry *e, struct err *err)
{
    bool is_new = e->segment_no > m->count;
    enum manifest_type type = is_new ? MANIFEST_ADDED : m->entries[e->segment_no - 1].is_sealed ? MANIFEST_SWITCHED : MANIFEST_SEALED;
    struct manifest_entry before = {0};
    uint8_t record[MANIFEST_RECORD_BYTES];
    enum status st;

    if (!is_new)
        before = m->entries[e->segment_no - 1];
    if ((st = manifest_put(m, e, err)) != ST_OK)
        return st;
    if (m->record_count > m->count * 2 + OUTDATED_RECORDS_MAX) {
        st = manifest_rewrite(m, v, dir, err);
    } else {
        record_encode(m, m->record_count, type, e, record);
        st = record_append(m, v, dir, record, err);
        if (st == ST_OK)
            m->record_count++;
    }
    if (st != ST_OK) { /* the file does not say it for sure: neither do we */
        if (is_new)
            m->count--;
        else
            m->entries[e->segment_no - 1] = before;
    }
    return st;
}
