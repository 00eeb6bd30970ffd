/* How many CPUs this process may use: its affinity mask, cut by the quota of its cgroup (v2). */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "rpc/server.h"

#define CPUS_MAX 64u

/* "max 100000" or "150000 100000" in cpu.max; CPUS_MAX when there is no quota or it can not be read. */
static unsigned quota_of(const char *path)
{
    unsigned long long quota, period;
    unsigned cpus = CPUS_MAX;
    FILE *f = fopen(path, "re");

    if (f == NULL)
        return CPUS_MAX;
    if (fscanf(f, "%llu %llu", &quota, &period) == 2 && period > 0 && quota > 0 && quota < (unsigned long long)CPUS_MAX * period)
        cpus = (unsigned)((quota + period - 1) / period);
    fclose(f);
    return cpus;
}

/* The process's own group, "0::/path" in /proc/self/cgroup. */
static bool own_group(char *out, size_t out_max)
{
    char line[512];
    bool is_found = false;
    FILE *f = fopen("/proc/self/cgroup", "re");

    if (f == NULL)
        return false;
    while (!is_found && fgets(line, sizeof(line), f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        is_found = strncmp(line, "0::/", 4) == 0 && (size_t)snprintf(out, out_max, "/sys/fs/cgroup%s", line + 3) < out_max;
    }
    fclose(f);
    return is_found;
}

unsigned cpu_count(void)
{
    char group[600], path[620];
    cpu_set_t set;
    unsigned cpus = 1, quota;
    char *slash;

    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        cpus = (unsigned)CPU_COUNT(&set);
    else if (errno == EINVAL) /* more CPUs than a cpu_set_t holds */
        cpus = CPUS_MAX;
    if (!own_group(group, sizeof(group)))
        snprintf(group, sizeof(group), "/sys/fs/cgroup");
    /* Every group above may have a quota of its own. */
    while ((slash = strrchr(group, '/')) != NULL && strlen(group) >= strlen("/sys/fs/cgroup")) {
        snprintf(path, sizeof(path), "%s/cpu.max", group);
        quota = quota_of(path);
        if (quota < cpus)
            cpus = quota;
        *slash = '\0';
    }
    return cpus == 0 ? 1 : cpus < CPUS_MAX ? cpus : CPUS_MAX;
}
