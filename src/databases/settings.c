/* The table of settings and everything that is driven by it; see settings.h. */
#include "databases/settings.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { KIND_BOOL, KIND_INT, KIND_FLOAT, KIND_TEXT, KIND_TIME };
/* Where a field stands in the JSON record and in the protobuf message. */
enum place { PLACE_NONE, PLACE_TOP, PLACE_REPLICATION, PLACE_INDEX, PLACE_AHT, PLACE_TRUNCATION };

struct setting {
    const char *json;
    enum kind kind;
    enum place json_place; /* PLACE_TOP, PLACE_INDEX, PLACE_AHT */
    enum place proto_place;
    const char *proto;   /* field name in the message of its place; NULL: not in the protocol */
    size_t offset, room; /* room: of texts, with NUL */
    int64_t value;       /* default of booleans and integers */
    int64_t min, max;
    const char *permanent; /* text for "... can not be changed after database creation"; NULL: may be changed */
    const char *option;    /* name in "invalid options: invalid ..." */
};

#define AT(f) offsetof(struct database_settings, f)
#define BOOLEAN(json, proto_place, proto, field, permanent) \
    { \
        json, KIND_BOOL, PLACE_TOP, proto_place, proto, AT(field), 0, 0, 0, 1, permanent, NULL \
    }
#define NUMBER(json, json_place, proto_place, proto, field, value, min, max, permanent, option) \
    { \
        json, KIND_INT, json_place, proto_place, proto, AT(field), 0, value, min, max, permanent, option \
    }
#define TOP_NUMBER(json, field, value, min, max, permanent, option) \
    NUMBER(json, PLACE_TOP, PLACE_TOP, json, field, value, min, max, permanent, option)
#define INDEX_NUMBER(json, field, value, min, max, permanent, option) \
    NUMBER(json, PLACE_INDEX, PLACE_INDEX, json, field, value, min, max, permanent, "index option " option)
#define TEXT(json, proto_place, proto, field) \
    { \
        json, KIND_TEXT, PLACE_TOP, proto_place, proto, AT(field), sizeof((struct database_settings *)0)->field, 0, 0, 0, NULL, NULL \
    }
#define MOMENT(json, field) \
    { \
        json, KIND_TIME, PLACE_TOP, PLACE_NONE, NULL, AT(field), 0, 0, 0, 0, NULL, NULL \
    }
#define U32 UINT32_MAX

