/* Small things made of the operations of struct vfs. */
#include "vfs/vfs.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    TREE_DEPTH_MAX = 32,  /* directories below one another that vfs_remove_tree() follows */
    TREE_NAMES_MAX = 128, /* names taken from a directory before they are removed */
};

enum status vfs_write_at(struct vfs_file *f, uint64_t offset, const void *data, size_t len, struct err *err)
{
    struct vfs_iovec part = {data, len};

    return f->ops->write(f, offset, &part, 1, err);
}

enum status vfs_read_all(struct vfs *v, const char *path, size_t bytes_max, uint8_t **out, size_t *out_len, struct err *err)
{
    struct vfs_file *f = NULL;
    uint8_t *data = NULL;
    uint64_t length;
    enum status st;

    *out = NULL;
    *out_len = 0;
    if ((st = v->ops->open(v, path, VFS_READ, &f, err)) != ST_OK)
        goto done;
    if ((st = f->ops->length(f, &length, err)) != ST_OK)
        goto done;
    if (length > bytes_max) {
        st = err_set(err, ST_LIMIT, 0, "%s has %llu bytes, at most %zu expected", path, (unsigned long long)length, bytes_max);
        goto done;
    }
    if ((data = malloc(length > 0 ? (size_t)length : 1)) == NULL) {
        st = err_set(err, ST_NOMEM, 0, "no memory for %llu bytes of %s", (unsigned long long)length, path);
        goto done;
    }
    if ((st = f->ops->read(f, 0, data, (size_t)length, err)) != ST_OK)
        goto done;
    *out = data;
    *out_len = (size_t)length;
    data = NULL;
done:
    free(data);
    if (f != NULL)
        f->ops->close(f);
    return st;
}

enum status vfs_replace(struct vfs *v, const char *dir, const char *path, const void *data, size_t len, struct err *err)
{
    struct vfs_file *f = NULL;
    char tmp[PATH_BYTES_MAX];
    enum status st;
    int printed = snprintf(tmp, sizeof tmp, "%s.tmp", path);

    if (printed < 0 || (size_t)printed >= sizeof tmp) {
        st = err_set(err, ST_LIMIT, 0, "path too long: %.100s...", path);
        goto done;
    }
    if ((st = v->ops->open(v, tmp, VFS_WRITE | VFS_CREATE | VFS_TRUNCATE, &f, err)) != ST_OK)
        goto done;
    if ((st = vfs_write_at(f, 0, data, len, err)) != ST_OK)
        goto done;
    /* The content first: a durable name must never lead to an empty file. */
    if ((st = f->ops->sync(f, err)) != ST_OK)
        goto done;
    f->ops->close(f); /* its descriptor is one that the directory may need */
    f = NULL;
    if ((st = v->ops->rename(v, tmp, path, err)) != ST_OK)
        goto done;
    /* From here on nobody can say which of the two contents a power cut leaves: nothing that may simply be tried again. */
    if ((st = v->ops->sync_dir(v, dir, err)) == ST_NOMEM || st == ST_NO_SPACE) {
        st = ST_IO;
        if (err != NULL)
            err->status = st;
    }
done:
    if (f != NULL)
        f->ops->close(f);
    return st == ST_OK ? ST_OK : err_while(err, st, "replacing %s", path);
}

enum status vfs_path(char *out, struct err *err, const char *dir, const char *fmt, ...)
{
    va_list args;
    int printed, more = -1;

    printed = snprintf(out, PATH_BYTES_MAX, "%s/", dir);
    if (printed >= 0 && printed < PATH_BYTES_MAX) {
        va_start(args, fmt);
        more = vsnprintf(out + printed, (size_t)(PATH_BYTES_MAX - printed), fmt, args);
        va_end(args);
    }
    if (more < 0 || more >= PATH_BYTES_MAX - printed) {
        out[0] = '\0';
        return err_set(err, ST_LIMIT, 0, "path too long below %.100s", dir);
    }
    return ST_OK;
}

struct names {
    char *name[TREE_NAMES_MAX];
    bool is_dir[TREE_NAMES_MAX];
    size_t count;
    bool is_out_of_memory;
};

static bool names_add(void *ctx, const char *name, bool is_dir)
{
    struct names *names = ctx;
    size_t len = strlen(name) + 1;
    char *copy = malloc(len);

    if (copy == NULL) {
        names->is_out_of_memory = true;
        return false;
    }
    memcpy(copy, name, len);
    names->name[names->count] = copy;
    names->is_dir[names->count] = is_dir;
    return ++names->count < TREE_NAMES_MAX;
}

static void names_free(struct names *names)
{
    while (names->count > 0)
        free(names->name[--names->count]);
    free(names);
}

static enum status tree_remove(struct vfs *v, const char *path, unsigned depth, struct err *err);

/* Removes up to TREE_NAMES_MAX entries of the directory; *removed says how many. */
static enum status tree_remove_some(struct vfs *v, const char *path, unsigned depth, size_t *removed, struct err *err)
{
    struct names *names = calloc(1, sizeof *names);
    char *child = malloc(PATH_BYTES_MAX);
    enum status st;

    *removed = 0;
    if (names == NULL || child == NULL) {
        st = err_set(err, ST_NOMEM, 0, "no memory for the names in %s", path);
        goto done;
    }
    if ((st = v->ops->list(v, path, names_add, names, err)) != ST_OK)
        goto done;
    if (names->is_out_of_memory) {
        st = err_set(err, ST_NOMEM, 0, "no memory for the names in %s", path);
        goto done;
    }
    for (size_t i = 0; i < names->count; i++) {
        if ((st = vfs_path(child, err, path, "%s", names->name[i])) != ST_OK)
            goto done;
        st = names->is_dir[i] ? tree_remove(v, child, depth + 1, err) : v->ops->unlink(v, child, err);
        if (st != ST_OK)
            goto done;
        ++*removed;
    }
done:
    free(child);
    if (names != NULL)
        names_free(names);
    return st;
}

static enum status tree_remove(struct vfs *v, const char *path, unsigned depth, struct err *err)
{
    enum status st;
    size_t removed;

    if (depth > TREE_DEPTH_MAX)
        return err_set(err, ST_LIMIT, 0, "%.100s lies more than %d directories deep", path, TREE_DEPTH_MAX);
    do { /* each pass removes something or ends */
        if ((st = tree_remove_some(v, path, depth, &removed, err)) != ST_OK)
            return st;
    } while (removed > 0);
    return v->ops->rmdir(v, path, err);
}

enum status vfs_remove_tree(struct vfs *v, const char *path, struct err *err)
{
    enum status st = tree_remove(v, path, 0, err);

    return st == ST_OK ? ST_OK : err_while(err, st, "removing %s", path);
}
