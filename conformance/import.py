#!/usr/bin/env python3
"""immuadmin import: a folder filled from a running server holds the same history, byte for byte, whatever happens on the way.

    import.py --server build/cmd/immudb [--admin build/cmd/immuadmin] [--peer PATH] [--seed N]

The source is a server of ours with several databases, users and kinds of entries; with --peer everything is done with that program as the source too.
Checked: exports of source and copy are equal, logins and proofs work on the copy, a killed or stopped import goes on, a lost source is found again,
foreign and diverged folders are refused, and a source that lies (a proxy that alters answers) is caught with the database and transaction named.
Ends with 'N passed, M failed'."""
import argparse
import base64
import concurrent.futures
import os
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

import grpc
from google.protobuf import empty_pb2
from immudb import ImmudbClient
from immudb.grpc import schema_pb2 as pb
from immudb.grpc import schema_pb2_grpc as pb_grpc
from server import Server, free_port

EMPTY = empty_pb2.Empty()
LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
passed, failed = 0, []


def check(name, ok, detail=""):
    global passed
    if ok:
        passed += 1
    else:
        failed.append(name)
        print("FAIL %s %s" % (name, str(detail)[-1500:]), flush=True)


class Session:
    """One database of a server, by gRPC."""

    def __init__(self, port, database="defaultdb", user=b"immudb", password=b"immudb"):
        self.channel = grpc.insecure_channel("127.0.0.1:%d" % port, options=LIMIT)
        self.stub = pb_grpc.ImmuServiceStub(self.channel)
        answer = self.stub.OpenSession(pb.OpenSessionRequest(username=user, password=password, databaseName=database), wait_for_ready=True, timeout=20)
        self.metadata = [("sessionid", answer.sessionID)]

    def call(self, method, request=EMPTY):
        return getattr(self.stub, method)(request, metadata=self.metadata, timeout=60)

    def set(self, pairs, **kw):
        return self.call("Set", pb.SetRequest(KVs=[pb.KeyValue(key=k, value=v, **kw) for k, v in pairs]))

    def state(self):
        s = self.call("CurrentState")
        return s.txId, s.txHash

    def exports(self, count):
        """Every exported transaction, in order."""
        done = threading.Event()

        def requests():
            for i in range(1, count + 1):
                yield pb.ExportTxRequest(tx=i)
            done.wait(60)

        out, part = [], b""
        call = self.stub.streamExportTx(requests(), metadata=self.metadata, timeout=120)
        for chunk in call if count else ():
            part += chunk.content
            while len(part) >= 8 and len(part) >= 8 + struct.unpack(">Q", part[:8])[0]:
                n = 8 + struct.unpack(">Q", part[:8])[0]
                out.append(part[8:n])
                part = part[n:]
            if len(out) == count:
                break
        done.set()
        call.cancel()
        return out

    def close(self):
        self.channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Import:
    """One run of immuadmin import."""

    def __init__(self, binary, port, folder, *more, password="immudb", host="127.0.0.1"):
        self.command = [binary, "import", "--from", "%s:%d" % (host, port), "--dir", folder] + list(more)
        if password is not None:
            self.command += ["--password", password]

    def start(self):
        self.proc = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return self

    def end(self):
        self.out, self.err = self.proc.communicate(timeout=180)
        self.code = self.proc.returncode
        return self

    def run(self):
        return self.start().end()

    def __str__(self):
        return "exit %s\n%s\n%s" % (self.code, self.out, self.err)

    def added(self, database):
        m = re.search(r"^%s: (\d+) transactions" % re.escape(database), self.out, re.M)
        return int(m.group(1)) if m else None


# --- what the source holds ---

USERS = [(b"reader", b"Reader-1", 1, "db1"), (b"writer", b"Writer-1", 2, "db2"), (b"chief", b"Chief-11", 254, "db1")]


