/* Folder, lock and identity; see datadir.h.
 *
 * immudb.identifier holds 12 raw bytes: time of making (4, big-endian), then random; clients see them as 20 characters of base32hex. */
#include "databases/datadir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "databases/folders.h"

enum { ID_BYTES = 12, LOCK_TEXT_MAX = 16 };

void identifier_text(const uint8_t id[12], char out[21])
{
    static const char alphabet[] = "0123456789abcdefghijklmnopqrstuv";
    uint32_t bits = 0;
    unsigned bit_count = 0;
    size_t i, at = 0;

    for (i = 0; i < ID_BYTES; i++) {
        bits = bits << 8 | id[i];
        for (bit_count += 8; bit_count >= 5; bit_count -= 5)
            out[at++] = alphabet[bits >> (bit_count - 5) & 31];
    }
    out[at++] = alphabet[bits << (5 - bit_count) & 31];
    out[at] = '\0';
}

/* One folder, and its name durable: a power cut must not take it away with everything that was acknowledged in it. */
static enum status make_folder(struct vfs *vfs, const char *path, struct err *err)
{
    char parent[PATH_BYTES_MAX];
    const char *slash = strrchr(path, '/');
    enum status st = vfs->ops->mkdir(vfs, path, err);

    if (st != ST_OK)
        return st == ST_EXISTS ? ST_OK : st;
    snprintf(parent, sizeof parent, "%.*s", slash == NULL ? 1 : slash == path ? 1 : (int)(slash - path), slash == NULL ? "." : path);
    return vfs->ops->sync_dir(vfs, parent, err);
}

/* Every folder of the path. */
static enum status make_path(struct vfs *vfs, const char *dir, struct err *err)
{
    char path[PATH_BYTES_MAX];
    size_t i, len = strlen(dir);
    enum status st;

    if (len == 0 || len >= sizeof path)
        return err_set(err, ST_INVALID, 0, "data folder: the path is empty or too long");
    memcpy(path, dir, len + 1);
    for (i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        path[i] = '\0';
        if (access(path, F_OK) != 0 && (st = make_folder(vfs, path, err)) != ST_OK)
            return err_while(err, st, "making the data folder %s", dir);
        path[i] = dir[i];
    }
    return ST_OK;
}

/* Files of the original server are of another format: say so instead of "empty". */
static enum status refuse_foreign(struct vfs *vfs, const char *dir, struct err *err)
{
    char path[PATH_BYTES_MAX], ours[PATH_BYTES_MAX];
    enum status st;

    if ((st = vfs_path(path, err, dir, "systemdb/tx")) != ST_OK || (st = vfs_path(ours, err, dir, "systemdb/log")) != ST_OK)
        return st;
    (void)vfs;
    if (access(path, F_OK) == 0 && access(ours, F_OK) != 0)
        return err_set(err, ST_UNSUPPORTED, 0,
                       "data folder %s was written by the original immudb, whose files have another format; use an empty --dir", dir);
    return ST_OK;
}

static enum status lock(struct datadir *d, struct err *err)
{
    char path[PATH_BYTES_MAX], text[LOCK_TEXT_MAX];
    enum status st;
    int len;

    if ((st = vfs_path(path, err, d->path, "immudb.lock")) != ST_OK ||
        (st = d->vfs->ops->open(d->vfs, path, VFS_WRITE | VFS_CREATE, &d->lock, err)) != ST_OK)
        return st;
    if ((st = d->lock->ops->lock(d->lock, err)) == ST_BUSY) {
        uint64_t length = 0;
        char owner[LOCK_TEXT_MAX] = "";

        if (d->lock->ops->length(d->lock, &length, NULL) != ST_OK || length == 0 || length >= sizeof owner ||
            d->lock->ops->read(d->lock, 0, owner, (size_t)length, NULL) != ST_OK)
            owner[0] = '\0';
        return err_set(err, ST_BUSY, 0, "data folder %s is in use by another immudb%s%.*s", d->path, owner[0] != '\0' ? ", process " : "",
                       (int)strspn(owner, "0123456789"), owner);
    }
    if (st != ST_OK)
        return st;
    len = snprintf(text, sizeof text, "%ld", (long)getpid());
    if ((st = d->lock->ops->truncate(d->lock, 0, err)) == ST_OK)
        st = vfs_write_at(d->lock, 0, text, (size_t)len, err);
    return st == ST_NO_SPACE ? ST_OK : st; /* the number is for people; a full disk is no reason not to serve what is there */
}

