/* Which files make up the log: the directory, the manifest, and what to do when they disagree.
 *
 *   manifest good     it says which generation of each segment counts. A generation that it does not name is a leftover of an interrupted
 *                     truncation; a segment behind its last one is a leftover of an interrupted creation, unless frames are in it.
 *   missing, damaged  segments 1..n of the directory; of several generations the highest that is complete (footer and all frames check).
 * A file that should be there and is not, or whose header is damaged, is damage; the others stay readable. */
#include "log/log_identity.h"
#include "log/recovery.h"

#include <stdlib.h>

enum { MISSING_MAX = 4096 }; /* more missing segments than that are no log */

/* --- directory --- */

/* seg-NNNNNNNN.G exactly as segment_name() prints it. */
static bool parse_name(const char *name, struct file_name *out)
{
    unsigned long long no;
    char again[32], end;
    unsigned generation;

    if (strncmp(name, "seg-", 4) != 0 || strlen(name) >= sizeof again || sscanf(name, "seg-%8llu.%9u%c", &no, &generation, &end) != 2)
        return false;
    segment_name(again, no, generation);
    if (strcmp(again, name) != 0 || no == 0)
        return false;
    *out = (struct file_name){no, generation};
    return true;
}

static bool file_visit(void *ctx, const char *name, bool is_dir)
{
    struct file_list *f = ctx;
    struct file_name found;

    if (is_dir || !parse_name(name, &found))
        return true;
    if (f->count == f->capacity) {
        size_t capacity = f->capacity == 0 ? 64 : f->capacity * 2;
        struct file_name *grown = realloc(f->items, capacity * sizeof *grown);

        if (grown == NULL) {
            f->is_out_of_memory = true;
            return false;
        }
        f->items = grown;
        f->capacity = capacity;
    }
    f->items[f->count++] = found;
    return true;
}

static int file_order(const void *a, const void *b)
{
    const struct file_name *x = a, *y = b;

    if (x->no != y->no)
        return x->no < y->no ? -1 : 1;
    return (x->generation > y->generation) - (x->generation < y->generation);
}

static enum status files_list(struct recovery *r, struct err *err)
{
    struct vfs *v = r->l->vfs;
    enum status st = v->ops->list(v, r->l->dir, file_visit, &r->files, err);

    if (r->files.is_out_of_memory)
        return err_set(err, ST_NOMEM, 0, "no memory for the names in %s", r->l->dir);
    if (st == ST_NOT_FOUND)
        return ST_OK;
    if (st == ST_OK && r->files.count > 0)
        qsort(r->files.items, r->files.count, sizeof *r->files.items, file_order);
    return st;
}

/* The files of segment no: items[*first .. *first + return). */
static size_t files_of(const struct recovery *r, uint64_t no, size_t *first)
{
    size_t i = 0, n = 0;

    while (i < r->files.count && r->files.items[i].no < no)
        i++;
    *first = i;
    while (i + n < r->files.count && r->files.items[i + n].no == no)
        n++;
    return n;
}

/* --- headers --- */

enum header_state { HEADER_MISSING, HEADER_BAD, HEADER_GOOD };

static enum status header_read(struct recovery *r, uint64_t no, uint32_t generation, bool any_uuid, enum header_state *state,
                               struct segment_header *h, uint64_t *file_bytes, struct err *err)
{
    struct vfs *v = r->l->vfs;
    uint8_t bytes[SEGMENT_HEADER_BYTES];
    char name[32], path[PATH_BYTES_MAX];
    struct vfs_file *f = NULL;
    enum status st;

