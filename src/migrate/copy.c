/* One pass over one database: is the folder a beginning of the source's history, fetch what is missing, compare where both stand; see copy.h.
 *
 * The chain is followed here as well, ahead of the store: a transaction that does not carry on from its predecessor is named at once, and nothing
 * behind it is imported. The store checks everything again, and what only it can: the tree's root in each header, and the entries against their hash. */
#include "migrate/copy.h"

#include <string.h>

#include "migrate/importer.h"

struct pass {
    struct source *source;
    const char *name;
    struct store *store;
    const struct env *env;
    struct progress *progress;
    struct copy_result *out;
    struct err *err;
};

static enum copy_fault fault_of_source(enum status st)
{
    switch (st) {
    case ST_OK:
        return COPY_NO_FAULT;
    case ST_CLOSED:
    case ST_TIMEOUT:
    case ST_BUSY:
        return COPY_FAULT_SOURCE;
    case ST_CORRUPT:
    case ST_LIMIT:
        return COPY_FAULT_HISTORY;
    case ST_NOMEM:
    case ST_CANCELLED:
        return COPY_FAULT_HERE;
    default:
        return COPY_FAULT_REFUSED;
    }
}

static enum copy_fault fault_of_store(enum status st)
{
    switch (st) {
    case ST_OK:
        return COPY_NO_FAULT;
    case ST_INVALID:
    case ST_LIMIT:
    case ST_EXISTS:
        return COPY_FAULT_HISTORY;
    case ST_TIMEOUT: /* a stalled disk: what was under way is asked for again */
        return COPY_FAULT_SOURCE;
    default:
        return COPY_FAULT_HERE;
    }
}

/* The folder's last transaction must be the source's transaction of that number. */
static enum copy_fault check_common(struct pass *p, const struct store_state *here, const struct source_state *there)
{
    enum copy_fault fault;
    hash_t alh = there->alh;

    if (here->tx_id == 0)
        return COPY_NO_FAULT;
    if (here->tx_id > there->tx_id) {
        err_set(p->err, ST_CONFLICT, 0, "the folder has %llu transactions of it, the source only %llu: it is not the source that was imported before",
                (unsigned long long)here->tx_id, (unsigned long long)there->tx_id);
        return COPY_FAULT_HISTORY;
    }
    if (here->tx_id < there->tx_id && (fault = fault_of_source(source_alh(p->source, here->tx_id, &alh, p->err))) != COPY_NO_FAULT)
        return fault;
    if (hash_equal(&alh, &here->alh))
        return COPY_NO_FAULT;
    err_set(p->err, ST_CONFLICT, 0, "its history in the folder differs from the source's at tx %llu", (unsigned long long)here->tx_id);
    return COPY_FAULT_HISTORY;
}

static void at_tx(struct pass *p, uint64_t tx_id)
{
    struct err cause = *p->err;

    err_set(p->err, cause.status, cause.os_errno, "tx %llu: %s", (unsigned long long)tx_id, cause.text);
}

/* Reads one transaction, follows the chain, hands it on. */
static enum copy_fault fetch_one(struct pass *p, struct tx_stream *stream, struct importer *im, uint64_t tx_id, hash_t *alh)
{
    struct tx_header header;
    struct bytes blob;
    enum copy_fault fault;
    bool is_end;