/* In the order of the record. */
static const struct setting SETTINGS[] = {
    TEXT("database", PLACE_NONE, NULL, database),
    TOP_NUMBER("syncFrequency", sync_frequency_ms, 20, 0, 3600000, NULL, "SyncFrequency"),
    BOOLEAN("replica", PLACE_REPLICATION, "replica", replica, NULL),
    BOOLEAN("syncReplication", PLACE_REPLICATION, "syncReplication", sync_replication, NULL),
    TEXT("masterDatabase", PLACE_REPLICATION, "primaryDatabase", primary_database),
    TEXT("masterAddress", PLACE_REPLICATION, "primaryHost", primary_host),
    NUMBER("masterPort", PLACE_TOP, PLACE_REPLICATION, "primaryPort", primary_port, 0, 0, 65535, NULL, "PrimaryPort"),
    TEXT("followerUsername", PLACE_REPLICATION, "primaryUsername", primary_username),
    TEXT("followerPassword", PLACE_REPLICATION, "primaryPassword", primary_password),
    NUMBER("syncAcks", PLACE_TOP, PLACE_REPLICATION, "syncAcks", sync_acks, 0, 0, 1000, NULL, "SyncAcks"),
    NUMBER("prefetchTxBufferSize", PLACE_TOP, PLACE_REPLICATION, "prefetchTxBufferSize", prefetch_tx_buffer_size, 0, 0, 1000000, NULL,
           "PrefetchTxBufferSize"),
    NUMBER("replicationCommitConcurrency", PLACE_TOP, PLACE_REPLICATION, "replicationCommitConcurrency", replication_commit_concurrency, 0, 0, 1000,
           NULL, "ReplicationCommitConcurrency"),
    BOOLEAN("allowTxDiscarding", PLACE_REPLICATION, "allowTxDiscarding", allow_tx_discarding, NULL),
    BOOLEAN("skipIntegrityCheck", PLACE_REPLICATION, "skipIntegrityCheck", skip_integrity_check, NULL),
    BOOLEAN("waitForIndexing", PLACE_REPLICATION, "waitForIndexing", wait_for_indexing, NULL),
    BOOLEAN("embeddedValues", PLACE_TOP, "embeddedValues", embedded_values, "embedded values"),
    BOOLEAN("preallocFiles", PLACE_TOP, "preallocFiles", prealloc_files, "prealloc files"),
    TOP_NUMBER("fileSize", file_size, 536870912, 1, U32, "file size", "FileSize"),
    TOP_NUMBER("maxKeyLen", max_key_len, 1024, 1, 1024, "max key length", "MaxKeyLen"),
    TOP_NUMBER("maxValueLen", max_value_len, 33554432, 1, 1 << 30, "max value length", "MaxValueLen"),
    TOP_NUMBER("maxTxEntries", max_tx_entries, 1024, 1, 1 << 20, "max number of entries per transaction", "MaxTxEntries"),
    BOOLEAN("excludeCommitTime", PLACE_TOP, "excludeCommitTime", exclude_commit_time, NULL),
    TOP_NUMBER("maxActiveTransactions", max_active_transactions, 1000, 1, 1000000, NULL, "MaxActiveTransactions"),
    TOP_NUMBER("mvccReadSetLimit", mvcc_read_set_limit, 100000, 1, 10000000, NULL, "MVCCReadSetLimit"),
    TOP_NUMBER("maxConcurrency", max_concurrency, 30, 1, 10000, NULL, "MaxConcurrency"),
    TOP_NUMBER("maxIOConcurrency", max_io_concurrency, 1, 1, 127, NULL, "MaxIOConcurrency"),
    TOP_NUMBER("writeBufferSize", write_buffer_size, 4194304, 1, 1 << 30, NULL, "WriteBufferSize"),
    TOP_NUMBER("txLogCacheSize", tx_log_cache_size, 1000, 0, 100000000, NULL, "TxLogCacheSize"),
    TOP_NUMBER("vLogCacheSize", vlog_cache_size, 0, 0, 100000000, NULL, "VLogCacheSize"),
    TOP_NUMBER("vLogMaxOpenedFiles", vlog_max_opened_files, 10, 1, 1000000, NULL, "VLogMaxOpenedFiles"),
    TOP_NUMBER("txLogMaxOpenedFiles", tx_log_max_opened_files, 10, 1, 1000000, NULL, "TxLogMaxOpenedFiles"),
    TOP_NUMBER("commitLogMaxOpenedFiles", commit_log_max_opened_files, 10, 1, 1000000, NULL, "CommitLogMaxOpenedFiles"),
    TOP_NUMBER("writeTxHeaderVersion", write_tx_header_version, 1, 0, 1, NULL, "WriteTxHeaderVersion"),
    TOP_NUMBER("readTxPoolSize", read_tx_pool_size, 128, 1, 1000000, NULL, NULL),
    INDEX_NUMBER("flushThreshold", index_flush_threshold, 100000, 1, U32, NULL, "FlushThld"),
    INDEX_NUMBER("syncThreshold", index_sync_threshold, 1000000, 1, U32, NULL, "SyncThld"),
    INDEX_NUMBER("flushBufferSize", index_flush_buffer_size, 4096, 1, U32, NULL, "FlushBufferSize"),
    {"cleanupPercentage", KIND_FLOAT, PLACE_INDEX, PLACE_INDEX, "cleanupPercentage", AT(index_cleanup_percentage), 0, 0, 0, 100, NULL,
     "index option CleanupPercentage"},
    INDEX_NUMBER("cacheSize", index_cache_size, 134217728, 1, U32, NULL, "CacheSize"),
    INDEX_NUMBER("maxNodeSize", index_max_node_size, 4096, 1, U32, "max node size", "MaxNodeSize"),
    INDEX_NUMBER("maxActiveSnapshots", index_max_active_snapshots, 100, 1, 1000000, NULL, "MaxActiveSnapshots"),
    INDEX_NUMBER("renewSnapRootAfter", index_renew_snap_root_after_ms, 1000, 0, INT64_MAX / 1000000, NULL, "RenewSnapRootAfter"),
    INDEX_NUMBER("compactionThld", index_compaction_threshold, 2, 1, U32, NULL, "CompactionThld"),
    INDEX_NUMBER("delayDuringCompaction", index_delay_during_compaction_ms, 10, 0, U32, NULL, "DelayDuringCompaction"),
    INDEX_NUMBER("nodesLogMaxOpenedFiles", index_nodes_log_max_opened_files, 10, 1, 1000000, NULL, "NodesLogMaxOpenedFiles"),
    INDEX_NUMBER("historyLogMaxOpenedFiles", index_history_log_max_opened_files, 1, 1, 1000000, NULL, "HistoryLogMaxOpenedFiles"),
    INDEX_NUMBER("commitLogMaxOpenedFiles", index_commit_log_max_opened_files, 1, 1, 1000000, NULL, "CommitLogMaxOpenedFiles"),
    INDEX_NUMBER("maxBulkSize", index_max_bulk_size, 1, 1, 1000000, NULL, "MaxBulkSize"),
    INDEX_NUMBER("bulkPreparationTimeout", index_bulk_preparation_timeout_ms, 20, 0, 3600000, NULL, "BulkPreparationTimeout"),
    NUMBER("syncThreshold", PLACE_AHT, PLACE_AHT, "syncThreshold", aht_sync_threshold, 100000, 1, U32, NULL, "AHT option SyncThld"),
    NUMBER("writeBufferSize", PLACE_AHT, PLACE_AHT, "writeBufferSize", aht_write_buffer_size, 16777216, 1, 1 << 30, NULL,
           "AHT option WriteBufferSize"),
    {"autoload", KIND_INT, PLACE_TOP, PLACE_NONE, NULL, AT(autoload), 0, AUTOLOAD_UNSET, INT64_MIN, INT64_MAX, NULL, NULL},
    TEXT("createdBy", PLACE_NONE, NULL, created_by),
    MOMENT("createdAt", created_at),
    TEXT("updatedBy", PLACE_NONE, NULL, updated_by),
    MOMENT("updatedAt", updated_at),
    NUMBER("retentionPeriod", PLACE_TOP, PLACE_TRUNCATION, "retentionPeriod", retention_period_ms, 0, 0, INT64_MAX / 1000000, NULL, NULL),
    NUMBER("truncationFrequency", PLACE_TOP, PLACE_TRUNCATION, "truncationFrequency", truncation_frequency_ms, 86400000, 0, INT64_MAX / 1000000, NULL,
           NULL),
};
enum { SETTING_COUNT = sizeof SETTINGS / sizeof SETTINGS[0] };
static const int64_t DAY_MS = 86400000, HOUR_MS = 3600000;

