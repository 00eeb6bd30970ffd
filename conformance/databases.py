#!/usr/bin/env python3
"""Many databases on one server, their administration under load, names and settings nobody should ask for.

    databases.py --server build/cmd/immudb [--count 2000] [--only many,life,names,settings,retention]

many      --count databases with one key each: resident memory, descriptors of open idle ones, lists and totals without opening anything, random reads,
          time until readiness after a clean stop and after kill -9.
life      create, load, unload, update, delete and create again while writers and readers are at work: every answer is a success or an error of the
          list EXPECTED; what was acknowledged is there; a new database of an old name is empty; folders of deleted ones are gone.
names     which names are refused and how.
settings  each numeric setting at 0, 1, 2^32 - 1 and its largest value, alone and all together: a clear refusal or a database that works, neither memory
          nor time out of bounds, and the same after a restart.
retention transactions that are days old (imported with their times) lose their values by TruncateDatabase and by a retention period: on the disk, while
          others read and export; headers, proofs, newer values stay, also after a restart."""
import argparse
import hashlib
import os
import random
import re
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

SERVICE = "immudb.schema.ImmuService/"
MIB = 1 << 20
RESIDENT_MAX = 64 * MIB
DESCRIPTORS_EACH = 4
READY_MS = 1000
LIST_MS = 1000


class Failed(Exception):
    """An answer other than OK."""

    def __init__(self, code, text):
        super().__init__("%s: %s" % (code, text))
        self.code, self.text = code, text


class Caller:
    """Calls methods of the schema service by name: caller("Set", session, KVs=[...]) gives the answer or raises Failed."""

    def __init__(self, schema, port):
        self.schema = schema
        self.channel = grpc.insecure_channel("127.0.0.1:%d" % port, options=[("grpc.max_send_message_length", 64 * MIB), ("grpc.max_receive_message_length", 64 * MIB),
                                                                             ("grpc.enable_retries", 0)])
        self.stubs = {}

    def stub(self, method):
        if method not in self.stubs:
            md = self.schema.method(SERVICE + method)
            kind = ("stream" if md.client_streaming else "unary") + "_" + ("stream" if md.server_streaming else "unary")
            out = self.schema.cls(md.output_type.full_name)
            self.stubs[method] = (self.schema.cls(md.input_type.full_name), getattr(self.channel, kind)(
                "/" + SERVICE + method, request_serializer=lambda m: m.SerializeToString(), response_deserializer=out.FromString))
        return self.stubs[method]

    def message(self, method, **fields):
        return self.stub(method)[0](**fields)

    def raw(self, method, argument, session=None, timeout=30, metadata=()):
        meta = ([("sessionid", session)] if session else []) + list(metadata)
        try:
            return self.stub(method)[1](argument, metadata=meta, timeout=timeout)
        except grpc.RpcError as e:
            raise Failed(e.code().name, e.details()) from None

    def __call__(self, method, session=None, timeout=30, **fields):
        return self.raw(method, self.message(method, **fields), session, timeout)

    def login(self, database="defaultdb", password=b"immudb"):
        return self("OpenSession", username=b"immudb", password=password, databaseName=database).sessionID

    def set(self, session, key, value):
        return self("Set", session, KVs=[{"key": key, "value": value}]).id

    def get(self, session, key):
        return self("Get", session, key=key).value

    def close(self):
        self.channel.close()


class Report:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, is_good, text):
        if is_good:
            self.passed += 1
        else:
            self.failed += 1
            print("FAIL " + text, flush=True)
        return is_good


def resident(server):
    with open("/proc/%d/status" % server.proc.pid) as f:
        return int(re.search(r"VmRSS:\s+(\d+) kB", f.read()).group(1)) * 1024


def descriptors(server):
    """How many there are below each database's folder, and in all."""
    each, folder, total = {}, "/proc/%d/fd" % server.proc.pid, 0
    for fd in os.listdir(folder):
        try:
            path = os.readlink(os.path.join(folder, fd))
        except OSError:
            continue
        total += 1
        if path.startswith(server.dir + "/"):
            parts = path[len(server.dir) + 1:].split("/")
            if len(parts) > 1:
                each[parts[0]] = each.get(parts[0], 0) + 1
    return each, total


def opened(server):
    return len(re.findall(r"opening database '", server.log()))


def timed(call):
    start = time.perf_counter()
    result = call()
    return result, (time.perf_counter() - start) * 1000


# --------------------------------------------------------------------- many

def fill(caller, count):
    session = caller.login()
    for i in range(count):
        caller("CreateDatabaseV2", session, name="many%04d" % i)
        caller("UseDatabase", session, databaseName="many%04d" % i)
        caller.set(session, b"k", b"value-%d" % i)
    return session


