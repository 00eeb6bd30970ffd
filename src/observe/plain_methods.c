/* Rows of reflection and health; see plain_methods.h. */
#include "observe/plain_methods.h"

#include <assert.h>

#include "observe/health.h"
#include "observe/reflection.h"
#include "request/request.h"

static struct health *health_of(struct rpc_call *call)
{
    const struct bound_method *bound = rpc_method(call)->user;

    return bound->server->health;
}

static void check(struct rpc_call *call) { health_check(health_of(call), call); }
static void list(struct rpc_call *call) { health_list(health_of(call), call); }
static void watch(struct rpc_call *call) { health_watch(health_of(call), call); }

const struct plain_method PLAIN_METHODS[] = {
    {"/grpc.health.v1.Health/Check", RPC_UNARY, check, false},
    {"/grpc.health.v1.Health/List", RPC_UNARY, list, false},
    {"/grpc.health.v1.Health/Watch", RPC_SERVER_STREAM, watch, false},
    {"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", RPC_BIDI, reflection_entry, true},
    {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", RPC_BIDI, reflection_entry, true},
};
const size_t PLAIN_METHOD_COUNT = sizeof PLAIN_METHODS / sizeof PLAIN_METHODS[0];

const char *const SERVICE_NAMES[] = {
    "immudb.model.AuthorizationService",   "immudb.model.DocumentService",
    "immudb.schema.ImmuService",           "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
};
static_assert(sizeof SERVICE_NAMES / sizeof SERVICE_NAMES[0] == SERVICE_COUNT, "every service is counted");
