/* immudb: hashes and proofs. What a client needs to check an immutable database by itself, without trusting it.
 *
 * Libraries: libimmuverify holds this header alone (no files, no sockets, no threads); libimmudb holds this header and immudb.h. Link one.
 *
 * Rules of the interface, for both headers (docs/design/004-c-abi.md says why):
 *   names      immudb_*, IMMUDB_*; names that end in '_' are not for use.
 *   structs    those that begin with "size" may grow at their end in later releases: call the struct's _init() function (or zero it and set size to its
 *              sizeof) before each use, for input and output alike. Zero always means "default". The others never change.
 *   enums      are plain integers: a later release may return values that this header does not list. Treat an unknown status as a failure.
 *   errors     a function that can fail returns immudb_status (IMMUDB_OK is 0) and fills *err, which may be NULL. Every function may also return
 *              IMMUDB_NO_MEMORY and IMMUDB_INVALID (a NULL where none is allowed, a struct without size). On failure out-parameters that are handles
 *              are NULL and others are empty.
 *   ownership  arguments are borrowed for the call unless the text says "takes". Handles belong to the caller until the function that frees them;
 *              freeing functions accept NULL. Bytes that come back live in the immudb_buffer that was passed: until its next use in a call that takes a
 *              buffer, its reset, or its end.
 *   threads    functions may be called from any thread. One handle of buffer, tx, cursor or ticket is for one thread at a time; all other handles may
 *              be shared freely.
 *   signals    no call is safe in a signal handler; a database must not be used across fork(). */
#ifndef IMMUDB_VERIFY_H
#define IMMUDB_VERIFY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__)
#define IMMUDB_API __attribute__((visibility("default")))
#define IMMUDB_MUST_USE __attribute__((warn_unused_result))
#else
#define IMMUDB_API
#define IMMUDB_MUST_USE
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------ versions */

/* major << 16 | minor. A program built with this header runs with every library of the same major number and an equal or larger minor one. */
#define IMMUDB_ABI_VERSION 0x00000001u
/* What the library implements, for comparison with IMMUDB_ABI_VERSION. */
IMMUDB_API uint32_t immudb_abi_version(void);
/* The release, "0.1.0": for messages, not for comparison. Static. */
IMMUDB_API const char *immudb_version(void);

/* ------------------------------------------------------------ status and error */

typedef int32_t immudb_status;
enum {
    IMMUDB_OK = 0,
    IMMUDB_NO_MEMORY = 1,   /* an allocation failed, or the memory limit is reached */
    IMMUDB_IO = 2,          /* the operating system reported a failure: os_errno */
    IMMUDB_NO_SPACE = 3,    /* the disk is full; heals by itself when space returns */
    IMMUDB_CORRUPT = 4,     /* stored or received bytes contradict themselves; a proof does not prove */
    IMMUDB_INVALID = 5,     /* the arguments are not acceptable */
    IMMUDB_NOT_FOUND = 6,   /* what was asked for does not exist; the end of a cursor */
    IMMUDB_EXISTS = 7,      /* what was to be made exists already */
    IMMUDB_CONFLICT = 8,    /* a concurrent change won, or a precondition does not hold */
    IMMUDB_LIMIT = 9,       /* a named limit is exceeded */
    IMMUDB_READ_ONLY = 10,  /* the database refuses writes: opened so, damaged, or a sync failed */
    IMMUDB_BUSY = 11,       /* in use by somebody else, or not possible right now */
    IMMUDB_TIMEOUT = 12,    /* the time was over before the work was begun: nothing was done */
    IMMUDB_CANCELLED = 13,  /* given up before the work was begun */
    IMMUDB_CLOSED = 14,     /* the object is closed or closing */
    IMMUDB_UNSUPPORTED = 15 /* a format or an option of a later release */
};
/* "ok", "not found", ...; "unknown status" for others. Static. */
IMMUDB_API const char *immudb_status_name(immudb_status status);

/* Never changes its size. */
typedef struct immudb_error {
    immudb_status status;
    int32_t os_errno; /* 0 when the operating system was not involved */
    char text[248];   /* NUL terminated, UTF-8: the innermost cause first */
} immudb_error;

/* ------------------------------------------------------------ bytes, hashes, buffers */

/* Borrowed bytes; data may be NULL when len is 0. Never changes. */
typedef struct immudb_bytes {
    const void *data;
    size_t len;
} immudb_bytes;
static inline immudb_bytes immudb_bytes_of(const void *data, size_t len)
{
    immudb_bytes b;
    b.data = data;
    b.len = len;
    return b;
}
static inline immudb_bytes immudb_str(const char *text) { return immudb_bytes_of(text, text == NULL ? 0 : strlen(text)); }