def check_totals(report, server, caller, session, count, what, ms_max=LIST_MS):
    before = opened(server)
    info, info_ms = timed(lambda: caller("ServerInfo", session))
    listed, list_ms = timed(lambda: caller("DatabaseListV2", session))
    again_ms = timed(lambda: caller("ServerInfo", session))[1]
    many = [d for d in listed.databases if d.name.startswith("many")]
    print("%s: ServerInfo %.0f ms, DatabaseListV2 %.0f ms, ServerInfo again %.1f ms" % (what, info_ms, list_ms, again_ms), flush=True)
    report.check(info.numTransactions == count, "%s: ServerInfo counts %d transactions of %d" % (what, info.numTransactions, count))
    report.check(info.numDatabases == count + 1, "%s: ServerInfo counts %d databases of %d" % (what, info.numDatabases, count + 1))
    report.check(len(many) == count and all(d.numTransactions == 1 and d.diskSize > 0 and d.loaded for d in many), "%s: wrong list" % what)
    report.check(info.databasesDiskSize >= sum(d.diskSize for d in many), "%s: total size below the sum of sizes" % what)
    report.check(max(info_ms, list_ms) < ms_max, "%s: listing took %.0f and %.0f ms" % (what, info_ms, list_ms))
    return opened(server) - before


def random_reads(report, caller, session, count, reads):
    rng, slowest, start = random.Random(1), 0.0, time.perf_counter()
    for _ in range(reads):
        i = rng.randrange(count)
        caller("UseDatabase", session, databaseName="many%04d" % i)
        value, ms = timed(lambda: caller.get(session, b"k"))
        slowest = max(slowest, ms)
        report.check(value == b"value-%d" % i, "many%04d holds %r" % (i, value))
    mean = (time.perf_counter() - start) * 1000 / reads
    print("%d random reads: %.1f ms in the mean, the slowest %.1f ms" % (reads, mean, slowest), flush=True)


def start_timed(report, server, what):
    _, ms = timed(server.start)
    print("%s: ready after %.0f ms" % (what, ms), flush=True)
    report.check(ms < READY_MS, "%s: ready after %.0f ms" % (what, ms))


def part_many(schema, binary, report, count):
    with Server(binary, ["--max-sessions", "1000"]) as server:
        caller = Caller(schema, server.port)
        empty = resident(server)
        session, ms = timed(lambda: fill(caller, count))
        print("%d databases made and written in %.1f s (%.2f ms each)" % (count, ms / 1000, ms / count), flush=True)
        time.sleep(2)
        each, total = descriptors(server)
        idle = resident(server)
        open_ones = [n for n in each if n.startswith("many")]
        print("%d databases, %d open: %.1f MiB resident (empty server %.1f), %d descriptors, at most %d for one database" %
              (count, len(open_ones), idle / MIB, empty / MIB, total, max(each[n] for n in open_ones)), flush=True)
        report.check(idle < RESIDENT_MAX, "%.1f MiB resident" % (idle / MIB))
        report.check(len(open_ones) <= 100, "%d databases are open" % len(open_ones))
        report.check(all(each[n] <= DESCRIPTORS_EACH for n in open_ones), "a database has %d descriptors" % max(each[n] for n in open_ones))
        report.check(check_totals(report, server, caller, session, count, "running") == 0, "a list opened databases")
        random_reads(report, caller, session, count, min(count, 500))
        report.check(resident(server) < RESIDENT_MAX, "%.1f MiB resident after random reads" % (resident(server) / MIB))
        server.stop()
        start_timed(report, server, "clean stop")
        print("%.1f MiB resident after the start" % (resident(server) / MIB), flush=True)
        caller.close()
        caller = Caller(schema, server.port)
        session = caller.login()
        report.check(check_totals(report, server, caller, session, count, "after a clean stop") == 0, "a list opened databases after a clean stop")
        random_reads(report, caller, session, count, 100)
        server.kill()
        start_timed(report, server, "kill -9")
        caller.close()
        caller = Caller(schema, server.port)
        session = caller.login()
        # Those that were open when it was killed are opened to be counted.
        opens = check_totals(report, server, caller, session, count, "after kill -9", 20 * LIST_MS)
        report.check(opens <= 110, "after kill -9 a list opened %d databases" % opens)
        report.check(resident(server) < RESIDENT_MAX, "%.1f MiB resident at the end" % (resident(server) / MIB))
        caller.close()
    part_all_open(schema, binary, report, min(count, 500))


