"""A server under test: own port, own temporary data directory, ended by its process id; and what counts the checks made on it."""
import os
import re
import signal
import socket
import subprocess
import tempfile
import time


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Check:
    """check("what", is_good, note): a line for each, and how many held."""

    def __init__(self):
        self.passed = self.failed = 0

    def __call__(self, what, is_good, note=""):
        print("%-4s %s%s" % ("ok" if is_good else "FAIL", what, ": %s" % (note,) if note != "" and not is_good else ""), flush=True)
        if is_good:
            self.passed += 1
        else:
            self.failed += 1

    def equal(self, what, got, expected):
        self(what, got == expected, "%r instead of %r" % (got, expected))


THREAD = re.compile(r'^Thread \d+ \(.*?(?:"([^"]*)")?\):')
FRAME = re.compile(r"^#\d+\s+(?:0x[0-9a-f]+ in )?(\S+)(?: \(.*\))?(?: at (?:.*/)?([^/\s]+:\d+))?")
FRAMES_MAX = 8
NOT_WORTH_A_FRAME = {"start_thread", "clone", "clone3", "syscall", "_start", "asan_thread_start"}


def compact_stacks(text):
    """What gdb says of all threads, one line for each stack: who stands there, then the innermost frames. Idle workers are only named."""
    stacks, idle, name, frames = {}, [], None, []

    def end():
        if name is None:
            return
        if any(f.startswith("job_next ") or f == "job_next" for f in frames):
            idle.append(name)
        else:
            stacks.setdefault(" < ".join(frames[:FRAMES_MAX]), []).append(name)

    for line in text.splitlines():
        thread, frame = THREAD.match(line), FRAME.match(line)
        if thread:
            end()
            name, frames = thread.group(1) or "?", []
        elif frame and name is not None and not frame.group(1).startswith("__") and frame.group(1) not in NOT_WORTH_A_FRAME:
            frames.append(" ".join(g for g in frame.groups() if g))
    end()
    out = ["%s: %s" % (", ".join(sorted(names)), stack or "(no symbols)") for stack, names in sorted(stacks.items(), key=lambda s: -len(s[0]))]
    return "\n".join(out + (["idle: " + ", ".join(sorted(idle))] if idle else []))


class Server:
    """with Server(binary, flags) as s: s.port ... ; s.kill() and s.start() again keep the data directory."""

    def __init__(self, binary, flags=(), keep=None, env=None, files_max=None):
        """env: more of the environment; files_max: how many files it may open."""
        self.env, self.files_max = dict(os.environ, **(env or {})), files_max
        self.binary, self.flags = os.path.abspath(binary), list(flags)
        self.work = tempfile.TemporaryDirectory(prefix="immudb-test-")
        self.dir = keep or os.path.join(self.work.name, "data")
        self.log_path = os.path.join(self.work.name, "server.log")
        self.port, self.metrics_port = free_port(), free_port()
        self.proc = None

    def start(self, timeout=20):
        limited = ["sh", "-c", 'ulimit -n "$0" && exec "$@"', str(self.files_max)] if self.files_max is not None else []  # no preexec_fn: gRPC's threads do not bear it
        with open(self.log_path, "ab") as log:
            self.proc = subprocess.Popen(limited + [self.binary, "--dir", self.dir, "--address", "127.0.0.1", "--port", str(self.port), "--metrics-server-port", str(self.metrics_port),
                                          "--web-server=false", "--pgsql-server=false"] + self.flags, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.env)
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
        """Where every thread of a server that does not end is: into its log, where there is a debugger. Short, since what is printed is the end of it."""
        try:
            got = subprocess.run(["gdb", "-p", str(self.proc.pid), "-batch", "-ex", "thread apply all bt 30"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 stdin=subprocess.DEVNULL, timeout=60).stdout.decode(errors="replace")
            text = compact_stacks(got) or got[-2000:]
        except (OSError, subprocess.TimeoutExpired) as e:
            text = "no stacks: %r" % e
        with open(self.log_path, "a") as log:
            log.write("--- threads of the server, which did not end:\n%s\n" % text)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()
        self.work.cleanup()
