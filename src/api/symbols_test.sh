#!/bin/sh
# The libraries show immudb_* and nothing else; the archives too; and libimmuverify asks the system for no file, socket or thread.
# Usage: symbols_test.sh NM LIBIMMUDB.so LIBIMMUVERIFY.so LIBIMMUDB.a LIBIMMUVERIFY.a
set -eu
nm=$1 db=$2 verify=$3 db_a=$4 verify_a=$5
bad=0
check() {
    shown=$("$nm" "$2" --defined-only "$1" | awk 'NF == 3 && $3 !~ /^immudb_[a-z0-9_]+(@@.*)?$/ && $2 != "A" {print $3}')
    if [ -n "$shown" ]; then
        echo "$1 shows: $shown"
        bad=1
    fi
}
check "$db" -D
check "$verify" -D
check "$db_a" -g
check "$verify_a" -g
count=$("$nm" -D --defined-only "$db" | grep -c ' immudb_')
[ "$count" -ge 80 ] || { echo "$db shows $count functions"; bad=1; }
# All that the smaller one shows is in the larger one.
"$nm" -D --defined-only "$verify" | awk '$3 ~ /^immudb_/ {sub(/@.*/, "", $3); print $3}' | while read -r name; do
    "$nm" -D --defined-only "$db" | grep -q " $name\(@\|\$\)" || { echo "$db lacks $name"; exit 1; }
done || bad=1
if "$nm" -D --undefined-only "$verify" | grep -E ' (open|openat|creat|fopen|pread|pwrite|read|write|fsync|mmap|socket|connect|pthread_create|fork|exec[a-z]*)(@|64|$)'; then
    echo "$verify does input or output"
    bad=1
fi
exit $bad
