#!/usr/bin/env python3
"""Service discovery with the official gRPC packages for Python: reflection (v1 and v1alpha) and health.

    reflection.py --server build/cmd/immudb

What reflection tells is compared with what protoc makes of the project's .proto files, message by message and method by method; a client that knows
nothing but reflection then calls the server. Health is watched from the start of a server to its end."""
import argparse
import signal
import socket
import subprocess
import sys
import tempfile
import time

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2 as rp
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from replay import descriptor
from server import Server

SERVICES = ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
            "immudb.model.AuthorizationService", "immudb.model.DocumentService", "immudb.schema.ImmuService"]
PASSED = FAILED = 0


def check(name, ok, seen=""):
    global PASSED, FAILED
    PASSED, FAILED = PASSED + bool(ok), FAILED + (not ok)
    if not ok:
        print("FAIL %s: %s" % (name, str(seen)[:500]), flush=True)


def channel_of(server):
    return grpc.insecure_channel("127.0.0.1:%d" % server.port, options=[("grpc.use_local_subchannel_pool", 1)])


def ask(channel, version, requests, metadata=()):
    """The answers of one stream, or (code, text)."""
    call = channel.stream_stream("/grpc.reflection.%s.ServerReflection/ServerReflectionInfo" % version, request_serializer=lambda m: m.SerializeToString(),
                                 response_deserializer=rp.ServerReflectionResponse.FromString)
    try:
        return list(call(iter(requests), metadata=metadata, timeout=10))
    except grpc.RpcError as e:
        return e.code().name, e.details()


def files_of(answer):
    return [descriptor_pb2.FileDescriptorProto.FromString(b) for b in answer.file_descriptor_response.file_descriptor_proto]


def comparable(f):
    """Without what differs by the version of protoc."""
    f = descriptor_pb2.FileDescriptorProto.FromString(f.SerializeToString())
    f.ClearField("source_code_info")

    def clean(message):
        for field in list(message.field) + list(message.extension):
            field.ClearField("json_name")
        for inner in message.nested_type:
            clean(inner)

    for message in f.message_type:
        clean(message)
    return f


def reflection(server, version, expected):
    r = rp.ServerReflectionRequest
    with channel_of(server) as c:
        got = ask(c, version, [r(list_services="", host="h")])
        check(version + " services", [s.name for s in got[0].list_services_response.service] == SERVICES, got)
        check(version + " echoes", got[0].valid_host == "h" and got[0].original_request == r(list_services="", host="h"), got)
        got = ask(c, version, [r(file_by_filename="schema.proto"), r(file_by_filename="schema.proto"), r(file_by_filename="documents.proto")])
        names = [[f.name for f in files_of(a)] for a in got]
        check(version + " files, each import once", names == [["schema.proto", "google/protobuf/empty.proto", "google/protobuf/struct.proto"], ["schema.proto"], ["documents.proto"]], names)
        for name in ("schema.proto", "documents.proto", "authorization.proto", "google/protobuf/empty.proto", "google/protobuf/struct.proto"):
            got = ask(c, version, [r(file_by_filename=name)])
            check("%s %s as protoc has it" % (version, name), comparable(files_of(got[0])[0]) == comparable(expected[name]), name)
        for symbol, name in (("immudb.schema.ImmuService", "schema.proto"), ("immudb.schema.ImmuService.Set", "schema.proto"), ("immudb.schema.Key", "schema.proto"),
                             ("immudb.schema.Key.key", "schema.proto"), ("immudb.schema.Op.operation", "schema.proto"), ("immudb.schema.ReadOnly", "schema.proto"),
                             ("immudb.model.DocumentService", "documents.proto"), ("google.protobuf.Empty", "google/protobuf/empty.proto"),
                             ("grpc.health.v1.Health", "grpc/health/v1/health.proto")):
            got = ask(c, version, [r(file_containing_symbol=symbol)])
            check("%s file of %s" % (version, symbol), files_of(got[0])[:1] and files_of(got[0])[0].name == name, got)
        missing = [r(file_by_filename="nope.proto"), r(file_containing_symbol="immudb.schema"), r(file_containing_symbol=".immudb.schema.Key"),
                   r(file_containing_extension=rp.ExtensionRequest(containing_type="immudb.schema.Key", extension_number=5)), r(all_extension_numbers_of_type="nope")]
        got = ask(c, version, missing)
        check(version + " what is not there", [(a.error_response.error_code, a.error_response.error_message) for a in got] == [(5, "proto: not found")] * len(missing), got)
        got = ask(c, version, [r(all_extension_numbers_of_type="immudb.schema.Key")])
        check(version + " no extensions", got[0].all_extension_numbers_response.base_type_name == "immudb.schema.Key", got)
        check(version + " a question about nothing", ask(c, version, [r()]) == ("INVALID_ARGUMENT", "invalid MessageRequest: <nil>"))
        for metadata in ((("sessionid", "bogus"),), (("authorization", "Bearer bogus"),)):
            check(version + " needs no login", len(ask(c, version, [r(list_services="")], metadata)) == 1, metadata)
        many = ask(c, version, [r(file_containing_symbol="immudb.schema.Key")] * 500)
        check(version + " 500 questions on a stream", len(many) == 500 and all(files_of(a)[0].name == "schema.proto" for a in many))


