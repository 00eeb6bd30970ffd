/* Proves that the file operations do what vfs.h says, with the same tests on the operating system (in a new folder below
 * $TMPDIR or /tmp) and in memory; then the helpers of vfs.c on both, with failing allocations too. */
#include "base/alloc_failing.h"
#include "base/test.h"
#include "vfs/vfs_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
    struct vfs *v;
    char dir[200];
    char path[4][300];
};

static const char *path_in(struct fixture *x, unsigned slot, const char *name)
{
    snprintf(x->path[slot], sizeof x->path[slot], "%s/%s", x->dir, name);
    return x->path[slot];
}

static struct vfs_file *open_ok(struct fixture *x, const char *name, unsigned flags)
{
    struct vfs_file *f;
    struct err err;

    if (x->v->ops->open(x->v, path_in(x, 3, name), flags, &f, &err) != ST_OK)
        fail_msg("open %s: %s", name, err.text);
    assert_non_null(f);
    return f;
}

static enum status open_status(struct fixture *x, const char *name, unsigned flags)
{
    struct vfs_file *f;
    struct err err = {0};
    enum status st = x->v->ops->open(x->v, path_in(x, 3, name), flags, &f, &err);

    if (st == ST_OK) {
        f->ops->close(f);
    } else {
        assert_null(f);
        assert_int_equal(err.status, st);
    }
    return st;
}

static void make_file(struct fixture *x, const char *name, const char *content)
{
    struct vfs_file *f = open_ok(x, name, VFS_WRITE | VFS_CREATE | VFS_TRUNCATE);

    assert_int_equal(vfs_write_at(f, 0, content, strlen(content), NULL), ST_OK);
    f->ops->close(f);
}

static void expect_file(struct fixture *x, const char *name, const char *content)
{
    uint8_t *data;
    size_t len;

    assert_int_equal(vfs_read_all(x->v, path_in(x, 3, name), 10000, &data, &len, NULL), ST_OK);
    assert_int_equal(len, strlen(content));
    assert_memory_equal(data, content, len);
    free(data);
}

static void expect_range(struct vfs_file *f, uint64_t offset, size_t len, uint8_t value)
{
    uint8_t *data = malloc(len);

    assert_non_null(data);
    assert_int_equal(f->ops->read(f, offset, data, len, NULL), ST_OK);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(data[i], value);
    free(data);
}

static uint64_t length_of(struct vfs_file *f)
{
    uint64_t length;

    assert_int_equal(f->ops->length(f, &length, NULL), ST_OK);
    return length;
}

static void read_and_write(void **state)
{
    struct fixture *x = *state;
    struct vfs_file *f = open_ok(x, "a", VFS_WRITE | VFS_CREATE);
    struct err err;
    char buf[16] = {0};

    assert_int_equal(length_of(f), 0);
    assert_int_equal(vfs_write_at(f, 5, "hello", 5, &err), ST_OK);
    assert_int_equal(length_of(f), 10);
    expect_range(f, 0, 5, 0); /* a hole */
    assert_int_equal(f->ops->read(f, 5, buf, 5, &err), ST_OK);
    assert_string_equal(buf, "hello");
    assert_int_equal(f->ops->read(f, 6, buf, 5, &err), ST_CORRUPT);
    assert_non_null(strstr(err.text, "file ends at 10"));
    assert_int_equal(f->ops->read(f, 100, buf, 1, &err), ST_CORRUPT);
    assert_int_equal(f->ops->read(f, 100, buf, 0, &err), ST_OK);
    assert_int_equal(f->ops->read_nowait(f, 6, buf, 5, &err), ST_CORRUPT);
    assert_int_equal(f->ops->read_nowait(f, 5, buf, 5, &err), ST_OK); /* just written: in memory */
    assert_string_equal(buf, "hello");
    assert_int_equal(vfs_write_at(f, 6, "", 0, &err), ST_OK);
    assert_int_equal(vfs_write_at(f, 50, NULL, 0, &err), ST_OK); /* nothing is written, nothing extended */
    assert_int_equal(length_of(f), 10);
    assert_int_equal(f->ops->sync(f, &err), ST_OK);
    assert_true(vfs_write_at(f, UINT64_MAX - 2, "hello", 5, &err) != ST_OK);
    assert_true(f->ops->read(f, UINT64_MAX - 2, buf, 5, &err) != ST_OK);
    assert_int_equal(length_of(f), 10);
    f->ops->close(f);
    f = open_ok(x, "a", VFS_READ);
    assert_int_equal(f->ops->read(f, 5, buf, 5, &err), ST_OK);
    assert_int_equal(vfs_write_at(f, 0, "x", 1, &err), ST_IO);
    assert_true(f->ops->truncate(f, 0, &err) != ST_OK);
    assert_int_equal(length_of(f), 10);
    f->ops->close(f);
}

