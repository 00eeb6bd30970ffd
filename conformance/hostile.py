#!/usr/bin/env python3
"""Hostile clients against a running server, while a well-behaved one keeps working.

    hostile.py --server build/cmd/immudb [--p99-ms 20]

During every attack and after it: the process lives, its memory (RSS) stays under the limit it was started with, a well-behaved client's calls succeed,
and no attack got an answer it had no right to. The latency of the well-behaved client is measured over all attacks and printed; p99 above --p99-ms is
a failure. At the end memory is back, the log holds no line that a client made up, the data directory no file that does not belong there, and the
server starts again with everything the attacks left behind. All of that twice, with the log as text and as JSON.

Where the reference server is known to die, hang or swell, and the attack here that does the same:
  UpdateDatabaseV2 without settings ................ "update without settings"
  chunk readers, part length of 2^63 and more ...... "lengths of parts" (streamSet, streamVerifiableSet, streamExecAll)
  replicateTx, part lengths of 2^33 .. 2^64-1 ...... "lengths of parts"
  absurd database settings, death at every start ... "absurd settings", and the restart at the end
  floods of Login, OpenSession ..................... "login flood", "session flood"
  rapid reset ...................................... "rapid reset"
  scans with a window of zero ...................... "zero windows"; answers never read: "slow readers"
  HEADERS that end the stream ...................... "HEADERS that end the stream"
  line feeds in names make log lines ............... "forged log lines", "names", and the log at the end
  CreateDatabaseV2 takes SYSTEMDB .................. "names"
  (found here: a server that never ends) ........... "writes nobody allows", and the end
  huge SQL texts, LPAD and REPEAT .................. "SQL": the methods are not there yet and have to say so at once"""
import argparse
import base64
import json
import os
import re
import socket
import struct
import sys
import threading
import time

from client import Api, parts, schema_of
from fuzz_rpc import load_seeds
from h2raw import (ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, RST, SETTINGS, WINDOW, Raw, ends_stream, frame, grpc_message, hpack,
                   request_fields)
from server import Server

FORGED = "immudb 2026/01/01 00:00:00 ERROR: forged"
PATHS = ("../outside", "..", ".", "a/b", "/etc/x", "a\\b", "a\0b", "a\nb", "", "x" * 129, "x" * 5000, "\x1b[31mred", "a\r\n" + FORGED, "SYSTEMDB", "systemdb", "Systemdb", "defaultdb", "DEFAULTDB")


class Honest(threading.Thread):
    """A client that sets and gets all the time and remembers how long each call took."""

    def __init__(self, schema, port):
        super().__init__(daemon=True)
        self.api, self.stop, self.errors, self.latency, self.calls = Api(schema, port), threading.Event(), [], [], 0
        got = self.api.open_session()
        if not got.ok:
            raise AssertionError("no session for the well-behaved client: %r" % got)

    def run(self):
        n = 0
        while not self.stop.is_set():
            n += 1
            key = b"honest-%d" % (n % 50)
            for method, fields in (("Set", {"KVs": [{"key": key, "value": b"v%d" % n}]}), ("Get", {"key": key})):
                start = time.perf_counter()
                got = self.api(method, timeout=10, **fields)
                self.latency.append(time.perf_counter() - start)
                if not got.ok:
                    self.errors.append("%s: %r" % (method, got))
            self.calls += 2
            time.sleep(0.002)

    def percentile(self, q):
        ordered = sorted(self.latency)
        return ordered[min(len(ordered) - 1, int(len(ordered) * q))] * 1000 if ordered else 0.0


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
    """Line feeds in user names must not make log lines; neither in what else is logged of a caller."""
    r = Raw(port)
    name = b"x\n" + FORGED.encode()
    body = b"\x0a" + bytes([len(name)]) + name + b"\x12\x01x"
    sid = 1
    for method in ("Login", "OpenSession"):
        for extra in ([], [(b"x-forwarded-for", b"1.2.3.4\t" + FORGED.encode())], [(b"x-real-ip", b"\xff\xfe, 1")], [(b"user-agent", b"a" * 4000)]):
            r.send(frame(HEADERS, END_HEADERS, sid, hpack(request_fields(method, extra))) + frame(DATA, END_STREAM, sid, grpc_message(body)))
            sid += 2
    r.drain(2)
    r.close()


