#!/usr/bin/env python3
"""Concurrent clients on few keys, and a checker that looks for an order of their calls that explains every answer.

    linearizability.py --server build/cmd/immudb [--seconds 30] [--clients 12] [--seed N]

Rounds of histories, each call with the times of its sending and of its answer:
  single keys   set, get, delete, set with mustNotExist / mustExist / notModifiedAfterTx: checked key by key (a history is linearizable when its
                restriction to every object is);
  whole         execAll over several keys and getAll: one object that holds them all;
  unknown       deadlines of a fraction of a millisecond to some, given-up calls, connections cut in the middle: such a call may have taken place
                at any time after it was sent, or never.
Also, all the time: what a client wrote it reads by sinceTx (its own transaction and that of others), answers carry the transaction that wrote the value,
transactions are ordered as their calls were; reads as of a transaction never change; of calls that race with mustNotExist or notModifiedAfterTx on one
key exactly one wins.
The checker proves on histories that are known to be bad that it can fail."""
import argparse
import collections
import random
import sys
import threading
import time

from client import SIGNING_KEY, Api, schema_of
from fuzz_rpc import sanitizer_environment
from server import Server

FOREVER = float("inf")
STATES_MAX = 1000000  # of one search: more is a failure, not a pass
OVERTAKEN = "tx read conflict"


class Call:
    """One operation. answer: what came back; None when that is not known."""
    __slots__ = ("client", "kind", "args", "start", "end", "answer")

    def __init__(self, client, kind, args, start, end=FOREVER, answer=None):
        self.client, self.kind, self.args, self.start, self.end, self.answer = client, kind, args, start, end, answer

    def __repr__(self):
        return "c%s %s%r [%.6f %.6f] -> %r" % (self.client, self.kind, self.args, self.start, self.end, self.answer)


# --- models: step(state, call) yields the states after the call that agree with its answer; an unknown answer agrees with every outcome
class KeyModel:
    """state: (value or None, tx, is it known). The tx is of the last change; when that one's answer is not known, its tx is greater than the one given.
    Values are never written twice. Answers: ("ok", tx), ("value", value, tx), ("none",), ("refused",)."""
    initial = (None, 0, True)

    @staticmethod
    def step(state, call):
        value, last, is_exact = state
        known, answer = call.answer is not None, call.answer
        if call.kind == "get":
            if answer == ("none",):
                if value is None:
                    yield state
            elif value is not None and answer[1] == value and (answer[2] == last if is_exact else answer[2] > last):
                yield (value, answer[2], True)
            return
        kind, new, bound = call.kind, call.args[0], call.args[1]
        holds = True  # None: it depends on what is not known
        if kind == "delete":
            holds, new = value is not None, None
        elif kind == "set_absent":
            holds = value is None
        elif kind == "set_present":
            holds = value is not None
        elif kind == "set_unmodified":
            holds = last <= bound if is_exact else (False if last >= bound else None)
        if known:
            if answer == ("refused",):
                if holds is not True:
                    yield state
            elif holds is not False and answer[1] > last:
                yield (new, answer[1], True)
        elif holds is not False:  # had it no effect, it could as well be left out
            yield (new, last, False)


class MapModel:
    """state: tuple of values of all keys, and the greatest tx known so far. Calls: all (pairs) -> ("ok", tx), read (keys) -> values."""

    def __init__(self, keys):
        self.index = {k: i for i, k in enumerate(keys)}
        self.initial = (None,) * len(keys) + (0,)

    def step(self, state, call):
        if call.kind == "read":
            if all(state[self.index[k]] == v for k, v in zip(call.args[0], call.answer)):
                yield state
            return
        after = list(state)
        for k, v in call.args[0]:
            after[self.index[k]] = v
        if call.answer is not None:
            if call.answer[1] <= state[-1]:
                return
            after[-1] = call.answer[1]
        yield tuple(after)


