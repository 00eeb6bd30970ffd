/* Frame buffers with pages of their own; see frame_room.h. */
#include "rpc/frame_room.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ROOM_BYTES_MIN 16384 /* requests from this size on ... */
#define ROOM_BYTES 20480     /* ... up to this size get a room */
#define ROOMS 64             /* of one region */
#define PAGE_MASK ((uintptr_t)4095)

struct frame_region {
    struct frame_region *next;
    uint8_t *base;       /* ROOMS * ROOM_BYTES, mapped */
    uint8_t free[ROOMS]; /* indexes of the free ones */
    unsigned free_count;
};

static struct frame_region *region_new(struct frame_rooms *rooms)
{
    struct frame_region *region = malloc(sizeof(*region));

    if (region == NULL)
        return NULL;
    region->base = mmap(NULL, (size_t)ROOMS * ROOM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (region->base == MAP_FAILED) {
        free(region);
        return NULL;
    }
    /* A huge page would be the opposite of what is wanted. */
    (void)madvise(region->base, (size_t)ROOMS * ROOM_BYTES, MADV_NOHUGEPAGE);
    for (unsigned i = 0; i < ROOMS; i++)
        region->free[i] = (uint8_t)(ROOMS - 1 - i);
    region->free_count = ROOMS;
    region->next = rooms->regions;
    rooms->regions = region;
    return region;
}

static void *room_take(struct frame_rooms *rooms)
{
    struct frame_region *region = rooms->regions;

    while (region != NULL && region->free_count == 0)
        region = region->next;
    if (region == NULL && (region = region_new(rooms)) == NULL)
        return NULL;
    return region->base + (size_t)region->free[--region->free_count] * ROOM_BYTES;
}

/* The link to the region that p lies in; NULL when p is from malloc. Nearly all pointers are told apart by their alignment. */
static struct frame_region **region_of(struct frame_rooms *rooms, const void *p)
{
    if (((uintptr_t)p & PAGE_MASK) != 0)
        return NULL;
    for (struct frame_region **link = &rooms->regions; *link != NULL; link = &(*link)->next)
        if ((uintptr_t)p - (uintptr_t)(*link)->base < (size_t)ROOMS * ROOM_BYTES)
            return link;
    return NULL;
}

static void room_give(struct frame_region **link, uint8_t *p)
{
    struct frame_region *region = *link;

    assert(region->free_count < ROOMS);
    region->free[region->free_count++] = (uint8_t)((size_t)(p - region->base) / ROOM_BYTES);
    if (region->free_count == ROOMS) {
        *link = region->next;
        munmap(region->base, (size_t)ROOMS * ROOM_BYTES);
        free(region);
    } else {
        (void)madvise(p, ROOM_BYTES, MADV_DONTNEED);
    }
}

static void *allocator_malloc(size_t len, void *user)
{
    if (len >= ROOM_BYTES_MIN && len <= ROOM_BYTES)
        return room_take(user);
    return malloc(len);
}

static void *allocator_calloc(size_t count, size_t len, void *user)
{
    (void)user;
    return calloc(count, len);
}

static void allocator_free(void *p, void *user)
{
    struct frame_region **link = p == NULL ? NULL : region_of(user, p);

    if (link != NULL)
        room_give(link, p);
    else
        free(p);
}

static void *allocator_realloc(void *p, size_t len, void *user)
{
    struct frame_region **link = p == NULL ? NULL : region_of(user, p);
    void *q;

    if (p == NULL)
        return allocator_malloc(len, user);
    if (link == NULL)
        return realloc(p, len);
    if (len <= ROOM_BYTES)
        return p;
    if ((q = malloc(len)) == NULL)
        return NULL;
    memcpy(q, p, ROOM_BYTES);
    room_give(link, p);
    return q;
}

nghttp2_mem frame_rooms_allocator(struct frame_rooms *rooms)
{
    return (nghttp2_mem){rooms, allocator_malloc, allocator_free, allocator_calloc, allocator_realloc};
}

void frame_rooms_free(struct frame_rooms *rooms) { assert(rooms->regions == NULL); }