static bool *bool_of(const struct setting *f, const struct database_settings *s) { return (bool *)(void *)((char *)(uintptr_t)s + f->offset); }
static int64_t *int_of(const struct setting *f, const struct database_settings *s) { return (int64_t *)(void *)((char *)(uintptr_t)s + f->offset); }
static float *float_of(const struct setting *f, const struct database_settings *s) { return (float *)(void *)((char *)(uintptr_t)s + f->offset); }
static char *text_of(const struct setting *f, const struct database_settings *s) { return (char *)(uintptr_t)s + f->offset; }
static struct record_time *time_of(const struct setting *f, const struct database_settings *s)
{
    return (struct record_time *)(void *)((char *)(uintptr_t)s + f->offset);
}

void settings_defaults(struct database_settings *s, const char *name)
{
    size_t i;

    *s = (struct database_settings){0};
    snprintf(s->database, sizeof s->database, "%s", name);
    s->created_at = s->updated_at = record_time_never();
    for (i = 0; i < SETTING_COUNT; i++)
        if (SETTINGS[i].kind == KIND_INT)
            *int_of(&SETTINGS[i], s) = SETTINGS[i].value;
}

/* --- the record --- */

static void value_encode(const struct setting *f, const struct database_settings *s, struct json_text *out)
{
    json_put_name(out, f->json);
    switch (f->kind) {
    case KIND_BOOL:
        json_put_bool(out, *bool_of(f, s));
        break;
    case KIND_INT:
        json_put_int(out, *int_of(f, s));
        break;
    case KIND_FLOAT:
        json_put_float(out, *float_of(f, s));
        break;
    case KIND_TEXT:
        json_put_str(out, bytes_str(text_of(f, s)));
        break;
    case KIND_TIME:
        json_put_time(out, time_of(f, s));
        break;
    }
}

