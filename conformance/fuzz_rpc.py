#!/usr/bin/env python3
"""Mutated gRPC calls against a running server, best one built with asan and ubsan.

    fuzz_rpc.py --server build-asan/cmd/immudb [--seconds 120] [--seed N] [--workers 3] [--rss-mib 1500]

Starts from the recorded requests (golden/rpc) and sends them, valid and mutated, over hand-made HTTP/2: flipped bits, dropped, doubled and exchanged
fields, lengths that lie, huge varints, invalid UTF-8, wrong wire types, bodies of other methods, cut and joined messages, a wrong compression flag,
streams of chunks whose parts are mutated and cut anywhere; in random order, with sessions and tokens that are valid, foreign, closed or made up.

Time is spent in epochs; after each the server is ended by SIGTERM and started again on the same data. Checked: every call gets an end; a client with
its own database is served all the time and quickly, and everything it ever wrote still verifies against its own last state, also after the restarts;
the server ends with status 0, reports nothing of a sanitizer (leaks included) and stays within its memory.

What worker W sends in its step N of epoch E is drawn from the seed, W, N and E alone: --seed S repeats a run up to the timing of the threads."""
import argparse
import glob
import json
import os
import random
import re
import struct
import sys
import threading
import time
import urllib.request

import h2raw
from client import HERE, SIGNING_KEY, Api, State, parts, schema_of
from server import Server
import replay_rpc as rr

