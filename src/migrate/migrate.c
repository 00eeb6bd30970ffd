/* The whole copy: folder, source, systemdb first, then every database, then again what grew meanwhile; see migrate.h.
 *
 * A copy goes on after a lost connection by itself. A source that is written to meanwhile is followed in rounds, each shorter than the one before;
 * after ROUNDS_MAX of them it says where it stopped. */
#include "migrate/migrate.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "migrate/copy.h"
#include "migrate/target.h"

enum { ROUNDS_MAX = 10, HASH_TEXT_BYTES = 2 * HASH_LEN + 1, NOTE_BYTES = 256 };
static const uint64_t SILENCE_NS = 60ull * 1000000000, PAUSE_FIRST_NS = 500000000, PAUSE_MAX_NS = 30ull * 1000000000, NAP_NS = 100000000;
static const uint64_t TX_BYTES_MAX = 1ull << 30;

enum job_state { JOB_OPEN = 0, JOB_SKIPPED, JOB_FAILED };
struct job {
    char *name;
    enum job_state state;
    bool was_begun, was_copied;
    uint64_t txs, bytes, ns; /* of all rounds */
    uint64_t tx_id;          /* where the folder stands */
    hash_t alh;
};

struct run {
    const struct migrate_options *o;
    struct target *target;
    struct source *source;
    struct progress progress;
    struct job *jobs; /* systemdb first */
    size_t job_count;
    bool has_skipped;
};

static bool is_stopped(void *ctx)
{
    struct run *r = ctx;

    progress_tick(&r->progress);
    return r->o->stop != NULL && atomic_load_explicit(r->o->stop, memory_order_relaxed);
}

/* --- jobs --- */

static struct job *job_find(struct run *r, const char *name)
{
    for (size_t i = 0; i < r->job_count; i++)
        if (strcmp(r->jobs[i].name, name) == 0)
            return &r->jobs[i];
    return NULL;
}

static bool is_wanted(const struct run *r, const char *name)
{
    if (r->o->databases == NULL || strcmp(name, "systemdb") == 0)
        return true;
    for (char *const *wanted = r->o->databases; *wanted != NULL; wanted++)
        if (strcmp(*wanted, name) == 0)
            return true;
    return false;
}

static enum status job_add(struct run *r, const char *name, struct err *err)
{
    struct job *bigger = realloc(r->jobs, (r->job_count + 1) * sizeof *bigger);

    if (bigger != NULL)
        r->jobs = bigger;
    if (bigger == NULL || (bigger[r->job_count].name = strdup(name)) == NULL)
        return err_set(err, ST_NOMEM, 0, "listing databases: out of memory");
    bigger[r->job_count] = (struct job){.name = bigger[r->job_count].name};
    r->job_count++;
    return ST_OK;
}

static void job_skip(struct run *r, struct job *j, const char *why)
{
    if (j->state != JOB_OPEN)
        return;
    j->state = JOB_SKIPPED;
    r->has_skipped = true;
    progress_note(&r->progress, "warning: database '%s' is skipped: %s", j->name, why);
}

/* Brings the list of jobs up to date. */
static enum status jobs_update(struct run *r, const struct source_databases *list, struct err *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < list->count && st == ST_OK; i++) {
        const struct source_database *d = &list->items[i];
        struct job *j;

        if (!is_wanted(r, d->name))
            continue;
        if (job_find(r, d->name) == NULL && (st = job_add(r, d->name, err)) != ST_OK)
            break;
        j = job_find(r, d->name);
        if (!d->is_loaded)
            job_skip(r, j, "it is not loaded at the source (load it, then run the import again)");
    }
    return st;
}

/* Names given with --databases that the source does not have. */
static enum status wanted_check(struct run *r, struct err *err)
{
    for (char *const *wanted = r->o->databases; wanted != NULL && *wanted != NULL; wanted++)
        if (job_find(r, *wanted) == NULL)
            return err_set(err, ST_NOT_FOUND, 0, "the source has no database '%s'", *wanted);
    return ST_OK;
}

/* --- one database --- */

static bool nap(struct run *r, uint64_t ns)
{
    uint64_t end_ns = env_mono_ns(r->o->env) + ns;

    while (env_mono_ns(r->o->env) < end_ns) {
        struct timespec slice = {.tv_nsec = (long)NAP_NS};

        if (is_stopped(r))
            return false;
        nanosleep(&slice, NULL);
    }
    return !is_stopped(r);
}

/* Connections lost in a row. */
struct patience {
    unsigned failures;
    uint64_t pause_ns;
};

/* Gives the connection up and waits; false when it was tried often enough or somebody stops it, then err says so. */
static bool try_again(struct run *r, struct patience *p, const char *what, struct err *err)
{
    uint64_t pause_max_ns = r->o->pause_max_ns != 0 ? r->o->pause_max_ns : PAUSE_MAX_NS;

    source_drop(r->source);
    if (p->failures++ >= r->o->retries)
        return false;
    p->pause_ns = p->failures == 1 ? PAUSE_FIRST_NS : p->pause_ns * 2;
    if (p->pause_ns > pause_max_ns)
        p->pause_ns = pause_max_ns;
    progress_note(&r->progress, "%s: %s; trying again in %.1f s", what, err->text, (double)p->pause_ns / 1e9);
    if (nap(r, p->pause_ns))
        return true;
    err_set(err, ST_CANCELLED, 0, "stopped");
    return false;
}