def part_all_open(schema, binary, report, count):
    """None is closed: what an open idle database costs."""
    with Server(binary, ["--max-active-databases", "100000"]) as server:
        caller, empty = Caller(schema, server.port), resident(server)
        fill(caller, count)
        time.sleep(3)
        each, total = descriptors(server)
        each = {n: c for n, c in each.items() if n.startswith("many")}
        print("%d open idle databases: %.1f KiB resident and %.2f descriptors each" % (len(each), (resident(server) - empty) / 1024.0 / count, sum(each.values()) / count), flush=True)
        report.check(len(each) == count, "%d of %d databases are open" % (len(each), count))
        report.check(max(each.values()) <= DESCRIPTORS_EACH, "a database has %d descriptors" % max(each.values()))
        caller.close()


# --------------------------------------------------------------------- life

EXPECTED = {"already closed", "database does not exist", "database already loaded", "cannot delete an open database", "database already exists", "tbtree: key not found"}
EXPECTED_FORMS = re.compile(r"database '\w+' is in use by running calls|database does not exist: while opening database '\w+'")


class Life:
    """Databases that come and go while others write and read; remembers what was acknowledged."""

    def __init__(self, schema, server, names):
        self.schema, self.server, self.names = schema, server, names
        self.lock, self.stop, self.wrong = threading.Lock(), threading.Event(), []
        self.acknowledged = {n: {} for n in names}
        self.deleted, self.answers, self.refused = set(), 0, 0

    def name(self, rng):
        with self.lock:
            return rng.choice(self.names)

    def attempt(self, what, call):
        """The answer, or None when it was refused in one of the ways that must be expected."""
        try:
            answer = call()
            with self.lock:
                self.answers += 1
            return answer
        except Failed as e:
            with self.lock:
                self.refused += 1
                if e.text not in EXPECTED and not EXPECTED_FORMS.fullmatch(e.text):
                    self.wrong.append("%s: %s" % (what, e))
            return None

    def write(self, seed):
        rng, caller, n = random.Random(seed), Caller(self.schema, self.server.port), 0
        session = caller.login()
        while not self.stop.is_set():
            name = self.name(rng)
            if self.attempt("UseDatabase", lambda: caller("UseDatabase", session, databaseName=name)) is None:
                continue
            for _ in range(rng.randrange(1, 6)):
                n += 1
                key, value = b"%d-%d" % (seed, n), name.encode() + b"-%d" % n
                if self.attempt("Set", lambda: caller.set(session, key, value)) is not None:
                    with self.lock:
                        self.acknowledged[name][key] = value
        caller.close()

    def read(self, seed):
        rng, caller = random.Random(seed), Caller(self.schema, self.server.port)
        session = caller.login()
        while not self.stop.is_set():
            name = self.name(rng)
            with self.lock:
                known = list(self.acknowledged[name].items())[-200:]
            if not known or self.attempt("UseDatabase", lambda: caller("UseDatabase", session, databaseName=name)) is None:
                continue
            key, value = rng.choice(known)
            got = self.attempt("Get", lambda: caller.get(session, key))
            if got is not None and got != value:
                with self.lock:
                    self.wrong.append("%s: %r holds %r instead of %r" % (name, key, got, value))
            self.attempt("Scan", lambda: caller("Scan", session, limit=20))
            self.attempt("CurrentState", lambda: caller("CurrentState", session))
        caller.close()

    def administer(self, seed, deletes):
        rng, caller, made = random.Random(seed), Caller(self.schema, self.server.port), 0
        session = caller.login()
        while not self.stop.is_set():
            name = self.name(rng)
            self.attempt("Unload", lambda: caller("UnloadDatabase", session, database=name))
            self.attempt("Update", lambda: caller("UpdateDatabaseV2", session, database=name, settings={"syncFrequency": {"value": rng.randrange(1, 100)}}))
            if deletes and rng.random() < 0.3:
                if self.attempt("Delete", lambda: caller("DeleteDatabase", session, database=name)) is not None:
                    made += 1
                    new = "life%dx%d" % (seed, made)
                    created = self.attempt("Create", lambda: caller("CreateDatabaseV2", session, name=new))
                    with self.lock:
                        self.names = [n for n in self.names if n != name] + ([new] if created is not None else [])
                        self.acknowledged.setdefault(new, {})
                        self.deleted.add(name)
            self.attempt("Load", lambda: caller("LoadDatabase", session, database=name))
            self.attempt("List", lambda: caller("DatabaseListV2", session))
            time.sleep(rng.uniform(0, 0.02))
        caller.close()


def run_threads(life, seconds):
    threads = [threading.Thread(target=life.write, args=(i,)) for i in range(4)] + [threading.Thread(target=life.read, args=(10 + i,)) for i in range(2)] + \
              [threading.Thread(target=life.administer, args=(20 + i, i == 0)) for i in range(3)]
    for t in threads:
        t.start()
    time.sleep(seconds)
    life.stop.set()
    for t in threads:
        t.join(60)
    return any(t.is_alive() for t in threads)


