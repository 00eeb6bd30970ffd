/* A tree that lost pages: what is missing comes from the alh in the log.
 *
 * A little of it is appended while opening. When that takes longer than TREE_NS_MAX the rest follows in the background and the tree "lags": the
 * committer leaves it alone. New headers need nothing of it but the root of all leaves so far, and for that the frontier is enough: the footer of
 * the last sealed segment holds one, the alh of the txs behind it bring it up to the last tx. It is believed only when a header in the log
 * confirms it (blRoot), and compared with the tree once that has caught up.
 *
 * Invariant: pages on disk are believed only as far as the log confirms them. Whatever wrote them - an unfinished rebuild, one that was refuted
 * afterwards - each opening compares their root with the blRoot of the first header behind them, and the root of the tree it ends up with with the
 * newest blRoot there is. Pages that are refuted are not used; then the rebuild starts from nothing and is waited for, since until its end nobody
 * can tell which of the two is wrong. A rebuilt tree that is refuted (tree_is_refuted) makes the database read-only, and no proof is made of it;
 * its pages, if any were written, are refuted again by the next opening.
 *
 * Meanwhile proofs, roots of old sizes and imports that name one wait, or are told how far it is. Everything else goes on; writers that would
 * outrun the rebuild are slowed down to half its speed, so that it comes to an end.
 *
 * Who appends: while tree_lags the maintenance thread, from tree_lag_is_short on the committer, which ends the lag (tree_lag_finish). Damage that
 * hides an alh ends the rebuild for good (tree_is_stopped): the tree then ends there, the database is read-only. */
#include "store/store_internal.h"

#define TREE_NS_MAX 50000000ull
#define STEP_NS_MAX 20000000ull /* other databases have their turn */
enum { SHORT_TXS = 8192, FLUSH_TXS = 65536, LEAVES_CHUNK = 1024, CHECK_TXS = 4096, RECORD_SMALL_BYTES = 4096, HEADERS_LOOK = 256 };

/* --- leaves from the log --- */
/* Small txs are read in one go; of large ones the headers alone. */
static bool records_are_small(struct store *s, uint64_t last)
{
    struct log_stats stats;

    log_stats(s->log, &stats);
    return stats.bytes / (last + 1) <= RECORD_SMALL_BYTES;
}

struct gather {
    hash_t leaves[LEAVES_CHUNK];
    size_t count;
};

static bool gather_leaf(void *ctx, struct log_tx *t)
{
    struct gather *g = ctx;
    hash_t alh;

    tx_header_alh(&t->header, &alh);
    sha256_leaf(&alh, &g->leaves[g->count++]);
    return true;
}

/* The leaves of count txs behind tx `at`. A tx that cannot be read as a whole may still have a header, or a successor. */
static enum status leaves_read(struct store *s, uint64_t at, size_t count, uint64_t last, bool is_small, struct gather *g, struct err *err)
{
    enum status st = ST_OK;
    struct err why;
    hash_t alh;

    g->count = 0;
    if (is_small && (st = log_walk(s->log, at + 1, at + count, gather_leaf, g, &why)) == ST_NOMEM)
        return err_set(err, st, 0, "%s", why.text);
    for (st = ST_OK; g->count < count && st == ST_OK;)
        if ((st = recover_alh(s, at + g->count + 1, last, &alh, err)) == ST_OK)
            sha256_leaf(&alh, &g->leaves[g->count++]);
    return st;
}

/* Appends up to goal; `last` is the newest tx whose header may be asked for. */
static enum status leaves_append(struct store *s, uint64_t goal, uint64_t last, struct err *err)
{
    bool is_small = records_are_small(s, last);
    enum status st = ST_OK;
    struct gather g;

