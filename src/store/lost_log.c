/* A database whose log is gone: is it new, or has it lost everything?
 *
 * The log is the first thing that a database gets, and it is durable (its manifest, its name) before tree/ and index/ are made. So where one of these
 * is, a log was there; so it was where log/END is left. Such a folder is never made a new, empty database: it is damaged, and nothing in it is
 * touched. How many transactions it had is told from what is left, for the one who reads the error:
 *   index/MANIFEST  the end of its last run      tree/band-0  256 for each page      log/END  the last one it names
 * All three are lower bounds: the newest transactions of a database are in its log alone. */
#include "store/store_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "index/manifest.h"
#include "log/end_mark.h"

enum { INDEX_UUID_AT = 16, INDEX_HEADER_BYTES = 64, TREE_PAGE_BYTES = 8720, TREE_PAGE_TXS = 256 };

static bool log_file_visit(void *ctx, const char *name, bool is_dir)
{
    if (is_dir || (strcmp(name, "MANIFEST") != 0 && strncmp(name, "seg-", 4) != 0))
        return true;
    *(bool *)ctx = true;
    return false;
}

static bool any_visit(void *ctx, const char *name, bool is_dir)
{
    (void)name;
    (void)is_dir;
    *(bool *)ctx = true;
    return false;
}

/* A folder that cannot be listed for another reason than that it is not there is an error: it must not pass for a missing one. */
static enum status look_into(struct vfs *v, const char *dir, const char *name, bool (*visit)(void *, const char *, bool), bool *exists, bool *found,
                             struct err *err)
{
    char path[PATH_BYTES_MAX];
    enum status st;

    *exists = *found = false;
    if ((st = vfs_path(path, err, dir, "%s", name)) != ST_OK)
        return st;
    if ((st = v->ops->list(v, path, visit, found, err)) == ST_NOT_FOUND)
        return ST_OK;
    *exists = st == ST_OK;
    return st;
}

/* The manifest carries the uuid that checks it: here nothing else can say which one it must be. */
static enum status index_known(struct vfs *v, const char *dir, uint64_t *known, struct err *err)
{
    struct manifest m = {0};
    char path[PATH_BYTES_MAX];
    uint8_t *image = NULL, uuid[16];
    struct err why;
    size_t len = 0;
    enum status st;

    if ((st = vfs_path(path, err, dir, "index/" MANIFEST_NAME)) != ST_OK)
        return st;
    st = vfs_read_all(v, path, MANIFEST_BYTES_MAX, &image, &len, &why);
    if (st == ST_OK && len >= INDEX_HEADER_BYTES) {
        memcpy(uuid, image + INDEX_UUID_AT, sizeof uuid);
        if ((st = index_manifest_decode(bytes_of(image, len), uuid, &m, &why)) == ST_OK && m.run_count > 0)
            *known = m.runs[m.run_count - 1].tx_last;
        if (st == ST_OK)
            index_manifest_free(&m);
    }
    free(image);
    return st == ST_NOMEM ? err_set(err, st, 0, "%s", why.text) : ST_OK;
}

static void tree_known(struct vfs *v, const char *dir, uint64_t *known)
{
    struct vfs_file *f = NULL;
    char path[PATH_BYTES_MAX];
    uint64_t len = 0;

    if (vfs_path(path, NULL, dir, "tree/band-0") != ST_OK || v->ops->open(v, path, VFS_READ, &f, NULL) != ST_OK)
        return;
    if (f->ops->length(f, &len, NULL) == ST_OK && len / TREE_PAGE_BYTES * TREE_PAGE_TXS > *known)
        *known = len / TREE_PAGE_BYTES * TREE_PAGE_TXS;
    f->ops->close(f);
}

/* The rest of a text: what is left beside the log, and what it knows. */
static enum status lost_error(const struct store *s, const char *what, bool has_index, bool has_tree, const struct end_mark *end, struct err *err)
{
    uint64_t known = 0;
    char left[48];
    enum status st;

    if ((st = index_known(s->runtime->vfs, s->dir, &known, err)) != ST_OK)
        return st;
    tree_known(s->runtime->vfs, s->dir, &known);
    if (end->tx_id > known)
        known = end->tx_id;
    snprintf(left, sizeof left, "%s%s%s%s%s", has_index ? "index/" : "", has_index && has_tree ? ", " : "", has_tree ? "tree/" : "",
             end->batch > 0 && (has_index || has_tree) ? ", " : "", end->batch > 0 ? "log/END" : "");
    if (known > 0)
        return err_set(err, ST_CORRUPT, 0, "%s; txs 1..%llu at least were acknowledged (known from %s)", what, (unsigned long long)known, left);
    return err_set(err, ST_CORRUPT, 0, "%s, but %s left: how many txs were acknowledged is not known", what,
                   has_index && has_tree ? "index/ and tree/ are"
                   : has_index           ? "index/ is"
                   : has_tree            ? "tree/ is"
                                         : "log/END is");
}

enum status lost_log_check(struct store *s, struct err *err)
{
    struct vfs *v = s->runtime->vfs;
    bool has_folder, has_log, has_index, has_tree, ignored;
    char log_dir[PATH_BYTES_MAX];
    struct end_mark end;
    unsigned slot;
    enum status st;

    if ((st = look_into(v, s->dir, "log", log_file_visit, &has_folder, &has_log, err)) != ST_OK || has_log)
        return st;
    if ((st = look_into(v, s->dir, "index", any_visit, &has_index, &ignored, err)) != ST_OK ||
        (st = look_into(v, s->dir, "tree", any_visit, &has_tree, &ignored, err)) != ST_OK || (st = vfs_path(log_dir, err, s->dir, "log")) != ST_OK ||
        (st = end_mark_load(v, log_dir, NULL, &end, &slot, err)) != ST_OK)
        return st;
    if (has_index || has_tree || end.batch > 0)
        return lost_error(s, has_folder ? "log/ is emptied" : "log/ is missing", has_index, has_tree, &end, err);
    return s->o.create ? ST_OK : err_set(err, ST_NOT_FOUND, 0, "there is no log");
}