def check_life(report, life, caller, when):
    """Every acknowledged key of every database that is there, and none of it in new databases of old names."""
    session, missing = caller.login(), []
    for name in life.names:
        try:
            caller("LoadDatabase", session, database=name)
        except Failed as e:
            report.check(e.text == "database already loaded", "%s: load of %s: %s" % (when, name, e))
        caller("UseDatabase", session, databaseName=name)
        for key, value in life.acknowledged[name].items():
            try:
                if caller.get(session, key) != value:
                    missing.append((name, key))
            except Failed:
                missing.append((name, key))
    report.check(not missing, "%s: %d acknowledged keys are lost or wrong: %s" % (when, len(missing), missing[:5]))
    folders = set(os.listdir(life.server.dir))
    report.check(not folders & life.deleted, "%s: folders of deleted databases: %s" % (when, sorted(folders & life.deleted)))
    report.check(not [f for f in folders if f.startswith(".deleted")], "%s: leftovers %s" % (when, sorted(folders)))


def check_new_of_old_name(report, life, caller):
    session = caller.login()
    for name in sorted(life.deleted)[:20]:
        caller("CreateDatabaseV2", session, name=name)
        caller("UseDatabase", session, databaseName=name)
        report.check(caller("CurrentState", session).txId == 0, "new %s is not empty" % name)
        for key in list(life.acknowledged[name])[:5]:
            try:
                report.check(False, "new %s holds %r" % (name, caller.get(session, key)))
            except Failed as e:
                report.check(e.text == "tbtree: key not found", "new %s: %s" % (name, e))


def check_sessions(report, caller):
    """A session stays bound to its database whatever becomes of it."""
    admin = caller.login()
    caller("CreateDatabaseV2", admin, name="bound")
    session = caller.login("bound")
    caller.set(session, b"k", b"v")
    for steps, text in (([("UnloadDatabase", {})], "already closed"), ([("DeleteDatabase", {})], "database does not exist")):
        for method, fields in steps:
            caller(method, admin, database="bound", **fields)
        for call in (lambda: caller.get(session, b"k"), lambda: caller.set(session, b"k", b"w"), lambda: caller("CurrentState", session)):
            try:
                call()
                report.check(False, "a call on a database that is gone was answered")
            except Failed as e:
                report.check(e.text == text, "%s instead of %s" % (e.text, text))
    try:
        caller("CreateDatabaseV2", admin, name="bound")
        report.check(False, "a deleted name was free before the next start")
    except Failed as e:
        report.check(e.text == "database already exists", str(e))
    caller("UseDatabase", session, databaseName="defaultdb")
    caller.set(session, b"k", b"v")


def part_life(schema, binary, report, seconds=8):
    # Fewer open than there are: closing by least use goes on all the time.
    with Server(binary, ["--max-sessions", "1000", "--max-active-databases", "4"]) as server:
        caller = Caller(schema, server.port)
        session = caller.login()
        life = Life(schema, server, ["life%d" % i for i in range(8)])
        for name in life.names:
            caller("CreateDatabaseV2", session, name=name)
        hangs = run_threads(life, seconds)
        acknowledged = sum(len(v) for v in life.acknowledged.values())
        print("%d answers, %d expected refusals, %d writes acknowledged, %d databases deleted, %d opened" %
              (life.answers, life.refused, acknowledged, len(life.deleted), opened(server)), flush=True)
        report.check(not hangs, "a call hangs")
        report.check(server.proc.poll() is None, "the server ended: " + server.log()[-2000:])
        for w in sorted(set(life.wrong))[:10]:
            report.check(False, w)
        report.check(acknowledged > 100 and life.deleted, "%d writes and %d deletions prove nothing" % (acknowledged, len(life.deleted)))
        check_life(report, life, caller, "running")
        check_sessions(report, caller)
        server.kill()
        server.start()
        caller.close()
        caller = Caller(schema, server.port)
        check_life(report, life, caller, "after kill -9")
        check_new_of_old_name(report, life, caller)
        caller.close()


# -------------------------------------------------------------------- names

