#!/usr/bin/env python3
"""What an operator sees: metrics, probes, access log, audit log, slow calls, request metadata, modes of the server, transactions of sessions.

    observe.py --server build/cmd/immudb [--databases N]

Every family, type and label that immudb 1.11 publishes (PUBLISHED) is looked for in /metrics, but for those of EXCLUDED, each with its reason; the whole
text is read as Prometheus reads it. Then each log is made to speak and its lines and records are read back."""
import argparse
import base64
import hashlib
import json
import os
import re
import resource
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import grpc

from server import Server

HERE = os.path.dirname(os.path.abspath(__file__))
PASSED = FAILED = 0

# name: (type, labels)
PUBLISHED = {
    "immudb_uptime_hours": ("counter", ()), "immudb_number_of_rpcs_per_client": ("counter", ("ip",)),
    "immudb_clients_last_message_at_unix_seconds": ("gauge", ("ip",)), "immudb_db_size_bytes": ("gauge", ("db",)),
    "immudb_number_of_stored_entries": ("gauge", ("db",)), "immudb_loaded_databases": ("gauge", ()), "immudb_active_sessions": ("gauge", ()),
    "immudb_remote_storage_kind": ("gauge", ("db", "kind")), "immudb_query_latency_seconds": ("histogram", ("op",)),
    "immudb_last_committed_trx_id": ("gauge", ("db", "index")), "immudb_last_indexed_trx_id": ("gauge", ("db", "index")),
    "immudb_btree_flushed_nodes_total": ("counter", ("id", "kind")), "immudb_btree_compacted_nodes_total": ("counter", ("id", "kind")),
    "immudb_btree_cache_size": ("gauge", ("id",)), "immudb_btree_cache_hit": ("counter", ("id",)), "immudb_btree_cache_miss": ("counter", ("id",)),
    "immudb_btree_cache_evict": ("counter", ("id",)), "immudb_btree_depth": ("gauge", ("id",)), "immudb_btree_nodes_data_begin": ("gauge", ("id",)),
    "immudb_btree_nodes_data_end": ("gauge", ("id",)), "immudb_multiapp_cache_events": ("counter", ("event",)),
    "immudb_multiapp_read_events": ("counter", ("event",)), "immudb_multiapp_read_bytes": ("counter", ()), "immudb_truncation_total": ("counter", ("db",)),
    "grpc_server_started_total": ("counter", ("grpc_method", "grpc_service", "grpc_type")),
    "grpc_server_handled_total": ("counter", ("grpc_code", "grpc_method", "grpc_service", "grpc_type")),
    "grpc_server_msg_received_total": ("counter", ("grpc_method", "grpc_service", "grpc_type")),
    "grpc_server_msg_sent_total": ("counter", ("grpc_method", "grpc_service", "grpc_type")),
    "grpc_server_handling_seconds": ("histogram", ("grpc_method", "grpc_service", "grpc_type")),
    "go_memstats_sys_bytes": ("gauge", ()), "go_memstats_heap_alloc_bytes": ("gauge", ()), "go_memstats_heap_idle_bytes": ("gauge", ()),
    "go_memstats_heap_inuse_bytes": ("gauge", ()), "go_memstats_stack_inuse_bytes": ("gauge", ()), "go_threads": ("gauge", ()),
    "process_cpu_seconds_total": ("counter", ()), "process_max_fds": ("gauge", ()), "process_open_fds": ("gauge", ()),
    "process_resident_memory_bytes": ("gauge", ()), "process_start_time_seconds": ("gauge", ()), "process_virtual_memory_bytes": ("gauge", ()),
    "process_virtual_memory_max_bytes": ("gauge", ()), "promhttp_metric_handler_requests_in_flight": ("gauge", ()),
    "promhttp_metric_handler_requests_total": ("counter", ("code",)),
}
NO_S3 = "object storage does not exist here yet"
NO_CYCLE = "flushes and merges here have no long cycle to watch; the totals are there"
EXCLUDED = {
    "immudb_catalog_cache_total": "SQL does not exist here yet", "immudb_index_seek_latency_seconds": "reserved, always zero in the published server",
    "immudb_stream_send_blocked_duration_seconds": "sending never blocks here", "immudb_btree_flushed_nodes_last_cycle": NO_CYCLE,
    "immudb_btree_flushed_entries_last_cycle": NO_CYCLE, "immudb_btree_compacted_nodes_last_cycle": NO_CYCLE, "immudb_btree_compacted_entries_last_cycle": NO_CYCLE,
    "immudb_btree_flushed_entries_total": "the index counts bytes and blocks", "immudb_btree_compacted_entries_total": "the index counts bytes and blocks",
    "immudb_btree_inner_node_entries": "the index is no tree of nodes", "immudb_btree_leaf_node_entries": "the index is no tree of nodes",
    "immudb_truncation_duration_seconds": "never shown by the published server's /metrics", "immudb_remoteapp_open_time": NO_S3, "immudb_remoteapp_upload_time": NO_S3,
    "immudb_remoteapp_corrupted_metadata": NO_S3, "immudb_remoteapp_read_events": NO_S3, "immudb_remoteapp_uncached_read_events": NO_S3,
    "immudb_remoteapp_read_bytes": NO_S3, "immudb_remoteapp_uncached_read_bytes": NO_S3, "immudb_remoteapp_upload_events": NO_S3,
    "immudb_remoteapp_download_events": NO_S3, "immudb_remoteapp_chunk_count": NO_S3, "immudb_remoteapp_chunk_bytes": NO_S3,
    "immudb_remoteapp_s3_upload_bytes": NO_S3, "immudb_remoteapp_s3_download_bytes": NO_S3, "immudb_remoteapp_s3_request_duration_seconds": NO_S3,
    "immudb_remoteapp_s3_requests_total": NO_S3, "immudb_remoteapp_s3_request_errors_total": NO_S3, "immudb_remoteapp_s3_in_flight_requests": NO_S3,
}
OWN = """immudb_memory_bytes immudb_memory_peak_bytes immudb_commit_queue_length immudb_pool_waiting immudb_sync_seconds immudb_commits_total
    immudb_commit_batches_total immudb_index_runs immudb_index_merges_total immudb_rpc_waiting_for_memory immudb_databases immudb_reactor_turn_seconds_max
    immudb_reactor_turns_total immudb_login_failures_total immudb_truncation_freed_bytes_total immudb_audit_recorded_total immudb_audit_dropped_total
    immudb_slow_calls_total immudb_session_transactions immudb_databases_not_shown immudb_db_health""".split()
