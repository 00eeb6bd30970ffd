#!/usr/bin/env python3
"""Every method, called as every kind of caller; code and text are compared with the tables of docs/permissions.md.

    permissions.py --server build/cmd/immudb [--verbose]

Each call that may do anything has credentials of its own (a fresh session or token), so that no call can spoil the next. "Allowed" means: any answer that is not a refusal of the
tables. The set of methods is that of the .proto files: a method without a row fails, and so does a row without a method."""
import argparse
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "tools"))

from client import Api, schema_of  # noqa: E402
from server import Server  # noqa: E402

MAIN, DOCUMENT, AUTHORIZATION = "immudb.schema.ImmuService", "immudb.model.DocumentService", "immudb.model.AuthorizationService"
PASSWORD = "Pw-12345"
DENIED = ("INTERNAL", "permission denied")
LOGIN = {"coded": ("UNKNOWN", "not logged in"), "userdata": ("UNKNOWN", "could not get loggedin user data"), "please": ("UNKNOWN", "please login"), "use": ("UNAUTHENTICATED", "Please login"),
         "session": ("UNKNOWN", "no session auth data provided")}
SELECT = ("UNKNOWN", "please select a database first")
SESSION_GONE = {False: ("PERMISSION_DENIED", "session not found"), True: ("INVALID_ARGUMENT", "no session found")}
NOT_CREATED = re.compile(r"was not created by you|was not found or it was not created by you")


class Row:
    def __init__(self, cells):
        self.name, self.who, self.login = cells[0], cells[1], cells[3]
        self.on_systemdb = cells[2] == "M"
        m = re.match(r"(\w+) `(.*)`", cells[4])
        self.refusal = (m.group(1), m.group(2).replace("DB", "own")) if m else None if cells[4] == "–" else DENIED
        service, _, method = self.name.rpartition("/")
        self.service, self.method = {"": MAIN, "DocumentService": DOCUMENT, "AuthorizationService": AUTHORIZATION}[service], method


def rows_of_docs():
    rows, inside = [], False
    with open(os.path.join(HERE, "..", "docs", "permissions.md"), encoding="utf-8") as f:
        for line in f:
            inside = line.startswith("| method |") or (inside and line.startswith("|"))
            cells = [c.strip() for c in line.strip().strip("|").split("|")]
            if inside and cells[0] != "method" and not set(cells[0]) <= {"-"}:
                rows.append(Row(cells))
    return rows


# Requests that reach the check of the caller's rights and do no harm when they pass it. What is not here is called with an empty message.
REQUESTS = {
    "exportTx": {"tx": 1},
    "Login": {"user": b"victim", "password": PASSWORD.encode()},
    "OpenSession": {"username": b"reader", "password": PASSWORD.encode(), "databaseName": "own"},
    "AuthorizationService/OpenSession": {"username": "reader", "password": PASSWORD, "database": "own"},
    "UseDatabase": {"databaseName": "own"},
    "CreateDatabase": {"databaseName": "own"}, "CreateDatabaseWith": {"databaseName": "own"}, "CreateDatabaseV2": {"name": "own"},
    "LoadDatabase": {"database": "own"}, "UnloadDatabase": {"database": "own"}, "DeleteDatabase": {"database": "own"}, "TruncateDatabase": {"database": "own"},
    "UpdateDatabase": {"databaseName": "own"}, "UpdateDatabaseV2": {"database": "own", "settings": {}},
    "CreateUser": {"user": b"victim", "password": b"x", "permission": 1, "database": "own"},
    "ChangePassword": {"user": b"stranger", "newPassword": b"x"},
    "ChangePermission": {"action": 0, "username": "victim", "database": "own", "permission": 1},
    "ChangeSQLPrivileges": {"action": 0, "username": "victim", "database": "own", "privileges": ["SELECT"]},
    "SetActiveUser": {"username": "stranger", "active": True},
    "Set": {"KVs": [{"key": b"k", "value": b"v"}]}, "Get": {"key": b"k"},
}


class Caller:
    """One kind of caller: who, and what it may do on the selected database and on the one named "own"."""

    def __init__(self, name, user, level, on_own, database="own", way="session", gone=None, selected=True):
        self.name, self.user, self.level, self.on_own, self.database, self.way, self.gone, self.selected = name, user, level, on_own, database, way, gone, selected


