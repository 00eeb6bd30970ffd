/* The method table: what the server can be called for. */
#ifndef HANDLERS_METHODS_H
#define HANDLERS_METHODS_H

#include "request/request.h"

extern const struct method METHODS[];
extern const size_t METHOD_COUNT;

#endif