/* SHA-256. Never changes. */
typedef struct immudb_hash {
    uint8_t bytes[32];
} immudb_hash;
/* Never changes. */
typedef struct immudb_hashes {
    size_t count;
    const immudb_hash *items;
} immudb_hashes;

/* Defines type_init(): zeroes the struct and notes the size that the caller was compiled with. */
#define IMMUDB_SIZED_(type) \
    static inline void type##_init(type *p) \
    { \
        memset(p, 0, sizeof *p); \
        p->size = sizeof *p; \
    }

/* Memory that results are put into, to be used again and again: it keeps its first block, so that reads do not allocate. Independent of any database. */
typedef struct immudb_buffer immudb_buffer;
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_buffer_create(immudb_buffer **out, immudb_error *err);
/* Gives back what is above the first block. */
IMMUDB_API void immudb_buffer_reset(immudb_buffer *buffer);
IMMUDB_API void immudb_buffer_free(immudb_buffer *buffer);

/* ------------------------------------------------------------ hashing */

IMMUDB_API void immudb_sha256(immudb_bytes data, immudb_hash *out);

/* Keys and values as they lie in the store and in proofs carry a first byte that says what they are; plain ones 0x00. These give the part behind it;
 * empty for other kinds (sorted sets, references, tables). The bytes are borrowed from the argument. */
IMMUDB_API immudb_bytes immudb_plain_key(immudb_bytes store_key);
IMMUDB_API immudb_bytes immudb_plain_value(immudb_bytes store_value);

/* A transaction's header. */
typedef struct immudb_header {
    size_t size;
    uint64_t tx_id;    /* counted from 1 */
    int64_t ts;        /* unix seconds; 0 when the database leaves the time out */
    uint64_t bl_tx_id; /* how many transactions the main tree held when the header was made */
    uint32_t version;  /* 0 or 1 */
    uint32_t entry_count;
    immudb_hash prev_alh;    /* accumulative linear hash of the transaction before; SHA-256("") for the first */
    immudb_hash eh;          /* root over the entries */
    immudb_hash bl_root;     /* root of the main tree at bl_tx_id; zeros for 0 */
    uint64_t truncated_upto; /* values up to this transaction were removed; 0 = says nothing */
    uint32_t extra_len;      /* 0..256 */
    uint8_t extra[256];
} immudb_header;
IMMUDB_SIZED_(immudb_header)

/* The accumulative linear hash: what stands for the transaction and all before it. IMMUDB_UNSUPPORTED: version above 1. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_header_alh(const immudb_header *header, immudb_hash *out, immudb_error *err);

/* Digest of an entry, the leaf of its transaction's tree. key: store key. metadata: canonical bytes, 0..11, none for version 0. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_entry_digest(uint32_t header_version, immudb_bytes store_key, immudb_bytes metadata,
                                                             const immudb_hash *value_hash, immudb_hash *out, immudb_error *err);

/* ------------------------------------------------------------ proofs */
/* Terms are in the order of the published protocol. Structs and what they point to are made by the immudb_prove_* functions, by
 * immudb_entry_proof_decode(), or by hand from what a server sent. */

/* An entry is part of its transaction. */
typedef struct immudb_inclusion_proof {
    size_t size;
    uint64_t entry_index; /* from 0 */
    uint64_t entry_count; /* of the transaction */
    immudb_hashes terms;
} immudb_inclusion_proof;
IMMUDB_SIZED_(immudb_inclusion_proof)

/* A chain of hashes leads from one transaction to a later one. */
typedef struct immudb_linear_proof {
    size_t size;
    uint64_t source_tx_id, target_tx_id;
    immudb_hashes terms;
} immudb_linear_proof;
IMMUDB_SIZED_(immudb_linear_proof)

/* Every transaction of a stretch outside the tree is in the tree: one inclusion for each but the first. */
typedef struct immudb_linear_advance_proof {
    size_t size;
    immudb_hashes terms;
    const immudb_hashes *inclusions;
    size_t inclusion_count;
} immudb_linear_advance_proof;
IMMUDB_SIZED_(immudb_linear_advance_proof)

/* The history of the later transaction contains the earlier one. */
typedef struct immudb_dual_proof {
    size_t size;
    const immudb_header *source, *target;
    immudb_hashes inclusion;   /* source in the tree of target, when it is there */
    immudb_hashes consistency; /* between the trees of both */
    immudb_hash target_bl_alh;
    immudb_hashes last_inclusion;
    const immudb_linear_proof *linear;
    const immudb_linear_advance_proof *advance; /* NULL = none */
} immudb_dual_proof;
IMMUDB_SIZED_(immudb_dual_proof)

/* The same for databases whose tree never lags behind. */
typedef struct immudb_dual_proof_v2 {
    size_t size;
    const immudb_header *source, *target;
    immudb_hashes inclusion;
    immudb_hashes consistency;
} immudb_dual_proof_v2;
IMMUDB_SIZED_(immudb_dual_proof_v2)