def linearizable(model, calls):
    """Wing and Gong's search with Lowe's memory of what was tried: is there an order of the calls that respects their times and that the model agrees with?
    Calls whose answer is not known may be left out, or come anywhere after their start. A call that may come now and changes nothing comes now: that
    takes no possibility from the others. Of the writes whose transactions are known only the one with the smallest can come next."""
    calls = sorted((c for c in calls if c.answer is not None or c.kind not in ("get", "read")), key=lambda c: c.start)
    n = len(calls)
    must = sum(1 << i for i, c in enumerate(calls) if c.answer is not None)
    numbered = sorted((c.answer[1], i) for i, c in enumerate(calls) if c.answer is not None and c.answer[0] == "ok")
    seen, stack, steps = set(), [(0, model.initial)], 0
    while stack:
        done, state = stack.pop()
        if done & must == must:
            return True
        steps += 1
        if steps > STATES_MAX:
            raise AssertionError("the search did not end: fewer calls per history are needed")
        # A call may come next when no other one that has not come yet ended before it started.
        first_end = min(calls[i].end for i in range(n) if (must & ~done) >> i & 1)
        nexts, quiet = [], None
        smallest = next((tx for tx, i in numbered if not done >> i & 1), 0)
        for i in range(n):
            if calls[i].start > first_end:
                break
            if done >> i & 1 or (calls[i].answer is not None and calls[i].answer[0] == "ok" and calls[i].answer[1] != smallest):
                continue
            for after in model.step(state, calls[i]):
                if after == state or calls[i].kind == "get":
                    quiet = (done | 1 << i, after)
                    break
                nexts.append((calls[i].end, (done | 1 << i, after)))
            if quiet is not None:
                break
        nexts = [quiet] if quiet is not None else [key for _, key in sorted(nexts, key=lambda x: -x[0])]  # the one that ended first is tried first
        for key in nexts:
            if key not in seen:
                seen.add(key)
                stack.append(key)
    return False


# --- the checker checked
def known_histories():
    """(name, model, calls, is it good)"""
    def c(client, kind, start, end, answer, *args):
        return Call(client, kind, args or (None, 0), start, end, answer)

    w1, w2 = c(1, "set", 0, 1, ("ok", 5), "a", 0), c(2, "set", 2, 3, ("ok", 6), "b", 0)
    key = KeyModel
    yield "a read of the newest", key, [w1, w2, c(3, "get", 4, 5, ("value", "b", 6))], True
    yield "a stale read", key, [w1, w2, c(3, "get", 4, 5, ("value", "a", 5))], False
    yield "a read while it is written", key, [w1, w2, c(3, "get", 1.5, 2.5, ("value", "a", 5))], True
    yield "a value from nowhere", key, [w1, c(3, "get", 2, 3, ("value", "z", 5))], False
    yield "a lost write", key, [w1, c(3, "get", 2, 3, ("none",))], False
    yield "back and forth", key, [w1, c(2, "set", 2, 9, ("ok", 6), "b", 0), c(3, "get", 3, 4, ("value", "b", 6)), c(3, "get", 5, 6, ("value", "a", 5))], False
    yield "two winners", key, [c(1, "set_absent", 0, 3, ("ok", 5), "a", 0), c(2, "set_absent", 0, 3, ("ok", 6), "b", 0)], False
    yield "one winner", key, [c(1, "set_absent", 0, 3, ("ok", 5), "a", 0), c(2, "set_absent", 0, 3, ("refused",), "b", 0)], True
    yield "no winner", key, [c(1, "set_absent", 0, 3, ("refused",), "a", 0), c(2, "set_absent", 0, 3, ("refused",), "b", 0)], False
    yield "an unknown write that is seen", key, [w1, c(2, "set", 2, FOREVER, None, "b", 0), c(3, "get", 9, 10, ("value", "b", 8))], True
    yield "an unknown write that is not", key, [w1, c(2, "set", 2, FOREVER, None, "b", 0), c(3, "get", 9, 10, ("value", "a", 5))], True
    yield "an unknown write seen before it was sent", key, [w1, c(2, "set", 5, FOREVER, None, "b", 0), c(3, "get", 2, 3, ("value", "b", 8))], False
    yield "an unknown write seen and lost again", key, [c(2, "set", 0, FOREVER, None, "b", 0), c(3, "get", 2, 3, ("value", "b", 8)), c(3, "get", 4, 5, ("none",))], False
    yield "an order of transactions against the calls", key, [c(1, "set", 0, 1, ("ok", 9), "a", 0), c(2, "set", 2, 3, ("ok", 6), "b", 0)], False
    yield "a bound that was overtaken", key, [w1, w2, c(3, "set_unmodified", 4, 5, ("ok", 9), "c", 5)], False
    yield "a bound that holds", key, [w1, w2, c(3, "set_unmodified", 4, 5, ("ok", 9), "c", 6)], True
    yield "a delete of nothing", key, [c(1, "delete", 0, 1, ("ok", 3), None, 0)], False
    m = MapModel(["x", "y"])
    both = Call(1, "all", ((("x", 1), ("y", 1)),), 0, 1, ("ok", 5))
    yield "a whole", m, [both, Call(2, "read", (("x", "y"),), 0.5, 3, (1, 1))], True
    yield "half of a whole", m, [both, Call(2, "read", (("x", "y"),), 0.5, 3, (1, None))], False
    yield "wholes against the order of their transactions", m, [both, Call(2, "all", ((("x", 2),),), 2, 3, ("ok", 4))], False
    yield "an unknown whole, seen by half", m, [both, Call(2, "all", ((("x", 2), ("y", 2)),), 2, FOREVER, None), Call(3, "read", (("x", "y"),), 4, 5, (2, 1))], False
    yield "an unknown whole that is seen", m, [both, Call(2, "all", ((("x", 2), ("y", 2)),), 2, FOREVER, None), Call(3, "read", (("x", "y"),), 4, 5, (2, 2))], True
    yield "wholes that cross", m, [both, Call(2, "all", ((("x", 2), ("y", 2)),), 0, 1, ("ok", 6)), Call(3, "read", (("x", "y"),), 0.5, 3, (1, 2))], False