def drip(port):
    """Connections that say a byte now and then: preface, headers, body."""
    whole = PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, 1, hpack(request_fields("Health"))) + frame(DATA, END_STREAM, 1, grpc_message(b""))
    socks = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(200)]
    for i in range(40):
        for k, s in enumerate(socks):
            at = (i + k) % len(whole) if k % 2 else i
            try:
                s.sendall(whole[at:at + 1])
            except OSError:
                pass
        time.sleep(0.05)
    for s in socks:
        s.close()


def session_flood(make):
    """More sessions than there may be, from many connections; then no stranger's session is there, and they can be closed."""
    apis = [make() for _ in range(8)]
    opened, refused, lock, problems = [], [], threading.Lock(), []

    def body(api):
        for _ in range(160):
            api.session = None
            got = api("OpenSession", timeout=60, username=b"immudb", password=b"immudb", databaseName="defaultdb")
            with lock:
                if got.ok:
                    opened.append(got.message.sessionID)
                elif "max sessions number reached" in got.text or got.code == "RESOURCE_EXHAUSTED":
                    refused.append(got.text)
                else:
                    problems.append(repr(got))

    threads = [threading.Thread(target=body, args=(a,)) for a in apis]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if len(set(opened)) != len(opened):
        problems.append("a session id was given twice")
    if len(opened) > SESSIONS_MAX or not refused:
        problems.append("%d sessions were opened, %d are allowed; %d refusals" % (len(opened), SESSIONS_MAX, len(refused)))
    for i, sid in enumerate(opened):
        apis[0].session = sid
        got = apis[0]("CloseSession")
        if not got.ok:
            problems.append("closing: %r" % got)
            break
    for a in apis:
        a.close()
    return "; ".join(problems[:3]) or None


def message_limit(api):
    """What is as large as allowed is taken or refused for its content; a byte more is not taken; neither stays in memory."""
    limit = 33554432
    head = api.message("Set", {"KVs": [{"key": b"large", "value": b"v" * (limit - 100)}]}).SerializeToString()
    whole = api.message("Set", {"KVs": [{"key": b"large", "value": b"v" * (2 * limit - 100 - len(head))}]}).SerializeToString()
    if len(whole) != limit:
        return "the test's own message has %d bytes" % len(whole)
    got = api("Set", raw=whole, timeout=60)
    if not got.ok and got.code != "RESOURCE_EXHAUSTED" and "max value length" not in got.text and "commit queue" not in got.text:  # others' writes come first
        return "32 MiB: %r" % got
    got = api("Set", raw=whole + b"\x10\x00", timeout=60)
    if got.code != "RESOURCE_EXHAUSTED" or got.text != "grpc: received message larger than max (%d vs. %d)" % (limit + 2, limit):
        return "32 MiB and 2 bytes: %r" % got


def part_lengths(api, make, reader):
    """Announced lengths that nobody can hold, in every chunk reader."""
    for length in (2**63, 2**64 - 1, 2**62, 2**40, 2**33, 2**31, 33554433):
        for method, target in (("streamSet", api), ("streamVerifiableSet", api), ("streamExecAll", api), ("replicateTx", reader)):
            lead = b"" if method in ("streamSet", "replicateTx") else parts(struct.pack(">Q", 0)) if method == "streamVerifiableSet" else parts(b"\1")
            leads = [lead] if method == "replicateTx" else [lead, lead + parts(b"key")]
            if method == "streamExecAll":
                leads.append(parts(b"\2"))
            for before in leads:
                got = target(method, chunks=[before + struct.pack(">Q", length) + b"x" * 100], timeout=20)
                if got.ok or got.code in ("DEADLINE_EXCEEDED", "UNAVAILABLE"):
                    return "%s, a part of %d bytes: %r" % (method, length, got)
                if length >= 2**63 and (got.code, got.text) != ("INVALID_ARGUMENT", "illegal arguments"):
                    return "%s, a part of %d bytes: %r" % (method, length, got)
                if method == "replicateTx" and length >= 2**33 and (got.code, got.text) != ("INVALID_ARGUMENT", "illegal arguments"):
                    return "replicateTx, a part of %d bytes: %r" % (length, got)


