/* Names of a directory in memory: a sorted list, shared until somebody changes it. */
#include "vfs/memory_internal.h"

#include <assert.h>
#include <stdlib.h>

struct mem_name *name_new(const char *text, size_t len)
{
    struct mem_name *name = malloc(sizeof *name + len + 1);

    if (name != NULL) {
        atomic_init(&name->refs, 1);
        name->len = len;
        memcpy(name->text, text, len);
        name->text[len] = '\0';
    }
    return name;
}

struct mem_name *name_ref(struct mem_name *name)
{
    atomic_fetch_add_explicit(&name->refs, 1, memory_order_relaxed);
    return name;
}

void name_unref(struct mem_name *name)
{
    if (name != NULL && atomic_fetch_sub_explicit(&name->refs, 1, memory_order_acq_rel) == 1)
        free(name);
}

struct mem_names *names_new(void)
{
    struct mem_names *names = calloc(1, sizeof *names);

    if (names != NULL)
        atomic_init(&names->refs, 1);
    return names;
}

struct mem_names *names_ref(struct mem_names *names)
{
    atomic_fetch_add_explicit(&names->refs, 1, memory_order_relaxed);
    return names;
}

void names_unref(struct mem_names *names)
{
    if (names == NULL || atomic_fetch_sub_explicit(&names->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < names->count; i++)
        name_unref(names->entries[i].name);
    free(names->entries);
    free(names);
}

static bool entries_grow(struct mem_names *names, size_t count)
{
    size_t room = names->room * 2 < 8 ? 8 : names->room * 2;
    struct mem_entry *entries;

    if (count <= names->room)
        return true;
    if (room < count)
        room = count;
    if ((entries = realloc(names->entries, room * sizeof *entries)) == NULL)
        return false;
    names->entries = entries;
    names->room = room;
    return true;
}

bool names_own(struct mem_names **names)
{
    struct mem_names *old = *names, *copy;

    if (atomic_load_explicit(&old->refs, memory_order_acquire) == 1)
        return entries_grow(old, old->count + 1);
    if ((copy = names_new()) == NULL)
        return false;
    if (!entries_grow(copy, old->count + 1)) {
        names_unref(copy);
        return false;
    }
    for (size_t i = 0; i < old->count; i++) {
        copy->entries[i] = old->entries[i];
        name_ref(copy->entries[i].name);
    }
    copy->count = old->count;
    names_unref(old);
    *names = copy;
    return true;
}

/* Position of the first entry not below the text. */
static size_t lower_bound(const struct mem_names *names, struct bytes text)
{
    size_t low = 0, high = names->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct mem_name *name = names->entries[mid].name;

        if (bytes_compare(bytes_of(name->text, name->len), text) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

struct mem_entry *names_find(const struct mem_names *names, const char *text, size_t len)
{
    size_t at = lower_bound(names, bytes_of(text, len));

    if (at < names->count && names->entries[at].name->len == len && memcmp(names->entries[at].name->text, text, len) == 0)
        return &names->entries[at];
    return NULL;
}

void names_set(struct mem_names *names, struct mem_name *name, uint32_t inode_index, bool is_dir)
{
    struct mem_entry *entry = names_find(names, name->text, name->len);
    size_t at;

    if (entry == NULL) {
        assert(names->count < names->room);
        at = lower_bound(names, bytes_of(name->text, name->len));
        entry = &names->entries[at];
        memmove(entry + 1, entry, (names->count - at) * sizeof *entry);
        names->count++;
        entry->name = name_ref(name);
    }
    entry->inode_index = inode_index;
    entry->is_dir = is_dir;
}

void names_remove(struct mem_names *names, struct mem_entry *entry)
{
    size_t at = (size_t)(entry - names->entries);

    assert(at < names->count);
    name_unref(entry->name);
    memmove(entry, entry + 1, (names->count - at - 1) * sizeof *entry);
    names->count--;
}
