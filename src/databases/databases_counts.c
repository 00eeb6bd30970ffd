/* How many transactions and bytes databases have, without opening them.
 *
 * An open database is asked; what a closed one had is noted when it is closed, and kept in <dir>/databases.counts, so that a start need not open
 * thousands of databases for a list. The file is written when counts have changed, and at a clean stop:
 *
 *   immudb databases.counts 2 EPOCH      EPOCH: "clean", or the boot during which the file was written
 *   NAME TXS BYTES STAMP                 one line for each closed database (at a clean stop defaultdb is one, too); STAMP: time of the last opening,
 *                                        ns, 0 = not known
 *
 * A database that was opened after its line was written has another stamp (opening rewrites LOCK): then the line is not believed. After the crash
 * of the machine stamps may be lost, so the whole file is believed only when it is a clean stop's or of the running boot. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/logger.h"
#include "databases/databases_internal.h"

enum { COUNTS_BYTES_MAX = 64 << 20, FOLDER_DEPTH_MAX = 4, EPOCH_MAX = 64, LINE_BYTES_MAX = DATABASE_NAME_LEN_MAX + 72 };
#define HEAD "immudb databases.counts 2 "
#define CLEAN "clean"
#define COUNT_AGAIN_NS 1000000000ull

static struct vfs *vfs_of(const struct databases *d) { return d->options.runtime->vfs; }

/* --- the folder --- */

/* Sum of file lengths below a folder; files that come and go meanwhile do not matter. */
static uint64_t folder_bytes(int parent, const char *name, unsigned depth)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *e;
    struct stat info;
    uint64_t sum = 0;

    if (dir == NULL) {
        if (fd >= 0)
            close(fd);
        return 0;
    }
    while ((e = readdir(dir)) != NULL) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || fstatat(fd, e->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        if (S_ISREG(info.st_mode))
            sum += (uint64_t)info.st_size;
        else if (S_ISDIR(info.st_mode) && depth < FOLDER_DEPTH_MAX)
            sum += folder_bytes(fd, e->d_name, depth + 1);
    }
    closedir(dir);
    return sum;
}

static uint64_t folder_count(const struct database *db)
{
    char path[PATH_BYTES_MAX];

    return database_path(db->owner, "", db->name, path, NULL) == ST_OK ? folder_bytes(AT_FDCWD, path, 0) : 0;
}

/* Changes with every opening; 0: not known. */
static int64_t folder_stamp(const struct database *db)
{
    char path[PATH_BYTES_MAX];
    struct stat info;

    if (vfs_path(path, NULL, db->owner->dir, "%s/LOCK", db->name) != ST_OK || stat(path, &info) != 0)
        return 0;
    return (int64_t)info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec;
}

/* --- noting --- */

void counts_note_store(struct database *db)
{
    struct store_state state;

    store_get_state(db->store, &state);
    atomic_store_explicit(&db->txs, state.tx_id, memory_order_relaxed);
}

void counts_note_folder(struct database *db)
{
    atomic_store_explicit(&db->disk_bytes, folder_count(db), memory_order_relaxed);
    atomic_store_explicit(&db->stamp_ns, folder_stamp(db), memory_order_relaxed);
    atomic_store_explicit(&db->counts_are_hearsay, false, memory_order_relaxed);
    atomic_store_explicit(&db->has_counts, true, memory_order_release);
    atomic_store_explicit(&db->owner->counts_changed, true, memory_order_relaxed);
}

void counts_forget(struct database *db)
{
    atomic_store_explicit(&db->has_counts, false, memory_order_release);
    atomic_store_explicit(&db->bytes_counted_ns, 0, memory_order_relaxed);
}

/* --- asking --- */

/* Of a database that is not open. What comes from the file is checked at the first question. */
static bool counts_are_known(struct database *db)
{
    int64_t stamp;

    if (!atomic_load_explicit(&db->has_counts, memory_order_acquire))
        return false;
    if (!atomic_load_explicit(&db->counts_are_hearsay, memory_order_relaxed))
        return true;
    if ((stamp = folder_stamp(db)) != atomic_load_explicit(&db->stamp_ns, memory_order_relaxed)) {
        if (stamp != 0) /* without a folder they are all that is known of it */
            counts_forget(db);
        return false;
    }
    atomic_store_explicit(&db->counts_are_hearsay, false, memory_order_relaxed);
    return true;
}

/* Of an open one: looked at once a second at most, whoever asks how often. */
static uint64_t open_bytes(struct database *db)
{
    uint64_t now_ns = env_mono_ns(db->owner->options.env), counted_ns = atomic_load_explicit(&db->bytes_counted_ns, memory_order_acquire);

    if (counted_ns == 0 || now_ns - counted_ns > COUNT_AGAIN_NS) {
        atomic_store_explicit(&db->disk_bytes, folder_count(db), memory_order_relaxed);
        atomic_store_explicit(&db->bytes_counted_ns, now_ns, memory_order_release);
    }
    return atomic_load_explicit(&db->disk_bytes, memory_order_relaxed);
}

/* While pinned. */
static void counts_of_store(struct database *db, struct database_counts *out)
{
    struct store_state state;

    store_get_state(db->store, &state);
    out->txs = state.visible_tx_id;
    out->disk_bytes = open_bytes(db);
}

enum status database_counts_get(struct database *db, struct database_counts *out, struct err *err)
{
    enum status st;

