/* Checks a proof that somebody handed over, without any database: with libimmuverify alone.
 *
 *   cc verify.c $(pkg-config --cflags --libs immuverify) -o verify && ./verify proof.bin TRUSTED-TX TRUSTED-HASH
 *
 * TRUSTED-TX and TRUSTED-HASH (64 hexadecimal digits) are what was noted earlier from a source that is trusted; 0 and - when there is nothing yet. Prints what
 * is proven and what may be trusted from now on. Exit code 0: proven, 1: not, 2: usage. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <immudb_verify.h>

enum { PROOF_BYTES_MAX = 64 << 20 };

static int hash_parse(const char *text, immudb_hash *out)
{
    if (strlen(text) != 2 * sizeof out->bytes || strspn(text, "0123456789abcdefABCDEF") != 2 * sizeof out->bytes)
        return 0;
    for (size_t i = 0; i < sizeof out->bytes; i++) {
        char pair[3] = {text[2 * i], text[2 * i + 1], '\0'};

        out->bytes[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return 1;
}

/* The whole file; NULL with a message otherwise. */
static uint8_t *read_file(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = NULL;
    long end = -1;

    if (f != NULL && fseek(f, 0, SEEK_END) == 0)
        end = ftell(f);
    if (end > 0 && end <= PROOF_BYTES_MAX && fseek(f, 0, SEEK_SET) == 0 && (data = malloc((size_t)end)) != NULL) {
        *len = fread(data, 1, (size_t)end, f);
        if (*len != (size_t)end) {
            free(data);
            data = NULL;
        }
    }
    if (data == NULL)
        fprintf(stderr, "%s cannot be read\n", path);
    if (f != NULL)
        fclose(f);
    return data;
}

static immudb_status check(immudb_bytes bytes, uint64_t trusted_tx_id, const immudb_hash *trusted_alh, immudb_error *err)
{
    immudb_buffer *buffer = NULL;
    immudb_entry_proof proof;
    immudb_bytes key, value;
    immudb_hash alh;
    uint64_t tx_id;
    immudb_status status;

    immudb_entry_proof_init(&proof);
    if ((status = immudb_buffer_create(&buffer, err)) != IMMUDB_OK || (status = immudb_entry_proof_decode(bytes, buffer, &proof, err)) != IMMUDB_OK ||
        (status = immudb_verify_entry_proof(&proof, trusted_tx_id, trusted_alh, &tx_id, &alh, err)) != IMMUDB_OK)
        goto done;
    key = immudb_plain_key(proof.store_key);
    value = immudb_plain_value(proof.store_value);
    printf("proven: transaction %" PRIu64 " set \"%.*s\" to \"%.*s\"\n", proof.header->tx_id, (int)key.len, key.len > 0 ? (const char *)key.data : "",
           (int)value.len, value.len > 0 ? (const char *)value.data : "");
    printf("trust from now on: %" PRIu64 " ", tx_id);
    for (size_t i = 0; i < sizeof alh.bytes; i++)
        printf("%02x", alh.bytes[i]);
    printf("\n");
done:
    immudb_buffer_free(buffer);
    return status;
}

int main(int argc, char **argv)
{
    immudb_hash alh;
    immudb_error err;
    immudb_status status;
    size_t len = 0;
    uint64_t tx_id;
    uint8_t *data;

    memset(&alh, 0, sizeof alh);
    if (argc != 4 || (strcmp(argv[3], "-") != 0 && !hash_parse(argv[3], &alh))) {
        fprintf(stderr, "usage: %s PROOF-FILE TRUSTED-TX TRUSTED-HASH\n", argv[0]);
        return 2;
    }
    tx_id = strtoull(argv[2], NULL, 10);
    if ((tx_id == 0) != (strcmp(argv[3], "-") == 0) || (data = read_file(argv[1], &len)) == NULL)
        return 2;
    status = check(immudb_bytes_of(data, len), tx_id, &alh, &err);
    if (status != IMMUDB_OK)
        fprintf(stderr, "NOT proven: %s\n", err.text);
    free(data);
    return status == IMMUDB_OK ? 0 : 1;
}
