#!/usr/bin/env python3
"""Files and folders of the data folder that are gone or emptied, one after another: the server starts, or refuses to as documented; it names what is missing;
the other databases go on; nothing is silently shorter; and nothing that lost acknowledged data takes a write.

    missing.py --server build/cmd/immudb [--only TEXT]

A folder with three databases is filled once (defaultdb and big: five segments, an index, a tree; young: three transactions, all of them in the log alone) and
left twice, by a clean stop and by kill -9. Each case works on a copy: something is taken away, the server is started, everything is asked for, and once more
after a restart. Then: first starts killed at any moment, a creation that fails for want of descriptors, and the ways out of a loss."""
import argparse
import glob
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "tools"))
from client import Api, schema_of  # noqa: E402
from server import Check, Server, free_port  # noqa: E402

BIG_VALUES, BIG_BYTES, SMALL = 120, 65536, 1500
EXIT_DAMAGED = 13
ERROR_LINES_MAX = 12
SIDE_BY_SIDE = 4
DATABASES = ("defaultdb", "big", "young")


# ------------------------------------------------------------------ contents

def key_of(i):
    return b"k%06d" % i


def value_of(name, i):
    return (b"%s-%d-" % (name.encode(), i)) * (1 if i >= BIG_VALUES else BIG_BYTES // len(b"%s-%d-" % (name.encode(), i)))


def count_of(name):
    return 3 if name == "young" else BIG_VALUES + SMALL


def fill(api, name):
    offset = BIG_VALUES if name == "young" else 0
    for i in range(offset, offset + count_of(name)):
        api.must("Set", KVs=[{"key": key_of(i), "value": value_of(name, i)}])
    return offset


def make_seeds(binary, schema, folder):
    with Server(binary) as s:
        for name in DATABASES:
            api = Api(schema, s.port)
            assert api.open_session().ok
            if name != "defaultdb":
                api.must("CreateDatabaseV2", name=name)
                assert api.open_session(database=name).ok
            fill(api, name)
            api.close()
        s.kill()
        shutil.copytree(s.dir, os.path.join(folder, "killed"), symlinks=True)
        s.start()
        api = Api(schema, s.port)
        for name in DATABASES:
            assert api.open_session(database=name).ok
            api.must("CurrentState")
        api.close()
        s.stop()
        shutil.copytree(s.dir, os.path.join(folder, "clean"), symlinks=True)


def segments(folder, name):
    return sorted(glob.glob(os.path.join(folder, name, "log", "seg-*")))


# ------------------------------------------------------------------ what is expected of one database

def session(schema, server, name, password="immudb"):
    """An Api on the database, and the answer to its login."""
    api = Api(schema, server.port)
    return api, api.open_session(database=name, password=password)


def is_whole(schema, server, name):
    """"" when everything is there and it takes a write; else what is wrong."""
    api, got = session(schema, server, name)
    try:
        if not got.ok:
            return "no session: %r" % got
        offset = BIG_VALUES if name == "young" else 0
        for i in (offset, offset + count_of(name) // 2, offset + count_of(name) - 1):
            got = api("Get", key=key_of(i))
            if not got.ok or got.message.value != value_of(name, i):
                return "key %d: %s %s" % (i, got.code, got.text)
        got = api("CurrentState")
        if not got.ok or got.message.txId < count_of(name):
            return "state %r" % got
        got = api("Scan", prefix=b"k0001", limit=1000)
        if not got.ok or len(got.message.entries) != min(count_of(name), 100):
            return "%s entries" % (len(got.message.entries) if got.ok else got)
        got = api("Set", KVs=[{"key": b"more", "value": b"v"}])
        return "" if got.ok and got.message.id > count_of(name) else "no write: %r" % got
    finally:
        api.close()


def is_closed(schema, server, name, known, password="immudb"):
    """It answers nothing but an error that names the damage."""
    api, opened = session(schema, server, name, password)
    try:
        answers = [opened]
        if opened.ok:
            answers = [api("Get", key=key_of(BIG_VALUES)), api("Set", KVs=[{"key": b"more", "value": b"v"}]), api("CurrentState"), api("Scan", limit=3)]
        for got in answers:
            if got.ok or "damaged" not in got.text:
                return "answered %r" % got
            if known and known not in got.text:
                return "does not say %r: %r" % (known, got)
        return ""
    finally:
        api.close()


def is_read_only(schema, server, name):
    """Writes are refused; what is gone is never said not to exist; what is there is right. (Where the newest transactions are lost nobody can tell the newest
    value of any key: then only transactions can be read.)"""
    api, opened = session(schema, server, name)
    try:
        if not opened.ok:
            return "no session: %r" % opened
        got = api("Set", KVs=[{"key": b"more", "value": b"v"}])
        if got.ok:
            return "took a write: %r" % got
        got = api("CurrentState")
        if got.ok and got.message.txId < count_of(name):
            return "an older state is told as the current one: %r" % got
        read, lost, answers = 0, 0, set()
        for i in list(range(0, BIG_VALUES, 7)) + list(range(BIG_VALUES, BIG_VALUES + SMALL, 100)) + [count_of(name) - 1]:
            got = api("Get", key=key_of(i))
            if got.ok and got.message.value != value_of(name, i):
                return "key %d has another value" % i
            if not got.ok and (got.code == "DEADLINE_EXCEEDED" or "not found" in got.text):
                return "key %d: %s %s" % (i, got.code, got.text)
            got = api("exportTx", tx=i + 1)
            if not got.ok and "not found" in got.text:
                return "tx %d: %s %s" % (i + 1, got.code, got.text)
            if got.ok and key_of(i) not in b"".join(m.content for m in got.messages):
                return "tx %d is another one" % (i + 1)
            read, lost = read + got.ok, lost + (not got.ok)
            answers.add(got.text)
        return "" if read > 0 and lost > 0 else "%d read, %d lost: %s" % (read, lost, sorted(answers)[:3])
    finally:
        api.close()


# ------------------------------------------------------------------ cases

def remove(path):
    if os.path.isdir(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def empty(path):
    if os.path.isdir(path):
        for name in os.listdir(path):
            remove(os.path.join(path, name))
    else:
        os.truncate(path, 0)


def database_cases(name):
    """(what is taken away, how, state expected, text of the log)"""
    n = count_of(name)
    for verb, act in (("missing", remove), ("emptied", empty)):
        def at(part, act=act):
            return lambda folder: act(os.path.join(folder, name, part) if part else os.path.join(folder, name))
        yield "%s/log %s" % (name, verb), at("log"), "closed", r"log/ is %s.*txs? " % verb
        yield "%s/index %s" % (name, verb), at("index"), "whole", ""
        yield "%s/tree %s" % (name, verb), at("tree"), "whole", ""
        yield "%s %s" % (name, verb), at(""), "closed", r"%s.*damaged.*%s" % (name, name)
        yield "%s/log/MANIFEST %s" % (name, verb), at("log/MANIFEST"), "whole", r"the manifest is (missing|damaged)"
        yield "%s/log/END %s" % (name, verb), at("log/END"), "whole", ""
        if name == "young":
            continue
        newest = (lambda folder, act=act: act(segments(folder, name)[-1]))
        yield "%s: newest segment %s" % (name, verb), newest, "read-only", r"missing \(txs \d+\.\.%d, known from log/END\)" % n if act is remove else r"damaged segment header"
        yield "%s: a middle segment %s" % (name, verb), lambda folder, act=act: act(segments(folder, name)[1]), "read-only", r"seg-00000002\.0.*txs \d+\.\.\d+"

    def log_and_tree(folder):
        remove(os.path.join(folder, name, "log"))
        remove(os.path.join(folder, name, "tree"))

    def newest_and_witnesses(folder):
        remove(segments(folder, name)[-1])
        remove(os.path.join(folder, name, "log", "END"))
        remove(os.path.join(folder, name, "log", "MANIFEST"))
    yield "%s: log and tree missing" % name, log_and_tree, "closed", "log/ is missing"
    if name != "young":
        yield "%s: newest segment, MANIFEST and END missing" % name, newest_and_witnesses, "read-only if vouched", ""


def errors_in(text):
    return len(re.findall(r"\bERROR\b", text))


class LockedCheck(Check):
    """Cases run side by side."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()

    def __call__(self, what, is_good, note=""):
        with self.lock:
            super().__call__(what, is_good, note)


class Bench:
    def __init__(self, check, binary, schema, seeds, only):
        self.check, self.binary, self.schema, self.seeds, self.only = check, binary, schema, seeds, only

    def wanted(self, what):
        return self.only is None or self.only in what

    def folder(self, seed, work):
        folder = os.path.join(work, "data")
        shutil.copytree(os.path.join(self.seeds, seed), folder, symlinks=True)
        return folder

    def database(self, seed, name, what, act, expected, said):
        title = "%s, %s" % (what, seed)
        if not self.wanted(title):
            return
        with tempfile.TemporaryDirectory(prefix="immudb-missing-") as work:
            folder = self.folder(seed, work)
            act(folder)
            server = Server(self.binary, keep=folder)
            for n in (1, 2):
                at = len(server.log()) if n > 1 else 0
                try:
                    server.start()
                except RuntimeError as e:
                    self.check(title + ": starts", False, e)
                    break
                wrong = self.state(server, seed, name, expected)
                text = server.log()[at:]
                self.check("%s: start %d: %s" % (title, n, expected), wrong == "", wrong)
                self.check("%s: start %d: the log names it" % (title, n), re.search(said, text) is not None, text[-1500:])
                self.check("%s: start %d: few errors in the log" % (title, n), errors_in(text) <= ERROR_LINES_MAX, "%d lines" % errors_in(text))
                if n == 2:
                    break
                others = [(o, is_whole(self.schema, server, o)) for o in DATABASES if o != name]
                self.check("%s: start %d: the others are whole" % (title, n), all(w == "" for _, w in others), others)
                api, _ = session(self.schema, server, "young" if name != "young" else "big")
                listed = api("DatabaseListV2")
                api.close()
                self.check("%s: start %d: it is listed" % (title, n), listed.ok and name in [d.name for d in listed.message.databases], listed)
                server.stop()
                if expected == "whole":
                    break
            server.stop()
            server.work.cleanup()

    def state(self, server, seed, name, expected):
        if expected == "whole":
            return is_whole(self.schema, server, name)
        if expected == "closed":
            # What was in the log alone only databases.counts knows, and it is written for closed databases.
            return is_closed(self.schema, server, name, "txs 1..%d" % count_of(name) if seed == "clean" else "")
        if expected == "read-only if vouched" and seed == "killed":
            return "" if is_read_only(self.schema, server, name) == "" or not is_whole(self.schema, server, name) == "" else "whole"
        return is_read_only(self.schema, server, name)

    def all_databases(self):
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            cases = [pool.submit(self.database, seed, name, what, act, expected, said)
                     for seed, names in (("clean", DATABASES), ("killed", DATABASES[:1])) for name in names for what, act, expected, said in database_cases(name)]
        for c in cases:
            c.result()

    # -- the data folder's own files

    def refuses(self, seed, what, act, *said):
        if not self.wanted(what):
            return
        with tempfile.TemporaryDirectory(prefix="immudb-missing-") as work:
            folder = self.folder(seed, work)
            act(folder)
            before = tree_of(folder)
            for n in (1, 2):
                p = subprocess.run([self.binary, "--dir", folder, "--address", "127.0.0.1", "--port", str(free_port()), "--metrics-server-port", "0",
                                    "--web-server=false", "--pgsql-server=false"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=30)
                text = p.stdout.decode(errors="replace")
                self.check.equal("%s, %s: start %d: exit code" % (what, seed, n), p.returncode, EXIT_DAMAGED)
                self.check("%s, %s: start %d: says why" % (what, seed, n), all(s in text for s in said), text[-600:])
            self.check.equal("%s, %s: nothing was made or removed" % (what, seed), sorted(tree_of(folder) - before), [])
            self.check("%s, %s: nothing is gone" % (what, seed), before <= tree_of(folder), before - tree_of(folder))

    def serves(self, seed, what, act, said=""):
        """Everything is there all the same."""
        if not self.wanted(what):
            return
        with tempfile.TemporaryDirectory(prefix="immudb-missing-") as work:
            folder = self.folder(seed, work)
            act(folder)
            with Server(self.binary, keep=folder) as server:
                wrong = [(n, is_whole(self.schema, server, n)) for n in DATABASES]
                self.check("%s, %s: all is served" % (what, seed), all(w == "" for _, w in wrong), wrong)
                self.check("%s, %s: the log names it" % (what, seed), re.search(said, server.log()) is not None, server.log()[-800:])
                api, _ = session(self.schema, server, "defaultdb")
                api.session = None
                got = api("OpenSession", username=b"immudb", password=b"wrong", databaseName="defaultdb")
                self.check("%s, %s: passwords are checked" % (what, seed), not got.ok, got)
                api.close()

    def data_folder(self):
        def of(path, act):
            return lambda folder: act(os.path.join(folder, path))
        for seed in ("clean", "killed"):
            for verb, act in (("missing", remove), ("emptied", empty)):
                self.refuses(seed, "systemdb %s" % verb, of("systemdb", act), "systemdb is lost", "--force-admin-password")
                self.refuses(seed, "systemdb/log %s" % verb, of("systemdb/log", act), "systemdb is lost")
                self.serves(seed, "systemdb/index %s" % verb, of("systemdb/index", act))
                self.serves(seed, "systemdb/tree %s" % verb, of("systemdb/tree", act))
            self.refuses(seed, "systemdb: only segment missing", lambda f: remove(segments(f, "systemdb")[-1]), "systemdb is damaged", "known from log/END")
            self.refuses(seed, "everything but the identifier missing", lambda f: [remove(os.path.join(f, n)) for n in os.listdir(f) if n != "immudb.identifier"],
                         "systemdb is lost")
            self.refuses(seed, "systemdb and the identifier missing", lambda f: [remove(os.path.join(f, n)) for n in ("systemdb", "immudb.identifier")], "systemdb is lost")
            self.serves(seed, "immudb.identifier missing", of("immudb.identifier", remove), "immudb.identifier is missing")
            self.refuses(seed, "immudb.identifier emptied", of("immudb.identifier", empty), "immudb.identifier has 0 bytes")
        for verb, act in (("missing", remove), ("emptied", empty)):
            self.serves("clean", "databases.counts %s" % verb, of("databases.counts", act))

    # -- ways out

    def ways_out(self):
        if not self.wanted("ways out"):
            return
        with tempfile.TemporaryDirectory(prefix="immudb-missing-") as work:
            folder = self.folder("clean", work)
            for name in ("systemdb", "big", "defaultdb"):
                remove(os.path.join(folder, name))
            server = Server(self.binary, ["--force-admin-password", "--admin-password", "Another-1"], keep=folder)
            server.start()
            api = Api(self.schema, server.port)
            self.check("ways out: the old password is none", not api.open_session(database="young").ok)
            self.check("ways out: forced password on what is left", api.open_session(password="Another-1", database="young").ok)
            got = api("Get", key=key_of(BIG_VALUES))
            self.check("ways out: data are there", got.ok and got.message.value == value_of("young", BIG_VALUES), got)
            wrong = is_closed(self.schema, server, "defaultdb", "", "Another-1")
            self.check("ways out: defaultdb stays lost", wrong == "", wrong)
            api.close()
            server.stop()
            os.mkdir(os.path.join(folder, "defaultdb"))
            open(os.path.join(folder, "defaultdb", "CREATING"), "w").close()
            server.flags = []
            server.start()
            self.check("ways out: a mark makes an empty defaultdb", self.set_one(server, "defaultdb", "Another-1") == 1)
            self.check("ways out: the mark is gone", not os.path.exists(os.path.join(folder, "defaultdb", "CREATING")))
            server.stop()
            server.work.cleanup()
        with tempfile.TemporaryDirectory(prefix="immudb-missing-") as work:
            folder = self.folder("clean", work)
            remove(os.path.join(folder, "big"))
            with Server(self.binary, keep=folder) as server:
                api = Api(self.schema, server.port)
                api.open_session()
                self.check("ways out: its name is taken", not api("CreateDatabaseV2", name="big").ok)
                steps = [api(m, database="big") for m in ("UnloadDatabase", "DeleteDatabase")]
                self.check("ways out: a lost database can be deleted", all(s.ok for s in steps), steps)
                api.close()
                server.stop()
                server.start()
                api = Api(self.schema, server.port)
                api.open_session()
                got = api("CreateDatabaseV2", name="big")
                self.check("ways out: and made again", got.ok, got)
                api.close()
                self.check.equal("ways out: empty", self.set_one(server, "big", "immudb"), 1)
        with tempfile.TemporaryDirectory(prefix="immudb-missing-") as work:
            folder = self.folder("clean", work)
            os.rename(os.path.join(folder, "defaultdb"), os.path.join(work, "elsewhere"))
            with Server(self.binary, keep=folder) as server:
                self.check("ways out: not mounted", is_closed(self.schema, server, "defaultdb", "") == "")
                self.check("ways out: the probe and the metric say so", "database 'defaultdb': unavailable: database is damaged" in self.seen(server, "/readyz") and
                           'immudb_db_health{db="defaultdb",state="unavailable"} 1' in self.seen(server, "/metrics"), self.seen(server, "/readyz"))
                os.rename(os.path.join(work, "elsewhere"), os.path.join(folder, "defaultdb"))
                wrong = is_whole(self.schema, server, "defaultdb")
                self.check("ways out: mounted again while the server runs", wrong == "", wrong)
                self.check("ways out: and so it says", self.seen(server, "/readyz") == "" and 'db="defaultdb",state="ok"} 1' in self.seen(server, "/metrics"), self.seen(server, "/readyz"))

    def seen(self, server, path):
        with urllib.request.urlopen("http://127.0.0.1:%d%s" % (server.metrics_port, path), timeout=20) as f:
            return f.read().decode()

    def set_one(self, server, name, password):
        api = Api(self.schema, server.port)
        try:
            got = api.open_session(password=password, database=name)
            got = api("Set", KVs=[{"key": b"more", "value": b"v"}]) if got.ok else got
            return got.message.id if got.ok else got
        finally:
            api.close()

    # -- beginnings

    def first_starts(self):
        """A first start killed at any moment opens at the next one; so does a creation."""
        if not self.wanted("first start"):
            return
        wrong, early = [], 0
        for i in range(50):
            with tempfile.TemporaryDirectory(prefix="immudb-missing-") as work:
                folder = os.path.join(work, "data")
                p = subprocess.Popen([self.binary, "--dir", folder, "--address", "127.0.0.1", "--port", str(free_port()), "--metrics-server-port", "0", "--web-server=false",
                                      "--pgsql-server=false"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
                time.sleep(i * 0.001)
                p.kill()
                p.wait()
                early += not os.path.exists(os.path.join(folder, "defaultdb", "log", "MANIFEST"))
                try:
                    with Server(self.binary, keep=folder) as server:
                        if self.set_one(server, "defaultdb", "immudb") != 1:
                            wrong.append((i, "no write"))
                        if glob.glob(os.path.join(folder, "*", "CREATING")):
                            wrong.append((i, "a mark is left"))
                except RuntimeError as e:
                    wrong.append((i, e))
        self.check("first start: 50 killed, all open at the next", not wrong, wrong)
        self.check("first start: the kill hit some of them early", early >= 3, early)

    def failed_creations(self):
        """With n descriptors left, n from 0 on, until one succeeds: afterwards each name can be made, written and deleted."""
        if not self.wanted("failed creation"):
            return
        with Server(self.binary) as server:
            api = Api(self.schema, server.port)
            api.open_session()
            api.must("Set", KVs=[{"key": b"k", "value": b"v"}])
            pid, usual = server.proc.pid, resource.prlimit(server.proc.pid, resource.RLIMIT_NOFILE)
            failed, texts = 0, set()
            for spare in range(24):
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir("/proc/%d/fd" % pid)) + spare, usual[1]))
                got = api("CreateDatabaseV2", name="db%d" % spare)
                resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)
                if got.ok:
                    continue
                failed += 1
                texts.add(got.text[:80])
                steps = [api("CreateDatabaseV2", name="db%d" % spare)]
                steps.append(self.set_one(server, "db%d" % spare, "immudb"))
                steps += [api(m, database="db%d" % spare) for m in ("UnloadDatabase", "DeleteDatabase")]
                self.check("failed creation, %d descriptors: made, written, deleted afterwards" % spare, steps[0].ok and steps[1] == 1 and steps[2].ok and steps[3].ok,
                           (got, steps))
            self.check("failed creation: some did fail", failed >= 2, (failed, texts))
            api.close()
            server.kill()
            server.start()
            api = Api(self.schema, server.port)
            api.open_session()
            names = [d.name for d in api.must("DatabaseListV2").databases]
            self.check("failed creation: no remains", not glob.glob(os.path.join(server.dir, "*", "CREATING")) and not glob.glob(os.path.join(server.dir, ".deleted-*")))
            self.check("failed creation: those that were made open", all(self.set_one(server, n, "immudb") >= 1 for n in names), names)
            api.close()


def tree_of(folder):
    """Names below it, except what every start may leave."""
    return {os.path.relpath(os.path.join(d, n), folder) for d, subs, files in os.walk(folder) for n in subs + files} - {"immudb.lock", "immudb.identifier"}


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--server", required=True)
    ap.add_argument("--only")
    a = ap.parse_args()
    check, schema, started = LockedCheck(), schema_of(), time.time()
    with tempfile.TemporaryDirectory(prefix="immudb-missing-") as seeds:
        bench = Bench(check, os.path.abspath(a.server), schema, seeds, a.only)
        make_seeds(bench.binary, schema, seeds)
        print("     %d segments, %.1f s to fill" % (len(segments(os.path.join(seeds, "clean"), "big")), time.time() - started), flush=True)
        bench.all_databases()
        bench.data_folder()
        bench.ways_out()
    bench.first_starts()
    bench.failed_creations()
    print("     %.0f s" % (time.time() - started))
    print("%d passed, %d failed" % (check.passed, check.failed))
    return 1 if check.failed or not check.passed else 0


if __name__ == "__main__":
    sys.exit(main())
