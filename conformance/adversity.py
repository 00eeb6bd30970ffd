#!/usr/bin/env python3
"""A server that lacks something: room on the disk, descriptors. Whoever writes is told so in time and in plain words, whoever reads notices nothing, all heals
without a restart, and afterwards nothing is missing and nothing is there that was refused.

    adversity.py --server build/cmd/immudb [--seed N]

The disk is full by a preloaded library (full_disk.c), and, where this process may mount, once more by a small tmpfs."""
import argparse
import os
import random
import resource
import select
import signal
import socket
import subprocess
import tempfile
import threading
import time

from client import SIGNING_KEY, Api, State, schema_of
from server import Check, Server

NO_SPACE = "no space left on device"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"


class FlagDisk:
    """Full while a file exists."""
    name, is_strict = "preloaded", True

    def __init__(self, work, library):
        self.dir, self.flag = os.path.join(work, "data"), os.path.join(work, "full")
        self.env = {"LD_PRELOAD": library, "FULL_DISK_FLAG": self.flag, "FULL_DISK_DIR": self.dir}

    def fill(self):
        open(self.flag, "w").close()

    def heal(self):
        os.remove(self.flag)

    def end(self):
        pass


class MountedDisk:
    """A tmpfs, the rest of which another file takes. Pages that are begun have room left, and what a failed write gave back may be enough for a small one:
    so now and then one goes through."""
    name, is_strict = "tmpfs", False

    def __init__(self, work, _library):
        self.mount, self.env = os.path.join(work, "tmpfs"), {}
        self.dir = os.path.join(self.mount, "data")
        os.mkdir(self.mount)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", self.mount], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def fill(self):
        with open(os.path.join(self.mount, "ballast"), "ab", buffering=0) as f:
            try:
                while f.write(bytes(4096)) == 4096:
                    pass
            except OSError:
                pass

    def heal(self):
        os.remove(os.path.join(self.mount, "ballast"))

    def end(self):
        subprocess.run(["umount", self.mount], check=True)


def may_mount():
    with tempfile.TemporaryDirectory() as d:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", d], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
            return False
        subprocess.run(["umount", d], check=True)
        return True


def timed(call):
    begin = time.monotonic()
    got = call()
    return got, time.monotonic() - begin


def beside(count, call):
    """Starts count threads of call(i); the function that comes back waits for all and gives [(answer, seconds)]."""
    answers = [None] * count

    def one(i):
        answers[i] = timed(lambda: call(i))

    threads = [threading.Thread(target=one, args=(i,), daemon=True) for i in range(count)]
    for t in threads:
        t.start()

    def wait():
        for t in threads:
            t.join(60)
        return answers
    return wait


class Writes:
    """What was written, acknowledged or refused, so that it can be looked for."""

    def __init__(self, rng):
        self.rng, self.lock, self.count, self.acknowledged, self.refused, self.unknown = rng, threading.Lock(), 0, {}, set(), set()

    def set(self, api, length, timeout, method="Set"):
        with self.lock:
            key, value = b"k%d" % self.count, self.rng.randbytes(length)
            self.count += 1
        items = {"Set": {"KVs": [{"key": key, "value": value}]}, "VerifiableSet": {"setRequest": {"KVs": [{"key": key, "value": value}]}, "proveSinceTx": 0},
                 "ExecAll": {"Operations": [{"kv": {"key": key, "value": value}}]}}
        got = api(method, timeout=timeout, **items[method])
        with self.lock:
            if got.ok:
                self.acknowledged[key] = value
            elif got.code in ("RESOURCE_EXHAUSTED", "UNAVAILABLE"):
                self.refused.add(key)
            else:
                self.unknown.add(key)
        return got

    def look(self, check, api, what):
        state, wrong = State(), []
        for key, value in self.acknowledged.items():
            got = api("Get", key=key)
            if not got.ok or got.message.value != value:
                wrong.append((key, got.code))
        check("%s: everything acknowledged is there (%d)" % (what, len(self.acknowledged)), not wrong, wrong[:3])
        check("%s: nothing refused is there (%d)" % (what, len(self.refused)), not [k for k in self.refused if api("Get", key=k).code != "NOT_FOUND" and api("Get", key=k).ok])
        for key in self.rng.sample(sorted(self.acknowledged), min(30, len(self.acknowledged))):
            request = api.message("VerifiableGet", {"keyRequest": {"key": key}, "proveSinceTx": state.tx_id})
            got = api("VerifiableGet", raw=request)
            state.check("VerifiableGet", request, got.message)
        check("%s: the proofs hold up to tx %d" % (what, state.tx_id), state.tx_id > 0)


def reads_go_on(check, api, what, seconds=1.0):
    for method, fields in (("Get", {"key": b"k0"}), ("VerifiableGet", {"keyRequest": {"key": b"k0"}}), ("Scan", {"limit": 100}), ("ListUsers", {}), ("CurrentState", {})):
        got, took = timed(lambda: api(method, timeout=10, **fields))
        check("%s: %s goes on" % (what, method), got.ok and took < seconds, "%r after %.2f s" % (got, took))


