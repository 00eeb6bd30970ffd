#!/bin/sh
# The benchmarks of docs/performance.md. Usage: bench/run.sh BUILD [PEER_PORT]
#
# Starts the server on a temporary folder (TMPDIR; put it on the disk to be measured) and free ports, runs the scenarios with bench/load, then the
# embedded ones (BENCH_FILL: how many transactions the last of them makes, 10 million). With PEER_PORT another server of the same protocol, already
# running on 127.0.0.1, is measured in turn.
set -eu
build=$1
peer=${2:-}
work=$(mktemp -d)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
metrics=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
pid=
trap '[ -z "$pid" ] || kill $pid 2>/dev/null; wait; rm -rf "$work"' EXIT INT TERM

one() { # scenario options...
    echo "ours  $("$build/bench/load" --port "$port" "$@")"
    [ -z "$peer" ] || echo "peer  $("$build/bench/load" --port "$peer" "$@")"
}

start() { # more server options...
    "$build/cmd/immudb" --dir "$work/data" --address 127.0.0.1 --port "$port" --metrics-server-port "$metrics" --web-server=false --pgsql-server=false \
        --max-sessions 20000 "$@" >>"$work/log" 2>&1 &
    pid=$!
    for _ in $(seq 100); do
        curl -fs "http://127.0.0.1:$metrics/readyz" >/dev/null 2>&1 && break
        sleep 0.05
    done
}

stop() {
    kill "$pid"
    wait "$pid" || true
}

start
echo "idle: RSS $(awk '/VmRSS/ {print $2}' /proc/$pid/status) KiB"
"$build/bench/load" --port "$port" --op sessions --sessions 10000 --pid "$pid" --connections 2 --streams 8
one --op set --connections 1 --streams 1
one --op set --connections 4 --streams 4
one --op set --connections 8 --streams 16
one --op set-batch --batch 1000 --connections 2 --streams 2
one --op vset --connections 4 --streams 4
one --op fill --batch 500 --keys 100000 --connections 1 --streams 1
one --op get --keys 100000 --connections 1 --streams 1
one --op get --keys 100000 --connections 8 --streams 16
one --op vget --keys 100000 --connections 4 --streams 4
one --op getall --batch 100 --keys 100000 --connections 4 --streams 4
one --op scan --batch 1000 --keys 100000 --connections 2 --streams 2
one --op zscan --batch 1000 --connections 2 --streams 2
one --op history --batch 100 --connections 2 --streams 2
one --op stream-set --value-bytes 33554000 --seconds 10 # with its prefix still below 32 MiB
one --op stream-get --value-bytes 33554000
one --op state --connections 4 --streams 4
echo "after: RSS $(awk '/VmRSS/ {print $2}' /proc/$pid/status) KiB, disk $(du -sk "$work/data" | cut -f1) KiB"
stop
openssl ecparam -name prime256v1 -genkey -noout -out "$work/key.pem"
start --signingKey "$work/key.pem"
echo "state signing on"
peer=
one --op vset --connections 4 --streams 4
one --op state --connections 4 --streams 4
stop
pid=

echo "embedded:"
export BENCH_DIR="$work"
for mode in async durable tickets sequential random; do
    "$build/bench/embedded" $mode
done
"$build/bench/embedded" random 10000000
"$build/bench/embedded" fill "${BENCH_FILL:-10000000}"