def fill(port, rng, txs):
    """Databases, users, entries of every kind."""
    with Session(port) as s:
        s.call("CreateDatabaseV2", pb.CreateDatabaseRequest(name="db1"))
        settings = pb.DatabaseNullableSettings(maxKeyLen=pb.NullableUint32(value=512), maxValueLen=pb.NullableUint32(value=1 << 22),
                                               autoload=pb.NullableBool(value=True), excludeCommitTime=pb.NullableBool(value=True))
        s.call("CreateDatabaseV2", pb.CreateDatabaseRequest(name="db2", settings=settings))
        s.call("CreateDatabaseV2", pb.CreateDatabaseRequest(name="empty"))
        for name, password, permission, database in USERS:
            s.call("CreateUser", pb.CreateUserRequest(user=name, password=password, permission=permission, database=database))
        s.call("ChangePassword", pb.ChangePasswordRequest(user=b"reader", oldPassword=b"Reader-1", newPassword=b"Reader-2"))
        s.call("SetActiveUser", pb.SetActiveUserRequest(username="chief", active=False))
    for database in ("defaultdb", "db1", "db2"):
        with Session(port, database) as s:
            mixed(s, rng)
    with Session(port) as s:
        many(s, rng, txs)


def mixed(s, rng):
    for i in range(20):
        s.set([(b"key%d" % i, rng.randbytes(rng.randrange(300)))])
    s.set([(b"batch%d" % i, b"v%d" % i) for i in range(900)])
    s.set([(b"empty", b"")])
    s.set([(b"big", rng.randbytes(3000000))])
    s.set([(b"expiring", b"soon")], metadata=pb.KVMetadata(expiration=pb.Expiration(expiresAt=int(time.time()) + 3600)))
    s.set([(b"hidden", b"not indexed")], metadata=pb.KVMetadata(nonIndexable=True))
    s.call("Delete", pb.DeleteKeysRequest(keys=[b"key1", b"key2"]))
    tx = s.call("SetReference", pb.ReferenceRequest(key=b"ref", referencedKey=b"key3"))
    s.call("SetReference", pb.ReferenceRequest(key=b"bound", referencedKey=b"key3", atTx=1 if tx.id == 0 else 4, boundRef=True))
    s.call("ZAdd", pb.ZAddRequest(set=b"set", score=2.5, key=b"key4"))
    s.call("ExecAll", pb.ExecAllRequest(Operations=[pb.Op(kv=pb.KeyValue(key=b"op", value=b"1")),
                                                    pb.Op(ref=pb.ReferenceRequest(key=b"opref", referencedKey=b"key5")),
                                                    pb.Op(zAdd=pb.ZAddRequest(set=b"set", score=1, key=b"key6"))]))
    try:  # where there is SQL
        s.call("SQLExec", pb.SQLExecRequest(sql="CREATE TABLE t (id INTEGER AUTO_INCREMENT, name VARCHAR[20], PRIMARY KEY id); INSERT INTO t (name) VALUES ('a'), ('b');"))
    except grpc.RpcError as e:
        if e.code() not in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE):
            raise


def many(s, rng, count):
    """Small transactions, many calls under way."""
    done = 0
    while done < count:
        calls = [s.stub.Set.future(pb.SetRequest(KVs=[pb.KeyValue(key=b"m%d" % rng.randrange(5000), value=b"x" * rng.randrange(200))], noWait=True), metadata=s.metadata, timeout=60)
                 for _ in range(20)]
        for c in calls:
            try:
                c.result()
                done += 1
            except grpc.RpcError as e:
                if "limit" not in e.details():
                    raise


DATABASES = ["systemdb", "defaultdb", "db1", "db2", "empty"]


def same(name, source_port, binary, folder, databases=DATABASES, flags=()):
    """The copy, served by our server, is the source."""
    try:
        with Server(binary, flags, keep=folder) as copy:
            for database in databases:
                with Session(source_port, database) as a, Session(copy.port, database) as b:
                    sa, sb = a.state(), b.state()
                    check("%s: state of %s" % (name, database), sa == sb, (sa, sb))
                    ea, eb = a.exports(sa[0]), b.exports(sb[0])
                    wrong = [i + 1 for i, (x, y) in enumerate(zip(ea, eb)) if x != y]
                    check("%s: %d exports of %s" % (name, sa[0], database), len(ea) == len(eb) == sa[0] and not wrong, wrong[:5])
    except Exception as e:
        check("%s: copy against source" % name, False, repr(e))


