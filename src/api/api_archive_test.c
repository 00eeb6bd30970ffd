/* Proves that the archive goes together with a program that has functions of its own called as some of ours are inside, and that neither calls the other's. */
#include <immudb.h>

#include <stdio.h>
#include <stdlib.h>

static int called;
uint32_t crc32c(uint32_t seed, const void *data, size_t len);
void sha256(const void *data, size_t len, void *out);
void *arena_alloc(void *arena, size_t len);
int store_open(void);
uint32_t crc32c(uint32_t seed, const void *data, size_t len) { return called++, (void)data, seed + (uint32_t)len; }
void sha256(const void *data, size_t len, void *out) { called++, (void)data, (void)len, (void)out; }
void *arena_alloc(void *arena, size_t len) { return called++, (void)len, arena; }
int store_open(void) { return called++; }

int main(void)
{
    char dir[] = "/tmp/immudb-archive-XXXXXX", path[64], command[64];
    immudb_error err;
    immudb_options o;
    immudb_db *db;

    if (mkdtemp(dir) == NULL)
        return 1;
    snprintf(path, sizeof path, "%s/db", dir);
    snprintf(command, sizeof command, "rm -r %s", dir);
    immudb_options_init(&o);
    o.flags = IMMUDB_CREATE;
    if (immudb_open(path, &o, &db, &err) != IMMUDB_OK || immudb_set(db, immudb_str("a"), immudb_str("b"), NULL, NULL, &err) != IMMUDB_OK ||
        immudb_close(db, &err) != IMMUDB_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    return called == 0 && system(command) == 0 ? 0 : 1;
}
