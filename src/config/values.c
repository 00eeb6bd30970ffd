/* Texts to numbers, booleans and durations, as the published tools read them. */
#include "config/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum status flag_parse_bool(const char *text, bool *out)
{
    static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"}, *const no[] = {"0", "f", "F", "false", "FALSE", "False"};
    size_t i;

    for (i = 0; i < sizeof yes / sizeof yes[0]; i++) {
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *out = strcmp(text, yes[i]) == 0;
            return ST_OK;
        }
    }
    return ST_INVALID;
}

enum status flag_parse_int(const char *text, bool with_unit, int64_t *out)
{
    long long v;
    char *end;
    int shift = 0;

    if (*text == '\0' || (*text != '-' && *text != '+' && (*text < '0' || *text > '9')))
        return ST_INVALID;
    errno = 0;
    v = strtoll(text, &end, strncasecmp(text, "0x", 2) == 0 ? 16 : 10);
    if (errno != 0 || end == text)
        return ST_INVALID;
    if (with_unit && *end != '\0') {
        shift = *end == 'K' || *end == 'k' ? 10 : *end == 'M' || *end == 'm' ? 20 : *end == 'G' || *end == 'g' ? 30 : 0;
        if (shift == 0)
            return ST_INVALID;
        end++;
        if (strcmp(end, "iB") == 0)
            end += 2;
        else if (*end == 'B')
            end++;
    }
    if (*end != '\0' || __builtin_mul_overflow((int64_t)v, (int64_t)1 << shift, out))
        return ST_INVALID;
    return ST_OK;
}

/* One "12.5m" of a duration. */
static bool duration_part(const char **at, double *ns)
{
    static const struct {
        const char *unit;
        double ns;
    } units[] = {{"ns", 1}, {"us", 1e3}, {"\xc2\xb5s", 1e3}, {"\xce\xbcs", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}};
    size_t digits = strspn(*at, "0123456789."), i;
    char number[40];
    double v;
    char *end;

    if (digits == 0 || digits >= sizeof number)
        return false;
    memcpy(number, *at, digits);
    number[digits] = '\0';
    v = strtod(number, &end);
    if (*end != '\0' || strcmp(number, ".") == 0)
        return false;
    for (i = 0; i < sizeof units / sizeof units[0]; i++) {
        size_t len = strlen(units[i].unit);

        if (strncmp(*at + digits, units[i].unit, len) == 0 && strchr("0123456789.", (*at + digits)[len]) != NULL) {
            *ns += v * units[i].ns;
            *at += digits + len;
            return true;
        }
    }
    return false;
}

enum status duration_parse(const char *text, int64_t *ns, struct err *err)
{
    const char *at = text;
    double total = 0;
    bool is_negative = false;

    *ns = 0;
    if (*at == '-' || *at == '+')
        is_negative = *at++ == '-';
    if (strcmp(at, "0") == 0)
        return ST_OK;
    if (*at == '\0')
        goto bad;
    while (*at != '\0')
        if (!duration_part(&at, &total))
            goto bad;
    if (total > 9.2e18)
        goto bad;
    *ns = (int64_t)(is_negative ? -total : total);
    return ST_OK;
bad:
    return err_set(err, ST_INVALID, 0, "time: invalid duration \"%s\"", text);
}

void duration_format(int64_t ns, char out[32])
{
    const char *sign = ns < 0 ? "-" : "";
    uint64_t v = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;
    double s = (double)(v % 60000000000u) / 1e9;

    if (v == 0)
        snprintf(out, 32, "0s");
    else if (v < 1000)
        snprintf(out, 32, "%s%lluns", sign, (unsigned long long)v);
    else if (v < 1000000)
        snprintf(out, 32, "%s%.10g\xc2\xb5s", sign, (double)v / 1e3);
    else if (v < 1000000000)
        snprintf(out, 32, "%s%.10gms", sign, (double)v / 1e6);
    else if (v < 60000000000u)
        snprintf(out, 32, "%s%.10gs", sign, s);
    else if (v < 3600000000000u)
        snprintf(out, 32, "%s%llum%.10gs", sign, (unsigned long long)(v / 60000000000u), s);
    else
        snprintf(out, 32, "%s%lluh%llum%.10gs", sign, (unsigned long long)(v / 3600000000000u), (unsigned long long)(v / 60000000000u % 60), s);
}
