#!/usr/bin/env python3
"""Large values: whatever was accepted can be read back by every method, at the default memory limit and at the least one, whatever others do meanwhile.

    large.py --server build/cmd/immudb

Values of 64 KiB to 31 MiB are written by every writing method and read by every reading one, byte for byte, proofs included, and survive a restart. A transaction of many
middling values is read too. Then slow clients: two uploads that stop in the middle but for a byte now and then, and six downloads that are begun and not read, while
another client's reads and writes of all sizes go on; the sleepers are cut off, naming what they moved. Then many at once: concurrent reads and writes of large values
wait for each other instead of failing. Memory (RSS) is watched all the time. At last, transactions of a closed session hold nothing any more when CloseSession has
answered, and a memory limit below the least one is refused."""
import argparse
import hashlib
import os
import re
import struct
import subprocess
import sys
import threading
import time
from collections import Counter

import grpc

from client import SIGNING_KEY, Api, State, schema_of
from server import Check, Server

MIB = 1 << 20
SIZES = (65536, 262143, 262144, MIB, 8 * MIB, 16 * MIB, 24 * MIB, 31 * MIB)
RAW, RESOLVE = {"kvEntriesSpec": {"action": 2}}, {"kvEntriesSpec": {"action": 3}}
LEAST = 16 * MIB
RSS_BESIDE_MIB = 90  # the program itself, threads, the two messages that may go beyond the limit


def rss_mib(pid):
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1)) / 1024


