#!/usr/bin/env python3
"""Hostile clients against a running server, while a well-behaved one keeps working.

    hostile.py --server build/cmd/immudb [--p99-ms 20]

Each attack speaks HTTP/2 by hand over raw sockets. After and during every attack: the process lives, its memory (RSS) stays under the limit it was
started with, a well-behaved client's calls succeed, and no attack got an answer it had no right to. The latency of the well-behaved client is measured
over all attacks and printed; p99 above --p99-ms is a failure."""
import argparse
import os
import re
import select
import socket
import struct
import sys
import tempfile
import threading
import time

import grpc
from server import Server

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "tools"))
import replay_rpc as rr  # noqa: E402
from replay import descriptor  # noqa: E402

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
SERVICE = "/immudb.schema.ImmuService/"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def hpack_int(n, bits, first):
    top = (1 << bits) - 1
    if n < top:
        return bytes([first | n])
    out, n = bytes([first | top]), n - top
    while n >= 128:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def hpack(fields):
    return b"".join(b"\0" + hpack_int(len(k), 7, 0) + k + hpack_int(len(v), 7, 0) + v for k, v in fields)


def request_fields(method, extra=()):
    return [(b":method", b"POST"), (b":scheme", b"http"), (b":path", (SERVICE + method).encode()), (b":authority", b"x"),
            (b"content-type", b"application/grpc"), (b"te", b"trailers")] + list(extra)


def grpc_message(body):
    return b"\0" + struct.pack(">I", len(body)) + body


class Raw:
    def __init__(self, port, settings=b""):
        self.s = socket.create_connection(("127.0.0.1", port), 10)
        self.s.settimeout(10)
        self.s.sendall(PREFACE + frame(SETTINGS, 0, 0, settings))

    def send(self, data):
        """Sends what the server takes; False once the connection is cut."""
        try:
            self.s.sendall(data)
            return True
        except OSError:
            return False

    def drain(self, seconds=0.0):
        """Reads what is there; returns (bytes, closed)."""
        got, end = b"", time.time() + seconds
        while True:
            ready = select.select([self.s], [], [], max(0.0, end - time.time()))[0]
            if not ready:
                return got, False
            try:
                piece = self.s.recv(1 << 16)
            except OSError:
                return got, True
            if not piece:
                return got, True
            got += piece

    def close(self):
        self.s.close()


class Honest(threading.Thread):
    """A client that sets and gets all the time and remembers how long each call took."""

    def __init__(self, schema, address):
        super().__init__(daemon=True)
        self.client, self.stop, self.errors, self.latency, self.calls = rr.Client(schema, address), threading.Event(), [], [], 0
        self.session = self.call("OpenSession", {"username": "aW1tdWRi", "password": "aW1tdWRi", "databaseName": "defaultdb"}, None)["response"]["sessionID"]

    def call(self, method, request, session):
        step = {"rpc": "immudb.schema.ImmuService/" + method, "request": request, "timeout_ms": 10000}
        if session:
            step.update(auth="session", auth_value=session)
        return self.client.call(step, {})

    def run(self):
        n = 0
        while not self.stop.is_set():
            n += 1
            key = {"$text": "honest-%d" % (n % 50)}
            for method, request in (("Set", {"KVs": [{"key": key, "value": {"$text": "v%d" % n}}]}), ("Get", {"key": key})):
                start = time.perf_counter()
                got = self.call(method, request, self.session)
                self.latency.append(time.perf_counter() - start)
                if got["code"] != "OK":
                    self.errors.append("%s: %s %s" % (method, got["code"], got.get("message")))
            self.calls += 2
            time.sleep(0.002)

    def percentile(self, q):
        ordered = sorted(self.latency)
        return ordered[min(len(ordered) - 1, int(len(ordered) * q))] * 1000 if ordered else 0.0


def ends_stream(data, stream):
    """Is there a HEADERS frame that ends the stream (the refusal) among the frames?"""
    while len(data) >= 9:
        length, kind, flags, sid = int.from_bytes(data[:3], "big"), data[3], data[4], int.from_bytes(data[5:9], "big")
        if kind == HEADERS and flags & END_STREAM and sid == stream:
            return True
        data = data[9 + length:]
    return False


# --- attacks: each returns None when the server behaved, else what was wrong
def half_open(port):
    socks = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(1000)]
    for s in socks[:300]:
        s.sendall(PREFACE[:10])
    time.sleep(1)
    for s in socks:
        s.close()


def not_http2(port):
    for payload in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 4096, b"\x16\x03\x01\x02\x00" + os.urandom(512), os.urandom(8192)):
        s = socket.create_connection(("127.0.0.1", port), 10)
        s.sendall(payload)
        s.settimeout(15)
        try:
            while s.recv(4096):
                pass
        except ConnectionError:
            pass
        except socket.timeout:
            return "a connection that never was HTTP/2 was not closed"
        s.close()


