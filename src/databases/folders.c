/* Looks into the data folder and marks creations; see folders.h. */
#include "databases/folders.h"

#include <stdlib.h>
#include <string.h>

enum { FOLDERS_MAX = 131072 };
#define MARK_NAME "CREATING"

/* --- lists --- */

static bool folder_visit(void *ctx, const char *name, bool is_dir)
{
    struct folders *f = ctx;
    char **bigger;

    if (!is_dir)
        return true;
    if (f->count == f->room) {
        f->room = f->room == 0 ? 64 : f->room * 2;
        if (f->room > FOLDERS_MAX || (bigger = realloc(f->names, f->room * sizeof *bigger)) == NULL) {
            f->failed = true;
            return false;
        }
        f->names = bigger;
    }
    if ((f->names[f->count] = strdup(name)) == NULL) {
        f->failed = true;
        return false;
    }
    f->count++;
    return true;
}

enum status folders_list(struct vfs *vfs, const char *dir, struct folders *out, struct err *err)
{
    enum status st;

    *out = (struct folders){0};
    if ((st = vfs->ops->list(vfs, dir, folder_visit, out, err)) == ST_OK && out->failed)
        st = err_set(err, ST_NOMEM, 0, "reading the data folder: out of memory");
    if (st != ST_OK)
        folders_free(out);
    return st;
}

void folders_free(struct folders *f)
{
    for (size_t i = 0; i < f->count; i++)
        free(f->names[i]);
    free(f->names);
    *f = (struct folders){0};
}

/* --- one folder --- */

/* Its content, of which the visitor says what counts. */
struct look {
    bool any;
};

static bool is_leftover(const char *name)
{
    size_t len = strlen(name);

    return len >= 4 && strcmp(name + len - 4, ".tmp") == 0;
}

/* What a creation that was cut off leaves behind is no log; neither is log/END alone: the opening says what that means. */
static bool log_visit(void *ctx, const char *name, bool is_dir)
{
    struct look *l = ctx;

    l->any = !is_dir && strcmp(name, "END") != 0 && !is_leftover(name);
    return !l->any;
}

static bool file_visit(void *ctx, const char *name, bool is_dir)
{
    struct look *l = ctx;

    l->any = is_dir || !is_leftover(name);
    return !l->any;
}

static bool base_visit(void *ctx, const char *name, bool is_dir)
{
    struct look *l = ctx;

    l->any = is_dir ? strcmp(name, "log") != 0 : strcmp(name, MARK_NAME) != 0 && strcmp(name, "LOCK") != 0;
    return !l->any;
}

static bool trace_visit(void *ctx, const char *name, bool is_dir)
{
    struct look *l = ctx;

    l->any = is_dir ? strcmp(name, "log") == 0 || strcmp(name, "index") == 0 || strcmp(name, "tree") == 0 : strcmp(name, "LOCK") == 0;
    return !l->any;
}

static enum status look_into(struct vfs *vfs, const char *dir, const char *name, const char *sub, bool (*visit)(void *, const char *, bool),
                             bool *any)
{
    struct look l = {false};
    char path[PATH_BYTES_MAX];
    enum status st;

    if ((st = vfs_path(path, NULL, dir, "%s%s", name, sub)) == ST_OK)
        st = vfs->ops->list(vfs, path, visit, &l, NULL);
    *any = st == ST_OK && l.any;
    return st;
}

bool folder_has_log(struct vfs *vfs, const char *dir, const char *name)
{
    bool any;

    return look_into(vfs, dir, name, "/log", log_visit, &any) == ST_OK && any;
}

bool folder_has_trace(struct vfs *vfs, const char *dir, const char *name)
{
    bool any;

    return look_into(vfs, dir, name, "", trace_visit, &any) == ST_OK && any;
}

bool folder_exists(struct vfs *vfs, const char *dir, const char *name)
{
    bool any;

    return look_into(vfs, dir, name, "", base_visit, &any) != ST_NOT_FOUND;
}

bool folder_is_free(struct vfs *vfs, const char *dir, const char *name)
{
    enum status st;
    bool any;

    if ((st = look_into(vfs, dir, name, "", base_visit, &any)) == ST_NOT_FOUND)
        return true;
    if (st != ST_OK || any) /* what cannot be looked into is not free */
        return false;
    st = look_into(vfs, dir, name, "/log", file_visit, &any);
    return st == ST_NOT_FOUND || (st == ST_OK && !any);
}

