#!/usr/bin/env python3
"""What the Java SDK does, call by call, by plain gRPC: its release for 1.x can not be had everywhere, its calls can.

    java_flow.py --server build/cmd/immudb

Session flow (OpenSession, KeepAlive at once and in the background, CloseSession), the identity header, users, databases, plain and verified writes and
reads of values, references and sorted sets, history, scans, transactions, streams, and the transactionid header that this client goes on sending for
ever after its first transaction. Every verified answer is checked as the SDK does (inclusion, dual proof, signature, the state only moves on), with
the executable reference of the verification rules; a state is kept per database. A changed answer must not pass: each kind of proof is broken once."""
import argparse
import sys
import threading
import time

from client import SIGNING_KEY, Api, State, parts, schema_of
from fuzz_rpc import sanitizer_environment
from server import Server


class Sdk:
    """One ImmuClient: a session, a timer that keeps it alive, a remembered state per database."""

    def __init__(self, schema, port):
        self.api, self.states, self.alive, self.kept = Api(schema, port), {}, threading.Event(), []

    def open(self, database, user, password):
        got = self.api("OpenSession", databaseName=database, username=user.encode(), password=password.encode())
        if not got.ok:
            return got
        self.api.session, self.database = got.message.sessionID, database
        assert len(self.api.session) == 44 and got.message.serverUUID == got.headers.get("immudb-uuid"), got
        self.alive.clear()
        self.keeper = threading.Thread(target=self.keep, daemon=True)
        self.keeper.start()
        return got

    def keep(self):
        """At once, then every so often (the SDK: a minute)."""
        while True:
            self.kept.append(self.api("KeepAlive").code)
            if self.alive.wait(0.2):
                return

    def close(self):
        self.alive.set()
        self.keeper.join(10)
        return self.api("CloseSession")

    def state(self):
        """Asked for when a verified call comes first."""
        if self.database not in self.states:
            now = self.api.must("CurrentState")
            assert now.db == self.database
            self.states[self.database] = State(self.database, now.txId, now.txHash if now.txId else bytes(32))
        return self.states[self.database]

    def verified(self, method, spoil=None, **fields):
        """A verified call and its check; spoil changes the answer before it is looked at, which must be found out."""
        state = self.state()
        request = self.api.message(method, dict(fields, proveSinceTx=state.tx_id))
        got = self.api(method, raw=request)
        if not got.ok:
            return got
        if spoil is not None:
            changed = type(got.message)()
            changed.CopyFrom(got.message)
            spoil(changed)
            before = (state.tx_id, state.alh)
            try:
                state.check(method, request, changed)
            except Exception:
                state.tx_id, state.alh = before
            else:
                raise AssertionError("%s: a changed answer was believed" % method)
        state.check(method, request, got.message)
        return got


class Checks:
    def __init__(self):
        self.passed = self.failed = 0

    def run(self, name, fn, *args):
        try:
            fn(*args)
            self.passed += 1
            print("ok   " + name, flush=True)
        except Exception as e:
            self.failed += 1
            print("FAIL %s: %s" % (name, repr(e)[:1500]), flush=True)


def same(got, wanted):
    assert got == wanted, "%r, not %r" % (got, wanted)


def refused(got, code, text):
    assert (got.code, got.text) == (code, text) or (got.code == code and text in got.text), got


def sessions(sdk, schema, port):
    same(set(sdk.kept) or {"OK"}, {"OK"})
    stranger = Sdk(schema, port)
    refused(stranger.open("defaultdb", "immudb", "wrong"), "UNKNOWN", "invalid user name or password")
    refused(stranger.open("nosuchdb", "immudb", "immudb"), "UNKNOWN", "database does not exist")
    same(stranger.open("defaultdb", "immudb", "immudb").ok, True)
    time.sleep(0.5)
    same(stranger.close().ok, True)
    assert len(stranger.kept) >= 2 and set(stranger.kept) == {"OK"}, stranger.kept
    refused(stranger.api("KeepAlive"), "PERMISSION_DENIED", "session not found")
    refused(stranger.api("Get", key=b"x"), "PERMISSION_DENIED", "session not found")


def health(sdk):
    info = sdk.api.must("ServerInfo")
    assert len(info.version.split(".")) == 3 and all(x.isdigit() for x in info.version.split(".")), info.version


