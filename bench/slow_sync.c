/* Preloaded into a server, makes every fdatasync() and fsync() take SLOW_SYNC_US microseconds longer (default 2,000), as the disks of clouds do:
 *
 *   LD_PRELOAD=build/bench/libslow_sync.so SLOW_SYNC_US=2000 build/cmd/immudb ... */
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int slowly(const char *name, int fd)
{
    const char *text = getenv("SLOW_SYNC_US");
    long us = text != NULL ? strtol(text, NULL, 10) : 2000;
    struct timespec pause = {us / 1000000, us % 1000000 * 1000};
    void *found = dlsym(RTLD_NEXT, name);
    int (*real)(int) = NULL;

    __builtin_memcpy(&real, &found, sizeof real);
    nanosleep(&pause, NULL);
    return real == NULL ? -1 : real(fd);
}

__attribute__((visibility("default"))) int fdatasync(int fd) { return slowly("fdatasync", fd); }
__attribute__((visibility("default"))) int fsync(int fd) { return slowly("fsync", fd); }