    *state = HEADER_MISSING;
    *file_bytes = 0;
    segment_name(name, no, generation);
    if ((st = vfs_path(path, err, r->l->dir, "%s", name)) != ST_OK)
        return st;
    st = v->ops->open(v, path, VFS_READ, &f, err);
    if (st == ST_NOT_FOUND)
        return ST_OK;
    if (st != ST_OK)
        return st;
    if ((st = f->ops->length(f, file_bytes, err)) != ST_OK)
        goto done;
    *state = HEADER_BAD;
    if (*file_bytes < SEGMENT_HEADER_BYTES)
        goto done;
    if ((st = f->ops->read(f, 0, bytes, sizeof bytes, err)) != ST_OK)
        goto done;
    st = segment_header_decode(bytes, h, err);
    if (st == ST_OK && h->segment_no == no && h->generation == generation && (any_uuid || memcmp(h->uuid, r->l->uuid, LOG_UUID_LEN) == 0))
        *state = HEADER_GOOD;
    if (st == ST_CORRUPT)
        st = ST_OK;
done:
    f->ops->close(f);
    return st == ST_OK ? ST_OK : err_while(err, st, "reading the header of %s", name);
}

/* --- segments --- */

static enum status segment_add(struct recovery *r, const struct manifest_entry *e, bool is_lost, struct err *err)
{
    struct segment *s = NULL;
    enum status st;

    if ((st = table_reserve(r->l, err)) != ST_OK)
        return st;
    if ((st = segment_new(r->l, e->segment_no, e->generation, e->salt, e->values_removed, &s, err)) != ST_OK)
        return st;
    if (is_lost) {
        s->state = SEGMENT_LOST;
        s->is_lost = true;
    }
    table_append(r->l, s);
    return ST_OK;
}

static struct manifest_entry entry_of(const struct segment_header *h)
{
    struct manifest_entry e = {.segment_no = h->segment_no, .generation = h->generation, .values_removed = h->values_removed};

    memcpy(e.salt, h->salt, LOG_SALT_LEN);
    return e;
}

/* Is the generation sealed, with a footer that checks and (when asked) no bad frame? */
static enum status generation_is_complete(struct recovery *r, struct manifest_entry *e, bool check_frames, bool *out, struct err *err)
{
    struct segment *s = NULL;
    struct segment_trailer t;
    enum status st;

    *out = false;
    if ((st = segment_new(r->l, e->segment_no, e->generation, e->salt, e->values_removed, &s, err)) != ST_OK)
        return st;
    if ((st = segment_read_trailer(r->l, s, true, out, &t, err)) != ST_OK)
        goto done;
    if (*out && check_frames && (st = window_file(&r->w, s->file, err)) == ST_OK) {
        uint64_t at = SEGMENT_HEADER_BYTES;

        while (st == ST_OK && *out && at < t.body_end) {
            enum frame_state state;
            struct frame_header h;

            st = frame_probe(&r->w, s->seed, at, &state, &h, err);
            *out = state == FRAME_GOOD;
            at += *out ? frame_align(h.len) : 0;
        }
    }
    if (*out) {
        e->is_sealed = true;
        e->first_tx_id = t.first_tx_id;
        e->last_tx_id = t.last_tx_id;
        e->last_batch = t.last_batch;
        e->file_bytes = t.file_bytes;
        e->chain_end = t.chain_end;
        e->end_tx_id = t.end_tx_id;
    }
done:
    segment_free(s);
    return st;
}

/* Without a manifest: the best file of segment no. *is_good false: none has a header that checks. */
static enum status entry_rebuild(struct recovery *r, uint64_t no, struct manifest_entry *e, bool *is_good, struct err *err)
{
    size_t first, n = files_of(r, no, &first);
    struct manifest_entry candidate;
    struct segment_header h;
    enum header_state state;
    uint64_t file_bytes;
    bool is_complete;
    enum status st;

    *is_good = false;
    for (size_t i = n; i-- > 0;) {
        if ((st = header_read(r, no, r->files.items[first + i].generation, false, &state, &h, &file_bytes, err)) != ST_OK)
            return st;
        if (state != HEADER_GOOD)
            continue;
        candidate = entry_of(&h);
        if ((st = generation_is_complete(r, &candidate, n > 1, &is_complete, err)) != ST_OK)
            return st;
        if (is_complete || !*is_good)
            *e = candidate;
        *is_good = true;
        if (is_complete)
            break;
    }
    return ST_OK;
}

