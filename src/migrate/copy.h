/* Copying one database as far as the source has committed it; see migrate.h. */
#ifndef MIGRATE_COPY_H
#define MIGRATE_COPY_H

#include "migrate/progress.h"
#include "migrate/source.h"
#include "store/store.h"

struct copy_result {
    uint64_t tx_id; /* where the folder stands now */
    hash_t alh;
    uint64_t txs, bytes, ns; /* added by this copy */
    bool is_same;            /* it is what the source's state named */
};

enum copy_fault {
    COPY_NO_FAULT = 0,
    COPY_FAULT_SOURCE,  /* connection, session, overload: worth another try */
    COPY_FAULT_REFUSED, /* the source does not give it: permission, no such database */
    COPY_FAULT_HISTORY, /* different histories, damaged or forged data */
    COPY_FAULT_HERE     /* disk, memory, stopped */
};

/* out is filled also after a failure: what was added before it stays. */
MUST_USE enum copy_fault copy_database(struct source *source, const char *name, struct store *store, const struct env *env, struct progress *progress,
                                       struct copy_result *out, struct err *err);

#endif