BUCKETS = {
    "immudb_query_latency_seconds": ".0001 .0005 .001 .005 .01 .025 .05 .1 .25 .5 1 2.5 5 10",
    "grpc_server_handling_seconds": ".005 .01 .025 .05 .1 .25 .5 1 2.5 5 10",
}


def check(name, ok, seen=""):
    global PASSED, FAILED
    PASSED, FAILED = PASSED + bool(ok), FAILED + (not ok)
    if not ok:
        print("FAIL %s: %s" % (name, str(seen)[:600]), flush=True)


class Api:
    """Messages of the project's .proto files, over one channel."""
    schema = empty = None

    def __init__(self, port, host="127.0.0.1", metadata=()):
        self.channel = grpc.insecure_channel("%s:%d" % (host, port), options=[("grpc.use_local_subchannel_pool", 1)])
        self.metadata = list(metadata)

    def __call__(self, method, request, reply=None, metadata=(), **kw):
        """The reply, or (code, text)."""
        f = self.channel.unary_unary("/immudb.schema.ImmuService/" + method, request_serializer=lambda m: m.SerializeToString(),
                                     response_deserializer=(reply or self.empty.Empty).FromString)
        try:
            return f(request, metadata=self.metadata + list(metadata), timeout=20)
        except grpc.RpcError as e:
            return e.code().name, e.details()

    def session(self, database="defaultdb", user=b"immudb", password=b"immudb"):
        s = self.schema
        r = self("OpenSession", s.OpenSessionRequest(username=user, password=password, databaseName=database), s.OpenSessionResponse)
        if isinstance(r, tuple):
            return r
        self.metadata = [("sessionid", r.sessionID)]
        return self

    def set(self, key, value, metadata=()):
        s = self.schema
        return self("Set", s.SetRequest(KVs=[s.KeyValue(key=key, value=value)]), s.TxHeader, metadata)

    def close(self):
        self.channel.close()


def load_schema(work):
    subprocess.run(["protoc", "--python_out=" + work, "-I", os.path.join(HERE, "..", "proto"), "schema.proto"], check=True)
    sys.path.insert(0, work)
    import schema_pb2
    from google.protobuf import empty_pb2
    Api.schema, Api.empty = schema_pb2, empty_pb2