/* All of these: IMMUDB_OK when the proof proves, IMMUDB_CORRUPT when it does not. Pure: no allocation, no I/O.
 *
 * immudb_verify_inclusion(): digest is the entry's, eh the root from the transaction's header (which must be trusted, or verified next). */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_verify_inclusion(const immudb_inclusion_proof *proof, const immudb_hash *digest,
                                                                 const immudb_hash *eh, immudb_error *err);
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_verify_linear(const immudb_linear_proof *proof, uint64_t source_tx_id, uint64_t target_tx_id,
                                                              const immudb_hash *source_alh, const immudb_hash *target_alh, immudb_error *err);
/* tree_root is the root of the main tree at tree_size. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_verify_linear_advance(const immudb_linear_advance_proof *proof, uint64_t start_tx_id,
                                                                      uint64_t end_tx_id, const immudb_hash *end_alh, const immudb_hash *tree_root,
                                                                      uint64_t tree_size, immudb_error *err);
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_verify_dual(const immudb_dual_proof *proof, uint64_t source_tx_id, uint64_t target_tx_id,
                                                            const immudb_hash *source_alh, const immudb_hash *target_alh, immudb_error *err);
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_verify_dual_v2(const immudb_dual_proof_v2 *proof, uint64_t source_tx_id, uint64_t target_tx_id,
                                                               const immudb_hash *source_alh, const immudb_hash *target_alh, immudb_error *err);
/* Transaction tx_id, whose hash is alh, is leaf tx_id of the main tree of tree_size leaves. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_verify_tree_inclusion(immudb_hashes terms, uint64_t tx_id, uint64_t tree_size, const immudb_hash *alh,
                                                                      const immudb_hash *tree_root, immudb_error *err);
/* The larger main tree is the smaller one with leaves appended. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_verify_tree_consistency(immudb_hashes terms, uint64_t old_size, uint64_t new_size,
                                                                        const immudb_hash *old_root, const immudb_hash *new_root, immudb_error *err);

/* --- one entry and all that proves it --- */
typedef struct immudb_entry_proof {
    size_t size;
    immudb_bytes store_key;
    immudb_bytes store_value; /* NULL data and value_is_gone when it was truncated away */
    immudb_bytes metadata;    /* canonical bytes, 0..11 */
    immudb_hash value_hash;   /* used when value_is_gone; otherwise computed from the value */
    uint32_t value_is_gone;   /* 0 or 1 */
    uint32_t reserved;
    const immudb_inclusion_proof *inclusion;
    const immudb_header *header;   /* of the entry's transaction */
    const immudb_dual_proof *dual; /* to the trusted transaction; NULL when nothing was trusted yet */
} immudb_entry_proof;
IMMUDB_SIZED_(immudb_entry_proof)

/* Checks everything against what the caller trusts: trusted_tx_id and trusted_alh, or 0 and NULL at the very first time ("trust on first use": then only the
 * inclusion in the header is checked). On success *new_tx_id and *new_alh (may be NULL) are what to trust from now on: the newer of both transactions. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_verify_entry_proof(const immudb_entry_proof *proof, uint64_t trusted_tx_id,
                                                                   const immudb_hash *trusted_alh, uint64_t *new_tx_id, immudb_hash *new_alh,
                                                                   immudb_error *err);

/* As bytes, for files and messages; format in docs/design/004-c-abi.md. Decoding checks the form alone (IMMUDB_CORRUPT; IMMUDB_UNSUPPORTED: a later format);
 * what comes out is only worth something after immudb_verify_entry_proof(). The decoded proof borrows from in. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_entry_proof_encode(const immudb_entry_proof *proof, immudb_buffer *buffer, immudb_bytes *out,
                                                                   immudb_error *err);
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_entry_proof_decode(immudb_bytes in, immudb_buffer *buffer, immudb_entry_proof *out,
                                                                   immudb_error *err);

/* --- signed states --- */
typedef struct immudb_signature {
    size_t size;
    uint32_t signature_len; /* 0 = none */
    uint32_t public_key_len;
    uint8_t signature[160];  /* ASN.1 DER ECDSA over the SHA-256 of the payload */
    uint8_t public_key[160]; /* uncompressed point */
} immudb_signature;
IMMUDB_SIZED_(immudb_signature)

/* public_key: an uncompressed point, or a PEM file's content ("BEGIN PUBLIC KEY"). db_name: as the database was named when signing, at most 256 bytes. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_verify_signature(immudb_bytes public_key, immudb_bytes signature, const char *db_name, uint64_t tx_id,
                                                                 const immudb_hash *alh, immudb_error *err);

#ifdef __cplusplus
}
#endif
#endif
