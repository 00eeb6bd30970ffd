/* gRPC reflection: which services there are and their descriptors (grpc.reflection.v1 and v1alpha: the same bytes under two names).
 *
 * Needs no login, as the published server: it tells what everybody may read in the .proto files. Off with --grpc-reflection=false. */
#ifndef OBSERVE_REFLECTION_H
#define OBSERVE_REFLECTION_H

#include "base/arena.h"
#include "base/err.h"
#include "rpc/rpc.h"

#define REFLECTION_REQUEST_BYTES_MAX 4096

/* Handler of both ServerReflectionInfo methods. */
void reflection_entry(struct rpc_call *call);

/* The answer to one request; no I/O. sent: a bit for each file that this stream has had. *out is malloc'ed.
 * ST_INVALID: not such a message, or one that asks for nothing (err: the published texts); ST_NOMEM. */
MUST_USE enum status reflection_answer(struct bytes request, uint64_t *sent, uint8_t **out, size_t *len, struct err *err);

#endif
