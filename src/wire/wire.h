/* Messages of the published protocol: decoding into an arena, and encoders of the answers that are sent often.
 *
 * Decoded messages are the structs that protobuf-c generates; cold answers may be packed by protobuf-c as well. The encoders here
 * take the structs of the layers below and write what protobuf-c would write, byte by byte: ascending field numbers, zero and
 * empty values left out.
 *
 * No function keeps anything; any thread. Fields and numbers: proto/. */
#ifndef WIRE_WIRE_H
#define WIRE_WIRE_H

#include <protobuf-c/protobuf-c.h>

#include "authorization.pb-c.h"
#include "documents.pb-c.h"
#include "kv/kv_types.h"
#include "proof/proof.h"
#include "schema.pb-c.h"
#include "wire/pb.h"

/* --- decoding --- */
#define WIRE_DEPTH_MAX 1000u

/* Decodes a message of kind d. The struct and its arrays come from the arena; bytes fields are borrowed from in, strings are
 * copied and NUL-terminated. Accepts what the published servers accept: unknown fields and known ones of another wire type are
 * skipped, the last of repeated singular values wins, repeated inner messages are merged, packed and unpacked lists mix.
 *
 * ST_INVALID  the text says why, as published: "proto: cannot parse invalid wire-format data", "string field contains invalid
 *             UTF-8"; of our own, because a C string can not hold it: "string field contains a zero byte"
 * ST_NOMEM    the arena is full */
MUST_USE enum status wire_unpack(const ProtobufCMessageDescriptor *d, struct bytes in, struct arena *arena, void **out, struct err *err);

/* The content of a Chunk, borrowed from in; its metadata is not looked at. Errors as wire_unpack. */
MUST_USE enum status wire_unpack_chunk(struct bytes in, struct bytes *content, struct err *err);

bool utf8_is_valid(struct bytes s);

/* --- encoders: each writes the body of its message; see wire/pb.h --- */
void wire_kv_metadata(struct pb *w, const struct kv_metadata *md);
void wire_entry(struct pb *w, const struct kv_entry *e);
void wire_zentry(struct pb *w, const struct kv_zentry *z);
/* Exact sizes of the two above. */
size_t wire_entry_size(const struct kv_entry *e);
size_t wire_zentry_size(const struct kv_zentry *z);
/* Of the size of an entry, what is not written: a value that is left where it lies. */
size_t wire_entry_far(const struct kv_entry *e);
/* Appends to a list of Entries or ZEntries (field 1 of both). */
void wire_list_entry(struct pb_list *l, const struct kv_entry *e);
void wire_list_zentry(struct pb_list *l, const struct kv_zentry *z);

/* with_metadata: the metadata message is written even when it is empty, as clients see it for headers read whole. */
void wire_tx_header(struct pb *w, const struct tx_header *h, bool with_metadata);
#define WIRE_TX_HEADER_BYTES 460u /* an upper bound */
/* A raw entry; its value is written unless it is empty, or left where far (NULL: nowhere) says. Metadata that does not parse fails the writer. */
void wire_tx_entry(struct pb *w, const struct tx_entry *e, const struct kv_far *far);
void wire_tx(struct pb *w, const struct kv_tx *tx);
/* Bytes that an encoded tx will about need. */
size_t wire_tx_hint(const struct kv_tx *tx);

void wire_signature(struct pb *w, const struct state_signature *s);
void wire_inclusion_proof(struct pb *w, uint32_t leaf, uint32_t width, const struct merkle_path *path);
void wire_linear_proof(struct pb *w, const struct linear_proof *p);
/* source_metadata, target_metadata: see wire_tx_header. */
void wire_dual_proof(struct pb *w, const struct dual_proof *p, bool source_metadata, bool target_metadata);
void wire_dual_proof_v2(struct pb *w, const struct dual_proof_v2 *p, bool source_metadata, bool target_metadata);

/* A tx with its proof from or to a known one. */
struct wire_verifiable_tx {
    const struct kv_tx *tx;
    const struct dual_proof *proof;
    bool source_metadata, target_metadata;
    const struct state_signature *signature; /* NULL = none */
};
void wire_verifiable_tx(struct pb *w, const struct wire_verifiable_tx *v);
/* leaf and width: of the proven entry in its tx. */
void wire_verifiable_entry(struct pb *w, const struct kv_entry *e, const struct wire_verifiable_tx *v, uint32_t leaf, uint32_t width,
                           const struct merkle_path *inclusion);
void wire_state(struct pb *w, struct bytes db, uint64_t tx_id, const hash_t *alh, const struct state_signature *signature,
                uint64_t precommitted_tx_id, const hash_t *precommitted_alh);
size_t wire_proof_hint(const struct dual_proof *p);

/* Chunk{content, metadata}: names and values of metadata in pairs; count of pairs. */
struct wire_chunk_metadata {
    const char *name;
    struct bytes value;
};
void wire_chunk_metadata_entry(struct pb *w, const struct wire_chunk_metadata *metadata);
void wire_chunk(struct pb *w, struct bytes content, const struct wire_chunk_metadata *metadata, size_t metadata_count);

/* google.rpc.Status{code, message, details[ErrorInfo{info_code, cause}, RetryInfo{}]}: the status details of a coded error. */
void wire_status_details(struct pb *w, uint32_t grpc_code, struct bytes message, struct bytes info_code, struct bytes cause);

#endif