    if (source_is_stopped(p->source)) {
        err_set(p->err, ST_CANCELLED, 0, "stopped");
        return COPY_FAULT_HERE;
    }
    if ((fault = fault_of_source(tx_stream_next(stream, &blob, &is_end, p->err))) != COPY_NO_FAULT ||
        (fault = fault_of_source(exported_header(blob, tx_id, &header, p->err))) != COPY_NO_FAULT) {
        at_tx(p, tx_id);
        return fault;
    }
    if (!hash_equal(&header.prev_alh, alh)) {
        err_set(p->err, ST_CORRUPT, 0, "tx %llu: it does not carry on from tx %llu (prevAlh differs)", (unsigned long long)tx_id,
                (unsigned long long)(tx_id - 1));
        return COPY_FAULT_HISTORY;
    }
    tx_header_alh(&header, alh);
    /* The number of a failed transaction comes from importer_wait(): it may be an earlier one. */
    if ((fault = fault_of_store(importer_feed(im, tx_id, blob, p->err))) != COPY_NO_FAULT)
        return fault;
    p->progress->now = tx_id;
    p->progress->bytes += blob.len;
    p->out->bytes += blob.len;
    return COPY_NO_FAULT;
}

static enum copy_fault fetch(struct pass *p, const struct store_state *here, const struct source_state *there)
{
    struct tx_stream *stream = NULL;
    struct importer *im = NULL;
    struct err import_err;
    enum copy_fault fault, import_fault;
    uint64_t failed_tx_id = 0;
    hash_t alh = here->alh;

    if ((fault = fault_of_source(tx_stream_open(p->source, here->tx_id + 1, there->tx_id, &stream, p->err))) != COPY_NO_FAULT)
        return fault;
    if (importer_create(p->store, p->env, &im, p->err) != ST_OK) {
        fault = COPY_FAULT_HERE;
        goto done;
    }
    progress_begin(p->progress, p->name, here->tx_id + 1, there->tx_id);
    for (uint64_t tx_id = here->tx_id + 1; tx_id <= there->tx_id && fault == COPY_NO_FAULT; tx_id++)
        fault = fetch_one(p, stream, im, tx_id, &alh);
    /* The store's verdict on an earlier transaction goes before anything that a later one met. */
    import_fault = fault_of_store(importer_wait(im, &failed_tx_id, &import_err));
    if (import_fault != COPY_NO_FAULT) {
        fault = import_fault;
        *p->err = import_err;
        at_tx(p, failed_tx_id);
    }
done:
    importer_free(im);
    tx_stream_close(stream);
    progress_end(p->progress);
    return fault;
}

static enum copy_fault pass(struct pass *p)
{
    struct store_state here;
    struct source_state there;
    struct tx_header header;
    enum copy_fault fault;
    hash_t alh = HASH_EMPTY;

    store_get_state(p->store, &here);
    if ((fault = fault_of_source(source_select(p->source, p->name, p->err))) != COPY_NO_FAULT ||
        (fault = fault_of_source(source_state(p->source, &there, p->err))) != COPY_NO_FAULT ||
        (fault = check_common(p, &here, &there)) != COPY_NO_FAULT)
        return fault;
    if (here.tx_id < there.tx_id && (fault = fetch(p, &here, &there)) != COPY_NO_FAULT)
        return fault;
    if (there.tx_id > 0 && store_tx_header(p->store, there.tx_id, &header, &alh, p->err) != ST_OK)
        return COPY_FAULT_HERE;
    p->out->is_same = hash_equal(&alh, &there.alh);
    if (p->out->is_same)
        return COPY_NO_FAULT;
    err_set(p->err, ST_CORRUPT, 0, "the history that the source sent does not lead to the hash that its state names for tx %llu",
            (unsigned long long)there.tx_id);
    return COPY_FAULT_HISTORY;
}

enum copy_fault copy_database(struct source *source, const char *name, struct store *store, const struct env *env, struct progress *progress,
                              struct copy_result *out, struct err *err)
{
    struct pass p = {source, name, store, env, progress, out, err};
    uint64_t started_ns = env_mono_ns(env);
    struct store_state before, after;
    enum copy_fault fault;

    memset(out, 0, sizeof *out);
    store_get_state(store, &before);
    fault = pass(&p);
    store_get_state(store, &after);
    out->tx_id = after.tx_id;
    out->alh = after.alh;
    out->txs = after.tx_id - before.tx_id;
    out->ns = env_mono_ns(env) - started_ns;
    return fault;
}
