/* Keys between the caller's form and the store's: 0x00 before plain ones, nothing before raw ones. */
#include "api/api_internal.h"

#include <stdlib.h>

#include "store/kv_encoding.h"

enum status key_not_indexed(struct err *err) { return err_set(err, ST_INVALID, 0, "no index covers this key"); }

enum status key_open(immudb_bytes key, uint32_t flags, struct key_ref *out, struct err *err)
{
    struct bytes k = bytes_in(key);
    struct writer w;
    uint8_t *buf = out->small;
    enum status st;

    out->big = NULL;
    out->store_key = out->index_key = bytes_of(NULL, 0);
    if ((st = bytes_check(key, "key", err)) != ST_OK)
        return st;
    if (k.len == 0)
        return err_set(err, ST_INVALID, 0, "empty key");
    if (k.len > INDEX_KEY_LEN_MAX)
        return err_set(err, ST_LIMIT, 0, "max key length exceeded");
    if ((flags & IMMUDB_RAW) != 0) {
        out->store_key = k;
        out->is_indexed = store_index_key(k, &out->ns, &out->index_key);
        return ST_OK;
    }
    if (kv_key_len(k.len) > sizeof out->small && (buf = out->big = malloc(kv_key_len(k.len))) == NULL)
        return err_set(err, ST_NOMEM, 0, "a key of %zu bytes", k.len);
    w = writer_of(buf, kv_key_len(k.len));
    kv_key_write(&w, k);
    out->store_key = bytes_of(buf, writer_len(&w));
    out->index_key = k;
    out->ns = INDEX_NS_KV;
    out->is_indexed = true;
    return ST_OK;
}

void key_close(struct key_ref *k) { free(k->big); }

uint64_t deadline_after_ms(const immudb_db *db, uint64_t timeout_ms)
{
    uint64_t now_ns = env_mono_ns(&db->runtime->env), ns, at;

    if (timeout_ms == IMMUDB_FOREVER || __builtin_mul_overflow(timeout_ms, 1000000u, &ns) || __builtin_add_overflow(now_ns, ns, &at))
        return 0;
    return at;
}