def plain_values(sdk):
    api = sdk.api
    one = api.must("Set", KVs=[{"key": b"j1", "value": b"v1"}])
    same((one.nentries, one.version), (1, 1))
    many = api.must("Set", KVs=[{"key": b"ja%d" % i, "value": b"w%d" % i} for i in range(5)])
    same((many.nentries, many.id), (5, one.id + 1))
    same(api.must("Get", key=b"j1").value, b"v1")
    api.must("Set", KVs=[{"key": b"j1", "value": b"v2"}])
    same(api.must("Get", key=b"j1", atTx=one.id).value, b"v1")
    same(api.must("Get", key=b"j1", atRevision=1).value, b"v1")
    same(api.must("Get", key=b"j1", sinceTx=many.id).value, b"v2")
    same([e.value for e in api.must("GetAll", keys=[b"ja3", b"nope", b"ja1"]).entries], [b"w3", b"w1"])
    refused(api("Get", key=b"nope"), "UNKNOWN", "key not found")
    api.must("Delete", keys=[b"ja4"])
    refused(api("Get", key=b"ja4"), "UNKNOWN", "key not found")
    same([e.value for e in api.must("History", key=b"j1").entries], [b"v1", b"v2"])
    same([e.value for e in api.must("History", key=b"j1", desc=True, limit=1).entries], [b"v2"])
    same([e.key for e in api.must("Scan", prefix=b"ja").entries], [b"ja0", b"ja1", b"ja2", b"ja3"])
    same([e.key for e in api.must("Scan", prefix=b"ja", desc=True, limit=2).entries], [b"ja3", b"ja2"])


def verified_values(sdk):
    def value(m):
        m.entry.value = b"another"

    def hash_of_tx(m):
        m.tx.header.eH = bytes(32)
        m.tx.entries[0].hValue = bytes(32)

    for i in range(6):
        got = sdk.verified("VerifiableSet", setRequest={"KVs": [{"key": b"jv%d" % i, "value": b"x%d" % i}]}, spoil=hash_of_tx if i == 3 else None)
        same(got.message.tx.header.nentries, 1)
    for i in range(6):
        got = sdk.verified("VerifiableGet", keyRequest={"key": b"jv%d" % i}, spoil=value if i == 2 else None)
        same(got.message.entry.value, b"x%d" % i)
    tx = sdk.api.must("Get", key=b"jv1").tx
    for fields in ({"atTx": tx}, {"sinceTx": tx}, {"atRevision": 1}):
        same(sdk.verified("VerifiableGet", keyRequest=dict(fields, key=b"jv1")).message.entry.value, b"x1")
    refused(sdk.verified("VerifiableGet", keyRequest={"key": b"nope"}), "UNKNOWN", "key not found")


def spoiled_proofs(sdk):
    """Each part of a dual proof is looked at."""
    sdk.api.must("Set", KVs=[{"key": b"between", "value": b"1"}])
    sdk.api.must("Set", KVs=[{"key": b"between", "value": b"2"}])

    def consistency(m):
        assert m.verifiableTx.dualProof.consistencyProof, "no term to change"
        m.verifiableTx.dualProof.consistencyProof[0] = bytes(32)

    def source(m):
        m.verifiableTx.dualProof.sourceTxHeader.ts += 1

    def inclusion(m):
        m.inclusionProof.leaf += 1

    def signature(m):
        m.verifiableTx.signature.signature = m.verifiableTx.signature.signature[:-1] + bytes([m.verifiableTx.signature.signature[-1] ^ 1])

    for spoil in (consistency, source, inclusion, signature):
        sdk.verified("VerifiableGet", keyRequest={"key": b"between"}, spoil=spoil)
        sdk.api.must("Set", KVs=[{"key": b"between", "value": b"3"}])


def references(sdk):
    api = sdk.api
    api.must("SetReference", key=b"jr", referencedKey=b"j1")
    got = api.must("Get", key=b"jr")
    same((got.key, got.value, got.referencedBy.key), (b"j1", b"v2", b"jr"))
    sdk.verified("VerifiableSetReference", referenceRequest={"key": b"jr2", "referencedKey": b"j1"})
    same(sdk.verified("VerifiableGet", keyRequest={"key": b"jr2"}).message.entry.value, b"v2")
    sdk.verified("VerifiableSetReference", referenceRequest={"key": b"jr3", "referencedKey": b"j1", "atTx": api.must("Get", key=b"j1", atRevision=1).tx, "boundRef": True})
    same(sdk.verified("VerifiableGet", keyRequest={"key": b"jr3"}).message.entry.value, b"v1")


