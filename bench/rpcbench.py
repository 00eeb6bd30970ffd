#!/usr/bin/env python3
"""Load one or two immudb-compatible gRPC servers with h2load and print req/s side by side.

usage: rpcbench.py --target name=host:port [--target name=host:port] [--seconds S] [--rounds R]
                   [--scenario NAME ...] [--json FILE] [--descriptor FILE]

Each scenario is one unary gRPC call with a fixed body, driven by h2load (nghttp2) over plaintext HTTP/2.
Targets take turns, round by round; the median per target and the ratio of the medians are printed.
h2load counts HTTP 200, and gRPC carries its status in trailers: so every scenario is first called once
through grpcio, and for writes the growth of the tx id is checked on the server afterwards.
One body per scenario means hot keys: cold and spread keys need a generator of your own beside this.
"""
import argparse, json, os, re, statistics, struct, subprocess, sys, tempfile

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

HERE = os.path.dirname(os.path.abspath(__file__))  # the descriptor set: protoc --include_imports --descriptor_set_out
ap = argparse.ArgumentParser()
ap.add_argument("--target", action="append", required=True)
ap.add_argument("--seconds", type=int, default=4)
ap.add_argument("--rounds", type=int, default=3)
ap.add_argument("--scenario", action="append")
ap.add_argument("--json")
ap.add_argument("--descriptor", required=True)
a = ap.parse_args()

pool = descriptor_pool.DescriptorPool()
fds = descriptor_pb2.FileDescriptorSet()
fds.ParseFromString(open(a.descriptor, "rb").read())
for f in fds.file:
    pool.Add(f)
def M(name):
    full = name if name.startswith("google.") else "immudb.schema." + name
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(full))

class Target:
    def __init__(self, spec):
        self.name, self.addr = spec.split("=", 1)
        self.ch = grpc.insecure_channel(self.addr, options=[("grpc.max_receive_message_length", 64 << 20)])
        r = self.call("Login", M("LoginRequest")(user=b"immudb", password=b"immudb"), M("LoginResponse"), auth=False)
        self.token = r.token
        r = self.call("UseDatabase", M("Database")(databaseName="defaultdb"), M("UseDatabaseReply"))
        self.token = r.token
    def call(self, m, req, resp, auth=True):
        fn = self.ch.unary_unary("/immudb.schema.ImmuService/" + m, request_serializer=lambda x: x.SerializeToString(), response_deserializer=resp.FromString)
        return fn(req, metadata=[("authorization", "Bearer " + self.token)] if auth else None, timeout=120)
    def state(self):
        return self.call("CurrentState", M("google.protobuf.Empty")(), M("ImmutableState")).txId

V = b"v" * 128
def seed(t):
    if getattr(t, "seeded", False): return
    for base in range(0, 10000, 500):
        t.call("Set", M("SetRequest")(KVs=[M("KeyValue")(key=b"bench:%08d" % i, value=V) for i in range(base, base + 500)]), M("TxHeader"))
    for i in range(10):                                  # single-entry transactions, for verified reads
        t.call("Set", M("SetRequest")(KVs=[M("KeyValue")(key=b"single:%d" % i, value=V)]), M("TxHeader"))
    t.seeded = True
    try:
        t.call("SQLExec", M("SQLExecRequest")(sql="CREATE TABLE IF NOT EXISTS bench(id INTEGER AUTO_INCREMENT, name VARCHAR[64], v INTEGER, PRIMARY KEY id)"), M("SQLExecResult"))
        t.call("SQLExec", M("SQLExecRequest")(sql="INSERT INTO bench(name, v) VALUES " + ",".join("('row%d', %d)" % (i, i % 100) for i in range(500))), M("SQLExecResult"))
    except grpc.RpcError as e:                           # a server without SQL: its SQL scenarios will show 0
        if e.code() != grpc.StatusCode.UNIMPLEMENTED: raise

