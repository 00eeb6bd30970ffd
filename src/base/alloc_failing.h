/* For tests alone: lets chosen allocations of the program under test fail.
 *
 * Include it in one source of the test and link with alloc_failing_args (see base/meson.build). alloc_fail_at = n lets
 * the n-th allocation from now on fail, and with alloc_fail_all also every later one; 0 lets all succeed. */
#ifndef BASE_ALLOC_FAILING_H
#define BASE_ALLOC_FAILING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

static _Atomic long alloc_fail_at;
static _Atomic bool alloc_fail_all;
static _Atomic bool alloc_has_failed;

void *__real_malloc(size_t len);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *p, size_t len);
void *__real_pages_alloc(size_t len);
void *__wrap_malloc(size_t len);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *p, size_t len);
void *__wrap_pages_alloc(size_t len);

static inline void alloc_fail_arm(long n, bool all)
{
    alloc_fail_all = all;
    alloc_has_failed = false;
    alloc_fail_at = n;
}

/* Stops failing; says whether an allocation failed since it was armed. */
static inline bool alloc_fail_disarm(void)
{
    alloc_fail_at = 0;
    return alloc_has_failed;
}

static inline bool alloc_fails_now(void)
{
    long at = atomic_load(&alloc_fail_at);

    while (at > 0 && !atomic_compare_exchange_weak(&alloc_fail_at, &at, at == 1 && alloc_fail_all ? 1 : at - 1)) {}
    if (at == 1)
        alloc_has_failed = true;
    return at == 1;
}

void *__wrap_malloc(size_t len) { return alloc_fails_now() ? NULL : __real_malloc(len); }
void *__wrap_calloc(size_t count, size_t size) { return alloc_fails_now() ? NULL : __real_calloc(count, size); }
void *__wrap_realloc(void *p, size_t len) { return alloc_fails_now() ? NULL : __real_realloc(p, len); }
void *__wrap_pages_alloc(size_t len) { return alloc_fails_now() ? NULL : __real_pages_alloc(len); }

#endif
