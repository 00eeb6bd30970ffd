/* What the handlers of key-value calls share. */
#ifndef HANDLERS_KV_COMMON_H
#define HANDLERS_KV_COMMON_H

#include "databases/databases.h"
#include "kv/kv.h"
#include "request/request.h"
#include "request/server_parts.h"
#include "wire/wire.h"

/* How much one call may do on a reactor thread, which serves many connections: about 50 us. */
#define KV_INLINE_KEYS_MAX 128u      /* point reads of GetAll */
#define KV_INLINE_VALUE_BYTES 65536u /* bytes a write may hash */
/* Reads wait so long for an index that is being rebuilt when the caller set no deadline. */
#define KV_INDEX_WAIT_NS 10000000000ull
/* How often a write whose reads were overtaken is built anew. */
#define KV_CONFLICT_RETRIES 8u

static inline struct bytes bytes_pb(ProtobufCBinaryData b) { return bytes_of(b.data, b.len); }

/* Answers with the published code of a status of the key-value layer; everything else goes to request_fail_err(). */
void kv_fail(struct request *rq, enum status st, const struct err *err);
/* The text of an error as a call shows it that wraps it into a text of its own (UNKNOWN). */
void kv_fail_wrapped(struct request *rq, const char *prefix, enum status st, const struct err *err);
uint64_t kv_deadline_ns(const struct request *rq);
/* Answers when the database takes no writes. */
bool kv_refuse_replica(struct request *rq);
/* What is read through r for an answer leaves large values in the log; see rope.h. */
void kv_leave_large(const struct request *rq, struct kv_reader *r);
/* In on_message of a stream: the call's memory was refused for the message. When waiting may help, the message is held back, and delivered again a little later. False:
 * it may not. */
MUST_USE bool kv_stream_wait(struct request *rq);
/* Replies with what the writer holds. */
void kv_reply(struct request *rq, struct pb *w);

/* Runs attempt without waiting; when it says ST_AGAIN, once more on a worker, waiting. attempt returns ST_AGAIN only when nowait
 * is set, and has answered itself in every other case. */
typedef enum status (*kv_attempt)(struct request *rq, bool nowait);
#define KV_READ_HANDLER(name, attempt) \
    static void name##_waiting(struct request *rq) { (void)attempt(rq, false); } \
    void name(struct request *rq) \
    { \
        if (attempt(rq, true) == ST_AGAIN) \
            request_on_worker(rq, name##_waiting); \
    }
/* Answers an error, unless it only says that waiting is needed. */
static inline enum status kv_fail_or_again(struct request *rq, enum status st, const struct err *err)
{
    if (st != ST_AGAIN)
        kv_fail(rq, st, err);
    return st;
}

/* ------------------------------------------------------------ proofs */

struct kv_proof {
    struct dual_proof proof;
    bool source_metadata, target_metadata; /* whose header was read whole: the proven tx's */
    struct state_signature signature;
    bool is_signed;
};
/* Proofs up to tx_id need the tree: waits for a lost one that is being rebuilt, until the call's deadline; nowait: ST_AGAIN. */
MUST_USE enum status kv_tree_wait(struct request *rq, uint64_t tx_id, bool nowait, struct err *err);
/* Dual proof between since_tx (0 = tx itself) and tx, from the older to the newer; signed when the server has a key. */
MUST_USE enum status kv_proof_make(struct request *rq, uint64_t tx_id, uint64_t since_tx, struct kv_proof *out, struct err *err);
struct wire_verifiable_tx kv_proof_wire(const struct kv_proof *p, const struct kv_tx *tx);
/* The last tx that may be proven. */
uint64_t kv_proven_tx(struct store *s);

/* ------------------------------------------------------------ writes */

/* One write call: built (again after a conflict), committed, answered. Lives in the call's arena. */
struct kv_write {
    struct pool_job job;
    struct request *rq;
    const void *input; /* of build */
    /* Fills the draft. r has its snapshot when needs_snapshot is set. */
    enum status (*build)(struct kv_write *w, struct store_draft *d, struct kv_reader *r, struct err *err);
    /* Answers a committed draft, shortly: the thread has other batches to serve. */
    void (*answer)(struct kv_write *w, const struct store_draft *d, const struct store_result *r);
    /* Answers a failure; NULL = kv_fail(). */
    void (*refuse)(struct kv_write *w, enum status st, const struct err *err);
    bool needs_snapshot, is_big, wait_durable;
    unsigned attempts;
    uint64_t prove_since_tx;
    struct arena_mark before; /* the arena before the first attempt */
};
/* NULL (and answered) when out of memory. */
struct kv_write *kv_write_new(struct request *rq, const void *input,
                              enum status (*build)(struct kv_write *w, struct store_draft *d, struct kv_reader *r, struct err *err));
/* The answer shall be a VerifiableTx with proof since since_tx. */
void kv_write_prove(struct kv_write *w, uint64_t since_tx);
/* Takes over: the request is answered by what follows. */
void kv_write_start(struct kv_write *w);
/* The two kinds of answers: TxHeader, VerifiableTx. */
void kv_answer_header(struct kv_write *w, const struct store_draft *d, const struct store_result *r);
void kv_answer_verifiable(struct kv_write *w, const struct store_draft *d, const struct store_result *r);

/* Checks and starts an ExecAllRequest; the streamed form makes one of its parts. */
void kv_exec_all_start(struct request *rq, const Immudb__Schema__ExecAllRequest *m);
/* A write of the pairs of a SetRequest; NULL (and answered) when out of memory. */
struct kv_write *kv_set_new(struct request *rq, const Immudb__Schema__SetRequest *m);

/* ------------------------------------------------------------ requests */

/* Reads the options of protobuf requests. */
void kv_get_options_of(const struct request *rq, const Immudb__Schema__KeyRequest *m, bool nowait, struct kv_get_options *o);
struct kv_tx_spec kv_tx_spec_of(const Immudb__Schema__EntriesSpec *spec, bool keep_references);
struct kv_metadata kv_metadata_of(const Immudb__Schema__KVMetadata *m);
struct kv_zadd kv_zadd_of(const Immudb__Schema__ZAddRequest *m);
MUST_USE enum status kv_scan_of(const Immudb__Schema__ScanRequest *m, struct kv_scan_options *o, struct err *err);
MUST_USE enum status kv_zscan_of(const Immudb__Schema__ZScanRequest *m, struct kv_zscan_options *o, struct err *err);
/* A reader with its snapshot since since_tx. On failure it is closed. */
MUST_USE enum status kv_reader_open(struct request *rq, struct kv_reader *r, uint64_t since_tx, bool nowait, struct err *err);

#endif
