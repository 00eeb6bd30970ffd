/* Names of databases: lower-case letters and digits in the sense of Unicode, and '_'.
 *
 * Classes and case come from the C.UTF-8 locale; where it is missing (an image without locales) only ASCII is known. */
#include <locale.h>
#include <wctype.h>

#include "databases/settings.h"

enum { NAME_LEN_MAX = 128 };

/* First digits of the scripts that have decimal digits of their own; ten each. */
static const uint32_t DIGITS[] = {0x0660, 0x06f0, 0x07c0, 0x0966, 0x09e6, 0x0a66, 0x0ae6, 0x0b66, 0x0be6, 0x0c66, 0x0ce6, 0x0d66,
                                  0x0de6, 0x0e50, 0x0ed0, 0x0f20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90,
                                  0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10};

/* The next code point; UINT32_MAX for what is no UTF-8 (one byte is consumed). */
static uint32_t code_point_read(struct reader *r)
{
    uint8_t first = reader_u8(r);
    uint32_t c;
    size_t more, i;

    if (first < 0x80)
        return first;
    more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
    if (first < 0xc2 || first > 0xf4 || reader_left(r) < more)
        return UINT32_MAX;
    c = first & (0x3fu >> more);
    for (i = 0; i < more; i++) {
        if ((r->at[i] & 0xc0) != 0x80)
            return UINT32_MAX;
        c = c << 6 | (r->at[i] & 0x3f);
    }
    if ((more == 2 && c < 0x800) || (more == 3 && c < 0x10000) || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return UINT32_MAX;
    reader_take(r, more);
    return c;
}

static void code_point_write(struct writer *w, uint32_t c)
{
    if (c < 0x80) {
        writer_u8(w, (uint8_t)c);
    } else if (c < 0x800) {
        writer_u8(w, (uint8_t)(0xc0 | c >> 6));
        writer_u8(w, (uint8_t)(0x80 | (c & 0x3f)));
    } else if (c < 0x10000) {
        writer_u8(w, (uint8_t)(0xe0 | c >> 12));
        writer_u8(w, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
        writer_u8(w, (uint8_t)(0x80 | (c & 0x3f)));
    } else {
        writer_u8(w, (uint8_t)(0xf0 | c >> 18));
        writer_u8(w, (uint8_t)(0x80 | (c >> 12 & 0x3f)));
        writer_u8(w, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
        writer_u8(w, (uint8_t)(0x80 | (c & 0x3f)));
    }
}

static bool is_digit(uint32_t c)
{
    size_t i;

    for (i = 0; i < sizeof DIGITS / sizeof DIGITS[0]; i++)
        if (c >= DIGITS[i] && c < DIGITS[i] + 10)
            return true;
    return c >= '0' && c <= '9';
}

static bool is_lower(uint32_t c, locale_t locale)
{
    if (c < 0x80)
        return c >= 'a' && c <= 'z';
    return locale != (locale_t)0 && c != UINT32_MAX && iswlower_l((wint_t)c, locale) != 0;
}

static bool is_punctuation(uint32_t c, locale_t locale)
{
    if (c < 0x80)
        return c > 0x20 && c < 0x7f && !(c >= 'A' && c <= 'Z') && !(c >= 'a' && c <= 'z') && !is_digit(c);
    return locale != (locale_t)0 && c != UINT32_MAX && iswpunct_l((wint_t)c, locale) != 0;
}

enum status database_name_check(struct bytes name, struct err *err)
{
    locale_t locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    struct reader r = reader_of(name);
    enum status st = ST_OK;

    if (name.len < 1 || name.len > NAME_LEN_MAX)
        st = err_set(err, ST_INVALID, 0, "database name length outside of limits");
    while (st == ST_OK && reader_left(&r) > 0) {
        uint32_t c = code_point_read(&r);

        if (c == '_' || is_lower(c, locale) || is_digit(c))
            continue;
        st = is_punctuation(c, locale) ? err_set(err, ST_INVALID, 0, "punctuation marks and symbols are not allowed in database name")
                                       : err_set(err, ST_INVALID, 0, "unrecognized character in database name");
    }
    if (locale != (locale_t)0)
        freelocale(locale);
    return st;
}

enum status database_name_lower(struct bytes name, struct arena *arena, char **out, struct err *err)
{
    size_t room = name.len > 64 * NAME_LEN_MAX ? 0 : name.len * 4 + 1;
    uint8_t *lowered = room == 0 ? NULL : arena_alloc(arena, room);
    locale_t locale;
    struct reader r;
    struct writer w;

    *out = NULL;
    if (room == 0)
        return err_set(err, ST_INVALID, 0, "database name length outside of limits");
    if (lowered == NULL)
        return err_set(err, ST_NOMEM, 0, "out of memory");
    locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    r = reader_of(name);
    w = writer_of(lowered, room);
    while (reader_left(&r) > 0) {
        const uint8_t *start = r.at;
        uint32_t c = code_point_read(&r);

        if (c >= 'A' && c <= 'Z')
            writer_u8(&w, (uint8_t)(c | 0x20));
        else if (c < 0x80 || c == UINT32_MAX || locale == (locale_t)0)
            writer_put(&w, start, (size_t)(r.at - start));
        else
            code_point_write(&w, (uint32_t)towlower_l((wint_t)c, locale));
    }
    writer_u8(&w, 0);
    if (locale != (locale_t)0)
        freelocale(locale);
    if (w.failed)
        return err_set(err, ST_INVALID, 0, "database name length outside of limits");
    *out = (char *)lowered;
    return ST_OK;
}