/* A file that the manifest does not know and that holds no frame: an interrupted creation. */
static enum status is_unused(struct recovery *r, const struct manifest_entry *e, enum header_state state, uint64_t file_bytes, bool *out,
                             struct err *err)
{
    struct frame_header h;
    struct segment *s = NULL;
    uint64_t offset;
    bool found = true;
    enum status st;

    *out = file_bytes <= SEGMENT_HEADER_BYTES;
    if (*out || state != HEADER_GOOD)
        return ST_OK;
    if ((st = segment_new(r->l, e->segment_no, e->generation, e->salt, false, &s, err)) != ST_OK)
        return st;
    if ((st = window_file(&r->w, s->file, err)) == ST_OK)
        st = frame_find(&r->w, s->seed, SEGMENT_HEADER_BYTES, &found, &offset, &h, err);
    segment_free(s);
    *out = !found;
    return st;
}

static enum status take_listed(struct recovery *r, struct manifest_entry *e, struct err *err)
{
    enum header_state state;
    struct segment_header h;
    uint64_t file_bytes;
    char name[32];
    bool is_good;
    enum status st;

    segment_name(name, e->segment_no, e->generation);
    if ((st = header_read(r, e->segment_no, e->generation, false, &state, &h, &file_bytes, err)) != ST_OK)
        return st;
    if (state == HEADER_GOOD) {
        memcpy(e->salt, h.salt, LOG_SALT_LEN);
        e->values_removed = h.values_removed;
    } else if (state == HEADER_BAD) {
        r->report->end_is_lost |= !e->is_sealed;
        recovery_damage(r, "%s: damaged segment header", name);
    } else {
        /* The note of the last switch may be damaged: then the other generation is there. */
        struct manifest_entry other = {0};

        if ((st = entry_rebuild(r, e->segment_no, &other, &is_good, err)) != ST_OK)
            return st;
        if (!is_good || !other.is_sealed) {
            r->report->end_is_lost |= !e->is_sealed;
            if (e->is_sealed) /* what else was in it is told where that is known: recovery.c, pass_lost() */
                recovery_damage(r, "%s is missing (txs %llu..%llu)", name, (unsigned long long)e->first_tx_id, (unsigned long long)e->last_tx_id);
            return segment_add(r, e, true, err);
        }
        if (other.generation < e->generation)
            recovery_damage(r, "%s is missing, generation %u is used", name, other.generation);
        env_log(r->l->env, LOG_WARN, "log %s: %s is missing, generation %u is used instead", r->l->dir, name, other.generation);
        r->manifest_state = MANIFEST_DAMAGED; /* written again below */
        *e = other;
    }
    return segment_add(r, e, false, err);
}

/* Segment no of a log whose manifest does not (or no longer) name it. *is_end: there is no such segment, nor any behind it. */
static enum status take_unlisted(struct recovery *r, uint64_t no, bool is_last, bool *is_end, struct err *err)
{
    struct manifest_entry e = {.segment_no = no};
    struct segment_header h;
    enum header_state state;
    uint64_t file_bytes;
    bool is_good, unused = false;
    char name[32];
    size_t first, n = files_of(r, no, &first);
    enum status st;

    *is_end = false;
    segment_name(name, no, n == 0 ? 0 : r->files.items[first + n - 1].generation);
    if ((st = entry_rebuild(r, no, &e, &is_good, err)) != ST_OK)
        return st;
    if (is_last && n == 1) {
        e.generation = r->files.items[first].generation;
        if ((st = header_read(r, no, e.generation, false, &state, &h, &file_bytes, err)) != ST_OK)
            return st;
        /* Without a manifest a prepared segment with a good header stays. */
        if ((state != HEADER_GOOD || r->manifest_state == MANIFEST_GOOD) && (st = is_unused(r, &e, state, file_bytes, &unused, err)) != ST_OK)
            return st;
        if (unused) {
            *is_end = true;
            return ST_OK;
        }
    }
    r->report->end_is_lost |= !is_good;
    if (!is_good)
        recovery_damage(r, "%s: %s", name, n == 0 ? "segment is missing" : "damaged segment header");
    if ((st = manifest_put(&r->l->manifest, &e, err)) != ST_OK)
        return st;
    r->manifest_state = MANIFEST_DAMAGED;
    return segment_add(r, &e, !is_good, err);
}