/* Copies, connecting again as often as the options allow without a single new transaction. */
static enum copy_fault copy_patiently(struct run *r, struct job *j, struct store *store, struct err *err)
{
    struct patience patience = {0};
    struct copy_result result;
    enum copy_fault fault;
    char what[NOTE_BYTES];

    for (;;) {
        fault = copy_database(r->source, j->name, store, r->o->env, &r->progress, &result, err);
        j->txs += result.txs;
        j->bytes += result.bytes;
        j->ns += result.ns;
        j->tx_id = result.tx_id;
        j->alh = result.alh;
        if (fault != COPY_FAULT_SOURCE)
            return fault;
        if (result.txs > 0)
            patience.failures = 0;
        snprintf(what, sizeof what, "database '%s' stands at tx %llu", j->name, (unsigned long long)j->tx_id);
        if (!try_again(r, &patience, what, err))
            return err->status == ST_CANCELLED ? COPY_FAULT_HERE : COPY_FAULT_SOURCE;
    }
}

/* The folder was used by a server of its own: that is the most likely reason, and says what to do. */
static void explain_systemdb(const struct run *r, const struct job *j, struct err *err)
{
    struct err cause = *err;

    if (strcmp(j->name, "systemdb") == 0 && cause.status == ST_CONFLICT)
        err_set(err, ST_CONFLICT, 0,
                "folder %.80s has users and databases of its own (a server was started on it, or it came from another source): import into an "
                "empty folder",
                r->o->dir);
}

/* What is wrong with one user database does not keep the others from being copied; without systemdb nothing can be. */
static enum migrate_end job_run(struct run *r, struct job *j, struct err *err)
{
    struct database *db;
    struct store *store;
    enum copy_fault fault;
    struct err cause;

    if (target_pin(r->target, j->name, &db, &store, err) != ST_OK) {
        err_while(err, err->status, "opening database '%s' in %s", j->name, r->o->dir);
        return MIGRATE_FAILED;
    }
    j->was_begun = true;
    fault = copy_patiently(r, j, store, err);
    target_unpin(db);
    j->was_copied = j->was_copied || fault == COPY_NO_FAULT;
    if (fault == COPY_NO_FAULT)
        return MIGRATE_DONE;
    explain_systemdb(r, j, err);
    if (fault == COPY_FAULT_REFUSED && err->status == ST_NOT_FOUND && strcmp(j->name, "systemdb") != 0) {
        job_skip(r, j, err->text);
        return MIGRATE_DONE;
    }
    cause = *err;
    err_set(err, cause.status, cause.os_errno, "database '%s': %s", j->name, cause.text);
    if (fault == COPY_FAULT_HISTORY && strcmp(j->name, "systemdb") != 0) {
        j->state = JOB_FAILED;
        progress_note(&r->progress, "error: %s", err->text);
    }
    if (fault == COPY_FAULT_SOURCE)
        return MIGRATE_UNAVAILABLE;
    return fault == COPY_FAULT_HISTORY && cause.status != ST_LIMIT ? MIGRATE_DIVERGED : MIGRATE_FAILED;
}

/* --- rounds --- */

/* A later round need not ask for a database whose number of transactions the list shows to be the one already here. */
static bool is_settled(const struct job *j, const struct source_databases *list)
{
    for (size_t i = 0; j->was_copied && i < list->count; i++)
        if (strcmp(list->items[i].name, j->name) == 0)
            return list->items[i].txs != 0 && list->items[i].txs == j->tx_id;
    return false;
}

static enum migrate_end round_run(struct run *r, const struct source_databases *list, uint64_t *added, enum migrate_end *worst, struct err *err)
{
    enum migrate_end end;

    *added = 0;
    for (size_t i = 0; i < r->job_count; i++) {
        struct job *j = &r->jobs[i];
        uint64_t before = j->txs;
        struct err job_err;

        if (j->state != JOB_OPEN || is_settled(j, list))
            continue;
        end = job_run(r, j, &job_err);
        *added += j->txs - before;
        if (end != MIGRATE_DONE && *worst == MIGRATE_DONE)
            *err = job_err;
        if (end != MIGRATE_DONE && j->state != JOB_FAILED) {
            *err = job_err;
            return end;
        }
        if (end != MIGRATE_DONE)
            *worst = end;
    }
    return MIGRATE_DONE;
}

static enum migrate_end end_of(enum status st)
{
    if (st == ST_OK)
        return MIGRATE_DONE;
    if (st == ST_CLOSED || st == ST_TIMEOUT || st == ST_BUSY || st == ST_IO)
        return MIGRATE_UNAVAILABLE;
    return st == ST_CORRUPT ? MIGRATE_DIVERGED : MIGRATE_FAILED;
}