enum status settings_encode(const struct database_settings *s, struct json_text *out, struct err *err)
{
    enum place place = PLACE_TOP;
    size_t i;

    json_put_open(out, '{');
    for (i = 0; i < SETTING_COUNT; i++) {
        if (SETTINGS[i].json_place != place) { /* nested objects follow each other and the top */
            if (place != PLACE_TOP)
                json_put_close(out, '}');
            place = SETTINGS[i].json_place;
            if (place != PLACE_TOP) {
                json_put_name(out, place == PLACE_INDEX ? "indexOptions" : "ahtOptions");
                json_put_open(out, '{');
            }
        }
        value_encode(&SETTINGS[i], s, out);
    }
    json_put_close(out, '}');
    return out->failed ? err_set(err, ST_NOMEM, 0, "writing the settings of database %s: out of memory", s->database) : ST_OK;
}

static enum status value_decode(const struct setting *f, const json_t *v, struct database_settings *s, struct err *err)
{
    bool fits = true;

    switch (f->kind) {
    case KIND_BOOL:
        if ((fits = json_is_boolean(v)))
            *bool_of(f, s) = json_is_true(v);
        break;
    case KIND_INT:
        if ((fits = json_is_integer(v)))
            *int_of(f, s) = json_integer_value(v);
        break;
    case KIND_FLOAT:
        if ((fits = json_is_number(v)))
            *float_of(f, s) = (float)json_number_value(v);
        break;
    case KIND_TEXT:
        if ((fits = json_is_string(v) && json_string_length(v) < f->room))
            memcpy(text_of(f, s), json_string_value(v), json_string_length(v) + 1);
        break;
    case KIND_TIME:
        fits = json_is_string(v) && record_time_parse(bytes_of(json_string_value(v), json_string_length(v)), time_of(f, s), NULL) == ST_OK;
        break;
    }
    return fits ? ST_OK : err_set(err, ST_INVALID, 0, "settings record: field %s has the wrong type or is too long", f->json);
}

enum status settings_decode(struct bytes json, struct database_settings *s, struct err *err)
{
    const json_t *objects[PLACE_TRUNCATION + 1] = {NULL}, *v;
    json_t *object = NULL;
    enum status st;
    size_t i;

    if ((st = json_read(json, &object, err)) != ST_OK)
        goto done;
    if (!json_is_object(object)) {
        st = err_set(err, ST_INVALID, 0, "settings record: no JSON object");
        goto done;
    }
    objects[PLACE_TOP] = object;
    objects[PLACE_INDEX] = json_member(object, "indexOptions");
    objects[PLACE_AHT] = json_member(object, "ahtOptions");
    for (i = 1; i < SETTING_COUNT; i++) { /* the name is the key's, not the record's */
        const json_t *place = objects[SETTINGS[i].json_place];

        if (place == NULL)
            continue;
        if (!json_is_object(place)) {
            st = err_set(err, ST_INVALID, 0, "settings record: %s is no object",
                         SETTINGS[i].json_place == PLACE_INDEX ? "indexOptions" : "ahtOptions");
            goto done;
        }
        if ((v = json_member(place, SETTINGS[i].json)) != NULL && (st = value_decode(&SETTINGS[i], v, s, err)) != ST_OK)
            goto done;
    }
done:
    json_decref(object);
    return st == ST_OK ? ST_OK : err_while(err, st, "reading the settings of database %s", s->database);
}

