/* Parts of the file system in memory: file images made of shared pages, and directories as shared lists of names.
 *
 * Both are counted references that are copied when somebody writes to one that others see too; so a clone, a sync and a
 * power cut share what did not change. Counters are atomic, because clones share parts and may live on other threads;
 * everything else is guarded by the lock of the file system that owns the reference. */
#ifndef VFS_MEMORY_INTERNAL_H
#define VFS_MEMORY_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "vfs/vfs_memory.h"

enum { MEM_PAGE_BYTES = 4096, MEM_SECTOR_BYTES = 512 };
#define MEM_FILE_BYTES_MAX ((uint64_t)16 << 30)

struct mem_page {
    _Atomic unsigned refs;
    uint8_t data[MEM_PAGE_BYTES];
};

/* Content of a file. A page that is NULL or beyond page_count reads as zeros. Invariant: bytes at or beyond length are zero. */
struct mem_image {
    _Atomic unsigned refs;
    uint64_t length;
    size_t page_count;
    struct mem_page **pages;
};

struct mem_image *image_new(void);
struct mem_image *image_ref(struct mem_image *image);
void image_unref(struct mem_image *image); /* NULL allowed */
/* Makes *image the caller's own (copying the list of pages when it is shared) with room for bytes up to end. False when
 * out of memory; then *image is as before. */
bool image_own(struct mem_image **image, uint64_t end);
void image_read(const struct mem_image *image, uint64_t offset, uint8_t *out, size_t len);
/* The next four need an owned image with room; false when out of memory, then a part may have been done. */
bool image_write(struct mem_image *image, uint64_t offset, const uint8_t *data, size_t len);
bool image_zero(struct mem_image *image, uint64_t offset, uint64_t len); /* extends the length too */
bool image_truncate(struct mem_image *image, uint64_t length);
bool image_flip_bit(struct mem_image *image, uint64_t bit);
/* Lets to (owned, with room) have the pages of from that overlap the range. */
void image_share(struct mem_image *to, const struct mem_image *from, uint64_t offset, uint64_t len);

struct mem_name {
    _Atomic unsigned refs;
    size_t len;
    char text[]; /* NUL terminated */
};

struct mem_name *name_new(const char *text, size_t len);
struct mem_name *name_ref(struct mem_name *name);
void name_unref(struct mem_name *name); /* NULL allowed */

struct mem_entry {
    struct mem_name *name;
    uint32_t inode_index;
    bool is_dir;
};

/* Names of a directory, sorted. */
struct mem_names {
    _Atomic unsigned refs;
    size_t count, room;
    struct mem_entry *entries;
};

struct mem_names *names_new(void);
struct mem_names *names_ref(struct mem_names *names);
void names_unref(struct mem_names *names); /* NULL allowed */
/* Makes *names the caller's own, with room for one more entry. */
bool names_own(struct mem_names **names);
/* The entry or NULL. */
struct mem_entry *names_find(const struct mem_names *names, const char *text, size_t len);
/* The next two need an owned list; set takes a new reference of name and replaces an entry of that name. */
void names_set(struct mem_names *names, struct mem_name *name, uint32_t inode_index, bool is_dir);
void names_remove(struct mem_names *names, struct mem_entry *entry);

enum mem_change_kind { MEM_WRITE, MEM_ZERO, MEM_TRUNCATE };

/* A change of a file's content that no sync has made durable yet. Immutable. */
struct mem_change {
    _Atomic unsigned refs;
    enum mem_change_kind kind;
    uint64_t offset; /* MEM_TRUNCATE: the new length */
    uint64_t len;
    uint8_t data[]; /* MEM_WRITE */
};

void change_unref(struct mem_change *change);

struct mem_handle;
struct mem_inode {
    bool is_dir;
    /* files */
    bool is_linked;    /* some directory names it now */
    bool is_counted;   /* its length is part of fs->bytes_used: while it is linked or open */
    bool has_truncate; /* among the changes */
    unsigned open_count;
    struct mem_handle *lock_owner;
    struct mem_image *current, *durable;
    struct mem_change **changes; /* what leads from durable to current, oldest first */
    size_t change_count, change_room;
    /* directories */
    struct mem_names *names, *durable_names;
    /* marks of the collector and of sync_dir */
    bool is_marked;
    struct mem_inode *next_marked;
};

#define MEM_NO_INODE UINT32_MAX
enum { MEM_ROOT = 0 };

/* A change of names that no sync_dir has made durable yet: inode loses the name (from_dir, from) and gets (to_dir, to).
 * A create has no from, an unlink has no to (MEM_NO_INODE as directory, NULL as name). */
struct mem_name_change {
    uint32_t from_dir, to_dir, inode_index;
    bool is_dir;
    struct mem_name *from, *to;
};

struct mem_fs {
    struct vfs base;
    pthread_mutex_t lock;      /* guards everything below */
    struct mem_inode **inodes; /* NULL: free */
    uint32_t inode_count, inode_room, free_from;
    struct mem_name_change *name_changes; /* oldest first */
    size_t name_change_count, name_change_room;
    uint64_t bytes_max, bytes_used; /* 0: unlimited; sum of the lengths of counted files */
    uint64_t power_cuts;            /* a handle opened before the last one is dead */
    size_t handle_count;            /* dead ones too */
    unsigned garbage_count;         /* names removed since the last collection */
};

extern const struct vfs_ops mem_ops;
extern const struct vfs_file_ops mem_file_ops;

struct mem_handle {
    struct vfs_file base;
    struct mem_fs *fs;
    struct mem_inode *inode; /* valid while power_cuts equals that of fs */
    uint64_t power_cuts;
    bool is_writable;
    char path[];
};

enum status mem_fail(struct err *err, int os_errno, const char *what, const char *path);
struct mem_fs *mem_fs_new(void);
void mem_fs_free(struct mem_fs *fs);
/* A new inode without a name, MEM_NO_INODE when out of memory. */
uint32_t mem_inode_new(struct mem_fs *fs, bool is_dir);
void mem_inode_free(struct mem_inode *inode);
void mem_changes_clear(struct mem_inode *inode);
void mem_name_change_clear(struct mem_name_change *change);
/* Cuts the file to length or extends it; 0 or an errno. */
int mem_inode_truncate(struct mem_fs *fs, struct mem_inode *inode, uint64_t length);
/* Takes the file out of the sum of lengths when nobody names or opens it any longer. */
void mem_inode_uncount(struct mem_fs *fs, struct mem_inode *inode);
/* Frees inodes that no name, durable name, pending change or handle leads to. */
void mem_collect(struct mem_fs *fs);

#endif