/* Bytes dropped from the page cache: ST_AGAIN where the filesystem can tell, never a wait or a wrong answer. */
static void nowait_when_cold(void **state)
{
    struct fixture *x = *state;
    struct vfs_file *f = open_ok(x, "a", VFS_WRITE | VFS_CREATE);
    static uint8_t data[1 << 20], got[1 << 20];
    uint64_t rng = 1;
    enum status st;
    int fd;

    test_random_fill(&rng, data, sizeof data);
    assert_int_equal(vfs_write_at(f, 0, data, sizeof data, NULL), ST_OK);
    assert_int_equal(f->ops->sync(f, NULL), ST_OK);
    assert_true((fd = open(path_in(x, 0, "a"), O_RDONLY)) >= 0);
    assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    close(fd);
    st = f->ops->read_nowait(f, 0, got, sizeof got, NULL);
    print_message("reading what is not in memory: %s\n", status_name(st));
    assert_true(st == ST_OK || st == ST_AGAIN);
    assert_int_equal(f->ops->read(f, 0, got, sizeof got, NULL), ST_OK);
    memset(got, 0, sizeof got);
    assert_int_equal(f->ops->read_nowait(f, 0, got, sizeof got, NULL), ST_OK);
    assert_memory_equal(got, data, sizeof got);
    f->ops->close(f);
}

/* More parts than one system call takes, some of them empty. */
static void many_parts(void **state)
{
    enum { PARTS = 300 };
    struct fixture *x = *state;
    struct vfs_file *f = open_ok(x, "a", VFS_WRITE | VFS_CREATE);
    struct vfs_iovec parts[PARTS];
    static uint8_t data[PARTS * 40], got[PARTS * 40];
    uint64_t rng = 1;
    size_t total = 0;

    test_random_fill(&rng, data, sizeof data);
    for (size_t i = 0; i < PARTS; i++) {
        parts[i] = (struct vfs_iovec){data + total, (size_t)(test_random(&rng) % 40)};
        total += parts[i].len;
    }
    assert_int_equal(f->ops->write(f, 1000, parts, PARTS, NULL), ST_OK);
    assert_int_equal(length_of(f), 1000 + total);
    assert_int_equal(f->ops->read(f, 1000, got, total, NULL), ST_OK);
    assert_memory_equal(got, data, total);
    parts[1].len = SIZE_MAX;
    assert_true(f->ops->write(f, 0, parts, 2, NULL) != ST_OK);
    f->ops->close(f);
}