# --- clients
class Client:
    def __init__(self, number, schema, port, rng):
        self.number, self.schema, self.port, self.rng = number, schema, port, rng
        self.errors, self.seen_tx = [], 0
        self.connect()

    def connect(self):
        self.api = Api(self.schema, self.port)
        got = self.api.open_session()
        if not got.ok:
            raise AssertionError("no session: %r" % got)

    def cut(self):
        """The connection goes away under a call."""
        threading.Timer(self.rng.random() * 0.003, self.api.close).start()

    def run(self, method, fields, unknown):
        """(start, end, answer): the answer is None when what happened is not known."""
        timeout, cutting = 20.0, False
        if unknown and self.rng.random() < 0.7:
            timeout = self.rng.choice([0.0002, 0.0005, 0.001, 0.002, 0.004])
        elif unknown:
            cutting = True
            self.cut()
        start = time.perf_counter()
        try:
            got = self.api(method, timeout=timeout, **fields)
        except ValueError:  # the channel was closed before the call began
            got = None
        end = time.perf_counter()
        if cutting:
            time.sleep(0.004)
            self.connect()
        if got is None or got.code in ("DEADLINE_EXCEEDED", "CANCELLED", "UNAVAILABLE"):
            return start, FOREVER, None
        return start, end, got

    def single(self, key, n, unknown):
        rng = self.rng
        kind = rng.choice(["set", "set", "get", "get", "get", "delete", "set_absent", "set_present", "set_unmodified"])
        value, bound = "%d-%d" % (self.number, n), 0
        if kind == "get":
            fields = {"key": key}
            if self.seen_tx and rng.random() < 0.5:
                fields["sinceTx"] = self.seen_tx
            start, end, got = self.run("Get", fields, unknown)
        elif kind == "delete":
            start, end, got = self.run("Delete", {"keys": [key]}, unknown)
        else:
            fields = {"KVs": [{"key": key, "value": value.encode()}]}
            if kind == "set_absent":
                fields["preconditions"] = [{"keyMustNotExist": {"key": key}}]
            elif kind == "set_present":
                fields["preconditions"] = [{"keyMustExist": {"key": key}}]
            elif kind == "set_unmodified":
                bound = max(1, self.seen_tx - rng.choice([0, 0, 0, 1, 5]))
                fields["preconditions"] = [{"keyNotModifiedAfterTX": {"key": key, "txID": bound}}]
            start, end, got = self.run("Set", fields, unknown)
        call = Call(self.number, kind, (value if kind.startswith("set") else None, bound), start, end)
        if got is None:
            return call
        if got.ok and kind == "get":
            call.answer = ("value", got.message.value.decode(), got.message.tx)
            self.seen_tx = max(self.seen_tx, got.message.tx)
        elif got.ok:
            call.answer = ("ok", got.message.id)
            if got.message.id <= self.seen_tx:
                self.errors.append("tx %d after tx %d was seen: %r" % (got.message.id, self.seen_tx, call))
            self.seen_tx = max(self.seen_tx, got.message.id)
        elif kind == "get" and "key not found" in got.text:
            call.answer = ("none",)
        elif kind == "delete" and "key not found" in got.text:
            call.answer = ("refused",)
        elif kind.startswith("set_") and got.text.startswith("precondition failed"):
            call.answer = ("refused",)
        elif OVERTAKEN in got.text:  # nothing was written
            return None
        else:
            self.errors.append("%s: %r" % (kind, got))
            return None
        return call

    def whole(self, keys, n, unknown):
        rng = self.rng
        some = sorted(rng.sample(keys, rng.randint(2, len(keys))))
        if rng.random() < 0.55:
            start, end, got = self.run("GetAll", {"keys": some}, unknown)
            call = Call(self.number, "read", (tuple(some),), start, end)
            if got is not None and got.ok:
                found = {e.key: e.value.decode() for e in got.message.entries}
                call.answer = tuple(found.get(k) for k in some)
        else:
            pairs = tuple((k, "%d-%d" % (self.number, n)) for k in some)
            start, end, got = self.run("ExecAll", {"Operations": [{"kv": {"key": k, "value": v.encode()}} for k, v in pairs]}, unknown)
            call = Call(self.number, "all", (pairs,), start, end)
            if got is not None and got.ok:
                call.answer = ("ok", got.message.id)
        if got is not None and not got.ok:
            self.errors.append("%s: %r" % (call.kind, got))
            return None
        return call


