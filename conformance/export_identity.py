#!/usr/bin/env python3
"""Exported transactions are the same bytes wherever they have been: exported, imported into a replica, exported there again.

    export_identity.py --server build/cmd/immudb [--peer path/of/the/original/immudb] [--record FOLDER]

Workloads of every kind of entry are written into databases of different settings; all transactions are exported, imported elsewhere with replicateTx and
exported there: both streams must be equal byte for byte, and so must the states. The same with values truncated away (flag and hashes instead of values),
with integrity left out, through streamExportTx, and after a restart. Without --peer between two of our servers, and with the streams recorded from the
original (golden/export/*.txt: one base64 line for each transaction). With --peer in both directions between ours and the original; the original takes
transactions without values but cannot export them again, so there only the state is compared. --record writes the original's streams."""
import argparse
import base64
import glob
import hashlib
import os
import struct
import sys
import tempfile
import time

from databases import Caller, Failed, Report, rr
from replay import descriptor
from server import Server

HERE = os.path.dirname(os.path.abspath(__file__))
CHUNK = 65536
PREFETCH = {"prefetchTxBufferSize": {"value": 100}, "replicationCommitConcurrency": {"value": 10}}
REPLICA = {"replicationSettings": dict(PREFETCH, replica={"value": True})}
PRIMARY = {"replicationSettings": {"replica": {"value": False}}}


# ------------------------------------------------------------------ exports

def parts(chunks):
    """The parts of a stream of chunks: a length of 8 bytes, then so many bytes."""
    data, out = b"".join(c.content for c in chunks), []
    while data:
        length = struct.unpack(">Q", data[:8])[0]
        if length > len(data) - 8:
            raise Failed("BAD", "a part of %d bytes is cut short" % length)
        out.append(data[8:8 + length])
        data = data[8 + length:]
    return out


class Database:
    """A session on one database of one server."""

    def __init__(self, schema, server, name, settings=None):
        self.caller, self.name, self.server = Caller(schema, server.port), name, server
        self.session = self.caller.login()
        if settings is not None:
            self.caller("CreateDatabaseV2", self.session, name=name, settings=settings)
        self.caller("UseDatabase", self.session, databaseName=name)

    def __call__(self, method, **fields):
        return self.caller(method, self.session, **fields)

    def state(self):
        s = self("CurrentState")
        return s.txId, s.txHash

    def export(self, tx, **fields):
        found = parts(list(self.caller("exportTx", self.session, tx=tx, **fields)))
        if len(found) != 1:
            raise Failed("BAD", "%d parts for one transaction" % len(found))
        return found[0]

    def export_all(self, **fields):
        return [self.export(tx, **fields) for tx in range(1, self.state()[0] + 1)]

    def stream_all(self):
        """The same through one streamExportTx, whose end is an error by design."""
        last = self.state()[0]
        requests = [self.caller.message("streamExportTx", tx=tx) for tx in range(1, last + 1)]
        stream, chunks, data, got = self.caller.raw("streamExportTx", iter(requests), self.session), [], 0, 0
        for chunk in stream:
            chunks.append(chunk)
            data = len(chunk.content) - 8 - struct.unpack(">Q", chunk.content[:8])[0] if data == 0 else data + len(chunk.content)
            if data == 0:
                got += 1
                if got == last:
                    stream.cancel()
                    break
        return parts(chunks)

    def replicate(self, blob, skip_integrity=False):
        data = struct.pack(">Q", len(blob)) + blob
        chunks = [self.caller.message("replicateTx", content=data[i:i + CHUNK]) for i in range(0, len(data), CHUNK)]
        return self.caller.raw("replicateTx", iter(chunks), self.session, metadata=[("skip-integrity-check", "true")] if skip_integrity else [])

    def update(self, settings):
        self("UpdateDatabaseV2", database=self.name, settings=settings)

    def reload(self):
        self("UnloadDatabase", database=self.name)
        self("LoadDatabase", database=self.name)

    def close(self):
        self.caller.close()


def header_fields(blob):
    """(id, prevAlh, ts, version, metadata, entry count, eH, blTxID, blRoot), header length"""
    length = struct.unpack(">I", blob[:4])[0]
    h = blob[4:4 + length]
    version = struct.unpack(">H", h[48:50])[0]
    if version == 0:
        md, at = b"", 52
        count = struct.unpack(">H", h[50:52])[0]
    else:
        md_len = struct.unpack(">H", h[50:52])[0]
        md, at = h[52:52 + md_len], 56 + md_len
        count = struct.unpack(">I", h[at - 4:at])[0]
    return (struct.unpack(">Q", h[:8])[0], h[8:40], h[40:48], version, md, count, h[at:at + 32], h[at + 32:at + 40], h[at + 40:]), length


def entries_of(blob):
    """[(key, metadata, value)], bytes before them"""
    fields, length = header_fields(blob)
    at, out = 4 + length, []
    for _ in range(fields[5]):
        item = []
        for width, form in ((2, ">H"), (2, ">H"), (4, ">I")):
            size = struct.unpack(form, blob[at:at + width])[0]
            item.append(blob[at + width:at + width + size])
            at += width + size
        out.append(tuple(item))
    return out, blob[:4 + length]