enum status datadir_open(struct vfs *vfs, const char *path, struct datadir *out, struct err *err)
{
    enum status st;

    *out = (struct datadir){.path = path, .vfs = vfs};
    if ((st = make_path(vfs, path, err)) != ST_OK || (st = refuse_foreign(vfs, path, err)) != ST_OK)
        return st;
    if (access(path, R_OK | W_OK | X_OK) != 0)
        return err_set(err, ST_IO, 0, "data folder %s: permission denied for user %ld", path, (long)geteuid());
    if ((st = lock(out, err)) != ST_OK && st != ST_BUSY)
        return err_while(err, st, "locking the data folder %s", path);
    return st;
}

/* At its place, or where older releases kept it. */
static enum status identifier_read(struct datadir *d, const char *path, struct err *err)
{
    char old[PATH_BYTES_MAX];
    uint8_t *data = NULL;
    size_t len = 0;
    enum status st;

    st = vfs_read_all(d->vfs, path, 4096, &data, &len, err);
    if (st == ST_NOT_FOUND && vfs_path(old, err, d->path, "defaultdb/immudb.identifier") == ST_OK)
        st = vfs_read_all(d->vfs, old, 4096, &data, &len, err);
    if (st == ST_OK && len != ID_BYTES)
        st = err_set(err, ST_CORRUPT, 0, "%s has %zu bytes instead of %d", path, len, ID_BYTES);
    if (st == ST_OK)
        memcpy(d->identifier, data, ID_BYTES);
    free(data);
    return st;
}

/* The first start: from here on until they are made, systemdb and defaultdb may be missing. The identifier, once it is there, says that the marks were. */
static enum status begin(struct datadir *d, const struct env *env, struct err *err)
{
    bool is_new = false;
    enum status st;

    if ((st = data_folder_is_new(d->vfs, d->path, &is_new, err)) != ST_OK)
        return st;
    if (!is_new) {
        env_log(env, LOG_WARN,
                "immudb.identifier is missing in %s, which is no new data folder: a new one is made, clients take this for another server", d->path);
        return ST_OK;
    }
    if (!folder_has_log(d->vfs, d->path, "systemdb") && (st = folder_mark(d->vfs, d->path, "systemdb", err)) != ST_OK)
        return st;
    return folder_has_log(d->vfs, d->path, "defaultdb") ? ST_OK : folder_mark(d->vfs, d->path, "defaultdb", err);
}

enum status datadir_identify(struct datadir *d, const struct env *env, struct err *err)
{
    char path[PATH_BYTES_MAX];
    enum status st;

    if ((st = vfs_path(path, err, d->path, "immudb.identifier")) != ST_OK)
        return st;
    st = identifier_read(d, path, err);
    if (st == ST_NOT_FOUND && (st = begin(d, env, err)) == ST_OK) {
        env_random(env, d->identifier, ID_BYTES);
        store_u32be(d->identifier, (uint32_t)env_wall_s(env));
        st = vfs_replace(d->vfs, d->path, path, d->identifier, ID_BYTES, err);
    }
    if (st == ST_OK)
        identifier_text(d->identifier, d->uuid);
    return st;
}

void datadir_close(struct datadir *d)
{
    if (d->lock != NULL)
        d->lock->ops->close(d->lock);
    d->lock = NULL;
}