def sorted_sets(sdk):
    api = sdk.api
    for i, score in enumerate((3.0, 1.0, 2.0)):
        api.must("ZAdd", set=b"js", score=score, key=b"ja%d" % i)
    sdk.verified("VerifiableZAdd", zAddRequest={"set": b"js", "score": 0.5, "key": b"ja3"})
    got = api.must("ZScan", set=b"js", limit=10).entries
    same([(e.score, e.key, e.entry.value) for e in got], [(0.5, b"ja3", b"w3"), (1.0, b"ja1", b"w1"), (2.0, b"ja2", b"w2"), (3.0, b"ja0", b"w0")])
    same([e.score for e in api.must("ZScan", set=b"js", desc=True, limit=2).entries], [3.0, 2.0])


def transactions(sdk):
    api = sdk.api
    tx = api.must("Set", KVs=[{"key": b"t1", "value": b"1"}, {"key": b"t2", "value": b"2"}])
    got = api.must("TxById", tx=tx.id)
    same([e.key for e in got.entries], [b"\0t1", b"\0t2"])
    same(got.header.eH, tx.eH)
    request = api.message("VerifiableTxById", {"tx": tx.id, "proveSinceTx": sdk.state().tx_id})
    answer = api("VerifiableTxById", raw=request).message
    sdk.state().check("VerifiableTxById", request, answer)
    older = api.message("VerifiableTxById", {"tx": 2, "proveSinceTx": sdk.state().tx_id})
    sdk.state().check("VerifiableTxById", older, api("VerifiableTxById", raw=older).message)
    same([t.header.id for t in api.must("TxScan", initialTx=1, limit=3).txs], [1, 2, 3])
    same([t.header.id for t in api.must("TxScan", initialTx=tx.id, limit=2, desc=True).txs], [tx.id, tx.id - 1])
    refused(api("TxById", tx=1000000), "UNKNOWN", "tx not found")
    now = api.must("CurrentState")
    assert now.txId >= sdk.state().tx_id


def streams(sdk):
    api = sdk.api
    large = bytes(range(256)) * 600
    got = api("streamSet", chunks=[parts(b"jbig", large)[i:i + 65536] for i in range(0, len(large) + 20, 65536)])
    same((got.ok, got.message.nentries if got.ok else 0), (True, 1))
    same(b"".join(m.content for m in api("streamGet", key=b"jbig").messages), parts(b"jbig", large))
    same(b"".join(m.content for m in api("streamScan", prefix=b"ja").messages), parts(b"ja0", b"w0", b"ja1", b"w1", b"ja2", b"w2", b"ja3", b"w3"))
    same(b"".join(m.content for m in api("streamHistory", key=b"j1").messages), parts(b"j1", b"v1", b"j1", b"v2"))
    assert b"ja1" in b"".join(m.content for m in api("streamZScan", set=b"js").messages)


def old_transaction_id(sdk):
    """This client sends the id of its last transaction for ever: on other calls it means nothing."""
    stale = [("transactionid", "d6nf0ahmvcpl5k8q2s00")]
    same(sdk.api("Get", key=b"j1", metadata=stale).ok, True)
    same(sdk.api("Set", KVs=[{"key": b"j9", "value": b"1"}], metadata=stale).ok, True)
    same(sdk.api("CurrentState", metadata=stale + [("authorization", "Bearer ")]).ok, True)


def databases(sdk, schema, port):
    api = sdk.api
    same(api.must("CreateDatabaseV2", name="javadb", ifNotExists=True).alreadyExisted, False)
    same(api.must("CreateDatabaseV2", name="javadb", ifNotExists=True).alreadyExisted, True)
    refused(api("CreateDatabaseV2", name="javadb"), "UNKNOWN", "database already exists")
    assert {"defaultdb", "javadb"} <= {d.name for d in api.must("DatabaseListV2").databases}
    other = Sdk(schema, port)
    same(other.open("javadb", "immudb", "immudb").ok, True)
    same(other.state().tx_id, 0)  # an empty database: no dual proof to be checked at first
    for i in range(3):
        other.verified("VerifiableSet", setRequest={"KVs": [{"key": b"k", "value": b"%d" % i}]})
    same(other.verified("VerifiableGet", keyRequest={"key": b"k"}).message.entry.value, b"2")
    same(other.close().ok, True)
    api.must("UnloadDatabase", database="javadb")
    api.must("LoadDatabase", database="javadb")
    same(other.open("javadb", "immudb", "immudb").ok, True)
    same(other.verified("VerifiableGet", keyRequest={"key": b"k"}).message.entry.value, b"2")  # from the state of before
    other.close()
    api.must("UnloadDatabase", database="javadb")
    api.must("DeleteDatabase", database="javadb")


