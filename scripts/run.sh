#!/bin/sh
# Starts the freshly built server on ./data and says how to connect.
set -eu
build=$1
shift
cat <<TEXT

immudb listens on 127.0.0.1:3322 (gRPC) and :9497 (health, metrics); data in ./data; Ctrl-C stops it.
Log in as user immudb, password immudb, database defaultdb, with any official SDK:

    pip install immudb-py
    python3 -c 'from immudb import ImmudbClient as C; c = C("localhost:3322"); c.login("immudb", "immudb"); c.verifiedSet(b"hello", b"world"); print(c.verifiedGet(b"hello"))'

TEXT
exec "$build/cmd/immudb" --dir ./data "$@"
