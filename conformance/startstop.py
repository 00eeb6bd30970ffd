#!/usr/bin/env python3
"""Starting and stopping: signals at any moment of the start, exit codes, what is left behind, and that nothing that waits keeps a server from its end:
streams that came before their database was open, calls that wait for what never comes, whatever time their clients gave them.

    startstop.py --server build/cmd/immudb"""
import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "tools"))

import h2raw  # noqa: E402
from client import Api, parts, schema_of  # noqa: E402
from server import Server  # noqa: E402


class Check:
    def __init__(self):
        self.passed = self.failed = 0

    def __call__(self, what, is_good, note=""):
        print("%-4s %s%s" % ("ok" if is_good else "FAIL", what, ": %s" % (note,) if note != "" and not is_good else ""), flush=True)
        if is_good:
            self.passed += 1
        else:
            self.failed += 1

    def equal(self, what, got, expected):
        self(what, got == expected, "%r instead of %r" % (got, expected))


def spawn(binary, folder, *flags, port=0):
    return subprocess.Popen([binary, "--dir", os.path.join(folder, "data"), "--address", "127.0.0.1", "--port", str(port), "--metrics-server-port", "0", "--web-server=false",
                             "--pgsql-server=false"] + list(flags), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


def ended(p, seconds=20):
    """(exit code, output)"""
    try:
        out = p.communicate(timeout=seconds)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        p.kill()
        return "did not end", p.communicate()[0].decode(errors="replace")
    return p.returncode, out


def signals_during_start(check, binary, schema):
    """At 60 moments of the first 90 ms, first starts and later ones."""
    with tempfile.TemporaryDirectory(prefix="immudb-start-") as folder:
        pid_file = os.path.join(folder, "pid")
        slowest, codes, during, left = 0.0, {}, 0, 0
        for i in range(60):
            if i % 3 == 0:
                subprocess.run(["rm", "-rf", os.path.join(folder, "data")], check=True)
            p = spawn(binary, folder, "--pidfile", pid_file)
            time.sleep(i * 0.0015)
            begin = time.time()
            p.send_signal(signal.SIGINT if i % 2 else signal.SIGTERM)
            code, out = ended(p)
            slowest = max(slowest, time.time() - begin)
            codes[code] = codes.get(code, 0) + 1
            if code not in (0, -signal.SIGTERM, -signal.SIGINT):
                print("     after %.1f ms: %s" % (i * 1.5, out[-400:].strip()))
            during += "during the start" in out
            left += os.path.exists(pid_file)
        # the first milliseconds belong to the loader: there a signal has its usual effect
        check("a signal ends a start with 0", set(codes) <= {0, -signal.SIGTERM, -signal.SIGINT} and codes.get(0, 0) >= 20, codes)
        check("at once", slowest < 1.0, slowest)
        check("the start itself was hit", during >= 3, during)
        check.equal("no pid file is left", left, 0)
        print("     60 signals: %d during the start, exit codes %s, the slowest end took %.0f ms" % (during, codes, slowest * 1000))
        with Server(binary, keep=os.path.join(folder, "data")) as s:
            api = Api(schema, s.port)
            check("the folder that went through all of it is good", api.open_session().ok and api("Set", KVs=[{"key": b"k", "value": b"v"}]).ok)


def hangup(check, binary, schema):
    with Server(binary) as s:
        for _ in range(5):
            os.kill(s.proc.pid, signal.SIGHUP)
            time.sleep(0.05)
        check("SIGHUP without TLS does no harm", Api(schema, s.port).open_session().ok and s.log().count("SIGHUP") >= 1)
        check.equal("exit code after SIGTERM", s.stop(), 0)
    with tempfile.TemporaryDirectory(prefix="immudb-start-") as folder:
        p = spawn(binary, folder)
        time.sleep(0.03)
        p.send_signal(signal.SIGHUP)
        time.sleep(1)
        check("SIGHUP during the start does not end it", p.poll() in (None, -signal.SIGHUP))
        p.terminate()
        ended(p)


def exit_codes(check, binary, _schema):
    def one(what, expected, text, folder, *flags, port=0):
        code, out = ended(spawn(binary, folder, *flags, port=port))
        check("%s: exit code %d, %s" % (what, expected, text), code == expected and text in out and "Error: " in out, (code, out[-300:]))
        errors = [line[len("Error: "):] for line in out.split("\n") if line.startswith("Error: ")]
        check("%s: it is said once, without all options" % what, len(errors) == 1 and text in errors[0] and out.count(errors[0]) == 1 and "Usage:" not in out, out[-600:])

    with tempfile.TemporaryDirectory(prefix="immudb-start-") as folder:
        one("an unknown option", 1, "unknown flag", folder, "--no-such-option")
        one("an option's value", 1, "invalid", folder, "--max-sessions", "many")
        one("options that exclude each other", 1, "both certificate and private key", folder, "--certificate", "x")
        one("a certificate that is not there", 1, "failed to read client certificate", folder, "--certificate", "/nonexistent", "--pkey", "/nonexistent")
        one("a signing key that is not there", 1, "unable to configure the cryptographic signer", folder, "--signingKey", "/nonexistent")
        with socket.socket() as busy:
            busy.bind(("127.0.0.1", 0))
            busy.listen()
            taken = busy.getsockname()[1]
            one("a port that is taken", 10, "in use", folder, port=taken)
            one("a metrics port that is taken", 10, "in use", folder, "--metrics-server-port", str(taken))
        one("an address of somebody else", 10, "192.0.2.1", folder, "--address", "192.0.2.1")
        with Server(binary, keep=os.path.join(folder, "data")) as s:
            one("a folder in use", 11, "in use by another immudb, process %d" % s.proc.pid, folder)
        os.makedirs(os.path.join(folder, "other", "data", "systemdb", "tx"))
        one("a folder of the original server", 12, "another format", os.path.join(folder, "other"))
        with open(os.path.join(folder, "data", "immudb.identifier"), "wb") as f:
            f.write(b"short")
        one("a damaged identity", 13, "immudb.identifier", folder)
        with open(os.path.join(folder, "file"), "w"):
            pass
        one("a folder that cannot be made", 14, "data folder", folder, "--dir", os.path.join(folder, "file", "data"))
        pid_file = os.path.join(folder, "pid")
        with open(pid_file, "w") as f:
            f.write(str(os.getpid()))
        one("a pid file of a living process", 1, "pid file found", folder, "--pidfile", pid_file)
        check.equal("help and version", [subprocess.run([binary, a], stdout=subprocess.DEVNULL).returncode for a in ("--help", "version")], [0, 0])


def errors_name_their_cause(check, binary, _schema):
    """The option and the file, and what would be right."""
    def fails(expected, *flags):
        code, out = ended(spawn(binary, folder, *flags))
        errors = [line for line in out.split("\n") if line.startswith("Error: ")]
        check(" ".join(os.path.basename(f) for f in flags), code == 1 and len(errors) == 1 and all(t in errors[0] for t in expected), (code, out[-600:]))

    with tempfile.TemporaryDirectory(prefix="immudb-start-") as folder:
        def made(name, *command):
            path = os.path.join(folder, name)
            subprocess.run(["openssl"] + [path if c == "FILE" else c for c in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            return path

        key, rsa = made("key.pem", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "FILE"), made("rsa.pem", "genrsa", "-out", "FILE", "2048")
        other, locked = made("other.pem", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "FILE"), made("locked.pem", "ec", "-in", key, "-aes128", "-passout", "pass:x", "-out", "FILE")
        certificate = made("cert.pem", "req", "-x509", "-new", "-key", key, "-days", "365", "-subj", "/CN=x", "-out", "FILE")
        bad = os.path.join(folder, "bad.pem")
        with open(bad, "w") as f:
            f.write("bad")
        published = "failed to read client certificate or private key: the server's "
        fails([published + "certificate (--certificate)", bad, "PEM"], "--certificate", bad, "--pkey", key)
        fails([published + "private key (--pkey)", bad, "PEM"], "--certificate", certificate, "--pkey", bad)
        fails([published + "private key (--pkey)", "gone.pem: No such file"], "--certificate", certificate, "--pkey", os.path.join(folder, "gone.pem"))
        fails([published + "private key (--pkey)", locked, "passphrase"], "--certificate", certificate, "--pkey", locked)
        for wrong in (other, rsa):
            fails([published, wrong, "do not belong together"], "--certificate", certificate, "--pkey", wrong)
        fails(["failed to read client ca cert: --clientcas", bad, "PEM"], "--mtls", "--certificate", certificate, "--pkey", key, "--clientcas", bad)
        fails(["unable to configure the cryptographic signer: ", rsa, "an EC private key in SEC 1 form (BEGIN EC PRIVATE KEY) is wanted"], "--signingKey", rsa)
        fails(["unable to configure the cryptographic signer: ", folder + " is not a regular file", "--signingKey"], "--signingKey", folder)
        fails(['"xml"', "--logformat", "text or json"], "--logformat", "xml")
        fails(['"foo"', "--audit-log-events", "all, write or admin"], "--audit-log-events", "foo")
        code, out = ended(spawn(binary, folder, "--logformat", "json", "--signingKey", "/nonexistent"))
        lines = [json.loads(line) for line in out.split("\n") if line]
        check("a log of JSON stays JSON", code == 1 and lines[-1]["level"] == "error" and "/nonexistent" in lines[-1]["message"], out[-600:])
        code, out = ended(spawn(binary, folder, "--logfile", "log", "--signingKey", "/nonexistent"))
        with open(os.path.join(folder, "data", "immulog", "log")) as f:
            check("with a log file: there, and on stderr", code == 1 and out.count("open /nonexistent") == 1 and f.read().count("open /nonexistent") == 1, out[-600:])
        with Server(binary, ["--clientcas", bad]) as s:
            check("--clientcas without --mtls is warned about", "WARNING: --clientcas %s has no effect without --mtls" % bad in s.log(), s.log()[:3000])


def log_level(check, binary, _schema):
    for level, warned in (("foo", True), ("warning", False), ("INFO", False), ("", False)):
        os.environ["LOG_LEVEL"] = level
        try:
            with Server(binary) as s:
                check("LOG_LEVEL=%s" % level, ("WARNING: LOG_LEVEL=foo is none of error, warn, info and debug: info is used" in s.log()) == warned
                      and ("INFO: sessions guard started" in s.log()) == (level != "warning"), s.log())
        finally:
            del os.environ["LOG_LEVEL"]


def default_password_is_shown(check, binary, _schema):
    """At the first start alone: later it may be another one. Never at the stop."""
    def shown(folder, *flags):
        with Server(binary, list(flags), keep=os.path.join(folder, "data")) as s:
            started = s.log().count("Superadmin default credentials")
            s.stop()
            return started, s.log().count("Superadmin default credentials") - started

    with tempfile.TemporaryDirectory(prefix="immudb-start-") as folder:
        check.equal("first start", shown(folder), (1, 0))
        check.equal("second start", shown(folder), (0, 0))
        check.equal("set again", shown(folder, "--force-admin-password"), (1, 0))
    with tempfile.TemporaryDirectory(prefix="immudb-start-") as folder:
        check.equal("first start with another password", shown(folder, "--admin-password", "S3cret!pass"), (0, 0))


def detached(check, binary, _schema):
    with tempfile.TemporaryDirectory(prefix="immudb-start-") as folder:
        pid_file = os.path.join(folder, "pid")
        p = spawn(binary, folder, "--detached", "--pidfile", pid_file, "--logfile", "log")
        check.equal("the one that starts it ends with 0", p.wait(20), 0)
        with open(pid_file) as f:
            pid = int(f.read())
        try:
            with open("/proc/%d/comm" % pid) as f:
                check.equal("name of the process", f.read().strip(), os.path.basename(binary)[:15])
        finally:
            os.kill(pid, signal.SIGTERM)
        end = time.time() + 20
        while os.path.exists(pid_file) and time.time() < end:
            time.sleep(0.02)
        check("it ends, and its pid file is gone", not os.path.exists(pid_file))
        p.stdout.close()


STREAMS_IN = ("streamSet", "streamVerifiableSet", "streamExecAll", "replicateTx", "streamExportTx")


class Raw(h2raw.Raw):
    """A connection whose calls are begun, and left as they are."""

    def __init__(self, port, schema):
        super().__init__(port)
        self.schema, self.stream = schema, -1

    def begin(self, api, method, ends=True, message=None, content=None, timeout=None):
        """message: its fields; content: of one chunk; neither: headers alone."""
        self.stream += 2
        fields = [(b"sessionid", api.session.encode())] + ([(b"grpc-timeout", timeout)] if timeout else [])
        data = h2raw.frame(h2raw.HEADERS, h2raw.END_HEADERS, self.stream, h2raw.hpack(h2raw.request_fields(method, fields)))
        if content is not None:
            message = {"content": content}
        if message is not None:
            body = message if isinstance(message, bytes) else api.message(method, message).SerializeToString()
            data += h2raw.frame(h2raw.DATA, h2raw.END_STREAM if ends else 0, self.stream, h2raw.grpc_message(body))
        self.send(data)
        return self.stream

    def is_answered(self, stream, seconds=10):
        got, _ = self.drain_until(lambda g: stream in h2raw.ended_streams(g), seconds)
        return stream in h2raw.ended_streams(got)


def calls_running(s):
    with urllib.request.urlopen("http://127.0.0.1:%d/metrics" % s.metrics_port, timeout=20) as f:
        return next(int(line.split()[1]) for line in f.read().decode().split("\n") if line.startswith("immudb_rpc_calls_running "))


def comes_to_zero(s, seconds=10):
    end = time.time() + seconds
    while calls_running(s) > 0 and time.time() < end:
        time.sleep(0.02)
    return calls_running(s) == 0


def session(schema, s, database):
    api = Api(schema, s.port)
    if not api.open_session(database=database).ok:
        raise AssertionError("no session on %s" % database)
    return api


def stops(check, what, s, seconds=8):
    begin = time.time()
    code = s.stop()
    check("%s: the server ends, with 0, within %d s" % (what, seconds), code == 0 and time.time() - begin < seconds, (code, time.time() - begin, s.log()[-3000:]))


def streams_before_their_database(check, binary, schema):
    """A stream whose database has to be opened first is taken up by a worker, when all of it may have come, or nobody waits for it any more."""
    with Server(binary, ["--max-active-databases", "1"]) as s:
        admin = session(schema, s, "defaultdb")
        admin.must("CreateDatabaseV2", name="one")
        admin.must("CreateDatabaseV2", name="two")
        one, two = session(schema, s, "one"), session(schema, s, "two")

        def close_one():
            two.must("Set", KVs=[{"key": b"k", "value": b"v"}])

        for i in range(5):
            close_one()
            raw = Raw(s.port, schema)
            check("a stream to a database that is not open is answered (%d)" % i, raw.is_answered(raw.begin(one, "streamSet", content=parts(b"k%d" % i, b"v"))))
            raw.close()
            check.equal("and does what it says", one("Get", key=b"k%d" % i).ok, True)
        for method in STREAMS_IN:
            for i in range(8):
                close_one()
                raw = Raw(s.port, schema)
                raw.begin(one, method)
                time.sleep(0.001 * i)
                raw.close()
            check("%s, given up while the database is opened: nothing stays" % method, comes_to_zero(s))
        stops(check, "after them", s)


def streams_during_an_unload(check, binary, schema):
    with Server(binary) as s:
        admin = session(schema, s, "defaultdb")
        admin.must("CreateDatabaseV2", name="one")
        one = session(schema, s, "one")
        pin, unload, raw = Raw(s.port, schema), Raw(s.port, schema), Raw(s.port, schema)
        pin.begin(one, "exportTx", message={"tx": 100, "allowPreCommitted": True})
        time.sleep(0.2)
        stream = unload.begin(admin, "UnloadDatabase", message={"database": "one"})
        time.sleep(0.2)
        for method in STREAMS_IN[:3]:
            raw.begin(one, method, content=b"x", ends=False)
        time.sleep(0.2)
        raw.close()
        check("the unloading waits for a call, then gives up", unload.is_answered(stream, 20))
        pin.close()
        check("streams that were given up meanwhile: nothing stays", comes_to_zero(s))
        unload.close()
        stops(check, "after them", s)


def begin_all_that_waits(raw, schema, s, timeout):
    admin = session(schema, s, "defaultdb")
    admin.must("CreateDatabaseV2", name="plain")
    admin.must("CreateDatabaseV2", name="replica", settings={"replicationSettings": {"replica": {"value": True}}})
    sync = {"replicationSettings": {"replica": {"value": False}, "syncReplication": {"value": True}, "syncAcks": {"value": 1}}}
    admin.must("CreateDatabaseV2", name="sync", settings=sync)
    admin.must("CreateDatabaseV2", name="turned", settings=sync)
    admin.must("UpdateDatabaseV2", database="turned",
               settings={"replicationSettings": {"replica": {"value": True}, "syncReplication": {"value": False}, "syncAcks": {"value": 0}}})
    plain, replica, sync, turned = (session(schema, s, name) for name in ("plain", "replica", "sync", "turned"))
    for i in range(3):
        plain.must("Set", KVs=[{"key": b"k%d" % i, "value": b"v"}])
    first, third = (b"".join(m.content for m in plain("exportTx", tx=tx).messages)[8:] for tx in (1, 3))
    future = {"tx": 1000, "allowPreCommitted": True}
    raw.begin(plain, "exportTx", message=future, timeout=timeout)
    for method in STREAMS_IN:
        raw.begin(replica if method == "replicateTx" else plain, method, timeout=timeout)
    raw.begin(plain, "streamExportTx", message=future, ends=False, timeout=timeout)
    raw.begin(plain, "streamExportTx", message=future, timeout=timeout)
    raw.begin(replica, "replicateTx", content=parts(third), timeout=timeout)  # its predecessor never comes
    raw.begin(replica, "replicateTx", content=parts(third)[:30], ends=False, timeout=timeout)
    raw.begin(turned, "replicateTx", content=parts(first), timeout=timeout)  # nobody allows its commit
    for method, message in (("Set", {"KVs": [{"key": b"a", "value": b"b"}]}), ("VerifiableSet", {"setRequest": {"KVs": [{"key": b"a", "value": b"b"}]}}),
                            ("ExecAll", {"Operations": [{"kv": {"key": b"a", "value": b"b"}}]})):
        raw.begin(sync, method, message=message, timeout=timeout)
    raw.begin(sync, "streamSet", content=parts(b"k", b"v"), timeout=timeout)
    raw.begin(plain, "/grpc.health.v1.Health/Watch", message=b"", timeout=timeout)
    raw.begin(plain, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", timeout=timeout)
    time.sleep(0.3)
    for name in ("plain", "replica") * 4:  # more than there are workers on two CPUs
        raw.begin(admin, "UnloadDatabase", message={"database": name}, timeout=timeout)
    raw.begin(plain, "Get", message={"key": b"k1"}, timeout=timeout)
    raw.begin(plain, "streamSet", content=parts(b"k", b"v"), timeout=timeout)
    raw.begin(admin, "DeleteDatabase", message={"database": "plain"}, timeout=timeout)
    for i in range(10):
        raw.begin(admin, "Login", message={"user": b"user%d" % i, "password": b"x"}, timeout=timeout)


def stop_while_calls_wait(check, binary, schema):
    for timeout in (None, b"1000H"):
        with Server(binary) as s:
            raw = Raw(s.port, schema)
            begin_all_that_waits(raw, schema, s, timeout)
            time.sleep(0.5)
            check("calls wait, %s" % ("for ever" if timeout is None else "for 1000 hours"), calls_running(s) >= 20, calls_running(s))
            os.kill(s.proc.pid, signal.SIGTERM)
            time.sleep(0.3)
            # The first signal alone waits ten seconds for them; an import that was begun waits for its commit as long, whatever its client does.
            stops(check, "cut by a second signal", s, 15)
            raw.close()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--server", required=True)
    a = ap.parse_args()
    check, schema = Check(), schema_of()
    for name, part in (("signals during the start", signals_during_start), ("SIGHUP", hangup), ("exit codes", exit_codes),
                       ("errors name their cause", errors_name_their_cause), ("LOG_LEVEL", log_level),
                       ("the default password", default_password_is_shown), ("detached", detached),
                       ("streams that came before their database was open", streams_before_their_database),
                       ("streams during an unload", streams_during_an_unload), ("a stop while calls wait", stop_while_calls_wait)):
        print("--- %s" % name, flush=True)
        try:
            part(check, os.path.abspath(a.server), schema)
        except Exception as e:  # one broken part must not hide the others
            check(name, False, repr(e))
    print("%d passed, %d failed" % (check.passed, check.failed))
    return 1 if check.failed or not check.passed else 0


if __name__ == "__main__":
    sys.exit(main())