static void open_flags(void **state)
{
    struct fixture *x = *state;

    assert_int_equal(open_status(x, "a", VFS_READ), ST_NOT_FOUND);
    assert_int_equal(open_status(x, "a", VFS_WRITE), ST_NOT_FOUND);
    assert_int_equal(open_status(x, "no/a", VFS_WRITE | VFS_CREATE), ST_NOT_FOUND);
    make_file(x, "a", "hello");
    assert_int_equal(open_status(x, "a", VFS_WRITE | VFS_CREATE | VFS_EXCLUSIVE), ST_EXISTS);
    assert_int_equal(open_status(x, "a", VFS_READ | VFS_TRUNCATE), ST_INVALID);
    assert_int_equal(open_status(x, "a/b", VFS_READ), ST_IO); /* not a directory */
    expect_file(x, "a", "hello");
    assert_int_equal(open_status(x, "a", VFS_WRITE | VFS_CREATE), ST_OK);
    expect_file(x, "a", "hello");
    assert_int_equal(open_status(x, "a", VFS_WRITE | VFS_TRUNCATE), ST_OK);
    expect_file(x, "a", "");
    assert_int_equal(x->v->ops->mkdir(x->v, path_in(x, 0, "d"), NULL), ST_OK);
    assert_int_equal(open_status(x, "d", VFS_READ), ST_IO);
    assert_int_equal(open_status(x, "d", VFS_WRITE | VFS_CREATE), ST_IO);
    if (x->v == vfs_posix()) {
        struct stat info;

        assert_int_equal(stat(path_in(x, 0, "a"), &info), 0);
        assert_int_equal(info.st_mode & 0777, 0600);
        assert_int_equal(stat(path_in(x, 0, "d"), &info), 0);
        assert_int_equal(info.st_mode & 0777, 0700);
    }
}

static void truncate_forgets(void **state)
{
    struct fixture *x = *state;
    struct vfs_file *f = open_ok(x, "a", VFS_WRITE | VFS_CREATE);
    static uint8_t ones[20000];

    memset(ones, 1, sizeof ones);
    assert_int_equal(vfs_write_at(f, 0, ones, sizeof ones, NULL), ST_OK);
    assert_int_equal(f->ops->truncate(f, 5000, NULL), ST_OK);
    assert_int_equal(length_of(f), 5000);
    assert_int_equal(f->ops->truncate(f, 30000, NULL), ST_OK);
    expect_range(f, 0, 5000, 1);
    expect_range(f, 5000, 25000, 0);
    assert_int_equal(vfs_write_at(f, 40000, ones, 1, NULL), ST_OK);
    expect_range(f, 5000, 35000, 0);
    f->ops->close(f);
}

static void zero_ranges(void **state)
{
    struct fixture *x = *state;
    struct vfs_file *f = open_ok(x, "a", VFS_WRITE | VFS_CREATE);
    static uint8_t ones[10000];

    memset(ones, 1, sizeof ones);
    assert_int_equal(vfs_write_at(f, 0, ones, sizeof ones, NULL), ST_OK);
    assert_int_equal(f->ops->zero(f, 7, 4000, NULL), ST_OK);
    expect_range(f, 0, 7, 1);
    expect_range(f, 7, 4000, 0);
    expect_range(f, 4007, 5993, 1);
    assert_int_equal(f->ops->zero(f, 9999, 3 * 1048576 + 77, NULL), ST_OK); /* more than one piece, extending */
    assert_int_equal(length_of(f), 9999 + 3 * 1048576 + 77);
    expect_range(f, 9999, 3 * 1048576 + 77, 0);
    expect_range(f, 9998, 1, 1);
    assert_int_equal(f->ops->zero(f, 50, 0, NULL), ST_OK);
    assert_true(f->ops->zero(f, UINT64_MAX, 2, NULL) != ST_OK);
    assert_int_equal(f->ops->sync(f, NULL), ST_OK);
    if (x->v == vfs_posix()) { /* the blocks are there */
        struct stat info;

        assert_int_equal(stat(path_in(x, 0, "a"), &info), 0);
        assert_true(info.st_blocks * 512 >= 3 * 1048576);
    }
    f->ops->close(f);
}