def rapid_reset(port):
    r = Raw(port)
    block = hpack(request_fields("Health"))
    out = b""
    for i in range(60000):
        sid = 2 * i + 1
        out += frame(HEADERS, END_HEADERS, sid, block) + frame(RST, 0, sid, struct.pack(">I", 8))
        if len(out) > 60000:
            if not r.send(out):
                break
            r.drain()
            out = b""
    r.drain(3)  # it may cope or cut the connection: what counts is how the well-behaved client fares meanwhile
    r.close()


def continuation_flood(port):
    r = Raw(port)
    r.send(frame(HEADERS, 0, 1, hpack(request_fields("Health"))))
    sent = 0
    for _ in range(5000):
        if not r.send(frame(CONTINUATION, 0, 1, hpack([(b"x-%d" % sent, b"y" * 1000)]))):
            break
        sent += 1
    closed = r.drain(3)[1]
    r.close()
    if sent == 5000 and not closed:
        return "5,000 CONTINUATION frames without an end were taken"


def oversized_headers(port):
    r = Raw(port)
    r.send(frame(SETTINGS, ACK, 0))
    big = hpack(request_fields("Health", [(b"x-big", b"z" * 15000)] * 1))
    block = big + hpack([(b"x-%d" % i, b"z" * 3000) for i in range(100)])
    first, rest = block[:16000], block[16000:]
    out = frame(HEADERS, 0, 1, first)
    while rest:
        piece, rest = rest[:16000], rest[16000:]
        out += frame(CONTINUATION, 0 if rest else END_HEADERS, 1, piece)
    r.send(out)
    got, closed = r.drain(3)
    r.close()
    if not got and not closed:
        return "300 KB of headers: no answer at all"


def ping_flood(port):
    r = Raw(port)
    for _ in range(200):
        if not r.send(frame(PING, 0, 0, b"12345678") * 100):
            break
    closed = r.drain(2)[1]
    r.close()
    if not closed:
        return "20,000 pings without data were all answered"


def settings_flood(port):
    r = Raw(port)
    for _ in range(400):
        if not r.send(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65535) * 3) * 50):
            break
    r.drain(2)
    r.close()


def slow_reader(port, session):
    """Wide answers asked for again and again and never read."""
    readers = []
    for _ in range(20):
        r = Raw(port, struct.pack(">HI", 4, 1 << 20))
        r.send(frame(WINDOW, 0, 0, struct.pack(">I", 1 << 28)))
        body = grpc_message(b"\x12\x05wide:" + b"\x20\xc4\x13")
        for i in range(200):
            sid = 2 * i + 1
            r.send(frame(HEADERS, END_HEADERS, sid, hpack(request_fields("Scan", [(b"sessionid", session)]))) + frame(DATA, END_STREAM, sid, body))
        readers.append(r)
    time.sleep(3)
    for r in readers:
        r.close()


def zero_window(port, session):
    readers = []
    for _ in range(8):
        r = Raw(port, struct.pack(">HI", 4, 0))
        body = grpc_message(b"\x12\x05wide:" + b"\x20\xc4\x13")
        for i in range(100):
            sid = 2 * i + 1
            r.send(frame(HEADERS, END_HEADERS, sid, hpack(request_fields("Scan", [(b"sessionid", session)]))) + frame(DATA, END_STREAM, sid, body))
        readers.append(r)
    time.sleep(3)
    for r in readers:
        r.close()


def half_messages(port, session):
    """Uploads of 32 MiB that stop in the middle, many at once: they hold the budget until they are cut or end."""
    conns = []
    for _ in range(12):
        r = Raw(port)
        r.send(frame(HEADERS, END_HEADERS, 1, hpack(request_fields("Set", [(b"sessionid", session), (b"grpc-timeout", b"5S")]))))
        r.send(frame(DATA, 0, 1, b"\0" + struct.pack(">I", 33000000)))
        for _ in range(60):
            if not r.send(frame(DATA, 0, 1, b"x" * 16000)):
                break
        conns.append(r)
    time.sleep(6)
    for r in conns:
        r.close()


def too_large(port, session):
    r = Raw(port)
    r.send(frame(HEADERS, END_HEADERS, 1, hpack(request_fields("Set", [(b"sessionid", session)]))) + frame(DATA, 0, 1, b"\0" + struct.pack(">I", 0x7fffffff) + b"x" * 100))
    got, _ = r.drain(3)
    r.close()
    if not ends_stream(got, 1):
        return "a message of 2 GiB was not refused at once"


def bad_protobuf(port, session):
    r = Raw(port)
    for i, body in enumerate([b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x05abc", b"\x07", os.urandom(200), b"\x0a\x80"]):
        sid = 2 * i + 1
        r.send(frame(HEADERS, END_HEADERS, sid, hpack(request_fields("Set", [(b"sessionid", session)]))) + frame(DATA, END_STREAM, sid, grpc_message(body)))
    got, _ = r.drain(3)
    r.close()
    if not all(ends_stream(got, 2 * i + 1) for i in range(6)):
        return "undecodable requests were not all answered"


def headers_end_stream(port):
    r = Raw(port)
    r.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, hpack(request_fields("Health"))))
    got, _ = r.drain(3)
    r.close()
    if not ends_stream(got, 1):
        return "a call whose HEADERS frame ends the stream was not answered"


