/* File content as a list of shared pages, copied on write. */
#include "vfs/memory_internal.h"

#include <assert.h>
#include <stdlib.h>

static void page_unref(struct mem_page *page)
{
    if (page != NULL && atomic_fetch_sub_explicit(&page->refs, 1, memory_order_acq_rel) == 1)
        free(page);
}

static struct mem_page *page_ref(struct mem_page *page)
{
    if (page != NULL)
        atomic_fetch_add_explicit(&page->refs, 1, memory_order_relaxed);
    return page;
}

static size_t pages_for(uint64_t end) { return (size_t)((end + MEM_PAGE_BYTES - 1) / MEM_PAGE_BYTES); }

static struct mem_page *page_at(const struct mem_image *image, size_t index) { return index < image->page_count ? image->pages[index] : NULL; }

/* The page, made the image's own. fresh: the caller overwrites all of it. */
static struct mem_page *page_own(struct mem_image *image, size_t index, bool fresh)
{
    struct mem_page *page = image->pages[index], *copy;

    if (page != NULL && atomic_load_explicit(&page->refs, memory_order_acquire) == 1)
        return page;
    if ((copy = malloc(sizeof *copy)) == NULL)
        return NULL;
    atomic_init(&copy->refs, 1);
    if (!fresh && page != NULL)
        memcpy(copy->data, page->data, MEM_PAGE_BYTES);
    else if (!fresh)
        memset(copy->data, 0, MEM_PAGE_BYTES);
    page_unref(page);
    image->pages[index] = copy;
    return copy;
}

struct mem_image *image_new(void)
{
    struct mem_image *image = calloc(1, sizeof *image);

    if (image != NULL)
        atomic_init(&image->refs, 1);
    return image;
}

struct mem_image *image_ref(struct mem_image *image)
{
    atomic_fetch_add_explicit(&image->refs, 1, memory_order_relaxed);
    return image;
}

void image_unref(struct mem_image *image)
{
    if (image == NULL || atomic_fetch_sub_explicit(&image->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < image->page_count; i++)
        page_unref(image->pages[i]);
    free(image->pages);
    free(image);
}

static bool image_grow(struct mem_image *image, size_t page_count)
{
    struct mem_page **pages;
    size_t wanted = image->page_count * 2;

    if (page_count <= image->page_count)
        return true;
    if (wanted < page_count)
        wanted = page_count;
    if ((pages = realloc(image->pages, wanted * sizeof(struct mem_page *))) == NULL)
        return false;
    memset(pages + image->page_count, 0, (wanted - image->page_count) * sizeof(struct mem_page *));
    image->pages = pages;
    image->page_count = wanted;
    return true;
}

bool image_own(struct mem_image **image, uint64_t end)
{
    struct mem_image *old = *image, *copy;
    size_t page_count = pages_for(end);

    if (atomic_load_explicit(&old->refs, memory_order_acquire) == 1)
        return image_grow(old, page_count);
    if ((copy = image_new()) == NULL)
        return false;
    if (!image_grow(copy, page_count > old->page_count ? page_count : old->page_count)) {
        image_unref(copy);
        return false;
    }
    for (size_t i = 0; i < old->page_count; i++)
        copy->pages[i] = page_ref(old->pages[i]);
    copy->length = old->length;
    image_unref(old);
    *image = copy;
    return true;
}

/* The part of the range that lies in its first page. */
static size_t part_in_page(uint64_t offset, uint64_t len)
{
    uint64_t room = MEM_PAGE_BYTES - offset % MEM_PAGE_BYTES;

    return (size_t)(len < room ? len : room);
}

void image_read(const struct mem_image *image, uint64_t offset, uint8_t *out, size_t len)
{
    while (len > 0) {
        size_t part = part_in_page(offset, len);
        const struct mem_page *page = page_at(image, (size_t)(offset / MEM_PAGE_BYTES));

        if (page != NULL)
            memcpy(out, page->data + offset % MEM_PAGE_BYTES, part);
        else
            memset(out, 0, part);
        offset += part;
        out += part;
        len -= part;
    }
}

bool image_write(struct mem_image *image, uint64_t offset, const uint8_t *data, size_t len)
{
    while (len > 0) {
        size_t part = part_in_page(offset, len);
        struct mem_page *page = page_own(image, (size_t)(offset / MEM_PAGE_BYTES), part == MEM_PAGE_BYTES);

        if (page == NULL)
            return false;
        memcpy(page->data + offset % MEM_PAGE_BYTES, data, part);
        offset += part;
        data += part;
        len -= part;
        if (offset > image->length)
            image->length = offset;
    }
    return true;
}

bool image_zero(struct mem_image *image, uint64_t offset, uint64_t len)
{
    while (len > 0) {
        size_t part = part_in_page(offset, len), index = (size_t)(offset / MEM_PAGE_BYTES);
        struct mem_page *page = page_at(image, index);

        if (page != NULL && part == MEM_PAGE_BYTES) {
            page_unref(page);
            image->pages[index] = NULL;
        } else if (page != NULL) {
            if ((page = page_own(image, index, false)) == NULL)
                return false;
            memset(page->data + offset % MEM_PAGE_BYTES, 0, part);
        }
        offset += part;
        len -= part;
        if (offset > image->length)
            image->length = offset;
    }
    return true;
}

bool image_truncate(struct mem_image *image, uint64_t length)
{
    uint64_t end = (uint64_t)image->page_count * MEM_PAGE_BYTES;

    if (length < image->length && length < end) {
        uint64_t old_length = image->length, stop = old_length < end ? old_length : end;
        uint64_t stop_rounded = (stop + MEM_PAGE_BYTES - 1) / MEM_PAGE_BYTES * MEM_PAGE_BYTES;

        if (!image_zero(image, length, stop_rounded - length)) /* keeps the invariant of the bytes beyond the length */
            return false;
    }
    image->length = length;
    return true;
}

bool image_flip_bit(struct mem_image *image, uint64_t bit)
{
    uint64_t at = bit / 8;
    struct mem_page *page;

    assert(at < image->length);
    if ((page = page_own(image, (size_t)(at / MEM_PAGE_BYTES), false)) == NULL)
        return false;
    page->data[at % MEM_PAGE_BYTES] ^= (uint8_t)(1u << (bit % 8));
    return true;
}

void image_share(struct mem_image *to, const struct mem_image *from, uint64_t offset, uint64_t len)
{
    size_t first = (size_t)(offset / MEM_PAGE_BYTES), end = pages_for(offset + len);

    if (len == 0)
        return;
    assert(end <= to->page_count);
    for (size_t i = first; i < end; i++) {
        struct mem_page *page = page_ref(page_at(from, i));

        page_unref(to->pages[i]);
        to->pages[i] = page;
    }
}
