/* Wraps a vfs and makes chosen operations fail; counts operations that change the disk.
 *
 * "Mutating operations" are write, sync, truncate, zero, open with VFS_CREATE or VFS_TRUNCATE, rename, unlink, mkdir, rmdir,
 * sync_dir; they are numbered from 1 in the order they are begun, those that fail included. */
#ifndef VFS_FAULTY_H
#define VFS_FAULTY_H

#include "vfs/vfs.h"

enum fault_kind {
    FAULT_NONE = 0,
    FAULT_STOP,      /* that operation and all later ones (reads too) fail with ST_IO and change nothing: the machine died */
    FAULT_STOP_TORN, /* as STOP, but if that operation is a write, a part of it is done (by seed) */
    FAULT_EIO,       /* that one operation fails with ST_IO (a failed write may have been half done) */
    FAULT_EIO_READ,  /* the n-th read fails with ST_IO */
    FAULT_NO_SPACE   /* from that operation on every write, zero, create that extends fails with ST_NO_SPACE until healed */
};

struct vfs *vfs_faulty_create(struct vfs *inner); /* borrows inner */
void vfs_faulty_destroy(struct vfs *v);
/* Arms the fault at the n-th mutating (or read) operation from now on (n >= 1). */
void vfs_faulty_arm(struct vfs *v, enum fault_kind kind, uint64_t n, uint64_t seed);
void vfs_faulty_heal(struct vfs *v);
uint64_t vfs_faulty_op_count(struct vfs *v); /* mutating operations since creation */
uint64_t vfs_faulty_read_count(struct vfs *v);
bool vfs_faulty_fired(struct vfs *v);

#endif