    *out = (struct database_counts){.is_loaded = database_is_loaded(db)};
    if (database_pin(db, false, NULL) == ST_OK) {
        counts_of_store(db, out);
        databases_unpin(db);
        return ST_OK;
    }
    if (counts_are_known(db)) {
        out->txs = out->is_loaded ? atomic_load_explicit(&db->txs, memory_order_relaxed) : 0;
        out->disk_bytes = atomic_load_explicit(&db->disk_bytes, memory_order_relaxed);
        return ST_OK;
    }
    if (!out->is_loaded) {
        out->disk_bytes = folder_count(db);
        return ST_OK;
    }
    if ((st = database_pin(db, true, err)) != ST_OK)
        return st;
    counts_of_store(db, out);
    databases_unpin(db);
    return ST_OK;
}

uint64_t database_disk_bytes(struct database *db)
{
    struct database_counts counts;

    if (database_pin(db, false, NULL) == ST_OK) {
        counts_of_store(db, &counts);
        databases_unpin(db);
        return counts.disk_bytes;
    }
    return counts_are_known(db) ? atomic_load_explicit(&db->disk_bytes, memory_order_relaxed) : folder_count(db);
}

/* --- the file --- */

/* Of the machine's running boot; empty when that cannot be told. */
static void boot_id(char out[EPOCH_MAX])
{
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

    if (f == NULL || fscanf(f, "%63s", out) != 1)
        out[0] = '\0';
    if (f != NULL)
        fclose(f);
}

void databases_counts_save(struct databases *d, bool is_clean)
{
    size_t i, count = databases_count(d), room = (count + 1) * LINE_BYTES_MAX, len;
    char path[PATH_BYTES_MAX], epoch[EPOCH_MAX] = CLEAN, *text = malloc(room);
    struct err err;

    if (text == NULL)
        return; /* counting anew is all that is lost */
    atomic_store_explicit(&d->counts_changed, false, memory_order_relaxed);
    if (!is_clean)
        boot_id(epoch);
    len = (size_t)snprintf(text, room, HEAD "%s\n", epoch[0] != '\0' ? epoch : "-");
    for (i = 0; i < count; i++) {
        struct database *db = databases_by_number(d, (int64_t)i);

        if (!database_exists(db) || atomic_load(&db->state) == DATABASE_OPEN || !atomic_load_explicit(&db->has_counts, memory_order_acquire))
            continue;
        len += (size_t)snprintf(text + len, room - len, "%s %" PRIu64 " %" PRIu64 " %" PRId64 "\n", db->name, atomic_load(&db->txs),
                                atomic_load(&db->disk_bytes), atomic_load(&db->stamp_ns));
    }
    if (vfs_path(path, &err, d->dir, "databases.counts") != ST_OK || vfs_replace(vfs_of(d), d->dir, path, text, len, &err) != ST_OK) {
        LOG_WARN_AT(d->options.logger, "counts of databases are not kept: %s", err.text);
        (void)vfs_of(d)->ops->unlink(vfs_of(d), path, NULL); /* an older file must not be believed */
    }
    free(text);
}

void databases_counts_keep(struct databases *d)
{
    if (atomic_load_explicit(&d->counts_changed, memory_order_relaxed))
        databases_counts_save(d, false);
}

/* One line, without its end. Of one that is open it says nothing any more. */
static void line_take(struct databases *d, const char *line, bool is_clean)
{
    char name[DATABASE_NAME_LEN_MAX + 1];
    struct database *db;
    uint64_t txs, bytes;
    int64_t stamp;

    if (sscanf(line, "%128s %" SCNu64 " %" SCNu64 " %" SCNd64, name, &txs, &bytes, &stamp) != 4 || (stamp == 0 && !is_clean) ||
        (db = databases_find(d, bytes_str(name))) == NULL || atomic_load(&db->state) == DATABASE_OPEN)
        return;
    atomic_store_explicit(&db->txs, txs, memory_order_relaxed);
    atomic_store_explicit(&db->disk_bytes, bytes, memory_order_relaxed);
    atomic_store_explicit(&db->stamp_ns, stamp, memory_order_relaxed);
    atomic_store_explicit(&db->counts_are_hearsay, true, memory_order_relaxed);
    atomic_store_explicit(&db->has_counts, true, memory_order_release);
}

static void lines_take(struct databases *d, char *text, size_t len)
{
    char *line, *end, epoch[EPOCH_MAX], boot[EPOCH_MAX];
    bool is_clean = false, is_first = true;

    boot_id(boot);
    for (line = text; line < text + len; line = end + 1) {
        if ((end = memchr(line, '\n', len - (size_t)(line - text))) == NULL)
            return;
        *end = '\0';
        if (!is_first) {
            line_take(d, line, is_clean);
            continue;
        }
        is_first = false;
        if (sscanf(line, HEAD "%63s", epoch) != 1)
            return;
        is_clean = strcmp(epoch, CLEAN) == 0;
        if (!is_clean && (boot[0] == '\0' || strcmp(epoch, boot) != 0))
            return;
    }
}

static bool file_take(struct databases *d)
{
    char path[PATH_BYTES_MAX];
    uint8_t *text = NULL;
    size_t len;

    if (vfs_path(path, NULL, d->dir, "databases.counts") != ST_OK || vfs_read_all(vfs_of(d), path, COUNTS_BYTES_MAX, &text, &len, NULL) != ST_OK)
        return false;
    lines_take(d, (char *)text, len);
    free(text);
    return true;
}

bool counts_last_known(struct database *db, uint64_t *txs)
{
    /* Before the scan only the two permanent ones are listed: theirs are the only lines that find somebody. */
    if (!db->owner->was_scanned && !atomic_load_explicit(&db->has_counts, memory_order_acquire))
        (void)file_take(db->owner);
    *txs = atomic_load_explicit(&db->txs, memory_order_relaxed);
    return atomic_load_explicit(&db->has_counts, memory_order_acquire);
}

void databases_counts_load(struct databases *d)
{
    if (!file_take(d))
        return;
    /* From now on it is no clean stop's any more: on disk before anything changes. */
    databases_counts_save(d, false);
}
