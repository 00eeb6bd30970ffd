/* Reading vector files: JSON to the structs of the code under test. */
#include "golden.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_BYTES_MAX ((size_t)1 << 30)
#define FAILURES_SHOWN 60

bool golden_check(struct golden *g, bool is_ok, const char *what, const json_t *vector)
{
    if (is_ok) {
        g->passed++;
        return true;
    }
    if (++g->failed <= FAILURES_SHOWN)
        fprintf(stderr, "FAILED %s: %s, vector %lld %s\n", g->file, what, (long long)json_integer_value(json_object_get(vector, "_")),
                golden_text(vector, "note"));
    return false;
}

static bool file_read(const char *path, char **out, size_t *out_len)
{
    FILE *f = fopen(path, "rb");
    char *text = NULL;
    long len = 0;
    bool is_ok = false;

    *out = NULL;
    if (f == NULL)
        return false;
    if (fseek(f, 0, SEEK_END) == 0 && (len = ftell(f)) >= 0 && (size_t)len < FILE_BYTES_MAX && fseek(f, 0, SEEK_SET) == 0 &&
        (text = malloc((size_t)len + 1)) != NULL && fread(text, 1, (size_t)len, f) == (size_t)len)
        is_ok = true;
    fclose(f);
    if (!is_ok) {
        free(text);
        return false;
    }
    *out = text;
    *out_len = (size_t)len;
    return true;
}

static bool is_number_char(char c) { return isdigit((unsigned char)c) || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E'; }

/* An integer that does not fit int64_t. */
static bool is_too_big(const char *text, size_t len)
{
    char buf[64];

    if (len < 19 || len >= sizeof buf || memchr(text, '.', len) != NULL || memchr(text, 'e', len) != NULL || memchr(text, 'E', len) != NULL)
        return false;
    memcpy(buf, text, len);
    buf[len] = 0;
    errno = 0;
    strtoll(buf, NULL, 10);
    return errno == ERANGE;
}

/* The text with every integer that is too big for the JSON library put in quotes. NULL when out of memory. */
static char *big_integers_quoted(const char *text, size_t len, size_t *out_len)
{
    char *out = malloc(len * 2 + 1);
    bool is_string = false;
    size_t n = 0;

    for (size_t i = 0; out != NULL && i < len;) {
        size_t end = i;

        while (!is_string && end < len && is_number_char(text[end]))
            end++;
        if (end > i) {
            bool is_big = is_too_big(text + i, end - i);

            if (is_big)
                out[n++] = '"';
            memcpy(out + n, text + i, end - i);
            n += end - i;
            if (is_big)
                out[n++] = '"';
            i = end;
            continue;
        }
        if (is_string && text[i] == '\\' && i + 1 < len)
            out[n++] = text[i++];
        else if (text[i] == '"')
            is_string = !is_string;
        out[n++] = text[i++];
    }
    *out_len = n;
    return out;
}

json_t *golden_load(struct golden *g, const char *file)
{
    char path[4096], *text = NULL, *quoted = NULL;
    json_error_t error;
    json_t *root = NULL;
    size_t len = 0;

    g->file = file;
    snprintf(path, sizeof path, "%s/%s", g->dir, file);
    if (!file_read(path, &text, &len)) {
        if (errno != ENOENT)
            golden_check(g, false, "reading the file", NULL);
        return NULL;
    }
    quoted = big_integers_quoted(text, len, &len);
    root = quoted == NULL ? NULL : json_loadb(quoted, len, 0, &error);
    golden_check(g, root != NULL, "parsing the file", NULL);
    free(quoted);
    free(text);
    return root;
}

uint64_t golden_u64(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);

    return json_is_string(v) ? strtoull(json_string_value(v), NULL, 10) : (uint64_t)json_integer_value(v);
}

bool golden_true(const json_t *object, const char *key) { return json_is_true(json_object_get(object, key)); }

const char *golden_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text == NULL ? "" : text;
}

static unsigned hex_digit(char c)
{
    if (isdigit((unsigned char)c))
        return (unsigned)(c - '0');
    return (unsigned)(tolower((unsigned char)c) - 'a' + 10) & 15;
}

struct bytes golden_hex_of(struct golden *g, const json_t *value)
{
    const char *text = json_string_value(value);
    size_t len = text == NULL ? 0 : strlen(text) / 2;
    uint8_t *out = arena_alloc(&g->arena, len);

    if (out == NULL)
        abort(); /* a test program: no vectors without memory */
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)(hex_digit(text[2 * i]) << 4 | hex_digit(text[2 * i + 1]));
    return bytes_of(out, len);
}

struct bytes golden_hex(struct golden *g, const json_t *object, const char *key) { return golden_hex_of(g, json_object_get(object, key)); }

void golden_hash_of(struct golden *g, const json_t *value, hash_t *out)
{
    struct bytes b = golden_hex_of(g, value);

    *out = HASH_ZERO;
    memcpy(out->b, b.data, b.len < HASH_LEN ? b.len : HASH_LEN);
}

void golden_hash(struct golden *g, const json_t *object, const char *key, hash_t *out) { golden_hash_of(g, json_object_get(object, key), out); }