METHODS_SERVED_MIN = 40  # mutations that never get past the first check would test little
CALL_TIMEOUT_S = 5  # of the calls that are sent
END_WITHIN_S = 40   # a call without an end after so long hangs
BODY_MAX = 40000    # of a seed; with its frames it fits the windows a server opens with
RARE = re.compile(r"Login$|OpenSession$|ChangePassword$|CreateUser$|CreateDatabase|LoadDatabase$|DeleteDatabase$|UpdateDatabase|CompactIndex$|FlushIndex$|TruncateDatabase$")
NUMBERS = [0, 1, 2, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
STREAMS_IN = {"streamSet", "streamVerifiableSet", "streamExecAll", "replicateTx"}


# --- seeds: (method path, [message bytes])
def seed_text(node):
    """Recorded variables are not known here: any text that reads as a number and as base64 does."""
    if isinstance(node, str):
        return rr.VAR.sub("1000", node)
    if isinstance(node, list):
        return [seed_text(x) for x in node]
    return {k: seed_text(v) for k, v in node.items()} if isinstance(node, dict) else node


def load_seeds(schema):
    out = {}
    for path in sorted(glob.glob(os.path.join(HERE, "golden", "rpc", "*.jsonl"))):
        for step in rr.load(path)[1]:
            md = schema.method(step["rpc"])
            requests = step.get("requests", []) if md.client_streaming else [step.get("request", {})]
            if len(json.dumps(requests)) > 4 * BODY_MAX:
                continue
            try:
                bodies = []
                for r in rr.expand(seed_text(requests)):
                    m = schema.cls(md.input_type.full_name)()
                    rr.json_format.ParseDict(r or {}, m, descriptor_pool=schema.pool)
                    bodies.append(m.SerializeToString())
            except (rr.json_format.ParseError, ValueError):
                continue
            name = step["rpc"].split("/")[-1]
            if name in ("ChangePassword", "SetActiveUser", "ChangePermission", "ChangeSQLPrivileges"):  # the run's own sysadmin keeps his password
                bodies = [b.replace(b"immudb", b"fuzzrw") for b in bodies]
            if sum(map(len, bodies)) <= BODY_MAX:
                out.setdefault("/" + step["rpc"], []).append(bodies)
    assert len(out) > 60 and sum(map(len, out.values())) > 500, "the recorded requests were not found"
    return out


# --- mutation of protobuf bytes
def varint(n):
    out = b""
    while n >= 128:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def read_varint(b, i):
    n = shift = 0
    while i < len(b) and shift < 70:
        n |= (b[i] & 127) << shift
        shift += 7
        i += 1
        if b[i - 1] < 128:
            return n, i
    return None, i


def fields_of(b):
    """[(start, value start, end, tag)], or None when the bytes are no message."""
    out, i = [], 0
    while i < len(b):
        start = i
        tag, i = read_varint(b, i)
        if tag is None or tag >> 3 == 0:
            return None
        if tag & 7 == 0:
            value, end = i, read_varint(b, i)[1]
        elif tag & 7 == 2:
            n, value = read_varint(b, i)
            if n is None:
                return None
            end = value + n
        elif tag & 7 in (1, 5):
            value, end = i, i + (8 if tag & 7 == 1 else 4)
        else:
            return None
        if end > len(b):
            return None
        out.append((start, value, end, tag))
        i = end
    return out


def odd_bytes(rng):
    return rng.choice([
        b"", b"\0", b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"a\nimmudb 2026/01/01 00:00:00 ERROR: forged", b"../../etc/passwd", b"%n%s%x", b"a" * 63, b"a" * 129,
        b"k" * 1023, b"k" * 1024, b"k" * 1025, b"\0" * 300, b"v" * 5000, b"defaultdb", b"systemdb", b"SYSTEMDB", b"fuzzdb", b"key1", bytes(rng.randrange(256) for _ in range(rng.randrange(1, 60)))])


def mutate_field(rng, b, field, foreign):
    start, value, end, tag = field
    head, body, tail = b[:start], b[value:end], b[end:]
    kind, what = tag & 7, rng.randrange(10)
    if what == 0:
        return head + tail
    if what == 1:
        return head + b[start:end] * rng.choice([2, 3, 50, 1500 if end - start < 20 else 2]) + tail
    if what == 2:
        other = fields_of(foreign) or [(0, 0, len(foreign), 0)]
        s = rng.choice(other)
        return head + foreign[s[0]:s[2]] + tail
    if what == 3:  # another wire type
        return head + varint(tag & ~7 | rng.randrange(8)) + b[start + len(varint(tag)):end] + tail
    if what == 4:  # another field number
        return head + varint(rng.choice([1, 2, 3, 15, 16, 2047, 2**28, 2**29 - 1]) << 3 | kind) + b[start + len(varint(tag)):end] + tail
    if kind == 0:
        n = rng.choice(NUMBERS) if rng.random() < 0.8 else rng.getrandbits(64)
        return head + varint(tag) + (varint(n) if rng.random() < 0.9 else b"\x80" * rng.choice([9, 10, 11]) + b"\x01") + tail
    if kind in (1, 5):
        return head + varint(tag) + rng.choice([b"\0", b"\xff", b"\x7f", b"\x80"]) * len(body) + tail
    if what in (5, 6) and len(body) > 1 and fields_of(body):
        body = mutate(rng, body, foreign)
        return head + varint(tag) + varint(len(body)) + body + tail
    if what == 7:  # the length lies
        n = rng.choice([0, max(0, len(body) - 1), len(body) + 1, len(body) + len(tail), len(body) + len(tail) + 1, rng.choice(NUMBERS)])
        return head + varint(tag) + varint(n) + body + tail
    if what == 8:
        body = odd_bytes(rng)
        return head + varint(tag) + varint(len(body)) + body + tail
    body = mutate_bytes(rng, body)
    return head + varint(tag) + varint(len(body)) + body + tail


def mutate_bytes(rng, b):
    b = bytearray(b)
    for _ in range(rng.choice([1, 1, 2, 8])):
        what = rng.randrange(4)
        at = rng.randrange(len(b) + 1)
        if what == 0 and at < len(b):
            b[at] ^= 1 << rng.randrange(8)
        elif what == 1 and at < len(b):
            b[at] = rng.choice([0, 1, 127, 128, 255, 10])
        elif what == 2:
            b[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 9)))
        else:
            del b[at:at + rng.choice([1, 1, 4, 100000])]
    return bytes(b)


def mutate(rng, b, foreign):
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        fields = fields_of(b)
        if fields and rng.random() < 0.85:
            b = mutate_field(rng, b, rng.choice(fields), foreign)
        elif rng.random() < 0.2:
            b = b + foreign
        elif rng.random() < 0.1:
            b = b"\x0b" * rng.choice([1, 30, 200, 20000]) + b  # groups inside groups
        else:
            b = mutate_bytes(rng, b)
    return b if len(b) <= BODY_MAX or rng.random() < 0.05 else b[:BODY_MAX]


