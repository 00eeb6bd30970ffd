/* Prometheus text exposition 0.0.4, written into a growing buffer. Escapes label values. One thread. */
#ifndef METRICS_METRICS_TEXT_H
#define METRICS_METRICS_TEXT_H

#include "base/bytes.h"
#include "base/err.h"

#define METRICS_BYTES_MAX (64u << 20)

struct metrics_text {
    char *text;
    size_t len, room;
    bool failed; /* out of memory or beyond the bound */
};

struct metric_label {
    const char *name, *value;
};

void metrics_text_free(struct metrics_text *t);
/* HELP and TYPE lines; type: "counter", "gauge", "histogram". */
void metrics_family(struct metrics_text *t, const char *name, const char *type, const char *help);
void metrics_sample(struct metrics_text *t, const char *name, const struct metric_label *labels, size_t label_count, double value);
void metrics_sample_u64(struct metrics_text *t, const char *name, const struct metric_label *labels, size_t label_count, uint64_t value);
/* Family and its only sample. */
void metrics_single(struct metrics_text *t, const char *name, const char *type, const char *help, double value);
/* name_bucket, name_sum, name_count. counts: per bucket, not cumulated, bound_count + 1 of them. */
void metrics_histogram(struct metrics_text *t, const char *name, const struct metric_label *labels, size_t label_count, const double *bounds,
                       size_t bound_count, const uint64_t *counts, double sum);

#endif