struct hash_list golden_hashes(struct golden *g, const json_t *list)
{
    size_t count = json_array_size(list);
    hash_t *items = arena_array(&g->arena, count, sizeof *items);

    if (items == NULL)
        abort();
    for (size_t i = 0; i < count; i++)
        golden_hash_of(g, json_array_get(list, i), &items[i]);
    return (struct hash_list){count, items};
}

bool golden_list_is(const struct hash_list *got, const struct hash_list *want)
{
    return got->count == want->count && (got->count == 0 || memcmp(got->items, want->items, got->count * sizeof(hash_t)) == 0);
}

void golden_kv_metadata(const json_t *object, struct kv_metadata *out)
{
    const json_t *expiration = json_object_get(object, "expiration");
    const json_t *expires_at = json_object_get(object, "expiresAt");

    *out = (struct kv_metadata){.is_deleted = golden_true(object, "deleted"), .is_non_indexable = golden_true(object, "nonIndexable")};
    if (json_is_object(expiration)) {
        out->has_expiry = true;
        out->expires_at = (int64_t)golden_u64(expiration, "expiresAt");
    } else if (expires_at != NULL && !json_is_null(expires_at)) {
        out->has_expiry = true;
        out->expires_at = (int64_t)golden_u64(object, "expiresAt");
    }
}

void golden_tx_metadata(struct golden *g, const json_t *object, struct tx_metadata *out)
{
    struct bytes extra = golden_hex(g, object, "extra");

    memset(out, 0, sizeof *out);
    out->truncated_upto = golden_u64(object, "truncatedTxID");
    out->extra_len = (uint16_t)(extra.len <= TX_EXTRA_BYTES_MAX ? extra.len : 0);
    memcpy(out->extra, extra.data, out->extra_len);
}

void golden_header(struct golden *g, const json_t *object, struct tx_header *out)
{
    memset(out, 0, sizeof *out);
    out->id = golden_u64(object, "id");
    out->ts = (int64_t)golden_u64(object, "ts");
    out->bl_tx_id = golden_u64(object, "blTxId");
    out->version = (uint32_t)golden_u64(object, "version");
    out->entry_count = (uint32_t)golden_u64(object, "nentries");
    golden_hash(g, object, "prevAlh", &out->prev_alh);
    golden_hash(g, object, "eH", &out->eh);
    golden_hash(g, object, "blRoot", &out->bl_root);
    golden_tx_metadata(g, json_object_get(object, "metadata"), &out->md);
}

static bool header_present(struct golden *g, const json_t *object, const char *key, struct tx_header *out)
{
    const json_t *header = json_object_get(object, key);

    golden_header(g, header, out);
    return json_object_size(header) > 0;
}

static void linear_read(struct golden *g, const json_t *object, struct linear_proof *out)
{
    /* The message definition spells this field with a capital letter. */
    const char *target = json_object_get(object, "TargetTxId") != NULL ? "TargetTxId" : "targetTxId";

    out->source_tx_id = golden_u64(object, "sourceTxId");
    out->target_tx_id = golden_u64(object, target);
    out->terms = golden_hashes(g, json_object_get(object, "terms"));
}

static void advance_read(struct golden *g, const json_t *object, struct linear_advance_proof *out)
{
    const json_t *paths = json_object_get(object, "inclusionProofs");
    struct hash_list *lists = arena_array(&g->arena, json_array_size(paths), sizeof *lists);

    if (lists == NULL)
        abort();
    for (size_t i = 0; i < json_array_size(paths); i++) {
        const json_t *path = json_array_get(paths, i);

        lists[i] = golden_hashes(g, json_is_object(path) ? json_object_get(path, "terms") : path);
    }
    out->is_present = json_object_size(object) > 0;
    out->terms = golden_hashes(g, json_object_get(object, "linearProofTerms"));
    out->inclusions = lists;
    out->inclusion_count = json_array_size(paths);
}

void golden_dual(struct golden *g, const json_t *object, struct dual_proof *out)
{
    memset(out, 0, sizeof *out);
    out->has_source = header_present(g, object, "sourceTxHeader", &out->source);
    out->has_target = header_present(g, object, "targetTxHeader", &out->target);
    out->inclusion = golden_hashes(g, json_object_get(object, "inclusionProof"));
    out->consistency = golden_hashes(g, json_object_get(object, "consistencyProof"));
    golden_hash(g, object, "targetBlTxAlh", &out->target_bl_alh);
    out->last_inclusion = golden_hashes(g, json_object_get(object, "lastInclusionProof"));
    out->has_linear = json_object_size(json_object_get(object, "linearProof")) > 0;
    linear_read(g, json_object_get(object, "linearProof"), &out->linear);
    advance_read(g, json_object_get(object, "linearAdvanceProof"), &out->advance);
}

void golden_dual_v2(struct golden *g, const json_t *object, struct dual_proof_v2 *out)
{
    memset(out, 0, sizeof *out);
    out->has_source = header_present(g, object, "sourceTxHeader", &out->source);
    out->has_target = header_present(g, object, "targetTxHeader", &out->target);
    out->inclusion = golden_hashes(g, json_object_get(object, "inclusionProof"));
    out->consistency = golden_hashes(g, json_object_get(object, "consistencyProof"));
}
