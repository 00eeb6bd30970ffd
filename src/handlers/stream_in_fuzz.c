/* Fuzz target: streamSet, streamVerifiableSet and streamExecAll (byte 0 of the input says which) fed any chunks: one answer, memory
 * bounded by the call's arena, and what is written does not depend on where the chunks are cut. */
#include "handlers/stream_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

bool __wrap_kv_refuse_replica(struct request *rq);
uint64_t __wrap_kv_proven_tx(struct store *s);
struct kv_write *__wrap_kv_set_new(struct request *rq, const Immudb__Schema__SetRequest *m);
void __wrap_kv_write_prove(struct kv_write *w, uint64_t since_tx);
void __wrap_kv_write_start(struct kv_write *w);
void __wrap_kv_exec_all_start(struct request *rq, const Immudb__Schema__ExecAllRequest *m);

bool __wrap_kv_refuse_replica(struct request *rq)
{
    (void)rq;
    return false;
}
uint64_t __wrap_kv_proven_tx(struct store *s)
{
    (void)s;
    return 100;
}
struct kv_write *__wrap_kv_set_new(struct request *rq, const Immudb__Schema__SetRequest *m)
{
    struct kv_write *w = arena_zalloc(rq->arena, sizeof *w);

    if (w == NULL) {
        __wrap_request_fail_nomem(rq);
        return NULL;
    }
    w->rq = rq;
    rig_note(&m->base);
    return w;
}
void __wrap_kv_write_prove(struct kv_write *w, uint64_t since_tx) { w->prove_since_tx = since_tx; }
void __wrap_kv_write_start(struct kv_write *w)
{
    char text[40];

    snprintf(text, sizeof text, "since %llu", (unsigned long long)w->prove_since_tx);
    rig_answer("set", 0, text);
}
void __wrap_kv_exec_all_start(struct request *rq, const Immudb__Schema__ExecAllRequest *m)
{
    (void)rq;
    rig_note(&m->base);
    rig_answer("exec all", 0, "");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static void (*const handlers[])(struct request *) = {handle_stream_set, handle_stream_verifiable_set, handle_stream_exec_all};

    if (len >= 2)
        rig_run(data, len, handlers[(data[0] & 0x7f) % 3], 0);
    return 0;
}