def http(server, path, method="GET"):
    request = urllib.request.Request("http://127.0.0.1:%d%s" % (server.metrics_port, path), method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as r:
            return r.status, dict(r.headers), r.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, dict(e.headers), e.read().decode()


SAMPLE = re.compile(r'^([a-z_A-Z0-9:]+)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"(?:,|$)')


class Metrics:
    """The text form, read strictly: HELP, TYPE, then samples of that family; no series twice; whole labels."""

    def __init__(self, text):
        self.types, self.samples, self.problems, family = {}, {}, [], None
        for line in text.split("\n")[:-1]:
            if line.startswith("# HELP "):
                family = line.split(" ")[2]
                if family in self.types:
                    self.problems.append("family twice: " + family)
                self.types[family] = None
            elif line.startswith("# TYPE "):
                name, kind = line.split(" ")[2:]
                if name != family:
                    self.problems.append("TYPE without HELP: " + name)
                self.types[name] = kind
            else:
                self.sample(line, family)
        if not text.endswith("\n"):
            self.problems.append("no newline at the end")
        self.histograms()

    def sample(self, line, family):
        m = SAMPLE.match(line)
        if not m:
            self.problems.append("no sample: " + line)
            return
        name, labels, value = m.groups()
        pairs = LABEL.findall(labels or "")
        if labels and ",".join('%s="%s"' % p for p in pairs) != labels:
            self.problems.append("labels: " + line)
        base = re.sub("_(bucket|sum|count)$", "", name) if self.types.get(family) == "histogram" else name
        if base != family:
            self.problems.append("sample outside its family: " + line)
        key = (name, tuple(sorted(pairs)))
        if key in self.samples:
            self.problems.append("series twice: " + line)
        self.samples[key] = float(value)

    def histograms(self):
        series = {}
        for (name, labels), value in self.samples.items():
            if name.endswith("_bucket"):
                le = dict(labels)["le"]
                series.setdefault((name[:-7], tuple(x for x in labels if x[0] != "le")), []).append((float(le), value))
        for (name, labels), buckets in series.items():
            buckets.sort()
            if [v for _, v in buckets] != sorted(v for _, v in buckets):
                self.problems.append("buckets fall: %s %s" % (name, labels))
            if buckets[-1][0] != float("inf") or buckets[-1][1] != self.samples.get((name + "_count", labels)):
                self.problems.append("count: %s %s" % (name, labels))

    def value(self, name, **labels):
        return self.samples.get((name, tuple(sorted(labels.items()))))

    def labels_of(self, family):
        names = {family} | {family + x for x in ("_bucket", "_sum", "_count")}
        return {tuple(sorted(k for k, _ in labels if k != "le")) for name, labels in self.samples if name in names}


def scrape(server):
    return Metrics(http(server, "/metrics")[2])


def metrics(binary):
    s = Api.schema
    with Server(binary) as server:
        api = Api(server.port).session()
        check("login that fails", api("Login", s.LoginRequest(user=b"immudb", password=b"wrong"), s.LoginResponse)[0] == "UNKNOWN")
        for i in range(10):
            api.set(b"k%d" % i, b"v")
        api("Get", s.KeyRequest(key=b"nope"), s.Entry)
        code, headers, text = http(server, "/metrics")
        m = Metrics(text)
        check("content type", headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8", headers)
        check("text form", code == 200 and not m.problems, m.problems[:5])
        for name, (kind, labels) in sorted(PUBLISHED.items()):
            check("family " + name, m.types.get(name) == kind and m.labels_of(name) == {labels}, (m.types.get(name), m.labels_of(name)))
        for name, reason in sorted(EXCLUDED.items()):
            check("excluded (%s): %s" % (reason, name), name not in m.types and name not in PUBLISHED)
        for name in OWN:
            check("own family " + name, name in m.types)
        unknown = sorted(n for n in m.types if n not in PUBLISHED and not n.startswith("immudb_"))
        check("nothing else under others' prefixes", not unknown, unknown)
        for family, expected in BUCKETS.items():
            bounds = {float(dict(labels)["le"]) for name, labels in m.samples if name == family + "_bucket"}
            check("buckets of " + family, bounds == {float(x) for x in expected.split()} | {float("inf")}, bounds)
        series = [1 for name, _ in m.samples if name == "grpc_server_handled_total"]
        methods = {dict(labels)["grpc_service"] + dict(labels)["grpc_method"] for name, labels in m.samples if name == "grpc_server_started_total"}
        check("every method and code from the start", len(series) == 17 * len(methods) == 1615, (len(series), len(methods)))
        grpc_labels = {"grpc_type": "unary", "grpc_service": "immudb.schema.ImmuService"}
        check("calls counted", m.value("grpc_server_handled_total", grpc_method="Set", grpc_code="OK", **grpc_labels) == 10)
        check("failures counted", m.value("grpc_server_handled_total", grpc_method="Get", grpc_code="Unknown", **grpc_labels) == 1)
        check("latency counted", m.value("immudb_query_latency_seconds_count", op="/immudb.schema.ImmuService/Set") == 10)
        check("login failures counted", m.value("immudb_login_failures_total", reason="credentials") == 1)
        check("clients counted", m.value("immudb_number_of_rpcs_per_client", ip="127.0.0.1") >= 12)
        check("sessions", m.value("immudb_active_sessions") == 1)
        check("transactions", m.value("immudb_last_committed_trx_id", db="defaultdb", index="index_00") == 10
              and m.value("immudb_last_indexed_trx_id", db="defaultdb", index="index_00") == 10 and m.value("immudb_commits_total", db="defaultdb") == 10)
        check("syncs", 0 < m.value("immudb_sync_seconds_count", db="defaultdb") <= 10 and m.value("immudb_sync_seconds_sum", db="defaultdb") > 0)
        on_disk = sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(os.path.join(server.dir, "defaultdb")) for f in files)
        check("size on disk", on_disk / 4 <= m.value("immudb_db_size_bytes", db="defaultdb") <= on_disk * 2 + 4096, (on_disk, m.value("immudb_db_size_bytes", db="defaultdb")))
        ids = {dict(labels)["id"] for name, labels in m.samples if name == "immudb_btree_depth"}
        check("ids of old and new dashboards", ids == {os.path.join(server.dir, db, i) for db in ("defaultdb", "systemdb") for i in ("index", "index_00")}, ids)
        fds = len(os.listdir("/proc/%d/fd" % server.proc.pid))
        check("open files", abs(m.value("process_open_fds") - fds) <= 3, (m.value("process_open_fds"), fds))
        check("scrapes counted", scrape(server).value("promhttp_metric_handler_requests_total", code="200") >= 1)
        api.close()
    with Server(binary, ["--no-histograms"]) as server:
        m = scrape(server)
        check("--no-histograms", "grpc_server_handling_seconds" not in m.types and "immudb_query_latency_seconds" in m.types and not m.problems, m.problems[:3])


def probes(binary):
    with Server(binary) as server:
        for path in ("/readyz", "/livez", "/initz"):
            code, headers, body = http(server, path)
            check(path, code == 200 and body == "" and headers.get("Access-Control-Allow-Origin") == "*", (code, headers, body))
        code, headers, body = http(server, "/version")
        version = json.loads(body)
        check("/version", version["component"] == "immudb" and version["version"].startswith("1.11.1-") and set(version) >= {"buildtime", "static", "fips"}
              and headers["Content-Type"] == "application/json", body)
        code, headers, body = http(server, "/debug/vars")
        check("/debug/vars", code == 200 and json.loads(body)["memstats"]["HeapInuse"] >= 0, body)
        check("no page", http(server, "/nope")[0::2] == (404, "404 page not found\n"))
        check("no profiles", http(server, "/debug/pprof/")[0] == 404)
        code, headers, _ = http(server, "/metrics", "OPTIONS")
        check("OPTIONS", code == 204 and headers.get("Access-Control-Allow-Methods") == "GET", headers)


FULL_DISK = r"""
/* A disk that is full while the file FULL_DISK exists. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>
static int is_full(void) { return access(getenv("FULL_DISK"), F_OK) == 0; }
ssize_t pwritev64(int fd, const struct iovec *iov, int count, off_t at)
{
    ssize_t (*real)(int, const struct iovec *, int, off_t) = (ssize_t (*)(int, const struct iovec *, int, off_t))dlsym(RTLD_NEXT, "pwritev64");
    if (is_full()) {
        errno = ENOSPC;
        return -1;
    }
    return real(fd, iov, count, at);
}
int fallocate64(int fd, int mode, off_t at, off_t len)
{
    int (*real)(int, int, off_t, off_t) = (int (*)(int, int, off_t, off_t))dlsym(RTLD_NEXT, "fallocate64");
    if (is_full()) {
        errno = ENOSPC;
        return -1;
    }
    return real(fd, mode, at, len);
}
"""


def health_of(server):
    """state by database, as the metrics tell it; each is in one state."""
    m, found = scrape(server), {}
    states = {(dict(labels)["db"], dict(labels)["state"]): value for (name, labels), value in m.samples.items() if name == "immudb_db_health"}
    for (db, state), value in states.items():
        if value == 1:
            found[db] = state if db not in found else "two states"
    check("every database has every state", len(states) == 6 * len(found) and not m.problems, states)
    return found


def expect_health(what, server, expected, texts=()):
    """Whatever a database's state: others go on and reads are answered, so the probe says 200 and names it."""
    code, _, body = http(server, "/readyz")
    named = dict(re.findall(r"^database '([^']+)': (\w+): .", body, re.M))
    check("/readyz, " + what, code == 200 and named == {db: state for db, state in expected.items() if state != "ok"} and all(t in body for t in texts), (code, body))
    found = health_of(server)
    check("immudb_db_health, " + what, found == expected, found)


def bad_databases(binary, work):
    """A damaged file, a full disk, a write that fails: each by one database among others."""
    s = Api.schema
    full, library, source = os.path.join(work, "full"), os.path.join(work, "full_disk.so"), os.path.join(work, "full_disk.c")
    with open(source, "w") as f:
        f.write(FULL_DISK)
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    os.environ.update(LD_PRELOAD=library, FULL_DISK=full)
    try:
        server = Server(binary)
        server.start()
    finally:
        del os.environ["LD_PRELOAD"], os.environ["FULL_DISK"]
    try:
        api = Api(server.port).session()
        for name in ("one", "two"):
            api("CreateDatabaseV2", s.CreateDatabaseRequest(name=name), s.CreateDatabaseResponse)
        one, two = Api(server.port).session("one"), Api(server.port).session("two")
        for i in range(20):
            one.set(b"k%d" % i, b"v" * 100)
            two.set(b"k%d" % i, b"v" * 100)
        good = {"defaultdb": "ok", "systemdb": "ok", "one": "ok", "two": "ok"}
        expect_health("all well", server, good)
        check("/readyz with nothing to say is empty", http(server, "/readyz")[2] == "")
        with open(full, "w"):
            refused = two.set(b"too", b"much" * 100)
        check("a full disk refuses writes", isinstance(refused, tuple), refused)
        expect_health("a full disk", server, dict(good, two="no_space"), ["no space left"])
        check("and reads go on", two("Get", s.KeyRequest(key=b"k7"), s.Entry).value == b"v" * 100)
        os.unlink(full)
        check("room again", not isinstance(two.set(b"enough", b"room"), tuple))
        expect_health("room again", server, good)
        resource.prlimit(server.proc.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        check("a write that fails", isinstance(two.set(b"k", b"v" * 100000), tuple))
        resource.prlimit(server.proc.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        expect_health("a write that failed", server, dict(good, two="read_only"), ["a write failed"])
        check("the others write", not isinstance(one.set(b"k", b"v"), tuple))
        server.kill()
        logs = os.path.join(server.dir, "one", "log")
        segment = os.path.join(logs, next(n for n in sorted(os.listdir(logs)) if n.startswith("seg-")))
        with open(segment, "r+b") as f:
            f.seek(f.read().index(b"v" * 100) + 10)
            f.write(b"X")
        server.start()
        one, two = Api(server.port).session("one"), Api(server.port).session("two")
        check("damage refuses writes", isinstance(one.set(b"k", b"v"), tuple) and not isinstance(two.set(b"k", b"v"), tuple))
        expect_health("damage", server, dict(good, one="damaged"), [os.path.basename(segment)])
        for a in (api, one, two):
            a.close()
    finally:
        server.stop()
        server.work.cleanup()


def many_databases(binary, count):
    s = Api.schema
    with Server(binary, ["--max-active-databases", "10"]) as server:
        api = Api(server.port).session()
        for i in range(count):
            api("CreateDatabaseV2", s.CreateDatabaseRequest(name="db%d" % i), s.CreateDatabaseResponse)
        for _ in range(100):  # databases beyond the limit are closed in the background
            started = time.time()
            text = http(server, "/metrics")[2]
            seconds, m = time.time() - started, Metrics(text)
            shown = {dict(labels)["db"] for name, labels in m.samples if name == "immudb_db_size_bytes"}
            if len(shown) <= 12:
                break
            time.sleep(0.1)
        check("databases are counted", m.value("immudb_databases") == count + 1, m.value("immudb_databases"))
        check("series of open databases alone", 2 <= len(shown) <= 12, len(shown))
        check("a scrape is bounded", len(text) < 2 << 20 and seconds < 1 and not m.problems, (len(text), seconds, m.problems[:3]))
        print("scrape with %d databases: %d bytes, %.1f ms" % (count, len(text), seconds * 1e3))
        api.close()


ACCESS = re.compile(r"^immudb \d{4}/\d\d/\d\d \d\d:\d\d:\d\d INFO: user=(\w*),ip=([^,]*),method=(/[\w.]+/\w+),duration=([\d.]+(?:ns|µs|ms|s))(?:,error=(.*?))?(?:,request=([!-~]+))?$")


def access_log(binary):
    s = Api.schema
    server = Server(binary, ["--log-access"])
    try:
        server.start()
        api = Api(server.port).session()
        api.set(b"k", b"v")
        api.set(b"k", b"v", [("x-forwarded-for", "10.1.2.3, 10.9.9.9")])
        api.set(b"k", b"v", [("x-request-id", "order-17")])
        api("Get", s.KeyRequest(key=b"nope"), s.Entry)
        forged = b"k'\nimmudb 2026/11/21 00:00:00 INFO: user=immudb,ip=1.2.3.4,method=/immudb.schema.ImmuService/Set,duration=1ms\x1b[2J\xc2\x9b\xff"
        api("ExecAll", s.ExecAllRequest(Operations=[s.Op(kv=s.KeyValue(key=forged, value=b"v"))] * 2), s.TxHeader)
        api.close()
        server.stop()
        lines = [x for x in server.log().split("\n") if ",method=" in x]
        matches = [ACCESS.match(x) for x in lines]
        check("form of the lines", len(lines) == 6 and all(matches), lines)
        if all(matches) and len(lines) == 6:
            check("users", [x.group(1) for x in matches] == [""] + ["immudb"] * 5, lines)
            check("methods", [x.group(3).split("/")[-1] for x in matches] == ["OpenSession", "Set", "Set", "Set", "Get", "ExecAll"], lines)
            check("addresses", [x.group(2) for x in matches[:3]] == ["127.0.0.1", "127.0.0.1", "10.1.2.3"], lines)
            check("request id", [x.group(6) for x in matches] == [None, None, None, "order-17", None, None], lines)
            check("error", matches[4].group(5) == "tbtree: key not found", lines)
            check("nobody forges a line", "k'\\nimmudb 2026" in lines[5] and "\x1b" not in lines[5] and "\x9b" not in lines[5], lines[5])
    finally:
        server.stop()
        server.work.cleanup()
    server = Server(binary, ["--log-access", "--logformat", "json"])
    try:
        server.start()
        api = Api(server.port).session()
        api("ExecAll", s.ExecAllRequest(Operations=[s.Op(kv=s.KeyValue(key=b"\n\xff\"", value=b"v"))] * 2), s.TxHeader)
        api.close()
        server.stop()
        lines = [json.loads(x) for x in server.log().split("\n") if ",method=" in x]
        check("JSON lines", len(lines) == 2 and lines[1]["level"] == "info" and lines[1]["message"].startswith("user=immudb,ip=127.0.0.1,method=/immudb"), lines)
    finally:
        server.stop()
        server.work.cleanup()


def audit_entries(api):
    s = Api.schema
    systemdb = Api(api)
    systemdb.session("systemdb")
    r = systemdb("Scan", s.ScanRequest(prefix=b"audit:", limit=2500), s.Entries)
    systemdb.close()
    return r.entries


def audit_wait(port, ready):
    for _ in range(100):
        entries = audit_entries(port)
        if ready([json.loads(e.value) for e in entries]):
            break
        time.sleep(0.05)
    return entries


def audit_log(binary):
    s = Api.schema
    with Server(binary, ["--audit-log"]) as server:
        check("start line", "structured audit logging enabled (events=all)" in server.log())
        api = Api(server.port).session()
        session = dict(api.metadata)["sessionid"]
        api.set(b"the-key", b"the-value")
        api("ListUsers", Api.empty.Empty(), s.UserList)
        api("Get", s.KeyRequest(key=b"nope"), s.Entry)
        api("CreateUser", s.CreateUserRequest(user=b"bob", password=b"S3cret!pass", permission=1, database="defaultdb"))
        api("Login", s.LoginRequest(user=b"bob", password=b"Wr0ng!pass"), s.LoginResponse)
        for i in range(300):
            api.set(b"k%d" % i, b"v")
        entries = audit_wait(server.port, lambda e: len([x for x in e if x["method"].endswith("/Set")]) >= 301)
        keys = [bytes(e.key) for e in entries]
        check("keys", all(re.match(rb"^audit:\d{20}_\d{16}$", k) for k in keys) and keys == sorted(keys), keys[:3])
        numbers = sorted(int(k[-16:]) for k in keys)
        check("every event once", numbers == list(range(1, len(numbers) + 1)), numbers[:5])
        events = [json.loads(e.value) for e in entries]
        by = {}
        for e in events:
            by.setdefault(e["method"].split("/")[-1], []).append(e)
        sid = base64.urlsafe_b64encode(hashlib.sha256(session.encode()).digest()).decode()
        first = by["Set"][0]
        order = ["ts", "user", "ip", "db", "method", "type", "ok", "dur_ms", "sid"]
        check("an entry", list(first) == order and first["user"] == "immudb" and first["ip"] == "127.0.0.1" and first["db"] == "defaultdb" and first["type"] == "WRITE"
              and first["ok"] is True and first["sid"] == sid and abs(first["ts"] / 1e9 - time.time()) < 60, first)
        check("an error", by["Get"][0]["ok"] is False and by["Get"][0]["err"] == "tbtree: key not found" and by["Get"][0]["type"] == "READ", by["Get"][0])
        check("types", (by["OpenSession"][0]["type"], by["ListUsers"][0]["type"], by["CreateUser"][0]["type"], by["Login"][0]["type"]) == ("AUTH", "ADMIN", "ADMIN", "AUTH"))
        everything = b"".join(bytes(e.value) for e in entries)
        check("no keys, values, passwords, sessions", not any(x in everything for x in (b"the-key", b"the-value", b"S3cret", b"Wr0ng", session.encode())))
        for _ in range(100):  # a transaction can be read a moment before it is counted
            m = scrape(server)
            if m.value("immudb_audit_recorded_total") >= len(entries):
                break
            time.sleep(0.02)
        check("metrics of the audit log", m.value("immudb_audit_recorded_total") >= len(entries) and m.value("immudb_audit_dropped_total") == 0,
              (m.value("immudb_audit_recorded_total"), len(entries)))
        sizes = {}
        for e in entries:
            sizes[e.tx] = sizes.get(e.tx, 0) + 1
        check("1 to 64 entries per transaction", max(sizes.values()) <= 64, max(sizes.values()))
        count = len(entries)
        api.close()
        server.stop()
        server.start()
        check("kept over a restart", len(audit_entries(server.port)) >= count)
    for events, expected in (("write", {"OpenSession", "Set", "CreateUser"}), ("admin", {"OpenSession", "CreateUser"})):
        with Server(binary, ["--audit-log", "--audit-log-events", events]) as server:
            api = Api(server.port).session()
            api.set(b"k", b"v")
            api("Get", s.KeyRequest(key=b"k"), s.Entry)
            api("CreateUser", s.CreateUserRequest(user=b"bob", password=b"S3cret!pass", permission=1, database="defaultdb"))
            entries = audit_wait(server.port, lambda e: any(x["method"].endswith("/CreateUser") for x in e))
            names = {json.loads(e.value)["method"].split("/")[-1] for e in entries}
            check("--audit-log-events " + events, names == expected, names)
            api.close()


def request_metadata(binary):
    s = Api.schema
    with Server(binary, ["--log-request-metadata"]) as server:
        api = Api(server.port).session()
        check("who wrote", api.set(b"k", b"v").metadata.extra == b"\x02\x05usrimmudb\x01\x08ip127.0.0.1")
        check("from where", api.set(b"k", b"v", [("x-real-ip", "10.1.2.3")]).metadata.extra == b"\x02\x05usrimmudb\x01\x07ip10.1.2.3")
        api.close()
    with Server(binary) as server:
        api = Api(server.port).session()
        check("not by default", api.set(b"k", b"v").metadata.extra == b"")
        api.close()


def slow_calls(binary):
    s = Api.schema
    for ms, expected in (("1", 1), ("0", 0)):
        with Server(binary, ["--slow-call-ms", ms]) as server:
            api = Api(server.port).session()
            api("CreateUser", s.CreateUserRequest(user=b"bob", password=b"S3cret!pass", permission=1, database="defaultdb"), metadata=[("x-request-id", "id-7")])
            lines = [x for x in server.log().split("\n") if "slow call: " in x and "/CreateUser" in x]
            good = [x for x in lines if re.search(r"WARNING: slow call: user=immudb,ip=127.0.0.1,method=/immudb.schema.ImmuService/CreateUser,duration=[\d.]+ms,code=0,request=id-7$", x)]
            check("--slow-call-ms " + ms, len(lines) == len(good) == expected, lines)
            check("slow calls are counted", (scrape(server).value("immudb_slow_calls_total") > 0) == bool(expected))
            api.close()


def own_address():
    """An address of this machine that is not 127.0.0.1; needs no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for target in ("192.0.2.1", "10.255.255.255"):
            try:
                probe.connect((target, 9))
                return probe.getsockname()[0]
            except OSError:
                pass
    return None


def modes(binary):
    s = Api.schema
    address = own_address()
    check("an address that is not local", address is not None and not address.startswith("127."), address)
    for flags, expected in ((["--auth=false"], ("PERMISSION_DENIED", "server has authentication disabled: only local connections are accepted")), (["--auth=false", "--devmode"], None)):
        with Server(binary, flags + ["--address", "0.0.0.0"]) as server:
            here, there = Api(server.port), Api(server.port, host=address)
            check("%s: local" % flags, not isinstance(here.set(b"k", b"v"), tuple))
            got = there.set(b"k", b"v")
            check("%s: from elsewhere" % flags, got == expected if expected else not isinstance(got, tuple), got)
            here.close()
            there.close()
    with Server(binary, ["--auth=false", "--maintenance"]) as server:
        api = Api(server.port)
        check("maintenance refuses writes", api.set(b"k", b"v") == ("INVALID_ARGUMENT", "operation not allowed in maintenance mode"))
        token = api("UseDatabase", s.Database(databaseName="defaultdb"), s.UseDatabaseReply).token
        state = api("CurrentState", Api.empty.Empty(), s.ImmutableState, [("authorization", "Bearer " + token)])
        check("maintenance reads", not isinstance(state, tuple) and state.db == "defaultdb", state)
        api.close()


def transactions(binary):
    s = Api.schema
    empty = Api.empty.Empty()
    with Server(binary, ["--session-timeout", "1s", "--sessions-guard-check-interval", "200ms"]) as server:
        api = Api(server.port).session()
        other = Api(server.port).session()

        def begin(mode="ReadWrite", who=None, **more):
            r = (who or api)("NewTx", s.NewTxRequest(mode=mode, **more), s.NewTxResponse)
            return r if isinstance(r, tuple) else r.transactionID

        def end(method, tx, who=None):
            return (who or api)(method, empty, s.CommittedSQLTx if method == "Commit" else Api.empty.Empty, [("transactionid", tx)] if tx is not None else [])

        unknown = ("INVALID_ARGUMENT", "no transaction found")
        tx = begin()
        check("id", isinstance(tx, str) and re.match("^[0-9a-v]{20}$", tx), tx)
        check("another session's", end("Commit", tx, other) == unknown)
        check("empty commit", end("Commit", tx) == s.CommittedSQLTx(), tx)
        check("commit twice", end("Commit", tx) == unknown and end("Rollback", tx) == unknown)
        tx = begin()
        check("rollback", end("Rollback", tx) == empty and end("Rollback", tx) == unknown)
        tx = begin("ReadOnly")
        check("commit of a reader", end("Commit", tx) == ("UNKNOWN", "read-only transaction") and end("Commit", tx) == unknown)
        check("write only", begin("WriteOnly") == ("INTERNAL", "write only transaction not allowed"))
        check("no id", end("Commit", None) == ("UNKNOWN", "no transaction auth data provided"))
        check("empty id", end("Commit", "") == ("UNKNOWN", "no transactionID provided"))
        check("nonsense", end("Commit", "nope") == unknown and end("Rollback", "x" * 20) == unknown)
        check("a snapshot of the future", isinstance(begin("ReadOnly", snapshotMustIncludeTxID=s.NullableUint64(value=9999)), str))
        check("statements later", api("TxSQLExec", s.SQLExecRequest(sql="SELECT 1"), metadata=[("transactionid", begin())])[0] == "UNIMPLEMENTED")
        check("statements of nobody's", api("TxSQLExec", s.SQLExecRequest(sql="SELECT 1"), metadata=[("transactionid", "nope")]) == unknown)
        got = [begin() for _ in range(101)]
        check("at most 100 snapshots of a database", got[-1] == ("UNKNOWN", "tbtree: max active snapshots limit reached"), got[-1])
        check("they are counted", scrape(server).value("immudb_session_transactions") == 100)
        other("CloseSession", empty)
        for _ in range(100):  # the session times out, and its transactions with it
            m = scrape(server)
            if m.value("immudb_session_transactions") == 0:
                break
            time.sleep(0.1)
        check("a session takes its transactions along", m.value("immudb_session_transactions") == 0 and m.value("immudb_snapshots_open", db="defaultdb") == 0)
        api.session()
        api("CreateDatabaseV2", s.CreateDatabaseRequest(name="db1"), s.CreateDatabaseResponse)
        other.session("db1")
        tx = begin(who=other)
        started = time.time()
        gone = api("UnloadDatabase", s.UnloadDatabaseRequest(database="db1"), s.UnloadDatabaseResponse)
        check("unloading does not wait for transactions", not isinstance(gone, tuple) and time.time() - started < 3, gone)
        check("they are closed", end("Commit", tx, other) == ("UNKNOWN", "already closed") and begin(who=other) == ("UNKNOWN", "already closed"))
        tx = begin()
        check("a server with open transactions stops", isinstance(tx, str) and server.stop() == 0)
        api.close()
        other.close()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--server", required=True)
    ap.add_argument("--databases", type=int, default=100)
    a = ap.parse_args()
    with tempfile.TemporaryDirectory() as work:
        load_schema(work)
        metrics(a.server)
        probes(a.server)
        bad_databases(a.server, work)
        many_databases(a.server, a.databases)
        access_log(a.server)
        audit_log(a.server)
        request_metadata(a.server)
        slow_calls(a.server)
        modes(a.server)
        transactions(a.server)
    print("%d passed, %d failed" % (PASSED, FAILED))
    return 1 if FAILED or not PASSED else 0


if __name__ == "__main__":
    sys.exit(main())
