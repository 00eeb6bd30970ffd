"""HTTP/2 frames and gRPC messages by hand over a plain socket: for clients that do what no library would."""
import select
import socket
import struct
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
SERVICE = "/immudb.schema.ImmuService/"
NO_ERROR, CANCEL = 0, 8
SETTING_WINDOW = 4


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def hpack_int(n, bits, first):
    top = (1 << bits) - 1
    if n < top:
        return bytes([first | n])
    out, n = bytes([first | top]), n - top
    while n >= 128:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def hpack(fields):
    """Literals without indexing: no state."""
    return b"".join(b"\0" + hpack_int(len(k), 7, 0) + k + hpack_int(len(v), 7, 0) + v for k, v in fields)


def request_fields(method, extra=()):
    path = method if method.startswith("/") else SERVICE + method
    return [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()), (b":authority", b"x"), (b"content-type", b"application/grpc"), (b"te", b"trailers")] + list(extra)


def grpc_message(body):
    return b"\0" + struct.pack(">I", len(body)) + body


def frames_of(data):
    """(kind, flags, stream, payload) of every whole frame."""
    while len(data) >= 9:
        length, kind, flags, sid = int.from_bytes(data[:3], "big"), data[3], data[4], int.from_bytes(data[5:9], "big") & 0x7fffffff
        if len(data) < 9 + length:
            return
        yield kind, flags, sid, data[9:9 + length]
        data = data[9 + length:]


def ended_streams(data):
    """Streams that were given an end: a HEADERS frame that ends the stream (a status), or a reset."""
    return {sid for kind, flags, sid, _ in frames_of(data) if kind == RST or (kind in (HEADERS, DATA) and flags & END_STREAM)}


def ends_stream(data, stream):
    """Did the stream get its status?"""
    return any(kind == HEADERS and flags & END_STREAM and sid == stream for kind, flags, sid, _ in frames_of(data))


class Raw:
    """A connection after the preface. window: what the server may send per stream."""

    def __init__(self, port, settings=b"", receive_buffer=0):
        self.s = socket.socket()
        if receive_buffer:
            self.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.s.settimeout(10)
        self.s.connect(("127.0.0.1", port))
        self.s.sendall(PREFACE + frame(SETTINGS, 0, 0, settings))

    def send(self, data):
        """Sends what the server takes; False once the connection is cut."""
        try:
            self.s.sendall(data)
            return True
        except OSError:
            return False

    def drain(self, seconds=0.0):
        """Reads what is there; returns (bytes, closed)."""
        got, end = b"", time.time() + seconds
        while True:
            ready = select.select([self.s], [], [], max(0.0, end - time.time()))[0]
            if not ready:
                return got, False
            try:
                piece = self.s.recv(1 << 16)
            except OSError:
                return got, True
            if not piece:
                return got, True
            got += piece

    def drain_until(self, enough, seconds):
        """Reads until enough(bytes so far) or the time is over; returns (bytes, closed)."""
        got, end, closed = b"", time.time() + seconds, False
        while not closed and not enough(got) and time.time() < end:
            piece, closed = self.drain(0.02)
            got += piece
        return got, closed

    def close(self):
        self.s.close()