# --- chunk streams
def chunk(content):
    return b"\x0a" + varint(len(content)) + content if content else b""


def stream_contents(rng, method, seeds, blob):
    """All chunk contents of a stream laid end to end."""
    if method == "replicateTx":
        return parts(blob if rng.random() < 0.3 else mutate_bytes(rng, blob))
    if rng.random() < 0.3:
        recorded = rng.choice(seeds)
        return b"".join(b[f[1]:f[2]] for b in recorded for f in (fields_of(b) or []) if f[3] == 10)
    out, n = [], rng.choice([1, 1, 2, 5, 200])
    if method == "streamVerifiableSet":
        out.append(struct.pack(">Q", rng.choice([0, 1, 2, 5, 2**63, 2**64 - 1])))
    for i in range(n):
        key = b"fz-%d" % rng.randrange(50) if rng.random() < 0.8 else odd_bytes(rng)
        value = b"x" * rng.choice([0, 1, 100]) if n > 5 else b"x" * rng.choice([0, 1, 100, 8000, 20000])
        if method == "streamExecAll" and rng.random() < 0.4:
            z = b"\x0a\x02zs\x11" + struct.pack("<d", rng.random()) + b"\x1a" + varint(len(key)) + key
            out += [b"\x02", z if rng.random() < 0.7 else mutate_bytes(rng, z)]
        elif method == "streamExecAll":
            out += [rng.choice([b"\x01"] * 8 + [b"\x04", b"", b"\x09", b"\x01\x02"]), key, value]
        else:
            out += [key, value]
    whole = parts(*out)
    what = rng.random()
    if what < 0.15:
        at = rng.randrange(0, max(1, len(whole) - 8))
        whole = whole[:at] + struct.pack(">Q", rng.choice(NUMBERS + [2**40, 33554432, 33554433])) + whole[at + 8:]
    elif what < 0.25:
        whole = mutate_bytes(rng, whole)
    elif what < 0.35:
        whole = whole[:rng.randrange(len(whole) + 1)]
    return whole


def stream_messages(rng, method, seeds, blob, foreign):
    whole, out = stream_contents(rng, method, seeds, blob)[:BODY_MAX], []
    how = rng.random()
    while whole:
        n = len(whole) if how < 0.2 else rng.choice([1, 2, 3, 7, 8, 9, 64, 1000, 65536])
        m = chunk(whole[:n])
        out.append(m if rng.random() < 0.98 else mutate(rng, m, foreign))
        whole = whole[n:]
        if len(out) > 300:
            out.append(chunk(whole))
            break
    return out


