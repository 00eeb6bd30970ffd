/* The server's options: one table of all flags, and their values from command line, environment, file and defaults, in this order.
 *
 * Names, defaults, error texts and exit codes are the published ones (docs/configuration.md). A flag whose part does not exist yet is accepted and
 * named in a warning. No globals: everything is in the struct config that config_load() makes. Start-up only, one thread. */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include "base/bytes.h"
#include "base/err.h"

enum config_command { COMMAND_RUN = 0, COMMAND_HELP, COMMAND_VERSION, COMMAND_COMPLETION, COMMAND_MANGEN, COMMAND_SERVICE };
enum config_source { SOURCE_DEFAULT = 0, SOURCE_FILE, SOURCE_ENVIRONMENT, SOURCE_FLAG };

#define CONFIG_FLAGS_MAX 96
#define CONFIG_WARNINGS_MAX 64

struct config {
    /* one field per flag; strings are never NULL; durations in nanoseconds */
    char *address, *admin_password, *audit_log_events, *certificate, *clientcas, *config_file, *dir, *logdir, *logfile, *logformat, *pidfile, *pkey,
        *signing_key;
    bool audit_log, auth, auto_cert, detached, devmode, force_admin_password, grpc_reflection, log_access, log_request_metadata, maintenance,
        metrics_server, mtls, no_histograms, pgsql_server, pprof, swaggerui, synced, web_server;
    int64_t log_rotation_age, log_rotation_size, max_active_databases, max_key_length, max_recv_msg_size, max_session_age_time,
        max_session_inactivity_time, max_sessions, metrics_server_port, pgsql_server_port, port, session_timeout, sessions_guard_check_interval,
        token_expiry_time, web_server_port;
    /* replication of systemdb and defaultdb */
    bool replication_allow_tx_discarding, replication_is_replica, replication_skip_integrity_check, replication_sync_enabled,
        replication_wait_for_indexing;
    int64_t replication_commit_concurrency, replication_prefetch_tx_buffer_size, replication_primary_port, replication_sync_acks;
    char *replication_primary_database, *replication_primary_host, *replication_primary_password, *replication_primary_username;
    /* object storage */
    bool s3_external_identifier, s3_role_enabled, s3_storage;
    char *s3_access_key_id, *s3_bucket_name, *s3_endpoint, *s3_instance_metadata_url, *s3_location, *s3_path_prefix, *s3_role, *s3_secret_key,
        *s3_server_side_encryption, *s3_sse_kms_key_id, *s3_use_fargate_credentials;
    /* our own */
    bool mtls_strict;
    int64_t login_attempts_per_minute, memory_limit, reactors, slow_call_ms;

    enum config_source source[CONFIG_FLAGS_MAX]; /* by position in FLAGS */
    char *file_used;                             /* the configuration file that was read; "" = none */
    enum config_command command;
    char *command_text;                  /* what stands behind the command word, e.g. "install"; "" = nothing */
    char *warnings[CONFIG_WARNINGS_MAX]; /* for the log, once there is one */
    size_t warning_count;
};

enum flag_type { FLAG_STRING, FLAG_BOOL, FLAG_INT, FLAG_DURATION };
enum flag_traits {
    FLAG_LATER = 1,    /* accepted, its part does not exist yet: a warning when given */
    FLAG_HIDDEN = 2,   /* not in the help */
    FLAG_SECRET = 4,   /* value never shown */
    FLAG_PASSWORD = 8, /* "enc:" + base64 is decoded */
    FLAG_SIZE = 16     /* integers may carry K, M, G */
};
struct flag {
    const char *name;
    char letter; /* 0 = none */
    enum flag_type type;
    unsigned traits;
    size_t offset;     /* in struct config */
    const char *value; /* default, in the form a user would write it */
    const char *shown; /* default as the help shows it; NULL: value */
    int64_t min, max;  /* integers and durations */
    const char *help;
};
extern const struct flag FLAGS[];
extern const size_t FLAG_COUNT;
/* By name, old names included; NULL when unknown. */
const struct flag *flag_find(const char *name);

struct config_input {
    int argc;
    char *const *argv;
    char *const *envp; /* "NAME=value", NULL at the end */
    const char *home;  /* where immudb.toml is looked for; NULL: nowhere */
    bool is_installed; /* the installed binary also looks in /etc/immudb */
};
/* ST_INVALID for what the user must change; the text is to be shown as it is. ST_NOT_FOUND: explicit file missing. On failure *out still
 * comes when the command line itself was good enough to know the command (for usage), else NULL. */
MUST_USE enum status config_load(const struct config_input *in, struct config **out, struct err *err);
void config_free(struct config *c);
/* Was the flag given by anybody? */
bool config_is_given(const struct config *c, const char *name);

/* --- values (values.c) --- */
/* Go's duration notation: "300ms", "1m", "24h0m0s", "0". */
MUST_USE enum status duration_parse(const char *text, int64_t *ns, struct err *err);
/* "2m0s", "20ms", "0s": as Go prints it. */
void duration_format(int64_t ns, char out[32]);
MUST_USE enum status flag_parse_bool(const char *text, bool *out);
MUST_USE enum status flag_parse_int(const char *text, bool with_unit, int64_t *out);

/* --- texts (usage.c) --- */
/* malloc'ed; NULL when out of memory. */
char *config_help(void);
/* The block "=== Config ===" of start and stop, with the superadmin's first password where it is the published default and shows_default_password is
 * set, i.e. while it is known to be in force. malloc'ed. */
char *config_block(const struct config *c, bool shows_default_password);
/* Texts of commands whose part does not exist yet, and of version. malloc'ed. */
char *config_version(void);

/* The commit this program was built from, "unknown" when that could not be told. */
const char *config_commit(void);
#define IMMUDB_VERSION "1.11.1" /* the compatibility level that clients see */

#endif
