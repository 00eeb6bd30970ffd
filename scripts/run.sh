#!/bin/sh
# Starts the freshly built server on ./data and says how to connect. It listens on this machine alone, since everybody knows its first password, unless
# an address is given: as --address or -a, as IMMUDB_ADDRESS, or maybe in a file that --config names.
set -eu
build=$1
shift
address="--address=127.0.0.1"
[ -z "${IMMUDB_ADDRESS:-}${IMMUDB_CONFIG:-}" ] || address=""
for word in "$@"; do
    case $word in
    --address | --address=* | -a* | --config | --config=*) address="" ;;
    esac
done
elsewhere="To be reached from other machines too: make run ARGS=\"--address 0.0.0.0\""
if [ -z "$address" ]; then
    where="immudb listens where its options say: see Address and Metrics address below."
    elsewhere=""
elif [ $# -gt 0 ]; then
    where="immudb listens on this machine alone: see Address and Metrics address below."
else
    where="immudb listens on this machine alone: 127.0.0.1:3322 (gRPC) and 127.0.0.1:9497 (health, metrics); data in ./data."
fi
cat <<TEXT

$where Ctrl-C stops it.${elsewhere:+
$elsewhere}
Log in as user immudb, password immudb, database defaultdb, with any official SDK:

    pip install immudb-py
    python3 -c 'from immudb import ImmudbClient as C; c = C("localhost:3322"); c.login("immudb", "immudb"); c.verifiedSet(b"hello", b"world"); print(c.verifiedGet(b"hello"))'

TEXT
exec "$build/cmd/immudb" --dir ./data ${address:+"$address"} "$@"