# --- one call as frames
class Sender:
    def __init__(self, rng, seeds, paths, keys, blob):
        self.rng, self.seeds, self.paths, self.keys, self.blob = rng, seeds, paths, keys, blob

    def credentials(self):
        rng, what = self.rng, self.rng.random()
        kind, value = rng.choice(self.keys)
        if what < 0.06:
            return []
        if what < 0.1:
            value = mutate_bytes(rng, value).replace(b"\n", b"").replace(b"\r", b"").replace(b"\0", b"")
        elif what < 0.12:
            value = rng.choice([b"", b"A" * 44, b"x" * 5000, b"Bearer ", b"v2.public.AAAA.AAAA"])
        out = [(kind, value)]
        if what > 0.97:
            out.append(rng.choice(self.keys))
        return out

    def headers(self, path):
        rng = self.rng
        extra = self.credentials() + [(b"grpc-timeout", b"%dS" % CALL_TIMEOUT_S)]
        what = rng.randrange(60)
        if what == 0:
            extra.append((b"grpc-encoding", rng.choice([b"gzip", b"identity", b"deflate", b"", b"x" * 100])))
        elif what == 1:
            extra.append((rng.choice([b"x-bin", b"a-bin"]), rng.choice([b"!!!", b"AAAA", b"AA==", b"A", b","])))
        elif what == 2:
            extra[-1] = (b"grpc-timeout", rng.choice([b"1n", b"5u", b"1m", b"3000m", b"0S"]))
            if rng.random() < 0.3:
                extra.append((b"grpc-timeout", rng.choice([b"99999999H", b"999999999S", b"S", b"-1S", b""])))
        elif what == 3:
            extra.append((rng.choice([b"skip-integrity-check", b"wait-for-indexing", b"transactionid", b"x-forwarded-for", b"x-real-ip"]), rng.choice([b"true", b"x\x01", b"1" * 500, b"0", b"", b"a, b"])))
        fields = h2raw.request_fields(path, extra)
        if what == 4:
            fields[rng.randrange(len(fields))] = (rng.choice([b":method", b":path", b"content-type", b"te", b":foo", b"X-Upper"]), rng.choice([b"GET", b"", b"/", b"/a", b"text/plain"]))
        elif what == 5:
            fields.insert(0, (b"x-first", b"1"))
        return h2raw.hpack(fields)

    def messages(self, path):
        rng, name = self.rng, path.split("/")[-1]
        foreign = rng.choice(rng.choice(self.seeds[rng.choice(self.paths)]) or [b""])
        if name in STREAMS_IN:
            return stream_messages(rng, name, self.seeds[path], self.blob, foreign)
        bodies = rng.choice(self.seeds[path])
        if rng.random() < 0.05:
            bodies = rng.choice(self.seeds[rng.choice(self.paths)])
        return [b if rng.random() < 0.3 else mutate(rng, b, foreign) for b in bodies]

    def choose(self):
        while True:
            path = self.rng.choice(self.paths)
            if not RARE.search(path) or self.rng.random() < 0.06:
                return path

    def call(self, sid):
        """(frames, wants an end) of one call on stream sid."""
        rng, path = self.rng, self.choose()
        body = b""
        for m in self.messages(path):
            body += rng.choice([b"\0"] * 60 + [b"\1", b"\2", b"\xff"]) + struct.pack(">I", len(m)) + m
        what = rng.random()
        ends = True
        if what < 0.03:
            body = body[:rng.randrange(len(body) + 1)]
        elif what < 0.06 and len(body) >= 5:
            body = body[:1] + struct.pack(">I", rng.choice([0, len(body), 2**24, 33554432, 33554433, 2**31, 2**32 - 1])) + body[5:]
        elif what < 0.08:
            body += rng.choice([b"\0", b"\0\0\0\0\0", body, b"\0\0\0\0\5ab"])
        elif what < 0.10:
            ends = False
        out = h2raw.frame(h2raw.HEADERS, h2raw.END_HEADERS | (h2raw.END_STREAM if what > 0.995 else 0), sid, self.headers(path))
        if what > 0.995:
            return path, out, True
        sizes = rng.choice([[16384], [16384], [1, 5, 7, 300], [4096, 1]])
        while body:
            n = rng.choice(sizes) if len(body) < 2000 else max(rng.choice(sizes), 2000)
            out += h2raw.frame(h2raw.DATA, h2raw.END_STREAM if ends and n >= len(body) else 0, sid, body[:n])
            body = body[n:]
            if not body:
                break
        else:
            out += h2raw.frame(h2raw.DATA, h2raw.END_STREAM if ends else 0, sid)
        if not ends and rng.random() < 0.6:  # nobody has to answer a call that was given up
            return path, out + h2raw.frame(h2raw.RST, 0, sid, struct.pack(">I", h2raw.CANCEL)), False
        return path, out, True


