#!/usr/bin/env python3
"""Fails when an #include points upwards, reaches into another folder's internals, or a banned call is used.

Order of folders: scripts/layers.txt. A file of src/X may include its own folder's headers and those of folders above X in that
list; `*_internal.h` only from its own folder. Banned calls: see BANNED; each may be allowed for named files with its reason."""
import os
import re
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
FILE_CALLS = r"open|openat|creat|fopen|pread|pwrite|pwritev|fsync|fdatasync|rename|unlink|mkdir|rmdir|opendir|ftruncate|fallocate"
BANNED = [  # pattern, why, files that may
    (r"\b(strcpy|strcat|sprintf|vsprintf|gets|strtok|atoi|atol|rand|srand|alloca|setjmp|longjmp)\s*\(", "unbounded or unsafe", ()),
    (r"(?<![\w>.])(%s)\s*\(" % FILE_CALLS, "files go through struct vfs",
     ("src/vfs/vfs_posix.c", "src/config/", "src/auth/", "src/databases/databases_counts.c", "src/observe/exposition.c", "src/rpc/", "src/http/", "src/metrics/", "src/base/env.c")),
    (r"(?<![\w>.])(time|gettimeofday|clock_gettime|getrandom|getentropy)\s*\(", "time and randomness go through struct env",
     # All but the first need the absolute time of pthread_cond_timedwait(); deadlines are asked of the environment again.
     ("src/base/env.c", "src/base/pool.c", "src/store/state.c", "src/store/timer.c", "src/databases/truncator.c")),
    (r"(?<![\w>.])system\s*\(|(?<![\w>.])popen\s*\(", "no shell", ()),
]


def strip(text):
    """Without comments and string literals, keeping line numbers."""
    def blank(m):
        return re.sub(r"[^\n]", " ", m.group(0))
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.S)


def main():
    layers = [l.strip() for l in open(os.path.join(ROOT, "scripts", "layers.txt")) if l.strip() and not l.startswith("#")]
    rank = {name: i for i, name in enumerate(layers)}
    bad, files = [], 0
    for base, _, names in os.walk(os.path.join(ROOT, "src")):
        folder = os.path.relpath(base, os.path.join(ROOT, "src")).split(os.sep)[0]
        for name in sorted(names):
            if not name.endswith((".c", ".h")):
                continue
            path = os.path.relpath(os.path.join(base, name), ROOT)
            text = open(os.path.join(ROOT, path), encoding="utf-8").read()
            files += 1
            if folder not in rank:
                bad.append("%s: folder %s is not in scripts/layers.txt" % (path, folder))
                continue
            is_test = name.endswith(("_test.c", "_fuzz.c", "_bench.c"))
            for number, line in enumerate(text.split("\n"), 1):
                m = INCLUDE.match(line)
                if not m or "/" not in m.group(1):
                    continue
                target = m.group(1).split("/")[0]
                if target not in rank:
                    continue
                if rank[target] > rank[folder] and not is_test:
                    bad.append("%s:%d: %s points upwards" % (path, number, m.group(1)))
                if target != folder and m.group(1).endswith("_internal.h") and not is_test:
                    bad.append("%s:%d: %s is internal to %s" % (path, number, m.group(1), target))
            if is_test or "_test_" in name or name.startswith("test_"):
                continue
            code = strip(text)
            for pattern, why, allowed in BANNED:
                if any(path.startswith(a) for a in allowed):
                    continue
                for m in re.finditer(pattern, code):
                    bad.append("%s:%d: %s: %s" % (path, code.count("\n", 0, m.start()) + 1, m.group(0).strip(), why))
    for line in bad:
        print(line)
    print("include direction and banned calls: %d files, %d findings" % (files, len(bad)))
    return 1 if bad or not files else 0


if __name__ == "__main__":
    sys.exit(main())
