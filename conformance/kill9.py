#!/usr/bin/env python3
"""kill -9 under verified writers, again and again: nothing acknowledged is lost, and no state a client ever verified is contradicted.

    kill9.py --server build/cmd/immudb [--rounds 50] [--writers 4] [--seed N] [--synced false]

Each round: writers with the official Python SDK do verified sets (each answer's proof is checked against the client's own last state); the server is
killed at a random moment and started again; then every acknowledged key of the round and a sample of older ones is read back with a verified get by
the same clients (so the proofs connect the states from before the kill with the ones after it), and the transaction id must not have gone back.
A key whose write was not acknowledged must be absent or hold exactly what was sent."""
import argparse
import random
import sys
import threading
import time

import grpc
from immudb import ImmudbClient
from server import Server


class Writer:
    def __init__(self, number, port):
        self.number, self.port = number, port
        self.client = ImmudbClient("127.0.0.1:%d" % port)
        self.acknowledged, self.pending, self.errors, self.count = {}, None, [], 0
        self.newest = 0

    def login(self):
        """A channel that met a dead server waits before it connects again; until then the library answers UNAVAILABLE by itself."""
        end = time.time() + 30
        while True:
            try:
                self.client.login("immudb", "immudb")
                return
            except grpc.RpcError as e:
                if e.code() != grpc.StatusCode.UNAVAILABLE or time.time() > end:
                    raise
                time.sleep(0.05)

    def write_until(self, stop):
        while not stop.is_set():
            key, value = b"w%d-%d" % (self.number, self.count), b"value-%d-%d" % (self.number, self.count) + b"x" * random.randrange(300)
            self.pending = (key, value)
            try:
                answer = self.client.verifiedSet(key, value)
            except Exception as e:  # the connection broke: not acknowledged
                if "Verification" in repr(e) or "corrupt" in repr(e).lower():
                    self.errors.append("verified set: %r" % e)
                return
            if not answer.verified:
                self.errors.append("not verified: %r" % key)
            self.acknowledged[key] = (value, answer.id)
            self.newest = max(self.newest, answer.id)
            self.pending = None
            self.count += 1

    def check(self, keys):
        for key in keys:
            value, tx = self.acknowledged[key]
            got = self.client.verifiedGet(key)
            if got is None or got.value != value or not got.verified or got.id != tx:
                self.errors.append("%r acknowledged in tx %d, read back %r" % (key, tx, got))
        if self.pending is not None:
            key, value = self.pending
            got = self.client.get(key)
            if got is not None:
                if got.value != value:
                    self.errors.append("%r not acknowledged, half there: %r" % (key, got))
                self.acknowledged[key] = (value, got.tx)
            self.pending = None
            self.count += 1
        state = self.client.currentState()
        if state.txId < self.newest:
            self.errors.append("state went back from %d to %d" % (self.newest, state.txId))


def one_round(server, writers, rng):
    """Returns (acknowledged in this round, errors)."""
    for w in writers:
        w.login()
    before = {w: set(w.acknowledged) for w in writers}
    stop = threading.Event()
    threads = [threading.Thread(target=w.write_until, args=(stop,)) for w in writers]
    for t in threads:
        t.start()
    time.sleep(rng.uniform(0.05, 0.5))
    server.kill()
    stop.set()
    for t in threads:
        t.join(30)
    started = time.time()
    server.start()
    opened = time.time() - started
    acknowledged = 0
    for w in writers:
        w.login()
        new = set(w.acknowledged) - before[w]
        acknowledged += len(new)
        old = rng.sample(sorted(before[w]), min(20, len(before[w])))
        w.check(sorted(new) + old)
    return acknowledged, opened


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--server", required=True)
    ap.add_argument("--rounds", type=int, default=50)
    ap.add_argument("--writers", type=int, default=4)
    ap.add_argument("--synced", choices=["true", "false"], default="true", help="false: only what was verified has to survive, and all of these writes are")
    ap.add_argument("--seed", type=int, default=int(time.time()))
    a = ap.parse_args()
    print("seed %d" % a.seed, flush=True)
    rng = random.Random(a.seed)
    passed = failed = total = 0
    slowest = 0.0
    with Server(a.server, ["--synced=" + a.synced]) as server:
        writers = [Writer(i, server.port) for i in range(a.writers)]
        for n in range(1, a.rounds + 1):
            try:
                acknowledged, opened = one_round(server, writers, rng)
                errors = [e for w in writers for e in w.errors]
            except Exception as e:  # e.g. the server does not start any more
                acknowledged, opened, errors = 0, 0.0, ["%r %s" % (e, server.log()[-1500:])]
            total += acknowledged
            slowest = max(slowest, opened)
            if errors:
                failed += 1
                print("FAIL round %d: %s" % (n, errors[:5]), flush=True)
                break
            passed += 1
        if total < a.rounds:
            failed += 1
            print("FAIL only %d writes were acknowledged in %d rounds: the test proves nothing" % (total, a.rounds))
    print("%d acknowledged writes survived, slowest start to readiness %.0f ms" % (total, slowest * 1000))
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
