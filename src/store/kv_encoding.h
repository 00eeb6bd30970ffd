/* Keys and values of the key-value layer inside store keys and store values (docs/verification.md "KV layer encodings").
 *
 *   set        key 00 || key                                                        value 00 || value
 *   reference  key 00 || key                                                        value 01 || u64(at tx) || 00 || referenced key
 *   zadd       key 01 || u64(len set) || set || score || u64(1 + len key) || 00 || key || u64(at tx)   value empty
 *   delete     key 00 || key                                                        value empty, metadata "deleted"
 *
 * All integers big-endian; score = the IEEE-754 bits of the double as they are (no order-preserving transformation: negative
 * scores sort after positive ones). These bytes are hashed: they never change. Writers take a struct writer and leave it failed
 * when the room is too small; the *_len functions tell how much is needed. Decoders borrow from their input. Pure functions. */
#ifndef STORE_KV_ENCODING_H
#define STORE_KV_ENCODING_H

#include "base/bytes.h"

/* First byte of a store key. */
enum key_prefix { KEY_PREFIX_KV = 0x00, KEY_PREFIX_ZSET = 0x01, KEY_PREFIX_SQL = 0x02, KEY_PREFIX_DOCUMENT = 0x03 };
/* First byte of a store value under KEY_PREFIX_KV. */
enum value_prefix { VALUE_PREFIX_PLAIN = 0x00, VALUE_PREFIX_REFERENCE = 0x01 };

/* --- plain keys and values --- */
static inline size_t kv_key_len(size_t user_key_len) { return 1 + user_key_len; }
static inline void kv_key_write(struct writer *w, struct bytes user_key)
{
    writer_u8(w, KEY_PREFIX_KV);
    writer_put(w, user_key.data, user_key.len);
}
/* false when the store key is not one of the key-value layer or holds no user key. */
static inline bool kv_key_decode(struct bytes store_key, struct bytes *user_key)
{
    if (store_key.len < 2 || store_key.data[0] != KEY_PREFIX_KV)
        return false;
    *user_key = bytes_of(store_key.data + 1, store_key.len - 1);
    return true;
}

static inline size_t kv_value_len(size_t user_value_len) { return 1 + user_value_len; }
static inline void kv_value_write(struct writer *w, struct bytes user_value)
{
    writer_u8(w, VALUE_PREFIX_PLAIN);
    writer_put(w, user_value.data, user_value.len);
}

/* --- references --- */
/* Where a late tx id goes (draft_late_tx_id, in the value). */
#define KV_REFERENCE_AT_TX_OFFSET 1u
static inline size_t kv_reference_len(size_t referenced_user_key_len) { return 1 + 8 + 1 + referenced_user_key_len; }
/* at_tx 0 = unbound. */
static inline void kv_reference_write(struct writer *w, uint64_t at_tx, struct bytes referenced_user_key)
{
    writer_u8(w, VALUE_PREFIX_REFERENCE);
    writer_u64be(w, at_tx);
    kv_key_write(w, referenced_user_key);
}

enum kv_value_kind { KV_VALUE_NONE = 0 /* empty: a deletion */, KV_VALUE_PLAIN, KV_VALUE_REFERENCE };
struct kv_value {
    enum kv_value_kind kind;
    struct bytes value;          /* KV_VALUE_PLAIN: without its prefix */
    uint64_t at_tx;              /* KV_VALUE_REFERENCE: 0 = unbound */
    struct bytes referenced_key; /* KV_VALUE_REFERENCE: user key, without prefix */
};
/* false: malformed (unknown prefix, or a reference too short or to something else than a key). */
static inline bool kv_value_decode(struct bytes store_value, struct kv_value *out)
{
    memset(out, 0, sizeof *out);
    if (store_value.len == 0)
        return true;
    if (store_value.data[0] == VALUE_PREFIX_PLAIN) {
        out->kind = KV_VALUE_PLAIN;
        out->value = bytes_of(store_value.data + 1, store_value.len - 1);
        return true;
    }
    if (store_value.data[0] != VALUE_PREFIX_REFERENCE || store_value.len < 1 + 8 + 2)
        return false;
    out->kind = KV_VALUE_REFERENCE;
    out->at_tx = load_u64be(store_value.data + 1);
    return kv_key_decode(bytes_of(store_value.data + 9, store_value.len - 9), &out->referenced_key);
}

/* --- sorted sets --- */
struct zset_member {
    struct bytes set;
    double score;
    struct bytes key; /* user key, without prefix */
    uint64_t at_tx;   /* 0 = unbound */
};
static inline uint64_t zset_score_bits(double score)
{
    uint64_t bits;

    memcpy(&bits, &score, sizeof bits);
    return bits;
}
static inline double zset_score_of_bits(uint64_t bits)
{
    double score;

    memcpy(&score, &bits, sizeof score);
    return score;
}
static inline size_t zset_key_len(size_t set_len, size_t user_key_len) { return 1 + 8 + set_len + 8 + 8 + 1 + user_key_len + 8; }
/* Where a late tx id goes (draft_late_tx_id, in the key). */
static inline size_t zset_key_at_tx_offset(size_t set_len, size_t user_key_len) { return zset_key_len(set_len, user_key_len) - 8; }
/* 01 || u64(len set) || set: what all members of a set begin with. */
static inline size_t zset_prefix_len(size_t set_len) { return 1 + 8 + set_len; }
static inline void zset_prefix_write(struct writer *w, struct bytes set)
{
    writer_u8(w, KEY_PREFIX_ZSET);
    writer_u64be(w, set.len);
    writer_put(w, set.data, set.len);
}
static inline void zset_key_write(struct writer *w, const struct zset_member *m)
{
    zset_prefix_write(w, m->set);
    writer_u64be(w, zset_score_bits(m->score));
    writer_u64be(w, (uint64_t)m->key.len + 1);
    kv_key_write(w, m->key);
    writer_u64be(w, m->at_tx);
}
static inline bool zset_key_decode(struct bytes store_key, struct zset_member *out)
{
    struct reader r = reader_of(store_key);
    uint64_t set_len, key_len;
    struct bytes key;

    memset(out, 0, sizeof *out);
    if (reader_u8(&r) != KEY_PREFIX_ZSET || r.failed)
        return false;
    set_len = reader_u64be(&r);
    if (r.failed || set_len > reader_left(&r))
        return false;
    out->set = reader_bytes(&r, (size_t)set_len);
    out->score = zset_score_of_bits(reader_u64be(&r));
    key_len = reader_u64be(&r);
    if (r.failed || key_len > reader_left(&r))
        return false;
    key = reader_bytes(&r, (size_t)key_len);
    out->at_tx = reader_u64be(&r);
    return reader_done(&r) && kv_key_decode(key, &out->key);
}

#endif
