/* The data folder: making it, locking it, and the identity that is kept in it. */
#ifndef DATABASES_DATADIR_H
#define DATABASES_DATADIR_H

#include "base/env.h"
#include "vfs/vfs.h"

struct datadir {
    const char *path; /* borrowed, as the next */
    struct vfs *vfs;
    struct vfs_file *lock;
    uint8_t identifier[12];
    char uuid[21]; /* of the identifier: 20 characters and NUL */
};
/* Makes the folder (0700) when missing and locks it. Clear texts for what is in the way. *out is all zero, and good for datadir_close() whatever
 * comes of it. */
MUST_USE enum status datadir_open(struct vfs *vfs, const char *path, struct datadir *out, struct err *err);
/* Reads or makes immudb.identifier. */
MUST_USE enum status datadir_identify(struct datadir *d, const struct env *env, struct err *err);
/* Unlocks it, if it was locked. */
void datadir_close(struct datadir *d);
/* Text form of an identifier: 20 characters and NUL. */
void identifier_text(const uint8_t id[12], char out[21]);

#endif
