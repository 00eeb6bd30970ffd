/* The text form of metrics; see metrics_text.h. */
#include "metrics/metrics_text.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { LABELS_MAX = 8 };

void metrics_text_free(struct metrics_text *t)
{
    free(t->text);
    *t = (struct metrics_text){0};
}

static bool room_for(struct metrics_text *t, size_t len)
{
    size_t room = t->room == 0 ? 16384 : t->room;
    char *bigger;

    if (t->failed || len > METRICS_BYTES_MAX - t->len) {
        t->failed = true;
        return false;
    }
    while (room - t->len < len)
        room *= 2;
    if (room == t->room)
        return true;
    if ((bigger = realloc(t->text, room)) == NULL) {
        t->failed = true;
        return false;
    }
    t->text = bigger;
    t->room = room;
    return true;
}

static void put(struct metrics_text *t, const char *s, size_t len)
{
    if (room_for(t, len)) {
        memcpy(t->text + t->len, s, len);
        t->len += len;
    }
}

static void put_str(struct metrics_text *t, const char *s) { put(t, s, strlen(s)); }

void metrics_family(struct metrics_text *t, const char *name, const char *type, const char *help)
{
    put_str(t, "# HELP ");
    put_str(t, name);
    put_str(t, " ");
    put_str(t, help);
    put_str(t, "\n# TYPE ");
    put_str(t, name);
    put_str(t, " ");
    put_str(t, type);
    put_str(t, "\n");
}

static void put_labels(struct metrics_text *t, const struct metric_label *labels, size_t count)
{
    size_t i;
    const char *c;

    if (count == 0)
        return;
    for (i = 0; i < count; i++) {
        put_str(t, i == 0 ? "{" : ",");
        put_str(t, labels[i].name);
        put_str(t, "=\"");
        for (c = labels[i].value; *c != '\0'; c++) {
            if (*c == '\n')
                put_str(t, "\\n");
            else if (*c == '"' || *c == '\\')
                put(t, (const char[2]){'\\', *c}, 2);
            else
                put(t, c, 1);
        }
        put_str(t, "\"");
    }
    put_str(t, "}");
}

static void put_number(struct metrics_text *t, double v)
{
    char text[40];

    if (isinf(v))
        snprintf(text, sizeof text, v > 0 ? "+Inf" : "-Inf");
    else if (v == floor(v) && fabs(v) < 1e15)
        snprintf(text, sizeof text, "%.0f", v);
    else
        snprintf(text, sizeof text, "%.12g", v);
    put_str(t, text);
}

void metrics_sample(struct metrics_text *t, const char *name, const struct metric_label *labels, size_t label_count, double value)
{
    put_str(t, name);
    put_labels(t, labels, label_count);
    put_str(t, " ");
    put_number(t, value);
    put_str(t, "\n");
}

void metrics_sample_u64(struct metrics_text *t, const char *name, const struct metric_label *labels, size_t label_count, uint64_t value)
{
    char text[24];

    put_str(t, name);
    put_labels(t, labels, label_count);
    snprintf(text, sizeof text, " %llu\n", (unsigned long long)value);
    put_str(t, text);
}

void metrics_single(struct metrics_text *t, const char *name, const char *type, const char *help, double value)
{
    metrics_family(t, name, type, help);
    metrics_sample(t, name, NULL, 0, value);
}

void metrics_histogram(struct metrics_text *t, const char *name, const struct metric_label *labels, size_t label_count, const double *bounds,
                       size_t bound_count, const uint64_t *counts, double sum)
{
    struct metric_label with_bound[LABELS_MAX];
    char series[96], bound[32];
    uint64_t total = 0;
    size_t i;

    assert(label_count < LABELS_MAX);
    if (label_count > 0)
        memcpy(with_bound, labels, label_count * sizeof *labels);
    with_bound[label_count].name = "le";
    with_bound[label_count].value = bound;
    snprintf(series, sizeof series, "%s_bucket", name);
    for (i = 0; i <= bound_count; i++) {
        total += counts[i];
        if (i == bound_count)
            snprintf(bound, sizeof bound, "+Inf");
        else
            snprintf(bound, sizeof bound, "%.12g", bounds[i]);
        metrics_sample_u64(t, series, with_bound, label_count + 1, total);
    }
    snprintf(series, sizeof series, "%s_sum", name);
    metrics_sample(t, series, labels, label_count, sum);
    snprintf(series, sizeof series, "%s_count", name);
    metrics_sample_u64(t, series, labels, label_count, total);
}