# --- a source that lies or breaks ---

class Proxy:
    """Passes calls on to a server; alter(method, message) may change, replace (None: leave out) or refuse (exception) each answer."""

    def __init__(self, port, alter, refuse=()):
        self.alter, self.refuse = alter, refuse
        self.channel = grpc.insecure_channel("127.0.0.1:%d" % port, options=LIMIT)
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(64), handlers=(self,), options=LIMIT)
        self.port = self.server.add_insecure_port("127.0.0.1:0")

    def service(self, details):
        method = details.method

        def handle(requests, context):
            if method.rsplit("/", 1)[1] in self.refuse:
                context.abort(grpc.StatusCode.UNIMPLEMENTED, "unknown method")
            metadata = [(k, v) for k, v in context.invocation_metadata() if k == "sessionid"]
            call = self.channel.stream_stream(method)(requests, metadata=metadata)
            context.add_callback(call.cancel)
            try:
                for message in call:
                    message = self.alter(method.rsplit("/", 1)[1], message)
                    if message is not None:
                        yield message
            except grpc.RpcError as e:
                context.abort(e.code(), e.details())
            except Broken:
                context.abort(grpc.StatusCode.UNAVAILABLE, "broken on purpose")

        return grpc.stream_stream_rpc_method_handler(handle)

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *_):
        self.server.stop(0).wait()
        self.channel.close()


class Broken(Exception):
    pass


def first_chunk(method, message):
    """(chunk, tx id) of the beginning of an exported transaction."""
    if method not in ("exportTx", "streamExportTx"):
        return None, 0
    chunk = pb.Chunk.FromString(message)
    return (chunk, struct.unpack(">Q", chunk.content[12:20])[0]) if len(chunk.metadata) else (None, 0)


def altering(tx_id, change):
    """Changes the exported transaction tx_id of any database whose states reach that far."""

    def alter(method, message):
        chunk, got = first_chunk(method, message)
        if chunk is None or got != tx_id:
            return message
        chunk.content = change(bytes(chunk.content))
        return chunk.SerializeToString()

    return alter


def flip(at):
    def change(content):
        content = bytearray(content)
        content[at] ^= 1
        return bytes(content)
    return change


# content: part length 8, header length 4, id 8, prevAlh 32, ts 8, version 2, metadata length 2, entries 4, eH 32, blTxID 8, blRoot 32
ID_AT, PREV_ALH_AT, TS_AT, EH_AT = 12, 20, 52, 68
BL_ROOT_AT = EH_AT + 32 + 8


# --- the parts of the test ---

