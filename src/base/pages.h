/* Whole pages of memory from the system, past malloc: for large pieces whose release must give the memory back at once. Any thread. */
#ifndef BASE_PAGES_H
#define BASE_PAGES_H

#include <stddef.h>

/* Zeroed, aligned to a page; NULL when there is none. len: above 0. */
void *pages_alloc(size_t len);
/* p and len of pages_alloc(); NULL allowed. */
void pages_free(void *p, size_t len);

#endif