/* --- marks --- */

static bool file_exists(struct vfs *vfs, const char *path)
{
    struct vfs_file *f = NULL;

    if (vfs->ops->open(vfs, path, VFS_READ, &f, NULL) != ST_OK)
        return false;
    f->ops->close(f);
    return true;
}

static enum status file_make(struct vfs *vfs, const char *dir, const char *path, struct err *err)
{
    struct vfs_file *f = NULL;
    enum status st;

    if ((st = vfs->ops->open(vfs, path, VFS_WRITE | VFS_CREATE, &f, err)) != ST_OK)
        return st;
    f->ops->close(f);
    return vfs->ops->sync_dir(vfs, dir, err);
}

static enum status file_remove(struct vfs *vfs, const char *dir, const char *path, struct err *err)
{
    enum status st = vfs->ops->unlink(vfs, path, err);

    return st == ST_OK ? vfs->ops->sync_dir(vfs, dir, err) : st == ST_NOT_FOUND ? ST_OK : st;
}

bool folder_is_marked(struct vfs *vfs, const char *dir, const char *name)
{
    char path[PATH_BYTES_MAX];

    return vfs_path(path, NULL, dir, "%s/" MARK_NAME, name) == ST_OK && file_exists(vfs, path);
}

enum status folder_mark(struct vfs *vfs, const char *dir, const char *name, struct err *err)
{
    char folder[PATH_BYTES_MAX], path[PATH_BYTES_MAX];
    enum status st;

    if ((st = vfs_path(folder, err, dir, "%s", name)) != ST_OK || (st = vfs_path(path, err, folder, MARK_NAME)) != ST_OK)
        return st;
    if ((st = vfs->ops->mkdir(vfs, folder, err)) != ST_OK && st != ST_EXISTS)
        return st;
    if ((st = file_make(vfs, folder, path, err)) != ST_OK)
        return st;
    return vfs->ops->sync_dir(vfs, dir, err);
}

enum status folder_unmark(struct vfs *vfs, const char *dir, const char *name, struct err *err)
{
    char folder[PATH_BYTES_MAX], path[PATH_BYTES_MAX];
    enum status st;

    if ((st = vfs_path(folder, err, dir, "%s", name)) != ST_OK || (st = vfs_path(path, err, folder, MARK_NAME)) != ST_OK)
        return st;
    return file_remove(vfs, folder, path, err);
}

bool absence_is_noted(struct vfs *vfs, const char *dir, const char *name)
{
    char path[PATH_BYTES_MAX];

    return vfs_path(path, NULL, dir, ABSENT_PREFIX "%s", name) == ST_OK && file_exists(vfs, path);
}

enum status absence_note(struct vfs *vfs, const char *dir, const char *name, struct err *err)
{
    char path[PATH_BYTES_MAX];
    enum status st = vfs_path(path, err, dir, ABSENT_PREFIX "%s", name);

    return st != ST_OK ? st : file_make(vfs, dir, path, err);
}

enum status absence_forget(struct vfs *vfs, const char *dir, const char *name, struct err *err)
{
    char path[PATH_BYTES_MAX];
    enum status st = vfs_path(path, err, dir, ABSENT_PREFIX "%s", name);

    return st != ST_OK ? st : file_remove(vfs, dir, path, err);
}

/* --- the data folder --- */

enum status data_folder_is_new(struct vfs *vfs, const char *dir, bool *is_new, struct err *err)
{
    static const char *const files[] = {"immudb.identifier", "databases.counts"};
    struct folders f;
    char path[PATH_BYTES_MAX];
    enum status st;

    *is_new = true;
    if ((st = folders_list(vfs, dir, &f, err)) != ST_OK)
        return st;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (vfs_path(path, NULL, dir, "%s", files[i]) == ST_OK && file_exists(vfs, path))
            *is_new = false;
    for (size_t i = 0; i < f.count && *is_new; i++)
        if (strcmp(f.names[i], "systemdb") != 0 && folder_has_trace(vfs, dir, f.names[i]))
            *is_new = folder_is_marked(vfs, dir, f.names[i]); /* a first start that was cut off */
    folders_free(&f);
    return ST_OK;
}
