#!/usr/bin/env python3
"""Sessions, tokens and logins over time and in numbers.

    sessions.py --server build/cmd/immudb

Expiry with short limits, keep-alive, age; the limit of sessions; changes of users and databases that count from the moment they are acknowledged, while other
clients call without a pause; databases unloaded, truncated and deleted under use; 10,000 sessions and what they cost; floods of wrong logins and of sessions next
to clients that only want to work."""
import argparse
import os
import re
import socket
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "tools"))

from client import Api, schema_of  # noqa: E402
from hostile import DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, frame, grpc_message, hpack, request_fields  # noqa: E402
from server import Check, Server  # noqa: E402

GONE = ("PERMISSION_DENIED", "session not found")
PASSWORD = "Pw-12345"


def answer(got):
    return (got.code, got.text)


def rss_kib(pid):
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))


def session_of(schema, port, user="immudb", password="immudb", database="defaultdb"):
    api = Api(schema, port)
    got = api.open_session(user, password, database)
    if not got.ok:
        raise AssertionError("OpenSession: %r" % got)
    return api


# --- time
def expiry(check, binary, schema):
    with Server(binary, ["--session-timeout", "1s", "--sessions-guard-check-interval", "100ms"]) as s:
        idle, kept, used = (session_of(schema, s.port) for _ in range(3))
        reader = Api(schema, s.port)
        for _ in range(12):
            time.sleep(0.25)
            alive = kept("KeepAlive"), used("CountAll")
            if not all(a.ok for a in alive):
                break
        check("KeepAlive and any other call keep a session for three times the timeout", all(a.ok for a in alive), alive)
        check.equal("an idle session is over", answer(idle("KeepAlive")), GONE)
        check.equal("its id cannot be used for anything", answer(idle("CountAll")), GONE)
        check.equal("nor by a stream", answer(idle("streamGet", key=b"k")), ("INVALID_ARGUMENT", "no session found"))
        check("OpenSession with the old id works", idle("OpenSession", username=b"immudb", password=b"immudb", databaseName="defaultdb").ok)
        time.sleep(1.3)
        check.equal("without a call it ends", [answer(x("KeepAlive")) for x in (kept, used)], [GONE, GONE])
        check.equal("a broken id", answer(reader("KeepAlive", metadata=[("sessionid", "nonsense")])), GONE)
        check.equal("an empty id", answer(reader("KeepAlive", metadata=[("sessionid", "")])), ("UNKNOWN", "no sessionID provided"))
    with Server(binary, ["--max-session-age-time", "1500ms", "--sessions-guard-check-interval", "100ms", "--session-timeout", "0"]) as s:
        api, end, lived = session_of(schema, s.port), time.time() + 4, 0.0
        start = time.time()
        while time.time() < end:
            got = api("KeepAlive")
            if not got.ok:
                break
            lived = time.time() - start
            time.sleep(0.05)
        check("--max-session-age-time ends a session that is used", 1.3 < lived < 2.2 and answer(got) == GONE, (lived, time.time() - start, got))
    with Server(binary, ["--session-timeout", "0", "--max-session-age-time", "0", "--sessions-guard-check-interval", "50ms"]) as s:
        api = session_of(schema, s.port)
        time.sleep(1)
        check("0 is without a limit", api("KeepAlive").ok)
        check.equal("a stop with open sessions", s.stop(), 0)