LENGTH, SYMBOL, UNKNOWN = "database name length outside of limits", "punctuation marks and symbols are not allowed in database name", "unrecognized character in database name"
NAMES = [("", LENGTH), ("a" * 128, None), ("a" * 129, LENGTH), ("z" * 100000, LENGTH), ("\u00e9" * 64, None), ("\u00e9" * 65, LENGTH), ("_", None), ("0", None), ("a_b_1", None),
         ("UPPER", None), ("\u00c9t\u00e9", None), ("\u0663", None), (".", SYMBOL), ("..", SYMBOL), ("../x", SYMBOL), ("a/b", SYMBOL), ("/", SYMBOL), ("/etc/passwd", SYMBOL), ("a\\b", SYMBOL), ("a-b", SYMBOL),
         ("a.b", SYMBOL), ("a:b", SYMBOL), ("a$b", SYMBOL), ("~", SYMBOL), (" ", UNKNOWN), ("a b", UNKNOWN), ("a\x00b", None), ("a\nb", UNKNOWN), ("a\rb", UNKNOWN), ("\x1b[0m", UNKNOWN), ("a\x7fb", UNKNOWN),
         ("\u6570\u636e", UNKNOWN), ("\u200b", SYMBOL), ("\U0001f600", SYMBOL), (".deleted-x", SYMBOL), ("databases.counts", SYMBOL), ("defaultdb", "database is reserved"),
         ("systemdb", "database is reserved"), ("SYSTEMDB", "database already exists"), ("DefaultDB", "database already exists"), ("immulog", "database is reserved")]
OUTSIDE = ("", "..", "../x", "a/b", "/", "/etc/passwd", ".", "nosuch", "a\nb", "systemdb", "defaultdb", "z" * 100000)


def part_names(schema, binary, report):
    with Server(binary) as server:
        caller = Caller(schema, server.port)
        session, made = caller.login(), []
        for name, text in NAMES:
            try:
                made.append(caller("CreateDatabaseV2", session, name=name).name)
                got = None
            except Failed as e:
                got = e.text
            if "\x00" in name:  # a C string could hide what follows: any clear refusal will do
                report.check(got in (UNKNOWN, SYMBOL) or "unmarshalling" in (got or ""), "name %r: %s" % (name, got))
            else:
                report.check(got == text, "name %r: %s instead of %s" % (name[:40], got, text))
        for method in ("LoadDatabase", "UnloadDatabase", "DeleteDatabase", "TruncateDatabase", "UpdateDatabaseV2"):
            for name in OUTSIDE:
                extra = {"settings": {"syncFrequency": {"value": 5}}} if method.startswith("Update") else {}
                try:
                    caller(method, session, database=name, **extra)
                    report.check(False, "%s %r was answered" % (method, name))
                except Failed as e:
                    report.check(e.text in ("database does not exist", "database is reserved"), "%s %r: %s" % (method, name[:40], e))
        folders = sorted(f for f in os.listdir(server.dir) if os.path.isdir(os.path.join(server.dir, f)) and f not in ("systemdb", "defaultdb"))
        report.check(folders == sorted(made), "folders %s for databases %s" % (folders, sorted(made)))
        report.check(sorted(os.listdir(os.path.dirname(server.dir))) == ["data", "server.log"], "something was made outside of the data folder")
        server.stop()
        server.start()
        caller.close()
        caller = Caller(schema, server.port)
        listed = {d.name for d in caller("DatabaseListV2", caller.login()).databases}
        report.check(listed == set(made) | {"defaultdb"}, "after a restart %s" % sorted(listed ^ set(made)))
        caller.close()


# ----------------------------------------------------------------- settings

def numbers(descriptor, path=()):
    """(path, type of the wrapper's value) of each numeric setting."""
    out = []
    for f in descriptor.fields:
        if f.message_type is None:
            continue
        value = f.message_type.fields_by_name.get("value")
        if value is None:
            out += numbers(f.message_type, path + (f.name,))
        elif value.type in (value.TYPE_UINT32, value.TYPE_UINT64, value.TYPE_INT64, value.TYPE_FLOAT):
            out.append((path + (f.name,), value.type, value))
    return out


def extremes(kind, field):
    if kind == field.TYPE_UINT32:
        return [0, 1, 2, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]
    if kind == field.TYPE_UINT64:
        return [0, 1, (1 << 32) - 1, 1 << 63, (1 << 64) - 1]
    if kind == field.TYPE_INT64:
        return [-(1 << 63), -1, 0, 1, (1 << 32) - 1, (1 << 63) - 1]
    return [-1.0, 0.0, 100.0, 100.5, 3e38, float("inf"), float("-inf"), float("nan")]


def nested(path, value):
    out = {"value": value}
    for name in reversed(path):
        out = {name: out}
    return out


def merged(a, b):
    out = dict(a)
    for k, v in b.items():
        out[k] = merged(out[k], v) if isinstance(out.get(k), dict) and isinstance(v, dict) else v
    return out


def is_replica(settings):
    return settings.get("replicationSettings", {}).get("replica", {}).get("value", False)