def users(sdk, schema, port):
    api = sdk.api
    api.must("CreateUser", user=b"javauser", password=b"Java-1-password", permission=1, database="defaultdb")
    refused(api("CreateUser", user=b"javauser", password=b"Java-1-password", permission=1, database="defaultdb"), "UNKNOWN", "user already exists")
    assert b"javauser" in [u.user for u in api.must("ListUsers").users]
    reader = Sdk(schema, port)
    same(reader.open("defaultdb", "javauser", "Java-1-password").ok, True)
    same(reader.api.must("Get", key=b"j1").value, b"v2")
    refused(reader.api("Set", KVs=[{"key": b"x", "value": b"y"}]), "INTERNAL", "permission denied")
    api.must("ChangePermission", action=0, username="javauser", database="defaultdb", permission=2)
    refused(reader.api("Get", key=b"j1"), "PERMISSION_DENIED", "session not found")  # it was closed by that
    reader.alive.set()
    same(reader.open("defaultdb", "javauser", "Java-1-password").ok, True)
    same(reader.api("Set", KVs=[{"key": b"x", "value": b"y"}]).ok, True)
    reader.verified("VerifiableGet", keyRequest={"key": b"x"})
    api.must("ChangePassword", user=b"javauser", oldPassword=b"Java-1-password", newPassword=b"Java-2-password")
    refused(reader.open("defaultdb", "javauser", "Java-1-password"), "UNKNOWN", "invalid user name or password")
    api.must("SetActiveUser", username="javauser", active=False)
    refused(reader.open("defaultdb", "javauser", "Java-2-password"), "UNKNOWN", "user is not active")
    reader.alive.set()


def maintenance(sdk):
    sdk.api.must("FlushIndex", cleanupPercentage=0.0, synced=True)
    got = sdk.api("CompactIndex")
    assert got.ok or "compaction threshold not yet reached" in got.text, got


def after_a_restart(sdk, server, schema):
    """The state of a client outlives the server's process."""
    states = sdk.states
    sdk.close()
    same(server.stop(), 0)
    server.start(60)
    again = Sdk(schema, server.port)
    same(again.open("defaultdb", "immudb", "immudb").ok, True)
    again.states = states
    for i in range(6):
        same(again.verified("VerifiableGet", keyRequest={"key": b"jv%d" % i}).message.entry.value, b"x%d" % i)
    again.verified("VerifiableSet", setRequest={"KVs": [{"key": b"last", "value": b"1"}]})
    same(again.close().ok, True)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--server", required=True)
    a = ap.parse_args()
    sanitizer_environment()
    checks = Checks()
    with Server(a.server, ["--signingKey", SIGNING_KEY]) as server:
        schema = schema_of()
        sdk = Sdk(schema, server.port)
        first = sdk.open("defaultdb", "immudb", "immudb")
        checks.run("open session", lambda: same(first.ok, True))
        for name, fn, args in (
                ("sessions and keep-alive", sessions, (sdk, schema, server.port)), ("health check", health, (sdk,)), ("values", plain_values, (sdk,)),
                ("verified values", verified_values, (sdk,)), ("changed proofs are found out", spoiled_proofs, (sdk,)), ("references", references, (sdk,)),
                ("sorted sets", sorted_sets, (sdk,)), ("transactions", transactions, (sdk,)), ("streams", streams, (sdk,)), ("an old transaction id", old_transaction_id, (sdk,)),
                ("databases", databases, (sdk, schema, server.port)), ("users", users, (sdk, schema, server.port)), ("maintenance", maintenance, (sdk,)),
                ("after a restart", after_a_restart, (sdk, server, schema))):
            checks.run(name, fn, *args)
        checks.run("keep-alives", lambda: same((set(sdk.kept), len(sdk.kept) > 3), ({"OK"}, True)))
        checks.run("the end of the server", lambda: same(server.stop(), 0))
    print("%d passed, %d failed" % (checks.passed, checks.failed))
    return 1 if checks.failed or not checks.passed else 0


if __name__ == "__main__":
    sys.exit(main())