/* --- protobuf --- */

/* The message of a place inside the settings message; NULL when absent. */
static const ProtobufCMessage *message_at(const Immudb__Schema__DatabaseNullableSettings *m, enum place place)
{
    switch (place) {
    case PLACE_TOP:
        return &m->base;
    case PLACE_REPLICATION:
        return m->replicationsettings != NULL ? &m->replicationsettings->base : NULL;
    case PLACE_INDEX:
        return m->indexsettings != NULL ? &m->indexsettings->base : NULL;
    case PLACE_AHT:
        return m->ahtsettings != NULL ? &m->ahtsettings->base : NULL;
    case PLACE_TRUNCATION:
        return m->truncationsettings != NULL ? &m->truncationsettings->base : NULL;
    case PLACE_NONE:
        break;
    }
    return NULL;
}

/* Address of the wrapper pointer of a field inside its message. */
static ProtobufCMessage **wrapper_at(const ProtobufCMessage *m, const char *name)
{
    const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field_by_name(m->descriptor, name);

    assert(f != NULL && f->type == PROTOBUF_C_TYPE_MESSAGE);
    return (ProtobufCMessage **)(void *)((char *)(uintptr_t)m + f->offset);
}

/* The integer inside a wrapper, whichever it is. */
static int64_t wrapper_int(const ProtobufCMessage *w)
{
    if (w->descriptor == &immudb__schema__nullable_uint32__descriptor)
        return ((const Immudb__Schema__NullableUint32 *)(const void *)w)->value;
    if (w->descriptor == &immudb__schema__nullable_uint64__descriptor) {
        uint64_t v = ((const Immudb__Schema__NullableUint64 *)(const void *)w)->value;

        return v > INT64_MAX ? INT64_MAX : (int64_t)v;
    }
    assert(w->descriptor == &immudb__schema__nullable_milliseconds__descriptor);
    return ((const Immudb__Schema__NullableMilliseconds *)(const void *)w)->value;
}

static enum status field_apply(const struct setting *f, const ProtobufCMessage *w, struct database_settings *s, struct err *err)
{
    const char *text;

    switch (f->kind) {
    case KIND_BOOL:
        *bool_of(f, s) = ((const Immudb__Schema__NullableBool *)(const void *)w)->value != 0;
        break;
    case KIND_INT:
        *int_of(f, s) = wrapper_int(w);
        break;
    case KIND_FLOAT:
        *float_of(f, s) = ((const Immudb__Schema__NullableFloat *)(const void *)w)->value;
        break;
    case KIND_TEXT:
        text = ((const Immudb__Schema__NullableString *)(const void *)w)->value;
        if (strlen(text) >= f->room)
            return err_set(err, ST_INVALID, 0, "illegal arguments: %s is longer than %zu bytes", f->proto, f->room - 1);
        memcpy(text_of(f, s), text, strlen(text) + 1);
        break;
    case KIND_TIME:
        break;
    }
    return ST_OK;
}

/* What a change of the role entails. */
static enum status role_apply(const Immudb__Schema__ReplicationNullableSettings *given, bool is_update, struct database_settings *s, struct err *err)
{
    (void)err;
    if (s->replica) {
        if (given->syncacks == NULL)
            s->sync_acks = 0;
        if (given->prefetchtxbuffersize == NULL && s->prefetch_tx_buffer_size == 0)
            s->prefetch_tx_buffer_size = 100;
        if (given->replicationcommitconcurrency == NULL && s->replication_commit_concurrency == 0)
            s->replication_commit_concurrency = 10;
        return ST_OK;
    }
    if (!is_update)
        return ST_OK;
    if (given->primarydatabase == NULL)
        s->primary_database[0] = '\0';
    if (given->primaryhost == NULL)
        s->primary_host[0] = '\0';
    if (given->primaryport == NULL)
        s->primary_port = 0;
    if (given->primaryusername == NULL)
        s->primary_username[0] = '\0';
    if (given->primarypassword == NULL)
        s->primary_password[0] = '\0';
    if (given->prefetchtxbuffersize == NULL)
        s->prefetch_tx_buffer_size = 0;
    if (given->replicationcommitconcurrency == NULL)
        s->replication_commit_concurrency = 0;
    return ST_OK;
}