def generic_client(server, expected):
    """As tools do it: find the service, build the messages, call."""
    with channel_of(server) as c:
        database = ProtoReflectionDescriptorDatabase(c)
        pool = descriptor_pool.DescriptorPool(database)
        check("services by the official client", sorted(database.get_services()) == SERVICES)
        for file in ("schema.proto", "documents.proto", "authorization.proto"):
            for service in expected[file].service:
                found = pool.FindServiceByName(expected[file].package + "." + service.name)
                check("methods of " + service.name, [m.name for m in found.methods] == [m.name for m in service.method])
        method = pool.FindMethodByName("immudb.schema.ImmuService.Health")
        reply = message_factory.GetMessageClass(method.output_type)
        call = c.unary_unary("/immudb.schema.ImmuService/Health", request_serializer=lambda m: m.SerializeToString(), response_deserializer=reply.FromString)
        check("a call through reflection", call(message_factory.GetMessageClass(method.input_type)(), timeout=10).status is True)


def health(binary):
    server = Server(binary)
    statuses = []
    server.start()
    try:
        with channel_of(server) as c:
            stub = health_pb2_grpc.HealthStub(c)
            for name in [""] + SERVICES:
                check("health of '%s'" % name, stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10).status == 1)
            check("health with a stale session", stub.Check(health_pb2.HealthCheckRequest(), metadata=(("sessionid", "bogus"),), timeout=10).status == 1)
            try:
                stub.Check(health_pb2.HealthCheckRequest(service="nope"), timeout=10)
                check("health of an unknown service", False, "an answer")
            except grpc.RpcError as e:
                check("health of an unknown service", e.code() == grpc.StatusCode.NOT_FOUND and e.details() == "unknown service", e)
            unknown = stub.Watch(health_pb2.HealthCheckRequest(service="nope"))
            check("watching an unknown service", next(unknown).status == 3)
            unknown.cancel()
            short = stub.Watch(health_pb2.HealthCheckRequest(), timeout=0.3)
            check("a watcher with a deadline", next(short).status == 1)
            try:
                next(short)
                check("a watcher's deadline", False, "a message")
            except grpc.RpcError as e:
                check("a watcher's deadline", e.code() == grpc.StatusCode.DEADLINE_EXCEEDED, e)
            watcher = stub.Watch(health_pb2.HealthCheckRequest(service="immudb.schema.ImmuService"))
            check("watching", next(watcher).status == 1)
            server.proc.send_signal(signal.SIGTERM)
            started = time.time()
            try:
                for answer in watcher:
                    statuses.append(answer.status)
                end = "no status"
            except grpc.RpcError as e:
                end = e.code().name
            check("a watcher sees the stop", statuses == [2] and end == "UNAVAILABLE", (statuses, end))
            server.proc.wait(20)
            check("watchers do not hold up the stop", time.time() - started < 5 and server.proc.returncode == 0, server.log()[-500:])
    finally:
        server.stop()
        server.work.cleanup()


def opening(binary):
    """A watcher that is there before the databases are: a server whose data folder takes a while to open."""
    server = Server(binary)
    try:
        server.start()
        server.stop()
        seen = None
        for attempt in range(20):  # the time until it is ready may be shorter than a connection takes
            with open(server.log_path, "ab") as log:
                server.proc = subprocess.Popen([server.binary, "--dir", server.dir, "--address", "127.0.0.1", "--port", str(server.port), "--metrics-server=false",
                                                "--web-server=false", "--pgsql-server=false", "--force-admin-password", "--admin-password", "P%d@ssw0rd" % attempt],
                                               stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            end = time.time() + 10
            while time.time() < end:
                try:
                    socket.create_connection(("127.0.0.1", server.port), 1).close()
                    break
                except OSError:
                    time.sleep(0.0005)
            with channel_of(server) as c:
                watcher = health_pb2_grpc.HealthStub(c).Watch(health_pb2.HealthCheckRequest(), timeout=10)
                first = next(watcher).status
                if first == 2:
                    seen = (first, next(watcher).status)
            server.stop()
            if seen:
                break
        check("a watcher sees the start", seen == (2, 1), "never early enough" if seen is None else seen)
    finally:
        server.stop()
        server.work.cleanup()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--server", required=True)
    a = ap.parse_args()
    with tempfile.TemporaryDirectory() as work:
        with open(descriptor(work), "rb") as f:
            expected = {f.name: f for f in descriptor_pb2.FileDescriptorSet.FromString(f.read()).file}
    with Server(a.server) as server:
        for version in ("v1", "v1alpha"):
            reflection(server, version, expected)
        generic_client(server, expected)
    with Server(a.server, ["--grpc-reflection=false"]) as server, channel_of(server) as c:
        for version in ("v1", "v1alpha"):
            got = ask(c, version, [rp.ServerReflectionRequest(list_services="")])
            check("%s switched off" % version, got == ("UNIMPLEMENTED", "unknown service grpc.reflection.%s.ServerReflection" % version), got)
        check("health stays", health_pb2_grpc.HealthStub(c).Check(health_pb2.HealthCheckRequest(), timeout=10).status == 1)
    health(a.server)
    opening(a.server)
    print("%d passed, %d failed" % (PASSED, FAILED))
    return 1 if FAILED or not PASSED else 0


if __name__ == "__main__":
    sys.exit(main())