    while (tree_size(s->tree) < goal && st == ST_OK) {
        uint64_t at = tree_size(s->tree);
        struct err append_err;
        enum status append;

        st = leaves_read(s, at, goal - at < LEAVES_CHUNK ? (size_t)(goal - at) : LEAVES_CHUNK, last, is_small, &g, err);
        if ((append = tree_append(s->tree, g.leaves, g.count, &append_err)) != ST_OK)
            return err_set(err, append, append_err.os_errno, "%s; while rebuilding the tree", append_err.text);
    }
    return st == ST_OK ? ST_OK : err_while(err, st, "rebuilding the tree");
}

/* --- the tree against the log --- */
static enum status refuted_error(uint64_t size, struct err *err)
{
    return err_set(err, ST_CORRUPT, 0, "the rebuilt tree of %llu transactions has another root than the log went on with", (unsigned long long)size);
}

/* The newest header up to tx `from` that can be read and names a root; ST_NOT_FOUND when there is none. */
static enum status header_with_root(struct store *s, uint64_t from, struct tx_header *h, struct err *err)
{
    enum status st;

    for (uint64_t id = from; id > 0 && from - id < HEADERS_LOOK; id--)
        if ((st = log_tx_header(s->log, id, h, err)) == ST_NOMEM || (st == ST_OK && h->bl_tx_id > 0))
            return st;
    return err_set(err, ST_NOT_FOUND, 0, "no transaction up to %llu names a root", (unsigned long long)from);
}

/* ST_CORRUPT when a header up to tx `from` (at most one behind the tree's last leaf) names another root than the tree has. What cannot be read
 * refutes nothing: that is told where it is used. */
static enum status tree_check(struct store *s, uint64_t from, struct err *err)
{
    struct tx_header h;
    struct err why;
    hash_t root;
    enum status st = header_with_root(s, from, &h, &why);

    if (st == ST_OK && h.bl_tx_id > tree_size(s->tree))
        return refuted_error(h.bl_tx_id, err);
    if (st == ST_OK)
        st = tree_root_at(s->tree, h.bl_tx_id, &root, &why);
    if (st == ST_NOMEM)
        return err_set(err, st, 0, "%s", why.text);
    return st != ST_OK || hash_equal(&root, &h.bl_root) ? ST_OK : refuted_error(h.bl_tx_id, err);
}

/* The pages that were found, before anything is built on them. */
static enum status pages_check(struct store *s, uint64_t upto, bool *are_dropped, struct err *err)
{
    uint64_t size = tree_size(s->tree);
    struct err why;
    enum status st;

    *are_dropped = false;
    if (size == 0 || (st = tree_check(s, size < upto ? size + 1 : upto, &why)) == ST_OK)
        return ST_OK;
    if (st != ST_CORRUPT)
        return err_set(err, st, 0, "%s", why.text);
    env_log(s->env, LOG_WARN, "database %s: %llu transactions of the tree on disk are not those of the log: it is made again", s->dir,
            (unsigned long long)size);
    tree_close(s->tree);
    s->tree = NULL;
    *are_dropped = true;
    return tree_make(s, 0, err);
}

/* --- the frontier without the tree --- */
struct climb {
    struct frontier *f;
    uint64_t upto;
    bool is_confirmed, is_refuted;
};

static bool climb_one(void *ctx, struct log_tx *t)
{
    struct climb *c = ctx;
    hash_t alh, leaf, root;

    /* The first header that can tell, and the newest one. */
    if ((!c->is_confirmed || t->header.id == c->upto) && t->header.bl_tx_id == c->f->size) {
        frontier_root(c->f, &root);
        c->is_confirmed = hash_equal(&root, &t->header.bl_root);
        c->is_refuted = !c->is_confirmed;
    }
    tx_header_alh(&t->header, &alh);
    sha256_leaf(&alh, &leaf);
    frontier_append(c->f, &leaf);
    return !c->is_refuted;
}

/* Of upto leaves, from a footer and the txs behind it. *found false: no footer reaches further than the tree, nothing in the log confirms what
 * the footer says, or a tx cannot be read: then the tree itself must be brought there. */
