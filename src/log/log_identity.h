/* Whose log it is, before it is opened. */
#ifndef LOG_LOG_IDENTITY_H
#define LOG_LOG_IDENTITY_H

#include "base/err.h"
#include "vfs/vfs.h"

/* The uuid of the log in dir (16 bytes): by its manifest or, where that is missing or damaged, by the first segment whose header checks. *is_found
 * false: neither is there. Reads only. */
MUST_USE enum status log_identity(struct vfs *v, const char *dir, uint8_t uuid[16], bool *is_found, struct err *err);

#endif
