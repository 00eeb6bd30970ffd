/* What has to be done now and then: sessions that timed out, databases beyond the limit, counts on disk, truncation. */
#ifndef SERVER_HOUSEKEEPER_H
#define SERVER_HOUSEKEEPER_H

#include "server/server.h"

MUST_USE enum status housekeeper_start(struct server *s, struct housekeeper **out, struct err *err);
void housekeeper_stop(struct housekeeper *h); /* NULL is allowed */

#endif