def together(clients, what):
    """Runs what(client) on all of them, started at once; returns the results."""
    out, errors, gate = [None] * len(clients), [], threading.Barrier(len(clients))

    def body(i):
        try:
            gate.wait(20)
            out[i] = what(clients[i])
        except Exception as e:
            errors.append(repr(e))

    threads = [threading.Thread(target=body, args=(i,)) for i in range(len(clients))]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120)
    if errors or any(t.is_alive() for t in threads):
        raise AssertionError("a client broke: %s" % (errors[:3] or "no end"))
    return out


def errors_of(clients):
    out = []
    for c in clients:
        out += c.errors
        c.errors = []
    return out


def round_single(clients, number, per_client, unknown):
    keys = [b"r%d-%d" % (number, i) for i in range(3)]
    rates = 0.25 if unknown else 0.0

    def body(client):
        calls = []
        for n in range(per_client):
            key = client.rng.choice(keys)
            call = client.single(key, n, client.rng.random() < rates)
            if call is not None:
                calls.append((key, call))
        return calls

    histories = collections.defaultdict(list)
    for calls in together(clients, body):
        for key, call in calls:
            histories[key].append(call)
    bad = errors_of(clients)
    for key, calls in histories.items():
        if not linearizable(KeyModel, calls):
            bad.append("%r has no order:\n  %s" % (key, "\n  ".join(repr(c) for c in sorted(calls, key=lambda c: c.start))))
    return bad, sum(map(len, histories.values())), sum(c.answer is None for h in histories.values() for c in h)


