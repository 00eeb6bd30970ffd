/* Opening, closing, statistics of a log. */
#include "log/log_internal.h"

#include <assert.h>
#include <stdlib.h>

static void locks_init(struct log *l)
{
    pthread_mutex_init(&l->maintain, NULL);
    pthread_mutex_init(&l->sync, NULL);
    pthread_mutex_init(&l->write, NULL);
    pthread_mutex_init(&l->prepare, NULL);
    pthread_mutex_init(&l->manifest_lock, NULL);
    pthread_mutex_init(&l->table_change, NULL);
    pthread_cond_init(&l->zero_done, NULL);
}

static void locks_destroy(struct log *l)
{
    pthread_cond_destroy(&l->zero_done);
    pthread_mutex_destroy(&l->table_change);
    pthread_mutex_destroy(&l->manifest_lock);
    pthread_mutex_destroy(&l->prepare);
    pthread_mutex_destroy(&l->write);
    pthread_mutex_destroy(&l->sync);
    pthread_mutex_destroy(&l->maintain);
}

static void log_free(struct log *l)
{
    struct segment_table *t, *older;
    struct segment *s, *next;

    if (l == NULL)
        return;
    for (size_t i = 0; i < table_count(l); i++)
        segment_free(table_at(l, i));
    for (s = l->retired; s != NULL; s = next) {
        next = s->retired_next;
        segment_free(s);
    }
    for (s = l->reaped; s != NULL; s = next) {
        next = s->retired_next;
        segment_free(s);
    }
    for (t = atomic_load(&l->table); t != NULL; t = older) {
        older = t->older;
        free(t);
    }
    manifest_free(&l->manifest);
    batch_free(l);
    end_writer_close(&l->end);
    locks_destroy(l);
    free(l->dir);
    free(l);
}

enum status log_open(const struct log_options *o, struct log **out, struct log_report *report, struct err *err)
{
    size_t dir_len = strlen(o->dir) + 1;
    struct log_report ignored;
    struct log *l = NULL;
    enum status st;

    *out = NULL;
    if (report == NULL)
        report = &ignored;
    memset(report, 0, sizeof *report);
    if ((l = calloc(1, sizeof *l)) == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory for a log");
    locks_init(l);
    l->vfs = o->vfs;
    l->cache = o->cache;
    l->budget = o->budget;
    l->env = o->env;
    l->segment_bytes_first = o->segment_bytes_first != 0 ? o->segment_bytes_first : SEGMENT_BYTES_FIRST_DEFAULT;
    l->segment_bytes_max = o->segment_bytes_max != 0 ? o->segment_bytes_max : SEGMENT_BYTES_MAX_DEFAULT;
    if (l->segment_bytes_first < SEGMENT_BYTES_MIN)
        l->segment_bytes_first = SEGMENT_BYTES_MIN;
    if (l->segment_bytes_max < l->segment_bytes_first)
        l->segment_bytes_max = l->segment_bytes_first;
    if (l->segment_bytes_max > SEGMENT_OFFSET_MAX / 2) {
        st = err_set(err, ST_INVALID, 0, "segments of %llu bytes: at most %llu", (unsigned long long)l->segment_bytes_max,
                     (unsigned long long)(SEGMENT_OFFSET_MAX / 2));
        goto done;
    }
    if ((l->dir = malloc(dir_len)) == NULL) {
        st = err_set(err, ST_NOMEM, 0, "no memory for a log");
        goto done;
    }
    memcpy(l->dir, o->dir, dir_len);
    if ((st = log_recover(l, o, report, err)) != ST_OK)
        goto done;
    *out = l;
    l = NULL;
done:
    log_free(l);
    return st == ST_OK ? ST_OK : err_while(err, st, "opening the log in %s", o->dir);
}

void log_close(struct log *l, bool clean)
{
    struct err err;

    if (l == NULL)
        return;
    if (clean && log_check_writable(l, NULL) == ST_OK)
        /* A failure here costs the next open a closer look, no more. */
        if (log_sync(l, &err) != ST_OK || log_write_close_mark(l, &err) != ST_OK)
            env_log(l->env, LOG_WARN, "log %s: closing: %s", l->dir, err.text);
    pthread_mutex_lock(&l->maintain);
    segments_reap(l);
    pthread_mutex_unlock(&l->maintain);
    log_free(l);
}

const uint8_t *log_uuid(const struct log *l) { return l->uuid; }

void log_stats(struct log *l, struct log_stats *out)
{
    memset(out, 0, sizeof *out);
    out->frames_written = atomic_load(&l->frames_written);
    out->syncs = atomic_load(&l->syncs);
    out->sync_ns_total = atomic_load(&l->sync_ns_total);
    out->sync_ns_max = atomic_load(&l->sync_ns_max);
    out->records_read = atomic_load(&l->records_read);
    pthread_mutex_lock(&l->write);
    out->segments = table_count(l);
    for (size_t i = 0; i < out->segments; i++) {
        const struct segment *s = table_at(l, i);
        uint64_t end = atomic_load(&s->end);

        if (s->is_lost)
            continue;
        out->bytes += atomic_load(&s->is_sealed) ? s->trailer.file_bytes : end > s->zeroed_upto ? end : s->zeroed_upto;
        if (s->state == SEGMENT_ACTIVE && s->zeroed_upto > end)
            out->bytes_zeroed_ahead += s->zeroed_upto - end;
        out->values_removed_segments += s->values_removed ? 1 : 0;
    }
    pthread_mutex_unlock(&l->write);
}