class Settings:
    def __init__(self, report, schema, server):
        self.report, self.schema, self.server = report, schema, server
        self.caller = Caller(schema, server.port)
        self.session = self.caller.login()
        self.kept, self.tried, self.slowest = [], 0, 0.0

    def works(self, name, key, settings):
        """One key in and out; a key, value or transaction above a limit that was asked for is an answer, too."""
        self.caller("UseDatabase", self.session, databaseName=name)
        try:
            self.caller.set(self.session, key, b"v")
            self.report.check(self.caller.get(self.session, key) == b"v", "%s: wrong value with %s" % (name, settings))
        except Failed as e:
            limits = ("max key length exceeded", "max value length exceeded", "max number of entries per tx exceeded", "database is read-only because it's a replica")
            self.report.check(e.text in limits or e.code == "DEADLINE_EXCEEDED" and "syncAcks" in str(settings), "%s: %s with %s" % (name, e, settings))

    def create(self, settings):
        name = "set%d" % self.tried
        self.tried += 1
        start = time.perf_counter()
        try:
            self.caller("CreateDatabaseV2", self.session, name=name, settings=settings)
            self.kept.append((name, settings))
            self.works(name, b"k", settings)
        except Failed as e:
            self.report.check(e.code == "INVALID_ARGUMENT" and "illegal arguments" in e.text, "create with %s: %s" % (settings, e))
        self.slowest = max(self.slowest, time.perf_counter() - start)

    def update(self, name, settings):
        try:
            self.caller("UpdateDatabaseV2", self.session, database=name, settings=settings)
        except Failed as e:
            self.report.check(e.code == "INVALID_ARGUMENT" and "illegal arguments" in e.text, "update with %s: %s" % (settings, e))
            return
        self.caller("UnloadDatabase", self.session, database=name)
        self.caller("LoadDatabase", self.session, database=name)
        self.works(name, b"u", settings)


def part_settings(schema, binary, report):
    with Server(binary) as server:
        before = resident(server)
        t = Settings(report, schema, server)
        every = numbers(schema.pool.FindMessageTypeByName("immudb.schema.DatabaseNullableSettings"))
        single = [nested(path, v) for path, kind, field in every for v in extremes(kind, field)]
        for settings in single:
            t.create(settings)
        for settings in single:
            t.create(merged({"replicationSettings": {"replica": {"value": True}}}, settings))
        t.caller("CreateDatabaseV2", t.session, name="changing")
        for settings in single:
            t.update("changing", settings)
        rng = random.Random(7)
        for _ in range(100):
            together = {}
            for path, kind, field in every:
                if rng.random() < 0.5:
                    together = merged(together, nested(path, rng.choice(extremes(kind, field))))
            t.create(together)
        # The largest values that are taken, all at once.
        largest = {}
        for name, settings in t.kept:
            if "replicationSettings" not in settings:
                largest = merged(largest, settings)
        t.create(largest)
        grown = resident(server) - before
        print("%d settings tried, %d databases made, slowest %.0f ms, %.1f MiB more resident" % (t.tried, len(t.kept), t.slowest * 1000, grown / MIB), flush=True)
        report.check(len(t.kept) > 50 and t.tried - len(t.kept) > 50, "%d of %d were taken" % (len(t.kept), t.tried))
        report.check(t.slowest < 5, "one took %.1f s" % t.slowest)
        report.check(grown < 128 * MIB, "%.1f MiB more resident" % (grown / MIB))
        t.caller.close()
        server.stop()
        server.start()
        again = Settings(report, schema, server)
        for name, settings in t.kept:
            again.works(name, b"r", settings)
        report.check(server.proc.poll() is None, "the server ended")
        again.caller.close()


# ---------------------------------------------------------------- retention

DAY_S, VALUE = 86400, 20000


def old_export(last, ts, key, value):
    """The export of a transaction after the header last (None: the first one), at another time; eH is left to be computed by who imports it."""
    if last is None:
        tx_id, prev = 1, hashlib.sha256(b"").digest()
    else:
        inner = hashlib.sha256(struct.pack(">QHHI", last.ts, 1, 0, last.nentries) + last.eH + struct.pack(">Q", last.blTxId) + last.blRoot).digest()
        tx_id, prev = last.id + 1, hashlib.sha256(struct.pack(">Q", last.id) + last.prevAlh + inner).digest()
    header = struct.pack(">Q", tx_id) + prev + struct.pack(">QHHI", ts, 1, 0, 1) + bytes(32) + bytes(8) + bytes(32)
    entry = struct.pack(">H", len(key)) + key + struct.pack(">H", 0) + struct.pack(">I", len(value)) + value
    return struct.pack(">I", len(header)) + header + entry + struct.pack(">HB", 1, 0)


