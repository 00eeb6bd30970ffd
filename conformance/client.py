"""Plain gRPC calls for the programs of this folder: messages as dictionaries in, message objects out, nothing hidden."""
import os
import struct
import sys
import tempfile

import grpc

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "tools"))
import replay_rpc as rr  # noqa: E402
import verify_vectors as vv  # noqa: E402

LIMIT = 256 << 20


class Answer:
    """code and text of the status; message (unary) or messages (server streams); header and trailer metadata."""

    def __init__(self, code, text, message, messages, headers, trailers):
        self.code, self.text, self.message, self.messages, self.headers, self.trailers = code, text, message, messages, headers, trailers
        self.ok = code == "OK"

    def __repr__(self):
        return "%s %s" % (self.code, self.text) if not self.ok else "OK %s" % str(self.message).replace("\n", " ")


class Api:
    """One channel and one identity. api("Set", KVs=[{"key": b"k", "value": b"v"}])"""

    def __init__(self, schema, port, session=None, token=None, service="immudb.schema.ImmuService"):
        self.schema, self.session, self.token, self.service, self.port = schema, session, token, service, port
        self.channel = grpc.insecure_channel("127.0.0.1:%d" % port, options=[
            ("grpc.max_send_message_length", LIMIT), ("grpc.max_receive_message_length", LIMIT), ("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)])

    def message(self, method, fields):
        return self.schema.cls(self.schema.method(self.service + "/" + method).input_type.full_name)(**fields)

    def __call__(self, method, timeout=20.0, metadata=(), chunks=None, raw=None, **fields):
        md = self.schema.method(self.service + "/" + method)
        out = self.schema.cls(md.output_type.full_name)
        meta = list(metadata)
        if self.session is not None:
            meta.append(("sessionid", self.session))
        if self.token is not None:
            meta.append(("authorization", "Bearer " + self.token))
        kind = ("stream" if md.client_streaming else "unary") + "_" + ("stream" if md.server_streaming else "unary")
        stub = getattr(self.channel, kind)("/%s/%s" % (self.service, method), request_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
                                           response_deserializer=out.FromString)
        if md.client_streaming:
            argument = iter([self.schema.cls(md.input_type.full_name)(content=c) for c in chunks or []] if raw is None else raw)
        else:
            argument = self.message(method, fields) if raw is None else raw
        code, text, message, messages, call = "OK", "", None, [], None
        try:
            if md.server_streaming:
                call = stub(argument, metadata=meta, timeout=timeout)
                messages.extend(call)
            else:
                message, call = stub.with_call(argument, metadata=meta, timeout=timeout)
        except grpc.RpcError as e:
            code, text, call = e.code().name, e.details() or "", e
        return Answer(code, text, message, messages, dict(call.initial_metadata() or ()), dict(call.trailing_metadata() or ()))

    def must(self, method, **fields):
        got = self(method, **fields)
        if not got.ok:
            raise AssertionError("%s: %r" % (method, got))
        return got.message

    def open_session(self, user="immudb", password="immudb", database="defaultdb"):
        self.session = None
        got = self("OpenSession", username=user.encode(), password=password.encode(), databaseName=database)
        if got.ok:
            self.session = got.message.sessionID
        return got

    def close(self):
        self.channel.close()


def parts(*values):
    """Chunk contents of a stream in, one chunk."""
    return b"".join(struct.pack(">Q", len(v)) + v for v in values)


# --- proofs, checked with the executable reference of the verification rules
def plain(message):
    """A message as the reference program takes it: dictionaries, bytes in hex, numbers as numbers."""
    def value(field, v):
        if field.message_type is not None:
            return plain(v)
        return v.hex() if isinstance(v, bytes) else v

    out = {}
    for field, v in message.ListFields():
        name = {"LinearAdvanceProof": "linearAdvanceProof"}.get(field.name, field.name)
        out[name] = [value(field, x) for x in v] if isinstance(v, (list, tuple)) or hasattr(v, "append") and not isinstance(v, (bytes, str)) else value(field, v)
    return out


SIGNING_KEY = os.path.join(HERE, "golden", "rpc", "signing_key.pem")  # the server's --signingKey: call_check() demands signatures


class State:
    """What a verifying client remembers: the last transaction it trusts. check() moves it on, or raises."""

    def __init__(self, db="defaultdb", tx_id=0, alh=bytes(32)):
        self.db, self.tx_id, self.alh = db, tx_id, alh
        with open(SIGNING_KEY) as f:
            self.point = vv.pub_point(f.read())

    def check(self, method, request, response):
        call = {"stateBefore": {"txId": self.tx_id, "txHash": self.alh.hex()}, "request": plain(request), "response": plain(response), "method": method}
        got = vv.call_check(call, self.db, self.point)
        if got is None:
            raise AssertionError("%s: the proof does not hold against tx %d" % (method, self.tx_id))
        if got[0] < self.tx_id or (got[0] == self.tx_id and got[1] != self.alh):
            raise AssertionError("%s: the state went from tx %d to %d" % (method, self.tx_id, got[0]))
        self.tx_id, self.alh = got
        return got


def schema_of():
    """Message types from the project's own .proto files."""
    from replay import descriptor
    with tempfile.TemporaryDirectory() as work:
        return rr.Schema(descriptor(work))
