#!/usr/bin/env python3
"""Runs every fuzz target found in a build directory, two at a time, starting from fuzz/corpus/NAME.

    fuzz.py --build BUILD --seconds 60

Ends with 'N passed, M failed': a target passes when it ran its time without a crash, leak or time-out."""
import argparse
import concurrent.futures
import os
import subprocess
import sys
import tempfile

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))


def run(binary, seconds):
    name = os.path.basename(binary)
    seeds = os.path.join(ROOT, "fuzz", "corpus", name.removesuffix("_fuzz"))
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
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for name, code, text, crash in pool.map(lambda t: run(t, a.seconds), targets):
            execs = [l for l in text.split("\n") if "number_of_executed_units" in l]
            print("%-4s %-28s %s" % ("ok" if code == 0 else "FAIL", name, execs[0].split()[-1] + " runs" if execs else ""), flush=True)
            if code == 0 and execs:
                passed += 1
            else:
                failed += 1
                print(text[-4000:], crash)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