/* Without a manifest the headers must tell the uuid, all the same one. */
static enum status uuid_from_headers(struct recovery *r, struct err *err)
{
    struct segment_header h;
    enum header_state state;
    uint64_t file_bytes;
    bool found = false;
    enum status st;

    for (size_t i = 0; i < r->files.count; i++) {
        if ((st = header_read(r, r->files.items[i].no, r->files.items[i].generation, true, &state, &h, &file_bytes, err)) != ST_OK)
            return st;
        if (state != HEADER_GOOD)
            continue;
        if (found && memcmp(h.uuid, r->l->uuid, LOG_UUID_LEN) != 0)
            return err_set(err, ST_CORRUPT, 0, "%s has no manifest and segments of different databases", r->l->dir);
        memcpy(r->l->uuid, h.uuid, LOG_UUID_LEN);
        found = true;
    }
    return found ? ST_OK : err_set(err, ST_CORRUPT, 0, "%s has neither a manifest nor a segment with a good header", r->l->dir);
}

enum status log_identity(struct vfs *v, const char *dir, uint8_t uuid[16], bool *is_found, struct err *err)
{
    struct recovery r = {.l = calloc(1, sizeof *r.l)};
    struct segment_header h;
    enum header_state state;
    uint64_t file_bytes;
    enum status st;

    *is_found = false;
    if (r.l == NULL || (r.l->dir = strdup(dir)) == NULL) {
        free(r.l);
        return err_set(err, ST_NOMEM, 0, "no memory for a log");
    }
    r.l->vfs = v;
    if ((st = manifest_load(v, dir, &r.l->manifest, &r.manifest_state, err)) != ST_OK)
        goto done;
    if (r.manifest_state == MANIFEST_GOOD) {
        memcpy(uuid, r.l->manifest.uuid, LOG_UUID_LEN);
        *is_found = true;
        goto done;
    }
    if ((st = files_list(&r, err)) != ST_OK)
        goto done;
    for (size_t i = 0; i < r.files.count && !*is_found; i++) {
        if ((st = header_read(&r, r.files.items[i].no, r.files.items[i].generation, true, &state, &h, &file_bytes, err)) != ST_OK)
            goto done;
        if ((*is_found = state == HEADER_GOOD))
            memcpy(uuid, h.uuid, LOG_UUID_LEN);
    }
done:
    free(r.files.items);
    manifest_free(&r.l->manifest);
    free(r.l->dir);
    free(r.l);
    return st;
}

/* --- creation --- */

static enum status sync_parent(struct recovery *r, struct err *err)
{
    struct vfs *v = r->l->vfs;
    char parent[PATH_BYTES_MAX];
    size_t len = strlen(r->l->dir);

    if (len >= sizeof parent)
        return err_set(err, ST_LIMIT, 0, "path too long: %.100s...", r->l->dir);
    memcpy(parent, r->l->dir, len + 1);
    while (len > 1 && parent[len - 1] == '/')
        len--;
    while (len > 0 && parent[len - 1] != '/')
        len--;
    if (len == 0)
        return v->ops->sync_dir(v, ".", err);
    parent[len > 1 ? len - 1 : 1] = '\0';
    return v->ops->sync_dir(v, parent, err);
}

static enum status log_create(struct recovery *r, struct err *err)
{
    struct log *l = r->l;
    struct end_mark end;
    enum status st;

