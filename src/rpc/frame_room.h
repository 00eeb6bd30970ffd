/* Frame buffers of HTTP/2 sessions, laid out so that an idle connection costs one page for it instead of five.
 *
 * nghttp2 gives each session a buffer of a whole frame (16,394 bytes) and writes the first hundred bytes of it. From malloc that
 * room soon is memory that was used before; here each buffer has pages of its own, given back to the system when it is freed.
 * The functions are nghttp2's allocator: whatever else it asks for comes from malloc. One thread. */
#ifndef RPC_FRAME_ROOM_H
#define RPC_FRAME_ROOM_H

#include <nghttp2/nghttp2.h>

struct frame_region;
struct frame_rooms {
    struct frame_region *regions;
};

/* An allocator for sessions; rooms outlives them. */
nghttp2_mem frame_rooms_allocator(struct frame_rooms *rooms);
/* No session may be left. */
void frame_rooms_free(struct frame_rooms *rooms);

#endif