def round_whole(clients, number, per_client, unknown):
    keys = [b"m%d-%d" % (number, i) for i in range(4)]

    def body(client):
        # Each call that may or may not have been done doubles what the search has to look at: at most one for each client.
        given_up = client.rng.randrange(per_client) if unknown and client.rng.random() < 0.5 else -1
        return [client.whole(keys, n, n == given_up) for n in range(per_client)]

    calls = [c for some in together(clients, body) for c in some if c is not None]
    bad = errors_of(clients)
    if not linearizable(MapModel(keys), calls):
        bad.append("execAll and getAll have no order:\n  %s" % "\n  ".join(repr(c) for c in sorted(calls, key=lambda c: c.start)))
    return bad, len(calls), sum(c.answer is None for c in calls)


def round_races(clients, number):
    """Exactly one winner, whatever the condition."""
    bad = []
    key = b"race-%d" % number
    got = together(clients, lambda c: c.api("Set", KVs=[{"key": key, "value": b"%d" % c.number}], preconditions=[{"keyMustNotExist": {"key": key}}]))
    winners = [c for c, g in zip(clients, got) if g.ok]
    if len(winners) != 1:
        return ["mustNotExist: %d winners: %r" % (len(winners), got)]
    now = clients[0].api.must("Get", key=key)
    if now.value != b"%d" % winners[0].number or now.tx != [g for g in got if g.ok][0].message.id:
        bad.append("mustNotExist: %d won, %r is there" % (winners[0].number, now))
    got = together(clients, lambda c: c.api("Set", KVs=[{"key": key, "value": b"m%d" % c.number}], preconditions=[{"keyNotModifiedAfterTX": {"key": key, "txID": now.tx}}]))
    winners = [c for c, g in zip(clients, got) if g.ok]
    if len(winners) != 1:
        bad.append("notModifiedAfterTx: %d winners: %r" % (len(winners), got))
    got = together(clients, lambda c: c.api("Delete", keys=[key]))
    if sum(g.ok for g in got) != 1:
        bad.append("delete: %d winners: %r" % (sum(g.ok for g in got), got))
    got = together(clients, lambda c: c.api("ExecAll", Operations=[{"kv": {"key": key, "value": b"e%d" % c.number}}, {"kv": {"key": key + b"-%d" % c.number, "value": b"x"}}],
                                            preconditions=[{"keyMustNotExist": {"key": key}}]))
    winners = [c for c, g in zip(clients, got) if g.ok]
    there = clients[0].api.must("Count", prefix=key + b"-").count
    if len(winners) != 1 or there != 1:
        bad.append("execAll with mustNotExist: %d winners, %d of their other keys are there" % (len(winners), there))
    others = [g for g in got if not g.ok and not g.text.startswith("precondition failed") and OVERTAKEN not in g.text]
    if others:
        bad.append("a loser was told %r" % others[0])
    return bad


def round_read_your_writes(clients, number, times):
    """Whoever knows a transaction reads at least that: by sinceTx, on any connection."""
    newest, lock, bad = [0, None], threading.Lock(), []
    key = b"ryw-%d" % number

    def body(client):
        for n in range(times):
            if client.number % 2:
                got = client.api.must("Set", KVs=[{"key": key, "value": b"%d" % n}], noWait=client.rng.random() < 0.5)
                with lock:
                    if got.id > newest[0]:
                        newest[0] = got.id
                mine = client.api.must("Get", key=key, sinceTx=got.id)
                if mine.tx < got.id:
                    bad.append("own tx %d, read tx %d" % (got.id, mine.tx))
            else:
                with lock:
                    since = newest[0]
                if since == 0:
                    continue
                got = client.api.must("Get", key=key, sinceTx=since)
                scan = client.api.must("Scan", prefix=key, sinceTx=since)
                every = client.api.must("GetAll", keys=[key], sinceTx=since)
                history = client.api.must("History", key=key, sinceTx=since, desc=True, limit=1)
                for what, tx in (("get", got.tx), ("scan", scan.entries[0].tx), ("getAll", every.entries[0].tx), ("history", history.entries[0].tx)):
                    if tx < since:
                        bad.append("%s since tx %d read tx %d" % (what, since, tx))

    together(clients, body)
    return bad


