/* Events to entries of systemdb; see audit_log.h.
 *
 * The thread owns all batches but those under way: they belong to the store until their done() puts them on the finished list. */
#include "observe/audit_log.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "auth/base64.h"
#include "base/hash.h"
#include "config/logger.h"
#include "handlers/methods.h"

enum { KEY_LEN = 1 + 6 + 20 + 1 + 16, VALUE_MAX = 1 + 2400, BATCH_TEXT = 24 * 1024, STACK_BYTES = 512 * 1024, SID_MAX = 48 };
static const uint64_t RETRY_NS = 100000000, IDLE_NS = 3600ull * 1000000000, COMMIT_NS = 2ull * 1000000000, REPORT_NS = 10ull * 1000000000;

struct batch {
    struct audit_log *owner;
    struct batch *next; /* in free, failed or finished */
    size_t count;
    unsigned attempts;
    uint64_t retry_at_ns;
    struct store_result result;
    char keys[AUDIT_BATCH_EVENTS][KEY_LEN + 1];
    struct bytes values[AUDIT_BATCH_EVENTS]; /* in text */
    size_t text_len;
    char text[BATCH_TEXT];
};

struct audit_log {
    struct logger *logger;
    const struct env *env;
    struct store *systemdb;
    struct call_ring *ring;
    bool *wants; /* by position in METHODS */
    bool has_thread;
    pthread_t thread;
    _Atomic uint64_t recorded, lost, failures; /* lost: by failing transactions */
    /* the thread's own */
    struct call_event *events; /* AUDIT_BATCH_EVENTS; taken from the queue, those from event_at on still to be put into a batch */
    size_t event_at, event_count;
    struct batch *free, *failed;
    size_t made, under_way;
    uint64_t number, reported, reported_at_ns;
    pthread_mutex_t lock; /* leaf; guards finished */
    pthread_cond_t wake;
    struct batch *finished;
};

/* --- what kind of call --- */

static const struct {
    const char *name; /* of the method; capitals do not matter: streamSet, StreamSet */
    enum audit_type type;
} TYPES[] = {
    {"Login", AUDIT_AUTH},
    {"Logout", AUDIT_AUTH},
    {"OpenSession", AUDIT_AUTH},
    {"CloseSession", AUDIT_AUTH},
    {"ListUsers", AUDIT_ADMIN},
    {"CreateUser", AUDIT_ADMIN},
    {"ChangePassword", AUDIT_ADMIN},
    {"ChangePermission", AUDIT_ADMIN},
    {"ChangeSQLPrivileges", AUDIT_ADMIN},
    {"SetActiveUser", AUDIT_ADMIN},
    {"UpdateAuthConfig", AUDIT_ADMIN},
    {"UpdateMTLSConfig", AUDIT_ADMIN},
    {"CreateDatabase", AUDIT_ADMIN},
    {"CreateDatabaseWith", AUDIT_ADMIN},
    {"CreateDatabaseV2", AUDIT_ADMIN},
    {"UpdateDatabase", AUDIT_ADMIN},
    {"UpdateDatabaseV2", AUDIT_ADMIN},
    {"LoadDatabase", AUDIT_ADMIN},
    {"UnloadDatabase", AUDIT_ADMIN},
    {"DeleteDatabase", AUDIT_ADMIN},
    {"Set", AUDIT_WRITE},
    {"VerifiableSet", AUDIT_WRITE},
    {"streamSet", AUDIT_WRITE},
    {"streamVerifiableSet", AUDIT_WRITE},
    {"Delete", AUDIT_WRITE},
    {"ExecAll", AUDIT_WRITE},
    {"streamExecAll", AUDIT_WRITE},
    {"SetReference", AUDIT_WRITE},
    {"VerifiableSetReference", AUDIT_WRITE},
    {"ZAdd", AUDIT_WRITE},
    {"VerifiableZAdd", AUDIT_WRITE},
    {"SQLExec", AUDIT_WRITE},
    {"TxSQLExec", AUDIT_WRITE},
    {"Commit", AUDIT_WRITE},
    {"InsertDocuments", AUDIT_WRITE},
    {"ReplaceDocuments", AUDIT_WRITE},
    {"DeleteDocuments", AUDIT_WRITE},
    {"CreateCollection", AUDIT_WRITE},
    {"UpdateCollection", AUDIT_WRITE},
    {"DeleteCollection", AUDIT_WRITE},
    {"AddField", AUDIT_WRITE},
    {"RemoveField", AUDIT_WRITE},
    {"CreateIndex", AUDIT_WRITE},
    {"DeleteIndex", AUDIT_WRITE},
    {"TruncateDatabase", AUDIT_SYSTEM},
    {"FlushIndex", AUDIT_SYSTEM},
    {"CompactIndex", AUDIT_SYSTEM},
    {"exportTx", AUDIT_SYSTEM},
    {"streamExportTx", AUDIT_SYSTEM},
    {"replicateTx", AUDIT_SYSTEM},
};