def update_without_settings(api):
    for method in ("UpdateDatabaseV2", "UpdateDatabase"):
        got = api(method, **({"database": "lured"} if method == "UpdateDatabaseV2" else {"databaseName": "lured"}))
        if method == "UpdateDatabaseV2" and (got.code, got.text) != ("INVALID_ARGUMENT", "illegal arguments"):
            return "%s: %r" % (method, got)


def absurd_settings(api, make, made):
    """Each number of a database as large and as odd as it can be sent. Refused, or the database works."""
    problems, settings = [], api.schema.cls("immudb.schema.DatabaseNullableSettings").DESCRIPTOR
    n = 0

    def numbers(field):
        name = field.message_type.name
        if name == "NullableUint32":
            return [0, 1, 2**31 - 1, 2**31, 2**32 - 1]
        if name in ("NullableUint64",):
            return [0, 1, 2**32, 2**63 - 1, 2**64 - 1]
        if name == "NullableMilliseconds":
            return [-1, -2**63, 2**63 - 1]
        return [float("nan"), float("inf"), -1.0] if name == "NullableFloat" else []

    def groups(descriptor, path):
        for field in descriptor.fields:
            if field.message_type is None:
                continue
            if field.message_type.name.startswith("Nullable"):
                for value in numbers(field):
                    yield path + [field.name], value
            else:
                yield from groups(field.message_type, path + [field.name])

    for path, value in groups(settings, []):
        n += 1
        node = {"value": value}
        for name in reversed(path):
            node = {name: node}
        name = "odd%d" % n
        got = api("CreateDatabaseV2", name=name, settings=node, timeout=30)
        if got.code in ("DEADLINE_EXCEEDED", "UNAVAILABLE", "CANCELLED"):
            problems.append("%s = %r: %r" % (".".join(path), value, got))
            break
        if got.ok:
            other = make()
            if not other.open_session(database=name).ok:
                problems.append("%s = %r was taken, but there is no session on it" % (".".join(path), value))
            wrote = other("Set", KVs=[{"key": b"k", "value": b"v"}], timeout=30)
            read = other("Get", key=b"k", timeout=30)
            if "DEADLINE_EXCEEDED" in (wrote.code, read.code) or wrote.ok != read.ok:
                problems.append("%s = %r was taken, then: %r, %r" % (".".join(path), value, wrote, read))
            if n % 3:
                api("UnloadDatabase", database=name)
            other("CloseSession")
            other.close()
            made.append(name)
    if not n:
        problems.append("no setting was tried")
    return "; ".join(problems[:4]) or None