def round_snapshots(clients, number, times):
    """What a transaction holds never changes, however often it is read while others write."""
    keys = [b"snap-%d-%d" % (number, i) for i in range(4)]
    fixed, bad, lock = {}, [], threading.Lock()

    def body(client):
        for n in range(times):
            key = client.rng.choice(keys)
            if client.number % 3 == 0:
                value = b"%d-%d" % (client.number, n)
                tx = client.api.must("Set", KVs=[{"key": key, "value": value}]).id
                with lock:
                    fixed[key, tx] = value
            else:
                with lock:
                    some = client.rng.sample(sorted(fixed), min(3, len(fixed)))
                for key, tx in some:
                    got = client.api.must("Get", key=key, atTx=tx)
                    whole = client.api.must("TxById", tx=tx, entriesSpec={"kvEntriesSpec": {"action": 2}})
                    if (got.value, got.tx) != (fixed[key, tx], tx):
                        bad.append("tx %d of %r was %r, now %r" % (tx, key, fixed[key, tx], got.value))
                    if [e.value for e in whole.entries] != [b"\0" + fixed[key, tx]]:
                        bad.append("tx %d holds %r" % (tx, whole.entries))

    together(clients, body)
    for key in keys:  # revisions number the same values in the order of their transactions
        mine = [v for (k, tx), v in sorted(fixed.items(), key=lambda x: x[0][1]) if k == key]
        for revision, value in enumerate(mine, 1):
            if clients[0].api.must("Get", key=key, atRevision=revision).value != value:
                bad.append("revision %d of %r is not %r" % (revision, key, value))
    return bad


class Tally:
    def __init__(self):
        self.passed = self.failed = 0
        self.shown = collections.Counter()

    def note(self, name, bad):
        self.passed, self.failed = self.passed + (not bad), self.failed + bool(bad)
        if bad:
            print("FAIL %s: %s" % (name, "\n     ".join(bad[:5])), flush=True)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--server", required=True)
    ap.add_argument("--seconds", type=int, default=30)
    ap.add_argument("--clients", type=int, default=12)
    ap.add_argument("--per-client", type=int, default=8)
    ap.add_argument("--seed", type=int, default=int(time.time()))
    a = ap.parse_args()
    print("seed %d" % a.seed, flush=True)
    sanitizer_environment()
    tally, rounds, calls, unknown = Tally(), 0, 0, 0
    for name, model, history, is_good in known_histories():
        tally.note("the checker on " + name, [] if linearizable(model, history) == is_good else ["said %s" % (not is_good)])
    server = Server(a.server, ["--max-sessions", "100000", "--signingKey", SIGNING_KEY])
    try:
        server.start(60)
        schema, end = schema_of(), time.time() + a.seconds
        clients = [Client(i, schema, server.port, random.Random("%d-%d" % (a.seed, i))) for i in range(a.clients)]
        while time.time() < end or rounds == 0:
            rounds += 1
            for name, body in (("single keys", round_single), ("wholes", round_whole)):
                for with_unknown in (False, True):
                    bad, n, m = body(clients, 2 * rounds + with_unknown, a.per_client, with_unknown)
                    calls, unknown = calls + n, unknown + m
                    tally.note("round %d: %s%s" % (rounds, name, " with unknown outcomes" if with_unknown else ""), bad)
            tally.note("round %d: races" % rounds, round_races(clients, rounds))
            tally.note("round %d: read your writes" % rounds, round_read_your_writes(clients, rounds, 6))
            tally.note("round %d: snapshots" % rounds, round_snapshots(clients, rounds, 10))
        print("%d rounds, %d calls in histories, %d of them with an unknown outcome" % (rounds, calls, unknown))
        tally.note("unknown outcomes", [] if unknown > rounds else ["only %d: nothing was given up" % unknown])
        for c in clients:
            c.api.close()
    except Exception as e:
        tally.note("the run", [repr(e), server.log()[-3000:]])
    finally:
        code = server.stop()
        tally.note("the end of the server", [] if code == 0 and "Sanitizer" not in server.log() else ["status %s: %s" % (code, server.log()[-6000:])])
    print("%d passed, %d failed" % (tally.passed, tally.failed))
    return 1 if tally.failed or not tally.passed else 0


if __name__ == "__main__":
    sys.exit(main())
