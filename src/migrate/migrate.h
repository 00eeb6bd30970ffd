/* Copies all databases of a running server into a data folder: every transaction, verified, in order.
 *
 * For each database, systemdb first: the exported transactions from the folder's last one + 1 up to what the source has committed. Each must carry on
 * the chain of accumulative hashes, and the hash reached must be the one that the source's state names. What is in the folder is therefore always
 * a verified beginning of the source's history; stopping at any point loses nothing, and running again goes on from there. docs/migration.md. */
#ifndef MIGRATE_MIGRATE_H
#define MIGRATE_MIGRATE_H

#include <stdatomic.h>
#include <stdio.h>

#include "client/client.h"

struct migrate_options {
    const char *host;
    uint16_t port;
    const struct client_tls *tls;
    const char *username, *password;
    const char *dir;
    char *const *databases; /* names, NULL at the end; NULL: all. systemdb is always copied */
    struct bytes public_key;
    uint64_t silence_ns;     /* 0 = 60 s */
    uint64_t tx_bytes_max;   /* 0 = 1 GiB */
    unsigned retries;        /* connections lost in a row without a new transaction */
    uint64_t pause_max_ns;   /* between them; 0 = 30 s */
    bool is_quiet;           /* no progress */
    FILE *progress, *report; /* warnings too go to progress */
    const struct env *env;
    const _Atomic bool *stop; /* set from a signal handler; NULL: never */
};

/* How it went, for the exit code. */
enum migrate_end {
    MIGRATE_DONE = 0,
    MIGRATE_FAILED,     /* arguments, limits, disk, memory, permissions, stopped */
    MIGRATE_SKIPPED,    /* all was copied but databases that are not loaded at the source */
    MIGRATE_DIVERGED,   /* folder and source have different histories, or the source contradicts itself */
    MIGRATE_UNAVAILABLE /* the source cannot be reached (any more) */
};

/* err is filled unless the end is MIGRATE_DONE or MIGRATE_SKIPPED. */
MUST_USE enum migrate_end migrate_run(const struct migrate_options *o, struct err *err);

#endif
