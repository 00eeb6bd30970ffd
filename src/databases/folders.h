/* What lies in the data folder: databases, creations that were not finished, and what is left of databases that lost their log.
 *
 *   NAME/log           the truth of database NAME; without it there is none
 *   NAME/CREATING      NAME is being made and nobody was told that it exists: durable before NAME's record is written in systemdb, gone (durably) before
 *                      creation is acknowledged. Only where it stands an empty database may be made, later too: after a crash the creation is finished
 *   .absent-NAME       systemdb has a record of NAME, but it never was in this folder (an import that left it out)
 *   .deleted-NAME      on its way out (database_admin.c)
 *
 * So a record in systemdb without a log, without CREATING and without .absent-NAME means that NAME has lost its data. */
#ifndef DATABASES_FOLDERS_H
#define DATABASES_FOLDERS_H

#include "base/err.h"
#include "vfs/vfs.h"

#define DELETED_PREFIX ".deleted-"
#define ABSENT_PREFIX ".absent-"
#define LOST_SYSTEMDB ".lost-systemdb"

/* Names of folders, in any order. */
struct folders {
    char **names;
    size_t count, room;
    bool failed;
};
MUST_USE enum status folders_list(struct vfs *vfs, const char *dir, struct folders *out, struct err *err);
void folders_free(struct folders *f);

/* Does the folder of that name hold a log? */
bool folder_has_log(struct vfs *vfs, const char *dir, const char *name);
/* Nothing in it but what an unfinished creation leaves, or no such folder: may be made a database, may be removed. */
bool folder_is_free(struct vfs *vfs, const char *dir, const char *name);
/* Files or folders that only a database has. */
bool folder_has_trace(struct vfs *vfs, const char *dir, const char *name);
bool folder_exists(struct vfs *vfs, const char *dir, const char *name);

bool folder_is_marked(struct vfs *vfs, const char *dir, const char *name);
/* Makes the folder, if need be, with CREATING in it. Durable. */
MUST_USE enum status folder_mark(struct vfs *vfs, const char *dir, const char *name, struct err *err);
MUST_USE enum status folder_unmark(struct vfs *vfs, const char *dir, const char *name, struct err *err);

bool absence_is_noted(struct vfs *vfs, const char *dir, const char *name);
MUST_USE enum status absence_note(struct vfs *vfs, const char *dir, const char *name, struct err *err);
MUST_USE enum status absence_forget(struct vfs *vfs, const char *dir, const char *name, struct err *err);

/* No server ever got so far as to let anybody in: there is no identifier, no file of counts, and no folder with a trace of a database but systemdb. */
MUST_USE enum status data_folder_is_new(struct vfs *vfs, const char *dir, bool *is_new, struct err *err);

#endif