def without_values(blob):
    """The export of the same transaction after its values were removed."""
    entries, head = entries_of(blob)
    out = head
    for key, md, value in entries:
        out += struct.pack(">H", len(key)) + key + struct.pack(">H", len(md)) + md + struct.pack(">I", 32) + hashlib.sha256(value).digest()
    return out + struct.pack(">HB", 1, 1)


# ---------------------------------------------------------------- workloads

def plain_workload(db):
    """Nothing that needs header version 1."""
    for i in range(12):
        db("Set", KVs=[{"key": b"key%d" % (i % 5), "value": b"value-%d" % i}])
    db("Set", KVs=[{"key": b"many-%03d" % i, "value": b"x" * i} for i in range(100)])
    db("Set", KVs=[{"key": b"empty", "value": b""}])
    db("Set", KVs=[{"key": b"\x00\xff binary \x01", "value": bytes(range(256))}])
    db("Set", KVs=[{"key": b"k" * 1000, "value": b"long key"}])
    db("Set", KVs=[{"key": b"big", "value": b"\x42" * 70000}])
    db("SetReference", key=b"ref", referencedKey=b"key1")
    db("SetReference", key=b"bound", referencedKey=b"key2", atTx=3, boundRef=True)
    for i in range(4):
        db("ZAdd", set=b"set", score=1.5 * i - 2, key=b"key%d" % i)
    db("ZAdd", set=b"set", score=0.0, key=b"key2", atTx=3, boundRef=True)
    db("ExecAll", Operations=[{"kv": {"key": b"e1", "value": b"v1"}}, {"ref": {"key": b"e2", "referencedKey": b"e1", "boundRef": False}},
                              {"zAdd": {"set": b"es", "score": -7.25, "key": b"e1", "boundRef": False}}, {"kv": {"key": b"e3", "value": b"v" * 3000}}])
    db("VerifiableSet", setRequest={"KVs": [{"key": b"verified", "value": b"v"}]}, proveSinceTx=1)


def mixed_workload(db):
    plain_workload(db)
    db("Set", KVs=[{"key": b"expires", "value": b"v", "metadata": {"expiration": {"expiresAt": int(time.time()) + 100000}}}])
    db("Set", KVs=[{"key": b"expired", "value": b"v", "metadata": {"expiration": {"expiresAt": 1}}}])
    db("Set", KVs=[{"key": b"aside", "value": b"v", "metadata": {"nonIndexable": True}}])
    db("Set", KVs=[{"key": b"all", "value": b"v", "metadata": {"nonIndexable": True, "expiration": {"expiresAt": 1 << 40}}},
                   {"key": b"gone", "value": b"v", "metadata": {"deleted": True}}])
    db("Delete", keys=[b"key1", b"key2"])
    db("Set", KVs=[{"key": b"key1", "value": b"again"}])
    db("Set", KVs=[{"key": b"new", "value": b"v"}], preconditions=[{"keyMustNotExist": {"key": b"new"}}])


def two_versions(db):
    """The first half with headers of version 0, the rest with version 1, in a database that was reopened between."""
    plain_workload(db)
    db.update({"writeTxHeaderVersion": {"value": 1}})
    db.reload()
    mixed_workload(db)


VERSION0 = {"writeTxHeaderVersion": {"value": 0}}
WORKLOADS = {"mixed": ({}, mixed_workload), "version0": (VERSION0, plain_workload), "versions": (VERSION0, two_versions),
             "timeless": ({"excludeCommitTime": {"value": True}}, mixed_workload), "embedded": ({"embeddedValues": {"value": True}}, mixed_workload)}
RECORDED = ("mixed", "versions")


# -------------------------------------------------------------------- tests

def check_same(report, what, expected, got):
    different = [i + 1 for i, (a, b) in enumerate(zip(expected, got)) if a != b]
    report.check(len(expected) == len(got) and not different, "%s: %d and %d transactions, different: %s" % (what, len(expected), len(got), different[:10]))


def import_into(report, schema, server, name, blobs, what, skip_integrity=False):
    replica = Database(schema, server, name, REPLICA)
    try:
        for i, blob in enumerate(blobs):
            header = replica.replicate(blob, skip_integrity)
            if header.id != i + 1:
                report.check(False, "%s: transaction %d imported as %d" % (what, i + 1, header.id))
                break
    except Failed as e:
        report.check(False, "%s: import of transaction %d: %s" % (what, i + 1, e))
    return replica


def wait_committed(db, last):
    end = time.time() + 10
    while db.state()[0] < last and time.time() < end:
        time.sleep(0.01)