class Watch(threading.Thread):
    """The greatest memory the server had."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.most, self.stop = server, 0.0, threading.Event()
        self.start()

    def run(self):
        while not self.stop.wait(0.05):
            try:
                self.most = max(self.most, rss_mib(self.server.proc.pid))
            except (OSError, AttributeError):
                pass


def value_of(size, salt):
    block = hashlib.shake_128(b"%d %s" % (size, salt)).digest(65521)  # no period that a wrong offset could hide behind
    return (block * (size // len(block) + 1))[:size]


def joined(answer):
    return b"".join(m.content for m in answer.messages)


def parts_of(stream):
    out, at = [], 0
    while at < len(stream):
        n = struct.unpack(">Q", stream[at:at + 8])[0]
        out.append(stream[at + 8:at + 8 + n])
        at += 8 + n
    return out


def stream_chunks(*values):
    for v in values:
        yield struct.pack(">Q", len(v))
        for at in range(0, len(v), 60000):
            yield v[at:at + 60000]


def reads_of(api, key, tx, value):
    """Every reading method: its name, its answer, and whether that is the value."""
    vget = dict(keyRequest={"key": key})
    yield "Get", api("Get", key=key, timeout=60), lambda a: a.message.value == value
    yield "Get by tx", api("Get", key=key, atTx=tx, timeout=60), lambda a: a.message.value == value
    yield "Get by revision", api("Get", key=key, atRevision=1, timeout=60), lambda a: a.message.value == value
    yield "Get of a reference", api("Get", key=b"ref:" + key, timeout=60), lambda a: a.message.value == value and a.message.key == key
    yield "VerifiableGet", api("VerifiableGet", timeout=60, **vget), lambda a: a.message.entry.value == value
    yield "GetAll", api("GetAll", keys=[key, b"small", key], timeout=60), lambda a: [e.value for e in a.message.entries] == [value, b"s", value]
    yield "History", api("History", key=key, timeout=60), lambda a: a.message.entries[0].value == value
    yield "Scan", api("Scan", prefix=key, timeout=60), lambda a: [e.value for e in a.message.entries] == [value]
    yield "ZScan", api("ZScan", set=b"set:" + key, timeout=60), lambda a: [e.entry.value for e in a.message.entries] == [value]
    yield "TxById, raw", api("TxById", tx=tx, entriesSpec=RAW, timeout=60), lambda a: b"\0" + value in [e.value for e in a.message.entries]
    yield "TxById, resolved", api("TxById", tx=tx, entriesSpec=RESOLVE, timeout=60), lambda a: value in [e.value for e in a.message.kvEntries]
    yield "VerifiableTxById", api("VerifiableTxById", tx=tx, entriesSpec=RAW, timeout=60), lambda a: b"\0" + value in [e.value for e in a.message.tx.entries]
    yield "TxScan", api("TxScan", initialTx=tx, limit=1, entriesSpec=RAW, timeout=60), lambda a: b"\0" + value in [e.value for e in a.message.txs[0].entries]
    yield "streamGet", api("streamGet", key=key, timeout=60), lambda a: parts_of(joined(a)) == [key, value]
    yield "streamVerifiableGet", api("streamVerifiableGet", timeout=60, **vget), lambda a: parts_of(joined(a))[3] == value
    yield "streamScan", api("streamScan", prefix=key, timeout=60), lambda a: parts_of(joined(a)) == [key, value]
    yield "streamHistory", api("streamHistory", key=key, timeout=60), lambda a: parts_of(joined(a))[:2] == [key, value]
    yield "streamZScan", api("streamZScan", set=b"set:" + key, timeout=60), lambda a: parts_of(joined(a))[4] == value
    yield "exportTx", api("exportTx", tx=tx, timeout=60), lambda a: b"\0" + value in parts_of(joined(a))[0]


def write(api, n, key, value):
    """Each size by another method, with what belongs to it."""
    kvs = {"KVs": [{"key": key, "value": value}]}
    if n % 4 == 0:
        got = api("Set", timeout=60, **kvs)
    elif n % 4 == 1:
        got = api("VerifiableSet", setRequest=kvs, timeout=60)
    elif n % 4 == 2:
        got = api("streamSet", chunks=list(stream_chunks(key, value)), timeout=60)
    else:
        got = api("ExecAll", Operations=[{"kv": {"key": key, "value": value}}], timeout=60)
    if not got.ok:
        raise AssertionError("writing %d bytes: %r" % (len(value), got))
    header = got.message.tx.header if n % 4 == 1 else got.message
    api.must("SetReference", key=b"ref:" + key, referencedKey=key)
    api.must("ZAdd", set=b"set:" + key, score=1.5, key=key)
    return header.id


def read_back(check, api, written, when):
    for key, (tx, value) in sorted(written.items()):
        wrong = []
        for name, got, is_it in reads_of(api, key, tx, value):
            if not got.ok:
                wrong.append("%s: %r" % (name, got))
            elif not is_it(got):
                wrong.append("%s: another value" % name)
        check("%d bytes read by 19 methods%s" % (len(value), when), not wrong, "; ".join(wrong[:4]))


def proven(check, api, written):
    """What is proven can be checked: the client's own arithmetic over a large value."""
    state = State()
    for key, (_, value) in sorted(written.items(), key=lambda w: len(w[1][1]))[:5]:
        got = api("VerifiableGet", keyRequest={"key": key}, proveSinceTx=state.tx_id, timeout=60)
        try:
            state.check("VerifiableGet", api.message("VerifiableGet", {"keyRequest": {"key": key}, "proveSinceTx": state.tx_id}), got.message)
            check("proof of %d bytes" % len(value), True)
        except AssertionError as e:
            check("proof of %d bytes" % len(value), False, e)


def many_middling(check, api, size, count):
    """A transaction of many values, none of them large, together far more than one answer may hold in memory."""
    values = [value_of(size, b"%d" % i) for i in range(count)]
    got = api("Set", KVs=[{"key": b"mid:%04d" % i, "value": v} for i, v in enumerate(values)], timeout=60)
    check("%d values of %d bytes in one tx" % (count, size), got.ok, got)
    tx = got.message.id
    for name, got, is_it in (
            ("TxById", api("TxById", tx=tx, entriesSpec=RAW, timeout=60), lambda a: [e.value[1:] for e in a.message.entries] == values),
            ("Scan", api("Scan", prefix=b"mid:", timeout=60), lambda a: [e.value for e in a.message.entries] == values),
            ("GetAll", api("GetAll", keys=[b"mid:%04d" % i for i in range(count)], timeout=60), lambda a: [e.value for e in a.message.entries] == values),
            ("streamScan", api("streamScan", prefix=b"mid:", timeout=60), lambda a: parts_of(joined(a))[1::2] == values),
            ("exportTx", api("exportTx", tx=tx, timeout=60), lambda a: all(v in joined(a) for v in values[::97]))):
        check("... by %s" % name, got.ok and is_it(got), got if not got.ok else "another answer")


