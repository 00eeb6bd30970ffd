/* Progress of a copy: a line that is rewritten every second on a terminal, a line every ten seconds elsewhere. */
#ifndef MIGRATE_PROGRESS_H
#define MIGRATE_PROGRESS_H

#include <stdio.h>

#include "base/env.h"

struct progress {
    const struct env *env;
    FILE *out;
    bool is_terminal, is_quiet, has_line;
    const char *database;
    uint64_t first, now, last; /* tx ids: where this copy began, is, ends */
    uint64_t bytes;
    uint64_t started_ns, shown_ns;
};

void progress_init(struct progress *p, const struct env *env, FILE *out, bool is_quiet);
void progress_begin(struct progress *p, const char *database, uint64_t first, uint64_t last);
/* Cheap; shows something now and then. */
void progress_tick(struct progress *p);
void progress_end(struct progress *p);
/* A line of its own, shown also when quiet. */
void progress_note(struct progress *p, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* "12.3 MB". */
void progress_bytes(uint64_t bytes, char out[32]);

#endif