def plain(name, source, o, rng, work):
    """Copy, compare, log in, prove, go on, refuse a folder in use."""
    folder = os.path.join(work, "plain")
    run = Import(o.admin, source.port, folder).run()
    check("%s: import" % name, run.code == 0 and run.added("empty") == 0 and run.added("db1") > 20, run)
    same(name, source.port, o.server, folder)
    with Server(o.server, keep=folder) as copy:
        refused = Import(o.admin, source.port, folder).run()
        check("%s: folder in use" % name, refused.code == 1 and "in use" in refused.err, refused)
        for user, password, ok in ((b"reader", b"Reader-2", True), (b"reader", b"Reader-1", False), (b"writer", b"Writer-1", True), (b"chief", b"Chief-11", False)):
            try:
                Session(copy.port, "db2" if user == b"writer" else "db1", user, password).close()
                entered = True
            except grpc.RpcError:
                entered = False
            check("%s: login of %s with %s" % (name, user, password), entered == ok)
        with Session(copy.port, "db1", b"reader", b"Reader-2") as s:
            try:
                s.set([(b"a", b"b")])
                check("%s: a reader stays a reader" % name, False)
            except grpc.RpcError as e:
                check("%s: a reader stays a reader" % name, "permission denied" in e.details(), e)
        with Session(copy.port) as s, Session(source.port) as t:
            here = {d.name: d for d in s.call("DatabaseListV2", pb.DatabaseListRequestV2()).databases}
            there = {d.name: d for d in t.call("DatabaseListV2", pb.DatabaseListRequestV2()).databases}
            check("%s: databases" % name, sorted(here) == sorted(there), (sorted(here), sorted(there)))
            for d in ("db1", "db2"):
                check("%s: settings of %s" % (name, d), here[d].settings == there[d].settings, (here[d], there[d]))
            check("%s: a limit that was set" % name, here["db2"].settings.maxKeyLen.value == 512)
        client = ImmudbClient("127.0.0.1:%d" % copy.port)
        client.login("immudb", "immudb")
        for database in (b"defaultdb", b"db1"):
            client.useDatabase(database)
            got = client.verifiedGet(b"key7")
            there = Session(source.port, database.decode())
            check("%s: proven read in %s" % (name, database), got is not None and got.verified and got.value == there.call("Get", pb.KeyRequest(key=b"key7")).value)
            there.close()
            check("%s: deleted key in %s" % (name, database), client.get(b"key1") is None)
        client.shutdown()
    with Session(source.port, "db1") as s:
        before = s.state()[0]
        many(s, rng, 100)
        more = s.state()[0] - before
    run = Import(o.admin, source.port, folder, "--quiet").run()
    check("%s: only what is new" % name, run.code == 0 and run.added("db1") == more and run.added("defaultdb") == 0, run)
    same(name + ", again", source.port, o.server, folder, ["systemdb", "db1"])


def interrupted(name, source, o, rng, work):
    """kill -9 and SIGINT at any moment; the source killed meanwhile; the source growing meanwhile."""
    folder, kills = os.path.join(work, "killed"), 0
    for i in range(40):
        run = Import(o.admin, source.port, folder).start()
        time.sleep(rng.uniform(0.005, 0.25))
        run.proc.send_signal(signal.SIGKILL if i % 3 else signal.SIGINT)
        run.end()
        if run.code in (-9, -2, 1):
            kills += 1
        if run.code not in (-9, -2, 0, 1) or (run.code == 1 and "stopped" not in run.err):
            check("%s: run %d that was killed" % (name, i), False, run)
        if kills >= 8 and run.code == 0:
            break
    check("%s: killed %d times" % (name, kills), kills >= 3, kills)
    run = Import(o.admin, source.port, folder).run()
    check("%s: the rest" % name, run.code == 0, run)
    same(name + ", after kills", source.port, o.server, folder)

    folder = os.path.join(work, "growing")
    stop, wrote = threading.Event(), [0]

    def write():
        with Session(source.port, "db2") as s:
            while not stop.is_set():
                s.set([(b"grow%d" % wrote[0], b"x")])
                wrote[0] += 1

    t = threading.Thread(target=write)
    t.start()
    run = Import(o.admin, source.port, folder).run()
    stop.set()
    t.join()
    check("%s: source that grows" % name, run.code == 0 and wrote[0] > 0, run)
    check("%s: growing, the rest" % name, Import(o.admin, source.port, folder).run().code == 0)
    same(name + ", growing", source.port, o.server, folder, ["db2"])

    folder = os.path.join(work, "restart")
    run = Import(o.admin, source.port, folder).start()
    run.proc.stderr.readline()  # it has reached the source
    time.sleep(rng.uniform(0, 0.2))
    source.kill()
    time.sleep(0.3)
    source.start()
    run.end()
    check("%s: source killed and started again" % name, run.code == 0, run)
    same(name + ", source restarted", source.port, o.server, folder)