def slow_clients(check, server, schema, api, big, seconds):
    hold, ended, lock = threading.Event(), [], threading.Lock()
    chunk = schema.cls("immudb.schema.Chunk")

    def drip():
        yield chunk(content=struct.pack(">Q", 2) + b"up")
        yield chunk(content=struct.pack(">Q", 31 * MIB) + b"x" * 60000)
        for _ in range(440):
            yield chunk(content=b"x" * 60000)
        while not hold.wait(5):
            yield chunk(content=b"x")

    def upload():
        mine = Api(schema, server.port)
        mine.open_session()
        got = mine("streamSet", timeout=200, raw=drip())
        with lock:
            ended.append(got)

    threads = [threading.Thread(target=upload, daemon=True) for _ in range(2)]
    for t in threads:
        t.start()
    downloads = []
    for _ in range(6):
        mine = Api(schema, server.port)
        mine.open_session()
        stub = mine.channel.unary_stream("/immudb.schema.ImmuService/streamGet", request_serializer=lambda m: m.SerializeToString(), response_deserializer=chunk.FromString)
        stream = stub(mine.message("streamGet", {"key": big}), metadata=[("sessionid", mine.session)])
        next(stream)
        downloads.append((mine, stream))
    outcomes, slowest, end = {}, {}, time.time() + seconds
    while time.time() < end:
        for name, method, fields in (("Get", "Get", {"key": b"small"}), ("Scan of 1,000", "Scan", {"prefix": b"wide:", "limit": 1000}), ("wide VerifiableGet", "VerifiableGet", {"keyRequest": {"key": b"wide:0007"}}),
                                     ("Set of 200 KB", "Set", {"KVs": [{"key": b"other", "value": b"v" * 200000}]}), ("Set of 5 MB", "Set", {"KVs": [{"key": b"other", "value": b"v" * 5000000}]}),
                                     ("large Get", "Get", {"key": big}), ("large streamGet", "streamGet", {"key": big})):
            start = time.time()
            got = api(method, timeout=20, **fields)
            outcomes.setdefault(name, Counter())[got.code if got.ok else repr(got)[:120]] += 1
            slowest[name] = max(slowest.get(name, 0), time.time() - start)
        time.sleep(0.3)
    for name, seen in outcomes.items():
        check("beside slow clients: %s, at most %.2f s" % (name, slowest[name]), set(seen) == {"OK"} and slowest[name] < 10, dict(seen))
    for t in threads:
        t.join(max(0, end + 60 - time.time()))
    texts = [g.text for g in ended]
    check("slow uploads are cut off", len(ended) == 2 and all(g.code == "RESOURCE_EXHAUSTED" for g in ended) and any("too slow for the memory it holds" in t for t in texts), texts)
    hold.set()
    for mine, stream in downloads:
        stream.cancel()
        mine.close()


