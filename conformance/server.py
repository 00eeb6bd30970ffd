"""A server under test: own port, own temporary data directory, ended by its process id."""
import os
import signal
import socket
import subprocess
import tempfile
import time


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """with Server(binary, flags) as s: s.port ... ; s.kill() and s.start() again keep the data directory."""

    def __init__(self, binary, flags=(), keep=None):
        self.binary, self.flags = os.path.abspath(binary), list(flags)
        self.work = tempfile.TemporaryDirectory(prefix="immudb-test-")
        self.dir = keep or os.path.join(self.work.name, "data")
        self.log_path = os.path.join(self.work.name, "server.log")
        self.port, self.metrics_port = free_port(), free_port()
        self.proc = None

    def start(self, timeout=20):
        with open(self.log_path, "ab") as log:
            self.proc = subprocess.Popen([self.binary, "--dir", self.dir, "--address", "127.0.0.1", "--port", str(self.port), "--metrics-server-port", str(self.metrics_port),
                                          "--web-server=false", "--pgsql-server=false"] + self.flags, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        end = time.time() + timeout
        while time.time() < end:
            if self.proc.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", self.metrics_port), 1) as c:
                    c.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
                    if b" 200 " in c.recv(200).split(b"\n")[0]:
                        return self
            except OSError:
                pass
            time.sleep(0.01)
        raise RuntimeError("the server did not get ready: %s" % self.log()[-2000:])

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def kill(self):
        self.proc.send_signal(signal.SIGKILL)
        self.proc.wait()

    def stop(self):
        if self.proc and self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
            try:
                self.proc.wait(30)
            except subprocess.TimeoutExpired:
                self.note_stacks()
                self.proc.kill()
                self.proc.wait()
        return self.proc.returncode if self.proc else None

    def note_stacks(self):
        """Where every thread of a server that does not end is: into its log, where there is a debugger."""
        with open(self.log_path, "ab") as log:
            try:
                subprocess.run(["gdb", "-p", str(self.proc.pid), "-batch", "-ex", "thread apply all bt 14"], stdout=log, stderr=log, stdin=subprocess.DEVNULL, timeout=60)
            except (OSError, subprocess.TimeoutExpired) as e:
                log.write(b"no stacks: %r\n" % e)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()
        self.work.cleanup()