def refused(name, source, o, work):
    """What must end with a clear error, and leave everything as it was."""
    folder = os.path.join(work, "foreign")
    with Server(o.server, keep=folder) as s, Session(s.port) as c:
        c.set([(b"own", b"entry")])
    run = Import(o.admin, source.port, folder).run()
    check("%s: folder with users of its own" % name, run.code == 3 and "users and databases of its own" in run.err, run)
    with Server(o.server, keep=folder) as s, Session(s.port) as c:
        check("%s: it is left alone" % name, c.call("Get", pb.KeyRequest(key=b"own")).value == b"entry" and c.state()[0] == 1)

    folder = os.path.join(work, "diverged")
    check("%s: before diverging" % name, Import(o.admin, source.port, folder).run().code == 0)
    with Server(o.server, keep=folder) as s, Session(s.port, "db1") as c:
        c.set([(b"only", b"here")])
        diverged = c.state()[0]
    with Session(source.port, "db1") as c, Session(source.port, "db2") as d:
        c.set([(b"only", b"there")])
        c.set([(b"only", b"there too")])
        d.set([(b"other", b"database")])
    run = Import(o.admin, source.port, folder).run()
    check("%s: diverged database" % name, run.code == 3 and "'db1'" in run.err and "tx %d" % diverged in run.err, run)
    check("%s: the others are copied" % name, run.added("db2") == 1, run)
    with Server(o.server, keep=folder) as s, Session(s.port, "db1") as c:
        check("%s: diverged one is left alone" % name, c.state()[0] == diverged and c.call("Get", pb.KeyRequest(key=b"only")).value == b"here")

    other = os.path.join(work, "other")
    for what, run, code, text in (
            ("wrong password", Import(o.admin, source.port, other, password="nonsense"), 1, "invalid user name or password"),
            ("not the administrator", Import(o.admin, source.port, other, "--username", "writer", password="Writer-1"), 1, ""),
            ("unreachable", Import(o.admin, free_port(), other), 4, "refused"),
            ("unknown database", Import(o.admin, source.port, other, "--databases", "db1,nowhere"), 1, "nowhere"),
            ("no password", Import(o.admin, source.port, other, password=None), 1, "no password"),
            ("bad enc:", Import(o.admin, source.port, other, password="enc:###"), 1, "base64"),
            ("bad port", Import(o.admin, 99999, other), 1, "port"),
            ("unknown flag", Import(o.admin, source.port, other, "--nonsense"), 1, "unknown flag"),
            ("no such host", Import(o.admin, 1, other, host="host.invalid"), 4, "host.invalid"),
            ("folder cannot be made", Import(o.admin, source.port, "/proc/nowhere"), 1, "/proc/nowhere")):
        run.run()
        check("%s: %s" % (name, what), run.code == code and text in run.err, run)


def selected(name, source, o, work):
    """Unloaded databases, a choice of databases, ways to give the password."""
    folder = os.path.join(work, "selected")
    with Session(source.port) as s:
        s.call("UnloadDatabase", pb.UnloadDatabaseRequest(database="db2"))
        run = Import(o.admin, source.port, folder).run()
        check("%s: unloaded database" % name, run.code == 2 and "'db2' is skipped" in run.err and "db2: skipped" in run.out, run)
        s.call("LoadDatabase", pb.LoadDatabaseRequest(database="db2"))
    run = Import(o.admin, source.port, folder, password="enc:" + base64.b64encode(b"immudb").decode()).run()
    check("%s: loaded again" % name, run.code == 0 and run.added("db2") > 10, run)
    same(name + ", loaded again", source.port, o.server, folder, ["systemdb", "db2"])
    folder, secret = os.path.join(work, "choice"), os.path.join(work, "secret")
    with open(secret, "w") as f:
        f.write("immudb\n")
    run = Import(o.admin, source.port, folder, "--password-file", secret, "--databases", "db1", password=None).run()
    check("%s: one database" % name, run.code == 0 and run.added("db1") > 10 and run.added("systemdb") > 0 and run.added("db2") is None, run)
    with Server(o.server, keep=folder) as copy, Session(copy.port) as s:
        names = [d.name for d in s.call("DatabaseListV2", pb.DatabaseListRequestV2()).databases]
        check("%s: databases without data do not appear" % name, sorted(names) == ["db1", "defaultdb"], names)