def at_once(check, server, schema, what, count, rounds, call):
    seen, lock, start = Counter(), threading.Lock(), time.time()

    def body(i):
        mine = Api(schema, server.port)
        mine.open_session()
        for k in range(rounds):
            got = call(mine, i, k)
            with lock:
                seen[got.code if got.ok else repr(got)[:120]] += 1
        mine("CloseSession")
        mine.close()

    threads = [threading.Thread(target=body, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    check("%s, %d at once: %.1f s" % (what, count, time.time() - start), dict(seen) == {"OK": count * rounds}, dict(seen))


def all_at_once(check, server, schema, big):
    v16, v31 = value_of(16 * MIB, b"at once"), value_of(31 * MIB, b"at once")
    for method in ("Get", "streamGet", "VerifiableGet"):
        fields = {"keyRequest": {"key": big}} if method == "VerifiableGet" else {"key": big}
        for count in (2, 6):
            at_once(check, server, schema, "%s of 31 MiB" % method, count, 3, lambda a, i, k: a(method, timeout=120, **fields))
    at_once(check, server, schema, "Set of 16 MiB", 6, 2, lambda a, i, k: a("Set", KVs=[{"key": b"c%d" % i, "value": v16}], timeout=120))
    at_once(check, server, schema, "streamSet of 31 MiB", 4, 2, lambda a, i, k: a("streamSet", chunks=list(stream_chunks(b"d%d" % i, v31)), timeout=120))
    at_once(check, server, schema, "both", 6, 2, lambda a, i, k: a("streamSet", chunks=list(stream_chunks(b"e%d" % i, v16)), timeout=120) if i % 2 else a("Get", key=big, timeout=120))


def closed_sessions(check, make):
    a, b = make(), make()
    a.open_session()
    b.open_session()
    opened = 0
    while opened < 2000 and a("NewTx", mode=2).ok:
        opened += 1
    check("a session opens %d transactions, then no one does" % opened, 0 < opened < 2000 and not b("NewTx", mode=2).ok)
    a.must("CloseSession")
    got = b("NewTx", mode=2)
    check("CloseSession has let go of them", got.ok, got)
    b("CloseSession")
    for api in (a, b):
        api.close()


def run(check, binary, limit):
    name = "default limit" if limit is None else "limit of %d MiB" % (limit // MIB)
    print("--- %s" % name, flush=True)
    flags = ["--signingKey", SIGNING_KEY] + ([] if limit is None else ["--memory-limit", str(limit)])
    with Server(binary, flags) as server:
        schema, watch = schema_of(), Watch(server)

        def make():
            return Api(schema, server.port)

        api = make()
        api.open_session()
        api.must("Set", KVs=[{"key": b"small", "value": b"s"}])
        api.must("Set", KVs=[{"key": b"wide:%04d" % i, "value": b"v" * 20} for i in range(1000)])
        written = {}
        for n, size in enumerate(SIZES):
            key, value = b"size%08d" % size, value_of(size, b"v")
            written[key] = (write(api, n, key, value), value)
        big = b"size%08d" % SIZES[-1]
        read_back(check, api, written, "")
        proven(check, api, written)
        many_middling(check, api, 30000, 1000)
        most = 256 + RSS_BESIDE_MIB if limit is None else limit // MIB + RSS_BESIDE_MIB
        check("memory after that: at most %.0f MiB" % watch.most, watch.most < most)
        slow_clients(check, server, schema, api, big, 50)
        all_at_once(check, server, schema, big)
        closed_sessions(check, make)
        check("memory after all: at most %.0f MiB" % watch.most, watch.most < most)
        watch.stop.set()
        api.close()
        check("end", server.stop() == 0)
        server.start(60)
        api = make()
        api.open_session()
        read_back(check, api, {big: written[big], b"size%08d" % MIB: written[b"size%08d" % MIB]}, " after a restart")
        if limit is not None:
            check("the log says what the limit means", "such messages are taken one at a time" in server.log())
        api.close()


def least_limit(check, binary):
    for limit, is_taken in ((str(LEAST - 1), False), ("1M", False)):
        got = subprocess.run([os.path.abspath(binary), "--memory-limit", limit, "--dir", "/nonexistent"], capture_output=True, text=True, timeout=20)
        said = got.stdout + got.stderr
        check("--memory-limit %s is refused" % limit, got.returncode != 0 and "--memory-limit" in said and str(LEAST) in said, said[-300:])


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--server", required=True)
    a = ap.parse_args()
    check = Check()
    least_limit(check, a.server)
    for limit in (None, LEAST):
        run(check, a.server, limit)
    print("%d passed, %d failed" % (check.passed, check.failed))
    return 1 if check.failed or not check.passed else 0


if __name__ == "__main__":
    sys.exit(main())