static enum status frontier_from_log(struct store *s, uint64_t upto, struct frontier *f, bool *found, struct err *err)
{
    struct climb c = {.f = f, .upto = upto};
    struct err why;
    uint64_t at = 0;
    enum status st;

    *found = false;
    /* One tx at least must follow, to confirm it. */
    if ((st = log_frontier_before(s->log, upto - 1, f, &at, &why)) == ST_OK && at > tree_size(s->tree))
        st = log_walk(s->log, at + 1, upto, climb_one, &c, &why);
    if (st == ST_NOMEM)
        return err_set(err, st, 0, "%s", why.text);
    if (c.is_refuted)
        env_log(s->env, LOG_ERROR, "database %s: the frontier of %llu transactions in a footer of the log is not that of the log", s->dir,
                (unsigned long long)at);
    *found = st == ST_OK && c.is_confirmed && f->size == upto;
    return ST_OK;
}

enum status recover_tree(struct store *s, uint64_t upto, struct err *err)
{
    struct committer *c = &s->c;
    uint64_t start_ns = env_mono_ns(s->env);
    bool found = false, is_asked = false; /* is_asked: for a frontier to go on with; not done where pages were refuted */
    enum status st;

    if ((st = pages_check(s, upto, &is_asked, err)) != ST_OK)
        return st;
    while (tree_size(s->tree) < upto && !found && st == ST_OK) {
        uint64_t size = tree_size(s->tree);

        st = leaves_append(s, upto - size < CHECK_TXS ? upto : size + CHECK_TXS, upto, err);
        if (st != ST_OK || is_asked || tree_size(s->tree) >= upto || env_mono_ns(s->env) - start_ns <= TREE_NS_MAX)
            continue;
        is_asked = true;
        st = frontier_from_log(s, upto, &c->lag_frontier, &found, err);
    }
    if (found) {
        s->tree_lag_from = tree_size(s->tree);
        s->tree_lag_upto = upto;
        atomic_store(&s->tree_lags, true);
        c->frontier = c->lag_frontier;
        env_log(s->env, LOG_WARN, "database %s: the tree reaches to tx %llu of %llu and is rebuilt in the background", s->dir,
                (unsigned long long)s->tree_lag_from, (unsigned long long)upto);
        return st;
    }
    tree_frontier(s->tree, &c->frontier);
    if (st == ST_OK && (st = tree_check(s, upto, err)) == ST_CORRUPT) {
        atomic_store(&s->tree_is_refuted, true);
        atomic_store(&s->tree_is_stopped, true);
    }
    return st;
}

/* --- in the background --- */
static void stop(struct store *s, const struct err *why)
{
    damage_note(s, why);
    atomic_store(&s->tree_is_stopped, true);
    state_wake_waiters(s);
    role_kick(s); /* imports that wait for it are to be told */
}

enum status tree_rebuild_step(struct store *s, bool *more, struct err *err)
{
    uint64_t upto = atomic_load(&s->visible_tx), start_ns;
    enum status st = ST_OK;

    *more = false;
    if (!tree_is_rebuilding(s) || atomic_load(&s->tree_lag_is_short))
        return ST_OK;
    start_ns = env_mono_ns(s->env);
    for (uint64_t size = tree_size(s->tree); st == ST_OK && size < upto; size = tree_size(s->tree)) {
        st = leaves_append(s, upto - size < CHECK_TXS ? upto : size + CHECK_TXS, upto, err);
        if (env_mono_ns(s->env) - start_ns >= STEP_NS_MAX)
            break;
    }
    lost_tell(s);
    if (st == ST_CORRUPT) {
        stop(s, err);
        return ST_OK;
    }
    /* Of a damaged database nothing is touched: the pages stay in memory. */
    if (st == ST_OK && tree_size(s->tree) - tree_flushed(s->tree) >= FLUSH_TXS && !atomic_load(&s->is_damaged))
        st = tree_flush(s->tree, atomic_load(&s->durable_tx), true, err);
    if (st != ST_OK)
        return st;
    state_wake_waiters(s);
    if (upto - tree_size(s->tree) <= SHORT_TXS) {
        atomic_store(&s->tree_lag_is_short, true); /* from here on the committer appends */
        role_kick(s);
    } else {
        *more = true;
    }
    return ST_OK;
}

