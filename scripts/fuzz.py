#!/usr/bin/env python3
"""Runs every fuzz target found in a build directory, two at a time, starting from fuzz/corpus/NAME.

    fuzz.py --build BUILD --seconds 60

What faces the network or the disk and has much state runs for that time (FULL); stream decoders (HALF) half of it,
the small parsers of texts and of single records a sixth.
Ends with 'N passed, M failed': a target passes when it ran its time without a crash, leak or time-out. A target of FULL or HALF that was not built fails,
and so does one of FULL without a corpus: it would spend its time on finding the form of its input again."""
import argparse
import concurrent.futures
import os
import subprocess
import sys
import tempfile

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
FULL = {
    "rpc/grpc_conn": "gRPC framing", "rpc/grpc_wire": "gRPC framing",
    "wire/unpack": "protobuf requests",
    "log/log_frame": "log frames", "log/log_record": "log frames",
    "index/index_run": "runs of the index",
    "merkle/merkle_tree": "tiles of the tree",
    "tx/tx_import": "export blobs",
}
HALF = ("wire/part", "wire/chunk", "handlers/stream_in", "handlers/replicate")  # stream decoders


def seeds_of(name):
    return os.path.join(ROOT, "fuzz", "corpus", os.path.basename(name))


def has_seeds(name):
    return os.path.isdir(seeds_of(name)) and len(os.listdir(seeds_of(name))) > 0


def name_of(binary):
    return os.path.basename(os.path.dirname(binary)) + "/" + os.path.basename(binary).removesuffix("_fuzz")


def run(binary, seconds):
    name = name_of(binary)
    if name not in FULL:
        seconds = max(1, seconds // (2 if name in HALF else 6))
    seeds = seeds_of(name)
    with tempfile.TemporaryDirectory() as work:
        corpus = os.path.join(work, "corpus")
        os.mkdir(corpus)
        command = [binary, "-max_total_time=%d" % seconds, "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1", "-artifact_prefix=%s/" % work, corpus]
        if os.path.isdir(seeds):
            command.append(seeds)
        try:
            p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=seconds * 3 + 120)
            code, text = p.returncode, p.stdout
        except subprocess.TimeoutExpired as e:
            code, text = 1, "no end: %s" % (e.stdout or "")[-2000:]
        crash = ""
        for f in os.listdir(work):
            if f.startswith(("crash-", "leak-", "timeout-", "oom-", "slow-unit-")) and os.path.getsize(os.path.join(work, f)) < 100000:
                crash = "%s %s" % (f, open(os.path.join(work, f), "rb").read().hex())
        return name, code, text, crash


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", required=True)
    ap.add_argument("--seconds", type=int, default=60)
    a = ap.parse_args()
    targets = sorted(os.path.join(base, n) for base, _, names in os.walk(os.path.join(a.build, "src")) for n in names if n.endswith("_fuzz") and os.access(os.path.join(base, n), os.X_OK))
    passed = failed = 0
    for name in sorted((set(FULL) | set(HALF)) - {name_of(t) for t in targets}):
        failed += 1
        print("FAIL %-28s is not there" % name)
    for name in sorted(n for n in FULL if not has_seeds(n)):
        failed += 1
        print("FAIL %-28s has no corpus in %s" % (name, os.path.relpath(seeds_of(name), ROOT)))
    # The long ones first: the last ones to run are short.
    targets.sort(key=lambda t: (name_of(t) not in FULL, name_of(t) not in HALF))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for name, code, text, crash in pool.map(lambda t: run(t, a.seconds), targets):
            execs = [l for l in text.split("\n") if "number_of_executed_units" in l]
            print("%-4s %-28s %-12s %s" % ("ok" if code == 0 else "FAIL", name, execs[0].split()[-1] + " runs" if execs else "", FULL.get(name, "")), flush=True)
            if code == 0 and execs:
                passed += 1
            else:
                failed += 1
                print(text[-4000:], crash)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