static void locks(void **state)
{
    struct fixture *x = *state;
    struct vfs_file *a = open_ok(x, "lock", VFS_WRITE | VFS_CREATE), *b = open_ok(x, "lock", VFS_WRITE);
    struct err err;

    assert_int_equal(a->ops->lock(a, &err), ST_OK);
    assert_int_equal(a->ops->lock(a, &err), ST_OK); /* its own */
    assert_int_equal(b->ops->lock(b, &err), ST_BUSY);
    a->ops->close(a);
    assert_int_equal(b->ops->lock(b, &err), ST_OK);
    a = open_ok(x, "lock", VFS_WRITE);
    assert_int_equal(a->ops->lock(a, &err), ST_BUSY);
    a->ops->close(a);
    b->ops->close(b);
}

static void names(void **state)
{
    struct fixture *x = *state;
    struct vfs *v = x->v;
    struct vfs_file *old;
    char buf[3];
    struct err err;

    make_file(x, "a", "aaa");
    make_file(x, "b", "bbb");
    old = open_ok(x, "b", VFS_READ);
    assert_int_equal(v->ops->rename(v, path_in(x, 0, "a"), path_in(x, 1, "b"), &err), ST_OK);
    expect_file(x, "b", "aaa");
    assert_int_equal(open_status(x, "a", VFS_READ), ST_NOT_FOUND);
    assert_int_equal(old->ops->read(old, 0, buf, 3, NULL), ST_OK); /* what was opened stays */
    assert_memory_equal(buf, "bbb", 3);
    old->ops->close(old);
    assert_int_equal(v->ops->rename(v, path_in(x, 0, "a"), path_in(x, 1, "b"), &err), ST_NOT_FOUND);
    assert_int_equal(v->ops->rename(v, path_in(x, 0, "b"), path_in(x, 1, "no/b"), &err), ST_NOT_FOUND);
    assert_int_equal(v->ops->rename(v, path_in(x, 0, "b"), path_in(x, 1, "b"), &err), ST_OK);
    expect_file(x, "b", "aaa");
    old = open_ok(x, "b", VFS_READ);
    assert_int_equal(v->ops->unlink(v, path_in(x, 0, "b"), &err), ST_OK);
    assert_int_equal(v->ops->unlink(v, path_in(x, 0, "b"), &err), ST_NOT_FOUND);
    assert_int_equal(old->ops->read(old, 0, buf, 3, NULL), ST_OK);
    assert_memory_equal(buf, "aaa", 3);
    old->ops->close(old);
}

struct listing {
    unsigned files, dirs, calls, stop_at;
};

static bool listing_visit(void *ctx, const char *name, bool is_dir)
{
    struct listing *l = ctx;

    assert_string_not_equal(name, ".");
    assert_string_not_equal(name, "..");
    assert_true((name[0] == 'd') == is_dir);
    l->files += !is_dir;
    l->dirs += is_dir;
    return ++l->calls != l->stop_at;
}