def import_old(caller, session, name, count, days):
    """A database with count transactions that are so many days old."""
    caller("CreateDatabaseV2", session, name=name, settings={"replicationSettings": {"replica": {"value": True}}})
    caller("UseDatabase", session, databaseName=name)
    last, now = None, int(time.time())
    for i in range(count):
        blob = old_export(last, now - days * DAY_S + i, b"\x00old%d" % i, b"\x00" + bytes([i % 256]) * VALUE)
        data = struct.pack(">Q", len(blob)) + blob
        chunks = [caller.message("replicateTx", content=data[at:at + 65536]) for at in range(0, len(data), 65536)]
        last = caller.raw("replicateTx", iter(chunks), session, metadata=[("skip-integrity-check", "true")])


def promote(caller, session, name, truncation=None):
    settings = {"replicationSettings": {"replica": {"value": False}}}
    if truncation:
        settings["truncationSettings"] = {k: {"value": v} for k, v in truncation.items()}
    caller("UpdateDatabaseV2", session, database=name, settings=settings)


def folder_bytes(path):
    return sum(os.stat(os.path.join(folder, f)).st_blocks * 512 for folder, _, files in os.walk(path) for f in files)


def history(caller, session, count):
    """What must never change: headers and digests of all transactions, and the state."""
    caller("CurrentState", session)
    out = []
    for i in range(1, count + 1):
        tx = caller("TxById", session, tx=i)
        out.append((tx.header.SerializeToString(), [(e.key, e.hValue, e.metadata.SerializeToString()) for e in tx.entries]))
    return out


def is_gone(caller, session, key):
    try:
        caller.get(session, key)
        return False
    except Failed as e:
        return "data is corrupted" in e.text and "missing value" in e.text