def lying(name, source, o, work):
    """A source that sends wrong data is caught, with the database and transaction; what was right before it stays and can be gone on from."""
    with Session(source.port) as s:
        last = s.state()[0]
    at = last - 40
    cases = (("a value", altering(at, lambda c: c[:-4] + bytes([c[-4] ^ 1]) + c[-3:]), "tx %d" % at),
             ("prevAlh", altering(at, flip(PREV_ALH_AT)), "tx %d" % at),
             ("the time", altering(at, flip(TS_AT + 7)), "tx %d" % (at + 1)),
             ("the entries' hash", altering(at, flip(EH_AT)), "tx %d" % at),
             ("the number", altering(at, flip(ID_AT + 7)), "tx %d" % at),
             ("blRoot of the last one", altering(last, flip(BL_ROOT_AT)), "blRoot"),
             ("the time of the last one", altering(last, flip(TS_AT + 7)), "does not lead to the hash"),
             ("an absurd length", altering(at, lambda c: struct.pack(">Q", 1 << 62) + c[8:]), "tx %d" % at),
             ("a length beyond everything", altering(at, lambda c: struct.pack(">Q", (1 << 64) - 1) + c[8:]), "tx %d" % at),
             ("a part cut short", altering(at, lambda c: struct.pack(">Q", 50) + c[8:58]), "tx %d" % at),
             ("an empty part", altering(at, lambda c: struct.pack(">Q", 0)), "tx %d" % at),
             ("garbage", lambda m, x: b"\xff\xff\xff" if first_chunk(m, x)[1] == at else x, "tx %d" % at))
    for i, (what, alter, text) in enumerate(cases):
        folder = os.path.join(work, "lie%d" % i)
        with Proxy(source.port, alter) as proxy:
            run = Import(o.admin, proxy.port, folder, "--databases", "defaultdb").run()
        check("%s: %s altered" % (name, what), run.code == (1 if what == "an absurd length" else 3) and text in run.err and "'defaultdb'" in run.err, run)
        run = Import(o.admin, source.port, folder, "--databases", "defaultdb").run()
        # An altered last transaction was committed before the state gave it away: then the folder stays refused.
        stays = "time" in what
        check("%s: %s, then the truth" % (name, what), run.code == (3 if stays else 0), run)
        if not stays and i < 3:
            same("%s, %s" % (name, what), source.port, o.server, folder, ["defaultdb"])

    def wrong_state(method, message):
        if method != "CurrentState":
            return message
        state = pb.ImmutableState.FromString(message)
        if state.db == "defaultdb":
            state.txHash = bytes(32)
        return state.SerializeToString()

    with Proxy(source.port, wrong_state) as proxy:
        run = Import(o.admin, proxy.port, os.path.join(work, "state"), "--databases", "defaultdb").run()
        check("%s: state with another hash" % name, run.code == 3 and "does not lead to the hash" in run.err, run)
    def ahead(method, message):
        if method != "CurrentState":
            return message
        state = pb.ImmutableState.FromString(message)
        if state.db == "defaultdb":
            state.txId += 1
        return state.SerializeToString()

    folder = os.path.join(work, "ahead")
    with Proxy(source.port, ahead) as proxy:
        run = Import(o.admin, proxy.port, folder, "--databases", "defaultdb").run()
        check("%s: state ahead of the transactions" % name, run.code == 3 and "tx %d: the source has no such transaction" % (last + 1) in run.err, run)
        check("%s: state ahead, not called complete" % name, re.search("^defaultdb: .*, FAILED$", run.out, re.M) and "skipped" not in run.out + run.err, run)
    run = Import(o.admin, source.port, folder, "--databases", "defaultdb").run()
    check("%s: state ahead, then the truth" % name, run.code == 0, run)
    for i, evil_name in enumerate(("../../etc", "..", "./logdir", "a/b", "", "Upper", "a" * 129)):
        evil = pb.DatabaseListResponseV2(databases=[pb.DatabaseInfo(name=evil_name, loaded=True)]).SerializeToString()
        folder = os.path.join(work, "evil%d" % i)
        with Proxy(source.port, lambda m, x, evil=evil: evil if m == "DatabaseListV2" else x) as proxy:
            run = Import(o.admin, proxy.port, folder).run()
        made = sorted(x for x in os.listdir(folder) if os.path.isdir(os.path.join(folder, x)))
        check("%s: database name '%s'" % (name, evil_name[:20]), run.code == 3 and "whose name is none" in run.err and made == ["defaultdb", "systemdb"], (run, made))
    for what, bad in (("session", {"OpenSession": b"\x0a\x03a\nb"}), ("list", {"DatabaseListV2": b"\x0a\xff"}), ("users", {"ListUsers": b"\xff"}), ("state", {"CurrentState": b"\x1a\x01a"})):
        with Proxy(source.port, lambda m, x, bad=bad: bad.get(m, x)) as proxy:
            run = Import(o.admin, proxy.port, os.path.join(work, "bad-" + what[:4])).run()
            check("%s: %s that is none" % (name, what), run.code == 3, run)