def kv(n=1, prefix=b"w:"): return [M("KeyValue")(key=prefix + b"%028d" % i, value=V) for i in range(n)]
S = {  # name: (method, request builder, response type, connections, streams, is_write)
 "set c1":            ("Set", lambda t: M("SetRequest")(KVs=kv()), "TxHeader", 1, 1, True),
 "set c16":           ("Set", lambda t: M("SetRequest")(KVs=kv()), "TxHeader", 4, 4, True),
 "set c128":          ("Set", lambda t: M("SetRequest")(KVs=kv()), "TxHeader", 8, 16, True),
 "set nowait c128":   ("Set", lambda t: M("SetRequest")(KVs=kv(), noWait=True), "TxHeader", 8, 16, True),
 "set x1000 c4":      ("Set", lambda t: M("SetRequest")(KVs=kv(1000)), "TxHeader", 2, 2, True),
 "vset c16":          ("VerifiableSet", lambda t: M("VerifiableSetRequest")(setRequest=M("SetRequest")(KVs=kv()), proveSinceTx=t.state()), "VerifiableTx", 4, 4, True),
 "get c1":            ("Get", lambda t: M("KeyRequest")(key=b"bench:%08d" % 77), "Entry", 1, 1, False),
 "get c128":          ("Get", lambda t: M("KeyRequest")(key=b"bench:%08d" % 77), "Entry", 8, 16, False),
 "vget c16":          ("VerifiableGet", lambda t: M("VerifiableGetRequest")(keyRequest=M("KeyRequest")(key=b"single:7"), proveSinceTx=t.state()), "VerifiableEntry", 4, 4, False),
 "vget wide c16":     ("VerifiableGet", lambda t: M("VerifiableGetRequest")(keyRequest=M("KeyRequest")(key=b"bench:%08d" % 77), proveSinceTx=t.state()), "VerifiableEntry", 4, 4, False),  # its tx has 500 entries: a 29 KB answer
 "getall x100 c16":   ("GetAll", lambda t: M("KeyListRequest")(keys=[b"bench:%08d" % (i * 97) for i in range(100)]), "Entries", 4, 4, False),
 "scan x1000 c4":     ("Scan", lambda t: M("ScanRequest")(prefix=b"bench:", limit=1000), "Entries", 2, 2, False),
 "sql insert c16":    ("SQLExec", lambda t: M("SQLExecRequest")(sql="INSERT INTO bench(name, v) VALUES ('x', 1)"), "SQLExecResult", 4, 4, True),
 "sql pk select c16": ("UnarySQLQuery", lambda t: M("SQLQueryRequest")(sql="SELECT id, name, v FROM bench WHERE id = 77"), "SQLQueryResult", 4, 4, False),
 "sql agg c4":        ("UnarySQLQuery", lambda t: M("SQLQueryRequest")(sql="SELECT COUNT(*), SUM(v) FROM bench WHERE id <= 500"), "SQLQueryResult", 2, 2, False),
}
def run(t, name):
    method, build, resp, c, m, write = S[name]
    req = build(t)
    t.call(method, req, M(resp))                       # must succeed
    before = t.state() if write else 0
    body = req.SerializeToString()
    with tempfile.NamedTemporaryFile() as f:
        f.write(b"\0" + struct.pack(">I", len(body)) + body); f.flush()
        out = subprocess.run(["h2load", "-t", "1", "-c", str(c), "-m", str(m), "-D", str(a.seconds), "--warm-up-time", "1", "-d", f.name,
            "-H", "content-type: application/grpc", "-H", "te: trailers", "-H", "authorization: Bearer " + t.token,
            "http://%s/immudb.schema.ImmuService/%s" % (t.addr, method)], capture_output=True, text=True).stdout
    g = re.search(r"finished in .*?, ([\d.]+) req/s", out); s = re.search(r"status codes: (\d+) 2xx", out)
    r = re.search(r"requests: .*?(\d+) done, (\d+) succeeded", out)
    lat = re.search(r"time for request:\s+(\S+)\s+(\S+)\s+(\S+)", out)
    rate = float(g.group(1)) if g else 0.0
    if write:                                           # the server must really have committed them
        grown = t.state() - before
        rate = min(rate, grown / a.seconds)             # warm-up second is counted in grown, so rate is h2load's unless txs are missing
    return rate, lat.group(3) if lat else "?"

targets = [Target(s) for s in a.target]
for t in targets: seed(t)
res = {}
print("%-20s %s" % ("scenario", "  ".join("%14s" % t.name for t in targets) + ("       ratio" if len(targets) == 2 else "")))
for name in (a.scenario or S):
    rates = {t.name: [] for t in targets}; lats = {t.name: [] for t in targets}
    for _ in range(a.rounds):
        for t in targets:
            try: x, l = run(t, name)
            except grpc.RpcError as e: x, l = 0.0, e.code().name + " " + (e.details() or "")[:60]
            rates[t.name].append(x); lats[t.name].append(l)
    med = [statistics.median(rates[t.name]) for t in targets]
    res[name] = {t.name: {"req_s": rates[t.name], "mean_latency": lats[t.name]} for t in targets}
    print("%-20s %s" % (name, "  ".join("%14.0f" % x for x in med) + ("  %9.2fx" % (med[0] / med[1]) if len(med) == 2 and med[1] else "")), "  " + " ".join(lats[t.name][-1] for t in targets), flush=True)
if a.json: json.dump(res, open(a.json, "w"), indent=1)
