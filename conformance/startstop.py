#!/usr/bin/env python3
"""Starting and stopping: signals at any moment of the start, exit codes, what is left behind.

    startstop.py --server build/cmd/immudb"""
import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "tools"))

from client import Api, schema_of  # noqa: E402
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


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--server", required=True)
    a = ap.parse_args()
    check, schema = Check(), schema_of()
    for name, part in (("signals during the start", signals_during_start), ("SIGHUP", hangup), ("exit codes", exit_codes)):
        print("--- %s" % name, flush=True)
        try:
            part(check, os.path.abspath(a.server), schema)
        except Exception as e:  # one broken part must not hide the others
            check(name, False, repr(e))
    print("%d passed, %d failed" % (check.passed, check.failed))
    return 1 if check.failed or not check.passed else 0


if __name__ == "__main__":
    sys.exit(main())
