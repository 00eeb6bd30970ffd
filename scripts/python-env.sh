#!/bin/sh
# A virtual environment with what the conformance programs need. Fails loudly when a package cannot be had.
set -eu
venv=$1
[ -x "$venv/bin/python3" ] || python3 -m venv "$venv"
"$venv/bin/python3" -m pip install --disable-pip-version-check --quiet 'grpcio>=1.62.1' 'protobuf>=4.25.3' 'immudb-py==1.5.0'
"$venv/bin/python3" -c 'import grpc, google.protobuf, immudb'