enum audit_type audit_type_of(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
    size_t i;

    for (i = 0; i < sizeof TYPES / sizeof TYPES[0]; i++)
        if (strcasecmp(TYPES[i].name, name) == 0)
            return TYPES[i].type;
    return AUDIT_READ;
}

static bool is_wanted(enum audit_type type, const char *events)
{
    if (strcmp(events, "write") == 0)
        return type != AUDIT_READ;
    if (strcmp(events, "admin") == 0)
        return type != AUDIT_READ && type != AUDIT_WRITE;
    return true;
}

/* --- JSON, as the records of systemdb are written --- */

struct text {
    char *at, *end;
    bool failed;
};

static void put(struct text *t, const char *s, size_t len)
{
    if (len > (size_t)(t->end - t->at)) {
        t->failed = true;
        return;
    }
    memcpy(t->at, s, len);
    t->at += len;
}

static void put_escaped(struct text *t, const char *s)
{
    char escape[8];

    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;

        if (c == '"' || c == '\\') {
            escape[0] = '\\';
            escape[1] = *s;
            put(t, escape, 2);
        } else if (c < 0x20 || c == 0x7f || c == '<' || c == '>' || c == '&') {
            snprintf(escape, sizeof escape, "\\u%04x", c);
            put(t, escape, 6);
        } else {
            put(t, s, 1);
        }
    }
}

static void put_member(struct text *t, const char *name, const char *value)
{
    put(t, name, strlen(name));
    put_escaped(t, value);
    put(t, "\"", 1);
}

static void put_number(struct text *t, const char *name, int64_t value)
{
    char digits[24];

    snprintf(digits, sizeof digits, "%lld", (long long)value);
    put(t, name, strlen(name));
    put(t, digits, strlen(digits));
}

/* Bytes that are not UTF-8 (a client's key within an error text) must not make the record unreadable. */
static void ascii_only(const char *from, char *to, size_t room)
{
    size_t i;

    for (i = 0; from[i] != '\0' && i + 1 < room; i++)
        to[i] = (unsigned char)from[i] < 0x80 ? from[i] : '?';
    to[i] = '\0';
}

size_t audit_value(const struct call_event *e, char *out, size_t room)
{
    static const char *const names[] = {"READ", "WRITE", "ADMIN", "AUTH", "SYSTEM"};
    struct text t = {out, out + room, false};
    char sid[SID_MAX], error[EVENT_ERROR_MAX + 1];
    hash_t digest;

    put_number(&t, "{\"ts\":", e->wall_ns);
    put_member(&t, ",\"user\":\"", e->user);
    put_member(&t, ",\"ip\":\"", e->ip);
    if (e->database[0] != '\0')
        put_member(&t, ",\"db\":\"", e->database);
    put_member(&t, ",\"method\":\"", e->method->path);
    put_member(&t, ",\"type\":\"", names[audit_type_of(e->method->path)]);
    put(&t, e->code == RPC_OK ? ",\"ok\":true" : ",\"ok\":false", e->code == RPC_OK ? 10 : 11);
    if (e->error[0] != '\0') {
        ascii_only(e->error, error, sizeof error);
        put_member(&t, ",\"err\":\"", error);
    }
    put_number(&t, ",\"dur_ms\":", (int64_t)(e->duration_ns / 1000000));
    if (e->session[0] != '\0') {
        sha256(e->session, strlen(e->session), &digest);
        sid[base64_encode(BASE64_URL, bytes_of(digest.b, sizeof digest.b), sid)] = '\0';
        put_member(&t, ",\"sid\":\"", sid);
    }
    put(&t, "}", 1);
    return t.failed ? 0 : (size_t)(t.at - out);
}

/* --- batches --- */

static struct batch *batch_take(struct audit_log *a)
{
    struct batch *b = a->free;

    if (b != NULL) {
        a->free = b->next;
    } else if (a->made < AUDIT_BATCHES && (b = malloc(sizeof *b)) != NULL) {
        b->owner = a;
        a->made++;
    }
    if (b != NULL) {
        b->next = NULL;
        b->count = b->text_len = 0;
        b->attempts = 0;
    }
    return b;
}