def names(api):
    """Names that are paths, control characters or reserved: no such user, no such database, an error that fits into a header."""
    good = re.compile(r"^[a-z0-9_]{1,128}$")
    for name in PATHS:
        for method, fields in (("CreateDatabaseV2", {"name": name}), ("CreateDatabase", {"databaseName": name}), ("CreateDatabaseWith", {"databaseName": name}),
                               ("LoadDatabase", {"database": name}), ("UnloadDatabase", {"database": name}), ("DeleteDatabase", {"database": name}),
                               ("UpdateDatabaseV2", {"database": name, "settings": {}}), ("TruncateDatabase", {"database": name, "retentionPeriod": 90000000}),
                               ("UseDatabase", {"databaseName": name})):
            if method == "UseDatabase" and name == "systemdb":
                continue  # the sysadmin may look at it
            if method == "UseDatabase" and name == "defaultdb":
                continue
            got = api(method, **fields)
            if got.ok and not (good.match(name.lower()) and name.lower() not in ("systemdb", "defaultdb")):
                return "%s takes %r" % (method, name)
            if got.code in ("DEADLINE_EXCEEDED", "UNAVAILABLE"):
                return "%s of %r: %r" % (method, name, got)
        user = name.encode()
        for method, fields in (("CreateUser", {"user": user, "password": b"Aa1!aaaaaaa", "permission": 1, "database": "defaultdb"}),
                               ("CreateUser", {"user": b"someone", "password": b"Aa1!aaaaaaa", "permission": 1, "database": name}) if name != "defaultdb" else ("Health", {}),
                               ("ChangePassword", {"user": user, "oldPassword": b"x", "newPassword": b"Aa1!aaaaaaa"}), ("SetActiveUser", {"username": name, "active": False}),
                               ("ChangePermission", {"action": 0, "username": name, "database": "defaultdb", "permission": 1})):
            got = api(method, **fields)
            if got.ok and method != "Health" and not re.match(r"^[a-zA-Z0-9_]{1,63}$", name):
                return "%s takes %r" % (method, name)
        got = api("Get", key=user + b"\n" + FORGED.encode())
        if got.ok:
            return "a key %r is there" % user
        api("Set", KVs=[{"key": user + b"\n" + FORGED.encode() + b"\xff\0", "value": b"\n" + FORGED.encode()}])
    found = [d.name for d in api.must("DatabaseListV2").databases if not good.match(d.name)]
    if found:
        return "databases %r were made" % found


def never_allowed(api, make):
    """Writes to a database whose replicas never answer: who gives up, by deadline or by leaving, is let go, and holds neither memory nor the database."""
    api.must("CreateDatabaseV2", name="lonely", settings={"replicationSettings": {"syncReplication": {"value": True}, "syncAcks": {"value": 1}}})
    writer = make()
    writer.open_session(database="lonely")
    got = writer("Set", KVs=[{"key": b"k", "value": b"v"}], timeout=0.5)
    if got.code != "DEADLINE_EXCEEDED":
        return "a write that nobody allows: %r" % got
    for _ in range(20):
        threading.Thread(target=lambda: writer("Set", KVs=[{"key": b"k", "value": b"v" * 10000}], timeout=600), daemon=True).start()
    time.sleep(1)
    writer.close()
    got = api("UnloadDatabase", database="lonely", timeout=15)
    if not got.ok:
        return "writes of clients that are gone hold their database: %r" % got


def sql_floods(api):
    for text in ("SELECT " + "1," * 2000000 + "1", "SELECT LPAD('x', 2000000000, 'y')", "SELECT REPEAT('x', 2000000000)", "(" * 1000000):
        for method in ("SQLExec", "UnarySQLQuery"):
            start = time.time()
            got = api(method, sql=text, timeout=10)
            if got.ok or time.time() - start > 5:
                return "%s: %r after %.1f s" % (method, got, time.time() - start)


# --- who may do what
PUBLIC = {"Login", "OpenSession", "Health", "ServerInfo"}
READS = set("UseDatabase Get VerifiableGet Scan Count CountAll History ZScan TxById VerifiableTxById TxScan CurrentState DatabaseHealth GetDatabaseSettings GetDatabaseSettingsV2 "
            "streamGet streamVerifiableGet streamScan streamZScan streamHistory KeepAlive CloseSession Logout DatabaseList DatabaseListV2 ListUsers UnarySQLQuery SQLQuery "
            "ListTables DescribeTable VerifiableSQLGet TxSQLQuery NewTx Commit Rollback TxSQLExec GetCollection GetCollections SearchDocuments CountDocuments AuditDocument ProofDocument".split())


