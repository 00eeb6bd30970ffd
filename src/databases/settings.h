/* The settings of one database: 43 fields in one table that drives defaults, the record in systemdb, protobuf, ranges and texts.
 *
 * Many of them steer parts that this server does not have (file sizes, caches of the original); they are kept and given back unchanged, because
 * records are shared with the published server (docs/systemdb.md). Any thread on distinct objects. */
#ifndef DATABASES_SETTINGS_H
#define DATABASES_SETTINGS_H

#include "auth/json_text.h"
#include "base/arena.h"
#include "schema.pb-c.h"

#define SETTING_TEXT_MAX 255
#define SETTINGS_PREFIX 0x02

enum autoload { AUTOLOAD_UNSET = 0, AUTOLOAD_ON = 1, AUTOLOAD_OFF = 2 };

struct database_settings {
    char database[129];
    int64_t sync_frequency_ms;
    bool replica, sync_replication;
    char primary_database[SETTING_TEXT_MAX + 1], primary_host[SETTING_TEXT_MAX + 1];
    int64_t primary_port;
    char primary_username[SETTING_TEXT_MAX + 1], primary_password[SETTING_TEXT_MAX + 1];
    int64_t sync_acks, prefetch_tx_buffer_size, replication_commit_concurrency;
    bool allow_tx_discarding, skip_integrity_check, wait_for_indexing;
    bool embedded_values, prealloc_files;
    int64_t file_size, max_key_len, max_value_len, max_tx_entries;
    bool exclude_commit_time;
    int64_t max_active_transactions, mvcc_read_set_limit, max_concurrency, max_io_concurrency, write_buffer_size, tx_log_cache_size, vlog_cache_size,
        vlog_max_opened_files, tx_log_max_opened_files, commit_log_max_opened_files, write_tx_header_version, read_tx_pool_size;
    int64_t index_flush_threshold, index_sync_threshold, index_flush_buffer_size;
    float index_cleanup_percentage;
    int64_t index_cache_size, index_max_node_size, index_max_active_snapshots, index_renew_snap_root_after_ms, index_compaction_threshold,
        index_delay_during_compaction_ms, index_nodes_log_max_opened_files, index_history_log_max_opened_files, index_commit_log_max_opened_files,
        index_max_bulk_size, index_bulk_preparation_timeout_ms;
    int64_t aht_sync_threshold, aht_write_buffer_size;
    int64_t autoload; /* enum autoload, or what an older record says */
    char created_by[64];
    struct record_time created_at;
    char updated_by[64];
    struct record_time updated_at;
    int64_t retention_period_ms, truncation_frequency_ms;
};

/* What a new database gets. */
void settings_defaults(struct database_settings *s, const char *name);
static inline bool settings_autoload(const struct database_settings *s) { return s->autoload == AUTOLOAD_UNSET || s->autoload == AUTOLOAD_ON; }

/* --- the record --- */
MUST_USE enum status settings_encode(const struct database_settings *s, struct json_text *out, struct err *err);
/* Lays the record over *s (holding the defaults of the name). ST_INVALID: no JSON or a wrong type. A name field that differs is ignored. */
MUST_USE enum status settings_decode(struct bytes json, struct database_settings *s, struct err *err);

/* --- protobuf --- */
/* Lays what the request gives over *s; NULL gives nothing. is_update: permanent ones must not be given.
 * ST_INVALID with the published text. */
MUST_USE enum status settings_apply(const Immudb__Schema__DatabaseNullableSettings *given, bool is_update, struct database_settings *s,
                                    struct err *err);
/* Ranges and rules. ST_INVALID with the published text ("illegal arguments: ..."), without the outermost prefix. */
MUST_USE enum status settings_validate(const struct database_settings *s, struct err *err);
/* Every field set; in the arena, NULL when out of memory. */
Immudb__Schema__DatabaseNullableSettings *settings_message(const struct database_settings *s, struct arena *arena);
/* The message of the deprecated calls as one of the new kind: zero = not given; replication always given. In the arena. */
Immudb__Schema__DatabaseNullableSettings *settings_from_old(const Immudb__Schema__DatabaseSettings *old, struct arena *arena);

/* Checks a lower-case name: "database name length outside of limits", ... as published. */
MUST_USE enum status database_name_check(struct bytes name, struct err *err);
/* Unicode lower case, in the arena, NUL-terminated. What is no UTF-8 is kept: the check refuses it. */
MUST_USE enum status database_name_lower(struct bytes name, struct arena *arena, char **out, struct err *err);
static inline bool database_name_is_reserved(const char *name) { return strcmp(name, "systemdb") == 0 || strcmp(name, "defaultdb") == 0; }

#endif
