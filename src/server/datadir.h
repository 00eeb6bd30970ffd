/* The data folder: making it, locking it, and the server's identity in it. */
#ifndef SERVER_DATADIR_H
#define SERVER_DATADIR_H

#include "server/server.h"

/* Makes the folder (0700) when missing and locks it: s->lock. Clear texts for what is in the way. */
MUST_USE enum status datadir_open(struct server *s, struct err *err);
/* Reads or makes immudb.identifier: s->identifier and s->uuid. */
MUST_USE enum status datadir_identify(struct server *s, struct err *err);
/* Text form of an identifier: 20 characters and NUL. */
void identifier_text(const uint8_t id[12], char out[21]);

#endif
