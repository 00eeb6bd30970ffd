/* The two halves of the cache: blocks (cache.c) and file handles (cache_handle.c). */
#ifndef VFS_CACHE_INTERNAL_H
#define VFS_CACHE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "vfs/cache.h"

struct cache_file {
    uint64_t id;
    struct vfs_file *handle;          /* NULL while closed; handles.lock guards this and the next three */
    unsigned user_count;              /* reads going on: the handle may not be closed */
    struct cache_file *newer, *older; /* in the list of open handles */
    char path[];
};

/* Open handles by last use. slot_count counts descriptors, those being opened or closed right now too, so that they never
 * exceed handles_max: a slot is taken before open() and given back after close(). */
struct cache_handles {
    pthread_mutex_t lock; /* level 51; never held during I/O */
    pthread_cond_t freed; /* a slot or an idle handle may be there */
    struct vfs *vfs;
    struct cache_file *newest, *oldest;
    unsigned slot_count, handles_max, waiting_count;
    uint64_t open_count; /* opens since creation */
    size_t file_count;   /* registered files */
};

MUST_USE enum status handles_init(struct cache_handles *h, struct vfs *v, unsigned handles_max, struct err *err);
void handles_destroy(struct cache_handles *h);
/* The open handle of f, which stays open until handle_release(). With nowait, ST_AGAIN instead of opening it. */
MUST_USE enum status handle_acquire(struct cache_handles *h, struct cache_file *f, bool nowait, struct vfs_file **out, struct err *err);
void handle_release(struct cache_handles *h, struct cache_file *f);
/* Closes the handle if there is one; nobody may be using it. */
void handle_drop(struct cache_handles *h, struct cache_file *f);

#endif
