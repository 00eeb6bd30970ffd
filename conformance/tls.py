#!/usr/bin/env python3
"""TLS as clients meet it, with gRPC's own client, Python's ssl and the openssl program.

    tls.py --server build/cmd/immudb

Protocol versions, ciphers, ALPN, renegotiation; client certificates (none, good, of another authority, expired, strict and lenient); certificates that
are replaced while calls run; --auto-cert over several starts; a flood of handshakes next to a client that works. Certificates are made on the spot."""
import argparse
import datetime
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

import grpc
from server import Check, Server

HEALTH = "/immudb.schema.ImmuService/Health"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"


def openssl(*args, stdin=b"", check=True, timeout=20):
    p = subprocess.run(["openssl"] + list(args), input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout)
    if check and p.returncode != 0:
        raise RuntimeError("openssl %s: %s" % (" ".join(args), p.stdout.decode(errors="replace")))
    return p.stdout.decode(errors="replace")


class Authority:
    """An authority of one's own in a folder."""

    def __init__(self, folder, name):
        self.folder, self.name, self.serial = folder, name, 100
        self.key, self.cert = self.path("key"), self.path("pem")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.key, "-out", self.cert, "-subj", "/CN=" + name, "-days", "30")

    def path(self, ending):
        return os.path.join(self.folder, "%s.%s" % (self.name, ending))

    def issue(self, name, expired=False):
        """Paths of key and certificate."""
        base = os.path.join(self.folder, "%s-%s" % (self.name, name))
        self.serial += 1
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", base + ".key", "-out", base + ".csr", "-subj", "/CN=" + name)
        with open(base + ".ext", "w") as f:
            f.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        if expired:  # x509 -req has no dates of the past before openssl 3.4; ca has
            with open(base + ".cnf", "w") as f:
                f.write("[ca]\ndefault_ca=d\n[d]\nnew_certs_dir=%s\ndatabase=%s.db\nserial=%s.srl\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n" % (self.folder, base, base))
            open(base + ".db", "w").close()
            with open(base + ".srl", "w") as f:
                f.write("%04x\n" % self.serial)
            openssl("ca", "-batch", "-config", base + ".cnf", "-in", base + ".csr", "-cert", self.cert, "-keyfile", self.key, "-out", base + ".pem", "-notext",
                    "-startdate", "20200101000000Z", "-enddate", "20210101000000Z", "-extfile", base + ".ext")
        else:
            openssl("x509", "-req", "-in", base + ".csr", "-CA", self.cert, "-CAkey", self.key, "-set_serial", str(self.serial), "-days", "10", "-extfile", base + ".ext", "-out", base + ".pem")
        return base + ".key", base + ".pem"


def read(path):
    with open(path, "rb") as f:
        return f.read()


