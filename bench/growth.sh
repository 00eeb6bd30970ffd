#!/bin/sh
# What growing to KEYS single-entry transactions over gRPC costs. Usage: bench/growth.sh BUILD [KEYS]
#
# Prints reads and scans at 10,000 keys and at KEYS, resident memory while it fills, bytes on disk per transaction, and how long the server takes to
# be ready again after kill -9; then bytes on disk per entry of KEYS entries in batches of 1,000 random keys. 18-byte keys, 128-byte values.
# TMPDIR says where the data goes.
set -eu
build=$1
keys=${2:-10000000}
work=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill $pid 2>/dev/null || :; wait 2>/dev/null || :; rm -rf "$work"' EXIT INT TERM

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
now_ms() { echo $(($(date +%s%N) / 1000000)); }
start() { # folder
    port=$(free_port) metrics=$(free_port) began=$(now_ms)
    "$build/cmd/immudb" --dir "$1" --address 127.0.0.1 --port "$port" --metrics-server-port "$metrics" --web-server=false --pgsql-server=false >>"$work/log" 2>&1 &
    pid=$!
    until curl -fs -o /dev/null "http://127.0.0.1:$metrics/readyz"; do sleep 0.005; done
    echo "ready after $(($(now_ms) - began)) ms (curl and shell included)"
}
load() { "$build/bench/load" --port "$port" --key-bytes 18 --value-bytes 128 "$@"; }
rss() { echo "resident $(awk '/VmRSS/ {print int($2 / 1024)}' "/proc/$pid/status") MiB, of it anonymous $(awk '/RssAnon/ {print int($2 / 1024)}' "/proc/$pid/status") MiB"; }
reads() { # keys
    load --op get --keys "$1" --connections 8 --streams 16
    load --op get --keys "$1" --connections 1 --streams 1
    load --op scan --batch 1000 --keys "$1" --connections 2 --streams 2
}
per_entry() { echo "$(($(du -sB1 "$1" | cut -f1) / keys)) bytes on disk per entry"; }

start "$work/single"
load --op fill --batch 1 --keys 10000 --connections 8 --streams 16
reads 10000
( while sleep 10; do rss; done ) & watcher=$!
load --op fill --batch 1 --keys "$keys" --connections 8 --streams 16
kill $watcher
rss
reads "$keys"
rss
kill -9 $pid; wait $pid 2>/dev/null || :
echo "after kill -9:"
start "$work/single"
load --op get --keys "$keys" --connections 8 --streams 16
kill $pid; wait $pid || :
per_entry "$work/single"
start "$work/single"
kill $pid; wait $pid || :
rm -rf "$work/single"

start "$work/batches"
load --op fill --order random --batch 1000 --keys "$keys" --connections 2 --streams 2
rss
kill $pid; wait $pid || :
pid=
per_entry "$work/batches"
