/* File handles opened on first use and closed by least use, never more than handles_max. */
#include "vfs/cache_internal.h"

#include <assert.h>

enum status handles_init(struct cache_handles *h, struct vfs *v, unsigned handles_max, struct err *err)
{
    int rc;

    if ((rc = pthread_mutex_init(&h->lock, NULL)) != 0)
        return err_set(err, ST_NOMEM, rc, "lock of the file handles");
    if ((rc = pthread_cond_init(&h->freed, NULL)) != 0) {
        pthread_mutex_destroy(&h->lock);
        return err_set(err, ST_NOMEM, rc, "condition of the file handles");
    }
    h->vfs = v;
    h->handles_max = handles_max;
    return ST_OK;
}

void handles_destroy(struct cache_handles *h)
{
    assert(h->slot_count == 0 && h->newest == NULL && h->file_count == 0);
    pthread_cond_destroy(&h->freed);
    pthread_mutex_destroy(&h->lock);
}

static void list_remove(struct cache_handles *h, struct cache_file *f)
{
    if (f->newer != NULL)
        f->newer->older = f->older;
    else
        h->newest = f->older;
    if (f->older != NULL)
        f->older->newer = f->newer;
    else
        h->oldest = f->newer;
    f->newer = f->older = NULL;
}

static void list_add(struct cache_handles *h, struct cache_file *f)
{
    f->newer = NULL;
    f->older = h->newest;
    if (h->newest != NULL)
        h->newest->newer = f;
    else
        h->oldest = f;
    h->newest = f;
}

/* Under the lock. */
static void wake(struct cache_handles *h)
{
    if (h->waiting_count > 0)
        pthread_cond_broadcast(&h->freed);
}

static void slot_give(struct cache_handles *h)
{
    pthread_mutex_lock(&h->lock);
    h->slot_count--;
    wake(h);
    pthread_mutex_unlock(&h->lock);
}

/* Under the lock, which it leaves while it closes: makes the least used idle handle go, keeping its slot for the caller.
 * False when all are in use. */
static bool slot_take_over(struct cache_handles *h)
{
    struct cache_file *f = h->oldest;
    struct vfs_file *handle;

    while (f != NULL && f->user_count > 0)
        f = f->newer;
    if (f == NULL)
        return false;
    handle = f->handle;
    f->handle = NULL;
    list_remove(h, f);
    pthread_mutex_unlock(&h->lock);
    handle->ops->close(handle);
    pthread_mutex_lock(&h->lock);
    return true;
}

static struct vfs_file *use_locked(struct cache_handles *h, struct cache_file *f)
{
    if (h->newest != f) {
        list_remove(h, f);
        list_add(h, f);
    }
    f->user_count++;
    return f->handle;
}

enum status handle_acquire(struct cache_handles *h, struct cache_file *f, bool nowait, struct vfs_file **out, struct err *err)
{
    struct vfs_file *opened = NULL;
    enum status st = ST_OK;

    *out = NULL;
    pthread_mutex_lock(&h->lock);
    while (f->handle == NULL && !nowait) {
        if (h->slot_count < h->handles_max) {
            h->slot_count++;
            break;
        }
        if (slot_take_over(h)) {
            if (f->handle == NULL)
                break;
            h->slot_count--; /* somebody else opened it meanwhile */
            wake(h);
        } else {
            /* All are being read from; each read ends, so the wait does. */
            h->waiting_count++;
            pthread_cond_wait(&h->freed, &h->lock);
            h->waiting_count--;
        }
    }
    if (f->handle != NULL) {
        *out = use_locked(h, f);
        pthread_mutex_unlock(&h->lock);
        return ST_OK;
    }
    pthread_mutex_unlock(&h->lock);
    if (nowait)
        return err_set(err, ST_AGAIN, 0, "%s is not open", f->path);

    st = h->vfs->ops->open(h->vfs, f->path, VFS_READ, &opened, err);
    if (st != ST_OK) {
        slot_give(h);
        return st;
    }
    pthread_mutex_lock(&h->lock);
    h->open_count++;
    if (f->handle == NULL) {
        f->handle = opened;
        opened = NULL;
        list_add(h, f);
        wake(h); /* others may wait for this very file */
    }
    *out = use_locked(h, f);
    pthread_mutex_unlock(&h->lock);
    if (opened != NULL) { /* two opened it at once */
        opened->ops->close(opened);
        slot_give(h);
    }
    return ST_OK;
}

void handle_release(struct cache_handles *h, struct cache_file *f)
{
    pthread_mutex_lock(&h->lock);
    assert(f->user_count > 0);
    if (--f->user_count == 0)
        wake(h);
    pthread_mutex_unlock(&h->lock);
}

void handle_drop(struct cache_handles *h, struct cache_file *f)
{
    struct vfs_file *handle;

    pthread_mutex_lock(&h->lock);
    assert(f->user_count == 0);
    if ((handle = f->handle) != NULL) {
        f->handle = NULL;
        list_remove(h, f);
    }
    h->file_count--;
    pthread_mutex_unlock(&h->lock);
    if (handle != NULL) {
        handle->ops->close(handle);
        slot_give(h);
    }
}
