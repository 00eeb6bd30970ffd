#!/usr/bin/env python3
"""Replays the recorded gRPC transcripts (golden/rpc) against fresh servers and compares every answer.

    replay.py --server build/cmd/immudb [--fast] [--parallel N] [FILE ...]

Transcripts whose whole subject is not there yet are listed in LATER_FILES. Inside the others a step may call a method of LATER: such a step passes
when it matches the recording or answers UNIMPLEMENTED. Steps that cannot match because they show the effect of such a call are named, each with
its reason, in DEPENDENT. Everything else must match. A step of DEPENDENT that matches is a failure too: then its line is to be removed.

--fast leaves out transcripts that spend a minute in sleeping, --slow all others. --parallel replays every file so many times at once (each on its own server)."""
import argparse
import concurrent.futures
import glob
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "tools"))
import replay_rpc as rr  # noqa: E402

SQL = "SQLExec UnarySQLQuery SQLQuery ListTables DescribeTable VerifiableSQLGet TxSQLExec TxSQLQuery".split()
LATER = {"immudb.schema.ImmuService/" + m for m in SQL}
LATER_SERVICES = ("immudb.model.DocumentService/",)
LATER_FILES = {
    "documents": "document service",
    "sql_basic": "SQL", "sql_paging": "SQL", "sql_tx": "SQL transactions",
}
SQL_TX = "shows transactions that a SQLExec wrote"
DEPENDENT = {  # (file, line): why it differs until then
    **{("permissions", n): SQL_TX for n in (21, 43, 67, 77, 78, 79, 80, 81, 82, 86, 89, 113, 122, 123, 124, 125, 126, 127, 128, 132, 135)},
    **{("tx_read", n): SQL_TX for n in (8, 11, 12, 22, 23, 24, 25, 26, 31, 33, 39)},
}


def descriptor(work):
    """A descriptor set made from the project's own .proto files."""
    out = os.path.join(work, "descriptor.pb")
    protos = sorted(os.path.basename(p) for p in glob.glob(os.path.join(HERE, "..", "proto", "*.proto")))
    subprocess.run(["protoc", "--include_imports", "--descriptor_set_out=" + out, "-I", os.path.join(HERE, "..", "proto"), "-I", os.path.join(HERE, "proto")] + protos +
                   ["google/rpc/status.proto"], check=True)
    return out


def is_later(step):
    return step["rpc"] in LATER or step["rpc"].startswith(LATER_SERVICES)


def is_build_version(step, problem):
    """The recording build had no version; SDKs demand one of the form X.Y.Z."""
    return step["rpc"].endswith("/ServerInfo") and problem[0] == "response.version" and problem[2] == "1.11.1"


def replay(schema, command, path):
    name = os.path.splitext(os.path.basename(path))[0]
    head, steps = rr.load(path)
    server = rr.Server(schema, command, rr.server_flags(head, path))
    passed, later, failures = 0, 0, []
    env = {}
    client = rr.Client(schema, server.address)
    try:
        for step in steps:
            if step.get("sleep_ms"):
                rr.time.sleep(step["sleep_ms"] / 1000.0)
            try:
                got = client.call(step, env)
                problems = [p for p in rr.compare(step, got, env) if not is_build_version(step, p)]
                if got["code"] == "OK":
                    rr.save_vars(step, got, env)
            except Exception as e:  # an unexpected answer must not end the run
                got, problems = {"code": "?"}, [("client", "no exception", repr(e))]
            reason = DEPENDENT.get((name, step["_line"]))
            if problems and is_later(step) and got["code"] == "UNIMPLEMENTED":
                later += 1
            elif problems and reason:
                later += 1
            elif not problems and reason:
                failures.append((step, [("listed in DEPENDENT", reason, "matches now: remove the line")]))
            elif problems:
                failures.append((step, problems))
            else:
                passed += 1
    finally:
        client.close()
        if server.proc.poll() is not None:
            failures.append(({"_line": 0, "rpc": "server"}, [("exit status", "running", server.proc.returncode)]))
        server.stop()
        if server.proc.returncode not in (0, None):
            failures.append(({"_line": 0, "rpc": "server"}, [("exit status after SIGTERM", 0, server.proc.returncode)]))
    return name, passed, later, failures


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--server", required=True)
    ap.add_argument("--fast", action="store_true")
    ap.add_argument("--slow", action="store_true")
    ap.add_argument("--parallel", type=int, default=1)
    ap.add_argument("files", nargs="*")
    a = ap.parse_args()
    command = os.path.abspath(a.server) + " --port {port} --dir {dir} --address 127.0.0.1 --metrics-server=false --web-server=false --pgsql-server=false {flags}"
    paths = a.files or sorted(glob.glob(os.path.join(HERE, "golden", "rpc", "*.jsonl")))
    paths = [p for p in paths if os.path.splitext(os.path.basename(p))[0] not in LATER_FILES]
    if a.fast:
        paths = [p for p in paths if not rr.load(p)[0].get("slow")]
    if a.slow:
        paths = [p for p in paths if rr.load(p)[0].get("slow")]
    total = failed = later = 0
    with tempfile.TemporaryDirectory() as work, concurrent.futures.ThreadPoolExecutor(max(2, a.parallel)) as pool:
        schema = rr.Schema(descriptor(work))
        for name, ok, skipped, failures in pool.map(lambda p: replay(schema, command, p), [p for p in paths for _ in range(a.parallel)]):
            total += ok
            later += skipped
            failed += len(failures)
            print("%-18s %3d matched, %2d of later parts, %d different" % (name, ok, skipped, len(failures)), flush=True)
            for step, problems in failures:
                print("DIFF %s:%d %s" % (name, step["_line"], step["rpc"]))
                for what, expected, got in problems[:6]:
                    print("     %s: expected %s, got %s" % (what, rr.short(expected), rr.short(got)))
    print("excluded: " + ", ".join("%s (%s)" % x for x in sorted(LATER_FILES.items())))
    print("%d steps of methods that come later" % later)
    print("%d passed, %d failed" % (total, failed))
    return 1 if failed or not total else 0


if __name__ == "__main__":
    sys.exit(main())