/* Which databases there are now. */
static enum status survey(struct run *r, bool is_first, struct source_databases *list, struct err *err)
{
    enum status st;

    source_databases_free(list);
    if ((st = source_select(r->source, "defaultdb", err)) != ST_OK || (is_first && (st = source_check_sysadmin(r->source, err)) != ST_OK) ||
        (st = source_list(r->source, list, err)) != ST_OK || (st = jobs_update(r, list, err)) != ST_OK)
        return st;
    return is_first ? wanted_check(r, err) : ST_OK;
}

static enum status survey_patiently(struct run *r, bool is_first, struct source_databases *list, struct err *err)
{
    struct patience patience = {0};
    enum status st;

    do {
        st = survey(r, is_first, list, err);
        if (st != ST_CLOSED && st != ST_TIMEOUT && st != ST_BUSY)
            return st;
    } while (try_again(r, &patience, "listing databases", err));
    return err->status;
}

/* Everything until nothing grows any more. */
static enum migrate_end rounds(struct run *r, struct err *err)
{
    struct source_databases list = {0};
    enum migrate_end end = MIGRATE_DONE, worst = MIGRATE_DONE;
    struct err survey_err;
    uint64_t added = 1;
    enum status st;

    for (unsigned round = 0; round < ROUNDS_MAX && added > 0; round++) {
        if ((st = survey_patiently(r, round == 0, &list, &survey_err)) != ST_OK) {
            *err = survey_err;
            end = end_of(st);
            goto done;
        }
        if ((end = round_run(r, &list, &added, &worst, err)) != MIGRATE_DONE)
            goto done;
    }
    if (added > 0)
        progress_note(&r->progress, "warning: the source is being written to all the time: run the import again for what came after the transactions "
                                    "named below");
    end = worst;
done:
    source_databases_free(&list);
    return end;
}

/* --- the end --- */

static void hash_text(const hash_t *h, char out[HASH_TEXT_BYTES])
{
    for (size_t i = 0; i < HASH_LEN; i++)
        snprintf(out + 2 * i, 3, "%02x", h->b[i]);
}

static void report(struct run *r)
{
    char hash[HASH_TEXT_BYTES], bytes[32];

    for (size_t i = 0; i < r->job_count; i++) {
        const struct job *j = &r->jobs[i];
        double seconds = (double)j->ns / 1e9;

        if (j->state == JOB_SKIPPED && !j->was_copied) {
            fprintf(r->o->report, "%s: skipped\n", j->name);
            continue;
        }
        if (!j->was_begun) {
            fprintf(r->o->report, "%s: not begun\n", j->name);
            continue;
        }
        hash_text(&j->alh, hash);
        progress_bytes(j->bytes, bytes);
        fprintf(r->o->report, "%s: %llu transactions, %s in %.1f s (%.0f tx/s); stands at tx %llu, hash %s, %s\n", j->name,
                (unsigned long long)j->txs, bytes, seconds, seconds > 0 ? (double)j->txs / seconds : 0.0, (unsigned long long)j->tx_id, hash,
                j->state == JOB_FAILED ? "FAILED"
                : j->was_copied        ? "as the source's state says"
                                       : "not complete");
    }
    fflush(r->o->report);
}

static enum status source_prepare(struct run *r, struct err *err)
{
    struct source_options o = {.host = r->o->host,
                               .port = r->o->port,
                               .tls = r->o->tls,
                               .env = r->o->env,
                               .username = r->o->username,
                               .password = r->o->password,
                               .public_key = r->o->public_key,
                               .silence_ns = r->o->silence_ns != 0 ? r->o->silence_ns : SILENCE_NS,
                               .tx_bytes_max = r->o->tx_bytes_max != 0 ? r->o->tx_bytes_max : TX_BYTES_MAX,
                               .is_stopped = is_stopped,
                               .ctx = r};

    return source_create(&o, &r->source, err);
}

enum migrate_end migrate_run(const struct migrate_options *o, struct err *err)
{
    struct run r = {.o = o};
    enum migrate_end end = MIGRATE_FAILED;
    char version[64];
    enum status st;

    progress_init(&r.progress, o->env, o->progress, o->is_quiet);
    if (source_prepare(&r, err) != ST_OK)
        goto done;
    /* The source first: no folder is made for a host that was misspelt. */
    if ((st = source_select(r.source, "defaultdb", err)) != ST_OK || (st = source_version(r.source, version, err)) != ST_OK) {
        end = end_of(st);
        goto done;
    }
    if (target_open(o->dir, o->env, &r.target, err) != ST_OK)
        goto done;
    if (!o->is_quiet)
        progress_note(&r.progress, "importing from %s port %u (immudb %s) into %s", o->host, o->port,
                      version[0] != '\0' ? version : "of unknown version", o->dir);
    end = rounds(&r, err);
    report(&r);
    if (end == MIGRATE_DONE && r.has_skipped)
        end = MIGRATE_SKIPPED;
done:
    progress_end(&r.progress);
    source_free(r.source);
    target_close(r.target);
    for (size_t i = 0; i < r.job_count; i++)
        free(r.jobs[i].name);
    free(r.jobs);
    return end;
}