class Worker(threading.Thread):
    """Connections one after the other, a few calls on each."""

    def __init__(self, number, epoch, run):
        super().__init__(daemon=True)
        self.number, self.epoch, self.run_, self.calls, self.unanswered, self.step, self.journal = number, epoch, run, 0, [], 0, []
        self.errors = []

    def run(self):
        try:
            while not self.run_.stop.is_set():
                self.connection()
        except Exception as e:
            if not self.run_.stop.is_set():
                self.errors.append("worker %d broke in step %d: %r" % (self.number, self.step, e))

    def connection(self):
        self.step += 1
        rng = random.Random("%d-%d-%d-%d" % (self.run_.seed, self.epoch, self.number, self.step))
        if self.step % 40 == 0:
            self.run_.renew(self.number)
        sender = Sender(rng, self.run_.seeds, self.run_.paths, self.run_.keys[self.number], self.run_.blob)
        try:
            raw = h2raw.Raw(self.run_.port, struct.pack(">HI", h2raw.SETTING_WINDOW, 1 << 30))
        except OSError as e:
            self.errors.append("step %d: no connection: %r" % (self.step, e))
            time.sleep(0.2)
            return
        raw.send(h2raw.frame(h2raw.WINDOW, 0, 0, struct.pack(">I", 1 << 30)))
        wanted, paths, got, alive, is_odd = set(), {}, b"", True, False
        for i in range(rng.choice([1, 4, 10, 25])):
            sid = 2 * i + 1
            paths[sid], data, wants = sender.call(sid)
            if rng.random() < 0.005:
                data, is_odd = mutate_bytes(rng, data), True
            if rng.random() < 0.01:
                data += h2raw.frame(rng.randrange(12), rng.randrange(256), rng.choice([0, sid, sid + 1]), bytes(rng.randrange(256) for _ in range(rng.choice([0, 4, 5, 8]))))
                is_odd = True
            alive = raw.send(data)
            self.calls += 1
            if wants:
                wanted.add(sid)
            piece, closed = raw.drain(0.0)
            got += piece
            if closed or not alive:
                alive = False
                break
        if rng.random() < 0.08:
            raw.close()  # walks away
            return
        if is_odd:  # frames that may mean a reset, an end or smaller windows: no answer is due
            raw.drain(0.2)
            raw.close()
            return
        piece, closed = raw.drain_until(lambda g: wanted <= h2raw.ended_streams(got + g), END_WITHIN_S) if alive else (b"", True)
        got += piece
        raw.close()
        if not closed and alive:
            left = wanted - h2raw.ended_streams(got)
            if left:
                self.unanswered.append("step %d: no end after %d s of %s" % (self.step, END_WITHIN_S, sorted(paths[s] for s in left)[:5]))


# --- the client that must not notice
class Keeper:
    """Writes to its own database, with proofs, and reads everything back."""

    def __init__(self, schema, port, admin):
        self.schema, self.written, self.state, self.latency = schema, {}, State("keepdb"), []
        admin.must("CreateDatabaseV2", name="keepdb")
        admin.must("CreateUser", user=b"keeper", password=b"Keeper-1-password", permission=2, database="keepdb")
        self.connect(port)

    def connect(self, port):
        self.api = Api(self.schema, port)
        got = self.api.open_session("keeper", "Keeper-1-password", "keepdb")
        if not got.ok:
            raise AssertionError("the keeper can not log in: %r" % got)

    def write(self, n):
        key, value = b"keep-%d" % (n % 500), b"value-%d" % n
        request = self.api.message("VerifiableSet", {"setRequest": {"KVs": [{"key": key, "value": value}]}, "proveSinceTx": self.state.tx_id})
        start = time.perf_counter()
        got = self.api("VerifiableSet", raw=request)
        self.latency.append(time.perf_counter() - start)
        if not got.ok:
            raise AssertionError("keeper: %r" % got)
        self.state.check("VerifiableSet", request, got.message)
        self.written[key] = value

    def read(self, key):
        request = self.api.message("VerifiableGet", {"keyRequest": {"key": key}, "proveSinceTx": self.state.tx_id})
        got = self.api("VerifiableGet", raw=request, timeout=60)
        if not got.ok or got.message.entry.value != self.written[key]:
            raise AssertionError("keeper: %r reads %r, wrote %r" % (key, got, self.written[key]))
        self.state.check("VerifiableGet", request, got.message)

    def verify_all(self):
        for key in sorted(self.written):
            self.read(key)
        count = self.api.must("Count", prefix=b"keep-").count
        if count != len(self.written):
            raise AssertionError("keeper: %d keys, wrote %d" % (count, len(self.written)))


