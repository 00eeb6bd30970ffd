/* What the program says about itself: help, usage, version, and the block of options at start and stop. */
#include "config/config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A growing text; failed once memory ran out. */
struct text {
    char *at;
    size_t len;
    bool failed;
};

static void add(struct text *t, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void add(struct text *t, const char *fmt, ...)
{
    va_list args;
    char *more = NULL, *bigger;
    int len;

    va_start(args, fmt);
    len = vasprintf(&more, fmt, args);
    va_end(args);
    if (len < 0 || t->failed || (bigger = realloc(t->at, t->len + (size_t)len + 1)) == NULL) {
        t->failed = true;
        if (len >= 0)
            free(more);
        return;
    }
    t->at = bigger;
    memcpy(t->at + t->len, more, (size_t)len + 1);
    t->len += (size_t)len;
    free(more);
}

static char *done(struct text *t)
{
    if (!t->failed)
        return t->at;
    free(t->at);
    return NULL;
}

static const char *type_name(enum flag_type type)
{
    return type == FLAG_STRING ? " string" : type == FLAG_INT ? " int" : type == FLAG_DURATION ? " duration" : "";
}

static void add_flags(struct text *t)
{
    size_t i, width = 0;
    char left[96];

    for (i = 0; i < FLAG_COUNT; i++) {
        size_t len = 8 + strlen(FLAGS[i].name) + strlen(type_name(FLAGS[i].type));

        width = (FLAGS[i].traits & FLAG_HIDDEN) == 0 && len > width ? len : width;
    }
    add(t, "Flags:\n");
    for (i = 0; i < FLAG_COUNT; i++) {
        const struct flag *f = &FLAGS[i];
        const char *value = f->shown != NULL ? f->shown : f->value;

        if ((f->traits & FLAG_HIDDEN) != 0)
            continue;
        if (f->letter != 0)
            snprintf(left, sizeof left, "  -%c, --%s%s", f->letter, f->name, type_name(f->type));
        else
            snprintf(left, sizeof left, "      --%s%s", f->name, type_name(f->type));
        add(t, "%-*s   %s", (int)width, left, f->help);
        if (f->type == FLAG_STRING ? value[0] != '\0' : strcmp(value, "false") != 0 && strcmp(value, "0") != 0 && strcmp(value, "0s") != 0)
            add(t, f->type == FLAG_STRING ? " (default \"%s\")" : " (default %s)", value);
        add(t, "\n");
    }
    add(t, "%-*s   %s\n", (int)width, "  -h, --help", "help for immudb");
}

static void add_usage(struct text *t)
{
    add(t, "Usage:\n  immudb [flags]\n  immudb [command]\n\n"
           "Available Commands:\n"
           "  completion  Generate a completion script for a shell\n"
           "  help        Help about any command\n"
           "  service     Manage immudb as a service of this machine\n"
           "  version     Show the version\n\n");
    add_flags(t);
}

char *config_help(void)
{
    struct text t = {0};

    add(&t, "immudb - an immutable, verifiable database\n\n"
            "Every option may also be given as environment variable: IMMUDB_ and its name in capitals with _ for -,\n"
            "e.g. IMMUDB_PORT=3322; or in a file, see --config. An option on the command line wins over the environment,\n"
            "and this over the file. LOG_LEVEL=error|warn|info|debug chooses what is logged.\n\n");
    add_usage(&t);
    add(&t, "\nUse \"immudb [command] --help\" for more information about a command.\n");
    return done(&t);
}

#ifndef IMMUDB_COMMIT
#define IMMUDB_COMMIT "unknown"
#endif

const char *config_commit(void) { return IMMUDB_COMMIT; }

char *config_version(void)
{
    struct text t = {0};

    add(&t, "immudb %s\nCommit  : %s\nStatic  : false\nFIPS enabled: false\n", IMMUDB_VERSION, IMMUDB_COMMIT);
    return done(&t);
}

/* One line of the block. Control characters do not get through: values come from users. */
static void row(struct text *t, const char *label, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void row(struct text *t, const char *label, const char *fmt, ...)
{
    char value[1024];
    va_list args;
    size_t i;

    va_start(args, fmt);
    vsnprintf(value, sizeof value, fmt, args);
    va_end(args);
    for (i = 0; value[i] != '\0'; i++)
        if ((unsigned char)value[i] < 0x20 || value[i] == 0x7f)
            value[i] = ' ';
    add(t, "%-17s: %s\n", label, value);
}

static void truth(struct text *t, const char *label, bool value) { row(t, label, "%s", value ? "true" : "false"); }

char *config_block(const struct config *c, bool shows_default_password)
{
    struct text t = {0};

    add(&t, "================ Config ================\n");
    row(&t, "Data dir", "%s", c->dir);
    row(&t, "Address", "%s:%lld", c->address, (long long)c->port);
    if (c->metrics_server)
        row(&t, "Metrics address", "%s:%lld/metrics", c->address, (long long)c->metrics_server_port);
    truth(&t, "Sync replication", c->replication_sync_enabled);
    row(&t, "Config file", "%s", c->file_used[0] != '\0' ? c->file_used : "configs/immudb.toml");
    if (c->pidfile[0] != '\0')
        row(&t, "PID file", "%s", c->pidfile);
    if (c->logfile[0] != '\0')
        row(&t, "Log file", "%s", c->logfile);
    row(&t, "Log format", "%s", c->logformat[0] != '\0' ? c->logformat : "text");
    row(&t, "Max recv msg size", "%lld", (long long)c->max_recv_msg_size);
    truth(&t, "Auth enabled", c->auth);
    truth(&t, "Dev mode", c->devmode);
    row(&t, "Default database", "defaultdb");
    truth(&t, "Maintenance mode", c->maintenance);
    truth(&t, "Synced mode", c->synced);
    if (c->signing_key[0] != '\0')
        row(&t, "Signing key", "%s", c->signing_key);
    if (shows_default_password && strcmp(c->admin_password, "immudb") == 0) {
        add(&t, "----------------------------------------\n");
        add(&t, "Superadmin default credentials\n");
        row(&t, "   Username", "immudb");
        row(&t, "   Password", "immudb");
    }
    add(&t, "========================================\n");
    return done(&t);
}