def decoded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def encoded(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def credentials(make, seeds):
    """Every method with every kind of credentials that must not do, by the recorded requests: nothing but the public ones succeeds; then as a user who may
    only read: nothing else succeeds; then as a user of another database: nothing of this one is reached."""
    admin, problems, tried = make(), [], 0
    admin.open_session()
    admin("CreateDatabaseV2", name="othersdb")
    for user, permission, db in (("readonly", 1, "defaultdb"), ("stranger", 254, "othersdb")):
        admin("CreateUser", user=user.encode(), password=b"Aa1!aaaaaaa", permission=permission, database=db)
    admin("Set", KVs=[{"key": b"secret", "value": b"of defaultdb"}])

    def token_of(user, password, db):
        api = make()
        api.token = api.must("Login", user=user.encode(), password=password.encode()).token
        got = api("UseDatabase", databaseName=db)
        if got.ok:
            api.token = got.message.token
        return api

    closed = make()
    closed.open_session()
    closed("CloseSession")
    good = token_of("immudb", "immudb", "defaultdb").token
    gone = token_of("readonly", "Aa1!aaaaaaa", "defaultdb")
    gone("Logout")
    body, foot = good.split(".")[2], good.split(".")[-1]
    flipped = good.replace(body, body[:5] + ("A" if body[5] != "A" else "B") + body[6:])
    other = token_of("readonly", "Aa1!aaaaaaa", "defaultdb").token.split(".")[2]
    mixed = ".".join(["v2.public", encoded(decoded(body)[:-64] + decoded(other)[-64:]), foot])  # his signature under the sysadmin's claims
    bad = [("none", {}), ("an empty session", {"session": ""}), ("a made-up session", {"session": "A" * 43 + "="}), ("a closed session", {"session": closed.session or "B" * 44}),
           ("an empty token", {"token": ""}), ("rubbish as token", {"token": "v2.public.AAAA.AAAA"}), ("a token with a flipped bit", {"token": flipped}),
           ("another's signature", {"token": mixed}), ("a token after logout", {"token": gone.token}), ("a token that ends early", {"token": good[:-20]}),
           ("a session beside a good token", {"session": "C" * 44, "token": good}), ("a long session", {"session": "D" * 6000})]
    apis = {}
    for what, how in bad:
        for service in ("immudb.schema.ImmuService", "immudb.model.DocumentService", "immudb.model.AuthorizationService"):
            api = make()
            api.service = service
            api.session, api.token = how.get("session"), how.get("token")
            apis[what, service] = api
    for path, recorded in sorted(seeds.items()):
        service, method = path[1:].split("/")
        if method == "ServerReflectionInfo":
            continue
        for what, _ in bad:
            api = apis[what, service]
            got = api(method, raw=list(recorded[0]) if api.schema.method(service + "/" + method).client_streaming else recorded[0][0], timeout=20)
            tried += 1
            if got.ok and method not in PUBLIC:
                problems.append("%s with %s: %s" % (path, what, str(got.message)[:80]))
            if got.messages:
                problems.append("%s with %s was sent data" % (path, what))
            if got.code in ("DEADLINE_EXCEEDED", "UNAVAILABLE"):
                problems.append("%s with %s: %r" % (path, what, got))
    for api in apis.values():
        api.close()
    for by in ("session", "token"):
        reader = make() if by == "session" else token_of("readonly", "Aa1!aaaaaaa", "defaultdb")
        if by == "session":
            reader.open_session("readonly", "Aa1!aaaaaaa")
        for path, recorded in sorted(seeds.items()):
            service, method = path[1:].split("/")
            if method in PUBLIC or service.endswith("AuthorizationService"):
                continue
            if method in ("Logout", "CloseSession", "UseDatabase", "KeepAlive"):
                continue
            is_stream = reader.schema.method(service + "/" + method).client_streaming
            reader.service = service
            for bodies in recorded[:4]:
                got = reader(method, raw=list(bodies) if is_stream else bodies[0], timeout=20)
                tried += 1
                if got.ok and method not in READS:
                    problems.append("a reader may call %s (%s)" % (path, by))
                    break
        reader.service = "immudb.schema.ImmuService"
        if not reader("Get", key=b"secret").ok:
            problems.append("the reader was not let in at all (%s)" % by)
        reader.close()
    stranger = make()
    if stranger.open_session("stranger", "Aa1!aaaaaaa", "defaultdb").ok:
        problems.append("a stranger has a session on defaultdb")
    stranger = make()
    stranger.open_session("stranger", "Aa1!aaaaaaa", "othersdb")
    for method, fields in (("UseDatabase", {"databaseName": "defaultdb"}), ("UseDatabase", {"databaseName": "systemdb"}), ("UnloadDatabase", {"database": "lured"}),
                           ("DeleteDatabase", {"database": "lured"}), ("UpdateDatabaseV2", {"database": "lured", "settings": {}}), ("TruncateDatabase", {"database": "lured"}),
                           ("CreateUser", {"user": b"mine", "password": b"Aa1!aaaaaaa", "permission": 1, "database": "defaultdb"}),
                           ("ChangePermission", {"action": 0, "username": "stranger", "database": "defaultdb", "permission": 254}),
                           ("ChangePermission", {"action": 0, "username": "readonly", "database": "defaultdb", "permission": 254}),
                           ("ChangePassword", {"user": b"immudb", "oldPassword": b"immudb", "newPassword": b"Aa1!aaaaaaa"}), ("ChangePassword", {"user": b"readonly", "newPassword": b"Aa1!aaaaaab"}),
                           ("SetActiveUser", {"username": "readonly", "active": False}), ("CreateDatabaseV2", {"name": "mine"})):
        got = stranger(method, **fields)
        tried += 1
        if got.ok:
            problems.append("a stranger may %s %r" % (method, fields))
    if stranger("Get", key=b"secret").ok:
        problems.append("a stranger read defaultdb's key")
    if admin("Get", key=b"secret").message.value != b"of defaultdb":
        problems.append("the secret was changed")
    admin("CloseSession")
    if tried < 500:
        problems.append("only %d calls were tried" % tried)
    return "; ".join(problems[:6]) or None


def rss_mib(pid):
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1)) / 1024