def check_way(report, schema, blobs, state, to, name, what, exports_bare=True):
    """From blobs into a new replica on the server to, and out again; with and without values."""
    replica = import_into(report, schema, to, name, blobs, what)
    wait_committed(replica, len(blobs))
    report.check(state is None or replica.state() == state, "%s: another state" % what)
    check_same(report, what, blobs, replica.export_all())
    check_same(report, what + ", stream", blobs, replica.stream_all())
    gone = [without_values(b) for b in blobs]
    bare = import_into(report, schema, to, name + "bare", gone, what + ", without values")
    wait_committed(bare, len(blobs))
    report.check(bare.state() == replica.state(), "%s, without values: another state" % what)
    if exports_bare:
        check_same(report, what + ", without values", gone, bare.export_all())
    # Half with, half without: what a truncated primary exports.
    half = gone[:len(gone) // 2] + blobs[len(gone) // 2:]
    mixed = import_into(report, schema, to, name + "half", half, what + ", half without values")
    wait_committed(mixed, len(blobs))
    report.check(mixed.state() == replica.state(), "%s, half without values: another state" % what)
    if exports_bare:
        check_same(report, what + ", half without values", half, mixed.export_all())
    for d in (bare, mixed):
        d.close()
    return replica


def check_skip_integrity(report, schema, source, blobs, to, name, what):
    """Exports without eH: zeros there, all else equal; they are taken only by who leaves integrity out too, and come out whole."""
    bare = source.export_all(skipIntegrityCheck=True)
    for full, b in zip(blobs, bare):
        fields, length = header_fields(full)
        at = 4 + length - 72
        report.check(b[at:at + 32] == bytes(32) and b[:at] + full[at:at + 32] + b[at + 32:] == full, "%s: transaction %d without integrity differs in more than eH" % (what, fields[0]))
    replica = import_into(report, schema, to, name, bare, what, skip_integrity=True)
    wait_committed(replica, len(blobs))
    check_same(report, what, blobs, replica.export_all())
    try:
        Database(schema, to, name + "no", REPLICA).replicate(bare[0])
        report.check(False, "%s: an export without eH was taken" % what)
    except Failed as e:
        report.check("entries hash (Eh) differs" in e.text, "%s: %s" % (what, e))
    replica.close()


def check_promoted(report, replica, blobs, what):
    """A replica becomes a primary: its history stays what it was, and goes on."""
    replica.update(PRIMARY)
    replica("Set", KVs=[{"key": b"promoted", "value": b"v"}])
    report.check(replica("Get", key=b"promoted").value == b"v", "%s: promoted replica does not answer" % what)
    check_same(report, what + ", promoted", blobs, replica.export_all()[:len(blobs)])


def check_pair(report, schema, source_server, to, tag, record=None, exports_bare=True):
    for name, (settings, workload) in WORKLOADS.items():
        what = "%s, %s" % (tag, name)
        source = Database(schema, source_server, tag + name, settings)
        workload(source)
        blobs = source.export_all()
        check_same(report, what + ", stream of the source", blobs, source.stream_all())
        replica = check_way(report, schema, blobs, source.state(), to, tag + name + "r", what, exports_bare)
        check_skip_integrity(report, schema, source, blobs, to, tag + name + "s", what + ", no integrity")
        check_promoted(report, replica, blobs, what)
        if record and name in RECORDED:
            with open(os.path.join(record, name + ".txt"), "w") as f:
                f.writelines(base64.b64encode(b).decode() + "\n" for b in blobs)
        source.close()
        replica.close()
        print("%s: %d transactions, %d bytes" % (what, len(blobs), sum(map(len, blobs))), flush=True)


def check_recorded(report, schema, server):
    files = sorted(glob.glob(os.path.join(HERE, "golden", "export", "*.txt")))
    report.check(len(files) == len(RECORDED), "%d recordings" % len(files))
    for path in files:
        name = os.path.splitext(os.path.basename(path))[0]
        with open(path) as f:
            blobs = [base64.b64decode(line) for line in f]
        check_way(report, schema, blobs, None, server, "rec" + name, "recorded, " + name).close()
        print("recorded, %s: %d transactions" % (name, len(blobs)), flush=True)


def check_restart(report, schema, server, names):
    """What was imported is the same after a stop and a start."""
    before = {}
    for n in names:
        db = Database(schema, server, n)
        before[n] = (db.export_all(), db.state())
        db.close()
    server.stop()
    server.start()
    for n in names:
        db = Database(schema, server, n)
        check_same(report, n + ", after a restart", before[n][0], db.export_all())
        report.check(db.state() == before[n][1], n + ": another state after a restart")
        db.close()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--server", required=True)
    ap.add_argument("--peer")
    ap.add_argument("--record")
    a = ap.parse_args()
    report = Report()
    flags = ["--max-sessions", "10000"]
    if a.record:
        os.makedirs(a.record, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="immudb-proto-") as work, Server(a.server, flags) as ours, Server(a.server, flags) as second:
        schema = rr.Schema(descriptor(work))
        check_pair(report, schema, ours, second, "ours")
        if not a.record:
            check_recorded(report, schema, second)
        if a.peer:
            with Server(a.peer, flags) as peer:
                check_pair(report, schema, peer, second, "theirs", a.record)
                check_pair(report, schema, ours, peer, "away", exports_bare=False)
        check_restart(report, schema, second, ["ours%sr%s" % (n, k) for n in WORKLOADS for k in ("", "bare", "half")])
    print("%d passed, %d failed" % (report.passed, report.failed))
    return 1 if report.failed or not report.passed else 0


if __name__ == "__main__":
    sys.exit(main())