static void directories(void **state)
{
    struct fixture *x = *state;
    struct vfs *v = x->v;
    struct listing l = {0};
    uint64_t bytes_free;
    struct err err;

    assert_int_equal(v->ops->mkdir(v, path_in(x, 0, "d1"), &err), ST_OK);
    assert_int_equal(v->ops->mkdir(v, path_in(x, 0, "d1"), &err), ST_EXISTS);
    assert_int_equal(v->ops->mkdir(v, path_in(x, 0, "no/d"), &err), ST_NOT_FOUND);
    assert_int_equal(v->ops->mkdir(v, path_in(x, 0, "d1/d2"), &err), ST_OK);
    make_file(x, "d1/f", "x");
    make_file(x, "f1", "x");
    make_file(x, "f2", "x");
    assert_int_equal(v->ops->rmdir(v, path_in(x, 0, "d1"), &err), ST_IO); /* not empty */
    assert_int_equal(v->ops->rmdir(v, path_in(x, 0, "f1"), &err), ST_IO); /* not a directory */
    assert_int_equal(v->ops->rmdir(v, path_in(x, 0, "no"), &err), ST_NOT_FOUND);
    assert_int_equal(v->ops->unlink(v, path_in(x, 0, "d1"), &err), ST_IO); /* a directory */
    assert_int_equal(v->ops->list(v, x->dir, listing_visit, &l, &err), ST_OK);
    assert_int_equal(l.files, 2);
    assert_int_equal(l.dirs, 1);
    l = (struct listing){.stop_at = 2};
    assert_int_equal(v->ops->list(v, x->dir, listing_visit, &l, &err), ST_OK);
    assert_int_equal(l.calls, 2);
    assert_int_equal(v->ops->list(v, path_in(x, 0, "no"), listing_visit, &l, &err), ST_NOT_FOUND);
    assert_int_equal(v->ops->list(v, path_in(x, 0, "f1"), listing_visit, &l, &err), ST_IO);
    assert_int_equal(v->ops->sync_dir(v, x->dir, &err), ST_OK);
    assert_int_equal(v->ops->sync_dir(v, path_in(x, 0, "no"), &err), ST_NOT_FOUND);
    assert_int_equal(v->ops->space(v, x->dir, &bytes_free, &err), ST_OK);
    assert_true(bytes_free > 0);
    assert_int_equal(v->ops->space(v, path_in(x, 0, "no"), &bytes_free, &err), ST_NOT_FOUND);
    /* A directory moves with all in it, not below itself, and onto an empty one only. */
    assert_int_equal(v->ops->rename(v, path_in(x, 0, "d1"), path_in(x, 1, "d1/d2/d3"), &err), ST_IO);
    assert_int_equal(v->ops->rename(v, path_in(x, 0, "f1"), path_in(x, 1, "d1"), &err), ST_IO);
    assert_int_equal(v->ops->rename(v, path_in(x, 0, "d1"), path_in(x, 1, "d5"), &err), ST_OK);
    expect_file(x, "d5/f", "x");
    assert_int_equal(v->ops->mkdir(v, path_in(x, 0, "d6"), &err), ST_OK);
    assert_true(v->ops->rename(v, path_in(x, 0, "d6"), path_in(x, 1, "d5"), &err) != ST_OK);
    assert_int_equal(v->ops->rename(v, path_in(x, 0, "d5"), path_in(x, 1, "d6"), &err), ST_OK);
    expect_file(x, "d6/f", "x");
    assert_int_equal(v->ops->rename(v, path_in(x, 0, "d6/f"), path_in(x, 1, "f3"), &err), ST_OK);
    expect_file(x, "f3", "x");
    assert_int_equal(v->ops->rmdir(v, path_in(x, 0, "d6/d2"), &err), ST_OK);
    assert_int_equal(v->ops->rmdir(v, path_in(x, 0, "d6"), &err), ST_OK);
}

static void helpers(void **state)
{
    struct fixture *x = *state;
    char path[PATH_BYTES_MAX], long_name[PATH_BYTES_MAX + 10];
    uint8_t *data;
    size_t len;
    struct err err;

    assert_int_equal(vfs_replace(x->v, x->dir, path_in(x, 0, "a"), "one", 3, &err), ST_OK);
    expect_file(x, "a", "one");
    make_file(x, "a.tmp", "left behind by a crash, and longer");
    assert_int_equal(vfs_replace(x->v, x->dir, path_in(x, 0, "a"), "", 0, &err), ST_OK);
    expect_file(x, "a", "");
    assert_int_equal(open_status(x, "a.tmp", VFS_READ), ST_NOT_FOUND);
    assert_int_equal(vfs_replace(x->v, x->dir, path_in(x, 0, "no/a"), "x", 1, &err), ST_NOT_FOUND);
    assert_non_null(strstr(err.text, "; while replacing"));
    make_file(x, "b", "12345");
    assert_int_equal(vfs_read_all(x->v, path_in(x, 0, "b"), 4, &data, &len, &err), ST_LIMIT);
    assert_null(data);
    assert_int_equal(vfs_read_all(x->v, path_in(x, 0, "b"), 5, &data, &len, &err), ST_OK);
    free(data);
    assert_int_equal(vfs_read_all(x->v, path_in(x, 0, "no"), 5, &data, &len, &err), ST_NOT_FOUND);
    assert_null(data);

    assert_int_equal(vfs_path(path, &err, "/dir", "seg-%06d.%s", 7, "log"), ST_OK);
    assert_string_equal(path, "/dir/seg-000007.log");
    memset(long_name, 'n', sizeof long_name);
    long_name[PATH_BYTES_MAX - 6] = '\0';
    assert_int_equal(vfs_path(path, &err, "/dir", "%s", long_name), ST_OK);
    assert_int_equal(strlen(path), PATH_BYTES_MAX - 1);
    long_name[PATH_BYTES_MAX - 6] = 'n';
    long_name[PATH_BYTES_MAX - 5] = '\0';
    assert_int_equal(vfs_path(path, &err, "/dir", "%s", long_name), ST_LIMIT);
    long_name[PATH_BYTES_MAX - 5] = 'n';
    long_name[PATH_BYTES_MAX + 5] = '\0';
    assert_int_equal(vfs_path(path, &err, long_name, "%s", "x"), ST_LIMIT);
}

