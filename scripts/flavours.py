#!/usr/bin/env python3
"""Build flavours: what each is for, its compiler, its Meson options.

    flavours.py                  lists them
    flavours.py NAME DIR [PREFIX]    sets up DIR for one; again when its options changed"""
import json
import os
import subprocess
import sys

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
FLAVOURS = {  # name: (what for, compiler, options)
    "release": ("what users run", None, ["--buildtype=release"]),
    "debug": ("a debugger", None, ["--buildtype=debug"]),
    "asan": ("address and undefined behaviour sanitizers, with the fuzz targets", "clang",
             ["--buildtype=debugoptimized", "-Dfuzz=true", "-Db_sanitize=address,undefined", "-Db_lundef=false"]),
    "tsan": ("thread sanitizer", "gcc", ["--buildtype=debugoptimized", "-Db_sanitize=thread"]),
    "fuzz": ("libFuzzer targets alone, at full speed", "clang", ["--buildtype=release", "-Dfuzz=true", "-Db_lundef=false"]),
    "coverage": ("which lines the tests reach; then: ninja -C DIR coverage-text (needs gcovr)", "gcc", ["--buildtype=debug", "-Db_coverage=true"]),
    "fips": ("SHA-256 by OpenSSL's providers", "gcc", ["--buildtype=release", "-Dsha=openssl-evp"]),
    "clang": ("clang's warnings, and clang-tidy", "clang", ["--buildtype=debug"]),
}


def setup(name, directory, prefix=None, quiet=False):
    """Raises CalledProcessError, or OSError when Meson is not there."""
    _, compiler, options = FLAVOURS[name]
    env = dict(os.environ, **({"CC": compiler} if compiler and not os.environ.get("CC") else {}))
    stamp = os.path.join(directory, "flavour.json")
    text = json.dumps([name, options, env.get("CC")])
    command = ["meson", "setup", directory] + options + (["--prefix=" + prefix] if prefix else [])
    if os.path.exists(os.path.join(directory, "build.ninja")):
        if os.path.exists(stamp) and open(stamp, encoding="utf-8").read() == text:
            return
        command.insert(2, "--wipe")
    subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.DEVNULL if quiet else None)
    with open(stamp, "w", encoding="utf-8") as f:
        f.write(text)


def main():
    if len(sys.argv) not in (3, 4) or sys.argv[1] not in FLAVOURS:
        for name, (what, _, options) in FLAVOURS.items():
            print("%-10s %s (%s)" % (name, what, " ".join(options)))
        return len(sys.argv) != 1
    try:
        setup(*sys.argv[1:])
    except (subprocess.CalledProcessError, OSError) as e:
        print("flavours: %s: %s" % (sys.argv[1], e), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
