/* A file system in memory that knows what a power cut keeps.
 *
 * Each file has a durable image (content at the last sync) and a list of unsynced writes; each directory has a durable
 * list of names and a list of unsynced creates, renames and unlinks. vfs_memory_power_cut() builds what a disk may hold
 * after the power fails: durable state plus, chosen by seed, any subset of the unsynced changes, in any order, each
 * write possibly torn at 512-byte boundaries, and the length possibly longer than the bytes that were kept (zeros there).
 * A rename is atomic; one across two directories is durable when either is synced. Open handles become invalid for I/O
 * (ST_IO) and locks are gone; handles are still to be closed, before the vfs is destroyed. Names longer than 255 bytes and
 * ".." in a path are refused; absolute and relative paths start at the same root, which exists.
 * Content is shared copy-on-write, so clones and cuts cost little beyond what is unsynced. */
#ifndef VFS_MEMORY_H
#define VFS_MEMORY_H

#include "vfs/vfs.h"

struct vfs *vfs_memory_create(void);
void vfs_memory_destroy(struct vfs *v);

enum power_cut_mode {
    POWER_CUT_LOSE_UNSYNCED = 0, /* exactly the durable state */
    POWER_CUT_KEEP_ALL,          /* everything written so far (kill -9) */
    POWER_CUT_RANDOM             /* by seed: a subset, reordered, torn */
};
void vfs_memory_power_cut(struct vfs *v, enum power_cut_mode mode, uint64_t seed);
/* A copy of the file system as it stands (durable and unsynced parts), for cutting the same history many times. */
struct vfs *vfs_memory_clone(struct vfs *v);
/* Limits the sum of file lengths; writes beyond give ST_NO_SPACE. 0 = unlimited. */
void vfs_memory_set_capacity(struct vfs *v, uint64_t bytes_max);
/* Flips one bit of a file's durable and current content (damage tests). ST_NOT_FOUND, ST_INVALID beyond its end. */
MUST_USE enum status vfs_memory_flip_bit(struct vfs *v, const char *path, uint64_t bit, struct err *err);

#endif
