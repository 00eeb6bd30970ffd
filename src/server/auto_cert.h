/* --auto-cert: a self-signed certificate of the server's own, kept in the data folder.
 *
 * Two files of mode 0600: immudb-key.pem (EC P-256) and immudb-cert.pem (a year, for localhost, the host's name, 127.0.0.1, ::1 and the address
 * listened on). They are made when they are missing, damaged or do not belong together, and again within 30 days of their end: clients that trust
 * the file itself need the new one then. Start-up and housekeeping only; blocking. */
#ifndef SERVER_AUTO_CERT_H
#define SERVER_AUTO_CERT_H

#include "base/env.h"
#include "vfs/vfs.h"

#define AUTO_CERT_DAYS 365
#define AUTO_CERT_RENEW_DAYS 30

struct auto_cert {
    char certificate[PATH_BYTES_MAX], pkey[PATH_BYTES_MAX]; /* paths */
};

/* Finds the two files in dir, or makes them; *was_made tells. address: numeric, "" = every one. */
MUST_USE enum status auto_cert_ensure(struct vfs *vfs, const struct env *env, const char *dir, const char *address, struct auto_cert *out,
                                      bool *was_made, struct err *err);

#endif