    if (!r->o->create)
        return err_set(err, ST_NOT_FOUND, 0, "there is no log in %s", l->dir);
    if (r->o->vouched_tx_id > 0)
        return err_set(err, ST_CORRUPT, 0, "the log in %s is gone, but tx %llu is known from derived files", l->dir,
                       (unsigned long long)r->o->vouched_tx_id);
    if ((st = end_mark_load(l->vfs, l->dir, NULL, &end, &l->end.slot, err)) != ST_OK)
        return st;
    if (end.batch > 0)
        return err_set(err, ST_CORRUPT, 0, "the log in %s is gone, but log/END knows tx %llu", l->dir, (unsigned long long)end.tx_id);
    manifest_init(&l->manifest);
    env_random(l->env, l->manifest.uuid, LOG_UUID_LEN);
    memcpy(l->uuid, l->manifest.uuid, LOG_UUID_LEN);
    r->manifest_state = MANIFEST_GOOD;
    return manifest_rewrite(&l->manifest, l->vfs, l->dir, err);
}

enum status recovery_files(struct recovery *r, struct err *err)
{
    struct log *l = r->l;
    bool is_end = false;
    uint64_t last;
    enum status st;

    if (r->o->create) {
        st = l->vfs->ops->mkdir(l->vfs, l->dir, err);
        if (st != ST_OK && st != ST_EXISTS)
            return st;
        /* Also when it exists: whoever made it may have died before this. */
        if ((st = sync_parent(r, err)) != ST_OK)
            return st;
    }
    if ((st = files_list(r, err)) != ST_OK)
        return st;
    if ((st = manifest_load(l->vfs, l->dir, &l->manifest, &r->manifest_state, err)) != ST_OK)
        return st;
    if (r->manifest_state == MANIFEST_MISSING && r->files.count == 0) {
        if ((st = log_create(r, err)) != ST_OK)
            return st;
    } else if (r->manifest_state == MANIFEST_GOOD) {
        memcpy(l->uuid, l->manifest.uuid, LOG_UUID_LEN);
    } else {
        env_log(l->env, LOG_WARN, "log %s: the manifest is %s and is rebuilt from the segments", l->dir,
                r->manifest_state == MANIFEST_MISSING ? "missing" : "damaged");
        if ((st = uuid_from_headers(r, err)) != ST_OK)
            return st;
        memcpy(l->manifest.uuid, l->uuid, LOG_UUID_LEN);
    }
    l->record_seed = record_seed(l->uuid);
    for (size_t i = 0; i < l->manifest.count; i++)
        if ((st = take_listed(r, &l->manifest.entries[i], err)) != ST_OK)
            return st;
    last = r->files.count == 0 ? 0 : r->files.items[r->files.count - 1].no;
    if (last > l->manifest.count + r->files.count + MISSING_MAX)
        return err_set(err, ST_CORRUPT, 0, "%s holds segment %llu but only %zu segment files", l->dir, (unsigned long long)last, r->files.count);
    for (uint64_t no = l->manifest.count + 1; no <= last && !is_end; no++)
        if ((st = take_unlisted(r, no, no == last, &is_end, err)) != ST_OK)
            return st;
    return ST_OK;
}

enum status recovery_tidy(struct recovery *r, struct err *err)
{
    struct log *l = r->l;
    char name[32], path[PATH_BYTES_MAX];
    enum status st;

    if (r->manifest_state != MANIFEST_GOOD && (st = manifest_rewrite(&l->manifest, l->vfs, l->dir, err)) != ST_OK)
        return st;
    for (size_t i = 0; i < r->files.count; i++) {
        const struct file_name *f = &r->files.items[i];
        const struct segment *s = table_at(l, (size_t)f->no - 1);

        if (s != NULL && s->generation == f->generation)
            continue;
        segment_name(name, f->no, f->generation);
        if ((st = vfs_path(path, err, l->dir, "%s", name)) != ST_OK)
            return st;
        env_log(l->env, LOG_INFO, "log %s: %s is a leftover and is removed", l->dir, name);
        if ((st = l->vfs->ops->unlink(l->vfs, path, err)) != ST_OK && st != ST_NOT_FOUND)
            return st;
    }
    if (vfs_path(path, err, l->dir, "MANIFEST.tmp") == ST_OK)
        (void)l->vfs->ops->unlink(l->vfs, path, NULL);
    return ST_OK;
}