enum status settings_apply(const Immudb__Schema__DatabaseNullableSettings *given, bool is_update, struct database_settings *s, struct err *err)
{
    enum status st;
    size_t i;

    if (given == NULL)
        return ST_OK;
    for (i = 0; i < SETTING_COUNT; i++) {
        const struct setting *f = &SETTINGS[i];
        const ProtobufCMessage *m = f->proto != NULL ? message_at(given, f->proto_place) : NULL, *w = m != NULL ? *wrapper_at(m, f->proto) : NULL;

        if (w == NULL)
            continue;
        if (is_update && f->permanent != NULL)
            return err_set(err, ST_INVALID, 0, "illegal arguments: %s can not be changed after database creation ('%s')", f->permanent, s->database);
        if ((st = field_apply(f, w, s, err)) != ST_OK)
            return st;
    }
    if (given->autoload != NULL)
        s->autoload = given->autoload->value ? AUTOLOAD_ON : AUTOLOAD_OFF;
    return given->replicationsettings != NULL ? role_apply(given->replicationsettings, is_update, s, err) : ST_OK;
}

#define INNER "illegal arguments: rpc error: code = InvalidArgument desc = illegal arguments: "

static enum status replica_validate(const struct database_settings *s, struct err *err)
{
    static const char text[] = INNER "invalid value for replication option %s on database '%s'";

    if (s->sync_acks != 0) /* the published text names two options */
        return err_set(err, ST_INVALID, 0, text, "SyncAcks ReplicationCommitConcurrency", s->database);
    if (s->prefetch_tx_buffer_size <= 0)
        return err_set(err, ST_INVALID, 0, text, "PrefetchTxBufferSize", s->database);
    if (s->replication_commit_concurrency <= 0)
        return err_set(err, ST_INVALID, 0, text, "ReplicationCommitConcurrency", s->database);
    return ST_OK;
}

static enum status primary_validate(const struct database_settings *s, struct err *err)
{
    static const char text[] = INNER "invalid value for replication option %s on primary database '%s'";
    const char *wrong = s->primary_database[0] != '\0'           ? "PrimaryDatabase"
                        : s->primary_host[0] != '\0'             ? "PrimaryHost"
                        : s->primary_port != 0                   ? "PrimaryPort"
                        : s->primary_username[0] != '\0'         ? "PrimaryUsername"
                        : s->primary_password[0] != '\0'         ? "PrimaryPassword"
                        : s->prefetch_tx_buffer_size != 0        ? "PrefetchTxBufferSize"
                        : s->replication_commit_concurrency != 0 ? "ReplicationCommitConcurrency"
                        : s->allow_tx_discarding                 ? "AllowTxDiscarding"
                        : s->skip_integrity_check                ? "SkipIntegrityCheck"
                        : s->wait_for_indexing                   ? "WaitForIndexing"
                                                                 : NULL;

    if (wrong != NULL)
        return err_set(err, ST_INVALID, 0, text, wrong, s->database);
    if (s->sync_replication && s->sync_acks == 0)
        return err_set(err, ST_INVALID, 0,
                       INNER "invalid replication options for primary database '%s'. It is necessary to have at least one sync replica", s->database);
    if (!s->sync_replication && s->sync_acks != 0)
        return err_set(err, ST_INVALID, 0, INNER "invalid replication options for primary database '%s'. SyncAcks should be set to 0", s->database);
    return ST_OK;
}

static bool in_range(const struct setting *f, const struct database_settings *s)
{
    if (f->kind == KIND_INT)
        return *int_of(f, s) >= f->min && *int_of(f, s) <= f->max;
    if (f->kind == KIND_FLOAT)
        return *float_of(f, s) >= (float)f->min && *float_of(f, s) <= (float)f->max;
    return true;
}

