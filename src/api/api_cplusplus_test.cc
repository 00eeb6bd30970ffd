// Proves that both headers are C++ (nothing of C11 alone, no keyword as a name), that names link as C, and that calls work from there.
#include <immudb.h>

#include <cstdio>
#include <cstdlib>
#include <string>

static int fail(const char *what, const immudb_error &err)
{
    std::fprintf(stderr, "%s: %s\n", what, err.text);
    return 1;
}

static immudb_bytes of(const std::string &s) { return immudb_bytes_of(s.data(), s.size()); }

static void done(void *ctx, immudb_status status, const immudb_committed *, const immudb_error *) { *static_cast<immudb_status *>(ctx) = status; }

int main()
{
    char dir[] = "/tmp/immudb-cc-XXXXXX";
    immudb_error err;
    immudb_options o;
    immudb_entry e;
    immudb_db *db = nullptr;
    immudb_tx *tx = nullptr;
    immudb_buffer *buffer = nullptr;
    immudb_status answer = -1;

    if (mkdtemp(dir) == nullptr)
        return 1;
    const std::string path = std::string(dir) + "/db";
    immudb_options_init(&o);
    immudb_entry_init(&e);
    o.flags = IMMUDB_CREATE | IMMUDB_ASYNC;
    if (immudb_open(path.c_str(), &o, &db, &err) != IMMUDB_OK || immudb_buffer_create(&buffer, &err) != IMMUDB_OK)
        return fail("open", err);
    if (immudb_tx_begin(db, nullptr, &tx, &err) != IMMUDB_OK || immudb_tx_set(tx, of("key"), of("value"), nullptr, &err) != IMMUDB_OK)
        return fail("set", err);
    immudb_tx_commit_async(tx, done, &answer);
    if (immudb_sync(db, &err) != IMMUDB_OK || answer != IMMUDB_OK)
        return fail("commit", err);
    if (immudb_get(db, of("key"), nullptr, buffer, &e, &err) != IMMUDB_OK || std::string(static_cast<const char *>(e.value.data), e.value.len) != "value")
        return fail("get", err);
    immudb_buffer_free(buffer);
    if (immudb_close(db, &err) != IMMUDB_OK)
        return fail("close", err);
    return std::system(("rm -r " + std::string(dir)).c_str());
}