SESSIONS_MAX = 1000


def log_problem(text, as_json):
    """A line that a client made up, or a control character that got through."""
    if re.search("^" + re.escape(FORGED), text, re.M):
        return "a log line was forged"
    for line in text.split("\n"):
        if as_json and line.startswith("{"):
            try:
                entry = json.loads(line)
            except ValueError as e:
                return "not JSON: %r (%s)" % (line[:200], e)
            if not isinstance(entry, dict):
                return "no object: %r" % line[:200]
        if re.search(r"[\x00-\x08\x0b-\x1f]", line.replace("\x1b[32m", "").replace("\x1b[0m", "")):
            return "a control character in %r" % line[:200]
    return None


def strange_files(server):
    """Outside of the data directory, or with names no database has."""
    found = []
    for base, folders, files in os.walk(server.work.name):
        for name in folders + files:
            if not re.match(r"^[A-Za-z0-9_.-]+$", name) or len(name) > 160:
                found.append(os.path.join(base, name))
    top = set(os.listdir(server.work.name)) - {"data", "server.log"}
    return found + sorted(top)


def attacks_on(server, schema, honest):
    port, session = server.port, honest.api.session.encode()

    def make():
        return Api(schema, port)

    admin, replica, made = make(), make(), []
    admin.open_session()
    admin.must("CreateDatabaseV2", name="lured")
    admin.must("CreateDatabaseV2", name="copydb", settings={"replicationSettings": {"replica": {"value": True}}})
    replica.open_session(database="copydb")
    seeds = load_seeds(schema)
    return [("half-open connections", lambda: half_open(port)), ("not HTTP/2", lambda: not_http2(port)), ("a byte now and then", lambda: drip(port)), ("rapid reset", lambda: rapid_reset(port)),
            ("CONTINUATION flood", lambda: continuation_flood(port)), ("oversized headers", lambda: oversized_headers(port)),
            ("ping flood", lambda: ping_flood(port)), ("settings flood", lambda: settings_flood(port)),
            ("slow readers", lambda: slow_reader(port, session)), ("zero windows", lambda: zero_window(port, session)),
            ("half messages", lambda: half_messages(port, session)), ("message of 2 GiB", lambda: too_large(port, session)), ("messages at the limit", lambda: message_limit(admin)),
            ("undecodable requests", lambda: bad_protobuf(port, session)), ("HEADERS that end the stream", lambda: headers_end_stream(port)),
            ("lengths of parts", lambda: part_lengths(admin, make, replica)), ("update without settings", lambda: update_without_settings(admin)),
            ("absurd settings", lambda: absurd_settings(admin, make, made)), ("login flood", lambda: login_flood(port)), ("session flood", lambda: session_flood(make)),
            ("forged log lines", lambda: forged_names(port)), ("names", lambda: names(admin)), ("writes nobody allows", lambda: never_allowed(admin, make)), ("SQL", lambda: sql_floods(admin)), ("credentials", lambda: credentials(make, seeds))]