enum status settings_validate(const struct database_settings *s, struct err *err)
{
    enum status st = s->replica ? replica_validate(s, err) : primary_validate(s, err);
    size_t i;

    if (st != ST_OK)
        return st;
    if (s->read_tx_pool_size < 1 || s->read_tx_pool_size > 1000000)
        return err_set(err, ST_INVALID, 0, INNER "invalid read tx pool size (%lld) for database '%s'", (long long)s->read_tx_pool_size, s->database);
    if (s->retention_period_ms < 0 || (s->retention_period_ms > 0 && s->retention_period_ms < DAY_MS) || s->retention_period_ms > INT64_MAX / 1000000)
        return err_set(err, ST_INVALID, 0, INNER "invalid retention period for database '%s'. RetentionPeriod should at least '24' hours",
                       s->database);
    if (s->truncation_frequency_ms < 0 || (s->truncation_frequency_ms > 0 && s->truncation_frequency_ms < HOUR_MS) ||
        s->truncation_frequency_ms > INT64_MAX / 1000000)
        return err_set(err, ST_INVALID, 0, INNER "invalid truncation frequency for database '%s'. TruncationFrequency should at least '1' hour",
                       s->database);
    for (i = 0; i < SETTING_COUNT; i++)
        if (SETTINGS[i].option != NULL && !in_range(&SETTINGS[i], s))
            return err_set(err, ST_INVALID, 0, "illegal arguments: illegal arguments: invalid options: invalid %s", SETTINGS[i].option);
    return ST_OK;
}

/* A wrapper of the right kind for a field, with the setting's value; NULL when out of memory. */
static ProtobufCMessage *wrapper_make(const struct setting *f, const struct database_settings *s, const ProtobufCMessageDescriptor *d,
                                      struct arena *arena)
{
    ProtobufCMessage *w = arena_alloc(arena, d->sizeof_message);

    if (w == NULL)
        return NULL;
    d->message_init(w);
    if (d == &immudb__schema__nullable_bool__descriptor)
        ((Immudb__Schema__NullableBool *)(void *)w)->value = *bool_of(f, s);
    else if (d == &immudb__schema__nullable_float__descriptor)
        ((Immudb__Schema__NullableFloat *)(void *)w)->value = *float_of(f, s);
    else if (d == &immudb__schema__nullable_string__descriptor)
        ((Immudb__Schema__NullableString *)(void *)w)->value = arena_str(arena, bytes_str(text_of(f, s)));
    else if (d == &immudb__schema__nullable_uint32__descriptor)
        ((Immudb__Schema__NullableUint32 *)(void *)w)->value = (uint32_t)*int_of(f, s);
    else if (d == &immudb__schema__nullable_uint64__descriptor)
        ((Immudb__Schema__NullableUint64 *)(void *)w)->value = (uint64_t)*int_of(f, s);
    else
        ((Immudb__Schema__NullableMilliseconds *)(void *)w)->value = *int_of(f, s);
    return w;
}

#define MESSAGE(arena, type, init) \
    __extension__({ \
        type *m_ = arena_alloc(arena, sizeof *m_); \
        if (m_ != NULL) \
            *m_ = (type)init; \
        m_; \
    })

static Immudb__Schema__DatabaseNullableSettings *message_shell(struct arena *arena)
{
    Immudb__Schema__DatabaseNullableSettings *m = MESSAGE(arena, Immudb__Schema__DatabaseNullableSettings,
                                                          IMMUDB__SCHEMA__DATABASE_NULLABLE_SETTINGS__INIT);

    if (m == NULL)
        return NULL;
    m->replicationsettings = MESSAGE(arena, Immudb__Schema__ReplicationNullableSettings, IMMUDB__SCHEMA__REPLICATION_NULLABLE_SETTINGS__INIT);
    m->indexsettings = MESSAGE(arena, Immudb__Schema__IndexNullableSettings, IMMUDB__SCHEMA__INDEX_NULLABLE_SETTINGS__INIT);
    m->ahtsettings = MESSAGE(arena, Immudb__Schema__AHTNullableSettings, IMMUDB__SCHEMA__AHTNULLABLE_SETTINGS__INIT);
    m->truncationsettings = MESSAGE(arena, Immudb__Schema__TruncationNullableSettings, IMMUDB__SCHEMA__TRUNCATION_NULLABLE_SETTINGS__INIT);
    if (m->replicationsettings == NULL || m->indexsettings == NULL || m->ahtsettings == NULL || m->truncationsettings == NULL)
        return NULL;
    return m;
}