# level: on the selected database; on_own: on "own": 0 none, 1, 2, 254, 255
CALLERS = [Caller("nobody", None, 0, 0, way=None)]
for kind in ("session", "token"):
    CALLERS += [Caller("reader", "reader", 1, 1, way=kind), Caller("writer", "writer", 2, 2, way=kind), Caller("admin", "admin", 254, 254, way=kind),
                Caller("sysadmin", "immudb", 255, 255, way=kind), Caller("sysadmin on systemdb", "immudb", 255, 255, database="systemdb", way=kind),
                Caller("writer of another database", "elsewriter", 2, 0, database="else", way=kind), Caller("admin of another database", "elseadmin", 254, 0, database="else", way=kind)]
CALLERS += [Caller("reader without a selected database", "reader", 0, 1, way="token", selected=False),
            Caller("writer whose permission was revoked", "revoked", 0, 0, way="token"),
            Caller("session of a revoked permission", "revoked", 0, 0, gone="revoke"), Caller("session of a deactivated user", "sleeper", 0, 0, gone="deactivate"),
            Caller("session of a changed password", "changer", 0, 0, gone="password"), Caller("session that was closed", "reader", 0, 0, gone="close"),
            Caller("session that never was", "reader", 0, 0, gone="invent"),
            Caller("token of a deactivated user", "sleeper", 0, 0, way="token", gone="deactivate"), Caller("token of a changed password", "changer", 0, 0, way="token", gone="password"),
            Caller("token after logout", "changer", 0, 0, way="token", gone="logout")]


def expected(row, caller, is_stream):
    """(code, text), or None = allowed."""
    if caller.way == "session" and caller.gone:
        return None if row.name == "OpenSession" else SESSION_GONE[is_stream]
    if row.who == "–":
        return None
    if row.who == "sess":
        return None if caller.way == "session" else LOGIN["session"]
    if caller.way is None or caller.gone:
        return LOGIN[row.login]
    if row.name == "Logout":
        return LOGIN["coded"] if caller.way == "session" else None
    if row.who == "L":
        return None
    if row.who in ("R", "RW", "A"):
        if not caller.selected:
            return SELECT
        if caller.database == "systemdb" and not row.on_systemdb:
            return DENIED
        need = {"R": (1, 2, 254, 255), "RW": (2, 254, 255), "A": (254, 255)}[row.who]
        return None if caller.level in need else row.refusal
    allowed = {"any(db)": caller.on_own in (1, 2, 254, 255), "A(db)": caller.on_own in (254, 255), "S": caller.level == 255, "any A": caller.level in (254, 255)}[row.who]
    return None if allowed else row.refusal


class World:
    """The server with its users: root is the sysadmin's session, gate is where the callers log in, apis are where they call."""

    def __init__(self, schema, port):
        self.schema, self.root, self.gate = schema, Api(schema, port), Api(schema, port)
        self.apis = {service: Api(schema, port, service=service) for service in (MAIN, DOCUMENT, AUTHORIZATION)}
        assert self.root.open_session().ok
        for db in ("own", "else"):
            self.root.must("CreateDatabaseV2", name=db)
        for user, permission, db in (("reader", 1, "own"), ("writer", 2, "own"), ("admin", 254, "own"), ("elsewriter", 2, "else"), ("elseadmin", 254, "else"), ("revoked", 2, "own"),
                                     ("sleeper", 2, "own"), ("changer", 2, "own"), ("victim", 1, "own"), ("stranger", 1, "own")):
            self.root.must("CreateUser", user=user.encode(), password=PASSWORD.encode(), permission=permission, database=db)

    def login(self, caller):
        """Fresh credentials."""
        name, password = (caller.user or "").encode(), b"immudb" if caller.user == "immudb" else PASSWORD.encode()
        session = token = self.gate.session = self.gate.token = None
        if caller.way == "session":
            session = "A" * 43 + "=" if caller.gone == "invent" else self.gate.must("OpenSession", username=name, password=password, databaseName=caller.database).sessionID
        elif caller.way == "token":
            if caller.user == "revoked":  # the last login of a user is lost with the permission: there has to be one more
                self.gate.must("Login", user=name, password=password)
            token = self.gate.token = self.gate.must("Login", user=name, password=password).token
            if caller.selected:
                token = self.gate.must("UseDatabase", databaseName=caller.database).token
        self.gate.session, self.gate.token = self.credentials = session, token

    def change(self, caller):
        """What happens to the caller between logging in and calling."""
        if caller.user == "revoked":
            self.root.must("ChangePermission", action=1, username="revoked", database="own", permission=2)
        elif caller.gone == "deactivate":
            self.root.must("SetActiveUser", username="sleeper", active=False)
        elif caller.gone == "password":
            self.root.must("ChangePassword", user=b"changer", newPassword=PASSWORD.encode())
        elif caller.gone in ("close", "logout"):
            self.gate.must("CloseSession" if caller.gone == "close" else "Logout")

    def restore(self, caller, row):
        if caller.way == "session" and caller.gone != "invent":
            self.gate("CloseSession")
        if caller.user == "revoked":
            self.root.must("ChangePermission", action=0, username="revoked", database="own", permission=2)
        elif caller.gone == "deactivate":
            self.root.must("SetActiveUser", username="sleeper", active=True)
        if row.name == "UnloadDatabase":
            self.root("LoadDatabase", database="own")


