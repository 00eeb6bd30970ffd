/* All flags of the server in one table, in order of names as the help shows them. */
#include "config/config.h"

#include <assert.h>
#include <string.h>

#define AT(field) offsetof(struct config, field)
#define SECONDS(n) ((int64_t)(n)*1000000000)
#define ANY INT64_MAX
#define STR(name, letter, traits, field, value, help) \
    { \
        name, letter, FLAG_STRING, traits, AT(field), value, NULL, 0, 0, help \
    }
#define BOOL(name, letter, traits, field, value, help) \
    { \
        name, letter, FLAG_BOOL, traits, AT(field), value, NULL, 0, 0, help \
    }
#define INT(name, letter, traits, field, value, min, max, help) \
    { \
        name, letter, FLAG_INT, traits, AT(field), value, NULL, min, max, help \
    }
#define TIME(name, traits, field, value, min, help) \
    { \
        name, 0, FLAG_DURATION, traits, AT(field), value, NULL, min, ANY, help \
    }

const struct flag FLAGS[] = {
    STR("address", 'a', 0, address, "0.0.0.0", "address that all listeners are bound to"),
    STR("admin-password", 0, FLAG_SECRET | FLAG_PASSWORD, admin_password, "immudb",
        "first password of user immudb, used when the data folder is new; enc: and base64 hides it from view"),
    BOOL("audit-log", 0, 0, audit_log, "false", "keep a record of every call in systemdb"),
    STR("audit-log-events", 0, 0, audit_log_events, "all", "which calls are recorded: all, write or admin"),
    {"auth", 's', FLAG_BOOL, 0, AT(auth), "true", "false", 0, 0, "demand authentication (on unless --auth=false is given)"},
    BOOL("auto-cert", 0, 0, auto_cert, "false", "make and use a self-signed certificate, kept in the data folder"),
    STR("certificate", 0, 0, certificate, "", "TLS certificate (PEM)"),
    STR("clientcas", 0, 0, clientcas, "", "certificates (PEM) that client certificates are checked against"),
    {"config", 0, FLAG_STRING, 0, AT(config_file), "", "path are configs or $HOME. Default filename is immudb.toml", 0, 0, "configuration file"},
    BOOL("detached", 'd', 0, detached, "false", "run in the background"),
    BOOL("devmode", 0, 0, devmode, "false", "development mode: without authentication other hosts may connect, too"),
    STR("dir", 0, 0, dir, "./data", "data folder"),
    BOOL("force-admin-password", 0, 0, force_admin_password, "false", "set the password of user immudb to --admin-password at every start"),
    BOOL("grpc-reflection", 0, 0, grpc_reflection, "true", "serve gRPC reflection"),
    BOOL("log-access", 0, 0, log_access, "false", "log a line for every call"),
    BOOL("log-request-metadata", 0, 0, log_request_metadata, "false", "store user and address in the metadata of transactions"),
    TIME("log-rotation-age", 0, log_rotation_age, "0s", 0, "begin a new log file after so long, at least 1m; 0 = never"),
    INT("log-rotation-size", 0, FLAG_SIZE, log_rotation_size, "0", 0, ANY, "begin a new log file after so many bytes; 0 = never"),
    STR("logdir", 0, 0, logdir, "immulog", "folder of log files, below --dir unless it is absolute"),
    STR("logfile", 0, 0, logfile, "", "name of the log file; empty = stderr"),
    STR("logformat", 0, 0, logformat, "", "text or json"),
    INT("login-attempts-per-minute", 0, 0, login_attempts_per_minute, "30", 0, 1000000,
        "failed logins that one address may make for one user; 0 = as many as it likes"),
    BOOL("maintenance", 0, 0, maintenance, "false", "maintenance mode (see --auth)"),
    INT("max-active-databases", 0, 0, max_active_databases, "100", 1, 100000,
        "databases that are open at the same time; the least used ones are closed"),
    INT("max-key-length", 0, FLAG_LATER, max_key_length, "0", 0, 65535, "longest indexed VARCHAR, 64 to 65535; 0 = 1024"),
    INT("max-recv-msg-size", 0, FLAG_SIZE, max_recv_msg_size, "33554432", 1024, 1 << 30, "largest message that is accepted, in bytes"),
    TIME("max-session-age-time", 0, max_session_age_time, "0s", 0, "a session ends after so long; 0 = never"),
    TIME("max-session-inactivity-time", 0, max_session_inactivity_time, "3m0s", 0, "a session counts as inactive after so long"),
    INT("max-sessions", 0, 0, max_sessions, "100", 1, 10000000, "sessions that are open at the same time"),
    INT("memory-limit", 0, FLAG_SIZE, memory_limit, "0", 0, ANY,
        "memory for caches, queues and requests, in bytes; 0 = 256M or half of the container's limit"),
    BOOL("metrics-server", 0, 0, metrics_server, "true", "serve metrics and health checks over HTTP"),
    INT("metrics-server-port", 0, 0, metrics_server_port, "9497", 0, 65535, "port of metrics and health checks"),
    BOOL("mtls", 'm', 0, mtls, "false", "demand client certificates"),
    BOOL("mtls-strict", 0, 0, mtls_strict, "true", "with --mtls: refuse clients without a certificate (false: only check those that are sent)"),
    BOOL("no-histograms", 0, 0, no_histograms, "false", "leave grpc_server_handling_seconds out of the metrics"),
    BOOL("pgsql-server", 0, FLAG_LATER, pgsql_server, "true", "serve the PostgreSQL protocol"),
    INT("pgsql-server-port", 0, FLAG_LATER, pgsql_server_port, "5432", 0, 65535, "port of the PostgreSQL protocol"),
    STR("pidfile", 0, 0, pidfile, "", "file that receives the process id"),
    STR("pkey", 0, 0, pkey, "", "TLS private key (PEM)"),
    INT("port", 'p', 0, port, "3322", 0, 65535, "gRPC port"),
    BOOL("pprof", 0, FLAG_LATER, pprof, "false", "serve profiles on the metrics port"),
    INT("reactors", 0, 0, reactors, "0", 0, 64, "network threads; 0 = as many as this process may use processors"),
    BOOL("replication-allow-tx-discarding", 0, FLAG_LATER, replication_allow_tx_discarding, "false",
         "a replica may drop precommitted transactions when it diverged"),
    INT("replication-commit-concurrency", 0, FLAG_LATER, replication_commit_concurrency, "10", 1, 1000, "commits at the same time on a replica"),
    BOOL("replication-is-replica", 0, FLAG_LATER, replication_is_replica, "false", "systemdb and defaultdb follow a primary"),
    INT("replication-prefetch-tx-buffer-size", 0, FLAG_LATER, replication_prefetch_tx_buffer_size, "100", 1, 1000000, "transactions fetched ahead"),
    STR("replication-primary-database", 0, FLAG_LATER | FLAG_HIDDEN, replication_primary_database, "", "accepted for old configurations"),
    STR("replication-primary-host", 0, FLAG_LATER, replication_primary_host, "", "host of the primary"),
    STR("replication-primary-password", 0, FLAG_LATER | FLAG_SECRET | FLAG_PASSWORD, replication_primary_password, "", "password on the primary"),
    INT("replication-primary-port", 0, FLAG_LATER, replication_primary_port, "3322", 0, 65535, "port of the primary"),
    STR("replication-primary-username", 0, FLAG_LATER, replication_primary_username, "", "user on the primary"),
    BOOL("replication-skip-integrity-check", 0, FLAG_LATER, replication_skip_integrity_check, "false", "do not check values while exporting"),
    INT("replication-sync-acks", 0, FLAG_LATER, replication_sync_acks, "0", 0, 1000, "replicas that must acknowledge before a commit"),
    BOOL("replication-sync-enabled", 0, FLAG_LATER, replication_sync_enabled, "false", "synchronous replication"),
    BOOL("replication-wait-for-indexing", 0, FLAG_LATER, replication_wait_for_indexing, "false", "a replica waits for the index"),
    STR("s3-access-key-id", 0, FLAG_LATER | FLAG_SECRET, s3_access_key_id, "", "object storage: key id"),
    STR("s3-bucket-name", 0, FLAG_LATER, s3_bucket_name, "", "object storage: bucket"),
    STR("s3-endpoint", 0, FLAG_LATER, s3_endpoint, "", "object storage: URL"),
    BOOL("s3-external-identifier", 0, FLAG_LATER, s3_external_identifier, "false",
         "take the server's identifier from the bucket when there is no local one"),
    STR("s3-instance-metadata-url", 0, FLAG_LATER, s3_instance_metadata_url, "http://169.254.169.254", "object storage: metadata service"),
    STR("s3-location", 0, FLAG_LATER, s3_location, "", "object storage: region"),
    STR("s3-path-prefix", 0, FLAG_LATER, s3_path_prefix, "", "object storage: prefix of all objects"),
    STR("s3-role", 0, FLAG_LATER, s3_role, "", "object storage: role"),
    BOOL("s3-role-enabled", 0, FLAG_LATER, s3_role_enabled, "false", "object storage: credentials of the instance's role"),
    STR("s3-secret-key", 0, FLAG_LATER | FLAG_SECRET, s3_secret_key, "", "object storage: secret"),
    STR("s3-server-side-encryption", 0, FLAG_LATER, s3_server_side_encryption, "", "object storage: empty, AES256 or aws:kms"),
    STR("s3-sse-kms-key-id", 0, FLAG_LATER, s3_sse_kms_key_id, "", "object storage: KMS key"),
    BOOL("s3-storage", 0, FLAG_LATER, s3_storage, "false", "keep sealed files in object storage"),
    STR("s3-use-fargate-credentials", 0, FLAG_LATER, s3_use_fargate_credentials, "false", "object storage: credentials of the container service"),
    TIME("session-timeout", 0, session_timeout, "2m0s", 0, "an idle session ends after so long; 0 = never"),
    TIME("sessions-guard-check-interval", FLAG_HIDDEN, sessions_guard_check_interval, "1m0s", SECONDS(1) / 1000,
         "how often idle sessions are looked for"),
    STR("signingKey", 0, 0, signing_key, "", "EC private key (PEM) that signs states"),
    INT("slow-call-ms", 0, 0, slow_call_ms, "1000", 0, 86400000, "log a line for a call that takes so long; 0 = never"),
    BOOL("swaggerui", 0, FLAG_LATER, swaggerui, "true", "serve the API description"),
    BOOL("synced", 0, 0, synced, "true", "answer a write only once it is on disk"),
    INT("token-expiry-time", 0, 0, token_expiry_time, "1440", 0, 100000000, "life of a login token, in minutes"),
    BOOL("web-server", 0, FLAG_LATER, web_server, "true", "serve REST and the console"),
    INT("web-server-port", 0, FLAG_LATER, web_server_port, "8080", 0, 65535, "port of REST and the console"),
};
const size_t FLAG_COUNT = sizeof FLAGS / sizeof FLAGS[0];
static_assert(sizeof FLAGS / sizeof FLAGS[0] <= CONFIG_FLAGS_MAX, "struct config has room for the sources of all flags");

/* Names of earlier releases. */
static const char *const OLD_NAMES[][2] = {
    {"replication-enabled", "replication-is-replica"},
    {"replication-follower-username", "replication-primary-username"},
    {"replication-follower-password", "replication-primary-password"},
    {"replication-master-database", "replication-primary-database"},
    {"replication-master-address", "replication-primary-host"},
    {"replication-master-port", "replication-primary-port"},
};

const struct flag *flag_find(const char *name)
{
    size_t i;

    for (i = 0; i < sizeof OLD_NAMES / sizeof OLD_NAMES[0]; i++)
        if (strcmp(OLD_NAMES[i][0], name) == 0)
            name = OLD_NAMES[i][1];
    for (i = 0; i < FLAG_COUNT; i++)
        if (strcmp(FLAGS[i].name, name) == 0)
            return &FLAGS[i];
    return NULL;
}