def login_flood(port):
    body = grpc_message(b"\x0a\x06immudb\x12\x05wrong")
    conns = [Raw(port) for _ in range(20)]
    for i in range(25):
        for r in conns:
            sid = 2 * i + 1
            r.send(frame(HEADERS, END_HEADERS, sid, hpack(request_fields("Login"))) + frame(DATA, END_STREAM, sid, body))
    time.sleep(4)
    for r in conns:
        r.close()


def forged_names(port):
    """Line feeds in user names must not make log lines."""
    r = Raw(port)
    name = b"x\nimmudb 2026/01/01 00:00:00 ERROR: forged"
    body = b"\x0a" + bytes([len(name)]) + name + b"\x12\x01x"
    r.send(frame(HEADERS, END_HEADERS, 1, hpack(request_fields("Login"))) + frame(DATA, END_STREAM, 1, grpc_message(body)))
    r.drain(2)
    r.close()


def rss_mib(pid):
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1)) / 1024


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--server", required=True)
    ap.add_argument("--p99-ms", type=float, default=20.0)
    ap.add_argument("--limit-mib", type=int, default=256)
    ap.add_argument("--only", action="append")
    a = ap.parse_args()
    passed = failed = 0
    with tempfile.TemporaryDirectory() as work, Server(a.server, ["--max-sessions", "1000", "--memory-limit", str(a.limit_mib << 20)]) as server:
        honest = Honest(rr.Schema(descriptor(work)), "127.0.0.1:%d" % server.port)
        honest.call("Set", {"KVs": [{"$list": {"count": 1000, "item": {"key": {"$text": "wide:$i"}, "value": {"$fill": {"byte": "v", "len": 500}}}}}]}, honest.session)
        session = honest.session.encode()
        honest.start()
        time.sleep(1)
        attacks = [("half-open connections", lambda: half_open(server.port)), ("not HTTP/2", lambda: not_http2(server.port)), ("rapid reset", lambda: rapid_reset(server.port)),
                   ("CONTINUATION flood", lambda: continuation_flood(server.port)), ("oversized headers", lambda: oversized_headers(server.port)),
                   ("ping flood", lambda: ping_flood(server.port)), ("settings flood", lambda: settings_flood(server.port)),
                   ("slow readers", lambda: slow_reader(server.port, session)), ("zero windows", lambda: zero_window(server.port, session)),
                   ("half messages", lambda: half_messages(server.port, session)), ("message of 2 GiB", lambda: too_large(server.port, session)),
                   ("undecodable requests", lambda: bad_protobuf(server.port, session)), ("HEADERS that end the stream", lambda: headers_end_stream(server.port)),
                   ("login flood", lambda: login_flood(server.port)), ("forged log lines", lambda: forged_names(server.port))]
        for name, attack in attacks:
            if a.only and not any(o in name for o in a.only):
                continue
            before, start = honest.calls, len(honest.latency)
            try:
                problem = attack()
            except Exception as e:
                problem = "the attack itself broke: %r" % e
            time.sleep(0.5)
            if server.proc.poll() is not None:
                print("FAIL %s: the server died: %s" % (name, server.log()[-3000:]))
                failed += 1
                break
            rss = rss_mib(server.proc.pid)
            slice_ = sorted(honest.latency[start:])
            p99 = slice_[int(len(slice_) * 0.99)] * 1000 if slice_ else 0
            if honest.errors:
                problem = "the well-behaved client got %s" % honest.errors[:3]
                honest.errors.clear()
            elif honest.calls == before:
                problem = "the well-behaved client got no answer"
            elif rss > a.limit_mib * 1.25:
                problem = "memory is at %.0f MiB with a limit of %d" % (rss, a.limit_mib)
            if re.search(r"^immudb 2026/01/01 00:00:00 ERROR: forged", server.log(), re.M):
                problem = "a log line was forged"
            print("%-4s %-28s RSS %4.0f MiB, others' p99 %5.1f ms%s" % ("FAIL" if problem else "ok", name, rss, p99, ": " + problem if problem else ""), flush=True)
            passed, failed = passed + (not problem), failed + bool(problem)
        honest.stop.set()
        honest.join(15)
        p99 = honest.percentile(0.99)
        ok = p99 < a.p99_ms
        print("%-4s well-behaved client: %d calls, p50 %.1f ms, p99 %.1f ms" % ("ok" if ok else "FAIL", honest.calls, honest.percentile(0.5), p99))
        passed, failed = passed + ok, failed + (not ok)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