def is_told(got, database="defaultdb"):
    return got.code == "RESOURCE_EXHAUSTED" and NO_SPACE in got.text and database in got.text


def full_disk(check, binary, schema, disk, rng):
    name = disk.name
    writes = Writes(rng)
    server = Server(binary, ["--signingKey", SIGNING_KEY], keep=disk.dir, env=disk.env)
    try:
        server.start()
        api = Api(schema, server.port)
        api.open_session()
        for _ in range(60):
            writes.set(api, 20000, 10)
        check("%s: before" % name, len(writes.acknowledged) == 60)
        disk.fill()

        while True:
            got, took = timed(lambda: writes.set(api, 20000, 5))
            if not got.ok:
                break
        check("%s: a write is told why, before its deadline" % name, is_told(got) and took < 4.9, "%r after %.2f s" % (got, took))
        for method in ("Set", "VerifiableSet", "ExecAll"):
            got, took = timed(lambda: writes.set(api, 5000, 2, method))
            check("%s: so is a %s with little time" % (name, method), is_told(got) and took < 1.95, "%r after %.2f s" % (got, took))
        late = beside(1, lambda i: writes.set(api, 5000, None))
        reads_go_on(check, api, "%s, a write waits" % name)
        (got, took), = late()
        check("%s: without a deadline it takes ten seconds" % name, is_told(got) and took < 12, "%r after %.2f s" % (got, took))

        big = beside(60, lambda i: writes.set(Api(schema, server.port, session=api.session), 1 << 20, 8))
        time.sleep(0.5)
        reads_go_on(check, api, "%s, 60 writes of 1 MiB" % name)
        answers = big()
        check("%s: all of them are told" % name, all(is_told(g) and t < 7.9 for g, t in answers), [(repr(g), t) for g, t in answers if not is_told(g)][:3])

        users = {b"immudb"}

        def user(i, timeout=40.0):
            got = Api(schema, server.port, session=api.session)("CreateUser", timeout=timeout, user=b"u%d" % i, password=b"Passw0rd!x", permission=1, database="defaultdb")
            if got.ok:
                users.add(b"u%d" % i)
            return got

        got, took = timed(lambda: user(1000, 5))
        while got.ok and not disk.is_strict:
            got, took = timed(lambda: user(1000 + len(users), 5))
        check("%s: CreateUser is told at once" % name, is_told(got, "systemdb") and took < 1.5, "%r after %.2f s" % (got, took))
        many = beside(80, user)
        for _ in range(3):
            time.sleep(0.3)
            reads_go_on(check, api, "%s, 80 CreateUser" % name)
        answers = many()
        wrong = [(repr(g), t) for g, t in answers if t > 15 or not (is_told(g, "systemdb") or (g.ok and not disk.is_strict))]
        check("%s: all of them are told, soon" % name, not wrong, wrong[:3])
        beside(20, lambda i: user(2000 + i, 0.02))()  # given up at once
        got, took = timed(lambda: api("CreateDatabaseV2", timeout=10, name="more"))
        check("%s: CreateDatabase fails" % name, got.code == "RESOURCE_EXHAUSTED" and took < 9, "%r after %.2f s" % (got, took))

        disk.heal()
        got, took = timed(lambda: writes.set(api, 20000, 5))
        check("%s: space returns, writes go on" % name, got.ok and took < 2, "%r after %.2f s" % (got, took))
        for _ in range(40):
            writes.set(api, 20000, 10)
        got = user(3000)
        check("%s: so do users" % name, got.ok, got)
        check.equal("%s: none of those who were refused" % name, sorted(u.user for u in api.must("ListUsers").users), sorted(users))
        check("%s: no write failed since" % name, len(writes.acknowledged) >= 101, len(writes.acknowledged))
        writes.look(check, api, name)

        disk.fill()
        for length in (20000, 1000):
            while writes.set(api, length, 1).ok:
                pass
        late = beside(3, lambda i: writes.set(Api(schema, server.port, session=api.session), 1000, None))
        many = beside(10, lambda i: user(4000 + i))
        time.sleep(0.3)
        begin = time.monotonic()
        server.proc.send_signal(signal.SIGTERM)
        try:
            code = server.proc.wait(40)
        except subprocess.TimeoutExpired:
            code = "no end"
        took = time.monotonic() - begin
        check("%s: a stop takes %.1f s" % (name, took), code == 0 and took < 12, code)
        answers = [g for g, _ in late() + many()]
        check("%s: whoever waited is told that the server stops" % name, all((g.code == "UNAVAILABLE" and "stopping" in g.text) or (g.ok and not disk.is_strict) for g in answers[:3]), answers[:3])
        check("%s: the others are told something" % name, all(g.code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED") or (g.ok and not disk.is_strict) for g in answers[3:]), answers[3:])
        server.start()  # also on a full disk
        api.open_session()
        writes.look(check, api, "%s, started while full" % name)
        disk.heal()
        got = writes.set(api, 20000, 5)
        check("%s: and then it writes" % name, got.ok, got)
        writes.look(check, api, "%s, started again" % name)
        check("%s: a clean end" % name, server.stop() == 0)
    except BaseException:
        print(server.log()[-3000:])
        raise
    finally:
        server.stop()
        server.work.cleanup()


def hung_up(sockets):
    """How many of them the server has closed."""
    count = 0
    for s in sockets:
        try:
            while select.select([s], [], [], 0)[0]:
                if s.recv(4096) == b"":
                    count += 1
                    break
        except OSError:
            count += 1
    return count


def dial(port, hello=b""):
    s = socket.create_connection(("127.0.0.1", port), 5)
    try:
        s.sendall(hello)
    except OSError:
        pass
    return s


def connections_leave_room_for_files(check, binary, schema, rng):
    """More sockets than the server may have descriptors, none of which ever logs in."""
    writes = Writes(rng)
    with Server(binary, ["--signingKey", SIGNING_KEY], files_max=256) as server:
        api = Api(schema, server.port)
        api.open_session()
        check("a low limit of files: a write", writes.set(api, 100, 5).ok)
        sockets = [dial(server.port, PREFACE) for _ in range(400)]
        time.sleep(1)
        closed = hung_up(sockets)
        check("of 400 idle connections some stay, most are turned away", 200 <= closed < 400, closed)
        answers = [writes.set(api, 100000, 10) for _ in range(100)]
        check("writes go on", all(g.ok for g in answers), [g for g in answers if not g.ok][:2])
        got = api("CreateDatabaseV2", name="more")
        check("a database is created", got.ok, got)
        reads_go_on(check, api, "idle connections")
        for s in sockets:
            s.close()
        time.sleep(1)
        other = Api(schema, server.port)
        got = other.open_session()
        check("they close: there is room for others", got.ok, got)
        check("who write", writes.set(other, 1000, 10).ok)
        writes.look(check, other, "idle connections")


def descriptors_run_out(check, binary, schema, rng):
    """Something else has taken all descriptors: not even half of them are left for files."""
    writes = Writes(rng)
    with Server(binary, ["--signingKey", SIGNING_KEY]) as server:
        api = Api(schema, server.port)
        api.open_session()
        writes.set(api, 100, 5)
        api("Get", key=b"k0")  # the file is open from now on
        pid, before = server.proc.pid, resource.prlimit(server.proc.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (8, before[1]))
        answers = [writes.set(api, 200000, 1) for _ in range(30)]
        refused = [g for g in answers if not g.ok]
        check("no descriptor for a file: refused, with the reason", refused and all(g.code == "RESOURCE_EXHAUSTED" and "Too many open files" in g.text for g in refused),
              (len(refused), answers[-1]))
        got, took = timed(lambda: api("CreateDatabaseV2", name="more", timeout=10))
        check("nor a database", not got.ok and took < 9, "%r after %.2f s" % (got, took))
        got = api("Get", key=b"k0")
        check("what is open is read", got.ok, got)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        answers = [writes.set(api, 200000, 5) for _ in range(30)]
        check("descriptors return, writes go on", all(g.ok for g in answers), [g for g in answers if not g.ok][:2])
        got = api("CreateDatabaseV2", name="other", timeout=10)
        check("databases too", got.ok, got)
        writes.look(check, api, "descriptors")
        check("nothing became read-only", "read-only" not in server.log(), server.log()[-1500:])
        server.kill()
        server.start()
        api.open_session()
        writes.look(check, api, "descriptors, killed and started again")


def silent_connections_are_closed(check, binary, _schema, _rng):
    with Server(binary) as server:
        sockets = [dial(server.port, hello) for hello in (b"", PREFACE[:10], b"") for _ in range(10)]
        begin = time.monotonic()
        while hung_up(sockets) < len(sockets) and time.monotonic() - begin < 20:
            time.sleep(0.2)
        took = time.monotonic() - begin
        check("connections that say nothing are closed after %.1f s" % took, 5 < took < 15, hung_up(sockets))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--server", required=True)
    ap.add_argument("--library", help="full_disk.c, built; default: beside the server")
    ap.add_argument("--seed", type=int, default=int(time.time()))
    ap.add_argument("--only", default="")
    a = ap.parse_args()
    print("seed %d" % a.seed, flush=True)
    library = os.path.abspath(a.library or os.path.join(os.path.dirname(a.server), "..", "conformance", "libfull_disk.so"))
    if not os.path.exists(library):
        raise SystemExit("%s is missing: build it first" % library)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    check, schema, rng = Check(), schema_of(), random.Random(a.seed)
    for kind in [FlagDisk] + ([MountedDisk] if may_mount() else []):
        if a.only in "full_disk " + kind.name:
            with tempfile.TemporaryDirectory(prefix="immudb-full-") as work:
                disk = kind(work, library)
                try:
                    full_disk(check, a.server, schema, disk, rng)
                finally:
                    disk.end()
    for test in (connections_leave_room_for_files, descriptors_run_out, silent_connections_are_closed):
        if a.only in test.__name__:
            test(check, a.server, schema, rng)
    print("%d passed, %d failed" % (check.passed, check.failed))
    return 1 if check.failed or not check.passed else 0


if __name__ == "__main__":
    raise SystemExit(main())