def breaking(name, source, o, work):
    """Old servers, and connections that break again and again."""
    with Proxy(source.port, lambda m, x: x, refuse=("streamExportTx", "DatabaseListV2", "ServerInfo")) as proxy:
        folder = os.path.join(work, "old")
        run = Import(o.admin, proxy.port, folder).run()
        check("%s: without the newer calls" % name, run.code == 0, run)
        same(name + ", without the newer calls", source.port, o.server, folder)
    left = [6]

    def breaks(method, message):
        chunk, tx_id = first_chunk(method, message)
        if tx_id % 97 == 96 and left[0] > 0:
            left[0] -= 1
            raise Broken
        return message

    with Proxy(source.port, breaks) as proxy:
        folder = os.path.join(work, "breaking")
        run = Import(o.admin, proxy.port, folder).run()
        check("%s: calls that break" % name, run.code == 0 and left[0] == 0 and "trying again" in run.err, run)
        same(name + ", calls that break", source.port, o.server, folder)

    def never(method, message):
        if first_chunk(method, message)[1] == 30:
            raise Broken
        return message

    with Proxy(source.port, never) as proxy:
        run = Import(o.admin, proxy.port, os.path.join(work, "never"), "--retries", "2", "--databases", "defaultdb").run()
        check("%s: gives up in the end" % name, run.code == 4 and run.err.count("trying again") >= 2, run)
    hang = threading.Event()

    def silent(method, message):
        if first_chunk(method, message)[1] == 30:
            hang.wait(20)
        return message

    with Proxy(source.port, silent) as proxy:
        begun = time.time()
        run = Import(o.admin, proxy.port, os.path.join(work, "silent"), "--retries", "0", "--timeout", "2s", "--databases", "defaultdb").run()
        check("%s: a silent source" % name, run.code == 4 and "nothing arrived" in run.err and time.time() - begun < 15, run)
        hang.set()


def signed(o, work, rng):
    """States signed with the right key, another key, no key."""
    key, public, other = (os.path.join(work, n) for n in ("key.pem", "public.pem", "other.pem"))
    for k, p in ((key, public), (os.path.join(work, "key2.pem"), other)):
        subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", k], check=True, stderr=subprocess.DEVNULL)
        subprocess.run(["openssl", "ec", "-in", k, "-pubout", "-out", p], check=True, stderr=subprocess.DEVNULL)
        os.chmod(k, 0o600)
    with Server(o.server, ["--signingKey", key]) as source:
        with Session(source.port) as s:
            many(s, rng, 50)
        run = Import(o.admin, source.port, os.path.join(work, "s1"), "--server-signing-pub-key", public).run()
        check("signed states", run.code == 0, run)
        run = Import(o.admin, source.port, os.path.join(work, "s2"), "--server-signing-pub-key", other).run()
        check("signed with another key", run.code == 3 and "signature" in run.err, run)
    with Server(o.server) as source:
        run = Import(o.admin, source.port, os.path.join(work, "s3"), "--server-signing-pub-key", public).run()
        check("not signed", run.code == 3 and "does not sign" in run.err, run)