class Run:
    def __init__(self, a, schema, server):
        self.seed, self.workers, self.schema, self.server = a.seed, a.workers, schema, server
        self.port, self.rss_mib, self.rss_seen, self.slowest = server.port, a.rss_mib, 0, 0.0
        self.seeds = load_seeds(schema)
        self.paths = sorted(self.seeds)
        self.stop, self.keys, self.calls, self.problems, self.kept, self.statuses = threading.Event(), {}, 0, [], 0, {}
        self.prepare()

    def prepare(self):
        admin = Api(self.schema, self.port)
        if not admin.open_session().ok:
            raise AssertionError("no first session")
        self.keeper = Keeper(self.schema, self.port, admin)
        admin.must("CreateDatabaseV2", name="fuzzdb")
        admin.must("CreateDatabaseV2", name="fuzzreplica", settings={"replicationSettings": {"replica": {"value": True}}})
        for user, permission in (("fuzzadmin", 254), ("fuzzrw", 2), ("fuzzro", 1)):
            admin.must("CreateUser", user=user.encode(), password=b"Fuzz-1-password", permission=permission, database="fuzzdb")
        admin.must("Set", KVs=[{"key": b"wide:%d" % i, "value": b"v" * 300} for i in range(500)])
        admin.must("ZAdd", set=b"zs", score=1.5, key=b"wide:1")
        self.blob = b"".join(m.content for m in admin("exportTx", tx=1).messages)[8:]
        admin.close()

    def renew(self, number):
        """New sessions and tokens for a worker; what the fuzzing did to the users may leave some without."""
        keys = []
        for user, password, db in (("immudb", "immudb", "defaultdb"), ("immudb", "immudb", "fuzzreplica"), ("fuzzadmin", "Fuzz-1-password", "fuzzdb"), ("fuzzrw", "Fuzz-1-password", "fuzzdb"),
                                   ("fuzzro", "Fuzz-1-password", "fuzzdb")):
            api = Api(self.schema, self.port)
            if api.open_session(user, password, db).ok:
                keys.append((b"sessionid", api.session.encode()))
            api.session = None
            got = api("Login", user=user.encode(), password=password.encode())
            if got.ok:
                api.token = got.message.token
                got = api("UseDatabase", databaseName=db)
                if got.ok:
                    keys.append((b"authorization", b"Bearer " + got.message.token.encode()))
            api.close()
        for key in self.keys.get(number, [])[:10]:
            if key[0] == b"sessionid":
                api = Api(self.schema, self.port, session=key[1].decode())
                api("CloseSession")
                api.close()
        self.keys[number] = keys + self.keys.get(number, [])[:2] or [(b"sessionid", b"A" * 44)]  # two of the closed ones stay

    def rss(self):
        with open("/proc/%d/status" % self.server.proc.pid) as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1)) // 1024

    def watch(self, seconds):
        """The honest clients while the workers are at it."""
        end, n, rng = time.time() + seconds, 0, random.Random(self.seed)
        pinger = Api(self.schema, self.port)
        while time.time() < end and not self.problems:
            if self.server.proc.poll() is not None:
                self.problems.append("the server ended with %s" % self.server.proc.returncode)
                break
            start = time.perf_counter()
            got = pinger("Health", timeout=15)
            self.slowest = max(self.slowest, time.perf_counter() - start)
            if not got.ok:
                self.problems.append("ping: %r" % got)
            try:
                self.kept += 1
                self.keeper.write(self.kept)
                if n % 5 == 0:
                    self.keeper.read(rng.choice(sorted(self.keeper.written)))
            except Exception as e:
                self.problems.append(repr(e))
            self.rss_seen = max(self.rss_seen, self.rss() if self.server.proc.poll() is None else 0)
            if self.rss_seen > self.rss_mib:
                self.problems.append("memory: %d MiB resident, at most %d" % (self.rss_seen, self.rss_mib))
            n += 1
            time.sleep(0.05)
        pinger.close()

    def answered(self):
        """Notes which methods gave which status, from the server's own counters."""
        with urllib.request.urlopen("http://127.0.0.1:%d/metrics" % self.server.metrics_port, timeout=20) as f:
            for method, code, count in re.findall(r'^grpc_server_handled_total\{[^}]*grpc_method="(\w+)"[^}]*grpc_code="(\w+)"[^}]*\} (\d+)', f.read().decode(), re.M):
                if int(count):
                    self.statuses.setdefault(code, set()).add(method)

    def epoch(self, number, seconds):
        self.stop.clear()
        for w in range(self.workers):
            self.renew(w)
        workers = [Worker(w, number, self) for w in range(self.workers)]
        for w in workers:
            w.start()
        self.watch(seconds)
        self.stop.set()
        for w in workers:
            w.join(END_WITHIN_S + 20)
            if w.is_alive():
                self.problems.append("worker %d does not end" % w.number)
            self.calls += w.calls
            self.problems += w.errors[:3] + w.unanswered[:3]
        if not self.problems:
            self.keeper.verify_all()
            self.answered()
        self.keeper.api.close()
        start = time.time()
        code = self.server.stop()
        if code != 0:
            self.problems.append("the server ended with %s after %.0f s" % (code, time.time() - start))
        if re.search(r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:|Assertion .* failed", self.server.log()):
            self.problems.append("a sanitizer or an assertion spoke:\n" + self.server.log()[-12000:])

    def again(self):
        self.server.start(60)
        self.keeper.connect(self.port)
        self.keeper.verify_all()


def sanitizer_environment():
    os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=1:quarantine_size_mb=32:allocator_may_return_null=1:malloc_context_size=8")
    os.environ.setdefault("UBSAN_OPTIONS", "halt_on_error=1:print_stacktrace=1")
    os.environ.setdefault("TSAN_OPTIONS", "halt_on_error=1:second_deadlock_stack=1:suppressions=" + os.path.join(HERE, "tsan.supp"))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--server", required=True)
    ap.add_argument("--seconds", type=int, default=120)
    ap.add_argument("--epoch", type=int, default=40)
    ap.add_argument("--seed", type=int, default=int(time.time()))
    ap.add_argument("--first-epoch", type=int, default=0, help="to repeat a later epoch of a seed")
    ap.add_argument("--workers", type=int, default=3)
    ap.add_argument("--rss-mib", type=int, default=1500)
    ap.add_argument("--keep", help="keeps the data directory here when something failed")
    a = ap.parse_args()
    print("seed %d" % a.seed, flush=True)
    sanitizer_environment()
    passed = failed = 0
    end = time.time() + a.seconds
    # Fewer databases may be open than are used: they are closed and opened again all the time, and calls wait for that.
    server = Server(a.server, ["--max-sessions", "400", "--memory-limit", str(256 << 20), "--signingKey", SIGNING_KEY, "--max-active-databases", "2"], keep=a.keep)
    try:
        server.start(60)
        run = Run(a, schema_of(), server)
        number = 0
        while not failed and (time.time() < end or number == 0):
            if number:
                run.again()
            run.epoch(a.first_epoch + number, min(a.epoch, max(5, end - time.time())))
            number += 1
            print("%-4s epoch %d: %d calls so far, %d verified writes, resident at most %d MiB, slowest ping %.0f ms" %
                  ("FAIL" if run.problems else "ok", number, run.calls, run.kept, run.rss_seen, run.slowest * 1000), flush=True)
            for p in run.problems:
                print("     " + p)
            passed, failed = passed + (not run.problems), failed + bool(run.problems)
        if not failed:
            run.again()  # the last one's data opens too
            passed += 1
            served = run.statuses.get("OK", set())
            ok = len(served) >= METHODS_SERVED_MIN and len(run.statuses) >= 8
            passed, failed = passed + ok, failed + (not ok)
            print("%-4s %d methods answered OK, at least %d are wanted; statuses seen: %s" % ("ok" if ok else "FAIL", len(served), METHODS_SERVED_MIN, " ".join(sorted(run.statuses))))
    except Exception as e:
        failed += 1
        print("FAIL %r\n%s" % (e, server.log()[-6000:]))
    finally:
        if server.stop() != 0:
            failed += 1
            print("FAIL the server ended with %s: %s" % (server.proc.returncode if server.proc else None, server.log()[-6000:]))
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
