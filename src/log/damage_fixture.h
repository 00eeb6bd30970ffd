/* For the tests that damage a log: one with several segments, sealed and not, whose every tx is known. */
#ifndef LOG_DAMAGE_FIXTURE_H
#define LOG_DAMAGE_FIXTURE_H

#include "log/log_fixture.h"

enum { TXS = 60 };

/* Segments 1.. sealed up to the last two; newest frame vouched for. */
static inline struct vfs *make_log(bool clean)
{
    struct vfs *memory = vfs_memory_create();
    struct fixture f;

    fixture_init(&f, memory);
    f.segment_bytes_first = f.segment_bytes_max = 4096;
    assert_int_equal(fixture_open(&f, true), ST_OK);
    for (uint64_t id = 1; id <= TXS; id += 2) {
        assert_int_equal(fixture_commit(&f, id, id + 1), ST_OK);
        if (id < TXS - 24)
            assert_int_equal(log_advance_background(f.log, &f.err), ST_OK);
    }
    assert_int_equal(log_vouch(f.log, &f.err), ST_OK);
    assert_true(table_count(f.log) >= 5);
    fixture_close(&f, clean);
    vfs_memory_power_cut(memory, POWER_CUT_KEEP_ALL, 1);
    return memory;
}

static inline void open_any(struct fixture *f, struct vfs *v)
{
    fixture_init(f, v);
    f->segment_bytes_first = f->segment_bytes_max = 4096;
    if (fixture_open(f, false) != ST_OK)
        fail_msg("%s", f->err.text);
}

/* Is the tx readable with exactly its content? */
static inline bool tx_is_good(struct fixture *f, uint64_t tx_id)
{
    struct content c;
    struct log_tx t;
    struct tx_entry e;
    struct bytes value;
    struct arena arena;
    bool good;

    arena_init(&arena, 4096, 0);
    content_make(f, tx_id, &c);
    good = log_tx_open(f->log, tx_id, false, &t, &f->err) == ST_OK;
    if (good) {
        assert_memory_equal(t.header.eh.b, c.header.eh.b, HASH_LEN);
        assert_int_equal(t.entry_count, c.header.entry_count);
        for (uint32_t i = 0; i < t.entry_count && good; i++) {
            good = log_tx_entry(f->log, &t, i, &e, &f->err) == ST_OK && log_tx_value(f->log, &t, i, &arena, &value, &f->err) == ST_OK;
            if (good) {
                check_entry(&c.entries[i], &e, false, true);
                assert_true(bytes_equal(value, c.entries[i].value));
            }
        }
        log_tx_close(f->log, &t);
    }
    content_free(&c);
    arena_free(&arena);
    return good;
}

static inline uint64_t count_good(struct fixture *f)
{
    uint64_t good = 0;

    for (uint64_t id = 1; id <= TXS; id++)
        good += tx_is_good(f, id) ? 1 : 0;
    return good;
}

struct frame_place {
    char name[32];
    uint64_t at, len, batch;
    bool is_empty;
};

/* All frames of a segment. */
static inline size_t list_frames(struct fixture *f, size_t index, struct frame_place *out, size_t max)
{
    struct segment *s = table_at(f->log, index);
    uint64_t at = SEGMENT_HEADER_BYTES;
    uint8_t bytes[FRAME_HEADER_BYTES];
    struct frame_header h;
    size_t n = 0;

    while (at + sizeof bytes <= atomic_load(&s->end) && n < max) {
        assert_int_equal(cache_file_read(f->cache, s->file, at, bytes, sizeof bytes, &f->err), ST_OK);
        assert_true(frame_header_decode(bytes, segment_place_seed(s->seed, at), &h));
        memcpy(out[n].name, s->name, sizeof s->name);
        out[n].at = at;
        out[n].len = h.len;
        out[n].batch = h.batch;
        out[n++].is_empty = h.record_count == 0;
        at += frame_align(h.len);
    }
    return n;
}

/* Refuses every operation that changes the disk. */
static inline void open_untouched(struct fixture *f, struct vfs *memory, struct vfs **faulty)
{
    *faulty = vfs_faulty_create(memory);
    open_any(f, *faulty);
    assert_true(f->report.is_damaged);
    assert_int_equal(vfs_faulty_op_count(*faulty), 0);
    assert_int_equal(log_batch_begin(f->log, &f->err), ST_READ_ONLY);
    assert_int_equal(log_sync(f->log, &f->err), ST_READ_ONLY);
    assert_int_equal(log_vouch(f->log, &f->err), ST_READ_ONLY);
    assert_int_equal(log_advance_background(f->log, &f->err), ST_READ_ONLY);
}

static inline void segment_path(char *path, uint64_t no)
{
    char name[32];
    struct err err;

    segment_name(name, no, 0);
    assert_int_equal(vfs_path(path, &err, FIXTURE_DIR, "%s", name), ST_OK);
}

#endif
