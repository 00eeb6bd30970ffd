/* Methods outside the method table: no login, no database, no message structs: reflection and health. Reactor threads. */
#ifndef OBSERVE_PLAIN_METHODS_H
#define OBSERVE_PLAIN_METHODS_H

#include "rpc/rpc.h"

struct plain_method {
    const char *path;
    enum rpc_kind kind;
    void (*handler)(struct rpc_call *call); /* rpc_method.user is a struct bound_method without method */
    bool is_reflection;                     /* left out with --grpc-reflection=false */
};
extern const struct plain_method PLAIN_METHODS[];
extern const size_t PLAIN_METHOD_COUNT;

/* Full names of all services, those of reflection last. */
extern const char *const SERVICE_NAMES[];
enum { SERVICE_COUNT = 6, SERVICE_REFLECTION_COUNT = 2 };

#endif