static void tree_make(struct fixture *x, unsigned files)
{
    char name[200];

    assert_int_equal(x->v->ops->mkdir(x->v, path_in(x, 0, "t"), NULL), ST_OK);
    strcpy(name, "t");
    for (unsigned depth = 0; depth < 8; depth++) {
        strcat(name, "/sub");
        assert_int_equal(x->v->ops->mkdir(x->v, path_in(x, 0, name), NULL), ST_OK);
    }
    for (unsigned i = 0; i < files; i++) {
        snprintf(name, sizeof name, "t/%s%u", i % 2 == 0 ? "" : "sub/", i);
        make_file(x, name, "x");
    }
}

static void remove_tree(void **state)
{
    struct fixture *x = *state;
    char name[300];
    struct err err;

    tree_make(x, 700);
    make_file(x, "stays", "x");
    assert_int_equal(vfs_remove_tree(x->v, path_in(x, 0, "t"), &err), ST_OK);
    assert_int_equal(vfs_remove_tree(x->v, path_in(x, 0, "t"), &err), ST_NOT_FOUND);
    expect_file(x, "stays", "x");
    /* Deeper than it follows: a limit, not an overflowing stack. */
    strcpy(name, "t");
    for (unsigned depth = 0; depth < 40; depth++) {
        assert_int_equal(x->v->ops->mkdir(x->v, path_in(x, 0, name), NULL), ST_OK);
        strcat(name, "/d");
    }
    assert_int_equal(vfs_remove_tree(x->v, path_in(x, 0, "t"), &err), ST_LIMIT);
    if (x->v == vfs_posix()) { /* a link is removed, not followed */
        assert_int_equal(x->v->ops->mkdir(x->v, path_in(x, 0, "u"), NULL), ST_OK);
        assert_int_equal(symlink(x->dir, path_in(x, 1, "u/link")), 0);
        assert_int_equal(vfs_remove_tree(x->v, path_in(x, 0, "u"), &err), ST_OK);
        expect_file(x, "stays", "x");
    }
}

/* Each allocation fails once: an error or success comes back, nothing leaks, and the next try works. */
static void failing_allocations(void **state)
{
    struct fixture *x = *state;
    bool has_failed = true;

    for (long n = 1; has_failed; n++) {
        uint8_t *data = NULL;
        size_t len;
        enum status st;

        tree_make(x, 3);
        alloc_fail_arm(n, false);
        st = vfs_replace(x->v, x->dir, path_in(x, 0, "a"), "12345", 5, NULL);
        if (st == ST_OK)
            st = vfs_read_all(x->v, path_in(x, 0, "a"), 10, &data, &len, NULL);
        if (st == ST_OK)
            st = vfs_remove_tree(x->v, path_in(x, 1, "t"), NULL);
        has_failed = alloc_fail_disarm();
        assert_true(has_failed ? st == ST_NOMEM || st == ST_OK : st == ST_OK);
        free(data);
        if (st != ST_OK)
            assert_int_equal(vfs_remove_tree(x->v, path_in(x, 1, "t"), NULL), ST_OK);
        assert_true(n < 1000);
    }
}