/* As many of the taken events as there is room for: at least one. */
static void batch_fill(struct audit_log *a, struct batch *b)
{
    for (; a->event_at < a->event_count && BATCH_TEXT - b->text_len >= VALUE_MAX; a->event_at++) {
        const struct call_event *e = &a->events[a->event_at];
        char *value = b->text + b->text_len;
        size_t len = audit_value(e, value + 1, VALUE_MAX - 1);

        assert(len > 0); /* all its parts are bounded */
        value[0] = 0;    /* a plain value under a plain key */
        b->values[b->count] = bytes_of(value, len + 1);
        b->text_len += len + 1;
        b->keys[b->count][0] = 0;
        snprintf(b->keys[b->count] + 1, KEY_LEN, "audit:%020lld_%016llu", (long long)e->wall_ns, (unsigned long long)++a->number);
        b->count++;
    }
}

static void finished_put(struct batch *b)
{
    struct audit_log *a = b->owner;

    pthread_mutex_lock(&a->lock);
    b->next = a->finished;
    a->finished = b;
    pthread_cond_signal(&a->wake);
    pthread_mutex_unlock(&a->lock);
}

/* store_done: on a thread of the store. */
static void batch_done(void *ctx, const struct store_draft *draft, const struct store_result *r)
{
    struct batch *b = ctx;

    (void)draft;
    b->result = *r;
    finished_put(b);
}

static void batch_submit(struct audit_log *a, struct batch *b)
{
    struct store_draft *draft = NULL;
    enum status st;
    size_t i;

    a->under_way++;
    b->attempts++;
    if ((st = draft_create(a->systemdb, &draft, &b->result.err)) != ST_OK)
        goto failed;
    draft_set_deadline(draft, env_mono_ns(a->env) + COMMIT_NS);
    for (i = 0; i < b->count; i++)
        if ((st = draft_set(draft, bytes_of(b->keys[i], KEY_LEN), NULL, b->values[i], &b->result.err)) != ST_OK)
            goto failed;
    store_submit(a->systemdb, draft, false, STORE_DRIVE_POOL, batch_done, b);
    return;
failed:
    if (draft != NULL)
        draft_free(draft);
    b->result.status = st;
    finished_put(b);
}

/* --- the thread --- */

static void losses_report(struct audit_log *a, bool is_last, const struct err *why)
{
    uint64_t dropped = atomic_load(&a->lost) + call_ring_dropped(a->ring), now = env_mono_ns(a->env);

    if (dropped == a->reported || (!is_last && a->reported > 0 && now - a->reported_at_ns < REPORT_NS))
        return;
    LOG_ERROR_AT(a->logger, "audit log: %llu calls could not be recorded: %s", (unsigned long long)(dropped - a->reported),
                 why != NULL ? why->text : "the queue is full");
    a->reported = dropped;
    a->reported_at_ns = now;
}

/* What the store gave back: done, to be tried again, or lost. */
static void finished_collect(struct audit_log *a)
{
    struct batch *b, *next;

    pthread_mutex_lock(&a->lock);
    b = a->finished;
    a->finished = NULL;
    pthread_mutex_unlock(&a->lock);
    for (; b != NULL; b = next) {
        next = b->next;
        a->under_way--;
        if (b->result.status == ST_OK) {
            atomic_fetch_add(&a->recorded, b->count);
        } else {
            atomic_fetch_add(&a->failures, 1);
            if (b->attempts < AUDIT_ATTEMPTS && !call_ring_is_closed(a->ring)) {
                b->retry_at_ns = env_mono_ns(a->env) + RETRY_NS;
                b->next = a->failed;
                a->failed = b;
                continue;
            }
            atomic_fetch_add(&a->lost, b->count);
            losses_report(a, false, &b->result.err);
        }
        b->next = a->free;
        a->free = b;
    }
}

static void failed_retry(struct audit_log *a)
{
    uint64_t now = env_mono_ns(a->env);
    struct batch **at = &a->failed, *b;

    while ((b = *at) != NULL) {
        if (b->retry_at_ns > now) {
            at = &b->next;
            continue;
        }
        *at = b->next;
        batch_submit(a, b);
    }
}

/* Until something is finished, at most so long. */
static void finished_wait(struct audit_log *a, uint64_t ns)
{
    uint64_t at = env_mono_ns(a->env) + ns;
    const struct timespec until = {.tv_sec = (time_t)(at / 1000000000), .tv_nsec = (long)(at % 1000000000)};

    pthread_mutex_lock(&a->lock);
    if (a->finished == NULL)
        (void)pthread_cond_timedwait(&a->wake, &a->lock, &until);
    pthread_mutex_unlock(&a->lock);
}

/* With systemdb of a replica nothing can be recorded. */
static void events_drop(struct audit_log *a)
{
    static const struct err why = {.status = ST_READ_ONLY, .text = "systemdb is a replica"};

    atomic_fetch_add(&a->lost, a->event_count);
    a->event_count = 0;
    losses_report(a, false, &why);
}

