/* Header strings that a peer sends again and again, decoded once.
 *
 * A client whose HTTP/2 library never indexes credentials sends its token with each call, Huffman coded: decoding the same 200 bytes costs more than
 * the rest of a short call's headers. So HEADERS frames on their way into nghttp2 are looked through: a Huffman-coded string that was decoded before
 * is put in plain form in its place (RFC 7541, 5.2: the same string, coded otherwise). Nothing else is changed, no meaning is judged, and the state
 * of the decoder's tables plays no part: what can not be understood, or does not fit, is passed on as it came.
 *
 * Does no I/O; one thread. Memory: a table and a frame's room, made when the first string is met, and at most GRPC_STRINGS strings. */
#ifndef RPC_GRPC_STRINGS_H
#define RPC_GRPC_STRINGS_H

#include <nghttp2/nghttp2.h>

#include "base/bytes.h"

#define GRPC_STRINGS 64        /* remembered at a time */
#define GRPC_STRING_MIN 16     /* coded bytes: shorter ones are as quickly decoded */
#define GRPC_STRING_MAX 512    /* longer ones are passed on */
#define GRPC_REWRITE_MAX 2048  /* bytes of a header block that is looked through */
#define GRPC_REWRITE_ROOM 4096 /* of the frame that takes its place */
#define GRPC_FRAME_HEAD_LEN 9
#define GRPC_CLIENT_PREFACE_LEN 24

struct grpc_string_table;
/* Of a reactor: all zero at first. */
struct grpc_strings {
    struct grpc_string_table *table; /* NULL until needed, and without memory */
    uint64_t replaced;               /* strings put in plain form so far */
};
void grpc_strings_free(struct grpc_strings *s);

/* Where the bytes of a connection stand between frames. */
struct grpc_frame_walk {
    uint32_t left;                     /* bytes of the current frame (or of the preface) still to come */
    uint8_t head[GRPC_FRAME_HEAD_LEN]; /* of the next frame, as far as it came */
    uint8_t head_len;
};
static inline struct grpc_frame_walk grpc_frame_walk_begin(void) { return (struct grpc_frame_walk){.left = GRPC_CLIENT_PREFACE_LEN}; }

/* Looks at the next bytes of a peer. Returns how many of them go on as they are; when *taken > 0, the taken bytes behind those (a whole frame) are
 * replaced by *instead, which holds until the next call with s. Without a replacement all of data goes on. */
size_t grpc_strings_next(struct grpc_strings *s, struct grpc_frame_walk *w, const uint8_t *data, size_t len, struct bytes *instead, size_t *taken);

/* The header block of one frame, rewritten into out; 0: pass it on as it is. For grpc_strings_next() and tests. */
size_t grpc_strings_rewrite(struct grpc_strings *s, struct bytes block, uint8_t *out, size_t room);

#endif