enum status tree_lag_finish(struct store *s, struct err *err)
{
    struct committer *c = &s->c;
    struct frontier reached;
    hash_t root, expected;
    enum status st;

    if (!tree_is_rebuilding(s))
        return ST_OK;
    st = leaves_append(s, c->applied_tx, c->applied_tx, err);
    lost_tell(s);
    if (st == ST_CORRUPT) {
        stop(s, err);
        return ST_OK;
    }
    if (st != ST_OK)
        return st;
    tree_frontier(s->tree, &reached);
    frontier_root(&reached, &root);
    frontier_root(&c->lag_frontier, &expected);
    if (reached.size != c->lag_frontier.size || !hash_equal(&root, &expected)) {
        (void)refuted_error(reached.size, err);
        atomic_store(&s->tree_is_refuted, true);
        stop(s, err);
        return ST_OK;
    }
    atomic_store(&s->tree_lag_is_short, false);
    atomic_store(&s->tree_lags, false);
    env_log(s->env, LOG_INFO, "database %s: the tree is complete again", s->dir);
    state_wake_waiters(s);
    maintenance_kick(s); /* its pages are to be written */
    return ST_OK;
}

/* --- what others ask --- */
bool tree_is_rebuilding(struct store *s) { return atomic_load(&s->tree_lags) && !atomic_load(&s->tree_is_stopped); }

bool tree_is_outrun(struct store *s)
{
    return atomic_load_explicit(&s->tree_lags, memory_order_relaxed) && tree_is_rebuilding(s) &&
           s->c.applied_tx - s->tree_lag_upto > (tree_size(s->tree) - s->tree_lag_from) / 2 + SHORT_TXS;
}

void tree_progress(struct store *s, uint64_t *rebuilt, uint64_t *to_rebuild)
{
    uint64_t size = tree_size(s->tree), visible = atomic_load(&s->visible_tx);

    *rebuilt = size - s->tree_lag_from;
    *to_rebuild = (visible > size ? visible : size) - s->tree_lag_from;
}

enum status tree_rebuilding_error(struct store *s, struct err *err)
{
    uint64_t rebuilt, to_rebuild;

    tree_progress(s, &rebuilt, &to_rebuild);
    return err_set(err, ST_BUSY, 0, "tree of database %s is being rebuilt: %llu of %llu transactions", s->dir, (unsigned long long)rebuilt,
                   (unsigned long long)to_rebuild);
}

enum status tree_reaches(struct store *s, uint64_t size, struct err *err)
{
    if (atomic_load_explicit(&s->tree_is_refuted, memory_order_relaxed))
        return err_set(err, ST_CORRUPT, 0, "the rebuilt tree has another root than the log went on with: no proof can be made");
    if (size <= tree_size(s->tree))
        return ST_OK;
    if (tree_is_rebuilding(s))
        return tree_rebuilding_error(s, err);
    /* It may have caught up between the two looks. */
    if (size <= tree_size(s->tree))
        return ST_OK;
    return err_set(err, ST_CORRUPT, 0, "the tree ends at tx %llu because of damage", (unsigned long long)tree_size(s->tree));
}

enum status tree_applied_root(struct store *s, uint64_t size, hash_t *root, struct err *err)
{
    const struct committer *c = &s->c;
    enum status st;

    if (atomic_load(&s->tree_lags) && size == c->lag_frontier.size) {
        frontier_root(&c->lag_frontier, root);
        return ST_OK;
    }
    if ((st = tree_reaches(s, size, err)) != ST_OK)
        return st;
    return tree_root_at(s->tree, size, root, err);
}