/* False: the queue is closed and empty. */
static bool events_take(struct audit_log *a)
{
    /* While transactions are under way their outcome must be looked at now and then. */
    uint64_t wait_ns = a->failed != NULL || a->under_way > 0 ? RETRY_NS : IDLE_NS;

    a->event_at = 0;
    a->event_count = call_ring_pop(a->ring, a->events, AUDIT_BATCH_EVENTS, wait_ns);
    if (a->event_count > 0 && a->systemdb == NULL)
        events_drop(a);
    return a->event_count > 0 || !call_ring_is_closed(a->ring) || call_ring_length(a->ring) > 0;
}

static void *run(void *arg)
{
    struct audit_log *a = arg;
    bool goes_on = true;
    struct batch *b;

    pthread_setname_np(pthread_self(), "audit-log");
    while (goes_on || a->under_way > 0 || a->failed != NULL) {
        finished_collect(a);
        failed_retry(a);
        losses_report(a, false, NULL);
        if (goes_on && a->event_at == a->event_count)
            goes_on = events_take(a);
        if (a->event_at < a->event_count && (b = batch_take(a)) != NULL) {
            batch_fill(a, b);
            batch_submit(a, b);
        } else if (a->event_at < a->event_count || !goes_on) {
            finished_wait(a, RETRY_NS); /* the queue holds what comes meanwhile */
        }
    }
    losses_report(a, true, NULL);
    return NULL;
}

/* --- life --- */

static void audit_log_free(struct audit_log *a)
{
    struct batch *b, *next;

    for (b = a->free; b != NULL; b = next) {
        next = b->next;
        free(b);
    }
    call_ring_free(a->ring);
    pthread_cond_destroy(&a->wake);
    pthread_mutex_destroy(&a->lock);
    free(a->events);
    free(a->wants);
    free(a);
}

static bool sync_init(struct audit_log *a)
{
    pthread_condattr_t attr;
    bool is_good;

    if (pthread_mutex_init(&a->lock, NULL) != 0)
        return false;
    if ((is_good = pthread_condattr_init(&attr) == 0)) {
        is_good = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0 && pthread_cond_init(&a->wake, &attr) == 0;
        pthread_condattr_destroy(&attr);
    }
    if (!is_good)
        pthread_mutex_destroy(&a->lock);
    return is_good;
}

enum status audit_log_create(struct logger *logger, const char *events, struct audit_log **out, struct err *err)
{
    struct audit_log *a = calloc(1, sizeof *a);
    size_t i;

    *out = NULL;
    if (a == NULL || !sync_init(a)) {
        free(a);
        return err_set(err, ST_NOMEM, 0, "audit log: out of memory");
    }
    a->logger = logger;
    a->env = logger_env(logger);
    if ((a->wants = calloc(METHOD_COUNT, sizeof *a->wants)) == NULL || (a->events = calloc(AUDIT_BATCH_EVENTS, sizeof *a->events)) == NULL ||
        call_ring_create(a->env, AUDIT_QUEUE, &a->ring, NULL) != ST_OK) {
        audit_log_free(a);
        return err_set(err, ST_NOMEM, 0, "audit log: out of memory");
    }
    for (i = 0; i < METHOD_COUNT; i++)
        a->wants[i] = is_wanted(audit_type_of(METHODS[i].path), events);
    LOG_INFO_AT(logger, "structured audit logging enabled (events=%s)", events);
    *out = a;
    return ST_OK;
}

static int thread_start(struct audit_log *a)
{
    sigset_t all, old;
    pthread_attr_t attr;
    int rc;

    if ((rc = pthread_attr_init(&attr)) != 0)
        return rc;
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&a->thread, &attr, run, a);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return rc;
}

enum status audit_log_start(struct audit_log *a, struct store *systemdb, struct err *err)
{
    int rc;

    a->systemdb = systemdb;
    if (systemdb == NULL)
        LOG_WARN_AT(a->logger, "audit log: systemdb is a replica, calls cannot be recorded");
    if ((rc = thread_start(a)) != 0)
        return err_set(err, ST_NOMEM, rc, "audit log: no thread: %s", strerror(rc));
    a->has_thread = true;
    return ST_OK;
}

bool audit_log_wants(const struct audit_log *a, size_t method_index) { return a->wants[method_index]; }

void audit_log_add(struct audit_log *a, const struct call_event *e) { (void)call_ring_push(a->ring, e); }

void audit_log_stats(struct audit_log *a, struct audit_stats *out)
{
    out->recorded = atomic_load(&a->recorded);
    out->dropped = atomic_load(&a->lost) + call_ring_dropped(a->ring);
    out->failures = atomic_load(&a->failures);
    out->queued = call_ring_length(a->ring);
}

void audit_log_stop(struct audit_log *a)
{
    if (a == NULL)
        return;
    call_ring_close(a->ring);
    if (a->has_thread)
        pthread_join(a->thread, NULL);
    audit_log_free(a);
}