/* No more files can be open: a status that goes by, and a file that is being replaced keeps its old content. */
static void full_table_of_files(void **state)
{
    struct fixture *x = *state;
    struct rlimit before, low;
    struct vfs_file *f = NULL;
    int fill[64], fill_count = 0, next = dup(0);
    struct err err;

    close(next);
    make_file(x, "a", "old");
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = (struct rlimit){(rlim_t)next + 1, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    while (fill_count < 64 && (fill[fill_count] = dup(0)) >= 0)
        fill_count++;
    assert_in_range(fill_count, 1, 63);
    assert_int_equal(x->v->ops->open(x->v, path_in(x, 0, "b"), VFS_WRITE | VFS_CREATE, &f, &err), ST_NOMEM);
    assert_int_equal(err.os_errno, EMFILE);
    assert_non_null(strstr(err.text, "Too many open files"));
    assert_int_equal(x->v->ops->open(x->v, path_in(x, 0, "a"), VFS_READ, &f, &err), ST_NOMEM);
    assert_int_equal(x->v->ops->sync_dir(x->v, x->dir, &err), ST_NOMEM);
    assert_int_equal(vfs_replace(x->v, x->dir, path_in(x, 0, "a"), "new", 3, &err), ST_NOMEM);
    close(fill[--fill_count]);
    expect_file(x, "a", "old");
    assert_int_equal(vfs_replace(x->v, x->dir, path_in(x, 0, "a"), "new", 3, &err), ST_OK); /* one is enough */
    expect_file(x, "a", "new");
    while (fill_count > 0)
        close(fill[--fill_count]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static int posix_setup(void **state)
{
    struct fixture *x = calloc(1, sizeof *x);
    const char *base = getenv("TMPDIR");

    assert_non_null(x);
    x->v = vfs_posix();
    snprintf(x->dir, sizeof x->dir, "%s/vfs_test.XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(x->dir));
    *state = x;
    return 0;
}

static int posix_teardown(void **state)
{
    struct fixture *x = *state;
    char command[300];

    snprintf(command, sizeof command, "rm -rf '%s'", x->dir); /* not with the function under test */
    assert_int_equal(system(command), 0);
    free(x);
    return 0;
}

static int memory_setup(void **state)
{
    struct fixture *x = calloc(1, sizeof *x);

    assert_non_null(x);
    x->v = vfs_memory_create();
    strcpy(x->dir, "/data");
    assert_non_null(x->v);
    assert_int_equal(x->v->ops->mkdir(x->v, x->dir, NULL), ST_OK);
    *state = x;
    return 0;
}

static int memory_teardown(void **state)
{
    struct fixture *x = *state;

    vfs_memory_destroy(x->v);
    free(x);
    return 0;
}

#define ON_BOTH(test) \
    {"posix: " #test, test, posix_setup, posix_teardown, NULL}, { "memory: " #test, test, memory_setup, memory_teardown, NULL }

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(read_and_write),
        ON_BOTH(many_parts),
        ON_BOTH(open_flags),
        ON_BOTH(truncate_forgets),
        ON_BOTH(zero_ranges),
        ON_BOTH(locks),
        ON_BOTH(names),
        ON_BOTH(directories),
        ON_BOTH(helpers),
        ON_BOTH(remove_tree),
        ON_BOTH(failing_allocations),
        cmocka_unit_test_setup_teardown(nowait_when_cold, posix_setup, posix_teardown),
        cmocka_unit_test_setup_teardown(full_table_of_files, posix_setup, posix_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