def request_of(row):
    return REQUESTS.get(row.name, {})


def call(api, row, is_client_stream):
    if row.name == "streamExportTx":
        return api(row.method, raw=iter([api.message(row.method, {"tx": 1})]), timeout=10)
    if is_client_stream:
        return api(row.method, chunks=[], timeout=10)
    return api(row.method, timeout=10, **request_of(row))


def judge(want, got, caller, row):
    refusals = {DENIED, SELECT, *LOGIN.values(), *SESSION_GONE.values()} | ({row.refusal} if row.refusal else set())
    if want is not None:
        return (got.code, got.text) == want
    if row.who == "any A" and caller.level == 254:  # allowed to try, but the user was made by somebody else
        return NOT_CREATED.search(got.text) is not None
    return (got.code, got.text) not in refusals


def all_callers(world, rows, verbose):
    passed = failed = 0
    for caller in CALLERS:
        bad, is_fresh = 0, False
        keeps = caller.gone or caller.user == "revoked"  # no call can spoil what is void, or has no rights
        for row in rows:
            api = world.apis[row.service]
            md = world.schema.method(row.service + "/" + row.method)
            if not is_fresh or not keeps:
                world.login(caller)
                world.change(caller)
            is_fresh = row.name != "Logout"
            api.session, api.token = world.credentials
            got = call(api, row, md.client_streaming)
            want = expected(row, caller, md.client_streaming or md.server_streaming)
            if judge(want, got, caller, row):
                passed += 1
            else:
                failed += 1
                bad += 1
                print("DIFF %s (%s) calls %s: expected %s, got %s %s" % (caller.name, caller.way, row.name, want or "to be allowed", got.code, got.text))
            if verbose:
                print("     %-36s %-8s %-34s %s %s" % (caller.name, caller.way, row.name, got.code, got.text[:80]))
            if not keeps or not is_fresh:
                world.restore(caller, row)
        if is_fresh and keeps:
            world.restore(caller, rows[-1])
        print("%-4s %-38s %-8s %d methods" % ("ok" if bad == 0 else "FAIL", caller.name, caller.way or "", len(rows)), flush=True)
    return passed, failed


def maintenance(schema, port, rows):
    """Nobody, in maintenance mode: what is not marked M is refused as such."""
    passed = failed = 0
    for row in rows:
        md = schema.method(row.service + "/" + row.method)
        got = call(Api(schema, port, service=row.service), row, md.client_streaming)
        is_refused = (got.code, got.text) == ("INVALID_ARGUMENT", "operation not allowed in maintenance mode")
        if is_refused == (not row.on_systemdb):
            passed += 1
        else:
            failed += 1
            print("DIFF maintenance mode, %s: %s %s" % (row.name, got.code, got.text))
    print("%-4s maintenance mode" % ("ok" if not failed else "FAIL"))
    return passed, failed


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--server", required=True)
    ap.add_argument("--verbose", action="store_true")
    a = ap.parse_args()
    schema, rows = schema_of(), rows_of_docs()
    passed = failed = 0
    methods = set()
    for service in (MAIN, DOCUMENT, AUTHORIZATION):
        methods |= {service + "/" + m.name for m in schema.pool.FindServiceByName(service).methods}
    listed = [r.service + "/" + r.method for r in rows]
    if set(listed) == methods and len(listed) == len(methods):
        passed += 1
    else:
        failed += 1
        print("DIFF docs/permissions.md: missing %s, too many %s" % (sorted(methods - set(listed)), sorted(set(listed) - methods)))
    with Server(a.server, ["--max-sessions", "1000"]) as s:
        ok, bad = all_callers(World(schema, s.port), rows, a.verbose)
        passed, failed = passed + ok, failed + bad
    with Server(a.server, ["--maintenance", "--auth=false"]) as s:
        ok, bad = maintenance(schema, s.port, rows)
        passed, failed = passed + ok, failed + bad
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