def check_truncated(report, caller, session, old, new, before, what):
    # The last old ones share a file with new ones: they stay until all of it is old.
    gone = [is_gone(caller, session, b"old%d" % i) for i in range(old)]
    report.check(gone == sorted(gone, reverse=True) and sum(gone) > old // 2, "%s: %d of %d old values are gone" % (what, sum(gone), old))
    report.check(all(caller.get(session, b"new%d" % i) == b"n" * VALUE for i in range(new)), what + ": new values are gone")
    report.check(history(caller, session, old + new) == before, what + ": history changed")
    for a, b in ((1, old + new), (old, old + 1), (old + new, 1)):
        got = caller("VerifiableTxById", session, tx=a, proveSinceTx=b)
        report.check(got.tx.header.id == a and max(got.dualProof.sourceTxHeader.id, got.dualProof.targetTxHeader.id) == max(a, b), "%s: proof of %d since %d" % (what, a, b))
    chunk = b"".join(c.content for c in caller("exportTx", session, tx=1))
    report.check(chunk[-3:] == b"\x00\x01\x01" and hashlib.sha256(b"\x00" + bytes([0]) * VALUE).digest() in chunk, what + ": export of an old transaction")
    chunk = b"".join(c.content for c in caller("exportTx", session, tx=old + 1))
    report.check(chunk[-3:] == b"\x00\x01\x00", what + ": export of a new transaction")


def beside(schema, server, name, stop, wrong):
    """Reads and exports old transactions all the time: a value or the answer that it is gone, a whole export or one without values."""
    caller = Caller(schema, server.port)
    session, rng = caller.login(name), random.Random(3)
    while not stop.is_set():
        i = rng.randrange(200)
        try:
            if caller.get(session, b"old%d" % i) != bytes([i % 256]) * VALUE:
                wrong.append("old%d holds something else" % i)
        except Failed as e:
            if "missing value" not in e.text:
                wrong.append("Get: %s" % e)
        try:
            data = b"".join(c.content for c in caller("exportTx", session, tx=i + 1))
            if data[-3:] not in (b"\x00\x01\x00", b"\x00\x01\x01") or (data[-1] == 0) != (len(data) > VALUE):
                wrong.append("export of %d: %d bytes, %r" % (i + 1, len(data), data[-3:]))
        except Failed as e:
            wrong.append("exportTx: %s" % e)
    caller.close()


def check_refusals(report, caller, session, name):
    for period in (1, 86399999, -1, -(1 << 63)):
        for method, fields, text in (("TruncateDatabase", {"retentionPeriod": period}, "RetentionPeriod should at least '24h0m0s' hours"),
                                     ("UpdateDatabaseV2", {"settings": {"truncationSettings": {"retentionPeriod": {"value": period}}}}, "RetentionPeriod should at least '24' hours"),
                                     ("UpdateDatabaseV2", {"settings": {"truncationSettings": {"truncationFrequency": {"value": min(period, 3599999)}}}}, "TruncationFrequency should at least '1' hour")):
            try:
                caller(method, session, database=name, **fields)
                report.check(False, "%s took a period of %d ms" % (method, period))
            except Failed as e:
                report.check(e.code == "INVALID_ARGUMENT" and text in e.text, "%s with %d ms: %s" % (method, period, e))
    for period in (30 * DAY_S * 1000, (1 << 63) - 1):
        try:
            caller("TruncateDatabase", session, database=name, retentionPeriod=period)
            report.check(False, "a truncation of nothing was answered")
        except Failed as e:
            report.check(e.text == "retention period has not been reached", str(e))


def part_retention(schema, binary, report, old=200, new=20):
    with Server(binary, ["--max-sessions", "1000"]) as server:
        caller = Caller(schema, server.port)
        session, before = caller.login(), {}
        for name in ("byhand", "byperiod", "onreplica"):
            import_old(caller, session, name, old, 3)
            if name != "onreplica":
                promote(caller, session, name)
                for i in range(new):
                    caller.set(session, b"new%d" % i, b"n" * VALUE)
                before[name] = history(caller, session, old + new)
        bytes_before = {n: folder_bytes(os.path.join(server.dir, n)) for n in ("byhand", "byperiod", "onreplica")}
        check_refusals(report, caller, session, "byhand")
        stop, wrong = threading.Event(), []
        readers = [threading.Thread(target=beside, args=(schema, server, n, stop, wrong)) for n in ("byhand", "byperiod")]
        for t in readers:
            t.start()
        time.sleep(0.3)
        caller("TruncateDatabase", session, database="byhand", retentionPeriod=DAY_S * 1000)
        caller("TruncateDatabase", session, database="onreplica", retentionPeriod=DAY_S * 1000)
        promote(caller, session, "byperiod", {"retentionPeriod": DAY_S * 1000, "truncationFrequency": 3600000})
        caller("UseDatabase", session, databaseName="byperiod")
        end = time.time() + 30
        while not is_gone(caller, session, b"old0") and time.time() < end:
            time.sleep(0.1)
        time.sleep(0.3)
        stop.set()
        for t in readers:
            t.join(30)
        report.check(not wrong, "beside the truncation: %s" % wrong[:3])
        report.check(len(re.findall(r"truncated up to transaction \d+: [1-9]\d* bytes freed", server.log())) == 3, "no log line says what was freed")
        report.check("starting truncator for database 'byperiod' with retention period '86400s' and truncation frequency '3600s'" in server.log(), "no log line of the truncator")
        caller("TruncateDatabase", session, database="byhand", retentionPeriod=DAY_S * 1000)
        time.sleep(1)
        for round_name in ("truncated", "after a restart", "after kill -9"):
            for name in ("byhand", "byperiod", "onreplica"):
                freed = bytes_before[name] - folder_bytes(os.path.join(server.dir, name))
                report.check(freed > old * VALUE * (8 if name == "onreplica" else 5) // 10, "%s, %s: only %d bytes are free again" % (name, round_name, freed))
                caller("UseDatabase", session, databaseName=name)
                if name != "onreplica":
                    check_truncated(report, caller, session, old, new, before[name], "%s, %s" % (name, round_name))
                else:
                    report.check(caller("CurrentState", session).txId == old, "a replica got a transaction of its own")
                    report.check(is_gone(caller, session, b"old0") and is_gone(caller, session, b"old%d" % (old - 1)), "%s: values are still there" % name)
            if round_name == "truncated":
                print("freed on the disk: %s" % ", ".join("%s %.1f MiB" % (n, (bytes_before[n] - folder_bytes(os.path.join(server.dir, n))) / MIB) for n in bytes_before), flush=True)
            if round_name == "after a restart":
                server.kill()
            else:
                server.stop()
            server.start()
            caller.close()
            caller = Caller(schema, server.port)
            session = caller.login()
        caller.close()


PARTS = {"retention": part_retention, "many": part_many, "life": part_life, "names": part_names, "settings": part_settings}


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--server", required=True)
    ap.add_argument("--count", type=int, default=2000)
    ap.add_argument("--only", default=",".join(PARTS))
    a = ap.parse_args()
    report = Report()
    with tempfile.TemporaryDirectory(prefix="immudb-proto-") as work:
        schema = rr.Schema(descriptor(work))
        for name in a.only.split(","):
            print("--- " + name, flush=True)
            PARTS[name](schema, a.server, report, *([a.count] if name == "many" else []))
    print("%d passed, %d failed" % (report.passed, report.failed))
    return 1 if report.failed or not report.passed else 0


if __name__ == "__main__":
    sys.exit(main())