class Report:
    def __init__(self):
        self.passed = self.failed = 0

    def __call__(self, name, problem, more=""):
        self.passed, self.failed = self.passed + (not problem), self.failed + bool(problem)
        print("%-4s %-28s %s%s" % ("FAIL" if problem else "ok", name, more, ": " + problem if problem else ""), flush=True)


def run(a, report, as_json, only):
    flags = ["--max-sessions", str(SESSIONS_MAX), "--memory-limit", str(a.limit_mib << 20)] + (["--logformat", "json"] if as_json else [])
    with Server(a.server, flags) as server:
        schema = schema_of()
        honest = Honest(schema, server.port)
        honest.api.must("Set", KVs=[{"key": b"wide:%d" % i, "value": b"v" * 500} for i in range(1000)])
        attacks = attacks_on(server, schema, honest)
        honest.start()
        time.sleep(1)
        for name, attack in attacks:
            if only and not any(o in name for o in only):
                continue
            before, start = honest.calls, len(honest.latency)
            try:
                problem = attack()
            except Exception as e:
                problem = "the attack itself broke: %r" % e
            time.sleep(0.5)
            if server.proc.poll() is not None:
                report(name, "the server died: %s" % server.log()[-3000:])
                return
            rss = rss_mib(server.proc.pid)
            slice_ = sorted(honest.latency[start:])
            p99 = slice_[int(len(slice_) * 0.99)] * 1000 if slice_ else 0
            if honest.errors:
                problem = "the well-behaved client got %s" % honest.errors[:3]
                honest.errors.clear()
            elif honest.calls == before:
                problem = problem or "the well-behaved client got no answer"
            elif rss > a.limit_mib * 1.25:
                problem = "memory is at %.0f MiB with a limit of %d" % (rss, a.limit_mib)
            report(name, problem or log_problem(server.log(), as_json), "RSS %4.0f MiB, others' p99 %5.1f ms" % (rss, p99))
        honest.stop.set()
        honest.join(15)
        p99 = honest.percentile(0.99)
        report("well-behaved client", None if p99 < a.p99_ms else "p99 of %.1f ms" % p99, "%d calls, p50 %.1f ms, p99 %.1f ms" % (honest.calls, honest.percentile(0.5), p99))
        strange = strange_files(server)
        report("files", "%r" % strange[:5] if strange else None)
        code = server.stop()
        report("end", None if code == 0 else "status %s" % code)
        try:
            server.start(60)
            again = Api(schema, server.port)
            got = again.open_session()
            value = again("Get", key=b"wide:1")
            report("the next start", None if got.ok and value.ok else "%r %r" % (got, value))
        except RuntimeError as e:
            report("the next start", str(e)[-2000:])
        report("log", log_problem(server.log(), as_json))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--server", required=True)
    ap.add_argument("--p99-ms", type=float, default=20.0)
    ap.add_argument("--limit-mib", type=int, default=256)
    ap.add_argument("--only", action="append")
    a = ap.parse_args()
    report = Report()
    run(a, report, False, a.only)
    run(a, report, True, ["forged", "names", "login flood"])  # the log as JSON
    print("%d passed, %d failed" % (report.passed, report.failed))
    return 1 if report.failed or not report.passed else 0


if __name__ == "__main__":
    sys.exit(main())