class TlsServer(Server):
    """Ready when its metrics port says so over HTTPS."""

    def start(self, timeout=20):
        with open(self.log_path, "ab") as log:
            self.proc = subprocess.Popen([self.binary, "--dir", self.dir, "--address", "127.0.0.1", "--port", str(self.port), "--metrics-server-port", str(self.metrics_port),
                                          "--web-server=false", "--pgsql-server=false"] + self.flags, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        end = time.time() + timeout
        while time.time() < end and self.proc.poll() is None:
            try:
                if b" 200 " in https(self.metrics_port)[0]:
                    return self
            except OSError:
                pass
            time.sleep(0.01)
        raise RuntimeError("the server did not get ready: %s" % self.log()[-2000:])


def context(**kw):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
    if kw.get("alpn"):
        c.set_alpn_protocols(kw["alpn"])
    if kw.get("cert"):
        c.load_cert_chain(kw["cert"][1], kw["cert"][0])
    return c


def dial(port, **kw):
    return context(**kw).wrap_socket(socket.create_connection(("127.0.0.1", port), 10), server_hostname="localhost")


def https(port):
    """(answer to GET /readyz, certificate in DER)"""
    with dial(port) as s:
        s.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        der = s.getpeercert(binary_form=True)
        return s.recv(200).split(b"\n")[0], der


def channel(port, ca, cert=None):
    credentials = grpc.ssl_channel_credentials(read(ca), read(cert[0]) if cert else None, read(cert[1]) if cert else None)
    return grpc.secure_channel("localhost:%d" % port, credentials, options=[("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)])


def health(ch, timeout=5.0):
    try:
        ch.unary_unary(HEALTH)(b"", timeout=timeout)
        return "OK"
    except grpc.RpcError as e:
        return e.code().name


def call(port, ca, cert=None):
    with channel(port, ca, cert) as ch:
        return health(ch)


def speaks_http2(s):
    """Does the other side answer the preface with its SETTINGS?"""
    s.settimeout(5)
    s.sendall(PREFACE)
    try:
        got = s.recv(9)
    except OSError:
        return False
    return len(got) >= 4 and got[3] == 4


# --- each part: (check, server binary, folder)
def protocol(check, binary, folder):
    ca = Authority(folder, "ca")
    key, cert = ca.issue("server")
    with TlsServer(binary, ["--certificate", cert, "--pkey", key]) as s:
        check.equal("a client that trusts the authority", call(s.port, ca.cert), "OK")
        check.equal("a client that trusts another one", call(s.port, Authority(folder, "stranger").cert), "UNAVAILABLE")
        with grpc.insecure_channel("localhost:%d" % s.port) as plain:
            check.equal("a client without TLS", health(plain), "UNAVAILABLE")
        for version, expected in (("-tls1", False), ("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)):
            text = openssl("s_client", "-connect", "127.0.0.1:%d" % s.port, version, "-alpn", "h2", "-cipher", "ALL:@SECLEVEL=0", stdin=b"Q\n", check=False)
            check("%s %s" % (version[1:], "is accepted" if expected else "is refused"), ("ALPN protocol: h2" in text) == expected, text[-300:])
        for cipher, expected in (("ECDHE-ECDSA-AES128-GCM-SHA256", True), ("ECDHE-ECDSA-CHACHA20-POLY1305", True), ("ECDHE-ECDSA-AES128-SHA", False), ("ECDHE-ECDSA-AES256-SHA384", False),
                                 ("AES128-GCM-SHA256", False), ("eNULL", False)):
            text = openssl("s_client", "-connect", "127.0.0.1:%d" % s.port, "-tls1_2", "-alpn", "h2", "-cipher", cipher + ":@SECLEVEL=0", stdin=b"Q\n", check=False)
            check("cipher %s %s" % (cipher, "is accepted" if expected else "is refused"), ("ALPN protocol: h2" in text) == expected, text[-300:])
        with dial(s.port, alpn=["http/1.1", "h2"]) as c:
            check.equal("ALPN h2 behind another one", (c.selected_alpn_protocol(), speaks_http2(c)), ("h2", True))
        with dial(s.port) as c:
            check.equal("no ALPN: HTTP/2 all the same", (c.selected_alpn_protocol(), speaks_http2(c)), (None, True))
        try:
            dial(s.port, alpn=["http/1.1"]).close()
            check("ALPN without h2 is refused", False)
        except OSError:
            check("ALPN without h2 is refused", True)
        text = openssl("s_client", "-connect", "127.0.0.1:%d" % s.port, "-tls1_2", "-alpn", "h2", stdin=b"R\n", check=False)
        check("renegotiation is refused", "RENEGOTIATING" in text and ("no renegotiation" in text.lower() or "error" in text.lower() or "alert" in text.lower()), text[-300:])
        check("/readyz over HTTPS", b" 200 " in https(s.metrics_port)[0])
        check.equal("the server goes on", call(s.port, ca.cert), "OK")


def client_certificates(check, binary, folder):
    ca, other = Authority(folder, "clients"), Authority(folder, "others")
    key, cert = ca.issue("server")
    good, expired, foreign = ca.issue("good"), ca.issue("expired", expired=True), other.issue("foreign")
    flags = ["--certificate", cert, "--pkey", key, "--clientcas", ca.cert, "--mtls"]
    with TlsServer(binary, flags) as s:
        check.equal("--mtls: a good certificate", call(s.port, ca.cert, good), "OK")
        check.equal("--mtls: none", call(s.port, ca.cert), "UNAVAILABLE")
        check.equal("--mtls: of another authority", call(s.port, ca.cert, foreign), "UNAVAILABLE")
        check.equal("--mtls: expired", call(s.port, ca.cert, expired), "UNAVAILABLE")
        check("--mtls: probes need no certificate", b" 200 " in https(s.metrics_port)[0])
        check.equal("--mtls: the good one again", call(s.port, ca.cert, good), "OK")
    with TlsServer(binary, flags + ["--mtls-strict=false"]) as s:
        check.equal("--mtls-strict=false: none", call(s.port, ca.cert), "OK")
        check.equal("--mtls-strict=false: a good one", call(s.port, ca.cert, good), "OK")
        check.equal("--mtls-strict=false: of another authority", call(s.port, ca.cert, foreign), "UNAVAILABLE")
        check.equal("--mtls-strict=false: expired", call(s.port, ca.cert, expired), "UNAVAILABLE")
    with TlsServer(binary, ["--certificate", cert, "--pkey", key]) as s:
        check.equal("without --mtls nobody is asked: a foreign one is as good as none", call(s.port, ca.cert, foreign), "OK")


class Load(threading.Thread):
    """Calls without a pause: over one connection, or over a new one each time."""

    def __init__(self, port, ca, fresh):
        super().__init__(daemon=True)
        self.port, self.ca, self.fresh, self.stop = port, ca, fresh, threading.Event()
        self.results, self.latency = {}, []

    def run(self):
        ch = channel(self.port, self.ca)
        while not self.stop.is_set():
            start = time.perf_counter()
            got = call(self.port, self.ca) if self.fresh else health(ch)
            self.latency.append(time.perf_counter() - start)
            self.results[got] = self.results.get(got, 0) + 1
        ch.close()

    def end(self):
        self.stop.set()
        self.join()
        return self.results


def fingerprint(port):
    with dial(port, alpn=["h2"]) as c:
        return c.getpeercert(binary_form=True)


def replace(certificate, key, cert_path, key_path):
    for source, target in ((key, key_path), (certificate, cert_path)):
        with open(target + ".new", "wb") as f:
            f.write(source)
        os.replace(target + ".new", target)


def wait_log(server, text, count, seconds=10):
    end = time.time() + seconds
    while time.time() < end and server.log().count(text) < count:
        time.sleep(0.02)
    return server.log().count(text) >= count


def reload(check, binary, folder):
    ca = Authority(folder, "reload")
    pairs = [tuple(read(p) for p in ca.issue("server%d" % i)) for i in range(2)]
    key_path, cert_path = os.path.join(folder, "live.key"), os.path.join(folder, "live.pem")
    replace(pairs[0][1], pairs[0][0], cert_path, key_path)
    with TlsServer(binary, ["--certificate", cert_path, "--pkey", key_path]) as s:
        before = fingerprint(s.port)
        old = channel(s.port, ca.cert)
        check.equal("before the first reload", health(old), "OK")
        loads = [Load(s.port, ca.cert, fresh) for fresh in (False, False, True, True)]
        for load in loads:
            load.start()
        for i in range(10):
            pair = pairs[(i + 1) % 2]
            replace(pair[1], pair[0], cert_path, key_path)
            os.kill(s.proc.pid, signal.SIGHUP)
            if not wait_log(s, "were read again", i + 1):
                break
            time.sleep(0.1)
        results = [load.end() for load in loads]
        check("ten reloads under load: no call failed", all(set(r) == {"OK"} for r in results), results)
        check("all ten took place", s.log().count("were read again") == 10)
        print("     %d calls over old connections, %d over new ones" % (sum(r.get("OK", 0) for r in results[:2]), sum(r.get("OK", 0) for r in results[2:])))
        replace(pairs[1][1], pairs[1][0], cert_path, key_path)
        os.kill(s.proc.pid, signal.SIGHUP)
        wait_log(s, "were read again", 11)
        check("new connections have the new certificate", fingerprint(s.port) != before)
        check.equal("gRPC and HTTPS have the same", https(s.metrics_port)[1], fingerprint(s.port))
        check.equal("a connection from before the reloads goes on", health(old), "OK")
        now = fingerprint(s.port)
        for what, certificate, key in (("not a certificate", b"nonsense", pairs[0][0]), ("a key of another certificate", pairs[0][1], pairs[1][0]), ("nothing", b"", b"")):
            errors = s.log().count("the new one cannot be used")
            replace(certificate, key, cert_path, key_path)
            os.kill(s.proc.pid, signal.SIGHUP)
            check("%s: the log has an error" % what, wait_log(s, "the new one cannot be used", errors + 1))
            check("%s: the certificate stays" % what, fingerprint(s.port) == now)
            check.equal("%s: calls go on" % what, call(s.port, ca.cert), "OK")
        check.equal("a connection from before all that goes on", health(old), "OK")
        old.close()
        check.equal("exit status after SIGTERM", s.stop(), 0)


def auto_cert(check, binary, folder):
    data = os.path.join(folder, "auto")
    cert, key = os.path.join(data, "immudb-cert.pem"), os.path.join(data, "immudb-key.pem")

    def once():
        with TlsServer(binary, ["--auto-cert"], keep=data) as s:
            return fingerprint(s.port), call(s.port, cert), https(s.metrics_port)[1]

    first, answer, http = once()
    check.equal("first start: a client that trusts the file", answer, "OK")
    check.equal("first start: HTTPS has the same certificate", http, first)
    check.equal("both files are the owner's alone", [oct(os.stat(p).st_mode & 0o777) for p in (cert, key)], ["0o600", "0o600"])
    text = openssl("x509", "-in", cert, "-noout", "-text")
    names = re.search(r"Subject Alternative Name:\s*\n\s*(.*)", text).group(1)
    check("names: localhost, the host, both loopback addresses", all(n in names for n in ("DNS:localhost", "DNS:" + socket.gethostname(), "IP Address:127.0.0.1", "IP Address:0:0:0:0:0:0:0:1")), names)
    check("EC key, a year, O=immudb", "id-ecPublicKey" in text and "O = immudb" in text)
    check.equal("second start: the same certificate", once()[0], first)
    with open(key, "wb") as f:
        f.write(b"damaged")
    second, answer, _ = once()
    check.equal("a damaged key: a new pair that works", (second != first, answer), (True, "OK"))
    os.unlink(cert)
    third, answer, _ = once()
    check.equal("a missing certificate: a new pair that works", (third != second, answer), (True, "OK"))
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", cert, "-subj", "/O=immudb", "-days", "29", "-addext", "subjectAltName=DNS:localhost")
    ending = read(cert)
    fourth, answer, _ = once()
    check.equal("29 days before its end: a new pair that works", (read(cert) != ending, answer), (True, "OK"))
    check.equal("and that one stays", once()[0], fourth)
    end = re.search(r"Not After : (.*) GMT", openssl("x509", "-in", cert, "-noout", "-text")).group(1)
    left = datetime.datetime.strptime(end, "%b %d %H:%M:%S %Y") - datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    check("the new one lasts a year", 364 <= left.days <= 365, left)
    mine = Authority(folder, "own")
    own_key, own_cert = mine.issue("server")
    with TlsServer(binary, ["--auto-cert", "--certificate", own_cert, "--pkey", own_key], keep=data) as s:
        check.equal("certificates that were named win over --auto-cert", call(s.port, mine.cert), "OK")
    client = mine.issue("client")
    with TlsServer(binary, ["--auto-cert", "--mtls", "--clientcas", mine.cert], keep=data) as s:
        check.equal("--auto-cert --mtls: with and without a client's certificate", (call(s.port, cert, client), call(s.port, cert)), ("OK", "UNAVAILABLE"))


def expiry_warnings(check, binary, folder):
    cert, key = os.path.join(folder, "short.pem"), os.path.join(folder, "short.key")
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", cert, "-subj", "/CN=localhost", "-days", "3")
    with TlsServer(binary, ["--certificate", cert, "--pkey", key]) as s:
        check("a certificate with three days left gives a warning", "expires in" in s.log())
    key, cert = Authority(folder, "past").issue("server", expired=True)
    with TlsServer(binary, ["--certificate", cert, "--pkey", key]) as s:
        check("an expired one, too", "has expired" in s.log())


def flood(check, binary, folder, seconds):
    """Handshakes begun as fast as four threads can, most of them left alone half-way; a client with a connection goes on."""
    ca = Authority(folder, "flood")
    key, cert = ca.issue("server")
    stop, begun = threading.Event(), []

    def attack(port, hello):
        count = 0
        while not stop.is_set():
            try:
                c = socket.create_connection(("127.0.0.1", port), 5, source_address=("127.0.0.2", 0))
                c.sendall(hello)
                if count % 4 == 0:
                    c.settimeout(2)
                    c.recv(4096)
                c.close()
                count += 1
            except OSError:
                pass
        begun.append(count)

    out = ssl.MemoryBIO()
    try:
        context(alpn=["h2"]).wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost").do_handshake()
    except ssl.SSLWantReadError:
        pass
    hello = out.read()
    with TlsServer(binary, ["--certificate", cert, "--pkey", key]) as s:
        load = Load(s.port, ca.cert, False)
        load.start()
        time.sleep(1)
        load.latency.clear()
        attackers = [threading.Thread(target=attack, args=(s.port, hello), daemon=True) for _ in range(4)]
        for t in attackers:
            t.start()
        time.sleep(seconds)
        stop.set()
        for t in attackers:
            t.join()
        latency = sorted(load.latency)
        results = load.end()
        p99 = latency[int(len(latency) * 0.99)] * 1000
        print("     %d handshakes begun in %d s; a connected client: %d calls, p50 %.2f ms, p99 %.2f ms" % (sum(begun), seconds, len(latency), latency[len(latency) // 2] * 1000, p99))
        check("a flood of handshakes: calls of others go on", set(results) == {"OK"} and p99 < 200, (results, p99))
        start = time.time()
        check.equal("a flood of handshakes: new connections afterwards", call(s.port, ca.cert), "OK")
        print("     the first new connection after it took %.2f s" % (time.time() - start))
        for what, keep in (("left open", True), ("closed", False)):
            time.sleep(1)
            begun = []
            for _ in range(3000):
                c = socket.create_connection(("127.0.0.1", s.port), 5, source_address=("127.0.0.3", 0))
                c.sendall(hello)
                if keep:
                    begun.append(c)
                else:
                    c.close()
            start = time.time()
            answer, took = call(s.port, ca.cert), time.time() - start
            print("     3,000 handshakes begun at once and %s: a new connection from elsewhere took %.2f s" % (what, took))
            check("3,000 handshakes begun at once and %s: new connections from elsewhere" % what, answer == "OK" and took < 3, (answer, took))
            for c in begun:
                c.close()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--server", required=True)
    ap.add_argument("--seconds", type=int, default=5, help="of the flood")
    ap.add_argument("--only", action="append")
    a = ap.parse_args()
    check = Check()
    parts = [("protocol", protocol), ("client certificates", client_certificates), ("reload", reload), ("auto-cert", auto_cert), ("expiry warnings", expiry_warnings),
             ("flood", lambda c, b, f: flood(c, b, f, a.seconds))]
    for name, part in parts:
        if a.only and name not in a.only:
            continue
        print("--- %s" % name, flush=True)
        with tempfile.TemporaryDirectory(prefix="immudb-tls-") as folder:
            try:
                part(check, a.server, folder)
            except Exception as e:  # one broken part must not hide the others
                check(name, False, repr(e))
    print("%d passed, %d failed" % (check.passed, check.failed))
    return 1 if check.failed or not check.passed else 0


if __name__ == "__main__":
    sys.exit(main())