def limit(check, binary, schema):
    with Server(binary, ["--max-sessions", "5"]) as s:
        apis = [session_of(schema, s.port) for _ in range(5)]
        more = Api(schema, s.port)
        check.equal("one session more than --max-sessions", answer(more.open_session()), ("INTERNAL", "can not create new session: max sessions number reached"))
        v2 = Api(schema, s.port, service="immudb.model.AuthorizationService")
        check.equal("the same over the newer service", answer(v2("OpenSession", username="immudb", password="immudb", database="defaultdb")),
                    ("INTERNAL", "can not create new session: max sessions number reached"))
        check("the five go on", all(a("KeepAlive").ok for a in apis))
        check("one is closed", apis[0]("CloseSession").ok)
        check("there is a place again", more.open_session().ok)
        results = []

        def flood():
            api = Api(schema, s.port)
            for _ in range(100):
                results.append(answer(api("OpenSession", username=b"immudb", password=b"immudb", databaseName="defaultdb")))
            api.close()

        threads = [threading.Thread(target=flood) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        check("400 more are all refused", set(results) == {("INTERNAL", "can not create new session: max sessions number reached")}, set(results))


# --- changes that count at once
class Caller(threading.Thread):
    """Calls without a pause and notes (begin, end, answer)."""

    def __init__(self, api, method, **fields):
        super().__init__(daemon=True)
        self.api, self.method, self.fields, self.calls, self.stop = api, method, fields, [], threading.Event()

    def run(self):
        while not self.stop.is_set():
            begin = time.perf_counter()
            got = self.api(self.method, **self.fields)
            self.calls.append((begin, answer(got)))

    def end(self):
        self.stop.set()
        self.join()

    def after(self, moment):
        return [a for begin, a in self.calls if begin > moment]

    def before(self, moment):
        return [a for begin, a in self.calls if begin < moment]


def at_once(check, binary, schema):
    with Server(binary, ["--max-sessions", "100"]) as s:
        root = session_of(schema, s.port)
        for db in ("one", "two"):
            root.must("CreateDatabaseV2", name=db)
        changes = [("deactivation", lambda u: root.must("SetActiveUser", username=u, active=False), GONE, ("UNKNOWN", "not logged in")),
                   ("a new password", lambda u: root.must("ChangePassword", user=u.encode(), newPassword=b"Other-12345"), GONE, ("UNKNOWN", "not logged in")),
                   ("a revoked permission", lambda u: root.must("ChangePermission", action=1, username=u, database="one", permission=2), GONE, ("INTERNAL", "permission denied")),
                   ("less permission", lambda u: root.must("ChangePermission", action=0, username=u, database="one", permission=1), GONE, ("INTERNAL", "permission denied")),
                   ("revoked SQL privileges", lambda u: root.must("ChangeSQLPrivileges", action=1, username=u, database="one", privileges=["SELECT"]), GONE, None)]
        for number, (what, change, session_answer, token_answer) in enumerate(changes):
            user = "user%d" % number
            root.must("CreateUser", user=user.encode(), password=PASSWORD.encode(), permission=2, database="one")
            callers = [Caller(session_of(schema, s.port, user, PASSWORD, "one"), "Set", KVs=[{"key": b"k", "value": b"v"}]) for _ in range(2)]
            with_token = Api(schema, s.port)
            for _ in range(3):  # a change takes one login away, the token stays with the others
                with_token.token = with_token.must("Login", user=user.encode(), password=PASSWORD.encode()).token
            with_token.token = with_token.must("UseDatabase", databaseName="one").token
            # deactivation is one login less as well: here it is the last one
            if what == "deactivation":
                for _ in range(2):
                    with_token.must("Logout")
            callers.append(Caller(with_token, "Set", KVs=[{"key": b"k", "value": b"v"}]))
            for c in callers:
                c.start()
            time.sleep(0.2)
            begun = time.perf_counter()
            change(user)
            done = time.perf_counter()
            time.sleep(0.2)
            for c in callers:
                c.end()
            check("%s: calls before it were fine" % what, all(c.before(begun - 0.1) and set(c.before(begun - 0.1)) == {("OK", "")} for c in callers))
            check.equal("%s: no call of a session after it" % what, set(sum((c.after(done) for c in callers[:2]), [])), {session_answer})
            check.equal("%s: tokens" % what, set(callers[2].after(done)), {token_answer or ("OK", "")})
        got = Api(schema, s.port).open_session("user0", PASSWORD, "one")
        check.equal("a deactivated user logs in", answer(got), ("UNKNOWN", "user is not active"))
        check.equal("with the old password", answer(Api(schema, s.port).open_session("user1", PASSWORD, "one")), ("UNKNOWN", "invalid user name or password"))
        check("with the new one", Api(schema, s.port).open_session("user1", "Other-12345", "one").ok)
        check.equal("the sysadmin deactivates itself", answer(root("SetActiveUser", username="immudb", active=False)), ("UNKNOWN", "changing your own status is not allowed"))
        # the sysadmin's own password: its session ends, too
        check("the sysadmin changes its password", root("ChangePassword", user=b"immudb", oldPassword=b"immudb", newPassword=b"Changed-1").ok)
        check.equal("its session is over", answer(root("KeepAlive")), GONE)
        root = session_of(schema, s.port, "immudb", "Changed-1")
        # databases
        user = session_of(schema, s.port, "immudb", "Changed-1", "two")
        token = Api(schema, s.port)
        token.token = token.must("Login", user=b"immudb", password=b"Changed-1").token
        token.token = token.must("UseDatabase", databaseName="two").token
        callers = [Caller(a, "Set", KVs=[{"key": b"k", "value": b"v"}]) for a in (user, token)]
        for c in callers:
            c.start()
        for what, change, expected in (("unloaded", "UnloadDatabase", ("UNKNOWN", "already closed")), ("loaded again", "LoadDatabase", ("OK", "")), ("unloaded again", "UnloadDatabase", ("UNKNOWN", "already closed")),
                                       ("deleted", "DeleteDatabase", ("UNKNOWN", "database does not exist"))):
            root.must(change, database="two")
            done = time.perf_counter()
            time.sleep(0.2)
            seen = time.perf_counter()
            got = {a for c in callers for begin, a in list(c.calls) if done < begin < seen - 0.05}
            check.equal("a database is %s: calls by session and token" % what, got, {expected})
        for c in callers:
            c.end()


# --- databases under use
def under_use(check, binary, schema, seconds):
    allowed = {("OK", ""), ("UNKNOWN", "already closed"), ("UNKNOWN", "database does not exist")}
    with Server(binary, ["--max-sessions", "100"]) as s:
        root = session_of(schema, s.port)
        root.must("CreateDatabaseV2", name="busy")
        callers = []
        for method, fields in (("Set", {"KVs": [{"key": b"k%d" % i, "value": b"v" * 1000} for i in range(20)]}), ("Scan", {"limit": 100}), ("Get", {"key": b"k1"}), ("TxScan", {"initialTx": 1, "limit": 50}),
                               ("streamScan", {"limit": 100}), ("CurrentState", {})):
            callers.append(Caller(session_of(schema, s.port, database="busy"), method, **fields))
        for c in callers:
            c.start()
        time.sleep(0.5)
        rounds, end, bad = 0, time.time() + seconds, []
        while time.time() < end:
            for method in ("TruncateDatabase", "FlushIndex", "UnloadDatabase", "LoadDatabase"):
                got = root(method, **({"database": "busy"} if method != "FlushIndex" else {}))
                if not got.ok and got.text not in ("retention period has not been reached",):
                    bad.append((method, got))
            rounds += 1
            time.sleep(0.02)
        root.must("UnloadDatabase", database="busy")
        root.must("DeleteDatabase", database="busy")
        time.sleep(0.2)
        for c in callers:
            c.end()
        answers = {}
        for c in callers:
            for _, a in c.calls:
                answers[a] = answers.get(a, 0) + 1
        answers.pop(("UNKNOWN", "tbtree: key not found"), None)
        check("%d rounds of truncate, flush, unload, load under six clients" % rounds, rounds > 3 and not bad, bad[:3])
        check("the clients saw nothing but %s" % ", ".join(sorted(t or "OK" for _, t in allowed)), set(answers) <= allowed, {a: n for a, n in answers.items() if a not in allowed})
        check("all of it was seen", set(answers) == allowed, answers)
        check("the server goes on", root("Set", KVs=[{"key": b"k", "value": b"v"}]).ok)
        check.equal("exit status after SIGTERM", s.stop(), 0)


# --- numbers
def ten_thousand(check, binary, schema, count=10000):
    with Server(binary, ["--max-sessions", str(count + 10), "--session-timeout", "0"]) as s:
        api = session_of(schema, s.port)
        for _ in range(200):  # what every process and connection needs is there afterwards
            other(api, api.must("OpenSession", username=b"immudb", password=b"immudb", databaseName="defaultdb").sessionID)("CloseSession")
        before, start = rss_kib(s.proc.pid), time.time()
        ids = [api.must("OpenSession", username=b"immudb", password=b"immudb", databaseName="defaultdb").sessionID for _ in range(count)]
        took, after = time.time() - start, rss_kib(s.proc.pid)
        each = (after - before) * 1024 / count
        print("     %d sessions over one connection in %.1f s: RSS %d KiB -> %d KiB, %.0f bytes each" % (count, took, before, after, each))
        check("a session costs less than 1 KiB", each < 1024, each)
        check.equal("ids are all different, 44 characters", (len(set(ids)), {len(i) for i in ids}), (count, {44}))
        start = time.time()
        probes = ids[::97]
        check("any of them works", all(other(api, i)("KeepAlive").ok for i in probes))
        print("     a call with one of them: %.2f ms" % ((time.time() - start) / len(probes) * 1000))
        check("all are closed", all(other(api, i)("CloseSession").ok for i in ids))
        check.equal("and gone", answer(other(api, ids[5])("KeepAlive")), GONE)
        for _ in range(3):
            for i in [api.must("OpenSession", username=b"immudb", password=b"immudb", databaseName="defaultdb").sessionID for _ in range(count // 4)]:
                other(api, i)("CloseSession")
        check("opening and closing again costs nothing more", rss_kib(s.proc.pid) < after + 1024, (after, rss_kib(s.proc.pid)))


def other(api, session):
    """The same channel with another session."""
    copy = Api.__new__(Api)
    copy.__dict__.update(api.__dict__)
    copy.session = session
    return copy


class Attacker(threading.Thread):
    """Wrong logins from an address of its own, fifty at a time, over raw HTTP/2. user None: a new name each time."""

    def __init__(self, port, address, user):
        super().__init__(daemon=True)
        self.port, self.address, self.user, self.stop, self.sent = port, address, user, threading.Event(), 0

    def run(self):
        while not self.stop.is_set():
            try:
                self.round()
            except OSError:
                pass

    def round(self):
        with socket.create_connection(("127.0.0.1", self.port), 10, source_address=(self.address, 0)) as s:
            s.settimeout(10)
            s.sendall(PREFACE + frame(SETTINGS, 0, 0))
            out = b""
            for i in range(50):
                self.sent += 1
                password, user = b"guess%d" % self.sent, self.user or b"u%d" % self.sent
                body = grpc_message(b"\x0a" + bytes([len(user)]) + user + b"\x12" + bytes([len(password)]) + password)
                out += frame(HEADERS, END_HEADERS, 2 * i + 1, hpack(request_fields("Login"))) + frame(DATA, END_STREAM, 2 * i + 1, body)
            s.sendall(out)
            s.settimeout(0.2)
            while not self.stop.is_set() and s.recv(65536):  # until it is silent for a moment
                pass


def login_flood(check, binary, schema, seconds):
    with Server(binary, ["--max-sessions", "1000"]) as s:
        root = session_of(schema, s.port)
        root.must("CreateUser", user=b"honest", password=PASSWORD.encode(), permission=2, database="defaultdb")
        before = rss_kib(s.proc.pid)
        attackers = [Attacker(s.port, "127.0.0.%d" % (2 + i % 4), user=(b"immudb", b"honest", None, b"immudb")[i % 4]) for i in range(8)]
        busy = Caller(root, "Set", KVs=[{"key": b"k", "value": b"v"}])
        took, latency = [], []
        for t in attackers:
            t.start()
        busy.start()
        end, bad = time.time() + seconds, []
        while time.time() < end:
            for user, password in (("immudb", "immudb"), ("honest", PASSWORD)):
                start = time.time()
                got = Api(schema, s.port).open_session(user, password)
                took.append(time.time() - start)
                if not got.ok:
                    bad.append(got)
            start = time.perf_counter()
            root("CountAll")
            latency.append((time.perf_counter() - start) * 1000)
            # a password that nobody remembers: it takes a real check
            root.must("ChangePassword", user=b"honest", newPassword=PASSWORD.encode())
        busy.end()
        for t in attackers:
            t.stop.set()
        for t in attackers:
            t.join()
        latency.sort()
        print("     %d wrong logins from four addresses in %d s; %d honest ones, the slowest %.2f s; calls of a session p50 %.2f ms, slowest %.1f ms; RSS %d -> %d KiB" % (
            sum(t.sent for t in attackers), seconds, len(took), max(took), latency[len(latency) // 2], latency[-1], before, rss_kib(s.proc.pid)))
        check("honest logins for the same users from another address all succeed", len(took) >= 2 and not bad, bad[:3])
        check("the slowest of them is not kept waiting", max(took) < 10, max(took))
        check("calls of open sessions go on", set(a for _, a in busy.calls) == {("OK", "")}, set(a for _, a in busy.calls))
        check("memory stays", rss_kib(s.proc.pid) < before + 48 * 1024, (before, rss_kib(s.proc.pid)))


def attempts(check, binary, schema):
    wrong, slow = ("UNKNOWN", "invalid user name or password"), re.compile(r"^too many failed logins: try again in \d+ s$")
    with Server(binary, ["--login-attempts-per-minute", "5"]) as s:
        api = Api(schema, s.port)
        got = [answer(api("Login", user=b"immudb", password=b"no%d" % i)) for i in range(7)]
        check.equal("five attempts", got[:5], [wrong] * 5)
        check("the others are slowed down", all(c == "RESOURCE_EXHAUSTED" and slow.match(t) for c, t in got[5:]), got[5:])
        got = answer(api("Login", user=b"immudb", password=b"immudb"))
        check("the right password waits as well", got[0] == "RESOURCE_EXHAUSTED" and slow.match(got[1]), got)
        check.equal("another user does not", answer(api("Login", user=b"nobody", password=b"x")), wrong)
        wait = int(re.search(r"in (\d+) s", got[1]).group(1))
        check("the wait is at most a minute divided by five", 1 <= wait <= 12, wait)
        time.sleep(wait)
        check("after that the right password is taken", api("Login", user=b"immudb", password=b"immudb").ok)
    with Server(binary, ["--login-attempts-per-minute", "0"]) as s:
        api = Api(schema, s.port)
        check.equal("0 is without a limit", {answer(api("Login", user=b"immudb", password=b"no%d" % i)) for i in range(60)}, {wrong})
        check("and the right one works", api("Login", user=b"immudb", password=b"immudb").ok)
    with Server(binary, ["--login-attempts-per-minute", "3"]) as s:
        api = session_of(schema, s.port)
        got = [answer(api("ChangePassword", user=b"immudb", oldPassword=b"no%d" % i, newPassword=b"x")) for i in range(5)]
        check.equal("old passwords are guesses, too: three", got[:3], [("PERMISSION_DENIED", "old password is incorrect")] * 3)
        check("then they are slowed down", all(c == "RESOURCE_EXHAUSTED" and slow.match(t) for c, t in got[3:]), got[3:])


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--server", required=True)
    ap.add_argument("--seconds", type=int, default=5, help="of each load")
    ap.add_argument("--only", action="append")
    a = ap.parse_args()
    check, schema = Check(), schema_of()
    parts = [("expiry", expiry), ("limit", limit), ("at once", at_once), ("under use", lambda c, b, s: under_use(c, b, s, a.seconds)), ("ten thousand", ten_thousand),
             ("login flood", lambda c, b, s: login_flood(c, b, s, a.seconds)), ("attempts", attempts)]
    for name, part in parts:
        if a.only and name not in a.only:
            continue
        print("--- %s" % name, flush=True)
        try:
            part(check, a.server, schema)
        except Exception as e:  # one broken part must not hide the others
            check(name, False, repr(e))
    print("%d passed, %d failed" % (check.passed, check.failed))
    return 1 if check.failed or not check.passed else 0


if __name__ == "__main__":
    sys.exit(main())
