/* Shared by fixture_make.c, which wrote src/store/testdata/format-1, and format_test.c, which holds every later build to it.
 *
 * facts.txt, one fact in a line:
 *   txs N                       committed txs
 *   alh HEX                     of the last one
 *   gone N                      values of txs up to here were removed
 *   runs N                      index runs
 *   root SIZE HEX               of the tree of that size
 *   tx ID HEX                   alh of that tx
 *   key KEY TX REVISION VALUE   newest version of a key (KEY without its prefix byte; VALUE in hex, "-" when it is deleted)
 *   old KEY TX VALUE            an older version, still with its value */
#ifndef STORE_FORMAT_FIXTURE_H
#define STORE_FORMAT_FIXTURE_H

#include "store/store_model.h"

#include <stdio.h>

enum { FORMAT_KEYS = 40, FORMAT_LINE_MAX = 8192 };

static inline struct store_options format_options(struct runtime *rt)
{
    return (struct store_options){
        .runtime = rt, .dir = "db", .tx_version = 1, .segment_bytes_first = 16 << 10, .segment_bytes_max = 32 << 10, .memtable_bytes_max = 64 << 10};
}

static inline void format_hex(const uint8_t *bytes, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * len] = '\0';
}

#endif