def encrypted(o, work):
    """TLS: a certificate that is trusted, one that is not, a wrong name, a client certificate."""
    cert, key = os.path.join(work, "cert.pem"), os.path.join(work, "tls.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, stderr=subprocess.DEVNULL)
    os.chmod(key, 0o600)
    source = Server(o.server, ["--certificate", cert, "--pkey", key])
    with open(source.log_path, "ab") as log:
        source.proc = subprocess.Popen([source.binary, "--dir", source.dir, "--address", "127.0.0.1", "--port", str(source.port), "--metrics-server=false", "--web-server=false",
                                        "--pgsql-server=false"] + source.flags, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        folder = os.path.join(work, "tls")
        for _ in range(100):
            run = Import(o.admin, source.port, folder, "--tls", "--clientcas", cert).run()
            if run.code != 4:
                break
            time.sleep(0.1)
        check("TLS", run.code == 0, run)
        run = Import(o.admin, source.port, folder, "--mtls", "--clientcas", cert, "--certificate", cert, "--pkey", key).run()
        check("TLS with a client certificate", run.code == 0, run)
        run = Import(o.admin, source.port, folder, "--tls").run()
        check("TLS, not trusted", run.code == 1 and "certificate" in run.err, run)
        run = Import(o.admin, source.port, folder, "--tls", "--clientcas", cert, "--servername", "elsewhere").run()
        check("TLS, another name", run.code == 1 and "elsewhere" in run.err, run)
        run = Import(o.admin, source.port, folder, "--tls", "--clientcas", os.path.join(work, "missing.pem")).run()
        check("TLS, no such file", run.code == 1 and "missing.pem" in run.err, run)
        run = Import(o.admin, source.port, folder, "--retries", "0").run()
        check("plain against TLS", run.code in (1, 4), run)
    finally:
        source.stop()
        source.work.cleanup()
    with Server(o.server) as source:
        run = Import(o.admin, source.port, folder, "--tls", "--retries", "0").run()
        check("TLS against plain", run.code in (1, 4), run)


def suite(name, binary, o, rng, parts):
    with tempfile.TemporaryDirectory(prefix="immudb-import-") as work, Server(binary) as source:
        fill(source.port, rng, o.txs)
        for what, run in parts:
            begun = time.time()
            try:
                run(name, source, o, rng, os.path.join(work, what)) if what in ("plain", "interrupted") else run(name, source, o, os.path.join(work, what))
            except Exception as e:
                check("%s: %s" % (name, what), False, repr(e))
                import traceback
                traceback.print_exc()
            print("%s, %s: %.1f s" % (name, what, time.time() - begun), flush=True)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--server", required=True)
    ap.add_argument("--admin")
    ap.add_argument("--peer")
    ap.add_argument("--txs", type=int, default=8000)
    ap.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    o = ap.parse_args()
    o.server = os.path.abspath(o.server)
    o.admin = os.path.abspath(o.admin or os.path.join(os.path.dirname(o.server), "immuadmin"))
    print("seed %d" % o.seed, flush=True)
    rng = random.Random(o.seed)
    parts = [("plain", plain), ("selected", selected), ("lying", lying), ("breaking", breaking), ("interrupted", interrupted), ("refused", refused)]
    suite("ours", o.server, o, rng, parts)
    for what, run in (("signed", lambda w: signed(o, w, rng)), ("encrypted", lambda w: encrypted(o, w))):
        with tempfile.TemporaryDirectory(prefix="immudb-import-") as work:
            try:
                run(work)
            except Exception as e:
                check(what, False, repr(e))
    if o.peer:
        suite("peer", os.path.abspath(o.peer), o, rng, parts)
    print("%d passed, %d failed" % (passed, len(failed)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
