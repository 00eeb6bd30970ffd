/* What has to be done now and then: sessions that timed out, databases beyond the limit, counts on disk, truncation. */
#ifndef SERVER_HOUSEKEEPER_H
#define SERVER_HOUSEKEEPER_H

#include "request/server_parts.h"

struct housekeeper;
struct reload;
MUST_USE enum status housekeeper_start(struct server *s, struct reload *reload, struct housekeeper **out, struct err *err);
void housekeeper_stop(struct housekeeper *h); /* NULL is allowed */

#endif
