/* The nghttp2 callbacks of a connection; the session's user data is its struct grpc_conn. For src/rpc alone. */
#ifndef RPC_GRPC_SESSION_H
#define RPC_GRPC_SESSION_H

#include <nghttp2/nghttp2.h>

#include "base/err.h"

MUST_USE enum status grpc_session_callbacks(nghttp2_session_callbacks **out);

#endif