Immudb__Schema__DatabaseNullableSettings *settings_message(const struct database_settings *s, struct arena *arena)
{
    Immudb__Schema__DatabaseNullableSettings *m = message_shell(arena);
    size_t i;

    if (m == NULL)
        return NULL;
    for (i = 0; i < SETTING_COUNT; i++) {
        const struct setting *f = &SETTINGS[i];
        const ProtobufCMessage *place = f->proto != NULL ? message_at(m, f->proto_place) : NULL;
        const ProtobufCFieldDescriptor *d;

        if (place == NULL)
            continue;
        d = protobuf_c_message_descriptor_get_field_by_name(place->descriptor, f->proto);
        if ((*wrapper_at(place, f->proto) = wrapper_make(f, s, d->descriptor, arena)) == NULL)
            return NULL;
    }
    if ((m->autoload = MESSAGE(arena, Immudb__Schema__NullableBool, IMMUDB__SCHEMA__NULLABLE_BOOL__INIT)) == NULL)
        return NULL;
    m->autoload->value = settings_autoload(s);
    return m;
}

static bool old_u32(uint32_t v, bool always, Immudb__Schema__NullableUint32 **out, struct arena *arena)
{
    if (v == 0 && !always)
        return true;
    if ((*out = MESSAGE(arena, Immudb__Schema__NullableUint32, IMMUDB__SCHEMA__NULLABLE_UINT32__INIT)) == NULL)
        return false;
    (*out)->value = v;
    return true;
}

static bool old_bool(bool v, Immudb__Schema__NullableBool **out, struct arena *arena)
{
    if ((*out = MESSAGE(arena, Immudb__Schema__NullableBool, IMMUDB__SCHEMA__NULLABLE_BOOL__INIT)) == NULL)
        return false;
    (*out)->value = v;
    return true;
}

static bool old_text(char *v, Immudb__Schema__NullableString **out, struct arena *arena)
{
    if ((*out = MESSAGE(arena, Immudb__Schema__NullableString, IMMUDB__SCHEMA__NULLABLE_STRING__INIT)) == NULL)
        return false;
    (*out)->value = v;
    return true;
}

Immudb__Schema__DatabaseNullableSettings *settings_from_old(const Immudb__Schema__DatabaseSettings *old, struct arena *arena)
{
    Immudb__Schema__DatabaseNullableSettings *m = message_shell(arena);
    Immudb__Schema__ReplicationNullableSettings *r;

    if (m == NULL)
        return NULL;
    r = m->replicationsettings;
    if (!old_bool(old->replica, &r->replica, arena) || !old_text(old->primarydatabase, &r->primarydatabase, arena) ||
        !old_text(old->primaryhost, &r->primaryhost, arena) || !old_u32(old->primaryport, true, &r->primaryport, arena) ||
        !old_text(old->primaryusername, &r->primaryusername, arena) || !old_text(old->primarypassword, &r->primarypassword, arena) ||
        !old_u32(old->filesize, false, &m->filesize, arena) || !old_u32(old->maxkeylen, false, &m->maxkeylen, arena) ||
        !old_u32(old->maxvaluelen, false, &m->maxvaluelen, arena) || !old_u32(old->maxtxentries, false, &m->maxtxentries, arena))
        return NULL;
    if (old->excludecommittime && !old_bool(true, &m->excludecommittime, arena))
        return NULL;
    return m;
}
