/* A first program with the database inside: open, write, read, verified read, history, scan, proof for somebody else, close.
 *
 *   cc embed.c $(pkg-config --cflags --libs immudb) -o embed && ./embed ./data ./proof.bin
 *
 * The proof file can be checked elsewhere, without the database: verify.c. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <immudb.h>

static immudb_error err;

/* Every call tells what went wrong; this program just says so and ends. */
static void must(immudb_status status, const char *what)
{
    if (status == IMMUDB_OK)
        return;
    fprintf(stderr, "%s: %s (%s)\n", what, err.text, immudb_status_name(status));
    exit(1);
}

static void print(const char *label, const immudb_entry *e)
{
    printf("%-8s %.*s = %.*s   (tx %" PRIu64 ", revision %" PRIu64 "%s)\n", label, (int)e->key.len, (const char *)e->key.data, (int)e->value.len,
           (const char *)e->value.data, e->tx_id, e->revision, (e->flags & IMMUDB_ENTRY_DELETED) != 0 ? ", deleted" : "");
}

static immudb_db *open_database(const char *path)
{
    immudb_options o;
    immudb_db *db;

    immudb_options_init(&o); /* everything else: defaults; a commit is on disk when it answers */
    o.flags = IMMUDB_CREATE;
    must(immudb_open(path, &o, &db, &err), "opening");
    return db;
}

static void write_some(immudb_db *db)
{
    immudb_pair fruits[] = {{immudb_str("fruit:apple"), immudb_str("red")}, {immudb_str("fruit:pear"), immudb_str("green")}};
    immudb_committed c;
    immudb_tx *tx;

    immudb_committed_init(&c);
    must(immudb_set(db, immudb_str("balance"), immudb_str("100"), NULL, &c, &err), "setting");
    printf("set      balance in transaction %" PRIu64 "\n", c.tx_id);
    must(immudb_set_many(db, fruits, 2, 0, NULL, &err), "setting two at once");
    must(immudb_delete(db, immudb_str("fruit:pear"), 0, NULL, &err), "deleting");

    must(immudb_tx_begin(db, NULL, &tx, &err), "beginning");
    must(immudb_tx_set(tx, immudb_str("balance"), immudb_str("90"), NULL, &err), "setting");
    must(immudb_tx_set(tx, immudb_str("log:1"), immudb_str("paid 10"), NULL, &err), "setting");
    must(immudb_tx_commit(tx, NULL, &err), "committing"); /* takes tx, also when it fails */
}

static void read_some(immudb_db *db, immudb_buffer *buffer, immudb_state *trusted)
{
    immudb_scan_options so;
    immudb_cursor *cursor;
    immudb_status status;
    immudb_entry e;

    immudb_entry_init(&e);
    must(immudb_get(db, immudb_str("balance"), NULL, buffer, &e, &err), "getting");
    print("get", &e);

    /* The same with proof: fails when the database was changed behind our back since *trusted was noted. Keep it in a file of your own. */
    must(immudb_verified_get(db, immudb_str("balance"), 0, 0, trusted, buffer, &e, &err), "getting with proof");
    print("verified", &e);

    must(immudb_history(db, NULL, immudb_str("balance"), 0, 0, &cursor, &err), "history");
    while ((status = immudb_cursor_next(cursor, &e, &err)) == IMMUDB_OK)
        print("history", &e);
    immudb_cursor_close(cursor);
    if (status != IMMUDB_NOT_FOUND) /* that is the end of the list */
        must(status, "history");

    immudb_scan_options_init(&so);
    so.prefix = immudb_str("fruit:");
    must(immudb_scan(db, &so, &cursor, &err), "scanning");
    while ((status = immudb_cursor_next(cursor, &e, &err)) == IMMUDB_OK)
        print("scan", &e);
    immudb_cursor_close(cursor);
    if (status != IMMUDB_NOT_FOUND)
        must(status, "scanning");
}

/* For somebody who trusts the first transaction: proves the newest balance, and that the history in between was only added to. */
static void write_proof(immudb_db *db, immudb_buffer *buffer, const char *path)
{
    immudb_buffer *bytes_buffer;
    immudb_entry_proof proof;
    immudb_header header;
    immudb_bytes bytes;
    immudb_hash alh;
    FILE *f = fopen(path, "wb");

    immudb_entry_proof_init(&proof);
    immudb_header_init(&header);
    must(immudb_buffer_create(&bytes_buffer, &err), "a buffer");
    must(immudb_header_get(db, 1, &header, &alh, &err), "reading a header");
    must(immudb_prove_entry(db, immudb_str("balance"), 0, 1, 0, buffer, &proof, &err), "proving");
    must(immudb_verify_entry_proof(&proof, 1, &alh, NULL, NULL, &err), "verifying");
    must(immudb_entry_proof_encode(&proof, bytes_buffer, &bytes, &err), "encoding");
    if (f == NULL || fwrite(bytes.data, 1, bytes.len, f) != bytes.len || fclose(f) != 0) {
        perror(path);
        exit(1);
    }
    printf("proof    %zu bytes in %s; check: ./verify %s 1 ", bytes.len, path, path);
    for (size_t i = 0; i < sizeof alh.bytes; i++)
        printf("%02x", alh.bytes[i]);
    printf("\n");
    immudb_buffer_free(bytes_buffer);
}

int main(int argc, char **argv)
{
    immudb_buffer *buffer;
    immudb_state trusted;
    immudb_db *db;

    if (argc != 3) {
        fprintf(stderr, "usage: %s DIRECTORY PROOF-FILE\n", argv[0]);
        return 2;
    }
    immudb_state_init(&trusted); /* nothing is trusted yet */
    must(immudb_buffer_create(&buffer, &err), "a buffer");
    db = open_database(argv[1]);
    write_some(db);
    read_some(db, buffer, &trusted);
    write_proof(db, buffer, argv[2]);
    must(immudb_close(db, &err), "closing");
    immudb_buffer_free(buffer);
    return 0;
}
